package e2e

import (
	endian "encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// inside runs f on a thread in a namespace; the sockets that it opens stay there.
func inside(t *testing.T, ns string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := os.Open("/run/netns/" + ns)
		if err == nil {
			err = unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
			_ = fd.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// nameServer answers for a zone at an address of a namespace until the test ends.
func nameServer(t *testing.T, ns, addr string, zone map[string][]string) {
	t.Helper()
	var udp net.PacketConn
	var tcp net.Listener
	inside(t, ns, func() (err error) {
		if udp, err = net.ListenPacket("udp6", "["+addr+"]:53"); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp6", "["+addr+"]:53")
		return err
	})
	t.Cleanup(func() { _ = udp.Close(); _ = tcp.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(answerName(t, zone, buf[:n], 1232), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			if _, err := io.ReadFull(c, size[:]); err == nil {
				q := make([]byte, endian.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(c, q); err == nil {
					a := answerName(t, zone, q, 65535)
					_, _ = c.Write(append(endian.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
				}
			}
			_ = c.Close()
		}
	}()
}

// answerName answers one question; what is longer than limit is truncated.
func answerName(t *testing.T, zone map[string][]string, q []byte, limit int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil || len(m.Questions) != 1 || m.Questions[0].Type != dnsmessage.TypeAAAA {
		t.Errorf("asked %x: %v", q, err)
		return nil
	}
	name := m.Questions[0].Name
	list, ok := zone[name.String()]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range list {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(a).As16()},
		})
	}
	b, err := m.Pack()
	if err == nil && len(b) > limit {
		m.Truncated, m.Answers = true, nil
		b, err = m.Pack()
	}
	if err != nil {
		t.Error(err)
	}
	return b
}

// TestNames: radvd announces a resolver and a search domain; ping and traceroute find their destinations by
// them, over UDP and TCP.
func TestNames(t *testing.T) {
	need(t, "radvd")
	at := lan(t, "lvt", "r1")
	for _, a := range []string{"fe80::1/64 dev e0", "2001:db8:1::53/64 dev e0", "2001:db8:9::9/128 dev lo"} {
		sh(t, "ip -n "+at["r1"]+" -6 addr add "+a+" nodad")
	}
	many := []string{"fd00::9", "2001:db8:9::9"} // the first has another label than the source
	for i := range 60 {
		many = append(many, fmt.Sprintf("fd00::1:%x", i))
	}
	nameServer(t, at["r1"], "2001:db8:1::53", map[string][]string{
		"host.corp.example.": many[:2], "many.example.": many, "empty.example.": nil,
	})
	radvd(t, at["r1"], `interface e0 {
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 1800;
  prefix 2001:db8:1::/64 { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };
  RDNSS 2001:db8:1::53 { AdvRDNSSLifetime 1200; }; DNSSL corp.example { AdvDNSSLLifetime 1200; };
};`)
	a := start(t, `
links:
  - name: wan0
    kind: af_packet
    host_device: e0
    netns: `+at["lvt"]+`
    forwarding: false
`)
	eventually(t, "an address and a resolver", 15*time.Second, func() bool {
		out := a.must("addr", "show", "scope", "global")
		return strings.Contains(out, "dynamic") && !strings.Contains(out, "tentative") && strings.Contains(a.must("ra"), "rdnss 2001:db8:1::53")
	})
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"ping -c 1 -W 2 host", `(?s)^PING host \(2001:db8:9::9\) 56 data bytes\n64 bytes from 2001:db8:9::9: .*\n--- host ping statistics ---\n1 packets transmitted, 1 received`, 0},
		{"ping -c 1 -W 2 host.corp.example.", `^PING host.corp.example. \(2001:db8:9::9\) 56 data bytes\n64 bytes`, 0},
		{"ping -c 1 -W 2 many.example", `^PING many.example \(2001:db8:9::9\) 56 data bytes\n64 bytes`, 0},
		{"traceroute -c 1 host", `^traceroute to host \(2001:db8:9::9\), 30 hops max, 80 byte packets\n 1  2001:db8:9::9  `, 0},
		{"ping -c 1 nobody", `^ping: nobody: Name or service not known\n$`, 2},
		{"ping -c 1 empty.example", `^ping: empty.example: No address associated with hostname\n$`, 2},
		{"traceroute nobody.example", `^traceroute: nobody.example: Name or service not known\n$`, 2},
	} {
		out, err := a.cli(strings.Fields(c.args)...)
		code := 0
		if err != nil {
			code = exitCode(err)
		}
		if code != c.code || !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("leveret %s: exit %d, want %d, and nothing like %s in\n%s", c.args, code, c.code, c.want, out)
		}
	}
}
