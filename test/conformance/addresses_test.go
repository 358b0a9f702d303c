package conformance

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// learned is what `ra show` says, as text.
func (l *lab) learned() string {
	v, err := l.dut.Command("GET", "/v1/ra", map[string]string{}, "")
	if err != nil {
		panic(err)
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// withDAD is a host whose addresses are detected.
const withDAD = `version: 1
routing: {forwarding: false}
links: [{name: lan0, kind: pipe, link_local: "fe80::1"}]
`

// addresses is RFC 4862, RFC 7527, RFC 7217, RFC 8981 and RFC 4429.
func addresses() []row {
	const fresh = "2001:db8:5:"
	slaac := func(valid, preferred time.Duration) func(*ndwire.RA) {
		return pio("2001:db8:5::/64", valid, preferred, "LA")
	}
	// detecting runs a host with that configuration and lets it hear an advertisement of a new prefix.
	detecting := func(l *lab, yaml string) *lab {
		n := newLab(l.net.T, host, yaml)
		n.ra(slaac(hour, hour))
		return n
	}
	probes := func(l *lab) (out []ndwire.Message) {
		for _, m := range l.nd(wire.TypeNeighborSolicitation) {
			if m.Src.IsUnspecified() {
				out = append(out, m)
			}
		}
		return out
	}
	return []row{
		{"4862 5.5.3", "MUST", "a prefix with the A flag makes an address", host, func(l *lab) error {
			l.ra(slaac(hour, hour))
			return want(l.addr(fresh) != nil, "none")
		}},
		{"4862 5.5.3", "MUST", "a prefix without it makes none", host, func(l *lab) error {
			l.ra(pio("2001:db8:5::/64", hour, hour, "L"))
			return want(l.addr(fresh) == nil, "it does")
		}},
		{"4862 5.5.3", "MUST", "the link-local prefix is ignored", host, func(l *lab) error {
			l.ra(pio("fe80::/64", 100*sec, 50*sec, "LA"))
			l.advance(200 * sec)
			return want(l.addr("fe80::1") != nil && l.addr("fe80::").ValidLifeTime == 4294967295, "the link-local address has got a lifetime")
		}},
		{"4862 5.5.3", "MUST", "a preferred lifetime over the valid one is ignored", host, func(l *lab) error {
			l.ra(slaac(hour, 2*hour))
			return want(l.addr(fresh) == nil, "it is not")
		}},
		{"4862 5.5.3", "MUST", "a prefix that is not of 64 bits is ignored", host, func(l *lab) error {
			l.ra(pio("2001:db8:5::/63", hour, hour, "LA"))
			return want(l.addr("2001:db8:4") == nil && l.addr(fresh) == nil, "it is not")
		}},
		{"4862 5.5.3", "MUST", "valid lifetime 0 makes no address", host, func(l *lab) error {
			l.ra(slaac(0, 0))
			return want(l.addr(fresh) == nil, "it does")
		}},
		{"4862 5.5.3 e", "MUST", "a longer lifetime is taken", host, func(l *lab) error {
			l.ra(slaac(hour, hour))
			l.ra(slaac(90*time.Minute, hour))
			return want(l.addr(fresh).ValidLifeTime == 5400, "%+v", l.addr(fresh))
		}},
		{"4862 5.5.3 e", "MUST", "a shorter one is not when two hours or less are left", host, func(l *lab) error {
			l.ra(slaac(2*hour, hour))
			l.ra(slaac(60*sec, 30*sec))
			return want(l.addr(fresh).ValidLifeTime == 7200 && l.addr(fresh).PreferredLifeTime == 30, "%+v", l.addr(fresh))
		}},
		{"4862 5.5.3 e", "MUST", "otherwise two hours remain", host, func(l *lab) error {
			l.ra(slaac(10*hour, hour))
			l.ra(slaac(0, 0))
			return want(l.addr(fresh).ValidLifeTime == 7200, "%+v", l.addr(fresh))
		}},
		{"4862 5.5.4", "MUST", "an address is deprecated, and then invalid", host, func(l *lab) error {
			l.ra(slaac(100*sec, 50*sec))
			l.advance(51 * sec)
			deprecated := l.addr(fresh) != nil && l.addr(fresh).Deprecated
			l.advance(50 * sec)
			return want(deprecated && l.addr(fresh) == nil, "deprecated %v, then %+v", deprecated, l.addr(fresh))
		}},
		{"4862 5.5.4", "MUST", "a deprecated address still receives", host, func(l *lab) error {
			l.ra(slaac(100*sec, 50*sec))
			l.advance(60 * sec)
			l.answers[peerLL] = true
			l.forget()
			l.send(echo(peerLL, l.addr(fresh).Local, 64, 8))
			return want(len(l.icmp(wire.TypeEchoReply)) == 1, "no answer")
		}},
		{"7217 5", "MUST", "the identifier is stable, and another one in another prefix", host, func(l *lab) error {
			l.ra(slaac(hour, hour))
			l.ra(pio("2001:db8:6::/64", hour, hour, "LA"))
			a, b := l.addr(fresh).Local.As16(), l.addr("2001:db8:6:").Local.As16()
			l.send(l.raPacket(slaac(hour, hour)))
			again := l.addr(fresh).Local.As16()
			return want([8]byte(a[8:]) != [8]byte(b[8:]) && again == a && a[11] != 0xff, "%x, %x", a, b)
		}},
		{"4862 5.4.2", "MUST", "a new address is probed: from ::, to its group, without a link-layer address", host, func(l *lab) error {
			n := detecting(l, withDAD)
			n.advance(sec)
			got := probes(n)
			return want(len(got) == 1 && got[0].Dst == wire.SolicitedNode(got[0].Target) && !got[0].HasSourceLLA, "%d probes", len(got))
		}},
		{"4862 5.4.2", "SHOULD", "the probe of an address from a multicast advertisement is delayed", host, func(l *lab) error {
			n := detecting(l, withDAD)
			now := len(probes(n))
			n.advance(sec)
			return want(now == 0 && len(probes(n)) == 1, "%d at once, %d after a second", now, len(probes(n)))
		}},
		{"4862 5.4", "MUST NOT", "a tentative address is used: nothing is answered for it", host, func(l *lab) error {
			n := detecting(l, withDAD)
			a := n.addr(fresh)
			n.send(echo(peerLL, a.Local, 64, 8))
			n.send(n.nsPacket(a.Local))
			return want(a.Tentative && len(n.icmp(wire.TypeEchoReply))+len(n.nd(wire.TypeNeighborAdvertisement)) == 0, "it is")
		}},
		{"4862 5.4.3", "MUST", "another node's probe ends it: a duplicate", host, func(l *lab) error {
			n := detecting(l, withDAD)
			a := n.addr(fresh).Local
			n.advance(1100 * ms)
			n.send(ndwire.AppendNS(nil, ndwire.NS{Src: netip.IPv6Unspecified(), Dst: wire.SolicitedNode(a), Target: a, Nonce: []byte{1, 2, 3, 4, 5, 6}}))
			x := n.addr(fresh)
			return want(x == nil || x.Local != a || x.DADFailed, "%+v", x)
		}},
		{"4862 5.4.4", "MUST", "an NA for it is a duplicate", host, func(l *lab) error {
			n := detecting(l, withDAD)
			a := n.addr(fresh).Local
			n.advance(1100 * ms)
			n.send(ndwire.AppendNA(nil, ndwire.NA{Src: a, Dst: wire.AllNodes, Target: a, Override: true, TargetLLA: &n.peer.MAC}))
			x := n.addr(fresh)
			return want(x == nil || x.Local != a || x.DADFailed, "%+v", x)
		}},
		{"7217 6", "SHOULD", "a duplicate is followed by another identifier", host, func(l *lab) error {
			n := detecting(l, withDAD)
			a := n.addr(fresh).Local
			n.advance(1100 * ms)
			n.send(ndwire.AppendNA(nil, ndwire.NA{Src: a, Dst: wire.AllNodes, Target: a, Override: true, TargetLLA: &n.peer.MAC}))
			n.advance(5 * sec)
			x := n.addr(fresh)
			return want(x != nil && x.Local != a && !x.Tentative && !x.DADFailed, "%+v", x)
		}},
		{"4862 5.4.3", "MUST", "an NS from a unicast address does not end it", host, func(l *lab) error {
			n := detecting(l, withDAD)
			a := n.addr(fresh).Local
			n.advance(1100 * ms)
			n.send(n.nsPacket(a))
			n.advance(3 * sec)
			return want(n.addr(fresh).Local == a && !n.addr(fresh).Tentative && !n.addr(fresh).DADFailed, "%+v", n.addr(fresh))
		}},
		{"7527 4.2", "MUST", "one's own probe that comes back is no duplicate", host, func(l *lab) error {
			n := detecting(l, withDAD)
			a := n.addr(fresh).Local
			n.advance(1100 * ms)
			p := probes(n)[0]
			n.send(ndwire.AppendNS(nil, ndwire.NS{Src: netip.IPv6Unspecified(), Dst: p.Dst, Target: a, Nonce: p.Nonce}))
			n.advance(10 * sec)
			x := n.addr(fresh)
			return want(x.Local == a && !x.DADFailed && !x.Tentative, "%+v", x)
		}},
		{"7527 4.1", "MUST", "each probe has a nonce of its own", host, func(l *lab) error {
			n := detecting(l, strings.Replace(withDAD, `"fe80::1"`, `"fe80::1", dad: {transmits: 3}`, 1))
			n.advance(5 * sec)
			seen := map[string]bool{}
			for _, p := range probes(n) {
				seen[string(p.Nonce)] = true
			}
			return want(len(seen) == 3 && !seen[""], "%d nonces", len(seen))
		}},
		{"4429 3.3", "MUST", "an optimistic address answers at once, without Override", host, func(l *lab) error {
			n := detecting(l, strings.Replace(withDAD, `"fe80::1"`, `"fe80::1", dad: {optimistic: true}`, 1))
			a := n.addr(fresh)
			n.send(n.nsPacket(a.Local))
			got := n.nd(wire.TypeNeighborAdvertisement)
			last := got[len(got)-1]
			return want(a.Optimistic && a.Tentative && last.Target == a.Local && last.Solicited && !last.Override, "%+v, %+v", a, last)
		}},
		{"8981 3.4", "SHOULD", "a temporary address of a random identifier is made and later replaced", host, func(l *lab) error {
			n := detecting(l, strings.Replace(hostYAML, "load_share_routers: false", "temporary_addresses: true", 1))
			temps := map[netip.Addr]bool{}
			for range 50 {
				n.ra(slaac(100*hour, 50*hour))
				for _, a := range n.dut.Addrs().All() {
					if a.Temporary {
						temps[a.Addr] = true
					}
				}
				n.advance(hour)
			}
			return want(len(temps) >= 2 && len(temps) <= 6, "%d in two days", len(temps))
		}},
		{"9131 6.1.2", "SHOULD", "a new global address is told to all routers, three times, without Override", host, func(l *lab) error {
			n := detecting(l, withDAD)
			n.advance(10 * sec)
			k := 0
			for _, m := range n.nd(wire.TypeNeighborAdvertisement) {
				if m.Dst == wire.AllRouters && !m.Override && !m.Solicited && m.HasTargetLLA {
					k++
				}
			}
			return want(k == 3, "%d times", k)
		}},
	}
}
