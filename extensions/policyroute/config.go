package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/pins"
)

// RouteConfig is one item of routing.routes.
type RouteConfig struct {
	To     string     `mapstructure:"to"`
	Type   string     `mapstructure:"type"`
	Via    netip.Addr `mapstructure:"via"`
	Dev    string     `mapstructure:"dev"`
	Metric *uint32    `mapstructure:"metric"`
	Table  string     `mapstructure:"table"`
	MTU    int        `mapstructure:"mtu"`
	AdvMSS int        `mapstructure:"advmss"`
	Src    netip.Addr `mapstructure:"src"`
	Pref   string     `mapstructure:"pref"`
	From   string     `mapstructure:"from"` // for packets of these sources only

	NextHops []NextHopConfig `mapstructure:"nexthops"`
	NHID     uint32          `mapstructure:"nhid"` // an item of routing.nexthops, in the place of via and dev
}

// maxWeight is the most that a next hop can weigh against the others, as in the kernel.
const maxWeight = 256

// NextHopConfig is one of several next hops of a route.
type NextHopConfig struct {
	Via    netip.Addr `mapstructure:"via"`
	Dev    string     `mapstructure:"dev"`
	Weight int        `mapstructure:"weight"`
}

// TableConfig is one item of routing.tables.
type TableConfig struct {
	ID   uint32 `mapstructure:"id"`
	Name string `mapstructure:"name"`
}

// placed is a route and its table.
type placed struct {
	table uint32
	route fib.Route
}

// Prepare implements [module.Module]: tables, then the rules and routes that name them.
func (m *Module) Prepare(next *module.Config) (func(clock.Instant), error) {
	names, err := prepareTables(next.Sections["routing.tables"])
	objects, err7 := prepareObjects(next)
	routes, err2 := prepareRoutes(next, names, objects)
	rules, err3 := prepareRules(next, names)
	how, err4 := prepareMultipath(next.Sections["routing.multipath"])
	cache, err6 := prepareCache(next.Sections["routing.destination_cache"])
	marks, err8 := prepareMarks(next)
	labels, err5 := prepareLabels(next.Sections["routing.source_selection"])
	return func(now clock.Instant) {
		m.together(func() { // for packets it is one change
			m.names = names
			m.commitMultipath(how, cache)
			m.store(func(v *view) { v.labels, v.marks = labels, marks })
			m.commitRoutes(now, routes, objects)
			m.commitRules(rules)
		})
	}, errors.Join(err, err2, err3, err4, err5, err6, err7, err8)
}

// MultipathConfig is routing.multipath: how flows are shared out to the next hops of one route.
type MultipathConfig struct {
	Select string `mapstructure:"select"`
	Hash   string `mapstructure:"hash"`
	Seed   uint64 `mapstructure:"seed"`
}

func prepareMultipath(s module.Section) (mc MultipathConfig, err error) {
	mc = MultipathConfig{Select: "hash", Hash: nexthop.L4.String()}
	if s == nil || !s.Present() {
		return mc, nil
	}
	if err := s.Decode(&mc); err != nil {
		return mc, err
	}
	if mc.Select != "hash" && mc.Select != "round_robin" {
		err = s.Fault("select", fmt.Sprintf("%q: want hash or round_robin", mc.Select), "")
	}
	if _, ok := nexthop.ParsePolicy(mc.Hash); !ok {
		err = errors.Join(err, s.Fault("hash", fmt.Sprintf("%q: want l3, l4, inner or flowlabel", mc.Hash), ""))
	}
	return mc, err
}

// CacheConfig is routing.destination_cache: how many flows keep to the next hop they were given, and for
// how long after their last packet. As many destinations can have a path MTU.
type CacheConfig struct {
	MaxEntries int           `mapstructure:"max_entries"`
	Idle       time.Duration `mapstructure:"idle"`
}

func prepareCache(s module.Section) (CacheConfig, error) {
	cc := CacheConfig{MaxEntries: 16384, Idle: time.Minute}
	if s == nil || !s.Present() {
		return cc, nil
	}
	if err := s.Decode(&cc); err != nil {
		return cc, err
	}
	var errs []error
	if cc.MaxEntries < 16 || cc.MaxEntries > 1<<24 {
		errs = append(errs, s.Fault("max_entries", fmt.Sprintf("%d is outside 16..%d", cc.MaxEntries, 1<<24), ""))
	}
	if cc.Idle < time.Second || cc.Idle > 24*time.Hour {
		errs = append(errs, s.Fault("idle", fmt.Sprintf("%s is outside 1s..24h", cc.Idle), ""))
	}
	return cc, errors.Join(errs...)
}

