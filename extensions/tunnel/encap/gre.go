package encap

import (
	"encoding/binary"

	"leveret/appliance/wire"
)

// The bits of the first word of a GRE header (RFC 2784 2.1, RFC 2890 2). Of bits 1 to 5 those that RFC 2890 does not
// define must be zero, the others are reserved.
const (
	greChecksum = 1 << 15
	greKey      = 1 << 13
	greSequence = 1 << 12
	greMustZero = 1<<14 | 1<<11 | 1<<10
	greVersion  = 7
)

// The protocol types (RFC 2784 3, RFC 7676 3.1).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// greLen is the length of the GRE header that is sent; 0 for other kinds.
func (t *Params) greLen() int {
	if !t.Kind.IsGRE() {
		return 0
	}
	return greHeaderLen(t.OCsum, t.OKey.Set, t.OSeq)
}

func greHeaderLen(fields ...bool) int {
	n := 4
	for _, f := range fields {
		if f {
			n += 4
		}
	}
	return n
}

// putGRE writes a header over the begin of b, which ends with the original packet.
func (t *Params) putGRE(b []byte, v4 bool, seq uint32) {
	flags, proto := uint16(0), uint16(etherIPv6)
	if v4 {
		proto = etherIPv4
	}
	at := 4
	if t.OCsum {
		flags |= greChecksum
		binary.BigEndian.PutUint32(b[at:], 0)
		at += 4
	}
	if t.OKey.Set {
		flags |= greKey
		binary.BigEndian.PutUint32(b[at:], t.OKey.Value)
		at += 4
	}
	if t.OSeq {
		flags |= greSequence
		binary.BigEndian.PutUint32(b[at:], seq)
	}
	binary.BigEndian.PutUint16(b, flags)
	binary.BigEndian.PutUint16(b[2:], proto)
	if t.OCsum {
		binary.BigEndian.PutUint16(b[4:], ^wire.Fold(wire.Sum(b, 0)))
	}
}

// gre is a header that was read.
type gre struct {
	checksum, hasSeq bool
	key              Key
	seq              uint32
	proto            uint16
	len              int
}

// readGRE reads the header that b begins with.
func readGRE(b []byte) (h gre, ok bool) {
	if len(b) < 4 {
		return h, false
	}
	flags := binary.BigEndian.Uint16(b)
	if flags&(greMustZero|greVersion) != 0 {
		return h, false
	}
	h.checksum, h.key.Set, h.hasSeq = flags&greChecksum != 0, flags&greKey != 0, flags&greSequence != 0
	h.proto = binary.BigEndian.Uint16(b[2:])
	if h.len = greHeaderLen(h.checksum, h.key.Set, h.hasSeq); len(b) < h.len {
		return h, false
	}
	at := 4
	if h.checksum {
		at += 4
	}
	if h.key.Set {
		h.key.Value = binary.BigEndian.Uint32(b[at:])
		at += 4
	}
	if h.hasSeq {
		h.seq = binary.BigEndian.Uint32(b[at:])
	}
	return h, true
}

// GREKey returns the key in the GRE header that b begins with; false if there is no header that can be read.
func GREKey(b []byte) (Key, bool) {
	h, ok := readGRE(b)
	return h.key, ok
}
