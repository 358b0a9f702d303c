package radv

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

// maxStale bounds the stale prefixes.
const maxStale = 64

// StalePrefix is a prefix that hosts may still use.
type StalePrefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool
	// Left is how long hosts may hold it yet, or ndwire.Infinite. Of one that is Live it begins anew
	// with each advertisement, thus after a restart.
	Left time.Duration
	Live bool // still advertised for use
}

// known is a prefix that was advertised.
type known struct {
	prefix             netip.Prefix
	onLink, autonomous bool
	live               bool
	valid              time.Duration // as last advertised while it was live
	until              clock.Instant // no host holds it longer
}

// countdown is a configured prefix whose lifetimes count down.
type countdown struct {
	prefix           netip.Prefix
	valid, preferred time.Duration
	from             clock.Instant
}

// contents is what the advertisements say and have said.
type contents struct {
	known      []known
	countdowns []countdown
	ended      ended
}

// recall takes in what was recorded before a restart, all as stale at first.
func (c *contents) recall(now clock.Instant, record []StalePrefix) {
	for _, s := range record {
		if s.Left > 0 && c.find(s.Prefix) == nil {
			c.known = append(c.known, known{
				prefix: s.Prefix, onLink: s.OnLink, autonomous: s.Autonomous, until: now.Add(s.Left),
			})
		}
	}
}

func (c *contents) find(p netip.Prefix) *known {
	for i := range c.known {
		if c.known[i].prefix == p {
			return &c.known[i]
		}
	}
	return nil
}

// configure settles which prefixes are live, which stale and which count down.
func (c *contents) configure(now clock.Instant, cfg *Config, n *Counters) {
	stale := 0
	for i := range c.known {
		k := &c.known[i]
		was := k.live
		k.live = slices.ContainsFunc(cfg.AdvPrefixList, func(p Prefix) bool { return p.Prefix == k.prefix })
		if was && !k.live { // RFC 9096 3.5: for at least the valid lifetime previously employed
			k.until = max(k.until, now.Add(k.valid))
		}
	}
	c.prune(now)
	for _, k := range c.known {
		if !k.live {
			stale++
		}
	}
	for ; stale > maxStale; stale-- {
		first := -1
		for i, k := range c.known {
			if !k.live && (first < 0 || k.until < c.known[first].until) {
				first = i
			}
		}
		c.known = slices.Delete(c.known, first, first+1)
		n.StaleEvicted++
	}
	// A countdown goes on when its prefix is configured as it was.
	var next []countdown
	for i := range cfg.AdvPrefixList {
		p := &cfg.AdvPrefixList[i]
		if !p.DecrementLifetimes {
			continue
		}
		d := countdown{p.Prefix, p.valid(), p.preferred(), now}
		for _, old := range c.countdowns {
			if old.prefix == d.prefix && old.valid == d.valid && old.preferred == d.preferred {
				d.from = old.from
			}
		}
		next = append(next, d)
	}
	c.countdowns = next
}

// prune forgets the stale prefixes that nobody holds any more.
func (c *contents) prune(now clock.Instant) {
	c.known = slices.DeleteFunc(c.known, func(k known) bool { return !k.live && k.until <= now })
}

// lifetimes returns those of a configured prefix as they are now.
func (c *contents) lifetimes(now clock.Instant, p *Prefix) (valid, preferred time.Duration) {
	valid, preferred = p.valid(), p.preferred()
	for _, d := range c.countdowns {
		if d.prefix == p.Prefix {
			valid, preferred = left(now, d.from, valid), left(now, d.from, preferred)
		}
	}
	return valid, preferred
}

// left returns what is left at now of d from an instant on. Infinity does not get less.
func left(now, from clock.Instant, d time.Duration) time.Duration {
	if d == ndwire.Infinite {
		return d
	}
	return max(d-now.Sub(from), 0)
}

// Stale returns the prefixes advertised as stale.
func (c *contents) Stale(now clock.Instant) []StalePrefix {
	return slices.DeleteFunc(c.Record(now), func(s StalePrefix) bool { return s.Live })
}

// Record returns what must survive a restart (RFC 9096 3.5): prefixes in use, because they may not be
// configured any more by then, and stale ones. The runtime takes the time that passes off Left, except
// of those that are Live.
func (c *contents) Record(now clock.Instant) []StalePrefix {
	c.prune(now)
	var out []StalePrefix
	for _, k := range c.known {
		s := StalePrefix{Prefix: k.prefix, OnLink: k.onLink, Autonomous: k.autonomous, Left: ndwire.Infinite, Live: k.live}
		if k.until != clock.Never {
			s.Left = k.until.Sub(now)
		}
		if k.live {
			s.Left = max(s.Left, k.valid)
		}
		out = append(out, s)
	}
	return out
}

