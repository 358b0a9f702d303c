// Package netstack is the host inside the router: the sockets that programs inside the appliance
// use. It is the only package that imports gVisor.
//
//	    programs inside: services, ping, traceroute, control, tests
//	        |              |              |
//	     TCPConn        UDPConn       RawConn, probes
//	        |              |              |
//	  gVisor TCP        sockets of our own: udp.go, raw.go
//	  stack.Stack          |              |
//	   |        ^          |              |
//	hostPort  queue        |              |
//	   |        |          |              |
//	   v        +--- Deliver (demultiplexes, takes off extension headers)
//	 Output                       ^
//	   |                          |
//	   +----> the packet path ----+
//
// Both directions cross the packet path, also from one own address to another: counters, routes
// and the path MTU hold for this node's own packets as they do for everybody's.
//
// TCP is gVisor's: the state machines, retransmission and congestion control are what netstack is
// very good at. It is given only packets whose extension headers have been processed and removed,
// on one NIC for all global addresses and one small NIC for the link-local address of each link,
// and it never forwards, resolves, fragments, runs ND or speaks MLD. See hostport.go, ipv6.go and
// mirror.go.
//
// UDP, raw sockets and probes are not gVisor's, because what RFC 3542 lets a program see and say
// is known only here: the link a datagram came in on, its extension headers, every ICMPv6 error
// about it, the path MTU. See sockets.go, udp.go, raw.go and docs/adr/0003-datagram-sockets.md.
//
// ICMPv6 errors go to the socket that sent the quoted packet (errors.go), never through netstack,
// which would drop most of them and believe a Packet Too Big of 40 octets.
package netstack
