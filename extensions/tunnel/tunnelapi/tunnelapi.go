// Package tunnelapi holds what the commands about tunnels get over the control socket, with the keys of
// "ip -6 -j tunnel" and their order.
package tunnelapi

// Tunnel is one tunnel, in the answer of GET /v1/tunnel and as the event of topic "tunnel".
type Tunnel struct {
	Deleted       bool   `json:"deleted,omitempty"` // events only: the tunnel is gone
	IfName        string `json:"ifname"`
	Mode          string `json:"mode"` // ipv6/ipv6, gre/ipv6
	Remote        string `json:"remote"`
	Local         string `json:"local"`
	Link          string `json:"link,omitempty"` // that tunnel packets take
	NoLimit       Flag   `json:"ip6_tnl_f_ign_encap_limit,omitzero"`
	EncapLimit    *int   `json:"encap_limit,omitempty"`
	HopLimit      int    `json:"hoplimit"`
	InheritClass  Flag   `json:"ip6_tnl_f_use_orig_tclass,omitzero"`
	TClass        string `json:"tclass,omitempty"` // 0x00
	InheritLabel  Flag   `json:"ip6_tnl_f_use_orig_flowlabel,omitzero"`
	FlowLabel     string `json:"flowlabel,omitempty"` // 0x00000, or hash
	FlowInfo      string `json:"flowinfo"`
	CopyDSCP      Flag   `json:"ip6_tnl_f_rcv_dscp_copy,omitzero"`
	Compatibility Flag   `json:"ecn_compatibility,omitzero"` // RFC 6040 4.1
	// Of kinds with GRE. Key is that of both directions.
	Key   *uint32 `json:"key,omitempty"`
	IKey  *uint32 `json:"ikey,omitempty"`
	OKey  *uint32 `json:"okey,omitempty"`
	Flags []Word  `json:"flags,omitempty"`
}

// Word is one of the flags of GRE.
type Word string

// The flags, and what `show` prints for each.
const (
	DropOutOfSequence Word = "rx_drop_ooseq"
	WantChecksum      Word = "rx_csum"
	Number            Word = "tx_seq"
	Checksum          Word = "tx_csum"
)

// Text is the line of `show`.
func (w Word) Text() string {
	return map[Word]string{
		DropOutOfSequence: "Drop packets out of sequence.", WantChecksum: "Checksum in received packet is required.",
		Number: "Sequence packets on output.", Checksum: "Checksum output packets.",
	}[w]
}

// Filter is the query of GET /v1/tunnel.
type Filter struct {
	Dev string `json:"dev,omitempty"`
}

// Flag is a key that iproute2 writes with the value null when it is set, and not at all otherwise. Use it with "omitzero".
type Flag bool

// MarshalJSON implements [encoding/json.Marshaler].
func (Flag) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON implements [encoding/json.Unmarshaler]: the key is there.
func (f *Flag) UnmarshalJSON([]byte) error {
	*f = true
	return nil
}
