// Package bcache is the binding cache of Mobile IPv6 (RFC 6275 9.1 and 10.1): what a correspondent node and a
// home agent know of mobile nodes, and what they make of Binding Updates (9.5, 10.3, RFC 3963 6). It is pure.
//
// The cache is bounded. Bindings with correspondents take the place of the one that is unused the longest; home
// registrations stay until they end, and a new one that has no room is refused. Of a binding that ends the
// sequence number is kept as long as somebody who has recorded its updates could send them once more
// (RFC 6275 5.2.8, 9.5.3); that is bounded too.
package bcache

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

const (
	// MaxDeleteTimeout is how long the entry of a home registration is kept, without effect, after it was
	// deleted: MAX_DELETE_BCE_TIMEOUT (RFC 6275 10.3.2).
	MaxDeleteTimeout = 10 * time.Second
	// MaxHomeLifetime is the longest home registration: 65535 units.
	MaxHomeLifetime = 65535 * wire.LifetimeUnit * time.Second

	unit = wire.LifetimeUnit * time.Second
)

// State is what an entry is.
type State uint8

// The states.
const (
	// Tentative: Duplicate Address Detection runs for the home address; nothing is sent by the entry.
	Tentative State = iota + 1
	// Registered: the binding holds.
	Registered
	// Ended: there is no binding; the sequence number is remembered.
	Ended
)

// String returns the word that is shown.
func (s State) String() string {
	return [...]string{"none", "tentative", "registered", "ended"}[s]
}

// Key is what an entry is found by: the own address that the update was sent to and the home address
// (RFC 6275 9.1).
type Key struct{ Local, Home netip.Addr }

// Binding is an entry, as a value.
type Binding struct {
	Key
	CareOf   netip.Addr
	State    State
	Home     bool          // a home registration
	Flags    uint16        // A, L, K and R of the last update
	Sequence uint16        // the last one accepted
	Lifetime uint16        // granted, in units of four seconds
	Until    clock.Instant // when the binding, or of an ended one the memory of it, ends
	LastUsed clock.Instant // 0 = never
	// HomeIndex and CareOfIndex are the nonce indices of a correspondent's binding.
	HomeIndex, CareOfIndex uint16
	// Networks are those behind a mobile router; Explicit says that it has listed them (RFC 3963 5.2).
	Networks []netip.Prefix
	Explicit bool
}

// entry is a binding with what its timers need.
type entry struct {
	Binding
	// replay is until when an update accepted here could be sent once more by somebody else: as long as its
	// nonces are known.
	replay   clock.Instant
	ended    clock.Instant // when a home registration was deleted
	keep     bool          // the sequence number is not forgotten (manual keys, RFC 6275 5.1)
	pending  *pending      // of a tentative entry
	refresh  clock.Instant // when the next Binding Refresh Request may be due; Never = none
	requests int           // unanswered
	lost     int           // unreachable messages in a row
	lostAt   clock.Instant // the first of them

	timer      clock.Alarm[*entry]
	prev, next *entry // in the list of use, of registered bindings of correspondents
}

// Limits bound the cache. Zero or less = none of that kind.
type Limits struct {
	Peers int // bindings as correspondent node
	Homes int // home registrations, with those whose sequence number is kept
	Ended int // bindings with correspondents of which the sequence number is kept
}

// Cache is the binding cache of a node. One goroutine owns it.
type Cache struct {
	limits   Limits
	draw     func() float64
	entries  map[Key]*entry
	homes    map[netip.Addr]int // how many bindings hold for a home address
	networks map[netip.Prefix]*entry
	timers   clock.Queue[*entry]
	used     entry // head of the list of use: next is the one used last
	peers    int
	home     int
	ended    int
	evicted  uint64
}

// New returns an empty cache. draw gives random numbers from 0 up to 1.
func New(l Limits, draw func() float64) *Cache {
	c := &Cache{limits: l, draw: draw, entries: map[Key]*entry{}, homes: map[netip.Addr]int{}, networks: map[netip.Prefix]*entry{}}
	c.used.prev, c.used.next = &c.used, &c.used
	return c
}

// SetLimits puts other limits in force. What is there stays; it is the next updates that are refused.
func (c *Cache) SetLimits(l Limits) { c.limits = l }

// Lookup returns the care-of address of a binding that holds: where packets from an own address to a home
// address go (RFC 6275 9.3.2).
func (c *Cache) Lookup(k Key) (netip.Addr, bool) {
	if e := c.entries[k]; e != nil && e.State == Registered {
		return e.CareOf, true
	}
	return netip.Addr{}, false
}

// Bound reports whether a binding holds that has this care-of address: whether a Home Address option may be
// believed (RFC 6275 9.3.1).
func (c *Cache) Bound(k Key, careOf netip.Addr) bool {
	a, ok := c.Lookup(k)
	return ok && a == careOf
}

// Get returns an entry in any state.
func (c *Cache) Get(k Key) (Binding, bool) {
	if e := c.entries[k]; e != nil {
		return e.binding(), true
	}
	return Binding{}, false
}

