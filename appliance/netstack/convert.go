package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Inside netstack a link-local address holds the index of its link in its third to sixth octet,
// which are zero on the wire (RFC 4291 2.5.6). netstack tells connections apart by their addresses
// and ports alone, and the same address may be on every link.
const (
	zoneFirst = 2
	zoneLast  = 6
)

// zoneFree reports whether an address has room for its link: a link-local one whose octets there
// are not zero is not of the only form defined (RFC 4291 2.5.6).
func zoneFree(a *[16]byte) bool {
	return !isLinkLocal(a) || binary.BigEndian.Uint32(a[zoneFirst:zoneLast]) == 0
}

// enterZone puts the link into a link-local address on its way to netstack.
func enterZone(a *[16]byte, link int) {
	if isLinkLocal(a) {
		binary.BigEndian.PutUint32(a[zoneFirst:zoneLast], uint32(link))
	}
}

// leaveZone takes it out again and returns it; 0 if there is none.
func leaveZone(a *[16]byte) (link int) {
	if !isLinkLocal(a) {
		return 0
	}
	link = int(binary.BigEndian.Uint32(a[zoneFirst:zoneLast]))
	clear(a[zoneFirst:zoneLast])
	return link
}

// toStack and fromStack translate addresses at gVisor's border. link is that of a link-local one.
func toStack(a netip.Addr, link int) tcpip.Address {
	k := a.As16()
	enterZone(&k, link)
	return tcpip.AddrFrom16(k)
}

func fromStack(a tcpip.Address) (netip.Addr, int) {
	if a.BitLen() != 128 {
		return netip.Addr{}, 0
	}
	k := a.As16()
	link := leaveZone(&k)
	return netip.AddrFrom16(k), link
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

// setTrafficClass sets the traffic class of the IPv6 header b begins with.
func setTrafficClass(b []byte, class uint8) {
	b[0], b[1] = b[0]&0xf0|class>>4, class<<4|b[1]&0x0f
}

// putFlowLabel sets the flow label of the IPv6 header b begins with.
func putFlowLabel(b []byte, label uint32) {
	b[1] = b[1]&0xf0 | uint8(label>>16)&0x0f
	binary.BigEndian.PutUint16(b[2:], uint16(label))
}
