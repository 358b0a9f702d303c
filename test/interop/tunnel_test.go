package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"leveret/test/interop/vm"
)

const (
	oursIn, theirsIn = "2001:db8:7::1", "2001:db8:7::2" // the ends of the link that the tunnel is
	oursIn2          = "2001:db8:8::1"                  // of one through it
	theirsIn2        = "2001:db8:8::2"
)

// pipeKind is a tunnel in the words of both ends.
type pipeKind struct {
	name, kind, linux, words, keys string
	long                           bool // with LVT_LONG only
}

func pipes() []pipeKind {
	const gre = "ip6gre"
	out := []pipeKind{
		{"ip6ip6", "ip6ip6", "ip6tnl mode ip6ip6", "", "", false},
		{"ip6ip6-none", "ip6ip6", "ip6tnl mode ip6ip6", "encaplimit none", "encap_limit: none", true},
		{"ip6ip6-inherit", "ip6ip6", "ip6tnl mode ip6ip6", "tclass inherit flowlabel inherit dscp inherit", "tclass: inherit, flowlabel: inherit, dscp: inherit", false},
		{"ip6gre", gre, gre, "", "", false},
		{"ip6gre-none", gre, gre, "encaplimit none", "encap_limit: none", true},
		{"ip6gre-key", gre, gre, "key 1.2.3.4", "key: 1.2.3.4", true},
		{"ip6gre-keys", gre, gre, "ikey 5 okey 6", "ikey: 6, okey: 5", true},
		{"ip6gre-csum", gre, gre, "csum", "csum: true", true},
		{"ip6gre-seq", gre, gre, "seq", "seq: true", true},
		{"ip6gre-all", gre, gre, "key 7 csum seq encaplimit none", "key: 7, csum: true, seq: true, encap_limit: none", false},
	}
	for n := range 4 {
		out = append(out, pipeKind{fmt.Sprintf("ip6ip6-limit-%d", n), "ip6ip6", "ip6tnl mode ip6ip6", fmt.Sprintf("encaplimit %d", n), fmt.Sprintf("encap_limit: %d", n), n > 0})
	}
	return out
}

// add makes the VM's end.
func (k pipeKind) add(v *vm.VM, name, local, remote, addr, words string) {
	v.Run(fmt.Sprintf("ip link add %s type %s local %s remote %s %s && ip link set %s up && ip -6 addr add %s/64 dev %s nodad",
		name, k.linux, local, remote, strings.TrimSpace(k.words+" "+words), name, addr, name))
}

// leveretEnd is an item of tunnels.
func leveretEnd(name, kind, local, remote, addr string, keys ...string) string {
	out := fmt.Sprintf("  - {name: %s, kind: %s, local: %q, remote: %q, addresses: [\"%s/64\"]", name, kind, local, remote, addr)
	for _, k := range keys {
		if k != "" {
			out += ", " + k
		}
	}
	return out + "}\n"
}

// record writes what is on a TAP device to a file until the test ends, and wants tshark to find nothing wrong in it. It
// returns the fields of packets by a display filter, so far.
func record(t *testing.T, v *vm.VM, tap string) (fields func(filter string, names ...string) []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pcap")
	c := exec.Command("ip", "netns", "exec", v.Netns, "tcpdump", "-Z", "root", "-i", tap, "--immediate-mode", "-U", "-w", file)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, err := os.Stat(file); err == nil && s.Size() >= 24 {
			break
		}
	}
	fields = func(filter string, names ...string) []string {
		t.Helper()
		args := ""
		for _, n := range names {
			args += " -e " + n
		}
		out := sh(t, "tshark -n -r %s -Y %q -T fields -E separator=/s %s 2>/dev/null", file, filter, args)
		return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGINT)
		_ = c.Wait()
		// A header that a quote cuts is none that is malformed.
		bad := sh(t, "tshark -n -r %s -o ip.check_checksum:TRUE -Y '(_ws.malformed or gre.checksum.status == \"Bad\" or icmpv6.checksum.status == \"Bad\") and not (icmpv6.type < 128)' 2>/dev/null | head -5", file)
		if bad != "" {
			t.Errorf("malformed on %s:\n%s", tap, bad)
		}
		if t.Failed() {
			t.Logf("on %s, the last packets:\n%s", tap, sh(t, "tcpdump -nvv -r %s 2>/dev/null | tail -40", file))
		}
	})
	return fields
}

