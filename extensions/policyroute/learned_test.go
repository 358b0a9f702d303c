package policyroute

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

var (
	defaultRoute = netip.MustParsePrefix("::/0")
	router1      = netip.MustParseAddr("fe80::a1")
	router2      = netip.MustParseAddr("fe80::a2")
)

func learnedDefault(via netip.Addr, pref string) module.LearnedRoute {
	return module.LearnedRoute{Prefix: defaultRoute, Link: 2, Via: via, Metric: 1024, Pref: pref, Protocol: "ra", Expires: clock.Never}
}

// sent lets a packet to dst be routed and returns its next hop; from is the source of a packet of
// this node, else it is one in transit.
func (b *bench) sent(from, dst string) string {
	f := wire.IPv6Fields{HopLimit: 64, Src: netip.MustParseAddr("2001:db8:1::9"), Dst: netip.MustParseAddr(dst)}
	in := 1
	if from != "" {
		f.Src, in = netip.MustParseAddr(from), 0
	}
	p := packet.New(wire.AppendIPv6(nil, f))
	p.In = in
	b.m.RouteBatch([]*packet.Packet{p})
	if p.Route == nil {
		return "none"
	}
	return netip.AddrFrom16(p.NextHop).String()
}

// TestLearnedRoutesComeAndGo with what the wire taught.
func TestLearnedRoutesComeAndGo(t *testing.T) {
	b := newBench(t)
	now := b.Manual.Now()
	if got := b.sent("", "2001:db8:f::1"); got != "none" {
		t.Errorf("before: %s", got)
	}
	b.m.RoutesLearned(now, []module.LearnedRoute{learnedDefault(router1, "medium")})
	if got := b.sent("", "2001:db8:f::1"); got != "fe80::a1" {
		t.Errorf("one router: %s", got)
	}
	standby := learnedDefault(router1, "medium")
	standby.Standby = true
	b.m.RoutesLearned(now, []module.LearnedRoute{standby, learnedDefault(router2, "high")})
	if got := b.sent("", "2001:db8:f::1"); got != "fe80::a2" {
		t.Errorf("the first on standby: %s", got)
	}
	if n := len(b.m.table(tableMain).Routes(defaultRoute)); n != 2 {
		t.Errorf("%d default routes are listed", n)
	}
	b.m.RoutesLearned(now, nil)
	if got := b.sent("", "2001:db8:f::1"); got != "none" {
		t.Errorf("all gone: %s", got)
	}
	if n := len(b.m.learned); n != 0 {
		t.Errorf("%d learned routes are remembered", n)
	}
}

// TestLearnedRouteKeepsItsPlace: a lifetime that is refreshed changes nothing else, and a static route
// of a better metric wins.
func TestLearnedRouteKeepsItsPlace(t *testing.T) {
	ten := uint32(10)
	b := newBench(t, RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0", Metric: &ten})
	now := b.Manual.Now()
	for i := range 3 {
		r := learnedDefault(router1, "medium")
		r.Expires = now.Add(time.Duration(i+1) * time.Minute)
		b.m.RoutesLearned(now, []module.LearnedRoute{r})
	}
	list := b.m.table(tableMain).Routes(defaultRoute)
	if len(list) != 2 || list[1].Expires != now.Add(3*time.Minute) {
		t.Errorf("%+v", list)
	}
	if got := b.sent("", "2001:db8:f::1"); got != "fe80::99" {
		t.Errorf("next hop %s", got)
	}
}

// TestEqualRoutersShareTheDestinations within 5 %, each destination keeping to its router (RFC 4311 2).
func TestEqualRoutersShareTheDestinations(t *testing.T) {
	b := newBench(t)
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{learnedDefault(router1, "medium"), learnedDefault(router2, "medium")})
	count := map[string]int{}
	for i := range 1000 {
		a := netip.MustParseAddr("2001:db8:f::").As16()
		binary.BigEndian.PutUint16(a[14:], uint16(i))
		dst := netip.AddrFrom16(a).String()
		hop := b.sent("", dst)
		count[hop]++
		if again := b.sent("", dst); again != hop {
			t.Fatalf("%s goes to %s, then to %s", dst, hop, again)
		}
		if r := b.m.Route(module.RouteQuery{Dst: netip.AddrFrom16(a)}); r.NextHop.String() != hop {
			t.Fatalf("%s goes to %s, but a question says %s", dst, hop, r.NextHop)
		}
	}
	if d := count["fe80::a1"] - count["fe80::a2"]; d < -50 || d > 50 || len(count) != 2 {
		t.Errorf("split %v", count)
	}
}

