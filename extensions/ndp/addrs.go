package ndp

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/dad"
)

// address is one address of this node. Loop only.
type address struct {
	addr      netip.Addr
	prefixLen int
	link      int
	protocol  string
	anycast   bool
	home      bool
	noDAD     bool
	// subnetRouter: the Subnet-Router anycast address of a prefix, which comes and goes with it.
	subnetRouter bool
	// fromConfig: listed in the configuration, so `config apply` removes what is no longer there.
	fromConfig bool
	// generated: the link-local address we made; dadCount is its DAD_Counter (RFC 7217 5).
	generated bool
	dadCount  int
	// autoconf: made of an advertised prefix, whose lifetimes it has (RFC 4862 5.5); temporary: RFC 8981.
	autoconf, temporary bool
	// optimistic: used while it is tentative (RFC 4429).
	optimistic bool

	valid     clock.Instant // clock.Never = forever
	preferred clock.Instant

	joined         bool         // its solicited-node group
	dad            *dad.Machine // while tentative
	announce       int          // unsolicited advertisements still to be sent (RFC 9131)
	announceAt     clock.Instant
	dadFailed      bool
	deprecatedTold bool
}

func (a *address) tentative() bool { return a.dad != nil }

// snapshot returns the address as the rest of the program sees it.
func (a *address) snapshot(now clock.Instant) *module.Addr {
	return &module.Addr{
		Addr: a.addr, PrefixLen: a.prefixLen, Link: a.link, Protocol: a.protocol,
		Tentative: a.tentative(), DADFailed: a.dadFailed, Deprecated: a.preferred <= now,
		Anycast: a.anycast, Home: a.home, NoDAD: a.noDAD, SubnetRouter: a.subnetRouter,
		Temporary: a.temporary, Optimistic: a.optimistic && a.tentative(), NoPrefixRoute: a.autoconf,
		ValidUntil: a.valid, PreferredUntil: a.preferred,
	}
}

// deadline returns when the address's lifetimes or its DAD need a look. Without a link to send on
// DAD waits; it begins anew when the link comes up.
func (a *address) deadline(usable bool) clock.Instant {
	d := a.valid
	if !a.deprecatedTold {
		d = clock.Earliest(d, a.preferred)
	}
	if a.dad != nil && usable {
		d = clock.Earliest(d, a.dad.Deadline())
	}
	if a.announce > 0 && usable {
		d = clock.Earliest(d, a.announceAt)
	}
	return d
}

// until turns a lifetime into its end; zero is forever.
func until(now clock.Instant, d time.Duration) clock.Instant {
	if d == 0 {
		return clock.Never
	}
	return now.Add(d)
}

// find returns an address of a link, or nil.
func (m *Module) find(link int, a netip.Addr) *address {
	for _, x := range m.addrs {
		if x.link == link && x.addr == a {
			return x
		}
	}
	return nil
}

// addAddress makes a new address of a link and starts DAD for it.
func (m *Module) addAddress(now clock.Instant, a *address) {
	m.addrs = append(m.addrs, a)
	l := m.links[a.link]
	m.startDAD(now, l, a)
	if !a.autoconf || a.dad == nil || a.optimistic {
		m.joinFor(now, l, a)
	} // otherwise the first probe does: many hosts hear the same advertisement (RFC 4862 5.4.2)
	m.subnetRouters(now, l)
	m.changed = true
	m.eventAddr(now, a, false)
}

// joinFor joins the group of an address, once.
func (m *Module) joinFor(now clock.Instant, l *linkState, a *address) {
	if !a.joined {
		a.joined = true
		m.join(now, l, wire.SolicitedNode(a.addr))
	}
}

// removeAddress takes an address away.
func (m *Module) removeAddress(now clock.Instant, a *address) {
	m.addrs = slices.DeleteFunc(m.addrs, func(x *address) bool { return x == a })
	if l := m.links[a.link]; l != nil {
		l.delayed.forget(a.addr)
		if a.joined {
			m.leave(now, l, wire.SolicitedNode(a.addr))
		}
		m.subnetRouters(now, l)
	}
	m.changed, m.usable = true, true
	m.eventAddr(now, a, true)
}

// subnetRouters makes the Subnet-Router anycast addresses of a link those of its prefixes: a
// router has them on every link it forwards from (RFC 4291 2.6.1), but not for the point-to-point
// prefixes of RFC 6164 5.
func (m *Module) subnetRouters(now clock.Instant, l *linkState) {
	want := map[netip.Prefix]bool{}
	if l.link.Forwarding {
		for _, a := range m.addrs {
			if a.link == l.index() && !a.subnetRouter && !a.autoconf && !a.addr.IsLinkLocalUnicast() && a.prefixLen < 127 {
				want[netip.PrefixFrom(a.addr, a.prefixLen).Masked()] = true
			}
		}
	}
	for _, a := range slices.Clone(m.addrs) {
		if a.link != l.index() || !a.subnetRouter {
			continue
		}
		p := netip.PrefixFrom(a.addr, a.prefixLen)
		if !want[p] {
			m.addrs = slices.DeleteFunc(m.addrs, func(x *address) bool { return x == a })
			l.delayed.forget(a.addr)
			m.leave(now, l, wire.SolicitedNode(a.addr))
			m.changed = true
		}
		delete(want, p)
	}
	for p := range want {
		if m.find(l.index(), p.Addr()) != nil {
			continue // configured as an address of its own
		}
		a := &address{
			addr: p.Addr(), prefixLen: p.Bits(), link: l.index(), protocol: "kernel", anycast: true,
			subnetRouter: true, noDAD: true, valid: clock.Never, preferred: clock.Never,
		}
		m.addrs = append(m.addrs, a)
		m.join(now, l, wire.SolicitedNode(a.addr))
		m.changed = true
	}
}
