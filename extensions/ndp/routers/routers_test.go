package routers

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

var (
	all = Vars{DefaultRouter: true, MaxLength: 64}
	rX  = netip.MustParseAddr("fe80::1")
	rY  = netip.MustParseAddr("fe80::2")
	rZ  = netip.MustParseAddr("fe80::3")
	t0  = clock.Instant(time.Hour)
)

func at(d time.Duration) clock.Instant { return t0.Add(d) }

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// ra is an advertisement of a default router.
func ra(src netip.Addr, life time.Duration, change ...func(*ndwire.RA)) *ndwire.RA {
	m := &ndwire.RA{Src: src, RouterLifetime: life}
	for _, c := range change {
		c(m)
	}
	return m
}

func pref(p ndwire.Preference) func(*ndwire.RA) { return func(m *ndwire.RA) { m.Preference = p } }

func rio(p string, pr ndwire.Preference, life time.Duration) func(*ndwire.RA) {
	return func(m *ndwire.RA) {
		m.Routes = append(m.Routes, ndwire.RouteInfo{Prefix: prefix(p), Preference: pr, Lifetime: life})
	}
}

func pio(p string, onLink bool, valid time.Duration) func(*ndwire.RA) {
	return func(m *ndwire.RA) {
		m.Prefixes = append(m.Prefixes, ndwire.PrefixInfo{Prefix: prefix(p), OnLink: onLink, Valid: valid})
	}
}

// lines renders the choice: "PREFIX ROUTER PREFERENCE used|-".
func lines(t *Table, now clock.Instant, share bool) string {
	cs := t.Candidates(now, 1, share)
	Choose(cs)
	var out []string
	for _, c := range cs {
		used := "-"
		if c.Used {
			used = "used"
		}
		out = append(out, fmt.Sprintf("%s %s %s %s", c.Prefix, c.Router, c.Preference, used))
	}
	return strings.Join(out, "\n")
}

