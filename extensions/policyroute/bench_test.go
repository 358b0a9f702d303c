package policyroute

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/routeapi"
)

// filled is a module with n rules on the source, each leading to one of three small tables without the
// route, and table main with that many routes.
func filled(b testing.TB, rules, routes int) *bench {
	x := newBench(b)
	var specs []routeapi.RuleSpec
	for i := range rules {
		specs = append(specs, routeapi.RuleSpec{
			Priority: prio(uint32(100 + i)), From: fmt.Sprintf("2001:db8:%x:%x::/64", 0x100+i>>8, i&255), Lookup: fmt.Sprint(100 + i%3),
		})
	}
	if err := x.applyRules(nil, specs, RouteConfig{To: "2001:db8:ffff::/48", Via: netip.MustParseAddr("fe80::10"), Dev: "wan0", Table: "100"}); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	t := x.m.table(tableMain)
	x.m.together(func() {
		for range routes {
			a := [16]byte{0x20, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}
			p := netip.PrefixFrom(netip.AddrFrom16(a), 28+r.IntN(21))
			_ = t.Append(fib.Route{Prefix: p, Link: 2, Via: router1, Metric: 1024, Protocol: "static", Pref: "medium", Expires: 1 << 62})
		}
		_ = t.Append(fib.Route{Prefix: defaultRoute, Link: 2, Via: router1, Metric: 1024, Protocol: "static", Pref: "medium", Expires: 1 << 62})
		x.m.batch.rebuild(t)
	})
	return x
}

// BenchmarkRouteBatch is the route stage alone: 32 packets in transit from sources that one rule is for.
func BenchmarkRouteBatch(b *testing.B) {
	for _, c := range [][2]int{{0, 10}, {10, 10}, {10000, 10}, {0, 1_000_000}, {10000, 1_000_000}} {
		b.Run(fmt.Sprintf("rules=%d/routes=%d", c[0], c[1]), func(b *testing.B) {
			x := filled(b, c[0], c[1])
			r := rand.New(rand.NewPCG(2, 2))
			var all []*packet.Packet
			for range 1 << 15 {
				n := r.IntN(max(c[0], 1))
				src := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::1", 0x100+n>>8, n&255))
				dst := netip.AddrFrom16([16]byte{0x20, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 15: 1})
				p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: 59, HopLimit: 64, Src: src, Dst: dst}))
				p.In = 1
				all = append(all, p)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				ps := all[i : i+32]
				for _, p := range ps {
					p.Route, p.Out = nil, 0
				}
				x.m.RouteBatch(ps)
				i = (i + 32) % len(all)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/packet")
		})
	}
}
