// Package api holds what the appliance's own commands send and get over the control socket: plain
// structs, with iproute2's JSON keys where iproute2 has the thing. Extensions have packages of
// their own for theirs.
package api

import "encoding/json"

// Link is one link, in the answer of GET /v1/link and as the event of topic "link". The server
// fills every field it knows; the command strips what is shown only with -s or -d.
type Link struct {
	Deleted bool   `json:"deleted,omitempty"` // events only: the link is gone
	IfIndex int    `json:"ifindex"`
	IfName  string `json:"ifname"`
	// Flags are iproute2's: see [LinkFlags].
	Flags []string `json:"flags"`
	MTU   int      `json:"mtu"`  // the device's
	MTU6  int      `json:"mtu6"` // in force for IPv6: the least of device, configuration and RA
	// OperState is UP or DOWN (see [OperState]).
	OperState string    `json:"operstate"`
	LinkType  string    `json:"link_type"` // ether or none
	Address   string    `json:"address,omitempty"`
	Broadcast string    `json:"broadcast,omitempty"`
	LinkInfo  *LinkInfo `json:"linkinfo,omitempty"` // -d
	Stats64   *Stats64  `json:"stats64,omitempty"`  // -s
}

// LinkInfo is what only an appliance's link has.
type LinkInfo struct {
	Kind       string `json:"info_kind"`             // tun, tap, af_packet, fd, pipe, dummy, ip6ip6, ip6gre, xfrm (kind ipsec)
	IfID       string `json:"if_id,omitempty"`       // of kind xfrm: as 0x5
	HostDevice string `json:"host_device,omitempty"` // the host's name of the device
	Forwarding bool   `json:"forwarding"`
	Queues     int    `json:"num_rx_queues,omitempty"`
	Checksum   bool   `json:"checksum,omitempty"` // the port completes checksums,
	TSO        bool   `json:"tso,omitempty"`      // takes TCP superpackets,
	USO        bool   `json:"uso,omitempty"`      // and UDP ones
}

// Stats64 are a link's counters.
type Stats64 struct {
	RX Direction `json:"rx"`
	TX Direction `json:"tx"`
}

// Direction is one direction's counters: octets with the link header, frames.
type Direction struct {
	Bytes   uint64 `json:"bytes"`
	Packets uint64 `json:"packets"`
	Errors  uint64 `json:"errors"`
	Dropped uint64 `json:"dropped"`
	// TX of a link of kind xfrm: what no SA takes, and what would come back to such a link. Errors has both.
	CarrierErrors uint64 `json:"carrier_errors,omitempty"`
	Collisions    uint64 `json:"collisions,omitempty"`
}

// LinkFilter is the query of GET /v1/link.
type LinkFilter struct {
	Dev string `json:"dev,omitempty"`
}

// LinkRequest is the body of POST /v1/link; nil fields stay as they are.
type LinkRequest struct {
	Dev string `json:"dev"`
	MTU *int   `json:"mtu,omitempty"`
	Up  *bool  `json:"up,omitempty"`
}

// LinkMake is the body of POST /v1/link/make: a link that a module makes comes, changes or goes.
type LinkMake struct {
	Op   string `json:"op"` // add, change or del
	Dev  string `json:"dev"`
	Kind string `json:"kind,omitempty"` // change: "" = as it is
	// Spec holds the keys of the module that makes the link; those left out stay as they are.
	Spec json.RawMessage `json:"spec,omitempty"`
}

// LinkFlags returns the flags iproute2 would show for such a link.
func LinkFlags(ethernet, up, carrier bool) []string {
	var f []string
	if up && !carrier {
		f = append(f, "NO-CARRIER")
	}
	if ethernet {
		f = append(f, "BROADCAST", "MULTICAST")
	} else {
		f = append(f, "POINTOPOINT", "MULTICAST", "NOARP")
	}
	if up {
		f = append(f, "UP")
	}
	if up && carrier {
		f = append(f, "LOWER_UP")
	}
	return f
}

// OperState returns iproute2's word for such a link's state (RFC 2863 ifOperStatus).
func OperState(up, carrier bool) string {
	if up && carrier {
		return "UP"
	}
	return "DOWN"
}
