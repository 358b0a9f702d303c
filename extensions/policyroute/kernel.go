package policyroute

import (
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/srcsel"
)

// kernelKey names a route that follows from an address or a link.
type kernelKey struct {
	table  uint32
	prefix netip.Prefix
	link   int
	typ    fib.Type
}

// AddrsChanged implements [module.AddrObserver].
func (m *Module) AddrsChanged(_ clock.Instant, a *module.Addrs) {
	m.addrs = a
	m.together(func() {
		m.followCandidates()
		m.followKernel()
	})
}

// followCandidates makes the candidate sources those of the present addresses, with the routers that
// advertised their prefixes (RFC 8028 3.3).
func (m *Module) followCandidates() {
	cands := make([]srcsel.Candidate, 0, len(m.addrs.All()))
	for _, x := range m.addrs.All() {
		var routers [][16]byte
		for _, l := range m.lastLearned {
			advertised := l.Link == x.Link && slices.ContainsFunc(l.Sources, func(p netip.Prefix) bool { return p.Contains(x.Addr) })
			if via := l.Via.As16(); advertised && !slices.Contains(routers, via) {
				routers = append(routers, via)
			}
		}
		cands = append(cands, srcsel.Candidate{
			Addr: x.Addr.As16(), PrefixLen: x.PrefixLen, Link: x.Link, Deprecated: x.Deprecated || x.Optimistic, Home: x.Home, Temporary: x.Temporary,
			Routers: routers, Excluded: x.Tentative && !x.Optimistic || x.DADFailed || x.Anycast,
		})
	}
	m.store(func(v *view) { v.cands = cands })
}

// LinksChanged implements [module.LinkObserver].
func (m *Module) LinksChanged(now clock.Instant, links *module.Links) {
	m.together(func() {
		m.followLinks(links)
		m.objectsChanged(now)
		m.followKernel()
		m.rulesChanged() // rules name links
	})
}

func (m *Module) followLinks(links *module.Links) {
	old := m.links
	m.links = links
	// Routes over a link that is gone go with it.
	for _, o := range old.All() {
		if links.Index(o.Index) != nil {
			continue
		}
		for _, t := range m.slots {
			m.removeAll(uint32(t.id), func(r *fib.Route) bool { return r.Link == o.Index && r.Type.HasDevice() })
		}
		m.dropLinkObjects(o.Index)
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
		for _, t := range m.slots {
			t.Each(func(p netip.Prefix, routes []fib.Route) {
				if slices.ContainsFunc(routes, func(r fib.Route) bool { return r.Link == l.Index }) {
					m.batch.add(t, p)
				}
			})
		}
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
	for k := range m.kernel {
		if _, ok := want[k]; !ok {
			delete(m.kernel, k)
			m.remove(k.table, k.prefix, func(r *fib.Route) bool { // if no operator has deleted it
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
		if m.table(k.table).Append(want[k]) == nil { // an operator may have added it by hand
			m.came(k.table, want[k])
		}
	}
}
