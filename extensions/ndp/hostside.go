package ndp

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
	"leveret/extensions/ndp/routers"
	"leveret/extensions/ndp/rtrsol"
	"leveret/extensions/ndp/slaac"
)

// Metrics of learned routes, as Linux gives them.
const (
	metricOnLink  = 256
	metricLearned = 1024
)

// hostSide is what a link has of a host: it exists while the link takes advertisements.
type hostSide struct {
	routers   *routers.Table
	solicit   *rtrsol.Solicitor
	auto      *slaac.Autoconf
	redirects redirects
	// asking: the link is up and has its link-local address, so that routers are solicited.
	asking bool
	// probe is when routers that do not answer may be probed next (RFC 4191 3.5).
	probe clock.Instant
}

// isHost reports whether a link takes what routers advertise.
func (l *linkState) isHost() bool {
	switch l.cfg.host.AcceptRA {
	case acceptAlways:
		return true
	case acceptHost:
		return !l.link.Forwarding && !l.cfg.adv.AdvSendAdvertisements
	}
	return false
}

// slaacVars are the variables of address configuration on a link.
func (l *linkState) slaacVars() slaac.Vars {
	h := &l.cfg.host
	return slaac.Vars{
		Temporary: h.TemporaryAddresses, TempValid: h.TempValidLifetime, TempPreferred: h.TempPreferredLife,
		RegenAdvance: slaac.RegenAdvance(l.cfg.dad.Transmits, l.retransTimer()), MaxPrefixes: maxAutoPrefix,
	}
}

// syncHost makes the host side of a link what configuration and link ask for.
func (m *Module) syncHost(now clock.Instant, l *linkState) {
	switch {
	case !l.isHost():
		m.leaveHost(now, l)
		return
	case l.host == nil:
		l.host = &hostSide{
			routers: routers.New(l.cfg.host.routerVars()),
			solicit: rtrsol.New(l.cfg.host.solicitVars(), m.host.Rand().Float64),
			auto:    slaac.New(l.slaacVars(), identifiers{m, l}, m.host.Rand().Float64),
			probe:   clock.Never,
		}
	default:
		l.host.routers.SetVars(l.cfg.host.routerVars())
		l.host.solicit.SetVars(l.cfg.host.solicitVars())
		m.autoconfigure(now, l, l.host.auto.SetVars(now, l.slaacVars()))
		if !l.cfg.host.Autoconf {
			m.autoconfigure(now, l, l.host.auto.Flush())
		}
		if !l.cfg.host.AcceptRedirects {
			l.host.redirects.flush()
		}
		m.learned = true
	}
	m.syncSolicit(now, l)
}

// leaveHost gives up what a link has learned: it is no host's any more.
func (m *Module) leaveHost(now clock.Instant, l *linkState) {
	if l.host == nil {
		return
	}
	m.autoconfigure(now, l, l.host.auto.Flush())
	l.host = nil
	m.useParams(now, l)
	m.learned = true
}

// syncSolicit begins to solicit routers when the link can: up, and with the address to ask from (RFC 4861
// 6.3.7). Where there is to be no link-local address it asks from the unspecified one.
func (m *Module) syncSolicit(now clock.Instant, l *linkState) {
	can := l.link.Usable() && !l.disabled && (l.cfg.linkLocal == "none" || m.linkLocal(l).IsValid())
	switch {
	case can && !l.host.asking:
		l.host.solicit.Start(now, time.Duration(m.host.Rand().Float64()*float64(maxRtrSolicitationDelay)))
	case !can:
		l.host.solicit.Stop()
	}
	l.host.asking = can
}

// hostDeadline returns when tickHost is due.
func (l *linkState) hostDeadline() clock.Instant {
	h := l.host
	if h == nil {
		return clock.Never
	}
	d := clock.Earliest(h.routers.Deadline(), h.auto.Deadline())
	d = clock.Earliest(d, h.redirects.deadline())
	if l.link.Usable() {
		d = clock.Earliest(d, clock.Earliest(h.solicit.Deadline(), h.probe))
	}
	return d
}

// tickHost does what is due on the host side of a link.
func (m *Module) tickHost(now clock.Instant, l *linkState) {
	h := l.host
	if h == nil {
		return
	}
	if l.link.Usable() && h.solicit.Tick(now) {
		m.solicitRouters(l)
	}
	if h.routers.Tick(now) {
		m.learned = true
	}
	m.autoconfigure(now, l, h.auto.Tick(now))
	if h.redirects.tick(now) {
		m.learned = true
	}
	m.probeRouters(now, l)
}

