package bcache

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
)

const (
	// MaxRefreshRequests is how many Binding Refresh Requests are sent without an answer.
	MaxRefreshRequests = 3
	// recentUse is how long ago a binding may have been used to be worth a refresh.
	recentUse = 30 * time.Second

	// What makes Destination Unreachable persistent (RFC 6275 9.3.4): so many, over so long, in so short a time.
	lostCount  = 3
	lostFor    = time.Second
	lostWithin = time.Minute
)

// schedule puts an entry where its next deadline belongs.
func (c *Cache) schedule(e *entry) {
	e.timer.Item = e
	c.timers.Set(&e.timer, clock.Earliest(e.Until, e.refresh))
}

// Deadline returns when [Cache.Tick] has something to do.
func (c *Cache) Deadline() clock.Instant { return c.timers.Next() }

// Event is what time has brought about.
type Event struct {
	// Refresh says that a Binding Refresh Request is to be sent to the home address (RFC 6275 9.5.5); otherwise
	// the binding has ended.
	Refresh bool
	Binding
}

// Tick does what is due: bindings end, and those of correspondents in use ask for a refresh. Home agents stop
// what they do for an ended home registration.
func (c *Cache) Tick(now clock.Instant) (events []Event) {
	for a := c.timers.Due(now); a != nil; a = c.timers.Due(now) {
		e := a.Item
		switch {
		case e.Until > now:
			if e.LastUsed != 0 && now.Sub(e.LastUsed) <= recentUse && e.requests < MaxRefreshRequests {
				e.requests++
				events = append(events, Event{Refresh: true, Binding: e.binding()})
			}
			// Before the end there is time for some: every twentieth of the lifetime.
			e.refresh = now.Add(max(time.Duration(e.Lifetime)*unit/20, time.Second))
			if e.refresh >= e.Until || e.requests == MaxRefreshRequests {
				e.refresh = clock.Never
			}
			c.schedule(e)
		case e.State == Ended:
			c.forget(e)
		default:
			events = append(events, Event{Binding: e.binding()})
			c.end(now, e, false)
		}
	}
	return events
}

// armRefresh sets when a binding with a correspondent first asks for a refresh: at 80 to 90 % of its lifetime.
func (c *Cache) armRefresh(now clock.Instant, e *entry) {
	e.requests = 0
	e.refresh = now.Add(time.Duration((0.8 + 0.1*c.draw()) * float64(time.Duration(e.Lifetime)*unit)))
}

// Unreachable notes a Destination Unreachable about a packet that was sent by a binding. When they persist, the
// binding with a correspondent ends (RFC 6275 9.3.4), and it is returned. Home registrations stay (10.3.1).
func (c *Cache) Unreachable(now clock.Instant, k Key, careOf netip.Addr) (Binding, bool) {
	e := c.entries[k]
	if e == nil || e.State != Registered || e.Home || e.CareOf != careOf {
		return Binding{}, false
	}
	if e.lost == 0 || now.Sub(e.lostAt) > lostWithin {
		e.lost, e.lostAt = 0, now
	}
	if e.lost++; e.lost < lostCount || now.Sub(e.lostAt) < lostFor {
		return Binding{}, false
	}
	b := e.binding()
	c.end(now, e, false)
	return b, true
}

// Remove ends a binding because the operator wants it. Of a home registration the mobile node is not told: it
// finds out when it refreshes it.
func (c *Cache) Remove(now clock.Instant, k Key) (Binding, bool) {
	e := c.entries[k]
	if e == nil || e.State == Ended {
		return Binding{}, false
	}
	b := e.binding()
	c.end(now, e, true)
	return b, true
}

// PrefixEnds shortens the home registrations of a home prefix whose valid lifetime now ends then: a binding
// must not outlive it (RFC 6275 10.3.1). The next Tick ends those that are over.
func (c *Cache) PrefixEnds(prefix netip.Prefix, then clock.Instant) {
	for _, e := range c.entries {
		if e.Home && e.State == Registered && e.Until > then && prefix.Contains(e.Key.Home) {
			e.Until = then
			c.schedule(e)
		}
	}
}
