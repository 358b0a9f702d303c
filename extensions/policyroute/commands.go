package policyroute

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/routeapi"
)

// filter is a routeapi.Filter, understood.
type filter struct {
	tables            []uint32
	link              int
	proto, typ        string
	root, match, same netip.Prefix
	via               netip.Addr
	metric            *uint32
	nhid              uint32
}

func noDevice(name string) error { return module.Refuse("Cannot find device \"" + name + "\"") }

// tableID reads a table's name or number; no text is main.
func (m *Module) tableID(s string) (uint32, error) {
	id, ok := m.names.id(s)
	if !ok {
		return 0, module.Refuse("argument \"" + s + "\" is wrong: table id value is invalid")
	}
	return id, nil
}

func (m *Module) parseFilter(f routeapi.Filter) (filter, error) {
	out := filter{proto: f.Proto, typ: f.Type}
	if f.Table == "all" {
		out.tables = slices.Sorted(maps.Keys(m.tables))
	} else {
		id, err := m.tableID(f.Table)
		if err != nil {
			return out, err
		}
		out.tables = []uint32{id}
	}
	if f.Dev != "" {
		l := m.links.Name(f.Dev)
		if l == nil {
			return out, noDevice(f.Dev)
		}
		out.link = l.Index
	}
	for _, x := range []struct {
		text string
		to   *netip.Prefix
	}{{f.Root, &out.root}, {f.Match, &out.match}, {f.Exact, &out.same}} {
		if x.text == "" {
			continue
		}
		p, ok := parsePrefix(x.text)
		if !ok {
			return out, module.Refuse("inet6 prefix is expected rather than \"" + x.text + "\".")
		}
		*x.to = p
	}
	if f.Via != "" {
		a, err := netip.ParseAddr(f.Via)
		if err != nil {
			return out, module.Refuse("inet6 address is expected rather than \"" + f.Via + "\".")
		}
		out.via = a
	}
	if f.NHID != "" {
		n, err := strconv.ParseUint(f.NHID, 0, 32)
		if err != nil || n == 0 {
			return out, module.Refuse("\"nhid\" value is invalid")
		}
		out.nhid = uint32(n)
	}
	if f.Metric != "" {
		n, err := strconv.ParseUint(f.Metric, 0, 32)
		if err != nil {
			return out, module.Refuse("\"metric\" value is invalid")
		}
		v := uint32(n)
		out.metric = &v
	}
	return out, nil
}

// takesAny reports whether the filter takes a route by one of the ways that it leads.
func (m *Module) takesAny(f *filter, r *fib.Route) bool {
	return slices.ContainsFunc(m.hops(r), func(x fib.Route) bool { return f.takes(&x) })
}

func (f *filter) takes(r *fib.Route) bool {
	inside := func(outer, inner netip.Prefix) bool {
		return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
	}
	switch {
	case f.link != 0 && r.Link != f.link,
		f.proto != "" && r.Protocol != f.proto,
		f.typ != "" && r.Type.String() != f.typ,
		f.root.IsValid() && !inside(f.root, r.Prefix),
		f.match.IsValid() && !inside(r.Prefix, f.match),
		f.same.IsValid() && f.same != r.Prefix,
		f.via.IsValid() && f.via != r.Via,
		f.nhid != 0 && f.nhid != r.NHID,
		f.metric != nil && *f.metric != r.Metric:
		return false
	}
	return true
}

// render writes a route in iproute2's keys.
func (m *Module) render(now clock.Instant, table uint32, r *fib.Route) routeapi.Route {
	out := routeapi.Route{
		Type: r.Type.String(), Dst: dstText(r.Prefix), Gateway: r.Via, Table: m.names.name(table), Protocol: r.Protocol, Scope: "global",
		PrefSrc: r.PrefSrc, Metric: r.Metric, Flags: []string{}, Pref: r.Pref,
	}
	if r.From.IsValid() {
		out.From = dstText(r.From)
	}
	if hops := m.hops(r); r.NHID != 0 && len(hops) == 1 {
		out.NHID, out.Type, out.Gateway = r.NHID, hops[0].Type.String(), hops[0].Via
		r = &hops[0]
	} else if r.NHID != 0 {
		out.NHID = r.NHID
		for i := range hops {
			out.NextHops = append(out.NextHops, m.renderHop(&hops[i]))
		}
	}
	if out.Dev = m.linkName(r.Link); out.Dev != "" && !m.usable(r.Link) { // types without a device have link 0
		out.Flags = append(out.Flags, "linkdown")
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		out.Metrics = []routeapi.Metrics{{MTU: r.MTU, AdvMSS: r.AdvMSS}}
	}
	if r.Expires != clock.Never {
		left := int64(r.Expires.Sub(now) / time.Second)
		out.Expires = &left
	}
	return out
}

// addNextHop makes a route one of several next hops: last is its only one so far, or the last of them.
func (m *Module) addNextHop(out *routeapi.Route, last, r *fib.Route) {
	if len(out.NextHops) == 0 {
		out.NextHops = []routeapi.NextHop{m.renderHop(last)}
		out.Gateway, out.Dev, out.Flags = netip.Addr{}, "", []string{}
	}
	out.NextHops = append(out.NextHops, m.renderHop(r))
}

