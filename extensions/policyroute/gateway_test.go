package policyroute

import (
	"fmt"
	"net/netip"
	"testing"

	"leveret/appliance/module"
	"leveret/extensions/policyroute/routeapi"
)

// TestSilentGateways: of gateways with one metric those that answer share; a worse metric is used before
// a gateway that does not answer; if none answers, all are as good as before.
func TestSilentGateways(t *testing.T) {
	b := newBench(t, gateways(1, 1, 1), RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::99"), Dev: "wan0", Metric: metric(2000)})
	hop := func(link int, a string) module.Hop { return module.Hop{Link: link, Addr: netip.MustParseAddr(a)} }
	if got := fmt.Sprint(b.Gateways); got != "[{1 fe80::10} {1 fe80::12} {2 fe80::11} {2 fe80::99}]" {
		t.Errorf("gateways published: %s", got)
	}
	for i, c := range []struct {
		silent []module.Hop
		want   string
	}{
		{nil, "map[fe80::10:true fe80::11:true fe80::12:true]"},
		{[]module.Hop{hop(2, "fe80::11")}, "map[fe80::10:true fe80::12:true]"},
		{[]module.Hop{hop(1, "fe80::11")}, "map[fe80::10:true fe80::11:true fe80::12:true]"}, // another link's
		{[]module.Hop{hop(1, "fe80::10"), hop(2, "fe80::11"), hop(1, "fe80::12")}, "map[fe80::99:true]"},
		{[]module.Hop{hop(1, "fe80::10"), hop(2, "fe80::11"), hop(1, "fe80::12"), hop(2, "fe80::99")}, "map[fe80::10:true fe80::11:true fe80::12:true]"},
		{nil, "map[fe80::10:true fe80::11:true fe80::12:true]"},
	} {
		b.m.GatewaysSilent(b.Manual.Now(), c.silent)
		seen := map[string]bool{}
		for s := range uint16(200) {
			seen[b.hop(tcpPacket(s+uint16(i)*200, -1))] = true // new flows: others stay where they are
		}
		if fmt.Sprint(seen) != c.want {
			t.Errorf("silent %v: used %v, want %s", c.silent, seen, c.want)
		}
	}
	b.apply()
	if len(b.Gateways) != 0 {
		t.Errorf("gateways without routes: %v", b.Gateways)
	}
}

// TestPreferredGatewayAnswersAgain: three gateways of one metric and three preferences. When the high one falls
// silent, flows go by the medium one, those in use as well; when it answers, all come back to it.
func TestPreferredGatewayAnswersAgain(t *testing.T) {
	b := newBench(t)
	add := func(via, pref string) module.Hop {
		r := routeapi.Request{Op: "append", Dst: "default", Via: netip.MustParseAddr(via), Dev: "wan0", Pref: pref}
		if _, err := b.m.change(b.Manual.Now(), ask(nil, r)); err != nil {
			t.Fatal(err)
		}
		return module.Hop{Link: 2, Addr: r.Via}
	}
	high, _, _ := add("fe80::10", "high"), add("fe80::11", "medium"), add("fe80::12", "low")
	use := func() string {
		seen := map[string]int{}
		for range 3 {
			for s := range uint16(100) {
				seen[b.hop(tcpPacket(s, -1))]++
			}
		}
		return fmt.Sprint(seen)
	}
	for i, c := range []struct {
		silent []module.Hop
		want   string
	}{
		{nil, "map[fe80::10:300]"}, {[]module.Hop{high}, "map[fe80::11:300]"}, {nil, "map[fe80::10:300]"},
	} {
		b.m.GatewaysSilent(b.Manual.Now(), c.silent)
		if got := use(); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
}
