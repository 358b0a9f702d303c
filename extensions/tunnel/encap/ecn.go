package encap

import "leveret/appliance/wire"

// The codepoints of ECN (RFC 3168 5).
const (
	notECT = 0
	ect1   = 1
	ect0   = 2
	ce     = 3
	ecn    = 3
)

// cell is one of figure 4 of RFC 6040 4.2.
type cell struct {
	ecn    uint8 // of the packet that goes on
	drop   bool
	unused bool // no ingress makes it: "(!)" or "(!!!)"
}

// egress is figure 4, by the codepoint of the inner header and that of the outer one.
var egress = [4][4]cell{
	notECT: {notECT: {ecn: notECT}, ect0: {ecn: notECT, unused: true}, ect1: {ecn: notECT, unused: true}, ce: {drop: true, unused: true}},
	ect0:   {notECT: {ecn: ect0}, ect0: {ecn: ect0}, ect1: {ecn: ect1}, ce: {ecn: ce}},
	ect1:   {notECT: {ecn: ect1}, ect0: {ecn: ect1, unused: true}, ect1: {ecn: ect1}, ce: {ecn: ce}},
	ce:     {notECT: {ecn: ce}, ect0: {ecn: ce}, ect1: {ecn: ce, unused: true}, ce: {ecn: ce}},
}

// class makes the traffic class of a tunnel packet from the original packet's (RFC 2473 6.4, RFC 6040 4.1 figure 3).
func (t *Params) class(inner uint8) uint8 {
	c := t.TClass
	if t.InheritClass {
		c = inner
	}
	c &^= ecn
	if t.NoECN {
		return c
	}
	return c | inner&ecn
}

// class returns the traffic class or type of service of an IP packet.
func class(pkt []byte) uint8 {
	if pkt[0]>>4 == 4 {
		return pkt[1]
	}
	return pkt[0]<<4 | pkt[1]>>4
}

// setClass gives a packet another traffic class or type of service.
func setClass(pkt []byte, c uint8) {
	if pkt[0]>>4 == 6 {
		pkt[0], pkt[1] = pkt[0]&0xf0|c>>4, pkt[1]&0x0f|c<<4
		return
	}
	// An octet changes in the low half of a word of the header (RFC 1624 3).
	old := uint16(pkt[0])<<8 | uint16(pkt[1])
	pkt[1] = c
	now := uint16(pkt[0])<<8 | uint16(pkt[1])
	sum := uint16(pkt[10])<<8 | uint16(pkt[11])
	sum = ^wire.Fold(uint64(^sum) + uint64(^old) + uint64(now))
	pkt[10], pkt[11] = byte(sum>>8), byte(sum)
}
