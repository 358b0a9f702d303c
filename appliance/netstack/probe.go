package netstack

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// prober is a ping or traceroute under way. Both methods are called by workers and must not block.
type prober interface {
	// reply takes a transport message that came back.
	reply(from netip.Addr, msg []byte, hop int)
	// failed takes an ICMPv6 error and the transport header it quotes.
	failed(e *ICMPError, transport []byte)
	// Stop ends it: nothing is sent or reported any more.
	Stop()
}

// probeTable finds probes by their echo identifier.
type probeTable struct {
	mu     sync.RWMutex
	byID   map[uint16]prober
	others map[prober]bool // those with a UDP socket instead
	closed bool
}

// add gives pr a random identifier of its own.
func (t *probeTable) add(h *Host, pr prober) (uint16, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = map[uint16]prober{}
	}
	if t.closed {
		return 0, net.ErrClosed
	}
	start := h.random(1 << 16)
	for i := range 1 << 16 {
		id := uint16(start + i)
		if t.byID[id] == nil {
			t.byID[id] = pr
			return id, nil
		}
	}
	return 0, ErrAddrInUse
}

// track lets pr be stopped with the host.
func (t *probeTable) track(pr prober) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	if t.others == nil {
		t.others = map[prober]bool{}
	}
	t.others[pr] = true
	return nil
}

func (t *probeTable) remove(pr prober, id uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.others, pr)
	if t.byID[id] == pr {
		delete(t.byID, id)
	}
}

func (t *probeTable) get(id uint16) prober {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

func (t *probeTable) close() {
	t.mu.Lock()
	t.closed = true
	var all []prober
	for _, pr := range t.byID {
		all = append(all, pr)
	}
	for pr := range t.others {
		all = append(all, pr)
	}
	t.mu.Unlock()
	for _, pr := range all {
		pr.Stop()
	}
}

// reply hands an echo reply to the probe with its identifier; the path has verified the checksum.
func (t *probeTable) reply(h *Host, p *packet.Packet, b []byte) {
	m := b[p.TransOff:]
	if pr := t.get(binary.BigEndian.Uint16(m[4:])); pr != nil {
		pr.reply(h.zoned(netip.AddrFrom16(*src(b)), p.Zone()), m, hopLimit(b))
	}
}

// failed hands an error to the probe that sent the quoted echo request.
func (t *probeTable) failed(e *ICMPError, q *quote) bool {
	if len(q.transport) < wire.ICMPv6HeaderLen || q.transport[0] != wire.TypeEchoRequest {
		return false
	}
	pr := t.get(binary.BigEndian.Uint16(q.transport[4:]))
	if pr == nil {
		return false
	}
	pr.failed(e, q.transport)
	return true
}

// outbox hands events to a callback, one at a time and in their order, and never while the lock of
// their source is held.
type outbox[T any] struct {
	report func(T)
	mu     sync.Mutex
	events []T
	busy   bool
	done   chan struct{} // to be closed behind the last event; nil = not yet, or it is
}

// end queues the end: done is closed when every event that was added before has been reported.
func (o *outbox[T]) end(done chan struct{}) {
	o.mu.Lock()
	o.done = done
	o.mu.Unlock()
}

// add queues an event; the caller calls flush when it has let go of its own lock.
func (o *outbox[T]) add(ev T) {
	o.mu.Lock()
	o.events = append(o.events, ev)
	o.mu.Unlock()
}

func (o *outbox[T]) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy {
		return // whoever is at it goes on with the new ones
	}
	o.busy = true
	for len(o.events) > 0 {
		ev := o.events[0]
		o.events = o.events[1:]
		o.mu.Unlock()
		o.report(ev)
		o.mu.Lock()
	}
	o.busy = false
	if o.done != nil {
		close(o.done)
		o.done = nil
	}
}

// mailboxLimit bounds the events that wait for a slow reader; a flood of duplicates is cut off.
const mailboxLimit = 4096

// mailbox brings events from workers and timers to one goroutine.
type mailbox[T any] struct {
	mu     sync.Mutex
	events []T
	ready  chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{ready: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(ev T) {
	m.mu.Lock()
	if len(m.events) < mailboxLimit {
		m.events = append(m.events, ev)
	}
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mailbox[T]) drain(report func(T)) {
	m.mu.Lock()
	events := m.events
	m.events = nil
	m.mu.Unlock()
	for _, ev := range events {
		report(ev)
	}
}

// run reports events on the caller's goroutine until done is closed or ctx ends.
func (m *mailbox[T]) run(ctx context.Context, done <-chan struct{}, report func(T)) error {
	for {
		select {
		case <-ctx.Done():
			m.drain(report)
			return ctx.Err()
		case <-m.ready:
			m.drain(report)
		case <-done:
			m.drain(report)
			return nil
		}
	}
}
