package routeapi

import "net/netip"

// Object is a nexthop object, in the answers of GET /v1/nexthop and as the event of topic "nexthop", in
// the keys of "ip -j nexthop".
type Object struct {
	Deleted   bool       `json:"deleted,omitempty"` // events only: the object is gone
	ID        uint32     `json:"id"`
	Group     []Member   `json:"group,omitempty"`
	Type      string     `json:"type,omitempty"` // resilient, or absent
	Args      *GroupArgs `json:"resilient_args,omitempty"`
	Gateway   netip.Addr `json:"gateway,omitzero"`
	Dev       string     `json:"dev,omitempty"`
	Scope     string     `json:"scope,omitempty"` // link, or global for what has no link
	Blackhole Flag       `json:"blackhole,omitzero"`
	Protocol  string     `json:"protocol,omitempty"`
	Flags     []string   `json:"flags"` // linkdown; never nil
}

// Member is a next hop of a group.
type Member struct {
	ID     uint32 `json:"id" mapstructure:"id"`
	Weight int    `json:"weight,omitempty" mapstructure:"weight"` // 1 to 256; absent = 1
}

// GroupArgs are the parameters of a resilient group, times in seconds.
type GroupArgs struct {
	Buckets         int     `json:"buckets"`
	IdleTimer       float64 `json:"idle_timer"`
	UnbalancedTimer float64 `json:"unbalanced_timer"` // 0 = flows in use are never moved
	UnbalancedTime  float64 `json:"unbalanced_time"`  // for how long some member has had less than its share
}

// ObjectSpec is a nexthop object as an operator writes it: an item of routing.nexthops, and what POST
// /v1/nexthop adds.
type ObjectSpec struct {
	ID        uint32     `json:"id,omitempty" mapstructure:"id"` // 0 in add: the least that is free
	Via       netip.Addr `json:"via,omitzero" mapstructure:"via"`
	Dev       string     `json:"dev,omitempty" mapstructure:"dev"`
	Blackhole bool       `json:"blackhole,omitempty" mapstructure:"blackhole"`
	Group     []Member   `json:"group,omitempty" mapstructure:"group"`
	Type      string     `json:"type,omitempty" mapstructure:"type"` // of a group: mpath (if empty) or resilient
	Buckets   *int       `json:"buckets,omitempty" mapstructure:"buckets"`
	// In seconds; absent is 120 and 0.
	IdleTimer       *int   `json:"idle_timer,omitempty" mapstructure:"idle_timer"`
	UnbalancedTimer *int   `json:"unbalanced_timer,omitempty" mapstructure:"unbalanced_timer"`
	Protocol        string `json:"protocol,omitempty" mapstructure:"-"`
}

// ObjectRequest is the body of POST /v1/nexthop: add (refused if the object is there), replace or del.
type ObjectRequest struct {
	Op string `json:"op"`
	ObjectSpec
}

// ObjectFilter selects nexthop objects: the query of GET /v1/nexthop and the body of POST
// /v1/nexthop/flush. Empty fields match all.
type ObjectFilter struct {
	ID     string `json:"id,omitempty"`
	Dev    string `json:"dev,omitempty"`
	Proto  string `json:"proto,omitempty"`
	Groups string `json:"groups,omitempty"` // "true": groups only
}

// Bucket is one bucket of a resilient group, in the answer of GET /v1/nexthop/bucket, in the keys of
// "ip -j nexthop bucket".
type Bucket struct {
	ID     uint32      `json:"id"` // of the group
	Bucket BucketState `json:"bucket"`
	Flags  []string    `json:"flags"`
}

// BucketState is whom a bucket belongs to.
type BucketState struct {
	Index    int     `json:"index"`
	IdleTime float64 `json:"idle_time"` // seconds since a packet used it
	NHID     uint32  `json:"nhid"`
}

// BucketFilter selects buckets: the query of GET /v1/nexthop/bucket. Empty fields match all.
type BucketFilter struct {
	ID    string `json:"id,omitempty"` // of the group
	Index string `json:"index,omitempty"`
	NHID  string `json:"nhid,omitempty"`
	Dev   string `json:"dev,omitempty"`
}
