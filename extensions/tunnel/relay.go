package tunnel

import (
	"encoding/binary"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/tunnel/encap"
)

// Sent implements [module.Sender]: is a quoted packet one of a tunnel? The key that is quoted is the one that is sent.
func (m *Module) Sent(proto uint8, src, dst [16]byte, transport []byte) bool {
	v := m.view.Load()
	for _, t := range v.byLink {
		if t == nil || t.params.Kind.Protocol() != proto || t.params.Local.As16() != src || t.params.Remote.As16() != dst {
			continue
		}
		if key, ok := encap.GREKey(transport); proto != wire.GRE || ok && key == t.params.OKey {
			return true
		}
	}
	return false
}

// admit is the hook for what is delivered here: a copy of an ICMPv6 error about a packet of a tunnel goes to the loop.
func (m *Module) admit(p *packet.Packet) packet.Verdict {
	if p.Proto != wire.ICMPv6 {
		return packet.Continue
	}
	b := p.Bytes()
	if len(b) < p.TransOff+wire.ICMPv6HeaderLen || !wire.IsError(b[p.TransOff]) {
		return packet.Continue
	}
	if t := m.quoted(b[p.TransOff+wire.ICMPv6HeaderLen:]); t != nil {
		c := p.Clone()
		if !m.host.Mail(module.Event{Kind: evError, Class: module.ClassKnown, Link: p.In, Pkt: c}) {
			c.Release()
		}
	}
	return packet.Continue
}

// quoted returns the tunnel that a packet was sent by of which this is the beginning; nil if none.
func (m *Module) quoted(quote []byte) *tunnel {
	v := m.view.Load()
	if len(v.byEnds) == 0 {
		return nil
	}
	q, ok := encap.Quoted(quote)
	if !ok || !q.Src.Is6() {
		return nil
	}
	for _, t := range v.byLink { // the key in it is the one that is sent, which may be another than is wanted
		if t != nil && t.params.Local == q.Src && t.params.Remote == q.Dst && t.params.Kind.Protocol() == q.Protocol && t.params.OKey == q.Key {
			return t
		}
	}
	return nil
}

// relay tells the source of an original packet that the tunnel packet with it was lost (RFC 2473 8).
func (m *Module) relay(now clock.Instant, p *packet.Packet) {
	b := p.Bytes()
	icmp := b[p.TransOff:]
	quote := icmp[wire.ICMPv6HeaderLen:]
	t := m.quoted(quote)
	if t == nil || p.GSO.Csum == packet.CsumUnknown && !wire.VerifyICMPv6(b, p.TransOff) {
		return
	}
	if icmp[0] == wire.TypePacketTooBig {
		m.measure(now, t) // the path has been noted before
	}
	r, ok := encap.Relay(icmp[0], icmp[1], binary.BigEndian.Uint32(icmp[4:]), quote)
	if !ok || r.V4 {
		return
	}
	m.count.relayed.Inc()
	o := packet.New(quote[r.Off:])
	o.In = t.index
	src := [16]byte(o.Bytes()[8:24])
	if m.host.Addrs().Lookup(&src, t.index) != nil { // this node's own
		o.In, o.Out = 0, t.index
	}
	m.host.SendError(o, module.ICMPError{Type: r.Type, Code: r.Code, Arg: uint32(r.MTU)})
}
