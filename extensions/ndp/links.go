package ndp

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/dad"
	"leveret/extensions/ndp/mld"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
)

// maxRtrSolicitationDelay bounds the random delay before the first message on a link (RFC 4861 10).
const maxRtrSolicitationDelay = time.Second

// Prepare implements [module.Module].
func (m *Module) Prepare(next *module.Config) (func(clock.Instant), error) {
	cfg := map[string]linkConfig{}
	var errs []error
	for _, l := range next.Links {
		c, err := decodeLink(l)
		errs = append(errs, err)
		cfg[l.Name] = c
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(now clock.Instant) {
		if m.secret == nil {
			m.secret = m.loadSecret(next)
		}
		m.cfg = cfg
		m.resolvers.dir = next.RunDir
		if m.records == nil {
			m.loadRecords(next.StateDir)
		}
		if m.started {
			m.LinksChanged(now, m.host.Links())
			m.reconfigure(now)
		}
	}, nil
}

// reconfigure makes links and addresses follow the configuration; what did not change is not
// touched.
func (m *Module) reconfigure(now clock.Instant) {
	for _, i := range m.linkOrder() {
		l := m.links[i]
		c, ok := m.cfg[l.link.Name]
		if !ok {
			continue
		}
		l.cfg = c
		l.cache.SetVars(now, l.nudVars())
		l.table.redirects.Store(c.sendRedirects)
		m.syncAddresses(now, l)
		m.syncProxies(now, l)
		m.syncHost(now, l)
		m.syncRouter(now, l)
	}
	m.publish(now)
}

func (c NUDConfig) vars() nud.Vars {
	return nud.Vars{
		ReachableTime: c.ReachableTime, RetransTimer: c.RetransTimer, DelayFirstProbeTime: c.DelayFirstProbeTime,
		MaxMulticastSolicit: c.MaxMulticastSolicit, MaxUnicastSolicit: c.MaxUnicastSolicit,
		MaxNeighbors: c.MaxNeighbors, MaxUnresolved: c.MaxUnresolved, QueuePackets: c.QueuePackets,
	}
}

// LinksChanged implements [module.LinkObserver].
func (m *Module) LinksChanged(now clock.Instant, links *module.Links) {
	if !m.started {
		return
	}
	for _, i := range m.linkOrder() {
		if links.Index(i) == nil {
			m.linkGone(now, m.links[i])
		}
	}
	for _, x := range links.All() {
		l := m.links[x.Index]
		switch {
		case l == nil:
			m.linkNew(now, x)
		case l.link.Name != x.Name || l.link.Ethernet != x.Ethernet: // another link has the index now
			m.linkGone(now, l)
			m.linkNew(now, x)
		default:
			m.linkChanged(now, l, x)
		}
	}
	m.publish(now)
}

// linkNew begins to look after a link.
func (m *Module) linkNew(now clock.Instant, x *module.Link) {
	l := &linkState{
		link: x, cfg: m.cfg[x.Name], table: newTable(), mld: mld.New(m.host.Rand().Float64), proxies: map[netip.Addr]*proxied{}, rearm: clock.Never,
	}
	if l.cfg.name == "" { // not of the configuration
		l.cfg = linkConfig{name: x.Name, nud: defaultNUD(), dad: defaultDAD(), linkLocal: "none", host: HostConfig{AcceptRA: acceptNever}}
		if x.Tunnel { // made by a command: as one of which the configuration says nothing else
			l.cfg, _ = decodeLink(module.LinkConfig{Name: x.Name, Index: x.Index, LinkLocal: "auto"})
		}
	}
	l.cache = nud.New(now, l.nudVars(), m.host.Rand().Float64)
	l.table.redirects.Store(l.cfg.sendRedirects)
	m.links[x.Index] = l
	m.hush(now, l)
	tables := slices.Clone(*m.tables.Load())
	for len(tables) <= x.Index {
		tables = append(tables, nil)
	}
	tables[x.Index] = l.table
	m.tables.Store(&tables)
	m.join(now, l, wire.AllNodes)
	m.routerGroups(now, l, true)
	m.syncAddresses(now, l)
	m.syncProxies(now, l)
	m.syncHost(now, l)
	m.syncRouter(now, l)
}

// hush draws how long a link that has just come up stays quiet: reports wait for that, and after
// them the first probe (RFC 4862 5.4.2).
func (m *Module) hush(now clock.Instant, l *linkState) {
	l.quiet = now.Add(time.Duration(m.host.Rand().Float64() * float64(maxRtrSolicitationDelay)))
	l.mld.Hold(l.quiet)
}

// routerGroups joins or leaves the groups of routers (RFC 4291 2.8).
func (m *Module) routerGroups(now clock.Instant, l *linkState, first bool) {
	switch {
	case l.link.Forwarding:
		m.join(now, l, wire.AllRouters)
	case !first:
		m.leave(now, l, wire.AllRouters)
	}
}

// linkGone forgets a link and what was on it.
func (m *Module) linkGone(now clock.Instant, l *linkState) {
	m.effects, _ = l.cache.Flush(func(*nud.Entry) bool { return true }, m.effects[:0])
	m.apply(now, l, m.effects)
	delete(m.links, l.index())
	tables := slices.Clone(*m.tables.Load())
	tables[l.index()] = nil
	m.tables.Store(&tables)
	for _, a := range slices.Clone(m.addrs) {
		if a.link == l.index() {
			m.removeAddress(now, a)
		}
	}
	m.host.SetLinkParams(l.index(), module.LinkParams{}) // another link may get the index
	m.changed, m.learned = true, true
}

// linkChanged follows a link that goes up or down or begins to forward.
func (m *Module) linkChanged(now clock.Instant, l *linkState, x *module.Link) {
	old := l.link
	l.link = x
	if old.Forwarding != x.Forwarding {
		m.routerGroups(now, l, false)
		m.subnetRouters(now, l)
		l.cache.SetVars(now, l.nudVars())
		m.syncHost(now, l)
		m.announceAll(l) // the R flag is another one
	}
	m.usable = true
	switch {
	case old.Usable() && !x.Usable():
		// What was learned about neighbors may not hold when the link is back.
		m.effects, _ = l.cache.Flush(func(e *nud.Entry) bool { return e.State != nud.Permanent && e.State != nud.NoARP }, m.effects[:0])
		m.apply(now, l, m.effects)
		l.delayed = nil
		for _, a := range m.addrs {
			if a.link == l.index() {
				a.announce = 0
			}
		}
	case !old.Usable() && x.Usable():
		// Somebody else may have come by the addresses meanwhile (RFC 4862 5.4).
		l.disabled = false
		m.hush(now, l)
		for _, a := range m.addrs {
			if a.link == l.index() {
				a.dadFailed = false
				m.startDAD(now, l, a)
			}
		}
		l.mld.Restart(now)
		m.report(l, l.mld.Tick(now))
	case old.MAC != x.MAC:
		m.announceAll(l)
	}
}

// announceAll tells the link that our link-layer address has changed (RFC 4861 7.2.6).
func (m *Module) announceAll(l *linkState) {
	for _, a := range m.addrs {
		if a.link == l.index() && !a.tentative() && !a.dadFailed && !a.anycast {
			m.announce(l, a, true)
		}
	}
}

// announce sends an unsolicited NA to all nodes.
func (m *Module) announce(l *linkState, a *address, override bool) {
	m.announceTo(l, a, wire.AllNodes, override)
}

// announceTo sends an unsolicited NA to a group.
func (m *Module) announceTo(l *linkState, a *address, group netip.Addr, override bool) {
	if !l.link.Ethernet || !l.link.Usable() {
		return
	}
	dst := group.As16()
	m.transmit(l, ndwire.AppendNA(nil, ndwire.NA{
		Src: a.addr, Dst: group, Target: a.addr, Router: l.link.Forwarding, Override: override, TargetLLA: &l.link.MAC,
	}), wire.MulticastMAC(&dst))
}

// maxNeighborAdvertisement is MAX_NEIGHBOR_ADVERTISEMENT (RFC 4861 10).
const maxNeighborAdvertisement = 3

// assigned: an address is ours to use from now on, optimistic or not. Routers are told where it is before packets come back
// for it (RFC 9131 6.1.2).
func (m *Module) assigned(now clock.Instant, l *linkState, a *address) {
	if !a.anycast && !a.addr.IsLinkLocalUnicast() && !l.link.Forwarding {
		a.announce, a.announceAt = maxNeighborAdvertisement, now
	}
}

// startDAD begins duplicate address detection for an address, or assigns it where there is none to
// be done: on links without neighbors, for anycast addresses (RFC 4862 5.4), and where switched off.
func (m *Module) startDAD(now clock.Instant, l *linkState, a *address) {
	v := dad.Vars{
		Transmits: l.cfg.dad.Transmits, Enhanced: l.cfg.dad.Enhanced,
		MaxMulticastSolicit: l.cfg.nud.MaxMulticastSolicit,
	}
	v.RetransTimer = l.retransTimer()
	if !l.link.Ethernet || a.anycast || a.noDAD {
		v.Transmits = 0
	}
	m.changed, m.usable = true, true
	if v.Transmits == 0 {
		a.dad = nil
		m.assigned(now, l, a)
		return
	}
	if a.optimistic {
		m.assigned(now, l, a)
	}
	delay := max(l.quiet.Sub(now), 0)
	if a.autoconf && !a.optimistic {
		delay = max(delay, time.Duration(m.host.Rand().Float64()*float64(maxRtrSolicitationDelay)))
	}
	a.dad = dad.Start(now, v, delay, func() dad.Nonce {
		var n dad.Nonce
		for i := range n {
			n[i] = byte(m.host.Rand().Uint32())
		}
		return n
	})
}

// tickAddress does what is due for one address.
func (m *Module) tickAddress(now clock.Instant, a *address) {
	l := m.links[a.link]
	if l == nil {
		return
	}
	if a.dad != nil && l.link.Usable() {
		m.dadOutcome(now, l, a, a.dad.Tick(now))
	}
	if a.dadFailed || a.preferred <= now { // not to be told any more
		a.announce = 0
	}
	if a.announce > 0 && a.announceAt <= now && l.link.Usable() {
		a.announce--
		a.announceAt = now.Add(l.retransTimer())
		m.announceTo(l, a, wire.AllRouters, false)
	}
	switch {
	case a.valid <= now && !a.autoconf: // one that is belongs to the prefix
		m.removeAddress(now, a)
	case a.preferred <= now && !a.deprecatedTold:
		a.deprecatedTold = true
		m.changed = true
		m.eventAddr(now, a, false)
	}
}

// dadInput takes in what another node's message means for an address in detection.
func (m *Module) dadInput(now clock.Instant, l *linkState, a *address, o dad.Outcome, from [6]byte) {
	switch o {
	case dad.Looped:
		m.count.dadLooped.Inc()
		m.host.Log().Warn("a probe of duplicate address detection came back: the link has a loop",
			zap.Stringer("address", a.addr), zap.String("link", l.cfg.name))
	case dad.Duplicate:
		m.host.Log().Error("duplicate address: it is not used",
			zap.Stringer("address", a.addr), zap.String("link", l.cfg.name), zap.String("lladdr", macText(from)))
		m.dadOutcome(now, l, a, o)
	}
}

// dadOutcome carries out what a detection has come to.
func (m *Module) dadOutcome(now clock.Instant, l *linkState, a *address, o dad.Outcome) {
	switch o {
	case dad.SendProbe:
		m.joinFor(now, l, a)
		ns := ndwire.NS{Dst: wire.SolicitedNode(a.addr), Src: netip.IPv6Unspecified(), Target: a.addr}
		if n, ok := a.dad.Probe(); ok {
			ns.Nonce = n[:]
		}
		dst := ns.Dst.As16()
		m.transmit(l, ndwire.AppendNS(nil, ns), wire.MulticastMAC(&dst))
	case dad.Assigned:
		a.dad = nil
		if a.autoconf && l.host != nil {
			l.host.auto.DADPassed(a.addr)
		}
		m.changed, m.usable = true, true
		if !a.optimistic {
			m.assigned(now, l, a)
		}
		m.eventAddr(now, a, false)
		if a.addr.IsLinkLocalUnicast() { // reports have a source from now on (RFC 3590 4)
			l.mld.Restart(now)
			m.report(l, l.mld.Tick(now))
		}
	case dad.Duplicate:
		a.dad, a.dadFailed = nil, true
		m.count.dadFailed.Inc()
		m.changed, m.usable = true, true
		m.eventAddr(now, a, false)
		m.afterDuplicate(now, l, a)
	}
}

// afterDuplicate: a stable address is made anew with the next counter (RFC 7217 6); one made from
// the hardware address means that the hardware address is not unique, and IPv6 stops on the link
// (RFC 4862 5.4.5).
func (m *Module) afterDuplicate(now clock.Instant, l *linkState, a *address) {
	const idgenRetries = 3 // RFC 7217 7
	switch {
	case a.autoconf:
		if l.host != nil {
			m.autoconfigure(now, l, l.host.auto.DADFailed(now, a.addr))
		}
	case !a.generated:
	case l.cfg.linkLocal == "eui64":
		l.disabled = true
		m.host.Log().Error("IPv6 is off on the link: its hardware address is not unique", zap.String("link", l.cfg.name))
	case a.dadCount < idgenRetries:
		m.removeAddress(now, a)
		m.addLinkLocal(now, l, a.dadCount+1)
	}
}
