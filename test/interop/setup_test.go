package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leveret/extensions/xfrm/algo"
	"leveret/test/interop/vm"
)

// The network of SAs: in tunnel mode what is behind Leveret (the VM's second card, in a namespace of the guest) and
// what is behind the VM (an address of its lo) talk through SAs between ours and theirs.
const (
	oursNet     = "2001:db8:2::/64"
	theirsNet   = "2001:db8:b::/64"
	theirsInner = "2001:db8:b::1"
)

// transform is an algorithm of an SA.
type transform struct {
	kind algo.Kind
	name string
	key  int // octets, salt included
	icv  int // bits; 0 for enc
}

// layer is what a template of a policy asks for: one SA each way.
type layer struct {
	proto, mode string
	parts       []transform
	esn         bool
	window      int    // of replay; 0 is 128
	spi         uint32 // to the VM; that from it is the next
	udp         bool   // in UDP
	more        string // words of `ip xfrm state add` that the configuration does not have
}

// setup is what both sides are configured from: layers, the innermost first.
type setup []layer

// sa is one of the two SAs of a layer.
type sa struct {
	src, dst string
	spi      uint32
	reqid    int
}

// sas are the layer's; number is its place.
func (l layer) sas(number int) (toVM, fromVM sa) {
	return sa{ours, theirs, l.spi, number + 1}, sa{theirs, ours, l.spi + 1, number + 1}
}

// keyOf is the SA's key for a transform, 0x and digits; each SA has its own.
func (s sa) keyOf(t transform) string {
	var b strings.Builder
	b.WriteString("0x")
	for i := range t.key {
		fmt.Fprintf(&b, "%02x", byte(i*7)^t.name[i%len(t.name)]^byte(s.spi<<4))
	}
	return b.String()
}

// state is the SA in the words of `ip xfrm state add`.
func (l layer) state(s sa) string {
	w := fmt.Sprintf("src %s dst %s proto %s spi %#x reqid %d mode %s replay-window %d", s.src, s.dst, l.proto, s.spi, s.reqid, l.mode, l.replay())
	if l.esn {
		w += " flag esn"
	}
	for _, p := range l.parts {
		key := "'" + s.keyOf(p) + "'"
		if p.key == 0 {
			key = "''"
		}
		switch p.kind {
		case algo.AEAD:
			w += fmt.Sprintf(" aead '%s' %s %d", p.name, key, p.icv)
		case algo.Enc:
			w += fmt.Sprintf(" enc '%s' %s", p.name, key)
		case algo.Auth:
			w += fmt.Sprintf(" auth-trunc '%s' %s %d", p.name, key, p.icv)
		}
	}
	if l.udp {
		w += " encap espinudp 4500 4500 ::"
	}
	if l.mode == "beet" {
		w += " sel " + s.inner()
	}
	return w + l.more
}

func (l layer) replay() int {
	if l.window == 0 {
		return 128
	}
	return l.window
}

// inner are the addresses that BEET has inside.
func (s sa) inner() string {
	if s.src == ours {
		return fmt.Sprintf("src %s/128 dst %s/128", ours2, theirsInner)
	}
	return fmt.Sprintf("src %s/128 dst %s/128", theirsInner, ours2)
}

// item is the SA as an item of ipsec.states.
func (l layer) item(s sa) string {
	w := fmt.Sprintf("src: %q, dst: %q, proto: %s, spi: %#x, reqid: %d, mode: %s, replay_window: %d, esn: %v",
		s.src, s.dst, l.proto, s.spi, s.reqid, l.mode, l.replay(), l.esn)
	for _, p := range l.parts {
		key := s.keyOf(p)
		if p.key == 0 {
			key = ""
		}
		w += fmt.Sprintf(", %s: {name: %q, key: %q", p.kind, p.name, key)
		switch p.kind {
		case algo.AEAD:
			w += fmt.Sprintf(", icv_bits: %d", p.icv)
		case algo.Auth:
			w += fmt.Sprintf(", trunc_bits: %d", p.icv)
		}
		w += "}"
	}
	if l.udp {
		w += ", encap: {type: espinudp, sport: 4500, dport: 4500}"
	}
	if l.mode == "beet" {
		w += fmt.Sprintf(", sel: %q", s.inner())
	}
	return "{" + w + "}"
}

// tunneled: others than the two talk by it.
func (g setup) tunneled() bool { return g[0].mode == "tunnel" }

// beet: it has other addresses inside.
func (g setup) beet() bool { return g[0].mode == "beet" }

// selectors are what goes between the two: Leveret's side and the VM's.
func (g setup) selectors() (ours_, theirs_ string) {
	switch {
	case g.tunneled():
		return oursNet, theirsNet
	case g.beet():
		return ours2 + "/128", theirsInner + "/128"
	}
	return ours + "/128", theirs + "/128"
}

