package interop

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"leveret/extensions/xfrm/algo"
)

// linkSAs are the two SAs of a link with that if_id.
func linkSAs(id uint32) (toVM, fromVM sa) {
	return sa{ours, theirs, 0x1000 + id, 1}, sa{theirs, ours, 0x2000 + id, 1}
}

// kernelLink is the kernel's end of a link with that if_id: device ipsecID with address fd00:ID::2, and all traffic by it.
func (l layer) kernelLink(id uint32, mtu int) string {
	to, from := linkSAs(id)
	lines := []string{
		fmt.Sprintf("ip link add ipsec%d type xfrm dev eth0 if_id %d", id, id),
		fmt.Sprintf("ip link set ipsec%d mtu %d up && ip -6 addr add fd00:%d::2/64 dev ipsec%d nodad", id, mtu, id, id),
	}
	for _, s := range []sa{to, from} {
		lines = append(lines, "ip xfrm state add "+l.state(s)+fmt.Sprintf(" if_id %d", id))
	}
	for dir, s := range map[string]sa{"out": from, "in": to, "fwd": to} {
		lines = append(lines, fmt.Sprintf("ip xfrm policy add src ::/0 dst ::/0 dir %s priority 100 tmpl src %s dst %s proto esp reqid 1 mode tunnel if_id %d", dir, s.src, s.dst, id))
	}
	return strings.Join(lines, "\n") + "\n"
}

// link is Leveret's end: a link, states and policies.
func (l layer) link(id uint32, mtu int) (link, states, policies string) {
	to, from := linkSAs(id)
	link = fmt.Sprintf("  - {name: ipsec%d, kind: ipsec, if_id: %d, mtu: %d, addresses: [\"fd00:%d::1/64\"]}\n", id, id, mtu, id)
	for _, s := range []sa{to, from} {
		states += fmt.Sprintf("    - {src: %q, dst: %q, proto: esp, spi: %#x, reqid: 1, mode: tunnel, if_id: %d, replay_window: 128, aead: {name: %q, key: %q, icv_bits: %d}}\n",
			s.src, s.dst, s.spi, id, l.parts[0].name, s.keyOf(l.parts[0]), l.parts[0].icv)
	}
	for dir, s := range map[string]sa{"out": to, "in": from, "fwd": from} {
		policies += fmt.Sprintf("    - {name: %s%d, dir: %s, priority: 100, action: protect, if_id: %d, templates: [{src: %q, dst: %q, proto: esp, mode: tunnel, reqid: 1}]}\n",
			dir, id, dir, id, s.src, s.dst)
	}
	return link, states, policies
}

