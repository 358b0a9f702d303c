// Package routers is what a host has learned from the routers of one link (RFC 4861 5.1, 6.3.4, RFC
// 4191 3.1): the Default Router List and more-specific routes, on-link prefixes, and the parameters and
// resolvers that came with them. It is pure.
//
// Every list is bounded. A router that finds the list full takes the place of one that is known to be
// unreachable, otherwise it is refused: whoever floods the link with advertisements does not displace
// routers that work.
package routers

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

// The bounds, for one link.
const (
	maxRouters  = 16
	maxRoutes   = 128 // of all routers together
	maxPrefixes = 64  // on-link, and advertised by one router
	maxServers  = 8   // RFC 8106 5.3.1 wants three at least
	maxDomains  = 16
	maxPREF64   = 16
)

// Vars say what is taken from advertisements.
type Vars struct {
	DefaultRouter        bool // accept_default_router
	MinLength, MaxLength int  // of prefixes in Route Information options; MaxLength < MinLength = none
}

// router is one that has advertised itself. It is kept as long as anything it said holds.
type router struct {
	addr  netip.Addr
	until clock.Instant // as a default router; now or before = it is none
	pref  ndwire.Preference
	// lost: it does not answer, since then; 0 = it does, or nobody has tried.
	lost    clock.Instant
	sources []timed // prefixes it has advertised (RFC 8028 3.1)
}

// timed is a prefix with its end.
type timed struct {
	prefix netip.Prefix
	until  clock.Instant
}

// route is a more-specific route (RFC 4191 3.1).
type route struct {
	prefix netip.Prefix
	router netip.Addr
	pref   ndwire.Preference
	until  clock.Instant
}

// Params are the variables of RFC 4861 6.3.2 that routers set. Zero = none did.
type Params struct {
	MTU           uint32
	CurHopLimit   uint8
	ReachableTime time.Duration
	RetransTimer  time.Duration
}

// Table is what one link has taught. One goroutine owns it.
type Table struct {
	vars    Vars
	routers []*router // in the order they were first heard of
	routes  []route
	onLink  []timed
	params  Params
	dns     resolvers
	refused uint64
}

// New returns an empty table.
func New(v Vars) *Table { return &Table{vars: v} }

// SetVars puts other variables in force; what they do not take is forgotten.
func (t *Table) SetVars(v Vars) {
	t.vars = v
	t.routes = slices.DeleteFunc(t.routes, func(r route) bool { return !t.takes(r.prefix) })
	if !v.DefaultRouter {
		for _, r := range t.routers {
			r.until = 0
		}
	}
}

func (t *Table) takes(p netip.Prefix) bool {
	return p.Bits() >= t.vars.MinLength && p.Bits() <= t.vars.MaxLength && !p.Addr().IsLinkLocalUnicast() && !p.Addr().IsMulticast()
}

// end returns the end of a lifetime; 0 for one that is to be forgotten at once.
func end(now clock.Instant, d time.Duration) clock.Instant {
	if d == 0 {
		return 0
	}
	return until(now, d)
}

// until returns the end of a lifetime that begins now.
func until(now clock.Instant, d time.Duration) clock.Instant {
	if d == ndwire.Infinite {
		return clock.Never
	}
	return now.Add(d)
}

// RA takes in a valid Router Advertisement (RFC 4861 6.3.4). What it says of addresses is not looked at
// here. It borrows ra.
func (t *Table) RA(now clock.Instant, ra *ndwire.RA) {
	t.Tick(now)
	if r := t.router(ra.Src, ra); r != nil {
		if t.vars.DefaultRouter {
			r.until, r.pref = end(now, ra.RouterLifetime), ra.Preference
		}
		for i := range ra.Prefixes {
			if p := &ra.Prefixes[i]; !p.Prefix.Addr().IsLinkLocalUnicast() {
				r.sources = put(r.sources, timed{p.Prefix, until(now, p.Valid)}, p.Valid == 0, &t.refused)
			}
		}
		for i := range ra.Routes {
			t.route(now, r, &ra.Routes[i])
		}
	}
	for i := range ra.Prefixes {
		// Without the L flag the option says nothing about on or off the link; the link-local prefix is
		// not for it to say (6.3.4).
		if p := &ra.Prefixes[i]; p.OnLink && !p.Prefix.Addr().IsLinkLocalUnicast() {
			t.onLink = put(t.onLink, timed{p.Prefix, until(now, p.Valid)}, p.Valid == 0, &t.refused)
		}
	}
	// Zero is unspecified: what another advertisement said stays (6.3.4).
	if ra.CurHopLimit != 0 {
		t.params.CurHopLimit = ra.CurHopLimit
	}
	if ra.ReachableTime != 0 && ra.ReachableTime <= time.Hour { // 6.2.1: at most an hour
		t.params.ReachableTime = ra.ReachableTime
	}
	if ra.RetransTimer != 0 {
		t.params.RetransTimer = ra.RetransTimer
	}
	if ra.MTU >= minMTU { // smaller is none (RFC 8200 5); larger than the link's is for the caller to cut
		t.params.MTU = ra.MTU
	}
	t.dns.ra(now, ra)
	t.prune(now)
}

const minMTU = 1280

