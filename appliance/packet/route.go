package packet

import "net/netip"

// RouteType says what a route does with a packet, in iproute2's words.
type RouteType uint8

// The route types.
const (
	RouteUnicast RouteType = iota
	RouteLocal
	RouteAnycast
	RouteMulticast
	RouteBlackhole
	RouteUnreachable
	RouteProhibit
	RouteThrow
)

var routeTypes = [...]string{"unicast", "local", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}

func (t RouteType) String() string { return routeTypes[t] }

// Route is what a lookup found, but for prefix and next hop: immutable, shared by every packet that takes it
// and by every prefix whose route says the same, so that of a million routes it is in the cache.
type Route struct {
	Type    RouteType
	MTU     int // 0 = the link's
	AdvMSS  int // the most that TCP announces as its MSS; 0 = what fits the link
	PrefSrc netip.Addr
	Table   uint32
	Metric  uint32
}
