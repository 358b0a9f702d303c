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

// The network of the grid: in tunnel mode what is behind Leveret (the VM's second card, in a namespace of the
// guest) and what is behind the VM (an address of its lo) talk through SAs between ours and theirs.
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

// grid is one cell of the table: what both sides are configured from.
type grid struct {
	name  string
	proto string
	parts []transform
	mode  string
	esn   bool
}

// suites are the algorithms of the table; modes and ESN come in cells.
var suites = []struct {
	name, proto string
	parts       []transform
}{
	{"aes-gcm-128", "esp", []transform{{algo.AEAD, "rfc4106(gcm(aes))", 20, 128}}},
	{"aes-gcm-256", "esp", []transform{{algo.AEAD, "rfc4106(gcm(aes))", 36, 128}}},
	{"aes-gcm-256-icv64", "esp", []transform{{algo.AEAD, "rfc4106(gcm(aes))", 36, 64}}},
	{"aes-ccm-128", "esp", []transform{{algo.AEAD, "rfc4309(ccm(aes))", 19, 128}}},
	{"aes-ccm-256-icv96", "esp", []transform{{algo.AEAD, "rfc4309(ccm(aes))", 35, 96}}},
	{"gmac-128", "esp", []transform{{algo.AEAD, "rfc4543(gcm(aes))", 20, 128}}},
	{"chacha20-poly1305", "esp", []transform{{algo.AEAD, "rfc7539esp(chacha20,poly1305)", 36, 128}}},
	{"aes-cbc-128-sha256", "esp", []transform{{algo.Enc, "cbc(aes)", 16, 0}, {algo.Auth, "hmac(sha256)", 32, 128}}},
	{"aes-cbc-256-sha512", "esp", []transform{{algo.Enc, "cbc(aes)", 32, 0}, {algo.Auth, "hmac(sha512)", 64, 256}}},
	{"aes-cbc-192-sha384", "esp", []transform{{algo.Enc, "cbc(aes)", 24, 0}, {algo.Auth, "hmac(sha384)", 48, 192}}},
	{"aes-cbc-128-sha1", "esp", []transform{{algo.Enc, "cbc(aes)", 16, 0}, {algo.Auth, "hmac(sha1)", 20, 96}}},
	{"aes-ctr-128-sha256-96", "esp", []transform{{algo.Enc, "rfc3686(ctr(aes))", 20, 0}, {algo.Auth, "hmac(sha256)", 32, 96}}},
	{"null-sha256", "esp", []transform{{algo.Enc, "ecb(cipher_null)", 0, 0}, {algo.Auth, "hmac(sha256)", 32, 128}}},
	{"3des-md5", "esp", []transform{{algo.Enc, "cbc(des3_ede)", 24, 0}, {algo.Auth, "hmac(md5)", 16, 96}}},
	{"aes-cbc-128-xcbc", "esp", []transform{{algo.Enc, "cbc(aes)", 16, 0}, {algo.Auth, "xcbc(aes)", 16, 96}}},
	{"sha256", "ah", []transform{{algo.Auth, "hmac(sha256)", 32, 128}}},
	{"sha384", "ah", []transform{{algo.Auth, "hmac(sha384)", 48, 192}}},
	{"sha512", "ah", []transform{{algo.Auth, "hmac(sha512)", 64, 256}}},
	{"sha1", "ah", []transform{{algo.Auth, "hmac(sha1)", 20, 96}}},
}

// cells are all of the table with LVT_LONG; otherwise every third suite, with the modes and ESN by turns.
func cells() (out []grid) {
	long := os.Getenv("LVT_LONG") != ""
	for i, s := range suites {
		for j, mode := range []string{"transport", "tunnel"} {
			for k, esn := range []bool{false, true} {
				if !long && (i%3 != 0 || i%2 != j || i/2%2 != k) {
					continue
				}
				name := s.proto + " " + s.name + " " + mode
				if esn {
					name += " esn"
				}
				out = append(out, grid{name, s.proto, s.parts, mode, esn})
			}
		}
	}
	return out
}

// sa is one of the two SAs of a cell.
type sa struct {
	src, dst string
	spi      uint32
}

var (
	toVM   = sa{ours, theirs, 0x1001}
	fromVM = sa{theirs, ours, 0x1002}
)

// keyOf is the SA's key for a transform, 0x and digits; each SA has its own.
func (s sa) keyOf(t transform) string {
	var b strings.Builder
	b.WriteString("0x")
	for i := range t.key {
		fmt.Fprintf(&b, "%02x", byte(i*7)^t.name[i%len(t.name)]^byte(s.spi<<4))
	}
	return b.String()
}

