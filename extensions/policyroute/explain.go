package policyroute

import (
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/routeapi"
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
		if e, ok := m.view.Load().tables[t.slot].RIB().Get(r.Prefix); ok && e.threshold != nil && slices.ContainsFunc(e.equal, func(s share) bool { return s.route == r }) {
			req := asked(&q)
			out.Flow = explainFlow(now, e, &req)
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
	at := slices.IndexFunc(list, func(r fib.Route) bool {
		return r.Metric == used.Metric && r.Link == used.Dev && r.Via.As16() == used.Gateway
	})
	if len(list) < 2 || at < 0 {
		return nil
	}
	chosen := &list[at]
	for i := range list {
		r := &list[i]
		c := routeapi.Candidate{Gateway: r.Via, Dev: m.linkName(r.Link), Metric: r.Metric, Pref: r.Pref, Weight: int(max(r.Weight, 1)), Used: i == at}
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
func explainFlow(now clock.Instant, e *entry, q *request) *routeapi.Flow {
	f, hash, name := e.flowOf(q)
	_, pinned := e.choice.pins.Peek(&name, now)
	return &routeapi.Flow{
		Hash: e.choice.policy.String(), Src: netip.AddrFrom16(f.Src), Dst: netip.AddrFrom16(f.Dst), Proto: f.Proto, SPort: f.SPort, DPort: f.DPort,
		Bucket: nexthop.Bucket(hash), Pinned: pinned,
	}
}

// explainSources says of each address of this node by which rule another one is better.
func (m *Module) explainSources(dst netip.Addr, r *packet.Route) (out []routeapi.Source) {
	v := m.view.Load()
	_, _, verdicts := srcsel.Explain(&srcsel.Query{Dst: dst.As16(), Out: r.Dev, NextHop: r.Gateway}, v.cands, v.labels)
	for i, verdict := range verdicts {
		c := &v.cands[i]
		s := routeapi.Source{Addr: netip.AddrFrom16(c.Addr), Dev: m.linkName(c.Link), Chosen: verdict.Chosen, Why: string(verdict.By)}
		if !s.Chosen && s.Why == "" {
			s.Why = "no candidate"
		}
		out = append(out, s)
	}
	return out
}
