package ndp

import (
	"net/netip"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
)

// apply carries out what the neighbor cache of a link asks for.
func (m *Module) apply(now clock.Instant, l *linkState, es []nud.Effect) {
	m.effects = es
	for i := range es {
		e := &es[i]
		switch e.Kind {
		case nud.SolicitMulticast:
			m.solicit(l, e.Addr, nil)
		case nud.SolicitUnicast:
			lla := [6]byte(e.LLA)
			m.solicit(l, e.Addr, &lla)
		case nud.Release:
			for _, p := range e.Pkts {
				m.host.Transmit(p.(*packet.Packet), l.index(), e.LLA)
			}
		case nud.Unreachable:
			for _, p := range e.Pkts {
				pk := p.(*packet.Packet)
				m.host.SendError(pk, module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodeAddressUnreachable})
				m.host.Drop(pk, packet.NeighborUnreachable)
			}
		case nud.Dropped:
			for _, p := range e.Pkts {
				m.host.Drop(p.(*packet.Packet), dropReason(e.Why))
			}
		case nud.Changed:
			l.table.put(&neighbor{
				addr: e.Entry.Addr.As16(), lla: e.Entry.LLA, fresh: e.Entry.State != nud.Stale, failed: e.Entry.State == nud.Failed,
			})
			if !e.Entry.HasLLA && e.Entry.State != nud.Failed { // nothing to send to yet
				l.table.remove(e.Entry.Addr)
			}
			m.eventNeigh(now, l, e.Entry, false)
		case nud.Removed:
			l.table.remove(e.Addr)
			m.eventNeigh(now, l, e.Entry, true)
		}
	}
	clear(es)
}

func dropReason(why string) packet.Reason {
	switch why {
	case nud.WhyQueueFull:
		return packet.NeighborQueueFull
	case nud.WhyTableFull:
		return packet.NeighborTableFull
	default:
		return packet.NeighborUnreachable
	}
}

// solicit sends an NS for target: to its group, or to the address it had (RFC 4861 7.2.2, 7.3.3).
func (m *Module) solicit(l *linkState, target netip.Addr, lla *[6]byte) {
	src := m.sourceFor(l, target)
	if !src.IsValid() {
		m.count.noSource.Inc()
		return
	}
	ns := ndwire.NS{Src: src, Dst: wire.SolicitedNode(target), Target: target, SourceLLA: &l.link.MAC}
	dst := ns.Dst.As16()
	mac := wire.MulticastMAC(&dst)
	if lla != nil {
		ns.Dst, mac = target, *lla
	}
	m.transmit(l, ndwire.AppendNS(nil, ns), mac)
}

// sourceFor picks an address of the link to ask from: one of the target's prefix if there is one,
// else the link-local address, else any.
func (m *Module) sourceFor(l *linkState, target netip.Addr) netip.Addr {
	var best netip.Addr
	rank := 0
	for _, a := range m.addrs {
		if a.link != l.index() || a.tentative() || a.dadFailed || a.anycast {
			continue
		}
		r := 1
		switch {
		case netip.PrefixFrom(a.addr, a.prefixLen).Contains(target):
			r = 3
		case a.addr.IsLinkLocalUnicast():
			r = 2
		}
		if r > rank {
			best, rank = a.addr, r
		}
	}
	return best
}

func (m *Module) transmit(l *linkState, b []byte, dst [6]byte) {
	m.count.sent(b)
	m.host.Transmit(packet.New(b), l.index(), dst)
}

// solicited takes in an NS (RFC 4861 7.2.3, RFC 4862 5.4.3).
func (m *Module) solicited(now clock.Instant, l *linkState, p *packet.Packet, msg *ndwire.Message) {
	a := m.find(l.index(), msg.Target)
	if a != nil && a.tentative() {
		m.dadInput(now, l, a, a.dad.NS(msg.Src.IsUnspecified(), msg.Nonce), p.SrcMAC)
		return
	}
	if msg.HasSourceLLA && !msg.Src.IsUnspecified() {
		m.apply(now, l, l.cache.Hint(now, msg.Src, nud.LLA(msg.SourceLLA), nil, m.effects[:0]))
	}
	if a == nil || a.dadFailed {
		return
	}
	na := ndwire.NA{
		Src: a.addr, Dst: msg.Src, Target: a.addr, Router: l.link.Forwarding, Solicited: true,
		Override: !a.anycast, TargetLLA: &l.link.MAC,
	}
	mac := p.SrcMAC
	if msg.HasSourceLLA {
		mac = msg.SourceLLA
	}
	if msg.Src.IsUnspecified() { // somebody does DAD for our address (7.2.4)
		na.Dst, na.Solicited = wire.AllNodes, false
		d := na.Dst.As16()
		mac = wire.MulticastMAC(&d)
	}
	if a.anycast { // an anycast address is no source (RFC 4291 2.6)
		if na.Src = m.sourceFor(l, na.Dst); !na.Src.IsValid() {
			return
		}
	}
	m.transmit(l, ndwire.AppendNA(nil, na), mac)
}

// advertised takes in an NA (RFC 4861 7.2.5, RFC 4862 5.4.4).
func (m *Module) advertised(now clock.Instant, l *linkState, p *packet.Packet, msg *ndwire.Message) {
	if a := m.find(l.index(), msg.Target); a != nil {
		if a.tentative() {
			m.dadInput(now, l, a, a.dad.NA(), p.SrcMAC)
			return
		}
		if !a.anycast && !a.dadFailed && p.SrcMAC != l.link.MAC {
			// Somebody else uses an address that is ours: an operator has to look (RFC 4862 5.4.4).
			m.count.conflicts.Inc()
			m.host.Log().Error("another node uses this node's address",
				zap.Stringer("address", a.addr), zap.String("link", l.cfg.name), zap.String("lladdr", macText(p.SrcMAC)))
		}
		return
	}
	m.apply(now, l, l.cache.NA(now, nud.Advert{
		Target: msg.Target, Router: msg.Router, Solicited: msg.Solicited, Override: msg.Override,
		LLA: msg.TargetLLA, HasLLA: msg.HasTargetLLA,
	}, m.effects[:0]))
}

// listen takes in an MLD message (RFC 3810 6.2): from a link-local address, hop limit 1.
func (m *Module) listen(now clock.Instant, l *linkState, p *packet.Packet) {
	b := p.Bytes()
	h, err := wire.ParseIPv6(b)
	if err != nil || h.HopLimit() != 1 || !h.Src().IsLinkLocalUnicast() || !p.HBH || !wire.VerifyICMPv6(b, p.TransOff) {
		m.host.Drop(p, packet.MLDInvalid)
		return
	}
	switch b[p.TransOff] {
	case wire.TypeMLDQuery:
		q, ok := wire.ParseMLDQuery(b, p.TransOff)
		if !ok {
			m.host.Drop(p, packet.MLDInvalid)
			return
		}
		l.mld.Heard(now, mldQuery(q))
	case wire.TypeMLDv1Report:
		if len(b) >= p.TransOff+24 {
			l.mld.HeardReport(now, netip.AddrFrom16([16]byte(b[p.TransOff+8:p.TransOff+24])))
		}
	}
}
