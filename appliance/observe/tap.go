package observe

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"leveret/appliance/clock"
)

// Point is where on the packet path a frame was seen.
type Point uint8

// The points.
const (
	Ingress Point = iota // as received, before anything else
	Egress               // as sent
	Dropped              // given up, with the reason
	numPoints
)

func (p Point) String() string { return [...]string{"ingress", "egress", "drop"}[p] }

// ParsePoints returns the points named in a list with commas; all for an empty one.
func ParsePoints(list string) ([]Point, error) {
	if list == "" {
		return []Point{Ingress, Egress, Dropped}, nil
	}
	var ps []Point
	for word := range strings.SplitSeq(list, ",") {
		i := slices.Index([]string{"ingress", "egress", "drop"}, word)
		if i < 0 {
			return nil, fmt.Errorf("point %q: want ingress, egress or drop", word)
		}
		ps = append(ps, Point(i))
	}
	return ps, nil
}

// Frame is one frame offered to the taps. Data is borrowed for the call.
type Frame struct {
	Point Point
	Link  int // index; 0 = no link (an own packet dropped before it had one)
	// Ethernet: Data begins with an Ethernet header; otherwise with the IPv6 header.
	Ethernet bool
	Outbound bool // on its way out (Dropped: made by this node)
	Data     []byte
	// Reason and Ref say why it was dropped: the names of a packet.Reason.
	Reason, Ref string
	At          clock.Instant
}

// The bounds of captures.
const (
	MaxTaps        = 16
	MaxSnaplen     = 65535 + 40 + 14 // a superpacket with its Ethernet header
	DefaultSnaplen = 9216            // a jumbo frame; superpackets are cut

	ringOctets = 8 << 20 // held for one tap
	minSlots   = 64
	maxSlots   = 4096
)

// ErrTooManyTaps is returned by [Taps.Add].
var ErrTooManyTaps = errors.New("too many captures")

// TapOptions say what a tap takes.
type TapOptions struct {
	Link    int     // index; 0 = every link
	Points  []Point // none = all
	Snaplen int     // octets kept of each frame; 0 = [DefaultSnaplen]
}

// Taps are the open captures. The zero value has none.
type Taps struct {
	list atomic.Pointer[[]*Tap] // nil = none; copied on change
	mu   sync.Mutex             // serializes changes of list
}

// Active reports whether anybody captures: one load, for the packet path to ask first.
func (t *Taps) Active() bool { return t.list.Load() != nil }

// Offer gives a frame to every tap that wants it. It never waits, takes no lock and does not
// allocate; what a tap has no room for is counted there. Any goroutine.
func (t *Taps) Offer(f *Frame) {
	list := t.list.Load()
	if list == nil {
		return
	}
	for _, tap := range *list {
		if tap.wants(f) {
			tap.offer(f)
		}
	}
}

// Tap is one capture: a bounded ring between the packet path and its writer.
type Tap struct {
	taps    *Taps
	link    int
	points  [numPoints]bool
	snaplen int
	ring    *ring
	ready   chan struct{} // one element when there may be something to read
}

// Add opens a tap. Close it.
func (t *Taps) Add(o TapOptions) (*Tap, error) {
	if o.Snaplen == 0 {
		o.Snaplen = DefaultSnaplen
	}
	if o.Snaplen < 64 || o.Snaplen > MaxSnaplen {
		return nil, fmt.Errorf("snaplen %d is outside 64..%d", o.Snaplen, MaxSnaplen)
	}
	slots := 1 << (bits.Len(uint(min(max(ringOctets/o.Snaplen, minSlots), maxSlots))) - 1)
	tap := &Tap{taps: t, link: o.Link, snaplen: o.Snaplen, ring: newRing(slots, o.Snaplen), ready: make(chan struct{}, 1)}
	for _, p := range o.Points {
		tap.points[p] = true
	}
	if len(o.Points) == 0 {
		tap.points = [numPoints]bool{true, true, true}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*Tap
	if old := t.list.Load(); old != nil {
		list = slices.Clone(*old)
	}
	if len(list) >= MaxTaps {
		return nil, ErrTooManyTaps
	}
	list = append(list, tap)
	t.list.Store(&list)
	return tap, nil
}

// Close ends the capture. A worker may still be in the middle of an Offer; what it leaves in the
// ring is garbage with it.
func (tap *Tap) Close() {
	t := tap.taps
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.list.Load()
	if old == nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(*old), func(o *Tap) bool { return o == tap })
	if len(list) == 0 {
		t.list.Store(nil)
		return
	}
	t.list.Store(&list)
}

// Lost returns how many frames found no room.
func (tap *Tap) Lost() uint64 { return tap.ring.full.Load() }

func (tap *Tap) wants(f *Frame) bool {
	return tap.points[f.Point] && (tap.link == 0 || tap.link == f.Link)
}

func (tap *Tap) offer(f *Frame) {
	if !tap.ring.put(f) {
		return
	}
	select {
	case tap.ready <- struct{}{}:
	default:
	}
}
