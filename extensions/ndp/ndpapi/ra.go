package ndpapi

import "net/netip"

// RA is Router Discovery on one link: what this node sends there as a router and what it has learned
// there as a host. The answer of GET /v1/ra is a list of them, by index.
type RA struct {
	IfIndex int    `json:"ifindex"`
	IfName  string `json:"ifname"`
	// Sent is set on an advertising interface.
	Sent *SentRA `json:"sent,omitempty"`
	// Learned is set on a link that accepts advertisements.
	Learned *LearnedRA `json:"learned,omitempty"`
}

// SentRA is what an advertisement sent now would say. Lifetimes are seconds, [Forever] = no end;
// times are milliseconds.
type SentRA struct {
	CurHopLimit    int          `json:"cur_hop_limit"`
	Managed        bool         `json:"managed"`
	Other          bool         `json:"other"`
	HomeAgent      bool         `json:"home_agent,omitempty"`
	Preference     string       `json:"preference"` // low, medium or high
	RouterLifetime uint32       `json:"router_lifetime"`
	ReachableTime  int64        `json:"reachable_time_ms"`
	RetransTimer   int64        `json:"retrans_timer_ms"`
	MTU            uint32       `json:"mtu,omitempty"`
	SourceLLAddr   string       `json:"source_lladdr,omitempty"`
	Prefixes       []RAPrefix   `json:"prefixes,omitempty"`
	Routes         []RARoute    `json:"routes,omitempty"`
	RDNSS          []RADNS      `json:"rdnss,omitempty"`
	DNSSL          []RADomain   `json:"dnssl,omitempty"`
	PREF64         []RAPREF64   `json:"pref64,omitempty"`
	CaptivePortal  string       `json:"captive_portal,omitempty"`
	AdvInterval    int64        `json:"adv_interval_ms,omitempty"`
	HomeAgentInfo  *RAHomeAgent `json:"home_agent_info,omitempty"`
	NextIn         *int64       `json:"next_in_ms,omitempty"` // until the next one that nobody asked for; nil = none is due
}

// LearnedRA is what a host has learned on a link.
type LearnedRA struct {
	// Solicitations sent since the link came up or was told to ask again; Soliciting says that more
	// will follow.
	Solicitations int        `json:"solicitations"`
	Soliciting    bool       `json:"soliciting,omitempty"`
	Routers       []Router   `json:"routers,omitempty"` // the order they are chosen in
	Prefixes      []RAPrefix `json:"prefixes,omitempty"`
	Routes        []RARoute  `json:"routes,omitempty"`
	RDNSS         []RADNS    `json:"rdnss,omitempty"`
	DNSSL         []RADomain `json:"dnssl,omitempty"`
	PREF64        []RAPREF64 `json:"pref64,omitempty"`
	CaptivePortal string     `json:"captive_portal,omitempty"`
	// 0 = no router said.
	MTU           int   `json:"mtu,omitempty"`
	CurHopLimit   int   `json:"cur_hop_limit,omitempty"`
	ReachableTime int64 `json:"reachable_time_ms,omitempty"`
	RetransTimer  int64 `json:"retrans_timer_ms,omitempty"`
	// Refused counts what found its table full.
	Refused uint64 `json:"refused,omitempty"`
}

// Router is a router that has advertised itself on a link.
type Router struct {
	Addr       netip.Addr `json:"addr"`
	LLAddr     string     `json:"lladdr,omitempty"`
	Preference string     `json:"preference"`
	Lifetime   uint32     `json:"lifetime"` // seconds that are left as a default router; 0 = is none
	State      string     `json:"state"`    // of its neighbor entry; NONE = there is none
	Used       bool       `json:"used"`     // packets without a better route go there now
	Why        string     `json:"why"`      // it is used, or is not
}

// RAPrefix is one Prefix Information option, or what is left of it.
type RAPrefix struct {
	Prefix       netip.Prefix `json:"prefix"`
	OnLink       bool         `json:"on_link"`
	Autonomous   bool         `json:"autonomous"`
	RouterAddr   netip.Addr   `json:"router_addr,omitzero"`
	ValidLft     uint32       `json:"valid_lft"`
	PreferredLft uint32       `json:"preferred_lft"`
	Router       netip.Addr   `json:"router,omitzero"` // learned: who says so
}

// RARoute is one Route Information option.
type RARoute struct {
	Prefix     netip.Prefix `json:"prefix"`
	Preference string       `json:"preference"`
	Lifetime   uint32       `json:"lifetime"`
	Router     netip.Addr   `json:"router,omitzero"`
	Used       bool         `json:"used,omitempty"` // learned
	Why        string       `json:"why,omitempty"`  // learned
}

// RADNS is a recursive DNS server.
type RADNS struct {
	Server   netip.Addr `json:"server"`
	Lifetime uint32     `json:"lifetime"`
	Router   netip.Addr `json:"router,omitzero"`
}

// RADomain is a DNS search domain.
type RADomain struct {
	Domain   string     `json:"domain"`
	Lifetime uint32     `json:"lifetime"`
	Router   netip.Addr `json:"router,omitzero"`
}

// RAPREF64 is the prefix of a NAT64.
type RAPREF64 struct {
	Prefix   netip.Prefix `json:"prefix"`
	Lifetime uint32       `json:"lifetime"`
	Router   netip.Addr   `json:"router,omitzero"`
}

// RAHomeAgent is a Home Agent Information option.
type RAHomeAgent struct {
	Preference   uint16 `json:"preference"`
	Lifetime     uint32 `json:"lifetime"`
	MobileRouter bool   `json:"mobile_router,omitempty"`
}

// RARequest is the body of POST /v1/ra/solicit and POST /v1/ra/flush; "" is every link that accepts
// advertisements.
type RARequest struct {
	Dev string `json:"dev,omitempty"`
}

// RAResult is the answer: on how many links it was done.
type RAResult struct {
	Links int `json:"links"`
}

// ProxyRequest is the body of POST /v1/neigh/proxy: an address for which this node answers on a link.
// Such entries show in GET /v1/neigh with [Neigh].Proxy and without a state.
type ProxyRequest struct {
	Op     string     `json:"op"` // add, replace or del
	Dst    netip.Addr `json:"dst"`
	Dev    string     `json:"dev"`
	Router bool       `json:"router,omitempty"`
}

// NDMessage is one message of Neighbor Discovery, the event of topic "ndp".
type NDMessage struct {
	Dev  string     `json:"dev"`
	Dir  string     `json:"dir"`  // rx or tx
	Type string     `json:"type"` // rs, ra, ns, na or redirect
	Src  netip.Addr `json:"src"`
	Dst  netip.Addr `json:"dst"`
	// What it is about: NS, NA, Redirect.
	Target      netip.Addr `json:"target,omitzero"`
	Destination netip.Addr `json:"destination,omitzero"` // Redirect
	LLAddr      string     `json:"lladdr,omitempty"`     // the source or target link-layer address it carries
	Flags       string     `json:"flags,omitempty"`      // NA: RSO; RA: MOH
	// Notes: what is wrong with it, such as an RA that contradicts ours (RFC 4861 6.2.7).
	Notes []string `json:"notes,omitempty"`
}
