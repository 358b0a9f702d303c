package ndp

import (
	"net/netip"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/mld"
)

func mldQuery(q wire.MLDQuery) mld.Query {
	return mld.Query{V1: q.V1, Group: q.Group, MaxDelay: q.MaxDelay}
}

// join adds a user of a group on a link.
func (m *Module) join(now clock.Instant, l *linkState, g netip.Addr) {
	if l.mld.Join(now, g) {
		m.changed = true
		m.eventGroup(l, g, false)
	}
	m.report(l, l.mld.Tick(now))
}

// leave removes a user of a group on a link.
func (m *Module) leave(now clock.Instant, l *linkState, g netip.Addr) {
	if l.mld.Leave(now, g) {
		m.changed = true
		m.eventGroup(l, g, true)
	}
	m.report(l, l.mld.Tick(now))
}

// maxRecords is how many group records fit the minimum MTU.
const maxRecords = (wire.MinMTU - wire.IPv6HeaderLen - 8 - 8) / 20

// report sends what the MLD listener asks for. Reports are for links with link-layer multicast:
// elsewhere there is nobody who would have to be told what to forward.
func (m *Module) report(l *linkState, es []mld.Effect) {
	if !l.link.Ethernet || !l.link.Usable() {
		return
	}
	src := netip.IPv6Unspecified() // until the link-local address is usable (RFC 3590 4)
	for _, a := range m.addrs {
		if a.link == l.index() && a.addr.IsLinkLocalUnicast() && !a.tentative() && !a.dadFailed {
			src = a.addr
		}
	}
	for _, e := range es {
		if e.V1 {
			typ := uint8(wire.TypeMLDv1Report)
			if e.Records[0].Type == mld.ChangeToInclude {
				typ = wire.TypeMLDv1Done
			}
			m.sendMLD(l, wire.AppendMLDv1(nil, src, typ, e.Records[0].Group))
			continue
		}
		for rs := e.Records; len(rs) > 0; {
			n := min(len(rs), maxRecords)
			records := make([]wire.MLDRecord, n)
			for i, r := range rs[:n] {
				records[i] = wire.MLDRecord{Type: uint8(r.Type), Group: r.Group}
			}
			m.sendMLD(l, wire.AppendMLDv2Report(nil, src, records))
			rs = rs[n:]
		}
	}
}

func (m *Module) sendMLD(l *linkState, b []byte) {
	dst := [16]byte(b[24:40])
	m.transmit(l, b, wire.MulticastMAC(&dst))
}
