package policyroute

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/routeapi"
)

// multipath puts a way of sharing and a cache in force.
func (b *bench) multipath(mc MultipathConfig, cc CacheConfig, routes ...RouteConfig) error {
	cfg := b.config(routes...)
	cfg.Sections["routing.multipath"], cfg.Sections["routing.destination_cache"] = moduletest.Section[MultipathConfig]{Value: mc}, moduletest.Section[CacheConfig]{Value: cc}
	commit, err := b.m.Prepare(cfg)
	if err == nil {
		commit(b.Manual.Now())
	}
	return err
}

// TestFlowsInUseStay: when a next hop comes, flows of two packets or more stay where they are, and new
// ones are shared among all; when one goes, its flows move and no others; an idle flow is chosen anew.
func TestFlowsInUseStay(t *testing.T) {
	b := newBench(t, gateways(1, 1))
	was := map[uint16]string{}
	for range 2 {
		for s := range uint16(400) {
			was[s] = b.hop(tcpPacket(s, -1))
		}
	}
	b.apply(gateways(1, 1, 1, 1))
	moved, fresh := 0, map[string]int{}
	for s := range uint16(400) {
		if b.hop(tcpPacket(s, -1)) != was[s] {
			moved++
		}
		fresh[b.hop(tcpPacket(s+1000, -1))]++
	}
	if moved > 0 || len(fresh) != 4 {
		t.Errorf("%d flows in use moved; new ones %v", moved, fresh)
	}
	b.up(2, false) // fe80::11 and fe80::13 go
	for s := range uint16(400) {
		if got := b.hop(tcpPacket(s, -1)); was[s] == "fe80::10" && got != was[s] || got == "fe80::11" {
			t.Fatalf("flow %d went from %s to %s", s, was[s], got)
		}
	}
	v, err := b.m.showPinned(b.Manual.Now(), module.Request{})
	if list, _ := v.([]routeapi.Pinned); err != nil || len(list) < 400 || !list[0].Gateway.IsValid() || list[0].Dev == "" || *list[0].Expires != 60 {
		t.Errorf("%v, %d pinned", err, len(list))
	}
	b.up(2, true)
	b.Manual.Advance(62 * time.Second)
	back := 0
	for s := range uint16(400) {
		if b.hop(tcpPacket(s, -1)) != "fe80::10" {
			back++
		}
	}
	if back < 200 {
		t.Errorf("after a minute without packets %d of 400 flows were shared out anew", back)
	}
	if v, err := b.m.flushPinned(0, module.Request{}); err != nil || len(b.m.choice.pins.All(b.Manual.Now())) != 0 {
		t.Errorf("%v %v", v, err)
	}
}

// TestRoundRobin: flows take turns by weight, each flow keeps to what it got from its first packet on; a
// question takes no turn, and knows where a flow goes.
func TestRoundRobin(t *testing.T) {
	b := newBench(t)
	if err := b.multipath(MultipathConfig{Select: "round_robin", Hash: "l4"}, CacheConfig{MaxEntries: 1024, Idle: time.Minute}, gateways(2, 1)); err != nil {
		t.Fatal(err)
	}
	q := func(s uint16) module.RouteQuery {
		return module.RouteQuery{
			Dst: netip.MustParseAddr("2001:db8:f::1"), Src: netip.MustParseAddr("2001:db8:9::1"), In: 1, Proto: wire.TCP, SPort: s, DPort: 443,
		}
	}
	var got []string
	was := map[uint16]string{}
	for s := range uint16(6) {
		b.m.Route(q(s + 100))
		was[s] = b.hop(tcpPacket(s, -1))
		got = append(got, strings.TrimPrefix(was[s], "fe80::"))
	}
	if fmt.Sprint(got) != "[10 10 11 10 10 11]" {
		t.Errorf("turns %v", got)
	}
	for range 3 {
		for s := range uint16(6) {
			if hop := b.hop(tcpPacket(s, -1)); hop != was[s] {
				t.Errorf("flow %d moved from %s to %s", s, was[s], hop)
			}
			if hop := b.m.Route(q(s)).NextHop.String(); hop != was[s] {
				t.Errorf("flow %d goes to %s, but a question says %s", s, was[s], hop)
			}
		}
	}
}

// TestCacheConfig: what is refused.
func TestCacheConfig(t *testing.T) {
	b := newBench(t)
	mc := MultipathConfig{Select: "hash", Hash: "l4"}
	for want, cc := range map[string]CacheConfig{
		"max_entries: 15 is outside": {MaxEntries: 15, Idle: time.Minute}, "idle: 0s is outside": {MaxEntries: 16}, "idle: 25h0m0s": {MaxEntries: 16, Idle: 25 * time.Hour},
	} {
		if err := b.multipath(mc, cc); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", cc, err)
		}
	}
	if b.PathMTUs != 16384 {
		t.Errorf("by default %d path MTUs", b.PathMTUs)
	}
	if err := b.multipath(mc, CacheConfig{MaxEntries: 64, Idle: time.Minute}); err != nil || b.PathMTUs != 64 {
		t.Errorf("%v, %d path MTUs, want as many as flows", err, b.PathMTUs)
	}
}
