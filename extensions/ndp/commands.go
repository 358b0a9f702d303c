package ndp

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/nud"
)

func (m *Module) handle(h module.Host) {
	h.Handle("GET", "/v1/neigh", m.showNeigh)
	h.Handle("POST", "/v1/neigh", m.changeNeigh)
	h.Handle("POST", "/v1/neigh/flush", m.flushNeigh)
	h.Handle("GET", "/v1/addr", m.showAddr)
	h.Handle("POST", "/v1/addr", m.changeAddr)
	h.Handle("POST", "/v1/addr/flush", m.flushAddr)
	h.Handle("GET", "/v1/maddr", m.showMAddr)
	h.Handle("POST", "/v1/maddr", m.changeMAddr)
	h.Handle("POST", "/v1/neigh/proxy", m.changeProxy)
	h.Handle("GET", "/v1/ra", m.showRA)
	h.Handle("POST", "/v1/ra/solicit", m.solicitRA)
	h.Handle("POST", "/v1/ra/flush", m.flushRA)
	h.Handle("GET", "/v1/route/redirect", m.showRedirects)
	h.Handle("POST", "/v1/route/redirect/flush", m.flushRedirects)
}

// dev finds a link by name; "" with optional is none.
func (m *Module) dev(name string, optional bool) (*linkState, error) {
	if name == "" && optional {
		return nil, nil
	}
	for _, l := range m.links {
		if l.cfg.name == name {
			return l, nil
		}
	}
	return nil, module.Refuse("Cannot find device \"" + name + "\"")
}

// to reads an address or prefix selector; "" is everything.
func to(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Is6() {
		return netip.PrefixFrom(a.WithZone(""), 128), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is6() {
		return p, module.Refuse("inet6 prefix is expected rather than \"" + s + "\".")
	}
	return p.Masked(), nil
}

// neighFilter turns a filter into a match on entries of the links it takes.
func (m *Module) neighFilter(f ndpapi.NeighFilter) (only *linkState, match func(*nud.Entry) bool, err error) {
	if only, err = m.dev(f.Dev, true); err != nil {
		return nil, nil, err
	}
	p, err := to(f.To)
	if err != nil {
		return nil, nil, err
	}
	state := strings.ToUpper(f.NUD)
	return only, func(e *nud.Entry) bool {
		return p.Contains(e.Addr) && (state == "" || state == "ALL" || state == e.State.String())
	}, nil
}

func (m *Module) showNeigh(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("dev", "to", "nud", "proxy"); err != nil {
		return nil, err
	}
	only, match, err := m.neighFilter(ndpapi.NeighFilter{Dev: req.Query["dev"], To: req.Query["to"], NUD: req.Query["nud"]})
	if err != nil {
		return nil, err
	}
	if req.Query["proxy"] != "" {
		within, _ := to(req.Query["to"]) // neighFilter has looked at it
		return m.showProxies(only, within), nil
	}
	out := []ndpapi.Neigh{}
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if only != nil && l != only {
			continue
		}
		for _, e := range l.cache.All() {
			if match(e) {
				out = append(out, m.neighJSON(now, l, e, true))
			}
		}
	}
	return out, nil
}

// states are the words of `neigh add ... nud`.
var states = map[string]nud.State{
	"": nud.Permanent, "permanent": nud.Permanent, "noarp": nud.NoARP, "reachable": nud.Reachable, "stale": nud.Stale,
	"delay": nud.Delay, "probe": nud.Probe,
}

