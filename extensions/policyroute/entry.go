package policyroute

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/pins"
)

// found is what a lookup comes to. The zero found is no route.
type found struct {
	*packet.Route
	hop *hop // where it leads; nil for types that lead nowhere
}

// hop is where packets go. Immutable.
type hop struct {
	dev     int
	onLink  bool     // to the destination itself
	gateway [16]byte // otherwise
}

func hopTo(h module.Hop) *hop {
	x := &hop{dev: h.Link, onLink: !h.Addr.IsValid()}
	if !x.onLink {
		x.gateway = h.Addr.As16()
	}
	return x
}

// via returns the link and the gateway, as far as there are any.
func (f found) via() (dev int, gateway [16]byte) {
	if f.hop == nil {
		return 0, gateway
	}
	return f.hop.dev, f.hop.gateway
}

// entry is what a prefix leads to: the route in force, and all that could be for lookups that are
// bound to a link. A prefix none of whose routes is in force has no entry.
type entry struct {
	best found // the zero found = there are routes for some sources only
	all  []found
	// paths are the gateways that flows are shared out to, when there are several.
	paths *paths
	// routers are those that advertised themselves, when there are several: those that are as good as
	// best, and those that are not but advertised prefixes of their own.
	routers []router
	turn    atomic.Uint64 // of round robin among routers
	// object is the nexthop object that the prefix's only route names: the view has its paths, so that a
	// change of the object is one change for however many prefixes. 0 = none.
	object uint32
	// levels are the prefix's routes one by one, when some of several name a nexthop object: the first one
	// that leads somewhere counts, those that do not answer last.
	levels []*entry
	silent bool // no gateway of it answers
	// bySource are the routes for some sources only, the longest source prefix first.
	bySource []sourced
	choice   *choice
	group    uint64 // tells the flows of prefixes and tables apart
	// single: best is the answer for whoever is not bound to a link.
	single bool
}

// choice is how flows are shared out.
type choice struct {
	policy nexthop.Policy
	key    nexthop.Key
	robin  bool // new flows take turns, in the place of the hash
	pins   *pins.Cache
	clock  clock.Clock
}

// sourced are the routes for the sources of one prefix.
type sourced struct {
	src   netip.Prefix
	entry *entry
}

// choose returns the route of a prefix for a request; the zero found = it has none for this source, or
// over this link.
func (e *entry) choose(v *view, q *request) found {
	if e.bySource != nil && q.HasSrc {
		src := netip.AddrFrom16(q.Src)
		for i := range e.bySource {
			if !e.bySource[i].src.Contains(src) {
				continue
			}
			if f := e.bySource[i].entry.choose(v, q); f.Route != nil {
				return f
			}
		}
	}
	switch {
	case e.object != 0:
		return v.objects[e.object].choose(e, q)
	case e.levels != nil:
		return e.chooseLevel(v, q)
	case q.Out != 0:
		for _, f := range e.all {
			if f.hop != nil && f.hop.dev == q.Out {
				return f
			}
		}
		return found{}
	case e.paths != nil:
		return e.paths.choose(e, q)
	case e.routers != nil:
		return e.share(q)
	}
	return e.best
}

// entryOf builds what a prefix of a table leads to; nil when no route of it is in force.
func (m *Module) entryOf(t *table, p netip.Prefix) *entry { return m.entryFor(t, t.Routes(p)) }

// entryFor builds what a list of routes of one prefix leads to; nil when none is in force: a shorter
// prefix answers then.
func (m *Module) entryFor(t *table, list []fib.Route) *entry {
	e := m.entryOfAll(t, list)
	i := slices.IndexFunc(list, func(r fib.Route) bool { return r.From.IsValid() })
	if i < 0 {
		return e
	}
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
	if e.best.Route == nil && e.bySource == nil {
		return nil
	}
	return e
}

