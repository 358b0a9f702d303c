package api

import "net/netip"

// CachedRoute is one entry of the destination cache, in the answer of GET /v1/route/cache: what
// `ip -6 route show cache` shows of a route exception. POST /v1/route/cache/flush empties the
// cache and answers [Flushed].
type CachedRoute struct {
	Dst     netip.Addr      `json:"dst"`
	From    netip.Addr      `json:"from,omitzero"`
	Gateway netip.Addr      `json:"gateway,omitzero"`
	Dev     string          `json:"dev,omitempty"`
	Metric  uint32          `json:"metric"`
	Flags   []string        `json:"flags"`             // never nil
	Expires *int64          `json:"expires,omitempty"` // seconds left
	Metrics []CachedMetrics `json:"metrics,omitempty"` // at most one element
}

// CachedMetrics is what an entry knows better than the route.
type CachedMetrics struct {
	MTU int `json:"mtu,omitempty"` // the path MTU (RFC 8201)
}

// Flushed is the answer of a flush.
type Flushed struct {
	Flushed int `json:"flushed"` // entries removed
}
