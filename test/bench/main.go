// Command bench compares Leveret with the kernel's forwarding and with a minimal forwarder on
// gVisor's netstack: CPU time per forwarded packet, and TCP throughput. Subjects are interleaved in
// shuffled rounds and medians compared, because a shared machine is never twice the same; what counts
// are ratios inside one run.
//
//	go run ./test/bench                       as root; bin/leveret must be built
//	go run ./test/bench -rounds 1 -dur 500ms  a smoke run
//	go run ./test/bench -subjects '*rules*'   what rules cost, and what many of them do
//	go run ./test/bench -subjects 'esp*,wireguard-go,strongswan-libipsec'   tunnels; test/bench/peers.sh first
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	rounds   = flag.Int("rounds", 5, "interleaved rounds")
	dur      = flag.Duration("dur", time.Second, "how long each subject is loaded in a round")
	rate     = flag.Int("rate", 0, "offered packets per second; 0 = as fast as it goes")
	only     = flag.String("subjects", "", "some subjects, with commas; * stands for any letters")
	jsonFile = flag.String("json", "", "write the result here, too")
	asNet    = flag.String("netstack", "", "(internal) be the netstack forwarder")
)

// result is what one subject came to: medians.
type result struct {
	Subject    string  `json:"subject"`
	NsPerPkt   float64 `json:"cpu_ns_per_packet"`
	Kpps       float64 `json:"kpps"`
	TCPGbit    float64 `json:"tcp_gbit_per_s"`
	pkt, rates []float64
	tcp        []float64
}

func main() {
	flag.Parse()
	if *asNet != "" {
		check(forwardWithNetstack(*asNet == "true", flag.Args()))
		return
	}
	if os.Geteuid() != 0 {
		check(fmt.Errorf("needs root: makes network namespaces"))
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, unix.SIGTERM)
	go func() { <-interrupted; stopAll(); teardown(); os.Exit(1) }()
	list := slices.DeleteFunc(slices.Clone(subjects), func(s subject) bool {
		return *only != "" && !slices.ContainsFunc(strings.Split(*only, ","), func(pattern string) bool {
			ok, err := path.Match(pattern, s.name)
			check(err)
			return ok
		})
	})
	if len(list) == 0 {
		check(fmt.Errorf("no subject is called %s", *only))
	}
	results := map[string]*result{}
	failed := false
	for round := range *rounds {
		order := rand.Perm(len(list))
		for _, i := range order {
			s := list[i]
			r := results[s.name]
			if r == nil {
				r = &result{Subject: s.name}
				results[s.name] = r
			}
			err := error(nil)
			if s.tunnel != nil {
				err = s.through(r)
			} else {
				err = s.with(func(pid int) error { return measure(s, pid, r) })
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "round %d, %s: %v\n", round+1, s.name, err)
				failed = true
			}
		}
	}
	report(list, results)
	if failed {
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measure loads one subject with small packets, then with one TCP stream.
func measure(s subject, pid int, r *result) error {
	var l2 []byte
	if !s.tun {
		mac := output(fmt.Sprintf("ip -n %s -6 neigh flush dev g0; ip netns exec %s ping -6 -c 1 -W 1 %s >/dev/null; ip -n %s -j neigh show %s | jq -r '.[0].lladdr'", nsGen, nsGen, genRtr, nsGen, genRtr))
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return fmt.Errorf("the router's link-layer address: %w", err)
		}
		l2 = append(append(append([]byte{}, hw...), 2, 0, 0, 0, 0, 1), 0x86, 0xdd)
	}
	idle(pid)
	snk, err := newSink(nsSink, "s0")
	if err != nil {
		return err
	}
	defer snk.close()
	gen, err := packetSocket(nsGen, "g0", 0)
	if err != nil {
		return err
	}
	defer unix.Close(gen)
	src, dst := netip.MustParseAddr(genAddr), netip.MustParseAddr(nobody)
	if s.routes > 0 {
		dst = netip.MustParsePrefix(routePrefix(0)).Addr().Next()
	}
	if s.sources > 0 {
		src = netip.MustParsePrefix(sourcePrefix(0)).Addr().Next()
	}
	ld := load{frames: frames(l2, 64, src, dst), l2: len(l2), routes: s.routes, sources: s.sources}
	if err := blast(gen, ld, *rate, *dur/5); err != nil { // warm
		return err
	}
	before, cpu := snk.settle(), processCPU(pid)
	if err := blast(gen, ld, *rate, *dur); err != nil {
		return err
	}
	inTime := snk.now() - before
	n := snk.settle() - before
	if n < 1000 {
		return fmt.Errorf("only %d packets came through", n)
	}
	r.rates = append(r.rates, float64(inTime)/dur.Seconds()/1000)
	if pid != 0 {
		r.pkt = append(r.pkt, float64(processCPU(pid)-cpu)/float64(n))
	}
	if s.routes > 0 {
		return nil
	}
	g, err := tcp()
	if err == nil {
		r.tcp = append(r.tcp, g)
	}
	return err
}

// seconds is how long a TCP stream is.
func seconds() float64 { return max(dur.Seconds(), 1) }

// tcp returns the Gbit/s of one stream through the router; args are more of the client's.
func tcp(args ...string) (float64, error) {
	server := exec.Command("ip", "netns", "exec", nsSink, "iperf3", "-s", "-1")
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	for range 100 {
		if strings.Contains(output("ip netns exec "+nsSink+" ss -6ltn"), ":5201") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	var r struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
		Error string
	}
	out := output(fmt.Sprintf("timeout 30 ip netns exec %s iperf3 -6 -J -c %s -t %.1f %s", nsGen, sinkAddr, seconds(), strings.Join(args, " ")))
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return 0, fmt.Errorf("iperf3: %w", err)
	}
	if r.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", r.Error)
	}
	return r.End.Received.Bits / 1e9, nil
}

