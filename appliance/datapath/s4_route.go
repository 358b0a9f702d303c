package datapath

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// lookup asks the router for a whole vector's routes.
func (w *Worker) lookup(batch []*packet.Packet) {
	if w.path.router != nil {
		w.path.router.RouteBatch(batch)
	}
}

// routed is stage 4, after the lookup: what the route says, the scope rules, and the hop limit.
func (w *Worker) routed(p *packet.Packet) packet.Verdict {
	b := p.Bytes()
	if p.In == 0 {
		v := w.routedOwn(p, b)
		if b[7] == 0 { // whoever made it leaves the hop limit to the link it leaves by (RFC 4861 6.3.2)
			b[7] = w.hopLimit(p.Out)
		}
		return v
	}
	if v := w.followed(p); v != packet.Continue {
		return v
	}
	if p.Out != p.In && wire.IsLinkLocal(src(b)) {
		w.sendError(p, unreachable(wire.CodeBeyondScope))
		return packet.Drop(packet.BeyondScope)
	}
	if b[7] <= 1 {
		w.sendError(p, module.ICMPError{Type: wire.TypeTimeExceeded, Code: wire.CodeHopLimit})
		return packet.Drop(packet.HopLimitExceeded)
	}
	l := w.linkOf(p.Out)
	if l == nil || !l.Usable() {
		w.sendError(p, unreachable(wire.CodeAddressUnreachable))
		return packet.Drop(packet.LinkDown)
	}
	b[7]--
	return packet.Continue
}

// followed does what the type of the route says.
func (w *Worker) followed(p *packet.Packet) packet.Verdict {
	if p.Route == nil {
		w.sendError(p, unreachable(wire.CodeNoRoute))
		return packet.Drop(packet.NoRoute)
	}
	switch p.Route.Type {
	case packet.RouteUnicast:
		return packet.Continue
	case packet.RouteBlackhole:
		return packet.Drop(packet.RouteIsBlackhole)
	case packet.RouteUnreachable:
		w.sendError(p, unreachable(wire.CodeRejectRoute))
		return packet.Drop(packet.RouteIsUnreachable)
	case packet.RouteProhibit:
		w.sendError(p, unreachable(wire.CodeAdminProhibited))
		return packet.Drop(packet.RouteIsProhibited)
	default: // a local route for an address that is not assigned (any more), or throw with no table left
		w.sendError(p, unreachable(wire.CodeNoRoute))
		return packet.Drop(packet.NoRoute)
	}
}

// routedOwn is stage 4 for packets of this node. Destinations of link scope need no route: the
// link they leave by is part of the address (RFC 4007 6).
func (w *Worker) routedOwn(p *packet.Packet, b []byte) packet.Verdict {
	d := dst(b)
	if d[0] == 0xff || wire.IsLinkLocal(d) {
		if d[0] != 0xff && w.addrs.Lookup(d, p.Out) != nil {
			return packet.Local
		}
		if p.Out == 0 {
			return w.noRoute(p, wire.CodeNoRoute, packet.NoRoute)
		}
		p.Route, p.NextHop = nil, *d
	} else if a := w.addrs.Lookup(d, p.Out); a != nil && a.Assigned() {
		p.Out = 0
		return packet.Local
	} else if v := w.followed(p); v != packet.Continue {
		return v
	}
	if l := w.linkOf(p.Out); l == nil || !l.Usable() {
		return w.noRoute(p, wire.CodeAddressUnreachable, packet.LinkDown)
	}
	return packet.Continue
}

// hopLimit is what packets of this node that leave by a link begin with.
func (w *Worker) hopLimit(out int) uint8 {
	if l := w.linkOf(out); l != nil && l.HopLimit != 0 {
		return uint8(l.HopLimit)
	}
	return uint8(w.params.HopLimit)
}

func (w *Worker) noRoute(p *packet.Packet, code uint8, r packet.Reason) packet.Verdict {
	w.sendError(p, unreachable(code))
	return packet.Drop(r)
}

// routeMTU is the longest packet a route's link takes.
func routeMTU(l *module.Link, r *packet.Route) int {
	if r != nil && r.MTU != 0 && r.MTU < l.MTU {
		return max(r.MTU, wire.MinMTU)
	}
	return l.MTU
}

func unreachable(code uint8) module.ICMPError {
	return module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: code}
}

func tooBig(mtu int) module.ICMPError {
	return module.ICMPError{Type: wire.TypePacketTooBig, Arg: uint32(mtu)}
}

func paramProblem(code uint8, pointer int) module.ICMPError {
	return module.ICMPError{Type: wire.TypeParameterProblem, Code: code, Arg: uint32(pointer)}
}
