package routeapi

import (
	"encoding/json"
	"net/netip"
	"testing"
)

// The wanted lines are what "ip -6 -j route" of iproute2 6.1 prints.
func TestJSONIsIproute2s(t *testing.T) {
	sec := int64(99)
	for _, c := range []struct {
		r    Route
		want string
	}{
		{Route{Dst: "2001:db8:10::/48", Gateway: netip.MustParseAddr("2001:db8:1::98"), Dev: "va", Protocol: "static", Metric: 512, Flags: []string{}, Metrics: []Metrics{{MTU: 1400}}, Pref: "medium"},
			`{"dst":"2001:db8:10::/48","gateway":"2001:db8:1::98","dev":"va","protocol":"static","metric":512,"flags":[],"metrics":[{"mtu":1400}],"pref":"medium"}`},
		{Route{Dst: "2001:db8:11::/48", Dev: "va", Metric: 1024, Flags: []string{}, Expires: &sec, Pref: "high"},
			`{"dst":"2001:db8:11::/48","dev":"va","metric":1024,"flags":[],"expires":99,"pref":"high"}`},
		{Route{Type: "local", Dst: "2001:db8:1::1", Dev: "va", Table: "local", Protocol: "kernel", Flags: []string{}, Pref: "medium"},
			`{"type":"local","dst":"2001:db8:1::1","dev":"va","table":"local","protocol":"kernel","metric":0,"flags":[],"pref":"medium"}`},
		{Route{Dst: "2001:db8:12::/48", Protocol: "ra", Metric: 1024, Flags: []string{}, Pref: "medium", NextHops: []NextHop{{netip.MustParseAddr("2001:db8:1::99"), "va", 2, []string{}}}},
			`{"dst":"2001:db8:12::/48","protocol":"ra","metric":1024,"flags":[],"pref":"medium","nexthops":[{"gateway":"2001:db8:1::99","dev":"va","weight":2,"flags":[]}]}`},
		{Route{Dst: "2001:db8:10::1", From: "2001:db8:5::1", Gateway: netip.MustParseAddr("2001:db8:1::98"), Dev: "va", Protocol: "static", Metric: 512, Flags: []string{}, Metrics: []Metrics{{MTU: 1400, AdvMSS: 1340}}, IIF: "vb", Pref: "medium"},
			`{"dst":"2001:db8:10::1","from":"2001:db8:5::1","gateway":"2001:db8:1::98","dev":"va","protocol":"static","metric":512,"flags":[],"metrics":[{"mtu":1400,"advmss":1340}],"iif":"vb","pref":"medium"}`},
	} {
		b, err := json.Marshal(c.r)
		if err != nil || string(b) != c.want {
			t.Errorf("got  %s (%v)\nwant %s", b, err, c.want)
		}
	}
}
