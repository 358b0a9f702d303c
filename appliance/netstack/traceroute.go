package netstack

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
)

// tracePort is the first port that traceroute's UDP probes go to; each has its own, so that the
// quoted header tells which it was.
const tracePort = 33434

// TraceProto is what the probes of a traceroute are.
type TraceProto uint8

// The kinds of probe.
const (
	TraceUDP  TraceProto = iota
	TraceICMP            // echo requests
)

// TracerouteOptions say what to send.
type TracerouteOptions struct {
	Dst      netip.Addr // zoned, or with Link, if link-local
	Source   netip.Addr // the zero Addr: RFC 6724
	Link     int        // leave by this link; 0 = as routed
	FirstHop int        // hop limit of the first probes; 0 = 1
	MaxHops  int        // the largest hop limit
	Probes   int        // for each hop, sent together
	Timeout  time.Duration
	Size     int // octets of the whole packet; what is too small becomes the least possible
	Mark     uint32
	Proto    TraceProto
}

// HopEvent is what became of one probe. They come in the order of hops and probes.
type HopEvent struct {
	Hop   int
	Probe int        // from 1
	From  netip.Addr // the zero Addr: no answer in time
	RTT   time.Duration
	// Reached: the destination itself answered.
	Reached bool
	// Type, Code and Arg are the ICMPv6 error's that answered, if one did.
	Type, Code uint8
	Arg        uint32
	Err        error // the probe could not be sent: the trace ends
}

// Tracer is a traceroute under way.
type Tracer struct {
	h    *Host
	o    TracerouteOptions
	udp  *UDPConn // of TraceUDP
	echo socket   // of TraceICMP
	id   uint16
	box  outbox[HopEvent]

	mu     sync.Mutex
	hop    int
	sent   int         // probes in all; the last ones are those of this hop
	probes []traceSent // of this hop
	timer  clock.Timer
	ended  bool
	done   chan struct{}
}

type traceSent struct {
	at       clock.Instant
	answered bool
	ev       HopEvent
}

// StartTraceroute starts a traceroute and calls report for each probe, on workers and timers:
// report must not block. Errors as of [Host.StartPing].
func (h *Host) StartTraceroute(o TracerouteOptions, report func(HopEvent)) (*Tracer, error) {
	if o.FirstHop == 0 {
		o.FirstHop = 1
	}
	if o.FirstHop < 1 || o.MaxHops < o.FirstHop || o.MaxHops > 255 || o.Probes < 1 || o.Probes > 100 || o.Timeout <= 0 ||
		o.Size < 0 || o.Size > wire.IPv6HeaderLen+maxPayload || o.Proto > TraceICMP {
		return nil, ErrInvalid
	}
	t := &Tracer{h: h, o: o, hop: o.FirstHop, done: make(chan struct{})}
	t.box.report = report
	so := SocketOptions{Local: netip.AddrPortFrom(o.Source, 0), Link: o.Link, Mark: o.Mark}
	s := &t.echo
	proto := uint8(wire.ICMPv6)
	if o.Proto == TraceUDP {
		t.udp = &UDPConn{probe: t}
		s, proto = &t.udp.socket, wire.UDP
	}
	if err := s.init(h, proto, so); err != nil {
		return nil, err
	}
	q := s.query(o.Dst, 0, 0)
	if o.Proto == TraceUDP {
		q.DPort = t.port(0)
	}
	if _, err := h.findRoute(q); err != nil {
		return nil, err
	}
	if err := t.register(); err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.sendHop()
	t.mu.Unlock()
	t.box.flush()
	return t, nil
}

func (t *Tracer) register() (err error) {
	if t.o.Proto == TraceICMP {
		t.id, err = t.h.probes.add(t.h, t)
		return err
	}
	if err := t.h.probes.track(t); err != nil {
		return err
	}
	if err := t.h.udp.bind(t.udp, nil); err != nil {
		t.h.probes.remove(t, 0)
		return err
	}
	return nil
}

// Traceroute runs a traceroute to its end, or until ctx ends, and calls report on the caller's
// goroutine.
func (h *Host) Traceroute(ctx context.Context, o TracerouteOptions, report func(HopEvent)) error {
	m := newMailbox[HopEvent]()
	t, err := h.StartTraceroute(o, m.put)
	if err != nil {
		return err
	}
	defer t.Stop()
	return m.run(ctx, t.Done(), report)
}

// Done is closed when the trace has ended and all its events are reported.
func (t *Tracer) Done() <-chan struct{} { return t.done }

// Stop ends the trace. Events that were on their way may still be reported.
func (t *Tracer) Stop() {
	t.mu.Lock()
	t.end()
	t.mu.Unlock()
	t.box.flush()
}

