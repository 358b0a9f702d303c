package scenarios

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"leveret/appliance"
	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
	"leveret/test/simnet"
)

// advertised returns the advertisements that a node has sent on a segment from frame `from` on.
func advertised(t *testing.T, s *simnet.Segment, from int, node string) (out []ndwire.RA) {
	t.Helper()
	for _, f := range s.Frames[from:] {
		m, err := ndwire.Parse(f.Data[14:], wire.IPv6HeaderLen, false)
		if err != nil || m.Type != wire.TypeRouterAdvertisement || !strings.HasPrefix(f.From, node) {
			continue
		}
		ra, err := m.RA()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ra)
	}
	return out
}

// routerWith is a router that advertises prefixes and keeps what it must in dir.
func routerWith(dir, prefixes string) string {
	return fmt.Sprintf(`version: 1
system: {state_dir: %q, run_dir: %q}
links:
  - name: lan0
    kind: pipe
    link_local: "fe80::1"
    addresses: ["2001:db8:1::1/64"]
    dad: {transmits: 0}
    router_advertisement: {adv_send_advertisements: true, prefixes: [%s]}
`, dir, dir, prefixes)
}

// TestWithdrawnPrefixIsDeprecatedAfterARestart: RFC 9096 3.5: what was advertised before the process ended
// and is not configured any more is advertised with lifetimes of 0, until no host holds it.
func TestWithdrawnPrefixIsDeprecatedAfterARestart(t *testing.T) {
	dir := t.TempDir()
	n := simnet.New(t, 1)
	s := n.Segment("lan")
	old := n.Node("r", routerWith(dir, `{prefix: "2001:db8:1::/64"}, {prefix: "2001:db8:9::/64", adv_valid_lifetime: 7200s, adv_preferred_lifetime: 3600s}`), modules, map[string]*simnet.Segment{"lan0": s})
	n.Advance(time.Minute)
	old.Stop()
	from := len(s.Frames)
	now := n.Node("r", routerWith(dir, `{prefix: "2001:db8:1::/64"}`), modules, map[string]*simnet.Segment{"lan0": s})
	n.Advance(time.Minute)
	ras := advertised(t, s, from, "r")
	if len(ras) == 0 {
		t.Fatal("nothing is advertised")
	}
	for _, ra := range ras {
		p := ra.Prefixes
		if len(p) != 2 || p[1].Prefix != netip.MustParsePrefix("2001:db8:9::/64") || p[1].Valid != 0 || p[1].Preferred != 0 || p[0].Valid == 0 {
			t.Fatalf("advertised %+v", p)
		}
	}
	n.Advance(2 * time.Hour)
	from = len(s.Frames)
	n.Advance(time.Hour)
	for _, ra := range advertised(t, s, from, "r") {
		if len(ra.Prefixes) != 1 {
			t.Fatalf("after its valid lifetime: %+v", ra.Prefixes)
		}
	}
	now.Stop()
}

