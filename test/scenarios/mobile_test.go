package scenarios

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/netstack"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/test/simnet"
)

// awayFromHome are the sections of a node that is at careOf, of another that is at itsCareOf: all between their home
// addresses goes by the care-of addresses, protected by AH around ESP if secure.
func awayFromHome(home, careOf, its, itsCareOf string, secure bool) string {
	var b strings.Builder
	state := func(src, dst, format string, a ...any) {
		fmt.Fprintf(&b, "    - {src: %q, dst: %q, %s}\n", src, dst, fmt.Sprintf(format, a...))
	}
	b.WriteString("ipsec:\n  states:\n")
	state(home, its, "proto: route2, mode: ro, coa: %q", itsCareOf)
	state(home, its, "proto: hao, mode: ro, coa: %q", careOf)
	state(its, home, "proto: hao, mode: ro, coa: %q", itsCareOf)
	state("::", home, "proto: route2, mode: ro, coa: %q, flags: [wildrecv]", careOf)
	templates := ""
	if secure {
		for _, e := range [][2]string{{home, its}, {its, home}} {
			spi := map[bool]int{true: 0x1001, false: 0x1002}[e[0] < e[1]]
			state(e[0], e[1], `proto: esp, spi: %d, mode: transport, aead: {name: "rfc4106(gcm(aes))", key: "0x000102030405060708090a0b0c0d0e0f1011%04x", icv_bits: 128}`, spi, spi)
			state(e[0], e[1], `proto: ah, spi: %d, mode: transport, auth: {name: "hmac(sha1)", key: "0x0102030405060708090a0b0c0d0e0f101112%04x"}`, spi, spi)
		}
		templates = "{proto: esp, mode: transport}, {proto: ah, mode: transport}"
	}
	b.WriteString("  policies:\n")
	for _, p := range []struct{ dir, src, dst, mobile string }{
		{"out", home, its, "{proto: route2, mode: ro}, {proto: hao, mode: ro}"}, {"in", its, home, "{proto: hao, mode: ro}, {proto: route2, mode: ro}"},
	} {
		fmt.Fprintf(&b, "    - {name: ro-%s, dir: %s, sub: sub, priority: 10, action: protect, selector: {src: %q, dst: %q}, templates: [%s]}\n", p.dir, p.dir, p.src, p.dst, p.mobile)
		if secure {
			fmt.Fprintf(&b, "    - {name: sec-%s, dir: %s, priority: 10, action: protect, selector: {src: %q, dst: %q}, templates: [%s]}\n", p.dir, p.dir, p.src, p.dst, templates)
		}
	}
	return b.String()
}