// entryOfAll builds what the routes of a list for all sources lead to.
func (m *Module) entryOfAll(t *table, list []fib.Route) *entry {
	if !slices.ContainsFunc(list, func(r fib.Route) bool { return r.NHID != 0 }) {
		return m.entryOfSource(t, list, netip.Prefix{})
	}
	list = slices.DeleteFunc(slices.Clone(list), func(r fib.Route) bool { return r.From.IsValid() })
	slices.SortStableFunc(list, func(a, b fib.Route) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(rank(b.Pref), rank(a.Pref)))
	})
	var levels []*entry
	for len(list) > 0 {
		n := slices.IndexFunc(list, func(r fib.Route) bool { return r.NHID != 0 })
		if n == 0 {
			r := &list[0]
			levels = append(levels, &entry{best: found{Route: routeOf(t, r)}, object: r.NHID, choice: m.choice, group: groupOf(t, r.Prefix)})
			list = list[1:]
			continue
		}
		if n < 0 {
			n = len(list)
		}
		if e := m.entryOfSource(t, list[:n], netip.Prefix{}); e != nil {
			levels = append(levels, e)
		}
		list = list[n:]
	}
	if len(levels) == 1 {
		return levels[0]
	}
	return &entry{best: levels[0].best, levels: levels}
}

// chooseLevel returns the first route that leads somewhere; one whose gateways do not answer only if no
// other does.
func (e *entry) chooseLevel(v *view, q *request) found {
	for _, silent := range []bool{false, true} {
		for _, l := range e.levels {
			p := v.objects[l.object] // nil if it names none
			if (l.silent || p != nil && p.silent) != silent {
				continue
			}
			if f := l.choose(v, q); f.Route != nil {
				return f
			}
		}
	}
	return found{}
}

// routeOf is what packets get to know of a route.
func routeOf(t *table, r *fib.Route) *packet.Route {
	return &packet.Route{Type: packet.RouteType(r.Type), MTU: r.MTU, Prefix: r.Prefix, PrefSrc: r.PrefSrc, Table: uint32(t.id), Metric: r.Metric}
}

// inForce is a route of the list and what packets get of it.
type inForce struct {
	list *fib.Route
	found
}

// entryOfSource builds what the routes of a list for one source prefix lead to.
func (m *Module) entryOfSource(t *table, list []fib.Route, src netip.Prefix) *entry {
	var force, standby []inForce // in the order of the list: by metric, then age
	for i := range list {
		r := &list[i]
		if r.From != src || r.Type.HasDevice() && !m.usable(r.Link) {
			continue
		}
		if t.slot == slotLocal && r.Type.HasDevice() { // the address snapshot answers for these
			continue
		}
		x := inForce{r, found{Route: routeOf(t, r)}}
		if r.Type.HasDevice() {
			x.hop = hopTo(hopOf(r))
		}
		if r.Standby {
			standby = append(standby, x)
		} else {
			force = append(force, x)
		}
	}
	if len(force) == 0 {
		return nil
	}
	all, silent := force, true
	if answer := slices.DeleteFunc(slices.Clone(force), func(x inForce) bool { return m.silent[hopOf(x.list)] && operators(x.list) }); len(answer) > 0 {
		force, silent = answer, false // who does not answer is used only if nobody does
	}
	best := force[0]
	for _, x := range force[1:] { // of those with the least metric, the one that is preferred most
		if x.list.Metric == best.list.Metric && rank(x.list.Pref) > rank(best.list.Pref) {
			best = x
		}
	}
	e := &entry{best: best.found, silent: silent, choice: m.choice, group: groupOf(t, best.list.Prefix)}
	for _, x := range append(slices.Clone(all), standby...) {
		e.all = append(e.all, x.found)
	}
	if best.list.Protocol == protoRA {
		m.shareLearned(e, best, force, standby)
	} else {
		e.shareConfigured(best, force)
	}
	e.single = e.paths == nil && e.routers == nil
	return e
}

// rank orders the preferences of RFC 4191 2.1.
func rank(pref string) int { return slices.Index([]string{"low", "medium", "high"}, pref) }

// groupOf names a prefix of a table in the destination cache.
func groupOf(t *table, p netip.Prefix) uint64 {
	a := p.Addr().As16()
	return mix(uint64(t.id)<<8|uint64(p.Bits()), &a)
}

// memberOf names a next hop in the destination cache by its link and gateway.
func memberOf(h module.Hop) uint32 {
	a := h.Addr.As16()
	return uint32(mix(uint64(h.Link), &a))
}
