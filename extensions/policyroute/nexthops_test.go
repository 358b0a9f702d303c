package policyroute

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/routeapi"
)

func objectHop(id uint32, dev string) routeapi.ObjectSpec {
	return routeapi.ObjectSpec{ID: id, Via: netip.MustParseAddr(fmt.Sprintf("fe80::f%d", id)), Dev: dev}
}

func objectGroup(id uint32, of ...uint32) routeapi.ObjectSpec {
	s := routeapi.ObjectSpec{ID: id}
	for _, m := range of {
		s.Group = append(s.Group, routeapi.Member{ID: m})
	}
	return s
}

func resilientGroup(id uint32, buckets, idle, unbalanced int, of ...uint32) routeapi.ObjectSpec {
	s := objectGroup(id, of...)
	s.Type, s.Buckets, s.IdleTimer, s.UnbalancedTimer = "resilient", &buckets, &idle, &unbalanced
	return s
}

// object makes a change and returns its refusal, "" if there is none.
func (b *bench) object(op string, s routeapi.ObjectSpec) string {
	if _, err := b.m.changeObject(b.Manual.Now(), ask(nil, routeapi.ObjectRequest{Op: op, ObjectSpec: s})); err != nil {
		return err.Error()
	}
	return ""
}

// withObjects puts objects and routes in force as a configuration.
func (b *bench) withObjects(objects []routeapi.ObjectSpec, routes ...RouteConfig) error {
	cfg := b.config(routes...)
	cfg.Sections["routing.nexthops"] = moduletest.Section[[]routeapi.ObjectSpec]{Value: objects}
	commit, err := b.m.Prepare(cfg)
	if err == nil {
		commit(b.Manual.Now())
	}
	return err
}

func (b *bench) json(h module.Handler, query map[string]string) string {
	b.t.Helper()
	v, err := h(b.Manual.Now(), ask(query, nil))
	if err != nil {
		return err.Error()
	}
	out, err := json.Marshal(v)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out)
}

// TestObjectsAreChangedOnceForAllRoutes: ten thousand prefixes name one object; when that is another one,
// all of them are, and no prefix was touched.
func TestObjectsAreChangedOnceForAllRoutes(t *testing.T) {
	b := newBench(t)
	if msg := b.object("add", objectHop(1, "lan0")) + b.object("add", objectHop(2, "wan0")) + b.object("add", objectGroup(10, 1)); msg != "" {
		t.Fatal(msg)
	}
	at := func(i int) string { return fmt.Sprintf("2001:db8:%x::", 0x1000+i) }
	b.m.together(func() {
		for i := range 10_000 {
			r := fib.Route{Prefix: netip.MustParsePrefix(at(i) + "/48"), Metric: 1024, Protocol: "boot", Pref: "medium", Expires: 1 << 62, NHID: 10}
			if err := b.m.addRoutes(tableMain, "add", []fib.Route{r}); err != nil {
				t.Fatal(err)
			}
		}
	})
	where := func() string {
		seen := map[string]int{}
		for i := range 10_000 {
			seen[b.sent("", at(i)+"1")]++
		}
		return fmt.Sprint(seen)
	}
	before := b.m.view.Load().tables[slotMain]
	for _, c := range []struct{ op, want string }{{"", "map[fe80::f1:10000]"}, {"replace", "map[fe80::f2:10000]"}, {"del", "map[none:10000]"}} {
		switch c.op {
		case "replace":
			b.object("replace", objectGroup(10, 2))
			if b.m.view.Load().tables[slotMain] != before {
				t.Error("the table was built anew")
			}
		case "del":
			b.object("del", routeapi.ObjectSpec{ID: 2}) // its group is empty then, and goes with its routes
		}
		if got := where(); got != c.want {
			t.Errorf("after %q: %s, want %s", c.op, got, c.want)
		}
	}
	if n := len(b.m.objectUsers); n != 0 || len(b.m.objects.All()) != 1 {
		t.Errorf("%d users, %d objects are left", n, len(b.m.objects.All()))
	}
}

