package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// toStack and fromStack translate addresses at gVisor's border. Zones do not cross it.
func toStack(a netip.Addr) tcpip.Address { return tcpip.AddrFrom16(a.As16()) }

func fromStack(a tcpip.Address) netip.Addr {
	if a.BitLen() != 128 {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a.As16())
}

// src, dst, trafficClass and hopLimit read the IPv6 header of a packet that has one.
func src(b []byte) *[16]byte       { return (*[16]byte)(b[8:24]) }
func dst(b []byte) *[16]byte       { return (*[16]byte)(b[24:40]) }
func trafficClass(b []byte) int    { return int(b[0]&0x0f)<<4 | int(b[1]>>4) }
func hopLimit(b []byte) int        { return int(b[7]) }
func isMulticast(a *[16]byte) bool { return a[0] == 0xff }
func isLinkLocal(a *[16]byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// needsLink reports whether an address means something on one link only (RFC 4007 6): link-local
// unicast, and multicast of link-local scope or less.
func needsLink(a netip.Addr) bool {
	if a.IsMulticast() {
		return a.As16()[1]&0x0f <= 2
	}
	return a.IsLinkLocalUnicast()
}

// flowLabel returns the flow label of a transport flow: the same for all its packets, different
// for different flows and hard to guess (RFC 6437 3). proto and ports may be zero.
func (h *Host) flowLabel(src, dst *[16]byte, proto uint8, ports uint32) uint32 {
	const m = 0x9e3779b97f4a7c15
	x := h.flowKey
	for _, w := range [...]uint64{
		binary.BigEndian.Uint64(src[:]), binary.BigEndian.Uint64(src[8:]),
		binary.BigEndian.Uint64(dst[:]), binary.BigEndian.Uint64(dst[8:]),
		uint64(proto)<<32 | uint64(ports),
	} {
		x = (x ^ w) * m
		x ^= x >> 29
	}
	if l := uint32(x>>40) & 0xfffff; l != 0 {
		return l
	}
	return 1
}

// putFlowLabel sets the flow label of the IPv6 header b begins with.
func putFlowLabel(b []byte, label uint32) {
	b[1] = b[1]&0xf0 | uint8(label>>16)&0x0f
	binary.BigEndian.PutUint16(b[2:], uint16(label))
}
