// Package tunnel makes links of the way between two nodes: what leaves by one is put into packets of this node to the
// node at the other end, and what comes in such packets has arrived on the link.
//
// RFCs: 2473, 2784, 2890, 4213 3.6, 6040, 6438 and 7676. Words and the text of `show` are those of "ip -6 tunnel".
//
//	StageEnter  what leaves by a link: headers on ─▶ routed again, as a packet of this node
//	StageExit   IPv6 and GRE in IPv6 for this node: link by the addresses and the key, headers off ─▶ arrived on it
//	StageAdmit  ICMPv6 errors about packets of a tunnel: the loop tells the source of what they carried (RFC 2473 8)
//
// A link is one in all else: addresses, Neighbor Discovery, routes, captures, counters. It has a carrier while its local
// address is one of this node's, and the MTU that the path to the other end leaves, unless a smaller one is configured.
//
// State it owns: the tunnels by link and by ends (type view; replaced as a whole), and for each what outlives a change of
// its variables: numbers of GRE, and what is known of the path (type live; atomic words).
//
// Core: encap.
//
// Limits: as many tunnels as links; a packet is put into packet.MaxNested of them. Tunnel packets are IPv6, and carry
// IPv6: the appliance has no IPv4 that packets could come from or go to.
package tunnel
