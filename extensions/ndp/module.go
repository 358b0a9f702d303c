package ndp

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/mld"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
	"leveret/extensions/ndp/routers"
)

// The messages in the mailbox.
const (
	evMessage  = iota + 1 // an ND or MLD message: Pkt
	evResolve             // a packet whose next hop Addr on Link has no address yet: Pkt
	evUsed                // the STALE neighbor Addr on Link is in use
	evRedirect            // a packet leaves by the link it came in on: Pkt
	evConfirm             // an upper layer makes progress through the neighbor Addr on Link
	evJoin                // somebody joins the group Addr on Link
	evLeave
)

// Module is the extension.
type Module struct {
	host module.Host

	// Read by workers: the neighbors of each link, by index.
	tables atomic.Pointer[[]*table]

	// Loop only.
	cfg     map[string]linkConfig
	links   map[int]*linkState
	addrs   []*address
	secret  []byte // RFC 7217 secret_key
	started bool
	changed bool // the address snapshot has to be published again
	usable  bool // an address has begun or ceased to be one: routers and hosts depend on it
	learned bool // what routers taught has to be published again

	routes    []module.LearnedRoute // as published
	redirects []module.Redirect     // as published
	choice    []routers.Candidate   // what they were chosen from
	resolvers resolvers
	gateways  map[module.Hop]*gateway // of configured routes
	silent    []module.Hop            // those of them that do not answer, as published
	stateDir  string
	records   map[string][]recorded // advertised prefixes, by link
	effects   []nud.Effect

	count counters
}

// linkState is one link as the loop sees it. Loop only.
type linkState struct {
	link  *module.Link
	cfg   linkConfig
	cache *nud.Cache
	table *table
	mld   *mld.Listener

	adv     *advertiser    // nil = does not advertise
	host    *hostSide      // nil = takes no advertisements
	params  routers.Params // of routers, in force
	delayed delayed        // answers that wait
	proxies map[netip.Addr]*proxied
	told    []redirected  // whom we redirected lately
	rearm   clock.Instant // when the next packet may lead to a Redirect
	// quiet: the first message after the link came up is not sent before (RFC 4862 5.4.2).
	quiet clock.Instant
	// disabled: the address made from the hardware's was a duplicate; IPv6 is off here
	// (RFC 4862 5.4.5).
	disabled bool
}

func (l *linkState) index() int { return l.link.Index }

// New returns the module.
func New() *Module {
	m := &Module{cfg: map[string]linkConfig{}, links: map[int]*linkState{}}
	m.tables.Store(&[]*table{})
	return m
}

// Name implements [module.Module].
func (m *Module) Name() string { return "ndp" }

// Claims implements [module.Module].
func (m *Module) Claims() []string {
	return []string{"links[].nud", "links[].dad", "links[].host", "links[].router_advertisement", "links[].nd_proxy", "links[].send_redirects"}
}

// Init implements [module.Module].
func (m *Module) Init(h module.Host) error {
	m.host = h
	m.count = newCounters(h)
	h.Hook(module.StageDiscovery, m.discovery)
	h.Hook(module.StageResolve, m.resolve)
	m.handle(h)
	return nil
}

// discovery is the hook for ND and MLD messages. Workers.
func (m *Module) discovery(p *packet.Packet) packet.Verdict {
	c := class(p.Bytes()[p.TransOff])
	if m.known(p) {
		c = module.ClassKnown
	}
	if !m.host.Mail(module.Event{Kind: evMessage, Class: c, Link: p.In, Pkt: p.Clone()}) {
		return packet.Drop(packet.ModuleBusy)
	}
	return packet.Consumed
}

// known reports whether a message comes from a neighbor that is known already, by address and frame: a flood
// from invented ones does not keep those waiting with whom this node talks. Workers.
func (m *Module) known(p *packet.Packet) bool {
	tables := *m.tables.Load()
	if uint(p.In) >= uint(len(tables)) || tables[p.In] == nil {
		return false
	}
	src := [16]byte(p.Bytes()[8:24])
	n := tables[p.In].lookup(&src)
	return n != nil && !n.failed && n.lla == p.SrcMAC
}

// class sorts the messages, so that a flood of one sort does not keep the others waiting.
func class(icmpType uint8) module.Class {
	switch icmpType {
	case wire.TypeNeighborSolicitation:
		return module.ClassSolicitation
	case wire.TypeNeighborAdvertisement:
		return module.ClassAdvertisement
	case wire.TypeRouterSolicitation, wire.TypeRouterAdvertisement, wire.TypeRedirect:
		return module.ClassRouter
	}
	return module.ClassGroup
}

