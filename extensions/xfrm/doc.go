// Package xfrm is IPsec for the appliance: its own SPD and SAD, ESP and AH, transport, tunnel and BEET mode.
//
// RFCs: 4301, 4302, 4303, 3948, 6040, 8221 and those of the algorithms. Words, order and refusals are those of
// "ip xfrm", counters have Linux's names.
//
//	StageInput      AH, ESP, UDP for this node: SA by SPI, replay window, ICV, header off ─▶ the packet again
//	StageAdmit      what is delivered here: SAs it came through against the policies in
//	StageTransform  what leaves: policies fwd, then policies out ─▶ SAs ─▶ headers on; a tunnel is routed again
//
// All that a packet asks is one view: SPD and SAD as they belong together. The loop changes it as a whole. Where no
// policy wants anything of packets in a direction, none is looked at unless it came through an SA.
//
// State it owns: the databases (package sad, package spd), for each SA its ciphers and replay window (type work; an SA
// is sequential by nature, so it has a lock, see docs/adr/0005), the numbers that IVs begin with.
//
// Cores: selector, spd, sad, replay, algo, esp, ah. What commands and monitor get and send is in package xfrmapi.
//
// Limits: 131,072 states, 1,024 of them larval, 1,048,576 policies. A packet goes through 6 SAs at most. Outer and
// inner packets are IPv6. Refused: IPComp, the headers of Mobile IPv6 (hao, route2), XFRM interfaces (if_id), limits
// of bytes and packets of policies. A packet that waits for an SA is dropped, and the key manager asked once in 30 seconds.
package xfrm