// TestIPsecLinks: links of kind ipsec and the kernel's XFRM interfaces: two between the same ends with SAs of their own,
// each for all traffic that is routed to it; what is behind both ends, TCP both ways, MTUs, link-local addresses, and a
// link that has no SAs.
func TestIPsecLinks(t *testing.T) {
	l := layer{proto: "esp", mode: "tunnel", parts: []transform{{algo.AEAD, "rfc4106(gcm(aes))", 20, 128}}}
	v := peer.VM(t)
	before := v.XfrmStat()
	v.Run("insmod /modules/xfrm_interface.ko")
	address(v, "eth0", theirs)
	v.Run("set -e\n" + l.kernelLink(5, 1400) + l.kernelLink(6, 1500) +
		fmt.Sprintf("ip -6 addr add %s/128 dev lo && ip -6 route add %s dev ipsec5 src %s", theirsInner, oursNet, theirsInner) +
		" && ip link add ipsec7 type xfrm dev eth0 if_id 7 && ip link set ipsec7 up && ip -6 addr add fd00:7::2/64 dev ipsec7 nodad")
	far(t, v)
	link5, states5, policies5 := l.link(5, 1400)
	link6, states6, policies6 := l.link(6, 1500)
	a := start(t, "services: [{name: echo, proto: tcp, port: 7}]\nlinks:\n"+attach(t, v, "tap", "vm0", ours)+attach(t, v, "af_packet", "vm1", ours2)+link5+link6+
		"  - {name: ipsec7, kind: ipsec, if_id: 7, addresses: [\"fd00:7::1/64\"]}\n"+
		"routing: {routes: [{to: \""+theirsNet+"\", dev: ipsec5}]}\nipsec:\n  states:\n"+states5+states6+"  policies:\n"+policies5+policies6)
	capture(t, v, "vm0")

	sweep(t, v, "fd00:5::1", sizes(few, all))
	sweep(t, v, ours2, sizes(few, all)+" "+theirsInner)
	// A router does not fragment what is in transit: the host behind Leveret loses its first reply that is too long for
	// the link, and is told.
	if out, err := v.Try("ping -6 -c 2 -i 0.2 -W 1 -s 1452 -I " + theirsInner + " " + other); err != nil || !strings.Contains(out, "1 received") {
		t.Errorf("the first reply that is too long: %v\n%s", err, out)
	}
	sweep(t, v, other, sizes(few, all)+" "+theirsInner)
	for _, size := range []string{"0", "1352", "1353", "4000"} {
		a.must("ping", "-c", "3", "-i", "0.1", "-s", size, "fd00:5::2")
		a.must("ping", "-c", "3", "-i", "0.1", "-s", size, "fd00:6::2")
	}
	a.must("ping", "-c", "3", "-i", "0.1", "-I", ours2, theirsInner)

	ll := regexp.MustCompile(`inet6 (fe80::[0-9a-f:]+)`)
	kernels := ll.FindStringSubmatch(v.Run("ip -6 addr show dev ipsec6"))
	leverets := ll.FindStringSubmatch(a.must("addr", "show", "ipsec6"))
	if kernels == nil || leverets == nil {
		t.Fatal("link-local addresses of ipsec6:", kernels, leverets)
	}
	a.must("ping", "-c", "3", "-i", "0.1", kernels[1]+"%ipsec6")
	v.Run("ping -6 -c 3 -i 0.2 -W 2 " + leverets[1] + "%ipsec6")
	a.must("ping", "-c", "2", "-i", "0.1", "ff02::1%ipsec6")

	v.Run("head -c 300000 /dev/urandom >/run/sent && nc -w 5 fd00:5::1 7 </run/sent >/run/back; cmp /run/sent /run/back")
	v.Run("nc -w 5 fd00:6::1 7 </run/sent >/run/back; cmp /run/sent /run/back")
	v.Run("ip netns exec far iperf3 -s -D && sleep 0.3")
	for _, direction := range []string{"", "-R"} {
		v.Run("iperf3 -6 -n 1M -B " + theirsInner + " -c " + other + " " + direction)
	}

	// The link that is said to take 1500 octets takes 1426: sources are told.
	v.Run("ip -6 route change " + oursNet + " dev ipsec6 src " + theirsInner)
	if out, err := v.Try("ping -6 -M do -c 2 -i 0.3 -W 1 -s 1379 -I " + theirsInner + " " + other); err == nil || !strings.Contains(out, "mtu: 1426") {
		t.Errorf("the kernel's own packets are cut to what SAs take: %v\n%s", err, out)
	}
	a.must("route", "replace", theirsNet, "dev", "ipsec6")
	v.Run("ip -n far -6 route flush cache")
	for size, want := range map[int]bool{1378: true, 1379: false} {
		out, err := v.Try(fmt.Sprintf("ip netns exec far ping -6 -M do -c 2 -i 0.3 -W 1 -s %d %s", size, theirsInner))
		if (err == nil) != want || !want && !strings.Contains(out, "mtu: 1426") {
			t.Errorf("%d octets: %v\n%s", size, err, out)
		}
	}

	// Nobody is behind a link without SAs, at either end.
	for _, from := range []string{"ip netns exec far ping -6 -c 1 -W 2 fd00:7::9", "ping -6 -c 1 -W 2 fd00:7::9"} {
		if out, err := v.Try(from); err == nil || !strings.Contains(out, "Address unreachable") {
			t.Errorf("%s: %v\n%s", from, err, out)
		}
	}
	if out := a.must("-s", "-d", "link", "show", "ipsec7"); !regexp.MustCompile(`(?s)xfrm if_id 0x7 .*TX: .*collsns\n +0 +0 +1 +1 +1 +0\n`).MatchString(out) {
		t.Errorf("ipsec7:\n%s", out)
	}

	counters := kernelCounters(v)
	for _, id := range []uint32{5, 6} {
		to, from := linkSAs(id)
		for _, s := range []sa{to, from} {
			if counters[s.spi][0] < 10 {
				t.Errorf("spi %#x: the VM counts %d packets", s.spi, counters[s.spi][0])
			}
		}
	}
	sameStat(t, v, before)
	// An SA whose link is down opens nothing, at either end.
	v.Run("ip link set ipsec6 down")
	if out, err := a.cli("ping", "-c", "1", "-W", "1", theirsInner); err == nil || v.XfrmStat()["XfrmInNoPols"] != before["XfrmInNoPols"]+1 {
		t.Errorf("the kernel's link is down: %v, %v\n%s", err, v.XfrmStat(), out)
	}
	v.Run("ip link set ipsec6 up && ip -6 route replace fd00:6::1 dev ipsec6")
	a.must("link", "set", "ipsec6", "down")
	if out, err := v.Try("ping -6 -c 1 -W 1 fd00:6::1"); err == nil || !strings.Contains(a.must("stats", "drops"), "xfrm_in_no_pols") {
		t.Errorf("Leveret's link is down: %v\n%s", err, out)
	}
	if t.Failed() {
		t.Logf("%s\n%s\n%s", a.must("-s", "link"), a.must("stats", "drops"), v.Run("ip -s -d link"))
	}
}