// TestObjectGroupSharesFlows by weight, and the members that are down or silent get none.
func TestObjectGroupSharesFlows(t *testing.T) {
	b := newBench(t)
	group := objectGroup(10, 1, 2)
	group.Group[0].Weight = 3
	if err := b.withObjects([]routeapi.ObjectSpec{group, objectHop(1, "lan0"), objectHop(2, "wan0")}, RouteConfig{To: "default", NHID: 10}); err != nil {
		t.Fatal(err)
	}
	shares := func() map[string]int {
		count := map[string]int{}
		for s := range uint16(4000) {
			count[b.hop(tcpPacket(s, -1))]++
		}
		return count
	}
	if n := shares()["fe80::f1"]; n < 2850 || n > 3150 {
		t.Errorf("of 4000 flows %d by the member that weighs 3 of 4", n)
	}
	b.up(1, false)
	if n := shares()["fe80::f2"]; n != 4000 {
		t.Errorf("lan0 down: %d", n)
	}
	b.up(1, true)
	b.m.GatewaysSilent(b.Manual.Now(), []module.Hop{{Link: 2, Addr: netip.MustParseAddr("fe80::f2")}})
	if n := shares()["fe80::f1"]; n != 4000 {
		t.Errorf("fe80::f2 silent: %d", n)
	}
	if got := fmt.Sprint(b.Gateways); !strings.Contains(got, "fe80::f1") || !strings.Contains(got, "fe80::f2") {
		t.Errorf("gateways whose silence is wanted: %s", got)
	}
}

// TestResilientGroup: only lost flows move when a member goes; when it is back, only idle ones do, when
// the timer says so.
func TestResilientGroup(t *testing.T) {
	b := newBench(t)
	if err := b.withObjects([]routeapi.ObjectSpec{objectHop(1, "lan0"), objectHop(2, "wan0"), resilientGroup(10, 64, 60, 0, 1, 2)}, RouteConfig{To: "default", NHID: 10}); err != nil {
		t.Fatal(err)
	}
	was := map[uint16]string{}
	flows := func(n uint16, f func(s uint16, hop string)) {
		for s := range n {
			f(s, b.hop(tcpPacket(s, -1)))
		}
	}
	flows(2000, func(s uint16, hop string) { was[s] = hop })
	b.up(2, false)
	flows(2000, func(s uint16, hop string) {
		if hop != "fe80::f1" {
			t.Fatalf("flow %d goes to %s", s, hop)
		}
	})
	b.up(2, true)
	flows(2000, func(s uint16, hop string) {
		if hop != "fe80::f1" {
			t.Fatalf("flow %d moved at once to %s", s, hop)
		}
	})
	if at := b.m.Deadline(); at != b.Manual.Now().Add(60*time.Second) {
		t.Errorf("deadline %v, now %v", at, b.Manual.Now())
	}
	b.Manual.Advance(59 * time.Second)
	busy := tcpPacket(7, -1)
	b.hop(busy)
	b.Manual.Advance(time.Second)
	b.m.Tick(b.Manual.Now())
	count := map[string]int{}
	flows(2000, func(_ uint16, hop string) { count[hop]++ })
	if got := b.hop(busy); got != "fe80::f1" || count["fe80::f2"] < 800 || count["fe80::f2"] > 1200 {
		t.Errorf("after the timer: the busy flow goes to %s, shares %v", got, count)
	}
	get := b.json(b.m.get, map[string]string{"dst": "2001:db8:f::1", "from": "2001:db8:9::1", "iif": "lan0", "ipproto": "6", "sport": "7", "dport": "443", "explain": "true"})
	var r routeapi.Route
	if err := json.Unmarshal([]byte(get), &r); err != nil || r.Gateway.String() != "fe80::f1" || r.Explain.Flow == nil || r.Explain.Flow.Bucket > 63 || len(r.Explain.Routes) != 2 {
		t.Fatalf("%v %s", err, get)
	}
	bucket := b.json(b.m.showBuckets, map[string]string{"id": "10", "index": fmt.Sprint(r.Explain.Flow.Bucket)})
	if want := fmt.Sprintf(`[{"id":10,"bucket":{"index":%d,"idle_time":0,"nhid":1},"flags":[]}]`, r.Explain.Flow.Bucket); bucket != want {
		t.Errorf("%s, want %s", bucket, want)
	}
	if err := b.withObjects([]routeapi.ObjectSpec{objectHop(1, "lan0")}); err != nil || len(b.m.resilient) != 0 {
		t.Errorf("%v, %d groups are remembered", err, len(b.m.resilient))
	}
}

