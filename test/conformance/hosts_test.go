package conformance

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// advertising is what the options of advertisements say at the router, and what ends them.
func advertising() []row {
	// with runs a router with that configuration and gives the first advertisement it is asked for.
	with := func(l *lab, keys string, f func(*lab, ndwire.RA) error) error {
		n := newLab(l.net.T, router, strings.Replace(routerYAML, `adv_send_advertisements: true, prefixes: [{prefix: "2001:db8:1::/64"}]`, "adv_send_advertisements: true, "+keys, 1))
		n.send(ndwire.AppendRS(nil, ndwire.RS{Src: netip.IPv6Unspecified(), Dst: wire.AllRouters}))
		n.advance(4 * sec)
		got := n.nd(wire.TypeRouterAdvertisement)
		if len(got) == 0 {
			return want(false, "no advertisement")
		}
		ra, err := got[0].RA()
		if err != nil {
			return err
		}
		return f(n, ra)
	}
	says := func(ref, level, what, keys string, holds func(ndwire.RA) bool) row {
		return row{ref, level, what, router, func(l *lab) error {
			return with(l, keys, func(_ *lab, ra ndwire.RA) error { return want(holds(ra), "%+v", ra) })
		}}
	}
	return []row{
		says("4861 6.2.3", "MUST", "AdvManagedFlag and AdvOtherConfigFlag are the M and O flags", "adv_managed_flag: true, adv_other_config_flag: true",
			func(m ndwire.RA) bool { return m.Managed && m.Other }),
		says("4861 6.2.3", "MUST", "AdvLinkMTU is the MTU option", "adv_link_mtu: 1400", func(m ndwire.RA) bool { return m.MTU == 1400 }),
		says("4861 6.2.3", "MUST", "AdvReachableTime and AdvRetransTimer are sent", "adv_reachable_time: 20s, adv_retrans_timer: 2s",
			func(m ndwire.RA) bool { return m.ReachableTime == 20*sec && m.RetransTimer == 2*sec }),
		says("4861 6.2.3", "MUST", "AdvCurHopLimit is sent", "adv_cur_hop_limit: 17", func(m ndwire.RA) bool { return m.CurHopLimit == 17 }),
		says("4861 6.2.3", "MUST", "AdvDefaultLifetime is sent", "adv_default_lifetime: 0s", func(m ndwire.RA) bool { return m.RouterLifetime == 0 }),
		says("4861 6.2.3", "MUST", "the prefix option has the prefix's flags and lifetimes",
			`prefixes: [{prefix: "2001:db8:1::/64", adv_on_link_flag: false, adv_autonomous_flag: false, adv_valid_lifetime: 100s, adv_preferred_lifetime: 50s}]`,
			func(m ndwire.RA) bool {
				p := m.Prefixes[0]
				return !p.OnLink && !p.Autonomous && p.Valid == 100*sec && p.Preferred == 50*sec
			}),
		says("4861 6.2.3", "MAY", "the source link-layer address may be left out", "adv_source_ll_address: false", func(m ndwire.RA) bool { return m.SourceLLA == nil }),
		says("4191 2.2", "MUST", "the preference is medium when the lifetime is 0", "adv_default_lifetime: 0s, adv_default_preference: high",
			func(m ndwire.RA) bool { return m.Preference == ndwire.Medium }),
		says("4191 2.3", "MUST", "routes are Route Information options", `routes: [{prefix: "2001:db8:f::/48", adv_route_preference: low, adv_route_lifetime: 600s}]`,
			func(m ndwire.RA) bool {
				return len(m.Routes) == 1 && m.Routes[0].Preference == ndwire.Low && m.Routes[0].Lifetime == 600*sec
			}),
		says("8106 5.1", "MUST", "resolvers are RDNSS options", `rdnss: [{servers: ["2001:db8::53", "2001:db8::54"], lifetime: 1200s}]`,
			func(m ndwire.RA) bool { return len(m.RDNSS) == 1 && len(m.RDNSS[0].Servers) == 2 }),
		says("8106 5.2", "MUST", "search domains are DNSSL options", `dnssl: [{domains: [corp.example], lifetime: 1200s}]`,
			func(m ndwire.RA) bool { return len(m.DNSSL) == 1 && m.DNSSL[0].Domains[0] == "corp.example" }),
		says("8106 5.1", "SHOULD", "the default lifetime is three times MaxRtrAdvInterval", `rdnss: [{servers: ["2001:db8::53"]}]`,
			func(m ndwire.RA) bool { return m.RDNSS[0].Lifetime == 1800*sec }),
		says("8781 4", "MUST", "the NAT64 prefix is a PREF64 option", `pref64: [{prefix: "64:ff9b::/96", lifetime: 1800s}]`,
			func(m ndwire.RA) bool { return len(m.PREF64) == 1 && m.PREF64[0].Lifetime == 1800*sec }),
		says("8910 2.3", "MUST", "the captive portal is sent", `captive_portal: "https://portal.example/api"`,
			func(m ndwire.RA) bool { return m.CaptivePortal == "https://portal.example/api" }),
		says("6275 7.1", "MUST", "a home agent sets the H flag", "home_agent: {adv_home_agent_flag: true}, prefixes: [{prefix: \"2001:db8:1::/64\"}]",
			func(m ndwire.RA) bool { return m.HomeAgent }),
		says("6275 7.2", "MUST", "a home agent sends its address in a prefix option", "home_agent: {adv_home_agent_flag: true}, prefixes: [{prefix: \"2001:db8:1::/64\"}]",
			func(m ndwire.RA) bool { return m.Prefixes[0].RouterAddr && m.Prefixes[0].Addr == dutAddr }),
		says("6275 7.3", "MAY", "the advertisement interval is sent", "adv_interval_option: true", func(m ndwire.RA) bool { return m.AdvInterval == 600*sec }),
		says("6275 7.4", "MUST", "the home agent's preference and lifetime are sent", "home_agent: {adv_home_agent_flag: true, preference: 10, lifetime: 900s}",
			func(m ndwire.RA) bool {
				return m.HomeAgentInfo != nil && m.HomeAgentInfo.Preference == 10 && m.HomeAgentInfo.Lifetime == 900*sec
			}),
		{"4861 6.2.4", "SHOULD", "the first three intervals are at most 16 s", router, func(l *lab) error {
			n := 0
			for _, f := range l.seg.Frames {
				if m, err := ndwire.Parse(f.Data[14:], wire.IPv6HeaderLen, false); err == nil && m.Type == wire.TypeRouterAdvertisement && f.At < 40*sec {
					n++
				}
			}
			return want(n >= 3, "%d within 40 s", n)
		}},
		{"4861 6.2.2", "MUST NOT", "a link that is not told to advertises", host, func(l *lab) error {
			l.advance(hour)
			return want(len(l.nd(wire.TypeRouterAdvertisement)) == 0, "it does")
		}},
	}
}