// policies of the VM.
func (g setup) policies() (lines []string) {
	local, remote := g.selectors()
	for _, p := range []struct{ dir, src, dst string }{{"out", remote, local}, {"in", local, remote}} {
		w := fmt.Sprintf("ip xfrm policy add src %s dst %s dir %s priority 100", p.src, p.dst, p.dir)
		for i, l := range g {
			toVM, s := l.sas(i)
			if p.dir == "in" {
				s = toVM
			}
			w += fmt.Sprintf(" tmpl src %s dst %s proto %s reqid %d mode %s", s.src, s.dst, l.proto, s.reqid, l.mode)
		}
		lines = append(lines, w)
	}
	for _, dir := range []string{"in", "out"} { // or nobody finds the other's link-layer address
		for _, typ := range []int{135, 136} {
			lines = append(lines, fmt.Sprintf("ip xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type %d dir %s priority 1", typ, dir))
		}
	}
	if g[len(g)-1].udp { // the socket gets its own only if they are let in, for which key daemons have a policy of the socket
		lines = append(lines, "ip xfrm policy add src ::/0 dst ::/0 proto udp dport 4500 dir in priority 1", "espinudp 4500 & sleep 0.1; kill -0 $!")
	}
	return lines
}

// guest configures the VM: SAs, policies, addresses and routes.
func (g setup) guest(v *vm.VM) {
	lines := []string{"set -e"}
	for i, l := range g {
		toVM, fromVM := l.sas(i)
		lines = append(lines, "ip xfrm state add "+l.state(toVM), "ip xfrm state add "+l.state(fromVM))
	}
	v.Run(strings.Join(append(lines, g.policies()...), "\n"))
	address(v, "eth0", theirs)
	if g.tunneled() || g.beet() {
		v.Run(fmt.Sprintf("ip -6 addr add %s/128 dev lo && ip -6 route add %s via %s src %s", theirsInner, oursNet, ours, theirsInner))
	}
}

// ipsec is Leveret's section, with states or without.
func (g setup) ipsec(states bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ipsec:\n  allow_legacy: true\n")
	if states {
		fmt.Fprintf(&b, "  states:\n")
		for i, l := range g {
			toVM, fromVM := l.sas(i)
			fmt.Fprintf(&b, "    - %s\n    - %s\n", l.item(toVM), l.item(fromVM))
		}
	}
	local, remote := g.selectors()
	fmt.Fprintf(&b, "  policies:\n")
	for _, dir := range []string{"in", "out"} {
		fmt.Fprintf(&b, "    - {name: nd-%s, dir: %s, priority: 1, action: allow, selector: {proto: ipv6-icmp, type: 133-137}}\n", dir, dir)
	}
	for _, p := range []struct{ dir, src, dst string }{{"out", local, remote}, {"in", remote, local}, {"fwd", remote, local}} {
		if p.dir == "fwd" && !g.tunneled() {
			continue
		}
		fmt.Fprintf(&b, "    - {name: vm-%s, dir: %s, priority: 100, action: protect, selector: {src: %q, dst: %q}, templates: [\n", p.dir, p.dir, p.src, p.dst)
		for i, l := range g {
			s, fromVM := l.sas(i)
			if p.dir != "out" {
				s = fromVM
			}
			ends := ""
			if l.mode != "transport" {
				ends = fmt.Sprintf("src: %q, dst: %q, ", s.src, s.dst)
			}
			fmt.Fprintf(&b, "        {%sproto: %s, mode: %s, reqid: %d, level: required},\n", ends, l.proto, l.mode, s.reqid)
		}
		fmt.Fprintf(&b, "      ]}\n")
	}
	return b.String()
}

// start makes the network and starts Leveret; states says whether its SAs are in the configuration.
func (g setup) start(t *testing.T, v *vm.VM, states bool) *appliance {
	t.Helper()
	g.guest(v)
	yaml := "services: [{name: echo, proto: tcp, port: 7}]\nlinks:\n" + attach(t, v, "tap", "vm0", ours)
	if g.tunneled() || g.beet() {
		far(t, v)
		yaml += attach(t, v, "af_packet", "vm1", ours2) + "routing: {routes: [{to: \"" + theirsNet + "\", via: \"" + theirs + "\", dev: vm0}]}\n"
	}
	return start(t, yaml+g.ipsec(states))
}

// works tries the whole: ping of the sizes, TCP both ways, packets counted at the kernel in each SA and none refused
// there, nothing in clear.
func (g setup) works(t *testing.T, sizes string) {
	t.Helper()
	v := peer.VM(t)
	before := v.XfrmStat()
	t.Cleanup(func() { sameStat(t, v, before) })
	a := g.start(t, v, true)
	capture(t, v, "vm0")
	g.traffic(t, v, sizes)
	if local, _ := g.selectors(); local == ours+"/128" {
		a.must("ping", "-c", "3", "-i", "0.1", "-s", "3000", theirs)
	} else {
		a.must("ping", "-c", "3", "-i", "0.1", "-I", ours2, theirsInner)
	}
	g.counted(t, v, a)
}

