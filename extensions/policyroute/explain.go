package policyroute

import (
	"fmt"
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
func (m *Module) explain(now clock.Instant, tr *trace, q module.RouteQuery, a *answer) *routeapi.Explain {
	v := m.view.Load()
	out := &routeapi.Explain{Rules: m.renderTrace(tr, q.Dst.As16())}
	req := v.asked(&q)
	if req.Mark != q.Mark {
		out.FwMark = fmt.Sprintf("%#x", req.Mark)
	}
	r := a.RouteResult.Route
	if r.Type != packet.RouteUnicast {
		return out
	}
	used := module.Hop{Link: a.Out, Addr: a.Gateway}
	if t := m.tables[r.Table]; t != nil {
		out.Routes = m.explainRoutes(t, a, used)
		if e, ok := v.tables[t.slot].RIB().Get(a.Prefix); ok {
			out.Flow = m.explainFlow(now, v, e, &req, a)
		}
	}
	if !q.Src.IsValid() {
		out.Sources = m.explainSources(q.Dst, used)
	}
	return out
}

// explainRoutes says of each way of a prefix why it is not used, if there are several.
func (m *Module) explainRoutes(t *table, a *answer, used module.Hop) (out []routeapi.Candidate) {
	var list []fib.Route
	for _, x := range t.Routes(a.Prefix) {
		list = append(list, m.hops(&x)...)
	}
	at := slices.IndexFunc(list, func(x fib.Route) bool { return x.Metric == a.Route.Metric && hopOf(&x) == used })
	if len(list) < 2 || at < 0 {
		return nil
	}
	chosen := &list[at]
	for i := range list {
		r := &list[i]
		c := routeapi.Candidate{Gateway: r.Via, Dev: m.linkName(r.Link), Metric: r.Metric, Pref: r.Pref, Weight: int(max(r.Weight, 1)), NHID: r.NHID, Used: i == at}
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
		case r.NHID != chosen.NHID:
			c.Why = "another nexthop object"
		}
		out = append(out, c)
	}
	return out
}

// sharing returns the first paths of a prefix that lead to a hop, nil if nothing is shared out.
func (e *entry) sharing(v *view, q *request, h *hop) *paths {
	if p := v.objects[e.object]; p != nil && len(p.ways) > 1 && p.leadsTo(h) {
		return p
	}
	if e.more == nil {
		return nil
	}
	for _, x := range e.more.bySource {
		if q.HasSrc && x.src.Contains(netip.AddrFrom16(q.Src)) {
			if p := x.entry.sharing(v, q, h); p != nil {
				return p
			}
		}
	}
	for _, l := range e.more.levels {
		if p := l.sharing(v, q, h); p != nil {
			return p
		}
	}
	if p := e.more.paths; p != nil && p.leadsTo(h) {
		return p
	}
	return nil
}

func (p *paths) leadsTo(h *hop) bool {
	return slices.ContainsFunc(p.ways, func(w way) bool { return w.hop == h })
}

// explainFlow says what is hashed and what comes of it; nil if nothing is.
func (m *Module) explainFlow(now clock.Instant, v *view, e *entry, q *request, a *answer) *routeapi.Flow {
	p := e.sharing(v, q, m.hopTo(module.Hop{Link: a.Out, Addr: a.Gateway}))
	if p == nil || q.Out != 0 {
		return nil
	}
	f, hash, name := v.choice.flowOf(q, found{Route: a.Route, bits: uint8(a.Prefix.Bits())}.group(&q.Dst))
	out := &routeapi.Flow{
		Hash: v.choice.policy.String(), Src: netip.AddrFrom16(f.Src), Dst: netip.AddrFrom16(f.Dst), Proto: f.Proto, SPort: f.SPort, DPort: f.DPort,
	}
	if p.buckets != nil {
		out.Bucket = uint32(p.buckets.BucketOf(hash))
		return out
	}
	out.Bucket = nexthop.Bucket(hash)
	_, out.Pinned = v.choice.pins.Peek(&name, now)
	return out
}

// explainSources says of each address of this node by which rule another one is better.
func (m *Module) explainSources(dst netip.Addr, used module.Hop) (out []routeapi.Source) {
	v := m.view.Load()
	_, _, verdicts := srcsel.Explain(&srcsel.Query{Dst: dst.As16(), Out: used.Link, NextHop: m.hopTo(used).gateway}, v.cands, v.labels)
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
