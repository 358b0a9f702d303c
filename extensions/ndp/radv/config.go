package radv

import (
	"fmt"
	"net/netip"
	"time"

	"leveret/extensions/ndp/ndwire"
)

// The constants of RFC 4861 10.
const (
	MaxInitialRtrAdvertInterval = 16 * time.Second
	MaxInitialRtrAdvertisements = 3
	MaxFinalRtrAdvertisements   = 3
	MinDelayBetweenRAs          = 3 * time.Second
	MaxRADelayTime              = 500 * time.Millisecond
)

// Config has the variables of RFC 4861 6.2.1 and what later documents added, for one interface. A nil
// pointer stands for a default that depends on other variables, or is not the zero value.
type Config struct {
	// IsRouter says that the interface forwards. Without, Router Lifetime is 0 (RFC 4861 6.2.5). The
	// runtime sets it, as it does Prefix.Addr.
	IsRouter bool `mapstructure:"-"`

	AdvSendAdvertisements bool              `mapstructure:"adv_send_advertisements"`
	MaxRtrAdvInterval     time.Duration     `mapstructure:"max_rtr_adv_interval"`
	MinRtrAdvInterval     *time.Duration    `mapstructure:"min_rtr_adv_interval"`  // nil = 0.33 of the maximum, or all of it below 9 s
	MinDelayBetweenRAs    *time.Duration    `mapstructure:"min_delay_between_ras"` // RFC 6275 13; nil = 3 s, or MinRtrAdvInterval if that is less
	AdvManagedFlag        bool              `mapstructure:"adv_managed_flag"`
	AdvOtherConfigFlag    bool              `mapstructure:"adv_other_config_flag"`
	AdvLinkMTU            uint32            `mapstructure:"adv_link_mtu"` // 0 = not sent
	AdvReachableTime      Lifetime          `mapstructure:"adv_reachable_time"`
	AdvRetransTimer       Lifetime          `mapstructure:"adv_retrans_timer"`
	AdvCurHopLimit        uint8             `mapstructure:"adv_cur_hop_limit"`
	AdvDefaultLifetime    *Lifetime         `mapstructure:"adv_default_lifetime"`   // nil = 3 x MaxRtrAdvInterval
	AdvDefaultPreference  ndwire.Preference `mapstructure:"adv_default_preference"` // RFC 4191 2.2
	AdvSourceLLAddress    bool              `mapstructure:"adv_source_ll_address"`
	AdvIntervalOption     bool              `mapstructure:"adv_interval_option"` // RFC 6275 7.3
	HomeAgent             HomeAgent         `mapstructure:"home_agent"`
	// UnicastOnly keeps solicited answers off the all-nodes group and sends nothing unsolicited; an
	// answer to :: and the final advertisements have no other way.
	UnicastOnly   bool     `mapstructure:"unicast_only"`
	AdvPrefixList []Prefix `mapstructure:"prefixes"`
	Routes        []Route  `mapstructure:"routes"`         // RFC 4191 2.3
	RDNSS         []RDNSS  `mapstructure:"rdnss"`          // RFC 8106 5.1
	DNSSL         []DNSSL  `mapstructure:"dnssl"`          // RFC 8106 5.2
	PREF64        []PREF64 `mapstructure:"pref64"`         // RFC 8781
	CaptivePortal string   `mapstructure:"captive_portal"` // RFC 8910; "" = not sent
}

// HomeAgent is what a home agent says of itself (RFC 6275 7.1, 7.4, RFC 3963 7.3).
type HomeAgent struct {
	AdvHomeAgentFlag    bool           `mapstructure:"adv_home_agent_flag"`
	Lifetime            *time.Duration `mapstructure:"lifetime"` // nil = the router's lifetime
	Preference          uint16         `mapstructure:"preference"`
	MobileRouterSupport bool           `mapstructure:"mobile_router_support"`
}

// Prefix is one of AdvPrefixList.
type Prefix struct {
	Prefix               netip.Prefix `mapstructure:"prefix"`
	AdvOnLinkFlag        *bool        `mapstructure:"adv_on_link_flag"`       // nil = TRUE
	AdvAutonomousFlag    *bool        `mapstructure:"adv_autonomous_flag"`    // nil = TRUE
	AdvRouterAddrFlag    bool         `mapstructure:"adv_router_addr_flag"`   // RFC 6275 7.2; needs Addr
	AdvValidLifetime     *Lifetime    `mapstructure:"adv_valid_lifetime"`     // nil = 2592000 s
	AdvPreferredLifetime *Lifetime    `mapstructure:"adv_preferred_lifetime"` // nil = 604800 s, or the valid lifetime if that is less
	// DecrementLifetimes lets both count down in real time from when the prefix was configured.
	DecrementLifetimes bool `mapstructure:"decrement_lifetimes"`

	Addr netip.Addr `mapstructure:"-"` // this router's address in the prefix; the zero Addr = none
}