// TestResolvConf: RFC 8106: the learned resolvers are written to run_dir, in order, link-local ones with
// their link, and go with the process.
func TestResolvConf(t *testing.T) {
	dir := t.TempDir()
	n := simnet.New(t, 1)
	s := n.Segment("lan")
	h := n.Node("h", fmt.Sprintf(`version: 1
system: {state_dir: %q, run_dir: %q}
routing: {forwarding: false}
links: [{name: lan0, kind: pipe, link_local: "fe80::3", dad: {transmits: 0}}]
`, dir, dir), modules, map[string]*simnet.Segment{"lan0": s})
	p := s.Peer("router")
	n.Advance(5 * time.Second)
	send := func(life time.Duration) {
		p.Send([6]byte{0x33, 0x33, 0, 0, 0, 1}, ndwire.AppendRA(nil, ndwire.RA{
			Src: netip.MustParseAddr("fe80::1"), Dst: wire.AllNodes,
			RDNSS: []ndwire.RDNSS{{Servers: []netip.Addr{netip.MustParseAddr("2001:db8::53"), netip.MustParseAddr("fe80::53")}, Lifetime: life}},
			DNSSL: []ndwire.DNSSL{{Domains: []string{"a.example", "b.example"}, Lifetime: life}},
		}))
		n.Settle()
	}
	read := func() string {
		b, _ := os.ReadFile(filepath.Join(dir, "resolv.conf"))
		return string(b)
	}
	send(time.Hour)
	if got, want := read(), "# learned from Router Advertisements\nnameserver 2001:db8::53\nnameserver fe80::53%lan0\nsearch a.example b.example\n"; got != want {
		t.Errorf("got\n%s", got)
	}
	send(2 * time.Hour)
	send(0)
	if got := read(); !strings.Contains(got, "2001:db8::53") {
		t.Errorf("written again within a second:\n%s", got)
	}
	send(time.Hour)
	n.Advance(time.Hour + time.Second)
	if got := read(); strings.Contains(got, "nameserver") || strings.Contains(got, "search") {
		t.Errorf("after the lifetime:\n%s", got)
	}
	send(time.Hour)
	h.Stop()
	if _, err := os.Stat(filepath.Join(dir, "resolv.conf")); err == nil {
		t.Error("the file outlives the process")
	}
}

// busyLan is a host with two routers and a hundred neighbors that have answered.
func busyLan(t testing.TB, max int) (*simnet.Net, *simnet.Node, *simnet.Peer) {
	n := simnet.New(t, 1)
	s := n.Segment("lan")
	d := n.Node("d", fmt.Sprintf(`version: 1
links:
  - name: lan0
    kind: pipe
    link_local: "fe80::3"
    addresses: ["2001:db8:1::1/64"]
    dad: {transmits: 0}
    host: {accept_ra: always}
    nud: {max_neighbors: %d, max_unresolved: 1024}
`, max), modules, map[string]*simnet.Segment{"lan0": s})
	p := s.Peer("p")
	n.Advance(5 * time.Second)
	for i, r := range []string{"fe80::a", "fe80::b"} {
		p.Send([6]byte{0x33, 0x33, 0, 0, 0, 1}, ndwire.AppendRA(nil, ndwire.RA{
			Src: netip.MustParseAddr(r), Dst: wire.AllNodes, RouterLifetime: 1800 * time.Second, SourceLLA: &p.MAC,
			Prefixes: []ndwire.PrefixInfo{{Prefix: netip.MustParsePrefix(fmt.Sprintf("2001:db8:%d::/64", 10+i)), OnLink: true, Autonomous: true, Valid: time.Hour, Preferred: time.Hour}},
		}))
		n.Settle()
	}
	return n, d, p
}

// neighbor i of the hosts on the link.
func neighbor(i int) netip.Addr {
	a := netip.MustParseAddr("2001:db8:1::").As16()
	a[8] = 1
	binary.BigEndian.PutUint32(a[12:], uint32(i))
	return netip.AddrFrom16(a)
}

// meet makes a node know neighbors from..to-1 as REACHABLE.
func meet(n *simnet.Net, d *simnet.Node, p *simnet.Peer, from, to int) {
	mac := d.Links().Name("lan0").MAC
	us := netip.MustParseAddr("2001:db8:1::1")
	for i := from; i < to; i++ {
		a := neighbor(i)
		p.Send(mac, ndwire.AppendNS(nil, ndwire.NS{Src: a, Dst: us, Target: us, SourceLLA: &p.MAC}))
		p.Send(mac, ndwire.AppendNA(nil, ndwire.NA{Src: a, Dst: us, Target: a, Solicited: true, Override: true, TargetLLA: &p.MAC}))
		if i%50 == 0 {
			n.Settle()
		}
	}
	n.Settle()
}

func neighbors(t testing.TB, d *simnet.Node) map[string]string {
	t.Helper()
	v, err := d.Command("GET", "/v1/neigh", map[string]string{}, "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, x := range v.([]ndpapi.Neigh) {
		out[x.Dst.String()] = x.State[0]
	}
	return out
}

