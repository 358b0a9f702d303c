package policyroute

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/extensions/policyroute/routeapi"
)

func label(prefix string, n int) routeapi.LabelSpec {
	return routeapi.LabelSpec{Prefix: prefix, Label: &n}
}

// TestLabelsDecide: the row that an operator adds, by configuration or command, makes another source
// the one with the destination's label (RFC 6724 5, rule 6).
func TestLabelsDecide(t *testing.T) {
	b := newBench(t, RouteConfig{To: "default", Dev: "wan0"})
	two := func(s string) *module.Addr {
		return &module.Addr{Addr: netip.MustParseAddr(s), PrefixLen: 64, Link: 2, ValidUntil: clock.Never, PreferredUntil: clock.Never}
	}
	b.m.AddrsChanged(b.Manual.Now(), module.NewAddrs([]*module.Addr{two("2001:db8:1aaa::a"), two("2001:db8:70aa::a")}, nil))
	dst := netip.MustParseAddr("2001:db8:70bb::b")
	src := func() string { return b.m.Route(module.RouteQuery{Dst: dst}).Src.String() }
	if got := src(); got != "2001:db8:70aa::a" { // the longest match
		t.Fatalf("by default %s", got)
	}
	change := func(op string, s routeapi.LabelSpec) string {
		_, err := b.m.changeLabels(b.Manual.Now(), module.Request{Decode: func(v any) error {
			*v.(*routeapi.LabelRequest) = routeapi.LabelRequest{Op: op, LabelSpec: s}
			return nil
		}})
		return fmt.Sprint(err)
	}
	for _, c := range []struct {
		op, want, src string
		spec          routeapi.LabelSpec
	}{
		{"add", "<nil>", "2001:db8:70aa::a", label("2001:db8:1aaa::/48", 6)},
		{"add", "<nil>", "2001:db8:1aaa::a", label("2001:db8:70bb::/48", 6)},
		{"add", "File exists", "2001:db8:1aaa::a", label("2001:db8:70bb::/48", 7)},
		{"replace", "<nil>", "2001:db8:70aa::a", label("2001:db8:70bb::/48", 1)},
		{"replace", "<nil>", "2001:db8:1aaa::a", label("2001:db8:70bb::/48", 6)},
		{"del", "<nil>", "2001:db8:70aa::a", routeapi.LabelSpec{Prefix: "2001:db8:70bb::/48"}},
		{"del", "No such process", "2001:db8:70aa::a", routeapi.LabelSpec{Prefix: "2001:db8:70bb::/48"}},
		{"add", `Error: any valid prefix is expected rather than "x".`, "2001:db8:70aa::a", label("x", 1)},
		{"add", "Error: 70000 is outside 0..65535", "2001:db8:70aa::a", label("2001:db8::/32", 70000)},
		{"flush", "<nil>", "2001:db8:70aa::a", routeapi.LabelSpec{}},
		{"put", `unknown operation "put"`, "2001:db8:70aa::a", label("2001:db8::/32", 7)},
	} {
		if got := change(c.op, c.spec); got != c.want || src() != c.src {
			t.Errorf("%s %+v: %s, source %s", c.op, c.spec, got, src())
		}
	}
	v, err := b.m.showLabels(b.Manual.Now(), module.Request{})
	if err != nil || len(v.([]routeapi.Label)) != 9 || v.([]routeapi.Label)[0] != (routeapi.Label{Address: "::1", PrefixLen: 128, Precedence: 50}) {
		t.Errorf("%+v %v", v, err)
	}
	cfg := b.config(RouteConfig{To: "default", Dev: "wan0"})
	cfg.Sections["routing.source_selection"] = moduletest.Section[SourceSelectionConfig]{Value: SourceSelectionConfig{[]routeapi.LabelSpec{label("2001:db8:1aaa::/48", 6), label("2001:db8:70bb::/48", 6)}}}
	commit, err := b.m.Prepare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if commit(b.Manual.Now()); src() != "2001:db8:1aaa::a" {
		t.Errorf("by configuration %s", src())
	}
	for want, list := range map[string][]routeapi.LabelSpec{
		"labels[0].label: Not enough":  {{Prefix: "2001:db8::/32"}},
		"labels[0].prefix: any valid":  {label("x", 1)},
		"labels[1].prefix: 2001:db8::": {label("2001:db8::/32", 1), label("2001:db8::/32", 2)},
	} {
		cfg.Sections["routing.source_selection"] = moduletest.Section[SourceSelectionConfig]{Value: SourceSelectionConfig{list}}
		if _, err := b.m.Prepare(cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", list, err, want)
		}
	}
}

// TestSourceOfTheNextHop: RFC 6724 5, rule 5.5: of two prefixes that two routers advertised, the
// source is of the one whose router the destination is reached by.
func TestSourceOfTheNextHop(t *testing.T) {
	b := newBench(t)
	two := func(s string) *module.Addr {
		return &module.Addr{Addr: netip.MustParseAddr(s), PrefixLen: 64, Link: 2, ValidUntil: clock.Never, PreferredUntil: clock.Never}
	}
	b.m.AddrsChanged(b.Manual.Now(), module.NewAddrs([]*module.Addr{two("2001:db8:a::1"), two("2001:db8:b::1")}, nil))
	for _, c := range []struct{ high, src string }{{router1.String(), "2001:db8:a::1"}, {router2.String(), "2001:db8:b::1"}} {
		r1, r2 := learnedDefault(router1, "medium"), learnedDefault(router2, "medium")
		r1.Sources, r2.Sources = []netip.Prefix{netip.MustParsePrefix("2001:db8:a::/64")}, []netip.Prefix{netip.MustParsePrefix("2001:db8:b::/64")}
		r1.Standby, r2.Standby = c.high != r1.Via.String(), c.high != r2.Via.String()
		b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{r1, r2})
		// The longest match is 2001:db8:a::1 for the one, 2001:db8:b::1 for the other: 5.5 comes before that.
		for _, dst := range []string{"2001:db8:a:f::1", "2001:db8:b:f::1"} {
			if r := b.m.Route(module.RouteQuery{Dst: netip.MustParseAddr(dst)}); r.Src.String() != c.src || r.NextHop.String() != c.high {
				t.Errorf("%s by %s: from %s by %s", dst, c.high, r.Src, r.NextHop)
			}
		}
	}
}
