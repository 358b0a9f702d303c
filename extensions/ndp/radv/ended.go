package radv

import (
	"net/netip"
	"slices"

	"leveret/extensions/ndp/ndwire"
)

// maxEnded bounds each kind of ended information, the oldest going first.
const maxEnded = 64

// ended is information other than prefixes that was configured and is not any more. Three
// advertisements carry it with a lifetime of 0, which makes hosts forget it (RFC 4191 3.1, RFC 8106 5.1,
// 5.2, RFC 8781 4.1): a route that is gone would draw traffic until its lifetime is over.
type ended struct {
	routes, pref64 []netip.Prefix
	servers        []netip.Addr
	domains        []string
	left           int // advertisements that still carry it
}

// listed returns such information as cfg has.
func listed(cfg *Config) (e ended) {
	for _, r := range cfg.Routes {
		e.routes = append(e.routes, r.Prefix)
	}
	for _, p := range cfg.PREF64 {
		e.pref64 = append(e.pref64, p.Prefix)
	}
	for _, r := range cfg.RDNSS {
		e.servers = append(e.servers, r.Servers...)
	}
	for _, d := range cfg.DNSSL {
		e.domains = append(e.domains, d.Domains...)
	}
	return e
}

// replace notes what ends when cfg takes the place of old.
func (e *ended) replace(old, cfg *Config) {
	was, is := listed(old), listed(cfg)
	more := false
	e.routes = goes(e.routes, was.routes, is.routes, &more)
	e.pref64 = goes(e.pref64, was.pref64, is.pref64, &more)
	e.servers = goes(e.servers, was.servers, is.servers, &more)
	e.domains = goes(e.domains, was.domains, is.domains, &more)
	if more {
		e.left = MaxInitialRtrAdvertisements
	}
}

// goes returns what has ended: what had before, and what was and is not.
func goes[T comparable](before, was, is []T, more *bool) []T {
	back := func(x T) bool { return slices.Contains(is, x) }
	before = slices.DeleteFunc(before, back)
	for _, x := range was {
		if !back(x) {
			before, *more = append(before, x), true
		}
	}
	return before[max(len(before)-maxEnded, 0):]
}

// sent counts an advertisement.
func (e *ended) sent() {
	if e.left--; e.left <= 0 {
		*e = ended{}
	}
}

// put adds the information to an advertisement.
func (e *ended) put(m *ndwire.RA) {
	for _, p := range e.routes {
		m.Routes = append(m.Routes, ndwire.RouteInfo{Prefix: p})
	}
	for _, p := range e.pref64 {
		m.PREF64 = append(m.PREF64, ndwire.PREF64{Prefix: p})
	}
	if len(e.servers) > 0 {
		m.RDNSS = append(m.RDNSS, ndwire.RDNSS{Servers: slices.Clone(e.servers)})
	}
	for _, d := range e.domains {
		m.DNSSL = append(m.DNSSL, ndwire.DNSSL{Domains: []string{d}})
	}
}
