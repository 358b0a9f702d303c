package ndp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/module"
	"leveret/extensions/ndp/radv"
	"leveret/extensions/ndp/routers"
	"leveret/extensions/ndp/rtrsol"
	"leveret/extensions/ndp/slaac"
)

// The words of accept_ra.
const (
	acceptNever   = "never"
	acceptHost    = "when_not_forwarding"
	acceptAlways  = "always"
	maxProxies    = 1024 // of one link
	maxRedirects  = 1024 // learned on one link
	maxAutoPrefix = 16   // prefixes with addresses of our own on one link
)

// HostConfig is links[].host: what the link takes from routers.
type HostConfig struct {
	AcceptRA            string          `mapstructure:"accept_ra"`               // never, when_not_forwarding or always
	Autoconf            bool            `mapstructure:"autoconf"`                // RFC 4862 5.5
	StablePrivacy       bool            `mapstructure:"stable_privacy"`          // RFC 7217; false = modified EUI-64
	TemporaryAddresses  bool            `mapstructure:"temporary_addresses"`     // RFC 8981
	TempValidLifetime   time.Duration   `mapstructure:"temp_valid_lifetime"`     // TEMP_VALID_LIFETIME
	TempPreferredLife   time.Duration   `mapstructure:"temp_preferred_lifetime"` // TEMP_PREFERRED_LIFETIME
	AcceptDefaultRouter bool            `mapstructure:"accept_default_router"`
	AcceptRouteInfo     RouteInfoConfig `mapstructure:"accept_route_info"` // RFC 4191
	AcceptRedirects     bool            `mapstructure:"accept_redirects"`
	RouterProbeInterval time.Duration   `mapstructure:"router_probe_interval"` // RFC 4191 3.5
	LoadShareRouters    bool            `mapstructure:"load_share_routers"`    // RFC 4311
	RtrSolicitations    SolicitConfig   `mapstructure:"rtr_solicitations"`     // RFC 7559
}

// RouteInfoConfig bounds the prefixes of Route Information options that are taken.
type RouteInfoConfig struct {
	MinLength int `mapstructure:"min_length"`
	MaxLength int `mapstructure:"max_length"`
}

// SolicitConfig says how routers are asked for.
type SolicitConfig struct {
	Max         int           `mapstructure:"max"` // MAX_RTR_SOLICITATIONS; 0 = no limit
	Interval    time.Duration `mapstructure:"interval"`
	MaxInterval time.Duration `mapstructure:"max_interval"`
}

// ProxyConfig is one of links[].nd_proxy: an address the node answers for (RFC 4861 7.2.8).
type ProxyConfig struct {
	Address netip.Addr `mapstructure:"address"`
}

func defaultHost() HostConfig {
	return HostConfig{
		AcceptRA: acceptHost, Autoconf: true, StablePrivacy: true, AcceptDefaultRouter: true,
		TempValidLifetime: slaac.TempValidLifetime, TempPreferredLife: slaac.TempPreferredLifetime,
		AcceptRouteInfo: RouteInfoConfig{MaxLength: 64}, AcceptRedirects: true, RouterProbeInterval: time.Minute,
		LoadShareRouters: true, RtrSolicitations: SolicitConfig{Interval: 4 * time.Second, MaxInterval: time.Hour},
	}
}

// decodeRouters decodes what has to do with routers, ours and others.
func (c *linkConfig) decodeRouters(l module.LinkConfig) (errs []error) {
	if s := l.Sections["host"]; s != nil && s.Present() {
		if err := s.Decode(&c.host); err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, c.host.check(s)...)
		}
	}
	if s := l.Sections["router_advertisement"]; s != nil && s.Present() {
		if err := s.Decode(&c.adv); err != nil {
			errs = append(errs, err)
		} else {
			for _, f := range radv.Check(c.adv, l.MTU) {
				errs = append(errs, s.Fault(f.Key, f.Msg, f.RFC))
			}
			if c.adv.AdvSendAdvertisements && c.host.AcceptRA == acceptAlways {
				errs = append(errs, s.Fault("adv_send_advertisements", "the link accepts advertisements (host.accept_ra: always): it cannot be both", "RFC 4861 6.2.7"))
			}
		}
	}
	if s := l.Sections["nd_proxy"]; s != nil && s.Present() {
		if err := s.Decode(&c.proxies); err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, checkProxies(s, c.proxies)...)
		}
	}
	if s := l.Sections["send_redirects"]; s != nil && s.Present() {
		if err := s.Decode(&c.sendRedirects); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (h *HostConfig) check(s module.Section) (errs []error) {
	fault := func(key, rfc, format string, args ...any) {
		errs = append(errs, s.Fault(key, fmt.Sprintf(format, args...), rfc))
	}
	if !slices.Contains([]string{acceptNever, acceptHost, acceptAlways}, h.AcceptRA) {
		fault("accept_ra", "", "%q is not never, when_not_forwarding or always", h.AcceptRA)
	}
	r := h.AcceptRouteInfo
	if r.MinLength < 0 || r.MaxLength > 128 || r.MinLength > r.MaxLength+1 {
		fault("accept_route_info", "RFC 4191 2.3", "%d..%d is no range of prefix lengths", r.MinLength, r.MaxLength)
	}
	if h.RouterProbeInterval < time.Minute {
		fault("router_probe_interval", "RFC 4191 3.5", "%s is less than 1m0s: routers must not be probed more often", h.RouterProbeInterval)
	}
	if h.TempPreferredLife > h.TempValidLifetime {
		fault("temp_preferred_lifetime", "RFC 8981 3.8", "%s is longer than temp_valid_lifetime, %s", h.TempPreferredLife, h.TempValidLifetime)
	}
	if q := h.RtrSolicitations; q.Max < 0 {
		fault("rtr_solicitations.max", "RFC 7559 2", "%d is negative", q.Max)
	} else if q.MaxInterval < q.Interval {
		fault("rtr_solicitations.max_interval", "RFC 7559 2", "%s is less than interval, %s", q.MaxInterval, q.Interval)
	}
	return errs
}

func checkProxies(s module.Section, list []ProxyConfig) (errs []error) {
	if len(list) > maxProxies {
		errs = append(errs, s.Fault("", fmt.Sprintf("%d addresses, there may be %d", len(list), maxProxies), ""))
	}
	for i, p := range list {
		if !proxyable(p.Address) {
			errs = append(errs, s.Fault(fmt.Sprintf("[%d].address", i), fmt.Sprintf("%v is not a unicast IPv6 address without a zone", p.Address), "RFC 4861 7.2.8"))
		}
	}
	return errs
}

// proxyable reports whether a node can answer for an address.
func proxyable(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.Zone() == "" && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback()
}

func (h *HostConfig) routerVars() routers.Vars {
	return routers.Vars{DefaultRouter: h.AcceptDefaultRouter, MinLength: h.AcceptRouteInfo.MinLength, MaxLength: h.AcceptRouteInfo.MaxLength}
}

func (h *HostConfig) solicitVars() rtrsol.Vars {
	q := h.RtrSolicitations
	return rtrsol.Vars{Max: q.Max, Interval: q.Interval, MaxInterval: q.MaxInterval}
}
