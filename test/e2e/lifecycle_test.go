package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// hostState is what must be the same before and after: devices with their kind, flags, MTU and
// promiscuity, addresses that somebody gave them, rules and routes.
func hostState(t *testing.T, spaces ...string) string {
	t.Helper()
	var b strings.Builder
	for _, n := range spaces {
		b.WriteString(n + ":\n" + in(t, n, "ip -o -d link | sed 's/^[0-9]*: //; s/numtxqueues.*//'") + in(t, n, "ip -6 -br addr show scope global") +
			in(t, n, "ip -6 rule") + in(t, n, "ip -6 route show table all proto static"))
	}
	return b.String()
}

// TestKillAndRestart: kill -9 in mid-traffic and start again: forwards within 3 s, and the host is the
// same as before the first start, after the kill and after a clean end.
func TestKillAndRestart(t *testing.T) {
	need(t)
	for _, kind := range []string{"af_packet", "tap", "tun"} {
		t.Run(kind, func(t *testing.T) {
			p := &topology{a: ns(t), b: ns(t)}
			ya, da := attach(t, p.a, "left", routerA, side{kind: kind, offload: true})
			yb, db := attach(t, p.b, "right", routerB, side{kind: kind, offload: true})
			p.devA, p.devB = da, db
			yaml := "links:\n" + ya + yb
			spaces := []string{p.a, p.b}
			if kind == "af_packet" { // the devices are there, and the kernel has its addresses on the hosts' ends
				for _, m := range regexp.MustCompile("netns: ([^,]*)").FindAllStringSubmatch(yaml, -1) {
					spaces = append(spaces, m[1])
				}
				eventually(t, "carrier", 5*time.Second, func() bool { return !strings.Contains(hostState(t, spaces...), "state DOWN") })
			}
			before := hostState(t, spaces...)
			same := func(when string) {
				t.Helper()
				now := ""
				for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					if now = hostState(t, spaces...); now == before {
						return
					}
				}
				t.Errorf("%s the host has changed\nbefore\n%s\nafter\n%s", when, before, now)
			}
			p.appliance = start(t, yaml)
			p.hosts()
			ping(t, p.a, addrB, 2, "")
			traffic := strings.TrimSpace(sh(t, fmt.Sprintf("ip netns exec %s ping -6 -f -W 1 %s >/dev/null 2>&1 & echo $!", p.a, addrB)))
			eventually(t, "traffic", 5*time.Second, func() bool { return p.received("left") > 500 })
			p.kill()
			sh(t, "kill "+traffic)
			p.unhosts()
			same("after kill -9")
			begin := time.Now()
			p.launch()
			p.hosts()
			ping(t, p.a, addrB, 1, "")
			if d := time.Since(begin); d > 3*time.Second {
				t.Errorf("forwards again after %s", d)
			}
			p.stop()
			p.unhosts()
			same("after a clean end")
		})
	}
}

// received is how many packets came in on a link.
func (a *appliance) received(link string) int {
	var list []struct {
		Stats64 struct{ RX struct{ Packets int } }
	}
	a.get(&list, "-s", "link", "show", "dev", link)
	return list[0].Stats64.RX.Packets
}

