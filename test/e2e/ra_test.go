package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lan is one Ethernet with a namespace for each name on it, the device of each being e0. Of names that
// begin with "lvt" the kernel's IPv6 is off: there Leveret attaches.
func lan(t *testing.T, names ...string) map[string]string {
	t.Helper()
	bridge := ns(t)
	in(t, bridge, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	sh(t, "ip -n "+bridge+" link add br0 type bridge mcast_snooping 0; ip -n "+bridge+" link set br0 up")
	at := map[string]string{}
	for i, name := range names {
		at[name] = ns(t)
		plug(t, at[name], "e0", bridge, fmt.Sprintf("p%d", i), strings.HasPrefix(name, "lvt"))
	}
	return at
}

// plug puts a device of a namespace into a bridge.
func plug(t *testing.T, where, dev, bridge, port string, ours bool) {
	t.Helper()
	if ours {
		in(t, where, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	} else {
		in(t, where, "sysctl -qw net.ipv6.conf.default.accept_ra_rt_info_max_plen=64")
	}
	sh(t, fmt.Sprintf("ip -n %s link add %s type veth peer name %s netns %s", where, dev, port, bridge))
	sh(t, fmt.Sprintf("ip -n %s link set %s master br0 up; ip -n %s link set %s up", bridge, port, where, dev))
}

// text runs a command in a namespace and returns what it prints, whatever its exit code.
func text(ns, cmd string) string {
	out, _ := try("ip netns exec " + ns + " " + cmd)
	return out
}

const weAdvertise = `
    router_advertisement:
      adv_send_advertisements: true
      max_rtr_adv_interval: 10s
      min_rtr_adv_interval: 3s
      adv_link_mtu: 1400
      adv_cur_hop_limit: 33
      adv_default_lifetime: 1800s
      adv_default_preference: high
      adv_other_config_flag: true
      adv_reachable_time: 20s
      adv_retrans_timer: 2s
      prefixes: [{prefix: "2001:db8:1::/64", adv_valid_lifetime: 7200s, adv_preferred_lifetime: 3600s}]
      routes: [{prefix: "2001:db8:f::/48", adv_route_preference: low, adv_route_lifetime: 600s}]
      rdnss: [{servers: ["2001:db8:1::53"], lifetime: 1200s}]
      dnssl: [{domains: [corp.example], lifetime: 1200s}]
`

// TestKernelTakesOurAdvertisements: a Linux host takes from us what we were told to advertise, and follows
// a redirect of ours.
func TestKernelTakesOurAdvertisements(t *testing.T) {
	need(t, "rdisc6")
	at := lan(t, "lvt", "host", "other")
	sh(t, "ip -n "+at["other"]+" -6 addr add fe80::2/64 dev e0 nodad; ip -n "+at["other"]+" -6 addr add 2001:db8:9::9/128 dev lo")
	a := start(t, `
links:
  - name: lan0
    kind: af_packet
    host_device: e0
    netns: `+at["lvt"]+`
    link_local: "fe80::1"
    addresses: ["2001:db8:1::1/64"]`+weAdvertise+`
routing: {routes: [{to: "2001:db8:9::/64", via: "fe80::2", dev: lan0}]}
`)
	host := at["host"]
	eventually(t, "an address", 20*time.Second, func() bool {
		out := text(host, "ip -6 addr show dev e0 scope global")
		return strings.Contains(out, "2001:db8:1:") && !strings.Contains(out, "tentative")
	})
	var addrs []struct {
		AddrInfo []struct {
			Scope               string
			Dynamic, MngTmpAddr bool
			PrefixLen           int
			ValidLifeTime       int `json:"valid_life_time"`
			PreferredLifeTime   int `json:"preferred_life_time"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(in(t, host, "ip -6 -j addr show dev e0 scope global")), &addrs); err != nil {
		t.Fatal(err)
	}
	if x := addrs[0].AddrInfo[0]; x.PrefixLen != 64 || !x.Dynamic || x.ValidLifeTime < 7200-15 || x.ValidLifeTime > 7200 || x.PreferredLifeTime < 3600-15 || x.PreferredLifeTime > 3600 {
		t.Errorf("address %+v", x)
	}
	routes := in(t, host, "ip -6 route")
	for _, want := range []string{
		`default via fe80::1 dev e0 proto ra metric 1024 expires 1[78]\d\dsec mtu 1400 hoplimit 33 pref high`,
		`2001:db8:1::/64 dev e0 proto kernel metric 256 expires 7[12]\d\dsec pref medium`,
		`2001:db8:f::/48 via fe80::1 dev e0 proto ra metric 1024 expires 5\d\dsec pref low`,
	} {
		if !regexp.MustCompile(want).MatchString(routes) {
			t.Errorf("no route like %s in\n%s", want, routes)
		}
	}
	for key, want := range map[string]string{"conf/e0/mtu": "1400", "neigh/e0/base_reachable_time_ms": "20000", "neigh/e0/retrans_time_ms": "2000"} {
		if got := strings.TrimSpace(in(t, host, "cat /proc/sys/net/ipv6/"+key)); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	seen := text(host, "rdisc6 -1 -v e0")
	for _, want := range []string{
		`Hop limit +: +33`, `Stateful address conf. +: +No`, `Stateful other conf. +: +Yes`, `Router preference +: +high`, `Router lifetime +: +1800`,
		`Reachable time +: +20000`, `Retransmit time +: +2000`, `Prefix +: 2001:db8:1::/64`, `On-link +: +Yes`, `Autonomous address conf.: +Yes`,
		`Valid time +: +7200`, `Pref. time +: +3600`, `MTU +: +1400`, `Route +: 2001:db8:f::/48`, `Route preference +: +low`, `Route lifetime +: +600`,
		`Recursive DNS server +: 2001:db8:1::53`, `DNS server lifetime +: +1200`, `DNS search list +: corp.example`, `from fe80::1`,
	} {
		if !regexp.MustCompile(want).MatchString(seen) {
			t.Errorf("rdisc6 does not say %s:\n%s", want, seen)
		}
	}
	// 2001:db8:9::9 is behind another host on the link: the kernel is redirected to it.
	ping(t, host, "2001:db8:9::9", 3, "")
	// What the kernel takes from the Redirect is the router it names: it is known as one, with its address.
	// Whether the route follows depends on the kernel: 6.18.44 does not follow another kernel's Redirects.
	eventually(t, "the redirect's target", 5*time.Second, func() bool {
		_, _ = try("ip netns exec " + host + " ping -6 -c 1 -W 1 2001:db8:9::9")
		out := lineOf(text(host, "ip -6 neigh"), "fe80::2 ")
		return strings.Contains(out, "lladdr") && strings.Contains(out, "router")
	})
	if n := strings.Fields(lineOf(in(t, host, "cat /proc/net/snmp6"), "Icmp6InRedirects")); n[1] == "0" {
		t.Error("the kernel counts no redirect")
	}
	a.stop()
	eventually(t, "the default route's end", 3*time.Second, func() bool { return !strings.Contains(text(host, "ip -6 route"), "default via fe80::1") })
}

// radvd runs radvd in a namespace until the test ends or stop is called, which kills it: no final
// advertisement is sent.
func radvd(t *testing.T, ns, config string) (stop func()) {
	t.Helper()
	dir := tempDir(t)
	file := filepath.Join(dir, "radvd.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	in(t, ns, "sysctl -qw net.ipv6.conf.all.forwarding=1") // radvd asks for it
	cmd := exec.Command("ip", "netns", "exec", ns, "radvd", "-n", "-m", "stderr", "-C", file, "-p", filepath.Join(dir, "pid"))
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
			if lines := strings.Split(log.String(), "\n"); t.Failed() { // another's flood makes it say much
				t.Logf("radvd: %s", strings.Join(lines[:min(len(lines), 20)], "\n"))
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

type learnedRouter struct {
	Addr, Preference, State, Why string
	Lifetime                     int
	Used                         bool
}

// routersOf returns what `ra show` knows of the routers of a link.
func (a *appliance) routersOf(link string) []learnedRouter {
	var list []struct {
		Learned struct{ Routers []learnedRouter }
	}
	a.get(&list, "ra", "show", link)
	if len(list) == 0 {
		return nil
	}
	return list[0].Learned.Routers
}

// usedRouter names the one that is used; "" if none or several are.
func (a *appliance) usedRouter(link string) string {
	used := ""
	for _, r := range a.routersOf(link) {
		if r.Used && used != "" {
			return ""
		}
		if r.Used {
			used = r.Addr
		}
	}
	return used
}

// TestHostOfRadvd: on a link with two radvd the appliance takes addresses, routes and parameters, leaves
// the preferred router when that falls silent, and returns to it.
func TestHostOfRadvd(t *testing.T) {
	need(t, "radvd")
	at := lan(t, "lvt", "r1", "r2")
	config := func(pref, prefix string) string {
		return fmt.Sprintf(`interface e0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 1800; AdvDefaultPreference %s;
  AdvLinkMTU 1400; AdvCurHopLimit 33; AdvReachableTime 20000; AdvRetransTimer 500;
  prefix %s { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };
  route 2001:db8:f::/48 { AdvRouteLifetime 600; AdvRoutePreference low; };
  RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 1200; }; DNSSL corp.example { AdvDNSSLLifetime 1200; };
};`, pref, prefix)
	}
	for i, r := range []string{"r1", "r2"} {
		sh(t, fmt.Sprintf("ip -n %s -6 addr add fe80::%d/64 dev e0 nodad; ip -n %s -6 addr add 2001:db8:%d::1/64 dev e0 nodad; ip -n %s -6 addr add 2001:db8:9::9/128 dev lo",
			at[r], i+1, at[r], i+1, at[r]))
		// Each knows the way to the other's prefix: it is the same link.
		sh(t, fmt.Sprintf("ip -n %s -6 route add 2001:db8:%d::/64 dev e0", at[r], 2-i))
	}
	radvd(t, at["r1"], config("medium", "2001:db8:1::/64"))
	stop2 := radvd(t, at["r2"], config("high", "2001:db8:2::/64"))
	a := start(t, `
links:
  - name: wan0
    kind: af_packet
    host_device: e0
    netns: `+at["lvt"]+`
    forwarding: false
    nud: {delay_first_probe_time: 1s}
    host: {stable_privacy: false}
`)
	eventually(t, "both routers", 15*time.Second, func() bool { return len(a.routersOf("wan0")) == 2 })
	eventually(t, "two addresses", 10*time.Second, func() bool {
		out := a.must("addr", "show", "scope", "global")
		return strings.Count(out, "dynamic") == 2 && !strings.Contains(out, "tentative")
	})
	for _, c := range []struct{ args, want string }{
		{"-o addr show scope global", `inet6 2001:db8:1:[0-9a-f:]+/64 scope global .*dynamic mngtmpaddr .*valid_lft 7[12]\d\dsec preferred_lft 3[56]\d\dsec`},
		{"route", `(?m)^default via fe80::2 dev wan0 proto ra metric 1024 expires 1[78]\d\dsec .*pref high$`},
		{"route", `(?m)^default via fe80::1 dev wan0 proto ra metric 1024 expires 1[78]\d\dsec .*pref medium$`},
		{"route", `(?m)^2001:db8:f::/48 via fe80::\d dev wan0 proto ra metric 1024 expires [56]\d\dsec .*pref low$`},
		{"route", `(?m)^2001:db8:2::/64 dev wan0 proto kernel metric 256 expires 7[12]\d\dsec .*pref medium$`},
		{"link show wan0", `mtu6 1400`},
		{"ra", `rdnss 2001:db8:1::53 lifetime 1[12]\d\dsec`},
	} {
		if out := a.must(strings.Fields(c.args)...); !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("leveret %s: nothing like %s in\n%s", c.args, c.want, out)
		}
	}
	if got := a.usedRouter("wan0"); got != "fe80::2" {
		t.Fatalf("uses %q: %+v", got, a.routersOf("wan0"))
	}
	file, err := os.ReadFile(filepath.Join(a.dir, "resolv.conf"))
	if err != nil || !strings.Contains(string(file), "nameserver 2001:db8:1::53\nsearch corp.example\n") {
		t.Errorf("resolv.conf: %v\n%s", err, file)
	}
	// The preferred one falls silent: whoever sends through it finds out.
	stop2()
	sh(t, "ip -n "+at["r2"]+" link set e0 down")
	src := ownAddress(t, a, "2001:db8:2:") // it is the one that goes through the router of that prefix (RFC 8028)
	eventually(t, "the other router", 30*time.Second, func() bool {
		_, _ = a.cli("ping", "-c", "1", "-W", "1", "-I", src, "2001:db8:9::9")
		return a.usedRouter("wan0") == "fe80::1"
	})
	if out := a.must("ping", "-c", "3", "-i", "0.2", "-I", src, "2001:db8:9::9"); !strings.Contains(out, "3 received") {
		t.Errorf("through the other router:\n%s", out)
	}
	sh(t, "ip -n "+at["r2"]+" link set e0 up; ip -n "+at["r2"]+" -6 addr add fe80::2/64 dev e0 nodad")
	radvd(t, at["r2"], config("high", "2001:db8:2::/64"))
	eventually(t, "the return", 20*time.Second, func() bool {
		_, _ = a.cli("ping", "-c", "1", "-W", "1", "-I", src, "2001:db8:9::9")
		return a.usedRouter("wan0") == "fe80::2"
	})
}

// ownAddress returns the appliance's address that begins so.
func ownAddress(t *testing.T, a *appliance, begin string) string {
	t.Helper()
	var list []struct {
		AddrInfo []struct{ Local string } `json:"addr_info"`
	}
	a.get(&list, "addr")
	for _, l := range list {
		for _, x := range l.AddrInfo {
			if strings.HasPrefix(x.Local, begin) {
				return x.Local
			}
		}
	}
	t.Fatalf("no address %s...", begin)
	return ""
}

// TestAdvertisementsEqualRadvds: told the same, radvd and Leveret advertise the same, field by field, to
// radvdump and to rdisc6.
func TestAdvertisementsEqualRadvds(t *testing.T) {
	need(t, "radvd", "radvdump", "rdisc6")
	ours, theirs := lan(t, "lvt", "host"), lan(t, "router", "host")
	start(t, `
links:
  - name: lan0
    kind: af_packet
    host_device: e0
    netns: `+ours["lvt"]+`
    link_local: "fe80::1"
    mac: "02:00:00:00:00:01"
    addresses: ["2001:db8:1::1/64"]`+weAdvertise)
	sh(t, "ip -n "+theirs["router"]+" link set e0 address 02:00:00:00:00:01; ip -n "+theirs["router"]+" -6 addr flush dev e0; ip -n "+theirs["router"]+" -6 addr add fe80::1/64 dev e0 nodad")
	radvd(t, theirs["router"], `interface e0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 10; AdvDefaultLifetime 1800; AdvDefaultPreference high;
  AdvLinkMTU 1400; AdvCurHopLimit 33; AdvReachableTime 20000; AdvRetransTimer 2000; AdvOtherConfigFlag on;
  prefix 2001:db8:1::/64 { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };
  route 2001:db8:f::/48 { AdvRouteLifetime 600; AdvRoutePreference low; };
  RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 1200; }; DNSSL corp.example { AdvDNSSLLifetime 1200; };
};`)
	for _, how := range []struct {
		cmd  string
		want string // something that has to be there
	}{
		{"timeout 12 radvdump", "AdvDefaultPreference high"},
		{"rdisc6 -1 e0", "Router preference"},
	} {
		var said [2][]string
		for i, host := range []string{ours["host"], theirs["host"]} {
			eventually(t, how.cmd, 40*time.Second, func() bool {
				said[i] = essence(text(host, how.cmd))
				return slices.ContainsFunc(said[i], func(l string) bool { return strings.Contains(l, how.want) })
			})
		}
		if !slices.Equal(said[0], said[1]) {
			t.Errorf("%s: Leveret's is\n%s\nradvd's is\n%s", how.cmd, strings.Join(said[0], "\n"), strings.Join(said[1], "\n"))
		}
	}
}

// essence is the first advertisement of what a tool printed: without comments and empty lines, its lines
// in one order, for options may come in any.
func essence(out string) []string {
	var lines []string
	begun := false
	for _, l := range strings.Split(out, "\n") {
		l = strings.Join(strings.Fields(l), " ")
		switch {
		case strings.HasPrefix(l, "#") || l == "" || strings.HasPrefix(l, "Soliciting"):
			continue
		case strings.HasPrefix(l, "interface ") && begun:
			slices.Sort(lines)
			return lines
		}
		begun = true
		lines = append(lines, l)
	}
	slices.Sort(lines)
	return lines
}

// TestHostAndRouterAtOnce: a host on one link and a router on another, with nothing set in the host's
// kernel: what is behind the one reaches what is behind the other.
func TestHostAndRouterAtOnce(t *testing.T) {
	need(t, "radvd")
	up, down := lan(t, "lvt", "isp"), lan(t, "lvt", "host")
	sh(t, "ip -n "+up["isp"]+" -6 addr add fe80::1/64 dev e0 nodad; ip -n "+up["isp"]+" -6 addr add 2001:db8:9::9/128 dev lo")
	radvd(t, up["isp"], "interface e0 { AdvSendAdvert on; MaxRtrAdvInterval 4; MinRtrAdvInterval 3; prefix 2001:db8:1::/64 {}; };")
	a := start(t, `
links:
  - {name: wan0, kind: af_packet, host_device: e0, netns: `+up["lvt"]+`, link_local: "fe80::2", host: {accept_ra: always}}
  - name: lan0
    kind: af_packet
    host_device: e0
    netns: `+down["lvt"]+`
    addresses: ["2001:db8:100::1/64"]
    router_advertisement: {adv_send_advertisements: true, max_rtr_adv_interval: 4s, min_rtr_adv_interval: 3s, adv_default_lifetime: 600s, prefixes: [{prefix: "2001:db8:100::/64"}]}
`)
	sh(t, "ip -n "+up["isp"]+" -6 route add 2001:db8:100::/64 via fe80::2 dev e0")
	eventually(t, "a default route", 10*time.Second, func() bool { return a.usedRouter("wan0") == "fe80::1" })
	eventually(t, "the host's address", 10*time.Second, func() bool {
		out := text(down["host"], "ip -6 addr show dev e0 scope global")
		return strings.Contains(out, "2001:db8:100:") && !strings.Contains(out, "tentative")
	})
	eventually(t, "the host's default route", 10*time.Second, func() bool { return strings.Contains(text(down["host"], "ip -6 route"), "default via") })
	ping(t, down["host"], "2001:db8:9::9", 5, "")
	for _, n := range []string{up["lvt"], down["lvt"]} {
		if got := strings.TrimSpace(in(t, n, "cat /proc/sys/net/ipv6/conf/all/forwarding")); got != "0" {
			t.Errorf("the kernel forwards in %s", n)
		}
	}
}