func (m *Module) changeNeigh(now clock.Instant, req module.Request) (any, error) {
	var r ndpapi.NeighRequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	l, err := m.dev(r.Dev, false)
	if err != nil {
		return nil, err
	}
	if !r.Dst.Is6() || r.Dst.IsMulticast() || r.Dst.IsUnspecified() {
		return nil, module.Refuse("Invalid argument")
	}
	r.Dst = r.Dst.WithZone("")
	e := l.cache.Get(r.Dst)
	if r.Op == "del" {
		es, ok := l.cache.Delete(r.Dst, m.effects[:0])
		if !ok {
			return nil, module.Refuse("No such file or directory")
		}
		m.apply(now, l, es)
		return struct{}{}, nil
	}
	state, known := states[r.NUD]
	mac, err := net.ParseMAC(r.LLAddr)
	switch {
	case r.Op != "add" && r.Op != "replace" && r.Op != "change":
		return nil, module.Refuse("unknown operation \"" + r.Op + "\"")
	case !known:
		return nil, module.Refuse("nud state is bad")
	case !l.link.Ethernet:
		return nil, module.Refuse("Invalid argument: the link has no link-layer addresses")
	case err != nil || len(mac) != 6:
		return nil, module.Refuse("\"" + r.LLAddr + "\" is invalid lladdr.")
	case r.Op == "add" && e != nil:
		return nil, module.Refuse("File exists")
	case r.Op == "change" && e == nil:
		return nil, module.Refuse("No such file or directory")
	}
	es, ok := l.cache.Set(now, r.Dst, state, nud.LLA(mac), r.Router, m.effects[:0])
	m.apply(now, l, es)
	if !ok {
		return nil, module.Refuse("No buffer space available")
	}
	return struct{}{}, nil
}

func (m *Module) flushNeigh(now clock.Instant, req module.Request) (any, error) {
	var f ndpapi.NeighFilter
	if err := req.Decode(&f); err != nil {
		return nil, err
	}
	only, match, err := m.neighFilter(f)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if only != nil && l != only {
			continue
		}
		// As ip neigh flush: what an operator made stays unless it is asked for by its state.
		es, k := l.cache.Flush(func(e *nud.Entry) bool {
			return match(e) && (f.NUD != "" || e.State != nud.Permanent && e.State != nud.NoARP)
		}, m.effects[:0])
		m.apply(now, l, es)
		n += k
	}
	return ndpapi.Flushed{Flushed: n}, nil
}

// addrFilter turns a filter into a match on addresses.
func (m *Module) addrFilter(f ndpapi.AddrFilter) (func(*address) bool, error) {
	only, err := m.dev(f.Dev, true)
	if err != nil {
		return nil, err
	}
	p, err := to(f.To)
	if err != nil {
		return nil, err
	}
	if f.Scope != "" && f.Scope != "global" && f.Scope != "link" && f.Scope != "host" {
		return nil, module.Refuse("invalid \"scope\"")
	}
	return func(a *address) bool {
		return !a.subnetRouter && (only == nil || a.link == only.index()) && p.Contains(a.addr) && (f.Scope == "" || f.Scope == scopeOf(a.addr))
	}, nil
}

func (m *Module) showAddr(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("dev", "scope", "to"); err != nil {
		return nil, err
	}
	match, err := m.addrFilter(ndpapi.AddrFilter{Dev: req.Query["dev"], Scope: req.Query["scope"], To: req.Query["to"]})
	if err != nil {
		return nil, err
	}
	out := []ndpapi.Link{}
	for _, i := range m.linkOrder() {
		j := ndpapi.Link{IfIndex: i, IfName: m.links[i].cfg.name}
		for _, a := range m.addrs {
			if a.link == i && match(a) {
				j.AddrInfo = append(j.AddrInfo, addrJSON(now, a))
			}
		}
		if len(j.AddrInfo) > 0 {
			out = append(out, j)
		}
	}
	return out, nil
}

func (m *Module) changeAddr(now clock.Instant, req module.Request) (any, error) {
	var r ndpapi.AddrRequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	l, err := m.dev(r.Dev, false)
	if err != nil {
		return nil, err
	}
	p, err := parseAddress(r.Address)
	if err != nil {
		return nil, err
	}
	a := m.find(l.index(), p.Addr())
	if r.Op == "del" {
		if a == nil || a.subnetRouter || strings.Contains(r.Address, "/") && a.prefixLen != p.Bits() {
			return nil, module.Refuse("Cannot assign requested address")
		}
		m.removeAddress(now, a)
		m.publish(now)
		return struct{}{}, nil
	}
	valid, preferred, err := lifetimes(now, r)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Op != "add" && r.Op != "replace" && r.Op != "change":
		return nil, module.Refuse("unknown operation \"" + r.Op + "\"")
	case r.Home:
		return nil, module.Refuse("Operation not supported: home addresses are not built yet")
	case r.Op == "add" && a != nil && !a.subnetRouter:
		return nil, module.Refuse("File exists")
	case r.Op == "change" && a == nil:
		return nil, module.Refuse("Cannot assign requested address")
	}
	if a != nil && !a.subnetRouter { // only what can change without being another address
		a.valid, a.preferred, a.deprecatedTold = valid, preferred, false
		m.changed = true
		m.eventAddr(now, a, false)
	} else {
		m.addrs = slices.DeleteFunc(m.addrs, func(x *address) bool { return x == a })
		m.addAddress(now, &address{
			addr: p.Addr(), prefixLen: p.Bits(), link: l.index(), anycast: r.Anycast, noDAD: r.NoDAD, valid: valid, preferred: preferred,
		})
	}
	m.publish(now)
	return struct{}{}, nil
}