// TestObjectsAmongRoutes of one prefix: by metric; a route whose object leads nowhere leaves the answer to
// the next one, and one that does not answer comes last.
func TestObjectsAmongRoutes(t *testing.T) {
	b := newBench(t)
	spec := []routeapi.ObjectSpec{objectHop(1, "lan0"), objectHop(2, "wan0"), {ID: 3, Blackhole: true}}
	err := b.withObjects(spec,
		RouteConfig{To: "default", NHID: 1, Metric: metric(100)}, RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::9"), Dev: "wan0", Metric: metric(200)},
		RouteConfig{To: "2001:db8:f::/48", NHID: 2}, RouteConfig{To: "2001:db8:bad::/48", NHID: 3})
	if err != nil {
		t.Fatal(err)
	}
	route := func(dst string) string { return b.via(module.RouteQuery{Dst: netip.MustParseAddr(dst), In: 1}) }
	check := func(when, dst, want string) {
		t.Helper()
		if got := b.sent("", dst); want != "blackhole" && got != want {
			t.Errorf("%s: packet to %s by %s, want %s", when, dst, got, want)
		}
		if got := route(dst); got != want {
			t.Errorf("%s: question for %s: %s, want %s", when, dst, got, want)
		}
	}
	check("all up", "2001:db8:e::1", "fe80::f1")
	check("all up", "2001:db8:f::1", "fe80::f2")
	check("all up", "2001:db8:bad::1", "blackhole")
	p := toward("2001:db8:bad::1")
	p.In = 1
	if b.m.RouteBatch([]*packet.Packet{p}); p.Route == nil || p.Route.Type != packet.RouteBlackhole {
		t.Errorf("blackhole: %+v", p.Route)
	}
	b.m.GatewaysSilent(b.Manual.Now(), []module.Hop{{Link: 1, Addr: netip.MustParseAddr("fe80::f1")}})
	check("fe80::f1 silent", "2001:db8:e::1", "fe80::9")
	b.up(2, false)
	check("wan0 down", "2001:db8:e::1", "fe80::f1")
	check("wan0 down", "2001:db8:f::1", "fe80::f1") // the shorter prefix answers
	if got := b.via(module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:e::1"), Out: 2}); got != "fe80::9" && got != "none" {
		t.Errorf("bound to wan0: %s", got)
	}
	b.LinkList = b.LinkList[1:] // lan0 is gone for good: so are its objects and their routes
	b.m.LinksChanged(b.Manual.Now(), b.Links())
	if got := b.json(b.m.showObjects, nil); strings.Contains(got, `"id":1,`) || !strings.Contains(got, `"id":2,`) {
		t.Errorf("without lan0: %s", got)
	}
}

