// Package afpacket is the link kind af_packet: it shares a device that the host already has. The
// host's own addresses, MTU and flags are not touched; with an Ethernet address of our own the
// host never answers for us, nor we for it. Everything we changed about the device (it listens to
// our address) is tied to the socket and goes with it, however the process ends.
package afpacket

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link"
	"leveret/appliance/link/hostdev"
	"leveret/appliance/link/vnet"
	"leveret/appliance/packet"
)

// Options say which device.
type Options struct {
	Device       string
	Netns        string
	MAC          [6]byte // our own
	UseDeviceMAC bool    // use the device's instead
	MTU          int     // what the configuration wants; the device must carry it
	Queues       int
	Offload      bool
}

// Port implements [link.Port].
type Port struct {
	o      Options
	mac    [6]byte
	rx     []*rx
	caps   link.Caps
	watch  *hostdev.Watch
	mu     sync.Mutex
	nextTx int
}

// fanoutID makes every port's fanout group its own.
var fanoutID atomic.Uint32

// bufferSize is asked for in both directions; SO_*BUFFORCE needs CAP_NET_ADMIN, without it the
// system's limit holds.
const bufferSize = 8 << 20

// Open attaches to the device.
func Open(o Options) (*Port, error) {
	p := &Port{o: o, mac: o.MAC}
	if err := hostdev.In(o.Netns, p.open); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Port) open() error {
	d, err := hostdev.Lookup(p.o.Device)
	if err != nil {
		return err
	}
	if d.Flags&unix.IFF_LOOPBACK != 0 {
		return fmt.Errorf("%s is the loopback device", p.o.Device)
	}
	if p.o.MTU > d.MTU {
		return fmt.Errorf("mtu %d is more than the %d of device %s, which is not ours to change", p.o.MTU, d.MTU, p.o.Device)
	}
	if p.o.UseDeviceMAC {
		p.mac = d.MAC
	}
	group := int(fanoutID.Add(1)&0xff) | unix.Getpid()<<8&0xff00
	for range p.o.Queues {
		fd, err := p.socket(d, group)
		if err != nil {
			return err
		}
		w, err := hostdev.NewWaiter(fd)
		if err != nil {
			unix.Close(fd)
			return err
		}
		p.rx = append(p.rx, newRx(w, p, fd))
	}
	p.caps = link.Caps{
		Ethernet: true, Checksum: p.o.Offload, TSO: p.o.Offload, USO: p.o.Offload && hostdev.Release(6, 2), Queues: p.o.Queues,
		MaxFrame: packet.MaxLen + 14, // without the header, a device's receive merging can still hand over large frames
	}
	p.watch, err = hostdev.NewWatch(d)
	return err
}

// socket opens one queue, bound to the device and to IPv6 only.
func (p *Port) socket(d hostdev.Device, group int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if errors.Is(err, unix.EPERM) {
		return -1, errors.New("a packet socket needs CAP_NET_RAW")
	} else if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	set := func(level, opt, v int, name string) {
		if err == nil {
			if e := unix.SetsockoptInt(fd, level, opt, v); e != nil {
				err = fmt.Errorf("%s: %w", name, e)
			}
		}
	}
	for _, o := range []struct{ force, plain int }{{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.force, bufferSize) != nil {
			set(unix.SOL_SOCKET, o.plain, bufferSize, "socket buffer")
		}
	}
	if p.o.Offload {
		set(unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, "PACKET_VNET_HDR")
	} else {
		set(unix.SOL_PACKET, unix.PACKET_AUXDATA, 1, "PACKET_AUXDATA")
	}
	set(unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS")
	set(unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING")
	if err == nil {
		mreq := unix.PacketMreq{Ifindex: int32(d.Index), Type: unix.PACKET_MR_ALLMULTI}
		if p.mac != d.MAC {
			mreq.Type = unix.PACKET_MR_PROMISC
		}
		if e := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); e != nil {
			err = fmt.Errorf("PACKET_ADD_MEMBERSHIP: %w", e)
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IPV6), Ifindex: d.Index})
	}
	if p.o.Queues > 1 {
		set(unix.SOL_PACKET, unix.PACKET_FANOUT, group|unix.PACKET_FANOUT_HASH<<16, "PACKET_FANOUT")
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// Kind implements [link.Port].
func (p *Port) Kind() string { return "af_packet" }

// HostDevice implements [link.Port].
func (p *Port) HostDevice() string { return p.watch.Name() }

// Caps implements [link.Port].
func (p *Port) Caps() link.Caps { return p.caps }

// MAC implements [link.Port].
func (p *Port) MAC() [6]byte { return p.mac }

// State implements [link.Port].
func (p *Port) State() link.State { return p.watch.State() }

// Watch implements [link.Port].
func (p *Port) Watch(f func(link.State)) { p.watch.OnChange(f) }

// SetMTU implements [link.Port]: the device is the host's.
func (p *Port) SetMTU(mtu int) error {
	if dev := p.State().MTU; mtu > dev {
		return fmt.Errorf("%d is more than the %d of device %s, which is not ours to change", mtu, dev, p.o.Device)
	}
	return nil
}

// Rx implements [link.Port].
func (p *Port) Rx(i int) link.RxQueue { return p.rx[i] }

// NewTx implements [link.Port].
func (p *Port) NewTx() link.TxQueue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.rx[p.nextTx%len(p.rx)]
	p.nextTx++
	return newTx(q.fd, p.o.Offload)
}

