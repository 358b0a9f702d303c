package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// far is behind the tunnel, which is link 3 of the rig.
var far = netip.MustParseAddr("2001:db8:3::9")

// newTunnelRig is a rig whose link 3 is a tunnel from routerB to hostB. enter, if it is not nil, decides first.
func newTunnelRig(t testing.TB, enter module.Hook) *rig {
	r := newRig(t)
	r.link(3, func(l *module.Link) { l.Tunnel = true })
	r.path.Hook(module.StageEnter, "test", func(p *packet.Packet) packet.Verdict {
		if p.Out != 3 || p.GSO.Type != packet.GSONone || p.GSO.Csum == packet.CsumPartial {
			t.Errorf("entering by link %d: %+v", p.Out, p.GSO)
		}
		if enter != nil {
			if v := enter(p); v != packet.Continue {
				return v
			}
		}
		wire.PutIPv6(p.Push(wire.IPv6HeaderLen), wire.IPv6Fields{PayloadLength: uint16(p.Len() - 40), NextHeader: wire.IPv6Encap, Src: routerB, Dst: hostB})
		p.Own()
		p.Nested++
		return packet.Forward
	})
	r.path.Hook(module.StageExit, "test", func(p *packet.Packet) packet.Verdict {
		if p.Proto != wire.IPv6Encap {
			return packet.Continue
		}
		p.Emerge(3, p.TransOff, p.Len()-p.TransOff)
		return packet.Arrived
	})
	return r
}

// TestEnter: what leaves by a tunnel is a packet of this node from there on, whoever sent it, and is counted.
func TestEnter(t *testing.T) {
	r := newTunnelRig(t, nil)
	pkt := udp(hostA, far, pattern(64))
	r.fromA(pkt)
	r.path.Send(packet.New(udp(routerA, far, pattern(64))))
	r.path.Transmit(packet.New(udp(llA, netip.MustParseAddr("ff02::1"), pattern(64))), 3, [6]byte{})
	r.run()
	got := r.b.took()
	if len(got) != 3 || len(r.tun.took()) != 0 {
		t.Fatalf("%d packets, drops %v", len(got), r.drops())
	}
	for i, hops := range []byte{63, 64, 64} {
		if x := got[i]; x[6] != wire.IPv6Encap || x[7] != 64 || len(x) != 40+len(pkt) || x[40+7] != hops {
			t.Errorf("%d: % x", i, x[:80])
		}
	}
	s := r.path.Stats()
	if l := s.Links[3]; l.TxPackets != 3 || l.TxOctets != 3*uint64(len(pkt)) || l.TxFailed != 0 || s.Simple[Forwarded] != 1 {
		t.Errorf("%+v, forwarded %d", l, s.Simple[Forwarded])
	}
	r.link(3, func(l *module.Link) { l.Carrier = false })
	r.fromA(pkt)
	if got := r.a.took(); len(got) != 1 || got[0][40] != wire.TypeDestinationUnreachable || r.drops()[packet.LinkDown] != 1 {
		t.Errorf("without carrier: %d packets", len(got))
	}
}

// TestEnterSuperpacket: it enters as its sender would have split it, each piece with its checksum.
func TestEnterSuperpacket(t *testing.T) {
	r := newTunnelRig(t, nil)
	tcp := make([]byte, 20+2500)
	tcp[12] = 5 << 4
	b := ip6(hostA, far, wire.TCP, tcp)
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, b), packet.GSO{Type: packet.GSOTCP6, Csum: packet.CsumPartial, Size: 1000, HdrLen: 60, CsumStart: 40, CsumOffset: 16}})
	r.run()
	got := r.b.took()
	if len(got) != 3 {
		t.Fatalf("%d packets, drops %v", len(got), r.drops())
	}
	for i, x := range got {
		inner := x[40:]
		sum := wire.Fold(wire.Sum(inner[40:], wire.PseudoHeader(src(inner), dst(inner), wire.TCP, len(inner)-40)))
		if sum != 0xffff || len(inner) != map[bool]int{true: 1060, false: 560}[i < 2] {
			t.Errorf("%d: %d octets, sum %#x", i, len(inner), sum)
		}
	}
}

