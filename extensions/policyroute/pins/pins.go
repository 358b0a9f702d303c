// Package pins is the destination cache: it keeps a flow at the router that was chosen for it, so that
// neither a new router nor round robin moves what has begun (RFC 4861 5.2, RFC 4311 3).
//
//	first packet:  Lookup misses, the caller chooses, Choose ──▶ probation (sets of four)
//	second packet: Lookup finds it there ──▶ admitted to the cache (sets of four)
//
// Who sends one packet for each of many flows, a scan, fills the probation and evicts nothing.
//
// Packet workers read and write it: all words are atomic, there is no lock, and nothing is allocated.
// Two workers that write one entry may leave it mixed of two flows. What is then read as the router of a
// flow may be that of another one; the caller looks for it among those the flow can take, so that the
// worst is another choice. The keyed hash is written last and cleared first, so that a reader that sees
// it sees what belongs to it unless it is overtaken.
package pins

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

const ways = 4

// Flow is what is pinned.
type Flow struct {
	// Hash is the keyed hash of the flow and of the group that it chooses from; never 0.
	Hash uint64
	// Shown only.
	Src, Dst [16]byte
}

// entry is one place. A hash of 0 is an empty one.
type entry struct {
	hash  atomic.Uint64
	state atomic.Uint64 // member << 32 | the second it was used in
	addrs [4]atomic.Uint64
}

// Cache is the destination cache.
type Cache struct {
	idle      uint32 // seconds
	sets      []([ways]entry)
	probation []([ways]entry)

	count Counters
}

// Counters count flows, not packets: admitted; found, but idle for too long; put out by another flow; not
// admitted because all four of its set are in use.
type Counters struct{ New, Stale, Evicted, Refused *module.Counter }

// New returns an empty cache for at least that many flows, which are forgotten when idle for so long.
func New(maxEntries int, idle time.Duration, count Counters) *Cache {
	n := 1
	for n*ways < maxEntries {
		n *= 2
	}
	return &Cache{count: count, idle: uint32(max(idle/time.Second, 1)), sets: make([][ways]entry, n), probation: make([][ways]entry, n)}
}

// second is the time in the resolution of ages; never 0.
func second(now clock.Instant) uint32 { return uint32(time.Duration(now)/time.Second) + 1 }

// old reports whether an entry was not used for too long.
func (c *Cache) old(state uint64, now uint32) bool { return now-uint32(state) > c.idle }

func (c *Cache) set(f *Flow) *[ways]entry { return &c.sets[f.Hash&uint64(len(c.sets)-1)] }

// trial returns where a flow is on probation, nil if it is not.
func (c *Cache) trial(f *Flow) *entry {
	set := &c.probation[f.Hash>>32&uint64(len(c.probation)-1)]
	for i := range set {
		if set[i].hash.Load() == f.Hash {
			return &set[i]
		}
	}
	return nil
}

// try puts a flow on probation, in the place of who has been there for longest; of those that came in one
// second it is the hash that says who.
func (c *Cache) try(f *Flow, member, at uint32) {
	if p := c.trial(f); p != nil {
		p.write(f, member, at)
		return
	}
	set := &c.probation[f.Hash>>32&uint64(len(c.probation)-1)]
	first := int(f.Hash >> 30 & (ways - 1))
	victim, age := first, uint32(0)
	for k := range set {
		i := (first + k) % ways
		if set[i].hash.Load() == 0 {
			victim = i
			break
		}
		if a := at - uint32(set[i].state.Load()); a > age {
			victim, age = i, a
		}
	}
	set[victim].write(f, member, at)
}

// Lookup returns the member that a flow was given, if it was used lately, and notes the use: a second
// use admits the flow. Any goroutine.
func (c *Cache) Lookup(f *Flow, now clock.Instant) (member uint32, ok bool) {
	at := second(now)
	for i := range c.set(f) {
		e := &c.set(f)[i]
		if e.hash.Load() != f.Hash {
			continue
		}
		s := e.state.Load()
		if c.old(s, at) {
			e.hash.Store(0)
			c.count.Stale.Inc()
			return 0, false
		}
		if uint32(s) != at { // once a second: the line is not to be written for each packet
			e.state.Store(s&^0xffffffff | uint64(at))
		}
		return uint32(s >> 32), true
	}
	p := c.trial(f)
	if p == nil {
		return 0, false
	}
	s := p.state.Load()
	if c.old(s, at) {
		return 0, false
	}
	if c.admit(f, uint32(s>>32), at) {
		p.hash.Store(0)
	}
	return uint32(s >> 32), true
}

