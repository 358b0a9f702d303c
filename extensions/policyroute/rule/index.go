package rule

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Few rules are compared one by one, and up to linear of them if they have many shapes; others are
// found by index.
const (
	few    = 4
	linear = 16
)

// index finds rules by what they select by: rules of one shape, the parts of the selector that are
// given with their masks, are found by one look into a table, however many there are. A part that is no
// exact value (a range of ports, "not") is not in the shape, and compared for each rule that is left.
//
// It knows requests with a source only: without one every rule on the source has to be tried.
type index struct {
	groups []group
	lists  [][]int32 // the rules of shapes and values that several have
}

// span names rules that select by the same values, in their order: the first one, and those behind it as an
// index of lists, 0 = none. A first of -1 is no rule.
type span struct{ first, more int32 }

var none = span{first: -1}

type group struct {
	shape shape
	kind  kind
	first int // the least index of its rules
	all   span
	addrs table[[2]uint64]
	rules table[key]
}

// kind says which of a group's tables has its rules: most shapes need no whole key.
type kind uint8

const (
	byKey  kind = iota
	byNone      // the shape selects nothing: all
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

// newIndex indexes rules, and notes of each whether its shape is all that it selects by.
func newIndex(rules []Compiled, acts []Act) *index {
	x := &index{lists: [][]int32{nil}}
	at, size := map[shape]int{}, []int{}
	groups := make([]int, len(rules)) // of each rule
	for i := range rules {
		sh := rules[i].shape()
		acts[i].exact = rules[i].exact()
		var g int
		var ok bool
		if i > 0 && sh == x.groups[groups[i-1]].shape { // mostly
			g, ok = groups[i-1], true
		} else {
			g, ok = at[sh]
		}
		if !ok {
			g = len(x.groups)
			at[sh] = g
			x.groups = append(x.groups, group{shape: sh, kind: sh.kind(), first: i, all: none})
			size = append(size, 0)
		}
		groups[i] = g
		size[g]++
	}
	for g := range x.groups {
		switch x.groups[g].kind {
		case byKey:
			x.groups[g].rules = newTable[key](size[g])
		case bySrc, byDst:
			x.groups[g].addrs = newTable[[2]uint64](size[g])
		}
	}
	for i := range rules {
		g := &x.groups[groups[i]]
		k := rules[i].values(&g.shape)
		x.add(g, &k, int32(i))
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

// add puts a rule behind those with the same values.
func (x *index) add(g *group, k *key, i int32) {
	var s *span
	switch g.kind {
	case byNone:
		s = &g.all
	case bySrc:
		s = g.addrs.insert(hashAddr(&k.src), k.src)
	case byDst:
		s = g.addrs.insert(hashAddr(&k.dst), k.dst)
	default:
		s = g.rules.insert(k.hash(), *k)
	}
	if s.first < 0 {
		s.first = i
		return
	}
	if s.more == 0 {
		s.more = int32(len(x.lists))
		x.lists = append(x.lists, nil)
	}
	x.lists[s.more] = append(x.lists[s.more], i)
}

// masked is the part of an address that a mask selects.
func masked(a *[16]byte, m *[2]uint64) [2]uint64 {
	return [2]uint64{binary.BigEndian.Uint64(a[:8]) & m[0], binary.BigEndian.Uint64(a[8:]) & m[1]}
}

// find returns the rules of a group that q may conform to.
func (g *group) find(q *Request) span {
	switch g.kind {
	case byNone:
		return g.all
	case bySrc:
		a := masked(&q.Src, &g.shape.src)
		return g.addrs.find(hashAddr(&a), a)
	case byDst:
		a := masked(&q.Dst, &g.shape.dst)
		return g.addrs.find(hashAddr(&a), a)
	}
	k := g.shape.of(q)
	return g.rules.find(k.hash(), k)
}

// shape returns what a rule selects by: nothing, if it takes what its selector does not.
func (c *Compiled) shape() (s shape) {
	if c.not {
		return s
	}
	return shape{
		src: [2]uint64{c.src.mhi, c.src.mlo}, dst: [2]uint64{c.dst.mhi, c.dst.mlo}, in: c.in != 0, out: c.out != 0, mark: c.mask,
		dsField: c.dsField != 0, proto: c.proto != 0, sport: c.sport.exact(), dport: c.dport.exact(),
	}
}

// values returns what a rule of a shape wants there.
func (c *Compiled) values(s *shape) (k key) {
	if c.not {
		return k
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
	return k
}

func (p Ports) exact() bool { return p.High != 0 && p.Low == p.High }

// exact reports whether a request whose values are those of the rule's shape conforms to it: nothing is left
// to compare.
func (c *Compiled) exact() bool {
	ranges := c.sport.High != 0 && !c.sport.exact() || c.dport.High != 0 && !c.dport.exact()
	return !c.not && !ranges && c.mark&^c.mask == 0
}

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
func (x *index) next(set *Set, q *Request, from int) int {
	best := len(set.rules)
	for g := range x.groups {
		grp := &x.groups[g]
		if grp.first >= best {
			break
		}
		var s span
		switch {
		case g >= cached:
			s = grp.find(q)
		case q.known&(1<<g) == 0:
			s = grp.find(q)
			q.spans[g], q.known = s, q.known|1<<g
		default:
			s = q.spans[g]
		}
		if n := int(s.first); n >= from && set.fits(n, q) {
			best = min(best, n)
			continue
		}
		list := x.lists[s.more]
		i, _ := slices.BinarySearch(list, int32(from))
		for _, n := range list[i:] {
			if int(n) >= best {
				break
			}
			if set.fits(int(n), q) {
				best = int(n)
				break
			}
		}
	}
	if best == len(set.rules) {
		return -1
	}
	return best
}

// fits reports whether q, which has the values of a rule's shape, conforms to the rule.
func (s *Set) fits(i int, q *Request) bool { return s.acts[i].exact || s.rules[i].Conforms(q) }

// table is a hash table of spans with open addressing, at most half full: one look is one cache line. It is
// not changed once the index is in use.
type table[K comparable] []slot[K]

type slot[K comparable] struct {
	key  K
	span span // free, or of the key
}

// free is the span of a slot without a key. No rule's is: the first rule has nobody behind it at -1.
var free = span{first: -1, more: -1}

// newTable returns a table for up to n keys.
func newTable[K comparable](n int) table[K] {
	t := make(table[K], 1<<bits.Len(uint(2*n-1)))
	for i := range t {
		t[i].span = free
	}
	return t
}

// insert returns the place of a key's span, none at first.
func (t table[K]) insert(hash uint64, k K) *span {
	for i := hash; ; i++ {
		s := &t[i&uint64(len(t)-1)]
		if s.span == free {
			s.key, s.span = k, none
		}
		if s.key == k {
			return &s.span
		}
	}
}

// find returns a key's span, or none.
func (t table[K]) find(hash uint64, k K) span {
	for i := hash; ; i++ {
		s := &t[i&uint64(len(t)-1)]
		switch {
		case s.span == free:
			return none
		case s.key == k:
			return s.span
		}
	}
}

// hashAddr mixes an address.
func hashAddr(a *[2]uint64) uint64 { return mix(a[0]^0x9e3779b97f4a7c15, a[1]^0xbf58476d1ce4e5b9) }

func (k *key) hash() uint64 {
	rest := uint64(uint32(k.in))<<32 | uint64(uint32(k.out))
	more := uint64(k.mark)<<32 | uint64(k.sport)<<16 | uint64(k.dport)
	return hashAddr(&k.src) ^ bits.RotateLeft64(hashAddr(&k.dst), 17) ^ mix(rest^0x94d049bb133111eb, more^uint64(k.dsField)<<8^uint64(k.proto)^0xd6e8feb86659fd93)
}

// mix folds the product of two words.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
