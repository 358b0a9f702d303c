package wire

// ICMPv6HeaderLen is the length of type, code, checksum and the word that follows (RFC 4443 2.1).
const ICMPv6HeaderLen = 8

// ICMPv6 types.
const (
	TypeDestinationUnreachable = 1
	TypePacketTooBig           = 2
	TypeTimeExceeded           = 3
	TypeParameterProblem       = 4
	TypeEchoRequest            = 128
	TypeEchoReply              = 129
	TypeMLDQuery               = 130
	TypeMLDv1Report            = 131
	TypeMLDv1Done              = 132
	TypeRouterSolicitation     = 133
	TypeRouterAdvertisement    = 134
	TypeNeighborSolicitation   = 135
	TypeNeighborAdvertisement  = 136
	TypeRedirect               = 137
	TypeMLDv2Report            = 143
)

// Codes of Destination Unreachable (RFC 4443 3.1).
const (
	CodeNoRoute            = 0
	CodeAdminProhibited    = 1
	CodeBeyondScope        = 2
	CodeAddressUnreachable = 3
	CodePortUnreachable    = 4
	CodePolicyFailed       = 5
	CodeRejectRoute        = 6
)

// Codes of Time Exceeded (RFC 4443 3.3).
const (
	CodeHopLimit   = 0
	CodeReassembly = 1
)

// Codes of Parameter Problem (RFC 4443 3.4, RFC 7112 5).
const (
	CodeErroneousHeader         = 0
	CodeUnrecognizedNextHeader  = 1
	CodeUnrecognizedOption      = 2
	CodeFirstFragmentIncomplete = 3
)

// IsError reports whether an ICMPv6 type is an error message (RFC 4443 2.1).
func IsError(typ uint8) bool { return typ < 128 }
