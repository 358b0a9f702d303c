package policyroute

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/routeapi"
)

// applyRules puts tables, rules and routes in force as a configuration does.
func (b *bench) applyRules(tables []TableConfig, rules []routeapi.RuleSpec, routes ...RouteConfig) error {
	cfg := b.config(routes...)
	cfg.Sections["routing.tables"], cfg.Sections["routing.rules"] = moduletest.Section[[]TableConfig]{Value: tables}, moduletest.Section[[]routeapi.RuleSpec]{Value: rules}
	commit, err := b.m.Prepare(cfg)
	if err == nil {
		commit(b.Manual.Now())
	}
	return err
}

func prio(n uint32) *uint32 { return &n }

// via returns the next hop of a question's answer, or its refusal.
func (b *bench) via(q module.RouteQuery) string {
	r := b.m.Route(q)
	if r.Route == nil {
		return "none"
	}
	if r.Route.Type != packet.RouteUnicast {
		return r.Route.Type.String()
	}
	return r.NextHop.String()
}

// twoUplinks is the seed's case (S8): rule A from P1 leads to table 10, rule B for all to main.
func twoUplinks(t *testing.T) *bench {
	b := newBench(t)
	err := b.applyRules([]TableConfig{{ID: 10, Name: "isp-a"}},
		[]routeapi.RuleSpec{{Priority: prio(100), From: "2001:db8:1::/64", Lookup: "isp-a"}, {Priority: prio(200), Lookup: "main"}},
		RouteConfig{To: "2001:db8:a::/48", Via: netip.MustParseAddr("fe80::10"), Dev: "lan0", Table: "isp-a"},
		RouteConfig{To: "2001:db8:b::/48", Via: netip.MustParseAddr("fe80::10"), Dev: "wan0", Table: "10"},
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::254"), Dev: "wan0"},
	)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSourceIsChosenInsideTheLookup: table 10's route counts for who has no source yet only if the
// source chosen for it is in P1.
func TestSourceIsChosenInsideTheLookup(t *testing.T) {
	b := twoUplinks(t)
	for _, c := range []struct{ dst, src, via, chosen string }{
		{"2001:db8:a::1", "", "fe80::10", "2001:db8:1::1"},               // lan0's address is in P1
		{"2001:db8:b::1", "", "fe80::254", "2001:db8:2::1"},              // wan0's is not: the next rule
		{"2001:db8:c::1", "", "fe80::254", "2001:db8:2::1"},              // no route in table 10
		{"2001:db8:b::1", "2001:db8:1::1", "fe80::10", "2001:db8:1::1"},  // a source settles it
		{"2001:db8:a::1", "2001:db8:2::1", "fe80::254", "2001:db8:2::1"}, // the other way too
	} {
		q := module.RouteQuery{Dst: netip.MustParseAddr(c.dst)}
		if c.src != "" {
			q.Src = netip.MustParseAddr(c.src)
		}
		r := b.m.Route(q)
		if r.NextHop.String() != c.via || r.Src.String() != c.chosen {
			t.Errorf("%s from %q: via %s from %s, want via %s from %s", c.dst, c.src, r.NextHop, r.Src, c.via, c.chosen)
		}
	}
}

// TestRulesOnProtocolAndPorts: they choose the route and with it the source, as soon as who asks says
// what they ask for.
func TestRulesOnProtocolAndPorts(t *testing.T) {
	b := newBench(t)
	err := b.applyRules(nil, []routeapi.RuleSpec{
		{Priority: prio(100), IPProto: "tcp", DPort: "443", Lookup: "100"}, {Priority: prio(110), IPProto: "udp", SPort: "7000-7009", Lookup: "100"},
		{Priority: prio(120), IPProto: "ipv6-icmp", Lookup: "100"}, {Priority: prio(130), DSField: "0xb8", Lookup: "100"},
	},
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::100"), Dev: "lan0", Table: "100"},
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::254"), Dev: "wan0"},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q  module.RouteQuery
		in bool // the first table
	}{
		{module.RouteQuery{Proto: wire.TCP, DPort: 443}, true},
		{module.RouteQuery{Proto: wire.TCP, SPort: 443, DPort: 80}, false},
		{module.RouteQuery{Proto: wire.UDP, DPort: 443}, false},
		{module.RouteQuery{Proto: wire.UDP, SPort: 7009, DPort: 53}, true},
		{module.RouteQuery{Proto: wire.UDP, DPort: 53}, false},
		{module.RouteQuery{Proto: wire.ICMPv6}, true},
		{module.RouteQuery{Proto: 89, DSField: 0xb8 | 1}, true},
		{module.RouteQuery{}, false},
	} {
		c.q.Dst = netip.MustParseAddr("2001:db8:f::1")
		via, src := "fe80::254", "2001:db8:2::1"
		if c.in {
			via, src = "fe80::100", "2001:db8:1::1"
		}
		if r := b.m.Route(c.q); r.NextHop.String() != via || r.Src.String() != src {
			t.Errorf("%+v: via %s from %s, want via %s from %s", c.q, r.NextHop, r.Src, via, src)
		}
	}
}

// TestWhatRulesDo: each action, throw, suppression, goto, and no rule that is left.
func TestWhatRulesDo(t *testing.T) {
	zero := 0
	throw := RouteConfig{To: "2001:db8:a::/48", Type: "throw", Table: "10"}
	def := RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::254"), Dev: "wan0"}
	inTen := RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::10"), Dev: "wan0", Table: "10"}
	all := func(set func(*routeapi.RuleSpec)) routeapi.RuleSpec {
		r := routeapi.RuleSpec{Priority: prio(100)}
		set(&r)
		return r
	}
	for _, c := range []struct {
		name  string
		rules []routeapi.RuleSpec
		want  string
		mark  uint32
	}{
		{"lookup", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Lookup = "10" })}, "fe80::254", 0}, // throw in table 10
		{"a table without routes", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Lookup = "11" })}, "fe80::254", 0},
		{"suppressed", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Lookup, r.Suppress = "main", &zero }), {Priority: prio(101), Action: "prohibit"}}, "prohibit", 0},
		{"blackhole", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Action = "blackhole" })}, "blackhole", 0},
		{"unreachable ends the search", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Action = "unreachable" })}, "none", 0},
		{"prohibit", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Action = "prohibit" })}, "prohibit", 0},
		{"nop", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.Action = "nop" })}, "fe80::254", 0},
		{"goto", []routeapi.RuleSpec{
			all(func(r *routeapi.RuleSpec) { r.Goto = 300 }), {Priority: prio(200), Action: "prohibit"}, {Priority: prio(300), Action: "nop"},
		}, "fe80::254", 0},
		{"another mark", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.FwMark, r.Action = "0x1/0xf", "prohibit" })}, "fe80::254", 0x12},
		{"mark", []routeapi.RuleSpec{all(func(r *routeapi.RuleSpec) { r.FwMark, r.Action = "0x1/0xf", "prohibit" })}, "prohibit", 0x11},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			if err := b.applyRules(nil, c.rules, throw, def, inTen); err != nil {
				t.Fatal(err)
			}
			q := module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:a::1"), Src: netip.MustParseAddr("2001:db8:1::1"), Mark: c.mark}
			if got := b.via(q); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			b.apply(def) // without rules again
			if got := b.via(q); got != "fe80::254" {
				t.Errorf("without the rules: %s", got)
			}
		})
	}
}

