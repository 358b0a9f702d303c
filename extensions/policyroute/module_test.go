package policyroute

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/routeapi"
)

// bench is a module on a host of two links.
type bench struct {
	*moduletest.Host
	t testing.TB
	m *Module
}

func newBench(t testing.TB, routes ...RouteConfig) *bench {
	b := &bench{Host: moduletest.NewHost(), t: t, m: New()}
	for i, name := range []string{"lan0", "wan0"} {
		b.LinkList = append(b.LinkList, &module.Link{Index: i + 1, Name: name, MTU: 1500, Up: true, Carrier: true})
	}
	addr := func(s string, l int) *module.Addr {
		p := netip.MustParsePrefix(s)
		return &module.Addr{Addr: p.Addr(), PrefixLen: p.Bits(), Link: l, ValidUntil: clock.Never, PreferredUntil: clock.Never}
	}
	b.AddrSnap = module.NewAddrs([]*module.Addr{addr("2001:db8:1::1/64", 1), addr("2001:db8:2::1/64", 2), addr("fe80::1/64", 1), addr("fe80::1/64", 2)}, nil)
	if err := b.m.Init(b); err != nil {
		t.Fatal(err)
	}
	b.apply(routes...)
	b.m.Start(b.Manual.Now())
	b.m.LinksChanged(b.Manual.Now(), b.Links())
	b.m.AddrsChanged(b.Manual.Now(), b.AddrSnap)
	return b
}

func (b *bench) config(routes ...RouteConfig) *module.Config {
	return &module.Config{
		Sections: map[string]module.Section{"routing.routes": moduletest.Section[[]RouteConfig]{Value: routes}},
		Links: []module.LinkConfig{
			{Name: "lan0", Index: 1, Addresses: []module.AddressConfig{{Prefix: netip.MustParsePrefix("2001:db8:1::1/64")}}}, {Name: "wan0", Index: 2},
		},
	}
}

func (b *bench) apply(routes ...RouteConfig) {
	b.t.Helper()
	commit, err := b.m.Prepare(b.config(routes...))
	if err != nil {
		b.t.Fatal(err)
	}
	commit(b.Manual.Now())
}

// up changes a link's carrier.
func (b *bench) up(i int, carrier bool) {
	l := *b.LinkList[i-1]
	l.Carrier = carrier
	b.LinkList[i-1] = &l
	b.m.LinksChanged(b.Manual.Now(), b.Links())
}

// toward returns a packet to dst.
func toward(dst string) *packet.Packet {
	return packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: 59, HopLimit: 64, Src: netip.MustParseAddr("2001:db8:1::9"), Dst: netip.MustParseAddr(dst)}))
}

func metric(m uint32) *uint32 { return &m }

