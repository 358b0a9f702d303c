package ndpapi

import (
	"encoding/json"
	"net/netip"
	"testing"
)

// The wanted lines are what "ip -6 -j" of iproute2 6.1 prints.
func TestJSONIsIproute2s(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	probes := 3
	for _, c := range []struct {
		v    any
		want string
	}{
		{Neigh{Dst: netip.MustParseAddr("2001:db8:1::98"), Dev: "va", LLAddr: "02:00:00:00:00:98", Router: true, State: []string{"STALE"}},
			`{"dst":"2001:db8:1::98","dev":"va","lladdr":"02:00:00:00:00:98","router":null,"state":["STALE"]}`},
		{Neigh{Dst: netip.MustParseAddr("2001:db8:1::98"), Dev: "va", Used: n(0), Confirmed: n(60), Updated: n(0), Probes: &probes, State: []string{"FAILED"}},
			`{"dst":"2001:db8:1::98","dev":"va","used":0,"confirmed":60,"updated":0,"probes":3,"state":["FAILED"]}`},
		{Addr{Family: "inet6", Local: netip.MustParseAddr("2001:db8:1::2"), PrefixLen: 64, Scope: "global", NoDAD: true, Deprecated: true, Dynamic: true, ValidLifeTime: 3600},
			`{"family":"inet6","local":"2001:db8:1::2","prefixlen":64,"scope":"global","nodad":true,"deprecated":true,"dynamic":true,"valid_life_time":3600,"preferred_life_time":0}`},
		{Groups{IfIndex: 2, IfName: "vb", MAddr: []Group{{"inet6", netip.MustParseAddr("ff02::1:ff00:3"), 2}, {"inet6", netip.MustParseAddr("ff02::1"), 0}}},
			`{"ifindex":2,"ifname":"vb","maddr":[{"family":"inet6","address":"ff02::1:ff00:3","users":2},{"family":"inet6","address":"ff02::1"}]}`},
	} {
		b, err := json.Marshal(c.v)
		if err != nil || string(b) != c.want {
			t.Errorf("got  %s (%v)\nwant %s", b, err, c.want)
		}
	}
}

func TestFlagIsPresence(t *testing.T) {
	var set, unset Neigh
	if err := json.Unmarshal([]byte(`{"dst":"::1","router":null}`), &set); err != nil || !bool(set.Router) || bool(set.Proxy) {
		t.Errorf("%+v %v", set, err)
	}
	if err := json.Unmarshal([]byte(`{"dst":"::1"}`), &unset); err != nil || bool(unset.Router) {
		t.Errorf("%+v %v", unset, err)
	}
}
