package policyroute

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"leveret/appliance/packet"
	"leveret/extensions/policyroute/buckets"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/pins"
)

// paths are the ways that the flows of one route, or of a nexthop object, are shared out to. Immutable but
// for whose turn it is.
type paths struct {
	ways      []way
	threshold *nexthop.Threshold // by weight; nil = one way, or buckets
	buckets   *buckets.Group     // of a resilient group
	silent    bool               // no gateway of them answers
	turn      atomic.Uint64      // of round robin
}

// way is one of several.
type way struct {
	found         // of a nexthop object without the route: that is the prefix's
	weight uint16 // against each other; 0 = 1
	member uint32 // names the way in the destination cache, or in the buckets
}

// routeBlackhole is a route through a blackhole nexthop, or a rule's.
var routeBlackhole = &packet.Route{Type: packet.RouteBlackhole}

// newPaths shares out to ways by weight, or through buckets if there are any.
func newPaths(ways []way, b *buckets.Group) *paths {
	p := &paths{ways: ways, buckets: b}
	if len(ways) < 2 || b != nil {
		return p
	}
	weights := make([]uint16, len(ways))
	for i := range ways {
		weights[i] = ways[i].weight
	}
	p.threshold = nexthop.NewThreshold(weights)
	return p
}

// sharingGateways returns the gateways that flows are shared out to; nil if there is but one.
func sharingGateways(best inForce, force []inForce) *paths {
	var ways []way
	for _, x := range force {
		if x.list.Sibling(best.list) {
			ways = append(ways, way{x.found, x.list.Weight, memberOf(hopOf(x.list))})
		}
	}
	if len(ways) < 2 {
		return nil
	}
	return newPaths(ways, nil)
}

// choose returns the route of e for a request by one of the ways; p may be nil: there is no way.
func (p *paths) choose(v *view, e *entry, q *request) found {
	if p == nil || len(p.ways) == 0 {
		return found{}
	}
	var w *way
	switch {
	case q.Out != 0:
		i := slices.IndexFunc(p.ways, func(w way) bool { return w.hop != nil && w.hop.dev == q.Out })
		if i < 0 {
			return found{}
		}
		w = &p.ways[i]
	case len(p.ways) == 1:
		w = &p.ways[0]
	case p.buckets != nil:
		w = p.byBucket(v, q)
	default:
		w = p.byHash(v, e, q)
	}
	if w.Route != nil || w.hop == nil {
		return w.found
	}
	return found{e.best.Route, w.hop, e.best.bits}
}

// flowOf returns what makes a request one of a flow, its hash, and its name in the destination cache.
func (c *choice) flowOf(q *request, group uint64) (f nexthop.Flow, hash uint64, pinned pins.Flow) {
	f = q.flow(c.policy)
	hash = f.Hash(c.key)
	return f, hash, pins.Flow{Hash: max(hash^group, 1), Src: f.Src, Dst: f.Dst}
}

// byBucket gives a flow the member that its bucket belongs to. While a bucket's member has just gone, its
// flows go by what is left.
func (p *paths) byBucket(v *view, q *request) *way {
	_, hash, _ := v.choice.flowOf(q, 0)
	var member uint32
	if q.pkt == nil {
		member = p.buckets.Peek(hash)
	} else {
		member = p.buckets.Select(hash, v.choice.clock.Now())
	}
	for i := range p.ways {
		if p.ways[i].member == member {
			return &p.ways[i]
		}
	}
	return &p.ways[nexthop.Bucket(hash)%uint32(len(p.ways))]
}

// byHash gives a flow one of the ways, the one it has if that is still among them. A question changes
// nothing.
func (p *paths) byHash(v *view, e *entry, q *request) *way {
	c := v.choice
	_, hash, flow := c.flowOf(q, e.best.group(&q.Dst))
	if member, ok := c.pinned(&flow, q); ok {
		for i := range p.ways {
			if p.ways[i].member == member {
				return &p.ways[i]
			}
		}
	}
	i := 0
	if c.robin {
		i = p.inTurn(nextTurn(&p.turn, q))
	} else {
		i = p.threshold.Select(hash)
	}
	c.pin(&flow, p.ways[i].member, q)
	return &p.ways[i]
}

