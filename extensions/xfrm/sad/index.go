package sad

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
)

// fan is the width of both levels of an index.
const fan = 256

// Buckets is how many an index has.
const Buckets = fan * fan

// index finds states by a hash. It is a tree of which a change copies one node of each level, so that a
// snapshot shares the others; what was copied since the last snapshot, in this edition, is changed in
// place.
type index struct {
	root    *[fan]*node
	edition uint64 // of root
}

type node struct {
	edition uint64
	buckets [fan]bucket
}

// bucket holds the states of one hash, newest last: those of more than a chunk in parts, so that a change
// among 100,000 states of one pair of hosts copies little. A snapshot has a shorter slice of the same
// array: the owner only ever appends to the longest, and copies to take out or to replace.
type bucket struct {
	older [][]*State
	tail  []*State
}

// chunk is how many states are in a part at most.
const chunk = 512

// newest goes through the states, the newest first.
func (b *bucket) newest(yield func(*State) bool) {
	for i := len(b.tail) - 1; i >= 0; i-- {
		if !yield(b.tail[i]) {
			return
		}
	}
	for k := len(b.older) - 1; k >= 0; k-- {
		for i := len(b.older[k]) - 1; i >= 0; i-- {
			if !yield(b.older[k][i]) {
				return
			}
		}
	}
}

func (b *bucket) add(s *State) {
	if len(b.tail) == chunk {
		b.older, b.tail = append(b.older, b.tail), nil
	}
	b.tail = append(b.tail, s)
}

// swap puts a state into the place of another; with nil it takes it out.
func (b *bucket) swap(old, s *State) {
	if len(b.tail) > 0 && old.ord >= b.tail[0].ord {
		b.tail = swapped(b.tail, old, s)
		return
	}
	k := sort.Search(len(b.older), func(k int) bool { return b.older[k][0].ord > old.ord }) - 1
	b.older = slices.Clone(b.older)
	if b.older[k] = swapped(b.older[k], old, s); len(b.older[k]) == 0 {
		b.older = slices.Delete(b.older, k, k+1)
	}
}

func swapped(list []*State, old, s *State) []*State {
	i := slices.Index(list, old)
	if s == nil {
		return slices.Concat(list[:i], list[i+1:])
	}
	list = slices.Clone(list)
	list[i] = s
	return list
}

// get returns the bucket of a hash.
func (x *index) get(h uint16) *bucket {
	if x.root == nil || x.root[h>>8] == nil {
		return &empty
	}
	return &x.root[h>>8].buckets[h&0xff]
}

var empty bucket

// edit returns the bucket of a hash to be changed.
func (x *index) edit(edition uint64, h uint16) *bucket {
	switch {
	case x.root == nil:
		x.root = new([fan]*node)
	case x.edition != edition:
		r := *x.root
		x.root = &r
	}
	x.edition = edition
	n := x.root[h>>8]
	if n == nil {
		n = &node{edition: edition}
	} else if n.edition != edition {
		c := *n
		n, c.edition = &c, edition
	}
	x.root[h>>8] = n
	return &n.buckets[h&0xff]
}

// hash mixes two addresses and a number. The seed keeps peers from choosing what falls together.
func hash(seed uint64, a, b [16]byte, n uint64) uint16 {
	h := seed
	for _, w := range [...]uint64{
		binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:]),
		binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:]), n,
	} {
		hi, lo := bits.Mul64(h^w^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
		h = hi ^ lo
	}
	return uint16(h ^ h>>32)
}
