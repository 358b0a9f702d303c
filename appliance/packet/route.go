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

// Route is what a lookup found, but for the next hop, which the packet has: immutable, shared by every
// packet that takes it.
type Route struct {
	Type    RouteType
	MTU     int // 0 = the link's
	AdvMSS  int // the most that TCP announces as its MSS; 0 = what fits the link
	Prefix  netip.Prefix
	PrefSrc netip.Addr
	Table   uint32
	Metric  uint32
}
