package sad

import (
	"encoding/binary"
	"math/bits"
)

// fan is the width of both levels of an index: 65,536 buckets.
const fan = 256

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

// bucket holds the states of one hash, newest last. A snapshot has a shorter slice of the same array: the
// owner only ever appends to the longest, and copies to take out or to replace.
type bucket []*State

// get returns the bucket of a hash.
func (x *index) get(h uint16) bucket {
	if x.root == nil || x.root[h>>8] == nil {
		return nil
	}
	return x.root[h>>8].buckets[h&0xff]
}

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

func (x *index) add(edition uint64, h uint16, s *State) {
	b := x.edit(edition, h)
	*b = append(*b, s)
}

// swap puts a state into the place of another; with nil it takes it out.
func (x *index) swap(edition uint64, h uint16, old, s *State) {
	b := x.edit(edition, h)
	next := make(bucket, 0, len(*b))
	for _, o := range *b {
		switch {
		case o != old:
			next = append(next, o)
		case s != nil:
			next = append(next, s)
		}
	}
	*b = next
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
