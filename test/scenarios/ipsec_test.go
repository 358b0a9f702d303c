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

// pair are the SAs and policies of a node that is at, for all traffic with other: those in as those out.
func pair(at, other, mode, selectors string, esn bool) string {
	var states, policies strings.Builder
	for i, s := range []struct{ src, dst string }{{at, other}, {other, at}} {
		spi := map[bool]int{true: 0x1001, false: 0x1002}[s.src < s.dst] // the same at both ends
		fmt.Fprintf(&states, `
    - {src: %q, dst: %q, proto: esp, spi: %d, reqid: 1, mode: %s, esn: %v, aead: {name: "rfc4106(gcm(aes))", key: "0x000102030405060708090a0b0c0d0e0f1011%04x", icv_bits: 128}}`,
			s.src, s.dst, spi, mode, esn, spi)
		dirs := map[bool][]string{true: {"out"}, false: {"in", "fwd"}}[i == 0]
		for _, dir := range dirs {
			ends := ""
			if mode == "tunnel" {
				ends = fmt.Sprintf("src: %q, dst: %q, ", s.src, s.dst)
			}
			from, to, _ := strings.Cut(selectors, " ")
			if i == 1 {
				from, to = to, from
			}
			fmt.Fprintf(&policies, `
    - {name: %s, dir: %s, priority: 100, action: protect, selector: {src: %q, dst: %q}, templates: [{%sproto: esp, mode: %s, reqid: 1}]}`,
				dir, dir, from, to, ends, mode)
		}
	}
	return fmt.Sprintf("ipsec:\n  defaults: {replay_window: 64}\n  states:%s\n  policies:%s\n", states.String(), policies.String())
}

// ping sends one echo request and returns what became of it.
func ping(t *testing.T, n *simnet.Net, from *simnet.Node, o netstack.PingOptions) (out string) {
	t.Helper()
	o.Count, o.Timeout, o.Interval = 1, time.Second, time.Second
	var events []netstack.PingEvent
	p, err := from.Host().StartPing(o, func(e netstack.PingEvent) { events = append(events, e) })
	if err != nil {
		t.Fatal(err)
	}
	n.Advance(3 * time.Second)
	<-p.Done()
	for _, e := range events {
		switch e.Kind {
		case netstack.PingReplied:
			return "replied"
		case netstack.PingErrored:
			return fmt.Sprintf("type %d %d", e.Type, e.Arg)
		case netstack.PingFailed:
			return fmt.Sprintf("%v %d", e.Err, e.Arg)
		case netstack.PingTimedOut:
			return "timeout"
		}
	}
	return fmt.Sprintf("%+v", events)
}

// seen counts what is behind the IPv6 header of the frames since from, but for Discovery and MLD: ESP, Fragment, or
// something in the clear.
func seen(s *simnet.Segment, from int) map[string]int {
	out := map[string]int{}
	for _, f := range s.Frames[from:] {
		b := f.Data[14:]
		var c wire.Chain
		c.Walk(b)
		switch {
		case c.Proto == wire.ICMPv6 && b[c.Off] >= wire.TypeMLDQuery && b[c.Off] <= wire.TypeRedirect || c.Proto == wire.ICMPv6 && b[c.Off] == wire.TypeMLDv2Report:
		case c.Fragment != 0 && b[c.Fragment] == wire.ESP:
			out["fragment of ESP"]++
		case c.Proto == wire.ESP:
			out["ESP"]++
		default:
			out[fmt.Sprint("clear ", c.Proto)]++
		}
	}
	return out
}

func dropped(n *simnet.Node, r packet.Reason) uint64 { return n.Path().Stats().Drops[r] }

