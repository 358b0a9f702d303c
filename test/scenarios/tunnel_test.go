package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/control/api"
	"leveret/appliance/netstack"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/test/simnet"
)

// wan is a link with an address, and tunnels behind it.
func wan(address, tunnels, more string) string {
	return fmt.Sprintf("version: 1\nlinks: [{name: wan0, kind: pipe, addresses: [%q], dad: {transmits: 0}}]\ntunnels:\n%s%s", address, tunnels, more)
}

func tunnelItem(name, kind, local, remote, more string) string {
	return fmt.Sprintf("  - {name: %s, kind: %s, local: %q, remote: %q, %s}\n", name, kind, local, remote, more)
}

const at1, at2 = "2001:db8:f::1", "2001:db8:f::2"

// TestTunnelIsALink: addresses, Neighbor Discovery, routes, counters, MTU, up and down.
func TestTunnelIsALink(t *testing.T) {
	for _, kind := range []string{"ip6ip6", "ip6gre"} {
		n := simnet.New(t, 3)
		mid := n.Segment("mid")
		a := n.Node("a", wan(at1+"/64", tunnelItem("t0", kind, at1, at2, `addresses: ["2001:db8:7::1/64"], router_advertisement: {adv_send_advertisements: true,
      max_rtr_adv_interval: 4s, prefixes: [{prefix: "2001:db8:7::/64"}]}`), ""), modules, map[string]*simnet.Segment{"wan0": mid})
		b := n.Node("b", wan(at2+"/64", tunnelItem("t0", kind, at2, at1, `host: {accept_ra: always}`), ""), modules, map[string]*simnet.Segment{"wan0": mid})
		n.Advance(20 * time.Second)
		var auto netip.Addr
		for _, x := range b.Addrs().OnLink(b.Links().Name("t0").Index) {
			if netip.MustParsePrefix("2001:db8:7::/64").Contains(x.Addr) && !x.SubnetRouter {
				auto = x.Addr
			}
		}
		if !auto.IsValid() {
			t.Fatalf("%s: no address of the prefix that is advertised through the tunnel: %v, drops %v", kind, b.Addrs().All(), b.Path().Stats().Drops)
		}
		proto := map[string]string{"ip6ip6": "clear 41", "ip6gre": "clear 47"}[kind]
		index := a.Links().Name("t0").Index
		mtu := a.Links().Name("t0").MTU
		if want := map[string]int{"ip6ip6": 1452, "ip6gre": 1448}[kind]; mtu != want {
			t.Errorf("%s: MTU %d, want %d", kind, mtu, want)
		}
		for size, packets := range map[int]int{0: 1, 56: 1, mtu - 48: 1, mtu - 47: 2, 4000: 3} {
			from, before := len(mid.Frames), a.Path().Stats().Links[index]
			if got := ping(t, n, a, netstack.PingOptions{Dst: auto, Size: size}); got != "replied" {
				t.Errorf("%s, %d octets: %s, drops %v", kind, size, got, b.Path().Stats().Drops)
			}
			frames, after := seen(mid, from), a.Path().Stats().Links[index]
			// Advertisements come on top.
			if n := frames[proto]; len(frames) != 1 || n < 2*packets || n > 2*packets+3 || int(after.RxPackets-before.RxPackets) != packets {
				t.Errorf("%s, %d octets: frames %v, %+v after %+v", kind, size, frames, after, before)
			}
		}
		// The path's way back, to the link-local address of the other end.
		for _, x := range a.Addrs().OnLink(index) {
			if x.Addr.IsLinkLocalUnicast() {
				o := netstack.PingOptions{Dst: x.Addr, Link: b.Links().Name("t0").Index}
				if got := ping(t, n, b, o); got != "replied" {
					t.Errorf("%s: link-local: %s", kind, got)
				}
			}
		}
		if dropped(a, packet.TunnelUnknown)+dropped(b, packet.TunnelUnknown) != 0 {
			t.Errorf("%s: drops %v", kind, b.Path().Stats().Drops)
		}
	}
}

