package ndpapi

import "net/netip"

// Groups is one link with its multicast groups, in the answer of GET /v1/maddr and, with one
// group, as the event of topic "maddr".
type Groups struct {
	Deleted bool    `json:"deleted,omitempty"` // events only: the group was left
	IfIndex int     `json:"ifindex"`
	IfName  string  `json:"ifname"`
	MAddr   []Group `json:"maddr"`
}

// Group is one multicast group joined on a link.
type Group struct {
	Family  string     `json:"family"` // "inet6"
	Address netip.Addr `json:"address"`
	Users   int        `json:"users,omitempty"` // left out for one user
}

// MAddrRequest is the body of POST /v1/maddr.
type MAddrRequest struct {
	Op      string     `json:"op"` // add or del
	Address netip.Addr `json:"address"`
	Dev     string     `json:"dev"`
}
