package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// uplinks is a home with two prefixes and two uplinks to one far host.
type uplinks struct {
	*appliance
	home, far string
}

const farHost = "2001:db8:f::9"

func twoUplinks(t *testing.T, routing string) *uplinks {
	t.Helper()
	u := &uplinks{home: ns(t), far: ns(t)}
	u.appliance = start(t, fmt.Sprintf(`links:
  - {name: lan0, kind: tap, host_device: dlan, netns: %s, addresses: ["2001:db8:1::1/64", "2001:db8:2::1/64"]}
  - {name: wan0, kind: tap, host_device: dwan0, netns: %s, addresses: ["2001:db8:a::1/64"]}
  - {name: wan1, kind: tap, host_device: dwan1, netns: %s, addresses: ["2001:db8:b::1/64"]}
routing:
%s`, u.home, u.far, u.far, routing))
	sh(t, fmt.Sprintf(`
ip -n %[1]s -6 addr add 2001:db8:1::2/64 dev dlan nodad; ip -n %[1]s -6 addr add 2001:db8:2::2/64 dev dlan nodad
ip -n %[1]s -6 route add default via 2001:db8:1::1 dev dlan
ip -n %[2]s -6 addr add 2001:db8:a::2/64 dev dwan0 nodad; ip -n %[2]s -6 addr add 2001:db8:b::2/64 dev dwan1 nodad; ip -n %[2]s -6 addr add %[3]s/128 dev lo
ip -n %[2]s -6 route add 2001:db8:1::/64 via 2001:db8:a::1; ip -n %[2]s -6 route add 2001:db8:2::/64 via 2001:db8:b::1`, u.home, u.far, farHost))
	return u
}

// arrived counts the packets that came by each uplink while f ran, without the few of Neighbor Discovery.
func (u *uplinks) arrived(f func()) (byA, byB int) {
	count := func(dev string) int {
		n, err := strconv.Atoi(strings.TrimSpace(in(u.t, u.far, "cat /sys/class/net/"+dev+"/statistics/rx_packets")))
		if err != nil {
			u.t.Fatal(err)
		}
		return n
	}
	a, b := count("dwan0"), count("dwan1")
	f()
	return count("dwan0") - a, count("dwan1") - b
}

