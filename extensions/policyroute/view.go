package policyroute

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/rule"
	"leveret/extensions/policyroute/srcsel"
)

// view is everything that a lookup reads. Immutable: a change makes a new one, so that no packet sees
// a part of a change.
type view struct {
	rules  *rule.Set
	plain  bool                   // the rules are the two that every node begins with: table main alone is searched
	tables []*fib.Snapshot[entry] // by slot
	cands  []srcsel.Candidate     // the addresses of this node
	labels *srcsel.PolicyTable    // RFC 6724 2.1
	marks  []mark                 // what packets that come in are marked with
	// objects are the ways that nexthop objects lead, by number.
	objects map[uint32]*paths
	choice  *choice
	// redirects are what routers said about single destinations: no part of any table, so that they hold in
	// all. nil = there are none.
	redirects map[redirectKey][16]byte
}

// request is one question to the tables.
type request struct {
	rule.Request
	pkt *packet.Packet // nil = it is no packet
}

// routeProhibit is what a rule answers that prohibits.
var routeProhibit = &packet.Route{Type: packet.RouteProhibit}

// search goes through the rules: the first one that the request conforms to; the route that its table
// has; that route, if it conforms to the rule; otherwise the next rule. src is the source that a rule on
// the source has chosen, valid if byRule. tr, if not nil, is told each step.
func (v *view) search(q *request, tr *trace) (f found, src [16]byte, byRule bool) {
	i, end := v.nextTable(q, 0, tr)
	for i >= 0 {
		f := v.lookup(v.rules.Act(i).Slot, q)
		src, byRule, why := v.conforms(i, f, q)
		tr.answered(f, why)
		if why == "" {
			return f, src, byRule
		}
		i, end = v.nextTable(q, i+1, tr)
	}
	return found{Route: end}, src, false
}

// conforms says why the route that a rule's table returned does not conform to the rule; "" = it does,
// and if byRule, with the source that was chosen for it.
func (v *view) conforms(i int, f found, q *request) (src [16]byte, byRule bool, why string) {
	act := v.rules.Act(i)
	switch {
	case f.Route == nil:
		why = "no route"
	case f.Type == packet.RouteThrow:
		why = "throw"
	case int(f.bits) <= int(act.Suppress) && f.Type <= packet.RouteMulticast: // as Linux, what rejects is not suppressed
		why = "suppressed"
	case !q.HasSrc && act.BySource:
		dev, gateway := f.via()
		if src, byRule = v.selectSource(&q.Dst, dev, gateway); !byRule || !v.rules.At(i).ConformsSource(&src) {
			why = "source"
		}
	}
	return src, byRule, why
}

// lookup returns what one table has for a request.
func (v *view) lookup(slot int32, q *request) found {
	s := v.tables[slot]
	e := s.Lookup(&q.Dst)
	if e == nil {
		return found{}
	}
	return v.pick(s, e, q)
}

// pick returns the route of a table for a request whose longest prefix there is e's. A prefix that has
// none for this source or this link, or whose nexthop object leads nowhere, leaves the answer to a
// shorter one.
func (v *view) pick(s *fib.Snapshot[entry], e *entry, q *request) found {
	if f := e.choose(v, q); f.Route != nil {
		return f
	}
	if q.Out == 0 && e.object == 0 && (e.more == nil || e.more.bySource == nil && e.more.levels == nil) {
		return found{}
	}
	for _, e := range s.RIB().Supernets(netip.PrefixFrom(netip.AddrFrom16(q.Dst), 128)) {
		if f := e.choose(v, q); f.Route != nil {
			return f
		}
	}
	return found{}
}

// selectSource chooses the source for a destination whose packets leave by a link, 0 = not known, through
// a router, if any (RFC 6724 5).
func (v *view) selectSource(dst *[16]byte, out int, via [16]byte) (src [16]byte, ok bool) {
	q := srcsel.Query{Dst: *dst, Out: out, NextHop: via}
	i, _ := srcsel.Select(&q, v.cands, v.labels)
	if i < 0 {
		return src, false
	}
	return v.cands[i].Addr, true
}

// Route implements [module.Router].
func (m *Module) Route(q module.RouteQuery) module.RouteResult {
	return m.view.Load().answer(m.host.Addrs(), q, nil).RouteResult
}

// answer is what a question comes to.
type answer struct {
	module.RouteResult
	byRule bool // a rule on the source has chosen the source
}

// redirectedBy returns the router that has redirected what the question is about, if one has.
func (a *answer) redirectedBy() netip.Addr {
	if a.NextHop == a.Gateway {
		return netip.Addr{}
	}
	return a.Gateway
}