func (m *Module) renderHop(r *fib.Route) routeapi.NextHop {
	h := routeapi.NextHop{Gateway: r.Via, Weight: int(max(r.Weight, 1)), Dev: m.linkName(r.Link), Flags: []string{}}
	if h.Dev != "" && !m.usable(r.Link) {
		h.Flags = append(h.Flags, "linkdown")
	}
	return h
}

// dstText writes a prefix as iproute2 does.
func dstText(p netip.Prefix) string {
	switch p.Bits() {
	case 0:
		return routeapi.Default
	case 128:
		return p.Addr().String()
	default:
		return p.String()
	}
}

func (m *Module) event(table uint32, r fib.Route, deleted bool) {
	e := m.render(m.host.Clock().Now(), table, &r)
	e.Deleted = deleted
	m.host.Publish("route", e)
}

func (m *Module) show(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("table", "dev", "proto", "type", "root", "match", "exact", "via", "metric", "nhid"); err != nil {
		return nil, err
	}
	q := req.Query
	f, err := m.parseFilter(routeapi.Filter{
		Table: q["table"], Dev: q["dev"], Proto: q["proto"], Type: q["type"], Root: q["root"], Match: q["match"], Exact: q["exact"],
		Via: q["via"], Metric: q["metric"], NHID: q["nhid"],
	})
	if err != nil {
		return nil, err
	}
	out := []routeapi.Route{}
	for _, id := range f.tables {
		t := m.tables[id]
		if t == nil { // none yet: it is there from its first use on
			continue
		}
		var last fib.Route
		for _, r := range t.All() {
			switch {
			case !m.takesAny(&f, &r):
				continue
			case r.Sibling(&last):
				m.addNextHop(&out[len(out)-1], &last, &r)
			default:
				out = append(out, m.render(now, id, &r))
			}
			last = r
		}
	}
	return out, nil
}

func (m *Module) flush(_ clock.Instant, req module.Request) (any, error) {
	var body routeapi.Filter
	if err := req.Decode(&body); err != nil {
		return nil, err
	}
	f, err := m.parseFilter(body)
	if err != nil {
		return nil, err
	}
	n := 0
	m.together(func() {
		for _, id := range f.tables {
			if m.tables[id] != nil {
				n += m.removeAll(id, func(r *fib.Route) bool { return m.takesAny(&f, r) })
			}
		}
	})
	return routeapi.Flushed{Flushed: n}, nil
}

// change answers route add, replace, append and del.
func (m *Module) change(now clock.Instant, req module.Request) (any, error) {
	var b routeapi.Request
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	table, err := m.tableID(b.Table)
	if err != nil {
		return nil, err
	}
	rs, err := m.requested(&b)
	if err != nil {
		return nil, err
	}
	if b.Op == "del" {
		return struct{}{}, refuse(m.deleteRoutes(table, rs, b.Type == ""))
	}
	for i := range rs {
		if err := m.complete(now, &rs[i], b.Expires); err != nil {
			return nil, err
		}
		if table == tableLocal && rs[i].Type.HasDevice() {
			return nil, module.Refuse("Invalid argument: table local follows the addresses")
		}
		for _, x := range rs[:i] {
			if x.Via == rs[i].Via && x.Link == rs[i].Link {
				return nil, module.Refuse("Error: the same next hop twice")
			}
		}
	}
	m.together(func() { err = m.addRoutes(table, b.Op, rs) })
	return struct{}{}, err
}

// addRoutes adds the next hops of one route, or none of them.
func (m *Module) addRoutes(table uint32, op string, rs []fib.Route) error {
	t := m.table(table)
	switch op {
	case "add":
		if err := t.Add(rs[0]); err != nil {
			return refuse(err)
		}
		m.came(table, rs[0])
		rs = rs[1:]
	case "append":
		for _, r := range rs {
			if slices.ContainsFunc(t.Routes(r.Prefix), func(x fib.Route) bool { return x.SameHop(&r) }) {
				return refuse(fib.ErrExists)
			}
		}
	case "replace":
		m.remove(table, rs[0].Prefix, func(x *fib.Route) bool { return x.From == rs[0].From && x.Metric == rs[0].Metric })
	default:
		return module.Refuse("unknown operation \"" + op + "\"")
	}
	for _, r := range rs {
		if err := t.Append(r); err != nil {
			return refuse(err)
		}
		m.came(table, r)
	}
	return nil
}

