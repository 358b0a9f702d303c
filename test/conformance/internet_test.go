package conformance

import (
	"net/netip"
	"strings"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// withHeaders puts extension headers in front of an echo request to dst.
func withHeaders(src, dst netip.Addr, first uint8, headers ...byte) []byte {
	b := echo(src, dst, 64, 8)
	out := append(append([]byte(nil), b[:wire.IPv6HeaderLen]...), headers...)
	out = append(out, b[wire.IPv6HeaderLen:]...)
	n := len(out) - wire.IPv6HeaderLen
	out[4], out[5], out[6] = byte(n>>8), byte(n), first
	return out
}

// internet is RFC 8200, RFC 4443 and RFC 8201.
func internet() []row {
	known := func(l *lab) { l.answers[peerA], l.answers[peerLL] = true, true }
	farKnown := func(l *lab) {
		known(l)
		l.farPeer.OnFrame = nil
		// The far peer makes itself known.
		l.farPeer.Send([6]byte{0x33, 0x33, 0xff, 0, 0, 1}, ndwire.AppendNS(nil, ndwire.NS{
			Src: farAddr, Dst: wire.SolicitedNode(netip.MustParseAddr("2001:db8:2::1")), Target: netip.MustParseAddr("2001:db8:2::1"), SourceLLA: &l.farPeer.MAC,
		}))
		l.net.Settle()
	}
	pointer := func(b []byte) int { return int(b[44])<<24 | int(b[45])<<16 | int(b[46])<<8 | int(b[47]) }
	options := []row{}
	for _, o := range []struct {
		what string
		typ  byte
		src  netip.Addr
		dst  netip.Addr
		code int // of the Parameter Problem; -1 = none
		echo bool
	}{
		{"00: is skipped", 0x1e, peerA, dutAddr, -1, true},
		{"01: the packet is discarded", 0x5e, peerA, dutAddr, -1, false},
		{"10: discarded with Parameter Problem code 2", 0x9e, peerA, dutAddr, 2, false},
		{"11: discarded with Parameter Problem code 2", 0xde, peerA, dutAddr, 2, false},
		{"10, to a group: discarded with Parameter Problem code 2", 0x9e, peerA, wire.AllNodes, 2, false},
		{"11, to a group: discarded in silence", 0xde, peerA, wire.AllNodes, -1, false},
	} {
		options = append(options, row{"8200 4.2", "MUST", "an unknown option, action " + o.what, both, func(l *lab) error {
			known(l)
			l.send(withHeaders(o.src, o.dst, 60, wire.ICMPv6, 0, o.typ, 4, 0, 0, 0, 0))
			got := l.icmp(wire.TypeParameterProblem)
			if o.code < 0 {
				return want(len(got) == 0 && (len(l.icmp(wire.TypeEchoReply)) == 1) == o.echo, "%d problems, %d replies", len(got), len(l.icmp(wire.TypeEchoReply)))
			}
			return want(len(got) == 1 && int(got[0][41]) == o.code && pointer(got[0]) == 42, "%d problems", len(got))
		}})
	}
	return append(options, []row{
		{"4443 4.2", "MUST", "an echo request is answered, data and all", both, func(l *lab) error {
			known(l)
			l.send(echo(peerA, dutAddr, 64, 100))
			got := l.icmp(wire.TypeEchoReply)
			return want(len(got) == 1 && len(got[0]) == 148 && got[0][45] == 7, "%d replies", len(got))
		}},
		{"4443 4.2", "SHOULD", "an echo request to a group is answered from a unicast address", both, func(l *lab) error {
			known(l)
			l.send(echo(peerLL, wire.AllNodes, 64, 8))
			got := l.icmp(wire.TypeEchoReply)
			return want(len(got) == 1 && netip.AddrFrom16([16]byte(got[0][8:24])) == dutLL, "%d replies", len(got))
		}},
		{"4443 2.4 e", "MUST NOT", "an error answers an error", both, func(l *lab) error {
			known(l)
			b := echo(peerA, dutAddr, 64, 100)
			b[40], b[41] = wire.TypeDestinationUnreachable, 4
			l.send(resum(b))
			l.send(inFragment(resum(b))[:60])
			return want(len(l.icmp(wire.TypeDestinationUnreachable))+len(l.icmp(wire.TypeParameterProblem)) == 0, "it does")
		}},
		{"4443 2.4 e", "MUST NOT", "an error answers a packet from ::", both, func(l *lab) error {
			l.send(withHeaders(netip.IPv6Unspecified(), dutAddr, 99))
			l.advance(sec)
			return want(len(l.icmp(wire.TypeParameterProblem)) == 0, "it does")
		}},
		{"4443 2.4 c", "MUST", "an error has as much of the packet as fits 1280 octets", both, func(l *lab) error {
			known(l)
			l.send(withHeaders(peerA, dutAddr, 99, make([]byte, 1400)...))
			got := l.icmp(wire.TypeParameterProblem)
			return want(len(got) == 1 && len(got[0]) == 1280, "%d errors", len(got))
		}},
		{"4443 2.4 f", "MUST", "errors are limited in rate", both, func(l *lab) error {
			known(l)
			for range 1000 {
				l.send(withHeaders(peerA, dutAddr, 99))
			}
			n := len(l.icmp(wire.TypeParameterProblem))
			return want(n > 0 && n < 200, "%d for 1000 packets", n)
		}},
		{"8200 4", "MUST", "an unknown Next Header is answered with Parameter Problem code 1", both, func(l *lab) error {
			known(l)
			l.send(withHeaders(peerA, dutAddr, 99))
			got := l.icmp(wire.TypeParameterProblem)
			return want(len(got) == 1 && got[0][41] == 1 && pointer(got[0]) == 6, "%d problems", len(got))
		}},
		{"5095 3", "MUST", "a Type 0 routing header with segments left is refused", both, func(l *lab) error {
			known(l)
			l.send(withHeaders(peerA, dutAddr, wire.Routing, append([]byte{wire.ICMPv6, 2, 0, 1, 0, 0, 0, 0}, make([]byte, 16)...)...))
			got := l.icmp(wire.TypeParameterProblem)
			return want(len(got) == 1 && got[0][41] == 0 && pointer(got[0]) == 42, "%d problems", len(got))
		}},
		{"8200 4.4", "MUST", "an unknown routing header without segments left is skipped", both, func(l *lab) error {
			known(l)
			l.send(withHeaders(peerA, dutAddr, wire.Routing, wire.ICMPv6, 0, 99, 0, 0, 0, 0, 0))
			return want(len(l.icmp(wire.TypeEchoReply)) == 1, "no reply")
		}},
		{"6946 4", "MUST", "an atomic fragment is a whole packet", both, func(l *lab) error {
			known(l)
			l.send(inFragment(echo(peerA, dutAddr, 64, 8)))
			return want(len(l.icmp(wire.TypeEchoReply)) == 1, "no reply")
		}},
		{"5722 4", "MUST", "overlapping fragments are discarded, all of them", both, func(l *lab) error {
			known(l)
			b := echo(peerA, dutAddr, 64, 40)
			frag := func(off, end int, more byte) []byte {
				out := append(append([]byte(nil), b[:40]...), wire.ICMPv6, 0, byte(off>>8), byte(off)|more, 0, 0, 0, 9)
				out = append(out, b[40+off:40+end]...)
				out[4], out[5], out[6] = 0, byte(len(out)-40), wire.Fragment
				return out
			}
			l.send(frag(0, 24, 1))
			l.send(frag(16, 32, 1))
			l.send(frag(32, 48, 0))
			return want(len(l.icmp(wire.TypeEchoReply)) == 0, "answered")
		}},
		{"8200 4.5", "MUST", "fragments make a packet in any order", both, func(l *lab) error {
			known(l)
			b := echo(peerA, dutAddr, 64, 40)
			frag := func(off, end int, more byte) []byte {
				out := append(append([]byte(nil), b[:40]...), wire.ICMPv6, 0, byte(off>>8), byte(off)|more, 0, 0, 0, 9)
				out = append(out, b[40+off:40+end]...)
				out[4], out[5], out[6] = 0, byte(len(out)-40), wire.Fragment
				return out
			}
			l.send(frag(24, 48, 0))
			l.send(frag(0, 24, 1))
			return want(len(l.icmp(wire.TypeEchoReply)) == 1, "no reply")
		}},
		{"8200 4.5", "MUST", "fragments that stay incomplete are given up after 60 s: Time Exceeded code 1", both, func(l *lab) error {
			known(l)
			b := echo(peerA, dutAddr, 64, 40)
			out := append(append([]byte(nil), b[:40]...), wire.ICMPv6, 0, 0, 1, 0, 0, 0, 9)
			out = append(out, b[40:64]...)
			out[4], out[5], out[6] = 0, byte(len(out)-40), wire.Fragment
			l.send(out)
			l.advance(59 * sec)
			early := len(l.icmp(wire.TypeTimeExceeded))
			l.advance(2 * sec)
			got := l.icmp(wire.TypeTimeExceeded)
			return want(early == 0 && len(got) == 1 && got[0][41] == 1, "%d early, %d", early, len(got))
		}},
		{"8200 3", "MUST", "a router takes one off the hop limit", router, func(l *lab) error {
			farKnown(l)
			l.send(echo(peerA, farAddr, 9, 8))
			for _, f := range l.far.Frames {
				if p := f.Data[14:]; p[6] == wire.ICMPv6 && p[40] == wire.TypeEchoRequest {
					return want(p[7] == 8, "%d", p[7])
				}
			}
			return want(false, "not forwarded")
		}},
		{"8200 3", "MUST", "a hop limit of 1 ends at the router: Time Exceeded code 0", router, func(l *lab) error {
			farKnown(l)
			l.send(echo(peerA, farAddr, 1, 8))
			got := l.icmp(wire.TypeTimeExceeded)
			return want(len(got) == 1 && got[0][41] == 0, "%d", len(got))
		}},
		{"4443 3.1", "SHOULD", "no route: Destination Unreachable code 0", router, func(l *lab) error {
			farKnown(l)
			l.send(echo(peerA, netip.MustParseAddr("3fff::1"), 64, 8))
			got := l.icmp(wire.TypeDestinationUnreachable)
			return want(len(got) == 1 && got[0][41] == 0, "%d", len(got))
		}},
		{"4443 3.1", "SHOULD", "a link-local source does not leave its link: code 2", router, func(l *lab) error {
			farKnown(l)
			l.send(echo(peerLL, farAddr, 64, 8))
			got := l.icmp(wire.TypeDestinationUnreachable)
			return want(len(got) == 1 && got[0][41] == 2, "%d", len(got))
		}},
		{"4291 2.5.6", "MUST NOT", "a packet to a link-local address is forwarded", router, func(l *lab) error {
			farKnown(l)
			n := len(l.far.Frames)
			l.send(echo(peerA, netip.MustParseAddr("fe80::77"), 64, 8))
			return want(len(l.far.Frames) == n, "it is")
		}},
		{"8200 3", "MUST NOT", "a host forwards", host, func(l *lab) error {
			l.send(echo(peerA, farAddr, 64, 8))
			l.advance(4 * sec)
			return want(len(l.icmp(wire.TypeEchoRequest)) == 0, "it does")
		}},
		{"8200 5", "MUST", "a packet longer than the next link takes: Packet Too Big with its MTU", router, func(l *lab) error {
			l = newLab(l.net.T, router, strings.Replace(routerYAML, `"2001:db8:2::1/64"], `, `"2001:db8:2::1/64"], mtu: 1400, `, 1))
			known(l)
			l.send(echo(peerA, farAddr, 64, 1450))
			got := l.icmp(wire.TypePacketTooBig)
			return want(len(got) == 1 && pointer(got[0]) == 1400, "%d", len(got))
		}},
		{"8201 4", "MUST", "Packet Too Big is believed: later packets are smaller", both, func(l *lab) error {
			known(l)
			l.send(echo(peerA, dutAddr, 64, 1400))
			first := l.icmp(wire.TypeEchoReply)
			if len(first) != 1 {
				return want(false, "no reply")
			}
			ptb := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + 200), NextHeader: wire.ICMPv6, HopLimit: 64, Src: peerA, Dst: dutAddr})
			ptb = append(ptb, wire.TypePacketTooBig, 0, 0, 0, 0, 0, 5, 0x14) // 1300
			ptb = append(ptb, first[0][:200]...)
			l.send(resum(ptb))
			l.forget()
			l.send(echo(peerA, dutAddr, 64, 1400))
			for _, s := range l.out() {
				if len(s.pkt) > 1300 {
					return want(false, "%d octets", len(s.pkt))
				}
			}
			return want(len(l.out()) >= 2, "%d packets", len(l.out()))
		}},
		{"8201 4", "MUST NOT", "a path MTU goes below 1280", both, func(l *lab) error {
			known(l)
			l.send(echo(peerA, dutAddr, 64, 1200))
			first := l.icmp(wire.TypeEchoReply)
			if len(first) != 1 {
				return want(false, "no reply")
			}
			ptb := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + 200), NextHeader: wire.ICMPv6, HopLimit: 64, Src: peerA, Dst: dutAddr})
			ptb = append(ptb, wire.TypePacketTooBig, 0, 0, 0, 0, 0, 0, 40)
			ptb = append(ptb, first[0][:200]...)
			l.send(resum(ptb))
			l.forget()
			l.send(echo(peerA, dutAddr, 64, 1200))
			return want(len(l.out()) == 1, "%d packets", len(l.out()))
		}},
	}...)
}
