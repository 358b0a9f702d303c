package radv

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"leveret/extensions/ndp/ndwire"
)

// skew is by how much lifetimes of two routers may differ: where they count down, the clocks, the way
// through the link and rounding make them differ by some seconds (RFC 4861 6.2.7).
const skew = 5 * time.Second

// Compare returns in words what another router's advertisement contradicts in our own of the same moment
// (RFC 4861 6.2.7, RFC 8781 5.2). What one of them leaves open is no contradiction.
func Compare(own, other ndwire.RA) []string {
	var out []string
	differ := func(what string, a, b any) {
		out = append(out, fmt.Sprintf("%s is %v here and %v there", what, a, b))
	}
	if own.CurHopLimit != 0 && other.CurHopLimit != 0 && own.CurHopLimit != other.CurHopLimit {
		differ("Cur Hop Limit", own.CurHopLimit, other.CurHopLimit)
	}
	if own.Managed != other.Managed {
		differ("the M flag", own.Managed, other.Managed)
	}
	if own.Other != other.Other {
		differ("the O flag", own.Other, other.Other)
	}
	if own.ReachableTime != 0 && other.ReachableTime != 0 && own.ReachableTime != other.ReachableTime {
		differ("Reachable Time", own.ReachableTime, other.ReachableTime)
	}
	if own.RetransTimer != 0 && other.RetransTimer != 0 && own.RetransTimer != other.RetransTimer {
		differ("Retrans Timer", own.RetransTimer, other.RetransTimer)
	}
	if own.MTU != 0 && other.MTU != 0 && own.MTU != other.MTU {
		differ("the MTU", own.MTU, other.MTU)
	}
	for _, p := range own.Prefixes {
		i := slices.IndexFunc(other.Prefixes, func(q ndwire.PrefixInfo) bool { return q.Prefix == p.Prefix })
		if i < 0 {
			continue
		}
		q := other.Prefixes[i]
		if !alike(p.Valid, q.Valid) {
			differ(fmt.Sprintf("the valid lifetime of %s", p.Prefix), Lifetime(p.Valid), Lifetime(q.Valid))
		}
		if !alike(p.Preferred, q.Preferred) {
			differ(fmt.Sprintf("the preferred lifetime of %s", p.Prefix), Lifetime(p.Preferred), Lifetime(q.Preferred))
		}
	}
	if len(own.PREF64) > 0 && len(other.PREF64) > 0 {
		for _, ends := range []bool{false, true} {
			a, b := nat64(own, ends), nat64(other, ends)
			if !slices.Equal(a, b) {
				what := "the set of NAT64 prefixes"
				if ends {
					what = "the set of ended NAT64 prefixes"
				}
				differ(what, a, b)
			}
		}
	}
	return out
}

func alike(a, b time.Duration) bool { return (a - b).Abs() <= skew }

// nat64 returns the prefixes with a lifetime of 0, or the others, in order.
func nat64(m ndwire.RA, ends bool) []netip.Prefix {
	out := []netip.Prefix{}
	for _, p := range m.PREF64 {
		if (p.Lifetime == 0) == ends {
			out = append(out, p.Prefix)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
