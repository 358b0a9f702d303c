package routers

import (
	"cmp"
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

// Candidate is a route through a router: its default route, or a more-specific one.
type Candidate struct {
	Prefix     netip.Prefix
	Link       int // the caller's
	Router     netip.Addr
	Preference ndwire.Preference
	Until      clock.Instant // clock.Never = without end
	// Lost: the router is known not to answer, since then; 0 = no.
	Lost clock.Instant
	// Sources are the prefixes the router has advertised, while it answers (RFC 8028 3.1).
	Sources []netip.Prefix
	// Share: of several equal routers of this link all are used (RFC 4311).
	Share bool

	// Choose sets these.
	Used bool
	Why  string
}

var everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)

// Candidates returns the routes of the table, the default ones first.
func (t *Table) Candidates(now clock.Instant, link int, share bool) []Candidate {
	var out []Candidate
	add := func(r *router, p netip.Prefix, pref ndwire.Preference, until clock.Instant) {
		c := Candidate{Prefix: p, Link: link, Router: r.addr, Preference: pref, Until: until, Lost: r.lost, Share: share}
		if r.lost == 0 {
			for _, s := range r.sources {
				c.Sources = append(c.Sources, s.prefix)
			}
		}
		out = append(out, c)
	}
	for _, r := range t.routers {
		if r.until > now {
			add(r, everything, r.pref, r.until)
		}
	}
	for _, x := range t.routes {
		if r := t.find(x.router); r != nil {
			add(r, x.prefix, x.pref, x.until)
		}
	}
	return out
}

// Advertised is a router as it is shown.
type Advertised struct {
	Router     netip.Addr
	Preference ndwire.Preference
	Until      clock.Instant // as a default router; not after now = it is none
	Sources    []Prefix
}

// Routers returns every router that something is kept of.
func (t *Table) Routers() []Advertised {
	var out []Advertised
	for _, r := range t.routers {
		a := Advertised{Router: r.addr, Preference: r.pref, Until: r.until}
		for _, s := range r.sources {
			a.Sources = append(a.Sources, Prefix{s.prefix, s.until})
		}
		out = append(out, a)
	}
	return out
}

// Choose decides, for each prefix, which of the routers to it are used: those that answer before those
// that do not, then by preference (RFC 4191 3.2); of equals all, or the one that was heard of first (RFC
// 4311). When none to a prefix answers, a shorter prefix whose routers do is used instead. When none
// answers at all, one is, and always the one that was found missing the longest ago: that makes them
// take turns (RFC 4861 6.3.6).
//
// It sets Used and Why, and puts the candidates in the order they are to be tried, prefix by prefix.
func Choose(cs []Candidate) {
	slices.SortStableFunc(cs, func(a, b Candidate) int {
		return cmp.Or(
			a.Prefix.Compare(b.Prefix),
			cmp.Compare(btoi(a.Lost != 0), btoi(b.Lost != 0)),
			cmp.Compare(b.Preference, a.Preference),
			cmp.Compare(a.Lost, b.Lost),
		)
	})
	for i := 0; i < len(cs); {
		n := i + 1
		for n < len(cs) && cs[n].Prefix == cs[i].Prefix {
			n++
		}
		choose(cs[i:n], shorterAnswers(cs, cs[i].Prefix))
		i = n
	}
}

// choose decides for the routers to one prefix, which are in order.
func choose(group []Candidate, shorter bool) {
	best := &group[0]
	for i := range group {
		c := &group[i]
		switch {
		case c.Lost != 0 && (i > 0 || shorter):
			c.Why = "does not answer"
		case c.Lost != 0:
			c.Used, c.Why = true, "does not answer, but no other router does"
		case i == 0 && len(group) == 1:
			c.Used, c.Why = true, "the only router"
		case i == 0 && group[1].Lost != 0:
			c.Used, c.Why = true, "the only router that answers"
		case c.Preference < best.Preference:
			c.Why = best.Router.String() + " has a higher preference"
		case i == 0 && (group[1].Preference < c.Preference):
			c.Used, c.Why = true, "the highest preference"
		case c.Share && best.Share:
			c.Used, c.Why = true, "shares the destinations with its equals"
		case i == 0:
			c.Used, c.Why = true, "the first of several equals"
		default:
			c.Why = best.Router.String() + " is as good and was there first"
		}
	}
}

// shorterAnswers reports whether a router to a shorter prefix around p answers.
func shorterAnswers(cs []Candidate, p netip.Prefix) bool {
	return slices.ContainsFunc(cs, func(c Candidate) bool {
		return c.Lost == 0 && c.Prefix.Bits() < p.Bits() && c.Prefix.Contains(p.Addr())
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
