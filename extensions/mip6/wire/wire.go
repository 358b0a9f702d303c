// Package wire reads and writes what Mobile IPv6 puts into packets: the Mobility Header with its messages and
// options (RFC 6275 6.1 and 6.2, RFC 3963 4, RFC 4283, RFC 4285), the Home Address option (6.3), the Type 2
// Routing header (6.4) and the ICMPv6 messages of home agent and prefix discovery (6.5 to 6.8).
//
// What Router Advertisements carry for it (RFC 6275 7, RFC 3963 7.3) is read and written where the rest of
// them is, in extensions/ndp/ndwire.
//
// A view is made by its Parse function only, which checks what the accessors rely on: none of them panics or
// allocates, and all borrow the packet. Who finds a message wrong gets a [Fault], which says how RFC 6275 9.2
// wants it answered.
package wire

import (
	"fmt"
	"net/netip"
)

// Types of the Mobility Header (RFC 6275 6.1). All others are unknown here and answered so.
const (
	TypeBRR  = 0 // Binding Refresh Request
	TypeHoTI = 1 // Home Test Init
	TypeCoTI = 2 // Care-of Test Init
	TypeHoT  = 3 // Home Test
	TypeCoT  = 4 // Care-of Test
	TypeBU   = 5 // Binding Update
	TypeBA   = 6 // Binding Acknowledgement
	TypeBE   = 7 // Binding Error
	types    = 8
)

// fixed is where the options of a message begin, by type. A message is at least this, rounded up to units of
// eight octets.
var fixed = [types]int{TypeBRR: 8, TypeHoTI: 16, TypeCoTI: 16, TypeHoT: 24, TypeCoT: 24, TypeBU: 12, TypeBA: 12, TypeBE: 24}

// Flags of a Binding Update (RFC 6275 6.1.7, RFC 3963 4.1). The others are reserved, or of extensions that nothing here
// has: they are ignored (RFC 6275 6.1.7).
const (
	FlagAcknowledge   uint16 = 0x8000 // A
	FlagHome          uint16 = 0x4000 // H, home registration
	FlagLinkLocal     uint16 = 0x2000 // L, link-local address compatibility
	FlagKeyManagement uint16 = 0x1000 // K, key management mobility capability
	FlagMobileRouter  uint16 = 0x0400 // R
)

// Flags of a Binding Acknowledgement (RFC 6275 6.1.8, RFC 3963 4.2).
const (
	AckKeyManagement uint8 = 0x80 // K
	AckMobileRouter  uint8 = 0x40 // R
)

// LifetimeUnit is a unit of lifetimes and refresh intervals in seconds (RFC 6275 6.1.7).
const LifetimeUnit = 4

// Status is what a Binding Acknowledgement says (RFC 6275 6.1.8, RFC 3963 4.2, RFC 4285 8). From 128 on the
// update was refused.
type Status uint8

// The statuses.
const (
	Accepted                Status = 0
	AcceptedPrefixDiscovery Status = 1   // prefix discovery necessary
	Unspecified             Status = 128 // reason unspecified
	Prohibited              Status = 129 // administratively
	NoResources             Status = 130
	HomeNotSupported        Status = 131 // home registration
	NotHomeSubnet           Status = 132
	NotHomeAgent            Status = 133 // for this mobile node
	DuplicateAddress        Status = 134
	SequenceOutOfWindow     Status = 135
	ExpiredHomeNonce        Status = 136
	ExpiredCareOfNonce      Status = 137
	ExpiredNonces           Status = 138
	TypeChange              Status = 139 // of registration, disallowed
	RouterNotPermitted      Status = 140
	InvalidPrefix           Status = 141
	NotAuthorizedForPrefix  Status = 142
	ForwardingFailed        Status = 143
	IDMismatch              Status = 144 // MIPV6-ID-MISMATCH
	IDRequired              Status = 145 // MIPV6-MESG-ID-REQD
	AuthFailed              Status = 146 // MIPV6-AUTH-FAIL
	InvalidCareOf           Status = 174
)

