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

// Route is what a lookup found: immutable, shared by every packet that takes it.
type Route struct {
	Type    RouteType
	Dev     int      // index of the outgoing link; 0 for types that have none
	OnLink  bool     // the destination itself is the next hop
	Gateway [16]byte // the next hop otherwise
	MTU     int      // 0 = the link's
	AdvMSS  int      // the most that TCP announces as its MSS; 0 = what fits the link
	Prefix  netip.Prefix
	PrefSrc netip.Addr
	Table   uint32
	Metric  uint32
}
