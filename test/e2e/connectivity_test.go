package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestHostsReachEachOther: two kernel hosts through every kind of link: ping, TCP both ways, UDP, and
// traceroute that shows our hop.
func TestHostsReachEachOther(t *testing.T) {
	need(t, "iperf3", "traceroute", "ethtool")
	for _, c := range []struct {
		name   string
		a, b   side
		noTSO  bool // the hosts' own offloads are off
		minTCP float64
	}{
		{"tap to tap", side{kind: "tap", offload: true}, side{kind: "tap", offload: true}, false, 500},
		{"tun to tun", side{kind: "tun", offload: true}, side{kind: "tun", offload: true}, false, 500},
		{"tun to tap", side{kind: "tun", offload: true}, side{kind: "tap", offload: true}, false, 500},
		{"af_packet", side{kind: "af_packet", offload: true}, side{kind: "af_packet", offload: true}, false, 500},
		{"af_packet without virtio-net header", side{kind: "af_packet"}, side{kind: "af_packet"}, false, 20},
		{"af_packet, host offloads off", side{kind: "af_packet", offload: true}, side{kind: "af_packet", offload: true}, true, 100},
		{"af_packet without virtio-net header, host offloads off", side{kind: "af_packet"}, side{kind: "af_packet"}, true, 100},
		{"tap with several queues", side{kind: "tap", offload: true, extra: ", queues: 4"}, side{kind: "tap", offload: true, extra: ", queues: 2"}, false, 100},
		{"tun with several queues", side{kind: "tun", offload: true, extra: ", queues: 4"}, side{kind: "tun", offload: true, extra: ", queues: 2"}, false, 100},
		{"af_packet with several queues", side{kind: "af_packet", offload: true, extra: ", queues: 4"}, side{kind: "af_packet", extra: ", queues: 2"}, false, 50},
		{"tap without offload to tap with it", side{kind: "tap"}, side{kind: "tap", offload: true}, false, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := between(t, c.a, c.b, "")
			if c.noTSO {
				in(t, p.a, "ethtool -K "+p.devA+" tx off tso off gso off gro off")
				in(t, p.b, "ethtool -K "+p.devB+" tx off tso off gso off gro off")
			}
			ping(t, p.a, addrB, 5, "")
			ping(t, p.b, addrA, 3, "-s 3000")
			ping(t, p.a, routerA, 3, "")
			for _, dir := range []string{"", "-R"} {
				if mbit := iperf(t, p.a, p.b, addrB, "-t "+seconds(1, 10)+" "+dir); mbit < c.minTCP {
					t.Errorf("TCP %s: %.0f Mbit/s, want at least %.0f", dir, mbit, c.minTCP)
				}
			}
			if lost := iperfUDP(t, p.a, p.b, addrB, "-b 50M -t "+seconds(1, 10)); lost > 0.5 {
				t.Errorf("UDP: %.2f %% lost", lost)
			}
			// The far host must not limit its errors: after the other tests it may have none left.
			in(t, p.b, "sysctl -qw net.ipv6.icmp.ratelimit=0")
			if out := in(t, p.a, "traceroute -6 -n -q 1 -w 2 "+addrB); !strings.Contains(out, " 1  "+routerA) || !strings.Contains(out, " 2  "+addrB) {
				t.Errorf("traceroute does not show our hop:\n%s", out)
			}
		})
	}
}

// TestServicesAnswerTheKernel: sockets inside the appliance, from a host on the link.
func TestServicesAnswerTheKernel(t *testing.T) {
	need(t, "nc")
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tun", offload: true},
		"services: [{name: echo, proto: tcp, port: 7}, {name: echo, proto: udp, port: 7}, {name: discard, proto: tcp, port: 9}]\n")
	for _, dst := range []string{routerA, routerB} {
		if out := in(t, p.a, fmt.Sprintf("bash -c 'echo hello | timeout 5 nc -6 -q 1 %s 7'", dst)); out != "hello\n" {
			t.Errorf("TCP echo from %s: %q", dst, out)
		}
		if out := in(t, p.a, fmt.Sprintf("bash -c 'echo hello | timeout 5 nc -6 -u -w 1 %s 7'", dst)); out != "hello\n" {
			t.Errorf("UDP echo from %s: %q", dst, out)
		}
	}
	if out, err := try("ip netns exec " + p.a + " nc -6 -z -w 2 " + routerA + " 81"); err == nil {
		t.Errorf("a closed port is open: %s", out)
	}
}

// TestDefaultConfigurationLeavesTheHostAlone: `leveret run` without a configuration, in a namespace
// with a default route of its own.
func TestDefaultConfigurationLeavesTheHostAlone(t *testing.T) {
	need(t)
	host := ns(t)
	sh(t, fmt.Sprintf("ip -n %s link add v0 type veth peer name v1 && ip -n %s link set v0 up && ip -n %s link set v1 up", host, host, host))
	sh(t, fmt.Sprintf("ip -n %s -6 addr add 2001:db8:5::2/64 dev v0 nodad && ip -n %s -6 route add default via 2001:db8:5::1", host, host))
	snapshot := func() string {
		return in(t, host, "ip -6 route show default") + in(t, host, "ip -6 rule") + in(t, host, "ip -br link")
	}
	before := snapshot()
	a := &appliance{t: t, dir: tempDir(t)}
	dir := a.dir
	script := fmt.Sprintf(`ip netns exec %s env LEVERET_SYSTEM_RUN_DIR=%s LEVERET_SYSTEM_STATE_DIR=%s LEVERET_CONFIG= %s run >%s/log 2>&1 & echo $!`, host, dir, dir, binary, dir)
	pid := strings.TrimSpace(sh(t, script))
	t.Cleanup(func() { _, _ = try("kill " + pid) })
	eventually(t, "ready", 15e9, func() bool { _, err := a.cli("health"); return err == nil })
	log := sh(t, "cat "+dir+"/log")
	for _, want := range []string{"ip -6 addr add", "ping", "leveret"} {
		if !strings.Contains(log, want) {
			t.Errorf("the start does not print %q:\n%s", want, log)
		}
	}
	if now := in(t, host, "ip -6 route show default"); !strings.Contains(before, now) {
		t.Errorf("the default route has changed to %s", now)
	}
	in(t, host, "ip -6 addr add fd6c:6576:6572:1::2/64 dev leveret0 nodad")
	ping(t, host, "fd6c:6576:6572:1::1", 3, "")
	sh(t, "kill "+pid)
	eventually(t, "everything removed", 10e9, func() bool { return snapshot() == before })
}