// inTurn returns the way whose turn is the nth: each has as many in a row as it weighs.
func (p *paths) inTurn(n uint64) int {
	total := uint64(0)
	for i := range p.ways {
		total += uint64(max(p.ways[i].weight, 1))
	}
	n %= total
	for i := range p.ways {
		w := uint64(max(p.ways[i].weight, 1))
		if n < w {
			return i
		}
		n -= w
	}
	return 0
}

// nextTurn counts a packet's turn; a question learns whose turn is next.
func nextTurn(turn *atomic.Uint64, q *request) uint64 {
	if q.pkt == nil {
		return turn.Load()
	}
	return turn.Add(1) - 1
}

// pinned returns the member that a flow has.
func (c *choice) pinned(f *pins.Flow, q *request) (member uint32, ok bool) {
	if q.pkt == nil {
		return c.pins.Peek(f, c.clock.Now())
	}
	return c.pins.Lookup(f, c.clock.Now())
}

// pin notes the member that a flow was given.
func (c *choice) pin(f *pins.Flow, member uint32, q *request) {
	if q.pkt != nil {
		c.pins.Choose(f, member, c.clock.Now())
	}
}

// router is one of several that advertised themselves.
type router struct {
	found
	sources []netip.Prefix // it advertised these
	standby bool           // for packets with such a source only
	member  uint32         // names it in the destination cache
}

func (r *router) has(a netip.Addr) bool {
	return slices.ContainsFunc(r.sources, func(p netip.Prefix) bool { return p.Contains(a) })
}

// sharingRouters returns the advertised routers that share with the best one: those as good as it, and
// those on standby that packets from prefixes of theirs go to; nil if there is but one.
func (m *Module) sharingRouters(best inForce, force, standby []inForce) (rs []router) {
	for _, x := range append(slices.Clone(force), standby...) {
		if x.list.Protocol != protoRA || x.list.Metric != best.list.Metric {
			continue
		}
		if s := m.learned[keyOf(x.list)].Sources; !x.list.Standby || len(s) > 0 {
			rs = append(rs, router{x.found, s, x.list.Standby, memberOf(hopOf(x.list))})
		}
	}
	if len(rs) < 2 {
		return nil
	}
	return rs
}

// share picks one of several routers: for a packet of this node one that advertised its source (RFC 8028
// 3.1), and of several such the one that the destination has already, else by hash or in turn (RFC 4311
// 2). Packets in transit do not care about the source.
func (e *entry) share(v *view, q *request) found {
	routers := e.more.routers
	var from netip.Addr
	if q.In == 0 && q.HasSrc {
		from = netip.AddrFrom16(q.Src)
	}
	bySource := from.IsValid() && slices.ContainsFunc(routers, func(r router) bool { return r.has(from) })
	fits := func(r *router) bool {
		if bySource {
			return r.has(from)
		}
		return !r.standby
	}
	c := v.choice
	hash := mix(c.key[0], &q.Dst)
	flow := pins.Flow{Dst: q.Dst}
	n := uint64(0)
	for i := range routers {
		if fits(&routers[i]) {
			n++
		}
	}
	if bySource {
		flow.Src = q.Src
		flow.Hash = mix(c.key[1], &q.Src)
	}
	flow.Hash = max(flow.Hash^hash^e.best.group(&q.Dst), 1)
	if member, ok := c.pinned(&flow, q); ok {
		for i := range routers {
			if r := &routers[i]; r.member == member && fits(r) {
				return r.found
			}
		}
	}
	pick := hash
	if c.robin {
		pick = nextTurn(&e.more.turn, q)
	}
	pick %= n
	for i := range routers {
		r := &routers[i]
		switch {
		case !fits(r):
		case pick == 0:
			c.pin(&flow, r.member, q)
			return r.found
		default:
			pick--
		}
	}
	return e.best
}
