package ndp

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
)

// flushLearned forgets what routers have taught on a link and asks them again.
func (m *Module) flushLearned(now clock.Instant, l *linkState) {
	if l.host == nil {
		return
	}
	m.leaveHost(now, l)
	m.syncHost(now, l)
}

// hosts returns the links a command is about: the named one, or all that take advertisements.
func (m *Module) hosts(dev string) ([]*linkState, error) {
	only, err := m.dev(dev, true)
	if err != nil {
		return nil, err
	}
	if only != nil && only.host == nil {
		return nil, module.Refuse("link \"" + dev + "\" does not accept router advertisements: see links[].host.accept_ra")
	}
	var out []*linkState
	for _, i := range m.linkOrder() {
		if l := m.links[i]; l.host != nil && (only == nil || l == only) {
			out = append(out, l)
		}
	}
	return out, nil
}

// onHosts runs a command on the links that it names.
func (m *Module) onHosts(now clock.Instant, req module.Request, do func(clock.Instant, *linkState)) (any, error) {
	var r ndpapi.RARequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	list, err := m.hosts(r.Dev)
	if err != nil {
		return nil, err
	}
	for _, l := range list {
		do(now, l)
	}
	m.publish(now)
	return ndpapi.RAResult{Links: len(list)}, nil
}

func (m *Module) solicitRA(now clock.Instant, req module.Request) (any, error) {
	return m.onHosts(now, req, func(now clock.Instant, l *linkState) {
		if l.host.asking {
			l.host.solicit.Start(now, 0)
		}
	})
}

func (m *Module) flushRA(now clock.Instant, req module.Request) (any, error) {
	return m.onHosts(now, req, m.flushLearned)
}

func (m *Module) showRA(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("dev"); err != nil {
		return nil, err
	}
	only, err := m.dev(req.Query["dev"], true)
	if err != nil {
		return nil, err
	}
	out := []ndpapi.RA{}
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if only != nil && l != only {
			continue
		}
		j := ndpapi.RA{IfIndex: i, IfName: l.cfg.name, Sent: m.sentJSON(now, l), Learned: m.learnedJSON(now, l)}
		if j.Sent != nil || j.Learned != nil {
			out = append(out, j)
		}
	}
	return out, nil
}

// seconds renders a lifetime.
func seconds(d time.Duration) uint32 {
	if d == ndwire.Infinite {
		return ndpapi.Forever
	}
	return uint32(min(max(d, 0)/time.Second, ndpapi.Forever))
}

// left renders what is left until an end.
func left(now, end clock.Instant) uint32 {
	if end == clock.Never {
		return ndpapi.Forever
	}
	return seconds(end.Sub(now))
}

// sentJSON renders what a link advertises; nil = nothing.
func (m *Module) sentJSON(now clock.Instant, l *linkState) *ndpapi.SentRA {
	if l.adv == nil {
		return nil
	}
	ra, ok := l.adv.RA(now)
	if !ok {
		return nil
	}
	j := &ndpapi.SentRA{
		CurHopLimit: int(ra.CurHopLimit), Managed: ra.Managed, Other: ra.Other, HomeAgent: ra.HomeAgent,
		Preference: ra.Preference.String(), RouterLifetime: seconds(ra.RouterLifetime),
		ReachableTime: ra.ReachableTime.Milliseconds(), RetransTimer: ra.RetransTimer.Milliseconds(), MTU: ra.MTU,
		CaptivePortal: ra.CaptivePortal, AdvInterval: ra.AdvInterval.Milliseconds(),
	}
	if l.cfg.adv.AdvSourceLLAddress && l.link.Ethernet {
		j.SourceLLAddr = macText(l.link.MAC)
	}
	for _, p := range ra.Prefixes {
		j.Prefixes = append(j.Prefixes, ndpapi.RAPrefix{
			Prefix: p.Prefix, OnLink: p.OnLink, Autonomous: p.Autonomous, RouterAddr: p.Addr, ValidLft: seconds(p.Valid), PreferredLft: seconds(p.Preferred),
		})
	}
	for _, r := range ra.Routes {
		j.Routes = append(j.Routes, ndpapi.RARoute{Prefix: r.Prefix, Preference: r.Preference.String(), Lifetime: seconds(r.Lifetime)})
	}
	for _, o := range ra.RDNSS {
		for _, s := range o.Servers {
			j.RDNSS = append(j.RDNSS, ndpapi.RADNS{Server: s, Lifetime: seconds(o.Lifetime)})
		}
	}
	for _, o := range ra.DNSSL {
		for _, d := range o.Domains {
			j.DNSSL = append(j.DNSSL, ndpapi.RADomain{Domain: d, Lifetime: seconds(o.Lifetime)})
		}
	}
	for _, p := range ra.PREF64 {
		j.PREF64 = append(j.PREF64, ndpapi.RAPREF64{Prefix: p.Prefix, Lifetime: seconds(p.Lifetime)})
	}
	if h := ra.HomeAgentInfo; h != nil {
		j.HomeAgentInfo = &ndpapi.RAHomeAgent{Preference: h.Preference, Lifetime: seconds(h.Lifetime), MobileRouter: h.MobileRouter}
	}
	if d := l.adv.Deadline(); d != clock.Never {
		ms := max(d.Sub(now), 0).Milliseconds()
		j.NextIn = &ms
	}
	return j
}

