package datapath

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// transform is stage 5: what policies want of a packet that has a route. What is wrapped up in a tunnel is a packet of
// this node from here on, and is routed again; only a link of kind ipsec transforms it once more. Then packets in transit are
// compared with the MTU: fragmenting is for their sources.
func (w *Worker) transform(p *packet.Packet) packet.Verdict {
	l := w.linkOf(p.Out)
	if l.IfID != 0 {
		return w.ipsecLink(p, l)
	}
	if len(w.path.hooks[module.StageTransform]) > 0 && !p.Protected {
		transit := p.In != 0
		switch v := w.runHooks(module.StageTransform, p); v {
		case packet.Continue:
		case packet.Forward:
			if transit {
				w.count.simple[Forwarded].add(1)
			}
			return v
		case packet.Split:
			return w.split(p)
		case packet.Drop(packet.TooBig):
			return w.tooLong(p, p.MTU)
		default:
			return v
		}
	}
	if p.In == 0 {
		return packet.Continue
	}
	if mtu := routeMTU(l, p.Route); p.SegmentLen() > mtu {
		return w.tooLong(p, mtu)
	}
	w.count.simple[Forwarded].add(1)
	return packet.Continue
}

// split makes of a packet ones that are as they would be on the wire, each of which comes to stage 5 again.
func (w *Worker) split(p *packet.Packet) packet.Verdict {
	if p.GSO.Type != packet.GSONone {
		w.segment(p, forTransform)
		return packet.Taken
	}
	w.complete(p)
	return w.transform(p)
}

// tooLong tells the source of a packet that is longer than what its path, of which a tunnel may be a part, takes. A
// packet of this node whose source cannot make shorter ones is fragmented.
func (w *Worker) tooLong(p *packet.Packet, mtu int) packet.Verdict {
	if p.In == 0 && p.GSO.Type == packet.GSONone && !p.NoFrag && !p.Upper.Set && !w.isTCP(p) {
		return w.fragment(p, mtu, true)
	}
	b := p.Bytes()
	if p.In != 0 { // as it was received
		b[7]++
	}
	w.sendError(p, tooBig(mtu))
	return packet.Drop(packet.TooBig)
}
