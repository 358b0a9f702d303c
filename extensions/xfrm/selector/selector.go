// Package selector says which packets a security association or a policy is for (RFC 4301 4.4.1.1):
// selectors, and the flow of a packet that they are compared with.
//
//	packet --Decode--> Flow          Spec, words --Selectors--> Selector --Compile--> Compiled.Matches(Flow)
package selector

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"leveret/appliance/wire"
)

// Selector is what packets are compared with, in the fields of Linux. The zero Selector takes all. Values
// are compared.
type Selector struct {
	Src, Dst netip.Prefix // the zero Prefix = any; IPv6, or IPv4 for what is inside a tunnel
	Proto    uint8        // 0 = any
	// Ports with the bits of them that count, mask 0 = any. For ICMPv6 and ICMP they are type and code, for
	// Mobility Header messages the type and nothing (RFC 4301 4.4.1.1), for GRE the halves of the key.
	SPort, SPortMask uint16
	DPort, DPortMask uint16
	// Opaque takes only packets whose ports are not to be had, as those that are no first fragments
	// (RFC 4301 4.4.1, 7.2); both masks are 0 then. Linux has no such selector.
	Opaque bool
	Link   int // that the packet came in by or leaves by; 0 = any
}

// Flow is what of a packet selectors look at: the addresses, protocol and ports of its innermost readable
// part, which are home addresses when it had a Home Address option or a Type 2 Routing header.
type Flow struct {
	Src, Dst     [16]byte // IPv4 addresses as IPv4-mapped ones
	IPv4         bool     // the packet is one: the addresses alone do not tell, an IPv6 packet may have mapped ones
	Proto        uint8    // 0 = not to be had: behind headers that were cut off or went in another fragment
	SPort, DPort uint16   // ports, or type and code, as Selector has them
	// Opaque: ports are not to be had (no first fragment, encrypted, cut short, or the protocol has none);
	// then only selectors that do not ask for them match (RFC 4301 4.4.1: OPAQUE).
	Opaque bool
	Link   int
	Mark   uint32
}

// Exact is the mask of a port that counts as a whole.
const Exact = 0xffff

// Family is which packets a selector's prefixes are for.
type Family uint8

// The families.
const (
	AnyFamily Family = iota
	IPv6
	IPv4
)

// Family returns the family of the prefixes.
func (s *Selector) Family() Family {
	for _, p := range [...]netip.Prefix{s.Src, s.Dst} {
		switch {
		case !p.IsValid():
		case p.Addr().Is4():
			return IPv4
		default:
			return IPv6
		}
	}
	return AnyFamily
}