// Counts is how much of what there is.
type Counts struct {
	Peers, Homes, Ended int
	Evicted             uint64 // bindings with correspondents that gave their place to others
}

// Counts returns how much is in the cache. Homes has those that are tentative or ended too.
func (c *Cache) Counts() Counts { return Counts{c.peers, c.home, c.ended, c.evicted} }

// List returns all entries, ordered by home and own address.
func (c *Cache) List() []Binding {
	list := make([]Binding, 0, len(c.entries))
	for _, e := range c.entries {
		list = append(list, e.binding())
	}
	slices.SortFunc(list, func(a, b Binding) int {
		if n := a.Key.Home.Compare(b.Key.Home); n != 0 {
			return n
		}
		return a.Local.Compare(b.Local)
	})
	return list
}

// Restore puts in a home registration of before a restart. It reports false for one that cannot be: of another
// kind or state, over already, without room, or there is one.
func (c *Cache) Restore(now clock.Instant, b Binding) bool {
	if !b.Home || b.State != Registered && b.State != Ended || b.Until <= now || c.entries[b.Key] != nil || c.home >= c.limits.Homes {
		return false
	}
	for _, n := range b.Networks {
		if c.networks[n] != nil {
			return false
		}
	}
	e := &entry{Binding: b, refresh: clock.Never, keep: b.State == Ended && b.Until == clock.Never}
	e.Networks = slices.Clone(b.Networks)
	c.insert(e)
	if e.State == Registered {
		c.hold(e)
	}
	c.schedule(e)
	return true
}

func (e *entry) binding() Binding {
	b := e.Binding
	b.Networks = slices.Clone(b.Networks)
	return b
}

func (c *Cache) insert(e *entry) {
	c.entries[e.Key] = e
	if e.Home {
		c.home++
	} else {
		c.peers++
	}
}

// hold begins what a registered entry means.
func (c *Cache) hold(e *entry) {
	c.homes[e.Key.Home]++
	for _, n := range e.Networks {
		c.networks[n] = e
	}
	if !e.Home {
		c.front(e)
	}
}

// release ends what hold has begun.
func (c *Cache) release(e *entry) {
	if c.homes[e.Key.Home]--; c.homes[e.Key.Home] == 0 {
		delete(c.homes, e.Key.Home)
	}
	for _, n := range e.Networks {
		delete(c.networks, n)
	}
	if !e.Home {
		e.unlink()
	}
}

func (c *Cache) front(e *entry) {
	if e.next != nil {
		e.unlink()
	}
	e.prev, e.next = &c.used, c.used.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// end ends a binding. What could be replayed is remembered, the rest is gone.
func (c *Cache) end(now clock.Instant, e *entry, deleted bool) {
	if e.State == Registered {
		c.release(e)
	}
	until := e.replay
	if e.Home {
		if deleted {
			e.ended, until = now, max(until, now.Add(MaxDeleteTimeout))
		}
		if e.keep {
			until = clock.Never
		}
	}
	if until <= now {
		c.forget(e)
		return
	}
	if !e.Home {
		c.peers--
		c.ended++
	}
	e.State, e.Until, e.Lifetime, e.Networks, e.pending, e.refresh = Ended, until, 0, nil, nil, clock.Never
	c.schedule(e)
}

// forget removes an entry that is not in the list of use.
func (c *Cache) forget(e *entry) {
	c.timers.Remove(&e.timer)
	delete(c.entries, e.Key)
	switch {
	case e.Home:
		c.home--
	case e.State == Ended:
		c.ended--
	default:
		c.peers--
	}
}

// room makes room for one more binding with a correspondent, if it can; fresh says that it has no entry yet.
// Bindings that end stay entries for a while, so it is the sum that is bounded: none is forgotten before its
// time. gone is the binding that ends for it, without a State if none does.
func (c *Cache) room(now clock.Instant, fresh bool) (gone Binding, ok bool) {
	full := fresh && c.peers+c.ended >= c.limits.Peers+c.limits.Ended
	if c.peers < c.limits.Peers {
		return gone, !full
	}
	e := c.used.prev // the one that is unused the longest
	if e == &c.used || c.limits.Peers <= 0 || full && e.replay > now {
		return gone, false
	}
	c.evicted++
	gone = e.binding()
	c.end(now, e, false)
	return gone, true
}

// Use notes that a binding was used to send packets.
func (c *Cache) Use(now clock.Instant, k Key) {
	if e := c.entries[k]; e != nil && e.State == Registered {
		e.LastUsed = now
		if !e.Home {
			c.front(e)
		}
	}
}

// NewerSequence reports whether a sequence number is greater than the last one, modulo 2**16 (RFC 6275 9.5.1):
// it is not if it lies in the range of the last one and the 32768 values before it.
func NewerSequence(received, last uint16) bool { return last-received > 1<<15 }

// replayUntil is how long an update with these nonces is of use to somebody who has recorded it.
func replayUntil(now clock.Instant, n *rr.Nonces, c rr.Claim) clock.Instant {
	until := n.Known(now, c.HomeIndex)
	if !c.Delete {
		until = clock.Earliest(until, n.Known(now, c.CareOfIndex))
	}
	return until
}
