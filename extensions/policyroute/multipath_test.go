package policyroute

import (
	"encoding/binary"
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

// gateways is a default route over that many gateways with weights.
func gateways(weights ...int) RouteConfig {
	r := RouteConfig{To: "default"}
	for i, w := range weights {
		r.NextHops = append(r.NextHops, NextHopConfig{Via: netip.MustParseAddr(fmt.Sprintf("fe80::%x", 0x10+i)), Dev: []string{"lan0", "wan0"}[i%2], Weight: w})
	}
	return r
}

// tcpPacket is one of a TCP flow in transit; frag >= 0 makes it the fragment at that offset.
func tcpPacket(sport uint16, frag int) *packet.Packet {
	f := wire.IPv6Fields{NextHeader: wire.TCP, HopLimit: 64, Src: netip.MustParseAddr("2001:db8:9::1"), Dst: netip.MustParseAddr("2001:db8:f::1")}
	l4 := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, sport), 443)
	l4 = append(l4, make([]byte, 16)...)
	off, fragOff := 40, 0
	if frag >= 0 {
		f.NextHeader = wire.Fragment
		if frag > 0 {
			l4 = []byte("what comes later in the datagram")
		}
		l4 = append([]byte{wire.TCP, 0, byte(frag >> 8), byte(frag), 1, 2, 3, 4}, l4...)
		off, fragOff = 48, 40
	}
	f.PayloadLength = uint16(len(l4))
	p := packet.New(append(wire.AppendIPv6(nil, f), l4...))
	p.In, p.Proto, p.TransOff, p.FragOff = 1, wire.TCP, off, fragOff
	return p
}

// hop routes a packet and returns its next hop.
func (b *bench) hop(p *packet.Packet) string {
	p.Route, p.Out = nil, 0
	b.m.RouteBatch([]*packet.Packet{p})
	return netip.AddrFrom16(p.NextHop).String()
}

// TestFlowsAreSharedOut by weight; each flow keeps to its next hop, through 1000 changes of other
// routes too (seed S6), and questions say where packets go.
func TestFlowsAreSharedOut(t *testing.T) {
	b := newBench(t, gateways(3, 1))
	was, count := map[uint16]string{}, map[string]int{}
	for s := range uint16(4000) {
		was[s] = b.hop(tcpPacket(s, -1))
		count[was[s]]++
	}
	if n := count["fe80::10"]; n < 2850 || n > 3150 || len(count) != 2 {
		t.Errorf("shares %v", count)
	}
	for i := range 1000 {
		op := []string{"add", "del"}[i%2]
		r := routeapi.Request{Op: op, Dst: fmt.Sprintf("2001:db8:%x::/48", 0x100+i/2), Via: netip.MustParseAddr("fe80::99"), Dev: "wan0"}
		if _, err := b.m.change(b.Manual.Now(), ask(nil, r)); err != nil {
			t.Fatal(err)
		}
		if s := uint16(i); b.hop(tcpPacket(s, -1)) != was[s] {
			t.Fatalf("flow %d moved by change %d", s, i)
		}
	}
	for s := range uint16(100) {
		q := module.RouteQuery{
			Dst: netip.MustParseAddr("2001:db8:f::1"), Src: netip.MustParseAddr("2001:db8:9::1"), In: 1, Proto: wire.TCP, SPort: s, DPort: 443,
		}
		if got := b.m.Route(q).NextHop.String(); got != was[s] {
			t.Errorf("flow %d goes to %s, but a question says %s", s, was[s], got)
		}
	}
}

// TestFragmentsGoOneWay: the first, which has ports, and those that have not.
func TestFragmentsGoOneWay(t *testing.T) {
	b := newBench(t, gateways(1, 1, 1, 1))
	want := b.hop(tcpPacket(1, 1)) // offset 0, more to come
	for s := range uint16(50) {
		for _, frag := range []int{1, 8, 1449} {
			if got := b.hop(tcpPacket(s, frag)); got != want {
				t.Fatalf("fragment %d of port %d goes to %s, not %s", frag, s, got, want)
			}
		}
	}
}