var statuses = map[Status]string{
	Accepted: "accepted", AcceptedPrefixDiscovery: "accepted but prefix discovery necessary", Unspecified: "reason unspecified",
	Prohibited: "administratively prohibited", NoResources: "insufficient resources", HomeNotSupported: "home registration not supported",
	NotHomeSubnet: "not home subnet", NotHomeAgent: "not home agent for this mobile node",
	DuplicateAddress: "duplicate address detection failed", SequenceOutOfWindow: "sequence number out of window",
	ExpiredHomeNonce: "expired home nonce index", ExpiredCareOfNonce: "expired care-of nonce index", ExpiredNonces: "expired nonces",
	TypeChange: "registration type change disallowed", RouterNotPermitted: "mobile router operation not permitted",
	InvalidPrefix: "invalid prefix", NotAuthorizedForPrefix: "not authorized for prefix", ForwardingFailed: "forwarding setup failed",
	IDMismatch: "message identifier mismatch", IDRequired: "message identifier required", AuthFailed: "authentication failed",
	InvalidCareOf: "invalid care-of address",
}

// OK reports whether the update was accepted.
func (s Status) OK() bool { return s < 128 }

// String returns the words of the registry.
func (s Status) String() string {
	if t, ok := statuses[s]; ok {
		return t
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Statuses of a Binding Error (RFC 6275 6.1.9).
const (
	UnknownBinding uint8 = 1 // for the Home Address option
	UnknownType    uint8 = 2 // of Mobility Header
)

// Answer is what RFC 6275 9.2 wants done about a message that is discarded.
type Answer uint8

// The answers. A Parameter Problem has code 0 and goes to the packet's source without looking at bindings; a
// Binding Error has status [UnknownType] and goes there too if that is unicast (9.3.3).
const (
	Silence Answer = iota
	ParameterProblem
	BindingError
)

// Reason is why a packet is discarded. The zero Reason is none.
type Reason uint8

// The reasons.
const (
	Fine             Reason = iota
	Truncated               // runs over the end of the packet
	BadChecksum             // RFC 6275 9.2
	UnrecognizedType        // MH Type, 9.2
	Piggybacked             // Payload Proto is not 59, 9.2
	ShortHeader             // Header Len below what the type has, 9.2
	OptionOverrun           // an option runs over the message
	OptionMisaligned        // RFC 6275 6.2.1
	OptionLength            // not the one its type has
	AuthNotLast             // something behind what authenticates the message, 6.2.7, RFC 4285 5
	HomeAddressBad          // option of another length or place, or a second one, 6.3
	HomeNotRoutable         // the home address is not unicast routable, 9.3.1
	RoutingHeaderBad        // a Type 2 Routing header of other lengths, 6.4.1
	NotControl              // an ICMPv6 type that is none of 6.5 to 6.8
	BadCode                 // an ICMPv6 code other than 0, 6.5 to 6.8
	reasons
)

var reasonNames = [reasons]string{
	"fine", "truncated", "bad checksum", "unrecognized MH type", "payload protocol is not 59", "header length too small",
	"option past the end", "misaligned option", "bad option length", "option behind the authentication data", "bad home address option",
	"home address is not unicast routable", "bad type 2 routing header", "no message of Mobile IPv6", "code is not 0",
}

// String returns a few words.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Fault is why a packet is discarded. The zero Fault is none.
type Fault struct {
	Reason  Reason
	Pointer int // the octet at fault, from the start of the packet
}

// OK reports whether nothing is wrong.
func (f Fault) OK() bool { return f.Reason == Fine }

// Answer returns how the sender is told.
func (f Fault) Answer() Answer {
	switch f.Reason {
	case UnrecognizedType:
		return BindingError
	case Piggybacked, ShortHeader:
		return ParameterProblem
	}
	return Silence
}

// Routable reports whether a is a unicast routable address (RFC 6275 3.1): one that can be the home address
// or the care-of address of a binding.
func Routable(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}
