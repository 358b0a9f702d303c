package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestDuplicateIsNeverAnsweredFor: also when its owner is gone, an address that failed DAD stays
// unused: nobody resolves it or gets an answer from it (RFC 4862 5.4.5).
func TestDuplicateIsNeverAnsweredFor(t *testing.T) {
	need(t)
	host, where := ns(t), ns(t)
	in(t, where, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	sh(t, fmt.Sprintf("ip -n %s link add v0 type veth peer name v1 netns %s; ip -n %s link set v0 up; ip -n %s link set v1 up", host, where, host, where))
	for _, a := range []string{"2001:db8:1::1", "2001:db8:1::5"} {
		sh(t, fmt.Sprintf("ip -n %s -6 addr add %s/64 dev v0 nodad", host, a))
	}
	eventually(t, "the host's addresses", 5*time.Second, func() bool { return !strings.Contains(in(t, host, "ip -6 addr"), "tentative") })
	a := start(t, fmt.Sprintf("links: [{name: lan0, kind: af_packet, host_device: v1, netns: %s, addresses: [\"2001:db8:1::1/64\", \"2001:db8:1::2/64\"]}]\n", where))
	if out := a.must("-o", "addr"); !strings.Contains(lineOf(out, "2001:db8:1::1/64"), "dadfailed") {
		t.Fatalf("not dadfailed:\n%s", out)
	}
	sh(t, fmt.Sprintf("ip -n %s -6 addr del 2001:db8:1::1/64 dev v0", host))
	ping(t, host, "2001:db8:1::2", 1, "") // the link works
	if out, err := try(fmt.Sprintf("ip netns exec %s ping -6 -n -c 2 -i 0.2 -W 1 2001:db8:1::1", host)); err == nil {
		t.Errorf("echo reply from a duplicate:\n%s", out)
	}
	if out := in(t, host, "ip -6 neigh show 2001:db8:1::1"); strings.Contains(out, "lladdr") {
		t.Errorf("neighbor advertisement for a duplicate: %s", out)
	}
}