// TestLinkDownTakesItsNextHopsAway, and brings them back.
func TestLinkDownTakesItsNextHopsAway(t *testing.T) {
	b := newBench(t, gateways(1, 1))
	used := func() string {
		seen := map[string]bool{}
		for s := range uint16(200) {
			seen[b.hop(tcpPacket(s, -1))] = true
		}
		return fmt.Sprint(seen)
	}
	both := used()
	b.up(2, false)
	if got := used(); got != "map[fe80::10:true]" {
		t.Errorf("with wan0 down: %s", got)
	}
	b.up(2, true)
	if got := used(); got != both || both != "map[fe80::10:true fe80::11:true]" {
		t.Errorf("with wan0 up again: %s", got)
	}
}

// TestPreferenceComesBeforeSharing: of gateways with one metric those with the higher preference share.
func TestPreferenceComesBeforeSharing(t *testing.T) {
	b := newBench(t)
	for _, x := range []struct{ via, pref string }{{"fe80::10", "low"}, {"fe80::11", "high"}, {"fe80::12", "medium"}, {"fe80::13", "high"}} {
		r := routeapi.Request{Op: "append", Dst: "default", Via: netip.MustParseAddr(x.via), Dev: "wan0", Pref: x.pref}
		if _, err := b.m.change(b.Manual.Now(), ask(nil, r)); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for s := range uint16(200) {
		seen[b.hop(tcpPacket(s, -1))] = true
	}
	if fmt.Sprint(seen) != "map[fe80::11:true fe80::13:true]" {
		t.Errorf("used %v", seen)
	}
}

// TestSharingDoesNotAllocate.
func TestSharingDoesNotAllocate(t *testing.T) {
	b := newBench(t, gateways(1, 2, 3))
	ps := []*packet.Packet{tcpPacket(1, -1), tcpPacket(2, 1)}
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range ps {
			p.Route, p.Out = nil, 0
		}
		b.m.RouteBatch(ps)
	}); n != 0 {
		t.Errorf("%v allocations a vector", n)
	}
}

// TestMultipathConfig: what is refused, and that a seed gives the same shares after a restart.
func TestMultipathConfig(t *testing.T) {
	with := func(b *bench, mc MultipathConfig) error {
		cfg := b.config(gateways(1, 1))
		cfg.Sections["routing.multipath"] = moduletest.Section[MultipathConfig]{Value: mc}
		commit, err := b.m.Prepare(cfg)
		if err == nil {
			commit(b.Manual.Now())
		}
		return err
	}
	b := newBench(t)
	for want, mc := range map[string]MultipathConfig{"select: \"random\"": {Select: "random", Hash: "l4"}, "hash: \"l5\"": {Select: "hash", Hash: "l5"}} {
		if err := with(b, mc); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", mc, err)
		}
	}
	spread := func(mc MultipathConfig, skew int) string {
		b := newBench(t)
		for range skew {
			b.Random.Uint64()
		}
		if err := with(b, mc); err != nil {
			t.Fatal(err)
		}
		var out []string
		for s := range uint16(64) {
			out = append(out, b.hop(tcpPacket(s, -1)))
		}
		return fmt.Sprint(out)
	}
	if spread(MultipathConfig{"hash", "l4", 7}, 0) != spread(MultipathConfig{"hash", "l4", 7}, 3) {
		t.Error("one seed, two spreads")
	}
	if spread(MultipathConfig{"hash", "l4", 7}, 0) == spread(MultipathConfig{"hash", "l4", 8}, 0) {
		t.Error("two seeds, one spread")
	}
	if l3 := spread(MultipathConfig{"hash", "l3", 7}, 0); strings.Contains(l3, "fe80::10") == strings.Contains(l3, "fe80::11") {
		t.Errorf("l3 tells the flows of two addresses apart: %s", l3)
	}
}