// answer answers a question of a node that has those addresses.
func (v *view) answer(addrs *module.Addrs, q module.RouteQuery, tr *trace) (a answer) {
	dst := q.Dst.As16()
	hasSrc := q.Src.IsValid() && !q.Src.IsUnspecified()
	src := func(out int, via [16]byte, preferred netip.Addr) netip.Addr {
		if hasSrc {
			return q.Src
		}
		if preferred.IsValid() {
			return preferred
		}
		chosen, ok := v.selectSource(&dst, out, via)
		if !ok {
			return netip.Addr{}
		}
		return netip.AddrFrom16(chosen)
	}
	if own := addrs.Lookup(&dst, q.Out); own != nil && own.Assigned() {
		r := &packet.Route{Type: packet.RouteLocal, Table: tableLocal}
		if own.Anycast {
			r.Type = packet.RouteAnycast
		}
		a.RouteResult = module.RouteResult{Route: r, Prefix: netip.PrefixFrom(q.Dst, 128), NextHop: q.Dst, Out: own.Link, Src: src(own.Link, [16]byte{}, netip.Addr{})}
		return a
	}
	if q.Dst.IsMulticast() || q.Dst.IsLinkLocalUnicast() {
		if q.Out == 0 {
			return a
		}
		r := &packet.Route{Table: tableMain}
		a.RouteResult = module.RouteResult{Route: r, Prefix: netip.PrefixFrom(q.Dst, 128), NextHop: q.Dst, Out: q.Out, Src: src(q.Out, [16]byte{}, netip.Addr{})}
		return a
	}
	req := v.asked(&q)
	f, chosen, byRule := v.search(&req, tr)
	if f.Route == nil {
		return a
	}
	dev, gateway := f.via()
	a = answer{module.RouteResult{Route: f.Route, Prefix: f.prefix(&dst), NextHop: q.Dst, Out: dev}, byRule}
	if f.Type != packet.RouteUnicast {
		return a
	}
	if !f.hop.onLink {
		a.Gateway, a.NextHop = netip.AddrFrom16(gateway), netip.AddrFrom16(v.nextHop(f.hop, &dst))
	}
	if byRule {
		a.Src = netip.AddrFrom16(chosen)
	} else {
		a.Src = src(dev, gateway, f.PrefSrc)
	}
	return a
}

// RouteBatch implements [module.Router].
func (m *Module) RouteBatch(ps []*packet.Packet) {
	v := m.view.Load()
	if v.marks != nil {
		v.markIngress(ps)
	}
	for len(ps) > 0 {
		n := min(len(ps), maxBatch)
		if v.plain {
			v.batchMain(ps[:n])
		} else {
			n = min(n, maxRuled)
			v.batchRules(ps[:n])
		}
		ps = ps[n:]
	}
}

// maxBatch is how many packets are looked up at once, maxRuled how many of them by rules.
const (
	maxBatch = 64
	maxRuled = 32
)

// batchMain is for nodes without rules of their own: table main has the answers.
func (v *view) batchMain(ps []*packet.Packet) {
	var addrs [maxBatch]*[16]byte
	var out [maxBatch]*entry
	for i, p := range ps {
		addrs[i] = (*[16]byte)(p.Bytes()[24:40])
	}
	s := v.tables[slotMain]
	s.Batch(addrs[:len(ps)], out[:len(ps)])
	for i, p := range ps {
		e := out[i]
		if e == nil || linkScope(addrs[i]) {
			continue
		}
		if e.single && (p.Out == 0 || p.In != 0) {
			v.take(p, e.best, addrs[i])
			continue
		}
		var q request
		q.of(p, false)
		v.take(p, v.pick(s, e, &q), addrs[i])
	}
}

// batchRules finds for each packet the rule whose table is searched first, and looks up those of one
// table together; who has no route there goes on at the next rule.
func (v *view) batchRules(ps []*packet.Packet) {
	var qs [maxRuled]request
	var at [maxRuled]int // the rule that is to be asked; -1 = done
	left, first := 0, v.first()
	for i, p := range ps {
		at[i] = -1
		if linkScope((*[16]byte)(p.Bytes()[24:40])) {
			continue
		}
		qs[i].of(p, v.rules.NeedsPorts)
		if at[i], p.Route = v.nextTable(&qs[i], first, nil); at[i] >= 0 {
			left++
		}
	}
	var addrs [maxRuled]*[16]byte
	var idx [maxRuled]int
	for left > 0 {
		slot, n := int32(-1), 0
		for i := range ps {
			if at[i] < 0 {
				continue
			}
			s := v.rules.Act(at[i]).Slot
			if slot < 0 {
				slot = s
			}
			if s == slot {
				addrs[n], idx[n] = &qs[i].Dst, i
				n++
			}
		}
		var out [maxRuled]*entry
		s := v.tables[slot]
		s.Batch(addrs[:n], out[:n])
		for k, i := range idx[:n] {
			q := &qs[i]
			var f found
			if out[k] != nil {
				f = v.pick(s, out[k], q)
			}
			if _, _, why := v.conforms(at[i], f, q); why == "" {
				v.take(ps[i], f, &q.Dst)
				at[i] = -1
			} else {
				at[i], ps[i].Route = v.nextTable(q, at[i]+1, nil)
			}
			if at[i] < 0 {
				left--
			}
		}
	}
}

