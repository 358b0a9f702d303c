package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// TestErrorRules is RFC 4443 2.2 and 2.4(c), (e): what is answered, from where, with how much.
func TestErrorRules(t *testing.T) {
	unknown := func(src, dst netip.Addr) []byte { return ip6(src, dst, 200, pattern(2000)) }
	ll := netip.MustParseAddr("fe80::99")
	group := netip.MustParseAddr("ff02::1")
	expired := func(b []byte) []byte { return edit(b, 7, 1) }
	for _, c := range []struct {
		name string
		pkt  []byte
		from netip.Addr // of the error; zero = none is sent
	}{
		{"to our unicast address: from it", unknown(hostA, routerA), routerA},
		{"to our address on another link: from that", unknown(hostA, routerB), routerB},
		{"from a link-local source: from our link-local address", unknown(ll, llA), llA},
		{"in transit: as for anything else to that destination", expired(udp(hostA, hostB, nil)), routerB},
		{"to anycast: not from it", unknown(hostA, netip.MustParseAddr("2001:db8:1::")), routerB},
		{"to a group", unknown(hostA, group), netip.Addr{}},
		{"about an ICMPv6 error", expired(ip6(hostA, hostB, wire.ICMPv6, []byte{1, 0, 0, 0, 0, 0, 0, 0})), netip.Addr{}},
		{"about an ICMPv6 error behind an extension header", expired(ip6(hostA, hostB, wire.DestOpts, []byte{wire.ICMPv6, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})), netip.Addr{}},
		{"about a redirect", expired(ip6(hostA, hostB, wire.ICMPv6, []byte{wire.TypeRedirect, 0, 0, 0, 0, 0, 0, 0})), netip.Addr{}},
		{"about an echo request", expired(echoRequest(hostA, hostB, nil)), routerB},
		{"about a later fragment, whose protocol nobody can see", expired(ip6(hostA, hostB, wire.Fragment, []byte{wire.ICMPv6, 0, 0, 8, 0, 0, 0, 1}, []byte{1, 0, 0, 0, 0, 0, 0, 0})), routerB},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.fromA(c.pkt)
			got := r.a.took()
			if !c.from.IsValid() {
				if len(got) != 0 {
					t.Fatalf("answered with % x", got[0][40:48])
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("%d answers, drops %v", len(got), r.drops())
			}
			e := got[0]
			if src := netip.AddrFrom16([16]byte(e[8:24])); src != c.from {
				t.Errorf("from %s, want %s", src, c.from)
			}
			if q := r.router.asked; q.Dst.IsValid() && (q.Proto != wire.ICMPv6 || q.Dst != netip.AddrFrom16([16]byte(c.pkt[8:24]))) {
				t.Errorf("asked for the route %+v", q) // a rule may be for ICMPv6
			}
			if want := min(len(c.pkt), 1232); len(e) != 48+want || !bytes.Equal(e[48:], c.pkt[:want]) {
				t.Errorf("quotes %d octets, want %d as they came", len(e)-48, want)
			}
			if !wire.VerifyICMPv6(e, 40) || e[7] != 64 {
				t.Error("checksum or hop limit")
			}
		})
	}
}

// TestErrorRate: RFC 4443 2.4(f): a burst, then the rate; 0 switches the limit off.
func TestErrorRate(t *testing.T) {
	bad := edit(udp(hostA, hostB, nil), 7, 1)
	r := newRig(t)
	r.path.SetParams(Params{ErrorRate: 10, ErrorBurst: 5, HopLimit: 64})
	send := func(n int) int {
		for range n {
			r.fromA(bad)
		}
		return len(r.a.took())
	}
	if n := send(20); n != 5 {
		t.Errorf("a burst of %d", n)
	}
	if n := r.drops()[packet.ErrorRateLimited]; n != 15 {
		t.Errorf("%d counted", n)
	}
	r.clock.Advance(300 * time.Millisecond)
	if n := send(20); n != 3 {
		t.Errorf("%d after 0.3 s at 10 a second", n)
	}
	r.clock.Advance(time.Hour)
	if n := send(20); n != 5 {
		t.Errorf("the bucket holds %d", n)
	}
	r.path.SetParams(Params{HopLimit: 64})
	if n := send(200); n != 200 {
		t.Errorf("%d without a limit", n)
	}
}