// TestRulesOfTheConfiguration: what is refused.
func TestRulesOfTheConfiguration(t *testing.T) {
	b := newBench(t)
	for want, r := range map[string]routeapi.RuleSpec{
		"[0].priority: a rule of":           {Lookup: "10"},
		"[0].lookup: argument \"isp-c\"":    {Priority: prio(5), Lookup: "isp-c"},
		"[0].from: inet6 prefix":            {Priority: prio(5), From: "x"},
		"[0].iif: \"eth9\" is not a link":   {Priority: prio(5), IIF: "eth9"},
		"[0].fwmark: argument":              {Priority: prio(5), FwMark: "1/x"},
		"[0].dsfield: argument":             {Priority: prio(5), DSField: "256"},
		"[0]: Invalid dsfield":              {Priority: prio(5), DSField: "1"},
		"[0].sport: Invalid sport range":    {Priority: prio(5), SPort: "5-4"},
		"[0].ipproto: argument":             {Priority: prio(5), IPProto: "tpc"},
		"[0].action: argument \"drop\"":     {Priority: prio(5), Action: "drop"},
		"[0].action: a rule does one thing": {Priority: prio(5), Lookup: "10", Goto: 7},
		"[0]: Backward goto":                {Priority: prio(5), Goto: 5},
		"[0].goto: no rule has priority 77": {Priority: prio(5), Goto: 77},
	} {
		if err := b.applyRules(nil, []routeapi.RuleSpec{r}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
	for want, tc := range map[string]TableConfig{
		"[0].id: want a number":         {Name: "x"},
		"[0].name: \"7\" is no name":    {ID: 7, Name: "7"},
		"[0].name: \"main\" is table":   {ID: 7, Name: "main"},
		"[0].id: table 254 is \"main\"": {ID: 254, Name: "x"},
	} {
		if err := b.applyRules([]TableConfig{tc}, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", tc, err, want)
		}
	}
}

// TestRuleCommands: priorities that are left out, the refusals, the first that matches goes, flush.
func TestRuleCommands(t *testing.T) {
	b := newBench(t)
	now := b.Manual.Now()
	change := func(op string, s routeapi.RuleSpec) string {
		_, err := b.m.changeRule(now, module.Request{Decode: func(v any) error { *v.(*routeapi.RuleRequest) = routeapi.RuleRequest{Op: op, RuleSpec: s}; return nil }})
		return fmt.Sprint(err)
	}
	list := func() string {
		v, err := b.m.showRules(now, module.Request{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range v.([]routeapi.Rule) {
			out = append(out, fmt.Sprintf("%d %s %s", r.Priority, r.Src, r.Table+r.Action))
		}
		return strings.Join(out, ", ")
	}
	for _, c := range []struct {
		op   string
		s    routeapi.RuleSpec
		want string
		list string
	}{
		{"add", routeapi.RuleSpec{From: "2001:db8:1::1", Lookup: "100"}, "<nil>", "0 all local, 32765 2001:db8:1::1 100, 32766 all main"},
		{"add", routeapi.RuleSpec{Action: "prohibit"}, "<nil>", "0 all local, 32764 all prohibit, 32765 2001:db8:1::1 100, 32766 all main"},
		{"add", routeapi.RuleSpec{Priority: prio(32764), Action: "prohibit"}, "File exists", ""},
		{"del", routeapi.RuleSpec{Priority: prio(5)}, "No such file or directory", ""},
		{"del", routeapi.RuleSpec{}, "say which rule: without a selector the first one would go", ""},
		{"del", routeapi.RuleSpec{Lookup: "local"}, "Operation not permitted: packets for this node's own addresses are delivered before any rule is asked, so rule 0 stays", ""},
		{"del", routeapi.RuleSpec{Lookup: "100"}, "<nil>", "0 all local, 32764 all prohibit, 32766 all main"},
		{"add", routeapi.RuleSpec{Lookup: "x"}, `Error: argument "x" is wrong: invalid table ID`, ""},
		{"put", routeapi.RuleSpec{Lookup: "5"}, `unknown operation "put"`, ""},
	} {
		if got := change(c.op, c.s); got != c.want {
			t.Errorf("%s %+v: %s, want %s", c.op, c.s, got, c.want)
		}
		if c.list != "" && list() != c.list {
			t.Errorf("after %s %+v: %s", c.op, c.s, list())
		}
	}
	if _, err := b.m.flushRules(now, module.Request{Decode: func(any) error { return nil }}); err != nil || list() != "0 all local" {
		t.Errorf("flush: %v, left %s", err, list())
	}
	if got := b.via(module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:1::9"), Src: netip.MustParseAddr("2001:db8:1::1")}); got != "none" {
		t.Errorf("without a rule: %s", got)
	}
}

// TestDetachedRuleComesToLife with its link, and sleeps when that goes.
func TestDetachedRuleComesToLife(t *testing.T) {
	b := newBench(t, RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::254"), Dev: "wan0"})
	now := b.Manual.Now()
	add := routeapi.RuleRequest{Op: "add", RuleSpec: routeapi.RuleSpec{IIF: "lan9", Action: "prohibit"}}
	if _, err := b.m.changeRule(now, module.Request{Decode: func(v any) error { *v.(*routeapi.RuleRequest) = add; return nil }}); err != nil {
		t.Fatal(err)
	}
	q := module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:f::1"), Src: netip.MustParseAddr("2001:db8:9::1"), In: 3}
	detached := func() bool { r := b.m.rules.All()[1]; return bool(b.m.renderRule(&r).IIFDetached) }
	if got := b.via(q); got != "fe80::254" || !detached() {
		t.Errorf("without the link: %s", got)
	}
	b.LinkList = append(b.LinkList, &module.Link{Index: 3, Name: "lan9", MTU: 1500, Up: true, Carrier: true})
	b.m.LinksChanged(now, b.Links())
	if got := b.via(q); got != "prohibit" || detached() {
		t.Errorf("with the link: %s", got)
	}
}

// TestConfigurationIsOneChange: rules and routes of a new configuration become visible together.
func TestConfigurationIsOneChange(t *testing.T) {
	b := newBench(t)
	a := []routeapi.RuleSpec{{Priority: prio(10), Lookup: "10"}}
	z := []routeapi.RuleSpec{{Priority: prio(10), Lookup: "11"}}
	hop := func(table, via string) RouteConfig {
		return RouteConfig{To: "default", Via: netip.MustParseAddr(via), Dev: "wan0", Table: table}
	}
	if err := b.applyRules(nil, a, hop("10", "fe80::10")); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan string)
	go func() {
		bad := ""
		for {
			select {
			case <-stop:
				done <- bad
				return
			default:
			}
			p := toward("2001:db8:f::1")
			p.In = 1
			b.m.RouteBatch([]*packet.Packet{p})
			if p.Route == nil {
				bad = "no route"
			}
		}
	}()
	for range 300 {
		if err := b.applyRules(nil, z, hop("11", "fe80::11")); err != nil {
			t.Fatal(err)
		}
		if err := b.applyRules(nil, a, hop("10", "fe80::10")); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if bad := <-done; bad != "" {
		t.Error("a packet saw a mixture: " + bad)
	}
}

// TestLearnedRoutesOutliveAnApply: they are not the configuration's to remove.
func TestLearnedRoutesOutliveAnApply(t *testing.T) {
	b := newBench(t)
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{learnedDefault(router1, "medium")})
	b.apply(RouteConfig{To: "2001:db8:5::/48", Dev: "lan0"})
	if got := b.sent("", "2001:db8:f::1"); got != router1.String() {
		t.Errorf("after an apply: %s", got)
	}
}

// TestRoutesForSomeSources: the most specific destination, in it the most specific source; without one
// that fits, a shorter destination.
func TestRoutesForSomeSources(t *testing.T) {
	hop := func(to, from, via string) RouteConfig {
		return RouteConfig{To: to, From: from, Via: netip.MustParseAddr(via), Dev: "wan0"}
	}
	b := newBench(t, hop("default", "all", "fe80::1"), hop("default", "2001:db8:a::/48", "fe80::2"), hop("default", "2001:db8:a:1::/64", "fe80::3"),
		hop("2001:db8:f::/48", "2001:db8:b::/48", "fe80::4"))
	for _, c := range []struct{ dst, src, want string }{
		{"2001:db8:e::1", "2001:db8:c::1", "fe80::1"}, {"2001:db8:e::1", "2001:db8:a::1", "fe80::2"}, {"2001:db8:e::1", "2001:db8:a:1::1", "fe80::3"},
		{"2001:db8:e::1", "2001:db8:d::1", "fe80::1"}, {"2001:db8:f::1", "2001:db8:b::1", "fe80::4"}, {"2001:db8:f::1", "2001:db8:a:1::1", "fe80::3"}, {"2001:db8:f::1", "2001:db8:c::1", "fe80::1"},
	} {
		p := toward(c.dst)
		p.In = 1
		src := netip.MustParseAddr(c.src).As16()
		copy(p.Bytes()[8:24], src[:])
		if n := testing.AllocsPerRun(10, func() { p.Route, p.Out = nil, 0; b.m.RouteBatch([]*packet.Packet{p}) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
		if got := netip.AddrFrom16(p.NextHop).String(); p.Route == nil || got != c.want {
			t.Errorf("%s from %s: %s, want %s", c.dst, c.src, got, c.want)
		}
	}
}

// TestRulesDoNotAllocate on the packet path.
func TestRulesDoNotAllocate(t *testing.T) {
	b := twoUplinks(t)
	ps := []*packet.Packet{toward("2001:db8:a::1"), toward("2001:db8:b::1"), toward("2001:db8:c::1")}
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range ps {
			p.Route, p.Out, p.In = nil, 0, 1
		}
		b.m.RouteBatch(ps)
	}); n != 0 {
		t.Errorf("%v allocations a vector", n)
	}
}

// TestExplain names each rule that was asked and what became of it.
func TestExplain(t *testing.T) {
	b := twoUplinks(t)
	v, err := b.m.get(b.Manual.Now(), ask(map[string]string{"dst": "2001:db8:b::1", "explain": "true"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range v.(routeapi.Route).Explain.Rules {
		got = append(got, fmt.Sprintf("%d %v %s %s %s %v", s.Rule.Priority, s.Conforms, s.Why, s.Route, s.Refused, s.Used))
	}
	want := []string{"0 true   no route false", "100 true  2001:db8:b::/48 source false", "200 true  default  true"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// TestExplainChoice: the routes of the prefix with why they are not used, the flow, and the sources with
// the rule that another one is better by.
func TestExplainChoice(t *testing.T) {
	b := newBench(t, gateways(2, 1, 1), RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0", Metric: metric(2000)})
	b.m.GatewaysSilent(b.Manual.Now(), []module.Hop{{Link: 1, Addr: netip.MustParseAddr("fe80::12")}})
	v, err := b.m.get(b.Manual.Now(), ask(map[string]string{"dst": "2001:db8:f::1", "ipproto": "6", "dport": "443", "explain": "true"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	r := v.(routeapi.Route)
	x := r.Explain
	why := map[string]string{}
	for _, c := range x.Routes {
		if c.Used {
			c.Why = "used"
			if c.Gateway != r.Gateway || c.Dev != r.Dev {
				t.Errorf("used %+v, but the answer is %s", c, r.Gateway)
			}
		}
		why[c.Gateway.String()] = c.Why
	}
	other := map[string]string{"fe80::10": "fe80::11", "fe80::11": "fe80::10"}[r.Gateway.String()]
	want := map[string]string{r.Gateway.String(): "used", other: "", "fe80::12": "does not answer", "fe80::99": "metric"}
	if fmt.Sprint(why) != fmt.Sprint(want) {
		t.Errorf("routes %v, want %v", why, want)
	}
	if f := x.Flow; f == nil || f.Hash != "l4" || f.Dst.String() != "2001:db8:f::1" || f.Proto != 6 || f.DPort != 443 || f.Pinned {
		t.Errorf("flow %+v", x.Flow)
	}
	var sources []string
	for _, s := range x.Sources {
		sources = append(sources, fmt.Sprintf("%s %s %v %s", s.Addr, s.Dev, s.Chosen, s.Why))
	}
	dev := map[string]string{"fe80::10": "lan0", "fe80::11": "wan0"}[r.Gateway.String()]
	lan, wan := " true ", " false 5 outgoing interface"
	if dev == "wan0" {
		lan, wan = wan, lan
	}
	out := []string{"2001:db8:1::1 lan0" + lan, "2001:db8:2::1 wan0" + wan}
	for _, w := range out {
		if !strings.Contains(strings.Join(sources, "\n")+"\n", w+"\n") {
			t.Errorf("sources %q lack %q", sources, w)
		}
	}
}
