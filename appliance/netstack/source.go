package netstack

import (
	"net/netip"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// linkFor returns the link an address with a zone and a link asked for agree on.
func (h *Host) linkFor(a netip.Addr, link int) (int, error) {
	if a.Zone() == "" {
		return link, nil
	}
	z := h.linkByZone(a.Zone())
	switch {
	case z == 0:
		return link, ErrNoDevice
	case link != 0 && z != link:
		return link, ErrInvalid
	}
	return z, nil
}

// ours reports whether an address is this node's and in use, on a link if it is link-local.
func (h *Host) ours(a netip.Addr, link int) bool {
	k := a.As16()
	e := h.addrs.Load().Lookup(&k, link)
	return e != nil && e.Assigned()
}

// findRoute chooses the source address and the link for q.Dst, which may be zoned, in the kernel's
// order: what the caller names must be ours; then the routes; then RFC 6724. It returns the question
// with both filled in and without the zone; link 0 stays 0 where the path routes. The caller gives
// all it knows of the packets to come, as rules may ask for any of it.
func (h *Host) findRoute(q module.RouteQuery) (module.RouteQuery, error) {
	link, err := h.linkFor(q.Dst, q.Out)
	if err != nil {
		return q, err
	}
	q.Dst, q.Out = q.Dst.WithZone(""), link
	switch {
	case !q.Dst.Is6() || q.Dst.IsUnspecified() || q.Dst.Is4In6():
		return q, ErrInvalid
	case q.Out == 0 && needsLink(q.Dst):
		return q, ErrInvalid
	case q.Out != 0 && h.links.Load().Index(q.Out) == nil:
		return q, ErrNoDevice
	}
	if r := h.opts.Router; r != nil {
		res := r.Route(q)
		if err := routeError(res.Route); err != nil {
			return q, err
		}
		if !q.Src.IsValid() {
			q.Src = res.Src
		}
		if q.Dst.IsMulticast() || q.Src.IsLinkLocalUnicast() && q.Out == 0 {
			q.Out = res.Out
		}
	} else if !q.Src.IsValid() {
		q.Src = h.firstSource(q.Dst, q.Out)
	}
	switch {
	case q.Dst.IsMulticast() && q.Out == 0:
		return q, ErrNetUnreachable
	case !q.Src.IsValid():
		h.count.noSource.Inc()
		return q, ErrAddrNotAvailable
	case !h.ours(q.Src, q.Out):
		return q, ErrAddrNotAvailable
	}
	return q, nil
}

// firstSource takes the first address that fits the scope, where there is no router to ask.
func (h *Host) firstSource(to netip.Addr, link int) netip.Addr {
	for _, a := range h.addrs.Load().All() {
		if a.Assigned() && !a.Anycast && !a.SubnetRouter && a.Addr.IsLinkLocalUnicast() == needsLink(to) &&
			(link == 0 || a.Link == link) {
			return a.Addr
		}
	}
	return netip.Addr{}
}

// routeError says what a route that does not lead anywhere means to a socket.
func routeError(r *packet.Route) error {
	if r == nil {
		return ErrNetUnreachable
	}
	switch r.Type {
	case packet.RouteBlackhole:
		return ErrInvalid
	case packet.RouteUnreachable:
		return ErrHostUnreachable
	case packet.RouteProhibit:
		return ErrPermission
	case packet.RouteThrow:
		return ErrNetUnreachable
	}
	return nil
}

// linkMTU returns the MTU of the first link on the way that q asks for. What stays on this node is
// not bound by any.
func (h *Host) linkMTU(q module.RouteQuery) int {
	if q.Out != 0 || h.opts.Router == nil {
		return h.mtu(q.Out)
	}
	q.Dst = q.Dst.WithZone("")
	res := h.opts.Router.Route(q)
	switch {
	case res.Route == nil:
		return h.mtu(0)
	case res.Route.Type == packet.RouteLocal || res.Route.Type == packet.RouteAnycast:
		return portMTU
	}
	mtu := h.mtu(res.Out)
	if m := res.Route.MTU; m != 0 {
		mtu = max(min(mtu, m), wire.MinMTU)
	}
	return mtu
}

// pathMTU returns the path MTU to q.Dst: what has been learned, or else the first link's.
func (h *Host) pathMTU(q module.RouteQuery) int {
	mtu := h.linkMTU(q)
	if h.opts.PathMTU != nil {
		if m := h.opts.PathMTU(q.Dst.WithZone("")); m != 0 {
			mtu = min(mtu, max(m, wire.MinMTU))
		}
	}
	return mtu
}
