package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// subject is one router under measurement.
type subject struct {
	name string
	tun  bool
	// offload: the hosts' segmentation offloads stay on; a router that cannot carry superpackets
	// is measured without, or its TCP would die.
	offload bool
	start   func(s subject, dir string) error // nil: the kernel forwards
	routes  int                               // more routes (see routePrefix), one of them for each packet
	sources int                               // packets come from that many prefixes (see sourcePrefix)
	// tables: the routes are in the last of that many tables (see tableOf), and each of the others has a
	// route that no packet takes; 0 = in main.
	tables int
	rules  []string // of the configuration, in the order of their priority
	// Not 0: these SAs and policies, the latter spread over routes, which are one in the table then.
	sas, policies int
	// tunnel starts both ends of a tunnel, which is measured as such; the fields above but name are not its.
	tunnel func([2]end) error
	// ownOuter: its ends have the outer addresses themselves, not the kernel.
	ownOuter bool
}

var subjects = []subject{
	{name: "kernel", offload: true},
	{name: "leveret-packet", offload: true, start: leveret("af_packet", true)},
	{name: "leveret-packet-plain", start: leveret("af_packet", false)},
	{name: "leveret-tun", tun: true, offload: true, start: leveret("tun", true)},
	{name: "netstack-packet", start: netstack(false)},
	{name: "netstack-tun", tun: true, start: netstack(true)},
	{name: "leveret-10-routes", routes: 10, start: leveret("af_packet", false)},
	{name: "leveret-1M-routes", routes: 1000000, start: leveret("af_packet", false)},
	// Two pairs: the same packets without rules and with; the same kind of rules and routes, few and many.
	{name: "leveret-no-rules", routes: 10, sources: 10000, start: leveret("af_packet", false)},
	{name: "leveret-10-rules-3-tables", routes: 10, sources: 10000, tables: 3, rules: mixedRules, start: leveret("af_packet", false)},
	{name: "leveret-10-rules-10-routes", routes: 10, sources: 10, tables: 1, rules: sourceRules(10), start: leveret("af_packet", false)},
	{name: "leveret-10k-rules-1M-routes", routes: 1000000, sources: 10000, tables: 1, rules: sourceRules(10000), start: leveret("af_packet", false)},
	// Packets into tunnels, ESP in UDP, for the sink to count them.
	{name: "leveret-1-sa", routes: 100000, sas: 1, policies: 1, start: leveret("af_packet", false)},
	{name: "leveret-10k-sas", routes: 10000, sas: 10000, policies: 10000, start: leveret("af_packet", false)},
	{name: "leveret-100k-policies", routes: 100000, sas: 1, policies: 100000, start: leveret("af_packet", false)},
	{name: "leveret-10k-sas-100k-policies", routes: 100000, sas: 10000, policies: 100000, start: leveret("af_packet", false)},
	{name: "esp-udp", tunnel: leveretTunnel(plainBinary, aesGCM, true), ownOuter: true},
	{name: "esp-udp-null", tunnel: leveretTunnel(nullBinary, nullCipher, true), ownOuter: true},
	{name: "esp-native", tunnel: leveretTunnel(plainBinary, aesGCM, false), ownOuter: true},
	{name: "wireguard-go", tunnel: wireguard},
	{name: "strongswan-libipsec", tunnel: strongswan},
}

// routePrefix is route i of a large table.
func routePrefix(i int) string { return fmt.Sprintf("2001:%x:%x::/48", 0x1000+i>>16, i&0xffff) }

// sourcePrefix is where packets of source i come from.
func sourcePrefix(i int) string { return fmt.Sprintf("fd00:0:0:%x::/64", i) }

// tableOf is the number of a table of rules, from 1 on.
func tableOf(i int) int { return 100 + i }

