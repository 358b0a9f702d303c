// Package xfrmapi holds what the command xfrm sends and gets, and the events of topic "xfrm". The words are those of
// "ip xfrm", which has no JSON: keys are in iproute2's style.
package xfrmapi

import (
	"net/netip"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
)

// Topic is where the events are published.
const Topic = "xfrm"

// Event is one message of the topic, in the words of "ip xfrm monitor": newsa, updsa, delsa, flushsa, expire,
// acquire, report, mapping, migrate, newpolicy, updpolicy, delpolicy, polexpire, flushpolicy, setdefault.
type Event struct {
	Event  string      `json:"event"`
	Hard   bool        `json:"hard,omitempty"`   // of expire and polexpire: it is gone
	Proto  string      `json:"proto,omitempty"`  // of flushsa, "" = all; of report
	Type   string      `json:"ptype,omitempty"`  // of flushpolicy
	State  *sad.Listed `json:"state,omitempty"`  // of acquire: the larval state, whose selector is the flow
	Policy *spd.Listed `json:"policy,omitempty"` // of acquire: the one that wants a state; of migrate: as it is now
	Sel    string      `json:"sel,omitempty"`    // of report: the flow that was refused
	CoA    *netip.Addr `json:"coa,omitempty"`    // of report: where it came from

	Migrate   []proto.Migration `json:"migrate,omitempty"` // of migrate: what has moved where
	KMAddress *KMAddress        `json:"kmaddress,omitempty"`
	States    int               `json:"states,omitempty"` // of migrate: how many have moved

	Mapping *Mapping `json:"mapping,omitempty"` // of mapping

	Default *PolicyDefault `json:"default,omitempty"` // of setdefault: all three
}

// Mapping is where packets of a state in UDP came from and where they come from now (RFC 3948).
type Mapping struct {
	OldSrc   netip.Addr `json:"old_src"`
	OldSPort uint16     `json:"old_sport"`
	NewSrc   netip.Addr `json:"new_src"`
	NewSPort uint16     `json:"new_sport"`
}
