// Package tuntap is the link kinds tun and tap: a device of the host whose other end is this
// process. A device that is not there is made and goes with the process, however that ends; one
// that is there is left as it was found.
package tuntap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link"
	"leveret/appliance/link/hostdev"
	"leveret/appliance/link/vnet"
	"leveret/appliance/packet"
)

// Options say which device.
type Options struct {
	Device  string // of the host, in the calling thread's network namespace or Netns
	Netns   string
	TAP     bool    // Ethernet frames, otherwise IPv6 packets
	MAC     [6]byte // our own, at our end (TAP)
	MTU     int     // of a device that is made
	Queues  int
	Offload bool // virtio-net header: superpackets and unfinished checksums pass
}

// Port implements [link.Port].
type Port struct {
	o       Options
	made    bool
	wasDown bool // an adopted device that we took up
	rx      []*rx
	caps    link.Caps
	watch   *hostdev.Watch // nil for an inherited descriptor
	adopted bool           // kind fd
	mu      sync.Mutex
	nextTx  int
}

const (
	offloadCsum = 1 // TUN_F_CSUM
	offloadTSO4 = 2
	offloadTSO6 = 4
	offloadUSO4 = 0x20
	offloadUSO6 = 0x40
)

// Open makes or adopts the device.
func Open(o Options) (*Port, error) {
	p := &Port{o: o}
	err := hostdev.In(o.Netns, p.open)
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Port) open() error {
	_, err := hostdev.Lookup(p.o.Device)
	p.made = err != nil
	for range p.o.Queues {
		fd, err := p.attach()
		if err != nil {
			return err
		}
		w, err := hostdev.NewWaiter(fd)
		if err != nil {
			unix.Close(fd)
			return err
		}
		p.rx = append(p.rx, &rx{Waiter: w, port: p, fd: fd})
	}
	l2 := 0
	if p.o.TAP {
		l2 = 14
	}
	p.caps.Ethernet, p.caps.Queues, p.caps.MaxFrame = p.o.TAP, p.o.Queues, l2+max(p.o.MTU, 65535)
	if p.o.Offload {
		p.caps.MaxFrame = packet.MaxLen + l2
	}
	d, err := hostdev.Lookup(p.o.Device)
	if err != nil {
		return err
	}
	if p.made {
		if err := hostdev.SetMTU(p.o.Device, p.o.MTU); err != nil {
			return err
		}
	}
	if d.Flags&unix.IFF_UP == 0 {
		p.wasDown = !p.made
		if err := hostdev.SetUp(p.o.Device, true); err != nil {
			return err
		}
	}
	if d, err = hostdev.Lookup(p.o.Device); err != nil {
		return err
	}
	p.watch, err = hostdev.NewWatch(d)
	return err
}

// attach opens one queue of the device.
func (p *Port) attach() (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return -1, errors.New("/dev/net/tun is missing: load the module tun, or give the container --device /dev/net/tun")
	case err != nil:
		return -1, fmt.Errorf("/dev/net/tun: %w", err)
	}
	var req struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], p.o.Device)
	req.flags = unix.IFF_NO_PI | unix.IFF_TUN
	if p.o.TAP {
		req.flags = unix.IFF_NO_PI | unix.IFF_TAP
	}
	if p.o.Queues > 1 {
		req.flags |= unix.IFF_MULTI_QUEUE
	}
	if p.o.Offload {
		req.flags |= unix.IFF_VNET_HDR
	}
	if err := ioctl(fd, unix.TUNSETIFF, uintptr(unsafe.Pointer(&req))); err != nil {
		unix.Close(fd)
		return -1, p.explain(err)
	}
	if p.o.Offload {
		if err := p.offload(fd); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// offload tells the kernel what may come unfinished. USO is younger than TSO (Linux 6.2).
func (p *Port) offload(fd int) error {
	size := int32(vnet.HeaderLen)
	if err := ioctl(fd, unix.TUNSETVNETHDRSZ, uintptr(unsafe.Pointer(&size))); err != nil {
		return fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
	}
	p.caps.Checksum, p.caps.TSO = true, true
	if ioctl(fd, unix.TUNSETOFFLOAD, offloadCsum|offloadTSO4|offloadTSO6|offloadUSO4|offloadUSO6) == nil {
		p.caps.USO = true
		return nil
	}
	if err := ioctl(fd, unix.TUNSETOFFLOAD, offloadCsum|offloadTSO4|offloadTSO6); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	return nil
}

func (p *Port) explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return errors.New("making or attaching to the device needs CAP_NET_ADMIN")
	case errors.Is(err, unix.EBUSY):
		return errors.New("the device is in use by another process")
	case errors.Is(err, unix.EINVAL):
		return errors.New("there is a device of that name that is no such device, or it was made for another number of queues")
	default:
		return fmt.Errorf("TUNSETIFF: %w", err)
	}
}

func ioctl(fd int, op, arg uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, arg); e != 0 {
		return e
	}
	return nil
}

// Kind implements [link.Port].
func (p *Port) Kind() string {
	if p.adopted {
		return "fd"
	}
	if p.o.TAP {
		return "tap"
	}
	return "tun"
}

// HostDevice implements [link.Port].
func (p *Port) HostDevice() string {
	if p.watch == nil {
		return p.o.Device
	}
	return p.watch.Name()
}

// Caps implements [link.Port].
func (p *Port) Caps() link.Caps { return p.caps }

// MAC implements [link.Port].
func (p *Port) MAC() [6]byte { return p.o.MAC }

// State implements [link.Port].
func (p *Port) State() link.State {
	if p.watch == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return link.State{Carrier: true, MTU: p.o.MTU}
	}
	return p.watch.State()
}

// Watch implements [link.Port].
func (p *Port) Watch(f func(link.State)) {
	if p.watch != nil {
		p.watch.OnChange(f)
	}
}

// SetMTU implements [link.Port].
func (p *Port) SetMTU(mtu int) error {
	if p.watch == nil { // who gave us the descriptor knows the device; we know our limit
		p.mu.Lock()
		defer p.mu.Unlock()
		p.o.MTU = mtu
		return nil
	}
	if !p.made {
		if dev := p.State().MTU; mtu > dev {
			return fmt.Errorf("%d is more than the %d of device %s, which is not ours to change", mtu, dev, p.o.Device)
		}
		return nil
	}
	return hostdev.In(p.o.Netns, func() error { return hostdev.SetMTU(p.watch.Name(), mtu) })
}

// Rx implements [link.Port].
func (p *Port) Rx(i int) link.RxQueue { return p.rx[i] }

// NewTx implements [link.Port].
func (p *Port) NewTx() link.TxQueue {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.rx[p.nextTx%len(p.rx)]
	p.nextTx++
	return &tx{fd: q.fd, vnet: p.o.Offload, l2: l2len(p.o.TAP)}
}

// Close implements [link.Port].
func (p *Port) Close() error {
	var errs []error
	if p.watch != nil {
		p.watch.OnChange(nil)
		p.watch.Close()
		if p.wasDown {
			errs = append(errs, hostdev.In(p.o.Netns, func() error { return hostdev.SetUp(p.watch.Name(), false) }))
		}
	}
	for _, q := range p.rx {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

func l2len(ethernet bool) int {
	if ethernet {
		return 14
	}
	return 0
}
