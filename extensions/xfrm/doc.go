// Package xfrm is IPsec for the appliance: its own SPD and SAD, ESP and AH, transport, tunnel and BEET mode.
//
// RFCs: 4301, 4302, 4303, 3948, 6040, 6275 6.3 and 6.4, 8221 and those of the algorithms. Words, order and refusals are those of
// "ip xfrm", counters have Linux's names.
//
//	StageInput      AH, ESP, UDP for this node: SA by SPI, replay window, ICV, header off ─▶ the packet again
//	                Type 2 Routing header, Home Address option: state by addresses, home address in its place
//	StageAdmit      what is delivered here: SAs it came through against the policies in
//	StageTransform  what leaves: policies fwd, then policies out ─▶ SAs ─▶ headers on; a tunnel is routed again
//
// What is routed to a link of kind ipsec is a question to the policies with its if_id alone; what an SA with an if_id
// opens has arrived on that link (Linux's XFRM interfaces).
//
// All that a packet asks is one view: SPD and SAD as they belong together. The loop changes it as a whole. Where no
// policy wants anything of packets in a direction, none is looked at unless it came through an SA.
//
// State it owns: the databases (package sad, package spd), for each SA its ciphers and replay window (type work; an SA
// is sequential by nature, so it has a lock, see docs/adr/0005), the numbers that IVs begin with.
//
// The headers of Mobile IPv6 (RFC 6275) are states and templates too, as in Linux: a packet goes through a state of hao or
// route2 as it goes through an SA. While there is no such state, such headers are unknown here.
//
// Cores: selector, spd, sad, replay, algo, esp, ah. What commands and monitor get and send is in package xfrmapi.
//
// Limits: 131,072 states, 1,024 of them larval, 1,048,576 policies. A packet goes through 6 SAs at most. Outer and
// inner packets are IPv6. Refused: IPComp, limits of bytes and packets of policies. For an SA that is missing the key
// manager is asked once in 30 seconds; packets are dropped until it comes, or, if larval_drop is false, up to 16 wait for each.
package xfrm
