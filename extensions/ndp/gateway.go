package ndp

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/ndp/nud"
)

// gatewayProbe is how often a gateway that does not answer is solicited, to see whether it is back: no
// packets go to it meanwhile (RFC 4191 3.5: at most once a minute).
const gatewayProbe = time.Minute

// gateway is a neighbor that a configured route leads through.
type gateway struct {
	silent bool
	probe  clock.Instant // when it is solicited next, if it is silent
}

// GatewaysChanged implements [module.GatewayObserver].
func (m *Module) GatewaysChanged(now clock.Instant, hops []module.Hop) {
	was := m.gateways
	m.gateways = make(map[module.Hop]*gateway, len(hops))
	for _, h := range hops {
		g := was[h]
		if g == nil {
			g = &gateway{probe: clock.Never}
			if l := m.links[h.Link]; l != nil {
				if e := l.cache.Get(h.Addr); e != nil && silent(e.State) {
					g.silent, g.probe = true, now.Add(gatewayProbe)
				}
			}
		}
		m.gateways[h] = g
	}
	m.publishSilent()
}

// silent reports whether a neighbor in that state does not answer.
func silent(s nud.State) bool { return s == nud.Failed || s == nud.Unreachable }

// gatewayChanged notes what the neighbor cache says about a gateway. Whoever is only heard of (STALE) has
// not answered yet.
func (m *Module) gatewayChanged(now clock.Instant, l *linkState, e *nud.Entry) {
	switch s := e.State; {
	case silent(s):
		m.gatewayAnswers(now, l, e.Addr, false)
	case s == nud.Reachable, s == nud.Permanent, s == nud.NoARP:
		m.gatewayAnswers(now, l, e.Addr, true)
	}
}

// gatewayAnswers notes whether a neighbor answers, if it is a gateway.
func (m *Module) gatewayAnswers(now clock.Instant, l *linkState, a netip.Addr, answers bool) {
	g := m.gateways[module.Hop{Link: l.index(), Addr: a}]
	if g == nil || g.silent != answers {
		return
	}
	g.silent, g.probe = !answers, clock.Never
	if g.silent {
		g.probe = now.Add(gatewayProbe)
	}
	m.publishSilent()
}

// publishSilent tells which gateways do not answer.
func (m *Module) publishSilent() {
	var out []module.Hop
	for h, g := range m.gateways {
		if g.silent {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, module.Hop.Compare)
	if !slices.Equal(out, m.silent) {
		m.silent = out
		m.host.PublishSilent(out)
	}
}

// gatewayDeadline returns when a gateway is to be solicited.
func (m *Module) gatewayDeadline() clock.Instant {
	d := clock.Never
	for _, h := range m.silent {
		if l := m.links[h.Link]; l != nil && l.link.Usable() {
			d = clock.Earliest(d, m.gateways[h].probe)
		}
	}
	return d
}

// probeGateways solicits those whose time it is.
func (m *Module) probeGateways(now clock.Instant) {
	for _, h := range slices.Clone(m.silent) {
		g, l := m.gateways[h], m.links[h.Link]
		if l == nil || !l.link.Usable() || now < g.probe {
			continue
		}
		g.probe = now.Add(gatewayProbe)
		m.apply(now, l, l.cache.Probe(now, h.Addr, m.effects[:0]))
	}
}
