package encap

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/wire"
)

const (
	ipv4HeaderLen = 20 // without options
	ipv4MinMTU    = 68 // RFC 791 3.2: every node forwards that whole
)

// ipv4Fields are the values of a header without options (RFC 4213 3.5).
type ipv4Fields struct {
	tos        uint8
	length     int
	id         uint16
	df         bool
	ttl, proto uint8
	src, dst   netip.Addr
}

func putIPv4(b []byte, f ipv4Fields) {
	b[0], b[1] = 0x45, f.tos
	binary.BigEndian.PutUint16(b[2:], uint16(f.length))
	binary.BigEndian.PutUint16(b[4:], f.id)
	b[6], b[7], b[8], b[9], b[10], b[11] = 0, 0, f.ttl, f.proto, 0, 0
	if f.df {
		b[6] = 0x40
	}
	src, dst := f.src.As4(), f.dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^wire.Fold(wire.Sum(b[:ipv4HeaderLen], 0)))
}

// ipv4Len returns the lengths of the header and the packet that b begins with, by the header; not ok if b ends before
// the header does or they contradict each other.
func ipv4Len(b []byte) (header, total int, ok bool) {
	if len(b) < ipv4HeaderLen || b[0]>>4 != 4 {
		return 0, 0, false
	}
	header, total = int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	return header, total, header >= ipv4HeaderLen && total >= header && len(b) >= header
}

// DontFragment reports whether an IPv4 packet is not to be fragmented.
func DontFragment(pkt []byte) bool { return pkt[6]&0x40 != 0 }
