package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

var behind = netip.MustParseAddr("2001:db8:4::4") // reached by the link of kind ipsec

// sas are the hooks of an extension for link 4, of kind ipsec, over which behind is reached: what leaves by it gets an
// outer header from routerA to hostA, as long as it is no longer than mtu, unless verdict says otherwise; what comes from
// hostA with ESP has arrived on it.
type sas struct {
	*rig
	mtu     int
	verdict packet.Verdict
	asked   int // how often, of packets for the link
	tapped  []string
}

func newSAs(t testing.TB) *sas {
	s := &sas{rig: newRig(t), mtu: 9000}
	s.path.Hook(module.StageTransform, "test", s.out)
	s.path.Hook(module.StageInput, "test", s.in)
	s.links = append(s.links, &module.Link{Index: 4, Name: "ipsec0", IfID: 5, DeviceMTU: 1400, MTU: 1400, Up: true, Carrier: true, Forwarding: true})
	s.path.Attach(4, &memPort{mtu: 1400, keep: true})
	s.path.SetLinks(module.NewLinks(s.links))
	s.router.routes = append(s.router.routes, &rigRoute{prefix: netip.PrefixFrom(behind, 64).Masked(), dev: 4})
	return s
}

func (s *sas) out(p *packet.Packet) packet.Verdict {
	if p.Out != 4 {
		return packet.Continue
	}
	s.asked++
	switch {
	case s.verdict != 0:
		return s.verdict
	case p.SegmentLen() > min(s.mtu, p.MTU):
		p.MTU = min(s.mtu, p.MTU)
		return packet.Drop(packet.TooBig)
	case p.RoomBefore() < wire.IPv6HeaderLen:
		return packet.Drop(packet.XfrmOutError)
	case p.GSO.Type != packet.GSONone || p.GSO.Csum == packet.CsumPartial:
		return packet.Split
	}
	wire.PutIPv6(p.Push(wire.IPv6HeaderLen), wire.IPv6Fields{PayloadLength: uint16(p.Len() - wire.IPv6HeaderLen), NextHeader: wire.ESP, Src: routerA, Dst: hostA})
	p.Own()
	p.Protected = true
	return packet.Forward
}

func (s *sas) in(p *packet.Packet) packet.Verdict {
	if p.Proto != wire.ESP {
		return packet.Continue
	}
	p.Pull(wire.IPv6HeaderLen)
	p.ComeThrough(s)
	p.Tunneled, p.In = true, 4
	return packet.Arrived
}

// Offer implements [Tap].
func (s *sas) Offer(at Point, link int, ethernet bool, frame []byte, _ packet.Reason) {
	if link == 4 && at != DropPoint {
		s.tapped = append(s.tapped, fmt.Sprintf("%s %v %d", at, ethernet, len(frame)))
	}
}

// sealed is a packet as hostA sends it to this node.
func sealed(inner []byte) []byte { return ip6(hostA, routerA, wire.ESP, inner) }