// requested reads the routes of a request, one for each next hop.
func (m *Module) requested(b *routeapi.Request) ([]fib.Route, error) {
	p, ok := parsePrefix(b.Dst)
	if !ok {
		return nil, module.Refuse("inet6 prefix is expected rather than \"" + b.Dst + "\".")
	}
	r := fib.Route{Prefix: p, Metric: b.Metric, Protocol: b.Proto, MTU: b.MTU, AdvMSS: b.AdvMSS, PrefSrc: b.Src, Pref: b.Pref, Expires: clock.Never, NHID: b.NHID}
	if b.Type != "" {
		if r.Type, ok = fib.ParseType(b.Type); !ok {
			return nil, module.Refuse("unknown route type \"" + b.Type + "\"")
		}
	}
	if r.From, ok = parseFrom(b.From); !ok {
		return nil, module.Refuse("inet6 prefix is expected rather than \"" + b.From + "\".")
	}
	hops := b.NextHops
	if b.NHID != 0 && (len(hops) > 0 || b.Via.IsValid() || b.Dev != "" || r.Type != fib.Unicast) {
		return nil, module.Refuse("Error: Nexthop specification and nexthop id are mutually exclusive.")
	}
	if len(hops) == 0 {
		hops = []routeapi.NextHop{{Gateway: b.Via, Dev: b.Dev}}
	} else if b.Via.IsValid() || b.Dev != "" || r.Type != fib.Unicast {
		return nil, module.Refuse("Error: a route has either nexthops or via and dev.")
	}
	rs := make([]fib.Route, 0, len(hops))
	for _, h := range hops {
		r.Via, r.Weight, r.Link = h.Gateway, uint16(h.Weight), 0
		if h.Dev != "" {
			l := m.links.Name(h.Dev)
			if l == nil {
				return nil, noDevice(h.Dev)
			}
			r.Link = l.Index
		}
		if h.Weight < 0 || h.Weight > maxWeight {
			return nil, module.Refuse(fmt.Sprintf("argument \"%d\" is wrong: \"weight\" is 1 to %d", h.Weight, maxWeight))
		}
		if len(b.NextHops) > 0 && !h.Gateway.IsValid() {
			return nil, module.Refuse("Error: each nexthop needs via.")
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// deleteRoutes deletes for each of rs the first route that is as given, with all its next hops unless
// one is named; nothing if there is none for one of them.
func (m *Module) deleteRoutes(table uint32, rs []fib.Route, anyType bool) error {
	t := m.tables[table]
	if t == nil { // none yet: it is there from its first use on
		return fib.ErrNotFound
	}
	gone := map[fib.Route]bool{}
	for i := range rs {
		r, list := &rs[i], t.Routes(rs[i].Prefix)
		first := slices.IndexFunc(list, func(x fib.Route) bool {
			return x.From == r.From && (r.Link == 0 || x.Link == r.Link) && (!r.Via.IsValid() || x.Via == r.Via) && (r.Metric == 0 || x.Metric == r.Metric) && (r.NHID == 0 || x.NHID == r.NHID) &&
				(r.Protocol == "" || x.Protocol == r.Protocol) && (anyType || x.Type == r.Type) && !gone[x]
		})
		if first < 0 {
			return fib.ErrNotFound
		}
		gone[list[first]] = true
		for _, x := range list {
			if !r.Via.IsValid() && x.Sibling(&list[first]) {
				gone[x] = true
			}
		}
	}
	m.together(func() { m.remove(table, rs[0].Prefix, func(x *fib.Route) bool { return gone[*x] }) })
	return nil
}

func refuse(err error) error {
	if err == nil {
		return nil
	}
	return module.Refuse(err.Error())
}

// complete fills in what the operator left out and checks the rest as the kernel does.
func (m *Module) complete(now clock.Instant, r *fib.Route, expires *int64) error {
	if r.Metric == 0 {
		r.Metric = fib.MetricDefault
	}
	if r.Protocol == "" {
		r.Protocol = "boot"
	}
	if r.Pref == "" {
		r.Pref = "medium"
	}
	if expires != nil {
		r.Expires = now.Add(time.Duration(*expires) * time.Second)
	}
	switch {
	case !validPref(r.Pref):
		return module.Refuse("\"pref\" value is invalid")
	case r.MTU != 0 && (r.MTU < 1280 || r.MTU > 65535):
		return module.Refuse("Invalid argument: mtu is outside 1280..65535 (RFC 8200 5)")
	case !validAdvMSS(r.AdvMSS):
		return module.Refuse("Invalid argument: advmss is outside 40..65535")
	case r.Prefix.Addr().IsMulticast():
		return module.Refuse("Invalid argument: multicast routes are not built yet")
	case r.NHID != 0 && m.objects.Get(r.NHID) == nil:
		return module.Refuse("Error: Nexthop id does not exist.")
	case r.NHID != 0 && r.From.IsValid():
		return module.Refuse("Error: Nexthops can not be used with source routing.")
	case r.NHID != 0:
		return nil
	case !r.Type.HasDevice():
		r.Link, r.Via = 0, netip.Addr{}
		return nil
	case r.Type != fib.Unicast:
		return module.Refuse("Invalid argument: " + r.Type.String() + " routes follow the addresses")
	case !r.Via.IsValid() && r.Link == 0:
		return module.Refuse("No such device")
	}
	link, err := m.checkHop(r.Via, r.Link)
	r.Link = link
	return err
}

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