// TestHostsInTransportMode: two nodes protect all between them but Discovery. A packet of any length is protected
// whole and fragmented behind ESP; who has no SA is not heard.
func TestHostsInTransportMode(t *testing.T) {
	for _, esn := range []bool{false, true} {
		n := simnet.New(t, 3)
		lan := n.Segment("lan")
		node := func(name, at, other, more string) *simnet.Node {
			return n.Node(name, fmt.Sprintf("version: 1\nlinks: [{name: lan0, kind: pipe, addresses: [%q], dad: {transmits: 0}}]\n%s", at+"/64", more),
				modules, map[string]*simnet.Segment{"lan0": lan})
		}
		const a, b, c = "2001:db8:1::a", "2001:db8:1::b", "2001:db8:1::c"
		na := node("a", a, b, pair(a, b, "transport", a+" "+b, esn))
		nb := node("b", b, a, pair(b, a, "transport", b+" "+a, esn))
		nc := node("c", c, a, "")
		n.Advance(3 * time.Second)
		for _, size := range []int{0, 1, 56, 1418, 1419, 3000, 20000} {
			from := len(lan.Frames)
			if got := ping(t, n, na, netstack.PingOptions{Dst: netip.MustParseAddr(b), Size: size}); got != "replied" {
				t.Errorf("esn %v, %d octets: %s, drops %v", esn, size, got, nb.Path().Stats().Drops)
			}
			// 40 + 8 + size, and ESP around what is behind the IPv6 header: 16 in front, at least 18 behind.
			frames := seen(lan, from)
			if whole := size <= 1418; frames["ESP"] != map[bool]int{true: 2, false: 0}[whole] || (frames["fragment of ESP"] > 0) == whole || len(frames) != 1 {
				t.Errorf("esn %v, %d octets: %v", esn, size, frames)
			}
		}
		if got := ping(t, n, na, netstack.PingOptions{Dst: netip.MustParseAddr(b), Size: 1419, DontFragment: true}); got != "Message too long 1466" {
			t.Errorf("a probe: %s", got)
		}
		if got := ping(t, n, nc, netstack.PingOptions{Dst: netip.MustParseAddr(a)}); got != "replied" {
			t.Errorf("of no policy: %s", got)
		}
		from := len(lan.Frames)
		nb.Stop()
		nb = node("b2", b, a, "") // it has forgotten its SAs: what it sends in the clear is not taken
		n.Advance(3 * time.Second)
		if got := ping(t, n, nb, netstack.PingOptions{Dst: netip.MustParseAddr(a)}); got != "timeout" || dropped(na, packet.XfrmInTmplMismatch) != 1 {
			t.Errorf("in the clear: %s, %v", got, seen(lan, from))
		}
		if got := ping(t, n, na, netstack.PingOptions{Dst: netip.MustParseAddr(b)}); got != "timeout" {
			t.Errorf("to whom has no SA: %s", got)
		}
	}
}

