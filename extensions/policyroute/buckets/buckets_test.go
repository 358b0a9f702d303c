package buckets

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/policyroute/nexthop"
)

// members are that many with the numbers 1, 2, ... and these weights.
func members(weights ...uint16) (ms []nexthop.Member) {
	for i, w := range weights {
		ms = append(ms, nexthop.Member{ID: uint32(i + 1), Weight: w})
	}
	return ms
}

// owners returns whom each bucket belongs to.
func (r *Group) owners() (ids []uint32) {
	for i := range r.buckets {
		ids = append(ids, r.buckets[i].member.Load())
	}
	return ids
}

// onePerBucket returns one hash of each bucket.
func onePerBucket(r *Group) (hs []uint64) {
	n := uint64(len(r.buckets))
	for i := range n {
		hs = append(hs, (i*(1<<31)+n-1)/n<<33)
	}
	return hs
}

func count(ids []uint32) string {
	n := map[uint32]int{}
	for _, id := range ids {
		n[id]++
	}
	return fmt.Sprint(n)
}

// TestBucketsFollowWeights: 100,000 flows over 2, 3 and 8 members. What one gets differs from its share by
// what the rounding to whole buckets and chance allow.
func TestBucketsFollowWeights(t *testing.T) {
	const flows = 100_000
	for _, weights := range [][]uint16{{1, 1}, {3, 1}, {1, 2, 3}, {1, 1, 1, 1, 1, 1, 1, 1}, {8, 7, 6, 5, 4, 3, 2, 1}} {
		r := New(nexthop.ResilientArgs{Buckets: 512, IdleTimer: 2 * time.Minute})
		if next := r.Balance(members(weights...), 0); next != clock.Never || r.Unbalanced(0) != 0 {
			t.Errorf("%v: unbalanced at once", weights)
		}
		got, total := map[uint32]int{}, 0
		for i := range uint32(flows) {
			f := nexthop.Flow{SPort: uint16(i), Label: i >> 16}
			got[r.Select(f.Hash(nexthop.Key{1, 2}), 0)]++
		}
		for _, w := range weights {
			total += int(w)
		}
		for i, w := range weights {
			want := float64(flows) * float64(w) / float64(total)
			// Half a bucket of rounding, and what falls into a bucket varies: 5 deviations of its root.
			limit := flows/512.0/2 + 5*316*float64(w)/float64(total) + 500
			if n := float64(got[uint32(i+1)]); n < want-limit || n > want+limit {
				t.Errorf("%v: member %d has %v flows, want %v within %v", weights, i+1, n, want, limit)
			}
		}
	}
}

// TestOnlyLostFlowsMove when a member leaves, whichever it is; when it is back, only what has been idle.
func TestOnlyLostFlowsMove(t *testing.T) {
	for lost := range 4 {
		r := New(nexthop.ResilientArgs{Buckets: 64, IdleTimer: 2 * time.Minute})
		all := members(1, 1, 1, 1)
		r.Balance(all, 0)
		before := r.owners()
		id := uint32(lost + 1)
		left := slices.DeleteFunc(slices.Clone(all), func(m nexthop.Member) bool { return m.ID == id })
		now := clock.Instant(0).Add(time.Second)
		if next := r.Balance(left, now); next != clock.Never {
			t.Errorf("without %d: unbalanced", id)
		}
		after := r.owners()
		moved := 0
		for i := range before {
			switch {
			case before[i] != after[i] && before[i] != id:
				t.Errorf("without %d: bucket %d of %d moved to %d", id, i, before[i], after[i])
			case before[i] != after[i]:
				moved++
			}
		}
		if moved != 16 || slices.Contains(after, id) {
			t.Errorf("without %d: %d buckets moved, %s", id, moved, count(after))
		}

		// It is back. Half of the flows go on.
		hs := onePerBucket(r)
		back := now.Add(time.Minute)
		for _, h := range hs[:32] {
			r.Select(h, back)
		}
		if next := r.Balance(all, back); next != clock.Instant(0).Add(2*time.Minute) || !slices.Equal(r.owners(), after) {
			t.Errorf("%d back: next at %v, %s", id, next, count(r.owners()))
		}
		idle := now.Add(2 * time.Minute)
		for _, h := range hs[:32] {
			r.Select(h, idle)
		}
		r.Balance(all, idle)
		for i, owner := range r.owners() {
			if i < 32 && owner != after[i] {
				t.Errorf("%d back: bucket %d moved in use", id, i)
			}
		}
		r.Balance(all, idle.Add(2*time.Minute))
		if got := count(r.owners()); got != "map[1:16 2:16 3:16 4:16]" || r.Unbalanced(idle) != 0 {
			t.Errorf("%d back, all idle: %s", id, got)
		}
	}
}

// TestUnbalancedTimer moves what is in use when it has lasted for so long.
func TestUnbalancedTimer(t *testing.T) {
	r := New(nexthop.ResilientArgs{Buckets: 8, IdleTimer: time.Minute, UnbalancedTimer: 5 * time.Minute})
	r.Balance(members(1), 0)
	now := clock.Instant(0)
	next := r.Balance(members(1, 1), now)
	for now < clock.Instant(0).Add(5*time.Minute) {
		if next <= now {
			t.Fatalf("at %v again at %v", now, next)
		}
		if got := count(r.owners()); got != "map[1:8]" {
			t.Fatalf("at %v: %s", now, got)
		}
		now = min(next, now.Add(30*time.Second))
		for _, h := range onePerBucket(r) {
			r.Select(h, now)
		}
		if now < clock.Instant(0).Add(5*time.Minute) {
			next = r.Balance(members(1, 1), now)
		}
	}
	if got := r.Unbalanced(now); got != 5*time.Minute {
		t.Errorf("unbalanced for %v", got)
	}
	if next := r.Balance(members(1, 1), now); next != clock.Never || count(r.owners()) != "map[1:4 2:4]" {
		t.Errorf("after the timer: next %v, %s", next, count(r.owners()))
	}
}

// TestNobodyLeft: without members flows stay where they are; more members than buckets is no fault.
func TestNobodyLeft(t *testing.T) {
	r := New(nexthop.ResilientArgs{Buckets: 2, IdleTimer: time.Minute})
	r.Balance(members(1, 1, 1), 0)
	was := r.owners()
	r.Balance(nil, 1)
	if !slices.Equal(was, r.owners()) || slices.Contains(was, 0) {
		t.Errorf("%v, then %v", was, r.owners())
	}
}

// TestBucketsDoNotAllocate.
func TestBucketsDoNotAllocate(t *testing.T) {
	r := New(nexthop.ResilientArgs{Buckets: 64, IdleTimer: time.Minute})
	r.Balance(members(1, 2), 0)
	now := clock.Instant(0)
	if n := testing.AllocsPerRun(100, func() { now = now.Add(time.Second); r.Select(1<<63, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if _, idle := r.Bucket(r.BucketOf(1<<63), now.Add(time.Second)); idle != time.Second {
		t.Errorf("idle for %v", idle)
	}
}
