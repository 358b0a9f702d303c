package policyroute

import (
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/routeapi"
)

// withMarks puts marks, a rule that sends mark 1 to table 10, and routes in force.
func (b *bench) withMarks(marks ...MarkConfig) error {
	cfg := b.config(
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::10"), Dev: "wan0", Table: "10"},
		RouteConfig{To: "default", Via: netip.MustParseAddr("fe80::20"), Dev: "wan0"})
	cfg.Sections["routing.marks"] = moduletest.Section[[]MarkConfig]{Value: marks}
	cfg.Sections["routing.rules"] = moduletest.Section[[]routeapi.RuleSpec]{Value: []routeapi.RuleSpec{{Priority: prio(100), FwMark: "0x1/0xf", Lookup: "10"}}}
	commit, err := b.m.Prepare(cfg)
	if err == nil {
		commit(b.Manual.Now())
	}
	return err
}

// TestIngressMarks: packets are marked by link and source, the first item that they conform to counts,
// bits outside its mask stay, packets of this node are not marked, and questions go the way of packets.
func TestIngressMarks(t *testing.T) {
	b := newBench(t)
	err := b.withMarks(MarkConfig{Link: "lan0", From: "2001:db8:7::/64", FwMark: "0/0xf"}, MarkConfig{Link: "lan0", FwMark: "0x1/0xf"}, MarkConfig{From: "2001:db8:8::/48", FwMark: "0x31"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in         int
		src        string
		mark, want uint32
		via        string
	}{
		{1, "2001:db8:9::1", 0, 1, "fe80::10"},
		{1, "2001:db8:9::1", 0xf0, 0xf1, "fe80::10"},
		{1, "2001:db8:7::1", 1, 0, "fe80::20"},
		{2, "2001:db8:9::1", 0, 0, "fe80::20"},
		{2, "2001:db8:8::1", 0xf00, 0x31, "fe80::10"},
		{0, "2001:db8:8::1", 0, 0, "fe80::20"},
	} {
		src := netip.MustParseAddr(c.src)
		p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: 59, HopLimit: 64, Src: src, Dst: netip.MustParseAddr("2001:db8:f::1")}))
		p.In, p.Mark = c.in, c.mark
		b.m.RouteBatch([]*packet.Packet{p})
		if got := netip.AddrFrom16(p.NextHop).String(); p.Mark != c.want || got != c.via {
			t.Errorf("%+v: mark %#x, by %s", c, p.Mark, got)
		}
		if got := b.via(module.RouteQuery{Dst: netip.MustParseAddr("2001:db8:f::1"), Src: src, In: c.in, Mark: c.mark}); got != c.via {
			t.Errorf("%+v: a question is answered %s", c, got)
		}
	}
	get := b.json(b.m.get, map[string]string{"dst": "2001:db8:f::1", "from": "2001:db8:9::1", "iif": "lan0", "explain": "true"})
	if !strings.Contains(get, `"fwmark":"0x1"`) {
		t.Errorf("the explanation does not name the mark: %s", get)
	}
	if err := b.withMarks(); err != nil || b.m.view.Load().marks != nil {
		t.Errorf("%v: marks are left", err)
	}
}

func TestMarkFaults(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		mc   MarkConfig
		want string
	}{
		{MarkConfig{}, "[0].fwmark: say which mark"},
		{MarkConfig{FwMark: "x"}, `[0].fwmark: argument "x" is wrong`},
		{MarkConfig{FwMark: "1/y"}, `[0].fwmark: argument "y" is wrong`},
		{MarkConfig{FwMark: "0x10/0xf"}, "[0].fwmark: 0x10 has bits outside the mask 0xf"},
		{MarkConfig{FwMark: "1", Link: "eth9"}, `[0].link: "eth9" is not a link`},
		{MarkConfig{FwMark: "1", From: "2001::/200"}, `[0].from: "2001::/200" is not a prefix`},
	} {
		if err := b.withMarks(c.mc); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.mc, err, c.want)
		}
	}
}
