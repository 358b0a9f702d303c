package nud

import (
	"container/list"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
)

// reachableFactors bound ReachableTime to 0.5 .. 1.5 of the base, drawn anew now and then (RFC 4861
// 6.3.2, 6.3.4).
const (
	minRandomFactor = 0.5
	maxRandomFactor = 1.5
	redrawAfter     = 2 * time.Hour
)

// Cache is the Neighbor Cache of one link. One goroutine owns it.
//
// It is bounded. A new entry that finds it full takes the place of, in this order: the oldest FAILED
// one, the oldest INCOMPLETE one, the one that is STALE for the longest and was never confirmed, the
// one that is STALE for the longest. An entry that is only wanted for resolution never displaces one
// that has an address (RFC 6583 7.1), and of these there are at most MaxUnresolved.
type Cache struct {
	vars      Vars
	draw      func() float64 // uniform in [0, 1)
	entries   map[netip.Addr]*Entry
	timers    clock.Queue[*Entry]
	reachable time.Duration
	redraw    clock.Instant
	pending   int                   // entries in INCOMPLETE
	idle      [numClasses]list.List // what may be evicted, the oldest first
	seq       uint64

	// Evicted counts entries that had to go for others, by the state they were in.
	Evicted [numStates]uint64
}

// New returns an empty cache. draw is the source of the random ReachableTime.
func New(now clock.Instant, v Vars, draw func() float64) *Cache {
	c := &Cache{draw: draw, entries: map[netip.Addr]*Entry{}}
	c.SetVars(now, v)
	return c
}

// SetVars puts new variables in force; a new base draws a new ReachableTime.
func (c *Cache) SetVars(now clock.Instant, v Vars) {
	if v.ReachableTime != c.vars.ReachableTime {
		c.redraw = now
	}
	c.vars = v
}

// ReachableTime returns the present random ReachableTime.
func (c *Cache) ReachableTime(now clock.Instant) time.Duration {
	if now >= c.redraw {
		f := minRandomFactor + c.draw()*(maxRandomFactor-minRandomFactor)
		c.reachable = time.Duration(float64(c.vars.ReachableTime) * f)
		c.redraw = now.Add(redrawAfter)
	}
	return c.reachable
}

// Len returns the number of entries.
func (c *Cache) Len() int { return len(c.entries) }

// Get returns an entry, or nil. It is borrowed.
func (c *Cache) Get(a netip.Addr) *Entry { return c.entries[a] }

// All returns the entries in the order they were made. They are borrowed.
func (c *Cache) All() []*Entry {
	out := make([]*Entry, 0, len(c.entries))
	for _, e := range c.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Entry) int { return int(a.seq) - int(b.seq) })
	return out
}

// Deadline returns when Tick is due, or clock.Never.
func (c *Cache) Deadline() clock.Instant { return c.timers.Next() }

// Tick fires the timers that are due. A clock that has jumped far fires each of them once: what
// follows is armed from now.
func (c *Cache) Tick(now clock.Instant, out []Effect) []Effect {
	for n := c.timers.Len(); n > 0; n-- {
		a := c.timers.Due(now)
		if a == nil {
			break
		}
		e := a.Item
		t := Timeout
		switch e.State {
		case Incomplete:
			if e.Tries >= c.vars.MaxMulticastSolicit {
				t = TimeoutFinal
			}
		case Probe:
			switch {
			case e.Tries < c.vars.MaxUnicastSolicit:
			case e.inUse: // RFC 7048 3: only who is in use is waited for
				t = TimeoutInUse
			default:
				t = TimeoutFinal
			}
		case Unreachable:
			// As long as packets are sent, but not for ever: those who send them have to be told.
			if !e.inUse || e.Tries >= c.vars.MaxMulticastSolicit {
				t = TimeoutFinal
			}
		}
		c.arm(e, clock.Never)
		out = c.step(now, e, t, LLA{}, false, out)
	}
	return out
}

