package radv

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// Fault is one thing wrong with a configuration.
type Fault struct {
	Key string // below router_advertisement, such as prefixes[0].prefix
	Msg string
	RFC string // the section that is broken
}

// What a configuration can have; RFC 4191 4 gives the number of routes.
const (
	maxPrefixes = 64
	maxRoutes   = 17
	maxServers  = 64
	maxDomains  = 64
	maxPREF64   = 16
)

var linkLocal = netip.MustParsePrefix("fe80::/10")

type checker struct{ faults []Fault }

// Check returns everything that is wrong. linkMTU is what the link carries.
func Check(c Config, linkMTU int) []Fault {
	var k checker
	k.intervals(&c)
	k.header(&c, linkMTU)
	k.homeAgent(&c)
	k.prefixes(&c)
	k.routes(&c)
	k.names(&c)
	return k.faults
}

func (k *checker) fault(key, rfc, format string, args ...any) {
	k.faults = append(k.faults, Fault{Key: key, Msg: fmt.Sprintf(format, args...), RFC: rfc})
}

func (k *checker) between(key string, v, least, most time.Duration, rfc string) {
	if v < least || v > most {
		k.fault(key, rfc, "%s is outside %s..%s", Lifetime(v), least, most)
	}
}

// lifetime checks what is sent as seconds in 32 bits.
func (k *checker) lifetime(key string, l *Lifetime, rfc string) {
	switch {
	case l == nil || *l == Infinite:
	case *l < 0:
		k.fault(key, rfc, "%s is negative", *l)
	case time.Duration(*l)%time.Second != 0:
		k.fault(key, rfc, "%s is not whole seconds", *l)
	case time.Duration(*l)/time.Second >= math.MaxUint32:
		k.fault(key, rfc, "%s is more than 4294967294s: write infinity", *l)
	}
}

func (k *checker) intervals(c *Config) {
	least, leastMin, rfc := 4*time.Second, 3*time.Second, "RFC 4861 6.2.1"
	// The lower limits are for routers that serve mobile nodes, and only where that is configured.
	if c.HomeAgent.AdvHomeAgentFlag || c.AdvIntervalOption {
		least, leastMin, rfc = 70*time.Millisecond, 30*time.Millisecond, "RFC 6275 7.5"
	}
	k.between("max_rtr_adv_interval", c.MaxRtrAdvInterval, least, 1800*time.Second, rfc)
	if c.MinRtrAdvInterval != nil {
		k.between("min_rtr_adv_interval", *c.MinRtrAdvInterval, leastMin, c.MaxRtrAdvInterval/4*3, rfc)
	}
	if c.MinDelayBetweenRAs != nil {
		k.between("min_delay_between_ras", *c.MinDelayBetweenRAs, min(leastMin, c.minRtrAdvInterval()),
			min(MinDelayBetweenRAs, c.minRtrAdvInterval()), "RFC 6275 13")
	}
}

func (k *checker) header(c *Config, linkMTU int) {
	if d := c.AdvDefaultLifetime; d != nil && *d != 0 {
		k.between("adv_default_lifetime", time.Duration(*d), c.MaxRtrAdvInterval, 9000*time.Second, "RFC 4861 6.2.1")
		if time.Duration(*d)%time.Second != 0 {
			k.lifetime("adv_default_lifetime", d, "RFC 4861 4.2")
		}
	}
	k.between("adv_reachable_time", time.Duration(c.AdvReachableTime), 0, time.Hour, "RFC 4861 6.2.1")
	k.between("adv_retrans_timer", time.Duration(c.AdvRetransTimer), 0, math.MaxUint32*time.Millisecond, "RFC 4861 6.2.1")
	switch m := c.AdvLinkMTU; {
	case m == 0:
	case m < wire.MinMTU:
		k.fault("adv_link_mtu", "RFC 8200 5", "%d is less than 1280", m)
	case m > uint32(linkMTU):
		k.fault("adv_link_mtu", "RFC 4861 4.6.4", "%d is more than the link's MTU, %d", m, linkMTU)
	}
	if c.CaptivePortal != "" && !ndwire.IsPortal(c.CaptivePortal) {
		k.fault("captive_portal", "RFC 8910 2.3", "not a URI of at most %d octets", ndwire.MaxCaptivePortal)
	}
}

func (k *checker) homeAgent(c *Config) {
	h := &c.HomeAgent
	if h.Lifetime != nil {
		k.between("home_agent.lifetime", *h.Lifetime, time.Second, math.MaxUint16*time.Second, "RFC 6275 7.4")
	}
	if !h.AdvHomeAgentFlag {
		return
	}
	if !c.AdvSourceLLAddress {
		k.fault("adv_source_ll_address", "RFC 6275 7.5", "a home agent must send its link-layer address")
	}
	if h.Lifetime == nil && c.defaultLifetime() == 0 {
		k.fault("home_agent.lifetime", "RFC 6275 7.4", "is needed when adv_default_lifetime is 0, for the default is the same")
	}
}

