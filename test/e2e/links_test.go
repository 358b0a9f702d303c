package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// linkNow is what `leveret link` says about a link.
func (a *appliance) linkNow(name string) (carrier bool, mtu int) {
	var list []struct {
		MTU   int
		Flags []string
	}
	a.get(&list, "link", "show", "dev", name)
	for _, f := range list[0].Flags {
		carrier = carrier || f == "LOWER_UP"
	}
	return carrier, list[0].MTU
}

// TestLinksFollowTheirDevice: the other side of a device goes and comes back, and its MTU changes.
func TestLinksFollowTheirDevice(t *testing.T) {
	need(t)
	for _, kind := range []string{"af_packet", "tap", "tun"} {
		t.Run(kind, func(t *testing.T) {
			p := between(t, side{kind: kind, offload: true}, side{kind: "tap"}, "")
			ping(t, p.a, addrB, 1, "")
			dev, where := p.devA, p.a
			sh(t, fmt.Sprintf("ip -n %s link set %s down", where, dev))
			eventually(t, "no carrier", 5*time.Second, func() bool { up, _ := p.linkNow("left"); return !up })
			sh(t, fmt.Sprintf("ip -n %s link set %s up", where, dev))
			eventually(t, "carrier", 5*time.Second, func() bool { up, _ := p.linkNow("left"); return up })
			if kind == "af_packet" { // the adopted end is in a namespace of its own
				dev, where = "pleft", between2(sh(t, "grep left "+p.file()), "netns: ", ",")
			}
			sh(t, fmt.Sprintf("ip -n %s link set %s mtu 1400", where, dev))
			eventually(t, "MTU 1400", 5*time.Second, func() bool { _, mtu := p.linkNow("left"); return mtu == 1400 })
			p.hosts()
			eventually(t, "reachable again", 5*time.Second, func() bool {
				_, err := try(fmt.Sprintf("ip netns exec %s ping -6 -c 1 -W 1 %s", p.a, addrB))
				return err == nil
			})
		})
	}
}

// TestPipeBetweenTwoLinks of one configuration: what one end sends, the other receives.
func TestPipeBetweenTwoLinks(t *testing.T) {
	need(t)
	a := start(t, `links:
  - {name: p0, kind: pipe, peer: p1, link_local: "fe80::10", addresses: ["2001:db8:3::1/64"]}
  - {name: p1, kind: pipe, peer: p0, link_local: "fe80::11"}
`)
	if out := a.must("ping", "-c", "3", "-i", "0.05", "fe80::11%p0"); !strings.Contains(out, " 0% packet loss") {
		t.Errorf("ping:\n%s", out)
	}
	if out := a.must("neigh", "show", "dev", "p0"); !strings.Contains(out, "fe80::11") || !strings.Contains(out, "REACHABLE") {
		t.Errorf("neighbors:\n%s", out)
	}
}
