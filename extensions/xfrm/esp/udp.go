package esp

import (
	"encoding/binary"

	"leveret/appliance/wire"
)

// UDPHeaderLen is what encapsulation in UDP puts between IP and ESP (RFC 3948 2.1).
const UDPHeaderLen = 8

// UDPContent is what a UDP packet between encapsulating ports carries.
type UDPContent uint8

// The contents.
const (
	Malformed UDPContent = iota
	Keepalive            // one octet 0xff, for the NAT only (RFC 3948 2.3)
	IKE                  // behind four zero octets, where ESP has its SPI (RFC 3948 2.2)
	ESP
)

// Classify says what a UDP payload is (RFC 3948 2).
func Classify(payload []byte) UDPContent {
	switch {
	case len(payload) == 1 && payload[0] == 0xff:
		return Keepalive
	case len(payload) < fixedLen:
		return Malformed
	case binary.BigEndian.Uint32(payload) == 0:
		return IKE
	}
	return ESP
}

// UDPChecksum says what PutUDP writes.
type UDPChecksum uint8

// What it can be.
const (
	WholeChecksum UDPChecksum = iota
	// HalfChecksum is the sum of the pseudo-header only, for whoever has more to put together, or a port that completes it.
	HalfChecksum
	// ZeroChecksum is for a peer that takes that (RFC 6935, RFC 6936).
	ZeroChecksum
)

// PutUDP writes the UDP header at off for pkt[off:], whose ESP is already there. pkt begins with an IPv6 header that
// has the addresses, or with an IPv4 header, whose UDP checksum is then zero (RFC 3948 2.1).
func PutUDP(pkt []byte, off int, sport, dport uint16, checksum UDPChecksum) {
	u := pkt[off:]
	binary.BigEndian.PutUint16(u, sport)
	binary.BigEndian.PutUint16(u[2:], dport)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	binary.BigEndian.PutUint16(u[6:], 0)
	src, dst := (*[16]byte)(pkt[8:24]), (*[16]byte)(pkt[24:40])
	switch {
	case checksum == ZeroChecksum, pkt[0]>>4 != 6:
		return
	case checksum == HalfChecksum:
		binary.BigEndian.PutUint16(u[6:], wire.Fold(wire.PseudoHeader(src, dst, wire.UDP, len(u))))
		return
	}
	sum := wire.Checksum(src, dst, wire.UDP, u)
	if sum == 0 {
		sum = 0xffff // RFC 8200 8.1
	}
	binary.BigEndian.PutUint16(u[6:], sum)
}

// UDPPayload returns where the payload of the UDP header at off begins and ends. It is not ok when the header
// is cut short, its length is wrong, or its checksum is; a checksum of zero is taken with zeroChecksum or from
// IPv4. pkt begins with the IP header.
func UDPPayload(pkt []byte, off int, zeroChecksum bool) (begin, end int, ok bool) {
	if off < 20 || len(pkt)-off < UDPHeaderLen {
		return 0, 0, false
	}
	n := int(binary.BigEndian.Uint16(pkt[off+4:]))
	if n < UDPHeaderLen || n > len(pkt)-off {
		return 0, 0, false
	}
	u := pkt[off : off+n]
	six := pkt[0]>>4 == 6
	var sum uint64
	switch {
	case binary.BigEndian.Uint16(u[6:]) == 0:
		return off + UDPHeaderLen, off + n, zeroChecksum || !six
	case !six:
		sum = wire.Sum(pkt[12:20], uint64(wire.UDP)+uint64(n))
	case off < wire.IPv6HeaderLen:
		return 0, 0, false
	default:
		sum = wire.PseudoHeader((*[16]byte)(pkt[8:24]), (*[16]byte)(pkt[24:40]), wire.UDP, n)
	}
	return off + UDPHeaderLen, off + n, wire.Fold(wire.Sum(u, sum)) == 0xffff
}
