package netstack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// lab is one node on a manual clock; what it sends is answered in the order it was sent, when the
// test says so, so that every run is the same.
type lab struct {
	*node
	clock *clock.Manual
	sent  []*packet.Packet
	mu    sync.Mutex
}

func newLab(t *testing.T) *lab {
	m := clock.NewManual()
	a, _ := newPair(t, m)
	l := &lab{node: a, clock: m}
	a.opts.Output = func(p *packet.Packet) {
		l.mu.Lock()
		l.sent = append(l.sent, p)
		l.mu.Unlock()
	}
	return l
}

// take returns what has been sent since the last call.
func (l *lab) take() []*packet.Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sent
	l.sent = nil
	return s
}

// answer returns the echo reply to a request.
func answer(p *packet.Packet, from netip.Addr, change func(m []byte)) *packet.Packet {
	b := p.Bytes()
	r := packet.NewBuffer(len(b))
	wire.PutIPv6(r.Extend(40), wire.IPv6Fields{PayloadLength: uint16(len(b) - 40), NextHeader: wire.ICMPv6, HopLimit: 61, Src: from, Dst: addrOf(src(b))})
	m := r.Extend(len(b) - 40)
	copy(m, b[40:])
	m[0] = wire.TypeEchoReply
	change(m)
	r.In, r.Proto, r.TransOff = 1, wire.ICMPv6, 40
	return r
}

func asSent([]byte) {}