// TestTwoUplinks: two prefixes, two uplinks, three tables: traffic of each prefix leaves by its uplink,
// that of hosts behind the appliance and that of its own sockets; a socket without a source gets that of
// the first rule that conforms (seed S8).
func TestTwoUplinks(t *testing.T) {
	need(t, "tcpdump", "nc")
	u := twoUplinks(t, `  tables: [{id: 100, name: isp-a}, {id: 101, name: isp-b}]
  rules:
    - {priority: 100, from: "2001:db8:1::/64", lookup: isp-a}
    - {priority: 110, from: "2001:db8:2::/64", lookup: isp-b}
    - {priority: 120, from: "2001:db8:a::/64", lookup: isp-b, suppress_prefixlength: 0}
    - {priority: 130, from: "2001:db8:b::/64", lookup: isp-b}
  routes:
    - {to: default, via: "2001:db8:a::2", table: isp-a}
    - {to: default, via: "2001:db8:b::2", table: isp-b, advmss: 1340}
    - {to: "2001:db8:f::/48", via: "2001:db8:a::2", metric: 2000}
services: [{name: echo, proto: tcp, port: 7}]
`)
	const n = 40
	wants := func(what string, a, b int, wantA bool) {
		t.Helper()
		if wantA && (a < n || b > 10) || !wantA && (b < n || a > 10) {
			t.Errorf("%s: %d packets came by the first uplink, %d by the second", what, a, b)
		}
	}
	for src, first := range map[string]bool{"2001:db8:1::2": true, "2001:db8:2::2": false} {
		ping(t, u.home, farHost, 2, "-I "+src)
		a, b := u.arrived(func() { ping(t, u.home, farHost, n, "-I "+src) })
		wants("forwarded from "+src, a, b, first)
	}
	own := func(opts ...string) func() {
		args := append([]string{"ping", "-c", fmt.Sprint(n), "-i", "0.02"}, append(opts, farHost)...)
		return func() {
			if out := u.must(args...); !strings.Contains(out, " 0% packet loss") {
				t.Errorf("leveret %v:\n%s", args, out)
			}
		}
	}
	for _, c := range []struct {
		what string
		opts []string
		a    bool
	}{
		{"own, from the first prefix", []string{"-I", "2001:db8:1::1"}, true},
		{"own, from the second prefix", []string{"-I", "2001:db8:2::1"}, false},
		// Rules 100 to 120 do not conform: the source for their uplinks is none of theirs, or the route is suppressed. 130 does.
		{"own, without a source", nil, false},
	} {
		a, b := u.arrived(own(c.opts...))
		wants(c.what, a, b, c.a)
	}
	if got := u.must("-d", "route", "get", farHost); !strings.HasPrefix(got, "unicast "+farHost+" from 2001:db8:b::1 via 2001:db8:b::2 dev wan1 table isp-b") ||
		!strings.Contains(got, "rule 100: from 2001:db8:1::/64 lookup isp-a proto static -> default not used: source") {
		t.Errorf("route get:\n%s", got)
	}
	u.must("rule", "del", "priority", "130") // now table main has it
	a, b := u.arrived(own())
	wants("own, without rule 130", a, b, true)
	// A rule on what is sent chooses the source with the route, and holds for answers of a listener.
	for _, r := range []string{"90 ipproto ipv6-icmp", "91 ipproto udp dport 33434-33500", "92 ipproto tcp sport 7"} {
		u.must(append([]string{"rule", "add", "lookup", "isp-b", "priority"}, strings.Fields(r)...)...)
	}
	a, b = u.arrived(own())
	wants("own, by the protocol", a, b, false)
	seen := func(filter string, do func()) string { // who sends it, and by which link it arrives
		sh(t, "ip netns exec "+u.far+" sh -c 'timeout 10 tcpdump -i any -nn -c 1 --immediate-mode -l \""+filter+"\" > /tmp/"+u.far+".seen 2> /tmp/"+u.far+".ready & true'")
		t.Cleanup(func() { _, _ = try("rm -f /tmp/" + u.far + ".seen /tmp/" + u.far + ".ready") })
		eventually(t, "tcpdump", 5*time.Second, func() bool { return strings.Contains(sh(t, "cat /tmp/"+u.far+".ready"), "listening on") })
		do()
		out := ""
		eventually(t, filter, 5*time.Second, func() bool { out = sh(t, "cat /tmp/"+u.far+".seen"); return strings.Contains(out, "IP6") })
		return out
	}
	if got := seen("udp dst portrange 33434-33500", func() { u.must("traceroute", farHost) }); !strings.Contains(got, "dwan1") || !strings.Contains(got, "IP6 2001:db8:b::1.") {
		t.Errorf("traceroute, by protocol and port: %s", got)
	}
	if got := seen("tcp src port 7 and ip6[53] & 2 != 0", func() {
		if out := in(t, u.far, "bash -c 'echo hello | timeout 5 nc -6 -q 1 -s "+farHost+" 2001:db8:1::1 7'"); !strings.Contains(out, "hello") {
			t.Errorf("echo answers %q", out)
		}
	}); !strings.Contains(got, "dwan1") || !strings.Contains(got, "IP6 2001:db8:1::1.7") || !strings.Contains(got, "mss 1340,") {
		t.Errorf("SYN-ACK, by the port: %s", got)
	}
}

// TestFlowsOverTwoPaths: 32 streams use both paths, one stream keeps to one and is never reordered.
func TestFlowsOverTwoPaths(t *testing.T) {
	need(t, "iperf3")
	u := twoUplinks(t, `  routes:
    - {to: default, nexthops: [{via: "2001:db8:a::2", dev: wan0}, {via: "2001:db8:b::2", dev: wan1}]}
`)
	ping(t, u.home, farHost, 2, "")
	sh(t, "ip netns exec "+u.far+" iperf3 -s -B "+farHost+" -D --pidfile /tmp/"+u.far+".pid")
	t.Cleanup(func() { _, _ = try("kill $(tr -d '\\0' < /tmp/" + u.far + ".pid); rm -f /tmp/" + u.far + ".pid") })
	eventually(t, "iperf3", 5*time.Second, func() bool {
		out, _ := try("ip netns exec " + u.far + " ss -6ltn")
		return strings.Contains(out, ":5201")
	})
	client := func(opts string) string {
		return in(t, u.home, "iperf3 -6 -c "+farHost+" -t "+seconds(1, 10)+" "+opts)
	}
	a, b := u.arrived(func() { client("-P 32 -b 2M") })
	if a < 100 || b < 100 {
		t.Errorf("32 streams: %d packets by one path, %d by the other", a, b)
	}
	var out string
	a, b = u.arrived(func() { out = client("-u -b 50M -l 1000") })
	if min(a, b) > 60 || max(a, b) < 1000 { // the control connection may take the other path
		t.Errorf("one stream: %d packets by one path, %d by the other", a, b)
	}
	if strings.Contains(out, "OUT OF ORDER") || strings.Contains(out, "out-of-order") {
		t.Errorf("reordered:\n%s", out)
	}
}