// commitMultipath puts a way of sharing in force. With a seed it is the same after a restart, without
// one nobody can know it.
func (m *Module) commitMultipath(mc MultipathConfig, cc CacheConfig) {
	next := *m.choice
	next.robin = mc.Select == "round_robin"
	if cc != m.cache {
		m.cache, next.pins = cc, pins.New(cc.MaxEntries, cc.Idle, m.flows)
		m.host.LimitPathMTU(cc.MaxEntries)
	}
	next.policy, _ = nexthop.ParsePolicy(mc.Hash)
	if mc.Seed != 0 {
		next.key = nexthop.Key{mc.Seed, ^mc.Seed}
	} else if m.seeded {
		next.key = nexthop.Key{m.host.Rand().Uint64(), m.host.Rand().Uint64()}
	}
	m.seeded = mc.Seed != 0
	if next == *m.choice {
		return
	}
	m.choice = &next
	m.store(func(v *view) { v.choice = &next })
}

// items decodes the items of a section that is a list; none if it is not there.
func items[T any](s module.Section) (list []T, err error) {
	if s != nil && s.Present() {
		err = s.Decode(&list)
	}
	return list, err
}

func prepareTables(s module.Section) (tableNames, error) {
	names := defaultNames()
	list, err := items[TableConfig](s)
	errs := []error{err}
	for i, tc := range list {
		at := fmt.Sprintf("[%d]", i)
		if key, msg := names.add(tc); msg != "" {
			errs = append(errs, s.Fault(at+"."+key, msg, ""))
		}
	}
	return names, errors.Join(errs...)
}

func prepareRoutes(next *module.Config, names tableNames, objects *nexthop.Objects) ([]placed, error) {
	s := next.Sections["routing.routes"]
	list, err := items[RouteConfig](s)
	errs := []error{err}
	type id struct {
		table        uint32
		prefix, from netip.Prefix
		metric       uint32
	}
	seen := map[id]bool{}
	var want []placed
	for i, rc := range list {
		rs, key, msg := rc.routes(next)
		at := fmt.Sprintf("[%d]", i)
		table, ok := names.id(rc.Table)
		k := id{table, rs[0].Prefix, rs[0].From, rs[0].Metric}
		switch {
		case msg != "":
		case !ok:
			key, msg = "table", fmt.Sprintf("%q is no table's name or number: routing.tables gives names", rc.Table)
		case table == tableLocal && rs[0].Type.HasDevice():
			key, msg = "table", "table local follows the addresses"
		case rc.NHID != 0 && objects.Get(rc.NHID) == nil:
			key, msg = "nhid", fmt.Sprintf("routing.nexthops has no id %d", rc.NHID)
		case seen[k]:
			key, msg = "to", fmt.Sprintf("%s with metric %d is a route above", rs[0].Prefix, rs[0].Metric)
		default:
			seen[k] = true
		}
		if msg != "" {
			errs = append(errs, s.Fault(at+"."+key, msg, ""))
		}
		for _, r := range rs {
			want = append(want, placed{table, r})
		}
	}
	return want, errors.Join(errs...)
}

// routes checks one item and returns it as one route for each next hop; msg says what is wrong with
// key.
func (rc *RouteConfig) routes(cfg *module.Config) (rs []fib.Route, key, msg string) {
	if len(rc.NextHops) == 0 {
		r, key, msg := rc.route(cfg)
		return []fib.Route{r}, key, msg
	}
	for i, h := range rc.NextHops {
		at := fmt.Sprintf("nexthops[%d]", i)
		one := *rc
		one.Via, one.Dev = h.Via, h.Dev
		r, key, msg := one.route(cfg)
		rs = append(rs, r)
		switch {
		case rc.Via.IsValid() || rc.Dev != "":
			return rs, "nexthops", "a route has either nexthops or via and dev"
		case h.Weight < 0 || h.Weight > maxWeight:
			return rs, at + ".weight", fmt.Sprintf("%d is outside 1..%d", h.Weight, maxWeight)
		case msg != "" && (key == "via" || key == "dev"):
			return rs, at + "." + key, msg
		case msg != "":
			return rs, key, msg
		case !h.Via.IsValid():
			return rs, at + ".via", "of several next hops each needs via"
		}
		r.Weight = uint16(max(h.Weight, 1))
		for _, x := range rs[:i] {
			if x.Via == r.Via && x.Link == r.Link {
				return rs, at, "the same next hop is above"
			}
		}
		rs[i] = r
	}
	return rs, "", ""
}

// validAdvMSS reports whether a route may have this advmss; 0 = none.
func validAdvMSS(n int) bool { return n == 0 || n >= 40 && n <= 65535 }