// TestTunnels: links of kind ip6ip6 and ip6gre and the kernel's: every size of ping from both ends, link-local addresses,
// TCP both ways from behind both, encapsulation limits, keys, checksums and numbers.
func TestTunnels(t *testing.T) {
	for _, k := range pipes() {
		if k.long && os.Getenv("LVT_LONG") == "" {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			v := peer.VM(t)
			address(v, "eth0", theirs)
			far(t, v)
			k.add(v, "t0", theirs, ours, theirsIn, "")
			v.Run("ip -6 route add 2001:db8:2::/64 dev t0")
			a := start(t, "services: [{name: echo, proto: tcp, port: 7}]\nlinks:\n"+attach(t, v, "tap", "vm0", ours)+attach(t, v, "af_packet", "vm1", ours2)+
				"tunnels:\n"+leveretEnd("t0", k.kind, ours, theirs, oursIn, k.keys))
			fields := record(t, v, "vm0")
			sweep(t, v, oursIn, sizes(few, all))
			// A router does not fragment what is in transit: the host behind Leveret loses its first reply that is too long for
			// the tunnel, and is told.
			if out, err := v.Try("ping -6 -c 2 -i 0.2 -W 1 -s 1452 " + other); err != nil || !strings.Contains(out, "1 received") {
				t.Errorf("the first reply that is too long: %v\n%s", err, out)
			}
			sweep(t, v, other, sizes(few, all))
			for _, n := range []int{0, 1300, 1400, 1410, 1452, 4000} {
				a.must("ping", "-c", "2", "-i", "0.1", "-W", "5", "-s", strconv.Itoa(n), theirsIn)
			}
			v.Run("head -c 300000 /dev/urandom >/run/sent && nc -w 5 " + oursIn + " 7 </run/sent >/run/back; cmp /run/sent /run/back")
			v.Run("ip netns exec far iperf3 -s -D && sleep 0.3")
			for _, direction := range []string{"", "-R"} {
				v.Run("iperf3 -6 -n 1M -c " + other + " " + direction)
			}
			want := "4"
			if at := strings.LastIndex(k.words, "encaplimit "); at >= 0 {
				want = strings.TrimSuffix(strings.Fields(k.words[at:])[1], "none")
			}
			for _, from := range []string{ours, theirs} {
				seen := map[string]bool{}
				for _, f := range fields("ipv6.src == "+from+" and not icmpv6.type == 135 and not icmpv6.type == 136 and not ipv6.fragment", "ipv6.opt.tel") {
					seen[f] = true
				}
				if want != "" && (len(seen) != 1 || !seen[want]) || want == "" && len(seen) != 0 {
					t.Errorf("limits %v from %s, want %q", seen, from, want)
				}
			}
			if out := a.must("-s", "link", "show", "t0"); !strings.Contains(out, "TX:") {
				t.Error(out)
			}
		})
	}
}

// TestNestedTunnels: a tunnel through a tunnel, with every limit, at both ends: the limit is counted down, and what may go
// no further is refused (RFC 2473 4.1.1).
func TestNestedTunnels(t *testing.T) {
	k := pipes()[0]
	for limit := range 3 {
		t.Run(strconv.Itoa(limit), func(t *testing.T) {
			v := peer.VM(t)
			address(v, "eth0", theirs)
			k.add(v, "t0", theirs, ours, theirsIn, "encaplimit 4")
			k.add(v, "t1", theirsIn, oursIn, theirsIn2, fmt.Sprintf("encaplimit %d", limit))
			a := start(t, "links:\n"+attach(t, v, "tap", "vm0", ours)+"tunnels:\n"+
				leveretEnd("t0", k.kind, ours, theirs, oursIn, "encap_limit: 4")+leveretEnd("t1", k.kind, oursIn, theirsIn, oursIn2, fmt.Sprintf("encap_limit: %d", limit)))
			fields := record(t, v, "vm0")
			if limit == 0 {
				if out, err := v.Try("ping -6 -c 1 -W 2 " + oursIn2); err == nil {
					t.Errorf("the kernel sends what may go no further: %s", out)
				}
				if out, err := a.cli("ping", "-c", "1", "-W", "2", theirsIn2); err == nil || !strings.Contains(out, "Address unreachable") {
					t.Errorf("%v\n%s", err, out)
				}
				return
			}
			sweep(t, v, oursIn2, sizes("0-64,1180-1290", all))
			a.must("ping", "-c", "3", "-i", "0.1", "-s", "1300", theirsIn2)
			for _, from := range []string{ours, theirs} {
				seen := map[string]bool{}
				for _, f := range fields("ipv6.src == "+from+" and ipv6.src == 2001:db8:8::/64", "ipv6.opt.tel") {
					seen[f] = true
				}
				if want := fmt.Sprintf("%d,%d", limit-1, limit); len(seen) != 1 || !seen[want] {
					t.Errorf("limits from %s: %v, want %s", from, seen, want)
				}
			}
		})
	}
}

