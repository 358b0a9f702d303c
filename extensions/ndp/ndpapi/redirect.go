package ndpapi

import "net/netip"

// Redirect is a destination that a router has redirected (RFC 4861 8.3), in the answer of GET
// /v1/route/redirect. POST /v1/route/redirect/flush forgets them all and answers [Flushed].
type Redirect struct {
	Dst     netip.Addr `json:"dst"`
	Gateway netip.Addr `json:"gateway,omitzero"` // absent: the destination is a neighbor
	Dev     string     `json:"dev"`
	Metric  uint32     `json:"metric"`
	Flags   []string   `json:"flags"`   // redirect
	Expires int64      `json:"expires"` // seconds left
}
