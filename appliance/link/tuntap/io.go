package tuntap

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/hostdev"
	"leveret/appliance/link/vnet"
	"leveret/appliance/packet"
)

var errClosed = errors.New("the device is closed")

// rx is one receive queue. Reads are raw system calls: the descriptor does not block, and the
// scheduler's bookkeeping would cost as much as the read.
type rx struct {
	*hostdev.Waiter
	port *Port
	fd   int
}

// Rx implements [link.RxQueue].
func (r *rx) Rx(ps []*packet.Packet) (int, error) {
	if !r.Enter() {
		return 0, errClosed
	}
	defer r.Leave()
	n := 0
	for n < len(ps) {
		p := ps[n]
		var b []byte
		if r.port.o.Offload {
			b = p.SpaceBefore(vnet.HeaderLen)
		} else {
			b = p.Space()
		}
		got, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(r.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch {
		case e == unix.EAGAIN:
			return n, nil
		case e == unix.EINTR:
			continue
		case e == unix.EBADFD: // the device was deleted
			return n, e
		case e != 0:
			return n, nil
		}
		if !r.port.o.Offload {
			p.SetLen(int(got))
		} else {
			if int(got) < vnet.HeaderLen {
				continue
			}
			p.SetLen(int(got) - vnet.HeaderLen)
			if !vnet.Decode(b[:vnet.HeaderLen], p.Bytes(), l2len(r.port.o.TAP), &p.GSO) {
				continue // not IPv6's (a TCP over IPv4 superpacket): nobody here could use it
			}
		}
		n++
	}
	return n, nil
}

// tx writes to one queue. Writing is safe from several threads: one write is one frame.
type tx struct {
	fd   int
	vnet bool
	l2   int
}

// Tx implements [link.TxQueue].
func (t *tx) Tx(ps []*packet.Packet) int {
	sent := 0
	for _, p := range ps {
		if t.vnet {
			vnet.Encode(p.Push(vnet.HeaderLen), &p.GSO, t.l2)
		}
		b := p.Bytes()
		_, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(t.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e == 0 {
			sent++
		}
	}
	return sent
}
