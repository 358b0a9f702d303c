package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

type neigh struct {
	Dst    string
	LLAddr string
	State  []string
}

func (a *appliance) neighState(dst string) string {
	var list []neigh
	a.get(&list, "neigh")
	for _, n := range list {
		if n.Dst == dst {
			return n.State[0]
		}
	}
	return "gone"
}

// TestNeighborDisappears: REACHABLE -> STALE -> DELAY -> PROBE -> gone against a kernel neighbor that
// falls silent, at the configured times within 10 %.
func TestNeighborDisappears(t *testing.T) {
	need(t)
	nud := ", nud: {reachable_time: 2s, delay_first_probe_time: 2s, retrans_timer: 500ms}"
	p := between(t, side{kind: "af_packet", offload: true, extra: nud}, side{kind: "tun", offload: true}, "")
	events := p.dir + "/events"
	pid := strings.TrimSpace(sh(t, fmt.Sprintf("%s --socket %s/api.sock -j monitor neigh >%s 2>&1 & echo $!", binary, p.dir, events)))
	defer func() { _, _ = try("kill " + pid) }()
	// The neighbor may become known before the monitor listens; forgotten, it is met again.
	eventually(t, "monitor", 5*time.Second, func() bool {
		p.must("neigh", "flush", "dev", "left")
		ping(t, p.b, addrA, 1, "")
		return strings.Contains(sh(t, "cat "+events), `"`+addrA+`"`)
	})
	eventually(t, "REACHABLE", 2*time.Second, func() bool { return p.neighState(addrA) == "REACHABLE" })
	sh(t, fmt.Sprintf("ip -n %s link set %s arp off", p.a, p.devA)) // the neighbor no longer answers
	sh(t, fmt.Sprintf("ip -n %s -6 addr del %s/64 dev %s", p.a, addrA, p.devA))
	eventually(t, "STALE", 5*time.Second, func() bool { return p.neighState(addrA) == "STALE" })
	_, _ = try(fmt.Sprintf("ip netns exec %s ping -6 -c 1 -W 1 %s", p.b, addrA))
	eventually(t, "gone", 8*time.Second, func() bool { return p.neighState(addrA) == "gone" })
	eventually(t, "the last event", 2*time.Second, func() bool {
		return strings.Contains(lineOf(sh(t, "tac "+events), `"`+addrA+`"`), `"deleted":true`)
	})
	at := map[string]time.Time{}
	for _, line := range strings.Split(strings.TrimSpace(sh(t, "cat "+events)), "\n") {
		if !strings.Contains(line, `"`+addrA+`"`) {
			continue
		}
		stamp := between2(line, `"timestamp":"`, `"`)
		when, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			t.Fatalf("event without a time: %s", line)
		}
		for _, s := range []string{"REACHABLE", "STALE", "DELAY", "PROBE"} {
			if strings.Contains(line, `"`+s+`"`) && !strings.Contains(line, `"deleted":true`) {
				at[s] = when
			}
		}
		if strings.Contains(line, `"deleted":true`) {
			at["gone"] = when
		}
	}
	for _, c := range []struct {
		from, to    string
		least, most time.Duration
	}{
		{"REACHABLE", "STALE", time.Second, 3 * time.Second}, // drawn from 0.5 to 1.5 of 2 s
		{"DELAY", "PROBE", 2 * time.Second, 2 * time.Second},
		{"PROBE", "gone", 1500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		got := at[c.to].Sub(at[c.from])
		if at[c.from].IsZero() || at[c.to].IsZero() || got < c.least*9/10 || got > c.most*11/10 {
			t.Errorf("%s to %s took %s, want %s to %s within 10 %%\n%s", c.from, c.to, got, c.least, c.most, sh(t, "cat "+events))
		}
	}
}

func between2(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// TestDuplicateAddress: an address that a kernel host on the wire already has is dadfailed, reported,
// and never answered for.
func TestDuplicateAddress(t *testing.T) {
	need(t)
	host, where := ns(t), ns(t)
	in(t, where, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	sh(t, fmt.Sprintf("ip -n %s link add v0 type veth peer name v1 netns %s; ip -n %s link set v0 up; ip -n %s link set v1 up", host, where, host, where))
	sh(t, fmt.Sprintf("ip -n %s -6 addr add 2001:db8:1::1/64 dev v0 nodad; ip -n %s -6 addr add 2001:db8:1::5/64 dev v0 nodad", host, host))
	eventually(t, "the host's addresses", 5*time.Second, func() bool { return !strings.Contains(in(t, host, "ip -6 addr"), "tentative") })
	a := start(t, fmt.Sprintf("links: [{name: lan0, kind: af_packet, host_device: v1, netns: %s, addresses: [\"2001:db8:1::1/64\", \"2001:db8:1::2/64\"]}]\n", where))
	if out := a.must("-o", "addr"); !strings.Contains(lineOf(out, "2001:db8:1::1/64"), "dadfailed") || strings.Contains(lineOf(out, "2001:db8:1::2/64"), "dadfailed") {
		t.Errorf("not dadfailed:\n%s", out)
	}
	ping(t, host, "2001:db8:1::2", 2, "")
	other := a.must("neigh")
	if strings.Contains(other, "2001:db8:1::1 ") {
		t.Errorf("used all the same:\n%s", other)
	}
	a.stop()
	if !strings.Contains(a.log.String(), "duplicate address") {
		t.Errorf("not reported:\n%s", a.log)
	}
}

// lineOf returns the line that has a word in it.
func lineOf(text, word string) string {
	for _, l := range strings.Split(text, "\n") {
		if strings.Contains(l, word) {
			return l
		}
	}
	return ""
}

// TestTCPConfirmsReachability: as long as a TCP connection makes progress its next hop is not probed, though
// ReachableTime is over long since (RFC 4861 7.3.1); without TCP it is.
func TestTCPConfirmsReachability(t *testing.T) {
	need(t)
	nud := ", nud: {reachable_time: 1s, delay_first_probe_time: 2s, retrans_timer: 500ms}"
	p := between(t, side{kind: "tap", offload: true, extra: nud}, side{kind: "tap", offload: true}, "services: [{name: echo, proto: tcp, port: 7}, {name: echo, proto: udp, port: 7}]\n")
	ping(t, p.a, routerA, 1, "")
	probes := func(proto string) int {
		events := p.dir + "/" + proto
		pid := strings.TrimSpace(sh(t, fmt.Sprintf("%s --socket %s/api.sock -j monitor ndp >%s 2>&1 & echo $!", binary, p.dir, events)))
		defer func() { _, _ = try("kill " + pid) }()
		talk := fmt.Sprintf(`import socket, time
s = socket.socket(socket.AF_INET6, socket.SOCK_%s)
s.connect(("%s", 7))
for i in range(20):
    s.send(b"hello")
    s.recv(100)
    time.sleep(0.3)
`, map[string]string{"tcp": "STREAM", "udp": "DGRAM"}[proto], routerA)
		in(t, p.a, "/usr/bin/python3 -c '"+talk+"'")
		n := 0
		for _, l := range strings.Split(sh(t, "cat "+events), "\n") {
			if strings.Contains(l, `"dir":"tx","type":"ns"`) && strings.Contains(l, `"target":"`+addrA+`"`) {
				n++
			}
		}
		return n
	}
	if n := probes("tcp"); n != 0 {
		t.Errorf("%d probes in 6 s of TCP", n)
	}
	if n := probes("udp"); n == 0 {
		t.Error("no probe in 6 s of UDP: the test shows nothing")
	}
}
