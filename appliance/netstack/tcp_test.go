package netstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// connectPair listens on to and dials it from a.
func connectPair(t testing.TB, a, b *node, to netip.AddrPort, o SocketOptions) (client, server *TCPConn) {
	t.Helper()
	l, err := b.ListenTCP(SocketOptions{Local: to})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			close(accepted)
			return
		}
		accepted <- c
	}()
	client, err = a.DialTCP(testContext(t), to, o)
	if err != nil {
		t.Fatal(err)
	}
	sc, ok := <-accepted
	if !ok {
		t.FailNow()
	}
	server = sc.(*TCPConn)
	t.Cleanup(func() { client.Abort(); server.Abort() })
	return client, server
}

// fills reports whether the longest segment is as long as an MTU lets it be. TCP leaves room for
// selective acknowledgements, which take up to 28 octets.
func fills(longest, mtu int) bool { return longest <= mtu && longest >= mtu-28 }

// transfer sends n octets from one end and checks that the other gets the same.
func transfer(t testing.TB, from, to *TCPConn, n int) {
	t.Helper()
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	want := sha256.Sum256(data)
	failed := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		failed <- err
	}()
	_ = to.SetReadDeadline(time.Now().Add(20 * time.Second))
	h := sha256.New()
	if _, err := io.CopyN(h, to, int64(n)); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(h.Sum(nil), want[:]) {
		t.Fatal("other octets than were sent")
	}
}

func TestTCPBulkUsesSuperpackets(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	transfer(t, client, server, 8<<20)
	transfer(t, server, client, 8<<20)
	as, bs := a.Stats(), b.Stats()
	if as.SuperpacketsOut == 0 || bs.SuperpacketsOut == 0 || as.SuperpacketsIn == 0 || bs.SuperpacketsIn == 0 {
		t.Errorf("superpackets: a %d out %d in, b %d out %d in", as.SuperpacketsOut, as.SuperpacketsIn, bs.SuperpacketsOut, bs.SuperpacketsIn)
	}
	// 8 MiB of segments of 1428 octets would be more than 5800.
	if as.TCPSegmentsOut > 3000 {
		t.Errorf("%d packets for 8 MiB: no superpackets to speak of", as.TCPSegmentsOut)
	}
	if c, s := client.LocalAddr().String(), server.RemoteAddr().String(); c != s {
		t.Errorf("client at %s, server sees %s", c, s)
	}
}

func TestTCPSegmentOnTheWire(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.setKeep()
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{Mark: 7, HopLimit: 9, TrafficClass: 0x28})
	transfer(t, client, server, 100<<10)
	labels := map[uint32]bool{}
	super := false
	for _, p := range a.kept() {
		h, err := wire.ParseIPv6(p.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if p.Mark != 7 || h.HopLimit() != 9 || h.TrafficClass() != 0x28 || p.Out != 0 || p.In != 0 {
			t.Fatalf("mark %d hop limit %d class %#x out %d in %d", p.Mark, h.HopLimit(), h.TrafficClass(), p.Out, p.In)
		}
		if p.GSO.Csum != packet.CsumPartial || p.GSO.CsumStart != 40 || p.GSO.CsumOffset != 16 {
			t.Fatalf("checksum state %+v", p.GSO)
		}
		labels[h.FlowLabel()] = true
		if p.GSO.Type == packet.GSOTCP6 {
			super = true
			if p.GSO.Size+p.GSO.HdrLen > 1500 || p.Len() <= p.GSO.Size+p.GSO.HdrLen || p.Len() > 65535 {
				t.Fatalf("superpacket of %d octets, %+v", p.Len(), p.GSO)
			}
		}
	}
	if !super {
		t.Error("no superpacket among 100 KiB")
	}
	if len(labels) != 1 || labels[0] {
		t.Errorf("flow labels %v, want one, not 0 (RFC 6437 3)", labels)
	}
}

