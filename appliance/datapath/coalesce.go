package datapath

import (
	"bytes"
	"encoding/binary"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// What comes out of a tunnel, or goes into one that has UDP outside, is as long as a path takes, and it costs the kernel
// as much to take one such packet as to take forty in one superpacket. So those of one flow that leave together by a port
// that takes superpackets leave as one. It is made as the kernel's receive merging makes them: whoever splits it has the
// packets that went in, and packets of a flow stay in their order. What a port handed over is left as it was.

// lookback is how many packets before it one is compared with.
const lookback = 8

// maxSegments is how many datagrams the kernel takes in one (UDP_MAX_SEGMENTS of old ones).
const maxSegments = 64

// joint is what there is to know of a packet that waits to be sent, for others to be added to it.
type joint struct {
	l2   int  // where the network header is
	hdr  int  // octets from there to the payload; 0: not a packet that is looked at
	size int  // of the payload of the first segment; no other is longer
	n    int  // segments
	tcp  bool // else UDP
	open bool // others can be added, or it to others
	sure bool // its checksum is right or will be made
}

// tunneled reports whether a packet came out of a tunnel, which may be a link, or is one that goes through one.
func (w *Worker) tunneled(p *packet.Packet) bool {
	if p.Tunneled || p.Protected {
		return true
	}
	l := w.linkOf(p.In)
	return l != nil && l.IfID != 0
}

// newJoint looks at a packet that has no extension headers.
func newJoint(pt *port, p *packet.Packet) joint {
	j := joint{n: 1, sure: p.GSO.Csum != packet.CsumUnknown}
	if pt.caps.Ethernet {
		j.l2 = ethHeaderLen
	}
	b := p.Bytes()[j.l2:]
	switch {
	case len(b) < wire.IPv6HeaderLen+8:
		return joint{}
	case b[6] == wire.TCP && len(b) >= wire.IPv6HeaderLen+20 && pt.caps.TSO && pt.caps.Checksum:
		j.tcp, j.hdr = true, wire.IPv6HeaderLen+int(b[52]>>4)*4
		j.open = b[53]&^(tcpACK|tcpPSH) == 0 && j.hdr >= wire.IPv6HeaderLen+20
	case b[6] == wire.UDP && pt.caps.USO && pt.caps.Checksum:
		j.hdr = wire.IPv6HeaderLen + 8
		j.open = int(binary.BigEndian.Uint16(b[44:])) == len(b)-wire.IPv6HeaderLen
	default:
		return joint{}
	}
	j.size = len(b) - j.hdr
	j.open = j.open && j.size > 0
	return j
}

const (
	tcpPSH = 0x08
	tcpACK = 0x10
)

// join adds a packet to the last one of its flow that waits for tx, and reports whether it could. Then the packet's
// content is in the other one.
func (tx *txBatch) join(j *joint, p *packet.Packet) bool {
	for i := len(tx.ps) - 1; j.hdr != 0 && i >= max(0, len(tx.ps)-lookback); i-- {
		head := &tx.joints[i]
		if head.hdr == 0 || head.tcp != j.tcp {
			continue
		}
		a, b := tx.ps[i].Bytes()[j.l2:], p.Bytes()[j.l2:]
		if [36]byte(a[8:44]) == [36]byte(b[8:44]) { // addresses and ports
			return head.add(j, tx.ps[i], p)
		}
	}
	return false
}

// add adds the next packet of a flow to the one before it.
func (j *joint) add(next *joint, p, q *packet.Packet) bool {
	a, b := p.Bytes()[j.l2:], q.Bytes()[j.l2:]
	n := next.size
	if !j.open || !next.open || j.n == maxSegments || n > j.size || next.hdr != j.hdr ||
		len(a)+n > wire.IPv6HeaderLen+65535 || n > p.Room() ||
		[4]byte(a[:4]) != [4]byte(b[:4]) || a[7] != b[7] || !bytes.Equal(p.Bytes()[:j.l2], q.Bytes()[:j.l2]) {
		return false
	}
	if j.tcp && !continues(a, b, j.hdr) {
		return false
	}
	if j.open = j.verified(a); !j.open || !next.verified(b) {
		return false
	}
	j.open = n == j.size
	if j.tcp && b[53]&tcpPSH != 0 {
		a[53] |= tcpPSH
		j.open = false
	}
	copy(p.Extend(n), b[j.hdr:])
	j.n++
	return true
}

// continues reports whether the TCP segment b is what comes behind a.
func continues(a, b []byte, hdr int) bool {
	return binary.BigEndian.Uint32(b[44:]) == binary.BigEndian.Uint32(a[44:])+uint32(len(a)-hdr) &&
		[4]byte(a[48:52]) == [4]byte(b[48:52]) && // acknowledgment
		a[52] == b[52] && a[53]&tcpPSH == 0 && [2]byte(a[54:56]) == [2]byte(b[54:56]) && // offset, window
		bytes.Equal(a[58:hdr], b[58:hdr]) // urgent pointer, options
}

// verified reports whether the checksum of a packet is right: it will be made anew, which must not hide that it was not.
func (j *joint) verified(b []byte) bool {
	if !j.sure {
		proto := uint8(wire.UDP)
		if j.tcp {
			proto = wire.TCP
		} else if binary.BigEndian.Uint16(b[46:]) == 0 {
			return false
		}
		t := b[wire.IPv6HeaderLen:]
		j.sure = wire.Fold(wire.Sum(t, wire.PseudoHeader(src(b), dst(b), proto, len(t)))) == 0xffff
	}
	return j.sure
}

// close makes a packet that others were added to a superpacket.
func (j *joint) close(p *packet.Packet) {
	if j.n <= 1 {
		return
	}
	b := p.Bytes()[j.l2:]
	n := len(b) - wire.IPv6HeaderLen
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	p.GSO = packet.GSO{Type: packet.GSOTCP6, Csum: packet.CsumPartial, Size: j.size, HdrLen: j.hdr, CsumStart: wire.IPv6HeaderLen, CsumOffset: 16}
	proto := uint8(wire.TCP)
	if !j.tcp {
		p.GSO.Type, p.GSO.CsumOffset, proto = packet.GSOUDP, 6, wire.UDP
		binary.BigEndian.PutUint16(b[44:], uint16(n))
	}
	binary.BigEndian.PutUint16(b[wire.IPv6HeaderLen+p.GSO.CsumOffset:], wire.Fold(wire.PseudoHeader(src(b), dst(b), proto, n)))
}
