package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// floods are what one on the link can do to a host, against the router R or its own invention, from the
// device e0; H is the host's link-local address.
var floods = []string{
	"atk6-flood_router6 e0", "atk6-flood_router26 e0", "atk6-flood_advertise6 e0 H", "atk6-flood_solicitate6 e0 H", "atk6-flood_rs6 e0",
	"atk6-flood_redir6 e0 H", "atk6-fake_router6 e0 2001:db8:bad::/64", "atk6-fake_router26 -A 2001:db8:bad::/64 e0",
	"atk6-fake_advertise6 e0 2001:db8:1::77 ff02::1", "atk6-parasite6 e0",
}

var lossOf = regexp.MustCompile(`[0-9.]+% packet loss`)

// TestFloodedHost: on a link where somebody floods with advertisements and solicitations of routers and
// neighbors, a host keeps what it has from the real router, its tables keep their bounds and its memory its
// size, and conversations go on.
func TestFloodedHost(t *testing.T) {
	need(t, "radvd", "atk6-flood_router26")
	at := lan(t, "lvt", "router", "evil")
	sh(t, "ip -n "+at["router"]+" -6 addr add fe80::1/64 dev e0 nodad; ip -n "+at["router"]+" -6 addr add 2001:db8:9::9/128 dev lo")
	// radvd itself sends nothing for as long as the flood keeps it busy: what it advertises has to outlive that.
	radvd(t, at["router"], "interface e0 { AdvSendAdvert on; MaxRtrAdvInterval 4; MinRtrAdvInterval 3; AdvDefaultLifetime 1800; AdvDefaultPreference high; prefix 2001:db8:1::/64 {}; route 2001:db8:f::/48 { AdvRouteLifetime 1800; }; };")
	a := start(t, `
links:
  - {name: wan0, kind: af_packet, host_device: e0, netns: `+at["lvt"]+`, forwarding: false, link_local: "fe80::77", host: {stable_privacy: false}}
`)
	eventually(t, "the router", 15*time.Second, func() bool { return a.usedRouter("wan0") == "fe80::1" })
	eventually(t, "an address", 10*time.Second, func() bool {
		out := a.must("addr", "show", "scope", "global")
		return strings.Contains(out, "2001:db8:1:") && !strings.Contains(out, "tentative")
	})
	src := ownAddress(t, a, "2001:db8:1:")
	sh(t, "ip -n "+at["router"]+" -6 route replace 2001:db8:1::/64 dev e0")
	resident := func() int {
		kb, err := strconv.Atoi(strings.Fields(sh(t, fmt.Sprintf("grep VmRSS /proc/%d/status", a.cmd.Process.Pid)))[1])
		if err != nil {
			t.Fatal(err)
		}
		return kb >> 10
	}
	a.must("ping", "-c", "2", "-i", "0.2", "-I", src, "2001:db8:9::9")
	before := resident()
	for _, tool := range floods {
		t.Run(strings.Fields(tool)[0], func(t *testing.T) {
			tx := func() int {
				n, err := strconv.Atoi(strings.TrimSpace(in(t, at["evil"], "cat /sys/class/net/e0/statistics/tx_packets")))
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			n := tx()
			if strings.HasPrefix(tool, "atk6-parasite6") { // it answers for those that are asked for
				ask := exec.Command("ip", "netns", "exec", at["router"], "ping", "-6", "-q", "-c", "3", "2001:db8:1::dead")
				if err := ask.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = ask.Wait() }()
			}
			cmd := strings.NewReplacer(" H", " fe80::77").Replace(tool)
			c := exec.Command("bash", "-c", fmt.Sprintf("exec timeout -k 1 %s ip netns exec %s %s </dev/null >/dev/null 2>&1", seconds(3, 30), at["evil"], cmd))
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			out := a.must("ping", "-c", seconds(20, 200), "-i", "0.1", "-W", "2", "-I", src, "2001:db8:9::9")
			_ = c.Wait()
			// Of some 100,000 packets a second the queues between the kernel's devices lose some, ours among them.
			var lost float64
			if _, err := fmt.Sscanf(lossOf.FindString(out), "%f%%", &lost); err != nil || lost > 1 {
				t.Errorf("ping through the router meanwhile:\n%s", out)
			}
			if sent := tx() - n; sent < 1 {
				t.Errorf("the tool sent %d packets: it attacked nobody", sent)
			}
			var real *learnedRouter
			list := a.routersOf("wan0")
			for i := range list {
				if list[i].Addr == "fe80::1" {
					real = &list[i]
				}
			}
			if real == nil || real.Lifetime == 0 || real.Preference != "high" || len(list) > 16 {
				t.Errorf("%d routers, the real one is %+v", len(list), real)
			}
			if routes := a.must("route"); !strings.Contains(routes, "2001:db8:f::/48 via fe80::1") || strings.Count(routes, "\n") > 400 {
				t.Errorf("%d routes, or the real router's is gone", strings.Count(routes, "\n"))
			}
			if got := ownAddress(t, a, "2001:db8:1:"); got != src {
				t.Errorf("the address is %s, was %s", got, src)
			}
			var neighbors []neigh
			if a.get(&neighbors, "neigh"); len(neighbors) > 4096 {
				t.Errorf("%d neighbors", len(neighbors))
			}
		})
	}
	if after := resident(); after > before+100 {
		t.Errorf("resident %d MiB before, %d MiB after", before, after)
	} else {
		t.Logf("resident %d MiB before, %d MiB after", before, after)
	}
}