// mixedRules are compared with each packet one by one. The third and the seventh are for all packets of the
// test, too, but their tables have no route for them: it is the last one that has.
var mixedRules = []string{
	"from: \"2001:db8:a::/64\", lookup: \"101\"",
	"fwmark: \"1\", lookup: \"101\"",
	"iif: gen, lookup: \"101\"",
	"dsfield: \"0xb8\", lookup: \"102\"",
	"ipproto: tcp, dport: \"443\", lookup: \"102\"",
	"to: \"2001:db8::/32\", lookup: \"102\"",
	"ipproto: udp, dport: \"9\", lookup: \"102\"",
	"iif: sink, lookup: \"103\"",
	"from: \"fd00:1::/32\", lookup: \"103\"",
	"from: \"fd00::/48\", lookup: \"103\"",
}

// sourceRules are n rules of one shape: each has a source of its own.
func sourceRules(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("from: \"%s\", lookup: \"%d\"", sourcePrefix(i), tableOf(1))
	}
	return list
}

// routing writes the subject's rules and routes in the words of the configuration.
func (s *subject) routing(y *strings.Builder) {
	if s.routes == 0 {
		return
	}
	y.WriteString("routing:\n  rules:\n")
	for i, r := range s.rules {
		fmt.Fprintf(y, "    - {priority: %d, %s}\n", 1000+i, r)
	}
	y.WriteString("  routes:\n")
	for i := 1; i < s.tables; i++ {
		fmt.Fprintf(y, "    - {to: \"2001:db8:ffff::/48\", via: \"%s\", dev: sink, table: \"%d\"}\n", nobody, tableOf(i))
	}
	table := "main"
	if s.tables > 0 {
		table = fmt.Sprint(tableOf(s.tables))
	}
	if s.sas > 0 {
		fmt.Fprintf(y, "    - {to: \"2001:1000::/20\", via: \"%s\", dev: sink}\n    - {to: \"%s/64\", via: \"%s\", dev: sink}\n", nobody, saEnd(0), nobody)
		s.security(y)
		return
	}
	for i := range s.routes {
		fmt.Fprintf(y, "    - {to: \"%s\", via: \"%s\", dev: sink, table: \"%s\"}\n", routePrefix(i), nobody, table)
	}
}

// saEnd is the other end of SA i.
func saEnd(i int) string { return fmt.Sprintf("2001:db8:e::%x:1", i) }

// security writes the subject's SAs and policies: one policy for all that packets go to, or one for each prefix.
func (s *subject) security(y *strings.Builder) {
	y.WriteString("ipsec:\n  states:\n")
	for i := range s.sas {
		fmt.Fprintf(y, "    - {src: \"%s\", dst: \"%s\", proto: esp, spi: %d, reqid: %d, mode: tunnel, %s, encap: {type: espinudp, sport: 4500, dport: 4500}}\n",
			sinkRtr, saEnd(i), 0x1000+i, 1+i, aesGCM)
	}
	y.WriteString("  policies:\n")
	for i := range s.policies {
		to := "2001:1000::/20"
		if s.policies > 1 {
			to = routePrefix(i)
		}
		fmt.Fprintf(y, "    - {name: p%d, dir: out, priority: 10, action: protect, selector: {dst: \"%s\"}, templates: [{src: \"%s\", dst: \"%s\", proto: esp, mode: tunnel, reqid: %d}]}\n",
			i, to, sinkRtr, saEnd(i%s.sas), 1+i%s.sas)
	}
}

// leveret starts the binary.
func leveret(kind string, offload bool) func(subject, string) error {
	return func(s subject, dir string) error {
		var y strings.Builder
		fmt.Fprintf(&y, "version: 1\nsystem: {run_dir: %s, state_dir: %s, log: {format: console}}\nlinks:\n", dir, dir)
		for _, l := range [][4]string{{"gen", nsGen, "g0", genRtr}, {"sink", nsSink, "s0", sinkRtr}} {
			dev, ns := l[2], l[1]
			if kind == "af_packet" {
				dev, ns = map[string]string{"gen": "r0", "sink": "r1"}[l[0]], nsRouter
			}
			fmt.Fprintf(&y, "  - {name: %s, kind: %s, host_device: %s, netns: %s, offload: %v, addresses: [\"%s/64\"], dad: {transmits: 0}}\n", l[0], kind, dev, ns, offload, l[3])
		}
		s.routing(&y)
		if err := runLeveret(plainBinary, dir, y.String()); err != nil {
			return err
		}
		if kind == "af_packet" {
			return client(dir, "neigh", "add", nobody, "lladdr", nobodyMAC, "dev", "sink")
		}
		return nil
	}
}