// TestRouteBatch: what packets get from the tables: connected, gateway, types, metric, links that are
// down, a socket's link.
func TestRouteBatch(t *testing.T) {
	b := newBench(t,
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0"},
		RouteConfig{To: "default", Via: netip.MustParseAddr("2001:db8:1::fe"), Metric: metric(2000)},
		RouteConfig{To: "2001:db8:bad::/48", Type: "blackhole"},
		RouteConfig{To: "2001:db8:7::/48", Via: netip.MustParseAddr("2001:db8:1::7"), MTU: 1400},
	)
	for _, c := range []struct {
		dst      string
		out, in  int
		down     int
		typ      packet.RouteType
		wantOut  int
		nextHop  string // "" = no route
		routeMTU int
	}{
		{dst: "2001:db8:1::5", in: 2, wantOut: 1, nextHop: "2001:db8:1::5"},
		{dst: "2001:db8:7::5", in: 2, wantOut: 1, nextHop: "2001:db8:1::7", routeMTU: 1400},
		{dst: "2001:db8:9::5", in: 1, wantOut: 2, nextHop: "fe80::99"},
		{dst: "2001:db8:9::5", in: 2, down: 2, wantOut: 1, nextHop: "2001:db8:1::fe"},
		{dst: "2001:db8:9::5", out: 1, wantOut: 1, nextHop: "2001:db8:1::fe"},
		{dst: "2001:db8:1::5", in: 2, down: 1, wantOut: 2, nextHop: "fe80::99"},
		{dst: "2001:db8:bad::1", in: 1, typ: packet.RouteBlackhole, nextHop: "2001:db8:bad::1"},
		{dst: "fe80::5", out: 2, wantOut: 2},
		{dst: "ff02::5", wantOut: 0},
	} {
		t.Run(fmt.Sprintf("%s in %d out %d down %d", c.dst, c.in, c.out, c.down), func(t *testing.T) {
			if c.down != 0 {
				b.up(c.down, false)
				defer b.up(c.down, true)
			}
			p := toward(c.dst)
			p.In, p.Out = c.in, c.out
			b.m.RouteBatch([]*packet.Packet{p})
			if c.nextHop == "" {
				if p.Route != nil || p.Out != c.wantOut {
					t.Fatalf("route %+v out %d", p.Route, p.Out)
				}
				return
			}
			if p.Route == nil || p.Route.Type != c.typ || p.Out != c.wantOut || p.Route.MTU != c.routeMTU {
				t.Fatalf("route %+v out %d", p.Route, p.Out)
			}
			if got := netip.AddrFrom16(p.NextHop); c.typ == packet.RouteUnicast && got != netip.MustParseAddr(c.nextHop) {
				t.Errorf("next hop %s", got)
			}
		})
	}
	ps := []*packet.Packet{toward("2001:db8:7::5"), toward("2001:db8:9::5")}
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range ps {
			p.Out, p.In = 0, 1
		}
		b.m.RouteBatch(ps)
	}); n != 0 {
		t.Errorf("%v allocations a vector", n)
	}
}

// TestSelectSource: the outgoing link's address of the destination's scope.
func TestSelectSource(t *testing.T) {
	b := newBench(t, RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0"})
	for _, c := range []struct {
		dst, want string
		out       int
	}{{"2001:db8:9::1", "2001:db8:2::1", 0}, {"2001:db8:1::9", "2001:db8:1::1", 0}, {"fe80::5", "fe80::1", 2}, {"ff02::1", "fe80::1", 1}} {
		if got := b.m.Route(module.RouteQuery{Dst: netip.MustParseAddr(c.dst), Out: c.out}).Src; got != netip.MustParseAddr(c.want) {
			t.Errorf("for %s: %s, want %s", c.dst, got, c.want)
		}
	}
}

// TestConfigRoutes: what is refused, and that an apply leaves what is the same alone and removes the rest.
func TestConfigRoutes(t *testing.T) {
	b := newBench(t)
	for want, rc := range map[string]RouteConfig{
		"[0].to: \"x\" is not":                    {To: "x"},
		"[0].to: a route needs via, dev":          {To: "default"},
		"[0].via: fe80::1 is link-local":          {To: "default", Via: netip.MustParseAddr("fe80::1")},
		"[0].via: 2001:db8:99::1 is in no link's": {To: "default", Via: netip.MustParseAddr("2001:db8:99::1")},
		"[0].dev: \"eth9\" is not a link":         {To: "default", Dev: "eth9"},
		"[0].type: \"local\"":                     {To: "default", Type: "local"},
		"[0].type: blackhole routes have neither": {To: "default", Type: "blackhole", Dev: "lan0"},
		"[0].table: \"isp-c\" is no table's name": {To: "default", Dev: "lan0", Table: "isp-c"},
		"[0].table: table local follows":          {To: "default", Dev: "lan0", Table: "local"},
		"[0].from: \"x\"":                         {To: "default", Dev: "lan0", From: "x"},
		"[0].nexthops: a route has either":        {To: "default", Dev: "lan0", NextHops: []NextHopConfig{{Via: netip.MustParseAddr("fe80::1"), Dev: "lan0"}}},
		"[0].nexthops[0].weight: 257":             {To: "default", NextHops: []NextHopConfig{{Via: netip.MustParseAddr("fe80::1"), Dev: "lan0", Weight: 257}}},
		"[0].nexthops[0].dev: \"eth9\"":           {To: "default", NextHops: []NextHopConfig{{Via: netip.MustParseAddr("fe80::1"), Dev: "eth9"}}},
		"[0].mtu: 1279 is outside":                {To: "default", Dev: "lan0", MTU: 1279},
		"[0].advmss: 39 is outside":               {To: "default", Dev: "lan0", AdvMSS: 39},
		"[0].pref: \"best\"":                      {To: "default", Dev: "lan0", Pref: "best"},
		"[0].to: ff00::/8 is multicast":           {To: "ff00::/8", Dev: "lan0"},
	} {
		if _, err := b.m.Prepare(b.config(rc)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", rc, err, want)
		}
	}
	list := func() (out []string) {
		for _, r := range b.m.table(tableMain).All() {
			if r.Protocol != "kernel" {
				out = append(out, fmt.Sprintf("%s %s %d %s", r.Prefix, r.Protocol, r.Metric, r.Pref))
			}
		}
		return out
	}
	b.apply(RouteConfig{To: "default", Dev: "wan0"}, RouteConfig{To: "2001:db8:5::/48", Dev: "lan0", Pref: "high"})
	b.m.table(tableMain).Add(fib.Route{Prefix: netip.MustParsePrefix("2001:db8:6::/48"), Protocol: "boot", Link: 1, Metric: 5, Expires: clock.Never})
	b.apply(RouteConfig{To: "2001:db8:5::/48", Dev: "lan0", Pref: "high"})
	if got := fmt.Sprint(list()); got != "[2001:db8:5::/48 static 1024 high]" {
		t.Errorf("after the second apply %s", got)
	}
}

// ask makes a command's request, its body as it comes over the socket.
func ask(query map[string]string, body any) module.Request {
	return module.Request{Query: query, Decode: func(v any) error {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, v)
	}}
}

