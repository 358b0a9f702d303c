package xfrm

import (
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
)

// refusals are the reasons of verdicts on packets that came in.
var refusals = [...]packet.Reason{
	spd.InBufferError: packet.XfrmInBufferError, spd.InStateMismatch: packet.XfrmInStateMismatch, spd.InNoPols: packet.XfrmInNoPols,
	spd.InPolBlock: packet.XfrmInPolBlock, spd.InTmplMismatch: packet.XfrmInTmplMismatch,
}

// admit is the hook for what is delivered here: is that how policies want it to come in? (RFC 4301 5.2) What this node
// sends to itself was never outside.
func (m *Module) admit(p *packet.Packet) packet.Verdict {
	v := m.view.Load()
	if v.idle[spd.In] && len(p.Came()) == 0 || p.In == 0 {
		return packet.Continue
	}
	f, err := selector.Decode(p.Bytes(), selector.Wire) // the home addresses are where addresses are, see [packet.Packet.Walked]
	if err != nil {
		return m.drop(packet.XfrmInPolError)
	}
	return m.check(v, p, spd.In, &f)
}

// check compares the SAs that a packet came through with its policies.
func (m *Module) check(v *view, p *packet.Packet, dir spd.Dir, f *selector.Flow) packet.Verdict {
	f.Link, f.Mark = p.In, p.Mark
	var path [packet.MaxStates]spd.State
	came := p.Came()
	icmp := false
	for i, x := range came {
		s := x.(*sad.State)
		path[i] = spd.State{
			Proto: s.Proto, Mode: s.Mode, SPI: s.SPI, ReqID: s.ReqID, IfID: s.IfID, Src: s.SAddr, Dst: s.DAddr,
			Selector: s.Restricts(), ICMP: s.Flags&sad.ICMP != 0,
		}
		icmp = icmp || path[i].ICMP
	}
	var quoted *selector.Flow
	var q selector.Flow
	if icmp && f.Proto == wire.ICMPv6 && !f.Opaque {
		if got, ok := quotedFlow(p.Bytes()); ok {
			q = got
			q.Link, q.Mark = f.Link, f.Mark
			quoted = &q
		}
	}
	if verdict, at := v.spd.Check(dir, path[:len(came)], f, quoted, m.ifID(p.In), v.block[dir]); verdict != spd.Accept {
		if at >= 0 && path[at].Proto == proto.HAO && verdict != spd.InStateMismatch {
			m.refused(p, f)
		}
		return m.drop(refusals[verdict])
	}
	return packet.Continue
}

// ifID is that of the policies for what goes by a link; 0 if it is not of kind ipsec.
func (m *Module) ifID(link int) uint32 {
	if l := m.host.Links().Index(link); l != nil {
		return l.IfID
	}
	return 0
}

// quotedFlow returns the reversed flow of the packet that an ICMPv6 error quotes.
func quotedFlow(b []byte) (selector.Flow, bool) {
	var c wire.Chain
	c.Walk(b)
	if c.Proto != wire.ICMPv6 || c.Off > len(b) {
		return selector.Flow{}, false
	}
	f, err := selector.Quoted(wire.ICMPv6, b[c.Off:], 0)
	return f, err == nil
}
