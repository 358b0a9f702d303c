package policyroute

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/srcsel"
)

// routeKey names a route that has a lifetime.
type routeKey struct {
	table  uint32
	prefix netip.Prefix
	metric uint32
}

// kernelKey names a route that follows from an address or a link.
type kernelKey struct {
	table  uint32
	prefix netip.Prefix
	link   int
	typ    fib.Type
}

// usable reports whether routes over a link are in force.
func (m *Module) usable(link int) bool {
	l := m.links.Index(link)
	return l != nil && l.Usable()
}

// remove deletes the first route of a prefix that match takes.
func (m *Module) remove(table uint32, p netip.Prefix, match func(*fib.Route) bool) error {
	old, err := m.tables[table].Delete(p, match)
	if err != nil {
		return err
	}
	m.gone(table, old)
	return nil
}

// gone takes note of a deleted route.
func (m *Module) gone(table uint32, r fib.Route) {
	m.removed.Inc()
	delete(m.expiring, routeKey{table, r.Prefix, r.Metric})
	m.publish(table, r.Prefix)
	m.event(table, r, true)
}

// came takes note of a new route.
func (m *Module) came(table uint32, r fib.Route) {
	m.added.Inc()
	if r.Expires != clock.Never {
		m.expiring[routeKey{table, r.Prefix, r.Metric}] = r.Expires
	}
	m.publish(table, r.Prefix)
	m.event(table, r, false)
}

// publish makes a prefix's present routes what the packet path sees. Only table main is searched:
// which addresses are this node's is the address snapshot's answer.
func (m *Module) publish(table uint32, p netip.Prefix) {
	switch {
	case table != tableMain:
		return
	case m.batch != nil:
		*m.batch = append(*m.batch, p)
		return
	}
	e := m.entryOf(p)
	s := m.main.Load().With(p, e, e != nil)
	if m.compiling {
		m.since = append(m.since, p)
	}
	m.main.Store(s)
	m.compileLater()
}

// together makes many changes and then publishes them at once: one by one as long as they are few,
// otherwise by building the whole snapshot anew.
func (m *Module) together(change func()) {
	if m.batch != nil { // inside another one
		change()
		return
	}
	var changed []netip.Prefix
	m.batch = &changed
	change()
	m.batch = nil
	if len(changed) > compileAtOnce {
		m.rebuild()
		return
	}
	for _, p := range changed {
		m.publish(tableMain, p)
	}
}

// rebuild makes the snapshot of table main from nothing. A compilation under way is of no use then.
func (m *Module) rebuild() {
	rib := new(bart.Table[*entry])
	m.tables[tableMain].Each(func(p netip.Prefix, list []fib.Route) {
		if e := m.entryFor(list); e != nil {
			rib.Insert(p, e)
		}
	})
	m.generation++
	m.main.Store(fib.Compile(rib))
}

// compileLater compiles a table with changes: a small one at once, a large one in the background,
// one compilation at a time.
func (m *Module) compileLater() {
	s := m.main.Load()
	switch {
	case m.compiling || s.Changed() == 0:
	case s.RIB().Size() <= compileAtOnce:
		m.main.Store(fib.Compile(s.RIB()))
	case !m.started: // Start compiles what the configuration made
	default:
		m.compiling, m.since = true, nil
		generation := m.generation
		go func() {
			m.compiled.Store(&compilation{fib.Compile(s.RIB()), generation})
			m.host.Mail( // never full: nobody else writes to this mailbox
				module.Event{Kind: evCompiled})
		}()
	}
}

// entryOf builds what a prefix of table main leads to; nil when no route of it is in force.
func (m *Module) entryOf(p netip.Prefix) *entry {
	return m.entryFor(m.tables[tableMain].Routes(p))
}