// TestTunnelPathMTU: a router of the VM between the ends takes 1300 octets only on the way there; the kernel tells Leveret,
// which tells the source of what is too long, and carries 1280 octets in fragments. Back the kernel has 1500: it does not
// fragment its tunnel packets.
func TestTunnelPathMTU(t *testing.T) {
	for _, k := range []pipeKind{pipes()[0], pipes()[3]} {
		t.Run(k.name, func(t *testing.T) {
			v := peer.VM(t)
			address(v, "eth0", theirs)
			v.Run("sysctl -qw net.ipv6.conf.all.forwarding=1 && ip netns add end && ip link add v0 type veth peer name v1 netns end && " +
				"ip link set v0 up && ip -6 addr add 2001:db8:3::1/64 dev v0 nodad noprefixroute && ip -6 route add 2001:db8:3::/64 dev v0 mtu lock 1300 && " +
				"ip -n end link set v1 up && " +
				"ip -n end -6 addr add 2001:db8:3::2/64 dev v1 nodad && ip -n end -6 route add default via 2001:db8:3::1")
			t.Cleanup(func() { v.Run("ip netns del end; sysctl -qw net.ipv6.conf.all.forwarding=0") })
			v.Run(fmt.Sprintf("ip -n end link add t0 type %s local 2001:db8:3::2 remote %s %s && ip -n end link set t0 up && ip -n end -6 addr add %s/64 dev t0 nodad && "+
				"ip -n end -6 route add 2001:db8:2::/64 dev t0", k.linux, ours, k.words, theirsIn))
			far(t, v)
			v.Run("ip -n far -6 route flush cache")
			a := start(t, "links:\n"+attach(t, v, "tap", "vm0", ours)+attach(t, v, "af_packet", "vm1", ours2)+
				"tunnels:\n"+leveretEnd("t0", k.kind, ours, "2001:db8:3::2", oursIn, k.keys)+
				"routing: {routes: [{to: \"2001:db8:3::/64\", via: \""+theirs+"\"}]}\n")
			record(t, v, "vm0")
			a.must("ping", "-c", "1", "-W", "5", theirsIn)
			// The first that is too long for the path is lost in the VM; its source hears of it.
			out, err := v.Try("ip netns exec far ping -6 -M do -c 3 -i 0.3 -W 1 -s 1380 " + theirsIn)
			if err == nil || !strings.Contains(out, "mtu: 1280") && !strings.Contains(out, "mtu=1280") {
				t.Errorf("%v\n%s", err, out)
			}
			for _, n := range []int{0, 1200, 1232} {
				if out, err := v.Try(fmt.Sprintf("ip netns exec far ping -6 -M do -c 2 -i 0.2 -W 2 -s %d %s", n, theirsIn)); err != nil {
					t.Errorf("%d octets: %v\n%s", n, err, out)
				}
			}
			for _, n := range []int{1232, 1233, 1400, 4000} {
				a.must("ping", "-c", "2", "-i", "0.1", "-W", "5", "-s", strconv.Itoa(n), theirsIn)
			}
			v.Run("ip netns exec end iperf3 -s -D && sleep 0.3")
			t.Cleanup(func() { v.Run("killall -q -9 iperf3; true") })
			for _, direction := range []string{"", "-R"} {
				v.Run("ip netns exec far iperf3 -6 -n 1M -c " + theirsIn + " " + direction)
			}
		})
	}
}

// TestTunnelErrors: what the kernel says of tunnel packets, Leveret says to the sources of what they carry.
func TestTunnelErrors(t *testing.T) {
	k := pipes()[0]
	v := peer.VM(t)
	address(v, "eth0", theirs)
	v.Run("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.icmp.ratelimit=0 && ip -6 route add unreachable 2001:db8:9::/64 && " +
		"ip -6 route add prohibit 2001:db8:9:1::/64 && " +
		"ip link add d0 type dummy && ip link set d0 up && ip -6 addr add 2001:db8:3::1/64 dev d0 nodad")
	t.Cleanup(func() {
		v.Run("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.icmp.ratelimit=1000; ip -6 route del unreachable 2001:db8:9::/64; " +
			"ip -6 route del prohibit 2001:db8:9:1::/64; ip link del d0")
	})
	a := start(t, "links:\n"+attach(t, v, "tap", "vm0", ours)+"tunnels:\n"+
		leveretEnd("t0", k.kind, ours, "2001:db8:9::1", "fd00:1::1")+leveretEnd("t1", k.kind, ours, "2001:db8:3::2", "fd00:2::1", "hop_limit: 1")+
		leveretEnd("t2", k.kind, ours, "2001:db8:9:1::1", "fd00:3::1")+
		"routing: {routes: [{to: \"2001:db8:9::/48\", via: \""+theirs+"\"}, {to: \"2001:db8:3::/64\", via: \""+theirs+"\"}]}\n")
	record(t, v, "vm0")
	for _, dst := range []string{"fd00:1::2", "fd00:2::2", "fd00:3::2"} {
		if out, err := a.cli("ping", "-c", "1", "-W", "3", dst); err == nil || !strings.Contains(out, "Address unreachable") {
			t.Errorf("%s: %v\n%s", dst, err, out)
		}
	}
}
