package routeapi

// Rule is one rule of policy routing, in the answers of GET /v1/rule and as the event of topic "rule",
// in the keys of "ip -6 -j rule".
type Rule struct {
	Deleted     bool   `json:"deleted,omitempty"` // events only: the rule is gone
	Priority    uint32 `json:"priority"`
	Not         Flag   `json:"not,omitzero"`
	Src         string `json:"src"` // an address, or "all"
	SrcLen      *int   `json:"srclen,omitempty"`
	Dst         string `json:"dst,omitempty"`
	DstLen      *int   `json:"dstlen,omitempty"`
	TOS         string `json:"tos,omitempty"`
	FwMark      string `json:"fwmark,omitempty"`
	FwMask      string `json:"fwmask,omitempty"` // absent if all bits count
	IIF         string `json:"iif,omitempty"`
	IIFDetached Flag   `json:"iif_detached,omitzero"` // there is no such link
	OIF         string `json:"oif,omitempty"`
	OIFDetached Flag   `json:"oif_detached,omitzero"`
	IPProto     string `json:"ipproto,omitempty"`
	SPort       uint16 `json:"sport,omitempty"`
	SPortStart  uint16 `json:"sport_start,omitempty"`
	SPortEnd    uint16 `json:"sport_end,omitempty"`
	DPort       uint16 `json:"dport,omitempty"`
	DPortStart  uint16 `json:"dport_start,omitempty"`
	DPortEnd    uint16 `json:"dport_end,omitempty"`
	Table       string `json:"table,omitempty"`
	SuppressLen *int   `json:"suppress_prefixlen,omitempty"`
	Goto        uint32 `json:"goto,omitempty"`
	Unresolved  Flag   `json:"unresolved,omitzero"` // no rule has that priority
	Nop         Flag   `json:"nop,omitzero"`
	Action      string `json:"action,omitempty"` // blackhole, unreachable or prohibit
	Protocol    string `json:"protocol,omitempty"`
}

// Flag is a key whose value says nothing, as iproute2 writes flags: "null" if it is set, else absent.
type Flag bool

// MarshalJSON implements [json.Marshaler].
func (Flag) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (f *Flag) UnmarshalJSON([]byte) error { *f = true; return nil }

// Protocols are the names of upper-layer protocols in rules and questions, as in iproute2.
var Protocols = map[string]uint8{
	"tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "ipv6-icmp": 58, "ospf": 89, "sctp": 132, "mobility-header": 135, "udplite": 136,
}

// RuleSpec is a rule as an operator writes it: an item of routing.rules, and what POST /v1/rule adds or
// deletes by. Empty fields select everything; for del, what is empty may be anything.
type RuleSpec struct {
	Priority *uint32 `json:"priority,omitempty" mapstructure:"priority"`
	Not      bool    `json:"not,omitempty" mapstructure:"not"`
	From     string  `json:"from,omitempty" mapstructure:"from"`
	To       string  `json:"to,omitempty" mapstructure:"to"`
	IIF      string  `json:"iif,omitempty" mapstructure:"iif"`
	OIF      string  `json:"oif,omitempty" mapstructure:"oif"`
	FwMark   string  `json:"fwmark,omitempty" mapstructure:"fwmark"`   // NUMBER or NUMBER/MASK
	DSField  string  `json:"dsfield,omitempty" mapstructure:"dsfield"` // the octet, ECN bits 0
	IPProto  string  `json:"ipproto,omitempty" mapstructure:"ipproto"` // a name or a number
	SPort    string  `json:"sport,omitempty" mapstructure:"sport"`     // NUMBER or LOW-HIGH
	DPort    string  `json:"dport,omitempty" mapstructure:"dport"`
	Lookup   string  `json:"lookup,omitempty" mapstructure:"lookup"` // a table's name or number
	Goto     uint32  `json:"goto,omitempty" mapstructure:"goto"`
	Action   string  `json:"action,omitempty" mapstructure:"action"` // goes without saying for lookup and goto
	Suppress *int    `json:"suppress_prefixlength,omitempty" mapstructure:"suppress_prefixlength"`
	Protocol string  `json:"protocol,omitempty" mapstructure:"-"`
}

// RuleRequest is the body of POST /v1/rule.
type RuleRequest struct {
	Op string `json:"op"` // add or del
	RuleSpec
}

// Step is one rule that "route get -d" has asked.
type Step struct {
	Rule     Rule   `json:"rule"`
	Conforms bool   `json:"conforms"`      // the question to the rule's selector
	Why      string `json:"why,omitempty"` // the word of the selector that it does not conform to
	Route    string `json:"route,omitempty"`
	// Refused says why the route of the rule's table is not used: no route, throw, suppressed, or source.
	Refused string `json:"refused,omitempty"`
	Used    bool   `json:"used,omitempty"` // the search has ended here
}
