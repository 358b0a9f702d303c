package ndp

import (
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndpapi"
)

// proxied is an address of another node that this one answers for on a link (RFC 4861 7.2.8).
type proxied struct {
	addr       netip.Addr
	router     bool // what the R flag says
	fromConfig bool
}

// addProxy begins to answer for an address: it takes joining its group.
func (m *Module) addProxy(now clock.Instant, l *linkState, p *proxied) {
	if l.proxies[p.addr] == nil {
		m.join(now, l, wire.SolicitedNode(p.addr))
	}
	l.proxies[p.addr] = p
}

func (m *Module) removeProxy(now clock.Instant, l *linkState, a netip.Addr) {
	delete(l.proxies, a)
	l.delayed.forget(a)
	m.leave(now, l, wire.SolicitedNode(a))
}

// syncProxies makes a link's configured proxies those of its configuration.
func (m *Module) syncProxies(now clock.Instant, l *linkState) {
	for _, p := range l.proxyList() {
		if !slices.Contains(l.cfg.proxies, ProxyConfig{p.addr}) {
			m.removeProxy(now, l, p.addr)
		}
	}
	for _, c := range l.cfg.proxies {
		if l.proxies[c.Address] == nil {
			m.addProxy(now, l, &proxied{addr: c.Address, fromConfig: true})
		}
	}
}

// proxyList returns the proxies by address.
func (l *linkState) proxyList() []*proxied {
	out := make([]*proxied, 0, len(l.proxies))
	for _, p := range l.proxies {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *proxied) int { return a.addr.Compare(b.addr) })
	return out
}

func (m *Module) changeProxy(now clock.Instant, req module.Request) (any, error) {
	var r ndpapi.ProxyRequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	l, err := m.dev(r.Dev, false)
	if err != nil {
		return nil, err
	}
	r.Dst = r.Dst.WithZone("")
	old := l.proxies[r.Dst]
	switch {
	case !proxyable(r.Dst):
		return nil, module.Refuse("Invalid argument: " + r.Dst.String() + " is not a unicast IPv6 address")
	case r.Op == "del" && old == nil:
		return nil, module.Refuse("No such file or directory")
	case r.Op == "del":
		m.removeProxy(now, l, r.Dst)
	case r.Op != "add" && r.Op != "replace":
		return nil, module.Refuse("unknown operation \"" + r.Op + "\"")
	case r.Op == "add" && old != nil:
		return nil, module.Refuse("File exists")
	case old == nil && len(l.proxies) >= maxProxies:
		return nil, module.Refuse("No buffer space available")
	default:
		m.addProxy(now, l, &proxied{addr: r.Dst, router: r.Router, fromConfig: old != nil && old.fromConfig})
	}
	m.publish(now)
	return struct{}{}, nil
}

// showProxies lists the proxies as neighbors without a state.
func (m *Module) showProxies(only *linkState, within netip.Prefix) []ndpapi.Neigh {
	out := []ndpapi.Neigh{}
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if only != nil && l != only {
			continue
		}
		for _, p := range l.proxyList() {
			if within.Contains(p.addr) {
				out = append(out, ndpapi.Neigh{Dst: p.addr, Dev: l.cfg.name, Proxy: true, Router: ndpapi.Flag(p.router)})
			}
		}
	}
	return out
}