// Normal returns the selector with all addresses of a family for a prefix that is not given: of the other
// prefix's family, or IPv6. Policies are for one family, so two that say the same are equal.
func (s Selector) Normal() Selector {
	all := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if s.Family() == IPv4 {
		all = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	if !s.Src.IsValid() {
		s.Src = all
	}
	if !s.Dst.IsValid() {
		s.Dst = all
	}
	return s
}

// kind is what a protocol has in the place of ports.
type kind uint8

const (
	none kind = iota
	ports
	types // type and code
	mhType
	greKey
)

const icmp = 1 // ICMP for IPv4, inside a tunnel

func kindOf(proto uint8) kind {
	switch proto {
	case wire.TCP, wire.UDP, wire.UDPLite, wire.SCTP, wire.DCCP:
		return ports
	case wire.ICMPv6, icmp:
		return types
	case wire.MH:
		return mhType
	case wire.GRE:
		return greKey
	}
	return none
}

// names returns what the two port fields of a kind are called.
func (k kind) names() (string, string) {
	switch k {
	case types, mhType:
		return "type", "code"
	case greKey:
		return "key", "key"
	}
	return "sport", "dport"
}

// Valid refuses a selector that no packet matches or that asks for what its protocol has not. The error
// begins with the field's name. Ports without a protocol are refused because they are of none (RFC 4301
// 7.1: then they "MUST be set to ANY").
func (s *Selector) Valid() error {
	if s.Src.IsValid() && s.Dst.IsValid() && s.Src.Addr().Is4() != s.Dst.Addr().Is4() {
		return fmt.Errorf("src: %s and dst %s are not of the same family", s.Src, s.Dst)
	}
	for i, p := range [...]netip.Prefix{s.Src, s.Dst} {
		if p.IsValid() && p.Addr().Is4In6() {
			return fmt.Errorf("%s: %s: write the IPv4 address", [...]string{"src", "dst"}[i], p)
		}
	}
	switch s.Proto {
	case wire.Routing, wire.Fragment, wire.DestOpts:
		return fmt.Errorf("proto: %d is an extension header, and selectors are for what is behind it (RFC 4301 4.4.1.1)", s.Proto)
	}
	k := kindOf(s.Proto)
	first, second := k.names()
	switch asks := s.SPortMask|s.DPortMask != 0; {
	case s.Opaque && asks:
		return fmt.Errorf("%s: a packet whose ports are opaque has none", given(s, first, second))
	case k == none && (asks || s.Opaque) && s.Proto == 0:
		return fmt.Errorf("%s: needs a protocol (RFC 4301 7.1)", given(s, first, second))
	case k == none && (asks || s.Opaque):
		return fmt.Errorf("%s: protocol %s has no ports", given(s, first, second), ProtoName(s.Proto))
	case k == mhType && s.DPortMask != 0:
		return fmt.Errorf("code: a Mobility Header has a type only (RFC 4301 4.4.1.1)")
	}
	for _, f := range [...]struct {
		name        string
		value, mask uint16
	}{{first, s.SPort, s.SPortMask}, {second, s.DPort, s.DPortMask}} {
		switch {
		case f.value&^f.mask != 0:
			return fmt.Errorf("%s: %d has bits outside of its mask %#x", f.name, f.value, f.mask)
		case (k == types || k == mhType) && (f.value > 255 || f.mask != Exact && f.mask > 255):
			return fmt.Errorf("%s: %d/%#x is not of 8 bits", f.name, f.value, f.mask)
		}
	}
	if s.Link < 0 {
		return fmt.Errorf("dev: %d is no link", s.Link)
	}
	return nil
}

func given(s *Selector, first, second string) string {
	if s.DPortMask != 0 && s.SPortMask == 0 {
		return second
	}
	return first
}

// Matches reports whether f is one of the packets the selector is for. No allocation; what is asked again
// and again is compiled.
func (s *Selector) Matches(f *Flow) bool {
	c := s.Compile()
	return c.Matches(f)
}

// Mask is a prefix as two words and the bits of them that count.
type Mask struct{ Hi, Lo, MHi, MLo uint64 }

// MaskOf returns the mask of a prefix; an IPv4 one covers IPv4-mapped addresses, the zero Prefix all.
func MaskOf(p netip.Prefix) (m Mask) {
	if !p.IsValid() {
		return m
	}
	a, bits := p.Addr().As16(), p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	m.MHi = ^uint64(0) << (64 - min(bits, 64)) // a shift by 64 gives 0
	m.MLo = ^uint64(0) << (128 - max(bits, 64))
	m.Hi, m.Lo = binary.BigEndian.Uint64(a[:8])&m.MHi, binary.BigEndian.Uint64(a[8:])&m.MLo
	return m
}

// Holds reports whether an address is one of the prefix.
func (m *Mask) Holds(a *[16]byte) bool {
	return (binary.BigEndian.Uint64(a[:8])^m.Hi)&m.MHi|(binary.BigEndian.Uint64(a[8:])^m.Lo)&m.MLo == 0
}

// Compiled is a selector as packets are compared with it. Immutable; any goroutine may use it.
type Compiled struct {
	Src, Dst Mask
	Family   Family
	Selector Selector
}

// Compile returns the searchable form.
func (s *Selector) Compile() Compiled {
	return Compiled{Src: MaskOf(s.Src), Dst: MaskOf(s.Dst), Family: s.Family(), Selector: *s}
}

// Matches reports whether f is one of the packets the selector is for (RFC 4301 4.4.1.1). No allocation.
func (c *Compiled) Matches(f *Flow) bool {
	s := &c.Selector
	switch {
	case c.Family != AnyFamily && (c.Family == IPv4) != f.IPv4:
		return false
	case !c.Dst.Holds(&f.Dst) || !c.Src.Holds(&f.Src):
		return false
	case s.Proto != 0 && s.Proto != f.Proto, s.Link != 0 && s.Link != f.Link:
		return false
	case f.Opaque:
		return s.SPortMask|s.DPortMask == 0
	case s.Opaque:
		return false
	}
	return (f.SPort^s.SPort)&s.SPortMask|(f.DPort^s.DPort)&s.DPortMask == 0
}