// entryFor builds what a list of routes of one prefix leads to; nil when none is in force: a shorter
// prefix answers then.
func (m *Module) entryFor(list []fib.Route) *entry {
	e := &entry{}
	var standby []*packet.Route
	for i := range list {
		r := &list[i]
		if r.Type.HasDevice() && !m.usable(r.Link) {
			continue
		}
		pr := &packet.Route{
			Type: packet.RouteType(r.Type), Dev: r.Link, OnLink: !r.Via.IsValid(), MTU: r.MTU, Prefix: r.Prefix,
			PrefSrc: r.PrefSrc, Table: tableMain, Metric: r.Metric,
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
	return e
}

// AddrsChanged implements [module.AddrObserver].
func (m *Module) AddrsChanged(_ clock.Instant, a *module.Addrs) {
	m.addrs = a
	cands := make([]srcsel.Candidate, 0, len(a.All()))
	for _, x := range a.All() {
		cands = append(cands, srcsel.Candidate{
			Addr: x.Addr.As16(), PrefixLen: x.PrefixLen, Link: x.Link, Deprecated: x.Deprecated || x.Optimistic, Home: x.Home, Temporary: x.Temporary,
			Excluded: x.Tentative && !x.Optimistic || x.DADFailed || x.Anycast,
		})
	}
	m.cands.Store(&cands)
	m.followKernel()
}

// LinksChanged implements [module.LinkObserver].
func (m *Module) LinksChanged(_ clock.Instant, links *module.Links) {
	m.together(func() { m.followLinks(links) })
	m.followKernel()
}

func (m *Module) followLinks(links *module.Links) {
	old := m.links
	m.links = links
	// Routes over a link that is gone go with it.
	for _, o := range old.All() {
		if links.Index(o.Index) != nil {
			continue
		}
		for id, t := range m.tables {
			for _, r := range t.DeleteFunc(func(r *fib.Route) bool { return r.Link == o.Index && r.Type.HasDevice() }) {
				m.gone(id, r)
			}
		}
		for k := range m.kernel {
			if k.link == o.Index {
				delete(m.kernel, k)
			}
		}
	}
	// Routes over a link that went up or down come into force or leave it.
	for _, l := range links.All() {
		if o := old.Index(l.Index); o != nil && o.Usable() == l.Usable() {
			continue
		}
		m.tables[tableMain].Each(func(p netip.Prefix, routes []fib.Route) {
			if slices.ContainsFunc(routes, func(r fib.Route) bool { return r.Link == l.Index }) {
				m.publish(tableMain, p)
			}
		})
	}
}

// followKernel makes the connected and local routes those of the present addresses and links, with
// the metrics and the words Linux gives them.
func (m *Module) followKernel() {
	want := map[kernelKey]fib.Route{}
	var order []kernelKey
	add := func(table uint32, p netip.Prefix, link int, typ fib.Type, metric uint32) {
		k := kernelKey{table, p, link, typ}
		order = append(order, k)
		want[k] = fib.Route{
			Prefix: p, Link: link, Type: typ, Metric: metric, Protocol: protoKernel, Pref: "medium", Expires: clock.Never,
		}
	}
	for _, a := range m.addrs.All() {
		if m.links.Index(a.Link) == nil || !a.Assigned() {
			continue
		}
		typ := fib.Local
		if a.Anycast {
			typ = fib.Anycast
		}
		add(tableLocal, netip.PrefixFrom(a.Addr, 128), a.Link, typ, fib.MetricLocal)
		if p := netip.PrefixFrom(a.Addr, a.PrefixLen).Masked(); !a.SubnetRouter && !a.NoPrefixRoute {
			add(tableMain, p, a.Link, fib.Unicast, fib.MetricConnected)
		}
	}
	for _, l := range m.links.All() {
		add(tableLocal, netip.MustParsePrefix("ff00::/8"), l.Index, fib.Multicast, fib.MetricConnected)
	}
	m.together(func() {
		for k := range m.kernel {
			if _, ok := want[k]; !ok {
				delete(m.kernel, k)
				m.remove(k.table, k.prefix, func(r *fib.Route) bool { //nolint:errcheck // an operator may have deleted it
					return r.Protocol == protoKernel && r.Link == k.link && r.Type == k.typ
				})
			}
		}
		var fresh []kernelKey
		for _, k := range order {
			if _, ok := m.kernel[k]; !ok {
				m.kernel[k] = want[k]
				fresh = append(fresh, k)
			}
		}
		m.followLearned() // a prefix that was connected may be learned, or the other way round
		for _, k := range fresh {
			if m.tables[k.table].Append(want[k]) == nil { // an operator may have added it by hand
				m.came(k.table, want[k])
			}
		}
	})
}
