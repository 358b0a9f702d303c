package xfrm

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// The headers of Mobile IPv6, as they are sent: the home address goes into the header, and the care-of address into the
// place of the address (RFC 6275 6.3, 6.4). Upper layers have had the home address in their checksums. The packet goes by
// the way of the care-of addresses then.

// mobile reports whether a protocol is one of the headers of Mobile IPv6.
func mobile(p proto.Proto) bool { return p == proto.HAO || p == proto.Route2 }

// wraps reports whether a mode gives packets other addresses for good.
func wraps(m proto.Mode) bool { return m == proto.Tunnel || m == proto.BEET }

// ends says which addresses come out.
func (b *bundle) ends(f *selector.Flow) {
	b.self, b.peer = netip.AddrFrom16(f.Src), netip.AddrFrom16(f.Dst)
	for i := range b.n {
		l := &b.layers[i]
		switch {
		case wraps(l.state.Mode):
			b.self, b.peer, b.wrapped = l.src, l.dst, true
		case l.state.Proto == proto.HAO:
			b.self, b.wrapped = l.state.CoA, true
		case l.state.Proto == proto.Route2:
			b.peer, b.wrapped = l.state.CoA, true
		}
	}
}

// tunneled reports whether what comes out is another packet than what went in.
func (b *bundle) tunneled() bool {
	for i := range b.n {
		if wraps(b.layers[i].state.Mode) {
			return true
		}
	}
	return false
}

// once takes out the states whose header the packet has already, as whoever built it has put it in or by one before: a
// packet has no two home addresses (RFC 6275 6.3).
func (b *bundle) once(pkt []byte) {
	home, route := carries(pkt)
	n := 0
	for i := range b.n {
		s := b.layers[i].state
		switch {
		case wraps(s.Mode):
			home, route = false, false
		case s.Proto == proto.HAO:
			if home {
				continue
			}
			home = true
		case s.Proto == proto.Route2:
			if route {
				continue
			}
			route = true
		}
		b.layers[n] = b.layers[i]
		n++
	}
	b.n = n
}

// carries reports which of the two headers a packet has.
func carries(pkt []byte) (home, route bool) {
	var c wire.Chain
	c.Walk(pkt)
	for i := range c.N {
		h := &c.Headers[i]
		switch h.Proto {
		case wire.DestOpts:
			home = home || wire.HomeAddress(pkt, h) != 0
		case wire.Routing:
			route = route || pkt[h.Off+2] == 2
		case wire.Fragment, wire.AH: // what is behind them is none of these
			return home, route
		}
	}
	return home, route
}

// place says where headers go, each in the packet that the ones before have left. It reports false for a packet that
// transport mode is not for: it is for whole ones (RFC 4303 3.1.1).
func (b *bundle) place(pkt []byte) bool {
	off, fragment, ok := insertAt(pkt)
	if b.mobile {
		return b.placeMobile(pkt, off, fragment, ok)
	}
	if !wraps(b.layers[0].state.Mode) && (!ok || fragment) {
		return false
	}
	for i := range b.n {
		if wraps(b.layers[i].state.Mode) {
			off = wire.IPv6HeaderLen
		}
		b.layers[i].off = off
	}
	return true
}

// placeMobile is place with headers of Mobile IPv6 among them, which go where Linux puts them: a Type 2 Routing header in
// front of any other Routing header but type 0 and of a home address, a home address behind Routing headers, and both in
// front of Destination Options behind a Routing header, AH, ESP and what can be in a fragment.
func (b *bundle) placeMobile(pkt []byte, off int, fragment, ok bool) bool {
	home, route := insertMobile(pkt)
	for i := range b.n {
		l := &b.layers[i]
		switch {
		case wraps(l.state.Mode):
			off, home, route, fragment, ok = wire.IPv6HeaderLen, wire.IPv6HeaderLen, wire.IPv6HeaderLen, false, true
			l.off = off
		case !ok, fragment && !mobile(l.state.Proto):
			return false
		case l.state.Proto == proto.HAO:
			l.off = home
			off = max(off, home) + mobileLen
		case l.state.Proto == proto.Route2:
			l.off = route
			off, home = max(off, route)+mobileLen, home+mobileLen
		default:
			l.off = off
			home, route = min(home, off), min(route, off)
		}
	}
	return true
}

// insertMobile returns where a Home Address option and a Type 2 Routing header go.
func insertMobile(pkt []byte) (home, route int) {
	var c wire.Chain
	c.Walk(pkt)
	at, routed := wire.IPv6HeaderLen, false
	for i := range c.N {
		h := &c.Headers[i]
		switch h.Proto {
		case wire.HopByHop:
		case wire.Routing:
			if route == 0 && pkt[h.Off+2] != 0 {
				route = at
			}
			routed = true
		case wire.DestOpts:
			if !routed && wire.HomeAddress(pkt, h) == 0 {
				break
			}
			if route == 0 {
				route = at
			}
			return at, route
		default:
			if route == 0 {
				route = at
			}
			return at, route
		}
		at = h.Off + h.Len
	}
	if route == 0 {
		route = at
	}
	return at, route
}

// putMobile puts one of the headers in.
func (m *Module) putMobile(l *layer, p *packet.Packet) packet.Reason {
	s, size := l.state, p.Len()-l.off
	if r := m.limits(s, size, packet.XfrmOutStateExpired, packet.XfrmOutStateInvalid); r != packet.NoReason {
		return r
	}
	if p.RoomBefore() < mobileLen {
		return packet.XfrmOutError
	}
	p.Push(mobileLen)
	pkt := p.Bytes()
	copy(pkt, pkt[mobileLen:mobileLen+l.off])
	field := namedAt(pkt, l.off)
	h := pkt[l.off : l.off+mobileLen]
	addr := pkt[24:40]
	if s.Proto == proto.HAO {
		addr = pkt[8:24]
		copy(h, []byte{pkt[field], 2, wire.OptPadN, 2, 0, 0, wire.OptHomeAddress, 16}) // to be aligned at 8n+6
	} else {
		copy(h, []byte{pkt[field], 2, 2, 1, 0, 0, 0, 0})
	}
	copy(h[8:], addr)
	careOf := s.CoA.As16()
	copy(addr, careOf[:])
	pkt[field] = uint8(s.Proto)
	binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-wire.IPv6HeaderLen))
	s.Live.Count(m.host.Clock().Now(), size)
	return packet.NoReason
}
