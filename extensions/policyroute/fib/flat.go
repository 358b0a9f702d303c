package fib

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// flat matches the high 64 bits of an address against prefixes of at most 64 bits. The prefixes
// cut the line of 64-bit numbers into intervals of one answer each; the intervals' first points
// are the leaves of a tree with eight keys, one cache line, a node. A batch of addresses walks it
// level by level, so that the cache misses of the batch overlap: with a million routes that is
// most of what a lookup costs.
type flat struct {
	levels [][]uint64 // levels[0] is the root; each a multiple of 8 long
	vals   []int32    // by interval; -1 = no route
	top    int32      // the answer for the greatest number, which nodes are padded with
}

// interval is one prefix with the index of its answer.
type interval struct {
	lo, hi uint64
	bits   int
	val    int32
}

func intervalOf(p netip.Prefix, val int32) interval {
	a := p.Addr().As16()
	lo := binary.BigEndian.Uint64(a[:])
	return interval{lo: lo, hi: lo | ^uint64(0)>>p.Bits(), bits: p.Bits(), val: val}
}

// maxKey pads nodes; a search never looks for it.
const maxKey = ^uint64(0)

// compile builds the tree. It sorts es.
func compile(es []interval) *flat {
	slices.SortFunc(es, func(a, b interval) int {
		switch {
		case a.lo < b.lo:
			return -1
		case a.lo > b.lo:
			return 1
		}
		return a.bits - b.bits
	})
	f := &flat{vals: make([]int32, 1, 2*len(es)+9)}
	keys := make([]uint64, 1, 2*len(es)+9)
	f.vals[0] = -1
	put := func(k uint64, v int32) {
		switch last := len(keys) - 1; {
		case keys[last] == k:
			f.vals[last] = v
		case f.vals[last] != v:
			keys, f.vals = append(keys, k), append(f.vals, v)
		}
	}
	// open holds the prefixes that the current point is inside of, the longest last.
	var open []interval
	closeUpTo := func(point uint64, all bool) {
		for len(open) > 0 && (all || open[len(open)-1].hi < point) {
			ended := open[len(open)-1]
			open = open[:len(open)-1]
			if ended.hi == maxKey {
				continue
			}
			v := int32(-1)
			if len(open) > 0 {
				v = open[len(open)-1].val
			}
			put(ended.hi+1, v)
		}
	}
	for _, e := range es {
		closeUpTo(e.lo, false)
		put(e.lo, e.val)
		open = append(open, e)
	}
	closeUpTo(0, true)
	f.grow(keys)
	return f
}

// grow builds the inner levels over the leaves.
func (f *flat) grow(keys []uint64) {
	f.top = f.vals[len(f.vals)-1]
	for level := keys; ; {
		for len(level)%8 != 0 {
			level = append(level, maxKey)
		}
		f.levels = append(f.levels, level)
		if len(level) == 8 {
			break
		}
		up := make([]uint64, 0, len(level)/8)
		for i := 0; i < len(level); i += 8 {
			up = append(up, level[i])
		}
		level = up
	}
	slices.Reverse(f.levels)
}

// step returns the index of the last of a node's keys that is not above x. Without branches: the
// comparisons do not depend on each other.
func step(node *[8]uint64, x uint64) uint32 {
	var above uint64
	for _, k := range node {
		_, borrow := bits.Sub64(x, k, 0)
		above += borrow
	}
	return uint32(7 - above)
}

// batchSize is how many addresses walk the tree together.
const batchSize = 64

// lookup fills out[i] with the answer for x[i]. It changes x.
func (f *flat) lookup(x []uint64, out []int32) {
	var at [batchSize]uint32
	for len(x) > 0 {
		n := min(len(x), batchSize)
		clear(at[:n])
		for i := range n {
			if out[i] = -1; x[i] == maxKey {
				x[i], out[i] = maxKey-1, 0
			}
		}
		for _, level := range f.levels {
			for i := range n {
				j := at[i] * 8
				at[i] = j + step((*[8]uint64)(level[j:]), x[i])
			}
		}
		for i := range n {
			if out[i] == 0 {
				out[i] = f.top
				continue
			}
			out[i] = f.vals[at[i]]
		}
		x, out = x[n:], out[n:]
	}
}