// TestNextHopsByCommand: added as one route, listed as one, deleted one by one or all together.
func TestNextHopsByCommand(t *testing.T) {
	b := newBench(t)
	now := b.Manual.Now()
	hop := func(via string, w int) routeapi.NextHop {
		return routeapi.NextHop{Gateway: netip.MustParseAddr(via), Dev: "wan0", Weight: w}
	}
	list := func() string {
		v, err := b.m.show(now, module.Request{Query: map[string]string{"exact": "default"}})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range v.([]routeapi.Route) {
			x := fmt.Sprint(r.Gateway)
			for _, h := range r.NextHops {
				x += fmt.Sprintf(" %s*%d", h.Gateway, h.Weight)
			}
			out = append(out, x)
		}
		return strings.Join(out, ", ")
	}
	three := []routeapi.NextHop{hop("fe80::71", 0), hop("fe80::2", 2), hop("fe80::3", 3)}
	for _, c := range []struct {
		r          routeapi.Request
		want, list string
	}{
		{routeapi.Request{Op: "add", Dst: "default", NextHops: three}, "<nil>", "invalid IP fe80::71*1 fe80::2*2 fe80::3*3"},
		{routeapi.Request{Op: "add", Dst: "default", NextHops: three[:2]}, "File exists", "invalid IP fe80::71*1 fe80::2*2 fe80::3*3"},
		{routeapi.Request{Op: "append", Dst: "default", NextHops: []routeapi.NextHop{hop("fe80::4", 0), hop("fe80::71", 0)}}, "File exists", "invalid IP fe80::71*1 fe80::2*2 fe80::3*3"},
		{routeapi.Request{Op: "del", Dst: "default", Via: netip.MustParseAddr("fe80::2")}, "<nil>", "invalid IP fe80::71*1 fe80::3*3"},
		{routeapi.Request{Op: "append", Dst: "default", Via: netip.MustParseAddr("fe80::5"), Dev: "wan0"}, "<nil>", "invalid IP fe80::71*1 fe80::3*3 fe80::5*1"},
		{routeapi.Request{Op: "replace", Dst: "default", NextHops: three[:2]}, "<nil>", "invalid IP fe80::71*1 fe80::2*2"},
		{routeapi.Request{Op: "add", Dst: "default", Via: netip.MustParseAddr("fe80::9"), Dev: "wan0", Metric: 5}, "<nil>", "fe80::9, invalid IP fe80::71*1 fe80::2*2"},
		{routeapi.Request{Op: "del", Dst: "default", Metric: 1024}, "<nil>", "fe80::9"},
		{routeapi.Request{Op: "del", Dst: "default"}, "<nil>", ""},
		{routeapi.Request{Op: "del", Dst: "default"}, "No such process", ""},
		{routeapi.Request{Op: "add", Dst: "default", Dev: "wan0", NextHops: three}, "Error: a route has either nexthops or via and dev.", ""},
		{routeapi.Request{Op: "add", Dst: "default", NextHops: []routeapi.NextHop{{Dev: "wan0"}}}, "Error: each nexthop needs via.", ""},
		{routeapi.Request{Op: "add", Dst: "default", NextHops: []routeapi.NextHop{three[0], three[0]}}, "Error: the same next hop twice", ""},
		{routeapi.Request{Op: "add", Dst: "default", NextHops: []routeapi.NextHop{hop("fe80::71", 257)}}, `argument "257" is wrong: "weight" is 1 to 256`, ""},
	} {
		if _, err := b.m.change(now, ask(nil, c.r)); fmt.Sprint(err) != c.want {
			t.Errorf("%+v: %v, want %s", c.r, err, c.want)
		}
		if got := list(); got != c.list {
			t.Errorf("after %+v: %s, want %s", c.r, got, c.list)
		}
	}
	if rs := b.m.table(tableMain).Routes(defaultRoute); len(rs) != 0 {
		t.Errorf("left: %+v", rs)
	}
}
