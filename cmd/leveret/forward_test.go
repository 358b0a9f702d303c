package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"leveret/appliance"
	"leveret/appliance/config"
	"leveret/appliance/link"
	"leveret/appliance/link/hostdev"
	"leveret/appliance/link/pipe"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// wholeRouter runs the router as the binary has it, with all its extensions and threads, until the
// returned function is called; that one wants every goroutine gone.
func wholeRouter(t *testing.T, yaml string, attached map[string]link.Port) (a *appliance.Appliance, stop func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	root, err := config.Load(config.Options{Name: "test", Text: []byte(yaml), Claims: claims()})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	a, err = appliance.New(appliance.Options{
		Root: root, Source: "test", Modules: modules(), Ports: attached, OnReady: func() { close(ready) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the router has ended: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready within 20 s")
	}
	return a, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := goleak.Find(before); err != nil {
			t.Errorf("after the end: %v", err)
		}
	}
}

const (
	farHost    = "2001:db8:2::2"
	twoSubnets = `version: 1
services: [{name: echo, proto: tcp, port: 7}]
links:
  - {name: left, kind: %s, %s addresses: ["2001:db8:1::1/64"], dad: {transmits: 0}}
  - {name: right, kind: %s, %s addresses: ["2001:db8:2::1/64"], dad: {transmits: 0}}
`
)

// transit is a frame to the router that goes on to the far host.
func transit(router [6]byte) []byte {
	f := append(router[:], 0x02, 0, 0, 0, 0, 0x99, 0x86, 0xdd)
	f = wire.AppendIPv6(f, wire.IPv6Fields{
		PayloadLength: 26, NextHeader: wire.UDP, HopLimit: 64,
		Src: netip.MustParseAddr("2001:db8:1::2"), Dst: netip.MustParseAddr(farHost),
	})
	f = binary.BigEndian.AppendUint16(f, 40000)
	f = binary.BigEndian.AppendUint16(f, 9)
	f = binary.BigEndian.AppendUint16(f, 26)
	return append(f, make([]byte, 20)...) // the checksum is the hosts' affair
}

// wantNoAllocations sends vectors of 1 and of 32 packets and counts what the whole process
// allocates meanwhile: every thread, the modules' loops, counters. forwarded counts what came out.
func wantNoAllocations(t *testing.T, send func() bool, forwarded func() uint64) {
	t.Helper()
	// What runs by itself (housekeeping once a second, the Go runtime) may allocate a little: a
	// hundredth of an allocation a packet cannot be the path's.
	const packets = 25600
	for _, vector := range []int{1, 32} {
		round := func(n int) (came uint64) {
			first := forwarded()
			for sent := 0; sent < n; sent += vector {
				want := forwarded() + uint64(vector)
				for range vector {
					for !send() {
						runtime.Gosched()
					}
				}
				for spin := 0; forwarded() < want && spin < 1e5; spin++ {
					runtime.Gosched()
				}
			}
			return forwarded() - first
		}
		round(2048) // resolution, free lists and lists that grow to what they need
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		came := round(packets)
		runtime.ReadMemStats(&after)
		if came < packets*99/100 {
			t.Errorf("vectors of %d: %d of %d packets were forwarded", vector, came, packets)
		}
		if n := after.Mallocs - before.Mallocs; n > packets/100 {
			t.Errorf("vectors of %d: %d allocations for %d packets", vector, n, packets)
		}
	}
}

// TestPipeForwardingDoesNotAllocate: through links in memory, whose far host answers solicitations.
func TestPipeForwardingDoesNotAllocate(t *testing.T) {
	var count atomic.Uint64
	var right *pipe.Port
	hostMAC := [6]byte{2, 0, 0, 0, 0, 0x22}
	onTx := func(f []byte, _ packet.GSO) {
		if len(f) < 14+40 || f[14+6] == wire.UDP {
			count.Add(1)
			return
		}
		if msg, err := ndwire.Parse(f[14:], 40, false); err == nil && msg.Type == wire.TypeNeighborSolicitation && msg.Target.String() == farHost {
			answer := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x22, 0x86, 0xdd}, ndwire.AppendNA(nil, ndwire.NA{
				Src: msg.Target, Dst: msg.Src, Target: msg.Target, Solicited: true, Override: true, TargetLLA: &hostMAC,
			})...)
			right.Inject(answer, packet.GSO{})
		}
	}
	left := pipe.NewEnd(pipe.Options{MAC: [6]byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Ethernet: true})
	right = pipe.NewEnd(pipe.Options{MAC: [6]byte{2, 0, 0, 0, 0, 2}, MTU: 1500, Ethernet: true, OnTx: onTx})
	_, stop := wholeRouter(t, fmt.Sprintf(twoSubnets, "pipe", "", "pipe", ""), map[string]link.Port{"left": left, "right": right})
	defer stop()
	frame := transit(left.MAC())
	wantNoAllocations(t, func() bool { return left.Inject(frame, packet.GSO{}) }, count.Load)
}

// TestAFPacketForwardingDoesNotAllocate: through veth devices, with a kernel host at the far end;
// with and without the virtio-net header.
func TestAFPacketForwardingDoesNotAllocate(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and devices")
	}
	for _, offload := range []bool{true, false} {
		t.Run(fmt.Sprintf("offload %v", offload), func(t *testing.T) {
			ns, host := fmt.Sprintf("lvt%d-r", os.Getpid()), fmt.Sprintf("lvt%d-h", os.Getpid())
			for _, n := range []string{ns, host} {
				ip(t, "netns add "+n)
				defer ip(t, "netns del "+n)
				ip(t, "netns exec "+n+" sysctl -qw net.ipv6.conf.default.disable_ipv6=1")
			}
			for _, side := range []string{"l", "r"} {
				ip(t, fmt.Sprintf("-n %s link add h%s type veth peer name p%s netns %s", host, side, side, ns))
				ip(t, fmt.Sprintf("-n %s link set p%s up", ns, side))
				ip(t, fmt.Sprintf("-n %s link set h%s up", host, side))
			}
			ip(t, "netns exec "+host+" sysctl -qw net.ipv6.conf.hr.disable_ipv6=0")
			ip(t, "-n "+host+" -6 addr add "+farHost+"/64 dev hr nodad")
			dev := func(d string) string {
				return fmt.Sprintf("host_device: %s, netns: %s, offload: %v,", d, ns, offload)
			}
			a, stop := wholeRouter(t, fmt.Sprintf(twoSubnets, "af_packet", dev("pl"), "af_packet", dev("pr")), nil)
			defer stop()
			in, received := rawSocket(t, host, "hl"), rawSocket(t, host, "hr")
			defer unix.Close(in)
			defer unix.Close(received)
			frame := transit(a.Links().Name("left").MAC)
			var got uint64
			buf := make([]byte, 2048)
			forwarded := func() uint64 {
				for {
					n, err := unix.Read(received, buf)
					if err != nil {
						return got
					}
					if n > 14+6 && buf[14+6] == wire.UDP {
						got++
					}
				}
			}
			wantNoAllocations(t, func() bool {
				_, err := unix.Write(in, frame)
				if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
					t.Fatal(err)
				}
				return err == nil
			}, forwarded)
		})
	}
}

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// rawSocket sends and receives frames of a device, without waiting.
func rawSocket(t *testing.T, ns, dev string) int {
	t.Helper()
	var fd int
	err := hostdev.In(ns, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		proto := uint16(unix.ETH_P_IPV6)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto<<8 | proto>>8, Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