// TestNeighborFailureIsReported: a neighbor known to be gone is Destination Unreachable code 3.
func TestNeighborFailureIsReported(t *testing.T) {
	r := newRig(t)
	r.path.hooks[module.StageResolve] = []namedHook{{"test", func(p *packet.Packet) packet.Verdict {
		if p.Out == 2 {
			return packet.Drop(packet.NeighborUnreachable)
		}
		return packet.Continue
	}}}
	r.fromA(udp(hostA, hostB, nil))
	got := r.a.took()
	if d := r.drops(); d[packet.NeighborUnreachable] != 1 || len(got) != 1 || icmpOf(got[0]) != (module.ICMPError{Type: 1, Code: 3}) {
		t.Errorf("drops %v, %d answers", d, len(got))
	}
}

// TestFragmentIdentificationsAreUnpredictable: no two in a thousand are alike or in a row (RFC 7739 5).
func TestFragmentIdentificationsAreUnpredictable(t *testing.T) {
	r := newRig(t)
	seen := map[uint32]bool{}
	var last uint32
	rows := 0
	for range 1000 {
		r.send(udp(routerA, hostA, pattern(1600)))
		id := binary.BigEndian.Uint32(r.a.took()[0][44:])
		if seen[id] {
			t.Fatalf("identification %d twice", id)
		}
		if id-last < 1000 {
			rows++
		}
		seen[id], last = true, id
	}
	if rows > 3 {
		t.Errorf("%d of 1000 follow the one before", rows)
	}
}

// superpacket builds a TCP segment of n octets with an unfinished checksum.
func superpacket(n int) ([]byte, packet.GSO) {
	tcp := []byte{0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 9, 8 << 4, 0x80 | 0x18 | 1, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	b := ip6(hostA, hostB, wire.TCP, tcp, pattern(n))
	sum := wire.Fold(wire.PseudoHeader(src(b), dst(b), wire.TCP, len(b)-40))
	binary.BigEndian.PutUint16(b[40+16:], sum)
	return b, packet.GSO{Type: packet.GSOTCP6, Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 16, Size: 1400, HdrLen: 72}
}

// TestSuperpacketPassesWhole over a port that takes it: one hop limit decrement.
func TestSuperpacketPassesWhole(t *testing.T) {
	r := newRig(t)
	r.b.caps.TSO, r.b.caps.Checksum = true, true
	r.path.Attach(2, r.b)
	b, g := superpacket(20000)
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, b), g})
	r.run()
	if len(r.b.out) != 1 || r.b.out[0].gso != g || len(r.b.out[0].data) != len(b)+14 || r.b.out[0].data[14+7] != 63 {
		t.Fatalf("%d frames", len(r.b.out))
	}
}

// TestSegmentTCP: split for a port without offload, the pieces make the whole: sequence numbers,
// flags, lengths, checksums.
func TestSegmentTCP(t *testing.T) {
	r := newRig(t)
	b, g := superpacket(5000)
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, b), g})
	r.run()
	got := r.b.took()
	if len(got) != 4 {
		t.Fatalf("%d segments, drops %v", len(got), r.drops())
	}
	var payload []byte
	for i, s := range got {
		if seq := binary.BigEndian.Uint32(s[44:]); int(seq) != 1+len(payload) {
			t.Errorf("segment %d: sequence number %d", i, seq)
		}
		fin, psh, cwr := s[53]&1 != 0, s[53]&8 != 0, s[53]&0x80 != 0
		if last := i == len(got)-1; fin != last || psh != last || cwr != (i == 0) {
			t.Errorf("segment %d: flags %02x", i, s[53])
		}
		if wire.Checksum(src(s), dst(s), wire.TCP, s[40:]) != 0 || int(binary.BigEndian.Uint16(s[4:])) != len(s)-40 {
			t.Errorf("segment %d: checksum or length", i)
		}
		payload = append(payload, s[72:]...)
	}
	if !bytes.Equal(payload, b[72:]) {
		t.Error("the payload is another")
	}
}

// TestSuperpacketTooBig: the size that counts is a segment's, and the error quotes one.
func TestSuperpacketTooBig(t *testing.T) {
	r := newRig(t)
	r.link(2, func(l *module.Link) { l.MTU = 1280 })
	b, g := superpacket(5000)
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, b), g})
	r.run()
	got := r.a.took()
	if len(got) != 1 || icmpOf(got[0]) != (module.ICMPError{Type: 2, Arg: 1280}) {
		t.Fatalf("%d answers", len(got))
	}
	if n := binary.BigEndian.Uint16(got[0][48+4:]); int(n) != 72+1400-40 {
		t.Errorf("the quoted packet claims %d octets", n)
	}
}

