package ndp

import (
	"net/netip"
	"time"

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
		case nud.GiveUp:
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
				addr: e.Entry.Addr.As16(), lla: e.Entry.LLA, fresh: fresh(e.Entry.State), failed: e.Entry.State == nud.Failed,
			})
			if !e.Entry.HasLLA && e.Entry.State != nud.Failed { // nothing to send to yet
				l.table.remove(e.Entry.Addr)
			}
			m.eventNeigh(now, l, e.Entry, false)
			m.routerAnswers(now, l, e.Entry)
			m.gatewayChanged(now, l, e.Entry)
		case nud.RouterLost:
			m.routerLost(l, e.Addr)
		case nud.Removed:
			l.table.remove(e.Addr)
			if e.Why == "" && (e.Old == nud.Probe || e.Old == nud.Unreachable) { // it was asked and did not answer
				m.routerSilent(now, l, e.Addr)
				m.gatewayAnswers(now, l, e.Addr, false)
			}
			m.eventNeigh(now, l, e.Entry, true)
		}
	}
	clear(es)
}

// fresh reports whether it does not matter in a state that packets are sent.
func fresh(s nud.State) bool { return s == nud.Delay || s == nud.Permanent || s == nud.NoARP }

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
	m.told(l, b)
	m.host.Transmit(packet.New(b), l.index(), dst)
}

// solicited takes in an NS (RFC 4861 7.2.3, RFC 4862 5.4.3).
func (m *Module) solicited(now clock.Instant, l *linkState, p *packet.Packet, msg *ndwire.Message) {
	a := m.find(l.index(), msg.Target)
	if a != nil && a.tentative() {
		if msg.Src.IsUnspecified() || !a.optimistic {
			m.dadInput(now, l, a, a.dad.NS(msg.Src.IsUnspecified(), msg.Nonce), p.SrcMAC)
			return
		}
	}
	if msg.HasSourceLLA && !msg.Src.IsUnspecified() {
		m.apply(now, l, l.cache.Hint(now, msg.Src, nud.LLA(msg.SourceLLA), nil, m.effects[:0]))
	}
	switch {
	case a != nil && !a.dadFailed:
		// Optimistic: nobody's entry is to be overridden by what may turn out wrong (RFC 4429 3.3).
		m.answer(now, l, p, msg, ndwire.NA{
			Src: a.addr, Router: l.link.Forwarding, Override: !a.anycast && !a.tentative(), TargetLLA: &l.link.MAC,
		}, a.anycast)
	case a == nil && l.proxies[msg.Target] != nil:
		m.answerFor(now, l, p, msg, l.proxies[msg.Target])
	}
}

// answerFor answers an NS for an address of another node (RFC 4861 7.2.8). Whoever sent the NS is not told
// that it has its own address.
func (m *Module) answerFor(now clock.Instant, l *linkState, p *packet.Packet, msg *ndwire.Message, x *proxied) {
	if msg.Src == x.addr || m.isNeighborSelf(l, x.addr, p.SrcMAC) {
		return
	}
	m.answer(now, l, p, msg, ndwire.NA{Router: x.router, TargetLLA: &l.link.MAC}, true)
}

// isNeighborSelf reports whether a frame came from the node that has an address: it is on the link itself.
func (m *Module) isNeighborSelf(l *linkState, a netip.Addr, from [6]byte) bool {
	e := l.cache.Get(a)
	return e != nil && e.HasLLA && [6]byte(e.LLA) == from
}

// answer answers an NS (RFC 4861 7.2.4): at once, or later where others may answer too. na has what
// follows from the target.
func (m *Module) answer(now clock.Instant, l *linkState, p *packet.Packet, msg *ndwire.Message, na ndwire.NA, later bool) {
	na.Target, na.Dst, na.Solicited = msg.Target, msg.Src, true
	mac := p.SrcMAC
	if msg.HasSourceLLA {
		mac = msg.SourceLLA
	}
	if msg.Src.IsUnspecified() { // somebody does DAD for it
		na.Dst, na.Solicited = wire.AllNodes, false
		d := na.Dst.As16()
		mac = wire.MulticastMAC(&d)
	}
	if later { // neither an anycast address nor another node's is a source (RFC 4291 2.6)
		if na.Src = m.sourceFor(l, na.Dst); !na.Src.IsValid() {
			return
		}
	}
	b := ndwire.AppendNA(nil, na)
	if !later {
		m.transmit(l, b, mac)
		return
	}
	wait := time.Duration(m.host.Rand().Float64() * float64(maxAnycastDelayTime)) // 7.2.7, 7.2.8
	if !l.delayed.put(answer{now.Add(wait), msg.Target, b, mac}) {
		m.count.answersRefused.Inc()
	}
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
