package policyroute

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/extensions/policyroute/routeapi"
)

// TestSortDestinations: RFC 6724 6 with the sources and routes of the module: what each rule sees of them.
func TestSortDestinations(t *testing.T) {
	global := func(s string, link int) *module.Addr {
		return &module.Addr{Addr: netip.MustParseAddr(s), PrefixLen: 64, Link: link, ValidUntil: clock.Never, PreferredUntil: clock.Never}
	}
	deprecated := func(s string, link int) *module.Addr {
		a := global(s, link)
		a.Deprecated = true
		return a
	}
	tentative := func(s string, link int) *module.Addr {
		a := global(s, link)
		a.Tentative = true
		return a
	}
	everywhere := RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0"}
	for _, c := range []struct {
		name   string
		addrs  []*module.Addr
		routes []RouteConfig
		labels []routeapi.LabelSpec
		want   []string // asked for in the reverse order
	}{
		{
			"1 no route", []*module.Addr{global("2001:db8:2::1", 2)}, []RouteConfig{{To: "2001:db8:f::/48", Dev: "wan0"}}, nil,
			[]string{"2001:db8:f::1", "2001:db8:2001::1"},
		},
		{
			"1 a route that rejects", []*module.Addr{global("2001:db8:2::1", 2)}, []RouteConfig{everywhere, {To: "2001:db8:2:8000::/49", Type: "prohibit"}}, nil,
			[]string{"2001:db8:f::1", "2001:db8:2:8000::1"},
		},
		{
			"1 no source", []*module.Addr{tentative("2001:db8:2::1", 2), global("2001:db8:1::1", 1)},
			[]RouteConfig{{To: "2001:db8:a::/48", Dev: "lan0"}, {To: "2001:db8:b::/48", Dev: "wan0", Src: netip.MustParseAddr("2001:db8:2::1")}}, nil,
			[]string{"2001:db8:a::1", "2001:db8:b::1"},
		},
		{
			"2 scope", []*module.Addr{global("2001:db8:2::1", 2)}, []RouteConfig{everywhere}, nil,
			[]string{"2001:db8:f::1", "fec0::1"},
		},
		{
			"3 deprecated", []*module.Addr{deprecated("2001:db8:1::1", 1), global("2001:db8:2::1", 2)},
			[]RouteConfig{{To: "2001:db8:a::/48", Dev: "lan0", Src: netip.MustParseAddr("2001:db8:1::1")}, {To: "2001:db8:b::/48", Dev: "wan0"}}, nil,
			[]string{"2001:db8:b::1", "2001:db8:a::1"},
		},
		{
			"5 label", []*module.Addr{global("2001:db8:2::1", 2)}, []RouteConfig{everywhere}, nil,
			[]string{"2001:db8:f::1", "fd00::1"},
		},
		{
			"5 label of this node", []*module.Addr{global("2001:db8:2::1", 2)}, []RouteConfig{everywhere},
			[]routeapi.LabelSpec{label("2001:db8:2::/48", 77), label("fd00::/8", 77)},
			[]string{"fd00::1", "2001:db8:f::1"},
		},
		{
			"6 precedence", []*module.Addr{global("2001:db8:2::1", 2), global("fd00::2", 2)}, []RouteConfig{everywhere}, nil,
			[]string{"2001:db8:f::1", "fd00::1"},
		},
		{
			"9 longest match", []*module.Addr{global("2001:db8:2::1", 2)}, []RouteConfig{everywhere}, nil,
			[]string{"2001:db8:2::9", "2001:db8:3::9", "2001:db8:8000::9"},
		},
		{
			"an address of its own", []*module.Addr{global("2001:db8:2::1", 2)}, nil, nil,
			[]string{"2001:db8:2::1", "2001:db8:3::9"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.AddrSnap = module.NewAddrs(c.addrs, nil)
			b.m.AddrsChanged(b.Manual.Now(), b.AddrSnap)
			cfg := b.config(c.routes...)
			cfg.Sections["routing.source_selection"] = moduletest.Section[SourceSelectionConfig]{Value: SourceSelectionConfig{c.labels}}
			commit, err := b.m.Prepare(cfg)
			if err != nil {
				t.Fatal(err)
			}
			commit(b.Manual.Now())
			var dsts []netip.Addr
			for _, s := range slices.Backward(c.want) {
				dsts = append(dsts, netip.MustParseAddr(s))
			}
			asked := slices.Clone(dsts)
			if got := b.m.SortDestinations(dsts); fmt.Sprint(got) != fmt.Sprint(c.want) || !slices.Equal(dsts, asked) {
				t.Errorf("%s, want %s; asked for %s", got, c.want, dsts)
			}
		})
	}
	b := newBench(t)
	if got := b.m.SortDestinations(nil); len(got) != 0 {
		t.Errorf("of none %s", got)
	}
}