// idle waits until a router that has just started has done what a start brings with it, at most 30 s.
func idle(pids ...int) {
	for range 60 {
		before := processCPU(pids...)
		time.Sleep(500 * time.Millisecond)
		if processCPU(pids...)-before < int64(25*time.Millisecond) {
			return
		}
	}
}

// processCPU returns the run time of the threads of processes in nanoseconds: user, system, and the
// softirq work on top of it.
func processCPU(pids ...int) (ns int64) {
	for _, pid := range pids {
		for _, line := range strings.Split(output(fmt.Sprintf("cat /proc/%d/task/*/schedstat 2>/dev/null", pid)), "\n") {
			var n int64
			if _, err := fmt.Sscan(line, &n); err == nil {
				ns += n
			}
		}
	}
	return ns
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// orDash writes a figure, or "-" for one that was not measured.
func orDash(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// report prints the table and the goals.
func report(list []subject, results map[string]*result) {
	fmt.Printf("%-27s %12s %10s %10s\n", "subject", "ns/packet", "kpps", "TCP Gbit/s")
	var all []*result
	for _, s := range list {
		r := results[s.name]
		if r == nil {
			continue
		}
		r.NsPerPkt, r.Kpps, r.TCPGbit = median(r.pkt), median(r.rates), median(r.tcp)
		all = append(all, r)
		fmt.Printf("%-27s %12s %10.0f %10s   %d rounds\n", r.Subject, orDash("%.0f", r.NsPerPkt), r.Kpps, orDash("%.2f", r.TCPGbit), len(r.rates))
	}
	type goal struct {
		Name  string  `json:"name"`
		Ratio float64 `json:"ratio"`
		Goal  string  `json:"goal"`
		Met   bool    `json:"met"`
	}
	var goals []goal
	add := func(name, a, b string, get func(*result) float64, limit float64, atMost bool) {
		if results[a] == nil || results[b] == nil || get(results[a]) == 0 || get(results[b]) == 0 {
			return
		}
		q := get(results[a]) / get(results[b])
		g := goal{name, q, fmt.Sprintf(">= %.2f", limit), q >= limit}
		if atMost {
			g.Goal, g.Met = fmt.Sprintf("<= %.2f", limit), q <= limit
		}
		goals = append(goals, g)
	}
	pkt, gbit := func(r *result) float64 { return r.NsPerPkt }, func(r *result) float64 { return r.TCPGbit }
	add("af_packet CPU/packet : netstack", "leveret-packet-plain", "netstack-packet", pkt, 1.0/3, true)
	add("af_packet with virtio-net header : netstack", "leveret-packet", "netstack-packet", pkt, 1.0/3, true)
	add("TUN CPU/packet : netstack", "leveret-tun", "netstack-tun", pkt, 1/2.2, true)
	add("TCP over TUN : kernel", "leveret-tun", "kernel", gbit, 0.5, false)
	add("TCP over TUN : netstack on TUN", "leveret-tun", "netstack-tun", gbit, 10, false)
	add("TCP over af_packet : kernel", "leveret-packet", "kernel", gbit, 0.5, false)
	add("1M routes : 10 routes, CPU/packet", "leveret-1M-routes", "leveret-10-routes", pkt, 1.2, true)
	add("10 rules, 3 tables : no rules, CPU/packet", "leveret-10-rules-3-tables", "leveret-no-rules", pkt, 1.1, true)
	add("10k rules, 1M routes : 10 and 10, CPU/packet", "leveret-10k-rules-1M-routes", "leveret-10-rules-10-routes", pkt, 1.2, true)
	add("10k SAs and policies : 1, CPU/packet", "leveret-10k-sas", "leveret-1-sa", pkt, 1.2, true)
	add("100k policies : 1, CPU/packet", "leveret-100k-policies", "leveret-1-sa", pkt, 1.2, true)
	add("10k SAs, 100k policies : 1 and 1, CPU/packet", "leveret-10k-sas-100k-policies", "leveret-1-sa", pkt, 1.2, true)
	add("ESP in UDP, TCP : wireguard-go", "esp-udp", "wireguard-go", gbit, 1.5, false)
	add("ESP in UDP, TCP : strongSwan kernel-libipsec", "esp-udp", "strongswan-libipsec", gbit, 7, false)
	add("ESP in UDP, TCP : null cipher", "esp-udp", "esp-udp-null", gbit, 0.7, false)
	add("native ESP, TCP : strongSwan kernel-libipsec", "esp-native", "strongswan-libipsec", gbit, 3, false)
	fmt.Println()
	for _, g := range goals {
		fmt.Printf("%-46s %6.2f   goal %-8s %v\n", g.Name, g.Ratio, g.Goal, map[bool]string{true: "met", false: "NOT met"}[g.Met])
	}
	if *jsonFile == "" {
		return
	}
	b, err := json.MarshalIndent(map[string]any{
		"machine": map[string]any{
			"cpu": output("grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"), "cores": runtime.NumCPU(), "kernel": output("uname -r"),
			"go": runtime.Version(), "load": output("cat /proc/loadavg"),
		},
		"rounds": *rounds, "duration": dur.String(), "results": all, "goals": goals,
	}, "", "  ")
	check(err)
	check(os.WriteFile(*jsonFile, append(b, '\n'), 0o644))
}
