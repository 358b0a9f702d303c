package policyroute

import (
	"net/netip"
	"slices"

	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
)

// entry is what a prefix leads to: the route in force, and all that could be for lookups that are
// bound to a link. A prefix none of whose routes is in force has no entry.
type entry struct {
	best *packet.Route // nil = there are routes for some sources only
	all  []*packet.Route
	// equal are the routers to choose from when there are several: those that are as good as best, and
	// those that are not but advertised prefixes of their own.
	equal []share
	// bySource are the routes for some sources only, the longest source prefix first.
	bySource []sourced
	key      uint64 // of the hash that chooses
	// single: best is the answer for whoever is not bound to a link.
	single bool
}

// share is one of several routers.
type share struct {
	route   *packet.Route
	sources []netip.Prefix // it advertised these
	standby bool           // for packets with such a source only
}

// sourced are the routes for the sources of one prefix.
type sourced struct {
	src   netip.Prefix
	entry *entry
}

// choose returns the route of a prefix for a request; nil = it has none for this source, or over this
// link.
func (e *entry) choose(q *request) *packet.Route {
	if e.bySource != nil && q.HasSrc {
		src := netip.AddrFrom16(q.Src)
		for i := range e.bySource {
			if !e.bySource[i].src.Contains(src) {
				continue
			}
			if r := e.bySource[i].entry.choose(q); r != nil {
				return r
			}
		}
	}
	switch {
	case q.Out != 0:
		for _, r := range e.all {
			if r.Dev == q.Out {
				return r
			}
		}
		return nil
	case e.equal == nil:
		return e.best
	}
	return e.share(q)
}

// entryOf builds what a prefix of a table leads to; nil when no route of it is in force.
func (m *Module) entryOf(t *table, p netip.Prefix) *entry { return m.entryFor(t, t.Routes(p)) }

// entryFor builds what a list of routes of one prefix leads to; nil when none is in force: a shorter
// prefix answers then.
func (m *Module) entryFor(t *table, list []fib.Route) *entry {
	i := slices.IndexFunc(list, func(r fib.Route) bool { return r.From.IsValid() })
	if i < 0 {
		return m.entryOfSource(t, list, netip.Prefix{})
	}
	e := m.entryOfSource(t, list, netip.Prefix{})
	if e == nil {
		e = &entry{}
	}
	e.single = false
	for _, r := range list[i:] {
		known := slices.ContainsFunc(e.bySource, func(x sourced) bool { return x.src == r.From })
		if !r.From.IsValid() || known {
			continue
		}
		if sub := m.entryOfSource(t, list, r.From); sub != nil {
			e.bySource = append(e.bySource, sourced{r.From, sub})
		}
	}
	slices.SortFunc(e.bySource, func(a, b sourced) int { return b.src.Bits() - a.src.Bits() })
	if e.best == nil && e.bySource == nil {
		return nil
	}
	return e
}

// entryOfSource builds what the routes of a list for one source prefix lead to.
func (m *Module) entryOfSource(t *table, list []fib.Route, src netip.Prefix) *entry {
	e := &entry{key: m.shareKey}
	var standby []*packet.Route
	for i := range list {
		r := &list[i]
		if r.From != src || r.Type.HasDevice() && !m.usable(r.Link) {
			continue
		}
		if t.slot == slotLocal && r.Type.HasDevice() { // the address snapshot answers for these
			continue
		}
		pr := &packet.Route{
			Type: packet.RouteType(r.Type), Dev: r.Link, OnLink: !r.Via.IsValid(), MTU: r.MTU, Prefix: r.Prefix,
			PrefSrc: r.PrefSrc, Table: uint32(t.id), Metric: r.Metric,
		}
		if r.Via.IsValid() {
			pr.Gateway = r.Via.As16()
		}
		if r.Protocol == protoRA {
			if s := m.learned[keyOf(r)].Sources; !r.Standby || len(s) > 0 {
				e.equal = append(e.equal, share{route: pr, sources: s, standby: r.Standby})
			}
		}
		if r.Standby {
			standby = append(standby, pr)
			continue
		}
		if e.best == nil {
			e.best = pr
		}
		e.all = append(e.all, pr)
	}
	if e.best == nil {
		return nil
	}
	e.all = append(e.all, standby...)
	// Routers share only with those of the route in force.
	mine := func(s share) bool { return s.route == e.best }
	if slices.ContainsFunc(e.equal, mine) {
		e.equal = slices.DeleteFunc(e.equal, func(s share) bool { return s.route.Metric != e.best.Metric })
	}
	if len(e.equal) < 2 || !slices.ContainsFunc(e.equal, mine) {
		e.equal = nil
	}
	e.single = e.equal == nil
	return e
}