// TestObjectCommands: what is shown, in iproute2's keys, and refused, in the kernel's words.
func TestObjectCommands(t *testing.T) {
	b := newBench(t)
	n := func(i int) *int { return &i }
	for _, c := range []struct {
		op   string
		s    routeapi.ObjectSpec
		want string
	}{
		{"add", objectHop(1, "lan0"), ""},
		{"add", routeapi.ObjectSpec{Via: netip.MustParseAddr("fe80::f2"), Dev: "wan0"}, ""}, // the least that is free
		{"add", routeapi.ObjectSpec{ID: 3, Blackhole: true}, ""},
		{"add", routeapi.ObjectSpec{ID: 4, Dev: "lan0"}, ""},
		{"add", routeapi.ObjectSpec{ID: 10, Group: []routeapi.Member{{ID: 1}, {ID: 2, Weight: 3}}}, ""},
		{"add", resilientGroup(11, 8, 60, 300, 1, 2), ""},
		{"add", objectHop(1, "lan0"), "File exists"},
		{"del", routeapi.ObjectSpec{ID: 99}, "No such file or directory"},
		{"frob", objectHop(9, "lan0"), `unknown operation "frob"`},
		{"replace", routeapi.ObjectSpec{Dev: "lan0"}, "Error: a nexthop needs an id."},
		{"add", routeapi.ObjectSpec{ID: 20}, "Error: Device attribute required for non-blackhole and non-fdb nexthops."},
		{"add", routeapi.ObjectSpec{ID: 20, Dev: "eth9"}, `Error: argument "eth9" is wrong: Device does not exist`},
		{"add", routeapi.ObjectSpec{ID: 20, Via: netip.MustParseAddr("ff02::1"), Dev: "lan0"}, "Error: Invalid gateway address."},
		{"add", routeapi.ObjectSpec{ID: 20, Via: netip.MustParseAddr("2001:db8:1::1"), Dev: "lan0"}, "Error: Gateway can not be a local address."},
		{"add", routeapi.ObjectSpec{ID: 20, Blackhole: true, Dev: "lan0"}, "Error: a blackhole has neither via nor dev"},
		{"add", objectGroup(20, 99), "Error: Invalid nexthop id."},
		{"add", objectGroup(20, 11), "Error: Resilient group can not be a nexthop within a group."},
		{"add", objectGroup(20, 10), "Error: Hash-threshold group can not be a nexthop within a group."},
		{"add", objectGroup(20, 1, 3), "Error: Blackhole nexthop can not be used in a group with more than 1 path."},
		{"add", routeapi.ObjectSpec{ID: 20, Group: []routeapi.Member{{ID: 1, Weight: 257}}}, `Error: argument "257" is wrong: "weight" is 1 to 256`},
		{"add", routeapi.ObjectSpec{ID: 20, Group: []routeapi.Member{{ID: 1}}, Dev: "lan0"}, "Error: a group has neither via, dev nor blackhole: its members have"},
		{"add", routeapi.ObjectSpec{ID: 20, Group: []routeapi.Member{{ID: 1}}, Type: "foo"}, `Error: argument "foo" is wrong: "type" value is invalid`},
		{"add", routeapi.ObjectSpec{ID: 20, Group: []routeapi.Member{{ID: 1}}, Type: "resilient"}, "Error: Number of buckets not specified for nexthop group insertion."},
		{"add", routeapi.ObjectSpec{ID: 20, Group: []routeapi.Member{{ID: 1}}, Buckets: n(8)}, "Error: buckets, idle_timer and unbalanced_timer are of type resilient"},
		{"add", resilientGroup(20, 0, 1, 1, 1), "Error: Number of buckets needs to be non-0."},
		{"add", resilientGroup(20, 70000, 1, 1, 1), "Error: 70000 is outside 1..65535"},
		{"add", resilientGroup(20, 8, -1, 1, 1), "Error: -1 is outside 0..2147483 seconds"},
		{"add", routeapi.ObjectSpec{ID: 20, Dev: "lan0", Buckets: n(1)}, "Error: only a group has a type and its parameters"},
		{"replace", objectGroup(1, 2), "Error: Can not replace a nexthop with a nexthop group."},
		{"replace", objectHop(10, "lan0"), "Error: Can not replace a nexthop group with a nexthop."},
		{"replace", resilientGroup(10, 8, 1, 1, 1), "Error: Can not replace a nexthop group with one of a different type."},
	} {
		if got := b.object(c.op, c.s); got != c.want {
			t.Errorf("%s %+v: %s, want %s", c.op, c.s, got, c.want)
		}
	}
	for _, c := range []struct {
		r    routeapi.Request
		want string
	}{
		{routeapi.Request{Op: "add", Dst: "2001:db8:77::/48", NHID: 10}, ""},
		{routeapi.Request{Op: "add", Dst: "2001:db8:78::/48", NHID: 1, Metric: 5}, ""},
		{routeapi.Request{Op: "append", Dst: "2001:db8:78::/48", NHID: 2, Metric: 5}, ""},
		{routeapi.Request{Op: "add", Dst: "2001:db8:79::/48", NHID: 3}, ""},
		{routeapi.Request{Op: "add", Dst: "2001:db8:81::/48", NHID: 99}, "Error: Nexthop id does not exist."},
		{routeapi.Request{Op: "add", Dst: "2001:db8:81::/48", NHID: 1, Dev: "lan0"}, "Error: Nexthop specification and nexthop id are mutually exclusive."},
		{routeapi.Request{Op: "add", Dst: "2001:db8:81::/48", NHID: 1, From: "2001:db8:5::/48"}, "Error: Nexthops can not be used with source routing."},
		{routeapi.Request{Op: "del", Dst: "2001:db8:78::/48", NHID: 4}, "No such process"},
	} {
		got := ""
		if _, err := b.m.change(b.Manual.Now(), ask(nil, c.r)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
	want := `[{"id":1,"gateway":"fe80::f1","dev":"lan0","scope":"link","protocol":"unspec","flags":[]},` +
		`{"id":2,"gateway":"fe80::f2","dev":"wan0","scope":"link","protocol":"unspec","flags":[]},{"id":3,"scope":"global","blackhole":null,"protocol":"unspec","flags":[]},` +
		`{"id":4,"dev":"lan0","scope":"link","protocol":"unspec","flags":[]},{"id":10,"group":[{"id":1},{"id":2,"weight":3}],"scope":"global","protocol":"unspec","flags":[]},` +
		`{"id":11,"group":[{"id":1},{"id":2}],"type":"resilient","resilient_args":{"buckets":8,"idle_timer":60,"unbalanced_timer":300,"unbalanced_time":0},"scope":"global","protocol":"unspec","flags":[]}]`
	if got := b.json(b.m.showObjects, nil); got != want {
		t.Errorf("show\n%s\nwant\n%s", got, want)
	}
	routes := b.json(b.m.show, map[string]string{"via": "fe80::f2"})
	for _, part := range []string{
		`"dst":"2001:db8:77::/48","nhid":10,"table":"main","protocol":"boot","scope":"global","metric":1024,"flags":[],"pref":"medium","nexthops":[{"gateway":"fe80::f1","dev":"lan0","weight":1,"flags":[]},{"gateway":"fe80::f2","dev":"wan0","weight":3,"flags":[]}]}`,
		`"dst":"2001:db8:78::/48","nhid":2,"gateway":"fe80::f2","dev":"wan0"`,
	} {
		if !strings.Contains(routes, part) || strings.Contains(routes, `"nhid":1,`) {
			t.Errorf("routes %s\nlack %s", routes, part)
		}
	}
	if got := b.json(b.m.show, map[string]string{"nhid": "3"}); !strings.HasPrefix(got, `[{"type":"blackhole","dst":"2001:db8:79::/48","nhid":3,`) {
		t.Errorf("blackhole: %s", got)
	}
	for _, c := range []struct {
		query map[string]string
		n     int
	}{{map[string]string{"dev": "lan0"}, 2}, {map[string]string{"groups": "true"}, 2}, {map[string]string{"proto": "static"}, 0}, {map[string]string{"id": "11"}, 1}} {
		if v, err := b.m.showObjects(b.Manual.Now(), ask(c.query, nil)); err != nil || len(v.([]routeapi.Object)) != c.n {
			t.Errorf("show %v: %v %v", c.query, v, err)
		}
	}
	for q, want := range map[string]string{"id": "No such file or directory", "dev": `Cannot find device "77"`} {
		if got := b.json(b.m.showObjects, map[string]string{q: "77"}); got != want {
			t.Errorf("show %s 77: %s", q, got)
		}
	}
	if got := b.json(b.m.showBuckets, map[string]string{"nhid": "2"}); strings.Count(got, `"nhid":2`) != 4 {
		t.Errorf("buckets: %s", got)
	}
	v, err := b.m.flushObjects(b.Manual.Now(), ask(nil, routeapi.ObjectFilter{Dev: "wan0"}))
	if err != nil || v.(routeapi.Flushed).Flushed != 1 || len(b.m.objects.All()) != 5 {
		t.Errorf("flush: %v %v, %d left", v, err, len(b.m.objects.All()))
	}
}

// TestObjectConfig: faults name the item; what a command has changed is undone by the next apply, and an
// object may become another kind of one there.
func TestObjectConfig(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		objects []routeapi.ObjectSpec
		route   RouteConfig
		want    string
	}{
		{[]routeapi.ObjectSpec{{Dev: "lan0"}}, RouteConfig{}, "[0].id: a nexthop of the configuration needs one"},
		{[]routeapi.ObjectSpec{objectHop(1, "lan0"), objectHop(1, "wan0")}, RouteConfig{}, "[1].id: nexthop 1 is above"},
		{[]routeapi.ObjectSpec{objectHop(1, "eth9")}, RouteConfig{}, `[0].dev: argument "eth9" is wrong`},
		{[]routeapi.ObjectSpec{objectGroup(2, 1)}, RouteConfig{}, "[0].group: Invalid nexthop id."},
		{nil, RouteConfig{To: "default", NHID: 7}, "[0].nhid: routing.nexthops has no id 7"},
		{[]routeapi.ObjectSpec{objectHop(1, "lan0")}, RouteConfig{To: "default", NHID: 1, Dev: "lan0"}, "[0].nhid: a route with nhid has no"},
		{[]routeapi.ObjectSpec{objectHop(1, "lan0")}, RouteConfig{To: "default", NHID: 1, From: "2001:db8::/32"}, "[0].nhid: a route with from"},
	} {
		routes := []RouteConfig{c.route}
		if c.route.To == "" {
			routes = nil
		}
		if err := b.withObjects(c.objects, routes...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.objects, err, c.want)
		}
	}
	if err := b.withObjects([]routeapi.ObjectSpec{objectHop(1, "lan0"), objectHop(2, "wan0")}, RouteConfig{To: "default", NHID: 1}); err != nil {
		t.Fatal(err)
	}
	b.object("replace", objectHop(1, "wan0"))
	b.object("add", objectHop(9, "wan0"))
	group := objectGroup(1, 2)
	if err := b.withObjects([]routeapi.ObjectSpec{group, objectHop(2, "wan0")}, RouteConfig{To: "default", NHID: 1}); err != nil {
		t.Fatal(err)
	}
	if got := b.sent("", "2001:db8:f::1"); got != "fe80::f2" || len(b.m.objects.All()) != 2 {
		t.Errorf("by %s, %d objects", got, len(b.m.objects.All()))
	}
}