// TestLinkOfSAs: what is routed to the link leaves in what the hook makes of it, what is opened has come in on it; both
// are seen and counted there in the clear.
func TestLinkOfSAs(t *testing.T) {
	s := newSAs(t)
	s.path.SetTap(s)
	in := udp(hostB, behind, pattern(100))
	s.b.in = append(s.b.in, memFrame{data: frame(macB, peerMAC, in)})
	s.run()
	s.send(udp(routerB, behind, pattern(50)))
	s.path.Transmit(packet.New(udp(llA, behind, pattern(20))), 4, [6]byte{}) // past routing, as Discovery is
	s.run()
	got := s.a.took()
	if len(got) != 3 || !bytes.Equal(got[0][40:], edit(in, 7, 63)) || got[0][6] != wire.ESP || len(got[1]) != 40+98 || len(got[2]) != 40+68 {
		t.Fatalf("%d packets, drops %v", len(got), s.drops())
	}
	ns := edit(ip6(hostB, routerA, wire.ICMPv6, []byte{wire.TypeNeighborSolicitation, 0, 0, 0}, make([]byte, 20)), 7, 255)
	s.fromA(sealed(udp(behind, hostB, pattern(30))), sealed(udp(behind, routerB, pattern(40))), sealed(ns))
	s.fromA(fragments(sealed(ns), 9, 32)...)
	if b := s.b.took(); len(b) != 1 || !bytes.Equal(b[0], edit(udp(behind, hostB, pattern(30)), 7, 63)) {
		t.Errorf("forwarded %d, drops %v", len(b), s.drops())
	}
	if len(s.host.got) != 1 || s.host.got[0].In != 4 || len(s.host.got[0].Came()) != 1 || s.found != 2 {
		t.Errorf("delivered %d, %d to Discovery, drops %v", len(s.host.got), s.found, s.drops())
	}
	want := []string{"egress false 148", "egress false 98", "egress false 68", "ingress false 78", "ingress false 88", "ingress false 64", "ingress false 64"}
	if !slices.Equal(s.tapped, want) {
		t.Errorf("seen %q", s.tapped)
	}
	st := s.path.Stats()
	if l := st.Links[4]; l != (LinkStats{RxPackets: 4, RxOctets: 78 + 88 + 64 + 64, TxPackets: 3, TxOctets: 148 + 98 + 68}) || st.Get(Forwarded) != 2 {
		t.Errorf("counted %+v, forwarded %d", l, st.Get(Forwarded))
	}
	s.drops()
	s.link(4, func(l *module.Link) { l.Up = false })
	s.fromA(sealed(udp(behind, hostB, nil)))
	if got := s.drops(); got[packet.LinkDown] != 1 || len(s.b.took()) != 0 {
		t.Errorf("down: %v", got)
	}
}

// TestLinkWithoutSAs: nothing leaves in the clear, whatever the hook says. Who sent what no SA takes is told by the
// packet as it was.
func TestLinkWithoutSAs(t *testing.T) {
	for _, c := range []struct {
		verdict packet.Verdict
		want    packet.Reason
		told    bool
		stats   LinkStats
	}{
		{packet.Continue, packet.IPsecLinkNoPolicy, true, LinkStats{TxCarrier: 1}},
		{packet.Drop(packet.XfrmOutNoStates), packet.XfrmOutNoStates, true, LinkStats{TxCarrier: 1}},
		{packet.Drop(packet.XfrmOutPolBlock), packet.XfrmOutPolBlock, true, LinkStats{TxCarrier: 1}},
		{packet.Drop(packet.XfrmOutBundleGenError), packet.XfrmOutBundleGenError, true, LinkStats{TxCarrier: 1}},
		{packet.Drop(packet.XfrmOutStateSeqError), packet.XfrmOutStateSeqError, false, LinkStats{}},
		{packet.Drop(packet.XfrmInTmplMismatch), packet.XfrmInTmplMismatch, false, LinkStats{}}, // forwarded, and did not come as it should
		{packet.Drop(packet.IPsecLinkLoop), packet.IPsecLinkLoop, false, LinkStats{TxCollisions: 1}},
	} {
		s := newSAs(t)
		s.verdict = c.verdict
		in := udp(hostB, behind, pattern(10))
		s.b.in = append(s.b.in, memFrame{data: frame(macB, peerMAC, in)})
		s.run()
		answers := s.b.took()
		if got := s.drops(); got[c.want] != 1 || len(got) != 1 || len(s.a.took()) != 0 {
			t.Errorf("%s: drops %v", c.verdict, got)
		}
		told := len(answers) == 1 && answers[0][40] == wire.TypeDestinationUnreachable && answers[0][41] == wire.CodeAddressUnreachable && bytes.Equal(answers[0][48:], in)
		if told != c.told || len(answers) > 1 {
			t.Errorf("%s: answers % x", c.verdict, answers)
		}
		if got := s.path.Stats().Links[4]; got != c.stats {
			t.Errorf("%s: counted %+v", c.verdict, got)
		}
		s.send(udp(routerB, behind, nil))
		if told := len(s.host.got) == 1 && s.host.got[0].Bytes()[40] == wire.TypeDestinationUnreachable; told != c.told {
			t.Errorf("%s: this node was told %v", c.verdict, told)
		}
	}
	// A loop that the hook does not see ends where there is no room for one more header.
	s := newSAs(t)
	s.router.routes[0].dev = 4
	s.send(udp(routerB, behind, nil))
	if got := s.drops(); got[packet.XfrmOutError] != 1 || len(got) != 1 || s.asked > 10 {
		t.Errorf("a loop: %v, asked %d times", got, s.asked)
	}
}

