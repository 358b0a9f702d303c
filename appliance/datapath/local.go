package datapath

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// local takes a packet for this node through its extension headers, strictly in their order
// (RFC 8200 4.1), and hands what is behind them to the host stack.
func (w *Worker) local(p *packet.Packet) packet.Verdict {
	c := &w.chain // walked in validate
	for i := range c.N {
		h := c.Headers[i]
		if h.Off < p.Walked { // before it was opened, or put together
			continue
		}
		switch h.Proto {
		case wire.HopByHop: // done in classify
		case wire.DestOpts:
			if v := w.options(p, h.Off); v != packet.Continue {
				return v
			}
		case wire.Routing:
			if v := w.routingHeader(p, h); v != packet.Continue {
				return v
			}
		case wire.Fragment:
			return w.fragmented(p)
		case wire.AH:
			p.Proto, p.TransOff, p.ProtoField = wire.AH, h.Off, namedAt(c, h.Off)
			return w.upper(p)
		default: // MH and others that nothing here processes
			p.Proto, p.TransOff, p.ProtoField = h.Proto, h.Off, namedAt(c, h.Off)
			return w.upper(p)
		}
	}
	switch c.Problem {
	case wire.NoProblem:
	case wire.HBHNotFirst: // RFC 8200 4.1: as if the protocol were unknown
		return w.unrecognized(p, c.ProblemOff)
	case wire.TooMany:
		return packet.Drop(packet.ChainTooMany)
	default:
		return packet.Drop(packet.ChainTruncated)
	}
	return w.upper(p)
}

// upper takes what is behind the extension headers where it belongs.
func (w *Worker) upper(p *packet.Packet) packet.Verdict {
	if p.GSO.Type == packet.GSOUDP { // many datagrams: they are taken one by one
		w.segment(p, forHost)
		return packet.Taken
	}
	switch p.Proto {
	case wire.ESP, wire.AH, wire.UDP:
		if v := w.runHooks(module.StageInput, p); v != packet.Continue {
			return v
		}
	}
	if v := w.runHooks(module.StageAdmit, p); v != packet.Continue {
		return v
	}
	switch p.Proto {
	case wire.TCP, wire.UDP:
		return w.deliver(p)
	case wire.ICMPv6:
		return w.icmp(p)
	case wire.IPv6Encap, wire.IPv4Encap, wire.GRE:
		return w.exit(p)
	case wire.NoNext:
		return packet.Drop(packet.NoNextHeader)
	default:
		return w.unrecognized(p, p.ProtoField)
	}
}

// unrecognized answers a Next Header value that means nothing here (RFC 8200 4).
func (w *Worker) unrecognized(p *packet.Packet, field int) packet.Verdict {
	w.sendError(p, paramProblem(wire.CodeUnrecognizedNextHeader, field))
	return packet.Drop(packet.NextHeaderUnrecognized)
}

// routingHeader: type 2 is for who knows of home addresses, no other is recognized here, type 0 least of all (RFC 5095
// 3). With no segments left the header has done its work and is passed over (RFC 8200 4.4).
func (w *Worker) routingHeader(p *packet.Packet, h wire.Header) packet.Verdict {
	b := p.Bytes()
	typ, left := b[h.Off+2], b[h.Off+3]
	if typ == 2 {
		switch v := w.mobile(p, wire.Routing, h.Off); v {
		case packet.Continue:
		case packet.Local:
			return packet.Continue
		default:
			return v
		}
	}
	if left == 0 {
		return packet.Continue
	}
	w.sendError(p, paramProblem(wire.CodeErroneousHeader, h.Off+2))
	if typ == 0 {
		return packet.Drop(packet.RoutingHeaderType0)
	}
	return packet.Drop(packet.RoutingHeaderUnrecognized)
}

// deliver hands a packet to the host stack, which copies it.
func (w *Worker) deliver(p *packet.Packet) packet.Verdict {
	if w.path.host == nil {
		return packet.Drop(packet.HostNotAttached)
	}
	if !w.path.host.Deliver(p) {
		return packet.Drop(packet.HostQueueFull)
	}
	w.count.simple[Delivered].add(1)
	return packet.Consumed
}

