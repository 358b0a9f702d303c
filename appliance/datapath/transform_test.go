package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// wrapIn is a hook of stage 5 that puts packets to hostB into a tunnel from this node to hostA, as long as they are no
// longer than mtu, and counts what it saw.
type wrapIn struct {
	mtu  int
	seen []packet.Packet
}

func (h *wrapIn) hook(p *packet.Packet) packet.Verdict {
	if *dst(p.Bytes()) != hostB.As16() {
		return packet.Continue
	}
	if h.mtu != 0 && p.SegmentLen() > h.mtu {
		p.MTU = h.mtu
		return packet.Drop(packet.TooBig)
	}
	if p.GSO.Type != packet.GSONone || p.GSO.Csum == packet.CsumPartial {
		return packet.Split
	}
	h.seen = append(h.seen, *p)
	wire.PutIPv6(p.Push(wire.IPv6HeaderLen), wire.IPv6Fields{
		PayloadLength: uint16(p.Len() - wire.IPv6HeaderLen), NextHeader: wire.IPv6Encap, Src: routerA, Dst: hostA,
	})
	p.Own()
	p.Protected = true
	return packet.Forward
}

func (h *wrapIn) rig(t *testing.T) *rig {
	r := newRig(t)
	r.path.Hook(module.StageTransform, "test", h.hook)
	return r
}

// TestTunnelIsRoutedAgain: by the outer destination, as a packet of this node, and not transformed twice; the hop limit
// of what is inside is decremented, that outside is the link's.
func TestTunnelIsRoutedAgain(t *testing.T) {
	h := &wrapIn{}
	r := h.rig(t)
	in := udp(hostA, hostB, pattern(100))
	r.fromA(in)
	r.send(udp(routerA, hostB, pattern(50)))
	got := r.a.took()
	if len(got) != 2 || len(r.b.took()) != 0 || len(h.seen) != 2 {
		t.Fatalf("%d packets, %d transformed, drops %v", len(got), len(h.seen), r.drops())
	}
	if !bytes.Equal(got[0][40:], edit(in, 7, 63)) || got[0][6] != wire.IPv6Encap || got[0][7] != 64 {
		t.Errorf("% x", got[0])
	}
	if s := r.path.Stats(); s.Get(Forwarded) != 1 {
		t.Errorf("forwarded %d", s.Get(Forwarded))
	}
}

// TestTransformTooBig: the source of a packet in transit is told, by the packet as it was; a packet of this node goes in
// fragments, each of which knows what it is one of; TCP here is told.
func TestTransformTooBig(t *testing.T) {
	h := &wrapIn{mtu: 1400}
	r := h.rig(t)
	in := udp(hostA, hostB, pattern(1353))
	r.fromA(in)
	got := r.a.took()
	if len(got) != 1 || got[0][40] != wire.TypePacketTooBig || binary.BigEndian.Uint32(got[0][44:]) != 1400 || !bytes.Equal(got[0][48:], in[:1232]) {
		t.Fatalf("%d answers, drops %v", len(got), r.drops())
	}
	whole := udp(routerA, hostB, pattern(3000))
	r.send(whole)
	var inner [][]byte
	for _, f := range r.a.took() {
		inner = append(inner, f[40:])
		if len(f) > 1440 {
			t.Errorf("%d octets", len(f))
		}
	}
	if len(inner) != 3 || !bytes.Equal(reassembleByHand(t, inner), edit(whole, 7, 64)) {
		t.Errorf("fragments of %v octets", lengths(inner))
	}
	for _, p := range h.seen {
		if p.Upper != (packet.Upper{Set: true, Proto: wire.UDP, Head: [4]byte{0x10, 0, 0x20, 0}}) {
			t.Errorf("a fragment of %+v", p.Upper)
		}
	}
	r.send(ip6(routerA, hostB, wire.TCP, make([]byte, 1400)))
	if len(r.host.got) != 1 || r.host.got[0].Bytes()[40] != wire.TypePacketTooBig || binary.BigEndian.Uint32(r.host.got[0].Bytes()[44:]) != 1400 {
		t.Errorf("TCP here was told %d times", len(r.host.got))
	}
}