// TestFloodLeavesWhatIsReal: a hundred thousand messages of every kind from as many sources leave the
// tables within their bounds, memory where it was, and what was learned from real routers and neighbors.
func TestFloodLeavesWhatIsReal(t *testing.T) {
	n, d, p := busyLan(t, 1024)
	meet(n, d, p, 0, 100)
	mac := d.Links().Name("lan0").MAC
	us := netip.MustParseAddr("2001:db8:1::1")
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	// The simulation keeps every frame: it must not count as the router's memory.
	p.OnFrame = func(simnet.Frame) { p.Forget() }
	before := heap()
	const count = 100_000
	for i := range count / 4 {
		src := netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 9, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		lla := [6]byte{2, 9, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
		p.Send(mac, ndwire.AppendNS(nil, ndwire.NS{Src: src, Dst: us, Target: us, SourceLLA: &lla}))
		p.Send(mac, ndwire.AppendNA(nil, ndwire.NA{Src: src, Dst: us, Target: src, Solicited: true, Override: true, TargetLLA: &lla}))
		p.Send([6]byte{0x33, 0x33, 0, 0, 0, 2}, ndwire.AppendRS(nil, ndwire.RS{Src: src, Dst: wire.AllRouters, SourceLLA: &lla}))
		p.Send([6]byte{0x33, 0x33, 0, 0, 0, 1}, ndwire.AppendRA(nil, ndwire.RA{
			Src: src, Dst: wire.AllNodes, RouterLifetime: time.Hour, SourceLLA: &lla,
			Prefixes: []ndwire.PrefixInfo{{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x3f, 0xff, 2: byte(i >> 16), 4: byte(i >> 8), 6: byte(i)}), 64), OnLink: true, Autonomous: true, Valid: time.Hour, Preferred: time.Hour}},
			Routes:   []ndwire.RouteInfo{{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x3f, 0xfe, 2: byte(i >> 16), 3: byte(i >> 8), 4: byte(i)}), 48), Lifetime: time.Hour}},
		}))
		if i%20 == 0 {
			n.Settle()
		}
		if i%500 == 0 {
			n.ForgetFrames()
		}
	}
	n.Settle()
	n.ForgetFrames()
	if grown := int64(heap()) - int64(before); grown > 16<<20 {
		t.Errorf("%d MiB more on the heap", grown>>20)
	}
	known := neighbors(t, d)
	if len(known) > 1024 {
		t.Errorf("%d neighbors", len(known))
	}
	for i := range 100 {
		if known[neighbor(i).String()] != "REACHABLE" {
			t.Fatalf("neighbor %d is %q", i, known[neighbor(i).String()])
		}
	}
	v, err := d.Command("GET", "/v1/ra", map[string]string{}, "")
	if err != nil {
		t.Fatal(err)
	}
	l := v.([]ndpapi.RA)[0].Learned
	real := 0
	for _, r := range l.Routers {
		if (r.Addr == netip.MustParseAddr("fe80::a") || r.Addr == netip.MustParseAddr("fe80::b")) && r.Lifetime > 0 {
			real++
		}
	}
	autoconf := 0
	for _, a := range d.Addrs().All() {
		if a.Protocol == "kernel_ra" {
			autoconf++
		}
	}
	if real != 2 || len(l.Routers) > 16 || len(l.Prefixes) > 64 || len(l.Routes) > 128 || autoconf > 16 || l.Refused == 0 {
		t.Errorf("%d of the real routers, %d routers, %d prefixes, %d routes, %d addresses, refused %d", real, len(l.Routers), len(l.Prefixes), len(l.Routes), autoconf, l.Refused)
	}
}

// TestTenThousandNeighbors: to know, age and list ten thousand costs no more for each than a thousand.
func TestTenThousandNeighbors(t *testing.T) {
	cost := func(count int) (each time.Duration) {
		n, d, p := busyLan(t, 20_000)
		p.OnFrame = func(simnet.Frame) { p.Forget() }
		begin := time.Now()
		meet(n, d, p, 0, count)
		n.Advance(time.Minute) // all of them STALE
		got := neighbors(t, d)
		spent := time.Since(begin)
		stale := 0
		for _, s := range got {
			if s == "STALE" {
				stale++
			}
		}
		if stale < count {
			t.Fatalf("%d of %d are STALE", stale, count)
		}
		return spent / time.Duration(count)
	}
	cost(500) // warm
	few, many := cost(1000), cost(10_000)
	t.Logf("%s each of 1000, %s each of 10000", few, many)
	if many > 4*few {
		t.Errorf("%s each of 10000, %s each of 1000", many, few)
	}
}

