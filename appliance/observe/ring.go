package observe

import (
	"sync/atomic"
)

// slot is one frame on its way from a worker to the writer.
type slot struct {
	// turn says whose turn the slot is: equal to the position for the worker that may fill it,
	// one more for the writer that may empty it.
	turn atomic.Uint64
	meta Frame // its Data is not used
	len  int   // of the whole frame
	data []byte
	n    int // octets of data in use
}

// ring is a bounded queue of frames with many senders and one receiver: D. Vyukov's bounded
// queue. Sending takes no lock, never waits and does not allocate: all slots are made once.
type ring struct {
	slots []slot // a power of two
	head  atomic.Uint64
	_     [56]byte // head and tail in cache lines of their own
	tail  uint64   // receiver only
	_     [56]byte
	full  atomic.Uint64 // frames that found no slot
}

func newRing(slots, snaplen int) *ring {
	r := &ring{slots: make([]slot, slots)}
	data := make([]byte, slots*snaplen)
	for i := range r.slots {
		r.slots[i].turn.Store(uint64(i))
		r.slots[i].data = data[i*snaplen : (i+1)*snaplen : (i+1)*snaplen]
	}
	return r
}

// put copies f into a free slot; false if there is none (counted). Any goroutine.
func (r *ring) put(f *Frame) bool {
	mask := uint64(len(r.slots) - 1)
	for {
		pos := r.head.Load()
		s := &r.slots[pos&mask]
		switch d := int64(s.turn.Load() - pos); {
		case d == 0:
			if !r.head.CompareAndSwap(pos, pos+1) {
				continue
			}
			s.meta = *f
			s.meta.Data = nil
			s.len = len(f.Data)
			s.n = copy(s.data, f.Data)
			s.turn.Store(pos + 1)
			return true
		case d < 0:
			r.full.Add(1)
			return false
		}
		// Another worker took this position first: look at the next.
	}
}

// get returns the oldest frame's slot, or nil; done gives it back. Receiver only.
func (r *ring) get() *slot {
	s := &r.slots[r.tail&uint64(len(r.slots)-1)]
	if s.turn.Load() != r.tail+1 {
		return nil
	}
	return s
}

func (r *ring) done(s *slot) {
	r.tail++
	s.turn.Store(r.tail - 1 + uint64(len(r.slots)))
}
