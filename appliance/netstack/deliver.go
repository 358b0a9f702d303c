package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// Deliver takes a packet for this node whose headers the path has processed: p.Proto and p.TransOff
// are set, superpackets are TCP only. It copies what it keeps. false means that the queue is full
// (or the stack closed): the packet is lost. Called by workers; it does not block.
func (h *Host) Deliver(p *packet.Packet) bool {
	if h.closed.Load() {
		return false
	}
	b := p.Bytes()
	if p.TransOff < wire.IPv6HeaderLen || p.TransOff > len(b) {
		h.count.malformed.Inc()
		return true
	}
	h.raw.deliver(h, p, b)
	switch p.Proto {
	case wire.TCP:
		return h.deliverTCP(p, b)
	case wire.UDP:
		return h.deliverUDP(p, b)
	case wire.ICMPv6:
		return h.deliverICMP(p, b)
	}
	return true
}

// checksumOK verifies a transport checksum that the path has not verified. A partial one is of our
// own making or a port's, and right by definition.
func checksumOK(p *packet.Packet, b []byte, proto uint8) bool {
	if p.GSO.Csum != packet.CsumUnknown {
		return true
	}
	t := b[p.TransOff:]
	return wire.Fold(wire.Sum(t, wire.PseudoHeader(src(b), dst(b), proto, len(t)))) == 0xffff
}

// deliverTCP queues a segment for netstack, without its extension headers.
func (h *Host) deliverTCP(p *packet.Packet, b []byte) bool {
	switch {
	case len(b)-p.TransOff < tcpHeaderLen || !zoneFree(src(b)) || !zoneFree(dst(b)):
		h.count.malformed.Inc()
		return true
	case isMulticast(dst(b)): // no TCP with groups (RFC 9293 3.9.2.3)
		return true
	case !checksumOK(p, b, wire.TCP):
		h.count.checksum.Inc()
		return true
	}
	link := 0
	if isLinkLocal(dst(b)) {
		link = p.Zone()
	}
	port := h.mirror.port(link)
	if port == nil {
		return true // the link has gone
	}
	segment := b[p.TransOff:]
	h.tcpAcked(b, segment, p.Zone())
	v := buffer.NewViewSize(wire.IPv6HeaderLen + len(segment))
	vb := v.AsSlice()
	copy(vb, b[:wire.IPv6HeaderLen])
	copy(vb[wire.IPv6HeaderLen:], segment)
	binary.BigEndian.PutUint16(vb[4:], uint16(len(segment)))
	vb[wire.NextHeaderOffset] = wire.TCP
	enterZone(src(vb), p.Zone())
	enterZone(dst(vb), p.Zone())
	pb := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	pb.Mark = p.Mark
	h.count.tcpIn.Inc()
	if p.GSO.Type != packet.GSONone {
		h.count.superIn.Inc()
	}
	if !h.in.push(inbound{port: port, pb: pb}) {
		pb.DecRef()
		h.count.queueFull.Inc()
		return false
	}
	return true
}

// refuse answers a datagram that nobody here takes, from the queue's goroutine: the worker that
// delivers is inside the path, which makes the answer.
func (h *Host) refuse(p *packet.Packet, e module.ICMPError) bool {
	if h.opts.SendError == nil {
		return true
	}
	if !h.in.push(inbound{refused: p.Clone(), answer: e}) {
		h.count.queueFull.Inc()
		return false
	}
	return true
}

// Sent reports whether a packet that this node is said to have sent, named by its addresses and
// the first octets of its transport header, belongs to a socket here. The path believes a Packet
// Too Big only then (RFC 8201 4). Called by workers.
func (h *Host) Sent(proto uint8, src, dst [16]byte, transport []byte) bool {
	if len(transport) < 4 {
		return false
	}
	sport, dport := binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	switch proto {
	case wire.TCP:
		_, ep := h.findTCP(src, dst, sport, dport, 0)
		return ep != nil
	case wire.UDP:
		return h.udp.sender(&src, &dst, sport, dport, 0) != nil
	}
	return true
}
