package encap

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/wire"
)

// Report is what the source of an original packet is told of a tunnel packet that was lost.
type Report struct {
	V4         bool // an ICMPv4 message
	Type, Code uint8
	MTU        int // 0 = none
	// Off is where the original packet begins in the quoted tunnel packet.
	Off int
}

// Types and codes of ICMPv4 (RFC 792, RFC 1191).
const (
	icmp4Unreachable  = 3
	icmp4HostUnreach  = 1
	icmp4FragNeeded   = 4
	icmp4TimeExceeded = 11
)

// Ends are what names the tunnel of a tunnel packet.
type Ends struct {
	Src, Dst netip.Addr
	Protocol uint8 // 4, 41 or 47
	Key      Key   // of GRE
}

// quoted is a tunnel packet of which there is only the beginning.
type quoted struct {
	Ends
	original int // where the original packet begins
	limit    int // where its encapsulation limit is; 0 = it has none
}

// readQuote reads the headers of a quoted tunnel packet. It is not ok where they, or the header of the original packet,
// are not there as a whole.
func readQuote(q []byte) (x quoted, ok bool) {
	off := 0
	switch {
	case len(q) >= wire.IPv6HeaderLen && q[0]>>4 == 6:
		var c wire.Chain
		c.Walk(q)
		if c.Problem != wire.NoProblem && c.Problem != wire.FragmentIncomplete || c.FragOffset != 0 {
			return x, false
		}
		x.Protocol, off = c.Proto, c.Off
		x.limit = limitAt(q)
	default:
		var whole bool
		if off, _, whole = ipv4Len(q); !whole || binary.BigEndian.Uint16(q[6:])&0x1fff != 0 {
			return x, false
		}
		x.Protocol = q[9]
	}
	x.Src, x.Dst = addrs(q)
	switch x.Protocol {
	case wire.IPv4Encap, wire.IPv6Encap:
	case wire.GRE:
		h, ok := readGRE(q[off:])
		if !ok {
			return x, false
		}
		x.Key = h.key
		off += h.len
	default:
		return x, false
	}
	x.original = off
	if len(q) <= off {
		return x, false
	}
	switch q[off] >> 4 {
	case 6:
		return x, len(q) >= off+wire.IPv6HeaderLen
	case 4:
		_, _, ok = ipv4Len(q[off:])
		return x, ok
	}
	return x, false
}

// Quoted returns what names the tunnel of a tunnel packet that an ICMP error quotes; Src is the entry-point. It is not ok
// if it is none or not enough of it is there for its source to be told.
func Quoted(q []byte) (Ends, bool) {
	x, ok := readQuote(q)
	return x.Ends, ok
}

// Relay makes of an ICMPv6 error about a tunnel packet what the source of the original packet is told (RFC 2473 8.1 to
// 8.3). quote is what it quotes, arg the word behind the checksum. It is not ok where there is nothing to tell.
func Relay(typ, code uint8, arg uint32, quote []byte) (r Report, ok bool) {
	x, ok := readQuote(quote)
	if !ok {
		return r, false
	}
	switch {
	case typ == wire.TypePacketTooBig:
		return x.tooBig(quote, int(min(arg, 1<<16)))
	case typ == wire.TypeDestinationUnreachable, typ == wire.TypeTimeExceeded && code == wire.CodeHopLimit:
	case typ == wire.TypeParameterProblem && code == wire.CodeErroneousHeader:
		// The limit is zero in RFC 2473 8.2, and one in its 8.1.
		if x.limit == 0 || arg != uint32(x.limit) || quote[x.limit] > 1 {
			return r, false
		}
	default:
		return r, false
	}
	return x.unreachable(quote), true
}

// Relay4 is [Relay] of an ICMPv4 error (RFC 4213 3.4); mtu is its next-hop MTU.
func Relay4(typ, code uint8, mtu uint16, quote []byte) (r Report, ok bool) {
	x, ok := readQuote(quote)
	switch {
	case !ok:
		return r, false
	case typ == icmp4Unreachable && code == icmp4FragNeeded:
		return x.tooBig(quote, int(mtu))
	case typ == icmp4Unreachable, typ == icmp4TimeExceeded && code == 0:
		return x.unreachable(quote), true
	}
	return r, false
}

// unreachable is the generic report of a tunnel that fails.
func (x *quoted) unreachable(quote []byte) Report {
	if quote[x.original]>>4 == 4 {
		return Report{V4: true, Type: icmp4Unreachable, Code: icmp4HostUnreach, Off: x.original}
	}
	return Report{Type: wire.TypeDestinationUnreachable, Code: wire.CodeAddressUnreachable, Off: x.original}
}

// tooBig says how long original packets may be; those that the tunnel must carry anyway are not reported, the tunnel
// packet is fragmented from now on.
func (x *quoted) tooBig(quote []byte, mtu int) (r Report, ok bool) {
	mtu -= x.original
	o := quote[x.original:]
	if o[0]>>4 == 4 {
		return Report{V4: true, Type: icmp4Unreachable, Code: icmp4FragNeeded, MTU: max(mtu, ipv4MinMTU), Off: x.original}, DontFragment(o)
	}
	size := wire.IPv6HeaderLen + int(binary.BigEndian.Uint16(o[4:]))
	return Report{Type: wire.TypePacketTooBig, MTU: max(mtu, wire.MinMTU), Off: x.original}, size > wire.MinMTU
}
