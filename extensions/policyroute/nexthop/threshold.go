package nexthop

// Threshold divides the space of hashes among next hops in proportion to their weights, each having
// one region (RFC 2992 2). Immutable.
type Threshold struct{ end []uint32 } // the last hash of each region

// NewThreshold returns the division by weights; a weight of 0 counts as 1.
func NewThreshold(weights []uint16) *Threshold {
	var total, sum uint64
	for _, w := range weights {
		total += uint64(max(w, 1))
	}
	t := &Threshold{end: make([]uint32, len(weights))}
	for i, w := range weights {
		sum += uint64(max(w, 1))
		t.end[i] = uint32(sum<<31/total - 1)
	}
	return t
}

// Bucket is the part of a hash that the regions divide.
func Bucket(h uint64) uint32 { return uint32(h >> 33) }

// Select returns the index of the next hop for a hash. It does not allocate.
func (t *Threshold) Select(h uint64) int {
	x := Bucket(h)
	for i, end := range t.end {
		if x <= end {
			return i
		}
	}
	return len(t.end) - 1
}