// Close implements [link.Port].
func (p *Port) Close() error {
	if p.watch != nil {
		p.watch.OnChange(nil)
		p.watch.Close()
	}
	var errs []error
	for _, q := range p.rx {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// batch is how many frames one system call moves at most.
const batch = 64

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   uint32
}

// rx is one receive queue.
type rx struct {
	*hostdev.Waiter
	port *Port
	fd   int
	msgs [batch]mmsghdr
	iovs [batch]unix.Iovec
	ctl  [batch][ctlLen]byte // PACKET_AUXDATA, when there is no virtio-net header
	mtu  int                 // the device's at the last read, likewise
}

// auxdata is struct tpacket_auxdata.
type auxdata struct {
	status, length, snaplen uint32
	mac, net                uint16
	vlanTCI, vlanTPID       uint16
}

const ctlLen = int(unsafe.Sizeof(unix.Cmsghdr{})) + int(unsafe.Sizeof(auxdata{})) + 8

func newRx(w *hostdev.Waiter, p *Port, fd int) *rx {
	r := &rx{Waiter: w, port: p, fd: fd}
	for i := range r.msgs {
		r.msgs[i].hdr.Iov = &r.iovs[i]
		r.msgs[i].hdr.Iovlen = 1
	}
	return r
}

var errClosed = errors.New("the device is closed")

// Rx implements [link.RxQueue].
func (r *rx) Rx(ps []*packet.Packet) (int, error) {
	if !r.Enter() {
		return 0, errClosed
	}
	defer r.Leave()
	want := min(len(ps), batch)
	head := 0
	if r.port.o.Offload {
		head = vnet.HeaderLen
	}
	for i := range want {
		b := ps[i].SpaceBefore(head)
		r.iovs[i].Base, r.iovs[i].Len = unsafe.SliceData(b), uint64(len(b))
		if head == 0 {
			r.msgs[i].hdr.Control, r.msgs[i].hdr.Controllen = &r.ctl[i][0], uint64(ctlLen)
		}
	}
	if head == 0 {
		r.mtu = r.port.State().MTU
	}
	got, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.msgs[0])), uintptr(want), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 { // EAGAIN; or ENETDOWN once when the device goes down
		return 0, nil
	}
	n := 0
	for i := range int(got) {
		length := int(r.msgs[i].n) - head
		if length < 14 {
			continue
		}
		p := ps[i]
		p.SetLen(length)
		if head != 0 {
			if !vnet.Decode(p.SpaceBefore(head)[:head], p.Bytes(), 14, &p.GSO) {
				continue
			}
		} else {
			r.checksum(i, p)
		}
		ps[i], ps[n] = ps[n], ps[i] // refused frames move behind
		n++
	}
	return n, nil
}

// checksum notes what the kernel knows about a frame's checksum: a frame that never left the
// machine (veth) may have been handed over before anybody completed it.
func (r *rx) checksum(i int, p *packet.Packet) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&r.ctl[i][0]))
	if r.msgs[i].hdr.Controllen < uint64(unsafe.Sizeof(*h)+unsafe.Sizeof(auxdata{})) || h.Level != unix.SOL_PACKET || h.Type != unix.PACKET_AUXDATA {
		return
	}
	a := (*auxdata)(unsafe.Pointer(&r.ctl[i][unsafe.Sizeof(*h)]))
	switch {
	case a.status&unix.TP_STATUS_CSUMNOTREADY != 0:
		partial(p, r.mtu)
	case a.status&unix.TP_STATUS_CSUM_VALID != 0:
		p.GSO.Csum = packet.CsumVerified
	}
}
