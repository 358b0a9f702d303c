package policyroute

import (
	"net/netip"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/routeapi"
)

func redirect(link int, dst, by, target string) module.Redirect {
	return module.Redirect{Link: link, Dst: netip.MustParseAddr(dst), By: netip.MustParseAddr(by), Target: netip.MustParseAddr(target)}
}

// redirectable is a node whose packets from 2001:db8:9::/48 have their routes in table 100, the others in table
// main; in both one destination has a gateway, and one has several.
func redirectable(t *testing.T, rules bool) *bench {
	b := newBench(t)
	var specs []routeapi.RuleSpec
	if rules {
		specs = []routeapi.RuleSpec{{Priority: prio(100), From: "2001:db8:9::/48", Lookup: "100"}}
	}
	several := gateways(1, 1, 1, 1)
	several.To = "2001:db8:e::/48"
	err := b.applyRules(nil, specs, several,
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0"},
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::77"), Dev: "lan0", Metric: metric(2000)},
		RouteConfig{To: "2001:db8:7::/48", Dev: "wan0"},
		RouteConfig{To: "2001:db8:6::/48", Type: "blackhole"},
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::98"), Dev: "wan0", Table: "100"},
	)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRedirects: a redirect changes the next hop of packets to its destination whose route leads to the router
// that it is from, in whatever table that route is, and of no others; questions have the answer that packets get.
func TestRedirects(t *testing.T) {
	for _, rules := range []bool{false, true} {
		b := redirectable(t, rules)
		b.m.RedirectsLearned(b.Manual.Now(), []module.Redirect{
			redirect(2, "2001:db8:f::1", "fe80::99", "fe80::b"),
			redirect(1, "2001:db8:f::1", "fe80::77", "fe80::c"),
			redirect(2, "2001:db8:f::2", "fe80::99", "2001:db8:f::2"), // a neighbor
			redirect(1, "2001:db8:f::3", "fe80::99", "fe80::b"),       // its router is on another link
			redirect(2, "2001:db8:f::4", "fe80::98", "fe80::d"),       // table 100's router
			redirect(2, "2001:db8:f::5", "fe80::99", "fe80::b"),
			redirect(2, "2001:db8:f::5", "fe80::98", "fe80::d"),      // both
			redirect(2, "2001:db8:7::1", "2001:db8:7::1", "fe80::b"), // the route has no gateway
			redirect(2, "2001:db8:6::1", "::", "fe80::b"),
		})
		for _, c := range []struct {
			dst, src    string
			out         int
			plain, main string // the next hop without rules, and with them, "" = the same
		}{
			{dst: "2001:db8:f::1", src: "2001:db8:1::1", plain: "fe80::b"},
			{dst: "2001:db8:f::1", src: "2001:db8:1::1", out: 1, plain: "fe80::c"}, // a socket bound to the other link
			{dst: "2001:db8:f::1", src: "2001:db8:1::1", out: 2, plain: "fe80::b"},
			{dst: "2001:db8:f::1", src: "2001:db8:9::1", plain: "fe80::b", main: "fe80::98"},
			{dst: "2001:db8:f::2", src: "2001:db8:1::1", plain: "2001:db8:f::2"},
			{dst: "2001:db8:f::3", src: "2001:db8:1::1", plain: "fe80::99"},
			{dst: "2001:db8:f::4", src: "2001:db8:1::1", plain: "fe80::99"},
			{dst: "2001:db8:f::4", src: "2001:db8:9::1", plain: "fe80::99", main: "fe80::d"},
			{dst: "2001:db8:f::5", src: "2001:db8:1::1", plain: "fe80::b"},
			{dst: "2001:db8:f::5", src: "2001:db8:9::1", plain: "fe80::b", main: "fe80::d"},
			{dst: "2001:db8:f::6", src: "2001:db8:1::1", plain: "fe80::99"},
			{dst: "2001:db8:7::1", src: "2001:db8:1::1", plain: "2001:db8:7::1"},
		} {
			want := c.plain
			if rules && c.main != "" {
				want = c.main
			}
			q := module.RouteQuery{Dst: netip.MustParseAddr(c.dst), Src: netip.MustParseAddr(c.src), Out: c.out}
			p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: wire.NoNext, HopLimit: 64, Src: q.Src, Dst: q.Dst}))
			p.Out = c.out
			b.m.RouteBatch([]*packet.Packet{p})
			if got := netip.AddrFrom16(p.NextHop).String(); got != want {
				t.Errorf("rules %v: a packet from %s to %s over %d goes to %s, want %s", rules, c.src, c.dst, c.out, got, want)
			}
			if got := b.via(q); got != want {
				t.Errorf("rules %v: a question from %s to %s over %d: %s, want %s", rules, c.src, c.dst, c.out, got, want)
			}
		}
		if got := b.via(module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:6::1")}); got != "blackhole" {
			t.Errorf("rules %v: a blackhole is %s", rules, got)
		}
		for _, x := range b.m.table(tableMain).All() {
			if x.Prefix.Addr() == netip.MustParseAddr("2001:db8:f::1") {
				t.Errorf("a redirect is a route: %+v", x)
			}
		}
		b.m.RedirectsLearned(b.Manual.Now(), nil)
		if got := b.sent("2001:db8:1::1", "2001:db8:f::1"); got != "fe80::99" || b.m.view.Load().redirects != nil {
			t.Errorf("rules %v: all gone: %s", rules, got)
		}
	}
}

