package ndpapi

import "net/netip"

// Forever is the lifetime that does not end, as iproute2 writes it.
const Forever = 4294967295

// Link is one link with its addresses, in the answer of GET /v1/addr. Links without a matching
// address are left out. The command adds what it shows of the link itself from GET /v1/link.
type Link struct {
	Deleted  bool   `json:"deleted,omitempty"` // events only: the addresses are gone
	IfIndex  int    `json:"ifindex"`
	IfName   string `json:"ifname"`
	AddrInfo []Addr `json:"addr_info"`
}

// Addr is one address of this node. As the event of topic "addr" it comes inside a [Link] with
// one entry.
type Addr struct {
	Family        string     `json:"family"` // "inet6"
	Local         netip.Addr `json:"local"`
	PrefixLen     int        `json:"prefixlen"`
	Anycast       bool       `json:"anycast,omitempty"`
	Scope         string     `json:"scope"`              // global, site, link or host
	Protocol      string     `json:"protocol,omitempty"` // kernel_ll, kernel_ra, static, ...
	Temporary     bool       `json:"temporary,omitempty"`
	NoDAD         bool       `json:"nodad,omitempty"`
	Optimistic    bool       `json:"optimistic,omitempty"`
	Home          bool       `json:"home,omitempty"`
	DADFailed     bool       `json:"dadfailed,omitempty"`
	Deprecated    bool       `json:"deprecated,omitempty"`
	Tentative     bool       `json:"tentative,omitempty"`
	Dynamic       bool       `json:"dynamic,omitempty"` // has a lifetime
	MngTmpAddr    bool       `json:"mngtmpaddr,omitempty"`
	NoPrefixRoute bool       `json:"noprefixroute,omitempty"`
	// Seconds, rounded down; [Forever] = no end.
	ValidLifeTime     uint32 `json:"valid_life_time"`
	PreferredLifeTime uint32 `json:"preferred_life_time"`
}

// AddrRequest is the body of POST /v1/addr.
type AddrRequest struct {
	Op      string `json:"op"`      // add, replace, change or del
	Address string `json:"address"` // "address/length"; without a length /128
	Dev     string `json:"dev"`
	Anycast bool   `json:"anycast,omitempty"`
	Home    bool   `json:"home,omitempty"`
	NoDAD   bool   `json:"nodad,omitempty"`
	// Seconds; nil or [Forever] = no end.
	ValidLft     *uint32 `json:"valid_lft,omitempty"`
	PreferredLft *uint32 `json:"preferred_lft,omitempty"`
}

// AddrFilter selects addresses: the query of GET /v1/addr and the body of POST /v1/addr/flush.
// Empty fields match all.
type AddrFilter struct {
	Dev   string `json:"dev,omitempty"`
	Scope string `json:"scope,omitempty"` // global, link or host
	To    string `json:"to,omitempty"`    // an address or a prefix
}
