package clock

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestQueue compares a queue with a list that is sorted, by random changes.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q Queue[int]
	all := make([]Alarm[int], 50)
	at := make([]Instant, len(all))
	var order []int // in which they were set for the first time
	for i := range all {
		all[i].Item, at[i] = i, Never
	}
	for range 5000 {
		i := r.IntN(len(all))
		switch r.IntN(5) {
		case 0:
			if there := q.Remove(&all[i]); there != (at[i] != Never) {
				t.Fatalf("removed: %v, due %d", there, at[i])
			}
			at[i] = Never
		case 1:
			q.Set(&all[i], Never)
			at[i] = Never
		default:
			if !slices.Contains(order, i) {
				order = append(order, i)
			}
			at[i] = Instant(r.IntN(20))
			q.Set(&all[i], at[i])
		}
		first, n := -1, 0
		for _, i := range order {
			if at[i] == Never {
				continue
			}
			if n++; first < 0 || at[i] < at[first] {
				first = i
			}
		}
		if q.Len() != n || all[i].When() != at[i] {
			t.Fatalf("%d alarms, want %d; %d, want %d", q.Len(), n, all[i].When(), at[i])
		}
		if first < 0 {
			if q.Next() != Never || q.Due(Never) != nil {
				t.Fatalf("empty, and due %d", q.Next())
			}
			continue
		}
		if a := q.Due(at[first]); q.Next() != at[first] || a == nil || a.Item != first || q.Due(at[first]-1) != nil {
			t.Fatalf("%+v is due at %d, want %d at %d", a, q.Next(), first, at[first])
		}
	}
}
