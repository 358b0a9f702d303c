package api

import "net/netip"

// PingRequest is the body of POST /v1/ping. The answer is JSON lines: one [PingEvent] each.
type PingRequest struct {
	Dst      netip.Addr `json:"dst,omitzero"`       // zoned ("fe80::1%lan0") or with Dev for link-local
	Name     string     `json:"name,omitempty"`     // in the place of Dst: the appliance resolves it
	Count    int        `json:"count,omitempty"`    // 0 = until the client goes
	Size     int        `json:"size"`               // octets of data behind the ICMPv6 header
	Interval float64    `json:"interval"`           // seconds between requests
	Timeout  float64    `json:"timeout"`            // seconds to wait for each reply
	Source   netip.Addr `json:"source,omitzero"`    // zero = RFC 6724
	Dev      string     `json:"dev,omitempty"`      // leave by this link
	HopLimit int        `json:"hoplimit,omitempty"` // 0 = the default
	// DontFragment refuses to fragment: what does not fit the path MTU is an error.
	DontFragment bool `json:"dont_fragment,omitempty"`
}

// The kinds of [PingEvent].
const (
	PingStart = "start" // first: Dst, Source and Dev are what was chosen
	PingSent  = "sent"  // a request left
	PingReply = "reply" // an Echo Reply
	PingError = "error" // an ICMPv6 error from From, or a local one when From is zero
)

// PingEvent is one thing that happened to a ping.
type PingEvent struct {
	Event    string     `json:"event"`
	Seq      int        `json:"seq,omitempty"` // from 1
	From     netip.Addr `json:"from,omitzero"`
	Dst      netip.Addr `json:"dst,omitzero"`
	Source   netip.Addr `json:"source,omitzero"`
	Dev      string     `json:"dev,omitempty"`
	Bytes    int        `json:"bytes,omitempty"` // of the ICMPv6 message
	HopLimit int        `json:"ttl,omitempty"`
	Time     float64    `json:"time,omitempty"` // round trip in milliseconds
	Dup      bool       `json:"dup,omitempty"`
	// ICMPv6 errors (RFC 4443 3); Arg is the MTU or the pointer.
	Type uint8  `json:"type,omitempty"`
	Code uint8  `json:"code,omitempty"`
	Arg  uint32 `json:"arg,omitempty"`
	// Error is a local error in the kernel's words ("Network is unreachable"). With
	// "Message too long" Arg is the path MTU.
	Error string `json:"error,omitempty"`
}

// TraceRequest is the body of POST /v1/traceroute. The answer is JSON lines: one [TraceEvent]
// for each probe, in the order of hops and probes. With Name there is one more before them.
type TraceRequest struct {
	Dst      netip.Addr `json:"dst,omitzero"`
	Name     string     `json:"name,omitempty"` // in the place of Dst: the appliance resolves it
	FirstHop int        `json:"first_hop"`      // hop limit of the first probes
	MaxHops  int        `json:"max_hops"`
	Probes   int        `json:"probes"`  // for each hop
	Timeout  float64    `json:"timeout"` // seconds to wait for each answer
	Size     int        `json:"size"`    // octets of the whole packet
	Source   netip.Addr `json:"source,omitzero"`
	Dev      string     `json:"dev,omitempty"`
}

// TraceEvent is what became of one probe.
type TraceEvent struct {
	Dst   netip.Addr `json:"dst,omitzero"`    // alone: what the name was resolved to, before the first probe
	Hop   int        `json:"hop,omitempty"`   // from 1
	Probe int        `json:"probe,omitempty"` // from 1
	From  netip.Addr `json:"from,omitzero"`   // zero = no answer in time
	Time  float64    `json:"time,omitempty"`
	// The ICMPv6 error that answered; Reached when the destination itself did.
	Type    uint8  `json:"type,omitempty"`
	Code    uint8  `json:"code,omitempty"`
	Reached bool   `json:"reached,omitempty"`
	Error   string `json:"error,omitempty"` // a local error: the trace ends
}

// CaptureFilter is the query of GET /v1/capture, which answers with a pcapng stream.
type CaptureFilter struct {
	Link    string `json:"link"`              // a name, or "any"
	Point   string `json:"point,omitempty"`   // ingress, egress or drop, several with commas; all if empty
	Snaplen string `json:"snaplen,omitempty"` // octets kept of each frame
}

// EventFilter is the query of GET /v1/events.
type EventFilter struct {
	Topics string `json:"topics,omitempty"` // separated by commas; all if empty
}