// kernelState is the SA in the words of `ip xfrm state`.
func (g grid) kernelState(s sa) string {
	w := fmt.Sprintf("ip xfrm state add src %s dst %s proto %s spi %#x reqid 1 mode %s replay-window 128", s.src, s.dst, g.proto, s.spi, g.mode)
	if g.esn {
		w += " flag esn"
	}
	for _, p := range g.parts {
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
	return w
}

// selectors are what goes between the two: Leveret's side and the VM's.
func (g grid) selectors() (ours_, theirs_ string) {
	if g.mode == "tunnel" {
		return oursNet, theirsNet
	}
	return ours + "/128", theirs + "/128"
}

// kernel configures a kernel at the local end of the SA out.
func (g grid) kernel(out, in sa, local, remote string) string {
	lines := []string{g.kernelState(out), g.kernelState(in)}
	policy := func(dir, src, dst string, s sa) {
		lines = append(lines, fmt.Sprintf("ip xfrm policy add src %s dst %s dir %s priority 100 tmpl src %s dst %s proto %s reqid 1 mode %s",
			src, dst, dir, s.src, s.dst, g.proto, g.mode))
	}
	policy("out", local, remote, out)
	policy("in", remote, local, in)
	for _, dir := range []string{"in", "out"} { // or nobody finds the other's link-layer address
		for _, typ := range []int{135, 136} {
			lines = append(lines, fmt.Sprintf("ip xfrm policy add src ::/0 dst ::/0 proto ipv6-icmp type %d dir %s priority 1", typ, dir))
		}
	}
	return "set -e\n" + strings.Join(lines, "\n")
}

// ipsec is Leveret's section for the cell.
func (g grid) ipsec() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ipsec:\n  allow_legacy: true\n  states:\n")
	for _, s := range []sa{toVM, fromVM} {
		fmt.Fprintf(&b, "    - {src: \"%s\", dst: \"%s\", proto: %s, spi: %#x, reqid: 1, mode: %s, replay_window: 128, esn: %v", s.src, s.dst, g.proto, s.spi, g.mode, g.esn)
		for _, p := range g.parts {
			key := s.keyOf(p)
			if p.key == 0 {
				key = ""
			}
			fmt.Fprintf(&b, ", %s: {name: \"%s\", key: \"%s\"", p.kind, p.name, key)
			switch p.kind {
			case algo.AEAD:
				fmt.Fprintf(&b, ", icv_bits: %d", p.icv)
			case algo.Auth:
				fmt.Fprintf(&b, ", trunc_bits: %d", p.icv)
			}
			b.WriteString("}")
		}
		b.WriteString("}\n")
	}
	local, remote := g.selectors()
	fmt.Fprintf(&b, "  policies:\n")
	for _, dir := range []string{"in", "out"} {
		fmt.Fprintf(&b, "    - {name: nd-%s, dir: %s, priority: 1, action: allow, selector: {proto: ipv6-icmp, type: 133-137}}\n", dir, dir)
	}
	for _, p := range []struct {
		dir, src, dst string
		sa            sa
	}{{"out", local, remote, toVM}, {"in", remote, local, fromVM}, {"fwd", remote, local, fromVM}} {
		if p.dir == "fwd" && g.mode != "tunnel" {
			continue
		}
		fmt.Fprintf(&b, "    - {name: vm-%s, dir: %s, priority: 100, action: protect, selector: {src: \"%s\", dst: \"%s\"},\n", p.dir, p.dir, p.src, p.dst)
		fmt.Fprintf(&b, "       templates: [{src: \"%s\", dst: \"%s\", proto: %s, mode: %s, reqid: 1, level: required}]}\n", p.sa.src, p.sa.dst, g.proto, g.mode)
	}
	return b.String()
}

// network gives the VM the cell's addresses and routes.
func (g grid) network(v *vm.VM) {
	address(v, "eth0", theirs)
	if g.mode == "tunnel" {
		v.Run(fmt.Sprintf("ip -6 addr add %s/128 dev lo && ip -6 route add %s via %s src %s", theirsInner, oursNet, ours, theirsInner))
	}
}

