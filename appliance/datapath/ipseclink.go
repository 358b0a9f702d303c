package datapath

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// Links of kind ipsec have no wire. What is routed to one leaves as what the transform hook makes of it; what the input
// hook opens by an SA with the link's if_id arrives on it.

// arrived is stage 1 of what the input hook says came in on link In. Whatever carried it was on another link.
func (w *Worker) arrived(p *packet.Packet) packet.Verdict {
	p.L2, p.Whole, p.Tunneled = packet.L2Unicast, false, false
	w.count.links[p.In&linkMask].received(1, uint64(p.Len()))
	v := w.rx(p, p.In)
	if v == packet.Continue {
		v = w.again(p)
	}
	return v
}

// ipsecLink is stages 5 to 8 of a packet that is routed to such a link: it is never sent as it is. Who sent one that no
// SA takes is told, as of a neighbor that is not there. What another such link or a policy has protected is taken, too:
// room for headers bounds how often.
func (w *Worker) ipsecLink(p *packet.Packet, l *module.Link) packet.Verdict {
	c := &w.count.links[l.Index&linkMask]
	if p.MTU = routeMTU(l, p.Route); p.In == 0 {
		p.MTU = w.pathMTU(p, l)
	}
	if t := w.tap; t != nil && p.Len() <= p.MTU && p.GSO.Csum != packet.CsumPartial { // others come again in pieces
		t.Offer(Egress, l.Index, false, p.Bytes(), packet.NoReason)
	}
	n, transit := p.Len(), p.In != 0
	switch v := w.runHooks(module.StageTransform, p); v {
	case packet.Forward:
		c.txPackets.add(1)
		c.txOctets.add(uint64(n))
		if transit {
			w.count.simple[Forwarded].add(1)
		}
		return v
	case packet.Split:
		return w.split(p)
	case packet.Drop(packet.TooBig):
		return w.tooLong(p, p.MTU)
	case packet.Drop(packet.IPsecLinkLoop):
		c.collisions.add(1)
		return v
	case packet.Continue:
		return w.noSA(p, c, packet.Drop(packet.IPsecLinkNoPolicy))
	case packet.Drop(packet.XfrmOutNoStates), packet.Drop(packet.XfrmOutPolBlock), packet.Drop(packet.XfrmOutPolError), packet.Drop(packet.XfrmOutBundleGenError):
		return w.noSA(p, c, v)
	default:
		return v
	}
}

// noSA drops what no SA of the link takes.
func (w *Worker) noSA(p *packet.Packet, c *linkCells, v packet.Verdict) packet.Verdict {
	c.noCarrier.add(1)
	if p.In != 0 { // as it was received
		p.Bytes()[7]++
	}
	w.sendError(p, unreachable(wire.CodeAddressUnreachable))
	return v
}