// prefix checks one that is advertised as on the link or reached by a route.
func (k *checker) prefix(key string, p netip.Prefix, rfc string) {
	switch {
	case !p.IsValid():
		k.fault(key, rfc, "is missing")
	case !p.Addr().Is6() || p.Addr().Is4In6():
		k.fault(key, rfc, "%s is not of IPv6", p)
	case p != p.Masked():
		k.fault(key, rfc, "%s has bits behind its length; did you mean %s?", p, p.Masked())
	case p.Bits() >= 10 && linkLocal.Contains(p.Addr()):
		k.fault(key, rfc, "%s is link-local", p)
	case p.Bits() >= 8 && p.Addr().IsMulticast():
		k.fault(key, rfc, "%s is multicast", p)
	}
}

func (k *checker) prefixes(c *Config) {
	k.count("prefixes", len(c.AdvPrefixList), maxPrefixes, "RFC 4861 6.2.1")
	for i := range c.AdvPrefixList {
		p, at := &c.AdvPrefixList[i], fmt.Sprintf("prefixes[%d].", i)
		k.prefix(at+"prefix", p.Prefix, "RFC 4861 6.2.1")
		if slices.ContainsFunc(c.AdvPrefixList[:i], func(q Prefix) bool { return q.Prefix == p.Prefix }) {
			k.fault(at+"prefix", "RFC 4861 6.2.3", "%s is there twice", p.Prefix)
		}
		k.lifetime(at+"adv_valid_lifetime", p.AdvValidLifetime, "RFC 4861 4.6.2")
		k.lifetime(at+"adv_preferred_lifetime", p.AdvPreferredLifetime, "RFC 4861 4.6.2")
		if p.preferred() > p.valid() {
			k.fault(at+"adv_preferred_lifetime", "RFC 4861 6.2.1", "%s is more than the valid lifetime, %s", Lifetime(p.preferred()), Lifetime(p.valid()))
		}
	}
}

func (k *checker) routes(c *Config) {
	k.count("routes", len(c.Routes), maxRoutes, "RFC 4191 4")
	for i, r := range c.Routes {
		at := fmt.Sprintf("routes[%d].", i)
		k.prefix(at+"prefix", r.Prefix, "RFC 4191 2.3")
		if slices.ContainsFunc(c.Routes[:i], func(q Route) bool { return q.Prefix == r.Prefix }) {
			k.fault(at+"prefix", "RFC 4191 2.3", "%s is there twice", r.Prefix)
		}
		k.lifetime(at+"adv_route_lifetime", r.AdvRouteLifetime, "RFC 4191 2.3")
	}
	k.count("pref64", len(c.PREF64), maxPREF64, "RFC 8781 4")
	for i, p := range c.PREF64 {
		at := fmt.Sprintf("pref64[%d].", i)
		k.prefix(at+"prefix", p.Prefix, "RFC 8781 4")
		if slices.ContainsFunc(c.PREF64[:i], func(q PREF64) bool { return q.Prefix == p.Prefix }) {
			k.fault(at+"prefix", "RFC 8781 4", "%s is there twice", p.Prefix)
		}
		if p.Prefix.IsValid() && !slices.Contains([]int{96, 64, 56, 48, 40, 32}, p.Prefix.Bits()) {
			k.fault(at+"prefix", "RFC 8781 4", "%s has not 32, 40, 48, 56, 64 or 96 bits", p.Prefix)
		}
		if p.Lifetime != nil {
			k.between(at+"lifetime", time.Duration(*p.Lifetime), 0, ndwire.MaxPREF64Lifetime, "RFC 8781 4.1")
		}
	}
}

func (k *checker) names(c *Config) {
	servers, domains := 0, 0
	for i, r := range c.RDNSS {
		at := fmt.Sprintf("rdnss[%d].", i)
		servers += len(r.Servers)
		if len(r.Servers) == 0 {
			k.fault(at+"servers", "RFC 8106 5.1", "is empty")
		}
		for j, s := range r.Servers {
			if !s.Is6() || s.Is4In6() || s.IsMulticast() || s.IsUnspecified() {
				k.fault(fmt.Sprintf("%sservers[%d]", at, j), "RFC 8106 5.3.1", "%s is no unicast IPv6 address", s)
			}
		}
		k.lifetime(at+"lifetime", r.Lifetime, "RFC 8106 5.1")
	}
	k.count("rdnss", servers, maxServers, "RFC 8106 5.1")
	for i, d := range c.DNSSL {
		at, octets := fmt.Sprintf("dnssl[%d].", i), 8
		domains += len(d.Domains)
		if len(d.Domains) == 0 {
			k.fault(at+"domains", "RFC 8106 5.2", "is empty")
		}
		for j, name := range d.Domains {
			octets += len(name) + 2
			if !ndwire.IsDomain(name) {
				k.fault(fmt.Sprintf("%sdomains[%d]", at, j), "RFC 1035 3.1", "%q is no domain name", name)
			}
		}
		if octets > 255*8 {
			k.fault(at+"domains", "RFC 8106 5.2", "do not fit into one option: make two")
		}
		k.lifetime(at+"lifetime", d.Lifetime, "RFC 8106 5.2")
	}
	k.count("dnssl", domains, maxDomains, "RFC 8106 5.2")
}

func (k *checker) count(key string, n, most int, rfc string) {
	if n > most {
		k.fault(key, rfc, "%d are more than %d", n, most)
	}
}
