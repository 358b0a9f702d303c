package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/hostdev"
	"leveret/appliance/wire"
)

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   uint32
}

const vector = 64

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// packetSocket opens a packet socket on a device; cooked for devices without link-layer addresses.
func packetSocket(ns, dev string, proto uint16) (fd int, err error) {
	err = hostdev.In(ns, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) // needs no more than root
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(proto), Ifindex: i.Index})
	})
	return fd, err
}

// frames builds UDP packets of that size, 64 flows of them.
func frames(l2 []byte, size int, src, dst netip.Addr) [][]byte {
	out := make([][]byte, 4096)
	for i := range out {
		n := size - 40 - 8
		f := append([]byte(nil), l2...)
		f = wire.AppendIPv6(f, wire.IPv6Fields{
			PayloadLength: uint16(8 + n), NextHeader: wire.UDP, HopLimit: 64, Src: src, Dst: dst,
		})
		f = binary.BigEndian.AppendUint16(f, uint16(10000+i%64))
		f = binary.BigEndian.AppendUint16(f, 9)
		f = binary.BigEndian.AppendUint16(f, uint16(8+n))
		f = append(f, 0xab, 0xcd)
		out[i] = append(f, make([]byte, n)...)
	}
	return out
}

// load is what the generator sends.
type load struct {
	frames [][]byte
	l2     int // octets of link header in each
	// Not 0: every packet goes to a random one of that many routes (see routePrefix), and comes from a random
	// one of that many prefixes (see sourcePrefix).
	routes, sources int
}

// blast sends a load as fast as it can, or at a rate in packets a second, for d.
func blast(fd int, ld load, rate int, d time.Duration) error {
	fs := ld.frames
	rnd := rand.New(rand.NewPCG(1, 2))
	var msgs [vector]mmsghdr
	var iovs [vector]unix.Iovec
	begin, sent := time.Now(), 0
	for next := 0; ; {
		elapsed := time.Since(begin)
		if elapsed >= d {
			return nil
		}
		if rate > 0 && float64(sent) > elapsed.Seconds()*float64(rate) {
			time.Sleep(200 * time.Microsecond)
			continue
		}
		for i := range msgs {
			f := fs[next%len(fs)]
			next++
			if ld.routes > 0 {
				i := rnd.IntN(ld.routes)
				dst := f[ld.l2+24:]
				binary.BigEndian.PutUint16(dst[2:], uint16(0x1000+i>>16))
				binary.BigEndian.PutUint16(dst[4:], uint16(i))
			}
			if ld.sources > 0 {
				binary.BigEndian.PutUint16(f[ld.l2+8+6:], uint16(rnd.IntN(ld.sources)))
			}
			iovs[i].Base, iovs[i].Len = unsafe.SliceData(f), uint64(len(f))
			msgs[i].hdr.Iov, msgs[i].hdr.Iovlen = &iovs[i], 1
		}
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs[0])), vector, 0, 0, 0)
		if e != 0 && e != unix.ENOBUFS && e != unix.EAGAIN {
			return fmt.Errorf("sendmmsg: %w", e)
		}
		if e == 0 {
			sent += int(n)
		}
	}
}

// sink counts UDP packets of the test on a socket, those that the socket itself had no room for
// included.
type sink struct {
	fd    int
	count atomic.Int64
	stop  atomic.Bool
	done  chan struct{}
}

func newSink(ns, dev string) (*sink, error) {
	fd, err := packetSocket(ns, dev, unix.ETH_P_IPV6)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000})
	s := &sink{fd: fd, done: make(chan struct{})}
	go s.run()
	return s, nil
}

func (s *sink) run() {
	defer close(s.done)
	var msgs [vector]mmsghdr
	var iovs [vector]unix.Iovec
	buf := make([]byte, vector*128)
	for i := range msgs {
		iovs[i].Base, iovs[i].Len = &buf[i*128], 128
		msgs[i].hdr.Iov, msgs[i].hdr.Iovlen = &iovs[i], 1
	}
	for {
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&msgs[0])), vector, unix.MSG_WAITFORONE, 0, 0)
		if s.stop.Load() {
			return
		}
		if e == unix.EAGAIN || e == unix.EINTR {
			continue
		}
		if e != 0 {
			return
		}
		k := 0
		for i := range int(n) {
			b := buf[i*128:]
			if b[0]>>4 != 6 { // behind an Ethernet header
				b = b[14:]
			}
			if b[0]>>4 == 6 && b[6] == wire.UDP {
				k++
			}
		}
		s.count.Add(int64(k))
	}
}

// now returns the count at this moment.
func (s *sink) now() int {
	if st, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		s.count.Add(int64(st.Drops)) // reading resets it
	}
	return int(s.count.Load())
}

// settle waits until nothing comes any more and returns the count.
func (s *sink) settle() int {
	for {
		a := s.now()
		time.Sleep(150 * time.Millisecond)
		if s.now() == a {
			return a
		}
	}
}

func (s *sink) close() {
	s.stop.Store(true)
	<-s.done // within the receive timeout
	unix.Close(s.fd)
}
