package datapath

import (
	"leveret/appliance/packet"
)

const (
	ethHeaderLen  = 14
	etherTypeIPv6 = 0x86dd
)

// rx is stage 1: what the link says about the packet, and the link header off.
func (w *Worker) rx(p *packet.Packet, in int) packet.Verdict {
	p.In = in
	pt := w.ports.index(in)
	l := w.linkOf(in)
	if pt == nil || l == nil || !l.Up {
		return packet.Drop(packet.LinkDown)
	}
	if t := w.tap; t != nil {
		t.Offer(Ingress, in, pt.caps.Ethernet, p.Bytes(), packet.NoReason)
	}
	if !pt.caps.Ethernet {
		return packet.Continue
	}
	b := p.Bytes()
	if len(b) < ethHeaderLen {
		return packet.Drop(packet.FrameShort)
	}
	if uint16(b[12])<<8|uint16(b[13]) != etherTypeIPv6 {
		return packet.Drop(packet.FrameNotIPv6)
	}
	copy(p.DstMAC[:], b[0:6])
	copy(p.SrcMAC[:], b[6:12])
	p.Pull(ethHeaderLen)
	switch {
	case p.DstMAC == l.MAC:
	case p.DstMAC == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		p.L2 = packet.L2Broadcast
	case p.DstMAC[0]&1 != 0:
		p.L2 = packet.L2Multicast
	default: // seen because the device is promiscuous for our own address
		p.L2 = packet.L2Other
		return packet.Drop(packet.FrameNotForUs)
	}
	return packet.Continue
}
