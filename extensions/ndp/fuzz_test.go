package ndp

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// FuzzMessages gives a host that takes advertisements two messages of anybody's making, one after the other,
// and lets a day pass: nothing may break, and no table exceed its bound.
func FuzzMessages(f *testing.F) {
	add := func(a, b []byte) { f.Add(a[wire.IPv6HeaderLen:], b[wire.IPv6HeaderLen:]) }
	ra := ndwire.AppendRA(nil, ndwire.RA{
		Src: peerLL, Dst: wire.AllNodes, RouterLifetime: time.Hour, SourceLLA: &peerMAC, MTU: 1400, CurHopLimit: 9, ReachableTime: time.Second, RetransTimer: time.Second,
		Prefixes: []ndwire.PrefixInfo{{Prefix: netip.MustParsePrefix("2001:db8:5::/64"), OnLink: true, Autonomous: true, Valid: time.Hour, Preferred: time.Minute}},
		Routes:   []ndwire.RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:f::/48"), Lifetime: time.Hour}},
		RDNSS:    []ndwire.RDNSS{{Servers: []netip.Addr{global}, Lifetime: time.Hour}},
		DNSSL:    []ndwire.DNSSL{{Domains: []string{"a.example"}, Lifetime: time.Hour}},
		PREF64:   []ndwire.PREF64{{Prefix: netip.MustParsePrefix("64:ff9b::/96"), Lifetime: time.Hour}},
	})
	ns := ndwire.AppendNS(nil, ndwire.NS{Src: peerLL, Dst: wire.SolicitedNode(global), Target: global, SourceLLA: &peerMAC})
	na := ndwire.AppendNA(nil, ndwire.NA{Src: peerLL, Dst: global, Target: peerLL, Solicited: true, Override: true, TargetLLA: &peerMAC})
	add(ra, ns)
	add(ra, na)
	add(ns, ra)
	add(ra, ndwire.AppendRedirect(nil, ndwire.Redirect{Src: peerLL, Dst: global, Target: otherRouter, Destination: far, Packet: quoted(wire.UDP, 5, 53)}))
	add(ra, ndwire.AppendRedirect(nil, ndwire.Redirect{Src: peerLL, Dst: global, Target: peerLL, Destination: global, TargetLLA: &peerMAC, Packet: ns}))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		host := newBench(t, "fe80::1", "2001:db8::1/64")
		host.m.links[1].cfg.host.TemporaryAddresses = true
		host.change(func(l *module.Link) { l.Forwarding = false })
		host.advance(5 * time.Second)
		host.Routing = throughPeer{}
		for _, msg := range [][]byte{a, b, a} {
			if len(msg) < 8 || len(msg) > 1400 {
				return
			}
			pkt := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(len(msg)), NextHeader: wire.ICMPv6, HopLimit: 255, Src: peerLL, Dst: wire.AllNodes})
			pkt = append(pkt, msg...)
			wire.UpdateICMPv6Checksum(pkt, wire.IPv6HeaderLen)
			host.hear(pkt)
			host.advance(time.Minute)
			host.Sent, host.Published = nil, nil
		}
		for range 24 {
			host.advance(time.Hour)
			host.Sent, host.Published = nil, nil
		}
		if n := host.m.links[1].cache.Len(); n > 4096 || len(host.m.addrs) > 3+maxAutoPrefix*9 || len(host.Routes) > 16+128+64 || len(host.Redirects) > maxRedirects {
			t.Errorf("%d neighbors, %d addresses, %d routes, %d redirects", n, len(host.m.addrs), len(host.Routes), len(host.Redirects))
		}
	})
}
