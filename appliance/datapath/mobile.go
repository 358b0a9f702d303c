package datapath

import (
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// mobile shows a header of Mobile IPv6 to who knows of home addresses. Local: it has had its effect; Continue: nobody here
// knows of them, and it is a header like others.
func (w *Worker) mobile(p *packet.Packet, proto uint8, off int) packet.Verdict {
	upper, at := p.Proto, p.TransOff
	p.Proto, p.TransOff = proto, off
	v := w.runHooks(module.StageInput, p)
	p.Proto, p.TransOff = upper, at
	switch v {
	case packet.Local:
		p.Walked = off + (int(p.Bytes()[off+1])+1)*8
	case packet.Drop(packet.HopLimitExceeded):
		w.sendError(p, module.ICMPError{Type: wire.TypeTimeExceeded, Code: wire.CodeHopLimit})
	}
	return v
}

// asReceived gives a packet back what it looked like before its Type 2 Routing header and Home Address option had their
// effect: in errors it is quoted so, and they go to where it came from.
func asReceived(p *packet.Packet) {
	b := p.Bytes()
	var c wire.Chain
	c.Walk(b)
	for i := c.N - 1; i >= 0; i-- {
		h := &c.Headers[i]
		if h.Off >= p.Walked {
			continue
		}
		switch h.Proto {
		case wire.Routing:
			if b[h.Off+2] == 2 && h.Len == 24 && b[h.Off+3] == 0 {
				swap(b[24:40], b[h.Off+8:])
				b[h.Off+3] = 1
				b[7]++
			}
		case wire.DestOpts:
			if o := wire.HomeAddress(b, h); o != 0 {
				swap(b[8:24], b[o+2:])
			}
		}
	}
	p.Walked = 0
}

func swap(a, b []byte) {
	t := [16]byte(a)
	copy(a, b[:16])
	copy(b, t[:])
}

// home returns the addresses that a packet on the wire is from and to as upper layers know them (RFC 6275 6.3, 6.4).
func home(b []byte, c *wire.Chain) (from, to [16]byte) {
	from, to = *src(b), *dst(b)
	for i := range c.N {
		h := &c.Headers[i]
		switch h.Proto {
		case wire.Routing:
			if b[h.Off+2] == 2 && h.Len == 24 && b[h.Off+3] == 1 {
				to = [16]byte(b[h.Off+8:])
			}
		case wire.DestOpts:
			if o := wire.HomeAddress(b, h); o != 0 && b[o+1] == 16 {
				from = [16]byte(b[o+2:])
			}
		}
	}
	return from, to
}

// perFragment returns where the headers end that each fragment carries, and the octet that names what follows: those up to
// the Routing header (RFC 8200 4.5), and up to Destination Options with a home address (RFC 6275 6.3).
func perFragment(b []byte, c *wire.Chain) (end, field int) {
	end, field = c.UnfragEnd, c.UnfragProtoField
	for i := range c.N {
		h := &c.Headers[i]
		switch h.Proto {
		case wire.HopByHop, wire.Routing:
		case wire.DestOpts:
			if wire.HomeAddress(b, h) != 0 {
				end, field = h.Off+h.Len, h.Off
			}
		default:
			return end, field
		}
	}
	return end, field
}
