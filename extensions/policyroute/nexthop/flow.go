// Package nexthop chooses one of several next hops for a flow: what of a packet makes it one of a
// flow, a keyed hash of that, and hash-threshold (RFC 2992), by which few flows move when a next hop
// comes or goes.
package nexthop

import (
	"encoding/binary"
	"slices"

	"github.com/dchest/siphash"

	"leveret/appliance/wire"
)

// Policy says what of a packet makes it one of a flow.
type Policy uint8

// The policies.
const (
	L4        Policy = iota // addresses, protocol and ports
	L3                      // addresses, flow label and protocol
	Inner                   // of a tunnel's packet what is inside; otherwise as L4
	FlowLabel               // addresses and flow label (RFC 6438 3); as L4 where that is 0
)

var policies = [...]string{"l4", "l3", "inner", "flowlabel"}

func (p Policy) String() string { return policies[p] }

// ParsePolicy returns the policy of that name.
func ParsePolicy(s string) (Policy, bool) {
	i := slices.Index(policies[:], s)
	return Policy(max(i, 0)), i >= 0
}

// Key keeps others from knowing which flows share a next hop.
type Key [2]uint64

// Flow is what is hashed; what a policy leaves out is zero.
type Flow struct {
	Src, Dst     [16]byte
	Label        uint32
	Proto        uint8
	SPort, DPort uint16
	SPI          uint32 // of ESP and AH, in the place of ports
}

// Hash returns a flow's hash. It does not allocate.
func (f *Flow) Hash(k Key) uint64 {
	var b [48]byte
	copy(b[:16], f.Src[:])
	copy(b[16:32], f.Dst[:])
	binary.BigEndian.PutUint32(b[32:], f.Label)
	binary.BigEndian.PutUint16(b[36:], f.SPort)
	binary.BigEndian.PutUint16(b[38:], f.DPort)
	binary.BigEndian.PutUint32(b[40:], f.SPI)
	b[44] = f.Proto
	return siphash.Hash(k[0], k[1], b[:])
}

// FlowOf reads what makes a packet one of a flow: pkt is a whole IPv6 packet whose upper-layer header
// of protocol proto begins at off. Of a fragment, the first one included, only what all fragments of a
// datagram have alike counts, so that they go one way. It does not allocate and reads nothing beyond
// the packet.
func FlowOf(p Policy, pkt []byte, proto uint8, off int, fragment bool) (f Flow) {
	if len(pkt) < wire.IPv6HeaderLen {
		return f
	}
	f.Src, f.Dst = [16]byte(pkt[8:24]), [16]byte(pkt[24:40])
	label := binary.BigEndian.Uint32(pkt) & 0xfffff
	switch {
	case p == FlowLabel && label != 0, fragment && p == L3:
		f.Label = label
		return f
	case fragment:
		return f
	case p == L3:
		f.Label, f.Proto = label, proto
		return f
	case p == Inner:
		if in, ok := inner(pkt, proto, off); ok {
			return in
		}
	}
	f.Proto = proto
	f.ports(pkt, off)
	return f
}

// ports adds what tells the flows between two addresses apart.
func (f *Flow) ports(pkt []byte, off int) {
	if off < 0 || off+8 > len(pkt) {
		return
	}
	b := pkt[off:]
	switch f.Proto {
	case wire.TCP, wire.UDP, wire.SCTP, wire.DCCP, wire.UDPLite:
		f.SPort, f.DPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case wire.ESP:
		f.SPI = binary.BigEndian.Uint32(b)
	case wire.AH:
		f.SPI = binary.BigEndian.Uint32(b[4:])
	case wire.ICMPv6:
		if b[0] == wire.TypeEchoRequest || b[0] == wire.TypeEchoReply {
			f.SPort = binary.BigEndian.Uint16(b[4:])
		}
	}
}

// inner reads the flow of the packet inside a tunnel's: IPv6 or IPv4, bare or in GRE (RFC 2784, 2890).
func inner(pkt []byte, proto uint8, off int) (f Flow, ok bool) {
	if proto == wire.GRE {
		if off < 0 || off+4 > len(pkt) {
			return f, false
		}
		flags, typ := binary.BigEndian.Uint16(pkt[off:]), binary.BigEndian.Uint16(pkt[off+2:])
		off += 4
		for _, optional := range [...]uint16{0x8000, 0x2000, 0x1000} { // checksum, key, sequence number
			if flags&optional != 0 {
				off += 4
			}
		}
		switch typ {
		case 0x86dd:
			proto = wire.IPv6Encap
		case 0x0800:
			proto = wire.IPv4Encap
		}
	}
	if off < 0 || off > len(pkt) {
		return f, false
	}
	b := pkt[off:]
	switch {
	case proto == wire.IPv6Encap && len(b) >= wire.IPv6HeaderLen && b[0]>>4 == 6:
		f.Src, f.Dst = [16]byte(b[8:24]), [16]byte(b[24:40])
		if f.Proto = b[wire.NextHeaderOffset]; f.Proto != wire.Fragment {
			f.ports(b, wire.IPv6HeaderLen)
		} else {
			f.Proto = 0
		}
		return f, true
	case proto == wire.IPv4Encap && len(b) >= 20 && b[0]>>4 == 4:
		copy(f.Src[12:], b[12:16])
		copy(f.Dst[12:], b[16:20])
		if binary.BigEndian.Uint16(b[6:])&0x3fff == 0 { // not a fragment
			f.Proto = b[9]
			f.ports(b, int(b[0]&15)*4)
		}
		return f, true
	}
	return f, false
}
