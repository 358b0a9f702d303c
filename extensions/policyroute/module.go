package policyroute

import (
	"net/netip"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/srcsel"
)

// The numbers of the tables (rt_tables).
const (
	tableMain  = 254
	tableLocal = 255
)

// compileAtOnce is the size up to which a table is compiled with each change; larger ones are
// compiled in the background.
const compileAtOnce = 2048

// evCompiled is the mailbox message that a background compilation has ended.
const evCompiled = 1

// entry is what a prefix leads to: the route in force, and all that could be for lookups that are
// bound to a link. A prefix none of whose routes is in force has no entry.
type entry struct {
	best *packet.Route
	all  []*packet.Route
	// equal are the routers to choose from when there are several: those that are as good as best, and
	// those that are not but advertised prefixes of their own.
	equal []share
}

// share is one of several routers.
type share struct {
	route   *packet.Route
	sources []netip.Prefix // it advertised these
	standby bool           // for packets with such a source only
}

// Module is the extension. It implements module.Router.
type Module struct {
	host module.Host

	// Read by workers.
	main  atomic.Pointer[fib.Snapshot[*entry]]
	cands atomic.Pointer[[]srcsel.Candidate]

	shareKey uint64 // keeps others from knowing which destinations share a router

	// Loop only.
	tables  map[uint32]*fib.Table
	kernel  map[kernelKey]fib.Route // connected and local routes, by what makes them
	learned map[learnedKey]module.LearnedRoute
	// lastLearned is all that was learned; learned leaves out what is connected anyway.
	lastLearned []module.LearnedRoute
	links       *module.Links
	addrs       *module.Addrs
	expiring    map[routeKey]clock.Instant
	compiling   bool
	since       []netip.Prefix // changed since the compilation that runs
	compiled    atomic.Pointer[compilation]
	// generation counts the snapshots built from nothing; a compilation of an older one is dropped.
	generation int
	batch      *[]netip.Prefix // prefixes changed since the batch began; nil outside of one
	started    bool

	added, removed *module.Counter
}

// compilation is the result of one in the background.
type compilation struct {
	snapshot   *fib.Snapshot[*entry]
	generation int
}

// New returns the module.
func New() *Module {
	m := &Module{
		tables:   map[uint32]*fib.Table{tableMain: {}, tableLocal: {}},
		kernel:   map[kernelKey]fib.Route{},
		learned:  map[learnedKey]module.LearnedRoute{},
		expiring: map[routeKey]clock.Instant{},
		links:    module.NewLinks(nil), addrs: module.NewAddrs(nil, nil),
	}
	m.main.Store(fib.Empty[*entry]())
	m.cands.Store(&[]srcsel.Candidate{})
	return m
}

// Name implements [module.Module].
func (m *Module) Name() string { return "policyroute" }

// Claims implements [module.Module].
func (m *Module) Claims() []string { return []string{"routing.routes"} }

// Init implements [module.Module].
func (m *Module) Init(h module.Host) error {
	m.host = h
	m.shareKey = h.Rand().Uint64()
	m.added, m.removed = h.Counter("routes_added"), h.Counter("routes_removed")
	h.Handle("GET", "/v1/route", m.show)
	h.Handle("POST", "/v1/route", m.change)
	h.Handle("POST", "/v1/route/flush", m.flush)
	h.Handle("GET", "/v1/route/get", m.get)
	return nil
}

// Start implements [module.Module].
func (m *Module) Start(clock.Instant) {
	m.started = true
	m.main.Store(fib.Compile(m.main.Load().RIB()))
}

// Stop implements [module.Module].
func (m *Module) Stop(clock.Instant) {}

// Receive implements [module.Module].
func (m *Module) Receive(_ clock.Instant, ev module.Event) {
	if ev.Kind != evCompiled {
		return
	}
	fresh := m.compiled.Swap(nil)
	if fresh == nil {
		return
	}
	m.compiling = false
	if fresh.generation == m.generation {
		m.main.Store(m.main.Load().Rebase(fresh.snapshot, m.since))
	}
	m.since = nil
	m.compileLater()
}

// Waiting implements [module.Readier]. There is nothing to wait for, but the answer comes from the
// loop: after the links and addresses it was told of have become routes.
func (m *Module) Waiting() []string { return nil }

// Deadline implements [module.Module].
func (m *Module) Deadline() clock.Instant {
	d := clock.Never
	for _, at := range m.expiring {
		d = clock.Earliest(d, at)
	}
	return d
}

// Tick implements [module.Module]: routes whose time is over go.
func (m *Module) Tick(now clock.Instant) {
	for k, at := range m.expiring {
		if at > now {
			continue
		}
		delete(m.expiring, k)
		m.remove(k.table, k.prefix, func(r *fib.Route) bool { return r.Metric == k.metric && r.Expires <= now })
	}
}

// Reset implements [module.Resetter]: nothing here was learned, and the configuration has just
// been put in force again.
func (m *Module) Reset(clock.Instant) {}

