package conformance

import (
	"net/netip"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

const (
	hour = time.Hour
	sec  = time.Second
	ms   = time.Millisecond
)

// discovery is Router Discovery at the router: RFC 4861 6.2.
func discovery() []row {
	rs := func(l *lab, src netip.Addr) {
		m := ndwire.RS{Src: src, Dst: wire.AllRouters}
		if !src.IsUnspecified() {
			m.SourceLLA = &l.peer.MAC
		}
		l.send(ndwire.AppendRS(nil, m))
	}
	ras := func(l *lab) []ndwire.Message { return l.nd(wire.TypeRouterAdvertisement) }
	return []row{
		{"4861 6.2.2", "MUST", "a router joins the all-routers group", router, func(l *lab) error {
			return want(member(l, wire.AllRouters), "not a member")
		}},
		{"4861 6.2.2", "MUST NOT", "a host joins the all-routers group", host, func(l *lab) error {
			return want(!member(l, wire.AllRouters), "a member")
		}},
		{"4861 6.2.6", "MUST", "a host ignores solicitations", host, func(l *lab) error {
			rs(l, peerLL)
			l.advance(10 * sec)
			return want(len(ras(l)) == 0 && l.state(peerLL) == "", "answered or learned from")
		}},
		{"4861 6.2.6", "MUST", "a solicitation is answered within MAX_RA_DELAY_TIME", router, func(l *lab) error {
			rs(l, peerLL)
			l.advance(500 * ms)
			return want(len(ras(l)) == 1, "%d answers", len(ras(l)))
		}},
		{"4861 6.2.6", "MUST", "multicast advertisements are at least MIN_DELAY_BETWEEN_RAS apart", router, func(l *lab) error {
			var last time.Duration
			for range 50 {
				rs(l, netip.IPv6Unspecified())
				l.advance(700 * ms)
			}
			for _, s := range l.out() {
				if s.nd == nil || s.nd.Type != wire.TypeRouterAdvertisement {
					continue
				}
				if last != 0 && s.at-last < 3*sec {
					return want(false, "%s apart", s.at-last)
				}
				last = s.at
			}
			return want(last != 0, "none was sent")
		}},
		{"4861 6.2.6", "MUST", "a solicitation with a link-layer address makes a STALE entry of a host", router, func(l *lab) error {
			rs(l, peerLL)
			n := l.neigh(peerLL)
			return want(n.State[0] == "STALE" && !bool(n.Router), "%+v", n)
		}},
		{"4861 6.2.6", "MUST", "who solicits loses its IsRouter flag", router, func(l *lab) error {
			l.ra(nil)
			was := bool(l.neigh(peerLL).Router)
			l.send(ndwire.AppendRS(nil, ndwire.RS{Src: peerLL, Dst: wire.AllRouters}))
			return want(was || l.state(peerLL) == "" || !bool(l.neigh(peerLL).Router), "still a router")
		}},
		{"4861 6.2.6", "MUST NOT", "a solicitation from :: makes an entry", router, func(l *lab) error {
			rs(l, netip.IPv6Unspecified())
			return want(l.state(netip.IPv6Unspecified()) == "", "it did")
		}},
		{"4861 6.2.3", "MUST", "advertisements come from a link-local address, to all nodes, with hop limit 255", router, func(l *lab) error {
			rs(l, netip.IPv6Unspecified())
			l.advance(sec)
			for _, s := range l.out() {
				if s.nd != nil && s.nd.Type == wire.TypeRouterAdvertisement {
					return want(s.nd.Src == dutLL && s.nd.Dst == wire.AllNodes && s.pkt[7] == 255 && s.dst == [6]byte{0x33, 0x33, 0, 0, 0, 1}, "from %s to %s", s.nd.Src, s.nd.Dst)
				}
			}
			return want(false, "none")
		}},
		{"4861 6.2.4", "MUST", "the interval is between Min- and MaxRtrAdvInterval", router, func(l *lab) error {
			l.forget()
			l.advance(20 * hour)
			var last time.Duration
			n := 0
			for _, s := range l.out() {
				if s.nd == nil || s.nd.Type != wire.TypeRouterAdvertisement {
					continue
				}
				if d := s.at - last; n > 0 && (d < 198*sec || d > 600*sec) {
					return want(false, "%s apart", d)
				}
				last = s.at
				n++
			}
			return want(n > 100, "%d in 20 hours", n)
		}},
		{"4861 6.2.1", "MUST", "the defaults are those of the RFC", router, func(l *lab) error {
			rs(l, netip.IPv6Unspecified())
			l.advance(sec)
			got := ras(l)
			if len(got) == 0 {
				return want(false, "none")
			}
			ra, _ := got[0].RA()
			p := ra.Prefixes[0]
			return want(ra.CurHopLimit == 64 && !ra.Managed && !ra.Other && ra.RouterLifetime == 1800*sec && ra.ReachableTime == 0 && ra.RetransTimer == 0 &&
				ra.MTU == 0 && p.OnLink && p.Autonomous && p.Valid == 2592000*sec && p.Preferred == 604800*sec && ra.Preference == ndwire.Medium, "%+v", ra)
		}},
		{"4861 6.2.7", "SHOULD", "other routers' advertisements change nothing", router, func(l *lab) error {
			l.ra(func(m *ndwire.RA) {
				m.CurHopLimit, m.MTU = 17, 1400
				m.Prefixes = []ndwire.PrefixInfo{{Prefix: netip.MustParsePrefix("2001:db8:77::/64"), OnLink: true, Autonomous: true, Valid: hour, Preferred: hour}}
			})
			return want(!l.hasRoute("default", peerLL) && l.addr("2001:db8:77:") == nil && l.dut.Links().Name("lan0").MTU == 1500, "%v", l.routes())
		}},
		{"4861 6.2.5", "SHOULD", "a router that goes sends an advertisement with lifetime 0", router, func(l *lab) error {
			l.forget()
			l.dut.Stop()
			got := ras(l)
			if len(got) == 0 {
				return want(false, "none was sent")
			}
			ra, _ := got[len(got)-1].RA()
			return want(ra.RouterLifetime == 0 && len(ra.Prefixes) == 1, "%+v", ra)
		}},
		{"4861 8.2", "MUST", "a router does not follow redirects", router, func(l *lab) error {
			l.send(redirect(farAddr, otherLL))
			return want(l.nextHop(farAddr) == "on-link", "%s", l.nextHop(farAddr))
		}},
		{"4861 8.2", "SHOULD", "a better first hop on the same link is told", router, func(l *lab) error {
			l.answers[peerA], l.answers[peerLL] = true, true
			l.ns(dutAddr)
			l.send(echo(peerA, netip.MustParseAddr("2001:db8:1::98"), 64, 8))
			l.answers[netip.MustParseAddr("2001:db8:1::98")] = true
			l.advance(2 * sec)
			l.send(echo(peerA, netip.MustParseAddr("2001:db8:1::98"), 64, 8))
			got := l.nd(wire.TypeRedirect)
			return want(len(got) > 0 && got[0].Src == dutLL && got[0].Target == got[0].Destination && len(got[0].Redirected) > 0, "%d redirects", len(got))
		}},
		{"4861 8.2", "MUST", "redirects are limited in rate", router, func(l *lab) error {
			l.answers[peerA] = true
			for range 100 {
				l.send(echo(peerA, netip.MustParseAddr("2001:db8:1::98"), 64, 8))
			}
			return want(len(l.nd(wire.TypeRedirect)) <= 2, "%d for 100 packets", len(l.nd(wire.TypeRedirect)))
		}},
	}
}

// member reports whether the node has joined a group on the link.
func member(l *lab, g netip.Addr) bool {
	a := g.As16()
	return l.dut.Addrs().Member(&a, l.dut.Links().Name("lan0").Index)
}

// echo builds an echo request.
func echo(src, dst netip.Addr, hopLimit uint8, size int) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + size), NextHeader: wire.ICMPv6, HopLimit: hopLimit, Src: src, Dst: dst})
	b = append(b, wire.TypeEchoRequest, 0, 0, 0, 0, 7, 0, 1)
	b = append(b, make([]byte, size)...)
	return resum(b)
}
