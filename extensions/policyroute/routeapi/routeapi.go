// Package routeapi holds what the command route sends and gets: plain structs whose JSON keys and
// their order are those of iproute2 ("ip -6 -j route"), so that scripts written for it work
// unchanged.
//
// The module fills every field it knows. What iproute2 leaves out or shows only with -d or -s
// (type unicast, protocol boot, table main, scope) is stripped by the command, not by the module.
package routeapi

import "net/netip"

// Default is how the prefix ::/0 is written.
const Default = "default"

// Route is one route, in the answers of GET /v1/route and GET /v1/route/get and as the event of
// topic "route".
type Route struct {
	Deleted bool   `json:"deleted,omitempty"` // events only: the route is gone
	Type    string `json:"type,omitempty"`    // unicast, local, anycast, multicast, blackhole, unreachable, prohibit, throw
	// Dst is a prefix, [Default], or an address alone for /128 and in "route get".
	Dst string `json:"dst"`
	// From is the prefix of sources that the route is for; in "route get" the source asked for, "::" for none.
	From string `json:"from,omitempty"`
	NHID uint32 `json:"nhid,omitempty"` // of the nexthop object that the route names
	// Gateway, Dev: absent for routes with NextHops and for types that have none.
	Gateway  netip.Addr `json:"gateway,omitzero"`
	Dev      string     `json:"dev,omitempty"`
	Table    string     `json:"table,omitempty"` // main, local, or a configured name, or the number
	Protocol string     `json:"protocol,omitempty"`
	Scope    string     `json:"scope,omitempty"` // always global
	PrefSrc  netip.Addr `json:"prefsrc,omitzero"`
	Metric   uint32     `json:"metric"`
	Flags    []string   `json:"flags"`             // linkdown, dead, onlink, pervasive; never nil
	Expires  *int64     `json:"expires,omitempty"` // seconds left
	Metrics  []Metrics  `json:"metrics,omitempty"` // at most one element
	IIF      string     `json:"iif,omitempty"`     // "route get ... iif"
	Pref     string     `json:"pref,omitempty"`    // low, medium or high (RFC 4191 2.1)
	NextHops []NextHop  `json:"nexthops,omitempty"`
	Explain  *Explain   `json:"explain,omitempty"` // "route get -d"
}

// Explain is how the answer of "route get" came about.
type Explain struct {
	Rules   []Step      `json:"rules"`             // in the order in which they were asked
	FwMark  string      `json:"fwmark,omitempty"`  // that routing.marks gave
	Routes  []Candidate `json:"routes,omitempty"`  // of the prefix that answers, if there are several
	Flow    *Flow       `json:"flow,omitempty"`    // if flows are shared out
	Sources []Source    `json:"sources,omitempty"` // if the source was chosen
	// RedirectedBy is the gateway of the route that was found, if it has redirected the destination (RFC
	// 4861 8.3): the answer has the target's.
	RedirectedBy netip.Addr `json:"redirected_by,omitzero"`
}

// Candidate is one route of the prefix.
type Candidate struct {
	Gateway netip.Addr `json:"gateway,omitzero"`
	Dev     string     `json:"dev,omitempty"`
	Metric  uint32     `json:"metric"`
	Pref    string     `json:"pref"`
	Weight  int        `json:"weight"`
	NHID    uint32     `json:"nhid,omitempty"`
	Used    bool       `json:"used,omitempty"`
	// Why it is not used: link down, does not answer, metric, preference, standby; empty for those that
	// share flows with the one that is used.
	Why string `json:"why,omitempty"`
}

// Flow is what is hashed, by routing.multipath.hash.
type Flow struct {
	Hash   string     `json:"hash"` // l3, l4, inner or flowlabel
	Src    netip.Addr `json:"src"`
	Dst    netip.Addr `json:"dst"`
	Proto  uint8      `json:"ipproto,omitempty"`
	SPort  uint16     `json:"sport,omitempty"`
	DPort  uint16     `json:"dport,omitempty"`
	Bucket uint32     `json:"bucket"` // the hash's upper 31 bits, which the regions of the next hops divide; of a resilient group the bucket's index
	Pinned bool       `json:"pinned,omitempty"`
}

