package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSameJQ feeds `ip -6 -j` and ours to the same jq expressions: they must work on both and, where
// the two describe the same thing, say the same.
func TestSameJQ(t *testing.T) {
	need(t, "jq")
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tap", offload: true}, "")
	ping(t, p.a, addrB, 2, "")
	p.must("route", "add", "2001:db8:7::/48", "via", addrB, "dev", "right", "metric", "77")
	p.must("route", "add", "blackhole", "2001:db8:bad::/48")
	sh(t, fmt.Sprintf("ip -n %s -6 route add 2001:db8:7::/48 via %s dev %s metric 77; ip -n %s -6 route add blackhole 2001:db8:bad::/48", p.a, routerA, p.devA, p.a))
	for _, c := range []struct {
		ip, ours []string
		jq       string
		wantIP   string
		wantOurs string
	}{
		{[]string{"addr", "show", "dev", p.devA}, []string{"addr", "show", "dev", "left"},
			`.[0].addr_info[]|select(.scope=="global")|[.family,.local,.prefixlen,.valid_life_time]|@csv`, `"inet6","` + addrA + `",64,4294967295`, `"inet6","` + routerA + `",64,4294967295`},
		{[]string{"addr"}, []string{"addr"}, `map(select(.ifname!="lo"))|.[0]|has("ifindex") and has("flags") and has("mtu") and has("operstate")`, "true", "true"},
		{[]string{"link", "show", "dev", p.devA}, []string{"link", "show", "dev", "left"}, `.[0]|[.mtu,(.operstate|length>0),.link_type,(.flags|index("UP")!=null),(.address|length)]|@csv`, `1500,true,"ether",true,17`, `1500,true,"ether",true,17`},
		{[]string{"-s", "link", "show", "dev", p.devA}, []string{"-s", "link", "show", "dev", "left"}, `.[0].stats64|(.rx.packets>0) and (.tx.bytes>0)`, "true", "true"},
		{[]string{"neigh", "show", "dev", p.devA}, []string{"neigh", "show", "dev", "left"}, `.[]|select(.dst|startswith("2001"))|[.dst,(.lladdr|length),(.state|length)]|@csv`, `"` + routerA + `",17,1`, `"` + addrA + `",17,1`},
		{[]string{"route", "show", "2001:db8:7::/48"}, []string{"route", "show", "2001:db8:7::/48"}, `.[0]|[.dst,.gateway,.metric,.pref,(.flags|length)]|@csv`, `"2001:db8:7::/48","` + routerA + `",77,"medium",0`, `"2001:db8:7::/48","` + addrB + `",77,"medium",0`},
		{[]string{"route", "show", "type", "blackhole"}, []string{"route", "show", "type", "blackhole"}, `.[0]|[.type,.dst]|@csv`, `"blackhole","2001:db8:bad::/48"`, `"blackhole","2001:db8:bad::/48"`},
		{[]string{"route", "get", routerA}, []string{"route", "get", addrB}, `.[0]|[.dst,.prefsrc,has("dev")]|@csv`, `"` + routerA + `","` + addrA + `",true`, `"` + addrB + `","` + routerB + `",true`},
		{[]string{"route"}, []string{"route"}, `map(select(.protocol=="kernel" and (.dst|startswith("2001"))))|.[0]|[.metric,.pref]|@csv`, `256,"medium"`, `256,"medium"`},
	} {
		kernel := in(t, p.a, "ip -6 -j "+strings.Join(c.ip, " "))
		mine := p.must(append([]string{"-j"}, c.ours...)...)
		for who, x := range map[string][2]string{"ip": {kernel, c.wantIP}, "leveret": {mine, c.wantOurs}} {
			file := p.dir + "/json"
			if err := os.WriteFile(file, []byte(x[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(sh(t, fmt.Sprintf("jq -r '%s' %s", c.jq, file))); got != x[1] {
				t.Errorf("%s %v: jq '%s' gives %s, want %s\n%s", who, c.ours, c.jq, got, x[1], x[0])
			}
		}
	}
}
