package datapath

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// icmpOf returns type, code and argument of the ICMPv6 error in a packet.
func icmpOf(b []byte) module.ICMPError {
	if len(b) < 48 || b[6] != wire.ICMPv6 {
		return module.ICMPError{}
	}
	return module.ICMPError{Type: b[40], Code: b[41], Arg: binary.BigEndian.Uint32(b[44:])}
}

// edit returns a copy of b with octets replaced from off on.
func edit(b []byte, off int, octets ...byte) []byte {
	c := append([]byte(nil), b...)
	copy(c[off:], octets)
	return c
}

// TestForwardDecisions is the decision table of packets that come in on link a: where they go, or
// why not and what their source is told.
func TestForwardDecisions(t *testing.T) {
	out := netip.MustParseAddr("2001:db8:f::1")
	good := udp(hostA, hostB, []byte("hello"))
	for _, c := range []struct {
		name   string
		pkt    []byte
		change func(*rig)
		sent   bool // on link b
		drop   packet.Reason
		err    module.ICMPError // back on link a; Type 0 = none
	}{
		{name: "forwarded", pkt: good, sent: true},
		{name: "padding behind the payload", pkt: append(append([]byte(nil), good...), 0, 0, 0), sent: true},
		{name: "no IPv6 header", pkt: good[:39], drop: packet.HeaderTruncated},
		{name: "version 4", pkt: edit(good, 0, 0x45), drop: packet.HeaderVersion},
		{name: "payload length beyond the frame", pkt: edit(good, 4, 0xff), drop: packet.HeaderPayloadLength},
		{name: "source multicast", pkt: edit(good, 8, 0xff, 0x02), drop: packet.SourceMulticast},
		{name: "source loopback", pkt: udp(netip.IPv6Loopback(), hostB, nil), drop: packet.SourceLoopback},
		{name: "source unspecified", pkt: udp(netip.IPv6Unspecified(), hostB, nil), drop: packet.SourceUnspecified},
		{name: "source ours", pkt: udp(routerB, hostB, nil), drop: packet.SourceOwn},
		{name: "destination unspecified", pkt: udp(hostA, netip.IPv6Unspecified(), nil), drop: packet.DestinationUnspecified},
		{name: "destination loopback", pkt: udp(hostA, netip.IPv6Loopback(), nil), drop: packet.DestinationLoopback},
		{name: "destination scope 1", pkt: udp(hostA, netip.MustParseAddr("ff01::1"), nil), drop: packet.DestinationScope},
		{name: "destination scope 0", pkt: udp(hostA, netip.MustParseAddr("ff00::1"), nil), drop: packet.DestinationScope},
		{name: "group nobody joined", pkt: udp(hostA, netip.MustParseAddr("ff0e::1"), nil), drop: packet.GroupNotJoined},
		{name: "link-local of somebody else", pkt: udp(hostA, netip.MustParseAddr("fe80::99"), nil), drop: packet.DestinationScope},
		{name: "link-local source to another link", pkt: udp(netip.MustParseAddr("fe80::99"), hostB, nil), drop: packet.BeyondScope,
			err: module.ICMPError{Type: 1, Code: 2}},
		{name: "no route", pkt: udp(hostA, out, nil), drop: packet.NoRoute, err: module.ICMPError{Type: 1, Code: 0}},
		{name: "forwarding off", pkt: good, change: func(r *rig) { r.link(1, func(l *module.Link) { l.Forwarding = false }) },
			drop: packet.ForwardingOff},
		{name: "blackhole", pkt: udp(hostA, out, nil), change: routeType(out, packet.RouteBlackhole), drop: packet.RouteIsBlackhole},
		{name: "unreachable", pkt: udp(hostA, out, nil), change: routeType(out, packet.RouteUnreachable), drop: packet.RouteIsUnreachable,
			err: module.ICMPError{Type: 1, Code: 6}},
		{name: "prohibit", pkt: udp(hostA, out, nil), change: routeType(out, packet.RouteProhibit), drop: packet.RouteIsProhibited,
			err: module.ICMPError{Type: 1, Code: 1}},
		{name: "throw", pkt: udp(hostA, out, nil), change: routeType(out, packet.RouteThrow), drop: packet.NoRoute,
			err: module.ICMPError{Type: 1, Code: 0}},
		{name: "hop limit 1", pkt: edit(good, 7, 1), drop: packet.HopLimitExceeded, err: module.ICMPError{Type: 3, Code: 0}},
		{name: "hop limit 0", pkt: edit(good, 7, 0), drop: packet.HopLimitExceeded, err: module.ICMPError{Type: 3, Code: 0}},
		{name: "egress link down", pkt: good, change: func(r *rig) { r.link(2, func(l *module.Link) { l.Carrier = false }) },
			drop: packet.LinkDown, err: module.ICMPError{Type: 1, Code: 3}},
		{name: "exactly the MTU", pkt: udp(hostA, hostB, make([]byte, 1280-48)), sent: true,
			change: func(r *rig) { r.link(2, func(l *module.Link) { l.MTU = 1280 }) }},
		{name: "one octet more", pkt: udp(hostA, hostB, make([]byte, 1281-48)), drop: packet.TooBig, err: module.ICMPError{Type: 2, Arg: 1280},
			change: func(r *rig) { r.link(2, func(l *module.Link) { l.MTU = 1280 }) }},
		{name: "route MTU", pkt: udp(hostA, hostB, make([]byte, 1401-48)), drop: packet.TooBig, err: module.ICMPError{Type: 2, Arg: 1400},
			change: func(r *rig) { r.router.routes[1].MTU = 1400 }},
		{name: "type 0 routing header in transit", pkt: ip6(hostA, hostB, wire.Routing, []byte{59, 2, 0, 1}, make([]byte, 20)), sent: true},
		{name: "unknown next header in transit", pkt: ip6(hostA, hostB, 200, []byte("whatever")), sent: true},
		{name: "hop-by-hop, option to skip", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 0x1e, 4, 0, 0, 0, 0}), sent: true},
		{name: "hop-by-hop, option to discard", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 0x5e, 4, 0, 0, 0, 0}), drop: packet.OptionDiscard},
		{name: "hop-by-hop, option to discard and tell", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 1, 0, 0x9e, 2, 0, 0}), drop: packet.OptionUnrecognized,
			err: module.ICMPError{Type: 4, Code: 2, Arg: 44}},
		{name: "hop-by-hop, option to discard and tell if unicast", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 0xde, 4, 0, 0, 0, 0}), drop: packet.OptionUnrecognized,
			err: module.ICMPError{Type: 4, Code: 2, Arg: 42}},
		{name: "hop-by-hop ignored as configured", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 0x5e, 4, 0, 0, 0, 0}), sent: true,
			change: func(r *rig) { r.path.SetParams(Params{HopLimit: 64}) }},
		{name: "hop-by-hop, pointer past octet 255", pkt: ip6(hostA, hostB, 0, append(append([]byte{59, 32, 1, 254}, make([]byte, 254)...), 0x9e, 4, 0, 0, 0, 0)), drop: packet.OptionUnrecognized,
			err: module.ICMPError{Type: 4, Code: 2, Arg: 40 + 4 + 254}},
		{name: "router alert in transit", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 5, 2, 0, 1, 1, 0}), sent: true},
		{name: "jumbogram", pkt: edit(ip6(hostA, hostB, 0, []byte{59, 0, 0xc2, 4, 0, 1, 0, 0}), 4, 0, 0), drop: packet.JumboRefused,
			err: module.ICMPError{Type: 4, Code: 2, Arg: 42}},
		{name: "option runs over its header", pkt: ip6(hostA, hostB, 0, []byte{59, 0, 0x1e, 9, 0, 0, 0, 0}), drop: packet.OptionMalformed,
			err: module.ICMPError{Type: 4, Code: 0, Arg: 43}},
		{name: "hop-by-hop header runs over the packet", pkt: ip6(hostA, hostB, 0, []byte{59, 9, 1, 4, 0, 0, 0, 0}), drop: packet.ChainTruncated},
		{name: "tentative address", pkt: udp(hostA, netip.MustParseAddr("2001:db8:1::7e"), nil), drop: packet.AddressTentative},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			if c.change != nil {
				c.change(r)
			}
			r.fromA(c.pkt)
			b := r.b.took()
			if c.sent != (len(b) == 1) {
				t.Errorf("sent %d packets on b, want %v", len(b), c.sent)
			}
			if c.sent && len(b) == 1 {
				if b[0][7] != c.pkt[7]-1 {
					t.Errorf("hop limit %d, received %d", b[0][7], c.pkt[7])
				}
				if want := 40 + int(binary.BigEndian.Uint16(c.pkt[4:])); len(b[0]) != want {
					t.Errorf("length %d, want %d", len(b[0]), want)
				}
			}
			want := map[packet.Reason]uint64{}
			if c.drop != packet.NoReason {
				want[c.drop] = 1
			}
			if got := r.drops(); !maps.Equal(got, want) {
				t.Errorf("drops %v, want %v", got, want)
			}
			var got module.ICMPError
			for _, e := range r.a.took() {
				got = icmpOf(e)
				if !wire.VerifyICMPv6(e, 40) {
					t.Error("the error's checksum is wrong")
				}
			}
			if got != c.err {
				t.Errorf("error %+v, want %+v", got, c.err)
			}
		})
	}
}