// TestRouteOptimization: two nodes away from home talk by their care-of addresses, and know their home addresses only.
// Datagrams of any length come through, in fragments behind both headers; a router on the way says how long they may be,
// which counts for the care-of address.
func TestRouteOptimization(t *testing.T) {
	const (
		homeA, careA = "2001:db8:a::a", "2001:db8:1::a"
		homeB, careB = "2001:db8:b::b", "2001:db8:2::b"
	)
	for _, secure := range []bool{false, true} {
		n := simnet.New(t, 5)
		left, right := n.Segment("left"), n.Segment("right")
		node := func(name, home, careOf, router string, mtu int, at *simnet.Segment, more string) *simnet.Node {
			return n.Node(name, fmt.Sprintf("version: 1\nlinks: [{name: eth0, kind: pipe, mtu: %d, addresses: [%q, %q], dad: {transmits: 0}}]\n"+
				"routing: {routes: [{to: \"::/0\", via: %q}]}\n%s", mtu, careOf+"/64", home+"/128", router, more), modules, map[string]*simnet.Segment{"eth0": at})
		}
		a := node("a", homeA, careA, "2001:db8:1::ff", 1500, left, awayFromHome(homeA, careA, homeB, careB, secure))
		b := node("b", homeB, careB, "2001:db8:2::ff", 1400, right, awayFromHome(homeB, careB, homeA, careA, secure))
		r := n.Node("r", "version: 1\nlinks: [{name: l0, kind: pipe, addresses: [\"2001:db8:1::ff/64\"], dad: {transmits: 0}}, {name: r0, kind: pipe, mtu: 1400, addresses: [\"2001:db8:2::ff/64\"], dad: {transmits: 0}}]\n",
			modules, map[string]*simnet.Segment{"l0": left, "r0": right})
		n.Advance(3 * time.Second)
		to := func(size int, whole bool) netstack.PingOptions {
			return netstack.PingOptions{Dst: netip.MustParseAddr(homeB), Source: netip.MustParseAddr(homeA), Size: size, DontFragment: whole}
		}
		if got := ping(t, n, a, to(56, false)); got != "replied" {
			t.Fatalf("secure %v: %s, drops %v, %v", secure, got, a.Path().Stats().Drops, b.Path().Stats().Drops)
		}
		most := 1500 - 2*24
		if secure { // 24 octets of AH, 16 of ESP in front, 18 and up to 3 behind
			most = 1394
		}
		if got := ping(t, n, a, to(1452, true)); got != fmt.Sprintf("Message too long %d", most) {
			t.Errorf("secure %v, too long: %s, want %d", secure, got, most)
		}
		d := netip.MustParseAddr(careB).As16()
		lost := "type 2 1400"
		if secure { // nobody sees in the quoted packet whose it was
			lost = "timeout"
		}
		if got := ping(t, n, a, to(most-48, true)); got != lost || a.Path().PathMTU().Lookup(&d, n.Clock.Now()) != 1400 {
			t.Errorf("secure %v, too long for the router: %s, path MTU %d", secure, got, a.Path().PathMTU().Lookup(&d, n.Clock.Now()))
		}
		if got := ping(t, n, a, to(most-48, true)); got != fmt.Sprintf("Message too long %d", most-100) {
			t.Errorf("secure %v, once more: %s", secure, got)
		}
		for _, size := range []int{0, 1, 1200, 1300, 1301, 1302, 1303, 1304, 1400, 3000, 20000} {
			from := len(right.Frames)
			if got := ping(t, n, a, to(size, false)); got != "replied" {
				t.Errorf("secure %v, %d octets: %s", secure, size, got)
			}
			for _, f := range right.Frames[from:] {
				clean(t, f.Data[14:], secure)
			}
		}
		// B does not want what A says without AH and ESP, or by another care-of address.
		if secure {
			bare := bareEcho(homeA, careA, homeB, careB)
			left.Peer("x").Send(r.Links().Name("l0").MAC, bare)
			n.Advance(time.Second)
			if dropped(b, packet.XfrmInTmplMismatch) != 1 {
				t.Errorf("in the clear: %v", b.Path().Stats().Drops)
			}
			other := bareEcho(homeA, "2001:db8:1::dead", homeB, careB)
			left.Peer("x").Send(r.Links().Name("l0").MAC, other)
			n.Advance(time.Second)
			if dropped(b, packet.XfrmInNoStates) != 1 {
				t.Errorf("from elsewhere: %v", b.Path().Stats().Drops)
			}
		}
	}
}

// clean wants a frame between care-of addresses to be like it should.
func clean(t *testing.T, b []byte, secure bool) {
	t.Helper()
	var c wire.Chain
	c.Walk(b)
	if c.Proto == wire.ICMPv6 && c.N == 0 {
		return // Discovery
	}
	if len(b) > 1400 || c.N < 2 || c.Headers[0].Proto != wire.Routing || c.Headers[1].Proto != wire.DestOpts || wire.HomeAddress(b, &c.Headers[1]) == 0 {
		t.Errorf("%d octets: % x", len(b), b[:min(len(b), 96)])
		return
	}
	if c.Fragment != 0 && c.Fragment != 88 || secure && c.FragOffset == 0 && c.Proto != wire.ESP {
		t.Errorf("% x", b[:104])
	}
}

// bareEcho is an echo request with both headers and nothing to protect it.
func bareEcho(home, careOf, its, itsCareOf string) []byte {
	a := netip.MustParseAddr
	echo := []byte{wire.TypeEchoRequest, 0, 0, 0, 0, 7, 0, 1}
	s, d := a(home).As16(), a(its).As16()
	binary.BigEndian.PutUint16(echo[2:], wire.Checksum(&s, &d, wire.ICMPv6, echo))
	body := append([]byte{wire.DestOpts, 2, 2, 1, 0, 0, 0, 0}, a(its).AsSlice()...)
	body = append(append(body, wire.ICMPv6, 2, 1, 2, 0, 0, 0xc9, 16), a(home).AsSlice()...)
	body = append(body, echo...)
	return append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(len(body)), NextHeader: wire.Routing, HopLimit: 64, Src: a(careOf), Dst: a(itsCareOf)}), body...)
}