// Route is a route to advertise.
type Route struct {
	Prefix             netip.Prefix      `mapstructure:"prefix"`
	AdvRoutePreference ndwire.Preference `mapstructure:"adv_route_preference"`
	AdvRouteLifetime   *Lifetime         `mapstructure:"adv_route_lifetime"` // nil = AdvDefaultLifetime, or 3 x MaxRtrAdvInterval if that is 0
}

// RDNSS are recursive DNS servers of one lifetime.
type RDNSS struct {
	Servers  []netip.Addr `mapstructure:"servers"`
	Lifetime *Lifetime    `mapstructure:"lifetime"` // nil = 3 x MaxRtrAdvInterval
}

// DNSSL are search domains of one lifetime.
type DNSSL struct {
	Domains  []string  `mapstructure:"domains"`
	Lifetime *Lifetime `mapstructure:"lifetime"` // nil = 3 x MaxRtrAdvInterval
}

// PREF64 is the prefix of a NAT64.
type PREF64 struct {
	Prefix   netip.Prefix `mapstructure:"prefix"`
	Lifetime *Lifetime    `mapstructure:"lifetime"` // nil = 3 x MaxRtrAdvInterval (RFC 8781 4.1)
}

// Lifetime is a time that may be zero or without end. In text it is a duration with its unit, such as
// 1800s, or infinity.
type Lifetime time.Duration

// Infinite is a lifetime without end.
const Infinite = Lifetime(ndwire.Infinite)

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Lifetime) UnmarshalText(text []byte) error {
	if string(text) == "infinity" {
		*l = Infinite
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time with its unit, such as 1800s, and not infinity", text)
	}
	*l = Lifetime(d)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (l Lifetime) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// String returns the text that UnmarshalText takes.
func (l Lifetime) String() string {
	if l == Infinite {
		return "infinity"
	}
	return time.Duration(l).String()
}

// Defaults returns the defaults of RFC 4861 6.2.1. AdvSendAdvertisements is FALSE: a node must not
// begin to act as a router by accident.
func Defaults() Config {
	return Config{MaxRtrAdvInterval: 600 * time.Second, AdvCurHopLimit: 64, AdvSourceLLAddress: true}
}

// or returns what p points to, or a default.
func or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

// minRtrAdvInterval is RFC 4861 6.2.1. Of nine seconds the third it takes is less than the three seconds
// that it also asks for: the latter hold.
func (c *Config) minRtrAdvInterval() time.Duration {
	if c.MinRtrAdvInterval == nil && c.MaxRtrAdvInterval >= 9*time.Second {
		return max(c.MaxRtrAdvInterval/100*33, MinDelayBetweenRAs)
	}
	return or(c.MinRtrAdvInterval, c.MaxRtrAdvInterval)
}

// minDelayBetweenRAs is RFC 6275 13: no longer than MinRtrAdvInterval, or the timer could not be kept.
func (c *Config) minDelayBetweenRAs() time.Duration {
	return or(c.MinDelayBetweenRAs, min(MinDelayBetweenRAs, c.minRtrAdvInterval()))
}

// threeIntervals is what most lifetimes are by default, in whole seconds and never none of them
// (RFC 6275 7.5).
func (c *Config) threeIntervals() time.Duration {
	return (3*c.MaxRtrAdvInterval + time.Second - 1).Truncate(time.Second)
}

func (c *Config) defaultLifetime() time.Duration {
	return time.Duration(or(c.AdvDefaultLifetime, Lifetime(c.threeIntervals())))
}

// routeLifetime is the default of routes: a router that is not for default routes has others.
func (c *Config) routeLifetime() time.Duration {
	if d := c.defaultLifetime(); d != 0 {
		return d
	}
	return c.threeIntervals()
}

func (p *Prefix) valid() time.Duration {
	return time.Duration(or(p.AdvValidLifetime, Lifetime(2592000*time.Second)))
}

func (p *Prefix) preferred() time.Duration {
	return time.Duration(or(p.AdvPreferredLifetime, Lifetime(min(604800*time.Second, p.valid()))))
}
