package fib

import (
	"encoding/binary"
	"net/netip"

	"github.com/gaissmai/bart"
)

// Snapshot is one table's routes as the packet path searches them. Immutable; any goroutine may
// use it, without locks and without allocating.
//
// The compiled form is rebuilt in the background when a table is large. Until that is done, the
// prefixes that have changed since are in changed, and an address inside one of them is looked up
// in rib, which is always up to date: slower, but right, and no other address is touched.
type Snapshot[V comparable] struct {
	rib     *bart.Table[*V] // every prefix with the route in force
	changed *bart.Lite      // prefixes that the compiled form does not know; nil = none

	flat *flat
	vals []V             // copies, each once: what a million prefixes lead to is few things, and they stay in the cache
	host map[[16]byte]*V // /128
	long *bart.Table[*V] // /65 to /127; nil = none
}

// Empty returns the snapshot of no routes.
func Empty[V comparable]() *Snapshot[V] { return Compile(new(bart.Table[*V])) }

// Compile makes the searchable form of rib, which must not be changed in place any more. It takes
// about half a second for a million prefixes and may run on any goroutine. What rib holds is copied, and must
// not be changed any more either.
func Compile[V comparable](rib *bart.Table[*V]) *Snapshot[V] {
	s := &Snapshot[V]{rib: rib}
	es := make([]interval, 0, rib.Size())
	seen := map[V]int32{}
	for p, v := range rib.All() {
		switch bits := p.Bits(); {
		case bits <= 64:
			at, ok := seen[*v]
			if !ok {
				at = int32(len(s.vals))
				seen[*v], s.vals = at, append(s.vals, *v)
			}
			es = append(es, intervalOf(p, at))
		case bits == 128:
			if s.host == nil {
				s.host = map[[16]byte]*V{}
			}
			s.host[p.Addr().As16()] = v
		default:
			if s.long == nil {
				s.long = new(bart.Table[*V])
			}
			s.long.Insert(p, v)
		}
	}
	s.flat = compile(es)
	return s
}

// With returns the snapshot after the route in force for p became v, or, with nil, after p lost its last
// route. The receiver stays as it is.
func (s *Snapshot[V]) With(p netip.Prefix, v *V) *Snapshot[V] {
	n := *s
	if v != nil {
		n.rib = s.rib.InsertPersist(p, v)
	} else {
		n.rib = s.rib.DeletePersist(p)
	}
	if s.changed == nil {
		n.changed = new(bart.Lite).InsertPersist(p)
	} else {
		n.changed = s.changed.InsertPersist(p)
	}
	return &n
}

// Rebase returns the receiver's routes over the compiled form of fresh, which was compiled from an
// earlier state of them; since are the prefixes that changed after that state.
func (s *Snapshot[V]) Rebase(fresh *Snapshot[V], since []netip.Prefix) *Snapshot[V] {
	n := *fresh
	n.rib, n.changed = s.rib, nil
	for _, p := range since {
		if n.changed == nil {
			n.changed = new(bart.Lite)
		}
		n.changed.Insert(p)
	}
	return &n
}

// RIB returns the prefixes with the routes in force; it must not be changed.
func (s *Snapshot[V]) RIB() *bart.Table[*V] { return s.rib }

// Changed returns how many prefixes the compiled form does not know.
func (s *Snapshot[V]) Changed() int {
	if s.changed == nil {
		return 0
	}
	return s.changed.Size()
}

// Lookup returns the longest match for one address, nil if there is none.
func (s *Snapshot[V]) Lookup(addr *[16]byte) *V {
	if v, done := s.special(addr); done {
		return v
	}
	x, out := [1]uint64{binary.BigEndian.Uint64(addr[:])}, [1]int32{}
	s.flat.lookup(x[:], out[:])
	if out[0] < 0 {
		return nil
	}
	return &s.vals[out[0]]
}

// Batch looks up addrs and puts the answers into out, index by index; an address without a route
// leaves its place as it is.
func (s *Snapshot[V]) Batch(addrs []*[16]byte, out []*V) {
	var x [batchSize]uint64
	var idx [batchSize]int32
	for len(addrs) > 0 {
		n := min(len(addrs), batchSize)
		for i, a := range addrs[:n] {
			x[i] = binary.BigEndian.Uint64(a[:])
		}
		s.flat.lookup(x[:n], idx[:n])
		for i, a := range addrs[:n] {
			if !s.plain() {
				if v, done := s.special(a); done {
					if v != nil {
						out[i] = v
					}
					continue
				}
			}
			if idx[i] >= 0 {
				out[i] = &s.vals[idx[i]]
			}
		}
		addrs, out = addrs[n:], out[n:]
	}
}

// plain reports whether the flat form alone has the answer.
func (s *Snapshot[V]) plain() bool { return s.changed == nil && s.host == nil && s.long == nil }

// special answers for what the flat form does not hold; done says that it did.
func (s *Snapshot[V]) special(addr *[16]byte) (v *V, done bool) {
	if s.changed != nil {
		if a := netip.AddrFrom16(*addr); s.changed.Contains(a) {
			v, _ = s.rib.Lookup(a)
			return v, true
		}
	}
	if s.host != nil {
		if v = s.host[*addr]; v != nil {
			return v, true
		}
	}
	if s.long != nil {
		if v, done = s.long.Lookup(netip.AddrFrom16(*addr)); done {
			return v, true
		}
	}
	return nil, false
}
