package nud

import "leveret/appliance/clock"

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
func (c *Cache) arm(e *Entry, at clock.Instant) { c.timers.Set(&e.timer, at) }
