package radv

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"leveret/extensions/ndp/ndwire"
)

// said is what an advertiser with this configuration says at first.
func said(c Config) ndwire.RA {
	ra, _ := New(start, c, always(0), nil).RA(start)
	return ra
}

// TestVariables changes one variable at a time and says which field of the advertisement follows.
func TestVariables(t *testing.T) {
	base := ndwire.RA{
		CurHopLimit: 64, RouterLifetime: 1800 * s,
		Prefixes: []ndwire.PrefixInfo{{
			Prefix: prefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Valid: 2592000 * s, Preferred: 604800 * s,
		}},
	}
	if got := said(router()); !reflect.DeepEqual(got, base) {
		t.Fatalf("by default: %+v\nwant %+v", got, base)
	}
	host := addr("2001:db8:1::1")
	for _, c := range []struct {
		name string
		set  func(*Config)
		want func(*ndwire.RA)
	}{
		{"IsRouter FALSE (6.2.5)", func(c *Config) { c.IsRouter, c.AdvDefaultPreference = false, ndwire.High }, func(m *ndwire.RA) { m.RouterLifetime = 0 }},
		{"MaxRtrAdvInterval", func(c *Config) { c.MaxRtrAdvInterval = 4 * s }, func(m *ndwire.RA) { m.RouterLifetime = 12 * s }},
		{"lifetime of at least a second (RFC 6275 7.5)", func(c *Config) { c.MaxRtrAdvInterval = 70 * ms }, func(m *ndwire.RA) { m.RouterLifetime = s }},
		{"AdvManagedFlag", func(c *Config) { c.AdvManagedFlag = true }, func(m *ndwire.RA) { m.Managed = true }},
		{"AdvOtherConfigFlag", func(c *Config) { c.AdvOtherConfigFlag = true }, func(m *ndwire.RA) { m.Other = true }},
		{"AdvLinkMTU", func(c *Config) { c.AdvLinkMTU = 1400 }, func(m *ndwire.RA) { m.MTU = 1400 }},
		{"AdvReachableTime", func(c *Config) { c.AdvReachableTime = Lifetime(30 * s) }, func(m *ndwire.RA) { m.ReachableTime = 30 * s }},
		{"AdvRetransTimer", func(c *Config) { c.AdvRetransTimer = Lifetime(s) }, func(m *ndwire.RA) { m.RetransTimer = s }},
		{"AdvCurHopLimit", func(c *Config) { c.AdvCurHopLimit = 0 }, func(m *ndwire.RA) { m.CurHopLimit = 0 }},
		{"AdvDefaultLifetime", func(c *Config) { c.AdvDefaultLifetime = life(0) }, func(m *ndwire.RA) { m.RouterLifetime = 0 }},
		{"AdvDefaultPreference (RFC 4191)", func(c *Config) { c.AdvDefaultPreference = ndwire.Low }, func(m *ndwire.RA) { m.Preference = ndwire.Low }},
		{"interval option (RFC 6275 7.3)", func(c *Config) { c.AdvIntervalOption = true }, func(m *ndwire.RA) { m.AdvInterval = 600 * s }},
		{"interval below 200 ms (RFC 6275 7.5)", func(c *Config) { c.AdvIntervalOption, c.MaxRtrAdvInterval = true, 199*ms },
			func(m *ndwire.RA) { m.AdvInterval, m.RouterLifetime = 219*ms, s }},
		{"captive portal (RFC 8910)", func(c *Config) { c.CaptivePortal = "https://p/" }, func(m *ndwire.RA) { m.CaptivePortal = "https://p/" }},
		{"AdvOnLinkFlag", func(c *Config) { c.AdvPrefixList[0].AdvOnLinkFlag = ptr(false) }, func(m *ndwire.RA) { m.Prefixes[0].OnLink = false }},
		{"AdvAutonomousFlag", func(c *Config) { c.AdvPrefixList[0].AdvAutonomousFlag = ptr(false) }, func(m *ndwire.RA) { m.Prefixes[0].Autonomous = false }},
		{"AdvValidLifetime", func(c *Config) { c.AdvPrefixList[0].AdvValidLifetime = ptr(Infinite) }, func(m *ndwire.RA) { m.Prefixes[0].Valid = ndwire.Infinite }},
		{"AdvValidLifetime below the preferred one's default", func(c *Config) { c.AdvPrefixList[0].AdvValidLifetime = life(time.Hour) },
			func(m *ndwire.RA) { m.Prefixes[0].Valid, m.Prefixes[0].Preferred = time.Hour, time.Hour }},
		{"AdvPreferredLifetime", func(c *Config) { c.AdvPrefixList[0].AdvPreferredLifetime = life(0) }, func(m *ndwire.RA) { m.Prefixes[0].Preferred = 0 }},
		{"R flag (RFC 6275 7.2)", func(c *Config) { c.AdvPrefixList[0].AdvRouterAddrFlag, c.AdvPrefixList[0].Addr = true, host },
			func(m *ndwire.RA) { m.Prefixes[0].RouterAddr, m.Prefixes[0].Addr = true, host }},
		{"R flag without an address", func(c *Config) { c.AdvPrefixList[0].AdvRouterAddrFlag = true }, func(*ndwire.RA) {}},
		{"an address without the R flag", func(c *Config) { c.AdvPrefixList[0].Addr = host }, func(*ndwire.RA) {}},
		{"home agent", func(c *Config) { c.HomeAgent.AdvHomeAgentFlag = true }, func(m *ndwire.RA) { m.HomeAgent = true }},
		{"home agent MUST send its address", func(c *Config) { c.HomeAgent.AdvHomeAgentFlag, c.AdvPrefixList[0].Addr = true, host },
			func(m *ndwire.RA) { m.HomeAgent, m.Prefixes[0].RouterAddr, m.Prefixes[0].Addr = true, true, host }},
		{"home agent preference (RFC 6275 7.4)", func(c *Config) { c.HomeAgent = HomeAgent{AdvHomeAgentFlag: true, Preference: 9} },
			func(m *ndwire.RA) {
				m.HomeAgent, m.HomeAgentInfo = true, &ndwire.HomeAgentInfo{Preference: 9, Lifetime: 1800 * s}
			}},
		{"home agent lifetime", func(c *Config) { c.HomeAgent = HomeAgent{AdvHomeAgentFlag: true, Lifetime: ptr(9 * s)} },
			func(m *ndwire.RA) { m.HomeAgent, m.HomeAgentInfo = true, &ndwire.HomeAgentInfo{Lifetime: 9 * s} }},
		{"home agent lifetime as by default: no option", func(c *Config) { c.HomeAgent = HomeAgent{AdvHomeAgentFlag: true, Lifetime: ptr(1800 * s)} },
			func(m *ndwire.RA) { m.HomeAgent = true }},
		{"mobile routers (RFC 3963 7.3)", func(c *Config) { c.HomeAgent = HomeAgent{AdvHomeAgentFlag: true, MobileRouterSupport: true} },
			func(m *ndwire.RA) {
				m.HomeAgent, m.HomeAgentInfo = true, &ndwire.HomeAgentInfo{Lifetime: 1800 * s, MobileRouter: true}
			}},
		{"no home agent: no option", func(c *Config) { c.HomeAgent.Preference = 9 }, func(*ndwire.RA) {}},
		{"route", func(c *Config) { c.Routes = []Route{{Prefix: prefix("fd00::/48"), AdvRoutePreference: ndwire.High}} },
			func(m *ndwire.RA) {
				m.Routes = []ndwire.RouteInfo{{Prefix: prefix("fd00::/48"), Preference: ndwire.High, Lifetime: 1800 * s}}
			}},
		{"route lifetime", func(c *Config) { c.Routes = []Route{{Prefix: prefix("fd00::/48"), AdvRouteLifetime: life(0)}} },
			func(m *ndwire.RA) { m.Routes = []ndwire.RouteInfo{{Prefix: prefix("fd00::/48")}} }},
		{"route of a router that is no default router", func(c *Config) {
			c.AdvDefaultLifetime, c.Routes = life(0), []Route{{Prefix: prefix("fd00::/48")}}
		}, func(m *ndwire.RA) {
			m.RouterLifetime, m.Routes = 0, []ndwire.RouteInfo{{Prefix: prefix("fd00::/48"), Lifetime: 1800 * s}}
		}},
		{"route of what does not forward (RFC 4191 4)", func(c *Config) { c.IsRouter, c.Routes = false, []Route{{Prefix: prefix("fd00::/48")}} },
			func(m *ndwire.RA) { m.RouterLifetime, m.Routes = 0, []ndwire.RouteInfo{{Prefix: prefix("fd00::/48")}} }},
		{"RDNSS (RFC 8106 5.1)", func(c *Config) { c.RDNSS = []RDNSS{{Servers: []netip.Addr{host}}} },
			func(m *ndwire.RA) { m.RDNSS = []ndwire.RDNSS{{Servers: []netip.Addr{host}, Lifetime: 1800 * s}} }},
		{"RDNSS lifetime", func(c *Config) { c.RDNSS = []RDNSS{{Servers: []netip.Addr{host}, Lifetime: ptr(Infinite)}} },
			func(m *ndwire.RA) {
				m.RDNSS = []ndwire.RDNSS{{Servers: []netip.Addr{host}, Lifetime: ndwire.Infinite}}
			}},
		{"DNSSL (RFC 8106 5.2)", func(c *Config) { c.DNSSL = []DNSSL{{Domains: []string{"a.lan"}}} },
			func(m *ndwire.RA) { m.DNSSL = []ndwire.DNSSL{{Domains: []string{"a.lan"}, Lifetime: 1800 * s}} }},
		{"DNSSL lifetime", func(c *Config) { c.DNSSL = []DNSSL{{Domains: []string{"a.lan"}, Lifetime: life(s)}} },
			func(m *ndwire.RA) { m.DNSSL = []ndwire.DNSSL{{Domains: []string{"a.lan"}, Lifetime: s}} }},
		{"PREF64 (RFC 8781 4.1)", func(c *Config) { c.PREF64 = []PREF64{{Prefix: prefix("64:ff9b::/96")}} },
			func(m *ndwire.RA) { m.PREF64 = []ndwire.PREF64{{Prefix: prefix("64:ff9b::/96"), Lifetime: 1800 * s}} }},
		{"PREF64 lifetime", func(c *Config) { c.PREF64 = []PREF64{{Prefix: prefix("64:ff9b::/96"), Lifetime: life(9 * s)}} },
			func(m *ndwire.RA) { m.PREF64 = []ndwire.PREF64{{Prefix: prefix("64:ff9b::/96"), Lifetime: 9 * s}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, want := router(), base
			want.Prefixes = []ndwire.PrefixInfo{base.Prefixes[0]}
			c.set(&cfg)
			c.want(&want)
			if got := said(cfg); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
	c := router()
	c.AdvSourceLLAddress = false
	if b := begin(t, c, always(0)); b.until(0)[0].SourceLLA {
		t.Error("the source link-layer address is asked for")
	}
}

// TestIntervals is RFC 4861 6.2.1 and RFC 6275 13: MinRtrAdvInterval and MinDelayBetweenRAs by default.
func TestIntervals(t *testing.T) {
	for _, c := range []struct {
		max, min   time.Duration // min 0 = by default
		want, last time.Duration
	}{
		{600 * s, 0, 198 * s, 3 * s}, {9 * s, 0, 3 * s, 3 * s}, {10 * s, 0, 3300 * ms, 3 * s}, {8999 * ms, 0, 8999 * ms, 3 * s}, {4 * s, 0, 4 * s, 3 * s},
		{600 * s, 5 * s, 5 * s, 3 * s}, {70 * ms, 30 * ms, 30 * ms, 30 * ms}, {s, 0, s, s},
	} {
		cfg := Config{MaxRtrAdvInterval: c.max}
		if c.min != 0 {
			cfg.MinRtrAdvInterval = &c.min
		}
		if got := cfg.minRtrAdvInterval(); got != c.want {
			t.Errorf("max %s, min %s: %s", c.max, c.min, got)
		}
		if got := cfg.minDelayBetweenRAs(); got != c.last {
			t.Errorf("max %s, min %s: delay %s", c.max, c.min, got)
		}
	}
	// A home agent's short intervals hold.
	c := router()
	c.HomeAgent.AdvHomeAgentFlag, c.MaxRtrAdvInterval, c.MinRtrAdvInterval = true, 70*ms, ptr(30*ms)
	b := begin(t, c, always(0.5))
	b.expect("every 50 ms", b.until(400*ms), 250*ms, 300*ms, 350*ms, 400*ms)
}

// TestDecrement: lifetimes count down in real time, from when the prefix was configured as it is.
func TestDecrement(t *testing.T) {
	c := router()
	c.AdvPrefixList = []Prefix{
		{Prefix: prefix("2001:db8:1::/64"), AdvValidLifetime: life(1000 * s), AdvPreferredLifetime: life(400 * s), DecrementLifetimes: true},
		{Prefix: prefix("2001:db8:2::/64"), AdvValidLifetime: life(1000 * s), AdvPreferredLifetime: life(400 * s)},
		{Prefix: prefix("2001:db8:3::/64"), AdvValidLifetime: ptr(Infinite), AdvPreferredLifetime: life(400 * s), DecrementLifetimes: true},
	}
	a := New(start, c, always(0), nil)
	at := func(d time.Duration, want ...time.Duration) {
		t.Helper()
		ra, _ := a.RA(start.Add(d))
		var got []time.Duration
		for _, p := range ra.Prefixes {
			got = append(got, p.Valid, p.Preferred)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("after %s: %v, want %v", d, got, want)
		}
	}
	fixed := []time.Duration{1000 * s, 400 * s}
	at(0, 1000*s, 400*s, fixed[0], fixed[1], ndwire.Infinite, 400*s)
	at(300*s, 700*s, 100*s, fixed[0], fixed[1], ndwire.Infinite, 100*s)
	at(500*s, 500*s, 0, fixed[0], fixed[1], ndwire.Infinite, 0)
	c.AdvCurHopLimit = 9 // says nothing about the prefixes
	a.SetConfig(start.Add(500*s), c)
	at(600*s, 400*s, 0, fixed[0], fixed[1], ndwire.Infinite, 0)
	at(5000*s, 0, 0, fixed[0], fixed[1], ndwire.Infinite, 0)
	c.AdvPrefixList = append([]Prefix(nil), c.AdvPrefixList...)
	c.AdvPrefixList[0].AdvValidLifetime = life(2000 * s) // begins anew
	a.SetConfig(start.Add(6000*s), c)
	at(6100*s, 1900*s, 300*s, fixed[0], fixed[1], ndwire.Infinite, 0)
}
