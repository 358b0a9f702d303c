package datapath

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// Links of kind tunnel have no wire. What would go over it is put into a packet of this node, which is routed; what comes
// out of packets for this node has arrived on the link.

// enter is the end of stage 8 for such a link.
func (w *Worker) enter(p *packet.Packet, l *module.Link) packet.Verdict {
	c := &w.count.links[l.Index&linkMask]
	n := p.Len()
	v := w.runHooks(module.StageEnter, p)
	switch v {
	case packet.Forward:
		c.txPackets.add(1)
		c.txOctets.add(uint64(n))
		return v
	case packet.Drop(packet.TooBig): // the path has become narrower than the link says so far
		if p.In == 0 && !p.NoFrag && !w.isTCP(p) && w.chain.Fragment == 0 {
			return w.fragment(p, p.MTU, false)
		}
		p.Answer = tooBig(p.MTU)
	case packet.Continue: // a link whose module has just forgotten it
		v = packet.Drop(packet.LinkDown)
	}
	c.txFailed.add(1)
	if p.In != 0 && p.Answer.Type != 0 { // as it was received
		p.Bytes()[7]++
	}
	return v
}

// exit is what the switch of protocols does about packets that carry others.
func (w *Worker) exit(p *packet.Packet) packet.Verdict {
	if v := w.runHooks(module.StageExit, p); v != packet.Continue {
		return v
	}
	return w.unrecognized(p, p.ProtoField)
}
