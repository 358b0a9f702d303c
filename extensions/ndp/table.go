package ndp

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
)

// neighbor is one entry as the packet path sees it: immutable but for used.
type neighbor struct {
	addr [16]byte
	lla  [6]byte
	// fresh: nobody has to be told that the entry is in use (PERMANENT, NOARP; DELAY is so already).
	// Otherwise the first packet tells the loop: a STALE one has to be probed, of one that does not
	// answer it matters whether it is in use (RFC 7048 3), and of a REACHABLE router whether there is
	// traffic for a better one (RFC 4191 3.5).
	fresh bool
	used  atomic.Bool
	// failed: resolution ended without an answer a moment ago.
	failed bool
}

// table maps addresses to neighbors. The loop is its only writer; workers read without a lock.
// Open addressing with linear probing; a removed entry leaves a tombstone until the table is
// rebuilt, which happens when a quarter of the slots are neither free nor in use.
type table struct {
	seed  maphash.Seed
	slots atomic.Pointer[[]atomic.Pointer[neighbor]]
	live  int
	dead  int
	// redirects: the next packet that leaves by the link it came in on is to be shown to the loop.
	redirects atomic.Bool
}

// tombstone marks a slot whose entry was removed.
var tombstone = &neighbor{}

const minSlots = 64 // a power of two

func newTable() *table {
	t := &table{seed: maphash.MakeSeed()}
	s := make([]atomic.Pointer[neighbor], minSlots)
	t.slots.Store(&s)
	return t
}

func (t *table) hash(addr *[16]byte) uint64 { return maphash.Bytes(t.seed, addr[:]) }

// lookup returns the entry of an address, or nil. Any goroutine; no allocation, no lock.
func (t *table) lookup(addr *[16]byte) *neighbor {
	s := *t.slots.Load()
	mask := uint64(len(s) - 1)
	for i := t.hash(addr); ; i++ {
		n := s[i&mask].Load()
		if n == nil {
			return nil
		}
		if n != tombstone && n.addr == *addr {
			return n
		}
	}
}

// put adds or replaces an entry. Loop only.
func (t *table) put(n *neighbor) {
	s := *t.slots.Load()
	if 4*(t.live+t.dead+1) > 3*len(s) {
		s = t.rebuild()
	}
	mask := uint64(len(s) - 1)
	for i := t.hash(&n.addr); ; i++ {
		old := s[i&mask].Load()
		if old == nil {
			s[i&mask].Store(n)
			t.live++
			return
		}
		if old != tombstone && old.addr == n.addr {
			s[i&mask].Store(n)
			return
		}
	}
}

// remove takes an entry out. Loop only.
func (t *table) remove(a netip.Addr) {
	addr := a.As16()
	s := *t.slots.Load()
	mask := uint64(len(s) - 1)
	for i := t.hash(&addr); ; i++ {
		n := s[i&mask].Load()
		if n == nil {
			return
		}
		if n != tombstone && n.addr == addr {
			s[i&mask].Store(tombstone)
			t.live--
			t.dead++
			return
		}
	}
}

// rebuild makes a table without tombstones that is at most half full.
func (t *table) rebuild() []atomic.Pointer[neighbor] {
	old := *t.slots.Load()
	size := minSlots
	for size < 4*(t.live+1) {
		size *= 2
	}
	s := make([]atomic.Pointer[neighbor], size)
	mask := uint64(size - 1)
	for j := range old {
		n := old[j].Load()
		if n == nil || n == tombstone {
			continue
		}
		i := t.hash(&n.addr)
		for s[i&mask].Load() != nil {
			i++
		}
		s[i&mask].Store(n)
	}
	t.dead = 0
	t.slots.Store(&s)
	return s
}
