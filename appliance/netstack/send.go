package netstack

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// A hop limit of 0 stands for that of the link a packet leaves by; the packet path writes it.
const (
	// A multicast datagram stays on its link unless its sender says otherwise (RFC 3493 5.2).
	defaultMulticastHopLimit = 1
	// maxPayload is the longest payload of an IPv6 packet: jumbograms are not sent.
	maxPayload = 65535
)

// MTUError is ErrMessageTooLong with the path MTU that a packet did not fit.
type MTUError struct{ MTU int }

func (e *MTUError) Error() string { return ErrMessageTooLong.Error() }

// Unwrap returns ErrMessageTooLong.
func (e *MTUError) Unwrap() error { return ErrMessageTooLong }

// params are what one packet is sent with: the socket's options, and over them the caller's.
type params struct {
	q          module.RouteQuery // what is known of the packet before its route is
	noFrag     bool
	hop, class int
	ext        []ExtHeader
	extLen     int
}

// query asks for the route of what the socket sends to an address. Ports are 0 where the protocol
// has none and where they are not known yet.
func (s *socket) query(to netip.Addr, sport, dport uint16) module.RouteQuery {
	return module.RouteQuery{
		Dst: to, Src: s.local, Out: s.link, Mark: s.opts.Mark, DSField: uint8(s.opts.TrafficClass), Proto: s.proto, SPort: sport, DPort: dport,
	}
}

// params returns what a message that goes as q says is sent with. Of info only what is set counts.
func (s *socket) params(q module.RouteQuery, info *Info) (params, error) {
	o, to := &s.opts, q.Dst
	a := params{q: q, noFrag: o.DontFragment, hop: o.HopLimit, class: o.TrafficClass}
	if q.Src.IsMulticast() { // bound to a group: that says what to receive
		a.q.Src = netip.Addr{}
	}
	if to.IsMulticast() {
		a.hop = o.MulticastHopLimit
	}
	if info != nil {
		if info.Local.IsValid() && !info.Local.IsUnspecified() { // RFC 3542 6.2: it goes before the bound one
			if info.Local.IsMulticast() {
				return a, ErrInvalid
			}
			a.q.Src = info.Local.WithZone("")
		}
		if info.Link != 0 {
			if a.q.Out != 0 && a.q.Out != info.Link {
				return a, ErrInvalid
			}
			a.q.Out = info.Link
		}
		if info.HopLimit != 0 {
			a.hop = info.HopLimit
		}
		if info.TrafficClass != 0 {
			a.class = info.TrafficClass
		}
		if info.Mark != 0 {
			a.q.Mark = info.Mark
		}
		a.noFrag = a.noFrag || info.DontFragment
		a.ext = info.ExtHeaders
	}
	if a.hop == 0 && to.IsMulticast() {
		a.hop = defaultMulticastHopLimit
	}
	if a.hop < 0 || a.hop > 255 || a.class < 0 || a.class > 255 {
		return a, ErrInvalid
	}
	a.q.DSField = uint8(a.class)
	var err error
	a.extLen, err = checkExtHeaders(a.ext)
	return a, err
}

// outgoing makes the packet for a message of size octets, transport header included, that goes as q
// says, and returns where that goes, all but the message filled in.
//
// DEVIATION(RFC 3542 11.1): datagrams to a group are fragmented to the link's MTU, not to 1280
// octets: a path MTU is kept for groups as for any destination, and so learned.
func (s *socket) outgoing(q module.RouteQuery, size int, info *Info) (p *packet.Packet, transport []byte, err error) {
	a, err := s.params(q, info)
	if err != nil {
		return nil, nil, err
	}
	if a.extLen+size > maxPayload {
		return nil, nil, &MTUError{MTU: wire.IPv6HeaderLen + maxPayload}
	}
	if q, err = s.h.findRoute(a.q); err != nil {
		return nil, nil, err
	}
	whole := wire.IPv6HeaderLen + a.extLen + size
	if a.noFrag {
		if mtu := s.h.pathMTU(q); whole > mtu {
			return nil, nil, &MTUError{MTU: mtu}
		}
	}
	p = s.h.opts.NewPacket(whole)
	b := p.Extend(whole)
	wire.PutIPv6(b, wire.IPv6Fields{
		TrafficClass: uint8(a.class), PayloadLength: uint16(a.extLen + size), NextHeader: s.proto, HopLimit: uint8(a.hop),
		Src: q.Src, Dst: q.Dst,
	})
	field, at := wire.NextHeaderOffset, wire.IPv6HeaderLen
	for _, h := range a.ext {
		b[field] = h.Proto
		copy(b[at:], h.Data)
		b[at] = s.proto
		field, at = at, at+len(h.Data)
	}
	p.Out, p.Mark, p.NoFrag = q.Out, q.Mark, a.noFrag
	return p, b[at:], nil
}

// label sets the flow label of a packet from its transport header.
func (h *Host) label(b, transport []byte, proto uint8) {
	var ports uint32
	if proto == wire.UDP {
		ports = binary.BigEndian.Uint32(transport)
	}
	putFlowLabel(b, h.flowLabel(src(b), dst(b), proto, ports))
}