// TestApplyDuringTraffic: a changed MTU and an added route while TCP runs: the connection lives.
func TestApplyDuringTraffic(t *testing.T) {
	need(t, "iperf3")
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tap", offload: true}, "")
	done := make(chan float64)
	go func() { done <- iperf(t, p.a, p.b, addrB, "-t "+seconds(3, 10)) }()
	eventually(t, "traffic", 5*time.Second, func() bool { return p.received("left") > 500 })
	text := sh(t, "cat "+p.file())
	text = strings.Replace(text, "mtu: 1500", "mtu: 1400", 1) + "routing: {routes: [{to: \"2001:db8:7::/48\", via: \"" + addrB + "\", dev: right}]}\n"
	if err := os.WriteFile(p.file(), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := p.must("config", "diff"); !strings.Contains(out, "mtu") {
		t.Errorf("diff:\n%s", out)
	}
	p.must("config", "apply")
	if out := p.must("route", "show", "2001:db8:7::/48"); !strings.Contains(out, "via "+addrB) {
		t.Errorf("route: %s", out)
	}
	if out := p.must("link", "show", "dev", "left"); !strings.Contains(out, "mtu6 1400") {
		t.Errorf("link: %s", out)
	}
	if mbit := <-done; mbit < 100 {
		t.Errorf("TCP: %.0f Mbit/s", mbit)
	}
}

// TestFaultyConfigurationsChangeNothing: each is refused with path and reason, by check and by apply,
// and the running state is untouched.
func TestFaultyConfigurationsChangeNothing(t *testing.T) {
	need(t)
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tun", offload: true}, "")
	files, _ := filepath.Glob("../../appliance/config/testdata/faulty/*.yaml")
	if len(files) < 20 {
		t.Fatalf("%d faulty configurations", len(files))
	}
	state := func() string { return p.must("-j", "addr") + p.must("-j", "route") + p.must("config", "show") }
	before := state()
	for _, f := range files {
		for _, verb := range []string{"check", "apply"} {
			want, err := os.ReadFile(strings.TrimSuffix(f, ".yaml") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.cli("config", verb, "-c", f)
			if err == nil || exitCode(err) != 65 {
				t.Errorf("config %s %s: %v\n%s", verb, filepath.Base(f), err, out)
			}
			for _, fault := range strings.Split(strings.TrimSpace(string(want)), "\n") {
				// Commands name the file as it was given, which is another way there.
				if _, fault, _ = strings.Cut(fault, ".yaml"); !strings.Contains(out, fault) {
					t.Errorf("config %s %s does not say %q:\n%s", verb, filepath.Base(f), fault, out)
				}
			}
		}
	}
	// One that only the host can refuse: everything is prepared before anything is committed.
	impossible := strings.Replace(sh(t, "cat "+p.file()), "links:\n", "links:\n  - {name: third, kind: af_packet, host_device: nosuch0}\n", 1)
	impossible = strings.Replace(impossible, "mtu: 1500", "mtu: 1300", 1)
	file := p.dir + "/impossible.yaml"
	if err := os.WriteFile(file, []byte(impossible), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := p.cli("config", "apply", "-c", file); err == nil || !strings.Contains(out, "links[third]") || !strings.Contains(out, "no device nosuch0") {
		t.Errorf("impossible: %v\n%s", err, out)
	}
	// What is settled at the start cannot change, and nothing of such a file takes effect.
	settled := strings.Replace(strings.Replace(sh(t, "cat "+p.file()), "format: console", "format: json", 1), "mtu: 1500", "mtu: 1300", 1)
	if err := os.WriteFile(file, []byte(settled), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := p.cli("config", "apply", "-c", file); err == nil || exitCode(err) != 2 || !strings.Contains(out, "system.log.format") || !strings.Contains(out, "restart") {
		t.Errorf("settled at the start: %v\n%s", err, out)
	}
	if after := state(); after != before {
		t.Errorf("the running state has changed\n%s\n%s", before, after)
	}
	ping(t, p.a, addrB, 2, "")
}

// TestReset: caches and tables are emptied, addresses go through DAD, and it works again.
func TestReset(t *testing.T) {
	need(t)
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tap", offload: true}, "")
	ping(t, p.a, addrB, 2, "")
	p.must("route", "add", "2001:db8:9::/48", "dev", "left")
	p.must("addr", "add", "2001:db8:9::1/64", "dev", "left")
	p.must("reset")
	if out := p.must("route") + p.must("addr"); strings.Contains(out, "2001:db8:9:") {
		t.Errorf("after the reset:\n%s", out)
	}
	eventually(t, "ready again", 10*time.Second, func() bool { _, err := p.cli("health"); return err == nil })
	ping(t, p.a, addrB, 2, "")
}
