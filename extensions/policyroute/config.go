package policyroute

import (
	"errors"
	"fmt"
	"net/netip"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/fib"
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
	Src    netip.Addr `mapstructure:"src"`
	Pref   string     `mapstructure:"pref"`
}

// Prepare implements [module.Module].
func (m *Module) Prepare(next *module.Config) (func(clock.Instant), error) {
	s := next.Sections["routing.routes"]
	var list []RouteConfig
	if s != nil && s.Present() {
		if err := s.Decode(&list); err != nil {
			return nil, err
		}
	}
	var errs []error
	want := map[routeKey]fib.Route{}
	for i, rc := range list {
		r, key, msg := rc.route(next)
		at := fmt.Sprintf("[%d]", i)
		if msg == "" {
			if k := (routeKey{tableMain, r.Prefix, r.Metric}); want[k] != (fib.Route{}) {
				msg, key = fmt.Sprintf("%s with metric %d is a route above", r.Prefix, r.Metric), "to"
			} else {
				want[k] = r
			}
		}
		if msg != "" {
			errs = append(errs, s.Fault(at+"."+key, msg, ""))
		}
	}
	return func(clock.Instant) { m.together(func() { m.commit(want) }) }, errors.Join(errs...)
}

// route checks one item; msg says what is wrong with key.
func (rc *RouteConfig) route(cfg *module.Config) (r fib.Route, key, msg string) {
	r = fib.Route{Metric: fib.MetricDefault, Protocol: "static", Pref: "medium", Expires: clock.Never, Via: rc.Via, MTU: rc.MTU, PrefSrc: rc.Src}
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
	if rc.Table != "" && rc.Table != "main" && rc.Table != "254" {
		return r, "table", fmt.Sprintf("%q: tables other than main are not built yet", rc.Table)
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

// commit makes the operator's routes those of the configuration: what is the same stays untouched.
func (m *Module) commit(want map[routeKey]fib.Route) {
	t := m.tables[tableMain]
	for _, r := range t.DeleteFunc(func(r *fib.Route) bool {
		return r.Protocol != "kernel" && want[routeKey{tableMain, r.Prefix, r.Metric}] != *r
	}) {
		m.gone(tableMain, r)
	}
	for k, r := range want {
		same := false
		for _, x := range t.Routes(k.prefix) {
			same = same || x == r
		}
		if !same {
			if t.Append(r) == nil { // the same next hop is there only as what was just kept
				m.came(tableMain, r)
			}
		}
	}
}
