package e2e

import (
	enc "encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/hostdev"
)

// nobody is the user and the group that the gateways run as.
const nobody = 65534

// openTAP makes a TAP device in a namespace, with superpackets or without.
func openTAP(t *testing.T, ns, name string, flags uint16) *os.File {
	t.Helper()
	return openIn(t, ns, func() (int, error) {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return fd, err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
		return fd, unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	})
}

// openPacket opens a packet socket on a device of a namespace.
func openPacket(t *testing.T, ns, device string) *os.File {
	t.Helper()
	return openIn(t, ns, func() (int, error) {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return -1, err
		}
		all := enc.BigEndian.Uint16(enc.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
		if err != nil {
			return -1, err
		}
		return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
}

func openIn(t *testing.T, ns string, open func() (int, error)) *os.File {
	t.Helper()
	fd := -1
	err := hostdev.In(ns, func() (err error) { fd, err = open(); return err })
	if err != nil {
		t.Fatal(errors.Join(err, unix.Close(fd)))
	}
	f := os.NewFile(uintptr(fd), "link")
	t.Cleanup(func() { f.Close() })
	return f
}

// startBare starts an appliance as nobody, without any capability and with no way to get one, whose links are open: the
// first is descriptor 3.
func startBare(t *testing.T, yaml string, links ...*os.File) *appliance {
	t.Helper()
	a := &appliance{t: t, dir: tempDir(t)}
	a.write(yaml)
	program := filepath.Join(a.dir, "leveret") // nobody does not get at where it was built
	sh(t, fmt.Sprintf("cp %s %s && chown -R %d:%d %s", binary, program, nobody, nobody, a.dir))
	cmd := exec.Command("setpriv", "--reuid", fmt.Sprint(nobody), "--regid", fmt.Sprint(nobody), "--clear-groups",
		"--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs", program, "run", "-c", a.file())
	cmd.ExtraFiles = links
	a.run(cmd)
	t.Cleanup(func() {
		if a.alive() {
			a.stop()
		}
	})
	status := sh(t, fmt.Sprintf("cat /proc/%d/status", a.cmd.Process.Pid))
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(status, want+"\n") {
			t.Fatalf("not %q:\n%s", want, status)
		}
	}
	return a
}

// TestGatewayWithoutPrivileges: two gateways with an ESP tunnel between them run as nobody and have no capability: they
// are given their links open. The kernel's own ESP has no part in it.
func TestGatewayWithoutPrivileges(t *testing.T) {
	need(t, "iperf3", "tcpdump", "tshark", "setpriv")
	p := &topology{a: ns(t), b: ns(t), devA: "ta", devB: "tb"}
	mid := ns(t)
	in(t, mid, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
	sh(t, fmt.Sprintf("ip -n %[1]s link add w1 type veth peer name w2; ip -n %[1]s link set w1 up; ip -n %[1]s link set w2 up", mid))
	const g1, g2, lanA, lanB = "2001:db8:9::1", "2001:db8:9::2", "2001:db8:1::/64", "2001:db8:2::/64"
	const suite = `aead: {name: "rfc4106(gcm(aes))", key: "0x000102030405060708090a0b0c0d0e0f1011SPI", icv_bits: 128}`
	link := func(name string, fd int, addr string) string {
		return fmt.Sprintf("  - {name: %s, kind: fd, fd: %d, mtu: 1500, dad: {transmits: 0}, addresses: [\"%s/64\"]}\n", name, fd, addr)
	}
	one := startBare(t, gateway(link("left", 3, routerA), link("wan0", 4, g1), g1, g2, lanA, lanB, "0x1001", "0x1002", suite),
		openTAP(t, p.a, p.devA, unix.IFF_VNET_HDR), openPacket(t, mid, "w1"))
	two := startBare(t, gateway(link("right", 3, routerB), link("wan0", 4, g2), g2, g1, lanB, lanA, "0x1002", "0x1001", suite),
		openTAP(t, p.b, p.devB, 0), openPacket(t, mid, "w2"))
	sh(t, fmt.Sprintf("ip -n %s link set %s up && ip -n %s link set %s up", p.a, p.devA, p.b, p.devB))
	p.appliance = one
	p.hosts()
	file := tempDir(t) + "/mid.pcap"
	dump := background(t, mid, "tcpdump -Z root -i w1 -s 128 -U -w "+file)
	eventuallyPing(t, p.a, addrB)
	_, _ = try(fmt.Sprintf("ip netns exec %s ping -6 -n -W 1 -c 1 -s 1452 %s", p.a, addrB)) // the first that is too long tells the host
	_, _ = try(fmt.Sprintf("ip netns exec %s ping -6 -n -W 1 -c 1 -s 1452 %s", p.b, addrA))
	for _, size := range []int{0, 1, 1200, 1378, 1379, 3000} {
		ping(t, p.a, addrB, 2, fmt.Sprint("-s ", size))
		ping(t, p.b, addrA, 2, fmt.Sprint("-s ", size))
	}
	for _, dir := range []string{"", "-R"} {
		if mbit := iperf(t, p.a, p.b, addrB, "-t "+seconds(1, 5)+" "+dir); mbit < 20 {
			t.Errorf("TCP %s: %.0f Mbit/s", dir, mbit)
		}
	}
	dump()
	if out := sh(t, fmt.Sprintf("tshark -r %s -Y 'tcp || udp || icmpv6.type == 128 || icmpv6.type == 129' 2>/dev/null | head -5", file)); out != "" {
		t.Errorf("in the clear:\n%s", out)
	}
	if n := strings.TrimSpace(sh(t, fmt.Sprintf("tshark -r %s -Y esp 2>/dev/null | wc -l", file))); len(n) < 3 {
		t.Errorf("%s packets of ESP", n)
	}
	for _, where := range []string{p.a, p.b, mid} {
		if out, err := try("ip -n " + where + " xfrm state; ip -n " + where + " xfrm policy"); err == nil && out != "" {
			t.Errorf("the kernel has SAs or policies:\n%s", out)
		}
	}
	for _, a := range []*appliance{one, two} {
		for name, n := range xfrmDrops(t, a) {
			if n != 0 {
				t.Errorf("%s: %d", name, n)
			}
		}
	}
}

// eventuallyPing waits until there is a reply: an inherited device comes up after the appliance is ready.
func eventuallyPing(t *testing.T, ns, dst string) {
	t.Helper()
	if out, err := try(fmt.Sprintf("for i in $(seq 20); do ip netns exec %s ping -6 -n -W 1 -c 1 %s && exit 0; sleep 0.1; done; exit 1", ns, dst)); err != nil {
		t.Fatalf("no reply from %s:\n%s", dst, out)
	}
}
