package datapath

import (
	"leveret/appliance/packet"
)

// transmit is stage 8: the link header, and what the port cannot do itself. The packet waits for
// the end of the vector; flush sends.
func (w *Worker) transmit(p *packet.Packet) {
	l, pt := w.linkOf(p.Out), w.ports.index(p.Out)
	if l == nil || pt == nil || !l.Usable() {
		w.drop(p, packet.LinkDown)
		return
	}
	if p.GSO.Type != packet.GSONone && !takesWhole(pt, p) {
		w.segment(p, forLink)
		return
	}
	if p.GSO.Csum == packet.CsumPartial && !pt.caps.Checksum {
		w.complete(p)
	}
	if pt.caps.Ethernet {
		h := p.Push(ethHeaderLen)
		copy(h[0:6], p.DstMAC[:])
		copy(h[6:12], l.MAC[:])
		h[12], h[13] = etherTypeIPv6>>8, etherTypeIPv6&0xff
	}
	if t := w.tap; t != nil {
		t.Offer(Egress, p.Out, pt.caps.Ethernet, p.Bytes(), packet.NoReason)
	}
	if l.Tunnel {
		w.act(p, w.enter(p, l))
		return
	}
	tx := &w.tx[p.Out]
	if len(tx.ps) == 0 {
		w.active = append(w.active, p.Out)
	}
	var j joint
	if p.GSO.Type == packet.GSONone && w.tunneled(p) {
		if j = newJoint(pt, p); tx.join(&j, p) {
			w.count.simple[PacketsCoalesced].add(1)
			p.Release()
			return
		}
	}
	tx.joints = append(tx.joints, j)
	if tx.ps = append(tx.ps, p); len(tx.ps) >= VectorSize {
		w.flushLink(tx, p.Out)
	}
}

// takesWhole reports whether the port takes this kind of superpacket.
func takesWhole(pt *port, p *packet.Packet) bool {
	switch p.GSO.Type {
	case packet.GSOTCP6:
		return pt.caps.TSO
	case packet.GSOUDP:
		return pt.caps.USO
	default:
		return true
	}
}

// flush sends what waits on every link.
func (w *Worker) flush() {
	for _, i := range w.active {
		if tx := &w.tx[i]; len(tx.ps) > 0 {
			w.flushLink(tx, i)
		}
	}
	w.active = w.active[:0]
}

func (w *Worker) flushLink(tx *txBatch, out int) {
	var octets uint64
	for i, p := range tx.ps {
		tx.joints[i].close(p)
		octets += uint64(p.Len())
	}
	n := tx.q.Tx(tx.ps)
	c := &w.count.links[out&linkMask]
	if failed := len(tx.ps) - n; failed > 0 {
		c.txFailed.add(uint64(failed))
		w.count.drops[packet.TxFailed].add(uint64(failed))
	}
	c.txPackets.add(uint64(n))
	c.txOctets.add(octets)
	for i, p := range tx.ps {
		p.Release()
		tx.ps[i] = nil
	}
	tx.ps, tx.joints = tx.ps[:0], tx.joints[:0]
}