// Source is one address of this node.
type Source struct {
	Addr   netip.Addr `json:"addr"`
	Dev    string     `json:"dev"`
	Chosen bool       `json:"chosen,omitempty"`
	// Why it is not chosen: the rule of RFC 6724 5 by which another one is better, or "no candidate" (4).
	Why string `json:"why,omitempty"`
}

// Metrics is what a route overrides.
type Metrics struct {
	MTU    int `json:"mtu,omitempty"`
	AdvMSS int `json:"advmss,omitempty"`
}

// NextHop is one of several next hops of a route.
type NextHop struct {
	Gateway netip.Addr `json:"gateway,omitzero"`
	Dev     string     `json:"dev,omitempty"`
	Weight  int        `json:"weight"`
	Flags   []string   `json:"flags"`
}

// Request is the body of POST /v1/route.
type Request struct {
	// Op is add (refused if the same route is there), replace, append (another next hop for the
	// same destination) or del.
	Op      string     `json:"op"`
	Type    string     `json:"type,omitempty"` // unicast if empty
	Dst     string     `json:"dst"`            // a prefix or [Default]; an address alone is a /128
	From    string     `json:"from,omitempty"` // a prefix of sources; all if empty
	Via     netip.Addr `json:"via,omitzero"`
	Dev     string     `json:"dev,omitempty"`
	Metric  uint32     `json:"metric,omitempty"` // 0 = 1024 for add; any for del
	Table   string     `json:"table,omitempty"`  // a name or a number; main if empty
	Proto   string     `json:"proto,omitempty"`  // boot if empty; any for del
	MTU     int        `json:"mtu,omitempty"`    // 1280 to 65535; 0 = the link's
	AdvMSS  int        `json:"advmss,omitempty"` // 40 to 65535: the most that TCP here announces as its MSS; 0 = no limit
	Src     netip.Addr `json:"src,omitzero"`
	Pref    string     `json:"pref,omitempty"`    // low, medium (if empty) or high
	Expires *int64     `json:"expires,omitempty"` // seconds from now; nil = never
	NHID    uint32     `json:"nhid,omitempty"`    // a nexthop object, in the place of Via and Dev
	// NextHops are several gateways, in the place of Via and Dev; a weight of 0 is 1.
	NextHops []NextHop `json:"nexthops,omitempty"`
}

// Filter selects routes: the query of GET /v1/route and the body of POST /v1/route/flush. Empty
// fields match all, except Table: main.
type Filter struct {
	Table string `json:"table,omitempty"` // a name, a number or "all"
	Dev   string `json:"dev,omitempty"`
	Proto string `json:"proto,omitempty"`
	Type  string `json:"type,omitempty"`
	// Prefixes: Root selects it and everything inside it, Match everything it is inside of (and
	// itself), Exact it alone.
	Root   string `json:"root,omitempty"`
	Match  string `json:"match,omitempty"`
	Exact  string `json:"exact,omitempty"`
	Via    string `json:"via,omitempty"`
	Metric string `json:"metric,omitempty"`
	NHID   string `json:"nhid,omitempty"`
}

// Get is the query of GET /v1/route/get; numbers are decimal or 0x. Empty fields are not given.
type Get struct {
	Dst     string `json:"dst"`
	From    string `json:"from,omitempty"`
	IIF     string `json:"iif,omitempty"`
	OIF     string `json:"oif,omitempty"`
	Mark    string `json:"mark,omitempty"`
	IPProto string `json:"ipproto,omitempty"` // a number: the command translates names
	SPort   string `json:"sport,omitempty"`
	DPort   string `json:"dport,omitempty"`
	DSField string `json:"dsfield,omitempty"`
	Explain string `json:"explain,omitempty"` // "true": with the rules that were asked
}

// Flushed is the answer of POST /v1/route/flush.
type Flushed struct {
	Flushed int `json:"flushed"` // entries removed
}

// Pinned is a flow that keeps to its next hop, in the answer of GET /v1/route/pinned.
type Pinned struct {
	Dst     netip.Addr `json:"dst"`
	From    netip.Addr `json:"from,omitzero"`
	Gateway netip.Addr `json:"gateway,omitzero"`
	Dev     string     `json:"dev,omitempty"`
	Metric  uint32     `json:"metric"`
	Flags   []string   `json:"flags"`   // pinned
	Expires *int64     `json:"expires"` // seconds left, if no packet comes
}