// path is host - g1 - r - g2, with a tunnel between the gateways.
type path struct {
	*simnet.Net
	t               *testing.T
	host, g1, r, g2 *simnet.Node
	left, mid1      *simnet.Segment
	mid2            *simnet.Segment
}

func newPath(t *testing.T, tunnel1, router string) *path {
	p := &path{Net: simnet.New(t, 4), t: t}
	p.left, p.mid1, p.mid2 = p.Segment("left"), p.Segment("mid1"), p.Segment("mid2")
	link := func(name, addr string, mtu int) string {
		return fmt.Sprintf("  - {name: %s, kind: pipe, mtu: %d, addresses: [%q], dad: {transmits: 0}}\n", name, mtu, addr)
	}
	node := func(name, links, routes, more string, at map[string]*simnet.Segment) *simnet.Node {
		return p.Node(name, fmt.Sprintf("version: 1\nicmpv6: {error_rate: 0}\nlinks:\n%srouting: {routes: [%s]}\n%s", links, routes, more), modules, at)
	}
	p.host = node("host", link("eth0", "2001:db8:a::9/64", 1500), `{to: "::/0", via: "2001:db8:a::1"}`, "", map[string]*simnet.Segment{"eth0": p.left})
	p.g1 = node("g1", link("lan0", "2001:db8:a::1/64", 1500)+link("wan0", "2001:db8:1::1/64", 1500),
		`{to: "2001:db8:b::/64", dev: t0}, {to: "2001:db8:2::/64", via: "2001:db8:1::ff"}, {to: "2001:db8:9::/64", via: "2001:db8:1::ff"}`,
		"tunnels:\n"+tunnel1, map[string]*simnet.Segment{"lan0": p.left, "wan0": p.mid1})
	second := ""
	if router != "" {
		second = `{to: "2001:db8:2::2/128", dev: t9}`
	}
	p.r = node("r", link("one0", "2001:db8:1::ff/64", 1500)+link("two0", "2001:db8:2::ff/64", 1300), second, router,
		map[string]*simnet.Segment{"one0": p.mid1, "two0": p.mid2})
	p.g2 = node("g2", link("wan0", "2001:db8:2::2/64", 1300), `{to: "2001:db8:a::/64", dev: t0}, {to: "2001:db8:1::/64", via: "2001:db8:2::ff"}`,
		"tunnels:\n"+tunnelItem("t0", "ip6ip6", "2001:db8:2::2", "2001:db8:1::1", `addresses: ["2001:db8:b::1/64"]`), map[string]*simnet.Segment{"wan0": p.mid2})
	p.Advance(3 * time.Second)
	return p
}

func (p *path) ping(size int) string {
	return ping(p.t, p.Net, p.host, netstack.PingOptions{Dst: netip.MustParseAddr("2001:db8:b::1"), Size: size, DontFragment: true})
}

