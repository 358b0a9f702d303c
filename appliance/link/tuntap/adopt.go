package tuntap

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/hostdev"
	"leveret/appliance/link/vnet"
	"leveret/appliance/packet"
)

// Adopt makes a port of an inherited descriptor, which it owns from then on: a TUN or TAP device
// that somebody with the privilege has opened, or a UNIX or packet socket on which one message is
// one Ethernet frame.
func Adopt(fd int, o Options) (*Port, error) {
	p := &Port{o: o, adopted: true}
	var req struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	switch err := ioctl(fd, unix.TUNGETIFF, uintptr(unsafe.Pointer(&req))); {
	case err == nil:
		if req.flags&unix.IFF_NO_PI == 0 {
			return nil, fmt.Errorf("descriptor %d is a device opened without IFF_NO_PI", fd)
		}
		p.o.TAP, p.o.Offload = req.flags&unix.IFF_TAP != 0, req.flags&unix.IFF_VNET_HDR != 0
		p.o.Device = unix.ByteSliceToString(req.name[:])
		if p.o.Offload {
			if err := p.offload(fd); err != nil {
				return nil, err
			}
		}
	case errors.Is(err, unix.EBADF):
		return nil, fmt.Errorf("descriptor %d is not open", fd)
	default:
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		typ, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		frames := domain == unix.AF_UNIX && (typ == unix.SOCK_SEQPACKET || typ == unix.SOCK_DGRAM) ||
			domain == unix.AF_PACKET && typ == unix.SOCK_RAW
		if err != nil || !frames {
			return nil, fmt.Errorf("descriptor %d is no TUN or TAP device and no socket whose messages are frames", fd)
		}
		p.o.TAP, p.o.Offload = true, false
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	w, err := hostdev.NewWaiter(fd)
	if err != nil {
		return nil, err
	}
	p.rx = []*rx{{Waiter: w, port: p, fd: fd}}
	p.caps.Ethernet, p.caps.Queues, p.caps.MaxFrame = p.o.TAP, 1, packet.MaxLen+l2len(p.o.TAP)+vnet.HeaderLen
	return p, nil
}
