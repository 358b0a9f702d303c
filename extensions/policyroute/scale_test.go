package policyroute

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"leveret/extensions/policyroute/routeapi"
)

// TestChangesAreVisibleAtOnce: with a million routes and ten thousand rules (a tenth of the routes without
// LVT_LONG) a changed route, a changed nexthop object of many routes and a changed rule are what packets see within 10
// ms, also while the table is being compiled. The median of several: the machine may do something else meanwhile.
func TestChangesAreVisibleAtOnce(t *testing.T) {
	if raceEnabled {
		t.Skip("runs without the race detector, which takes times its own: make norace")
	}
	routes := 100_000
	if os.Getenv("LVT_LONG") != "" {
		routes = 1_000_000
	}
	x := filled(t, 10_000, routes)
	if msg := x.object("add", objectHop(1, "lan0")) + x.object("add", objectHop(2, "wan0")) + x.object("add", objectGroup(10, 1)); msg != "" {
		t.Fatal(msg)
	}
	route := func(op, dst string, r routeapi.Request) {
		r.Op, r.Dst = op, dst
		if _, err := x.m.change(x.Manual.Now(), ask(nil, r)); err != nil {
			t.Fatal(err)
		}
	}
	route("add", "3000::/16", routeapi.Request{NHID: 10})
	for _, c := range []struct {
		name   string
		change func(i int) (dst, want string)
	}{
		{"route", func(i int) (string, string) {
			route("replace", "3001::/48", routeapi.Request{Via: netip.MustParseAddr(fmt.Sprintf("fe80::%x", 0x100+i)), Dev: "wan0"})
			return "3001::1", fmt.Sprintf("fe80::%x", 0x100+i)
		}},
		{"nexthop", func(i int) (string, string) {
			x.object("replace", objectGroup(10, uint32(1+i%2)))
			return "3000::1", fmt.Sprintf("fe80::f%d", 1+i%2)
		}},
		{"rule", func(i int) (string, string) {
			route("replace", "default", routeapi.Request{Via: netip.MustParseAddr("fe80::77"), Dev: "wan0", Table: "7"})
			op := []string{"add", "del"}[i%2]
			spec := routeapi.RuleSpec{Priority: prio(50), To: "3002::/16", Lookup: "7"}
			if _, err := x.m.changeRule(x.Manual.Now(), ask(nil, routeapi.RuleRequest{Op: op, RuleSpec: spec})); err != nil {
				t.Fatal(err)
			}
			return "3002::1", []string{"fe80::77", router1.String()}[i%2]
		}},
	} {
		var took []time.Duration
		for i := range 20 {
			before := time.Now()
			dst, want := c.change(i)
			got := x.sent("", dst)
			took = append(took, time.Since(before))
			if got != want {
				t.Fatalf("%s: packet to %s by %s, want %s", c.name, dst, got, want)
			}
		}
		middle := median(took)
		t.Logf("%s: %v", c.name, middle)
		if limit := 10 * time.Millisecond; middle > limit {
			t.Errorf("%s: visible after %v, want at most %v", c.name, middle, limit)
		}
	}
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}