// TestTunnelOverANarrowerPath: a router between the ends takes 1300 octets only. The source of what is too long hears of it
// by the first packet that is lost; 1280 octets are carried in fragments; one who forges a Packet Too Big is not believed.
func TestTunnelOverANarrowerPath(t *testing.T) {
	p := newPath(t, tunnelItem("t0", "ip6ip6", "2001:db8:1::1", "2001:db8:2::2", ""), "")
	for _, c := range []struct {
		size int
		want string
	}{{56, "replied"}, {1452, "type 2 1452"}, {1404, "type 2 1280"}, {1300, "Message too long 1280"}, {1233, "Message too long 1280"}, {1232, "replied"}} {
		if got := p.ping(c.size); got != c.want {
			t.Errorf("%d octets: %s, want %s", c.size, got, c.want)
		}
	}
	if got := p.g1.Links().Name("t0").MTU; got != 1280 {
		t.Errorf("the tunnel's MTU is %d", got)
	}
	fragments := 0
	for _, f := range p.mid2.Frames {
		if f.Data[14+6] == wire.Fragment {
			fragments++
		}
	}
	if fragments != 4 {
		t.Errorf("%d fragments", fragments)
	}
	forged := p.mid1.Peer("x")
	quote := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 100, NextHeader: wire.IPv6Encap, Src: netip.MustParseAddr("2001:db8:1::1"), Dst: netip.MustParseAddr("2001:db8:2::3")})
	quote = append(quote, make([]byte, 100)...)
	m := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + len(quote)), NextHeader: wire.ICMPv6, HopLimit: 64, Src: netip.MustParseAddr("2001:db8:1::ff"), Dst: netip.MustParseAddr("2001:db8:1::1")})
	m = append(append(m, wire.TypePacketTooBig, 0, 0, 0, 0, 0, 5, 0), quote...)
	wire.UpdateICMPv6Checksum(m, 40)
	forged.Send(p.g1.Links().Name("wan0").MAC, m)
	p.Advance(time.Second)
	if dropped(p.g1, packet.ICMPQuoteInvalid) != 1 || len(p.g1.Path().PathMTU().All(p.Clock.Now())) != 1 {
		t.Errorf("forged: %v", p.g1.Path().PathMTU().All(p.Clock.Now()))
	}
	p.Advance(11 * time.Minute) // what was learned is no more believed (RFC 8201 4)
	if got := p.ping(56); got != "replied" {
		t.Error(got)
	}
	if got := p.ping(1404); got != "type 2 1280" || p.r.Path().Stats().Drops[packet.TooBig] != 2 {
		t.Errorf("after ten minutes: %s, %d lost at the router", got, p.r.Path().Stats().Drops[packet.TooBig])
	}
}

// TestTunnelErrorsAreRelayed: whatever becomes of a tunnel packet on its way, the source of the original packet is told
// that the destination is not reached (RFC 2473 8.1, 8.2).
func TestTunnelErrorsAreRelayed(t *testing.T) {
	const ends = "2001:db8:1::1"
	second := "tunnels:\n" + tunnelItem("t9", "ip6ip6", "2001:db8:2::ff", "2001:db8:2::2", "")
	for _, c := range []struct{ name, tunnel, router, want string }{
		{"as it should be", tunnelItem("t0", "ip6ip6", ends, "2001:db8:2::2", ""), "", "replied"},
		{"hop limit", tunnelItem("t0", "ip6ip6", ends, "2001:db8:2::2", "hop_limit: 1"), "", "type 1 0"},
		{"no route on the way", tunnelItem("t0", "ip6ip6", ends, "2001:db8:9::9", ""), "", "type 1 0"},
		{"no route here", tunnelItem("t0", "ip6ip6", ends, "2001:db8:8::9", ""), "", "type 1 0"},
		{"another end", tunnelItem("t0", "ip6ip6", ends, "2001:db8:1::ff", ""), second, "type 1 0"},
		{"not one of its protocol", tunnelItem("t0", "ip6gre", ends, "2001:db8:2::2", ""), "", "timeout"}, // RFC 2473 8.1 does not name it
		{"through another tunnel, which leads through itself", tunnelItem("t0", "ip6ip6", ends, "2001:db8:2::2", ""), second, "type 1 0"},
		{"through another tunnel, with a limit of zero", tunnelItem("t0", "ip6ip6", ends, "2001:db8:2::2", "encap_limit: 0"), second, "type 1 0"},
	} {
		p := newPath(t, c.tunnel, c.router)
		if got := p.ping(56); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if limited := strings.Contains(c.name, "zero"); (dropped(p.r, packet.TunnelLimit) != 0) != limited {
			t.Errorf("%s: the router's drops %v", c.name, p.r.Path().Stats().Drops)
		}
	}
}