// first returns where the search for a packet begins: rule 0 looks up table local, which answers for
// addresses of this node, and those have been told apart before.
func (v *view) first() int {
	if v.rules.Len() > 0 && v.rules.At(0).Rule.IsLocal() && v.tables[slotLocal].RIB().Size() == 0 {
		return 1
	}
	return 0
}

// nextTable returns the index of the first rule at or behind from that looks up a table which has routes;
// -1 when the search has ended, with the route that it ended with, nil = there is none.
func (v *view) nextTable(q *request, from int, tr *trace) (i int, end *packet.Route) {
	for {
		i = v.rules.Next(&q.Request, from)
		tr.asked(v, q, from, i)
		if i < 0 {
			return i, nil
		}
		act := v.rules.Act(i)
		from = i + 1
		switch act.Action {
		case rule.Lookup:
			if v.tables[act.Slot].RIB().Size() > 0 {
				return i, nil
			}
			tr.answered(found{}, "no route")
		case rule.Goto:
			if act.Next >= 0 {
				from = int(act.Next)
			}
		case rule.Blackhole:
			return -1, routeBlackhole
		case rule.Prohibit:
			return -1, routeProhibit
		case rule.Unreachable: // there is no route, and no further rule is asked
			return -1, nil
		}
	}
}

// asked makes the request of a question that is no packet.
func (v *view) asked(q *module.RouteQuery) request {
	r := request{Request: rule.Request{
		Dst: q.Dst.As16(), HasSrc: q.Src.IsValid() && !q.Src.IsUnspecified(), In: q.In, Out: q.Out, Mark: q.Mark, DSField: q.DSField &^ 3,
		Proto: q.Proto, SPort: q.SPort, DPort: q.DPort,
	}}
	if r.HasSrc {
		r.Src = q.Src.As16()
	}
	if q.In != 0 {
		r.Mark = v.marked(q.In, &r.Src, q.Mark)
	}
	return r
}

// of makes the request of a packet.
func (q *request) of(p *packet.Packet, ports bool) {
	b := p.Bytes()
	q.pkt = p
	q.Src, q.Dst = [16]byte(b[8:24]), [16]byte(b[24:40])
	q.HasSrc = !wire.IsUnspecified(&q.Src)
	q.In, q.Mark = p.In, p.Mark
	if p.In == 0 {
		q.Out = p.Out
	}
	q.DSField = (b[0]<<4 | b[1]>>4) &^ 3
	if ports {
		q.ports(p, b)
	}
}

// linkScope reports whether a destination means something on one link only: the link is part of the
// address then, and there is nothing to choose.
func linkScope(dst *[16]byte) bool { return dst[0] == 0xff || wire.IsLinkLocal(dst) }

// take gives a packet its route. One of type throw is none: there is no table left to look into.
func (v *view) take(p *packet.Packet, f found, dst *[16]byte) {
	if f.Route == nil || f.Type == packet.RouteThrow {
		return
	}
	p.Route = f.Route
	switch {
	case f.hop == nil:
	case f.hop.onLink:
		p.Out, p.NextHop = f.hop.dev, *dst
	default:
		p.Out, p.NextHop = f.hop.dev, v.nextHop(f.hop, dst)
	}
}

// ports adds the upper-layer protocol and its ports. A fragment that is not the first has no ports.
func (q *request) ports(p *packet.Packet, b []byte) {
	proto, off, fragOff := transport(p, b)
	q.Proto = proto
	if fragOff != 0 && binary.BigEndian.Uint16(b[fragOff+2:])&^7 != 0 {
		return
	}
	if wire.HasPorts(proto) && off+4 <= len(b) {
		q.SPort, q.DPort = binary.BigEndian.Uint16(b[off:]), binary.BigEndian.Uint16(b[off+2:])
	}
}

// transport returns a packet's upper-layer protocol, the offset of its header, and that of the Fragment
// header, 0 if there is none.
func transport(p *packet.Packet, b []byte) (proto uint8, off, fragOff int) {
	if p.In != 0 {
		return p.Proto, p.TransOff, p.FragOff
	}
	var c wire.Chain // of this node: nobody has looked at its headers yet
	c.Walk(b)
	return c.Proto, c.Off, c.Fragment
}

// flow returns what makes the request one of a flow.
func (q *request) flow(p nexthop.Policy) nexthop.Flow {
	if q.pkt == nil {
		return nexthop.Flow{Src: q.Src, Dst: q.Dst, Proto: q.Proto, SPort: q.SPort, DPort: q.DPort}
	}
	b := q.pkt.Bytes()
	proto, off, fragOff := transport(q.pkt, b)
	return nexthop.FlowOf(p, b, proto, off, fragOff != 0)
}