// TestEnterTooBig: the MTU that the hook names goes to the source; this node's own packets are fragmented to it, once.
func TestEnterTooBig(t *testing.T) {
	const mtu = 1300
	r := newTunnelRig(t, func(p *packet.Packet) packet.Verdict {
		if p.Len() > mtu {
			p.MTU = mtu
			return packet.Drop(packet.TooBig)
		}
		return packet.Continue
	})
	long := udp(hostA, far, pattern(1400))
	r.fromA(long)
	got := r.a.took()
	if len(got) != 1 || got[0][40] != wire.TypePacketTooBig || binary.BigEndian.Uint32(got[0][44:]) != mtu || got[0][48+7] != 64 {
		t.Fatalf("in transit: % x", got)
	}
	r.drops()
	r.path.Send(packet.New(udp(routerA, far, pattern(1400))))
	r.run()
	total := 0
	for _, x := range r.b.took() {
		if inner := x[40:]; len(inner) > mtu || inner[6] != wire.Fragment || inner[40] != wire.UDP {
			t.Errorf("own: %d octets, % x", len(inner), inner[:48])
		} else {
			total += len(inner) - 48
		}
	}
	if total != 1408 || len(r.drops()) != 0 {
		t.Errorf("own: %d octets in fragments", total)
	}
	r.path.Send(packet.New(udp(routerA, far, pattern(2000)))) // fragments of 1500 octets are not fragmented again
	r.run()
	if got := r.b.took(); len(got) != 1 || r.drops()[packet.TooBig] != 1 || len(r.host.got) != 1 {
		t.Errorf("longer than the link takes: %d packets", len(got))
	}
	r.host.got = nil
	p := packet.New(udp(routerA, far, pattern(1400)))
	p.NoFrag = true
	r.path.Send(p)
	r.run()
	if got := r.b.took(); len(got) != 0 || len(r.host.got) != 1 || r.host.got[0].Bytes()[40] != wire.TypePacketTooBig {
		t.Errorf("a probe: %d packets, %d delivered", len(got), len(r.host.got))
	}
}

// TestEnterRefused: the source is told what the hook answers, of the packet as it was received.
func TestEnterRefused(t *testing.T) {
	answer := packet.ICMPError{Type: wire.TypeParameterProblem, Arg: 44}
	r := newTunnelRig(t, func(p *packet.Packet) packet.Verdict {
		p.Answer = answer
		return packet.Drop(packet.TunnelLimit)
	})
	pkt := udp(hostA, far, pattern(64))
	r.fromA(pkt, pkt)
	answer = packet.ICMPError{}
	r.fromA(pkt)
	got := r.a.took()
	if len(got) != 2 || r.drops()[packet.TunnelLimit] != 3 || r.path.Stats().Links[3].TxFailed != 3 {
		t.Fatalf("%d answers, %+v", len(got), r.path.Stats().Links[3])
	}
	for _, x := range got {
		if x[40] != wire.TypeParameterProblem || x[41] != 0 || binary.BigEndian.Uint32(x[44:]) != 44 || !bytes.Equal(x[48:], pkt) {
			t.Errorf("% x", x)
		}
	}
}

