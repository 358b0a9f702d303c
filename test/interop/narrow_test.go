package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"leveret/extensions/xfrm/algo"
	"leveret/test/interop/vm"
)

// TestNarrow: a router between the gateways takes 1280 octets only, so that 1280 octets of the hosts do not fit inside
// a tunnel (RFC 4301 8.2). Both gateways hear of it by a Packet Too Big about ESP, the hosts behind them hear of 1280,
// and after that every size of ping and TCP get through both ways, in more than one packet of ESP where need be.
func TestNarrow(t *testing.T) {
	for _, c := range []struct {
		name string
		long bool
		setup
	}{
		{"transport", true, setup{layer{proto: "esp", mode: "transport", parts: cbc256, spi: 0x1001}}},
		{"tunnel", false, setup{layer{proto: "esp", mode: "tunnel", parts: []transform{{algo.AEAD, "rfc4106(gcm(aes))", 36, 128}}, spi: 0x1001}}},
		{"tunnel in UDP", true, setup{layer{proto: "esp", mode: "tunnel", parts: gcm128, spi: 0x1001, udp: true}}},
		{"tunnel in tunnel", true, setup{layer{proto: "esp", mode: "tunnel", parts: gcm128, spi: 0x1001}, layer{proto: "esp", mode: "tunnel", parts: cbc256, spi: 0x2001}}},
	} {
		if c.long && os.Getenv("LVT_LONG") == "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			v := peer.VM(t)
			a := c.throughRouter(t, v)
			dst, from, source := ours, "", ""
			if c.tunneled() {
				dst, from, source = other, " "+theirsInner, "-I "+theirsInner+" "
			}
			// What is too long for the first time is lost: each end and each host is told.
			for range 4 {
				_, _ = v.Try("ping -6 -c 1 -W 1 -s 1452 " + source + dst)
			}
			sweep(t, v, dst, sizes("0-9,1170-1240,1420-1440,2800", most)+from)
			if !c.tunneled() {
				v.Run("head -c 300000 /dev/urandom >/run/sent && nc -w 5 " + ours + " 7 </run/sent >/run/back; cmp /run/sent /run/back")
			} else {
				sweep(t, v, ours2, sizes("1210-1240,1452,2800", most)+from)
				v.Run("ip netns exec far iperf3 -s -D && sleep 0.3")
				for _, direction := range []string{"", "-R"} {
					v.Run("iperf3 -6 -n 1M -B " + theirsInner + " -c " + other + " " + direction)
				}
			}
			probe := []string{"ping", "-M", "do", "-c", "1", "-W", "2", "-s", "1400", theirs}
			if c.tunneled() {
				probe = append(probe[:9], theirsInner, "-I", ours2)
			}
			if out, err := a.cli(probe...); err == nil || !strings.Contains(out, "mtu: 1280") {
				t.Errorf("Leveret's own: %v, want mtu: 1280\n%s", err, out)
			}
			if out := v.Run("ip -6 route get " + ours); !strings.Contains(out, "mtu 1280") {
				t.Errorf("the VM's route: %s", out)
			}
		})
	}
}

// throughRouter makes the network with a router of 1280 octets instead of a bridge, the kernel of the tests, which has
// no route to what is inside, and starts Leveret.
func (g setup) throughRouter(t *testing.T, v *vm.VM) *appliance {
	t.Helper()
	const near, opposite = "2001:db8:1::ff", "2001:db8:1::fe" // the router's, on Leveret's side and on the VM's
	g.guest(v)
	v.Run("ip -6 route add " + ours + " via " + opposite)
	in := "ip netns exec " + v.Netns + " "
	sh(t, "ip -n %s tuntap add lvt-vm0 mode tap", v.Netns)
	t.Cleanup(func() {
		sh(t, "ip -n %s link del lvt-vm0; %s sysctl -qw net.ipv6.conf.all.forwarding=0", v.Netns, in)
	})
	sh(t, "%s sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.vm0.disable_ipv6=0 net.ipv6.conf.lvt-vm0.disable_ipv6=0 && ip -n %s link set lvt-vm0 up", in, v.Netns)
	for _, s := range [][3]string{{"lvt-vm0", near, ours}, {"vm0", opposite, theirs}} {
		sh(t, "ip -n %s -6 addr add %s/128 dev %s nodad && ip -n %s -6 route add %s dev %s mtu lock 1280", v.Netns, s[1], s[0], v.Netns, s[2], s[0])
	}
	yaml := fmt.Sprintf("  - {name: vm0, kind: tap, host_device: lvt-vm0, netns: %s, mtu: 1500, dad: {transmits: 0}, addresses: [\"%s/64\"]}\n", v.Netns, ours)
	routes := fmt.Sprintf("{to: \"%s/128\", via: %q, dev: vm0}", theirs, near)
	if g.tunneled() {
		far(t, v)
		yaml += attach(t, v, "af_packet", "vm1", ours2)
		routes += fmt.Sprintf(", {to: %q, via: %q, dev: vm0}", theirsNet, theirs)
	}
	a := start(t, "services: [{name: echo, proto: tcp, port: 7}]\nlinks:\n"+yaml+"routing: {routes: ["+routes+"]}\n"+g.ipsec(true))
	capture(t, v, "vm0")
	return a
}
