package wire

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds b as big-endian 16-bit words to an unfolded one's complement sum (RFC 1071). An odd
// last octet counts as the high half of a word. Only the last piece of a message may be odd.
func Sum(b []byte, sum uint64) uint64 {
	var carry uint64
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), carry)
		sum, carry = bits.Add64(sum, 0, carry)
		sum += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var last [8]byte
		copy(last[:], b)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(last[:]), 0)
		sum += carry
	}
	return sum
}

// Fold brings a sum down to 16 bits. It does not complement it.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum&0xffff)
}

// PseudoHeader returns the sum of the pseudo-header (RFC 8200 8.1).
func PseudoHeader(src, dst *[16]byte, proto uint8, length int) uint64 {
	return Sum(dst[:], Sum(src[:], uint64(length)+uint64(proto)))
}

// Checksum returns the checksum of an upper-layer message whose checksum field is zero. UDP sends
// zero as 0xffff; that is the caller's.
func Checksum(src, dst *[16]byte, proto uint8, msg []byte) uint16 {
	return ^Fold(Sum(msg, PseudoHeader(src, dst, proto, len(msg))))
}

// UpdateICMPv6Checksum computes the checksum of the ICMPv6 message at off, which ends with the
// packet.
func UpdateICMPv6Checksum(pkt []byte, off int) {
	m := pkt[off:]
	m[2], m[3] = 0, 0
	sum := Checksum((*[16]byte)(pkt[8:24]), (*[16]byte)(pkt[24:40]), ICMPv6, m)
	binary.BigEndian.PutUint16(m[2:], sum)
}

// VerifyICMPv6 reports whether the checksum of the ICMPv6 message at off is right.
func VerifyICMPv6(pkt []byte, off int) bool {
	if off < IPv6HeaderLen || off+ICMPv6HeaderLen > len(pkt) {
		return false
	}
	m := pkt[off:]
	return Fold(Sum(m, PseudoHeader((*[16]byte)(pkt[8:24]), (*[16]byte)(pkt[24:40]), ICMPv6, len(m)))) == 0xffff
}
