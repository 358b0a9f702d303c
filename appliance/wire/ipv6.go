// Package wire reads and writes the formats every part of the appliance needs: the IPv6 header,
// the extension header chain, options, ICMPv6, MLD and the edges of TCP and UDP.
//
// A view is made by its Parse function only, which checks what the accessors rely on: none of them
// panics. Append functions build, Put functions fill what is there.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Protocol numbers (RFC 8200 4.1 and the registry).
const (
	HopByHop  = 0
	IPv4Encap = 4
	TCP       = 6
	UDP       = 17
	DCCP      = 33
	IPv6Encap = 41
	Routing   = 43
	Fragment  = 44
	GRE       = 47
	ESP       = 50
	AH        = 51
	ICMPv6    = 58
	NoNext    = 59
	DestOpts  = 60
	SCTP      = 132
	MH        = 135
	UDPLite   = 136
	HIP       = 139
	Shim6     = 140
)

// HasPorts reports whether the first four octets of a protocol's header are source and destination
// port.
func HasPorts(proto uint8) bool {
	switch proto {
	case TCP, UDP, SCTP, DCCP, UDPLite:
		return true
	}
	return false
}

const (
	// IPv6HeaderLen is the length of the fixed header (RFC 8200 3).
	IPv6HeaderLen = 40
	// NextHeaderOffset is where the fixed header names what follows.
	NextHeaderOffset = 6
	// MinMTU is what every link must carry (RFC 8200 5).
	MinMTU = 1280
)

// The errors of the parsers; they come wrapped with what was being parsed.
var (
	ErrShort   = errors.New("too short")
	ErrVersion = errors.New("not IP version 6")
	ErrFormat  = errors.New("malformed")
)

// IPv6 views the fixed header in place (RFC 8200 3). It borrows the packet.
type IPv6 struct{ b []byte }

// ParseIPv6 checks that b begins with a whole header of version 6. The payload length is not
// compared with what is there.
func ParseIPv6(b []byte) (IPv6, error) {
	if len(b) < IPv6HeaderLen {
		return IPv6{}, fmt.Errorf("IPv6 header: %w: %d octets", ErrShort, len(b))
	}
	if b[0]>>4 != 6 {
		return IPv6{}, fmt.Errorf("IPv6 header: %w: version %d", ErrVersion, b[0]>>4)
	}
	return IPv6{b}, nil
}

// TrafficClass returns the traffic class: DSCP and ECN.
func (h IPv6) TrafficClass() uint8 { return h.b[0]<<4 | h.b[1]>>4 }

// FlowLabel returns the 20-bit flow label.
func (h IPv6) FlowLabel() uint32 { return binary.BigEndian.Uint32(h.b) & 0xfffff }

// PayloadLength returns the octets behind the fixed header.
func (h IPv6) PayloadLength() uint16 { return binary.BigEndian.Uint16(h.b[4:]) }

// NextHeader returns the protocol of what follows.
func (h IPv6) NextHeader() uint8 { return h.b[6] }

// HopLimit returns the hop limit.
func (h IPv6) HopLimit() uint8 { return h.b[7] }

// Src returns the source address.
func (h IPv6) Src() netip.Addr { return netip.AddrFrom16(*h.SrcBytes()) }

// Dst returns the destination address.
func (h IPv6) Dst() netip.Addr { return netip.AddrFrom16(*h.DstBytes()) }

// SrcBytes returns the source address in place.
func (h IPv6) SrcBytes() *[16]byte { return (*[16]byte)(h.b[8:24]) }

// DstBytes returns the destination address in place.
func (h IPv6) DstBytes() *[16]byte { return (*[16]byte)(h.b[24:40]) }

// IPv6Fields are the values of a fixed header.
type IPv6Fields struct {
	TrafficClass  uint8
	FlowLabel     uint32 // 20 bits
	PayloadLength uint16
	NextHeader    uint8
	HopLimit      uint8
	Src, Dst      netip.Addr
}

// PutIPv6 writes a header over the first 40 octets of b.
func PutIPv6(b []byte, f IPv6Fields) {
	_ = b[39]
	binary.BigEndian.PutUint32(b, 6<<28|uint32(f.TrafficClass)<<20|f.FlowLabel&0xfffff)
	binary.BigEndian.PutUint16(b[4:], f.PayloadLength)
	b[6], b[7] = f.NextHeader, f.HopLimit
	src, dst := f.Src.As16(), f.Dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}

// AppendIPv6 appends a header.
func AppendIPv6(b []byte, f IPv6Fields) []byte {
	n := len(b)
	b = append(b, make([]byte, IPv6HeaderLen)...)
	PutIPv6(b[n:], f)
	return b
}