// TestChecksumCompleted for a port that leaves it to us, and left alone for one that does not.
func TestChecksumCompleted(t *testing.T) {
	r := newRig(t)
	b := udp(hostA, hostB, pattern(100))
	want := append([]byte(nil), b...)
	sum := wire.Fold(wire.PseudoHeader(src(b), dst(b), wire.UDP, len(b)-40))
	binary.BigEndian.PutUint16(b[46:], sum)
	g := packet.GSO{Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 6}
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, b), g})
	r.run()
	want[7]--
	if got := r.b.took(); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("got % x\nwant % x", got[0][40:48], want[40:48])
	}
}

// TestUDPSuperpacketForUsIsDeliveredDatagramByDatagram.
func TestUDPSuperpacketForUsIsDeliveredDatagramByDatagram(t *testing.T) {
	r := newRig(t)
	b := udp(hostA, routerA, pattern(2500))
	g := packet.GSO{Type: packet.GSOUDP, Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 6, Size: 1000, HdrLen: 48}
	r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, b), g})
	r.run()
	if len(r.host.got) != 3 {
		t.Fatalf("%d datagrams, drops %v", len(r.host.got), r.drops())
	}
	var data []byte
	for _, p := range r.host.got {
		half := wire.Fold(wire.PseudoHeader(src(p.Bytes()), dst(p.Bytes()), wire.UDP, len(p.Bytes())-40))
		if p.GSO != (packet.GSO{Csum: packet.CsumPartial, CsumStart: 40, CsumOffset: 6}) || binary.BigEndian.Uint16(p.Bytes()[46:]) != half {
			t.Errorf("checksum: %+v % x", p.GSO, p.Bytes()[46:48])
		}
		data = append(data, p.Bytes()[48:]...)
	}
	if !bytes.Equal(data, b[48:]) {
		t.Error("the data is another")
	}
}

// TestEveryTruncatedPrefix of packets of every kind: no crash, one outcome each.
func TestEveryTruncatedPrefix(t *testing.T) {
	var all [][]byte
	super, g := superpacket(3000)
	all = append(all, udp(hostA, hostB, pattern(40)), udp(hostA, routerA, pattern(40)), echoRequest(hostA, routerA, pattern(40)),
		ptb(udp(routerA, hostB, nil), 1300), fragments(udp(hostA, routerA, pattern(3000)), 1, 1024)[0],
		ip6(hostA, routerA, wire.HopByHop, []byte{wire.Routing, 0, 5, 2, 0, 0, 1, 0}, []byte{wire.DestOpts, 2, 0, 0}, make([]byte, 20), []byte{wire.UDP, 0, 1, 4, 0, 0, 0, 0}, make([]byte, 16)),
		super)
	for k, b := range all {
		r := newRig(t)
		for n := range len(b) + 1 {
			cut := append([]byte(nil), b[:n]...)
			for _, lie := range []bool{false, true} { // with the length it had, and with the one it has
				if lie && n >= 40 {
					binary.BigEndian.PutUint16(cut[4:], uint16(n-40))
				}
				f := memFrame{data: frame(macA, peerMAC, cut)}
				if k == len(all)-1 {
					f.gso = g
				}
				r.a.in = append(r.a.in, f)
				r.run()
			}
		}
		if w := r.path.workers[1]; w.pool.Made()-w.pool.Free()-len(w.vector) != 0 {
			t.Errorf("packet %d: buffers are missing", k)
		}
	}
}

// FuzzPath: whatever frame comes in, every buffer comes home and nothing panics.
func FuzzPath(f *testing.F) {
	f.Add(udp(hostA, hostB, pattern(40)), true)
	f.Add(echoRequest(hostA, routerA, pattern(40)), true)
	f.Add(fragments(udp(hostA, routerA, pattern(3000)), 1, 1024)[0], true)
	f.Add(ip6(hostA, routerA, wire.HopByHop, []byte{wire.UDP, 0, 5, 2, 0, 0, 1, 0}, make([]byte, 16)), true)
	r := newRig(f)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) >= 40 {
			b = append([]byte(nil), b...)
			b[0] = 0x60
			binary.BigEndian.PutUint16(b[4:], uint16(min(len(b)-40, 65535)))
		}
		if len(b) > 60000 {
			return
		}
		r.fromA(b)
		r.a.out, r.b.out, r.tun.out, r.host.got = nil, nil, nil, nil
		if w := r.path.workers[1]; w.pool.Made()-w.pool.Free()-len(w.vector) != 0 {
			t.Error("buffers are missing")
		}
	})
}
