package wire

import "encoding/binary"

// MaxHeaders is how many extension headers of one packet are looked at. RFC 8504 5.3 lets a node
// set such a limit.
const MaxHeaders = 16

// ChainProblem is what stopped a walk.
type ChainProblem uint8

// The problems.
const (
	NoProblem          ChainProblem = iota
	Truncated                       // a header runs over the end of the packet
	HBHNotFirst                     // Hop-by-Hop Options elsewhere than right behind the IPv6 header (RFC 8200 4.1)
	TooMany                         // more than MaxHeaders
	FragmentIncomplete              // a first fragment without the whole chain (RFC 7112 5)
)

// Header is one extension header.
type Header struct {
	Proto uint8
	Off   int // from the start of the packet
	Len   int
}

// Chain is where the headers of a packet are. The zero value is ready for [Chain.Walk].
type Chain struct {
	Headers [MaxHeaders]Header // the extension headers in order; N are valid
	N       int

	Proto      uint8 // upper layer, or the first protocol that is not walked through (ESP, NoNext, unknown)
	Off        int   // its offset; the packet's length when nothing follows
	ProtoField int   // offset of the Next Header octet that named it

	HopByHop, Routing, Fragment int // offset of the first such header; 0 = none

	FragOffset    int // octets; valid when Fragment is not 0
	MoreFragments bool
	FragID        uint32

	// UnfragEnd is where the per-fragment part ends (RFC 8200 4.5): behind the Routing header if
	// there is one, else behind Hop-by-Hop Options, else behind the IPv6 header.
	// UnfragProtoField is the Next Header octet that names what follows there.
	UnfragEnd, UnfragProtoField int

	Problem    ChainProblem
	ProblemOff int // the octet at fault
}

// Walk finds the headers of pkt, a whole IPv6 packet cut to its payload length. It ends at the
// upper layer, at a protocol it does not know, or behind the Fragment header of a fragment that is
// not the first. No allocation.
func (c *Chain) Walk(pkt []byte) {
	c.N, c.HopByHop, c.Routing, c.Fragment = 0, 0, 0, 0
	c.FragOffset, c.MoreFragments, c.FragID = 0, false, 0
	c.Problem, c.ProblemOff = NoProblem, 0
	c.UnfragEnd, c.UnfragProtoField = IPv6HeaderLen, NextHeaderOffset
	c.ProtoField, c.Off = NextHeaderOffset, IPv6HeaderLen
	c.Proto = pkt[NextHeaderOffset]
	switch c.Proto {
	case TCP, UDP, ICMPv6: // most packets
		return
	}
	c.walk(pkt)
	if c.Fragment != 0 && c.FragOffset == 0 && c.MoreFragments && (c.Problem == Truncated || c.Problem == NoProblem && c.short(pkt)) {
		c.Problem, c.ProblemOff = FragmentIncomplete, 0
	}
}

func (c *Chain) walk(pkt []byte) {
	for {
		switch c.Proto {
		case HopByHop:
			if c.N != 0 {
				c.Problem, c.ProblemOff = HBHNotFirst, c.ProtoField
				return
			}
		case DestOpts, Routing, Fragment, AH, MH, HIP, Shim6:
		default:
			return
		}
		n := FragmentHeaderLen
		if len(pkt)-c.Off < 8 {
			c.Problem, c.ProblemOff = Truncated, c.Off
			return
		}
		switch c.Proto {
		case Fragment:
		case AH: // in units of 4 octets, less 2 (RFC 4302 2.2)
			n = (int(pkt[c.Off+1]) + 2) * 4
		default:
			n = (int(pkt[c.Off+1]) + 1) * 8
		}
		if n > len(pkt)-c.Off {
			c.Problem, c.ProblemOff = Truncated, c.Off
			return
		}
		if c.N == MaxHeaders {
			c.Problem, c.ProblemOff = TooMany, c.ProtoField
			return
		}
		c.Headers[c.N] = Header{Proto: c.Proto, Off: c.Off, Len: n}
		c.N++
		if c.enter(pkt, n) {
			return
		}
	}
}

// enter notes what the header at Off is and moves behind it; it reports whether the walk ends.
func (c *Chain) enter(pkt []byte, n int) bool {
	off := c.Off
	switch c.Proto {
	case HopByHop:
		c.HopByHop = off
		c.UnfragEnd, c.UnfragProtoField = off+n, off
	case Routing:
		if c.Routing == 0 {
			c.Routing = off
		}
		if c.Fragment == 0 {
			c.UnfragEnd, c.UnfragProtoField = off+n, off
		}
	case Fragment:
		if c.Fragment == 0 {
			c.Fragment = off
			fo := binary.BigEndian.Uint16(pkt[off+2:])
			c.FragOffset, c.MoreFragments = int(fo&^7), fo&1 != 0
			c.FragID = binary.BigEndian.Uint32(pkt[off+4:])
		}
	}
	c.Proto, c.ProtoField, c.Off = pkt[off], off, off+n
	return c.Fragment == off && c.FragOffset != 0
}

// short reports whether the packet ends inside the upper-layer header.
func (c *Chain) short(pkt []byte) bool {
	need := 0
	switch c.Proto {
	case TCP:
		need = 20
	case UDP, ICMPv6, ESP:
		need = 8
	case NoNext:
	default:
		need = 1
	}
	return len(pkt)-c.Off < need
}