// TestNestedTunnels: one tunnel through another counts the limit down, and refuses what may go no further
// (RFC 2473 4.1.1); two that lead through each other end.
func TestNestedTunnels(t *testing.T) {
	for _, c := range []struct{ inner, outer, want, option string }{
		{"encap_limit: 2", "encap_limit: 4", "replied", "01"},
		{"encap_limit: 1", "encap_limit: none", "replied", "00"},
		{"encap_limit: none", "encap_limit: 4", "replied", "04"},
		{"encap_limit: 0", "encap_limit: 4", "type 1 0", ""},
	} {
		n := simnet.New(t, 5)
		mid := n.Segment("mid")
		node := func(name, at, to string, i, j int) *simnet.Node {
			return n.Node(name, wan(at+"/64", tunnelItem("t0", "ip6ip6", at, to, fmt.Sprintf(`%s, addresses: ["2001:db8:7::%d/64"]`, c.outer, i))+
				tunnelItem("t1", "ip6ip6", fmt.Sprintf("2001:db8:7::%d", i), fmt.Sprintf("2001:db8:7::%d", j), fmt.Sprintf(`%s, addresses: ["2001:db8:8::%d/64"]`, c.inner, i)), ""),
				modules, map[string]*simnet.Segment{"wan0": mid})
		}
		a := node("a", at1, at2, 1, 2)
		node("b", at2, at1, 2, 1)
		n.Advance(5 * time.Second)
		from := len(mid.Frames)
		if got := ping(t, n, a, netstack.PingOptions{Dst: netip.MustParseAddr("2001:db8:8::2")}); got != c.want {
			t.Errorf("%s through %s: %s, want %s, drops %v", c.inner, c.outer, got, c.want, a.Path().Stats().Drops)
		}
		if c.want != "replied" {
			if dropped(a, packet.TunnelLimit) == 0 {
				t.Errorf("%s through %s: drops %v", c.inner, c.outer, a.Path().Stats().Drops)
			}
			continue
		}
		var options []string
		for _, f := range mid.Frames[from:] {
			if b := f.Data[14:]; b[6] == wire.DestOpts {
				options = append(options, fmt.Sprintf("%02x", b[44]))
			}
		}
		if len(options) == 0 || strings.Trim(strings.Join(options, ""), c.option) != "" {
			t.Errorf("%s through %s: %v", c.inner, c.outer, options)
		}
	}
	n := simnet.New(t, 6)
	mid := n.Segment("mid")
	a := n.Node("a", wan(at1+"/64", tunnelItem("t0", "ip6ip6", at1, "2001:db8:8::1", "encap_limit: none")+tunnelItem("t1", "ip6ip6", at1, "2001:db8:9::1", "encap_limit: none"),
		`routing: {routes: [{to: "2001:db8:8::/64", dev: t1}, {to: "2001:db8:9::/64", dev: t0}]}`), modules, map[string]*simnet.Segment{"wan0": mid})
	n.Advance(3 * time.Second)
	from := len(mid.Frames)
	for _, size := range []int{56, 4000} {
		if got := ping(t, n, a, netstack.PingOptions{Dst: netip.MustParseAddr("2001:db8:8::1"), Source: netip.MustParseAddr(at1), Size: size}); got == "replied" {
			t.Error("a reply out of nowhere")
		}
	}
	if dropped(a, packet.TunnelNested)+dropped(a, packet.TunnelLoop) == 0 || seen(mid, from)["clear 41"] != 0 {
		t.Errorf("in a circle: drops %v, frames %v", a.Path().Stats().Drops, seen(mid, from))
	}
}

