package datapath

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// resolve is stage 7: the link-layer address of the next hop. A packet whose next hop is not yet
// known is queued by the module that resolves (a copy; bounded) and comes back by Transmit.
func (w *Worker) resolve(p *packet.Packet) packet.Verdict {
	l := w.linkOf(p.Out)
	if l == nil {
		return packet.Drop(packet.LinkDown)
	}
	if !l.Ethernet {
		return packet.Continue
	}
	if p.NextHop[0] == 0xff {
		p.DstMAC = wire.MulticastMAC(&p.NextHop)
		return packet.Continue
	}
	return w.runHooks(module.StageResolve, p)
}
