package datapath

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
)

const (
	// pmtuAge is how long an estimate holds before a larger one is tried (RFC 8201 4: at least
	// five minutes, ten recommended).
	pmtuAge = 10 * time.Minute
	// pmtuMax bounds the cache until [PathMTU.Limit] does. When it is full, an old estimate is evicted.
	pmtuMax = 16384
)

// PathMTU is the cache of path MTUs by destination (RFC 8201). Any goroutine may use it. Only
// packets of this node ask it, never forwarded ones.
type PathMTU struct {
	used atomic.Bool // there are entries: spares the lock in the common case
	mu   sync.RWMutex
	max  int
	dst  map[[16]byte]pathMTU
	next clock.Instant // nothing ends before
}

type pathMTU struct {
	mtu   int
	until clock.Instant
}

// PathMTUEntry is one estimate, for `route show cache`.
type PathMTUEntry struct {
	Dst   netip.Addr
	MTU   int
	Until clock.Instant
}

// NewPathMTU returns an empty cache.
func NewPathMTU() *PathMTU {
	return &PathMTU{max: pmtuMax, dst: map[[16]byte]pathMTU{}, next: clock.Never}
}

// Limit bounds the cache to n destinations, n > 0. If there are more, those go whose time is over first.
func (c *PathMTU) Limit(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.max = n; len(c.dst) <= n {
		return
	}
	keys := slices.SortedFunc(maps.Keys(c.dst), func(a, b [16]byte) int { return cmp.Compare(c.dst[a].until, c.dst[b].until) })
	for _, k := range keys[:len(keys)-n] {
		delete(c.dst, k)
	}
}

// Lookup returns the path MTU to dst when it is known to be less than the first link's, else 0.
func (c *PathMTU) Lookup(dst *[16]byte, now clock.Instant) int {
	if !c.used.Load() {
		return 0
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e, ok := c.dst[*dst]; ok && now < e.until {
		return e.mtu
	}
	return 0
}

// Update takes in what a Packet Too Big said and reports whether it means anything: an MTU below
// the minimum is not believed, and an estimate never grows by a message (RFC 8201 4).
func (c *PathMTU) Update(dst *[16]byte, mtu int, now clock.Instant) bool {
	if mtu < wire.MinMTU {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.dst[*dst]; ok && now < e.until && e.mtu <= mtu {
		return true
	} else if !ok && len(c.dst) >= c.max {
		c.evict()
	}
	c.dst[*dst] = pathMTU{mtu: mtu, until: now.Add(pmtuAge)}
	c.next = clock.Earliest(c.next, now.Add(pmtuAge))
	c.used.Store(true)
	return true
}

// evict makes room for one entry: of a few taken as the map gives them, the one that ends first.
// Looking at all would hand whoever fills the cache a lever on our time.
func (c *PathMTU) evict() {
	const sample = 16
	var oldest [16]byte
	until, n := clock.Never, 0
	for k, e := range c.dst {
		if e.until < until {
			oldest, until = k, e.until
		}
		if n++; n == sample {
			break
		}
	}
	delete(c.dst, oldest)
}

// expire forgets the estimates whose time is over. The next deadline is looked for again then.
func (c *PathMTU) expire(now clock.Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = clock.Never
	for k, e := range c.dst {
		if e.until <= now {
			delete(c.dst, k)
			continue
		}
		c.next = clock.Earliest(c.next, e.until)
	}
	c.used.Store(len(c.dst) > 0)
}

// deadline returns when the first estimate's time is over, or a little before: an estimate that
// was renewed does not move it.
func (c *PathMTU) deadline() clock.Instant {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.next
}

// Flush forgets everything and returns how many entries that were.
func (c *PathMTU) Flush() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.dst)
	clear(c.dst)
	c.next = clock.Never
	c.used.Store(false)
	return n
}

// All lists the estimates in force at now, by destination.
func (c *PathMTU) All(now clock.Instant) []PathMTUEntry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]PathMTUEntry, 0, len(c.dst))
	for k, e := range c.dst {
		if now < e.until {
			out = append(out, PathMTUEntry{netip.AddrFrom16(k), e.mtu, e.until})
		}
	}
	slices.SortFunc(out, func(a, b PathMTUEntry) int { return a.Dst.Compare(b.Dst) })
	return out
}
