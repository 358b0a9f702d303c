package rule

import (
	"encoding/binary"
	"slices"
)

// Few rules are compared one by one, and up to linear of them if they have many shapes; others are
// found by index.
const (
	few    = 4
	linear = 16
)

// index finds rules by what they select by: rules of one shape, the parts of the selector that are
// given with their masks, are found by one look into a map, however many there are. A part that is no
// exact value (a range of ports, "not") is not in the shape, and compared for each rule that is left.
//
// It knows requests with a source only: without one every rule on the source has to be tried.
type index struct{ groups []group }

type group struct {
	shape shape
	kind  kind
	first int // the least index of its rules
	any   []int32
	addrs map[[2]uint64][]int32
	rules map[key][]int32
}

// kind says which of a group's maps has its rules: most shapes need no whole key.
type kind uint8

const (
	byKey  kind = iota
	byNone      // the shape selects nothing: any
	bySrc       // by the source alone: addrs
	byDst
)

// cached is the number of groups whose rules for a request are looked up once.
const cached = 3

type shape struct {
	src, dst     [2]uint64 // masks
	in, out      bool
	mark         uint32
	dsField      bool
	proto        bool
	sport, dport bool
}

type key struct {
	src, dst     [2]uint64
	in, out      int32
	mark         uint32
	sport, dport uint16
	dsField      uint8
	proto        uint8
}

func newIndex(rules []Compiled) *index {
	x := &index{}
	at := map[shape]int{}
	for i := range rules {
		sh, k := rules[i].shape()
		g, ok := at[sh]
		if !ok {
			g = len(x.groups)
			at[sh] = g
			x.groups = append(x.groups, group{shape: sh, kind: sh.kind(), first: i, addrs: map[[2]uint64][]int32{}, rules: map[key][]int32{}})
		}
		x.groups[g].add(k, int32(i))
	}
	return x // in the order of first, as the rules are
}

func (s *shape) kind() kind {
	src, dst, none := s.src, s.dst, [2]uint64{}
	s0 := *s
	s0.src, s0.dst = none, none
	switch {
	case s0 != shape{} || src != none && dst != none:
		return byKey
	case src != none:
		return bySrc
	case dst != none:
		return byDst
	}
	return byNone
}

func (g *group) add(k key, i int32) {
	switch g.kind {
	case byNone:
		g.any = append(g.any, i)
	case bySrc:
		g.addrs[k.src] = append(g.addrs[k.src], i)
	case byDst:
		g.addrs[k.dst] = append(g.addrs[k.dst], i)
	default:
		g.rules[k] = append(g.rules[k], i)
	}
}

// masked is the part of an address that a mask selects.
func masked(a *[16]byte, m *[2]uint64) [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(a[:8]) & m[0], binary.BigEndian.Uint64(a[8:]) & m[1]}
}

// list returns the rules of a group that q may conform to.
func (g *group) list(q *Request) []int32 {
	switch g.kind {
	case byNone:
		return g.any
	case bySrc:
		return g.addrs[masked(&q.Src, &g.shape.src)]
	case byDst:
		return g.addrs[masked(&q.Dst, &g.shape.dst)]
	}
	return g.rules[g.shape.of(q)]
}

// shape returns what a rule selects by, and the values.
func (c *Compiled) shape() (s shape, k key) {
	if c.not {
		return s, k
	}
	s = shape{
		src: [2]uint64{c.src.mhi, c.src.mlo}, dst: [2]uint64{c.dst.mhi, c.dst.mlo}, in: c.in != 0, out: c.out != 0, mark: c.mask,
		dsField: c.dsField != 0, proto: c.proto != 0, sport: c.sport.exact(), dport: c.dport.exact(),
	}
	k = key{
		src: [2]uint64{c.src.hi, c.src.lo}, dst: [2]uint64{c.dst.hi, c.dst.lo}, in: int32(c.in), out: int32(c.out), mark: c.mark & c.mask,
		dsField: c.dsField, proto: c.proto,
	}
	if s.sport {
		k.sport = c.sport.Low
	}
	if s.dport {
		k.dport = c.dport.Low
	}
	return s, k
}

func (p Ports) exact() bool { return p.High != 0 && p.Low == p.High }

// of returns what q has where the shape selects.
func (s *shape) of(q *Request) (k key) {
	k.src, k.dst = masked(&q.Src, &s.src), masked(&q.Dst, &s.dst)
	if s.in {
		if k.in = int32(q.In); q.In == 0 {
			k.in = here
		}
	}
	if s.out {
		k.out = int32(q.Out)
	}
	k.mark = q.Mark & s.mark
	if s.dsField {
		k.dsField = q.DSField
	}
	if s.proto {
		k.proto = q.Proto
	}
	if s.sport {
		k.sport = q.SPort
	}
	if s.dport {
		k.dport = q.DPort
	}
	return k
}

// next returns the index of the first rule at or behind from that q conforms to; -1 = none.
func (x *index) next(rules []Compiled, q *Request, from int) int {
	best := len(rules)
	for g := range x.groups {
		grp := &x.groups[g]
		if grp.first >= best {
			break
		}
		var list []int32
		switch {
		case g >= cached:
			list = grp.list(q)
		case q.known&(1<<g) == 0:
			list = grp.list(q)
			q.lists[g], q.known = list, q.known|1<<g
		default:
			list = q.lists[g]
		}
		i, _ := slices.BinarySearch(list, int32(from))
		for _, n := range list[i:] {
			if int(n) >= best {
				break
			}
			if rules[n].Conforms(q) {
				best = int(n)
				break
			}
		}
	}
	if best == len(rules) {
		return -1
	}
	return best
}