// far puts the VM's second card into a namespace of the guest: a host behind Leveret.
func far(t *testing.T, v *vm.VM) {
	v.Run(fmt.Sprintf("ip netns add far && ip link set eth1 netns far && ip -n far link set eth1 up && ip -n far addr add %s/64 dev eth1 nodad && "+
		"ip -n far route add default via %s", other, ours2))
	t.Cleanup(func() { v.Run("killall -q -9 iperf3; ip -n far link set eth1 netns 1 && ip netns del far") })
}

var current = regexp.MustCompile(`(?s)spi 0x([0-9a-f]+)\(.*?lifetime current:\s+\d+\(bytes\), (\d+)\(packets\)`)

// kernelPackets are the packets of each SA of the VM, by SPI.
func kernelPackets(v *vm.VM) map[uint32]uint64 {
	out := map[uint32]uint64{}
	for _, m := range current.FindAllStringSubmatch(v.States(), -1) {
		spi, _ := strconv.ParseUint(m[1], 16, 32) // the expression takes digits only
		out[uint32(spi)], _ = strconv.ParseUint(m[2], 10, 64)
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
			if sh(t, "tcpdump -n -c 1 -r %s 'src %s and (ip6[6] == 50 or ip6[6] == 51)' 2>/dev/null", file, from) == "" {
				t.Errorf("nothing protected from %s on %s", from, tap)
			}
		}
		if t.Failed() {
			t.Logf("on %s, the last packets:\n%s", tap, sh(t, "tcpdump -nvv -r %s 2>/dev/null | tail -40", file))
		}
	})
}

// TestGrid: ESP and AH of Leveret and the kernel, by every cell of the table: every size of ping, TCP both
// ways, packets counted at the kernel in both SAs and none refused there, nothing in clear.
func TestGrid(t *testing.T) {
	for _, g := range cells() {
		t.Run(g.name, func(t *testing.T) {
			v := peer.VM(t)
			before := v.XfrmStat()
			g.network(v)
			local, remote := g.selectors()
			v.Run(g.kernel(fromVM, toVM, remote, local))
			yaml := "services: [{name: echo, proto: tcp, port: 7}]\nlinks:\n" + attach(t, v, "tap", "vm0", ours)
			if g.mode == "tunnel" {
				far(t, v)
				yaml += attach(t, v, "af_packet", "vm1", ours2) + "routing: {routes: [{to: \"" + theirsNet + "\", via: \"" + theirs + "\", dev: vm0}]}\n"
			}
			a := start(t, yaml+g.ipsec())
			capture(t, v, "vm0")
			g.traffic(t, v)
			if g.mode == "tunnel" {
				a.must("ping", "-c", "3", "-i", "0.1", "-I", ours2, theirsInner)
			} else {
				a.must("ping", "-c", "3", "-i", "0.1", "-s", "3000", theirs)
			}
			counted(t, v)
			for name, n := range v.XfrmStat() {
				if n != before[name] {
					t.Errorf("the VM's %s: %d more", name, n-before[name])
				}
			}
		})
	}
}

// counted wants packets in each SA at the kernel.
func counted(t *testing.T, v *vm.VM) {
	t.Helper()
	packets := kernelPackets(v)
	for _, s := range []sa{toVM, fromVM} {
		if packets[s.spi] < 100 {
			t.Errorf("spi %#x: the VM counts %d packets", s.spi, packets[s.spi])
		}
	}
}

// traffic is what the VM starts.
func (g grid) traffic(t *testing.T, v *vm.VM) {
	t.Helper()
	if g.mode == "transport" {
		sweep(t, v, ours, sizes(few, all))
		v.Run("head -c 300000 /dev/urandom >/run/sent && nc -w 5 " + ours + " 7 </run/sent >/run/back; cmp /run/sent /run/back")
		return
	}
	// A gateway does not fragment what is in transit: the host behind Leveret loses its first reply that is too long
	// for the tunnel, and is told the path MTU (RFC 4301 8.2).
	if out, err := v.Try("ping -6 -c 2 -i 0.2 -W 1 -s 1452 -I " + theirsInner + " " + other); err != nil || !strings.Contains(out, "1 received") {
		t.Errorf("the first reply that is too long: %v\n%s", err, out)
	}
	sweep(t, v, ours2, sizes(few, all)+" "+theirsInner)
	sweep(t, v, other, sizes(few, all)+" "+theirsInner)
	v.Run("ip netns exec far iperf3 -s -D && sleep 0.3")
	for _, direction := range []string{"", "-R"} {
		v.Run("iperf3 -6 -n 1M -B " + theirsInner + " -c " + other + " " + direction)
	}
}