// icmp is ICMPv6 for this node, ND and MLD excepted.
func (w *Worker) icmp(p *packet.Packet) packet.Verdict {
	b := p.Bytes()
	if len(b) < p.TransOff+wire.ICMPv6HeaderLen {
		return packet.Drop(packet.ChainTruncated)
	}
	if p.GSO.Csum == packet.CsumUnknown && !wire.VerifyICMPv6(b, p.TransOff) {
		return packet.Drop(packet.ChecksumBad)
	}
	t := b[p.TransOff]
	w.count.icmpIn[t].add(1)
	switch {
	case t == wire.TypeEchoRequest:
		return w.echo(p)
	case t == wire.TypePacketTooBig:
		return w.packetTooBig(p)
	case t == wire.TypeEchoReply, wire.IsError(t):
		return w.deliver(p) // an error of an unknown type is the upper layer's too (RFC 4443 2.4(a))
	default:
		return packet.Drop(packet.ICMPUnknown) // RFC 4443 2.4(b)
	}
}

// echo turns an echo request into its reply, in place (RFC 4443 4.2).
func (w *Worker) echo(p *packet.Packet) packet.Verdict {
	b := p.Bytes()
	to := netip.AddrFrom16(*src(b))
	if to.IsUnspecified() || to.IsLoopback() {
		return packet.Drop(packet.SourceUnspecified)
	}
	if dst(b)[0] == 0xff && !w.params.EchoReplyMulticast {
		return packet.Drop(packet.ErrorNotAllowed)
	}
	from := w.errorSource(p, to)
	if p.In == 0 { // to ourselves: errorSource would name the sender
		from = netip.AddrFrom16(*dst(b))
	}
	if !from.IsValid() {
		return packet.Drop(packet.NoRoute)
	}
	zone := p.Zone()
	p.Pull(p.TransOff - wire.IPv6HeaderLen)
	b = p.Bytes()
	wire.PutIPv6(b, wire.IPv6Fields{
		PayloadLength: uint16(len(b) - wire.IPv6HeaderLen), NextHeader: wire.ICMPv6,
		Src: from, Dst: to, // the hop limit is the link's
	})
	b[wire.IPv6HeaderLen] = wire.TypeEchoReply
	wire.UpdateICMPv6Checksum(b, wire.IPv6HeaderLen)
	p.Own()
	if to.IsLinkLocalUnicast() {
		p.Out = zone
	}
	w.count.simple[EchoReplies].add(1)
	w.count.icmpOut[wire.TypeEchoReply].add(1)
	return packet.Forward
}

// packetTooBig takes in a path MTU, after making sure that the message is about a packet of ours
// (RFC 8201 4), and tells the host stack.
func (w *Worker) packetTooBig(p *packet.Packet) packet.Verdict {
	b := p.Bytes()
	mtu := int(binary.BigEndian.Uint32(b[p.TransOff+4:]))
	quote := b[p.TransOff+wire.ICMPv6HeaderLen:]
	if len(quote) < wire.IPv6HeaderLen || quote[0]>>4 != 6 || !w.ours(quote, p.Zone()) {
		return packet.Drop(packet.ICMPQuoteInvalid)
	}
	if mtu < wire.MinMTU {
		return packet.Drop(packet.PacketTooBigMTU)
	}
	if p.In != 0 { // one that stage 6 made says nothing about the path
		w.path.pmtu.Update(dst(quote), mtu, w.now)
	}
	return w.deliver(p)
}

// ours reports whether a quoted packet can be one that this node sent: from an address of ours,
// and where the transport says so, of a flow or an SA that exists. Both know of home addresses only.
func (w *Worker) ours(quote []byte, zone int) bool {
	if a := w.addrs.Lookup(src(quote), zone); a == nil || !a.Assigned() {
		return false
	}
	var c wire.Chain
	c.Walk(quote)
	from, to := home(quote, &c)
	if c.FragOffset != 0 {
		return true
	}
	proto, at := c.Proto, c.Off
	for i := range c.N {
		if c.Headers[i].Proto == wire.AH { // what is behind it was not sent as such
			proto, at = wire.AH, c.Headers[i].Off
			break
		}
	}
	if at+4 > len(quote) {
		return proto != wire.TCP && proto != wire.UDP
	}
	switch proto {
	case wire.TCP:
		return w.path.host == nil || w.path.host.Sent(proto, from, to, quote[at:])
	case wire.UDP:
		return w.path.host == nil || w.path.host.Sent(proto, from, to, quote[at:]) || w.sent(proto, from, to, quote[at:])
	case wire.ESP, wire.AH, wire.IPv6Encap, wire.IPv4Encap, wire.GRE:
		return len(w.path.sender) == 0 || w.sent(proto, from, to, quote[at:])
	}
	return true
}

// sent asks those who send beside the host stack.
func (w *Worker) sent(proto uint8, from, to [16]byte, transport []byte) bool {
	for _, s := range w.path.sender {
		if s.Sent(proto, from, to, transport) {
			return true
		}
	}
	return false
}
