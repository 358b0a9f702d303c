// Package mip6 is Mobile IPv6 for the appliance. What there is of it is the correspondent node (RFC 6275 9): mobile nodes prove
// to it where they are, and packets between them and this node take the way by their care-of addresses.
//
//	StageAdmit   Mobility Headers for this node ─▶ loop: answers, bindings
//	             ICMPv6 errors about packets sent by a binding ─▶ loop, a copy
//
// Bindings are the authority: what they mean to packets are states and policies of another extension, which it gives them by
// [Transformer]. An acknowledgement is sent when the binding is in force. Home registrations are refused (131).
//
// State it owns: binding cache and nonces. Cores: wire, rr, bcache, cn; for what is to come bulist and halist.
//
// Limits: max_bindings bindings, and twice as many of which the sequence number is remembered; 1000 tests and 10 Binding
// Errors a second. Without xfrm states and policies to be had an update is refused (130).
package mip6