// sent notes that hosts have now heard the configured prefixes.
func (c *contents) sent(now clock.Instant, cfg *Config) {
	for i := range cfg.AdvPrefixList {
		p := &cfg.AdvPrefixList[i]
		k := c.find(p.Prefix)
		if k == nil {
			c.known = append(c.known, known{prefix: p.Prefix, live: true})
			k = &c.known[len(c.known)-1]
		}
		k.valid, _ = c.lifetimes(now, p)
		k.onLink, k.autonomous = or(p.AdvOnLinkFlag, true), or(p.AdvAutonomousFlag, true)
		k.until = max(k.until, now.Add(k.valid))
	}
	c.ended.sent()
}

// build makes an advertisement (6.2.3); final says that it is one of the last (6.2.5).
func (c *contents) build(now clock.Instant, cfg *Config, final bool) ndwire.RA {
	m := ndwire.RA{
		CurHopLimit: cfg.AdvCurHopLimit, Managed: cfg.AdvManagedFlag, Other: cfg.AdvOtherConfigFlag,
		HomeAgent: cfg.HomeAgent.AdvHomeAgentFlag, Preference: cfg.AdvDefaultPreference, RouterLifetime: cfg.defaultLifetime(),
		ReachableTime: time.Duration(cfg.AdvReachableTime), RetransTimer: time.Duration(cfg.AdvRetransTimer),
		MTU: cfg.AdvLinkMTU, CaptivePortal: cfg.CaptivePortal, HomeAgentInfo: cfg.homeAgentInfo(),
	}
	if cfg.AdvIntervalOption {
		m.AdvInterval = cfg.MaxRtrAdvInterval
		if m.AdvInterval < 200*time.Millisecond { // RFC 6275 7.5
			m.AdvInterval += 20 * time.Millisecond
		}
	}
	m.Prefixes = c.prefixes(now, cfg)
	three := Lifetime(cfg.threeIntervals())
	for _, r := range cfg.Routes {
		m.Routes = append(m.Routes, ndwire.RouteInfo{
			Prefix: r.Prefix, Preference: r.AdvRoutePreference, Lifetime: time.Duration(or(r.AdvRouteLifetime, Lifetime(cfg.routeLifetime()))),
		})
	}
	for _, r := range cfg.RDNSS {
		m.RDNSS = append(m.RDNSS, ndwire.RDNSS{Servers: r.Servers, Lifetime: time.Duration(or(r.Lifetime, three))})
	}
	for _, d := range cfg.DNSSL {
		m.DNSSL = append(m.DNSSL, ndwire.DNSSL{Domains: d.Domains, Lifetime: time.Duration(or(d.Lifetime, three))})
	}
	for _, p := range cfg.PREF64 {
		m.PREF64 = append(m.PREF64, ndwire.PREF64{Prefix: p.Prefix, Lifetime: time.Duration(or(p.Lifetime, three))})
	}
	c.ended.put(&m)
	if final || !cfg.IsRouter { // 6.2.5
		m.RouterLifetime, m.Preference = 0, ndwire.Medium
		for i := range m.Routes { // RFC 4191 4
			m.Routes[i].Lifetime = 0
		}
		// RFC 6275 7.4: the option cannot say 0; without it the home agent's lifetime is the router's.
		m.HomeAgentInfo = nil
	}
	return m
}

// prefixes are the configured ones, and then the stale ones.
func (c *contents) prefixes(now clock.Instant, cfg *Config) []ndwire.PrefixInfo {
	var out []ndwire.PrefixInfo
	addressed := false
	for i := range cfg.AdvPrefixList {
		p := &cfg.AdvPrefixList[i]
		valid, preferred := c.lifetimes(now, p)
		x := ndwire.PrefixInfo{
			Prefix: p.Prefix, OnLink: or(p.AdvOnLinkFlag, true), Autonomous: or(p.AdvAutonomousFlag, true),
			RouterAddr: p.AdvRouterAddrFlag && p.Addr.IsValid(), Valid: valid, Preferred: preferred,
		}
		if x.RouterAddr {
			x.Addr, addressed = p.Addr, true
		}
		out = append(out, x)
	}
	// RFC 6275 7.2: a home agent MUST give its address in one of them, whether or not it was told to.
	for i := range out {
		if a := cfg.AdvPrefixList[i].Addr; cfg.HomeAgent.AdvHomeAgentFlag && !addressed && a.IsValid() {
			out[i].RouterAddr, out[i].Addr, addressed = true, a, true
		}
	}
	for _, k := range c.known {
		if !k.live && k.until > now { // RFC 9096 3.5: both lifetimes 0, the flags unchanged
			out = append(out, ndwire.PrefixInfo{Prefix: k.prefix, OnLink: k.onLink, Autonomous: k.autonomous})
		}
	}
	return out
}

// homeAgentInfo returns the option, or nil when it would say what goes without saying (RFC 6275 7.4).
func (c *Config) homeAgentInfo() *ndwire.HomeAgentInfo {
	h := &c.HomeAgent
	life := or(h.Lifetime, c.defaultLifetime())
	if !h.AdvHomeAgentFlag || h.Preference == 0 && life == c.defaultLifetime() && !h.MobileRouterSupport {
		return nil
	}
	return &ndwire.HomeAgentInfo{Preference: h.Preference, Lifetime: life, MobileRouter: h.MobileRouterSupport}
}