// TestCommandsRefuseInTheKernelsWords.
func TestCommandsRefuseInTheKernelsWords(t *testing.T) {
	b := newBench(t)
	now := b.Manual.Now()
	b.m.change(now, ask(nil, routeapi.Request{Op: "add", Dst: "2001:db8:5::/48", Dev: "lan0"}))
	for _, c := range []struct {
		r    routeapi.Request
		want string
	}{
		{routeapi.Request{Op: "add", Dst: "2001:db8:5::/48", Dev: "lan0"}, "File exists"},
		{routeapi.Request{Op: "append", Dst: "2001:db8:5::/48", Dev: "lan0"}, "File exists"},
		{routeapi.Request{Op: "append", Dst: "2001:db8:5::/48", Dev: "wan0"}, ""},
		{routeapi.Request{Op: "del", Dst: "2001:db8:55::/48"}, "No such process"},
		{routeapi.Request{Op: "del", Dst: "2001:db8:5::/48", Dev: "wan0"}, ""},
		{routeapi.Request{Op: "add", Dst: "default", Dev: "eth9"}, "Cannot find device \"eth9\""},
		{routeapi.Request{Op: "add", Dst: "default"}, "No such device"},
		{routeapi.Request{Op: "add", Dst: "default", Dev: "lan0", AdvMSS: 65536}, "Invalid argument: advmss is outside 40..65535"},
		{routeapi.Request{Op: "add", Dst: "default", Via: netip.MustParseAddr("2001:db8:99::1")}, "No route to host"},
		{routeapi.Request{Op: "add", Dst: "default", Via: netip.MustParseAddr("2001:db8:1::1")}, "Error: Gateway can not be a local address."},
		{routeapi.Request{Op: "add", Dst: "default", Via: netip.MustParseAddr("2001:db8:1::fe")}, ""},
	} {
		_, err := b.m.change(now, ask(nil, c.r))
		if got := fmt.Sprint(err); (err != nil || c.want != "") && got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
	for dst, want := range map[string]string{"2001:db8:f::1": "<nil>", "2001:db8:1::1": "<nil>"} {
		if _, err := b.m.get(now, ask(map[string]string{"dst": dst}, nil)); fmt.Sprint(err) != want {
			t.Errorf("get %s: %v", dst, err)
		}
	}
	for _, q := range []map[string]string{{"dst": "2001:db8:f::1", "makr": "1"}, {"dst": "2001:db8:f::1", "mark": "one"}, {"dst": "2001:db8:f::1", "dport": "65536"}} {
		if _, err := b.m.get(now, ask(q, nil)); err == nil {
			t.Errorf("get %v was answered", q)
		}
	}
	if _, err := b.m.show(now, ask(map[string]string{"tabel": "main"}, nil)); fmt.Sprint(err) != `unknown selector "tabel"; there are: table, dev, proto, type, root, match, exact, via, metric, nhid` {
		t.Errorf("show: %v", err)
	}
	b.m.flush(now, ask(nil, routeapi.Filter{Exact: "default"}))
	if _, err := b.m.get(now, ask(map[string]string{"dst": "2001:db8:f::1"}, nil)); fmt.Sprint(err) != "Network is unreachable" {
		t.Errorf("after the flush: %v", err)
	}
}

// TestRouteMetrics: mtu and advmss of the configuration and of commands reach packets and answers.
func TestRouteMetrics(t *testing.T) {
	b := newBench(t, RouteConfig{To: "2001:db8:7::/48", Dev: "lan0", MTU: 1400, AdvMSS: 1340})
	now := b.Manual.Now()
	if _, err := b.m.change(now, ask(nil, routeapi.Request{Op: "add", Dst: "2001:db8:8::/48", Dev: "lan0", AdvMSS: 1200})); err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]routeapi.Metrics{"2001:db8:7::": {MTU: 1400, AdvMSS: 1340}, "2001:db8:8::": {AdvMSS: 1200}} {
		p := toward(dst)
		b.m.RouteBatch([]*packet.Packet{p})
		if p.Route == nil || p.Route.MTU != want.MTU || p.Route.AdvMSS != want.AdvMSS {
			t.Errorf("%s: route %+v", dst, p.Route)
		}
		got, err := b.m.get(now, ask(map[string]string{"dst": dst}, nil))
		if err != nil || !slices.Equal(got.(routeapi.Route).Metrics, []routeapi.Metrics{want}) {
			t.Errorf("get %s: %+v, %v", dst, got, err)
		}
		list, err := b.m.show(now, ask(map[string]string{"exact": dst + "/48"}, nil))
		if err != nil || len(list.([]routeapi.Route)) != 1 || !slices.Equal(list.([]routeapi.Route)[0].Metrics, []routeapi.Metrics{want}) {
			t.Errorf("show %s: %+v, %v", dst, list, err)
		}
	}
}