// Send is a packet for a neighbor that has no usable address: it is queued, and resolution begun.
func (c *Cache) Send(now clock.Instant, a netip.Addr, pkt any, out []Effect) []Effect {
	e := c.entries[a]
	if e == nil {
		if c.pending >= c.vars.MaxUnresolved || !c.room(false, &out) {
			return append(out, Effect{Kind: Dropped, Addr: a, Pkts: []any{pkt}, Why: WhyTableFull})
		}
		e = c.insert(a)
	}
	e.Used, e.inUse = now, true
	switch {
	case e.State == Failed:
		return append(out, Effect{Kind: Dropped, Addr: a, Pkts: []any{pkt}, Why: WhyFailed})
	case e.HasLLA:
		out = append(out, Effect{Kind: Release, Addr: a, LLA: e.LLA, Pkts: []any{pkt}})
	default:
		if len(e.queue) >= c.vars.QueuePackets {
			out = append(out, Effect{Kind: Dropped, Addr: a, Pkts: []any{e.queue[0]}, Why: WhyQueueFull})
			e.queue = slices.Delete(e.queue, 0, 1)
		}
		e.queue = append(e.queue, pkt)
	}
	return c.step(now, e, Send, LLA{}, false, out)
}

// Used says that packets go to a neighbor; a STALE one moves to DELAY.
func (c *Cache) Used(now clock.Instant, a netip.Addr, out []Effect) []Effect {
	e := c.entries[a]
	if e == nil {
		return out
	}
	e.Used, e.inUse = now, true
	return c.step(now, e, Send, LLA{}, false, out)
}

// Confirm says that an upper layer has made progress with a neighbor (RFC 4861 7.3.1).
func (c *Cache) Confirm(now clock.Instant, a netip.Addr, out []Effect) []Effect {
	if e := c.entries[a]; e != nil {
		e.Used, e.inUse = now, true // progress is made of packets
		out = c.step(now, e, Confirm, LLA{}, false, out)
	}
	return out
}

// Probe solicits a neighbor once, to see whether it answers (RFC 4191 3.5). One that answers or is about
// to is left alone.
func (c *Cache) Probe(now clock.Instant, a netip.Addr, out []Effect) []Effect {
	e := c.entries[a]
	switch {
	case e == nil:
		if c.pending >= c.vars.MaxUnresolved || !c.room(false, &out) {
			return out
		}
		e = c.insert(a)
		out = c.step(now, e, Send, LLA{}, false, out)
		e.Tries = c.vars.MaxMulticastSolicit
	case e.State == Stale:
		c.enter(e, Probe)
		c.arm(e, now.Add(c.vars.RetransTimer))
		e.Tries = c.vars.MaxUnicastSolicit
		out = append(out, Effect{Kind: Changed, Addr: a, LLA: e.LLA, Entry: e, Old: Stale}, Effect{Kind: SolicitUnicast, Addr: a, LLA: e.LLA})
	}
	return out
}

// Advert is what a valid Neighbor Advertisement says.
type Advert struct {
	Target                      netip.Addr
	Router, Solicited, Override bool
	LLA                         LLA
	HasLLA                      bool
}

// NA takes in an advertisement (RFC 4861 7.2.5). One about a neighbor that nobody asked for is
// passed over, unless LearnFromNA: then it makes a STALE entry.
func (c *Cache) NA(now clock.Instant, na Advert, out []Effect) []Effect {
	e := c.entries[na.Target]
	if e == nil {
		if c.vars.LearnFromNA && na.HasLLA { // RFC 9131 6.1.1
			out = c.Hint(now, na.Target, na.LLA, &na.Router, out)
		}
		return out
	}
	t, ok := classify(e, na)
	if !ok {
		return out
	}
	lla := na.LLA
	if !na.HasLLA {
		lla = e.LLA
	}
	return c.step(now, e, t, lla, na.Router, out)
}

