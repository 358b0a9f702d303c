package interop

import (
	"fmt"
	"strings"
	"testing"
)

const (
	ours   = "2001:db8:1::1" // Leveret's
	theirs = "2001:db8:1::2" // the VM's
	ours2  = "2001:db8:2::1" // Leveret's on the second card
	other  = "2001:db8:2::2" // the VM's there
)

// few and all are sizes of data, of which 1452 fills a packet of 1500.
const few, all = "0-64,1230-1290,1400-1520,3990-4000", "0-4000"

// TestNamespace: the kernel of the tests and the VM reach each other, so what fails in other tests is not the
// wire's.
func TestNamespace(t *testing.T) {
	v := peer.VM(t)
	address(v, "eth0", theirs)
	sh(t, "ip netns exec %s sysctl -qw net.ipv6.conf.vm0.disable_ipv6=0 && ip -n %s -6 addr add %s/64 dev vm0 nodad", v.Netns, v.Netns, ours)
	for _, n := range []int{0, 1452, 1453, 3000} {
		sh(t, "ip netns exec %s ping -6 -n -c 1 -W 5 -s %d %s", v.Netns, n, theirs)
	}
	sweep(t, v, ours, sizes(few, all))
}

// TestLeveret: Leveret and the VM reach each other in clear.
func TestLeveret(t *testing.T) {
	for _, kind := range []string{"af_packet", "tap"} {
		t.Run(kind, func(t *testing.T) {
			v := peer.VM(t)
			address(v, "eth0", theirs)
			a := start(t, "links:\n"+attach(t, v, kind, "vm0", ours))
			sweep(t, v, ours, sizes(few, all))
			for _, n := range []int{0, 1452, 1453, 3000} {
				a.must("ping", "-c", "1", "-W", "5", "-s", fmt.Sprint(n), theirs) // fails without a reply
			}
		})
	}
}

// TestThrough: between two cards of the VM by way of Leveret. The guest has the second card in a namespace,
// or it would find itself without a wire.
func TestThrough(t *testing.T) {
	v := peer.VM(t)
	address(v, "eth0", theirs)
	v.Run("ip -6 route add default via " + ours)
	far(t, v)
	start(t, "links:\n"+attach(t, v, "af_packet", "vm0", ours)+attach(t, v, "tap", "vm1", ours2))
	sweep(t, v, other, sizes(few, all))
	v.Run("ip netns exec far iperf3 -s -D")
	for _, direction := range []string{"", "-R"} {
		if out := v.Run("iperf3 -6 -n 2M -c " + other + " " + direction); !strings.Contains(out, "receiver") {
			t.Errorf("TCP %s:\n%s", direction, out)
		}
	}
}
