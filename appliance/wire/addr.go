package wire

import "net/netip"

// Well-known groups (RFC 4291 2.7.1, RFC 3810).
var (
	AllNodes        = netip.MustParseAddr("ff02::1")
	AllRouters      = netip.MustParseAddr("ff02::2")
	AllMLDv2Routers = netip.MustParseAddr("ff02::16")
)

// Scopes (RFC 4291 2.7, RFC 6724 3.1).
const (
	ScopeInterface = 0x1
	ScopeLink      = 0x2
	ScopeSite      = 0x5
	ScopeGlobal    = 0xe
)

// IsMulticast reports whether a is a group (ff00::/8).
func IsMulticast(a *[16]byte) bool { return a[0] == 0xff }

// IsUnspecified reports whether a is ::.
func IsUnspecified(a *[16]byte) bool { return *a == [16]byte{} }

// IsLoopback reports whether a is ::1.
func IsLoopback(a *[16]byte) bool { return *a == [16]byte{15: 1} }

// IsLinkLocal reports whether a is in fe80::/10.
func IsLinkLocal(a *[16]byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// MulticastScope returns the scope of a group.
func MulticastScope(a *[16]byte) uint8 { return a[1] & 0x0f }

// Scope returns the scope of an address in the numbers of multicast scopes (RFC 6724 3.1):
// loopback counts as link-local.
func Scope(a *[16]byte) uint8 {
	switch {
	case a[0] == 0xff:
		return MulticastScope(a)
	case IsLinkLocal(a), IsLoopback(a):
		return ScopeLink
	case a[0] == 0xfe && a[1]&0xc0 == 0xc0:
		return ScopeSite
	default:
		return ScopeGlobal
	}
}

// SolicitedNode returns the solicited-node group of an address (RFC 4291 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// MulticastMAC returns the Ethernet address of a group (RFC 2464 7).
func MulticastMAC(a *[16]byte) [6]byte {
	return [6]byte{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// EUI64 returns the interface identifier made from an Ethernet address (RFC 2464 4).
func EUI64(mac [6]byte) [8]byte {
	return [8]byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
}