// TestLinkOfSAsTooBig: the hook knows what the link takes, and the route's and, for this node, the path's MTU. In transit
// sources are told, here a packet is cut once, to what both take.
func TestLinkOfSAsTooBig(t *testing.T) {
	tooBig := func(b []byte) int {
		if len(b) < 48 || b[40] != wire.TypePacketTooBig {
			return 0
		}
		return int(binary.BigEndian.Uint32(b[44:]))
	}
	for _, c := range []struct{ sas, route, path, transit, own int }{
		{9000, 0, 0, 1400, 1400}, {1350, 0, 0, 1350, 1350}, {9000, 1300, 0, 1300, 1300}, {9000, 0, 1290, 1400, 1290},
	} {
		s := newSAs(t)
		s.mtu, s.router.routes[3].MTU = c.sas, c.route
		d := behind.As16()
		if c.path != 0 {
			s.path.PathMTU().Update(&d, c.path, s.clock.Now())
		}
		s.b.in = append(s.b.in, memFrame{data: frame(macB, peerMAC, udp(hostB, behind, pattern(1453)))})
		s.run()
		if got := s.b.took(); len(got) != 1 || tooBig(got[0]) != c.transit {
			t.Errorf("%+v: in transit %d answers", c, len(got))
		}
		whole := udp(routerB, behind, pattern(3000))
		s.send(whole)
		var inner [][]byte
		for _, f := range s.a.took() {
			inner = append(inner, f[40:])
			if len(f)-40 > c.own || len(inner) < 3 && len(f)-40 < c.own-8 {
				t.Errorf("%+v: a fragment of %d octets", c, len(f)-40)
			}
		}
		if len(inner) != 3 || !bytes.Equal(reassembleByHand(t, inner), edit(whole, 7, 64)) {
			t.Errorf("%+v: fragments of %v octets", c, lengths(inner))
		}
		s.send(ip6(routerB, behind, wire.TCP, make([]byte, 1400)))
		if len(s.host.got) != 1 || tooBig(s.host.got[0].Bytes()) != c.own {
			t.Errorf("%+v: TCP here was told %d times", c, len(s.host.got))
		}
	}
}

// TestLinkOfSAsSplits: segments of a superpacket, with whole checksums, go through the hook one by one, and are what is
// seen on the link.
func TestLinkOfSAsSplits(t *testing.T) {
	s := newSAs(t)
	s.path.SetTap(s)
	tcp := ip6(hostB, behind, wire.TCP, make([]byte, 20), pattern(3000))
	tcp[40+12] = 5 << 4
	s.b.in = append(s.b.in, memFrame{frame(macB, peerMAC, tcp), packet.GSO{Type: packet.GSOTCP6, Csum: packet.CsumPartial, Size: 1200, HdrLen: 60, CsumStart: 40, CsumOffset: 16}})
	s.run()
	if got := lengths(s.a.took()); !slices.Equal(got, []int{1300, 1300, 700}) || s.path.Stats().Links[4].TxPackets != 3 {
		t.Errorf("%v, drops %v", got, s.drops())
	}
	if !slices.Equal(s.tapped, []string{"egress false 1260", "egress false 1260", "egress false 660"}) {
		t.Errorf("seen %q", s.tapped)
	}
}

// TestLinkOfSAsDoesNotAllocate, out and in.
func TestLinkOfSAsDoesNotAllocate(t *testing.T) {
	s := newSAs(t)
	s.a.keep, s.b.keep = false, false
	w := s.path.workers[1]
	frames := make([]memFrame, 32)
	for i := range frames {
		f := udp(hostA, behind, pattern(64))
		if i%2 == 1 {
			f = sealed(udp(behind, hostB, pattern(64)))
		}
		frames[i].data = frame(macA, peerMAC, f)
	}
	round := func() {
		s.refill(frames)
		if got, err := w.once(); got != 32 || err != nil {
			t.Fatalf("took %d packets, %v", got, err)
		}
	}
	for range 4 {
		round()
	}
	if a := testing.AllocsPerRun(100, round); a != 0 || s.a.sent < 16*104 || s.b.sent < 16*104 {
		t.Errorf("%v allocations a vector, %d and %d sent", a, s.a.sent, s.b.sent)
	}
}
