// Package xfrmapi holds what the command xfrm sends and gets, and the events of topic "xfrm". The words are those of
// "ip xfrm", which has no JSON: keys are in iproute2's style.
package xfrmapi

import (
	"net/netip"

	"leveret/extensions/xfrm/sad"
)

// Topic is where the events are published.
const Topic = "xfrm"

// Event is one message of the topic, in the words of "ip xfrm monitor": newsa, updsa, delsa, flushsa, expire,
// acquire, report, migrate, newpolicy, updpolicy, delpolicy, flushpolicy.
type Event struct {
	Event  string      `json:"event"`
	Hard   bool        `json:"hard,omitempty"`  // of expire: the state is gone
	Proto  string      `json:"proto,omitempty"` // of flushsa, "" = all; of report
	Type   string      `json:"ptype,omitempty"` // of flushpolicy
	State  *sad.Listed `json:"state,omitempty"` // of acquire: the larval state, whose selector is the flow
	Old    *sad.Listed `json:"old,omitempty"`   // of migrate
	Policy *Policy     `json:"policy,omitempty"`
	Sel    string      `json:"sel,omitempty"` // of report: the flow that was refused
	CoA    *netip.Addr `json:"coa,omitempty"` // of report: where it came from
}
