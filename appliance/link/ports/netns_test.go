package ports

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leveret/appliance/link"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// needRoot skips without the privilege to make namespaces; `make test` as root runs these.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and devices")
	}
}

var nsCount int

// namespace makes a network namespace for the test.
func namespace(t testing.TB) string {
	t.Helper()
	nsCount++
	ns := fmt.Sprintf("lvt%d-p%d", os.Getpid(), nsCount)
	ip(t, "netns", "add", ns)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	return ns
}

func ip(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func in(t testing.TB, ns string, args ...string) string {
	t.Helper()
	return ip(t, append([]string{"netns", "exec", ns}, args...)...)
}

// eventually polls for something the kernel does in its own time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: not within 5 s", what)
}

// recv receives until a packet that match takes comes, and returns it.
func recv(t testing.TB, p link.Port, match func(*packet.Packet) bool) *packet.Packet {
	t.Helper()
	q := p.Rx(0)
	ps := make([]*packet.Packet, 16)
	for i := range ps {
		ps[i] = packet.NewBuffer(packet.MaxLen + 14)
	}
	timer := time.AfterFunc(5*time.Second, q.Wake)
	defer timer.Stop()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); q.Wait() {
		for {
			for _, x := range ps {
				x.Reset()
			}
			n, err := q.Rx(ps)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range ps[:n] {
				if match(x) {
					return x
				}
			}
			if n == 0 {
				break
			}
		}
	}
	t.Fatal("the packet did not come within 5 s")
	return nil
}

const (
	a1 = "2001:db8::1"
	a2 = "2001:db8::2"
)

func TestTunIsMadeCarriesPacketsAndGoes(t *testing.T) {
	needRoot(t)
	ns := namespace(t)
	p, err := Open(Spec{Name: "x", Kind: "tun", HostDevice: "t0", Netns: ns, MTU: 1400, Queues: 1, Offload: true})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "carrier", func() bool { return p.State() == link.State{Carrier: true, MTU: 1400} })
	in(t, ns, "ip", "-6", "addr", "add", a2+"/64", "dev", "t0", "nodad")
	in(t, ns, "bash", "-c", "echo -n hello > /dev/udp/2001:db8::1/9")
	got := recv(t, p, func(p *packet.Packet) bool { return p.Bytes()[6] == wire.UDP })
	if !bytes.HasSuffix(got.Bytes(), []byte("hello")) {
		t.Errorf("received % x", got.Bytes())
	}
	if got.GSO.Csum != packet.CsumPartial || got.GSO.CsumStart != 40 || got.GSO.CsumOffset != 6 {
		t.Errorf("the kernel's checksum state came as %+v", got.GSO)
	}
	changed := make(chan link.State, 16)
	p.Watch(func(s link.State) { changed <- s })
	in(t, ns, "ip", "link", "set", "t0", "mtu", "1300")
	if s := <-changed; s.MTU != 1300 {
		t.Errorf("changed to %+v", s)
	}
	if err := p.SetMTU(1350); err != nil {
		t.Error(err)
	}
	eventually(t, "our own MTU", func() bool { return p.State().MTU == 1350 })
	in(t, ns, "ip", "link", "set", "t0", "down")
	eventually(t, "carrier lost", func() bool { return !p.State().Carrier })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if out := in(t, ns, "ip", "link"); strings.Contains(out, "t0") {
		t.Errorf("the device is still there:\n%s", out)
	}
}

// TestPersistentDeviceIsLeftAsFound: what the host made stays as it was.
func TestPersistentDeviceIsLeftAsFound(t *testing.T) {
	needRoot(t)
	ns := namespace(t)
	in(t, ns, "ip", "tuntap", "add", "dev", "tp0", "mode", "tap")
	in(t, ns, "ip", "link", "set", "tp0", "mtu", "1450")
	before := in(t, ns, "ip", "-d", "link", "show", "tp0")
	p, err := Open(Spec{Name: "x", Kind: "tap", HostDevice: "tp0", Netns: ns, MTU: 1500, Queues: 1, Offload: true})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "carrier", func() bool { return p.State().Carrier })
	if s := p.State(); s.MTU != 1450 {
		t.Errorf("state %+v", s)
	}
	if err := p.SetMTU(1460); err == nil {
		t.Error("an adopted device's MTU was raised")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	flags := func(s string) string { return strings.SplitN(s, ">", 2)[1] }
	if after := in(t, ns, "ip", "-d", "link", "show", "tp0"); !strings.Contains(after, "state DOWN") || strings.Contains(after, ",UP") || len(flags(after)) == 0 {
		t.Errorf("before %s\nafter %s", before, after)
	}
}

