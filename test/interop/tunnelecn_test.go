package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/hostdev"
	"leveret/appliance/wire"
)

// wireEnd sends and receives whole frames on a device of another network namespace.
type wireEnd struct {
	t  *testing.T
	fd int
}

func openWire(t *testing.T, netns, device string) *wireEnd {
	t.Helper()
	w := &wireEnd{t: t}
	err := hostdev.In(netns, func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL << 8 & 0xff00 // in network order
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wireEnd) send(to string, pkt []byte) {
	w.t.Helper()
	mac, err := net.ParseMAC(to)
	if err != nil {
		w.t.Fatal(err)
	}
	frame := append(append(append([]byte{}, mac...), 2, 0, 0x5e, 0, 9, 9, 0x86, 0xdd), pkt...)
	if _, err := unix.Write(w.fd, frame); err != nil {
		w.t.Fatal(err)
	}
}

// find returns the first packet with that in it; nil if none comes in time.
func (w *wireEnd) find(marker []byte, d time.Duration, is func(pkt []byte) bool) []byte {
	buf := make([]byte, 4096)
	for end := time.Now().Add(d); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil || n < 54 || buf[12] != 0x86 || buf[13] != 0xdd {
			continue
		}
		if pkt := buf[14:n]; bytes.Contains(pkt, marker) && is(pkt) {
			return bytes.Clone(pkt)
		}
	}
	return nil
}

// udp6 is a datagram to port 9 with an ECN field.
func udp6(src, dst string, ecn uint8, data []byte) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		TrafficClass: 0xb8 | ecn, PayloadLength: uint16(8 + len(data)), NextHeader: wire.UDP, HopLimit: 64, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
	})
	b = append(b, 0x30, 0x39, 0, 9, 0, byte(8+len(data)), 0, 0)
	b = append(b, data...)
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	sum := wire.Checksum(&s, &d, wire.UDP, b[40:])
	b[46], b[47] = byte(sum>>8), byte(sum)
	return b
}

func ecnOf(pkt []byte) uint8 { return pkt[1] >> 4 & 3 }