// TestRoutes: RFC 4191 3.1 and RFC 4861 6.3.4, one advertisement after the other.
func TestRoutes(t *testing.T) {
	const min30 = 30 * time.Minute
	for _, c := range []struct {
		name string
		vars Vars
		ras  []*ndwire.RA
		want string
	}{
		{"a default router", all, []*ndwire.RA{ra(rX, min30)}, "::/0 fe80::1 medium used"},
		{"lifetime 0 is no default router", all, []*ndwire.RA{ra(rX, 0)}, ""},
		{"lifetime 0 takes it off the list", all, []*ndwire.RA{ra(rX, min30), ra(rX, 0)}, ""},
		{"the last one counts", all, []*ndwire.RA{ra(rX, min30), ra(rX, min30, pref(ndwire.High))}, "::/0 fe80::1 high used"},
		{"not accepted", Vars{MaxLength: 64}, []*ndwire.RA{ra(rX, min30, rio("2001:db8::/32", 0, min30))}, "2001:db8::/32 fe80::1 medium used"},
		{
			"a ::/0 option overrides the header", all, []*ndwire.RA{ra(rX, 100*time.Second, rio("::/0", ndwire.Low, 200*time.Second))},
			"::/0 fe80::1 low used",
		},
		{"a ::/0 option with lifetime 0", all, []*ndwire.RA{ra(rX, min30, rio("::/0", 0, 0))}, ""},
		{"a route alone", all, []*ndwire.RA{ra(rX, 0, rio("2001:db8::/32", ndwire.High, min30))}, "2001:db8::/32 fe80::1 high used"},
		{
			"a route with lifetime 0 goes", all,
			[]*ndwire.RA{ra(rX, 0, rio("2001:db8::/32", 0, min30)), ra(rX, 0, rio("2001:db8::/32", 0, 0))}, "",
		},
		{
			"a route that is not repeated stays", all,
			[]*ndwire.RA{ra(rX, 0, rio("2001:db8::/32", 0, min30)), ra(rX, min30)}, "::/0 fe80::1 medium used\n2001:db8::/32 fe80::1 medium used",
		},
		{"longer than accepted", all, []*ndwire.RA{ra(rX, 0, rio("2001:db8::/65", 0, min30))}, ""},
		{"shorter than accepted", Vars{DefaultRouter: true, MinLength: 48, MaxLength: 64}, []*ndwire.RA{ra(rX, 0, rio("2001:db8::/32", 0, min30))}, ""},
		{"none accepted", Vars{DefaultRouter: true, MinLength: 1, MaxLength: 0}, []*ndwire.RA{ra(rX, min30, rio("::/0", ndwire.Low, 0))}, "::/0 fe80::1 medium used"},
		{"a link-local route", all, []*ndwire.RA{ra(rX, 0, rio("fe80::/10", 0, min30))}, ""},
		{
			"preference before order", all, []*ndwire.RA{ra(rX, min30, pref(ndwire.Low)), ra(rY, min30), ra(rZ, min30, pref(ndwire.High))},
			"::/0 fe80::3 high used\n::/0 fe80::2 medium -\n::/0 fe80::1 low -",
		},
		{"equals: the first", all, []*ndwire.RA{ra(rX, min30), ra(rY, min30)}, "::/0 fe80::1 medium used\n::/0 fe80::2 medium -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := New(c.vars)
			for i, m := range c.ras {
				tab.RA(at(time.Duration(i)*time.Second), m)
			}
			if got := lines(tab, at(5*time.Second), false); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestEqualsShare: RFC 4311 3, with two links where one does not.
func TestEqualsShare(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, time.Hour))
	tab.RA(t0, ra(rY, time.Hour))
	tab.RA(t0, ra(rZ, time.Hour, pref(ndwire.Low)))
	want := "::/0 fe80::1 medium used\n::/0 fe80::2 medium used\n::/0 fe80::3 low -"
	if got := lines(tab, t0, true); got != want {
		t.Errorf("got\n%s", got)
	}
	cs := append(tab.Candidates(t0, 1, false), tab.Candidates(t0, 2, true)...)
	Choose(cs)
	used := 0
	for _, c := range cs {
		if c.Used {
			used++
		}
	}
	if used != 1 {
		t.Errorf("%d used, though the first of them is of a link that does not share", used)
	}
}

// TestReachability is the example of RFC 4191 3.6.
func TestReachability(t *testing.T) {
	rW := netip.MustParseAddr("fe80::4")
	tab := New(all)
	tab.RA(t0, ra(rW, time.Hour))
	tab.RA(t0, ra(rY, 0, rio("2001:db8::/32", ndwire.High, time.Hour)))
	tab.RA(t0, ra(rZ, 0, rio("2001:db8::/32", ndwire.Low, time.Hour)))
	used := func() string {
		cs := tab.Candidates(t0, 1, true)
		Choose(cs)
		var best *Candidate
		for i := range cs { // what a longest-prefix match finds
			if c := &cs[i]; c.Used && (best == nil || c.Prefix.Bits() > best.Prefix.Bits()) {
				best = c
			}
		}
		return best.Router.String()
	}
	for _, step := range []struct {
		addr netip.Addr
		ok   bool
		want netip.Addr
	}{
		{rW, true, rY},
		{rY, false, rZ}, {rZ, false, rW}, {rW, false, rY}, // all gone: the best of the longest
		{rW, true, rW}, {rZ, true, rZ}, {rY, true, rY},
	} {
		tab.Reachable(t0, step.addr, step.ok)
		if got := used(); got != step.want.String() {
			t.Errorf("%s answers: %v: %s is used, want %s", step.addr, step.ok, got, step.want)
		}
	}
	if tab.Reachable(t0, netip.MustParseAddr("fe80::99"), false) || tab.Reachable(t0, rY, true) || !tab.Reachable(t0, rY, false) {
		t.Error("what is news")
	}
}

// TestTurns: RFC 4861 6.3.6: while none answers, routers take turns.
func TestTurns(t *testing.T) {
	tab := New(all)
	for _, r := range []netip.Addr{rX, rY, rZ} {
		tab.RA(t0, ra(r, time.Hour))
	}
	var order []string
	now := t0
	for range 6 {
		cs := tab.Candidates(now, 1, false)
		Choose(cs)
		order = append(order, cs[0].Router.String())
		now = now.Add(time.Second)
		tab.Reachable(now, cs[0].Router, true)
		tab.Reachable(now, cs[0].Router, false)
	}
	if want := []string{"fe80::1", "fe80::2", "fe80::3", "fe80::1", "fe80::2", "fe80::3"}; !slices.Equal(order, want) {
		t.Errorf("%v", order)
	}
}

// TestEnds: everything has its own end, and the deadline is the next of them.
func TestEnds(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, 10*time.Second, rio("2001:db8:1::/48", 0, 20*time.Second), pio("2001:db8:2::/64", true, 30*time.Second), func(m *ndwire.RA) {
		m.RDNSS = []ndwire.RDNSS{{Servers: []netip.Addr{rX}, Lifetime: 40 * time.Second}}
		m.DNSSL = []ndwire.DNSSL{{Domains: []string{"a.example"}, Lifetime: 50 * time.Second}}
		m.PREF64 = []ndwire.PREF64{{Prefix: prefix("64:ff9b::/96"), Lifetime: 64 * time.Second}}
	}))
	var got []string
	for d := tab.Deadline(); d != clock.Never; d = tab.Deadline() {
		if tab.Tick(d - 1) {
			t.Error("something ended too early")
		}
		tab.Tick(d)
		got = append(got, fmt.Sprint(int(d.Sub(t0)/time.Second)))
	}
	if want := "10 20 30 40 50 64"; strings.Join(got, " ") != want {
		t.Errorf("ends at %v", got)
	}
	if len(tab.Routers())+len(tab.OnLink())+len(tab.Servers())+len(tab.Domains())+len(tab.PREF64()) != 0 {
		t.Errorf("left: %+v", tab)
	}
	tab.RA(t0, ra(rX, ndwire.Infinite))
	if tab.Deadline() != clock.Never || len(tab.Candidates(at(1e6*time.Hour), 1, false)) != 1 {
		t.Error("without end")
	}
}

