package selector

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"leveret/appliance/wire"
)

const (
	srcAddr, dstAddr = "2001:db8:1::1", "2001:db8:2::2"
	homeAddr         = "2001:db8:100::abcd"
	peerHome         = "2001:db8:100::beef"
)

// header is one extension header without its Next Header octet.
type header struct {
	proto uint8
	rest  []byte
}

func ext(proto uint8, rest ...byte) header { return header{proto, rest} }

func hao(a string) header {
	b := ip(a)
	return header{wire.DestOpts, append([]byte{2, 1, 2, 0, 0, 0xc9, 16}, b[:]...)}
}

func rh2(left byte, a string) header {
	b := ip(a)
	return header{wire.Routing, append([]byte{2, 2, left, 0, 0, 0, 0}, b[:]...)}
}

func frag(offset uint16, more byte) header {
	b := binary.BigEndian.AppendUint16([]byte{0}, offset)
	b[2] |= more
	return header{wire.Fragment, append(b, 0, 0, 0, 1)}
}

var (
	hbh    = ext(wire.HopByHop, 0, 1, 4, 0, 0, 0, 0)
	dopt   = ext(wire.DestOpts, 0, 1, 4, 0, 0, 0, 0)
	ah     = ext(wire.AH, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9)
	tcp    = []byte{0x0f, 0xa0, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0}
	echo   = []byte{128, 0, 1, 2, 3, 4, 5, 6}
	bu     = []byte{wire.NoNext, 1, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	gre    = []byte{0x20, 0, 0x86, 0xdd, 0, 1, 0, 2}
	greSum = []byte{0xa0, 0, 0x86, 0xdd, 0xff, 0xff, 0, 0, 0, 1, 0, 2}
)

// packet builds an IPv6 packet.
func packet(upper uint8, body []byte, headers ...header) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		NextHeader: upper, HopLimit: 64, Src: netip.MustParseAddr(srcAddr), Dst: netip.MustParseAddr(dstAddr),
	})
	at := wire.NextHeaderOffset
	for _, h := range headers {
		b[at], at = h.proto, len(b)
		b = append(append(b, upper), h.rest...)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-wire.IPv6HeaderLen))
	return b
}

// packet4 builds an IPv4 packet with an option.
func packet4(proto uint8, fragment uint16, body []byte) []byte {
	b := make([]byte, 24, 24+len(body))
	b[0], b[8], b[9] = 0x46, 64, proto
	binary.BigEndian.PutUint16(b[6:], fragment)
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0})
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func flow(src, dst string, proto uint8, sport, dport uint16) Flow {
	return Flow{Src: ip(src), Dst: ip(dst), Proto: proto, SPort: sport, DPort: dport}
}

func hidden(src, dst string, proto uint8) Flow {
	return Flow{Src: ip(src), Dst: ip(dst), Proto: proto, Opaque: true}
}

func v4(f Flow) Flow { f.IPv4 = true; return f }

const a4, b4 = "::ffff:10.0.0.1", "::ffff:10.0.0.2"