// TestRoutersKeepDestinations: a destination in use stays at its router when another one comes; without
// packets for a minute it may be given another; and in turn, if so configured.
func TestRoutersKeepDestinations(t *testing.T) {
	b := newBench(t)
	three := []module.LearnedRoute{learnedDefault(router1, "medium"), learnedDefault(router2, "medium"), learnedDefault(netip.MustParseAddr("fe80::a3"), "medium")}
	b.m.RoutesLearned(b.Manual.Now(), three[:2])
	at := func(i int) string { return fmt.Sprintf("2001:db8:f::%x", 1+i) }
	was := map[int]string{}
	for range 2 {
		for i := range 200 {
			was[i] = b.sent("", at(i))
		}
	}
	b.m.RoutesLearned(b.Manual.Now(), three)
	moved, third := 0, 0
	for i := range 200 {
		if b.sent("", at(i)) != was[i] {
			moved++
		}
		if b.sent("", at(1000+i)) == "fe80::a3" {
			third++
		}
	}
	if moved > 0 || third < 40 {
		t.Errorf("%d destinations in use moved; the new router has %d of 200 new ones", moved, third)
	}
	b.m.RoutesLearned(b.Manual.Now(), three[1:])
	for i := range 200 {
		if got := b.sent("", at(i)); got == "fe80::a1" || was[i] == "fe80::a2" && got != was[i] {
			t.Fatalf("destination %d goes from %s to %s", i, was[i], got)
		}
	}
	if got := b.json(b.m.showPinned, nil); !strings.Contains(got, `"gateway":"fe80::a2","dev":"wan0"`) {
		t.Errorf("pinned: %.300s", got)
	}
	if err := b.multipath(MultipathConfig{Select: "round_robin", Hash: "l4"}, CacheConfig{MaxEntries: 1024, Idle: time.Minute}); err != nil {
		t.Fatal(err)
	}
	b.m.RoutesLearned(b.Manual.Now(), three)
	var turns []string
	for i := range 6 {
		turns = append(turns, b.sent("", at(5000+i))[7:])
	}
	// The first router is back: it comes last.
	if got := strings.Join(turns, " "); got != "2 3 1 2 3 1" {
		t.Errorf("in turn: %s", got)
	}
}

