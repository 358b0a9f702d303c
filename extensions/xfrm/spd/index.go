package spd

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"leveret/extensions/xfrm/selector"
)

// Up to linear policies are compared one by one. More are found by index: those of one shape, the parts of
// the selector that count, are found by one look into a hash table, however many there are. Shapes are
// tried in the order of their first policy, until none of the rest can be before what was found. So a
// lookup costs as much as there are shapes, of which an operator's policies have a few.
const linear = 16

// load is how many policies a bucket has at most, on average: few enough to be compared by hash one after
// the other, and enough for the list of buckets to be short, which is what a change copies.
const load = 8

// entry is a policy as it is searched. Immutable.
type entry struct {
	sel    selector.Compiled
	seq    uint64 // its place among those of the same priority
	hash   uint64 // of the values that its shape has
	policy *Policy
}

func newEntry(k seed, p *Policy, seq uint64) *entry {
	e := &entry{sel: p.Selector.Compile(), seq: seq, policy: p}
	sh := e.shape()
	e.hash = sh.hashOf(k, e)
	return e
}

func (e *entry) matches(f *selector.Flow, ifid uint32) bool {
	p := e.policy
	return p.IfID == ifid && f.Mark&p.Mask == p.Mark && e.sel.Matches(f)
}

// order is where a policy is in the list.
type order struct {
	priority uint32
	seq      uint64
}

func (e *entry) order() order { return order{e.policy.Priority, e.seq} }

func (a order) compare(b order) int {
	if c := cmp.Compare(a.priority, b.priority); c != 0 {
		return c
	}
	return cmp.Compare(a.seq, b.seq)
}

func compareEntries(a, b *entry) int { return a.order().compare(b.order()) }

// shape is what a selector looks at.
type shape struct {
	src, dst     [2]uint64 // masks
	sport, dport uint16    // masks
	mark         uint32    // mask
	family       selector.Family
	proto, link  bool
	opaque       bool
}

func (e *entry) shape() shape {
	s := &e.sel
	return shape{
		src: [2]uint64{s.Src.MHi, s.Src.MLo}, dst: [2]uint64{s.Dst.MHi, s.Dst.MLo}, family: s.Family,
		proto: s.Selector.Proto != 0, sport: s.Selector.SPortMask, dport: s.Selector.DPortMask, link: s.Selector.Link != 0,
		opaque: s.Selector.Opaque, mark: e.policy.Mask,
	}
}

type seed [2]uint64

