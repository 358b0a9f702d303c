package afpacket

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"leveret/appliance/link/vnet"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// partial marks a frame whose transport checksum holds the pseudo-header's sum only, from a device
// of that MTU.
func partial(p *packet.Packet, mtu int) {
	b := p.Bytes()[14:]
	if len(b) < wire.IPv6HeaderLen {
		return
	}
	var c wire.Chain
	c.Walk(b)
	offset := 0
	switch c.Proto {
	case wire.TCP:
		offset = 16
	case wire.UDP:
		offset = 6
	case wire.ICMPv6:
		offset = 2
	default:
		return
	}
	if c.Off+offset+2 > len(b) {
		return
	}
	p.GSO.Csum, p.GSO.CsumStart, p.GSO.CsumOffset = packet.CsumPartial, c.Off, offset
	if len(b) > mtu && c.Proto == wire.TCP && c.Off+20 <= len(b) {
		// A superpacket, whose segment size only the virtio-net header would tell: segments of the
		// minimum MTU are right on every path.
		hdr := c.Off + int(b[c.Off+12]>>4)*4
		p.GSO.Type, p.GSO.HdrLen, p.GSO.Size = packet.GSOTCP6, hdr, wire.MinMTU-hdr
	}
}

// tx sends on one socket. Several may share it: one message is one frame.
type tx struct {
	fd   int
	vnet bool
	msgs [batch]mmsghdr
	iovs [batch]unix.Iovec
}

func newTx(fd int, vnetHdr bool) *tx {
	t := &tx{fd: fd, vnet: vnetHdr}
	for i := range t.msgs {
		t.msgs[i].hdr.Iov = &t.iovs[i]
		t.msgs[i].hdr.Iovlen = 1
	}
	return t
}

// Tx implements [link.TxQueue].
func (t *tx) Tx(ps []*packet.Packet) int {
	sent := 0
	for len(ps) > 0 {
		n := min(len(ps), batch)
		for i, p := range ps[:n] {
			if t.vnet {
				vnet.Encode(p.Push(vnet.HeaderLen), &p.GSO, 14)
			}
			b := p.Bytes()
			t.iovs[i].Base, t.iovs[i].Len = unsafe.SliceData(b), uint64(len(b))
		}
		for from := 0; from < n; {
			got, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&t.msgs[from])), uintptr(n-from), unix.MSG_DONTWAIT, 0, 0)
			if e != 0 { // the first one was refused: leave it and go on
				from++
				continue
			}
			sent += int(got)
			from += int(got)
		}
		ps = ps[n:]
	}
	return sent
}
