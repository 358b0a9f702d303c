package policyroute

import (
	"maps"
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/fib"
)

// countGateway keeps account of the gateways that configured routes lead through; those of learned ones
// are the business of who learned them.
func (m *Module) countGateway(r *fib.Route, by int) {
	if r.Via.IsValid() && operators(r) {
		m.countHop(hopOf(r), by)
	}
}

func (m *Module) countHop(h module.Hop, by int) {
	was := m.gateways[h]
	if m.gateways[h] = was + by; was+by == 0 {
		delete(m.gateways, h)
	}
	m.gatewaysChanged = m.gatewaysChanged || was == 0 || was+by == 0
}

// publishGateways says which gateways there are, when those are others.
func (m *Module) publishGateways() {
	if !m.gatewaysChanged {
		return
	}
	m.gatewaysChanged = false
	hops := slices.Collect(maps.Keys(m.gateways))
	slices.SortFunc(hops, module.Hop.Compare)
	m.host.PublishGateways(hops)
}

func hopOf(r *fib.Route) module.Hop { return module.Hop{Link: r.Link, Addr: r.Via} }

// GatewaysSilent implements [module.SilenceObserver]: routes through gateways that do not answer are used
// only where there is no other (RFC 4861 6.3.6).
func (m *Module) GatewaysSilent(now clock.Instant, silent []module.Hop) {
	next, changed := map[module.Hop]bool{}, map[module.Hop]bool{}
	for _, h := range silent {
		next[h] = true
		changed[h] = !m.silent[h]
	}
	for h := range m.silent {
		changed[h] = !next[h]
	}
	m.silent = next
	m.together(func() {
		m.objectsChanged(now)
		for _, t := range m.slots {
			t.Each(func(p netip.Prefix, list []fib.Route) {
				if len(list) > 1 && slices.ContainsFunc(list, func(r fib.Route) bool { return changed[hopOf(&r)] }) {
					m.batch.add(t, p)
				}
			})
		}
	})
}
