package policyroute

import (
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/routeapi"
)

// showPinned answers `route show cache`: the flows that keep to a next hop.
func (m *Module) showPinned(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	hops := map[uint32]module.Hop{}
	for h := range m.gateways {
		hops[memberOf(h)] = h
	}
	for _, l := range m.lastLearned {
		h := module.Hop{Link: l.Link, Addr: l.Via}
		hops[memberOf(h)] = h
	}
	out := []routeapi.Pinned{}
	for _, p := range m.choice.pins.All(now) {
		x := routeapi.Pinned{Dst: p.Dst, From: p.Src, Flags: []string{"pinned"}}
		if h, ok := hops[p.Member]; ok {
			x.Gateway, x.Dev = h.Addr, m.linkName(h.Link)
		}
		left := int64((m.cache.Idle - p.Idle) / time.Second)
		x.Expires = &left
		out = append(out, x)
	}
	return out, nil
}

// flushPinned answers `route flush cache`.
func (m *Module) flushPinned(clock.Instant, module.Request) (any, error) {
	return routeapi.Flushed{Flushed: m.choice.pins.Flush()}, nil
}