// parseAddress reads "address/length"; without a length it is a /128.
func parseAddress(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil {
			p = netip.PrefixFrom(a.WithZone(""), 128)
		}
	}
	a := p.Addr()
	if err != nil || !a.Is6() || a.Is4In6() {
		return p, module.Refuse("any valid prefix is expected rather than \"" + s + "\".")
	}
	if a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || p.Bits() == 0 {
		return p, module.Refuse("Cannot assign requested address")
	}
	return p, nil
}

func lifetimes(now clock.Instant, r ndpapi.AddrRequest) (valid, preferred clock.Instant, err error) {
	end := func(s *uint32) clock.Instant {
		if s == nil || *s == ndpapi.Forever {
			return clock.Never
		}
		return now.Add(time.Duration(*s) * time.Second)
	}
	valid, preferred = end(r.ValidLft), end(r.PreferredLft)
	if r.PreferredLft == nil {
		preferred = valid
	}
	if preferred > valid {
		return 0, 0, module.Refuse("preferred_lft is greater than valid_lft")
	}
	if valid <= now {
		return 0, 0, module.Refuse("Invalid argument: valid_lft is zero")
	}
	return valid, preferred, nil
}

func (m *Module) flushAddr(now clock.Instant, req module.Request) (any, error) {
	var f ndpapi.AddrFilter
	if err := req.Decode(&f); err != nil {
		return nil, err
	}
	match, err := m.addrFilter(f)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, a := range slices.Clone(m.addrs) {
		if match(a) {
			m.removeAddress(now, a)
			n++
		}
	}
	m.publish(now)
	return ndpapi.Flushed{Flushed: n}, nil
}

func (m *Module) showMAddr(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("dev"); err != nil {
		return nil, err
	}
	only, err := m.dev(req.Query["dev"], true)
	if err != nil {
		return nil, err
	}
	out := []ndpapi.Groups{}
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if only != nil && l != only {
			continue
		}
		j := ndpapi.Groups{IfIndex: i, IfName: l.cfg.name, MAddr: []ndpapi.Group{}}
		for _, g := range l.mld.Members() {
			x := ndpapi.Group{Family: "inet6", Address: g.Addr}
			if g.Users > 1 {
				x.Users = g.Users
			}
			j.MAddr = append(j.MAddr, x)
		}
		out = append(out, j)
	}
	return out, nil
}

func (m *Module) changeMAddr(now clock.Instant, req module.Request) (any, error) {
	var r ndpapi.MAddrRequest
	if err := req.Decode(&r); err != nil {
		return nil, err
	}
	l, err := m.dev(r.Dev, false)
	if err != nil {
		return nil, err
	}
	if !r.Address.Is6() || !r.Address.IsMulticast() {
		return nil, module.Refuse("Invalid argument")
	}
	member := m.host.Addrs().Member(ptr16(r.Address), l.index())
	switch {
	case r.Op == "add" && member:
		return nil, module.Refuse("Address already in use")
	case r.Op == "add":
		m.join(now, l, r.Address)
	case r.Op == "del" && !member:
		return nil, module.Refuse("No such device or address")
	case r.Op == "del":
		m.leave(now, l, r.Address)
	default:
		return nil, module.Refuse("unknown operation \"" + r.Op + "\"")
	}
	m.publish(now)
	return struct{}{}, nil
}

func ptr16(a netip.Addr) *[16]byte {
	b := a.As16()
	return &b
}