// TestRedirectOfOneOfSeveral: of the flows that next hops share, a redirect moves those of its router.
func TestRedirectOfOneOfSeveral(t *testing.T) {
	for _, rules := range []bool{false, true} {
		b := redirectable(t, rules)
		flow := func(s uint16) string {
			p := tcpPacket(s, -1)
			copy(p.Bytes()[8:], netip.MustParseAddr("2001:db8:1::9").AsSlice())
			copy(p.Bytes()[24:], netip.MustParseAddr("2001:db8:e::1").AsSlice())
			return b.hop(p)
		}
		was := map[uint16]string{}
		for s := range uint16(200) {
			was[s] = flow(s)
		}
		b.m.RedirectsLearned(b.Manual.Now(), []module.Redirect{redirect(2, "2001:db8:e::1", "fe80::11", "fe80::b")})
		moved := 0
		for s := range uint16(200) {
			want := was[s]
			if want == "fe80::11" {
				want = "fe80::b"
				moved++
			}
			if got := flow(s); got != want {
				t.Fatalf("rules %v: flow %d went to %s, now to %s, want %s", rules, s, was[s], got, want)
			}
		}
		if moved < 20 || moved > 80 {
			t.Errorf("rules %v: %d of 200 flows moved", rules, moved)
		}
	}
}

// TestRedirectOfARouterThatIsNone: the redirects of a router hold while the route leads to it.
func TestRedirectOfARouterThatIsNone(t *testing.T) {
	b := newBench(t)
	now := b.Manual.Now()
	b.m.RoutesLearned(now, []module.LearnedRoute{learnedDefault(router1, "medium")})
	b.m.RedirectsLearned(now, []module.Redirect{redirect(2, "2001:db8:f::1", router1.String(), "fe80::b")})
	first := b.sent("", "2001:db8:f::1")
	b.m.RoutesLearned(now, []module.LearnedRoute{learnedDefault(router2, "medium")})
	second := b.sent("", "2001:db8:f::1")
	b.m.RoutesLearned(now, nil)
	if third := b.sent("", "2001:db8:f::1"); first != "fe80::b" || second != "fe80::a2" || third != "none" {
		t.Errorf("%s, then %s, then %s", first, second, third)
	}
}

// TestRouteGetRedirected: the answer has the target, and with -d who redirected.
func TestRouteGetRedirected(t *testing.T) {
	b := redirectable(t, true)
	b.m.RedirectsLearned(b.Manual.Now(), []module.Redirect{
		redirect(2, "2001:db8:f::1", "fe80::98", "fe80::d"), redirect(2, "2001:db8:f::2", "fe80::98", "2001:db8:f::2"),
	})
	for _, c := range []struct{ dst, src, proto, via, by string }{
		{"2001:db8:f::1", "2001:db8:9::1", "redirect", "fe80::d", "fe80::98"},
		{"2001:db8:f::2", "2001:db8:9::1", "redirect", "invalid IP", "fe80::98"},
		{"2001:db8:f::3", "2001:db8:9::1", "static", "fe80::98", "invalid IP"},
		{"2001:db8:f::1", "2001:db8:1::1", "static", "fe80::99", "invalid IP"},
		{"fe80::99", "2001:db8:1::1", "", "", ""},
	} {
		v, err := b.m.get(b.Manual.Now(), ask(map[string]string{"dst": c.dst, "from": c.src, "explain": "true"}, nil))
		if c.proto == "" {
			if err == nil {
				t.Errorf("%s: %+v", c.dst, v)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r := v.(routeapi.Route)
		if r.Protocol != c.proto || r.Gateway.String() != c.via || r.Explain.RedirectedBy.String() != c.by || r.Dev != "wan0" {
			t.Errorf("%s from %s: %+v by %s", c.dst, c.src, r, r.Explain.RedirectedBy)
		}
	}
}

// TestRedirectsDoNotAllocate on the packet path.
func TestRedirectsDoNotAllocate(t *testing.T) {
	for _, rules := range []bool{false, true} {
		b := redirectable(t, rules)
		b.m.RedirectsLearned(b.Manual.Now(), []module.Redirect{redirect(2, "2001:db8:f::1", "fe80::99", "fe80::b")})
		ps := []*packet.Packet{toward("2001:db8:f::1"), toward("2001:db8:f::2"), toward("2001:db8:e::1")}
		q := module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:f::1"), Src: netip.MustParseAddr("2001:db8:1::9")}
		if n := testing.AllocsPerRun(100, func() {
			for _, p := range ps {
				p.Route, p.Out, p.In = nil, 0, 1
			}
			b.m.RouteBatch(ps)
			b.m.Route(q)
		}); n != 0 {
			t.Errorf("rules %v: %v allocations", rules, n)
		}
		if got := netip.AddrFrom16(ps[0].NextHop).String(); got != "fe80::b" {
			t.Errorf("rules %v: next hop %s", rules, got)
		}
	}
}
