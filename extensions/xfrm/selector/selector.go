// Package selector says which packets a security association or a policy is for (RFC 4301 4.4.1.1):
// selectors, and the flow of a packet that they are compared with.
package selector

import "net/netip"

// Selector is what packets are compared with, in the fields of Linux. The zero Selector takes all. Values
// are compared.
type Selector struct {
	Src, Dst netip.Prefix // the zero Prefix = any; IPv6, or IPv4 for what is inside a tunnel
	Proto    uint8        // 0 = any
	// Ports with the bits of them that count, mask 0 = any. For ICMPv6 and ICMP they are type and code, for
	// Mobility Header messages the type and nothing (RFC 4301 4.4.1.1).
	SPort, SPortMask uint16
	DPort, DPortMask uint16
	Link             int // that the packet came in by or leaves by; 0 = any
}

// Flow is what of a packet selectors look at: the addresses, protocol and ports of its innermost readable
// part, which are home addresses when it had a Home Address option or a Type 2 Routing header.
type Flow struct {
	Src, Dst     [16]byte // IPv4 addresses as IPv4-mapped ones
	Proto        uint8
	SPort, DPort uint16 // ports, or type and code, as Selector has them
	// Opaque: ports are not to be had (no first fragment, encrypted, cut short); then only selectors that
	// do not ask for them match (RFC 4301 4.4.1.1: OPAQUE).
	Opaque bool
	Link   int
	Mark   uint32
}
