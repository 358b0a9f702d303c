package proto

import "net/netip"

// Migration moves the states and templates from one pair of addresses to another (XFRM_MSG_MIGRATE): those of the old
// addresses, of a protocol and a mode.
type Migration struct {
	OldSrc netip.Addr `json:"old_src"`
	OldDst netip.Addr `json:"old_dst"`
	NewSrc netip.Addr `json:"new_src"`
	NewDst netip.Addr `json:"new_dst"`
	Proto  Proto      `json:"proto"`
	Mode   Mode       `json:"mode"`
	ReqID  uint32     `json:"reqid,omitempty"` // 0 = any
}
