package module

import (
	"cmp"
	"net/netip"

	"leveret/appliance/clock"
)

// LearnedRoute is a route that the wire taught a module: a default router, a Route Information
// option, an on-link prefix. The module that owns routes puts it into table main.
type LearnedRoute struct {
	Prefix   netip.Prefix
	Link     int
	Via      netip.Addr // the zero Addr = on-link
	Metric   uint32
	Pref     string // low, medium or high (RFC 4191 2.1)
	Protocol string // ra or kernel
	Expires  clock.Instant
	// Standby: listed, but not used now, because a router that is to be preferred does the work
	// (RFC 4191 3.2). When all routes of a prefix are, a shorter prefix is used.
	Standby bool
	// Sources are the prefixes the router advertised: of several routers, packets of this node
	// with such a source go to that one, on standby or not (RFC 8028 3.2). None when the router
	// does not answer.
	Sources []netip.Prefix
}

// Redirect is what a router said about one destination: packets to Dst that a route, of whatever table,
// gives to the router By go to its neighbor Target instead (RFC 4861 8.3). Target is Dst when that is a
// neighbor itself.
type Redirect struct {
	Link    int
	Dst, By netip.Addr
	Target  netip.Addr
}

// Resolvers are what routers said about the resolution of names (RFC 8106). The zero value: nothing.
type Resolvers struct {
	Servers []netip.Addr // recursive DNS servers, the preferred first; link-local ones have their link's name as zone
	Domains []string     // the search list, the first first
}

// Hop is a neighbor that packets are given to.
type Hop struct {
	Link int
	Addr netip.Addr
}

// Compare orders hops by link, then address.
func (h Hop) Compare(o Hop) int { return cmp.Or(cmp.Compare(h.Link, o.Link), h.Addr.Compare(o.Addr)) }

// GatewayObserver is the module that knows neighbors. Called on its loop with all the gateways of
// configured routes that there are: whether they answer is wanted.
type GatewayObserver interface {
	GatewaysChanged(now clock.Instant, gateways []Hop)
}

// SilenceObserver is the module that chooses among gateways. Called on its loop with all the gateways
// that are known not to answer; about the others nothing is known, or they do.
type SilenceObserver interface {
	GatewaysSilent(now clock.Instant, silent []Hop)
}

// RouteObserver is the module that owns routes. Called on its loop with all the learned routes
// that there are.
type RouteObserver interface {
	RoutesLearned(now clock.Instant, routes []LearnedRoute)
}

// RedirectObserver is the module that owns routes. Called on its loop with all the redirects that there
// are, one at most for a destination and a router of a link.
type RedirectObserver interface {
	RedirectsLearned(now clock.Instant, redirects []Redirect)
}

// LinkParams is what a router told about a link (RFC 4861 6.3.4). Zero = it said nothing.
type LinkParams struct {
	MTU      int
	HopLimit int
}