// routeType adds a route of that type for an address.
func routeType(a netip.Addr, typ packet.RouteType) func(*rig) {
	return func(r *rig) {
		r.router.routes = append(r.router.routes, &rigRoute{Route: packet.Route{Type: typ}, prefix: netip.PrefixFrom(a, 128)})
	}
}

// TestLinkDecisions: what the link header says.
func TestLinkDecisions(t *testing.T) {
	good := udp(hostA, hostB, nil)
	for _, c := range []struct {
		name  string
		frame []byte
		drop  packet.Reason
	}{
		{"short frame", make([]byte, 13), packet.FrameShort},
		{"IPv4 ethertype", edit(frame(macA, peerMAC, good), 12, 8, 0), packet.FrameNotIPv6},
		{"to another station", frame(peerMAC, peerMAC, good), packet.FrameNotForUs},
		{"unicast in a broadcast frame", frame([6]byte{255, 255, 255, 255, 255, 255}, peerMAC, good), packet.FrameMulticastUnicast},
		{"unicast in a multicast frame", frame([6]byte{0x33, 0x33, 0, 0, 0, 1}, peerMAC, good), packet.FrameMulticastUnicast},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.a.in = append(r.a.in, memFrame{data: c.frame})
			r.run()
			if got := r.drops(); !maps.Equal(got, map[packet.Reason]uint64{c.drop: 1}) || len(r.b.out)+len(r.a.out) != 0 {
				t.Errorf("drops %v, sent %d", got, len(r.b.out)+len(r.a.out))
			}
		})
	}
}

