package routers

import (
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

// DNS is a resolver, a search domain or the prefix of a NAT64, with the router that told.
type DNS[T comparable] struct {
	Value  T
	Router netip.Addr
	Until  clock.Instant // clock.Never = without end
}

// resolvers are what RFC 8106, RFC 8781 and RFC 8910 options said.
type resolvers struct {
	servers []DNS[netip.Addr]
	domains []DNS[string]
	pref64  []DNS[netip.Prefix]
	portal  string
}

func (s *resolvers) ra(now clock.Instant, ra *ndwire.RA) {
	// What is new goes to the front, in the order of its option (RFC 8106 6.2, 6.3).
	var servers []DNS[netip.Addr]
	for _, o := range ra.RDNSS {
		for _, a := range o.Servers {
			servers = append(servers, DNS[netip.Addr]{a, ra.Src, end(now, o.Lifetime)})
		}
	}
	s.servers = merge(s.servers, servers, maxServers)
	var domains []DNS[string]
	for _, o := range ra.DNSSL {
		for _, d := range o.Domains {
			domains = append(domains, DNS[string]{d, ra.Src, end(now, o.Lifetime)})
		}
	}
	s.domains = merge(s.domains, domains, maxDomains)
	var pref64 []DNS[netip.Prefix]
	for _, p := range ra.PREF64 {
		pref64 = append(pref64, DNS[netip.Prefix]{p.Prefix, ra.Src, end(now, p.Lifetime)})
	}
	s.pref64 = merge(s.pref64, pref64, maxPREF64)
	if ra.CaptivePortal != "" {
		s.portal = ra.CaptivePortal
	}
}

// merge puts news at the front of a list: a lifetime of 0 removes, what is there is refreshed where it
// is, and what is too much goes, that first which would end first (RFC 8106 6.2).
func merge[T comparable](list, news []DNS[T], most int) []DNS[T] {
	var fresh []DNS[T]
	for _, n := range news {
		i := slices.IndexFunc(list, func(x DNS[T]) bool { return x.Value == n.Value })
		k := slices.IndexFunc(fresh, func(x DNS[T]) bool { return x.Value == n.Value })
		switch {
		case n.Until == 0 && i >= 0:
			list = slices.Delete(list, i, i+1)
		case n.Until == 0 || k >= 0:
		case i >= 0:
			list[i] = n
		default:
			fresh = append(fresh, n)
		}
	}
	list = append(fresh, list...)
	for len(list) > most {
		first := 0
		for i := range list {
			if list[i].Until < list[first].Until {
				first = i
			}
		}
		list = slices.Delete(list, first, first+1)
	}
	return list
}

func (s *resolvers) deadline() clock.Instant {
	d := earliest(s.servers, clock.Never)
	return earliest(s.pref64, earliest(s.domains, d))
}

func earliest[T comparable](list []DNS[T], d clock.Instant) clock.Instant {
	for i := range list {
		d = clock.Earliest(d, list[i].Until)
	}
	return d
}

func (s *resolvers) tick(now clock.Instant) {
	s.servers, s.domains, s.pref64 = live(s.servers, now), live(s.domains, now), live(s.pref64, now)
}

func live[T comparable](list []DNS[T], now clock.Instant) []DNS[T] {
	return slices.DeleteFunc(list, func(x DNS[T]) bool { return x.Until <= now })
}

// Servers returns the recursive DNS servers, the preferred first (RFC 8106 6.2).
func (t *Table) Servers() []DNS[netip.Addr] { return t.dns.servers }

// Domains returns the search domains, the first first.
func (t *Table) Domains() []DNS[string] { return t.dns.domains }

// PREF64 returns the prefixes of NAT64s (RFC 8781).
func (t *Table) PREF64() []DNS[netip.Prefix] { return t.dns.pref64 }

// CaptivePortal returns the URI of the portal's API, "" if nobody told one (RFC 8910).
func (t *Table) CaptivePortal() string { return t.dns.portal }