// solicitRouters sends an RS (RFC 4861 6.3.7).
func (m *Module) solicitRouters(l *linkState) {
	rs := ndwire.RS{Src: m.linkLocal(l), Dst: wire.AllRouters}
	if !rs.Src.IsValid() {
		rs.Src = netip.IPv6Unspecified()
	} else if l.link.Ethernet {
		rs.SourceLLA = &l.link.MAC
	}
	dst := rs.Dst.As16()
	m.transmit(l, ndwire.AppendRS(nil, rs), wire.MulticastMAC(&dst))
}

// routerAdvertised takes in an RA (RFC 4861 6.2.7, 6.3.4).
func (m *Module) routerAdvertised(now clock.Instant, l *linkState, msg *ndwire.Message) (notes []string) {
	ra, err := msg.RA()
	if err != nil {
		return nil
	}
	notes = m.contradicts(now, l, &ra)
	h := l.host
	if h == nil {
		return notes
	}
	h.routers.RA(now, &ra)
	m.useParams(now, l)
	if l.cfg.host.Autoconf {
		for i := range ra.Prefixes {
			m.autoconfigure(now, l, h.auto.Prefix(now, &ra.Prefixes[i]))
		}
	}
	isRouter := true
	if msg.HasSourceLLA {
		m.apply(now, l, l.cache.Hint(now, msg.Src, nud.LLA(msg.SourceLLA), &isRouter, m.effects[:0]))
	} else {
		m.apply(now, l, l.cache.IsRouter(msg.Src, m.effects[:0]))
	}
	h.solicit.Heard(ra.RouterLifetime > 0 && l.cfg.host.AcceptDefaultRouter)
	m.learned = true
	return notes
}

// useParams puts the parameters that routers advertise in force, or those of the configuration.
func (m *Module) useParams(now clock.Instant, l *linkState) {
	var p routers.Params
	if l.host != nil {
		p = l.host.routers.Params()
	}
	if p == l.params {
		return
	}
	l.params = p
	l.cache.SetVars(now, l.nudVars())
	m.host.SetLinkParams(l.index(), module.LinkParams{MTU: int(p.MTU), HopLimit: int(p.CurHopLimit)})
}

// nudVars are the variables of neighbor discovery in force: what routers say counts before the
// configuration (RFC 4861 6.3.4).
func (l *linkState) nudVars() nud.Vars {
	v := l.cfg.nud.vars()
	if l.params.ReachableTime != 0 {
		v.ReachableTime = l.params.ReachableTime
	}
	v.RetransTimer = l.retransTimer()
	v.LearnFromNA = l.link.Forwarding // RFC 9131
	return v
}

// retransTimer is the RetransTimer in force.
func (l *linkState) retransTimer() time.Duration {
	if l.params.RetransTimer != 0 {
		return l.params.RetransTimer
	}
	return l.cfg.nud.RetransTimer
}

// autoconfigure carries out what address configuration asks for.
func (m *Module) autoconfigure(now clock.Instant, l *linkState, es []slaac.Effect) {
	for _, e := range es {
		a := m.find(l.index(), e.Addr)
		if a != nil && !a.autoconf { // an address of that name is configured: it stays as it is (RFC 4862 5.5.3 d)
			continue
		}
		switch {
		case e.Kind <= slaac.Update && a == nil: // Update: somebody removed it, and it is advertised again
			m.addAddress(now, &address{
				addr: e.Addr, prefixLen: 64, link: l.index(), protocol: "kernel_ra", autoconf: true, temporary: e.Temporary,
				optimistic: l.cfg.dad.Optimistic, valid: e.Valid, preferred: e.Preferred,
			})
		case e.Kind == slaac.Remove && a != nil:
			m.removeAddress(now, a)
		case e.Kind == slaac.Exhausted:
			m.host.Log().Error("every address made of an advertised prefix is in use by somebody else: none is assigned",
				zap.String("link", l.cfg.name), zap.Stringer("address", e.Addr))
		case a != nil && (a.valid != e.Valid || a.preferred != e.Preferred):
			a.valid, a.preferred = e.Valid, e.Preferred
			a.deprecatedTold = a.preferred <= now
			m.changed = true
			m.eventAddr(now, a, false)
		}
	}
}

// identifiers makes the interface identifiers of a link's addresses.
type identifiers struct {
	m *Module
	l *linkState
}

