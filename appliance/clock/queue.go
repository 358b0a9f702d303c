package clock

import "container/heap"

// Queue has what is to be done later, the earliest first. The zero value is empty. It is one goroutine's.
type Queue[T any] struct {
	alarms alarms[T]
	seq    uint64
}

// Alarm is a place in a [Queue] for Item, which mostly is what it is a part of. The zero value with an Item is in none.
type Alarm[T any] struct {
	Item T

	at    Instant
	seq   uint64
	place int // in the heap, from 1; 0 = none
}

// Set sets when an alarm is due; with [Never] it is in the queue no more. Of those due at the same time the one that was
// set first for the first time comes first, so that a run is the same every time.
func (q *Queue[T]) Set(a *Alarm[T], at Instant) {
	switch {
	case at == Never:
		q.Remove(a)
		return
	case a.seq == 0:
		q.seq++
		a.seq = q.seq
	}
	a.at = at
	if a.place != 0 {
		heap.Fix(&q.alarms, a.place-1)
	} else {
		heap.Push(&q.alarms, a)
	}
}

// When returns when an alarm is due, [Never] if it is in no queue.
func (a *Alarm[T]) When() Instant {
	if a.place == 0 {
		return Never
	}
	return a.at
}

// Remove takes an alarm out of the queue, if it is there, and reports whether it was.
func (q *Queue[T]) Remove(a *Alarm[T]) bool {
	if a.place == 0 {
		return false
	}
	heap.Remove(&q.alarms, a.place-1)
	return true
}

// Len returns how many alarms there are.
func (q *Queue[T]) Len() int { return len(q.alarms) }

// Next returns when the first alarm is due, [Never] if there is none.
func (q *Queue[T]) Next() Instant {
	if len(q.alarms) == 0 {
		return Never
	}
	return q.alarms[0].at
}

// Due returns the first alarm, which stays where it is, if its time has come; nil if not.
func (q *Queue[T]) Due(now Instant) *Alarm[T] {
	if q.Next() > now || len(q.alarms) == 0 {
		return nil
	}
	return q.alarms[0]
}

// alarms is the heap.
type alarms[T any] []*Alarm[T]

// Len implements heap.Interface.
func (h alarms[T]) Len() int { return len(h) }

// Less implements heap.Interface.
func (h alarms[T]) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}

// Swap implements heap.Interface.
func (h alarms[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (h *alarms[T]) Push(x any) {
	a := x.(*Alarm[T])
	*h = append(*h, a)
	a.place = len(*h)
}

// Pop implements heap.Interface.
func (h *alarms[T]) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*h, a.place = old[:len(old)-1], 0
	return a
}