func TestAFPacketSharesTheDevice(t *testing.T) {
	needRoot(t)
	for _, offload := range []bool{true, false} {
		t.Run(fmt.Sprintf("offload %v", offload), func(t *testing.T) {
			ns := namespace(t)
			peer := namespace(t)
			in(t, ns, "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", peer)
			in(t, ns, "ip", "link", "set", "v0", "up")
			in(t, peer, "ip", "link", "set", "v1", "up")
			in(t, peer, "ip", "-6", "addr", "add", a2+"/64", "dev", "v1", "nodad")
			mac := StableMAC("h", "v0")
			in(t, peer, "ip", "-6", "neigh", "add", a1, "dev", "v1", "lladdr", fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]))
			p, err := Open(Spec{Name: "x", Kind: "af_packet", HostDevice: "v0", Netns: ns, MAC: mac, MTU: 1500, Queues: 1, Offload: offload})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if out := in(t, ns, "ip", "-d", "link", "show", "v0"); !strings.Contains(out, "promiscuity 1") {
				t.Errorf("not promiscuous:\n%s", out)
			}
			in(t, peer, "bash", "-c", "echo -n hello > /dev/udp/2001:db8::1/9")
			got := recv(t, p, func(p *packet.Packet) bool { return p.Len() > 60 && p.Bytes()[14+6] == wire.UDP })
			if got.GSO.Csum != packet.CsumPartial || got.GSO.CsumStart != 40 || got.GSO.CsumOffset != 6 {
				t.Errorf("an unfinished checksum came as %+v", got.GSO)
			}
			if [6]byte(got.Bytes()[:6]) != mac {
				t.Errorf("frame to % x", got.Bytes()[:6])
			}
			p.Close()
			if out := in(t, ns, "ip", "-d", "link", "show", "v0"); !strings.Contains(out, "promiscuity 0") {
				t.Errorf("still promiscuous:\n%s", out)
			}
		})
	}
}

// TestUnixSocketAsEthernet: kind fd over a socket pair.
func TestUnixSocketAsEthernet(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(Spec{Name: "x", Kind: "fd", FD: fds[0], MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	if !p.Caps().Ethernet || p.Kind() != "fd" {
		t.Errorf("%+v", p.Caps())
	}
	if _, err := unix.Write(fds[1], []byte("fourteen octets and more")); err != nil {
		t.Fatal(err)
	}
	if got := recv(t, p, func(*packet.Packet) bool { return true }); string(got.Bytes()) != "fourteen octets and more" {
		t.Errorf("received %q", got.Bytes())
	}
	if n := p.NewTx().Tx([]*packet.Packet{packet.New([]byte("back"))}); n != 1 {
		t.Errorf("sent %d", n)
	}
	b := make([]byte, 100)
	if n, err := unix.Read(fds[1], b); err != nil || string(b[:n]) != "back" {
		t.Errorf("peer read %q %v", b[:n], err)
	}
	done := make(chan bool)
	go func() { done <- p.Rx(0).Wait() }()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if <-done {
		t.Error("Wait on a closed port is true")
	}
	unix.Close(fds[1])
}

func TestErrorsSayWhatToDo(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]Spec{
		"links[w]: af_packet nosuch0: no device nosuch0":                     {Name: "w", Kind: "af_packet", HostDevice: "nosuch0", MTU: 1500, Queues: 1},
		"links[w]: fd : descriptor 999 is not open":                          {Name: "w", Kind: "fd", FD: 999},
		"is no TUN or TAP device and no socket whose messages are frames":    {Name: "w", Kind: "fd", FD: int(f.Fd())},
		"links[w]: tun t0: network namespace nosuch: open /run/netns/nosuch": {Name: "w", Kind: "tun", HostDevice: "t0", Netns: "nosuch", MTU: 1500, Queues: 1},
	} {
		if _, err := Open(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestStableMAC(t *testing.T) {
	m := StableMAC("r1", "lan0")
	if m != StableMAC("r1", "lan0") || m == StableMAC("r2", "lan0") || m[0]&3 != 2 {
		t.Errorf("% x", m)
	}
}