// resolve is the hook that finds the next hop's link-layer address. Workers: no lock, and no
// allocation when the address is known.
func (m *Module) resolve(p *packet.Packet) packet.Verdict {
	tables := *m.tables.Load()
	if uint(p.Out) >= uint(len(tables)) || tables[p.Out] == nil {
		return packet.Drop(packet.LinkDown)
	}
	t := tables[p.Out]
	if p.In == p.Out && t.redirects.Load() && t.redirects.CompareAndSwap(true, false) { // never one of our own: In is 0
		if !m.host.Mail(module.Event{Kind: evRedirect, Link: p.In, Pkt: p.Clone()}) {
			t.redirects.Store(true) // the next packet tells
		}
	}
	n := t.lookup(&p.NextHop)
	switch {
	case n == nil:
		if !m.host.Mail(module.Event{Kind: evResolve, Link: p.Out, Addr: p.NextHop, Pkt: p.Clone()}) {
			return packet.Drop(packet.ModuleBusy)
		}
		return packet.Consumed
	case n.failed:
		return packet.Drop(packet.NeighborUnreachable)
	case !n.fresh && !n.used.Load() && n.used.CompareAndSwap(false, true):
		if !m.host.Mail(module.Event{Kind: evUsed, Link: p.Out, Addr: p.NextHop}) {
			n.used.Store(false) // the next packet tells
		}
	}
	p.DstMAC = n.lla
	return packet.Continue
}

// JoinGroup implements [module.GroupMember].
func (m *Module) JoinGroup(link int, group netip.Addr) {
	m.host.Mail(module.Event{Kind: evJoin, Link: link, Addr: group.As16()})
}

// LeaveGroup implements [module.GroupMember].
func (m *Module) LeaveGroup(link int, group netip.Addr) {
	m.host.Mail(module.Event{Kind: evLeave, Link: link, Addr: group.As16()})
}

// Confirmed implements [module.Confirmer]: it is the next hop to the peer that is proved.
func (m *Module) Confirmed(q module.RouteQuery) {
	hop, link := q.Dst, q.Out
	if link == 0 {
		r := m.host.Router().Route(q)
		if r.Route == nil {
			return
		}
		hop, link = r.NextHop, r.Out
	}
	m.host.Mail(module.Event{Kind: evConfirm, Link: link, Addr: hop.As16()})
}

// Start implements [module.Module].
func (m *Module) Start(now clock.Instant) {
	m.started = true
	m.LinksChanged(now, m.host.Links())
}

// Stop implements [module.Module].
func (m *Module) Stop(now clock.Instant) {
	for _, l := range m.links {
		for _, g := range l.mld.Members() {
			for l.mld.Leave(now, g.Addr) {
			}
		}
		m.report(l, l.mld.Tick(now))
	}
	for _, i := range m.linkOrder() {
		if l := m.links[i]; l.adv != nil { // hosts are told that this router goes (RFC 4861 6.2.5)
			m.advertise(l, l.adv.Stop(now))
			m.remember(now, l)
		}
	}
	m.resolvers.remove()
}

// Receive implements [module.Module].
func (m *Module) Receive(now clock.Instant, ev module.Event) {
	l := m.links[ev.Link]
	if l == nil || l.disabled {
		if ev.Pkt != nil {
			m.host.Drop(ev.Pkt, packet.LinkDown)
		}
		return
	}
	addr := netip.AddrFrom16(ev.Addr)
	switch ev.Kind {
	case evMessage:
		m.message(now, l, ev.Pkt)
	case evResolve:
		m.apply(now, l, l.cache.Send(now, addr, ev.Pkt, m.effects[:0]))
	case evUsed:
		m.apply(now, l, l.cache.Used(now, addr, m.effects[:0]))
	case evConfirm:
		m.apply(now, l, l.cache.Confirm(now, addr, m.effects[:0]))
	case evRedirect:
		l.rearm = now.Add(redirectPause)
		m.redirect(now, l, ev.Pkt)
	case evJoin:
		m.join(now, l, addr)
	case evLeave:
		m.leave(now, l, addr)
	}
	m.publish(now)
}