func TestTCPFromOwnToOwnAddressCrossesThePath(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	client, server := connectPair(t, a, a, at(addrA2, 80), SocketOptions{})
	before := a.Stats().TCPSegmentsOut
	transfer(t, client, server, 1<<20)
	if a.Stats().TCPSegmentsOut == before {
		t.Error("nothing crossed the path")
	}
}

func TestPacketTooBig1280AdaptsTCP(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	transfer(t, client, server, 64<<10)
	if got := a.wire.last.Load(); got > 1500 {
		t.Fatalf("segments of %d", got)
	}
	a.wire.mtu.Store(1280)
	transfer(t, client, server, 1<<20)
	if a.Stats().ErrorsIn == 0 {
		t.Error("no Packet Too Big came in")
	}
	a.setKeep()
	transfer(t, client, server, 256<<10)
	longest := 0
	for _, p := range a.kept() {
		longest = max(longest, p.SegmentLen())
	}
	if !fills(longest, 1280) {
		t.Errorf("longest segment after the Packet Too Big: %d", longest)
	}
}

func TestPacketTooBigBelowMinimumIsIgnored(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.setKeep()
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	transfer(t, client, server, 10<<10)
	ps := a.kept()
	a.Deliver(icmpError(ps[len(ps)-1].Bytes(), router, module.ICMPError{Type: wire.TypePacketTooBig, Arg: 500}, 1))
	if s := a.Stats(); s.PacketTooBigIgnored != 1 || s.ErrorsIn != 0 {
		t.Errorf("%+v", s)
	}
	transfer(t, client, server, 1<<20)
	longest := 0
	for _, p := range a.kept() {
		longest = max(longest, p.SegmentLen())
	}
	if !fills(longest, 1500) {
		t.Errorf("longest segment %d, want 1500", longest)
	}
}

func TestSentKnowsConnections(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.setKeep()
	client, _ := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	p := a.kept()[0].Bytes()
	if !a.Sent(wire.TCP, *src(p), *dst(p), p[40:]) {
		t.Error("the connection is ours")
	}
	other := append([]byte(nil), p[40:]...)
	other[0] ^= 1
	if a.Sent(wire.TCP, *src(p), *dst(p), other) {
		t.Error("no such connection")
	}
	// A listener has sent nothing to anybody.
	l, err := a.ListenTCP(SocketOptions{Local: at(netip.IPv6Unspecified(), 8080)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a.Sent(wire.TCP, *src(p), *dst(p), []byte{8080 >> 8, 8080 & 0xff, 0, 80}) {
		t.Error("a listener is no connection")
	}
	client.Abort()
}

func TestDialTCPErrors(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	if _, err := a.DialTCP(testContext(t), at(addrB, 81), SocketOptions{}); !errors.Is(err, ErrConnectionRefused) {
		t.Errorf("closed port: %v", err)
	}
	for _, tc := range []struct {
		typ  packet.RouteType
		none bool
		want error
	}{
		{none: true, want: ErrNetUnreachable}, {typ: packet.RouteBlackhole, want: ErrInvalid},
		{typ: packet.RouteUnreachable, want: ErrHostUnreachable}, {typ: packet.RouteProhibit, want: ErrPermission},
		{typ: packet.RouteThrow, want: ErrNetUnreachable},
	} {
		a.route = func(module.RouteQuery) module.RouteResult {
			if tc.none {
				return module.RouteResult{}
			}
			return module.RouteResult{Route: &packet.Route{Type: tc.typ}}
		}
		if _, err := a.DialTCP(testContext(t), at(addrB, 80), SocketOptions{}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.typ, err, tc.want)
		}
	}
	a.route = nil
	if _, err := a.DialTCP(testContext(t), at(addrB, 80), SocketOptions{Local: at(addrB, 0)}); !errors.Is(err, ErrAddrNotAvailable) {
		t.Errorf("foreign source: %v", err)
	}
	if _, err := a.DialTCP(testContext(t), at(llBoth, 80), SocketOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("link-local without a link: %v", err)
	}
	if _, err := a.DialTCP(testContext(t), at(llBoth.WithZone("wan9"), 80), SocketOptions{}); !errors.Is(err, ErrNoDevice) {
		t.Errorf("unknown link: %v", err)
	}
	if _, err := a.DialTCP(testContext(t), at(addrB, 80), SocketOptions{ReportErrors: true}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an option that means nothing to TCP: %v", err)
	}
	if _, err := b.ListenTCP(SocketOptions{Local: at(addrA, 80)}); !errors.Is(err, ErrAddrNotAvailable) {
		t.Errorf("listen on a foreign address: %v", err)
	}
	b.wire.drop = func(p *packet.Packet) bool { // a router says no
		a.Deliver(icmpError(p.Bytes(), router, module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodeAddressUnreachable}, 1))
		return true
	}
	if _, err := a.DialTCP(testContext(t), at(addrB, 80), SocketOptions{}); !errors.Is(err, ErrHostUnreachable) {
		t.Errorf("address unreachable: %v", err)
	}
}

