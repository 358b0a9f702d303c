package selector

import (
	"encoding/binary"
	"fmt"

	"leveret/appliance/wire"
)

// View says how [Decode] looks at a packet. The zero View is that of the upper layers: home addresses, and
// AH is a protocol of its own (RFC 4301 4.4.1.1: AH and ESP are Next Layer Protocols).
type View uint8

// The other views.
const (
	// Wire takes the addresses of the IPv6 header as they are. It is for packets in transit, where a Home
	// Address option has been proven by nobody, and for those whose option and Routing header have been
	// processed: there the addresses have changed places already (RFC 6275 9.3.1, 6.4).
	Wire View = 1 << iota
	// ThroughAH looks behind AH too, which hides nothing.
	ThroughAH
)

// Why a packet has no flow; such a packet is dropped where policies hold.
var (
	errShort    = fmt.Errorf("flow: IP header: %w", wire.ErrShort)
	errVersion  = fmt.Errorf("flow: %w: neither version 6 nor 4", wire.ErrFormat)
	errChain    = fmt.Errorf("flow: chain of extension headers: %w", wire.ErrFormat)
	errOptions  = fmt.Errorf("flow: Destination Options: %w", wire.ErrFormat)
	errHome     = fmt.Errorf("flow: Home Address option: %w", wire.ErrFormat)
	errType2    = fmt.Errorf("flow: Type 2 Routing header: %w", wire.ErrFormat)
	errNotQuote = fmt.Errorf("flow: quoted packet: %w: no ICMP error", wire.ErrFormat)
)

// Decode returns the flow of a packet from its first octet: one in transit, for this node, or sent by it,
// with a header it built itself or not; IPv6 with any extension headers, or IPv4. The packet may be cut
// short, as those in ICMP errors are: what is missing is opaque. Link and Mark are the caller's to fill
// in. The packet is only read. No allocation.
//
// An error is a packet that cannot be told the policy of: its destination could find other ports in it
// than are seen here (more headers than are looked at, [wire.MaxHeaders]), or none.
func Decode(pkt []byte, view View) (f Flow, err error) {
	switch {
	case len(pkt) == 0:
		return f, errShort
	case pkt[0]>>4 == 6:
		err = f.ipv6(pkt, view)
	case pkt[0]>>4 == 4:
		err = f.ipv4(pkt, view)
	default:
		err = errVersion
	}
	if err != nil {
		return Flow{}, err
	}
	return f, nil
}

func (f *Flow) ipv6(pkt []byte, view View) error {
	if len(pkt) < wire.IPv6HeaderLen {
		return errShort
	}
	next := pkt[wire.NextHeaderOffset]
	length := int(binary.BigEndian.Uint16(pkt[4:]))
	if length != 0 || next != wire.HopByHop { // else it may be a jumbogram (RFC 2675 3)
		pkt = pkt[:min(len(pkt), wire.IPv6HeaderLen+length)]
	}
	f.Src, f.Dst = [16]byte(pkt[8:24]), [16]byte(pkt[24:40])
	switch next {
	case wire.TCP, wire.UDP, wire.ICMPv6: // most packets
		f.upper(pkt[wire.IPv6HeaderLen:], next)
		return nil
	}
	var c wire.Chain
	c.Walk(pkt)
	return f.chain(pkt, &c, view)
}

// chain reads what the headers between say, up to the protocol that selectors are about.
func (f *Flow) chain(pkt []byte, c *wire.Chain, view View) error {
	if c.Problem == wire.TooMany || c.Problem == wire.HBHNotFirst {
		return errChain
	}
	home := false
	for i := range c.N {
		h := &c.Headers[i]
		switch h.Proto {
		case wire.Fragment: // the walk stops at the first of them only, but whoever reassembles stops at each
			if binary.BigEndian.Uint16(pkt[h.Off+2:])&^7 != 0 {
				f.hidden(pkt[h.Off])
				return nil
			}
		case wire.AH:
			if view&ThroughAH == 0 {
				f.hidden(wire.AH)
				return nil
			}
		case wire.MH, wire.HIP, wire.Shim6: // upper layers here, extension headers in the chain
			f.upper(pkt[h.Off:], h.Proto)
			return nil
		case wire.Routing:
			if err := f.type2(pkt[h.Off:h.Off+h.Len], view); err != nil {
				return err
			}
		case wire.DestOpts:
			if err := f.homeAddress(pkt[:h.Off+h.Len], h.Off, view, &home); err != nil {
				return err
			}
		}
	}
	switch c.Proto {
	case wire.HopByHop, wire.Routing, wire.Fragment, wire.DestOpts, wire.AH: // cut off there
		if c.Proto == wire.AH && view&ThroughAH != 0 {
			f.Opaque = true
			return nil
		}
		f.hidden(c.Proto)
	default:
		f.upper(pkt[c.Off:], c.Proto)
	}
	return nil
}

// hidden notes that what a Next Header octet names is not to be seen. If it names an extension header,
// the protocol is not known either.
func (f *Flow) hidden(next uint8) {
	switch f.Opaque = true; next {
	case wire.HopByHop, wire.Routing, wire.Fragment, wire.DestOpts:
	default:
		f.Proto = next
	}
}

