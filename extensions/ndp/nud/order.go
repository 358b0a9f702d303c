package nud

import (
	"container/heap"

	"leveret/appliance/clock"
)

// The classes of entries that may be evicted, in this order.
const (
	classFailed = iota
	classIncomplete
	classUnconfirmed // STALE, and nothing but the wire's word for it
	classConfirmed   // STALE, but it has answered before
	numClasses
)

// file puts an entry where its state belongs when there is no room left.
func (c *Cache) file(e *Entry) {
	class := -1
	switch {
	case e.State == Failed:
		class = classFailed
	case e.State == Incomplete:
		class = classIncomplete
	case e.State == Stale && e.Confirmed == 0:
		class = classUnconfirmed
	case e.State == Stale:
		class = classConfirmed
	}
	if e.place != nil {
		c.idle[e.class].Remove(e.place)
		e.place = nil
	}
	if class >= 0 {
		e.class, e.place = class, c.idle[class].PushBack(e)
	}
}

// room makes sure that an entry can be added. known says that the new one comes with an address.
func (c *Cache) room(known bool, out *[]Effect) bool {
	if len(c.entries) < c.vars.MaxNeighbors {
		return true
	}
	last := classFailed
	if known {
		last = classConfirmed
	}
	var victim *Entry
	for k := classFailed; k <= last && victim == nil; k++ {
		if first := c.idle[k].Front(); first != nil {
			victim = first.Value.(*Entry)
		}
	}
	if victim == nil {
		return false
	}
	c.Evicted[victim.State]++
	*out = c.drop(victim, victim.State, WhyTableFull, *out)
	return true
}

// arm sets an entry's deadline.
func (c *Cache) arm(e *Entry, at clock.Instant) {
	e.deadline = at
	switch {
	case at == clock.Never && e.index >= 0:
		heap.Remove(&c.timers, e.index)
	case at == clock.Never:
	case e.index >= 0:
		heap.Fix(&c.timers, e.index)
	default:
		heap.Push(&c.timers, e)
	}
}

// timerHeap orders by deadline, then by age, so that a run is the same every time.
type timerHeap []*Entry

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].seq < h[j].seq
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	e := x.(*Entry)
	e.index = len(*h)
	*h = append(*h, e)
}
func (h *timerHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
