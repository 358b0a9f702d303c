// Package mipapi holds what the commands about Mobile IPv6 get over the control socket. Words are those of UMIP.
package mipapi

import "net/netip"

// Topic is where bindings that come, change or go, and updates that are refused, are published.
const Topic = "mip"

// Binding is an entry of the binding cache, in the answer of GET /v1/mip/bc.
type Binding struct {
	HoA      netip.Addr `json:"hoa"`
	Local    netip.Addr `json:"local"` // the own address
	CoA      netip.Addr `json:"coa,omitzero"`
	Status   string     `json:"status"` // registered, or ended: its sequence number is remembered
	Flags    []string   `json:"flags"`  // of the last update: ack, llocal, keymgm, mobrouter
	Lifetime int        `json:"lifetime"`
	// Expires is how many seconds are left of the binding, or of the memory of it.
	Expires   int64  `json:"expires"`
	Sequence  uint16 `json:"seq"`
	HomeIndex uint16 `json:"home_nonce_index"`
	CoAIndex  uint16 `json:"coa_nonce_index"`
	Packets   uint64 `json:"packets"` // sent by it
}

// Event is an event of [Topic].
type Event struct {
	Event string `json:"event"` // added, updated, deleted, expired, evicted, unreachable, flushed, refused
	// Binding is what it is about. Of refused updates it has addresses and sequence number only.
	Binding
	Code    int    `json:"code,omitempty"` // of a Binding Acknowledgement that refuses
	Reason  string `json:"reason,omitempty"`
	Section string `json:"section,omitempty"` // where that is written
}

// Filter selects bindings, in GET /v1/mip/bc and POST /v1/mip/bc/flush; the zero Filter selects all.
type Filter struct {
	HoA   string `json:"hoa,omitempty"`
	Local string `json:"local,omitempty"`
}

// Flushed is the answer of POST /v1/mip/bc/flush.
type Flushed struct {
	Flushed int `json:"flushed"` // bindings ended
}

// Nonce is a nonce that is known, in the answer of GET /v1/mip/nonce. Nonces themselves stay secret.
type Nonce struct {
	Index uint16 `json:"index"`
	Age   int64  `json:"age"` // seconds since it was given out first
}

// Stat is the answer of GET /v1/mip/stat.
type Stat struct {
	Bindings int      `json:"bindings"`
	Ended    int      `json:"ended"` // of which the sequence number is remembered
	Evicted  uint64   `json:"evicted"`
	Counters Counters `json:"counters"`
}

// Counters are what is counted, by name.
type Counters map[string]uint64
