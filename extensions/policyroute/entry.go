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
	hop  *hop  // where it leads; nil for types that lead nowhere
	bits uint8 // of the prefix, which holds the destination
}

// hop is where packets go. Immutable.
type hop struct {
	dev     int
	onLink  bool     // to the destination itself
	gateway [16]byte // otherwise
}

// hopTo returns the hop of a link and a gateway: one for all routes that lead there, so that the packet
// path finds it in the cache.
func (m *Module) hopTo(h module.Hop) *hop {
	x := m.hopByName[h]
	if x == nil {
		if len(m.hopByName) > maxShared { // those that are gone have to be forgotten some time
			clear(m.hopByName)
		}
		x = &hop{dev: h.Link, onLink: !h.Addr.IsValid()}
		if !x.onLink {
			x.gateway = h.Addr.As16()
		}
		m.hopByName[h] = x
	}
	return x
}

// maxShared bounds the hops and the routes that are remembered to be shared.
const maxShared = 4096

// via returns the link and the gateway, as far as there are any.
func (f found) via() (dev int, gateway [16]byte) {
	if f.hop == nil {
		return 0, gateway
	}
	return f.hop.dev, f.hop.gateway
}

// entry is what a prefix leads to. A prefix none of whose routes is in force has no entry. There may be a
// million: what few of them need is in more.
type entry struct {
	best found // the route in force; no Route = there are routes for some sources only
	// object is the nexthop object that the prefix's only route names: the view has its paths, so that a
	// change of the object is one change for however many prefixes. 0 = none.
	object uint32
	single bool  // best is the answer for whoever is not bound to a link
	silent bool  // no gateway of it answers
	more   *more // nil = best is all there is
}

// more is what a prefix with several routes has.
type more struct {
	all []found // that could be, for lookups that are bound to a link
	// paths are the gateways that flows are shared out to, when there are several.
	paths *paths
	// routers are those that advertised themselves, when there are several: those that are as good as
	// best, and those that are not but advertised prefixes of their own.
	routers []router
	turn    atomic.Uint64 // of round robin among routers
	// levels are the prefix's routes one by one, when some of several name a nexthop object: the first one
	// that leads somewhere counts, those that do not answer last.
	levels []*entry
	// bySource are the routes for some sources only, the longest source prefix first.
	bySource []sourced
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
	if e.object != 0 {
		return v.objects[e.object].choose(v, e, q)
	}
	m := e.more
	if m == nil {
		if q.Out != 0 && (e.best.hop == nil || e.best.hop.dev != q.Out) {
			return found{}
		}
		return e.best
	}
	if m.bySource != nil && q.HasSrc {
		src := netip.AddrFrom16(q.Src)
		for i := range m.bySource {
			if !m.bySource[i].src.Contains(src) {
				continue
			}
			if f := m.bySource[i].entry.choose(v, q); f.Route != nil {
				return f
			}
		}
	}
	switch {
	case m.levels != nil:
		return m.chooseLevel(v, q)
	case q.Out != 0:
		for _, f := range m.all {
			if f.hop != nil && f.hop.dev == q.Out {
				return f
			}
		}
		return found{}
	case m.paths != nil:
		return m.paths.choose(v, e, q)
	case m.routers != nil:
		return e.share(v, q)
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
	var bySource []sourced
	for _, r := range list[i:] {
		known := slices.ContainsFunc(bySource, func(x sourced) bool { return x.src == r.From })
		if !r.From.IsValid() || known {
			continue
		}
		if sub := m.entryOfSource(t, list, r.From); sub != nil {
			bySource = append(bySource, sourced{r.From, sub})
		}
	}
	if bySource == nil {
		if e.best.Route == nil {
			return nil
		}
		return e
	}
	slices.SortFunc(bySource, func(a, b sourced) int { return b.src.Bits() - a.src.Bits() })
	if e.object != 0 { // a route of its own kind beside those for some sources
		e = &entry{best: e.best, more: &more{levels: []*entry{e}}}
	}
	if e.more == nil {
		e.more = &more{}
		if e.best.Route != nil {
			e.more.all = []found{e.best}
		}
	}
	e.single, e.more.bySource = false, bySource
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
			levels = append(levels, &entry{best: m.routeOf(t, r), object: r.NHID})
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
	return &entry{best: levels[0].best, more: &more{levels: levels}}
}

// chooseLevel returns the first route that leads somewhere; one whose gateways do not answer only if no
// other does.
func (m *more) chooseLevel(v *view, q *request) found {
	for _, silent := range [...]bool{false, true} {
		for _, l := range m.levels {
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

// routeOf is what packets get to know of a route, without its next hop.
func (m *Module) routeOf(t *table, r *fib.Route) found {
	pr := packet.Route{Type: packet.RouteType(r.Type), MTU: r.MTU, AdvMSS: r.AdvMSS, PrefSrc: r.PrefSrc, Table: uint32(t.id), Metric: r.Metric}
	shared := m.routeByValue[pr]
	if shared == nil {
		if len(m.routeByValue) > maxShared {
			clear(m.routeByValue)
		}
		shared = &pr
		m.routeByValue[pr] = shared
	}
	return found{Route: shared, bits: uint8(r.Prefix.Bits())}
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
		x := inForce{r, m.routeOf(t, r)}
		if r.Type.HasDevice() {
			x.hop = m.hopTo(hopOf(r))
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
	e := &entry{best: best.found, silent: silent, single: true}
	if len(all)+len(standby) == 1 {
		return e
	}
	e.more = &more{}
	for _, x := range append(slices.Clone(all), standby...) {
		e.more.all = append(e.more.all, x.found)
	}
	if best.list.Protocol == protoRA {
		e.more.routers = m.sharingRouters(best, force, standby)
	} else {
		e.more.paths = sharingGateways(best, force)
	}
	e.single = e.more.paths == nil && e.more.routers == nil
	return e
}

// rank orders the preferences of RFC 4191 2.1.
func rank(pref string) int { return slices.Index([]string{"low", "medium", "high"}, pref) }

// prefix returns the prefix of the route to a destination.
func (f found) prefix(dst *[16]byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(*dst), int(f.bits)).Masked()
}

// group names the prefix of a route to a destination in the destination cache.
func (f found) group(dst *[16]byte) uint64 {
	a := f.prefix(dst).Addr().As16()
	return mix(uint64(f.Table)<<8|uint64(f.bits), &a)
}

// memberOf names a next hop in the destination cache by its link and gateway.
func memberOf(h module.Hop) uint32 {
	a := h.Addr.As16()
	return uint32(mix(uint64(h.Link), &a))
}