// TestLocalDecisions is the decision table of packets for this node.
func TestLocalDecisions(t *testing.T) {
	frag := func(off int, more byte, data []byte) []byte {
		return append([]byte{wire.UDP, 0, byte(off >> 8), byte(off) | more, 0, 0, 0, 9}, data...)
	}
	echo := echoRequest(hostA, routerA, []byte("abc"))
	ns := ip6(hostA, netip.MustParseAddr("ff02::1"), wire.ICMPv6, []byte{wire.TypeNeighborSolicitation, 0, 0, 0}, make([]byte, 20))
	for _, c := range []struct {
		name      string
		pkt       []byte
		delivered bool
		found     bool
		reply     bool // an echo reply goes back
		drop      packet.Reason
		err       module.ICMPError
	}{
		{name: "udp to us", pkt: udp(hostA, routerA, []byte("x")), delivered: true},
		{name: "udp to our address on another link", pkt: udp(hostA, routerB, []byte("x")), delivered: true},
		{name: "udp to the subnet-router anycast address", pkt: udp(hostA, netip.MustParseAddr("2001:db8:1::"), nil), delivered: true},
		{name: "udp to a joined group", pkt: udp(hostA, netip.MustParseAddr("ff02::1"), nil), delivered: true},
		{name: "echo request", pkt: echo, reply: true},
		{name: "echo request, bad checksum", pkt: edit(echo, 42, 1), drop: packet.ChecksumBad},
		{name: "echo request to a group", pkt: echoRequest(hostA, netip.MustParseAddr("ff02::1"), nil), reply: true},
		{name: "echo reply", pkt: retype(echo, wire.TypeEchoReply), delivered: true},
		{name: "unknown informational message", pkt: retype(echo, 200), drop: packet.ICMPUnknown},
		{name: "unknown error message", pkt: retype(echo, 100), delivered: true},
		{name: "neighbor solicitation", pkt: ns, found: true},
		{name: "ND behind a fragment header", pkt: ip6(hostA, netip.MustParseAddr("ff02::1"), wire.Fragment, []byte{wire.ICMPv6, 0, 0, 0, 0, 0, 0, 1}, ns[40:]), drop: packet.NDInvalid},
		{name: "unknown next header", pkt: ip6(hostA, routerA, 200, []byte("whatever")), drop: packet.NextHeaderUnrecognized,
			err: module.ICMPError{Type: 4, Code: 1, Arg: 6}},
		{name: "unknown next header behind an extension header", pkt: ip6(hostA, routerA, wire.DestOpts, []byte{200, 0, 1, 4, 0, 0, 0, 0}, []byte("whatever")),
			drop: packet.NextHeaderUnrecognized, err: module.ICMPError{Type: 4, Code: 1, Arg: 40}},
		{name: "no next header", pkt: ip6(hostA, routerA, wire.NoNext), drop: packet.NoNextHeader},
		{name: "hop-by-hop options not first", pkt: ip6(hostA, routerA, wire.DestOpts, []byte{0, 0, 1, 4, 0, 0, 0, 0}, []byte{59, 0, 1, 4, 0, 0, 0, 0}),
			drop: packet.NextHeaderUnrecognized, err: module.ICMPError{Type: 4, Code: 1, Arg: 40}},
		{name: "routing header type 0", pkt: ip6(hostA, routerA, wire.Routing, []byte{59, 2, 0, 1}, make([]byte, 20)), drop: packet.RoutingHeaderType0,
			err: module.ICMPError{Type: 4, Code: 0, Arg: 42}},
		{name: "routing header of unknown type", pkt: ip6(hostA, routerA, wire.Routing, []byte{59, 2, 77, 1}, make([]byte, 20)), drop: packet.RoutingHeaderUnrecognized,
			err: module.ICMPError{Type: 4, Code: 0, Arg: 42}},
		{name: "routing header done", pkt: ip6(hostA, routerA, wire.Routing, []byte{59, 2, 77, 0}, make([]byte, 20)), drop: packet.NoNextHeader},
		{name: "destination option to tell about", pkt: ip6(hostA, routerA, wire.DestOpts, []byte{59, 0, 0x9e, 4, 0, 0, 0, 0}), drop: packet.OptionUnrecognized,
			err: module.ICMPError{Type: 4, Code: 2, Arg: 42}},
		{name: "destination option to tell about, sent to a group", pkt: ip6(hostA, netip.MustParseAddr("ff02::1"), wire.DestOpts, []byte{59, 0, 0x9e, 4, 0, 0, 0, 0}), drop: packet.OptionUnrecognized,
			err: module.ICMPError{Type: 4, Code: 2, Arg: 42}},
		{name: "destination option to tell about if unicast, sent to a group", pkt: ip6(hostA, netip.MustParseAddr("ff02::1"), wire.DestOpts, []byte{59, 0, 0xde, 4, 0, 0, 0, 0}), drop: packet.OptionUnrecognized},
		{name: "first fragment without the upper-layer header", pkt: ip6(hostA, routerA, wire.Fragment, []byte{wire.DestOpts, 0, 0, 1, 0, 0, 0, 9}, []byte{wire.UDP, 0, 1, 4, 0, 0, 0, 0}), drop: packet.ChainFirstFragment,
			err: module.ICMPError{Type: 4, Code: 3, Arg: 0}},
		{name: "fragment of odd length with more to come", pkt: ip6(hostA, routerA, wire.Fragment, frag(8, 1, make([]byte, 9))), drop: packet.FragmentMisaligned,
			err: module.ICMPError{Type: 4, Code: 0, Arg: 4}},
		{name: "fragment past 65535", pkt: ip6(hostA, routerA, wire.Fragment, frag(0xfff8, 0, make([]byte, 16))), drop: packet.FragmentTooLong,
			err: module.ICMPError{Type: 4, Code: 0, Arg: 42}},
		{name: "atomic fragment", pkt: ip6(hostA, routerA, wire.Fragment, frag(0, 0, udp(hostA, routerA, []byte("x"))[40:])), delivered: true},
		{name: "packet too big below the minimum", pkt: ptb(udp(routerA, hostA, nil), 40), drop: packet.PacketTooBigMTU},
		{name: "packet too big about a packet that is not ours", pkt: ptb(udp(hostB, hostA, nil), 1300), drop: packet.ICMPQuoteInvalid},
		{name: "packet too big that quotes nothing", pkt: ptb(nil, 1300), drop: packet.ICMPQuoteInvalid},
		{name: "packet too big", pkt: ptb(udp(routerA, hostB, nil), 1300), delivered: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.fromA(c.pkt)
			if got := len(r.host.got) == 1; got != c.delivered {
				t.Errorf("delivered %d, want %v", len(r.host.got), c.delivered)
			}
			if (r.found == 1) != c.found {
				t.Errorf("discovery %d, want %v", r.found, c.found)
			}
			want := map[packet.Reason]uint64{}
			if c.drop != packet.NoReason {
				want[c.drop] = 1
			}
			got := r.drops()
			delete(got, packet.ErrorNotAllowed) // counted beside the drop it would have been for
			if !maps.Equal(got, want) {
				t.Errorf("drops %v, want %v", got, want)
			}
			var err module.ICMPError
			replied := false
			for _, e := range r.a.took() {
				if e[40] == wire.TypeEchoReply {
					replied = wire.VerifyICMPv6(e, 40)
					continue
				}
				err = icmpOf(e)
			}
			if err != c.err || replied != c.reply {
				t.Errorf("error %+v, want %+v; reply %v, want %v", err, c.err, replied, c.reply)
			}
		})
	}
}

// retype changes an ICMPv6 message's type and mends its checksum.
func retype(b []byte, typ uint8) []byte {
	c := edit(b, 40, typ)
	wire.UpdateICMPv6Checksum(c, 40)
	return c
}

// ptb builds a Packet Too Big from hostB to routerA.
func ptb(quote []byte, mtu int) []byte {
	b := ip6(hostB, routerA, wire.ICMPv6, []byte{wire.TypePacketTooBig, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(mtu)), quote)
	wire.UpdateICMPv6Checksum(b, 40)
	return b
}
