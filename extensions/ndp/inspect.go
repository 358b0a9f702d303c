package ndp

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
)

// neighJSON renders a neighbor in iproute2's keys; ages only where they are asked for.
func (m *Module) neighJSON(now clock.Instant, l *linkState, e *nud.Entry, ages bool) ndpapi.Neigh {
	j := ndpapi.Neigh{Dst: e.Addr, Dev: l.cfg.name, Router: ndpapi.Flag(e.IsRouter), State: []string{e.State.String()}}
	if e.HasLLA {
		j.LLAddr = macText(e.LLA)
	}
	if ages {
		age := func(at clock.Instant) *int64 {
			if at == 0 { // never
				return nil
			}
			s := int64(now.Sub(at) / time.Second)
			return &s
		}
		probes := e.Tries
		j.Used, j.Confirmed, j.Updated, j.Probes = age(e.Used), age(e.Confirmed), age(e.Updated), &probes
	}
	return j
}

// addrJSON renders an address in iproute2's keys.
func addrJSON(now clock.Instant, a *address) ndpapi.Addr {
	left := func(at clock.Instant) uint32 {
		if at == clock.Never {
			return ndpapi.Forever
		}
		return uint32(max(at.Sub(now), 0) / time.Second)
	}
	return ndpapi.Addr{
		Family: "inet6", Local: a.addr, PrefixLen: a.prefixLen, Scope: scopeOf(a.addr), Anycast: a.anycast, NoDAD: a.noDAD, Home: a.home,
		Tentative: a.tentative(), DADFailed: a.dadFailed, Deprecated: a.preferred <= now, Dynamic: a.valid != clock.Never,
		Temporary: a.temporary, MngTmpAddr: a.autoconf && !a.temporary, Optimistic: a.optimistic && a.tentative(),
		Protocol: a.protocol, ValidLifeTime: left(a.valid), PreferredLifeTime: left(a.preferred),
	}
}

func scopeOf(a netip.Addr) string {
	if a.IsLinkLocalUnicast() {
		return "link"
	}
	return "global"
}

// eventAddr tells `leveret monitor address` about an address.
func (m *Module) eventAddr(now clock.Instant, a *address, deleted bool) {
	name := ""
	if l := m.links[a.link]; l != nil {
		name = l.cfg.name
	}
	m.host.Publish("addr", ndpapi.Link{Deleted: deleted, IfIndex: a.link, IfName: name, AddrInfo: []ndpapi.Addr{addrJSON(now, a)}})
}

// eventNeigh tells `leveret monitor neigh` about a neighbor.
func (m *Module) eventNeigh(now clock.Instant, l *linkState, e *nud.Entry, deleted bool) {
	if !m.host.Watched("neigh") { // the wire can make many of these
		return
	}
	j := m.neighJSON(now, l, e, false)
	j.Deleted = deleted
	m.host.Publish("neigh", j)
}

// eventMessage tells `leveret monitor ndp` about a message.
func (m *Module) eventMessage(l *linkState, dir string, msg *ndwire.Message, notes []string) {
	e := ndpapi.NDMessage{Dev: l.cfg.name, Dir: dir, Type: messageNames[msg.Type], Src: msg.Src, Dst: msg.Dst, Target: msg.Target, Destination: msg.Destination, Notes: notes}
	if msg.HasSourceLLA {
		e.LLAddr = macText(msg.SourceLLA)
	} else if msg.HasTargetLLA {
		e.LLAddr = macText(msg.TargetLLA)
	}
	flag := func(set bool, letter string) {
		if set {
			e.Flags += letter
		}
	}
	flag(msg.Router, "R")
	flag(msg.Solicited, "S")
	flag(msg.Override, "O")
	if ra, err := msg.RA(); err == nil {
		flag(ra.Managed, "M")
		flag(ra.Other, "O")
		flag(ra.HomeAgent, "H")
	}
	m.host.Publish("ndp", e)
}

// eventGroup tells `leveret monitor maddress` about a group.
func (m *Module) eventGroup(l *linkState, g netip.Addr, deleted bool) {
	m.host.Publish("maddr", ndpapi.Groups{
		Deleted: deleted, IfIndex: l.index(), IfName: l.cfg.name, MAddr: []ndpapi.Group{{Family: "inet6", Address: g}},
	})
}
