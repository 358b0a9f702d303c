package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPathMTU: a link of 1280 behind one of 1500: TCP and large pings adapt by our Packet Too Big.
func TestPathMTU(t *testing.T) {
	need(t, "iperf3")
	for _, kind := range []string{"tap", "af_packet"} {
		t.Run(kind, func(t *testing.T) {
			p := between(t, side{kind: kind, offload: true}, side{kind: kind, offload: true, mtu: 1280}, "")
			ping(t, p.a, addrB, 2, "") // neighbors are known, so that what follows is about the MTU
			if out, _ := try(fmt.Sprintf("ip netns exec %s ping -6 -n -c 2 -W 1 -i 0.3 -M do -s 1400 %s", p.a, addrB)); !strings.Contains(out, "mtu") && !strings.Contains(out, "too long") {
				t.Errorf("no Packet Too Big reached the host:\n%s", out)
			}
			if out := in(t, p.a, "ip -6 route get "+addrB); !strings.Contains(out, "mtu 1280") {
				t.Errorf("the host has not learned the MTU: %s", out)
			}
			ping(t, p.a, addrB, 5, "-s 3000")
			ping(t, p.b, addrA, 5, "-s 3000")
			for _, dir := range []string{"", "-R"} {
				if mbit := iperf(t, p.a, p.b, addrB, "-t "+seconds(1, 10)+" "+dir); mbit < 100 {
					t.Errorf("TCP %s: %.0f Mbit/s", dir, mbit)
				}
			}
		})
	}
}

// TestExactMTULeavesWhole: a packet of exactly the MTU leaves whole, the first octet too many makes
// two fragments, and the kernel answers both (seed S4).
func TestExactMTULeavesWhole(t *testing.T) {
	need(t, "tshark")
	p := between(t, side{kind: "tap", offload: true}, side{kind: "tun", offload: true}, "")
	file := p.dir + "/out.pcapng"
	stop := capture(t, p.appliance, "left", file)
	p.must("ping", "-c", "1", "-s", "1452", addrA)
	p.must("ping", "-c", "1", "-s", "1453", addrA)
	stop()
	got := strings.Fields(sh(t, fmt.Sprintf("tshark -r %s -Y 'ipv6.src==%s && (icmpv6.type==128 || ipv6.fraghdr)' -o ipv6.defragment:FALSE -T fields -E separator=, -e ipv6.plen -e ipv6.fraghdr.offset 2>/dev/null", file, routerA)))
	if want := "[1460, 1456,0 21,181]"; fmt.Sprint(got) != want {
		t.Errorf("sent (payload length,fragment offset) %v, want %s", got, want)
	}
}

// capture records what the appliance sends on a link until the returned function is called.
func capture(t *testing.T, a *appliance, link, file string) (stop func()) {
	t.Helper()
	pid := strings.TrimSpace(sh(t, fmt.Sprintf("%s --socket %s/api.sock capture %s --snaplen 65589 -w %s >/dev/null 2>&1 & echo $!", binary, a.dir, link, file)))
	eventually(t, "capture", 5*time.Second, func() bool {
		out, _ := try("stat -c %s " + file)
		return len(out) > 0 && out[0] >= '1' && out[0] <= '9'
	})
	return func() {
		size, same := "", 0 // what is on its way into the file has come when that does not grow
		eventually(t, "the file of the capture", 5*time.Second, func() bool {
			out, _ := try("stat -c %s " + file)
			if same++; out != size {
				size, same = out, 0
			}
			return same == 10
		})
		sh(t, "kill -INT "+pid)
		eventually(t, "end of the capture", 5*time.Second, func() bool { _, err := try("kill -0 " + pid); return err != nil })
	}
}
