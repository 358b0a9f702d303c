package conformance

import (
	"net/netip"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// ping lets the node send an echo request from inside, to what it answers itself: its reply to an echo
// request of the peer.
func (l *lab) ping(src netip.Addr) { l.send(echo(src, dutAddr, 64, 8)) }

// na sends an advertisement of the peer.
func (l *lab) na(change func(*ndwire.NA)) {
	m := ndwire.NA{Src: peerLL, Dst: dutAddr, Target: peerA, Solicited: true, Override: true, TargetLLA: &l.peer.MAC}
	change(&m)
	l.send(ndwire.AppendNA(nil, m))
}

// reachable makes the peer's address a REACHABLE neighbor.
func (l *lab) reachable() {
	l.answers[peerA] = true
	l.ping(peerA)
	l.answers[peerA] = false
	l.forget()
}

var otherMAC = [6]byte{2, 0, 0, 0, 0, 0x77}

// neighbors is address resolution and Neighbor Unreachability Detection: RFC 4861 7.2 and 7.3.
func neighbors() []row {
	solicits := func(l *lab) []ndwire.Message { return l.nd(wire.TypeNeighborSolicitation) }
	return []row{
		{"4861 7.2.2", "MUST", "resolution is a multicast NS with the source's link-layer address", both, func(l *lab) error {
			l.ping(peerA)
			got := solicits(l)
			return want(len(got) == 1 && got[0].Dst == wire.SolicitedNode(peerA) && got[0].HasSourceLLA, "%d solicitations", len(got))
		}},
		{"4861 7.2.2", "MUST", "an unanswered NS is repeated RetransTimer apart, MAX_MULTICAST_SOLICIT in all", both, func(l *lab) error {
			l.ping(peerA)
			l.advance(10 * sec)
			var at []time.Duration
			for _, s := range l.out() {
				if s.nd != nil && s.nd.Type == wire.TypeNeighborSolicitation {
					at = append(at, s.at)
				}
			}
			return want(len(at) == 3 && at[1]-at[0] == sec && at[2]-at[1] == sec, "at %v", at)
		}},
		{"4861 7.2.2", "MUST", "who sent a packet for a neighbor that is not there is told: code 3", router, func(l *lab) error {
			l.answers[peerA] = true
			l.send(echo(peerA, farAddr, 64, 8))
			l.advance(4 * sec)
			got := l.icmp(wire.TypeDestinationUnreachable)
			return want(len(got) == 1 && got[0][41] == wire.CodeAddressUnreachable, "%d errors", len(got))
		}},
		{"4861 7.2.2", "MUST", "a packet waits for the resolution", both, func(l *lab) error {
			l.ping(peerA)
			l.advance(500 * ms)
			l.na(func(*ndwire.NA) {})
			return want(len(l.icmp(wire.TypeEchoReply)) == 1, "the reply was not sent")
		}},
		{"4861 7.2.3", "MUST", "an NS with a link-layer address makes a STALE entry", both, func(l *lab) error {
			l.ns(dutAddr)
			return want(l.state(peerLL) == "STALE", "%s", l.state(peerLL))
		}},
		{"4861 7.2.3", "MUST", "an NS with another link-layer address makes the entry STALE", both, func(l *lab) error {
			l.answers[peerLL] = true
			l.reachable()
			l.send(ndwire.AppendNS(nil, ndwire.NS{Src: peerA, Dst: wire.SolicitedNode(dutAddr), Target: dutAddr, SourceLLA: &otherMAC}))
			n := l.neigh(peerA)
			return want(n.State[0] == "STALE" && n.LLAddr == "02:00:00:00:00:77", "%+v", n)
		}},
		{"4861 7.2.3", "MUST NOT", "an NS for somebody else's address has an effect", both, func(l *lab) error {
			l.send(l.nsPacket(netip.MustParseAddr("2001:db8:1::1:1")))
			return want(len(l.nd(wire.TypeNeighborAdvertisement)) == 0 && l.state(peerLL) == "", "it has")
		}},
		{"4861 7.2.4", "MUST", "the answer to an NS is solicited, overrides, and has the R flag of a router only", both, func(l *lab) error {
			l.ns(dutAddr)
			got := l.nd(wire.TypeNeighborAdvertisement)
			return want(len(got) == 1 && got[0].Solicited && got[0].Override && got[0].Router == (l.kind == router) && got[0].Dst == peerLL && got[0].HasTargetLLA, "%+v", got)
		}},
		{"4861 7.2.4", "MUST", "an NS from :: is answered to all nodes, not solicited", both, func(l *lab) error {
			l.send(ndwire.AppendNS(nil, ndwire.NS{Src: netip.IPv6Unspecified(), Dst: wire.SolicitedNode(dutAddr), Target: dutAddr}))
			got := l.nd(wire.TypeNeighborAdvertisement)
			return want(len(got) == 1 && got[0].Dst == wire.AllNodes && !got[0].Solicited, "%+v", got)
		}},
		{"4861 7.2.5", "SHOULD", "an NA about an unknown neighbor makes no entry at a host", host, func(l *lab) error {
			l.na(func(m *ndwire.NA) { m.Solicited, m.Dst = false, wire.AllNodes })
			return want(l.state(peerA) == "", "%s", l.state(peerA))
		}},
		{"9131 6.1.1", "SHOULD", "an NA about an unknown neighbor makes a STALE entry at a router", router, func(l *lab) error {
			l.na(func(m *ndwire.NA) { m.Solicited, m.Override, m.Dst = false, false, wire.AllRouters })
			return want(l.state(peerA) == "STALE", "%s", l.state(peerA))
		}},
		{"4861 7.2.5", "MUST", "INCOMPLETE: a solicited NA makes it REACHABLE", both, func(l *lab) error {
			l.ping(peerA)
			l.na(func(m *ndwire.NA) { m.Override = false })
			return want(l.state(peerA) == "REACHABLE", "%s", l.state(peerA))
		}},
		{"4861 7.2.5", "MUST", "INCOMPLETE: an unsolicited NA makes it STALE", both, func(l *lab) error {
			l.ping(peerA)
			l.na(func(m *ndwire.NA) { m.Solicited = false })
			// The reply that waited has been sent, and so the entry is DELAY by now.
			return want(l.state(peerA) == "STALE" || l.state(peerA) == "DELAY", "%s", l.state(peerA))
		}},
		{"4861 7.2.5", "SHOULD", "INCOMPLETE: an NA without a link-layer address is ignored", both, func(l *lab) error {
			l.ping(peerA)
			l.na(func(m *ndwire.NA) { m.TargetLLA = nil })
			return want(l.state(peerA) == "INCOMPLETE", "%s", l.state(peerA))
		}},
		{"4861 7.2.5", "MUST", "REACHABLE: another address without Override makes it STALE and is not taken", both, func(l *lab) error {
			l.reachable()
			l.na(func(m *ndwire.NA) { m.Override, m.TargetLLA = false, &otherMAC })
			n := l.neigh(peerA)
			return want(n.State[0] == "STALE" && n.LLAddr != "02:00:00:00:00:77", "%+v", n)
		}},
		{"4861 7.2.5", "MUST", "another address with Override, solicited: taken, REACHABLE", both, func(l *lab) error {
			l.reachable()
			l.na(func(m *ndwire.NA) { m.TargetLLA = &otherMAC })
			n := l.neigh(peerA)
			return want(n.State[0] == "REACHABLE" && n.LLAddr == "02:00:00:00:00:77", "%+v", n)
		}},
		{"4861 7.2.5", "MUST", "another address with Override, not solicited: taken, STALE", both, func(l *lab) error {
			l.reachable()
			l.na(func(m *ndwire.NA) { m.Solicited, m.TargetLLA = false, &otherMAC })
			n := l.neigh(peerA)
			return want(n.State[0] == "STALE" && n.LLAddr == "02:00:00:00:00:77", "%+v", n)
		}},
		{"4861 7.2.5", "MUST", "the R flag is taken over", both, func(l *lab) error {
			l.reachable()
			l.na(func(m *ndwire.NA) { m.Router = true })
			was := bool(l.neigh(peerA).Router)
			l.na(func(*ndwire.NA) {})
			return want(was && !bool(l.neigh(peerA).Router), "was %v", was)
		}},
		{"4861 7.3.3", "MUST", "REACHABLE becomes STALE after 0.5 to 1.5 times 30 s", both, func(l *lab) error {
			l.reachable()
			l.advance(15*sec - ms)
			early := l.state(peerA)
			l.advance(30*sec + 2*ms)
			return want(early == "REACHABLE" && l.state(peerA) == "STALE", "%s, then %s", early, l.state(peerA))
		}},
		{"4861 7.3.3", "MUST", "STALE and a packet: DELAY for 5 s, then unicast probes a second apart, then gone", both, func(l *lab) error {
			l.reachable()
			l.advance(46 * sec)
			l.forget()
			l.ping(peerA)
			delay := l.state(peerA)
			l.advance(4999 * ms)
			quiet := len(solicits(l))
			l.advance(2 * ms)
			probe := l.state(peerA)
			l.advance(3 * sec)
			got := solicits(l)
			unicast := len(got) == 3 && got[0].Dst == peerA
			return want(delay == "DELAY" && quiet == 0 && probe == "PROBE" && unicast && l.state(peerA) == "", "%s, %d early, %s, %d probes, %q", delay, quiet, probe, len(got), l.state(peerA))
		}},
		{"7048 3", "SHOULD", "PROBE without an answer, while packets are sent: UNREACHABLE, multicast, 3 and 9 s apart", both, func(l *lab) error {
			l.reachable()
			l.advance(46 * sec)
			l.forget()
			for range 25 {
				l.ping(peerA)
				l.advance(sec)
			}
			var at []time.Duration
			for _, s := range l.out() {
				if s.nd != nil && s.nd.Type == wire.TypeNeighborSolicitation && s.nd.Dst.IsMulticast() {
					at = append(at, s.at)
				}
			}
			return want(len(at) == 3 && at[1]-at[0] == 3*sec && at[2]-at[1] == 9*sec && l.state(peerA) == "UNREACHABLE", "multicast at %v, %s", at, l.state(peerA))
		}},
		{"4861 7.2.7", "SHOULD", "an answer for an anycast address is delayed and does not override", router, func(l *lab) error {
			l.ns(netip.MustParseAddr("2001:db8:1::"))
			at := l.net.Now()
			l.advance(sec)
			for _, s := range l.out() {
				if s.nd != nil && s.nd.Type == wire.TypeNeighborAdvertisement {
					return want(!s.nd.Override && s.at > at && s.nd.Src != s.nd.Target, "%+v at %s", s.nd, s.at-at)
				}
			}
			return want(false, "none within a second")
		}},
		{"6583 7.1", "SHOULD", "a scan leaves known neighbors alone", router, func(l *lab) error {
			l.reachable()
			l.answers[peerA] = true
			for i := range 2000 {
				a := netip.MustParseAddr("2001:db8:2::").As16()
				a[14], a[15] = byte(i>>8), byte(i)
				l.send(echo(peerA, netip.AddrFrom16(a), 64, 8))
			}
			return want(l.state(peerA) != "", "gone")
		}},
	}
}