// RouteBatch implements [module.Router].
func (m *Module) RouteBatch(ps []*packet.Packet) {
	s := m.main.Load()
	var addrs [64]*[16]byte
	var out [64]*entry
	for len(ps) > 0 {
		n := min(len(ps), len(addrs))
		clear(out[:n])
		for i, p := range ps[:n] {
			addrs[i] = (*[16]byte)(p.Bytes()[24:40])
		}
		s.Batch(addrs[:n], out[:n])
		for i, p := range ps[:n] {
			m.route(s, p, addrs[i], out[i])
		}
		ps = ps[n:]
	}
}

// route gives one packet its route.
func (m *Module) route(s *fib.Snapshot[*entry], p *packet.Packet, dst *[16]byte, e *entry) {
	if dst[0] == 0xff || wire.IsLinkLocal(dst) {
		return // of link scope: the link is part of the address, there is nothing to choose
	}
	var r *packet.Route
	switch {
	case e == nil:
		return
	case p.Out != 0 && p.In == 0:
		r = over(s, netip.AddrFrom16(*dst), p.Out)
	default:
		r = e.best
		if e.equal != nil {
			r = m.shared(e, p, dst)
		}
	}
	if r == nil {
		return
	}
	p.Route = r
	if r.Dev != 0 {
		p.Out = r.Dev
	}
	if r.OnLink {
		p.NextHop = *dst
	} else {
		p.NextHop = r.Gateway
	}
}

// over searches from the longest prefix to the shortest for a route in force over one link. Slower
// than the batch; for packets of this node that are bound to a link.
func over(s *fib.Snapshot[*entry], dst netip.Addr, out int) *packet.Route {
	for _, e := range s.RIB().Supernets(netip.PrefixFrom(dst, 128)) {
		for _, r := range e.all {
			if r.Dev == out {
				return r
			}
		}
	}
	return nil
}

// find returns the route in force for a question.
func (m *Module) find(q module.RouteQuery) *packet.Route {
	d := q.Dst.As16()
	if q.Out != 0 {
		return over(m.main.Load(), q.Dst, q.Out)
	}
	e, ok := m.main.Load().Lookup(&d)
	if !ok || e == nil {
		return nil
	}
	src := q.Src
	if q.In != 0 || src.IsUnspecified() {
		src = netip.Addr{}
	}
	return m.choose(e, src, &d)
}

// Route implements [module.Router].
func (m *Module) Route(q module.RouteQuery) module.RouteResult {
	d := q.Dst.As16()
	if a := m.host.Addrs().Lookup(&d, q.Out); a != nil && a.Assigned() {
		typ := packet.RouteLocal
		if a.Anycast {
			typ = packet.RouteAnycast
		}
		return module.RouteResult{
			Route:   &packet.Route{Type: typ, Dev: a.Link, OnLink: true, Prefix: netip.PrefixFrom(q.Dst, 128), Table: tableLocal},
			NextHop: q.Dst, Out: a.Link, Src: m.source(q, a.Link, netip.Addr{}),
		}
	}
	if q.Dst.IsMulticast() || q.Dst.IsLinkLocalUnicast() {
		if q.Out == 0 {
			return module.RouteResult{}
		}
		return module.RouteResult{
			Route:   &packet.Route{Dev: q.Out, OnLink: true, Prefix: netip.PrefixFrom(q.Dst, 128), Table: tableMain},
			NextHop: q.Dst, Out: q.Out, Src: m.source(q, q.Out, netip.Addr{}),
		}
	}
	r := m.find(q)
	if r == nil {
		return module.RouteResult{}
	}
	res := module.RouteResult{Route: r, NextHop: q.Dst, Out: r.Dev}
	if !r.OnLink && r.Type == packet.RouteUnicast {
		res.NextHop = netip.AddrFrom16(r.Gateway)
	}
	if r.Type == packet.RouteUnicast {
		res.Src = m.source(q, r.Dev, r.PrefSrc)
	}
	return res
}

func (m *Module) source(q module.RouteQuery, out int, pref netip.Addr) netip.Addr {
	switch {
	case q.Src.IsValid() && !q.Src.IsUnspecified():
		return q.Src
	case pref.IsValid():
		return pref
	}
	return m.selectSource(q.Dst, out)
}

// SelectSource implements [module.Router].
func (m *Module) SelectSource(dst netip.Addr, out int, _ uint32) netip.Addr {
	if out == 0 && !dst.IsLinkLocalUnicast() {
		d := dst.As16()
		if e, ok := m.main.Load().Lookup(&d); ok {
			out = e.best.Dev
			if e.best.PrefSrc.IsValid() {
				return e.best.PrefSrc
			}
		}
	}
	return m.selectSource(dst, out)
}

func (m *Module) selectSource(dst netip.Addr, out int) netip.Addr {
	q := srcsel.Query{Dst: dst.As16(), Out: out}
	cands := *m.cands.Load()
	var best *srcsel.Candidate
	for i := range cands {
		c := &cands[i]
		if !srcsel.InSet(&q, c) {
			continue
		}
		if best == nil {
			best = c
		} else if better, _ := srcsel.Better(&q, c, best, srcsel.DefaultPolicy); better {
			best = c
		}
	}
	if best == nil {
		return netip.Addr{}
	}
	return netip.AddrFrom16(best.Addr)
}