// Soft errors let a connection live and a connection attempt go on.
func TestSoftErrorsDoNotEndTCP(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	l, err := b.ListenTCP(SocketOptions{Local: at(netip.Addr{}, 80)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var once bool
	a.wire.drop = func(p *packet.Packet) bool { // the first SYN meets a routing loop
		if once {
			return false
		}
		once = true
		a.Deliver(icmpError(p.Bytes(), router, module.ICMPError{Type: wire.TypeTimeExceeded}, 1))
		return false
	}
	c, err := a.DialTCP(testContext(t), at(addrB, 80), SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	sc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server := sc.(*TCPConn)
	defer server.Abort()
	a.setKeep()
	transfer(t, c, server, 1000)
	sent := a.kept()[0].Bytes()
	for _, e := range []module.ICMPError{{Type: 1}, {Type: 1, Code: 1}, {Type: 1, Code: 3}, {Type: 1, Code: 4}, {Type: 3}, {Type: 4, Code: 1}} {
		a.Deliver(icmpError(sent, router, e, 1))
	}
	transfer(t, c, server, 100<<10)
	if n := a.Stats().ErrorsIn; n != 7 {
		t.Errorf("%d errors reached TCP", n)
	}
}

func TestAcceptedConnectionsHaveTheListenersOptions(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	l, err := b.ListenTCP(SocketOptions{Local: at(addrB, 80), Mark: 5, HopLimit: 11, TrafficClass: 0x20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.setKeep()
	c, err := a.DialTCP(testContext(t), at(addrB, 80), SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	if _, err := c.Write([]byte("early")); err != nil { // acknowledged before Accept
		t.Fatal(err)
	}
	sc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server := sc.(*TCPConn)
	defer server.Abort()
	transfer(t, server, c, 1000)
	ps := b.kept()
	if ps[0].Bytes()[40+13]&0x12 != 0x12 {
		t.Fatal("the first packet is no SYN-ACK")
	}
	for i, p := range ps {
		if p.Mark != 5 || p.Bytes()[7] != 11 || trafficClass(p.Bytes()) != 0x20 {
			t.Errorf("packet %d: mark %d hop limit %d class %#x", i, p.Mark, p.Bytes()[7], trafficClass(p.Bytes()))
		}
	}
}

func TestTCPLinkLocalOnTwoLinks(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.setKeep()
	for i, zone := range []string{"lan0", "lan1"} {
		to := at(llBoth.WithZone(zone), 80)
		client, server := connectPair(t, a, b, to, SocketOptions{Local: at(netip.Addr{}, 5000)})
		transfer(t, client, server, 64<<10)
		transfer(t, server, client, 64<<10)
		if got := client.RemoteAddr().String(); got != "[fe80::1%"+zone+"]:80" {
			t.Errorf("remote %s", got)
		}
		if got := server.RemoteAddr().String(); got != "[fe80::a%"+zone+"]:5000" {
			t.Errorf("the server sees %s", got)
		}
		ps := a.kept()
		if out := ps[len(ps)-1].Out; out != i+1 {
			t.Errorf("%s: left by link %d", zone, out)
		}
	}
}

func TestTCPBoundToLinkLeavesByIt(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.setKeep()
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{Link: 2})
	transfer(t, client, server, 64<<10)
	for _, p := range a.kept() {
		if p.Out != 2 || addrOf(src(p.Bytes())) != addrA2 {
			t.Fatalf("left by link %d from %s", p.Out, addrOf(src(p.Bytes())))
		}
	}
}

func TestTCPSourceFollowsMark(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	client, _ := connectPair(t, a, b, at(addrB, 80), SocketOptions{Mark: 2})
	if got := client.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); got != addrA2 {
		t.Errorf("source %s, want %s", got, addrA2)
	}
}

func TestTCPMSSFollowsTheLinks(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.wire.mtu.Store(9000)
	a.LinksChanged(testLinks(9000))
	b.LinksChanged(testLinks(9000))
	a.setKeep()
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	transfer(t, client, server, 1<<20)
	longest := 0
	for _, p := range a.kept() {
		longest = max(longest, p.SegmentLen())
	}
	if !fills(longest, 9000) {
		t.Errorf("longest segment %d, want 9000", longest)
	}
	a.pmtu.Store(1400)
	client, server = connectPair(t, a, b, at(addrB, 81), SocketOptions{})
	n := len(a.kept())
	transfer(t, client, server, 1<<20)
	longest = 0
	for _, p := range a.kept()[n:] {
		longest = max(longest, p.SegmentLen())
	}
	if !fills(longest, 1400) {
		t.Errorf("longest segment %d over a path known to take 1400", longest)
	}
}

// announced returns the MSS option of a SYN or SYN-ACK among packets.
func announced(t *testing.T, ps []*packet.Packet) int {
	t.Helper()
	for _, p := range ps {
		b := p.Bytes()[40:]
		if b[13]&tcpSYN == 0 {
			continue
		}
		o := header.ParseSynOptions(b[20:int(b[12]>>4)*4], b[13]&0x10 != 0)
		if want := wire.Fold(wire.PseudoHeader(src(p.Bytes()), dst(p.Bytes()), wire.TCP, len(b))); p.GSO.Csum != packet.CsumPartial || binary.BigEndian.Uint16(b[16:]) != want {
			t.Errorf("the checksum is not left to the path: %+v", p.GSO)
		}
		return int(o.MSS)
	}
	t.Fatal("no SYN")
	return 0
}

// TestAdvMSS: SYN and SYN-ACK announce no more than their route's advmss, and the other end keeps to
// it; without one they announce what fits the link.
func TestAdvMSS(t *testing.T) {
	for _, tc := range []struct{ advmss, want int }{{0, 1440}, {1340, 1340}, {9000, 1440}, {600, 600}} {
		a, b := newPair(t, clock.NewReal())
		limited := func(n *node, port func(module.RouteQuery) uint16) {
			n.route = func(q module.RouteQuery) module.RouteResult {
				r := &packet.Route{}
				if q.Proto == wire.TCP && port(q) == 443 && q.Mark == 7 && q.DSField == 0x20 { // as a rule would
					r.AdvMSS = tc.advmss
				}
				return module.RouteResult{Route: r, Out: 1, Src: n.source(q)}
			}
		}
		limited(a, func(q module.RouteQuery) uint16 { return q.DPort })
		a.setKeep()
		b.setKeep()
		o := SocketOptions{Mark: 7, TrafficClass: 0x20}
		client, server := connectPair(t, a, b, at(addrB, 443), o)
		if syn, synAck := announced(t, a.kept()), announced(t, b.kept()); syn != tc.want || synAck != 1440 {
			t.Errorf("advmss %d where the client is: SYN %d, SYN-ACK %d", tc.advmss, syn, synAck)
		}
		transfer(t, server, client, 100<<10)
		for _, p := range b.kept() {
			if n := p.SegmentLen() - 60; n > tc.want {
				t.Fatalf("advmss %d: a segment of %d", tc.advmss, n)
			}
		}

		a, b = newPair(t, clock.NewReal())
		limited(b, func(q module.RouteQuery) uint16 { return q.SPort })
		a.setKeep()
		b.setKeep()
		l, err := b.ListenTCP(SocketOptions{Local: at(addrB, 443), Mark: o.Mark, TrafficClass: o.TrafficClass})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := a.DialTCP(testContext(t), at(addrB, 443), SocketOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Abort()
		if syn, synAck := announced(t, a.kept()), announced(t, b.kept()); syn != 1440 || synAck != tc.want {
			t.Errorf("advmss %d where the server is: SYN %d, SYN-ACK %d", tc.advmss, syn, synAck)
		}
	}
}

func TestAddressesFollow(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	l, err := b.ListenTCP(SocketOptions{Local: at(netip.Addr{}, 80)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	dial := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		c, err := a.DialTCP(ctx, at(addrB, 80), SocketOptions{})
		if err == nil {
			c.Abort()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatal(err)
	}
	b.AddrsChanged(module.NewAddrs([]*module.Addr{{Addr: addrB, Link: 1, Tentative: true}}, nil))
	if err := dial(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a tentative address answers: %v", err)
	}
	b.AddrsChanged(module.NewAddrs([]*module.Addr{{Addr: addrB, Link: 1}}, nil))
	if err := dial(); err != nil {
		t.Error(err)
	}
	// Links may go and come back; an address may be heard of before its link.
	b.LinksChanged(module.NewLinks(nil))
	b.AddrsChanged(module.NewAddrs([]*module.Addr{{Addr: addrB, Link: 1}, {Addr: llBoth, Link: 2}}, nil))
	b.LinksChanged(testLinks(1500))
	client, server := connectPair(t, a, b, at(llBoth.WithZone("lan1"), 81), SocketOptions{})
	transfer(t, client, server, 1000)
}

func TestTCPSegmentWithExtensionHeaders(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	// Every segment gets a Destination Options header on the way; netstack must not see it.
	a.wire.drop = func(p *packet.Packet) bool {
		if p.GSO.Type != packet.GSONone {
			return false
		}
		ext := append([]byte{wire.TCP, 0, wire.OptPadN, 4, 0, 0, 0, 0}, p.Bytes()[40:]...)
		n := p.Len()
		p.Extend(8)
		copy(p.Bytes()[40:], ext)
		p.Bytes()[6] = wire.DestOpts
		p.Bytes()[4], p.Bytes()[5] = byte((n-32)>>8), byte(n-32)
		p.GSO.CsumStart += 8
		return false
	}
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	transfer(t, client, server, 100<<10)
	transfer(t, server, client, 100<<10)
}

func TestBadTCPChecksumIsDropped(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	seg := make([]byte, 20)
	seg[3], seg[12], seg[13] = 80, 5<<4, 2
	p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 20, NextHeader: wire.TCP, HopLimit: 64, Src: addrB, Dst: addrA}))
	copy(p.Extend(20), seg)
	p.In, p.Proto, p.TransOff = 1, wire.TCP, 40
	a.Deliver(p)
	if s := a.Stats(); s.ChecksumErrors != 1 || s.TCPSegmentsIn != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	client, server := connectPair(t, a, b, at(addrB, 80), SocketOptions{})
	l, err := b.ListenTCP(SocketOptions{Local: at(netip.Addr{}, 81)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { _, err := l.Accept(); ended <- err }()
	go func() { _, err := server.Read(make([]byte, 1)); ended <- err }()
	b.Close()
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("no error")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("still waiting after Close")
		}
	}
	if b.Deliver(packet.New(make([]byte, 60))) {
		t.Error("a closed host takes packets")
	}
	if _, err := b.ListenTCP(SocketOptions{Local: at(netip.Addr{}, 82)}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after Close: %v", err)
	}
	if _, err := b.ListenUDP(SocketOptions{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen after Close: %v", err)
	}
	client.Abort()
}
