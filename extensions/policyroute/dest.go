package policyroute

import (
	"net/netip"
	"slices"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/srcsel"
)

// SortDestinations implements [module.Router]. Where there is no route, or one that rejects, a destination
// is unreachable (rule 1).
func (m *Module) SortDestinations(dsts []netip.Addr) []netip.Addr {
	v, addrs := m.view.Load(), m.host.Addrs()
	ds := make([]srcsel.Destination, len(dsts))
	for i, dst := range dsts {
		a := v.answer(addrs, module.RouteQuery{Dst: dst}, nil)
		ds[i] = srcsel.Destination{Addr: dst.As16(), Unreachable: !leads(a.Route), Source: v.candidate(a.Src, a.Out)}
	}
	srcsel.SortDestinations(ds, v.labels)
	out := make([]netip.Addr, len(ds))
	for i := range ds {
		out[i] = netip.AddrFrom16(ds[i].Addr)
	}
	return out
}

// leads reports whether a route takes packets anywhere.
func leads(r *packet.Route) bool {
	if r == nil {
		return false
	}
	switch r.Type {
	case packet.RouteBlackhole, packet.RouteUnreachable, packet.RouteProhibit, packet.RouteThrow:
		return false
	}
	return true
}

// candidate returns the address of this node that packets out of a link have as source; nil if it is none,
// or one that cannot be used now.
func (v *view) candidate(src netip.Addr, out int) *srcsel.Candidate {
	if !src.IsValid() {
		return nil
	}
	i := slices.IndexFunc(v.cands, func(c srcsel.Candidate) bool {
		return c.Addr == src.As16() && !c.Excluded && (c.Link == out || !src.IsLinkLocalUnicast())
	})
	if i < 0 {
		return nil
	}
	return &v.cands[i]
}