// Peek is Lookup that notes nothing. Any goroutine.
func (c *Cache) Peek(f *Flow, now clock.Instant) (member uint32, ok bool) {
	at := second(now)
	for i := range c.set(f) {
		if e := &c.set(f)[i]; e.hash.Load() == f.Hash && !c.old(e.state.Load(), at) {
			return uint32(e.state.Load() >> 32), true
		}
	}
	if p := c.trial(f); p != nil && !c.old(p.state.Load(), at) {
		return uint32(p.state.Load() >> 32), true
	}
	return 0, false
}

// Choose notes which member was chosen for a flow that had none, or whose member is gone. Any goroutine.
func (c *Cache) Choose(f *Flow, member uint32, now clock.Instant) {
	at := second(now)
	for i := range c.set(f) {
		if e := &c.set(f)[i]; e.hash.Load() == f.Hash {
			e.state.Store(uint64(member)<<32 | uint64(at))
			return
		}
	}
	c.try(f, member, at)
}

// admit puts a flow into its set, in the place of the one that has been idle for longest. Those in use
// within the last second stay.
func (c *Cache) admit(f *Flow, member, at uint32) bool {
	set := c.set(f)
	victim, age := -1, uint32(0)
	for i := range set {
		if set[i].hash.Load() == 0 {
			victim, age = i, ^uint32(0)
			break
		}
		if a := at - uint32(set[i].state.Load()); a > 1 && a > age {
			victim, age = i, a
		}
	}
	switch {
	case victim < 0:
		c.count.Refused.Inc()
		return false
	case age <= c.idle:
		c.count.Evicted.Inc()
	}
	set[victim].write(f, member, at)
	c.count.New.Inc()
	return true
}

func (e *entry) write(f *Flow, member, at uint32) {
	e.hash.Store(0)
	for i := range 2 {
		e.addrs[i].Store(word(f.Src[8*i:]))
		e.addrs[2+i].Store(word(f.Dst[8*i:]))
	}
	e.state.Store(uint64(member)<<32 | uint64(at))
	e.hash.Store(f.Hash)
}

func word(b []byte) (w uint64) {
	for _, x := range b[:8] {
		w = w<<8 | uint64(x)
	}
	return w
}

// Pinned is one flow, to be shown.
type Pinned struct {
	Src, Dst netip.Addr
	Member   uint32
	Idle     time.Duration
}

// All lists the flows that are pinned, by destination and source.
func (c *Cache) All(now clock.Instant) []Pinned {
	var out []Pinned
	at := second(now)
	for s := range c.sets {
		for i := range c.sets[s] {
			e := &c.sets[s][i]
			h, state := e.hash.Load(), e.state.Load()
			p := Pinned{Src: e.addr(0), Dst: e.addr(2), Member: uint32(state >> 32), Idle: time.Duration(at-uint32(state)) * time.Second}
			if h != 0 && h == e.hash.Load() && !c.old(state, at) { // else it was written meanwhile
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b Pinned) int {
		if d := a.Dst.Compare(b.Dst); d != 0 {
			return d
		}
		return a.Src.Compare(b.Src)
	})
	return out
}

func (e *entry) addr(i int) netip.Addr {
	var a [16]byte
	for k := range a {
		a[k] = byte(e.addrs[i+k/8].Load() >> (56 - 8*(k%8)))
	}
	return netip.AddrFrom16(a)
}

// Flush forgets every flow and returns how many were pinned.
func (c *Cache) Flush() (n int) {
	for s := range c.sets {
		for i := range c.sets[s] {
			if c.sets[s][i].hash.Swap(0) != 0 {
				n++
			}
		}
	}
	for s := range c.probation {
		for i := range c.probation[s] {
			c.probation[s][i].hash.Store(0)
		}
	}
	return n
}