// Deadline implements [module.Module].
func (m *Module) Deadline() clock.Instant {
	if !m.started {
		return clock.Never
	}
	d := clock.Earliest(m.resolvers.deadline(), m.gatewayDeadline())
	for _, l := range m.links {
		d = clock.Earliest(d, clock.Earliest(l.cache.Deadline(), l.mld.Deadline()))
		d = clock.Earliest(d, clock.Earliest(l.hostDeadline(), l.delayed.deadline()))
		d = clock.Earliest(d, l.rearm)
		if l.adv != nil {
			d = clock.Earliest(d, l.adv.Deadline())
		}
	}
	for _, a := range m.addrs {
		if l := m.links[a.link]; l != nil {
			d = clock.Earliest(d, a.deadline(l.link.Usable()))
		}
	}
	return d
}

// Tick implements [module.Module].
func (m *Module) Tick(now clock.Instant) {
	for _, i := range m.linkOrder() {
		l := m.links[i]
		m.apply(now, l, l.cache.Tick(now, m.effects[:0]))
		m.report(l, l.mld.Tick(now))
		m.tickRouter(now, l)
		m.tickHost(now, l)
		for _, d := range l.delayed.due(now) {
			m.transmit(l, d.pkt, d.mac)
		}
		if l.rearm <= now {
			l.rearm = clock.Never
			l.table.redirects.Store(l.cfg.sendRedirects)
		}
	}
	for _, a := range slices.Clone(m.addrs) {
		m.tickAddress(now, a)
	}
	m.probeGateways(now)
	m.tellResolvers(now)
	m.publish(now)
}

// linkOrder lists the links by index, so that one seed gives one run.
func (m *Module) linkOrder() []int {
	out := make([]int, 0, len(m.links))
	for i := range m.links {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// message takes in one ND or MLD message.
func (m *Module) message(now clock.Instant, l *linkState, p *packet.Packet) {
	b := p.Bytes()
	switch b[p.TransOff] {
	case wire.TypeMLDQuery, wire.TypeMLDv1Report, wire.TypeMLDv1Done, wire.TypeMLDv2Report:
		m.listen(now, l, p)
		return
	}
	msg, err := ndwire.Parse(b, p.TransOff, p.FragOff != 0 || p.Whole)
	if err != nil {
		m.count.invalid(err)
		m.host.Drop(p, packet.NDInvalid)
		return
	}
	m.count.received(msg.Type)
	var notes []string
	switch msg.Type {
	case wire.TypeNeighborSolicitation:
		m.solicited(now, l, p, &msg)
	case wire.TypeNeighborAdvertisement:
		m.advertised(now, l, p, &msg)
	case wire.TypeRouterSolicitation:
		m.routerSolicited(now, l, &msg)
	case wire.TypeRouterAdvertisement:
		notes = m.routerAdvertised(now, l, &msg)
	case wire.TypeRedirect:
		notes = m.followRedirect(now, l, &msg)
	}
	if m.host.Watched("ndp") {
		m.eventMessage(l, "rx", &msg, notes)
	}
}

// publish makes changed addresses and groups what everybody sees.
func (m *Module) publish(now clock.Instant) {
	if m.usable {
		m.usable = false
		for _, i := range m.linkOrder() {
			l := m.links[i]
			m.syncRouter(now, l)
			if l.host != nil {
				m.syncSolicit(now, l)
			}
		}
	}
	m.publishLearned(now)
	if !m.changed {
		return
	}
	m.changed = false
	list := make([]*module.Addr, 0, len(m.addrs))
	for _, a := range m.addrs {
		list = append(list, a.snapshot(now))
	}
	var groups []module.Group
	for _, i := range m.linkOrder() {
		for _, g := range m.links[i].mld.Members() {
			groups = append(groups, module.Group{Addr: g.Addr, Link: i, Users: g.Users})
		}
	}
	m.host.PublishAddrs(module.NewAddrs(list, groups))
}

// Waiting implements [module.Readier].
func (m *Module) Waiting() []string {
	var out []string
	for _, a := range m.addrs {
		if l := m.links[a.link]; a.tentative() && l != nil && l.link.Usable() {
			out = append(out, "address "+a.addr.String()+" on "+l.cfg.name+": duplicate address detection")
		}
	}
	return out
}

// Reset implements [module.Resetter]: neighbors are forgotten, what an operator added goes, and the
// configured addresses go through DAD again.
func (m *Module) Reset(now clock.Instant) {
	for _, i := range m.linkOrder() {
		l := m.links[i]
		m.effects, _ = l.cache.Flush(func(*nud.Entry) bool { return true }, m.effects[:0])
		m.apply(now, l, m.effects)
		l.disabled = false
		for _, a := range m.addrs {
			if a.link == i {
				a.dadFailed = false
				m.startDAD(now, l, a)
			}
		}
		l.mld.Restart(now)
		m.flushLearned(now, l)
	}
	m.changed = true
	m.publish(now)
}