// Stable implements [slaac.IDs].
func (i identifiers) Stable(p netip.Prefix, dadCounter int) (id [8]byte, changes bool) {
	if !i.l.cfg.host.StablePrivacy && i.l.link.Ethernet {
		return wire.EUI64(i.l.link.MAC), false
	}
	id, _ = i.m.stableIDFrom(p, i.l.cfg.name, dadCounter)
	return id, true
}

// Random implements [slaac.IDs].
func (i identifiers) Random() (id [8]byte) {
	for ok := false; !ok; ok = !reservedID(id) {
		for k := range id {
			id[k] = byte(i.m.host.Rand().Uint32())
		}
	}
	return id
}

// routerAnswers notes what the neighbor cache says about a router.
func (m *Module) routerAnswers(now clock.Instant, l *linkState, e *nud.Entry) {
	switch {
	case l.host == nil:
	case silent(e.State):
		m.routerSilent(now, l, e.Addr)
	case e.HasLLA && e.State != nud.None && l.host.routers.Reachable(now, e.Addr, true):
		m.learned = true
	}
}

// routerSilent: a neighbor that was given up may have been a router.
func (m *Module) routerSilent(now clock.Instant, l *linkState, a netip.Addr) {
	if l.host == nil {
		return
	}
	if l.host.redirects.lost(a) {
		m.learned = true
	}
	if l.host.routers.Reachable(now, a, false) {
		m.learned = true
		l.host.probe = clock.Earliest(l.host.probe, now.Add(l.cfg.host.RouterProbeInterval))
	}
}

// routerLost: a neighbor says that it is no router any more (RFC 4861 7.2.5).
func (m *Module) routerLost(l *linkState, a netip.Addr) {
	if l.host == nil {
		return
	}
	l.host.routers.Gone(a)
	l.host.redirects.lost(a)
	m.learned = true
}

// probeRouters solicits routers that do not answer and would be used if they did, while another does
// their work (RFC 4191 3.5): each at most once an interval, and only while there is traffic for it.
func (m *Module) probeRouters(now clock.Instant, l *linkState) {
	h := l.host
	if now < h.probe {
		return
	}
	h.probe = clock.Never
	cs := h.routers.Candidates(now, l.index(), l.cfg.host.LoadShareRouters)
	routers.Choose(cs)
	since := now.Add(-l.cfg.host.RouterProbeInterval - l.cache.ReachableTime(now))
	busy := slices.ContainsFunc(cs, func(c routers.Candidate) bool {
		e := l.cache.Get(c.Router)
		return c.Used && e != nil && e.Used >= max(since, 1)
	})
	probed := map[netip.Addr]bool{}
	for _, c := range cs {
		if c.Lost == 0 {
			continue
		}
		h.probe = now.Add(l.cfg.host.RouterProbeInterval)
		if busy && !c.Used && !probed[c.Router] {
			probed[c.Router] = true
			m.apply(now, l, l.cache.Probe(now, c.Router, m.effects[:0]))
		}
	}
}

// publishLearned makes what all links have learned the routes and the resolvers of this node.
func (m *Module) publishLearned(now clock.Instant) {
	if !m.learned {
		return
	}
	m.learned = false
	var out []module.LearnedRoute
	var redirected []module.Redirect
	var cs []routers.Candidate
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if l.host == nil {
			continue
		}
		cs = append(cs, l.host.routers.Candidates(now, i, l.cfg.host.LoadShareRouters)...)
		for _, p := range l.host.routers.OnLink() {
			out = append(out, module.LearnedRoute{
				Prefix: p.Prefix, Link: i, Metric: metricOnLink, Pref: ndwire.Medium.String(), Protocol: "kernel", Expires: p.Until,
			})
		}
		redirected = append(redirected, l.host.redirects.list(i)...)
	}
	routers.Choose(cs)
	for _, c := range cs {
		out = append(out, module.LearnedRoute{
			Prefix: c.Prefix, Link: c.Link, Via: c.Router, Metric: metricLearned, Pref: c.Preference.String(), Protocol: "ra",
			Expires: c.Until, Standby: !c.Used, Sources: c.Sources,
		})
	}
	m.choice = cs
	if !reflect.DeepEqual(out, m.routes) {
		m.routes = out
		m.host.PublishRoutes(out)
	}
	if !slices.Equal(redirected, m.redirects) {
		m.redirects = redirected
		m.host.PublishRedirects(redirected)
	}
	m.resolvers.stale = true
	m.tellResolvers(now)
}
