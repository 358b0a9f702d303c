// Package ndpapi holds what the commands neigh, addr and maddr send and get: plain structs whose
// JSON keys and their order are those of iproute2 ("ip -6 -j neigh"), so that scripts written for
// it work unchanged.
//
// The module fills every field it knows. What iproute2 shows only with -s or -d is stripped by
// the command, not by the module.
package ndpapi

import "net/netip"

// Neigh is one neighbor, in the answer of GET /v1/neigh and as the event of topic "neigh".
type Neigh struct {
	Deleted bool       `json:"deleted,omitempty"` // events only: the entry is gone
	Dst     netip.Addr `json:"dst"`
	Dev     string     `json:"dev,omitempty"`    // never empty on the wire: commands leave out what was selected by
	LLAddr  string     `json:"lladdr,omitempty"` // "02:00:5e:10:00:01"; "" while unknown
	Router  Flag       `json:"router,omitzero"`
	Proxy   Flag       `json:"proxy,omitzero"`
	// Seconds since the entry was last used, confirmed and changed, and the solicitations sent
	// without an answer. Shown with -s; nil in events.
	Used      *int64 `json:"used,omitempty"`
	Confirmed *int64 `json:"confirmed,omitempty"`
	Updated   *int64 `json:"updated,omitempty"`
	Probes    *int   `json:"probes,omitempty"`
	// State is one NUD state in iproute2's words: INCOMPLETE, REACHABLE, STALE, DELAY, PROBE,
	// FAILED, NOARP, PERMANENT. Empty for proxy entries.
	State []string `json:"state,omitempty"`
}

// NeighRequest is the body of POST /v1/neigh.
type NeighRequest struct {
	Op     string     `json:"op"` // add, replace, change or del
	Dst    netip.Addr `json:"dst"`
	Dev    string     `json:"dev"`
	LLAddr string     `json:"lladdr,omitempty"`
	NUD    string     `json:"nud,omitempty"` // lower case: permanent (the default), reachable, stale, noarp...
	Router bool       `json:"router,omitempty"`
}

// NeighFilter selects neighbors: the query of GET /v1/neigh and the body of
// POST /v1/neigh/flush. Empty fields match all.
type NeighFilter struct {
	Dev string `json:"dev,omitempty"`
	To  string `json:"to,omitempty"`  // an address or a prefix
	NUD string `json:"nud,omitempty"` // one state in lower case, or "all"
	// Proxy other than "" selects the addresses answered for instead of neighbors. GET only.
	Proxy string `json:"proxy,omitempty"`
}

// Flushed is the answer of every flush.
type Flushed struct {
	Flushed int `json:"flushed"` // entries removed
}

// Flag is a key that iproute2 writes with the value null when it is set, and not at all
// otherwise. Use it with "omitzero".
type Flag bool

// MarshalJSON implements [encoding/json.Marshaler].
func (f Flag) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON implements [encoding/json.Unmarshaler]: the key's presence is the value.
func (f *Flag) UnmarshalJSON([]byte) error {
	*f = true
	return nil
}
