package policyroute

import (
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
	// threshold shares flows out to equal by their weights; nil = equal are routers that advertised themselves.
	threshold *nexthop.Threshold
	choice    *choice
	group     uint64        // tells the flows of prefixes and tables apart
	turn      atomic.Uint64 // of round robin
	// single: best is the answer for whoever is not bound to a link.
	single bool
}

// share is one of several routers.
type share struct {
	route   *packet.Route
	sources []netip.Prefix // it advertised these
	standby bool           // for packets with such a source only
	weight  uint16         // of configured ones, against each other; 0 = 1
	member  uint32         // names the next hop in the destination cache
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
	if e.threshold != nil {
		return e.shareOut(q)
	}
	return e.share(q)
}

// flowOf returns what makes a request one of a flow, its hash, and its name in the destination cache.
func (e *entry) flowOf(q *request) (f nexthop.Flow, hash uint64, pinned pins.Flow) {
	f = q.flow(e.choice.policy)
	hash = f.Hash(e.choice.key)
	return f, hash, pins.Flow{Hash: max(hash^e.group, 1), Src: f.Src, Dst: f.Dst}
}

// shareOut gives a flow one of the configured next hops, the one it has if that is still among them. A
// question changes nothing.
func (e *entry) shareOut(q *request) *packet.Route {
	c := e.choice
	_, hash, pinned := e.flowOf(q)
	now, question := c.clock.Now(), q.pkt == nil
	var member uint32
	var ok bool
	if question {
		member, ok = c.pins.Peek(&pinned, now)
	} else {
		member, ok = c.pins.Lookup(&pinned, now)
	}
	if ok {
		for i := range e.equal {
			if e.equal[i].member == member {
				return e.equal[i].route
			}
		}
	}
	var i int
	switch {
	case !c.robin:
		i = e.threshold.Select(hash)
	case question:
		i = e.inTurn(e.turn.Load())
	default:
		i = e.inTurn(e.turn.Add(1) - 1)
	}
	if !question {
		c.pins.Choose(&pinned, e.equal[i].member, now)
	}
	return e.equal[i].route
}

// inTurn returns the next hop whose turn is the nth: each has as many in a row as it weighs.
func (e *entry) inTurn(n uint64) int {
	total := uint64(0)
	for i := range e.equal {
		total += uint64(max(e.equal[i].weight, 1))
	}
	n %= total
	for i := range e.equal {
		w := uint64(max(e.equal[i].weight, 1))
		if n < w {
			return i
		}
		n -= w
	}
	return 0
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
	var force, standby []inForce // in the order of the list: by metric, then age
	for i := range list {
		r := &list[i]
		if r.From != src || r.Type.HasDevice() && !m.usable(r.Link) {
			continue
		}
		if t.slot == slotLocal && r.Type.HasDevice() { // the address snapshot answers for these
			continue
		}
		pr := &packet.Route{
			Type: packet.RouteType(r.Type), Dev: r.Link, OnLink: !r.Via.IsValid(), MTU: r.MTU, AdvMSS: r.AdvMSS, Prefix: r.Prefix,
			PrefSrc: r.PrefSrc, Table: uint32(t.id), Metric: r.Metric,
		}
		if r.Via.IsValid() {
			pr.Gateway = r.Via.As16()
		}
		if r.Standby {
			standby = append(standby, inForce{r, pr})
		} else {
			force = append(force, inForce{r, pr})
		}
	}
	if len(force) == 0 {
		return nil
	}
	all := force
	if answer := slices.DeleteFunc(slices.Clone(force), func(x inForce) bool { return m.silent[hopOf(x.list)] && operators(x.list) }); len(answer) > 0 {
		force = answer // who does not answer is used only if nobody does
	}
	best := force[0]
	for _, x := range force[1:] { // of those with the least metric, the one that is preferred most
		if x.list.Metric == best.list.Metric && rank(x.list.Pref) > rank(best.list.Pref) {
			best = x
		}
	}
	e := &entry{best: best.route, choice: m.choice}
	for _, x := range append(slices.Clone(all), standby...) {
		e.all = append(e.all, x.route)
	}
	if best.list.Protocol == protoRA {
		m.shareLearned(e, best, force, standby)
	} else {
		e.shareConfigured(best, force)
	}
	e.single = e.equal == nil
	return e
}

// inForce is a route of the list and what packets get of it.
type inForce struct {
	list  *fib.Route
	route *packet.Route
}

// rank orders the preferences of RFC 4191 2.1.
func rank(pref string) int { return slices.Index([]string{"low", "medium", "high"}, pref) }

// shareLearned notes the advertised routers that share with the best one: those as good as it, and those
// on standby that packets from prefixes of theirs go to.
func (m *Module) shareLearned(e *entry, best inForce, force, standby []inForce) {
	for _, x := range append(slices.Clone(force), standby...) {
		if x.list.Protocol != protoRA || x.list.Metric != best.list.Metric {
			continue
		}
		if s := m.learned[keyOf(x.list)].Sources; !x.list.Standby || len(s) > 0 {
			e.equal = append(e.equal, share{route: x.route, sources: s, standby: x.list.Standby})
		}
	}
	if len(e.equal) < 2 {
		e.equal = nil
	}
}

// shareConfigured notes the gateways that flows are shared out to.
func (e *entry) shareConfigured(best inForce, force []inForce) {
	var weights []uint16
	for _, x := range force {
		if x.list.Sibling(best.list) {
			e.equal = append(e.equal, share{route: x.route, weight: x.list.Weight, member: memberOf(hopOf(x.list))})
			weights = append(weights, x.list.Weight)
		}
	}
	if len(e.equal) < 2 {
		e.equal = nil
		return
	}
	e.threshold = nexthop.NewThreshold(weights)
	e.group = mix(uint64(best.route.Table)<<8|uint64(best.list.Prefix.Bits()), (*[16]byte)(best.list.Prefix.Addr().AsSlice()))
}

// memberOf names a next hop by its link and gateway.
func memberOf(h module.Hop) uint32 {
	a := h.Addr.As16()
	return uint32(mix(uint64(h.Link), &a))
}