// TestSourceChoosesItsRouter: packets of this node go to the router that advertised their source (RFC
// 8028 3.1); packets in transit do not care.
func TestSourceChoosesItsRouter(t *testing.T) {
	b := newBench(t)
	r1, r2 := learnedDefault(router1, "medium"), learnedDefault(router2, "medium")
	r1.Sources = []netip.Prefix{netip.MustParsePrefix("2001:db8:a::/64")}
	r2.Sources = []netip.Prefix{netip.MustParsePrefix("2001:db8:b::/64")}
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{r1, r2})
	transit := map[string]bool{}
	for i := range 64 {
		dst := fmt.Sprintf("2001:db8:f::%x", i)
		if got := b.sent("2001:db8:a::1", dst) + " " + b.sent("2001:db8:b::1", dst); got != "fe80::a1 fe80::a2" {
			t.Fatalf("%s: %s", dst, got)
		}
		transit[b.sent("", dst)] = true
	}
	if len(transit) != 2 {
		t.Errorf("in transit: %v", transit)
	}
}

// TestSourceOutweighsPreference: RFC 8028 3.2: a router on standby still takes the packets whose source
// it advertised, and no others.
func TestSourceOutweighsPreference(t *testing.T) {
	b := newBench(t)
	r1, r2 := learnedDefault(router1, "high"), learnedDefault(router2, "low")
	r2.Standby, r2.Sources = true, []netip.Prefix{netip.MustParsePrefix("2001:db8:b::/64")}
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{r1, r2})
	for i := range 64 {
		dst := fmt.Sprintf("2001:db8:f::%x", i)
		if got := b.sent("2001:db8:a::1", dst) + " " + b.sent("2001:db8:b::1", dst) + " " + b.sent("", dst); got != "fe80::a1 fe80::a2 fe80::a1" {
			t.Fatalf("%s: %s", dst, got)
		}
	}
	r2.Sources = nil // it does not answer
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{r1, r2})
	if got := b.sent("2001:db8:b::1", "2001:db8:f::1"); got != "fe80::a1" {
		t.Errorf("a router that does not answer: %s", got)
	}
}

// TestSharedLookupDoesNotAllocate.
func TestSharedLookupDoesNotAllocate(t *testing.T) {
	b := newBench(t)
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{learnedDefault(router1, "medium"), learnedDefault(router2, "medium")})
	p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{HopLimit: 64, Src: netip.MustParseAddr("2001:db8:1::9"), Dst: netip.MustParseAddr("2001:db8:f::1")}))
	ps := []*packet.Packet{p}
	if n := testing.AllocsPerRun(100, func() { p.Route, p.Out = nil, 0; b.m.RouteBatch(ps) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLearnedPrefixThatIsConnected: an on-link prefix of a router and that of an address are one route,
// which stays as long as one of them does.
func TestLearnedPrefixThatIsConnected(t *testing.T) {
	b := newBench(t)
	now := b.Manual.Now()
	p := netip.MustParsePrefix("2001:db8:1::/64")
	learned := []module.LearnedRoute{{Prefix: p, Link: 1, Metric: 256, Pref: "medium", Protocol: "kernel", Expires: now.Add(time.Hour)}}
	with, without := b.AddrSnap, module.NewAddrs(nil, nil)
	for i, c := range []struct {
		addrs   *module.Addrs
		learned []module.LearnedRoute
		want    int
		expires clock.Instant
	}{
		{with, learned, 1, clock.Never}, {with, nil, 1, clock.Never},
		{with, learned, 1, clock.Never}, {without, learned, 1, learned[0].Expires},
		{with, learned, 1, clock.Never}, {with, nil, 1, clock.Never}, {without, nil, 0, 0},
		{without, learned, 1, learned[0].Expires}, {without, nil, 0, 0},
	} {
		b.m.RoutesLearned(now, c.learned)
		b.m.AddrsChanged(now, c.addrs)
		rs := b.m.table(tableMain).Routes(p)
		if len(rs) != c.want || c.want > 0 && rs[0].Expires != c.expires {
			t.Fatalf("step %d: %+v", i, rs)
		}
		if got := b.sent("2001:db8:2::1", "2001:db8:1::77") != "none"; got != (c.want > 0) {
			t.Errorf("step %d: routed %v", i, got)
		}
	}
}
