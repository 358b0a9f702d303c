package policyroute

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/routeapi"
)

// number reads a selector that is a number of so many bits, decimal or 0x; absent is 0.
func number[T uint8 | uint16 | uint32](req module.Request, key string, bits int) (T, error) {
	text := req.Query[key]
	if text == "" {
		return 0, nil
	}
	v, err := strconv.ParseUint(text, 0, bits)
	if err != nil {
		return 0, module.Refuse(fmt.Sprintf("%s: %q is not a number of %d bits", key, text, bits))
	}
	return T(v), nil
}

// get answers `route get` as the packet path would.
func (m *Module) get(now clock.Instant, req module.Request) (any, error) {
	err := req.Selectors("dst", "from", "iif", "oif", "mark", "dsfield", "ipproto", "sport", "dport", "explain")
	if err != nil {
		return nil, err
	}
	var q module.RouteQuery
	if q.Dst, err = netip.ParseAddr(req.Query["dst"]); err != nil {
		return nil, module.Refuse("inet6 address is expected rather than \"" + req.Query["dst"] + "\".")
	}
	q.Dst = q.Dst.WithZone("")
	from := req.Query["from"]
	if from != "" {
		if q.Src, err = netip.ParseAddr(from); err != nil {
			return nil, module.Refuse("inet6 address is expected rather than \"" + from + "\".")
		}
	}
	for _, x := range []struct {
		key string
		to  *int
	}{{"iif", &q.In}, {"oif", &q.Out}} {
		if name := req.Query[x.key]; name != "" {
			l := m.links.Name(name)
			if l == nil {
				return nil, noDevice(name)
			}
			*x.to = l.Index
		}
	}
	if q.Mark, err = number[uint32](req, "mark", 32); err != nil {
		return nil, err
	}
	if q.DSField, err = number[uint8](req, "dsfield", 8); err != nil {
		return nil, err
	}
	if q.Proto, err = number[uint8](req, "ipproto", 8); err != nil {
		return nil, err
	}
	if q.SPort, err = number[uint16](req, "sport", 16); err != nil {
		return nil, err
	}
	if q.DPort, err = number[uint16](req, "dport", 16); err != nil {
		return nil, err
	}
	var tr *trace
	if req.Query["explain"] == "true" {
		tr = &trace{}
	}
	res := m.view.Load().answer(m.host.Addrs(), q, tr)
	if res.Route == nil {
		return nil, module.Refuse("Network is unreachable")
	}
	r := res.Route
	switch r.Type {
	case packet.RouteBlackhole:
		return nil, module.Refuse("Invalid argument")
	case packet.RouteUnreachable:
		return nil, module.Refuse("No route to host")
	case packet.RouteProhibit:
		return nil, module.Refuse("Permission denied")
	case packet.RouteThrow:
		return nil, module.Refuse("Network is unreachable")
	}
	out := routeapi.Route{
		Type: r.Type.String(), Dst: q.Dst.String(), From: "::", Table: m.names.name(r.Table), Protocol: "kernel", Metric: r.Metric, Flags: []string{}, Pref: "medium",
	}
	switch {
	case q.Src.IsValid():
		out.From = q.Src.String()
	case res.byRule:
		out.From = res.Src.String()
	case q.In == 0:
		out.PrefSrc = res.Src
	}
	out.Dev = m.linkName(res.Out)
	if q.In != 0 {
		out.IIF = m.links.Index(q.In).Name
	}
	for _, x := range m.tables[r.Table].Routes(res.Prefix) {
		if x.Metric == r.Metric && slices.ContainsFunc(m.hops(&x), func(h fib.Route) bool { return h.Link == res.Out && h.Via == res.Gateway }) {
			out.Protocol, out.Pref = x.Protocol, x.Pref
		}
	}
	if res.NextHop != q.Dst {
		out.Gateway = res.NextHop
	}
	if tr != nil {
		out.Explain = m.explain(now, tr, q, &res)
	}
	if by := res.redirectedBy(); by.IsValid() {
		out.Protocol = protoRedirect
		if tr != nil {
			out.Explain.RedirectedBy = by
		}
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		out.Metrics = []routeapi.Metrics{{MTU: r.MTU, AdvMSS: r.AdvMSS}}
	}
	return out, nil
}