// route checks one item; msg says what is wrong with key.
func (rc *RouteConfig) route(cfg *module.Config) (r fib.Route, key, msg string) {
	r = fib.Route{Metric: fib.MetricDefault, Protocol: "static", Pref: "medium", Expires: clock.Never, Via: rc.Via, MTU: rc.MTU, AdvMSS: rc.AdvMSS, PrefSrc: rc.Src, NHID: rc.NHID}
	var ok bool
	if r.Prefix, ok = parsePrefix(rc.To); !ok {
		return r, "to", fmt.Sprintf("%q is not a prefix, an address or default", rc.To)
	}
	if r.Prefix.Addr().IsMulticast() {
		return r, "to", fmt.Sprintf("%s is multicast", r.Prefix)
	}
	if rc.Type != "" {
		if r.Type, ok = fib.ParseType(rc.Type); !ok || r.Type != fib.Unicast && r.Type.HasDevice() {
			return r, "type", fmt.Sprintf("%q: want unicast, blackhole, unreachable, prohibit or throw", rc.Type)
		}
	}
	if r.From, ok = parseFrom(rc.From); !ok {
		return r, "from", fmt.Sprintf("%q is not a prefix or an address", rc.From)
	}
	if rc.Metric != nil {
		r.Metric = *rc.Metric
	}
	if rc.Pref != "" {
		if r.Pref = rc.Pref; !validPref(r.Pref) {
			return r, "pref", fmt.Sprintf("%q: want low, medium or high", rc.Pref)
		}
	}
	if r.MTU != 0 && (r.MTU < 1280 || r.MTU > 65535) {
		return r, "mtu", fmt.Sprintf("%d is outside 1280..65535", r.MTU)
	}
	if !validAdvMSS(r.AdvMSS) {
		return r, "advmss", fmt.Sprintf("%d is outside 40..65535", r.AdvMSS)
	}
	if rc.NHID != 0 {
		switch {
		case rc.Dev != "" || rc.Via.IsValid() || len(rc.NextHops) > 0 || r.Type != fib.Unicast:
			return r, "nhid", "a route with nhid has no type, via, dev or nexthops of its own"
		case r.From.IsValid():
			return r, "nhid", "a route with from cannot name a nexthop object"
		}
		return r, "", ""
	}
	if !r.Type.HasDevice() {
		if rc.Dev != "" || rc.Via.IsValid() {
			return r, "type", rc.Type + " routes have neither dev nor via"
		}
		return r, "", ""
	}
	return rc.nextHop(cfg, r)
}

// nextHop finds the link of a route with a device.
func (rc *RouteConfig) nextHop(cfg *module.Config, r fib.Route) (fib.Route, string, string) {
	if rc.Via.IsValid() && (rc.Via.IsMulticast() || rc.Via.IsUnspecified() || !rc.Via.Is6() || rc.Via.Zone() != "") {
		return r, "via", fmt.Sprintf("%s is not a unicast address", rc.Via)
	}
	if rc.Dev != "" {
		for _, l := range cfg.Links {
			if l.Name == rc.Dev {
				r.Link = l.Index
				return r, "", ""
			}
		}
		return r, "dev", fmt.Sprintf("%q is not a link", rc.Dev)
	}
	switch {
	case !rc.Via.IsValid():
		return r, "to", "a route needs via, dev, or a type without either"
	case rc.Via.IsLinkLocalUnicast():
		return r, "via", fmt.Sprintf("%s is link-local: name its link with dev", rc.Via)
	}
	for _, l := range cfg.Links {
		for _, a := range l.Addresses {
			if a.Prefix.Masked().Contains(rc.Via) {
				r.Link = l.Index
				return r, "", ""
			}
		}
	}
	return r, "via", fmt.Sprintf("%s is in no link's prefix: name its link with dev", rc.Via)
}

func validPref(s string) bool { return s == "low" || s == "medium" || s == "high" }

// parsePrefix reads a prefix, an address (a /128) or default.
func parsePrefix(s string) (netip.Prefix, bool) {
	if s == "default" {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), true
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, 128), a.Is6() && !a.Is4In6() && a.Zone() == ""
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil && p.Addr().Is6() && !p.Addr().Is4In6()
}

// parseSelector reads a prefix that selects; what selects nothing (no text, all, ::/0) is the zero Prefix.
func parseSelector(s string) (netip.Prefix, bool) {
	if s == "" || s == "all" {
		return netip.Prefix{}, true
	}
	p, ok := parsePrefix(s)
	if p.Bits() == 0 {
		return netip.Prefix{}, ok
	}
	return p, ok
}

// parseFrom reads the prefix of a route's sources.
func parseFrom(s string) (netip.Prefix, bool) {
	p, ok := parseSelector(s)
	return p, ok && !p.Addr().IsMulticast()
}

// commitRoutes makes the operator's routes those of the configuration: what is the same stays
// untouched, and what was learned too.
func (m *Module) commitRoutes(now clock.Instant, want []placed, objects *nexthop.Objects) {
	keep := make(map[placed]bool, len(want))
	for _, w := range want {
		keep[w] = true
	}
	for _, t := range m.slots {
		id := uint32(t.id)
		m.removeAll(id, func(r *fib.Route) bool { return operators(r) && !keep[placed{id, *r}] })
	}
	m.commitObjects(now, objects)
	for _, w := range want {
		t := m.table(w.table)
		if slices.Contains(t.Routes(w.route.Prefix), w.route) {
			continue
		}
		// What was learned gives way: it ends some day, the configuration does not.
		m.remove(w.table, w.route.Prefix, func(r *fib.Route) bool { return r.Protocol != protoKernel && r.SameHop(&w.route) })
		if t.Append(w.route) == nil { // else it is what follows from an address
			m.came(w.table, w.route)
		}
	}
}

// operators reports whether a route is of the configuration or of a command, not of an address or the
// wire.
func operators(r *fib.Route) bool {
	return r.Protocol != protoKernel && r.Protocol != protoRA
}