// end and what follows is called with mu held.
func (t *Tracer) end() {
	if t.ended {
		return
	}
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.h.probes.remove(t, t.id)
	if t.udp != nil {
		_ = t.udp.Close() // once: ended
	}
	t.box.end(t.done)
}

// sendHop sends all probes of the present hop.
func (t *Tracer) sendHop() {
	now := t.h.clock.Now()
	t.probes = t.probes[:0]
	for i := range t.o.Probes {
		t.probes = append(t.probes, traceSent{at: now, ev: HopEvent{Hop: t.hop, Probe: i + 1}})
		if err := t.send(t.sent); err != nil {
			t.probes[i].answered, t.probes[i].ev.Err = true, err
			t.finishHop()
			return
		}
		t.sent++
	}
	hop := t.hop
	t.timer = t.h.clock.AfterFunc(t.o.Timeout, func() {
		t.mu.Lock()
		if !t.ended && t.hop == hop {
			t.finishHop()
		}
		t.mu.Unlock()
		t.box.flush()
	})
}

// send sends probe n with the present hop limit.
func (t *Tracer) send(n int) error {
	info := Info{HopLimit: t.hop}
	if t.o.Proto == TraceUDP {
		size := max(t.o.Size-wire.IPv6HeaderLen-udpHeaderLen, 0)
		return t.udp.send(make([]byte, size), netip.AddrPortFrom(t.o.Dst, t.port(n)), &info)
	}
	size := max(t.o.Size-wire.IPv6HeaderLen, wire.ICMPv6HeaderLen)
	pk, m, err := t.echo.outgoing(t.echo.query(t.o.Dst, 0, 0), size, &info)
	if err != nil {
		return err
	}
	clear(m)
	m[0] = wire.TypeEchoRequest
	binary.BigEndian.PutUint16(m[4:], t.id)
	binary.BigEndian.PutUint16(m[6:], uint16(n))
	b := pk.Bytes()
	t.h.label(b, nil, wire.ICMPv6)
	wire.UpdateICMPv6Checksum(b, len(b)-len(m))
	t.h.opts.Output(pk)
	return nil
}

// port is the destination port of probe n; there are at most 25500 probes.
func (t *Tracer) port(n int) uint16 { return uint16(tracePort + n) }

// finishHop reports the present hop and goes on with the next, if there is one.
func (t *Tracer) finishHop() {
	reached, failed, refused := false, false, 0
	for i := range t.probes {
		ev := t.probes[i].ev
		t.box.add(ev)
		reached = reached || ev.Reached
		failed = failed || ev.Err != nil
		if ev.Type == wire.TypeDestinationUnreachable {
			refused++
		}
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	// Nothing lies behind a router that says there is no way for any probe.
	if reached || failed || refused == t.o.Probes || t.hop >= t.o.MaxHops {
		t.end()
		return
	}
	t.hop++
	t.sendHop()
}

// reply implements prober: the destination answered an echo request, or a UDP service the probe.
func (t *Tracer) reply(from netip.Addr, m []byte, _ int) {
	n := 0
	if t.o.Proto == TraceUDP {
		n = int(binary.BigEndian.Uint16(m)) - tracePort
	} else {
		n = int(binary.BigEndian.Uint16(m[6:]))
	}
	if from.WithZone("") != t.o.Dst.WithZone("") {
		return
	}
	t.answer(n, HopEvent{From: from, Reached: true})
}

// failed implements prober.
func (t *Tracer) failed(e *ICMPError, transport []byte) {
	n := 0
	if t.o.Proto == TraceUDP {
		n = int(binary.BigEndian.Uint16(transport[2:])) - tracePort
	} else {
		n = int(binary.BigEndian.Uint16(transport[6:]))
	}
	if e.Dst.Addr().WithZone("") != t.o.Dst.WithZone("") {
		return
	}
	t.answer(n, HopEvent{
		From: e.From, Type: e.Type, Code: e.Code, Arg: e.Arg,
		Reached: e.Type == wire.TypeDestinationUnreachable && e.Code == wire.CodePortUnreachable,
	})
}

// answer settles probe n if it is one of this hop's.
func (t *Tracer) answer(n int, ev HopEvent) {
	t.mu.Lock()
	i := n - (t.sent - len(t.probes))
	if t.ended || i < 0 || i >= len(t.probes) || t.probes[i].answered {
		t.mu.Unlock()
		return
	}
	s := &t.probes[i]
	ev.Hop, ev.Probe, ev.RTT = s.ev.Hop, s.ev.Probe, t.h.clock.Now().Sub(s.at)
	s.ev, s.answered = ev, true
	all := true
	for i := range t.probes {
		all = all && t.probes[i].answered
	}
	if all {
		t.finishHop()
	}
	t.mu.Unlock()
	t.box.flush()
}