// classify turns an advertisement into a trigger; false means it is to be discarded.
func classify(e *Entry, na Advert) (Trigger, bool) {
	if !e.HasLLA { // INCOMPLETE or FAILED
		switch {
		case !na.HasLLA: // on a link with addresses it says nothing (7.2.5)
			return 0, false
		case na.Solicited:
			return NASolicited, true
		default:
			return NAUnsolicited, true
		}
	}
	other := na.HasLLA && na.LLA != e.LLA
	switch {
	case other && !na.Override:
		return NAOtherNoOverride, true
	case na.Solicited:
		return NAConfirm, true
	case other:
		return NAOtherUnsolicited, true
	default:
		return NASame, true
	}
}

// Hint takes in the source link-layer address of an NS or RS, or that of an RA or Redirect
// (RFC 4861 7.2.3, 6.2.6, 6.3.4, 8.3). isRouter changes the flag: nil leaves it (NS).
func (c *Cache) Hint(now clock.Instant, a netip.Addr, lla LLA, isRouter *bool, out []Effect) []Effect {
	e := c.entries[a]
	if e == nil {
		if !c.room(true, &out) {
			return out
		}
		e = c.insert(a)
	}
	t := HintOther
	if e.HasLLA && e.LLA == lla {
		t = HintSame
	}
	out = c.step(now, e, t, lla, false, out)
	if isRouter != nil {
		out = c.setRouter(e, *isRouter, out)
	}
	return out
}

// NoRouter takes in that a neighbor is a host: it has solicited routers without saying its address (RFC
// 4861 6.2.6). IsRouter takes in the contrary (6.3.4, 8.3). Neither makes an entry.
func (c *Cache) NoRouter(a netip.Addr, out []Effect) []Effect {
	if e := c.entries[a]; e != nil {
		out = c.setRouter(e, false, out)
	}
	return out
}

// IsRouter takes in that a neighbor is a router.
func (c *Cache) IsRouter(a netip.Addr, out []Effect) []Effect {
	if e := c.entries[a]; e != nil {
		out = c.setRouter(e, true, out)
	}
	return out
}

// Set makes an entry by hand, in the state the operator named: PERMANENT, NOARP, REACHABLE, STALE...
func (c *Cache) Set(now clock.Instant, a netip.Addr, s State, lla LLA, router bool, out []Effect) ([]Effect, bool) {
	e := c.entries[a]
	if e == nil {
		if !c.room(true, &out) {
			return out, false
		}
		e = c.insert(a)
	}
	old := e.State
	queue := e.queue
	c.enter(e, s)
	e.queue, e.LLA, e.HasLLA, e.IsRouter, e.Updated = nil, lla, true, router, now
	switch s {
	case Reachable:
		c.arm(e, now.Add(c.ReachableTime(now)))
	case Delay:
		c.arm(e, now.Add(c.vars.DelayFirstProbeTime))
	case Probe:
		c.arm(e, now.Add(c.vars.RetransTimer))
	}
	out = append(out, Effect{Kind: Changed, Addr: a, Entry: e, Old: old})
	if len(queue) > 0 {
		out = append(out, Effect{Kind: Release, Addr: a, LLA: lla, Pkts: queue})
	}
	return out, true
}

// Delete removes an entry; false if there is none.
func (c *Cache) Delete(a netip.Addr, out []Effect) ([]Effect, bool) {
	e := c.entries[a]
	if e == nil {
		return out, false
	}
	return c.drop(e, e.State, WhyFlushed, out), true
}

// Flush removes the entries that match takes and returns how many those were.
func (c *Cache) Flush(match func(*Entry) bool, out []Effect) ([]Effect, int) {
	n := 0
	for _, e := range c.All() {
		if match(e) {
			out = c.drop(e, e.State, WhyFlushed, out)
			n++
		}
	}
	return out, n
}