// TestTunnelMadeByCommand: it is as one of the configuration until that is applied again.
func TestTunnelMadeByCommand(t *testing.T) {
	n := simnet.New(t, 7)
	mid := n.Segment("mid")
	config := wan(at1+"/64", "  []\n", "")
	a := n.Node("a", config, modules, map[string]*simnet.Segment{"wan0": mid})
	b := n.Node("b", wan(at2+"/64", tunnelItem("t0", "ip6gre", at2, at1, `key: 5, mtu: 1300, addresses: ["2001:db8:7::2/64"]`), ""), modules, map[string]*simnet.Segment{"wan0": mid})
	n.Advance(3 * time.Second)
	do := func(op, dev, kind, spec string) string {
		err := a.MakeLink(context.Background(), api.LinkMake{Op: op, Dev: dev, Kind: kind, Spec: json.RawMessage(spec)})
		n.Advance(2 * time.Second)
		return fmt.Sprint(err)
	}
	through := func() string {
		return ping(t, n, a, netstack.PingOptions{Dst: netip.MustParseAddr("2001:db8:7::2")})
	}
	const to = `{"local":"` + at1 + `","remote":"` + at2 + `"}`
	for _, c := range []struct{ op, dev, kind, spec, want string }{
		{"add", "g1", "sit", to, `Invalid argument: no link of kind "sit" can have the name "g1"`},
		{"add", "a name", "ip6gre", to, `Invalid argument: no link of kind "ip6gre" can have the name "a name"`},
		{"add", "wan0", "ip6gre", to, "File exists"},
		{"add", "g1", "ip6gre", `{"locl":"::1"}`, `json: unknown field "locl"`},
		{"add", "g1", "ip6gre", `{"local":"` + at1 + `"}`, "Invalid argument: remote: missing (RFC 2473 6.2)"},
		{"change", "g1", "", to, `Cannot find device "g1"`},
		{"del", "wan0", "", "", "Operation not supported: wan0 is of kind pipe"},
		{"add", "g1", "ip6gre", to, "<nil>"},
		{"add", "g1", "ip6gre", to, "File exists"},
		{"change", "g1", "ip6ip6", to, "Invalid argument: g1 is of kind ip6gre: delete it, and add another"},
	} {
		if got := do(c.op, c.dev, c.kind, c.spec); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.op, c.dev, got, c.want)
		}
	}
	if _, err := a.Command("POST", "/v1/addr", nil, `{"op":"add","address":"2001:db8:7::1/64","dev":"g1"}`); err != nil {
		t.Fatal(err)
	}
	n.Advance(3 * time.Second)
	if l := a.Links().Name("g1"); l == nil || l.MTU != 1448 || !l.Usable() || !l.Forwarding {
		t.Errorf("%+v", l)
	}
	if got := through(); got != "type 1 0" || dropped(b, packet.TunnelUnknown) != 1 {
		t.Errorf("without the key: %s, drops %v", got, b.Path().Stats().Drops)
	}
	if l := b.Links().Name("t0"); l.MTU != 1300 || l.DeviceMTU != 1300 {
		t.Errorf("with an MTU of its own: %+v", l)
	}
	if got := do("change", "g1", "", `{"key":"5"}`); got != "<nil>" {
		t.Error(got)
	}
	if got := through(); got != "replied" {
		t.Errorf("with the key: %s", got)
	}
	if got := do("del", "g1", "", ""); got != "<nil>" || a.Links().Name("g1") != nil {
		t.Error(got)
	}
	if got := do("add", "g1", "ip6gre", to); got != "<nil>" || a.Links().Name("g1") == nil {
		t.Error(got)
	}
	if err := a.Reset(context.Background()); err != nil || a.Links().Name("g1") != nil {
		t.Errorf("after reset: %v %v", err, a.Links().Name("g1"))
	}
}

// TestTunnelUnderIPsec: tunnel packets are packets of this node, which policies protect.
func TestTunnelUnderIPsec(t *testing.T) {
	n := simnet.New(t, 8)
	mid := n.Segment("mid")
	node := func(name, at, to string, i int) *simnet.Node {
		return n.Node(name, wan(at+"/64", tunnelItem("t0", "ip6gre", at, to, fmt.Sprintf(`addresses: ["2001:db8:7::%d/64"]`, i)), pair(at, to, "transport", at+" "+to, false)),
			modules, map[string]*simnet.Segment{"wan0": mid})
	}
	a := node("a", at1, at2, 1)
	b := node("b", at2, at1, 2)
	n.Advance(3 * time.Second)
	for _, size := range []int{56, 1300, 1400, 3000} {
		from := len(mid.Frames)
		if got := ping(t, n, a, netstack.PingOptions{Dst: netip.MustParseAddr("2001:db8:7::2"), Size: size}); got != "replied" {
			t.Errorf("%d octets: %s, drops %v", size, got, b.Path().Stats().Drops)
		}
		if frames := seen(mid, from); frames["clear 47"]+frames["clear 41"] != 0 || frames["ESP"]+frames["fragment of ESP"] == 0 {
			t.Errorf("%d octets: %v", size, frames)
		}
	}
}