// TestOnLink: RFC 4861 6.3.4.
func TestOnLink(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, 0, pio("2001:db8:1::/64", true, time.Hour), pio("2001:db8:2::/64", false, time.Hour), pio("fe80::/64", true, time.Hour)))
	if got := tab.OnLink(); len(got) != 1 || got[0] != (Prefix{prefix("2001:db8:1::/64"), at(time.Hour)}) {
		t.Errorf("%v", got)
	}
	tab.RA(t0, ra(rX, 0, pio("2001:db8:1::/64", false, time.Hour))) // L=0 takes nothing back
	if len(tab.OnLink()) != 1 {
		t.Error("an option without L took the prefix off the link")
	}
	tab.RA(t0, ra(rY, 0, pio("2001:db8:1::/64", true, 0)))
	if len(tab.OnLink()) != 0 {
		t.Error("valid lifetime 0 must take it off at once")
	}
}

// TestParams: RFC 4861 6.3.4: zero is unspecified; what cannot be is passed over.
func TestParams(t *testing.T) {
	tab := New(all)
	set := Params{MTU: 1400, CurHopLimit: 30, ReachableTime: 20 * time.Second, RetransTimer: 2 * time.Second}
	tab.RA(t0, ra(rX, 0, func(m *ndwire.RA) {
		m.MTU, m.CurHopLimit, m.ReachableTime, m.RetransTimer = set.MTU, set.CurHopLimit, set.ReachableTime, set.RetransTimer
	}))
	tab.RA(t0, ra(rY, 0))
	tab.RA(t0, ra(rY, 0, func(m *ndwire.RA) { m.MTU, m.ReachableTime = 1279, time.Hour+1 }))
	if got := tab.Params(); got != set {
		t.Errorf("%+v", got)
	}
}

// TestSources: RFC 8028 3.1: what each router advertises is remembered with it, while it answers.
func TestSources(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, time.Hour, pio("2001:db8:1::/64", false, time.Hour)))
	tab.RA(t0, ra(rY, time.Hour, pio("2001:db8:2::/64", true, time.Hour), pio("fe80::/64", true, time.Hour)))
	cs := tab.Candidates(t0, 1, false)
	if len(cs) != 2 || !slices.Equal(cs[0].Sources, []netip.Prefix{prefix("2001:db8:1::/64")}) || !slices.Equal(cs[1].Sources, []netip.Prefix{prefix("2001:db8:2::/64")}) {
		t.Errorf("%+v", cs)
	}
	tab.Reachable(t0, rX, false)
	if cs := tab.Candidates(t0, 1, false); cs[0].Sources != nil {
		t.Error("a router that does not answer takes nothing")
	}
}