// TestTunnelECN: every combination of ECN fields at Leveret's exit and at the kernel's, and every field at both entries.
func TestTunnelECN(t *testing.T) {
	words := map[uint8]string{0: "not", 1: "1", 2: "0", 3: "CE"}
	order := []uint8{0, 2, 1, 3}
	figure4 := [4][4]string{ // RFC 6040 4.2
		{"not", "not", "not", "dropped"}, {"0", "0", "1", "CE"}, {"1", "1", "1", "CE"}, {"CE", "CE", "CE", "CE"},
	}
	for _, kind := range []string{"ip6ip6", "ip6gre"} {
		t.Run(kind, func(t *testing.T) {
			k := pipes()[map[string]int{"ip6ip6": 0, "ip6gre": 3}[kind]]
			v := peer.VM(t)
			address(v, "eth0", theirs)
			address(v, "eth1", other)
			k.add(v, "t0", theirs, ours, theirsIn, "")
			// What comes out of the kernel's tunnel for fd00:99:: goes out by its second card.
			v.Run("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_ra=0 && ip -6 route add fd00:99::/64 via 2001:db8:2::77 dev eth1 && " +
				"ip -6 neigh add 2001:db8:2::77 lladdr 02:00:5e:00:77:77 dev eth1 nud permanent && ip -6 route add fd00:98::/64 dev t0")
			t.Cleanup(func() { v.Run("sysctl -qw net.ipv6.conf.all.forwarding=0; ip -6 route del fd00:99::/64") })
			// What comes out of Leveret's for fd00:98:: goes to a link of its own, and what comes in there for fd00:99:: enters.
			third := "br-third"
			sh(t, "ip -n %s link add %s type bridge mcast_snooping 0 && ip -n %s link set %s up && ip -n %s tuntap add lvt-third mode tap && ip -n %s link set lvt-third master %s up",
				v.Netns, third, v.Netns, third, v.Netns, v.Netns, third)
			t.Cleanup(func() { sh(t, "ip -n %s link del %s; ip -n %s link del lvt-third", v.Netns, third, v.Netns) })
			a := start(t, "links:\n"+attach(t, v, "tap", "vm0", ours)+
				fmt.Sprintf("  - {name: third, kind: tap, host_device: lvt-third, netns: %s, addresses: [\"2001:db8:4::1/64\"], dad: {transmits: 0}}\n", v.Netns)+
				"tunnels:\n"+leveretEnd("t0", k.kind, ours, theirs, oursIn, k.keys)+
				"routing: {routes: [{to: \"fd00:98::/64\", via: \"2001:db8:4::77\", dev: third}, {to: \"fd00:99::/64\", dev: t0}]}\n")
			a.must("neigh", "add", "2001:db8:4::77", "lladdr", "02:00:5e:00:77:78", "dev", "third")
			a.must("ping", "-c", "1", "-W", "5", theirsIn)
			macs := map[string]string{}
			var links []struct{ IfName, Address string }
			if err := json.Unmarshal([]byte(a.must("-j", "link")), &links); err != nil {
				t.Fatal(err)
			}
			for _, l := range links {
				macs[l.IfName] = l.Address
			}
			kernelMAC := regexp.MustCompile(`link/ether (\S+)`).FindStringSubmatch(v.Run("ip link show eth0"))[1]
			record(t, v, "vm0")
			mid, out, leaves := openWire(t, v.Netns, "br-vm0"), openWire(t, v.Netns, "lvt-third"), openWire(t, v.Netns, "vm1")
			in := openWire(t, v.Netns, third)
			seen := openWire(t, v.Netns, "vm0")
			header := func(src, dst string, ecn uint8, inner []byte) []byte {
				next, gre := uint8(wire.IPv6Encap), []byte(nil)
				if kind == "ip6gre" {
					next, gre = wire.GRE, []byte{0, 0, 0x86, 0xdd}
				}
				b := wire.AppendIPv6(nil, wire.IPv6Fields{TrafficClass: ecn, PayloadLength: uint16(len(gre) + len(inner)), NextHeader: next, HopLimit: 64,
					Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)})
				return append(append(b, gre...), inner...)
			}
			number := 0
			for i, inner := range order {
				for j, outer := range order {
					for _, end := range []string{"Leveret", "the kernel"} {
						number++
						marker := []byte(fmt.Sprintf("<<%s %03d>>", kind, number))
						to, from, dst, mac, at := ours, theirs, "fd00:98::1", macs["vm0"], out
						if end != "Leveret" {
							to, from, dst, mac, at = theirs, ours, "fd00:99::1", kernelMAC, leaves
						}
						mid.send(mac, header(from, to, outer, udp6("fd00:55::1", dst, inner, marker)))
						wait := 3 * time.Second
						if figure4[i][j] == "dropped" {
							wait = 300 * time.Millisecond
						}
						got, pkt := "dropped", at.find(marker, wait, func(p []byte) bool { return p[6] == wire.UDP })
						if pkt != nil {
							got = words[ecnOf(pkt)]
							if pkt[0]&0xf != 0xb || pkt[1]>>4&0xc != 0x8 {
								t.Errorf("%s: the DSCP is another: % x", end, pkt[:2])
							}
						}
						want := figure4[i][j]
						if end != "Leveret" && inner == 2 && outer == 1 && got == "0" { // Linux takes CE over and nothing else
							want = got
						}
						if got != want {
							t.Errorf("%s: %s in %s comes out %s, want %s", end, words[inner], words[outer], got, want)
						}
					}
				}
				// Into Leveret's tunnel, normal mode: the field is copied (RFC 6040 4.1).
				number++
				marker := []byte(fmt.Sprintf("<<%s %03d>>", kind, number))
				in.send(macs["third"], udp6("fd00:98::1", "fd00:99::1", inner, marker))
				pkt := seen.find(marker, 3*time.Second, func(p []byte) bool { return p[6] != wire.UDP })
				if pkt == nil || ecnOf(pkt) != inner {
					t.Errorf("%s enters: % x", words[inner], pkt)
				}
				// and out of the kernel's, as it was.
				if pkt := leaves.find(marker, 3*time.Second, func(p []byte) bool { return p[6] == wire.UDP }); pkt == nil || ecnOf(pkt) != inner {
					t.Errorf("%s through Leveret's tunnel comes out as % x", words[inner], pkt)
				}
				// Into the kernel's tunnel and out of Leveret's.
				if got := v.Run(fmt.Sprintf("ping -6 -c 1 -W 3 -Q %d %s", 0xb8|inner, oursIn)); !strings.Contains(got, "1 received") {
					t.Errorf("%s from the kernel: %s", words[inner], got)
				}
			}
		})
	}
}
