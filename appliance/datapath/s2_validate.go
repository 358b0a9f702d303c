package datapath

import (
	"encoding/binary"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// validate is stage 2: the IPv6 header, addresses that must not be on a wire, and where the
// extension headers are. What a header means is for the node it is addressed to (RFC 8200 4): a
// fault further back than the Hop-by-Hop Options header is none of a forwarding node's business.
func (w *Worker) validate(p *packet.Packet) packet.Verdict {
	b := p.Bytes()
	if len(b) < wire.IPv6HeaderLen {
		return packet.Drop(packet.HeaderTruncated)
	}
	if b[0]>>4 != 6 {
		return packet.Drop(packet.HeaderVersion)
	}
	length := wire.IPv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if length == wire.IPv6HeaderLen && b[6] == wire.HopByHop {
		// Only a jumbogram has Payload Length zero and a Hop-by-Hop Options header; that option
		// is unknown to us, and the options are looked at to say so (RFC 2675 3, RFC 8200 4.2).
		length = len(b)
	}
	if length > len(b) {
		return packet.Drop(packet.HeaderPayloadLength)
	}
	if length < len(b) { // the link's padding
		p.Trim(length)
		b = p.Bytes()
	}
	if v := martian(src(b), dst(b), p.In == 0); v != packet.Continue {
		return v
	}
	c := &w.chain
	c.Walk(b)
	p.Proto, p.TransOff, p.ProtoField = c.Proto, c.Off, c.ProtoField
	p.FragOff, p.HBH, p.Ext = c.Fragment, b[wire.NextHeaderOffset] == wire.HopByHop, c.N > 0
	return packet.Continue
}

// martian refuses addresses that no packet on a link may have.
func martian(src, dst *[16]byte, own bool) packet.Verdict {
	switch {
	case src[0] == 0xff:
		return packet.Drop(packet.SourceMulticast)
	case own:
		return packet.Continue
	case src[0] == 0 && wire.IsLoopback(src):
		return packet.Drop(packet.SourceLoopback)
	case dst[0] == 0xff:
		// Scope 0 is reserved and scope 1 never leaves a node (RFC 4291 2.7).
		if dst[1]&0x0f <= 1 {
			return packet.Drop(packet.DestinationScope)
		}
	case dst[0] == 0 && wire.IsUnspecified(dst):
		return packet.Drop(packet.DestinationUnspecified)
	case dst[0] == 0 && wire.IsLoopback(dst):
		return packet.Drop(packet.DestinationLoopback)
	}
	return packet.Continue
}

// hopByHop processes the Hop-by-Hop Options header of a packet for this node, or of one in
// transit if so configured (RFC 8200 4.3).
func (w *Worker) hopByHop(p *packet.Packet) packet.Verdict {
	return w.options(p, wire.IPv6HeaderLen)
}

// options processes the options of the header at off; an option that nothing here knows is
// treated as its two highest bits say (RFC 8200 4.2).
func (w *Worker) options(p *packet.Packet, off int) packet.Verdict {
	b := p.Bytes()
	if len(b) < off+8 {
		return packet.Drop(packet.ChainTruncated)
	}
	end := off + (int(b[off+1])+1)*8
	if end > len(b) {
		return packet.Drop(packet.ChainTruncated)
	}
	opts := wire.ParseOptions(b[:end], off)
	for {
		o, ok := opts.Next()
		if !ok {
			break
		}
		switch o.Type {
		case wire.OptPad1, wire.OptPadN:
			continue
		case wire.OptRouterAlert:
			// Of interest to protocols that this node does not speak in transit (RFC 2711 2.1);
			// MLD messages are addressed to groups and come by another way.
			continue
		case wire.OptHomeAddress:
			if off == wire.IPv6HeaderLen && p.HBH {
				break // it is none of Hop-by-Hop Options
			}
			if v := w.mobile(p, wire.DestOpts, off); v == packet.Local {
				continue
			} else if v != packet.Continue {
				return v
			}
		}
		reason := packet.OptionUnrecognized
		if o.Type == wire.OptJumbo {
			reason = packet.JumboRefused
		}
		switch wire.Action(o.Type) {
		case wire.ActionSkip:
			continue
		case wire.ActionDiscard:
			return packet.Drop(packet.OptionDiscard)
		case wire.ActionDiscardICMP:
			w.sendError(p, paramProblem(wire.CodeUnrecognizedOption, o.Off))
		case wire.ActionDiscardICMPUnlessMulticast:
			if dst(b)[0] != 0xff {
				w.sendError(p, paramProblem(wire.CodeUnrecognizedOption, o.Off))
			}
		}
		return packet.Drop(reason)
	}
	if opts.Problem != 0 {
		w.sendError(p, paramProblem(wire.CodeErroneousHeader, opts.Problem))
		return packet.Drop(packet.OptionMalformed)
	}
	return packet.Continue
}