// TestTransformOfSuperpackets: segments go through stage 5 one by one, and unfinished checksums are finished before.
func TestTransformOfSuperpackets(t *testing.T) {
	h := &wrapIn{}
	r := h.rig(t)
	tcp := ip6(hostA, hostB, wire.TCP, make([]byte, 20), pattern(3000))
	tcp[40+12] = 5 << 4
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, tcp), packet.GSO{Type: packet.GSOTCP6, Csum: packet.CsumPartial, Size: 1200, HdrLen: 60, CsumStart: 40, CsumOffset: 16}})
	half := udp(hostA, hostB, pattern(99))
	l, d := hostA.As16(), hostB.As16()
	partial := bytes.Clone(half)
	binary.BigEndian.PutUint16(partial[46:], wire.Fold(wire.PseudoHeader(&l, &d, wire.UDP, 107)))
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, partial), packet.GSO{Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 6}})
	r.run()
	got := r.a.took()
	if len(got) != 4 {
		t.Fatalf("%d packets, drops %v", len(got), r.drops())
	}
	for i, p := range h.seen {
		if (p.Super != nil) != (i < 3) {
			t.Errorf("packet %d is a piece: %v", i, p.Super != nil)
		}
	}
	for i, n := range []int{1200, 1200, 600} {
		b := got[i][40:]
		if len(b) != 60+n || wire.Fold(wire.Sum(b[40:], wire.PseudoHeader(&l, &d, wire.TCP, 20+n))) != 0xffff {
			t.Errorf("segment %d: %d octets, or a wrong checksum", i, len(b))
		}
	}
	if !bytes.Equal(got[3][40:], edit(half, 7, 63)) {
		t.Errorf("% x", got[3][40:])
	}
}

// TestInputAgain: what an SA opens goes from the validate stage on again, as often as packets can go through SAs.
func TestInputAgain(t *testing.T) {
	r := newRig(t)
	n, loop := 0, false
	r.path.Hook(module.StageInput, "test", func(p *packet.Packet) packet.Verdict {
		n++
		if loop {
			return packet.Again
		}
		if p.Proto == wire.UDP {
			return packet.Continue
		}
		next := p.Bytes()[p.TransOff]
		b := p.Bytes()
		copy(b[8:], b[:p.TransOff])
		b[p.ProtoField+8] = next
		p.Pull(8)
		b = p.Bytes()
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		p.ComeThrough(&n)
		return packet.Again
	})
	// Headers of 8 octets that begin with what follows, in place of ESP and AH (of which one has no 8 octets: it is
	// as long as it says).
	esp := func(next uint8) []byte { return []byte{next, 0, 0, 0, 0, 0, 0, 0} }
	plain := udp(hostA, routerA, pattern(10))
	r.fromA(ip6(hostA, routerA, wire.ESP, esp(wire.ESP), esp(wire.AH), esp(wire.UDP), plain[40:]))
	if len(r.host.got) != 1 || !bytes.Equal(r.host.got[0].Bytes(), plain) || len(r.host.got[0].Came()) != 3 || n != 4 {
		t.Fatalf("delivered %d, %d times asked, drops %v", len(r.host.got), n, r.drops())
	}
	loop = true
	r.drops()
	r.fromA(ip6(hostA, routerA, wire.ESP, esp(0)))
	if got := r.drops(); got[packet.RouteLoop] != 1 {
		t.Errorf("without end: %v", got)
	}
}

// TestAdmit: asked of everything before it is delivered or answered here, Discovery messages too, and of nothing in
// transit.
func TestAdmit(t *testing.T) {
	r := newRig(t)
	var asked []uint8
	r.path.Hook(module.StageAdmit, "test", func(p *packet.Packet) packet.Verdict {
		asked = append(asked, p.Proto)
		return packet.Drop(packet.XfrmInPolBlock)
	})
	ns := ip6(hostA, routerA, wire.ICMPv6, []byte{wire.TypeNeighborSolicitation, 0, 0, 0}, make([]byte, 20))
	r.fromA(udp(hostA, routerA, nil), echoRequest(hostA, routerA, nil), ns, ip6(hostA, routerA, 200, pattern(8)), ip6(hostA, routerA, wire.MH, make([]byte, 8)))
	if got := r.drops(); got[packet.XfrmInPolBlock] != 5 || len(got) != 1 || len(r.host.got)+r.found+len(r.a.took()) != 0 {
		t.Errorf("%v", got)
	}
	if !bytes.Equal(asked, []byte{wire.UDP, wire.ICMPv6, wire.ICMPv6, 200, wire.MH}) {
		t.Errorf("asked of %v", asked)
	}
	r.fromA(udp(hostA, hostB, nil))
	if len(asked) != 5 || len(r.b.took()) != 1 {
		t.Error("asked of a packet in transit")
	}
}