// plainBinary is Leveret as `make build` leaves it.
const plainBinary = "bin/leveret"

// runLeveret starts a binary on a configuration and waits until it answers.
func runLeveret(binary, dir, yaml string) error {
	file := filepath.Join(dir, "bench.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(binary, "run", "-c", file)
	log := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := start(cmd); err != nil {
		return err
	}
	for end := time.Now().Add(120 * time.Second); client(dir, "health") != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("leveret is not ready:\n%s", log)
		}
	}
	return nil
}

// client asks the Leveret of a run directory for something.
func client(dir string, args ...string) error {
	out, err := exec.Command(plainBinary, append([]string{"--socket", dir + "/api.sock"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("leveret %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// netstack starts the minimal forwarder on gVisor: this program again.
func netstack(tun bool) func(subject, string) error {
	return func(subject, string) error {
		devs := []string{nsRouter + ":r0", nsRouter + ":r1"}
		if tun {
			devs = []string{nsGen + ":g0", nsSink + ":s0"}
		}
		cmd := exec.Command("/proc/self/exe", fmt.Sprintf("-netstack=%v", tun), devs[0], devs[1])
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		cmd.Stderr = os.Stderr
		if err := start(cmd); err != nil {
			return err
		}
		ready := make([]byte, 6)
		if _, err := out.Read(ready); err != nil {
			return fmt.Errorf("netstack forwarder: %w", err)
		}
		return nil
	}
}

// kernelRouter makes the router's namespace forward by itself.
func kernelRouter() error {
	for _, c := range []string{
		"ip netns exec " + nsRouter + " sysctl -qw net.ipv6.conf.r0.disable_ipv6=0 net.ipv6.conf.r1.disable_ipv6=0 net.ipv6.conf.all.forwarding=1",
		"ip -n " + nsRouter + " -6 addr add " + genRtr + "/64 dev r0 nodad", "ip -n " + nsRouter + " -6 addr add " + sinkRtr + "/64 dev r1 nodad",
		"ip -n " + nsRouter + " -6 neigh add " + nobody + " lladdr " + nobodyMAC + " dev r1",
	} {
		if err := run(c); err != nil {
			return err
		}
	}
	return nil
}

// running are the processes under measurement.
var running struct {
	sync.Mutex
	list []*exec.Cmd
}

// start starts one.
func start(cmd *exec.Cmd) error {
	running.Lock()
	defer running.Unlock()
	err := cmd.Start()
	if err == nil {
		running.list = append(running.list, cmd)
	}
	return err
}

// started returns their process IDs.
func started() (pids []int) {
	running.Lock()
	defer running.Unlock()
	for _, c := range running.list {
		pids = append(pids, c.Process.Pid)
	}
	return pids
}

// stopAll asks them to end and waits until they have.
func stopAll() {
	running.Lock()
	defer running.Unlock()
	for _, c := range running.list {
		_ = c.Process.Signal(syscall.SIGTERM)
	}
	for _, c := range running.list {
		late := time.AfterFunc(10*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait() // how it ends says nothing about what was measured
		late.Stop()
	}
	running.list = nil
}

// with runs f with the subject's router between the hosts; pid is 0 for the kernel's.
func (s subject) with(f func(pid int) error) (err error) {
	defer teardown()
	if err := setup(s.tun, s.offload); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "lvtb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer stopAll()
	pid := 0
	if s.start == nil {
		err = kernelRouter()
	} else if err = s.start(s, dir); err == nil {
		pid = started()[0]
	}
	if err == nil {
		err = hosts()
	}
	if err != nil {
		return err
	}
	return f(pid)
}
