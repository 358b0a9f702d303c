package netstack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
)

// PingOptions say what to send.
type PingOptions struct {
	Dst          netip.Addr // zoned, or with Link, if link-local
	Source       netip.Addr // the zero Addr: RFC 6724
	Link         int        // leave by this link; 0 = as routed
	Size         int        // octets of data behind the ICMPv6 header
	Count        int        // 0 = until stopped
	Interval     time.Duration
	Timeout      time.Duration // to wait for each reply
	HopLimit     int           // 0 = the default
	TrafficClass int
	Mark         uint32
	DontFragment bool
}

// PingKind is what a [PingEvent] is.
type PingKind uint8

// The kinds of event.
const (
	PingStarted   PingKind = iota // first: Source and Link are what was chosen
	PingSent                      // request Seq has left
	PingReplied                   // an echo reply
	PingErrored                   // an ICMPv6 error from From
	PingTimedOut                  // no reply in time
	PingFailed                    // request Seq could not be sent: Err
	PingCorrupted                 // an echo reply with other data than was sent
)

func (k PingKind) String() string {
	return [...]string{"started", "sent", "reply", "error", "timeout", "failed", "corrupted"}[k]
}

// PingEvent is one thing that happened to a ping.
type PingEvent struct {
	Kind     PingKind
	Seq      int // from 1
	From     netip.Addr
	Source   netip.Addr
	Link     int
	Size     int // octets of the ICMPv6 message
	HopLimit int
	RTT      time.Duration
	Dup      bool
	// Type, Code and Arg are the ICMPv6 error's. Arg is also the path MTU of a failed send.
	Type, Code uint8
	Arg        uint32
	Err        error
}

// Pinger is a ping under way.
type Pinger struct {
	h   *Host
	o   PingOptions
	s   socket
	id  uint16
	box outbox[PingEvent]

	mu       sync.Mutex
	sent     int
	nextSend clock.Instant // clock.Never when all have been sent
	waiting  []*echoSent   // in the order of sending; answered ones stay until their time is over
	bySeq    map[uint16]*echoSent
	open     int // of them unanswered
	timer    clock.Timer
	turn     int // of the timer in force
	ended    bool
	done     chan struct{}
}

type echoSent struct {
	seq      int
	at       clock.Instant
	answered bool
}

// StartPing starts a ping and calls report for everything that happens to it, one event at a time,
// on workers and timers: report must not block. An error means that nothing is sent:
// ErrNetUnreachable and what else the routes say, ErrAddrNotAvailable, ErrNoDevice, ErrInvalid.
func (h *Host) StartPing(o PingOptions, report func(PingEvent)) (*Pinger, error) {
	if o.Size < 0 || o.Size > maxPayload-wire.ICMPv6HeaderLen || o.Count < 0 || o.Interval <= 0 || o.Timeout <= 0 ||
		o.HopLimit < 0 || o.HopLimit > 255 || o.TrafficClass < 0 || o.TrafficClass > 255 {
		return nil, ErrInvalid
	}
	p := &Pinger{h: h, o: o, bySeq: map[uint16]*echoSent{}, done: make(chan struct{})}
	p.box.report = report
	err := p.s.init(h, wire.ICMPv6, SocketOptions{
		Local: netip.AddrPortFrom(o.Source, 0), Link: o.Link, Mark: o.Mark, DontFragment: o.DontFragment,
		HopLimit: o.HopLimit, MulticastHopLimit: o.HopLimit, TrafficClass: o.TrafficClass,
	})
	if err != nil {
		return nil, err
	}
	q, err := h.findRoute(p.s.query(o.Dst, 0, 0))
	if err != nil {
		return nil, err
	}
	if p.id, err = h.probes.add(h, p); err != nil {
		return nil, err
	}
	p.box.add(PingEvent{Kind: PingStarted, Source: h.zoned(q.Src, q.Out), Link: q.Out, Size: wire.ICMPv6HeaderLen + o.Size})
	p.mu.Lock()
	p.nextSend = h.clock.Now()
	p.step()
	p.mu.Unlock()
	p.box.flush()
	return p, nil
}

// Ping runs a ping to its end, or until ctx ends, and calls report on the caller's goroutine.
func (h *Host) Ping(ctx context.Context, o PingOptions, report func(PingEvent)) error {
	m := newMailbox[PingEvent]()
	p, err := h.StartPing(o, m.put)
	if err != nil {
		return err
	}
	defer p.Stop()
	return m.run(ctx, p.Done(), report)
}

// Done is closed when all requests have been answered, have timed out, or after Stop.
func (p *Pinger) Done() <-chan struct{} { return p.done }

// Stop ends the ping. Events that were on their way may still be reported.
func (p *Pinger) Stop() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.box.flush()
}

// end, step and what they call are called with mu held.
func (p *Pinger) end() {
	if p.ended {
		return
	}
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.h.probes.remove(p, p.id)
	p.box.end(p.done)
}

