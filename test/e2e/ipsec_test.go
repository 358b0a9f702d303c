package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// gateway is the configuration of one of two gateways, which reach each other over a veth in a namespace: its links, its
// route to the other side, its SAs and policies.
func gateway(lan, wan, own, other, lanNet, otherNet, spiOut, spiIn, suite string) string {
	sa := func(src, dst, spi string) string {
		return fmt.Sprintf("    - {src: %q, dst: %q, proto: esp, spi: %s, reqid: 1, mode: tunnel, esn: true, replay_window: 1024, %s}\n", src, dst, spi, strings.ReplaceAll(suite, "SPI", spi[2:]))
	}
	policy := func(dir, from, to, src, dst string) string {
		return fmt.Sprintf("    - {name: %[1]s, dir: %[1]s, priority: 10, action: protect, selector: {src: %[2]q, dst: %[3]q}, templates: [{src: %[4]q, dst: %[5]q, proto: esp, mode: tunnel, reqid: 1}]}\n",
			dir, from, to, src, dst)
	}
	return "links:\n" + lan + wan + fmt.Sprintf("routing: {routes: [{to: %q, via: %q}]}\nipsec:\n  states:\n", otherNet, other) +
		sa(own, other, spiOut) + sa(other, own, spiIn) + "  policies:\n" +
		policy("out", lanNet, otherNet, own, other) + policy("in", otherNet, lanNet, other, own) + policy("fwd", otherNet, lanNet, other, own)
}

// TestTunnelBetweenGateways: two kernel hosts, each behind a Leveret, through ESP between the two: ping of many lengths,
// TCP with its superpackets both ways, UDP. Nothing between the gateways is in the clear.
func TestTunnelBetweenGateways(t *testing.T) {
	need(t, "iperf3", "tcpdump", "tshark")
	const lanA, lanB = "2001:db8:1::/64", "2001:db8:2::/64"
	for _, c := range []struct {
		name, suite string
		minTCP      float64
	}{
		{"aes-gcm", `aead: {name: "rfc4106(gcm(aes))", key: "0x000102030405060708090a0b0c0d0e0f1011SPI", icv_bits: 128}`, 50},
		{"aes-cbc", `enc: {name: "cbc(aes)", key: "0x000102030405060708090a0b0c0dSPI"}, auth: {name: "hmac(sha256)", key: "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1dSPI"}`, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &topology{a: ns(t), b: ns(t)}
			mid := ns(t)
			in(t, mid, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
			sh(t, fmt.Sprintf("ip -n %[1]s link add w1 type veth peer name w2; ip -n %[1]s link set w1 up; ip -n %[1]s link set w2 up", mid))
			ya, da := attach(t, p.a, "left", routerA, side{kind: "tap", offload: true})
			yb, db := attach(t, p.b, "right", routerB, side{kind: "af_packet", offload: true})
			p.devA, p.devB = da, db
			wan := func(dev, addr string) string {
				return fmt.Sprintf("  - {name: wan0, kind: af_packet, host_device: %s, netns: %s, addresses: [\"%s/64\"]}\n", dev, mid, addr)
			}
			const g1, g2 = "2001:db8:9::1", "2001:db8:9::2"
			one := start(t, gateway(ya, wan("w1", g1), g1, g2, lanA, lanB, "0x1001", "0x1002", c.suite))
			two := start(t, gateway(yb, wan("w2", g2), g2, g1, lanB, lanA, "0x1002", "0x1001", c.suite))
			p.appliance = one
			p.hosts()
			file := tempDir(t) + "/mid.pcap"
			dump := background(t, mid, "tcpdump -i w1 -s 128 -U -w "+file)
			ping(t, p.a, addrB, 3, "")
			for _, way := range [][2]string{{p.a, addrB}, {p.a, routerB}, {p.b, addrA}} { // the first that is too long tells the host
				if out, err := try(fmt.Sprintf("ip netns exec %s ping -6 -n -W 1 -c 1 -s 1452 %s", way[0], way[1])); err == nil || !strings.Contains(out, "Packet too big: mtu=14") {
					t.Errorf("too long: %s", out)
				}
			}
			for _, size := range []int{0, 1, 1200, 1378, 1379, 1452, 3000, 20000} {
				ping(t, p.a, addrB, 2, fmt.Sprint("-s ", size))
				ping(t, p.b, addrA, 2, fmt.Sprint("-s ", size))
			}
			ping(t, p.a, routerB, 2, "-s 3000") // the other gateway itself
			for _, dir := range []string{"", "-R"} {
				mbit := iperf(t, p.a, p.b, addrB, "-t "+seconds(1, 10)+" "+dir)
				t.Logf("TCP %s: %.0f Mbit/s", dir, mbit)
				if mbit < c.minTCP {
					t.Errorf("TCP %s: %.0f Mbit/s, want at least %.0f", dir, mbit, c.minTCP)
				}
			}
			if lost := iperfUDP(t, p.a, p.b, addrB, "-b 20M -l 1300 -t "+seconds(1, 10)); lost > 0.5 {
				t.Errorf("UDP: %.2f %% lost", lost)
			}
			dump()
			out := sh(t, fmt.Sprintf("tshark -r %s -Y 'ipv6 && !esp && !icmpv6 && !ipv6.fraghdr.nxt == 50' 2>/dev/null | head -5", file))
			if out != "" {
				t.Errorf("in the clear:\n%s", out)
			}
			if n := strings.TrimSpace(sh(t, fmt.Sprintf("tshark -r %s -Y esp 2>/dev/null | wc -l", file))); len(n) < 3 {
				t.Errorf("%s packets of ESP", n)
			}
			for _, a := range []*appliance{one, two} {
				for name, n := range xfrmDrops(t, a) {
					if n != 0 {
						t.Errorf("%s: %d", name, n)
					}
				}
			}
		})
	}
}

// background runs a program in a namespace until the returned function is called.
func background(t *testing.T, ns, cmd string) (stop func()) {
	t.Helper()
	pid := strings.TrimSpace(sh(t, fmt.Sprintf("ip netns exec %s %s >/dev/null 2>&1 & echo $!", ns, cmd)))
	done := false
	stop = func() {
		if !done {
			done = true
			_, _ = try("sleep 0.3; kill " + pid + "; while kill -0 " + pid + " 2>/dev/null; do sleep 0.05; done")
		}
	}
	t.Cleanup(stop)
	sh(t, "sleep 0.5")
	return stop
}

// xfrmDrops are the drops of IPsec by name.
func xfrmDrops(t *testing.T, a *appliance) map[string]uint64 {
	t.Helper()
	var drops []struct {
		Reason string `json:"reason"`
		Count  uint64 `json:"packets"`
	}
	out := a.must("-j", "stats", "drops")
	if err := json.Unmarshal([]byte(out), &drops); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := map[string]uint64{}
	for _, d := range drops {
		if strings.HasPrefix(d.Reason, "xfrm_") {
			got[d.Reason] = d.Count
		}
	}
	return got
}