// TestExpiry: a route with a lifetime goes when it is over.
func TestExpiry(t *testing.T) {
	b := newBench(t)
	five := int64(5)
	if _, err := b.m.change(b.Manual.Now(), ask(nil, routeapi.Request{Op: "add", Dst: "2001:db8:5::/48", Dev: "lan0", Expires: &five})); err != nil {
		t.Fatal(err)
	}
	if d := b.m.Deadline(); d != b.Manual.Now().Add(5*time.Second) {
		t.Errorf("deadline in %s", d.Sub(b.Manual.Now()))
	}
	b.Manual.Advance(5 * time.Second)
	b.m.Tick(b.Manual.Now())
	if rs := b.m.table(tableMain).Routes(netip.MustParsePrefix("2001:db8:5::/48")); len(rs) != 0 || b.m.Deadline() != clock.Never {
		t.Errorf("%+v", rs)
	}
}

// TestLargeTableIsCompiledInTheBackground, and a change is visible at once meanwhile.
func TestLargeTableIsCompiledInTheBackground(t *testing.T) {
	var routes []RouteConfig
	for i := range compileAtOnce + 100 {
		routes = append(routes, RouteConfig{To: fmt.Sprintf("2001:db9:%x::/48", i), Dev: "wan0"})
	}
	b := newBench(t, routes...)
	now := b.Manual.Now()
	if _, err := b.m.change(now, ask(nil, routeapi.Request{Op: "replace", Dst: "2001:db9:5::/48", Dev: "lan0"})); err != nil {
		t.Fatal(err)
	}
	p := toward("2001:db9:5::1")
	p.In = 1
	b.m.RouteBatch([]*packet.Packet{p})
	if p.Out != 1 {
		t.Errorf("out %d right after the change", p.Out)
	}
	for b.m.view.Load().tables[slotMain].Changed() > 0 {
		select {
		case ev := <-b.Mailbox:
			b.m.Receive(now, ev)
		case <-time.After(5 * time.Second):
			t.Fatal("no compilation ended")
		}
	}
	q := toward("2001:db9:5::1")
	q.In = 1
	b.m.RouteBatch([]*packet.Packet{q})
	if q.Out != 1 {
		t.Errorf("out %d after the compilation", q.Out)
	}
}