// step does what is due and sets the timer for what comes next.
func (p *Pinger) step() {
	if p.ended {
		return
	}
	now := p.h.clock.Now()
	for len(p.waiting) > 0 && p.waiting[0].at.Add(p.o.Timeout) <= now {
		e := p.waiting[0]
		p.waiting = p.waiting[1:]
		if p.bySeq[uint16(e.seq)] == e {
			delete(p.bySeq, uint16(e.seq))
		}
		if !e.answered {
			p.open--
			p.box.add(PingEvent{Kind: PingTimedOut, Seq: e.seq})
		}
	}
	if p.nextSend <= now {
		p.send(now)
	}
	if p.nextSend == clock.Never && p.open == 0 {
		p.end()
		return
	}
	next := p.nextSend
	if len(p.waiting) > 0 {
		next = clock.Earliest(next, p.waiting[0].at.Add(p.o.Timeout))
	}
	p.turn++
	turn := p.turn
	if p.timer != nil {
		p.timer.Stop()
	}
	p.timer = p.h.clock.AfterFunc(next.Sub(now), func() {
		p.mu.Lock()
		if p.turn == turn {
			p.step()
		}
		p.mu.Unlock()
		p.box.flush()
	})
}

// send sends the next echo request (RFC 4443 4.1).
func (p *Pinger) send(now clock.Instant) {
	p.sent++
	seq := p.sent
	p.nextSend = now.Add(p.o.Interval)
	if p.o.Count != 0 && p.sent >= p.o.Count {
		p.nextSend = clock.Never
	}
	pk, t, err := p.s.outgoing(p.s.query(p.o.Dst, 0, 0), wire.ICMPv6HeaderLen+p.o.Size, nil)
	if err != nil {
		p.box.add(failedSend(seq, err))
		return
	}
	t[0], t[1] = wire.TypeEchoRequest, 0
	binary.BigEndian.PutUint16(t[4:], p.id)
	binary.BigEndian.PutUint16(t[6:], uint16(seq))
	fillPattern(t[wire.ICMPv6HeaderLen:], seq)
	b := pk.Bytes()
	p.h.label(b, nil, wire.ICMPv6)
	wire.UpdateICMPv6Checksum(b, len(b)-len(t))
	e := &echoSent{seq: seq, at: now}
	if old := p.bySeq[uint16(seq)]; old != nil && !old.answered { // 65536 later
		old.answered = true
		p.open--
	}
	p.waiting = append(p.waiting, e)
	p.bySeq[uint16(seq)] = e
	p.open++
	p.box.add(PingEvent{Kind: PingSent, Seq: seq})
	p.h.opts.Output(pk)
}

func failedSend(seq int, err error) PingEvent {
	ev := PingEvent{Kind: PingFailed, Seq: seq, Err: err}
	var mtu *MTUError
	if errors.As(err, &mtu) {
		ev.Arg = uint32(mtu.MTU)
	}
	return ev
}

// fillPattern fills the data of request seq; checkPattern finds the first octet that differs.
func fillPattern(b []byte, seq int) {
	for i := range b {
		b[i] = byte(i + seq)
	}
}

func checkPattern(b []byte, seq int) (at int, ok bool) {
	for i := range b {
		if b[i] != byte(i+seq) {
			return i, false
		}
	}
	return 0, true
}

// reply implements prober for echo replies (RFC 4443 4.2). A reply is believed if its source is
// the destination; from a group or an anycast address others answer.
func (p *Pinger) reply(from netip.Addr, m []byte, hop int) {
	p.mu.Lock()
	now := p.h.clock.Now()
	e := p.bySeq[binary.BigEndian.Uint16(m[6:])]
	if p.ended || e == nil {
		p.mu.Unlock()
		return
	}
	ev := PingEvent{
		Kind: PingReplied, Seq: e.seq, From: from, Size: len(m), HopLimit: hop, RTT: now.Sub(e.at), Dup: e.answered,
	}
	data := m[wire.ICMPv6HeaderLen:]
	if at, ok := checkPattern(data, e.seq); !ok {
		ev.Kind, ev.Err = PingCorrupted, fmt.Errorf("wrong data octet #%d", at)
	} else if len(data) != p.o.Size {
		ev.Kind, ev.Err = PingCorrupted, fmt.Errorf("%d octets of data, sent %d", len(data), p.o.Size)
	}
	p.settle(e, ev)
}

// failed implements prober.
func (p *Pinger) failed(e *ICMPError, transport []byte) {
	p.mu.Lock()
	sent := p.bySeq[binary.BigEndian.Uint16(transport[6:])]
	if p.ended || sent == nil || sent.answered {
		p.mu.Unlock()
		return
	}
	ev := PingEvent{Kind: PingErrored, Seq: sent.seq, From: e.From, Type: e.Type, Code: e.Code, Arg: e.Arg, Err: e.Unwrap(), RTT: p.h.clock.Now().Sub(sent.at)}
	if e.Type == wire.TypePacketTooBig && p.h.isSelf(e.From) {
		// It did not get out: what a socket call would have returned.
		ev = failedSend(sent.seq, &MTUError{MTU: int(e.Arg)})
	}
	p.settle(sent, ev)
}

// settle counts an answer to a request and reports it. It lets go of mu.
func (p *Pinger) settle(e *echoSent, ev PingEvent) {
	if !e.answered {
		e.answered = true
		p.open--
	}
	p.box.add(ev)
	if p.nextSend == clock.Never && p.open == 0 {
		p.end()
	}
	p.mu.Unlock()
	p.box.flush()
}

// isSelf reports whether an address, zoned if link-local, is this node's.
func (h *Host) isSelf(a netip.Addr) bool {
	link, err := h.linkFor(a, 0)
	return err == nil && h.ours(a.WithZone(""), link)
}