var decodings = []struct {
	name string
	pkt  []byte
	view View
	want Flow
	err  error
}{
	{"tcp", packet(wire.TCP, tcp), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"tcp cut to 4 octets", packet(wire.TCP, tcp[:4]), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"tcp cut to 3 octets", packet(wire.TCP, tcp[:3]), 0, hidden(srcAddr, dstAddr, wire.TCP), nil},
	{"udp", packet(wire.UDP, tcp[:8]), 0, flow(srcAddr, dstAddr, wire.UDP, 4000, 443), nil},
	{"udplite", packet(wire.UDPLite, tcp[:8]), 0, flow(srcAddr, dstAddr, wire.UDPLite, 4000, 443), nil},
	{"sctp", packet(wire.SCTP, tcp[:12]), 0, flow(srcAddr, dstAddr, wire.SCTP, 4000, 443), nil},
	{"dccp", packet(wire.DCCP, tcp[:12]), 0, flow(srcAddr, dstAddr, wire.DCCP, 4000, 443), nil},
	{"icmpv6", packet(wire.ICMPv6, echo), 0, flow(srcAddr, dstAddr, wire.ICMPv6, 128, 0), nil},
	{"icmpv6 cut to 1 octet", packet(wire.ICMPv6, echo[:1]), 0, hidden(srcAddr, dstAddr, wire.ICMPv6), nil},
	{"mh", packet(wire.MH, bu), 0, flow(srcAddr, dstAddr, wire.MH, 5, 0), nil},
	{"mh with something behind it", packet(wire.MH, append([]byte{wire.TCP}, append(bu[1:], tcp...)...)), 0, flow(srcAddr, dstAddr, wire.MH, 5, 0), nil},
	{"mh cut to 3 octets", packet(wire.MH, bu[:3]), 0, flow(srcAddr, dstAddr, wire.MH, 5, 0), nil},
	{"mh cut to 2 octets", packet(wire.MH, bu[:2]), 0, hidden(srcAddr, dstAddr, wire.MH), nil},
	{"gre with key", packet(wire.GRE, gre), 0, flow(srcAddr, dstAddr, wire.GRE, 1, 2), nil},
	{"gre with checksum and key", packet(wire.GRE, greSum), 0, flow(srcAddr, dstAddr, wire.GRE, 1, 2), nil},
	{"gre without key", packet(wire.GRE, []byte{0, 0, 0x86, 0xdd, 1, 2, 3, 4}), 0, hidden(srcAddr, dstAddr, wire.GRE), nil},
	{"gre version 1", packet(wire.GRE, []byte{0x20, 1, 0x88, 0x0b, 1, 2, 3, 4}), 0, hidden(srcAddr, dstAddr, wire.GRE), nil},
	{"gre cut", packet(wire.GRE, greSum[:11]), 0, hidden(srcAddr, dstAddr, wire.GRE), nil},
	{"esp: its SPI is no port", packet(wire.ESP, tcp), 0, hidden(srcAddr, dstAddr, wire.ESP), nil},
	{"ah", packet(wire.TCP, tcp, ah), 0, hidden(srcAddr, dstAddr, wire.AH), nil},
	{"through ah", packet(wire.TCP, tcp, dopt, ah), ThroughAH, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"ah in front of esp", packet(wire.ESP, tcp, ah), ThroughAH, hidden(srcAddr, dstAddr, wire.ESP), nil},
	{"no next header", packet(wire.NoNext, tcp), 0, hidden(srcAddr, dstAddr, wire.NoNext), nil},
	{"nothing behind the header", packet(wire.TCP, nil), 0, hidden(srcAddr, dstAddr, wire.TCP), nil},
	{"a tunnel", packet(wire.IPv6Encap, packet(wire.TCP, tcp)), 0, hidden(srcAddr, dstAddr, wire.IPv6Encap), nil},
	{"hip", packet(wire.HIP, []byte{wire.TCP, 0, 1, 1, 0, 0, 0, 0, 1, 2, 3, 4}), 0, hidden(srcAddr, dstAddr, wire.HIP), nil},
	{"all headers", packet(wire.TCP, tcp, hbh, dopt, rh2(1, peerHome), hao(homeAddr), frag(0, 1), dopt), 0, flow(homeAddr, peerHome, wire.TCP, 4000, 443), nil},
	{"all headers, of the wire", packet(wire.TCP, tcp, hbh, dopt, rh2(1, peerHome), hao(homeAddr), frag(0, 1), dopt), Wire, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"type 2, done", packet(wire.TCP, tcp, rh2(0, peerHome)), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"type 4 is none of home addresses", packet(wire.TCP, tcp, ext(wire.Routing, 0, 4, 1, 0, 0, 0, 0)), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"first fragment", packet(wire.UDP, tcp[:8], frag(0, 1)), 0, flow(srcAddr, dstAddr, wire.UDP, 4000, 443), nil},
	{"first fragment that ends inside the chain", packet(wire.TCP, []byte{wire.TCP, 1, 1, 4}, frag(0, 1), dopt)[:52], 0, hidden(srcAddr, dstAddr, 0), nil},
	{"other fragment", packet(wire.TCP, tcp, frag(8, 0)), 0, hidden(srcAddr, dstAddr, wire.TCP), nil},
	{"other fragment with a home address", packet(wire.TCP, tcp, hao(homeAddr), frag(1480, 1)), 0, hidden(homeAddr, dstAddr, wire.TCP), nil},
	{"other fragment, headers before the protocol", packet(wire.TCP, tcp, frag(8, 0), dopt), 0, hidden(srcAddr, dstAddr, 0), nil},
	{"other fragment of a fragment", packet(wire.TCP, tcp, frag(0, 0), frag(8, 0)), 0, hidden(srcAddr, dstAddr, wire.TCP), nil},
	{"atomic fragment", packet(wire.TCP, tcp, frag(0, 0)), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"the link's padding is not ports", append(packet(wire.TCP, nil), tcp...), 0, hidden(srcAddr, dstAddr, wire.TCP), nil},
	{"payload length 0: it may be a jumbogram", zeroLength(packet(wire.TCP, tcp, hbh)), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"payload length 0, no options", zeroLength(packet(wire.TCP, tcp, dopt)), 0, hidden(srcAddr, dstAddr, 0), nil},
	{"chain cut short", packet(wire.TCP, tcp, hbh, dopt)[:50], 0, hidden(srcAddr, dstAddr, 0), nil},
	{"ah cut short", packet(wire.TCP, tcp, ah)[:50], 0, hidden(srcAddr, dstAddr, wire.AH), nil},
	{"ah cut short, looked through", packet(wire.TCP, tcp, ah)[:50], ThroughAH, hidden(srcAddr, dstAddr, 0), nil},

	{"IPv4 tcp with an option", packet4(wire.TCP, 0, tcp), 0, v4(flow(a4, b4, wire.TCP, 4000, 443)), nil},
	{"IPv4 icmp", packet4(1, 0, echo), 0, v4(flow(a4, b4, 1, 128, 0)), nil},
	{"IPv4 first fragment", packet4(wire.UDP, 0x2000, tcp), 0, v4(flow(a4, b4, wire.UDP, 4000, 443)), nil},
	{"IPv4 other fragment", packet4(wire.UDP, 0x2001, tcp), 0, v4(hidden(a4, b4, wire.UDP)), nil},
	{"IPv4 padding", append(packet4(wire.UDP, 0, nil), tcp...), 0, v4(hidden(a4, b4, wire.UDP)), nil},
	{"IPv4 ah", packet4(wire.AH, 0, append(append([]byte{wire.TCP}, ah.rest...), tcp...)), 0, v4(hidden(a4, b4, wire.AH)), nil},
	{"IPv4 through ah", packet4(wire.AH, 0, append(append([]byte{wire.TCP}, ah.rest...), tcp...)), ThroughAH, v4(flow(a4, b4, wire.TCP, 4000, 443)), nil},
	{"IPv4 ah cut", packet4(wire.AH, 0, append([]byte{wire.TCP}, ah.rest[:20]...)), ThroughAH, v4(hidden(a4, b4, 0)), nil},

	{"empty", nil, 0, Flow{}, errShort},
	{"short", packet(wire.TCP, tcp)[:39], 0, Flow{}, errShort},
	{"version 5", append([]byte{0x50}, make([]byte, 60)...), 0, Flow{}, errVersion},
	{"hop-by-hop twice", packet(wire.TCP, tcp, hbh, hbh), 0, Flow{}, errChain},
	{"seventeen headers", packet(wire.TCP, tcp, many(17)...), 0, Flow{}, errChain},
	{"sixteen headers", packet(wire.TCP, tcp, many(16)...), 0, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"two home addresses", packet(wire.TCP, tcp, hao(homeAddr), hao(homeAddr)), 0, Flow{}, errHome},
	{"two home addresses, of the wire", packet(wire.TCP, tcp, hao(homeAddr), hao(homeAddr)), Wire, flow(srcAddr, dstAddr, wire.TCP, 4000, 443), nil},
	{"home address of a group", packet(wire.TCP, tcp, hao("ff02::1")), 0, Flow{}, errHome},
	{"no home address", packet(wire.TCP, tcp, hao("::")), 0, Flow{}, errHome},
	{"home address of 4 octets", packet(wire.TCP, tcp, ext(wire.DestOpts, 0, 0xc9, 4, 1, 2, 3, 4)), 0, Flow{}, errHome},
	{"options over the end", packet(wire.TCP, tcp, ext(wire.DestOpts, 0, 1, 9, 0, 0, 0, 0)), 0, Flow{}, errOptions},
	{"type 2 with two left", packet(wire.TCP, tcp, rh2(2, peerHome)), 0, Flow{}, errType2},
	{"type 2 of 8 octets", packet(wire.TCP, tcp, ext(wire.Routing, 0, 2, 1, 0, 0, 0, 0)), 0, Flow{}, errType2},
	{"type 2 to a group", packet(wire.TCP, tcp, rh2(1, "ff02::1")), 0, Flow{}, errType2},
	{"IPv4 short", packet4(wire.TCP, 0, nil)[:19], 0, Flow{}, errShort},
	{"IPv4 options cut", packet4(wire.TCP, 0, nil)[:20], 0, Flow{}, errShort},
	{"IPv4 header of 16 octets", append([]byte{0x44}, packet4(wire.TCP, 0, nil)[1:]...), 0, Flow{}, errChain},
}