// TestExpiryOfSiblings: routes of one prefix end each at its own time, whatever their sources and metrics.
func TestExpiryOfSiblings(t *testing.T) {
	b := newBench(t)
	add := func(op, from, via string, seconds int64) {
		r := routeapi.Request{Op: op, Dst: "2001:db8:5::/48", From: from, Via: netip.MustParseAddr(via), Dev: "wan0", Expires: &seconds}
		if _, err := b.m.change(b.Manual.Now(), ask(nil, r)); err != nil {
			t.Fatal(err)
		}
	}
	add("add", "", "fe80::11", 30)
	add("append", "", "fe80::12", 10)
	add("add", "2001:db8:a::/48", "fe80::13", 20)
	for _, want := range []int{3, 2, 1, 0} {
		if n := len(b.m.table(tableMain).Routes(netip.MustParsePrefix("2001:db8:5::/48"))); n != want {
			t.Fatalf("%d routes, want %d", n, want)
		}
		if d := b.m.Deadline(); d != clock.Never {
			b.Manual.AdvanceTo(d)
			b.m.Tick(d)
		}
	}
	if d := b.m.Deadline(); d != clock.Never {
		t.Errorf("still waiting for %s", d.Sub(b.Manual.Now()))
	}
}

// TestDeleteIsWhole: of several next hops to be deleted one is not there: none goes.
func TestDeleteIsWhole(t *testing.T) {
	b := newBench(t, gateways(1, 1))
	hop := func(a, dev string) routeapi.NextHop {
		return routeapi.NextHop{Gateway: netip.MustParseAddr(a), Dev: dev}
	}
	for _, c := range []struct {
		hops []routeapi.NextHop
		want string
		left int
	}{
		{[]routeapi.NextHop{hop("fe80::10", "lan0"), hop("fe80::99", "lan0")}, "No such process", 2},
		{[]routeapi.NextHop{hop("fe80::10", "lan0"), hop("fe80::10", "lan0")}, "No such process", 2},
		{[]routeapi.NextHop{hop("fe80::10", "lan0"), hop("fe80::11", "wan0")}, "<nil>", 0},
	} {
		_, err := b.m.change(b.Manual.Now(), ask(nil, routeapi.Request{Op: "del", Dst: "default", NextHops: c.hops}))
		if n := len(b.m.table(tableMain).Routes(defaultRoute)); fmt.Sprint(err) != c.want || n != c.left {
			t.Errorf("%+v: %v, %d left", c.hops, err, n)
		}
	}
}

// TestConfiguredRouteOutlivesWhatWasLearned: a route that a router taught gives way to the same one of the
// configuration, which stays when the router's has ended.
func TestConfiguredRouteOutlivesWhatWasLearned(t *testing.T) {
	b := newBench(t)
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{learnedDefault(router1, "medium")})
	b.apply(RouteConfig{To: "default", Via: router1, Dev: "wan0"})
	b.m.RoutesLearned(b.Manual.Now(), nil)
	rs := b.m.table(tableMain).Routes(defaultRoute)
	if len(rs) != 1 || rs[0].Protocol != "static" || b.sent("", "2001:db8:f::1") != router1.String() {
		t.Errorf("%+v", rs)
	}
}

// BenchmarkReplace: one route of a large table.
func BenchmarkReplace(b *testing.B) {
	x := filled(b, 0, 1_000_000)
	x.Published = nil
	r := routeapi.Request{Op: "replace", Dst: "2001:db8:5::/48", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0"}
	for b.Loop() {
		if _, err := x.m.change(0, ask(nil, r)); err != nil {
			b.Fatal(err)
		}
	}
}