// TestExit: what comes out has arrived on the tunnel, and is treated as on any other link.
func TestExit(t *testing.T) {
	r := newTunnelRig(t, nil)
	var seen []string
	r.path.SetTap(tapFunc(func(at Point, link int, _ bool, frame []byte, _ packet.Reason) {
		seen = append(seen, fmt.Sprintf("%s %d %d", at, link, len(frame)))
	}))
	inner := udp(far, hostB, pattern(64))
	outer := ip6(hostA, routerA, wire.IPv6Encap, inner)
	r.fromA(outer)
	if got := r.b.took(); len(got) != 1 || len(got[0]) != len(inner) || got[0][7] != 63 {
		t.Fatalf("%d packets, drops %v", len(got), r.drops())
	}
	if got, want := fmt.Sprint(seen), fmt.Sprintf("[ingress 1 %d ingress 3 %d egress 2 %d]", len(outer)+14, len(inner), len(inner)+14); got != want {
		t.Errorf("captured %s, want %s", got, want)
	}
	if l := r.path.Stats().Links[3]; l.RxPackets != 1 || l.RxOctets != uint64(len(inner)) {
		t.Errorf("%+v", l)
	}
	r.path.SetTap(nil)
	r.drops()
	for _, c := range []struct {
		name  string
		inner []byte
		want  packet.Reason
	}{
		{"no packet", []byte{0x60, 0, 0, 0}, packet.HeaderTruncated},
		{"from a group", udp(netip.MustParseAddr("ff02::1"), hostB, nil), packet.SourceMulticast},
		{"of this node's own source", udp(routerB, hostB, nil), packet.SourceOwn},
		{"link-local, to another", udp(far, netip.MustParseAddr("fe80::77"), nil), packet.DestinationScope},
	} {
		r.fromA(ip6(hostA, routerA, wire.IPv6Encap, c.inner))
		if d := r.drops(); len(d) != 1 || d[c.want] != 1 {
			t.Errorf("%s: drops %v", c.name, d)
		}
	}
	r.fromA(ip6(hostA, routerA, wire.GRE, []byte{0, 0, 0x86, 0xdd}))
	if got := r.a.took(); len(got) != 1 || got[0][40] != wire.TypeParameterProblem || got[0][41] != wire.CodeUnrecognizedNextHeader || r.drops()[packet.NextHeaderUnrecognized] != 1 {
		t.Errorf("a protocol that nobody wants: % x", got)
	}
	r.link(3, func(l *module.Link) { l.Up = false })
	r.fromA(outer)
	if d := r.drops(); d[packet.LinkDown] != 1 {
		t.Errorf("down: drops %v", d)
	}
}

// TestExitAnswered: a hook that refuses has the source told.
func TestExitAnswered(t *testing.T) {
	r := newRig(t)
	r.path.Hook(module.StageExit, "test", func(p *packet.Packet) packet.Verdict {
		p.Answer = unreachable(wire.CodeAddressUnreachable)
		return packet.Drop(packet.TunnelUnknown)
	})
	r.fromA(ip6(hostA, routerA, wire.IPv6Encap, udp(far, hostB, nil)))
	if got := r.a.took(); len(got) != 1 || got[0][40] != wire.TypeDestinationUnreachable || got[0][41] != wire.CodeAddressUnreachable || r.drops()[packet.TunnelUnknown] != 1 {
		t.Errorf("% x", got)
	}
}

// tapFunc is a [Tap].
type tapFunc func(Point, int, bool, []byte, packet.Reason)

func (f tapFunc) Offer(at Point, link int, ethernet bool, frame []byte, r packet.Reason) {
	f(at, link, ethernet, frame, r)
}

// TestTunnelDoesNotAllocate: into a tunnel and out of one, through all stages.
func TestTunnelDoesNotAllocate(t *testing.T) {
	r := newTunnelRig(t, nil)
	r.b.keep = false
	frames := []memFrame{
		{data: frame(macA, peerMAC, udp(hostA, far, pattern(64)))},
		{data: frame(macA, peerMAC, ip6(hostA, routerA, wire.IPv6Encap, udp(far, hostB, pattern(64))))},
	}
	w := r.path.workers[1]
	round := func() {
		r.refill(frames)
		if got, err := w.once(); got != 2 || err != nil {
			t.Fatalf("took %d packets, %v", got, err)
		}
	}
	for range 4 {
		round()
	}
	if a := testing.AllocsPerRun(100, round); a != 0 {
		t.Errorf("%v allocations", a)
	}
	if r.b.sent < 208 {
		t.Errorf("sent %d, drops %v", r.b.sent, r.drops())
	}
}
