package policyroute

import (
	"net/netip"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/pins"
	"leveret/extensions/policyroute/routeapi"
	"leveret/extensions/policyroute/rule"
	"leveret/extensions/policyroute/srcsel"
)

// explain says how an answer came about: the rules, the routes of the prefix, the flow, the sources.
func (m *Module) explain(now clock.Instant, tr *trace, q module.RouteQuery, r *packet.Route) *routeapi.Explain {
	out := &routeapi.Explain{Rules: m.renderTrace(tr)}
	if r.Type != packet.RouteUnicast {
		return out
	}
	if t := m.tables[r.Table]; t != nil {
		out.Routes = m.explainRoutes(t, r)
		if e, ok := m.view.Load().tables[t.slot].RIB().Get(r.Prefix); ok && e.threshold != nil {
			out.Flow = explainFlow(now, e, q)
		}
	}
	if !q.Src.IsValid() {
		out.Sources = m.explainSources(q.Dst, r)
	}
	return out
}

// explainRoutes says of each route of a prefix why it is not used, if there are several.
func (m *Module) explainRoutes(t *table, used *packet.Route) (out []routeapi.Candidate) {
	list := t.Routes(used.Prefix)
	if len(list) < 2 {
		return nil
	}
	hop := func(r *fib.Route) [16]byte {
		if r.Via.IsValid() {
			return r.Via.As16()
		}
		return [16]byte{}
	}
	chosen := list[0] // stands in where the used one is not listed: it always is
	for i := range list {
		if r := &list[i]; r.Metric == used.Metric && r.Link == used.Dev && hop(r) == used.Gateway {
			chosen = *r
		}
	}
	for i := range list {
		r := &list[i]
		c := routeapi.Candidate{Gateway: r.Via, Metric: r.Metric, Pref: r.Pref, Weight: int(max(r.Weight, 1)), Used: *r == chosen}
		if l := m.links.Index(r.Link); l != nil {
			c.Dev = l.Name
		}
		switch {
		case c.Used:
		case r.From != chosen.From:
			c.Why = "from"
		case r.Type.HasDevice() && !m.usable(r.Link):
			c.Why = "link down"
		case m.silent[hopOf(r)]:
			c.Why = "does not answer"
		case r.Standby:
			c.Why = "standby"
		case r.Metric > chosen.Metric:
			c.Why = "metric"
		case rank(r.Pref) < rank(chosen.Pref):
			c.Why = "preference"
		}
		out = append(out, c)
	}
	return out
}

// explainFlow says what is hashed and what comes of it.
func explainFlow(now clock.Instant, e *entry, q module.RouteQuery) *routeapi.Flow {
	req := request{Request: rule.Request{Dst: q.Dst.As16(), Proto: q.Proto, SPort: q.SPort, DPort: q.DPort}}
	if q.Src.IsValid() {
		req.Src = q.Src.As16()
	}
	f := req.flow(e.choice.policy)
	h := f.Hash(e.choice.key)
	_, pinned := e.choice.pins.Peek(&pins.Flow{Hash: max(h^e.group, 1)}, now)
	return &routeapi.Flow{
		Hash: e.choice.policy.String(), Src: netip.AddrFrom16(f.Src), Dst: netip.AddrFrom16(f.Dst), Proto: f.Proto, SPort: f.SPort, DPort: f.DPort,
		Bucket: nexthop.Bucket(h), Pinned: pinned,
	}
}

// explainSources says of each address of this node by which rule another one is better.
func (m *Module) explainSources(dst netip.Addr, r *packet.Route) (out []routeapi.Source) {
	v := m.view.Load()
	_, _, verdicts := srcsel.Explain(&srcsel.Query{Dst: dst.As16(), Out: r.Dev, NextHop: r.Gateway}, v.cands, v.labels)
	for i, verdict := range verdicts {
		c := &v.cands[i]
		s := routeapi.Source{Addr: netip.AddrFrom16(c.Addr), Chosen: verdict.Chosen, Why: string(verdict.By)}
		if l := m.links.Index(c.Link); l != nil {
			s.Dev = l.Name
		}
		if !s.Chosen && s.Why == "" {
			s.Why = "no candidate"
		}
		out = append(out, s)
	}
	return out
}