// hash mixes what a flow has where the shape looks.
func (s *shape) hash(k seed, f *selector.Flow, ifid uint32) uint64 {
	what := uint64(f.SPort&s.sport)<<16 | uint64(f.DPort&s.dport)
	if s.proto {
		what |= uint64(f.Proto) << 32
	}
	way := uint64(f.Mark & s.mark)
	if s.link {
		way |= uint64(f.Link) << 32
	}
	h := mix(binary.BigEndian.Uint64(f.Src[:])&s.src[0]^k[0], binary.BigEndian.Uint64(f.Src[8:])&s.src[1]^k[1])
	h = mix(binary.BigEndian.Uint64(f.Dst[:])&s.dst[0]^h, binary.BigEndian.Uint64(f.Dst[8:])&s.dst[1]^k[0])
	h = mix(what^h, way^k[1])
	return mix(uint64(ifid)^h, k[0]^0x9e3779b97f4a7c15)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hashOf is the hash of a flow that has just what the entry asks for.
func (s *shape) hashOf(k seed, e *entry) uint64 {
	sel, p := &e.sel, e.policy
	f := selector.Flow{Proto: sel.Selector.Proto, SPort: sel.Selector.SPort, DPort: sel.Selector.DPort, Link: sel.Selector.Link, Mark: p.Mark}
	binary.BigEndian.PutUint64(f.Src[:], sel.Src.Hi)
	binary.BigEndian.PutUint64(f.Src[8:], sel.Src.Lo)
	binary.BigEndian.PutUint64(f.Dst[:], sel.Dst.Hi)
	binary.BigEndian.PutUint64(f.Dst[8:], sel.Dst.Lo)
	return s.hash(k, &f, p.IfID)
}

// concerns reports whether any policy of the shape can be for f.
func (s *shape) concerns(f *selector.Flow) bool {
	if s.family != selector.AnyFamily && (s.family == selector.IPv4) != f.IPv4 {
		return false
	}
	if f.Opaque {
		return s.sport|s.dport == 0
	}
	return !s.opaque
}

// table has the policies of one direction and type.
type table struct {
	few    []*entry // all of them in order, if there are no groups; never changed, but replaced
	groups []*group // by first
	n      int
	epoch  uint64 // in which groups was made
}

// group has the policies of one shape.
type group struct {
	shape   shape
	first   order    // none of its policies is before that
	buckets [][]slot // a power of two of them; each in order and never changed, but replaced
	n       int
	epoch   uint64 // in which it was made, buckets too
}

type slot struct {
	hash uint64
	*entry
}

func (t *table) find(k seed, f *selector.Flow, ifid uint32) *entry {
	for _, e := range t.few {
		if e.matches(f, ifid) {
			return e
		}
	}
	var best *entry
	for _, g := range t.groups {
		if best != nil && best.order().compare(g.first) < 0 {
			break
		}
		if !g.shape.concerns(f) {
			continue
		}
		h := g.shape.hash(k, f, ifid)
		for _, s := range g.buckets[h&uint64(len(g.buckets)-1)] {
			if s.hash == h && s.matches(f, ifid) {
				if best == nil || compareEntries(s.entry, best) < 0 {
					best = s.entry
				}
				break // the others of the bucket are behind it
			}
		}
	}
	return best
}

func (t *table) insert(d *DB, e *entry) {
	t.n++
	if t.groups != nil {
		t.index(d, e)
		return
	}
	i, _ := slices.BinarySearchFunc(t.few, e, compareEntries)
	t.few = inserted(t.few, i, e)
	if t.n > linear {
		all := t.few
		t.few = nil
		for _, e := range all {
			t.index(d, e)
		}
	}
}

func (t *table) remove(d *DB, e *entry) {
	t.n--
	if t.groups == nil {
		t.few = slices.DeleteFunc(slices.Clone(t.few), func(x *entry) bool { return x == e })
		return
	}
	g := t.group(d, e.shape())
	g.remove(e)
	switch {
	case t.n <= linear/2: // not at once at linear, where adding and deleting by turns would build it each time
		for _, g := range t.groups {
			for s := range g.all() {
				t.few = append(t.few, s)
			}
		}
		slices.SortFunc(t.few, compareEntries)
		t.groups = nil
	case g.n == 0:
		t.groups = slices.DeleteFunc(t.groups, func(x *group) bool { return x == g })
	case len(g.buckets) > 1 && 2*g.n < len(g.buckets):
		g.rehash()
		t.sort()
	}
}

// index puts an entry into its group.
func (t *table) index(d *DB, e *entry) {
	sh := e.shape()
	g := t.group(d, sh)
	if g == nil {
		g = &group{shape: sh, first: e.order(), buckets: make([][]slot, 1), epoch: d.epoch}
		t.groups = append(t.groups, g)
		t.sort()
	}
	if g.n++; g.n > load*len(g.buckets) {
		g.rehash()
		t.sort()
	}
	g.insert(e)
	if o := e.order(); o.compare(g.first) < 0 {
		g.first = o
		t.sort()
	}
}

func (t *table) sort() {
	slices.SortStableFunc(t.groups, func(a, b *group) int { return a.first.compare(b.first) })
}

// group returns the group of a shape, to be changed; nil = there is none. It makes groups ones that may be
// changed.
func (t *table) group(d *DB, sh shape) *group {
	if t.epoch != d.epoch {
		t.groups, t.epoch = slices.Clone(t.groups), d.epoch
	}
	i := slices.IndexFunc(t.groups, func(g *group) bool { return g.shape == sh })
	if i < 0 {
		return nil
	}
	g := t.groups[i]
	if g.epoch != d.epoch {
		c := *g
		c.buckets, c.epoch = slices.Clone(g.buckets), d.epoch
		g = &c
		t.groups[i] = g
	}
	return g
}

// inserted returns a new slice with v at i.
func inserted[T any](s []T, i int, v T) []T {
	out := make([]T, len(s)+1)
	copy(out, s[:i])
	out[i] = v
	copy(out[i+1:], s[i:])
	return out
}

func (g *group) insert(e *entry) {
	b := &g.buckets[e.hash&uint64(len(g.buckets)-1)]
	i, _ := slices.BinarySearchFunc(*b, e, func(s slot, e *entry) int { return compareEntries(s.entry, e) })
	*b = inserted(*b, i, slot{e.hash, e})
}

func (g *group) remove(e *entry) {
	g.n--
	b := &g.buckets[e.hash&uint64(len(g.buckets)-1)]
	*b = slices.DeleteFunc(slices.Clone(*b), func(s slot) bool { return s.entry == e })
}

// all yields the entries of a group, in no order.
func (g *group) all() func(yield func(*entry) bool) {
	return func(yield func(*entry) bool) {
		for _, b := range g.buckets {
			for _, s := range b {
				if !yield(s.entry) {
					return
				}
			}
		}
	}
}

// rehash makes as many buckets as there should be, half full, and sees which entry is the first.
func (g *group) rehash() {
	old := *g
	g.buckets = make([][]slot, 1<<bits.Len(uint(max(g.n, 1)*2/load)))
	var all []*entry
	for e := range old.all() {
		all = append(all, e)
	}
	slices.SortFunc(all, compareEntries)
	if len(all) > 0 {
		g.first = all[0].order()
	}
	for _, e := range all { // in order, so each goes to the end
		b := &g.buckets[e.hash&uint64(len(g.buckets)-1)]
		*b = append(*b, slot{e.hash, e})
	}
}
