package srcsel

import (
	"net/netip"
	"slices"
)

// Destination is one address of a peer that has several.
type Destination struct {
	Addr        [16]byte // IPv4 as IPv4-mapped
	Unreachable bool     // there is no route, or it is known not to answer
	Source      *Candidate
	// Encapsulated: its packets go through a tunnel over the other protocol (rule 7).
	Encapsulated bool
}

// destRules are the rules of RFC 6724 6: whether a is better than b by that rule alone. Rule 10 is that
// equals keep their order.
var destRules = [...]func(a, b *Destination, t *PolicyTable) bool{
	func(a, b *Destination, _ *PolicyTable) bool { return a.usable() && !b.usable() },             // 1 avoid unusable
	func(a, b *Destination, _ *PolicyTable) bool { return a.scopeMatches() && !b.scopeMatches() }, // 2 matching scope
	func(a, b *Destination, _ *PolicyTable) bool {
		return sourced(a, b) && !a.Source.Deprecated && b.Source.Deprecated
	}, // 3 avoid deprecated
	func(a, b *Destination, _ *PolicyTable) bool { // 4 home addresses
		if !sourced(a, b) {
			return false
		}
		ra, rb := homeRank(nil, a.Source, nil), homeRank(nil, b.Source, nil)
		return ra > rb && rb != neutral
	},
	func(a, b *Destination, t *PolicyTable) bool { return a.labelMatches(t) && !b.labelMatches(t) },       // 5 matching label
	func(a, b *Destination, t *PolicyTable) bool { return t.Precedence(&a.Addr) > t.Precedence(&b.Addr) }, // 6 precedence
	func(a, b *Destination, _ *PolicyTable) bool { return !a.Encapsulated && b.Encapsulated },             // 7 native transport
	func(a, b *Destination, _ *PolicyTable) bool { return scope(&a.Addr) < scope(&b.Addr) },               // 8 smaller scope
	func(a, b *Destination, _ *PolicyTable) bool { // 9 longest matching prefix, of one family
		return sourced(a, b) && a.is4() == b.is4() && a.matching() > b.matching()
	},
}

func sourced(a, b *Destination) bool { return a.Source != nil && b.Source != nil }

func (d *Destination) usable() bool { return !d.Unreachable && d.Source != nil }

func (d *Destination) scopeMatches() bool {
	return d.Source != nil && scope(&d.Addr) == scope(&d.Source.Addr)
}

func (d *Destination) labelMatches(t *PolicyTable) bool {
	return d.Source != nil && t.Label(&d.Addr) == t.Label(&d.Source.Addr)
}

func (d *Destination) is4() bool { return netip.AddrFrom16(d.Addr).Is4In6() }

func (d *Destination) matching() int { return matching(&Query{Dst: d.Addr}, d.Source) }

// SortDestinations puts the addresses of a peer in the order in which they are to be tried (RFC 6724
// 6). The next in the order is always the one that is left when, rule by rule, those go that another
// one beats: some of the rules say nothing about some pairs, so that comparing pairs alone would not
// give one order.
func SortDestinations(ds []Destination, t *PolicyTable) {
	for n := range ds {
		left := make([]int, 0, len(ds)-n)
		for i := n; i < len(ds); i++ {
			left = append(left, i)
		}
		for _, better := range destRules {
			all := slices.Clone(left)
			left = slices.DeleteFunc(left, func(i int) bool {
				return slices.ContainsFunc(all, func(j int) bool { return better(&ds[j], &ds[i], t) })
			})
		}
		best := ds[left[0]]
		copy(ds[n+1:left[0]+1], ds[n:left[0]])
		ds[n] = best
	}
}