func TestPing(t *testing.T) {
	l := newLab(t)
	var events []PingEvent
	p, err := l.StartPing(PingOptions{
		Dst: addrB, Size: 56, Count: 3, Interval: time.Second, Timeout: 10 * time.Second, HopLimit: 5, TrafficClass: 0x28, Mark: 3,
	}, func(e PingEvent) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	l.clock.Advance(2 * time.Second)
	reqs := l.take()
	if len(reqs) != 3 {
		t.Fatalf("%d requests in two seconds", len(reqs))
	}
	for i, r := range reqs {
		b := r.Bytes()
		h, _ := wire.ParseIPv6(b)
		if !wire.VerifyICMPv6(b, 40) || len(b) != 40+8+56 || b[40] != wire.TypeEchoRequest || b[41] != 0 || b[47] != byte(i+1) {
			t.Errorf("request %d: %x", i+1, b)
		}
		if h.HopLimit() != 5 || h.TrafficClass() != 0x28 || h.Src() != addrA || r.Mark != 3 || r.NoFrag {
			t.Errorf("request %d: hop limit %d class %#x from %s mark %d", i+1, h.HopLimit(), h.TrafficClass(), h.Src(), r.Mark)
		}
	}
	l.clock.Advance(250 * time.Millisecond)
	l.Deliver(answer(reqs[1], addrB, asSent))
	l.Deliver(answer(reqs[1], addrB, asSent)) // again
	l.Deliver(answer(reqs[0], addrB, func(m []byte) { m[20]++ }))
	l.Deliver(answer(reqs[2], addrB, func(m []byte) { m[4]++ })) // somebody else's
	l.Deliver(answer(reqs[2], addrB, func(m []byte) { m[6]++ })) // never sent
	select {
	case <-p.Done():
		t.Fatal("done before request 3 is settled")
	default:
	}
	l.clock.Advance(10 * time.Second)
	select {
	case <-p.Done():
	default:
		t.Fatal("not done")
	}
	l.Deliver(answer(reqs[2], addrB, asSent)) // too late
	want := []PingEvent{
		{Kind: PingStarted, Source: addrA, Size: 64},
		{Kind: PingSent, Seq: 1}, {Kind: PingSent, Seq: 2}, {Kind: PingSent, Seq: 3},
		{Kind: PingReplied, Seq: 2, From: addrB, Size: 64, HopLimit: 61, RTT: 1250 * time.Millisecond},
		{Kind: PingReplied, Seq: 2, From: addrB, Size: 64, HopLimit: 61, RTT: 1250 * time.Millisecond, Dup: true},
		{Kind: PingCorrupted, Seq: 1, From: addrB, Size: 64, HopLimit: 61, RTT: 2250 * time.Millisecond, Err: errors.New("wrong data octet #12")},
		{Kind: PingTimedOut, Seq: 3},
	}
	if fmt.Sprint(events) != fmt.Sprint(want) {
		t.Errorf("got\n%v\nwant\n%v", events, want)
	}
}

func TestPingIsDoneWithTheLastReply(t *testing.T) {
	l := newLab(t)
	p, err := l.StartPing(PingOptions{Dst: addrB, Count: 1, Interval: time.Second, Timeout: time.Hour}, func(PingEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	l.Deliver(answer(l.take()[0], addrB, asSent))
	select {
	case <-p.Done():
	default:
		t.Error("still waiting")
	}
	if d := l.clock.Deadline(); d < l.clock.Now().Add(24*time.Hour) && d <= l.clock.Now().Add(time.Hour) {
		l.clock.Advance(time.Hour) // a timer left over must do nothing
	}
	if len(l.take()) != 0 {
		t.Error("sent after the end")
	}
}

func TestPingErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		from netip.Addr
		e    module.ICMPError
		want PingEvent
	}{
		{"no route", router, module.ICMPError{Type: 1}, PingEvent{Kind: PingErrored, Seq: 1, From: router, Type: 1, Err: ErrNetUnreachable}},
		{"prohibited", router, module.ICMPError{Type: 1, Code: 1}, PingEvent{Kind: PingErrored, Seq: 1, From: router, Type: 1, Code: 1, Err: ErrPermission}},
		{"too big", router, module.ICMPError{Type: 2, Arg: 1400}, PingEvent{Kind: PingErrored, Seq: 1, From: router, Type: 2, Arg: 1400, Err: ErrMessageTooLong}},
		{"too big for our own link", addrA, module.ICMPError{Type: 2, Arg: 1400}, PingEvent{Kind: PingFailed, Seq: 1, Arg: 1400, Err: ErrMessageTooLong}},
		{"hop limit", router, module.ICMPError{Type: 3}, PingEvent{Kind: PingErrored, Seq: 1, From: router, Type: 3, Err: ErrHostUnreachable}},
		{"parameter problem", router, module.ICMPError{Type: 4, Code: 1, Arg: 6}, PingEvent{Kind: PingErrored, Seq: 1, From: router, Type: 4, Code: 1, Arg: 6, Err: ErrProtocol}},
	} {
		l := newLab(t)
		var last PingEvent
		p, err := l.StartPing(PingOptions{Dst: addrB, Size: 1452, Count: 1, Interval: time.Second, Timeout: time.Second, DontFragment: true}, func(e PingEvent) { last = e })
		if err != nil {
			t.Fatal(err)
		}
		req := l.take()[0]
		if !req.NoFrag || req.Len() != 1500 {
			t.Errorf("request of %d octets, nofrag %v", req.Len(), req.NoFrag)
		}
		other := req.Clone()
		other.Bytes()[44] ^= 1 // quotes somebody else's request
		l.Deliver(icmpError(other.Bytes(), tc.from, tc.e, 1))
		if last.Kind != PingSent {
			t.Errorf("%s: took an error about another request: %+v", tc.name, last)
		}
		l.Deliver(icmpError(req.Bytes(), tc.from, tc.e, 1))
		if fmt.Sprint(last) != fmt.Sprint(tc.want) {
			t.Errorf("%s: got %+v, want %+v", tc.name, last, tc.want)
		}
		select {
		case <-p.Done():
		default:
			t.Errorf("%s: still waiting", tc.name)
		}
	}
}

func TestPingRefused(t *testing.T) {
	l := newLab(t)
	o := PingOptions{Dst: addrB, Count: 1, Interval: time.Second, Timeout: time.Second}
	for _, tc := range []struct {
		name   string
		change func(*PingOptions)
		want   error
	}{
		{"link-local without a link", func(o *PingOptions) { o.Dst = llBoth }, ErrInvalid},
		{"unknown link", func(o *PingOptions) { o.Dst = llBoth.WithZone("x") }, ErrNoDevice},
		{"foreign source", func(o *PingOptions) { o.Source = addrB }, ErrAddrNotAvailable},
		{"too long", func(o *PingOptions) { o.Size = 65528 }, ErrInvalid},
		{"no interval", func(o *PingOptions) { o.Interval = 0 }, ErrInvalid},
		{"hop limit", func(o *PingOptions) { o.HopLimit = 256 }, ErrInvalid},
	} {
		o := o
		tc.change(&o)
		if _, err := l.StartPing(o, func(PingEvent) {}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	l.route = func(module.RouteQuery) module.RouteResult { return module.RouteResult{} }
	if err := l.Ping(context.Background(), o, func(PingEvent) {}); !errors.Is(err, ErrNetUnreachable) {
		t.Errorf("no route: %v", err)
	}
	// A route that goes away while pinging.
	l.route = nil
	var last PingEvent
	o.Count = 2
	if _, err := l.StartPing(o, func(e PingEvent) { last = e }); err != nil {
		t.Fatal(err)
	}
	l.route = func(module.RouteQuery) module.RouteResult { return module.RouteResult{} }
	l.clock.Advance(time.Second)
	if last.Kind != PingTimedOut && last.Kind != PingFailed {
		t.Errorf("%+v", last)
	}
	l.pmtu.Store(1400)
	l.route = nil
	o = PingOptions{Dst: addrB, Size: 1400 - 47, Count: 1, Interval: time.Second, Timeout: time.Second, DontFragment: true}
	if _, err := l.StartPing(o, func(e PingEvent) { last = e }); err != nil {
		t.Fatal(err)
	}
	if last.Kind != PingFailed || last.Arg != 1400 || !errors.Is(last.Err, ErrMessageTooLong) {
		t.Errorf("%+v", last)
	}
	if len(l.take()) != 1 {
		t.Error("only the first ping of all these could send")
	}
}

func TestPingGroupAndLinkLocal(t *testing.T) {
	l := newLab(t)
	var events []PingEvent
	report := func(e PingEvent) { events = append(events, e) }
	o := PingOptions{Dst: netip.MustParseAddr("ff02::1%lan1"), Count: 1, Interval: time.Second, Timeout: time.Second}
	if _, err := l.StartPing(o, report); err != nil {
		t.Fatal(err)
	}
	req := l.take()[0]
	if req.Out != 2 || addrOf(src(req.Bytes())) != llA {
		t.Errorf("out %d from %s", req.Out, addrOf(src(req.Bytes())))
	}
	r := answer(req, llBoth, asSent)
	r.In = 2
	l.Deliver(r)
	if last := events[len(events)-1]; last.Kind != PingReplied || last.From != llBoth.WithZone("lan1") {
		t.Errorf("%+v", last)
	}
	if events[0].Source != llA.WithZone("lan1") || events[0].Link != 2 {
		t.Errorf("%+v", events[0])
	}
}

func TestPingOnTheRealClock(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	replies := 0
	err := a.Ping(testContext(t), PingOptions{Dst: addrB, Size: 8, Count: 5, Interval: 2 * time.Millisecond, Timeout: 5 * time.Second}, func(e PingEvent) {
		if e.Kind == PingReplied {
			replies++
		}
	})
	if err != nil || replies != 5 {
		t.Errorf("%d replies, %v", replies, err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	err = a.Ping(ctx, PingOptions{Dst: addrB, Interval: time.Millisecond, Timeout: time.Second}, func(e PingEvent) {
		if e.Seq == 3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestPingEndsWithTheHost(t *testing.T) {
	l := newLab(t)
	p, err := l.StartPing(PingOptions{Dst: addrB, Interval: time.Second, Timeout: time.Second}, func(PingEvent) {})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	select {
	case <-p.Done():
	default:
		t.Error("goes on after Close")
	}
}

func TestTraceroute(t *testing.T) {
	for _, proto := range []TraceProto{TraceUDP, TraceICMP} {
		l := newLab(t)
		var events []HopEvent
		tr, err := l.StartTraceroute(TracerouteOptions{
			Dst: addrB, MaxHops: 30, Probes: 2, Timeout: 5 * time.Second, Size: 80, Proto: proto, Mark: 4,
		}, func(e HopEvent) { events = append(events, e) })
		if err != nil {
			t.Fatal(err)
		}
		// Hop 1 answers in the wrong order.
		ps := l.take()
		if len(ps) != 2 || ps[0].Bytes()[7] != 1 || ps[0].Len() != 80 || ps[0].Mark != 4 {
			t.Fatalf("%d probes, hop limit %d, %d octets", len(ps), ps[0].Bytes()[7], ps[0].Len())
		}
		l.clock.Advance(3 * time.Millisecond)
		l.Deliver(icmpError(ps[1].Bytes(), router, module.ICMPError{Type: 3}, 1))
		l.clock.Advance(time.Millisecond)
		l.Deliver(icmpError(ps[0].Bytes(), router, module.ICMPError{Type: 3}, 1))
		// Hop 2 is silent but for an error about an old probe.
		ps2 := l.take()
		l.Deliver(icmpError(ps[0].Bytes(), router, module.ICMPError{Type: 3}, 1))
		l.clock.Advance(5 * time.Second)
		l.Deliver(icmpError(ps2[0].Bytes(), router, module.ICMPError{Type: 3}, 1)) // too late
		// Hop 3 is the destination.
		ps = l.take()
		if len(ps) != 2 || ps[0].Bytes()[7] != 3 {
			t.Fatalf("%d probes, hop limit %d", len(ps), ps[0].Bytes()[7])
		}
		l.clock.Advance(9 * time.Millisecond)
		for _, p := range ps {
			if proto == TraceUDP {
				l.Deliver(icmpError(p.Bytes(), addrB, module.ICMPError{Type: 1, Code: 4}, 1))
			} else {
				l.Deliver(answer(p, addrB, asSent))
			}
		}
		select {
		case <-tr.Done():
		default:
			t.Error("goes on behind the destination")
		}
		typ, code := uint8(1), uint8(4)
		if proto == TraceICMP {
			typ, code = 0, 0
		}
		want := []HopEvent{
			{Hop: 1, Probe: 1, From: router, RTT: 4 * time.Millisecond, Type: 3},
			{Hop: 1, Probe: 2, From: router, RTT: 3 * time.Millisecond, Type: 3},
			{Hop: 2, Probe: 1}, {Hop: 2, Probe: 2},
			{Hop: 3, Probe: 1, From: addrB, RTT: 9 * time.Millisecond, Reached: true, Type: typ, Code: code},
			{Hop: 3, Probe: 2, From: addrB, RTT: 9 * time.Millisecond, Reached: true, Type: typ, Code: code},
		}
		if fmt.Sprint(events) != fmt.Sprint(want) {
			t.Errorf("proto %d: got\n%v\nwant\n%v", proto, events, want)
		}
		if len(l.take()) != 0 {
			t.Error("more probes")
		}
	}
}

func TestTracerouteEnds(t *testing.T) {
	l := newLab(t)
	o := TracerouteOptions{Dst: addrB, MaxHops: 2, Probes: 1, Timeout: time.Second}
	var events []HopEvent
	report := func(e HopEvent) { events = append(events, e) }
	tr, err := l.StartTraceroute(o, report)
	if err != nil {
		t.Fatal(err)
	}
	l.clock.Advance(2 * time.Second)
	select {
	case <-tr.Done():
	default:
		t.Error("goes on behind max hops")
	}
	if len(events) != 2 || events[1].Hop != 2 || events[1].From.IsValid() {
		t.Errorf("%+v", events)
	}
	l.take()
	// A router without a way for any probe.
	events = nil
	o.MaxHops = 30
	if tr, err = l.StartTraceroute(o, report); err != nil {
		t.Fatal(err)
	}
	l.Deliver(icmpError(l.take()[0].Bytes(), router, module.ICMPError{Type: 1, Code: 0}, 1))
	select {
	case <-tr.Done():
	default:
		t.Error("goes on behind a router that has no route")
	}
	if len(events) != 1 || events[0].Reached || events[0].Type != 1 {
		t.Errorf("%+v", events)
	}
	// A route that goes away ends it with an error.
	events = nil
	if tr, err = l.StartTraceroute(o, report); err != nil {
		t.Fatal(err)
	}
	l.route = func(module.RouteQuery) module.RouteResult { return module.RouteResult{} }
	l.clock.Advance(time.Second)
	<-tr.Done()
	if last := events[len(events)-1]; !errors.Is(last.Err, ErrNetUnreachable) || last.Hop != 2 {
		t.Errorf("%+v", events)
	}
	if _, err := l.StartTraceroute(o, report); !errors.Is(err, ErrNetUnreachable) {
		t.Errorf("%v", err)
	}
	for _, bad := range []TracerouteOptions{
		{Dst: addrB, MaxHops: 256, Probes: 1, Timeout: 1}, {Dst: addrB, MaxHops: 1, FirstHop: 2, Probes: 1, Timeout: 1},
		{Dst: addrB, MaxHops: 1, Timeout: 1}, {Dst: addrB, MaxHops: 1, Probes: 1}, {Dst: addrB, MaxHops: 1, Probes: 1, Timeout: 1, Proto: 2},
	} {
		if _, err := l.StartTraceroute(bad, report); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestTracerouteThroughRouters(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.wire.hops.Store(2)
	var events []HopEvent
	err := a.Traceroute(testContext(t), TracerouteOptions{Dst: addrB, MaxHops: 30, Probes: 3, Timeout: 5 * time.Second}, func(e HopEvent) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 9 || events[0].From != router || events[3].From != router.Next() || !events[8].Reached || events[8].From != addrB {
		t.Errorf("%+v", events)
	}
	if b.Stats().UDPNoPort != 3 {
		t.Errorf("b refused %d", b.Stats().UDPNoPort)
	}
}