// TestOutOfATunnel: an ND message that came out of a tunnel says nothing of this link, whatever its hop limit.
func TestOutOfATunnel(t *testing.T) {
	r := newRig(t)
	r.path.Hook(module.StageInput, "test", func(p *packet.Packet) packet.Verdict {
		p.Pull(48)
		p.Tunneled = true
		return packet.Again
	})
	ns := edit(ip6(hostA, routerA, wire.ICMPv6, []byte{wire.TypeNeighborSolicitation, 0, 0, 0}, make([]byte, 20)), 7, 255)
	r.fromA(ip6(hostB, routerA, wire.ESP, make([]byte, 8), ns))
	if got := r.drops(); got[packet.NDInvalid] != 1 || r.found != 0 {
		t.Errorf("%v", got)
	}
}

// TestFragmentsOfSAs: fragments that came through an SA are put together with such alone.
func TestFragmentsOfSAs(t *testing.T) {
	r := newRig(t)
	sa := 0
	r.path.Hook(module.StageInput, "test", func(p *packet.Packet) packet.Verdict {
		if p.Proto != wire.ESP {
			return packet.Continue
		}
		p.Pull(48)
		p.ComeThrough(&sa)
		return packet.Again
	})
	plain := udp(hostB, routerA, pattern(3000))
	fs := fragments(plain, 7, 1024)
	wrapped := func(f []byte) []byte { return ip6(hostA, routerA, wire.ESP, make([]byte, 8), f) }
	evil := bytes.Clone(fs[1])
	evil[60] ^= 1
	r.fromA(wrapped(fs[0]), evil) // in the clear: it would be an overlap, and the end of the datagram
	for _, f := range fs[1:] {
		r.fromA(wrapped(f))
	}
	if len(r.host.got) != 1 || !bytes.Equal(r.host.got[0].Bytes()[40:], plain[40:]) || len(r.host.got[0].Came()) != 1 {
		t.Errorf("delivered %d, drops %v", len(r.host.got), r.drops())
	}
}

// sentBy says which SPI this node sends with.
type sentBy struct {
	proto uint8
	spi   uint32
}

func (s sentBy) Sent(proto uint8, src, dst [16]byte, transport []byte) bool {
	return proto == s.proto && src == routerA.As16() && dst == hostB.As16() && bytes.Contains(transport[:min(12, len(transport))], binary.BigEndian.AppendUint32(nil, s.spi))
}