// type2 takes the home address of a Type 2 Routing header that the packet has not been at yet for its
// destination (RFC 6275 6.4).
func (f *Flow) type2(h []byte, view View) error {
	if view&Wire != 0 || h[2] != 2 {
		return nil
	}
	if h[1] != 2 || h[3] > 1 {
		return errType2
	}
	if h[3] == 1 {
		f.Dst = [16]byte(h[8:24])
		if !unicast(&f.Dst) {
			return errType2
		}
	}
	return nil
}

// homeAddress takes the address of a Home Address option for the source (RFC 6275 6.3): one in a packet.
func (f *Flow) homeAddress(pkt []byte, off int, view View, seen *bool) error {
	if view&Wire != 0 {
		return nil
	}
	opts := wire.ParseOptions(pkt, off)
	for {
		o, ok := opts.Next()
		if !ok {
			break
		}
		if o.Type != wire.OptHomeAddress {
			continue
		}
		if *seen || len(o.Data) != 16 {
			return errHome
		}
		f.Src, *seen = [16]byte(o.Data), true
		if !unicast(&f.Src) {
			return errHome
		}
	}
	if opts.Problem != 0 {
		return errOptions
	}
	return nil
}

func unicast(a *[16]byte) bool { return !wire.IsMulticast(a) && !wire.IsUnspecified(a) }

func (f *Flow) ipv4(pkt []byte, view View) error {
	const header = 20
	if len(pkt) < header {
		return errShort
	}
	ihl, length := int(pkt[0]&15)*4, int(binary.BigEndian.Uint16(pkt[2:]))
	if ihl < header || length < ihl {
		return errChain
	}
	if ihl > len(pkt) {
		return errShort
	}
	proto := pkt[9]
	f.IPv4 = true
	f.Src, f.Dst = [16]byte{10: 0xff, 11: 0xff}, [16]byte{10: 0xff, 11: 0xff}
	copy(f.Src[12:], pkt[12:16])
	copy(f.Dst[12:], pkt[16:20])
	if binary.BigEndian.Uint16(pkt[6:])&0x1fff != 0 { // no first fragment
		f.Proto, f.Opaque = proto, true
		return nil
	}
	b := pkt[ihl:min(len(pkt), length)]
	for proto == wire.AH && view&ThroughAH != 0 {
		if len(b) < 8 || len(b) < (int(b[1])+2)*4 {
			f.Opaque = true
			return nil
		}
		proto, b = b[0], b[(int(b[1])+2)*4:]
	}
	f.upper(b, proto)
	return nil
}

// SetUpper makes a flow one of that protocol, whose header begins with head: for a fragment whose whole is known.
func (f *Flow) SetUpper(proto uint8, head []byte) {
	f.Opaque = false
	f.upper(head, proto)
}

// upper reads what the protocol has in the place of ports.
func (f *Flow) upper(b []byte, proto uint8) {
	f.Proto = proto
	switch kindOf(proto) {
	case ports:
		if len(b) >= 4 {
			f.SPort, f.DPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
			return
		}
	case types:
		if len(b) >= 2 {
			f.SPort, f.DPort = uint16(b[0]), uint16(b[1])
			return
		}
	case mhType:
		if len(b) >= 3 {
			f.SPort = uint16(b[2])
			return
		}
	case greKey:
		if f.greKey(b) {
			return
		}
	}
	f.Opaque = true
}

// greKey reads the key (RFC 2890 2); false if there is none. Version 1 has other fields in its place
// (RFC 2637 4.1).
func (f *Flow) greKey(b []byte) bool {
	const checksum, routing, key, version = 0x8000, 0x4000, 0x2000, 7
	if len(b) < 4 {
		return false
	}
	flags, at := binary.BigEndian.Uint16(b), 4
	if flags&(checksum|routing) != 0 {
		at = 8
	}
	if flags&key == 0 || flags&version != 0 || len(b) < at+4 {
		return false
	}
	f.SPort, f.DPort = binary.BigEndian.Uint16(b[at:]), binary.BigEndian.Uint16(b[at+2:])
	return true
}

// Reverse returns the flow of the way back: addresses and ports change places; types, codes and keys are
// no ports of one end (RFC 4301 6.2).
func (f Flow) Reverse() Flow {
	f.Src, f.Dst = f.Dst, f.Src
	if kindOf(f.Proto) == ports {
		f.SPort, f.DPort = f.DPort, f.SPort
	}
	return f
}

// Quoted returns the flow that an ICMPv6 or ICMP error goes by when its own selectors do not tell
// (RFC 4301 6.2): the reversed flow of the packet that it quotes. msg begins with the type. Link and Mark
// are the caller's to fill in.
func Quoted(proto uint8, msg []byte, view View) (Flow, error) {
	if len(msg) < wire.ICMPv6HeaderLen || proto != wire.ICMPv6 && proto != icmp {
		return Flow{}, errNotQuote
	}
	if proto == wire.ICMPv6 && !wire.IsError(msg[0]) {
		return Flow{}, errNotQuote
	}
	if proto == icmp {
		switch msg[0] {
		case 3, 4, 5, 11, 12: // unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792)
		default:
			return Flow{}, errNotQuote
		}
	}
	f, err := Decode(msg[wire.ICMPv6HeaderLen:], view)
	return f.Reverse(), err
}