func zeroLength(b []byte) []byte { b[4], b[5] = 0, 0; return b }

func many(n int) (hs []header) {
	for range n {
		hs = append(hs, dopt)
	}
	return hs
}

func TestDecode(t *testing.T) {
	for _, c := range decodings {
		got, err := Decode(c.pkt, c.view)
		if !errors.Is(err, c.err) || got != c.want {
			t.Errorf("%s: %+v %v\nwant %+v %v", c.name, got, err, c.want, c.err)
		}
		if n := testing.AllocsPerRun(10, func() { _, _ = Decode(c.pkt, c.view) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// TestDecodeLinux: what Linux 6.1 sent for policies with Type 2 Routing headers and Home Address options.
func TestDecodeLinux(t *testing.T) {
	for _, c := range []struct {
		name, pkt string
		view      View
		want      Flow
	}{
		{"hao", "6006d26500303c4020010db802000000000000000000123420010db80001000000000000000000053a0201020000c91020010db801000000000000000000abcd80009c3e01920000c3941602000000000000000000000000",
			0, flow("2001:db8:100::abcd", "2001:db8:1::5", wire.ICMPv6, 128, 0)},
		{"rh2", "60099d1900302b4020010db803000000000000000000000c20010db80001000000000000000000c63a0202010000000020010db800010000000000000000000680009ba5019600004aea3902000000000000000000000000",
			0, flow("2001:db8:300::c", "2001:db8:1::6", wire.ICMPv6, 128, 0)},
		{"rh2, hao", "6004506e00482b4020010db802000000000000000000123420010db80001000000000000000000ca3c0202010000000020010db800010000000000000000000a3a0201020000c91020010db801000000000000000000abcd8000f4bd01b30000b4eecc02000000000000000000000000",
			0, flow("2001:db8:100::abcd", "2001:db8:1::a", wire.ICMPv6, 128, 0)},
		{"hao, ah", "60059f6a00503c4020010db802000000000000000000123420010db800010000000000000000000b330201020000c91020010db801000000000000000000abcd3a0600000000510b0000000171b6215872c8f1fda45935da600e7cc70000abcd8000643901b90000216cf002000000000000000000000000",
			ThroughAH, flow("2001:db8:100::abcd", "2001:db8:1::b", wire.ICMPv6, 128, 0)},
		{"hao, ah", "60059f6a00503c4020010db802000000000000000000123420010db800010000000000000000000b330201020000c91020010db801000000000000000000abcd3a0600000000510b0000000171b6215872c8f1fda45935da600e7cc70000abcd8000643901b90000216cf002000000000000000000000000",
			Wire, hidden("2001:db8:200::1234", "2001:db8:1::b", wire.AH)},
	} {
		b, err := hex.DecodeString(c.pkt)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(b, c.view); err != nil || got != c.want {
			t.Errorf("%s: %+v %v\nwant %+v", c.name, got, err, c.want)
		}
	}
}

func TestReverse(t *testing.T) {
	for _, c := range []struct{ in, want Flow }{
		{flow(srcAddr, dstAddr, wire.TCP, 1, 2), flow(dstAddr, srcAddr, wire.TCP, 2, 1)},
		{flow(srcAddr, dstAddr, wire.ICMPv6, 128, 3), flow(dstAddr, srcAddr, wire.ICMPv6, 128, 3)},
		{flow(srcAddr, dstAddr, wire.GRE, 1, 2), flow(dstAddr, srcAddr, wire.GRE, 1, 2)},
		{hidden(srcAddr, dstAddr, wire.ESP), hidden(dstAddr, srcAddr, wire.ESP)},
	} {
		if got := c.in.Reverse(); got != c.want || got.Reverse() != c.in {
			t.Errorf("%+v", got)
		}
	}
}

// TestQuoted: the way back of what an ICMP error quotes (RFC 4301 6.2).
func TestQuoted(t *testing.T) {
	quote := func(typ byte, pkt []byte) []byte { return append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, pkt...) }
	for _, c := range []struct {
		name  string
		proto uint8
		msg   []byte
		want  Flow
		err   error
	}{
		{"too big", wire.ICMPv6, quote(2, packet(wire.TCP, tcp, hbh)), flow(dstAddr, srcAddr, wire.TCP, 443, 4000), nil},
		{"home addresses", wire.ICMPv6, quote(1, packet(wire.UDP, tcp, rh2(1, peerHome), hao(homeAddr))), flow(peerHome, homeAddr, wire.UDP, 443, 4000), nil},
		{"cut short", wire.ICMPv6, quote(1, packet(wire.TCP, tcp, dopt)[:51]), hidden(dstAddr, srcAddr, wire.TCP), nil},
		{"esp", wire.ICMPv6, quote(1, packet(wire.ESP, tcp)), hidden(dstAddr, srcAddr, wire.ESP), nil},
		{"IPv4", 1, quote(3, packet4(wire.TCP, 0, tcp[:8])), v4(flow(b4, a4, wire.TCP, 443, 4000)), nil},
		{"echo", wire.ICMPv6, quote(128, packet(wire.TCP, tcp)), Flow{}, errNotQuote},
		{"IPv4 echo", 1, quote(8, packet4(wire.TCP, 0, tcp)), Flow{}, errNotQuote},
		{"no ICMP", wire.TCP, quote(3, packet(wire.TCP, tcp)), Flow{}, errNotQuote},
		{"header only", wire.ICMPv6, quote(1, nil), Flow{}, errShort},
		{"less than a header", wire.ICMPv6, quote(1, nil)[:7], Flow{}, errNotQuote},
	} {
		if got, err := Quoted(c.proto, c.msg, 0); !errors.Is(err, c.err) || got != c.want {
			t.Errorf("%s: %+v %v\nwant %+v %v", c.name, got, err, c.want, c.err)
		}
	}
}

// cutShort checks that no beginning of a packet has other ports than the packet.
func cutShort(t *testing.T, pkt []byte, view View) {
	t.Helper()
	whole, werr := Decode(pkt, view)
	for n := range pkt {
		f, err := Decode(pkt[:n], view)
		if err != nil || f.Opaque || werr != nil {
			continue
		}
		if f != whole {
			t.Fatalf("view %d, %d octets of %d: %+v\nwhole: %+v", view, n, len(pkt), f, whole)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range decodings {
		f.Add(c.pkt)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		for view := View(0); view <= Wire|ThroughAH; view++ {
			cutShort(t, pkt, view)
			if f, err := Decode(pkt, view); err == nil && f.Reverse().Reverse() != f {
				t.Fatalf("%+v", f)
			}
		}
		_, _ = Quoted(wire.ICMPv6, pkt, 0)
	})
}

func FuzzWords(f *testing.F) {
	f.Add("src", "2001:db8::/48", "proto", "ipv6-icmp", "type", "133-137")
	f.Add("proto", "gre", "key", "1.2.3.4/0xff000000", "dev", "lan0")
	f.Add("proto", "udp", "sport", "0-1023", "dport", "5/0xff")
	f.Add("proto", "udp", "sport", "0", "dport", "0/0xffff")
	f.Fuzz(func(t *testing.T, a, b, c, d, e, g string) {
		s, _, err := Words([]string{a, b, c, d, e, g})
		if err != nil {
			return
		}
		all, err := s.Selectors(link)
		if err != nil {
			return
		}
		for _, sel := range all {
			if err := sel.Valid(); err != nil {
				t.Fatalf("%+v: %v", sel, err)
			}
			if again := one(t, sel.Text(linkName)); again != sel {
				t.Fatalf("%s is read as %+v, was %+v", sel.Text(linkName), again, sel)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name string
		pkt  []byte
	}{{"tcp", packet(wire.TCP, tcp)}, {"rh2-hao", packet(wire.TCP, tcp, rh2(1, peerHome), hao(homeAddr))}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := Decode(c.pkt, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