// TestPathMTUOfSAs: a Packet Too Big about ESP or AH is believed if this node sends with that SPI.
func TestPathMTUOfSAs(t *testing.T) {
	esp := func(spi byte) []byte { return []byte{0, 0, 1, spi, 0, 0, 0, 1, 0, 0, 0, 0} }
	for _, c := range []struct {
		name  string
		quote []byte
		by    sentBy
		want  bool
	}{
		{"esp", ip6(routerA, hostB, wire.ESP, esp(1)), sentBy{wire.ESP, 0x101}, true},
		{"another spi", ip6(routerA, hostB, wire.ESP, esp(2)), sentBy{wire.ESP, 0x101}, false},
		{"esp cut short", ip6(routerA, hostB, wire.ESP, esp(1)[:3]), sentBy{wire.ESP, 0x101}, true},
		{"not from here", ip6(hostA, hostB, wire.ESP, esp(1)), sentBy{wire.ESP, 0x101}, false},
		{"ah", ip6(routerA, hostB, wire.AH, []byte{wire.UDP, 4, 0, 0}, esp(1), make([]byte, 8)), sentBy{wire.AH, 0x101}, true},
		{"ah of another", ip6(routerA, hostB, wire.AH, []byte{wire.UDP, 4, 0, 0}, esp(2), make([]byte, 8)), sentBy{wire.AH, 0x101}, false},
		{"esp in udp", ip6(routerA, hostB, wire.UDP, []byte{1, 1, 2, 2, 0, 20, 0, 0}, esp(1)), sentBy{wire.UDP, 0x101}, true},
		{"in a tunnel", ip6(routerA, hostB, wire.IPv6Encap, []byte{0, 0, 1, 1}), sentBy{wire.IPv6Encap, 0x101}, true},
		{"in a tunnel of nobody", ip6(routerA, hostB, wire.IPv6Encap, []byte{0, 0, 1, 2}), sentBy{wire.IPv6Encap, 0x101}, false},
		{"in a GRE tunnel of nobody", ip6(routerA, hostB, wire.GRE, []byte{0, 0, 1, 2}), sentBy{wire.GRE, 0x101}, false},
		{"udp of nobody", ip6(routerA, hostB, wire.UDP, []byte{1, 1, 2, 2, 0, 20, 0, 0}, esp(2)), sentBy{wire.UDP, 0x101}, false},
	} {
		r := newRig(t)
		r.host.sent = false
		r.path.SetSenders([]module.Sender{sentBy{}, c.by})
		m := ip6(hostA, routerA, wire.ICMPv6, []byte{wire.TypePacketTooBig, 0, 0, 0, 0, 0, 5, 100}, c.quote)
		wire.UpdateICMPv6Checksum(m, 40)
		r.fromA(m)
		to := hostB.As16()
		if got := r.path.PathMTU().Lookup(&to, r.clock.Now()); got != map[bool]int{true: 1380}[c.want] {
			t.Errorf("%s: path MTU %d, drops %v", c.name, got, r.drops())
		}
	}
}

// TestTransformDoesNotAllocate: through stage 5 and the route stage twice.
func TestTransformDoesNotAllocate(t *testing.T) {
	r := newRig(t)
	r.path.Hook(module.StageTransform, "test", func(p *packet.Packet) packet.Verdict {
		wire.PutIPv6(p.Push(wire.IPv6HeaderLen), wire.IPv6Fields{
			PayloadLength: uint16(p.Len() - wire.IPv6HeaderLen), NextHeader: wire.IPv6Encap, Src: routerB, Dst: netip.MustParseAddr("2001:db8:2::c"),
		})
		p.Own()
		p.Protected = true
		return packet.Forward
	})
	r.b.keep = false
	frames := make([]memFrame, 32)
	for i := range frames {
		frames[i].data = frame(macA, peerMAC, udp(hostA, hostB, pattern(64)))
	}
	w := r.path.workers[1]
	round := func() {
		r.refill(frames)
		if got, err := w.once(); got != 32 || err != nil {
			t.Fatalf("took %d packets, %v", got, err)
		}
	}
	for range 4 {
		round()
	}
	if a := testing.AllocsPerRun(100, round); a != 0 || r.b.sent < 32*104 {
		t.Errorf("%v allocations a vector, %d sent", a, r.b.sent)
	}
}

// TestResume: what a hook of stage 5 has kept goes on later from the route stage, its hop limit decremented once.
func TestResume(t *testing.T) {
	r := newRig(t)
	var kept []*packet.Packet
	keep := true
	r.path.Hook(module.StageTransform, "test", func(p *packet.Packet) packet.Verdict {
		if keep {
			kept = append(kept, p.Clone())
			return packet.Consumed
		}
		return packet.Continue
	})
	transit, own := udp(hostA, hostB, pattern(10)), udp(routerB, hostB, pattern(20))
	r.fromA(transit)
	r.send(own)
	if len(kept) != 2 || len(r.b.took()) != 0 {
		t.Fatalf("%d kept", len(kept))
	}
	keep = false
	for _, p := range kept {
		r.path.Resume(p)
	}
	r.run()
	got := r.b.took()
	if len(got) != 2 || !bytes.Equal(got[0], edit(transit, 7, 63)) || !bytes.Equal(got[1], edit(own, 7, 64)) {
		t.Errorf("%d packets, drops %v", len(got), r.drops())
	}
	if s := r.path.Stats(); s.Get(Forwarded) != 1 || s.Get(Originated) != 1 {
		t.Errorf("forwarded %d, originated %d", s.Get(Forwarded), s.Get(Originated))
	}
}