// learnedJSON renders what a link has learned; nil = it takes nothing.
func (m *Module) learnedJSON(now clock.Instant, l *linkState) *ndpapi.LearnedRA {
	if l.host == nil {
		return nil
	}
	h, t := l.host, l.host.routers
	p := t.Params()
	j := &ndpapi.LearnedRA{
		Solicitations: h.solicit.Sent(), Soliciting: h.solicit.Deadline() != clock.Never,
		MTU: int(p.MTU), CurHopLimit: int(p.CurHopLimit), ReachableTime: p.ReachableTime.Milliseconds(), RetransTimer: p.RetransTimer.Milliseconds(),
		CaptivePortal: t.CaptivePortal(), Refused: t.Refused() + h.auto.Refused(),
	}
	m.routersJSON(now, l, j)
	for _, x := range t.OnLink() {
		j.Prefixes = append(j.Prefixes, ndpapi.RAPrefix{Prefix: x.Prefix, OnLink: true, ValidLft: left(now, x.Until)})
	}
	for _, s := range t.Servers() {
		j.RDNSS = append(j.RDNSS, ndpapi.RADNS{Server: s.Value, Lifetime: left(now, s.Until), Router: s.Router})
	}
	for _, d := range t.Domains() {
		j.DNSSL = append(j.DNSSL, ndpapi.RADomain{Domain: d.Value, Lifetime: left(now, d.Until), Router: d.Router})
	}
	for _, p := range t.PREF64() {
		j.PREF64 = append(j.PREF64, ndpapi.RAPREF64{Prefix: p.Value, Lifetime: left(now, p.Until), Router: p.Router})
	}
	return j
}

// routersJSON renders the routers and routes of a link as they were last chosen from.
func (m *Module) routersJSON(now clock.Instant, l *linkState, j *ndpapi.LearnedRA) {
	named := map[netip.Addr]bool{}
	add := func(r ndpapi.Router) {
		r.State = "NONE"
		if e := l.cache.Get(r.Addr); e != nil {
			r.State = e.State.String()
			if e.HasLLA {
				r.LLAddr = macText(e.LLA)
			}
		}
		named[r.Addr] = true
		j.Routers = append(j.Routers, r)
	}
	for _, c := range m.choice {
		switch {
		case c.Link != l.index():
		case c.Prefix.Bits() == 0:
			add(ndpapi.Router{Addr: c.Router, Preference: c.Preference.String(), Lifetime: left(now, c.Until), Used: c.Used, Why: c.Why})
		default:
			j.Routes = append(j.Routes, ndpapi.RARoute{
				Prefix: c.Prefix, Preference: c.Preference.String(), Lifetime: left(now, c.Until), Router: c.Router, Used: c.Used, Why: c.Why,
			})
		}
	}
	for _, a := range l.host.routers.Routers() {
		if !named[a.Router] {
			add(ndpapi.Router{Addr: a.Router, Preference: a.Preference.String(), Why: whyNoDefault(l)})
		}
	}
}

// whyNoDefault says why a router that advertises is no default router.
func whyNoDefault(l *linkState) string {
	if !l.cfg.host.AcceptDefaultRouter {
		return "default routers are not accepted here"
	}
	return "its router lifetime is 0"
}
