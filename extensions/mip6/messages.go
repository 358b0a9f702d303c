package mip6

import (
	"net/netip"

	awire "leveret/appliance/wire"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/cn"
	"leveret/extensions/mip6/wire"
)

const unknownBinding = wire.UnknownBinding

// admit is the hook for what is delivered here, when policies have let it in: Mobility Headers go to the loop, of ICMPv6 errors
// about what was sent by a binding a copy does. Floods of tests do not keep updates waiting.
func (m *Module) admit(p *packet.Packet) packet.Verdict {
	if !m.on.Load() {
		return packet.Continue
	}
	b := p.Bytes()
	switch p.Proto {
	case awire.MH:
		ev := module.Event{Kind: evMessage, Class: module.ClassSolicitation, Link: p.In}
		if b[p.TransOff+2] == wire.TypeBU {
			ev.Class = module.ClassKnown
		}
		if m.protected(p) {
			ev.Kind = evProtected
		}
		ev.Pkt = p.Clone()
		if !m.host.Mail(ev) {
			ev.Pkt.Release()
			return packet.Drop(packet.ModuleBusy)
		}
		return packet.Consumed
	case awire.ICMPv6:
		if len(b) < p.TransOff+awire.ICMPv6HeaderLen || b[p.TransOff] != awire.TypeDestinationUnreachable {
			return packet.Continue
		}
		quote := b[p.TransOff+awire.ICMPv6HeaderLen:]
		var c awire.Chain
		if len(quote) < awire.IPv6HeaderLen {
			return packet.Continue
		}
		c.Walk(quote)
		if _, _, ok := cn.Lost(quote, &c); ok {
			q := p.Clone()
			if !m.host.Mail(module.Event{Kind: evLost, Class: module.ClassAdvertisement, Link: p.In, Pkt: q}) {
				q.Release()
			}
		}
	}
	return packet.Continue
}

// protected reports whether nobody on the way has changed a packet.
func (m *Module) protected(p *packet.Packet) bool {
	var room [packet.MaxStates]module.SA
	for _, sa := range m.x.Secpath(p, room[:0]) {
		if sa.Integrity {
			return true
		}
	}
	return false
}

// message is for a Mobility Header at TransOff.
func (m *Module) message(now clock.Instant, p *packet.Packet, protected bool) {
	b := p.Bytes()
	a := cn.Arrival{Src: netip.AddrFrom16([16]byte(b[8:])), Dst: netip.AddrFrom16([16]byte(b[24:])), Protected: protected}
	a.CareOf = a.Src
	var c awire.Chain
	c.Walk(b)
	for i := range c.N {
		h := &c.Headers[i]
		if h.Off >= p.Walked || h.Proto != awire.DestOpts {
			continue
		}
		if o := awire.HomeAddress(b, h); o != 0 {
			a.CareOf, a.Option = netip.AddrFrom16([16]byte(b[o+2:])), true
		}
	}
	a.Own = m.own(a.Dst, p.In)
	msg, f := wire.Parse(b, p.TransOff, a.Src, a.Dst)
	if !f.OK() {
		m.count.faults[f.Reason].Inc()
		switch f.Answer() {
		case wire.ParameterProblem:
			m.host.SendError(p, module.ICMPError{Type: awire.TypeParameterProblem, Code: awire.CodeErroneousHeader, Arg: uint32(f.Pointer)})
		case wire.BindingError:
			home := netip.Addr{}
			if a.Option {
				home = a.Src
			}
			m.bindingError(now, a.Dst, a.CareOf, home, p.In, wire.UnknownType)
		}
		return
	}
	m.count.received[msg.Type()].Inc()
	r := m.node.Receive(now, a, msg, m.conf.policy(a.Src))
	switch {
	case r.Ignored != "":
		m.count.ignored.Inc()
	case r.Outcome != nil:
		bu, _ := msg.BindingUpdate()
		m.updated(a, bu, r, p.In)
	default:
		m.count.tests.Inc()
		m.send(r.Packet, p.In)
	}
}

// own reports whether an address is one that this node can answer from.
func (m *Module) own(a netip.Addr, link int) bool {
	b := a.As16()
	own := m.host.Addrs().Lookup(&b, link)
	return own != nil && own.Assigned() && !own.Anycast && !own.SubnetRouter
}

// updated does what a Binding Update has led to. It is acknowledged when that is in force.
func (m *Module) updated(a cn.Arrival, u wire.BindingUpdate, r cn.Result, link int) {
	o := r.Outcome
	m.count.reasons[o.Reason].Inc()
	if o.Evicted.State != 0 {
		m.ended(o.Evicted, "evicted")
	}
	switch o.Change {
	case bcache.Added, bcache.Updated:
		event := "added"
		if o.Change == bcache.Updated {
			event = "updated"
		}
		m.tell(event, o.After)
		m.bind(o.After, func(now clock.Instant, err error) {
			if err == nil {
				m.acknowledge(r.Packet, link)
				return
			}
			m.debug(err.Error(), o.After)
			if now, ok := m.cache.Get(o.After.Key); !ok || now.Sequence != o.After.Sequence || now.State != bcache.Registered {
				return // another update has come since
			}
			m.count.reasons[bcache.NoRoom].Inc()
			no := m.node.Undo(now, o)
			m.ended(o.After, "deleted")
			m.acknowledge(no, link)
		})
		return
	case bcache.Removed:
		m.ended(o.Before, "deleted")
	}
	if o.Reason != bcache.None {
		m.refused(a, u, o)
	}
	m.acknowledge(r.Packet, link)
}

func (m *Module) acknowledge(b []byte, link int) {
	if b == nil {
		return
	}
	m.count.acks.Inc()
	m.send(b, link)
}

// bindingError tells the source of a packet that it cannot be processed (RFC 6275 9.3.3); from is where that went to, which is
// not told of if it was a group.
func (m *Module) bindingError(now clock.Instant, from, to, home netip.Addr, link int, status uint8) {
	if !m.own(from, link) {
		return
	}
	b, why := m.node.Error(now, from, to, home, status)
	if why != "" {
		m.count.errorsLimited.Inc()
		return
	}
	m.count.errors[status].Inc()
	m.send(b, link)
}

// lost is for an ICMPv6 error about a packet that was sent by a binding (RFC 6275 9.3.4).
func (m *Module) lost(now clock.Instant, p *packet.Packet) {
	b := p.Bytes()
	if p.GSO.Csum == packet.CsumUnknown && !awire.VerifyICMPv6(b, p.TransOff) {
		return
	}
	quote := b[p.TransOff+awire.ICMPv6HeaderLen:]
	var c awire.Chain
	c.Walk(quote)
	k, careOf, ok := cn.Lost(quote, &c)
	if !ok || m.x.Bound(k.Local, k.Home) == 0 { // none was sent, so none was lost
		return
	}
	if gone, ok := m.cache.Unreachable(now, k, careOf); ok {
		m.ended(gone, "unreachable")
	}
}
