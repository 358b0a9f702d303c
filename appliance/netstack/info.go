package netstack

import (
	"net/netip"

	"leveret/appliance/wire"
)

// ExtHeader is one extension header as it is on the wire, Next Header and length octets included.
// Sending, the Next Header octet is filled in.
type ExtHeader struct {
	Proto uint8 // wire.HopByHop, wire.DestOpts or wire.Routing
	Data  []byte
}

// Info is what RFC 3542 lets a program see and say beside a datagram's data.
type Info struct {
	// Local is the address at this end (IPV6_PKTINFO): where the datagram was sent to; sending,
	// its source, or the zero Addr to have one chosen.
	Local netip.Addr
	// Link is the link it came in on; 0 = it never was on a link. Sending: the link to leave by,
	// 0 = as routed.
	Link int
	// HopLimit (IPV6_HOPLIMIT) and TrafficClass (IPV6_TCLASS) are of its IPv6 header; sending, 0
	// means the socket's.
	HopLimit     int
	TrafficClass int
	// PathMTU is not 0 when ReadMsg reports no datagram but a change (IPV6_PATHMTU), for a socket
	// with ReportPathMTU: datagrams of this one's size to its source's address do not fit any more.
	PathMTU int
	// ExtHeaders are its Hop-by-Hop Options, Destination Options and Routing headers in their
	// order, received only by a socket with ReportExtHeaders, and copied.
	ExtHeaders []ExtHeader
	// Mark and DontFragment (IPV6_DONTFRAG) are for sending only, and add to the socket's.
	Mark         uint32
	DontFragment bool
}

// SocketOptions are fixed when a socket is made.
type SocketOptions struct {
	// Local is the address and port to bind; zero values are any address and a port of ours. A
	// link-local address has its link's name as zone.
	Local netip.AddrPort
	// Link is the only link to use; 0 = any.
	Link int
	// Mark is for rules ("fwmark").
	Mark uint32
	// Reuse lets several sockets that all have it share an address and port (groups).
	Reuse bool
	// ReceiveBuffer is in octets; 0 = the default.
	ReceiveBuffer int

	HopLimit          int // 0 = the default, 64
	MulticastHopLimit int // 0 = the default, 1
	TrafficClass      int
	// DontFragment refuses datagrams longer than the path MTU instead of fragmenting them.
	DontFragment bool
	// NoMulticastLoop keeps the datagrams sent to a group from this node's other members.
	NoMulticastLoop bool

	// ReportExtHeaders, ReportErrors and ReportPathMTU say what ReadMsg reports besides data.
	ReportExtHeaders bool
	ReportErrors     bool // every ICMPv6 error, as *ICMPError
	ReportPathMTU    bool
}

// keepExtHeaders copies the extension headers of b, which end at end.
func (d *datagram) keepExtHeaders(b []byte, end int) {
	d.ext = append(d.ext[:0], b[wire.IPv6HeaderLen:end]...)
	d.info.ExtHeaders = d.info.ExtHeaders[:0]
	proto := b[wire.NextHeaderOffset]
	for rest := d.ext; len(rest) >= 8; {
		n := wire.FragmentHeaderLen
		switch proto {
		case wire.HopByHop, wire.DestOpts, wire.Routing:
			if n = (int(rest[1]) + 1) * 8; n > len(rest) {
				return
			}
			d.info.ExtHeaders = append(d.info.ExtHeaders, ExtHeader{Proto: proto, Data: rest[:n:n]})
		case wire.Fragment: // of an atomic fragment: no business of programs (RFC 3542 7)
		default:
			return
		}
		proto, rest = rest[0], rest[n:]
	}
}

// checkExtHeaders checks the headers to send: the kinds and the order that RFC 8200 4.1 allows and
// lengths that agree with themselves. A Routing header that still has segments to go would need
// its own idea of the destination (RFC 8200 8.1).
func checkExtHeaders(ext []ExtHeader) (length int, err error) {
	for i, h := range ext {
		if len(h.Data) < 8 || len(h.Data) != (int(h.Data[1])+1)*8 {
			return 0, ErrInvalid
		}
		switch h.Proto {
		case wire.HopByHop:
			if i != 0 {
				return 0, ErrInvalid
			}
		case wire.DestOpts:
		case wire.Routing:
			if h.Data[3] != 0 {
				return 0, ErrInvalid
			}
		default:
			return 0, ErrInvalid
		}
		length += len(h.Data)
	}
	return length, nil
}