// TestResolvers: RFC 8106 6.2: order, refreshing, removal and a full list.
func TestResolvers(t *testing.T) {
	servers := func(life time.Duration, as ...string) func(*ndwire.RA) {
		return func(m *ndwire.RA) {
			o := ndwire.RDNSS{Lifetime: life}
			for _, a := range as {
				o.Servers = append(o.Servers, netip.MustParseAddr(a))
			}
			m.RDNSS = append(m.RDNSS, o)
		}
	}
	tab := New(all)
	order := func() string {
		var out []string
		for _, s := range tab.Servers() {
			out = append(out, s.Value.String())
		}
		return strings.Join(out, " ")
	}
	tab.RA(t0, ra(rX, 0, servers(time.Hour, "::1", "::2")))
	tab.RA(t0, ra(rY, 0, servers(time.Hour, "::3", "::1")))
	if got := order(); got != "::3 ::1 ::2" {
		t.Errorf("order %s", got)
	}
	tab.RA(t0, ra(rY, 0, servers(0, "::1", "::9")))
	if got := order(); got != "::3 ::2" {
		t.Errorf("after lifetime 0: %s", got)
	}
	tab.RA(t0, ra(rX, 0, servers(time.Minute, "::2")))
	tab.RA(t0, ra(rX, 0, servers(2*time.Hour, "::11", "::12", "::13", "::14", "::15", "::16", "::17")))
	if got := order(); got != "::11 ::12 ::13 ::14 ::15 ::16 ::17 ::3" {
		t.Errorf("full: %s", got) // ::2 would have ended first
	}
	tab.RA(t0, ra(rX, 0, func(m *ndwire.RA) { m.CaptivePortal = "https://portal.example/api" }))
	if tab.CaptivePortal() != "https://portal.example/api" {
		t.Error("portal")
	}
}

// TestGone: RFC 4861 7.2.5: who is no router any more loses all its routes, at once.
func TestGone(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, time.Hour, rio("2001:db8::/32", 0, time.Hour)))
	tab.RA(t0, ra(rY, time.Hour))
	tab.Gone(rX)
	if got := lines(tab, t0, false); got != "::/0 fe80::2 medium used" || tab.Known(rX) {
		t.Errorf("%s", got)
	}
	tab.Flush()
	if len(tab.Routers()) != 0 || tab.Params() != (Params{}) || tab.Deadline() != clock.Never {
		t.Error("flushed")
	}
}

// TestFlood: 100,000 advertisements of as many routers, with all that fits in one, leave the lists
// within their bounds and the routers that were there in place, unless they do not answer.
func TestFlood(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, time.Hour, rio("2001:db8::/32", ndwire.High, time.Hour), pio("2001:db8:1::/64", true, time.Hour)))
	for i := range 100_000 {
		src := netip.AddrFrom16([16]byte{0xfe, 0x80, 12: byte(i >> 16), 13: byte(i >> 8), 14: byte(i), 15: 1})
		tab.RA(t0, ra(src, 2*time.Hour,
			rio(fmt.Sprintf("2001:%x:%x::/48", i>>16, i&0xffff), 0, time.Hour), pio(fmt.Sprintf("3fff:%x:%x::/64", i>>16, i&0xffff), true, time.Hour),
			func(m *ndwire.RA) {
				m.RDNSS = []ndwire.RDNSS{{Servers: []netip.Addr{src}, Lifetime: time.Hour}}
				m.DNSSL = []ndwire.DNSSL{{Domains: []string{fmt.Sprintf("d%d.example", i)}, Lifetime: time.Hour}}
			}))
	}
	if len(tab.routers) != maxRouters || len(tab.routes) > maxRoutes || len(tab.onLink) != maxPrefixes || len(tab.Servers()) != maxServers || len(tab.Domains()) != maxDomains {
		t.Errorf("%d routers, %d routes, %d prefixes, %d servers", len(tab.routers), len(tab.routes), len(tab.onLink), len(tab.Servers()))
	}
	if !tab.Known(rX) || !strings.Contains(lines(tab, t0, true), "2001:db8::/32 fe80::1 high used") || tab.Refused() == 0 {
		t.Error("the router that was there first is gone")
	}
	tab.Reachable(t0, rX, false)
	tab.RA(t0, ra(rY, time.Hour))
	if tab.Known(rX) || !tab.Known(rY) {
		t.Error("a newcomer takes the place of one that does not answer")
	}
}

// TestSetVars: what is not accepted any more goes at once.
func TestSetVars(t *testing.T) {
	tab := New(all)
	tab.RA(t0, ra(rX, time.Hour, rio("2001:db8::/32", 0, time.Hour), rio("2001:db8:1::/64", 0, time.Hour)))
	tab.SetVars(Vars{MinLength: 0, MaxLength: 48})
	if got := lines(tab, t0, false); got != "2001:db8::/32 fe80::1 medium used" {
		t.Errorf("%s", got)
	}
}
