package policyroute

import (
	"fmt"
	"net/netip"
	"testing"

	"leveret/appliance/module"
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
