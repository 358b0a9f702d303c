package bcache

import "leveret/extensions/mip6/wire"

// Reason is why a Binding Update was refused, and where that is written. The zero Reason is none: it was
// accepted, or waits for Duplicate Address Detection.
type Reason uint8

// The reasons without a status: there is no answer.
const (
	None             Reason = iota
	BadSource               // the source is not unicast
	BadHome                 // the home address is not unicast routable
	BadCareOf               // the care-of address is not
	Circular                // the care-of address is another node's home address
	NoNonceIndices          // an update to a correspondent node without
	NoAuthorization         // likewise without Binding Authorization Data
	BadAuthenticator        // it does not fit
	WithNonceIndices        // a home registration with
	Unprotected             // a home registration that no SA and no key of that home address protects
	NoHomeOption            // a registration away from home without Home Address option
	// The reasons with a status.
	Expired       // nonces: 136, 137, 138
	OldSequence   // 135
	OtherType     // 139
	NoRoom        // 130
	Denied        // 129
	NoAgent       // 131
	NotOnLink     // 132
	NotRegistered // 133
	Duplicate     // 134
	NoRouter      // 140
	BadNetwork    // 141
	OtherNetwork  // 142
	NoNetwork     // 143
	BadKey        // 146
	NoTimestamp   // 145
	BadTimestamp  // 144
	reasons
)

var reasonTexts = [reasons]struct {
	text, section string
	status        wire.Status
}{
	None:             {"accepted", "RFC 6275 9.5.2", wire.Accepted},
	BadSource:        {"source is not unicast", "RFC 6275 9.5.4", 0},
	BadHome:          {"home address is not unicast routable", "RFC 6275 9.5.1", 0},
	BadCareOf:        {"care-of address is not unicast routable", "RFC 6275 6.1.7", 0},
	Circular:         {"care-of address is the home address of another node", "RFC 6275 9.5.1", 0},
	NoNonceIndices:   {"no nonce indices", "RFC 6275 9.5.1", 0},
	NoAuthorization:  {"no authorization data", "RFC 6275 9.5.1", 0},
	BadAuthenticator: {"wrong authenticator", "RFC 6275 9.5.1", 0},
	WithNonceIndices: {"home registration with nonce indices", "RFC 6275 9.5.1", 0},
	Unprotected:      {"home registration that nothing protects", "RFC 6275 5.1", 0},
	NoHomeOption:     {"no home address option", "RFC 6275 10.3.1", 0},
	Expired:          {"nonce index is not known", "RFC 6275 9.5.1", wire.ExpiredNonces},
	OldSequence:      {"sequence number is not newer", "RFC 6275 9.5.1", wire.SequenceOutOfWindow},
	OtherType:        {"registration of another type", "RFC 6275 9.5.1", wire.TypeChange},
	NoRoom:           {"no room in the cache", "RFC 6275 9.5.2", wire.NoResources},
	Denied:           {"denied by policy", "RFC 6275 10.3.1", wire.Prohibited},
	NoAgent:          {"not a home agent", "RFC 6275 10.3.1", wire.HomeNotSupported},
	NotOnLink:        {"home address is not on a home link", "RFC 6275 10.3.1", wire.NotHomeSubnet},
	NotRegistered:    {"no home registration to delete", "RFC 6275 10.3.2", wire.NotHomeAgent},
	Duplicate:        {"home address is in use", "RFC 6275 10.3.1", wire.DuplicateAddress},
	NoRouter:         {"mobile router is not permitted", "RFC 3963 6.2", wire.RouterNotPermitted},
	BadNetwork:       {"mobile network prefix is not one, or another router's", "RFC 3963 6.2", wire.InvalidPrefix},
	OtherNetwork:     {"mobile network prefix is not that router's", "RFC 3963 6.2", wire.NotAuthorizedForPrefix},
	NoNetwork:        {"no mobile network is known for the router", "RFC 3963 6.2", wire.ForwardingFailed},
	BadKey:           {"wrong authentication option", "RFC 4285 5.1.1", wire.AuthFailed},
	NoTimestamp:      {"no timestamp", "RFC 4285 6", wire.IDRequired},
	BadTimestamp:     {"timestamp is too far away or old", "RFC 4285 6", wire.IDMismatch},
}

// String returns a few words.
func (r Reason) String() string { return reasonTexts[r].text }

// Section returns where it is written.
func (r Reason) Section() string { return reasonTexts[r].section }

// Silent reports whether such an update is discarded without an answer.
func (r Reason) Silent() bool { return r != None && reasonTexts[r].status == 0 }