// TestTunnelOverANarrowPath: a router between the gateways takes 1300 octets only. The gateway hears of that by a
// Packet Too Big about ESP, which it believes; the host behind hears of 1280, and packets of that length go through in
// fragments of ESP. What the gateway itself sends is fragmented before the tunnel.
func TestTunnelOverANarrowPath(t *testing.T) {
	n := simnet.New(t, 4)
	left, mid1, mid2, right := n.Segment("left"), n.Segment("mid1"), n.Segment("mid2"), n.Segment("right")
	conf := func(links, routes, more string) string {
		return fmt.Sprintf("version: 1\nlinks:\n%s\nrouting: {routes: [%s]}\n%s", links, routes, more)
	}
	link := func(name, addr string, mtu int) string {
		return fmt.Sprintf("  - {name: %s, kind: pipe, mtu: %d, addresses: [%q], dad: {transmits: 0}}\n", name, mtu, addr)
	}
	host := n.Node("host", conf(link("eth0", "2001:db8:a::9/64", 1500), `{to: "::/0", via: "2001:db8:a::1"}`, ""), modules, map[string]*simnet.Segment{"eth0": left})
	g1 := n.Node("g1", conf(link("lan0", "2001:db8:a::1/64", 1500)+link("wan0", "2001:db8:1::1/64", 1500), `{to: "::/0", via: "2001:db8:1::ff"}`,
		pair("2001:db8:1::1", "2001:db8:2::2", "tunnel", "2001:db8:a::/64 2001:db8:b::/64", false)), modules, map[string]*simnet.Segment{"lan0": left, "wan0": mid1})
	n.Node("r", conf(link("one0", "2001:db8:1::ff/64", 1500)+link("two0", "2001:db8:2::ff/64", 1300), "", ""), modules, map[string]*simnet.Segment{"one0": mid1, "two0": mid2})
	g2 := n.Node("g2", conf(link("lan0", "2001:db8:b::1/64", 1500)+link("wan0", "2001:db8:2::2/64", 1300), `{to: "::/0", via: "2001:db8:2::ff"}`,
		pair("2001:db8:2::2", "2001:db8:1::1", "tunnel", "2001:db8:b::/64 2001:db8:a::/64", false)), modules, map[string]*simnet.Segment{"lan0": right, "wan0": mid2})
	n.Advance(3 * time.Second)
	far, farGateway := netip.MustParseAddr("2001:db8:b::1"), [16]byte{}
	copy(farGateway[:], netip.MustParseAddr("2001:db8:2::2").AsSlice())
	to := func(size int) netstack.PingOptions {
		return netstack.PingOptions{Dst: far, Size: size, DontFragment: true}
	}
	if got := ping(t, n, host, to(56)); got != "replied" {
		t.Fatalf("short: %s, drops %v", got, g2.Path().Stats().Drops)
	}
	if got := ping(t, n, host, to(1452)); got != "type 2 1426" {
		t.Errorf("too long for the first link: %s", got)
	}
	if got := ping(t, n, host, to(1300)); got != "timeout" || g1.Path().PathMTU().Lookup(&farGateway, n.Clock.Now()) != 1300 {
		t.Errorf("too long for the second link: %s, path MTU %d", got, g1.Path().PathMTU().Lookup(&farGateway, n.Clock.Now()))
	}
	if got := ping(t, n, host, to(1300)); got != "type 2 1280" {
		t.Errorf("once more: %s", got)
	}
	from := len(mid2.Frames)
	if got := ping(t, n, host, to(1232)); got != "replied" || seen(mid2, from)["fragment of ESP"] != 4 || len(seen(mid2, from)) != 1 {
		t.Errorf("1280 octets: %s, %v", got, seen(mid2, from))
	}
	from = len(mid1.Frames)
	if got := ping(t, n, g1, netstack.PingOptions{Dst: far, Source: netip.MustParseAddr("2001:db8:a::1"), Size: 4000}); got != "replied" || len(seen(mid1, from)) > 2 {
		t.Errorf("of the gateway itself: %s, %v", got, seen(mid1, from))
	}
	for _, f := range mid1.Frames {
		if b := f.Data[14:]; b[6] == wire.UDP || b[6] == wire.ICMPv6 && b[40] == wire.TypeEchoRequest || len(b) != 40+int(binary.BigEndian.Uint16(b[4:])) {
			t.Errorf("in the clear: % x", b[:48])
		}
	}
	// One who knows the addresses and no SPI does not lower the path MTU.
	forged := mid1.Peer("x")
	quote := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 8, NextHeader: wire.ESP, Src: netip.MustParseAddr("2001:db8:1::1"), Dst: netip.MustParseAddr("2001:db8:2::3")})
	quote = append(quote, 0, 0, 9, 9, 0, 0, 0, 1)
	m := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + len(quote)), NextHeader: wire.ICMPv6, HopLimit: 64, Src: netip.MustParseAddr("2001:db8:1::ff"), Dst: netip.MustParseAddr("2001:db8:1::1")})
	m = append(append(m, wire.TypePacketTooBig, 0, 0, 0, 0, 0, 5, 0), quote...)
	wire.UpdateICMPv6Checksum(m, 40)
	forged.Send(g1.Links().Name("wan0").MAC, m)
	n.Advance(time.Second)
	if dropped(g1, packet.ICMPQuoteInvalid) != 1 || len(g1.Path().PathMTU().All(n.Clock.Now())) != 1 {
		t.Errorf("forged: %v", g1.Path().PathMTU().All(n.Clock.Now()))
	}
}
