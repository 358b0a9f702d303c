// Package pipe is a link in memory: two ends, or one end whose other side is a function, as a
// simulated network has it. Frames keep their segmentation state.
package pipe

import (
	"errors"
	"sync"

	"leveret/appliance/link"
	"leveret/appliance/packet"
)

// queueLen bounds the frames that wait to be received; more are refused, as by a full device.
const queueLen = 1024

// Options say what an end is like.
type Options struct {
	MAC      [6]byte
	MTU      int
	Ethernet bool
	// Checksum, TSO, USO: what the end takes whole.
	Checksum, TSO, USO bool
	// OnTx is called for each frame sent on a lone end. The frame is borrowed.
	OnTx func(frame []byte, gso packet.GSO)
}

// Port is one end. It implements [link.Port].
type Port struct {
	o    Options
	peer *Port

	mu     sync.Mutex
	ring   []slot // allocated as it is used, then kept
	head   int
	n      int
	state  link.State
	watch  func(link.State)
	closed bool
	ready  chan struct{} // holds a token when there is something to see for a receiver
}

type slot struct {
	data []byte
	gso  packet.GSO
}

// New returns the two ends of a pipe.
func New(a, b Options) (*Port, *Port) {
	x, y := NewEnd(a), NewEnd(b)
	x.peer, y.peer = y, x
	return x, y
}

// NewEnd returns an end whose other side is OnTx and [Port.Inject].
func NewEnd(o Options) *Port {
	return &Port{
		o: o, ring: make([]slot, queueLen), state: link.State{Carrier: true, MTU: o.MTU}, ready: make(chan struct{}, 1),
	}
}

// Inject lets the end receive a frame. It is copied. False means the queue is full or the end
// closed. Any goroutine.
func (p *Port) Inject(frame []byte, gso packet.GSO) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.n == len(p.ring) {
		return false
	}
	s := &p.ring[(p.head+p.n)%len(p.ring)]
	s.data, s.gso = append(s.data[:0], frame...), gso
	p.n++
	p.token()
	return true
}

func (p *Port) token() {
	select {
	case p.ready <- struct{}{}:
	default:
	}
}

// SetState changes carrier and MTU, as the other side of a real link would. Any goroutine.
func (p *Port) SetState(s link.State) {
	p.mu.Lock()
	p.state = s
	w := p.watch
	p.mu.Unlock()
	if w != nil {
		w(s)
	}
}

// Kind implements [link.Port].
func (p *Port) Kind() string { return "pipe" }

// HostDevice implements [link.Port].
func (p *Port) HostDevice() string { return "" }

// Caps implements [link.Port].
func (p *Port) Caps() link.Caps {
	return link.Caps{
		Ethernet: p.o.Ethernet, Checksum: p.o.Checksum, TSO: p.o.TSO, USO: p.o.USO, Queues: 1, MaxFrame: packet.MaxLen + 14,
	}
}

// MAC implements [link.Port].
func (p *Port) MAC() [6]byte { return p.o.MAC }

// State implements [link.Port].
func (p *Port) State() link.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Watch implements [link.Port].
func (p *Port) Watch(f func(link.State)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch = f
}

// SetMTU implements [link.Port].
func (p *Port) SetMTU(mtu int) error {
	p.mu.Lock()
	p.state.MTU = mtu
	p.mu.Unlock()
	return nil
}

// Rx implements [link.Port].
func (p *Port) Rx(int) link.RxQueue { return (*rx)(p) }

// NewTx implements [link.Port].
func (p *Port) NewTx() link.TxQueue { return (*tx)(p) }

// Close implements [link.Port]. The other end loses its carrier.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.token()
	p.mu.Unlock()
	if p.peer != nil {
		s := p.peer.State()
		s.Carrier = false
		p.peer.SetState(s)
	}
	return nil
}

type rx Port

var errClosed = errors.New("pipe: closed")

// Rx implements [link.RxQueue].
func (r *rx) Rx(ps []*packet.Packet) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, errClosed
	}
	n := min(len(ps), r.n)
	for i := range n {
		s := &r.ring[r.head]
		ps[i].SetLen(copy(ps[i].Space(), s.data))
		ps[i].GSO = s.gso
		r.head = (r.head + 1) % len(r.ring)
	}
	r.n -= n
	return n, nil
}

// Wait implements [link.RxQueue].
func (r *rx) Wait() bool {
	<-r.ready
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed
}

// Wake implements [link.RxQueue].
func (r *rx) Wake() { (*Port)(r).token() }

type tx Port

// Tx implements [link.TxQueue].
func (t *tx) Tx(ps []*packet.Packet) int {
	sent := 0
	for _, p := range ps {
		switch {
		case t.peer != nil:
			if t.peer.Inject(p.Bytes(), p.GSO) {
				sent++
			}
		default:
			if t.o.OnTx != nil {
				t.o.OnTx(p.Bytes(), p.GSO)
			}
			sent++
		}
	}
	return sent
}
