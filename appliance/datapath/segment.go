package datapath

import (
	"encoding/binary"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// complete finishes a transport checksum that so far holds the pseudo-header's sum only.
func (w *Worker) complete(p *packet.Packet) {
	if p.GSO.Csum != packet.CsumPartial {
		return
	}
	b := p.Bytes()
	start, at := p.GSO.CsumStart, p.GSO.CsumStart+p.GSO.CsumOffset
	p.GSO.Csum = packet.CsumVerified
	if start < wire.IPv6HeaderLen || at+2 > len(b) {
		return // nonsense from the other side: the receiver's check will find it
	}
	sum := wire.Fold(wire.Sum(b[start:], 0))
	if sum = ^sum; sum == 0 {
		sum = 0xffff // zero would say "no checksum" (RFC 8200 8.1)
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	w.count.simple[ChecksumsCompleted].add(1)
}

// segmentFor says where the pieces of a superpacket go.
type segmentFor uint8

const (
	forLink      segmentFor = iota // that does not take it whole
	forHost                        // this node
	forTransform                   // stage 5
)

// segment splits a superpacket, as its sender would have split it, and hands on the pieces. It releases p.
func (w *Worker) segment(p *packet.Packet, to segmentFor) {
	b := p.Bytes()
	g := p.GSO
	trans := g.CsumStart
	if g.Csum != packet.CsumPartial {
		w.chain.Walk(b)
		trans = w.chain.Off
	}
	tcp := g.Type == packet.GSOTCP6
	least := trans + 8
	if tcp {
		least = trans + 20
	}
	if g.Size <= 0 || trans < wire.IPv6HeaderLen || g.HdrLen < least || g.HdrLen > len(b) {
		w.drop(p, packet.HeaderTruncated)
		return
	}
	w.count.simple[SegmentedSuperpackets].add(1)
	hdr, rest := b[:g.HdrLen], b[g.HdrLen:]
	for first := true; first || len(rest) > 0; first = false {
		n := min(g.Size, len(rest))
		s := w.pool.Get()
		if s.Room() < g.HdrLen+n {
			s.Release()
			w.drop(p, packet.TooBig)
			return
		}
		s.In, s.Out, s.DstMAC = p.In, p.Out, p.DstMAC
		sb := s.Extend(g.HdrLen + n)
		copy(sb, hdr)
		copy(sb[g.HdrLen:], rest[:n])
		binary.BigEndian.PutUint16(sb[4:], uint16(len(sb)-wire.IPv6HeaderLen))
		off := len(b) - g.HdrLen - len(rest) // payload sent so far
		rest = rest[n:]
		if tcp {
			segmentTCP(sb[trans:], uint32(off), first, len(rest) == 0)
		} else {
			binary.BigEndian.PutUint16(sb[trans+4:], uint16(len(sb)-trans))
		}
		if to == forHost && !tcp { // who looks into it takes the port's word for the whole
			binary.BigEndian.PutUint16(sb[trans+6:], wire.Fold(wire.PseudoHeader(src(sb), dst(sb), wire.UDP, len(sb)-trans)))
			s.GSO.Csum, s.GSO.CsumStart, s.GSO.CsumOffset = packet.CsumPartial, trans, 6
		} else {
			setChecksum(sb, trans, tcp)
			s.GSO.Csum = packet.CsumVerified
		}
		w.count.simple[SegmentsCreated].add(1)
		switch to {
		case forHost:
			s.Proto, s.TransOff, s.ProtoField, s.Ext = p.Proto, p.TransOff, p.ProtoField, p.Ext
			s.Mark, s.L2, s.Passes, s.Tunneled, s.Walked = p.Mark, p.L2, p.Passes, p.Tunneled, p.Walked
			s.CameLike(p)
			w.act(s, w.upper(s))
		case forTransform:
			s.Route, s.NextHop, s.Mark, s.L2 = p.Route, p.NextHop, p.Mark, p.L2
			s.CameLike(p)
			s.Super = p
			w.act2(s, packet.Continue)
		default:
			w.transmit(s)
		}
		if len(w.route) >= VectorSize { // of a vector of superpackets there would be thousands
			w.drain()
		}
	}
	p.Release()
}

// segmentTCP adapts a copied TCP header: the sequence number counts on, FIN and PSH belong to the
// last segment and CWR to the first (RFC 3168 6.1.2).
func segmentTCP(t []byte, off uint32, first, last bool) {
	const fin, psh, cwr = 0x01, 0x08, 0x80
	binary.BigEndian.PutUint32(t[4:], binary.BigEndian.Uint32(t[4:])+off)
	if !last {
		t[13] &^= fin | psh
	}
	if !first {
		t[13] &^= cwr
	}
}

// setChecksum computes the TCP or UDP checksum of a whole packet.
func setChecksum(b []byte, trans int, tcp bool) {
	at, proto := trans+6, uint8(wire.UDP)
	if tcp {
		at, proto = trans+16, wire.TCP
	}
	b[at], b[at+1] = 0, 0
	sum := wire.Checksum(src(b), dst(b), proto, b[trans:])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], sum)
}