// sameStat wants that the VM has refused nothing since.
func sameStat(t *testing.T, v *vm.VM, before map[string]uint64) {
	t.Helper()
	for name, n := range v.XfrmStat() {
		if n != before[name] {
			t.Errorf("the VM's %s: %d more", name, n-before[name])
		}
	}
}

// far puts the VM's second card into a namespace of the guest: a host behind Leveret.
func far(t *testing.T, v *vm.VM) {
	v.Run(fmt.Sprintf("ip netns add far && ip link set eth1 netns far && ip -n far link set eth1 up && ip -n far addr add %s/64 dev eth1 nodad && "+
		"ip -n far route add default via %s", other, ours2))
	t.Cleanup(func() { v.Run("killall -q -9 iperf3; ip -n far link set eth1 netns 1 && ip netns del far") })
}

var current = regexp.MustCompile(`(?s)spi 0x([0-9a-f]+)\(.*?lifetime current:\s+(\d+)\(bytes\), (\d+)\(packets\)`)

// kernelCounters are the packets and octets of each SA of the VM, by SPI.
func kernelCounters(v *vm.VM) map[uint32][2]uint64 {
	out := map[uint32][2]uint64{}
	for _, m := range current.FindAllStringSubmatch(v.States(), -1) {
		spi, _ := strconv.ParseUint(m[1], 16, 32) // the expression takes digits only
		octets, _ := strconv.ParseUint(m[2], 10, 64)
		packets, _ := strconv.ParseUint(m[3], 10, 64)
		out[uint32(spi)] = [2]uint64{packets, octets}
	}
	return out
}

// capture records what is on a TAP device until the test ends, and fails it if echo messages or TCP are there in
// clear, or one of the SAs is not. It sees both directions of a bridged device only: what a link of kind af_packet
// sends goes past taps (PACKET_QDISC_BYPASS).
func capture(t *testing.T, v *vm.VM, tap string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pcap")
	c := exec.Command("ip", "netns", "exec", v.Netns, "tcpdump", "-Z", "root", "-i", tap, "--immediate-mode", "-U", "-s", "200", "-w", file)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, err := os.Stat(file); err == nil && s.Size() >= 24 {
			break
		}
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGINT)
		_ = c.Wait()
		if plain := sh(t, "tcpdump -n -r %s 'tcp or icmp6 and (ip6[40] == 128 or ip6[40] == 129)' 2>/dev/null | head -5", file); plain != "" {
			t.Errorf("in clear on %s:\n%s", tap, plain)
		}
		for _, from := range []string{ours, theirs} {
			if sh(t, "tcpdump -n -c 1 -r %s 'src %s and (ip6[6] == 50 or ip6[6] == 51 or udp port 4500)' 2>/dev/null", file, from) == "" {
				t.Errorf("nothing protected from %s on %s", from, tap)
			}
		}
		if t.Failed() {
			t.Logf("on %s, the last packets:\n%s", tap, sh(t, "tcpdump -nvv -r %s 2>/dev/null | tail -40", file))
		}
	})
}

// counted wants packets in each SA, and the same packets and octets at both ends.
func (g setup) counted(t *testing.T, v *vm.VM, a *appliance) {
	t.Helper()
	equalCounters(t, v, a)
	counters := kernelCounters(v)
	for _, l := range g {
		for _, spi := range []uint32{l.spi, l.spi + 1} {
			if counters[spi][0] < 50 {
				t.Errorf("spi %#x: the VM counts %d packets", spi, counters[spi][0])
			}
		}
	}
}

// traffic is what the VM starts.
func (g setup) traffic(t *testing.T, v *vm.VM, sizes string) {
	t.Helper()
	if !g.tunneled() {
		to, from := ours, ""
		if g.beet() {
			to, from = ours2, " "+theirsInner
		}
		sweep(t, v, to, sizes+from)
		v.Run("head -c 300000 /dev/urandom >/run/sent && nc -w 5 " + to + " 7 </run/sent >/run/back; cmp /run/sent /run/back")
		return
	}
	// A gateway does not fragment what is in transit: the host behind Leveret loses its first reply that is too long
	// for the tunnel, and is told the path MTU (RFC 4301 8.2).
	if out, err := v.Try("ping -6 -c 2 -i 0.2 -W 1 -s 1452 -I " + theirsInner + " " + other); err != nil || !strings.Contains(out, "1 received") {
		t.Errorf("the first reply that is too long: %v\n%s", err, out)
	}
	sweep(t, v, ours2, sizes+" "+theirsInner)
	sweep(t, v, other, sizes+" "+theirsInner)
	v.Run("ip netns exec far iperf3 -s -D && sleep 0.3")
	for _, direction := range []string{"", "-R"} {
		v.Run("iperf3 -6 -n 1M -B " + theirsInner + " -c " + other + " " + direction)
	}
}
