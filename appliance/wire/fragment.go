package wire

import "encoding/binary"

// FragmentHeaderLen is the length of the Fragment header (RFC 8200 4.5).
const FragmentHeaderLen = 8

// FragmentFields are the values of a Fragment header.
type FragmentFields struct {
	NextHeader uint8
	Offset     int // octets, a multiple of 8
	More       bool
	ID         uint32
}

// PutFragment writes a Fragment header over the first 8 octets of b.
func PutFragment(b []byte, f FragmentFields) {
	b[0], b[1] = f.NextHeader, 0
	off := uint16(f.Offset) &^ 7
	if f.More {
		off |= 1
	}
	binary.BigEndian.PutUint16(b[2:], off)
	binary.BigEndian.PutUint32(b[4:], f.ID)
}
