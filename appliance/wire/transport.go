package wire

import "encoding/binary"

// Ports returns the ports of the TCP or UDP header at off; ok is false when there is no such
// header.
func Ports(pkt []byte, off int, proto uint8) (src, dst uint16, ok bool) {
	if proto != TCP && proto != UDP || off < 0 || len(pkt)-off < 4 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(pkt[off:]), binary.BigEndian.Uint16(pkt[off+2:]), true
}