// TestObjectsDoNotAllocate on the packet path, whatever shares out.
func TestObjectsDoNotAllocate(t *testing.T) {
	b := newBench(t)
	err := b.withObjects([]routeapi.ObjectSpec{objectHop(1, "lan0"), objectHop(2, "wan0"), objectGroup(10, 1, 2), resilientGroup(11, 64, 60, 0, 1, 2)},
		RouteConfig{To: "2001:db8:a::/48", NHID: 10}, RouteConfig{To: "2001:db8:b::/48", NHID: 11},
		RouteConfig{To: "2001:db8:c::/48", NHID: 10, Metric: metric(1)}, RouteConfig{To: "2001:db8:c::/48", NHID: 11})
	if err != nil {
		t.Fatal(err)
	}
	b.m.RoutesLearned(b.Manual.Now(), []module.LearnedRoute{learnedDefault(router1, "medium"), learnedDefault(router2, "medium")})
	var ps []*packet.Packet
	for _, dst := range []string{"2001:db8:a::1", "2001:db8:b::1", "2001:db8:c::1", "2001:db8:d::1"} {
		p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: 59, HopLimit: 64, Src: netip.MustParseAddr("2001:db8:9::9"), Dst: netip.MustParseAddr(dst)}))
		p.In = 1
		ps = append(ps, p)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range ps {
			p.Route, p.Out = nil, 0
		}
		b.m.RouteBatch(ps)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, p := range ps {
		if p.Route == nil {
			t.Error("no route")
		}
	}
}
