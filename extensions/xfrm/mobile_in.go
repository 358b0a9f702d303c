package xfrm

import (
	"net/netip"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
)

// The headers of Mobile IPv6, as they arrive. What they do to a packet is done before anything behind them is looked at, so
// that SAs, policies and upper layers know the home addresses only (RFC 6275 9.3.1, 11.3.3). It is no proof of anything: if
// AH or ESP fails behind them, the packet is gone, and nothing else has changed but counters.

// mobileLen is the length of either header as it is sent: of a Type 2 Routing header, and of Destination Options with
// nothing but a home address.
const mobileLen = 24

// homeAddress is for Destination Options with a Home Address at TransOff (RFC 6275 6.3, 9.3.1).
func (m *Module) homeAddress(v *view, p *packet.Packet) packet.Verdict {
	if !v.sad.Mobile() {
		return packet.Continue
	}
	b := p.Bytes()
	home, ok := homeOption(b, p.TransOff)
	if !ok || !routable((*[16]byte)(home)) || cameBy(p, proto.HAO) {
		return packet.Drop(packet.HomeAddressInvalid)
	}
	src, dst := b[8:24], b[24:40]
	return m.come(v, p, proto.HAO, netip.AddrFrom16([16]byte(dst)), netip.AddrFrom16([16]byte(home)), src, home)
}

// homeOption returns the data of the Home Address option in the header at off; false unless there is just one, of 16 octets.
func homeOption(b []byte, off int) (home []byte, ok bool) {
	opts := wire.ParseOptions(b[:off+(int(b[off+1])+1)*8], off)
	for {
		o, more := opts.Next()
		switch {
		case !more:
			return home, len(home) == 16
		case o.Type == wire.OptHomeAddress && home != nil:
			return nil, false
		case o.Type == wire.OptHomeAddress:
			home = o.Data
		}
	}
}

// route2 is for a Type 2 Routing header at TransOff (RFC 6275 6.4, 11.3.3).
func (m *Module) route2(v *view, p *packet.Packet) packet.Verdict {
	if !v.sad.Mobile() {
		return packet.Continue
	}
	b := p.Bytes()
	h := b[p.TransOff:]
	if h[1] != 2 || h[3] != 1 || b[24] == 0xff || cameBy(p, proto.Route2) {
		return packet.Drop(packet.RoutingHeaderType2)
	}
	home, src, dst := h[8:24], b[8:24], b[24:40]
	if !m.ours((*[16]byte)(home), p.Zone()) {
		return packet.Drop(packet.RoutingHeaderType2)
	}
	if b[7] <= 1 {
		return packet.Drop(packet.HopLimitExceeded)
	}
	verdict := m.come(v, p, proto.Route2, netip.AddrFrom16([16]byte(home)), netip.AddrFrom16([16]byte(src)), dst, home)
	if verdict == packet.Local {
		b[7]--
		h[3] = 0
	}
	return verdict
}

// come takes a packet through the state of two addresses and lets the home address and the care-of address, which is in
// the IPv6 header, change places.
func (m *Module) come(v *view, p *packet.Packet, header proto.Proto, dst, src netip.Addr, careOf, home []byte) packet.Verdict {
	if len(p.Came()) == packet.MaxStates {
		return m.drop(packet.XfrmInBufferError)
	}
	size := p.Len() - p.TransOff
	s := v.sad.ByAddrs(dst, src, netip.AddrFrom16([16]byte(careOf)), header, p.Mark)
	if s == nil || m.limits(s, size, packet.XfrmInNoStates, packet.XfrmInNoStates) != packet.NoReason {
		return m.drop(packet.XfrmInNoStates)
	}
	s.Live.Count(m.host.Clock().Now(), size)
	p.ComeThrough(s)
	t := [16]byte(careOf)
	copy(careOf, home)
	copy(home, t[:])
	return packet.Local
}

// cameBy reports whether the packet, as it is since it left a tunnel, has come through a state of header.
func cameBy(p *packet.Packet, header proto.Proto) bool {
	came := p.Came()
	for i := len(came) - 1; i >= 0; i-- {
		switch s := came[i].(*sad.State); {
		case s.Proto == header:
			return true
		case s.Mode == proto.Tunnel:
			return false
		}
	}
	return false
}

// ours reports whether an address is one of this node that can be a home address.
func (m *Module) ours(a *[16]byte, zone int) bool {
	if !routable(a) {
		return false
	}
	own := m.host.Addrs().Lookup(a, zone)
	return own != nil && own.Assigned() && !own.Anycast && !own.SubnetRouter
}

// routable reports whether an address can be that of a home: unicast, and not of one link only (RFC 6275 6.3).
func routable(a *[16]byte) bool {
	return !wire.IsMulticast(a) && !wire.IsUnspecified(a) && !wire.IsLoopback(a) && !wire.IsLinkLocal(a)
}