func pio(p string, valid, preferred time.Duration, flags string) func(*ndwire.RA) {
	return func(m *ndwire.RA) {
		m.Prefixes = append(m.Prefixes, ndwire.PrefixInfo{
			Prefix: netip.MustParsePrefix(p), OnLink: strings.Contains(flags, "L"), Autonomous: strings.Contains(flags, "A"), Valid: valid, Preferred: preferred,
		})
	}
}

// hosts is Router Discovery at the host: RFC 4861 6.3, RFC 4191, RFC 7559, RFC 8106.
func hosts() []row {
	fromOther := func(l *lab, change func(*ndwire.RA)) {
		l.ra(func(m *ndwire.RA) {
			m.Src = otherLL
			if change != nil {
				change(m)
			}
		})
	}
	return []row{
		{"4861 6.3.7", "SHOULD", "routers are solicited from the link-local address, with the link-layer address, to all routers", host, func(l *lab) error {
			l.mark = 0
			got := l.nd(wire.TypeRouterSolicitation)
			return want(len(got) > 0 && got[0].Src == dutLL && got[0].HasSourceLLA && got[0].Dst == wire.AllRouters, "%+v", got)
		}},
		{"7559 2", "MUST", "solicitations go on, twice as long apart, until a router answers", host, func(l *lab) error {
			l.mark = 0
			l.advance(2 * hour)
			var at []time.Duration
			for _, s := range l.out() {
				if s.nd != nil && s.nd.Type == wire.TypeRouterSolicitation {
					at = append(at, s.at)
				}
			}
			if len(at) < 9 {
				return want(false, "%d in two hours", len(at))
			}
			for i := 2; i < 8; i++ {
				if r := float64(at[i]-at[i-1]) / float64(at[i-1]-at[i-2]); r < 1.8 || r > 2.2 {
					return want(false, "at %v", at)
				}
			}
			return nil
		}},
		{"4861 6.3.7", "SHOULD", "a default router ends the soliciting", host, func(l *lab) error {
			l.ra(nil)
			l.forget()
			l.advance(10 * time.Minute)
			return want(len(l.nd(wire.TypeRouterSolicitation)) == 0, "it goes on")
		}},
		{"7559 2.1", "MUST", "an advertisement without a default router does not", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.RouterLifetime = 0 })
			l.forget()
			l.advance(10 * time.Minute)
			return want(len(l.nd(wire.TypeRouterSolicitation)) > 0, "it has ended")
		}},
		{"4861 6.3.4", "MUST", "a router with a lifetime is a default router", host, func(l *lab) error {
			l.ra(nil)
			return want(l.hasRoute("default", peerLL), "%v", l.routes())
		}},
		{"4861 6.3.4", "MUST", "lifetime 0 takes it off the list at once", host, func(l *lab) error {
			l.ra(nil)
			l.ra(func(m *ndwire.RA) { m.RouterLifetime = 0 })
			return want(!l.hasRoute("default", peerLL), "%v", l.routes())
		}},
		{"4861 6.3.5", "MUST", "a router's entry ends with its lifetime", host, func(l *lab) error {
			l.ra(nil)
			l.advance(1799 * sec)
			was := l.hasRoute("default", peerLL)
			l.advance(2 * sec)
			return want(was && !l.hasRoute("default", peerLL), "%v", l.routes())
		}},
		{"4861 6.3.4", "MUST", "the advertisement makes a STALE entry of a router", host, func(l *lab) error {
			l.ra(nil)
			n := l.neigh(peerLL)
			return want(n.State[0] == "STALE" && bool(n.Router), "%+v", n)
		}},
		{"4861 6.3.4", "SHOULD", "Cur Hop Limit is used", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.CurHopLimit = 17 })
			l.answers[peerA] = true
			l.forget()
			l.ping(peerA)
			got := l.icmp(wire.TypeEchoReply)
			return want(len(got) == 1 && got[0][7] == 17, "%d replies", len(got))
		}},
		{"4861 6.3.4", "SHOULD", "Retrans Timer is used", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.RetransTimer = 3 * sec })
			l.forget()
			l.ping(peerA)
			l.advance(10 * sec)
			var at []time.Duration
			for _, s := range l.out() {
				if s.nd != nil && s.nd.Type == wire.TypeNeighborSolicitation {
					at = append(at, s.at)
				}
			}
			return want(len(at) == 3 && at[1]-at[0] == 3*sec, "at %v", at)
		}},
		{"4861 6.3.4", "SHOULD", "Reachable Time is used", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.ReachableTime = 100 * sec })
			l.reachable()
			l.advance(49 * sec)
			was := l.state(peerA)
			l.advance(102 * sec)
			return want(was == "REACHABLE" && l.state(peerA) == "STALE", "%s, %s", was, l.state(peerA))
		}},
		{"4861 6.3.4", "SHOULD", "the MTU option is used, within the link's", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.MTU = 1400 })
			was := l.dut.Links().Name("lan0").MTU
			l.ra(func(m *ndwire.RA) { m.MTU = 9000 })
			return want(was == 1400 && l.dut.Links().Name("lan0").MTU == 1500, "%d, then %d", was, l.dut.Links().Name("lan0").MTU)
		}},
		{"4861 6.3.4", "MUST", "an MTU below 1280 is ignored", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.MTU = 1279 })
			return want(l.dut.Links().Name("lan0").MTU == 1500, "%d", l.dut.Links().Name("lan0").MTU)
		}},
		{"4861 6.3.4", "MUST", "a prefix with the L flag is on-link, until its valid lifetime is over", host, func(l *lab) error {
			l.ra(pio("2001:db8:5::/64", 100*sec, 50*sec, "L"))
			was := slices.Contains(l.routes(), "2001:db8:5::/64 via on-link")
			l.advance(101 * sec)
			return want(was && !slices.Contains(l.routes(), "2001:db8:5::/64 via on-link"), "%v", l.routes())
		}},
		{"4861 6.3.4", "MUST", "a prefix without the L flag says nothing about the link", host, func(l *lab) error {
			l.ra(pio("2001:db8:5::/64", hour, hour, "A"))
			return want(!slices.Contains(l.routes(), "2001:db8:5::/64 via on-link") && l.addr("2001:db8:5:") != nil, "%v", l.routes())
		}},
		{"4861 6.3.4", "MUST", "valid lifetime 0 takes the prefix off the link at once", host, func(l *lab) error {
			l.ra(pio("2001:db8:5::/64", hour, hour, "L"))
			l.ra(pio("2001:db8:5::/64", 0, 0, "L"))
			return want(!slices.Contains(l.routes(), "2001:db8:5::/64 via on-link"), "%v", l.routes())
		}},
		{"4861 6.3.6", "MUST", "a router that does not answer makes way for another", host, func(l *lab) error {
			l.ra(nil)
			fromOther(l, nil)
			l.answers[otherLL] = true
			first := l.nextHop(away)
			for range 12 {
				l.send(echo(away, dutAddr, 64, 8))
				l.advance(sec)
			}
			return want(first == peerLL.String() && l.nextHop(away) == otherLL.String(), "%s, then %s", first, l.nextHop(away))
		}},
		{"4861 7.2.5", "MUST", "a router that says it is none is no default router any more", host, func(l *lab) error {
			l.ra(nil)
			l.na(func(m *ndwire.NA) { m.Target, m.Router = peerLL, false })
			return want(!l.hasRoute("default", peerLL), "%v", l.routes())
		}},
		{"4191 3.1", "MUST", "of two routers the one of higher preference is used", host, func(l *lab) error {
			l.ra(nil)
			fromOther(l, func(m *ndwire.RA) { m.Preference = ndwire.High })
			return want(l.nextHop(away) == otherLL.String(), "%s", l.nextHop(away))
		}},
		{"4191 2.2", "MUST", "the reserved preference is treated as medium", host, func(l *lab) error {
			fromOther(l, nil)
			b := l.raPacket(nil)
			b[45] |= 0x10
			l.send(resum(b))
			return want(l.hasRoute("default", peerLL) && l.nextHop(away) == otherLL.String(), "%s", l.nextHop(away))
		}},
		{"4191 3.1", "MUST", "a Route Information option is a route, and lifetime 0 ends it", host, func(l *lab) error {
			rio := func(life time.Duration) func(*ndwire.RA) {
				return func(m *ndwire.RA) {
					m.Routes = []ndwire.RouteInfo{{Prefix: netip.MustParsePrefix("2001:db8:f::/48"), Lifetime: life}}
				}
			}
			l.ra(rio(hour))
			was := l.hasRoute("2001:db8:f::/48", peerLL)
			l.ra(rio(0))
			return want(was && !l.hasRoute("2001:db8:f::/48", peerLL), "%v", l.routes())
		}},
		{"4191 3.5", "MUST NOT", "a router that does not answer is probed more than once a minute", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.Preference = ndwire.High })
			fromOther(l, nil)
			l.answers[otherLL] = true
			probes := 0
			for i := range 400 {
				l.forget()
				l.send(echo(away, dutAddr, 64, 8))
				l.advance(sec)
				for _, m := range l.nd(wire.TypeNeighborSolicitation) {
					if m.Target == peerLL && i > 100 {
						probes++
					}
				}
			}
			return want(probes >= 3 && probes <= 6, "%d in 300 s", probes)
		}},
		{"4191 3.5", "SHOULD", "a preferred router that answers again is used again", host, func(l *lab) error {
			l.ra(func(m *ndwire.RA) { m.Preference = ndwire.High })
			fromOther(l, nil)
			l.answers[otherLL] = true
			for range 12 {
				l.send(echo(away, dutAddr, 64, 8))
				l.advance(sec)
			}
			was := l.nextHop(away)
			l.answers[peerLL] = true
			for range 130 {
				l.send(echo(away, dutAddr, 64, 8))
				l.advance(sec)
			}
			return want(was == otherLL.String() && l.nextHop(away) == peerLL.String(), "%s, then %s", was, l.nextHop(away))
		}},
		{"4861 8.3", "MUST", "a redirect to a router is followed, and the target is a router", host, func(l *lab) error {
			l.ra(nil)
			l.send(redirect(away, otherLL))
			return want(l.nextHop(away) == otherLL.String() && bool(l.neigh(otherLL).Router) && l.state(otherLL) == "STALE", "%s, %+v", l.nextHop(away), l.neigh(otherLL))
		}},
		{"4861 8.3", "MUST", "a redirect to the destination makes it a neighbor", host, func(l *lab) error {
			l.ra(nil)
			l.send(redirect(away, away))
			return want(l.nextHop(away) == "on-link", "%s", l.nextHop(away))
		}},
		{"4861 7.3.3", "MUST", "a redirect to a neighbor that does not answer is given up", host, func(l *lab) error {
			l.ra(nil)
			l.answers[peerLL] = true
			l.send(redirect(away, otherLL))
			for range 12 {
				l.send(echo(away, dutAddr, 64, 8))
				l.advance(sec)
			}
			return want(l.nextHop(away) == peerLL.String(), "%s", l.nextHop(away))
		}},
		{"8106 5.1", "MUST", "lifetime 0 ends a resolver", host, func(l *lab) error {
			dns := func(life time.Duration) func(*ndwire.RA) {
				return func(m *ndwire.RA) { m.RDNSS = []ndwire.RDNSS{{Servers: []netip.Addr{away}, Lifetime: life}} }
			}
			l.ra(dns(hour))
			was := strings.Contains(l.learned(), away.String())
			l.ra(dns(0))
			return want(was && !strings.Contains(l.learned(), away.String()), "was %v: %s", was, l.learned())
		}},
	}
}