// step applies one trigger.
func (c *Cache) step(now clock.Instant, e *Entry, t Trigger, lla LLA, router bool, out []Effect) []Effect {
	r := table[e.State][t]
	if r.ref == "" {
		return out
	}
	old := e.State
	if r.next != old {
		c.enter(e, r.next)
		e.Updated = now
	}
	// Of an UNREACHABLE one the runtime has to see again whether it is in use.
	changed := r.next != old || r.do&armBackOff != 0
	if r.do&setLLA != 0 && (!e.HasLLA || e.LLA != lla) {
		e.LLA, e.HasLLA, changed = lla, true, true
		e.Updated = now
	}
	if r.do&(armReachable) != 0 {
		e.Confirmed = now
		c.file(e)
	}
	switch {
	case r.do&armBackOff != 0:
		e.inUse = false
		c.arm(e, now.Add(c.backOff(e.Tries)))
	case r.do&armRetrans != 0:
		c.arm(e, now.Add(c.vars.RetransTimer))
	case r.do&armReachable != 0:
		c.arm(e, now.Add(c.ReachableTime(now)))
	case r.do&armDelay != 0:
		c.arm(e, now.Add(c.vars.DelayFirstProbeTime))
	case r.do&armFailed != 0:
		c.arm(e, now.Add(failedTime))
	}
	if r.do&remove != 0 {
		return c.drop(e, old, "", out)
	}
	if changed {
		out = append(out, Effect{Kind: Changed, Addr: e.Addr, LLA: e.LLA, Entry: e, Old: old, Ref: r.ref})
	}
	if r.do&setRouter != 0 {
		out = c.setRouter(e, router, out)
	}
	queue := e.queue
	switch {
	case r.do&multicast != 0:
		// A retransmission by timer, or the first; packets that come meanwhile do not repeat it.
		e.Tries++
		out = append(out, Effect{Kind: SolicitMulticast, Addr: e.Addr})
	case r.do&unicast != 0:
		e.Tries++
		out = append(out, Effect{Kind: SolicitUnicast, Addr: e.Addr, LLA: e.LLA})
	case r.do&release != 0 && len(queue) > 0:
		e.queue = nil
		out = append(out, Effect{Kind: Release, Addr: e.Addr, LLA: e.LLA, Pkts: queue})
	case r.do&unreachable != 0:
		e.queue = nil
		out = append(out, Effect{Kind: GiveUp, Addr: e.Addr, Pkts: queue})
	}
	return out
}

func (c *Cache) setRouter(e *Entry, router bool, out []Effect) []Effect {
	if e.IsRouter == router {
		return out
	}
	e.IsRouter = router
	if !router {
		out = append(out, Effect{Kind: RouterLost, Addr: e.Addr, Entry: e})
	}
	return append(out, Effect{Kind: Changed, Addr: e.Addr, LLA: e.LLA, Entry: e, Old: e.State, Ref: "7.2.5"})
}

// backOff is how long to wait after the solicitation that follows that many in UNREACHABLE: the next step
// after the constant RetransTimer of PROBE (RFC 7048 3).
func (c *Cache) backOff(tries int) time.Duration {
	d := c.vars.RetransTimer
	for range tries + 1 {
		d = min(d*backoffMultiple, maxRetransTimer)
	}
	return max(d, c.vars.RetransTimer)
}

// enter changes the state: the timer and the count of tries belong to the old one.
func (c *Cache) enter(e *Entry, s State) {
	if e.State == Incomplete {
		c.pending--
	}
	if s == Incomplete {
		c.pending++
	}
	e.State, e.Tries, e.inUse = s, 0, false
	c.arm(e, clock.Never)
	c.file(e)
}

func (c *Cache) insert(a netip.Addr) *Entry {
	c.seq++
	e := &Entry{Addr: a, seq: c.seq}
	e.timer.Item = e
	c.entries[a] = e
	return e
}

// drop takes out an entry that was in the state old.
func (c *Cache) drop(e *Entry, old State, why string, out []Effect) []Effect {
	queue := e.queue
	c.enter(e, None)
	e.queue = nil
	delete(c.entries, e.Addr)
	if len(queue) > 0 {
		out = append(out, Effect{Kind: Dropped, Addr: e.Addr, Pkts: queue, Why: why})
	}
	return append(out, Effect{Kind: Removed, Addr: e.Addr, Entry: e, Old: old, Why: why})
}