// TestFaultyRouterConfigurations: each is refused with its path and, where there is one, the RFC.
func TestFaultyRouterConfigurations(t *testing.T) {
	for _, c := range []struct{ keys, path, says string }{
		{"router_advertisement: {adv_send_advertisements: true, max_rtr_adv_interval: 2000s}", "max_rtr_adv_interval", "RFC"},
		{"router_advertisement: {adv_send_advertisements: true, adv_default_lifetime: 100s}", "adv_default_lifetime", "RFC"},
		{`router_advertisement: {prefixes: [{prefix: "fe80::/64"}]}`, "prefixes", "RFC"},
		{"router_advertisement: {adv_default_preference: best}", "adv_default_preference", "not low, medium or high"},
		{"router_advertisement: {adv_send_advertisements: true}, host: {accept_ra: always}", "adv_send_advertisements", "cannot be both"},
		{"router_advertisement: {adv_reachable_time: 20}", "adv_reachable_time", "want text"},
		{"host: {accept_ra: sometimes}", "accept_ra", "never, when_not_forwarding or always"},
		{"host: {router_probe_interval: 10s}", "router_probe_interval", "RFC 4191 3.5"},
		{"host: {accept_route_info: {max_length: 129}}", "accept_route_info", "prefix lengths"},
		{"host: {rtr_solicitations: {interval: 10s, max_interval: 5s}}", "rtr_solicitations.max_interval", "RFC 7559"},
		{"host: {temp_valid_lifetime: 1h, temp_preferred_lifetime: 2h}", "temp_preferred_lifetime", "RFC 8981"},
		{`nd_proxy: [{address: "ff02::1"}]`, "nd_proxy[0].address", "not a unicast"},
		{"send_redirects: maybe", "send_redirects", "true or false"},
	} {
		t.Run(c.keys, func(t *testing.T) {
			err := check(t, "version: 1\nlinks: [{name: lan0, kind: pipe, "+c.keys+"}]\n")
			if err == nil || !strings.Contains(err.Error(), c.path) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// check is what `config check` does.
func check(t *testing.T, yaml string) error {
	t.Helper()
	mods := modules()
	root, err := config.Load(config.Options{Name: "test", Text: []byte(yaml), Claims: appliance.Claims(mods)})
	if err != nil {
		return err
	}
	a, err := appliance.New(appliance.Options{Root: root, Source: "test", Modules: mods, Clock: clock.NewManual(), Manual: true})
	if err != nil {
		return err
	}
	return a.Check(root)
}

// apply gives a running node another configuration.
func apply(t *testing.T, n *simnet.Net, d *simnet.Node, yaml string) {
	t.Helper()
	root, err := config.Load(config.Options{Name: "test", Text: []byte(yaml), Claims: appliance.Claims(modules())})
	if err != nil {
		t.Fatal(err)
	}
	root.System.Seed, root.System.Hostname = n.Seed+1, d.Name // as simnet has set them
	if err := d.Apply(root, "test"); err != nil {
		t.Fatal(err)
	}
	n.Settle()
}

// TestForwardingSwitched: RFC 4861 6.2.5: a router that ceases to forward says so, in advertisements and in
// its R flag, and leaves the routers' group; and all the way back.
func TestForwardingSwitched(t *testing.T) {
	dir := t.TempDir()
	yaml := func(forwarding bool) string {
		return strings.Replace(routerWith(dir, `{prefix: "2001:db8:1::/64"}`), "    dad:", fmt.Sprintf("    forwarding: %v\n    dad:", forwarding), 1)
	}
	n := simnet.New(t, 1)
	s := n.Segment("lan")
	d := n.Node("r", yaml(true), modules, map[string]*simnet.Segment{"lan0": s})
	n.Advance(2 * time.Minute)
	group := wire.AllRouters.As16()
	for _, forwarding := range []bool{false, true} {
		from := len(s.Frames)
		apply(t, n, d, yaml(forwarding))
		n.Advance(4 * time.Second)
		life := 1800 * time.Second
		if !forwarding {
			life = 0
		}
		ras := advertised(t, s, from, "r")
		if len(ras) == 0 || ras[0].RouterLifetime != life || len(ras[0].Prefixes) != 1 {
			t.Errorf("forwarding %v: advertised %+v", forwarding, ras)
		}
		told := false
		for _, f := range s.Frames[from:] {
			if m, err := ndwire.Parse(f.Data[14:], wire.IPv6HeaderLen, false); err == nil && m.Type == wire.TypeNeighborAdvertisement && m.Dst == wire.AllNodes {
				told = told || m.Router == forwarding
			}
		}
		if !told || d.Addrs().Member(&group, 1) != forwarding {
			t.Errorf("forwarding %v: told %v, a router's group member %v", forwarding, told, d.Addrs().Member(&group, 1))
		}
	}
}

// TestChangedConfigurationIsAnnounced: RFC 4861 6.2.4: at once, and what is gone as gone.
func TestChangedConfigurationIsAnnounced(t *testing.T) {
	dir := t.TempDir()
	n := simnet.New(t, 1)
	s := n.Segment("lan")
	d := n.Node("r", routerWith(dir, `{prefix: "2001:db8:1::/64"}`), modules, map[string]*simnet.Segment{"lan0": s})
	n.Advance(2 * time.Minute)
	from := len(s.Frames)
	apply(t, n, d, routerWith(dir, `{prefix: "2001:db8:2::/64"}`))
	n.Advance(4 * time.Second)
	ras := advertised(t, s, from, "r")
	if len(ras) == 0 || len(ras[0].Prefixes) != 2 || ras[0].Prefixes[0].Valid == 0 || ras[0].Prefixes[1].Valid != 0 {
		t.Errorf("advertised %+v", ras)
	}
	from = len(s.Frames)
	apply(t, n, d, routerWith(dir, `{prefix: "2001:db8:2::/64"}`)) // nothing new
	n.Advance(10 * time.Second)
	if ras := advertised(t, s, from, "r"); len(ras) != 0 {
		t.Errorf("nothing has changed, and %d were sent", len(ras))
	}
}

// TestSuspendedForAMonth: the clock jumps, as that of a suspended machine: what is due is done once, not once
// for each time that it would have been.
func TestSuspendedForAMonth(t *testing.T) {
	n, d, p := busyLan(t, 4096)
	s := n.Segments()[0]
	n.Node("r", routerWith(t.TempDir(), `{prefix: "2001:db8:1::/64"}`), modules, map[string]*simnet.Segment{"lan0": s})
	meet(n, d, p, 0, 100)
	n.Advance(time.Minute)
	n.ForgetFrames()
	n.Clock.AdvanceTo(n.Clock.Now().Add(30 * 24 * time.Hour)) // without a look at any deadline on the way
	n.Settle()
	count := map[uint8]int{}
	for _, f := range s.Frames {
		if m, err := ndwire.Parse(f.Data[14:], wire.IPv6HeaderLen, false); err == nil {
			count[m.Type]++
		}
	}
	if count[wire.TypeRouterAdvertisement] > 1 || count[wire.TypeRouterSolicitation] > 1 || count[wire.TypeNeighborAdvertisement] > 10 || len(s.Frames) > 60 {
		t.Errorf("%d frames at once: %v", len(s.Frames), count)
	}
	v, err := d.Command("GET", "/v1/ra", map[string]string{}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range v.([]ndpapi.RA)[0].Learned.Routers {
		if x.Addr != netip.MustParseAddr("fe80::1") { // that one has advertised itself since
			t.Errorf("a router of a month ago is there: %+v", x)
		}
	}
}
