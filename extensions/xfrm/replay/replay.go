// Package replay is the anti-replay window of a receiver, with and without extended sequence numbers
// (RFC 4303 3.4.3 and A2, RFC 4302 3.4.3). It is pure.
//
// A packet is handled in the order Infer, Check, ICV, Advance: Advance checks again, because another packet
// may have come in between, and nothing but an authentic packet moves the window.
package replay

import "fmt"

// MaxSize is the largest window.
const MaxSize = 4096

// Verdict is what the window says of a sequence number.
type Verdict uint8

// The verdicts. All but OK are refusals; Linux counts Left as replay-window and Duplicate as replay.
const (
	OK        Verdict = iota
	Invalid           // 0, which is never sent, or beyond 32 bits without ESN
	Left              // left of the window
	Duplicate         // was received before
)

// Window is the window of one SA. One goroutine at a time uses it.
type Window struct {
	size int
	esn  bool
	top  uint64 // highest number verified; 0 = none
	// seen is a ring of bits, number n at bit n (RFC 6479): instead of shifting, the words the top moves into
	// are cleared. It has at least one word more than the window, so that those words are not in the window.
	seen []uint64 // length a power of two
}

// New returns a window of size numbers; 0 checks nothing. ESN needs a window: the high half of a number is
// known by its place relative to the window only, so RFC 4303 3.4.3 advises against one without the other
// and Linux refuses it too.
func New(size int, esn bool) (*Window, error) {
	if size < 0 || size > MaxSize {
		return nil, fmt.Errorf("replay window of %d: 0 to %d are allowed", size, MaxSize)
	}
	if size == 0 && esn {
		return nil, fmt.Errorf("replay window of 0: extended sequence numbers need 1 to %d (RFC 4303 3.4.3)", MaxSize)
	}
	words := 1
	for words < (size+63)/64+1 {
		words *= 2
	}
	return &Window{size: size, esn: esn, seen: make([]uint64, words)}, nil
}

// Size returns the number of packets the window holds.
func (w *Window) Size() int { return w.size }

// ESN reports whether numbers have 64 bits.
func (w *Window) ESN() bool { return w.esn }

// Top returns the highest number verified.
func (w *Window) Top() uint64 { return w.top }

// Infer returns the whole number of a packet that carries its low half (RFC 4303 A2.2). It is not ok when
// that would be before the first number or beyond the last; such a packet is left of the window.
func (w *Window) Infer(low uint32) (seq uint64, ok bool) {
	if !w.esn {
		return uint64(low), true
	}
	hi, tl := w.top>>32, uint32(w.top)
	bottom := tl - uint32(w.size) + 1
	if tl >= uint32(w.size)-1 { // the window is in one subspace
		if low < bottom {
			hi++
		}
	} else if low >= bottom {
		if hi == 0 {
			return 0, false
		}
		hi--
	}
	return hi<<32 | uint64(low), hi>>32 == 0
}

// Check says whether a packet with that number may be accepted. It changes nothing.
func (w *Window) Check(seq uint64) Verdict {
	switch {
	case w.size == 0:
		return OK
	case seq == 0, !w.esn && seq>>32 != 0:
		return Invalid
	case seq > w.top:
		return OK
	case w.top-seq >= uint64(w.size):
		return Left
	case w.seen[w.word(seq)]&(1<<(seq%64)) != 0:
		return Duplicate
	}
	return OK
}

// Advance notes an authentic packet. It checks once more and changes nothing unless the verdict is OK.
func (w *Window) Advance(seq uint64) Verdict {
	v := w.Check(seq)
	if v != OK || w.size == 0 {
		return v
	}
	if seq > w.top {
		for i := range min(seq/64-w.top/64, uint64(len(w.seen))) {
			w.seen[w.word(seq-i*64)] = 0
		}
		w.top = seq
	}
	w.seen[w.word(seq)] |= 1 << (seq % 64)
	return OK
}

func (w *Window) word(seq uint64) int { return int(seq / 64 % uint64(len(w.seen))) }

// State is a window as it is kept or handed over, for example to the SA that takes the place of a migrated one.
type State struct {
	Size int
	ESN  bool
	Top  uint64   // highest number verified
	Seen []uint64 // bit i%64 of Seen[i/64] = Top-i was received; (Size+63)/64 words
}

// State returns the state of the window; it shares nothing with it.
func (w *Window) State() State {
	s := State{Size: w.size, ESN: w.esn, Top: w.top, Seen: make([]uint64, (w.size+63)/64)}
	for i := range uint64(w.size) {
		if i < w.top && w.seen[w.word(w.top-i)]&(1<<((w.top-i)%64)) != 0 {
			s.Seen[i/64] |= 1 << (i % 64)
		}
	}
	return s
}

// Restore returns a window with that state. Bits beyond the window and for numbers below 1 are ignored.
func Restore(s State) (*Window, error) {
	w, err := New(s.Size, s.ESN)
	if err != nil {
		return nil, err
	}
	if n := (s.Size + 63) / 64; len(s.Seen) != n {
		return nil, fmt.Errorf("replay window of %d: bitmap of %d words instead of %d", s.Size, len(s.Seen), n)
	}
	if !s.ESN && s.Top>>32 != 0 {
		return nil, fmt.Errorf("replay window: number %d without extended sequence numbers", s.Top)
	}
	w.top = s.Top
	for i := range min(uint64(s.Size), s.Top) {
		if s.Seen[i/64]&(1<<(i%64)) != 0 {
			w.seen[w.word(s.Top-i)] |= 1 << ((s.Top - i) % 64)
		}
	}
	return w, nil
}
