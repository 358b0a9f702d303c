package datapath

import (
	"encoding/binary"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// classify is stage 3: whose packet is it?
func (w *Worker) classify(p *packet.Packet) packet.Verdict {
	if p.Passes++; p.Passes > maxPasses {
		return packet.Drop(packet.RouteLoop)
	}
	b := p.Bytes()
	d := dst(b)
	v := packet.Forward
	if d[0] == 0xff {
		if !w.addrs.Member(d, p.Zone()) {
			return packet.Drop(packet.GroupNotJoined)
		}
		v = packet.Local
	} else if a := w.addrs.Lookup(d, p.Zone()); a != nil {
		// A tentative address is not assigned: nothing sent to it is received, and ND messages
		// about it go to its solicited-node group (RFC 4862 5.4).
		if !a.Assigned() {
			return packet.Drop(packet.AddressTentative)
		}
		v = packet.Local
	}
	if p.HBH && (v == packet.Local || w.params.ProcessHopByHop) {
		if hv := w.hopByHop(p); hv != packet.Continue {
			return hv
		}
	}
	if v == packet.Forward {
		return w.mayForward(p, d)
	}
	if p.Proto == wire.ICMPv6 && p.TransOff < len(b) && isDiscovery(b[p.TransOff]) && !laterFragment(p, b) {
		// A neighbor discovery message in fragments is dropped, put together or not (RFC 6980 5).
		// Nor is one that came out of a tunnel from a neighbor on this link, whatever its hop limit.
		if p.Whole || p.FragOff != 0 || p.Tunneled {
			return packet.Drop(packet.NDInvalid)
		}
		return packet.Discovery
	}
	return packet.Local
}

// laterFragment reports whether the packet is a fragment without the upper-layer header: there is data in its place.
func laterFragment(p *packet.Packet, b []byte) bool {
	return p.FragOff != 0 && binary.BigEndian.Uint16(b[p.FragOff+2:])&^7 != 0
}

// isDiscovery reports whether an ICMPv6 type belongs to ND or MLD.
func isDiscovery(t uint8) bool {
	return t >= wire.TypeMLDQuery && t <= wire.TypeRedirect || t == wire.TypeMLDv2Report
}

// mayForward holds what can be said against forwarding before a route is looked up.
func (w *Worker) mayForward(p *packet.Packet, d *[16]byte) packet.Verdict {
	s := src(p.Bytes())
	l := w.linkOf(p.In)
	switch {
	case p.In == 0: // an own packet whose destination ceased to be ours on the way
		return packet.Drop(packet.NoRoute)
	case l == nil || !l.Forwarding:
		return packet.Drop(packet.ForwardingOff)
	case p.L2 != packet.L2Unicast:
		// Sent to a group of link-layer addresses: every router there would forward a copy.
		return packet.Drop(packet.FrameMulticastUnicast)
	case wire.IsLinkLocal(d):
		// Somebody else's on that link: its zone ends here (RFC 4291 2.5.6).
		return packet.Drop(packet.DestinationScope)
	case s[0] == 0 && wire.IsUnspecified(s):
		return packet.Drop(packet.SourceUnspecified)
	case w.addrs.Lookup(s, p.In) != nil:
		return packet.Drop(packet.SourceOwn)
	}
	return packet.Forward
}
