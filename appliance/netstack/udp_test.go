package netstack

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// The rig delivers on another goroutine: reads that must succeed wait this long at most.
func soon() time.Time { return time.Now().Add(10 * time.Second) }

func listenUDP(t testing.TB, n *node, o SocketOptions) *UDPConn {
	t.Helper()
	c, err := n.ListenUDP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(soon()); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialUDP(t testing.TB, n *node, to netip.AddrPort, o SocketOptions) *UDPConn {
	t.Helper()
	c, err := n.DialUDP(to, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(soon()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestUDPInfoBothWays(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	a.setKeep()
	server := listenUDP(t, b, SocketOptions{Local: at(netip.IPv6Unspecified(), 53), ReportExtHeaders: true})
	client := listenUDP(t, a, SocketOptions{Local: at(netip.Addr{}, 4000)})
	hbh := []byte{0, 0, wire.OptRouterAlert, 2, 0, 0, wire.OptPadN, 0}
	opts := append([]byte{0, 1, wire.OptPadN, 12}, make([]byte, 12)...)
	out := Info{
		Local: addrA2, Link: 2, HopLimit: 7, TrafficClass: 0xb8, Mark: 9, DontFragment: true,
		ExtHeaders: []ExtHeader{{wire.HopByHop, hbh}, {wire.DestOpts, opts}},
	}
	if _, err := client.WriteMsg([]byte("question"), at(addrB, 53), &out); err != nil {
		t.Fatal(err)
	}
	b1 := make([]byte, 100)
	var in Info
	n, from, err := server.ReadMsg(b1, &in)
	if err != nil {
		t.Fatal(err)
	}
	if string(b1[:n]) != "question" || from != at(addrA2, 4000) {
		t.Errorf("got %q from %s", b1[:n], from)
	}
	if in.Local != addrB || in.Link != 2 || in.HopLimit != 7 || in.TrafficClass != 0xb8 {
		t.Errorf("info %+v", in)
	}
	hbh[0], opts[0] = wire.DestOpts, wire.UDP // as on the wire
	want := []ExtHeader{{wire.HopByHop, hbh}, {wire.DestOpts, opts}}
	if !slices.EqualFunc(in.ExtHeaders, want, func(a, b ExtHeader) bool { return a.Proto == b.Proto && bytes.Equal(a.Data, b.Data) }) {
		t.Errorf("extension headers %x, want %x", in.ExtHeaders, want)
	}
	p := a.kept()[0]
	if p.Mark != 9 || !p.NoFrag || p.Out != 2 || p.In != 0 {
		t.Errorf("packet mark %d nofrag %v out %d in %d", p.Mark, p.NoFrag, p.Out, p.In)
	}
	// The answer comes from the address that was asked.
	if _, err := server.WriteMsg([]byte("answer"), from, &Info{Local: in.Local}); err != nil {
		t.Fatal(err)
	}
	n, from, err = client.ReadMsg(b1, &in)
	if err != nil || string(b1[:n]) != "answer" || from != at(addrB, 53) {
		t.Errorf("got %q from %s: %v", b1[:n], from, err)
	}
	if in.Local != addrA2 || in.HopLimit != 64 || in.TrafficClass != 0 || len(in.ExtHeaders) != 0 {
		t.Errorf("info %+v", in)
	}
}

// The octets of a datagram with extension headers, checked against RFC 8200 and RFC 768 by hand.
func TestUDPGoldenOctets(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	a.setKeep()
	c := listenUDP(t, a, SocketOptions{Local: at(addrA, 1000)})
	info := Info{HopLimit: 3, TrafficClass: 0x12, ExtHeaders: []ExtHeader{{wire.DestOpts, []byte{0, 0, 1, 4, 0, 0, 0, 0}}}}
	if _, err := c.WriteMsg([]byte{0xaa, 0xbb, 0xcc}, at(addrB, 2000), &info); err != nil {
		t.Fatal(err)
	}
	p := a.kept()[0]
	b := slices.Clone(p.Bytes())
	if b[1]&0x0f|b[2]|b[3] == 0 {
		t.Error("no flow label")
	}
	b[1], b[2], b[3] = b[1]&0xf0, 0, 0
	sum := ^wire.Fold(wire.Sum(b[p.GSO.CsumStart:], 0)) // what the path or the port does
	b[p.GSO.CsumStart+p.GSO.CsumOffset], b[p.GSO.CsumStart+p.GSO.CsumOffset+1] = byte(sum>>8), byte(sum)
	want := []byte{
		0x61, 0x20, 0, 0, 0, 19, 60, 3, // version, class 0x12; payload 8+8+3; Destination Options; hop limit
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa,
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb,
		17, 0, 1, 4, 0, 0, 0, 0, // UDP follows; PadN
		0x03, 0xe8, 0x07, 0xd0, 0, 11, 0x21, 0xdd, // ports 1000, 2000; length 11; checksum
		0xaa, 0xbb, 0xcc,
	}
	if !bytes.Equal(b, want) {
		t.Errorf("got\n%x\nwant\n%x", b, want)
	}
}

func TestUDPRefusesWhatCannotBeSent(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	c := listenUDP(t, a, SocketOptions{})
	bound := listenUDP(t, a, SocketOptions{Link: 1})
	to := at(addrB, 9)
	eight := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	for _, tc := range []struct {
		name string
		c    *UDPConn
		size int
		to   netip.AddrPort
		info Info
		want error
	}{
		{name: "no destination", to: netip.AddrPort{}, want: ErrNotConnected},
		{name: "port 0", to: at(addrB, 0), want: ErrInvalid},
		{name: "foreign source", to: to, info: Info{Local: addrB}, want: ErrAddrNotAvailable},
		{name: "link-local without a link", to: at(llBoth, 9), want: ErrInvalid},
		{name: "unknown link", to: at(llBoth.WithZone("nope"), 9), want: ErrNoDevice},
		{name: "a group as source", to: to, info: Info{Local: netip.MustParseAddr("ff02::1")}, want: ErrInvalid},
		{name: "two links", to: at(llBoth.WithZone("lan1"), 9), info: Info{Link: 1}, want: ErrInvalid},
		{name: "not the socket's link", c: bound, to: to, info: Info{Link: 2}, want: ErrInvalid},
		{name: "hop limit", to: to, info: Info{HopLimit: 256}, want: ErrInvalid},
		{name: "traffic class", to: to, info: Info{TrafficClass: -1}, want: ErrInvalid},
		{name: "65528 octets", size: 65528, to: to, want: ErrMessageTooLong},
		{name: "IPv4", to: netip.MustParseAddrPort("[::ffff:1.2.3.4]:9"), want: ErrInvalid},
		{name: "extension header cut short", to: to, info: Info{ExtHeaders: []ExtHeader{{wire.DestOpts, eight[:7]}}}, want: ErrInvalid},
		{name: "extension header of another length", to: to, info: Info{ExtHeaders: []ExtHeader{{wire.DestOpts, append([]byte{0, 0}, make([]byte, 14)...)}}}, want: ErrInvalid},
		{name: "Hop-by-Hop second", to: to, info: Info{ExtHeaders: []ExtHeader{{wire.DestOpts, eight}, {wire.HopByHop, eight}}}, want: ErrInvalid},
		{name: "a fragment", to: to, info: Info{ExtHeaders: []ExtHeader{{wire.Fragment, eight}}}, want: ErrInvalid},
		{name: "segments left", to: to, info: Info{ExtHeaders: []ExtHeader{{wire.Routing, []byte{0, 0, 4, 1, 0, 0, 0, 0}}}}, want: ErrInvalid},
	} {
		s := tc.c
		if s == nil {
			s = c
		}
		if _, err := s.WriteMsg(make([]byte, tc.size), tc.to, &tc.info); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	a.route = func(module.RouteQuery) module.RouteResult { return module.RouteResult{} }
	if _, err := c.WriteMsg(nil, to, nil); !errors.Is(err, ErrNetUnreachable) {
		t.Errorf("no route: %v", err)
	}
	if a.Stats().UDPOut != 0 {
		t.Error("something was sent")
	}
}

func TestUDPLongestDatagramIsLeftToThePath(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	server := listenUDP(t, b, SocketOptions{Local: at(netip.Addr{}, 9), ReceiveBuffer: 1 << 20})
	client := dialUDP(t, a, at(addrB, 9), SocketOptions{})
	for _, n := range []int{0, 1, 1452, 1453, 65527} {
		if _, err := client.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		got, _, err := server.ReadMsg(make([]byte, 65536), nil)
		if err != nil || got != n {
			t.Errorf("%d octets: got %d, %v", n, got, err)
		}
	}
}

func TestUDPMulticast(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	group := netip.MustParseAddr("ff02::77")
	joined := listenUDP(t, b, SocketOptions{Local: at(netip.Addr{}, 77), Reuse: true})
	other := listenUDP(t, b, SocketOptions{Local: at(netip.Addr{}, 77), Reuse: true})
	if err := joined.JoinGroup(2, group); err != nil {
		t.Fatal(err)
	}
	if err := joined.JoinGroup(2, group); !errors.Is(err, ErrAddrInUse) {
		t.Errorf("joined twice: %v", err)
	}
	if err := other.JoinGroup(1, group); err != nil {
		t.Fatal(err)
	}
	if err := other.JoinGroup(1, addrB); !errors.Is(err, ErrInvalid) {
		t.Errorf("joined a unicast address: %v", err)
	}
	b.mu.Lock()
	if b.joined[zonedAddr{group, 1}] != 1 || b.joined[zonedAddr{group, 2}] != 1 {
		t.Errorf("MLD was told %v", b.joined)
	}
	b.mu.Unlock()
	local := listenUDP(t, a, SocketOptions{Local: at(netip.Addr{}, 77), Reuse: true})
	if err := local.JoinGroup(0, group.WithZone("lan1")); err != nil {
		t.Fatal(err)
	}
	sender := listenUDP(t, a, SocketOptions{})
	if _, err := sender.WriteMsg([]byte("all"), at(group.WithZone("lan1"), 77), nil); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	var info Info
	n, from, err := joined.ReadMsg(buf, &info)
	if err != nil || string(buf[:n]) != "all" || from.Addr() != llA.WithZone("lan1") {
		t.Errorf("%q from %s: %v", buf[:n], from, err)
	}
	if info.Local != group.WithZone("lan1") || info.Link != 2 || info.HopLimit != 1 {
		t.Errorf("info %+v", info)
	}
	// The sender's node hears itself (RFC 3493 5.2), unless the socket says otherwise.
	if n, _, err := local.ReadMsg(buf, nil); err != nil || string(buf[:n]) != "all" {
		t.Errorf("loop: %q %v", buf[:n], err)
	}
	silent := listenUDP(t, a, SocketOptions{NoMulticastLoop: true, MulticastHopLimit: 5})
	if _, err := silent.WriteMsg([]byte("quiet"), at(group.WithZone("lan1"), 77), nil); err != nil {
		t.Fatal(err)
	}
	if n, _, err := joined.ReadMsg(buf, &info); err != nil || string(buf[:n]) != "quiet" || info.HopLimit != 5 {
		t.Errorf("%q %+v %v", buf[:n], info, err)
	}
	if err := local.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if n, _, err := local.ReadMsg(buf, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %q, %v", buf[:n], err)
	}
	_ = other.SetReadDeadline(time.Now())
	if n, _, err := other.ReadMsg(buf, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the socket on the other link got %q, %v", buf[:n], err)
	}
	if err := joined.LeaveGroup(2, group); err != nil {
		t.Error(err)
	}
	if err := joined.LeaveGroup(2, group); !errors.Is(err, ErrAddrNotAvailable) {
		t.Errorf("left twice: %v", err)
	}
	other.Close()
	b.mu.Lock()
	if b.joined[zonedAddr{group, 1}] != 0 || b.joined[zonedAddr{group, 2}] != 0 {
		t.Errorf("left over: %v", b.joined)
	}
	b.mu.Unlock()
}

func TestUDPMulticastReachesNoneIsNotAnswered(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	c := listenUDP(t, a, SocketOptions{})
	group := netip.MustParseAddr("ff02::78")
	if _, err := c.WriteMsg(nil, at(group.WithZone("lan0"), 7), nil); err != nil {
		t.Fatal(err)
	}
	// One that is answered, behind it in the queue.
	d := dialUDP(t, a, at(addrB, 7), SocketOptions{})
	if _, err := d.Write(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(make([]byte, 1)); !errors.Is(err, ErrConnectionRefused) {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) != 1 {
		t.Errorf("%d errors, want the unicast one only (RFC 4443 2.4(e.3))", len(b.errors))
	}
}

func TestUDPBindConflicts(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	type opts = SocketOptions
	any5 := at(netip.IPv6Unspecified(), 5)
	for _, tc := range []struct {
		name          string
		first, second opts
		want          error
	}{
		{"same", opts{Local: any5}, opts{Local: any5}, ErrAddrInUse},
		{"any and one", opts{Local: any5}, opts{Local: at(addrA, 5)}, ErrAddrInUse},
		{"two addresses", opts{Local: at(addrA2, 5)}, opts{Local: at(addrA, 5)}, nil},
		{"two links", opts{Local: any5, Link: 1}, opts{Local: any5, Link: 2}, nil},
		{"the same link-local on two links", opts{Local: at(llA.WithZone("lan0"), 5)}, opts{Local: at(llA.WithZone("lan1"), 5)}, nil},
		{"both share", opts{Local: any5, Reuse: true}, opts{Local: any5, Reuse: true}, nil},
		{"one shares", opts{Local: any5}, opts{Local: any5, Reuse: true}, ErrAddrInUse},
		{"foreign", opts{}, opts{Local: at(addrB, 5)}, ErrAddrNotAvailable},
		{"no such link", opts{}, opts{Link: 9}, ErrNoDevice},
		{"link-local without link", opts{}, opts{Local: at(llA, 5)}, ErrInvalid},
	} {
		c, err := a.ListenUDP(tc.first)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		d, err := a.ListenUDP(tc.second)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
		if err == nil {
			d.Close()
		}
		c.Close()
	}
}

func TestUDPClosestSocketWins(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	wide := listenUDP(t, b, SocketOptions{Local: at(netip.Addr{}, 9), Reuse: true})
	narrow := listenUDP(t, b, SocketOptions{Local: at(addrB, 9), Reuse: true})
	client := listenUDP(t, a, SocketOptions{Local: at(addrA, 1234)})
	dialed := dialUDP(t, b, at(addrA, 1234), SocketOptions{Local: at(addrB, 9), Reuse: true})
	other := listenUDP(t, a, SocketOptions{Local: at(addrA2, 1234)})
	buf := make([]byte, 10)
	for _, tc := range []struct {
		from *UDPConn
		want *UDPConn
	}{{client, dialed}, {other, narrow}} {
		if _, err := tc.from.WriteMsg([]byte("x"), at(addrB, 9), nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := tc.want.ReadMsg(buf, nil); err != nil {
			t.Errorf("from %s: %v", tc.from.LocalAddrPort(), err)
		}
	}
	for _, c := range []*UDPConn{wide, narrow, dialed} {
		_ = c.SetReadDeadline(time.Now())
		if _, _, err := c.ReadMsg(buf, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s got another copy: %v", c.LocalAddrPort(), err)
		}
	}
}

func TestUDPLinkLocalOnTwoLinks(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	for _, zone := range []string{"lan0", "lan1"} {
		server := listenUDP(t, b, SocketOptions{Local: at(llBoth.WithZone(zone), 9)})
		client := dialUDP(t, a, at(llBoth.WithZone(zone), 9), SocketOptions{})
		if _, err := client.Write([]byte(zone)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		n, from, err := server.ReadMsg(buf, nil)
		if err != nil || string(buf[:n]) != zone || from.Addr() != llA.WithZone(zone) {
			t.Errorf("%s: %q from %s, %v", zone, buf[:n], from, err)
		}
		if _, err := server.WriteMsg([]byte("back"), from, nil); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != "back" {
			t.Errorf("%s: back %q, %v", zone, buf[:n], err)
		}
	}
}

func TestUDPFromOwnToOwnAddress(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	server := listenUDP(t, a, SocketOptions{Local: at(addrA2, 9)})
	client := dialUDP(t, a, at(addrA2, 9), SocketOptions{})
	if _, err := client.Write([]byte("me")); err != nil {
		t.Fatal(err)
	}
	var info Info
	n, from, err := server.ReadMsg(make([]byte, 9), &info)
	if err != nil || n != 2 || from.Addr() != addrA || info.Link != 0 {
		t.Errorf("n %d from %s info %+v: %v", n, from, info, err)
	}
}

func udpPacket(t testing.TB, change func(u []byte)) *packet.Packet {
	u := []byte{0, 9, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4}
	p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 12, NextHeader: wire.UDP, HopLimit: 64, Src: addrB, Dst: addrA}))
	p2 := packet.NewBuffer(100)
	copy(p2.Extend(40), p.Bytes())
	copy(p2.Extend(12), u)
	b := p2.Bytes()
	sum := wire.Checksum(src(b), dst(b), wire.UDP, b[40:])
	b[46], b[47] = byte(sum>>8), byte(sum)
	change(b[40:])
	p2.In, p2.Proto, p2.TransOff = 1, wire.UDP, 40
	return p2
}

func TestUDPMalformed(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	c := listenUDP(t, a, SocketOptions{Local: at(netip.Addr{}, 9)})
	for _, tc := range []struct {
		name              string
		change            func(u []byte)
		malformed, checks uint64
	}{
		{"length longer than the packet", func(u []byte) { u[5] = 13 }, 1, 0},
		{"length shorter than the header", func(u []byte) { u[5] = 7 }, 1, 0},
		{"length zero", func(u []byte) { u[5] = 0 }, 1, 0},
		{"no checksum (RFC 8200 8.1)", func(u []byte) { u[6], u[7] = 0, 0 }, 0, 1},
		{"checksum", func(u []byte) { u[8]++ }, 0, 1},
		{"right", func([]byte) {}, 0, 0},
	} {
		before := a.Stats()
		a.Deliver(udpPacket(t, tc.change))
		after := a.Stats()
		if after.Malformed-before.Malformed != tc.malformed || after.ChecksumErrors-before.ChecksumErrors != tc.checks {
			t.Errorf("%s: malformed %d, checksum %d", tc.name, after.Malformed-before.Malformed, after.ChecksumErrors-before.ChecksumErrors)
		}
	}
	for n := range 8 { // every truncated header
		p := udpPacket(t, func([]byte) {})
		p.Trim(40 + n)
		a.Deliver(p)
	}
	if n, err := c.Read(make([]byte, 10)); err != nil || n != 4 {
		t.Errorf("the right one: %d, %v", n, err)
	}
	if s := a.Stats(); s.Malformed != 3+8 {
		t.Errorf("%d malformed", s.Malformed)
	}
}

func TestUDPReceiveBufferIsBounded(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	c := listenUDP(t, a, SocketOptions{Local: at(netip.Addr{}, 9), ReceiveBuffer: 10 * (4 + datagramOverhead)})
	p := udpPacket(t, func([]byte) {})
	for range 25 {
		a.Deliver(p)
	}
	if s := a.Stats(); s.SocketFull != 15 || s.UDPIn != 25 {
		t.Errorf("%d refused of %d", s.SocketFull, s.UDPIn)
	}
	for range 10 {
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	a.Deliver(p)
	if _, err := c.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
}

func TestUDPDeliverDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	a, _ := newPair(t, clock.NewReal())
	c := listenUDP(t, a, SocketOptions{Local: at(netip.Addr{}, 9)})
	p := udpPacket(t, func([]byte) {})
	buf := make([]byte, 10)
	var info Info
	if n := testing.AllocsPerRun(200, func() {
		a.Deliver(p)
		if _, _, err := c.ReadMsg(buf, &info); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a datagram", n)
	}
}

func TestUDPCloseAndDeadline(t *testing.T) {
	m := clock.NewManual()
	a, _ := newPair(t, m)
	c, err := a.ListenUDP(SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(m.Wall().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	m.Advance(5 * time.Second)
	if _, err := c.Read(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if _, err := c.WriteMsg(nil, at(addrB, 1), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

func TestUDPIsANetConn(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	server := listenUDP(t, b, SocketOptions{Local: at(netip.Addr{}, 7)})
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := server.WriteTo(buf[:n], from); err != nil {
				t.Error(err)
			}
		}
	}()
	var c net.Conn = dialUDP(t, a, at(addrB, 7), SocketOptions{})
	if _, err := c.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "echo" {
		t.Errorf("%q %v", buf, err)
	}
	if c.RemoteAddr().String() != "[2001:db8::b]:7" || c.LocalAddr().(*net.UDPAddr).Port < ephemeralFirst {
		t.Errorf("%s -> %s", c.LocalAddr(), c.RemoteAddr())
	}
}
