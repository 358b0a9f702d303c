package encap

import (
	"encoding/binary"

	"leveret/appliance/wire"
)

// Fault is why a tunnel packet is not taken apart.
type Fault uint8

// The faults.
const (
	NoFault  Fault = iota
	Header         // no GRE header, or none that an RFC defines (RFC 2784 2.3)
	Checksum       // of GRE (RFC 2784 2.5), or none where one is wanted
	WrongKey       // or none where one is wanted, or one where none is (RFC 2890 2.1)
	Sequence       // not behind the last one, or none where one is wanted (RFC 2890 2.2)
	Protocol       // not an IP packet of a version that the kind carries
	Length         // of the original packet: it ends before its header says
	Source         // an address that no packet on a link can come from (RFC 4213 3.6)
	ECN            // congestion was met, which the original packet's sender has not said it understands (RFC 6040 4.2)
)

// Opened is a tunnel packet taken apart.
type Opened struct {
	Off, Len int // of the original packet
	V4       bool
	// Unused: a combination of ECN fields that no entry-point makes (RFC 6040 4.2).
	Unused bool
	// HasSeq and Seq are the number in the GRE header.
	HasSeq bool
	Seq    uint32
}

// Open takes a tunnel packet of this tunnel apart: off is where the header behind the IP headers begins, outer the
// traffic class of the packet, and next what the number of the packet that comes in next is at least, if numbers are
// looked at. The original packet gets its traffic class.
func (t *Params) Open(pkt []byte, off int, next uint32) (o Opened, f Fault) {
	outer := class(pkt)
	o.Off = off
	o.V4 = t.Kind == IPIP6
	if t.Kind.IsGRE() {
		if f := t.openGRE(pkt, &o, next); f != NoFault {
			return o, f
		}
	}
	inner := pkt[o.Off:]
	if f := o.original(inner); f != NoFault {
		return o, f
	}
	inner = inner[:o.Len]
	if martian(inner, o.V4) {
		return o, Source
	}
	c := egress[class(inner)&ecn][outer&ecn]
	if o.Unused = c.unused; c.drop {
		return o, ECN
	}
	now := class(inner)&^ecn | c.ecn
	if t.CopyDSCP {
		now = outer&^ecn | c.ecn
	}
	if now != class(inner) {
		setClass(inner, now)
	}
	return o, NoFault
}

func (t *Params) openGRE(pkt []byte, o *Opened, next uint32) Fault {
	h, ok := readGRE(pkt[o.Off:])
	switch {
	case !ok:
		return Header
	case h.checksum && wire.Fold(wire.Sum(pkt[o.Off:], 0)) != 0xffff, t.ICsum && !h.checksum:
		return Checksum
	case h.key != t.IKey:
		return WrongKey
	case t.ISeq && (!h.hasSeq || int32(h.seq-next) < 0):
		return Sequence
	}
	switch h.proto {
	case etherIPv4:
		o.V4 = true
	case etherIPv6:
	default:
		return Protocol
	}
	o.Off, o.HasSeq, o.Seq = o.Off+h.len, h.hasSeq, h.seq
	return NoFault
}

// original finds how long the original packet is by its own header: what is behind it is padding (RFC 4213 3.6).
func (o *Opened) original(b []byte) Fault {
	if o.V4 {
		if len(b) == 0 || b[0]>>4 != 4 {
			return Protocol
		}
		header, total, ok := ipv4Len(b)
		if !ok || total > len(b) || wire.Fold(wire.Sum(b[:header], 0)) != 0xffff {
			return Length
		}
		o.Len = total
		return NoFault
	}
	switch {
	case len(b) == 0 || b[0]>>4 != 6:
		return Protocol
	case len(b) < wire.IPv6HeaderLen:
		return Length
	}
	if o.Len = wire.IPv6HeaderLen + int(binary.BigEndian.Uint16(b[4:])); o.Len > len(b) {
		return Length
	}
	if o.Len == wire.IPv6HeaderLen && b[wire.NextHeaderOffset] == wire.HopByHop {
		o.Len = len(b) // maybe a jumbogram, which is for others to refuse (RFC 2675 3)
	}
	return NoFault
}

// martian reports whether an original packet has a source that none can have (RFC 4213 3.6, RFC 1122 3.2.1.3).
func martian(pkt []byte, v4 bool) bool {
	if v4 {
		a := pkt[12:16]
		return a[0] == 0 || a[0] == 127 || a[0] >= 224
	}
	src := (*[16]byte)(pkt[8:24])
	if wire.IsMulticast(src) {
		return true
	}
	for _, b := range src[:10] {
		if b != 0 {
			return false
		}
	}
	switch binary.BigEndian.Uint16(src[10:]) {
	case 0: // ::1 and IPv4-compatible; :: is that of a host without address
		return !wire.IsUnspecified(src)
	case 0xffff: // IPv4-mapped
		return true
	}
	return false
}
