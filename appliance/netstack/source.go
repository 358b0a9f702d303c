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

// findRoute chooses the source address and the link for dst, in the kernel's order: what the
// caller names must be ours; then the routes; then RFC 6724. link 0 stays 0 where the path routes.
func (h *Host) findRoute(to, from netip.Addr, link int, mark uint32) (netip.Addr, int, error) {
	link, err := h.linkFor(to, link)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	to = to.WithZone("")
	switch {
	case !to.Is6() || to.IsUnspecified() || to.Is4In6():
		return netip.Addr{}, 0, ErrInvalid
	case link == 0 && needsLink(to):
		return netip.Addr{}, 0, ErrInvalid
	case link != 0:
		l := h.links.Load().Index(link)
		if l == nil {
			return netip.Addr{}, 0, ErrNoDevice
		}
	}
	r := h.opts.Router
	if r != nil && (!needsLink(to) && !to.IsMulticast() || link == 0) {
		res := r.Route(module.RouteQuery{Dst: to, Src: from, Out: link, Mark: mark})
		if err := routeError(res.Route); err != nil {
			return netip.Addr{}, 0, err
		}
		if !from.IsValid() {
			from = res.Src
		}
		if to.IsMulticast() || from.IsLinkLocalUnicast() && link == 0 {
			link = res.Out
		}
	}
	if to.IsMulticast() && link == 0 {
		return netip.Addr{}, 0, ErrNetUnreachable
	}
	if !from.IsValid() {
		if from = h.selectSource(to, link, mark); !from.IsValid() {
			h.count.noSource.Inc()
			return netip.Addr{}, 0, ErrAddrNotAvailable
		}
	} else if !h.ours(from, link) {
		return netip.Addr{}, 0, ErrAddrNotAvailable
	}
	return from, link, nil
}

// selectSource asks the router, or without one takes the first address that fits the scope.
func (h *Host) selectSource(to netip.Addr, link int, mark uint32) netip.Addr {
	if h.opts.Router != nil {
		return h.opts.Router.SelectSource(to, link, mark)
	}
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

// linkMTU returns the MTU of the first link on the way to an address. What stays on this node is
// not bound by any.
func (h *Host) linkMTU(to, from netip.Addr, link int, mark uint32) int {
	if link != 0 || h.opts.Router == nil {
		return h.mtu(link)
	}
	res := h.opts.Router.Route(module.RouteQuery{Dst: to.WithZone(""), Src: from, Mark: mark})
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

// pathMTU returns the path MTU to an address: what has been learned, or else the first link's.
func (h *Host) pathMTU(to, from netip.Addr, link int, mark uint32) int {
	mtu := h.linkMTU(to, from, link, mark)
	if h.opts.PathMTU != nil {
		if m := h.opts.PathMTU(to.WithZone("")); m != 0 {
			mtu = min(mtu, max(m, wire.MinMTU))
		}
	}
	return mtu
}