// router returns the router of an advertisement, new or not; nil when it says nothing that would be kept
// or there is no room for it.
func (t *Table) router(a netip.Addr, ra *ndwire.RA) *router {
	if r := t.find(a); r != nil {
		return r
	}
	if (ra.RouterLifetime == 0 || !t.vars.DefaultRouter) && len(ra.Prefixes) == 0 && len(ra.Routes) == 0 {
		return nil
	}
	if len(t.routers) >= maxRouters {
		i := slices.IndexFunc(t.routers, func(r *router) bool { return r.lost != 0 })
		if i < 0 {
			t.refused++
			return nil
		}
		t.Gone(t.routers[i].addr)
	}
	r := &router{addr: a}
	t.routers = append(t.routers, r)
	return r
}

func (t *Table) find(a netip.Addr) *router {
	for _, r := range t.routers {
		if r.addr == a {
			return r
		}
	}
	return nil
}

// route takes in a Route Information option (RFC 4191 3.1).
func (t *Table) route(now clock.Instant, r *router, ri *ndwire.RouteInfo) {
	if ri.Prefix.Bits() == 0 { // overrides what the header says
		if t.vars.DefaultRouter && t.vars.MinLength == 0 {
			r.until, r.pref = end(now, ri.Lifetime), ri.Preference
		}
		return
	}
	if !t.takes(ri.Prefix) {
		return
	}
	i := slices.IndexFunc(t.routes, func(x route) bool { return x.prefix == ri.Prefix && x.router == r.addr })
	x := route{ri.Prefix, r.addr, ri.Preference, until(now, ri.Lifetime)}
	switch {
	case ri.Lifetime == 0 && i >= 0:
		t.routes = slices.Delete(t.routes, i, i+1)
	case ri.Lifetime == 0:
	case i >= 0:
		t.routes[i] = x
	case len(t.routes) >= maxRoutes:
		t.refused++
	default:
		t.routes = append(t.routes, x)
	}
}

// put adds, refreshes or, with gone, removes a prefix.
func put(list []timed, p timed, gone bool, refused *uint64) []timed {
	i := slices.IndexFunc(list, func(x timed) bool { return x.prefix == p.prefix })
	switch {
	case gone && i >= 0:
		return slices.Delete(list, i, i+1)
	case gone:
		return list
	case i >= 0:
		list[i] = p
		return list
	case len(list) >= maxPrefixes:
		*refused++
		return list
	}
	return append(list, p)
}

// Gone forgets a router that is none any more (RFC 4861 7.2.5): its default route and all its routes.
func (t *Table) Gone(a netip.Addr) {
	t.routers = slices.DeleteFunc(t.routers, func(r *router) bool { return r.addr == a })
	t.routes = slices.DeleteFunc(t.routes, func(r route) bool { return r.router == a })
}

// Flush forgets everything: the link may be another one.
func (t *Table) Flush() { *t = Table{vars: t.vars, refused: t.refused} }

// Reachable notes what Neighbor Unreachability Detection says about a router, and reports whether that
// is news. Neighbors that are no routers are passed over.
func (t *Table) Reachable(now clock.Instant, a netip.Addr, ok bool) bool {
	r := t.find(a)
	if r == nil || ok == (r.lost == 0) {
		return false
	}
	if ok {
		r.lost = 0
	} else {
		r.lost = max(now, 1)
	}
	return true
}

// Known reports whether an address is a router's.
func (t *Table) Known(a netip.Addr) bool { return t.find(a) != nil }

// Deadline returns when Tick is due, or clock.Never.
func (t *Table) Deadline() clock.Instant {
	d := t.dns.deadline()
	for _, r := range t.routers {
		if r.until != 0 {
			d = clock.Earliest(d, r.until)
		}
		for _, p := range r.sources {
			d = clock.Earliest(d, p.until)
		}
	}
	for _, r := range t.routes {
		d = clock.Earliest(d, r.until)
	}
	for _, p := range t.onLink {
		d = clock.Earliest(d, p.until)
	}
	return d
}

// Tick forgets what has ended, and reports whether anything has.
func (t *Table) Tick(now clock.Instant) bool {
	if now < t.Deadline() {
		return false
	}
	over := func(p timed) bool { return p.until <= now }
	for _, r := range t.routers {
		if r.until <= now {
			r.until = 0
		}
		r.sources = slices.DeleteFunc(r.sources, over)
	}
	t.routes = slices.DeleteFunc(t.routes, func(r route) bool { return r.until <= now })
	t.onLink = slices.DeleteFunc(t.onLink, over)
	t.dns.tick(now)
	t.prune(now)
	return true
}

// prune forgets the routers of which nothing holds any more.
func (t *Table) prune(now clock.Instant) {
	t.routers = slices.DeleteFunc(t.routers, func(r *router) bool {
		return r.until <= now && len(r.sources) == 0 &&
			!slices.ContainsFunc(t.routes, func(x route) bool { return x.router == r.addr })
	})
}

// Params returns the parameters that routers have set.
func (t *Table) Params() Params { return t.params }

// Refused counts what found its list full.
func (t *Table) Refused() uint64 { return t.refused }

// Prefix is an on-link prefix.
type Prefix struct {
	Prefix netip.Prefix
	Until  clock.Instant // clock.Never = without end
}

// OnLink returns the on-link prefixes (RFC 4861 5.1, the Prefix List).
func (t *Table) OnLink() []Prefix {
	out := make([]Prefix, len(t.onLink))
	for i, p := range t.onLink {
		out[i] = Prefix{p.prefix, p.until}
	}
	return out
}
