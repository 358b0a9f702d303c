// Package srcsel chooses source addresses (RFC 6724 5).
package srcsel

import (
	"net/netip"
	"slices"

	"leveret/appliance/wire"
)

// Candidate is one address of this node.
type Candidate struct {
	Addr       [16]byte
	PrefixLen  int
	Link       int
	Deprecated bool
	// Excluded: tentative, failed or anycast, never a source (RFC 6724 4, RFC 4862 5.4).
	Excluded bool
	Home     bool // a home address (rule 4)
	CareOf   bool // a care-of address (rule 4)
	// Temporary (RFC 8981) is preferred by rule 7.
	Temporary bool
	// Routers are those that advertised its prefix (rule 5.5); none = the rule says nothing about it.
	Routers [][16]byte
}

// Query is what the source is for.
type Query struct {
	Dst [16]byte
	Out int // the link the packet leaves by; 0 = unknown
	// NextHop is the router the packet goes to; the unspecified address = none, or not known.
	NextHop [16]byte
}

// Rule names the rule that decided between two candidates.
type Rule string

// The rules of RFC 6724 5.
const (
	RuleNone       Rule = ""
	RuleSame       Rule = "1 same address"
	RuleScope      Rule = "2 appropriate scope"
	RuleDeprecated Rule = "3 avoid deprecated"
	RuleHome       Rule = "4 home address"
	RuleInterface  Rule = "5 outgoing interface"
	RuleNextHop    Rule = "5.5 advertised by next hop"
	RuleLabel      Rule = "6 matching label"
	RuleTemporary  Rule = "7 temporary address"
	RuleLongest    Rule = "8 longest matching prefix"
)

// InSet reports whether c belongs to the candidate set for q (RFC 6724 4): for multicast and
// link-local destinations only addresses of the outgoing link, otherwise those of every link, as a
// router may.
func InSet(q *Query, c *Candidate) bool {
	if c.Excluded || wire.IsMulticast(&c.Addr) || wire.IsUnspecified(&c.Addr) {
		return false
	}
	if wire.IsMulticast(&q.Dst) || wire.Scope(&q.Dst) <= wire.ScopeLink {
		return c.Link == q.Out
	}
	// A link-local address means nothing beyond its link.
	return !wire.IsLinkLocal(&c.Addr) || c.Link == q.Out
}

// ranks are the rules: what each makes of a candidate. Of two the greater rank is better; neutral is
// neither better nor worse than any.
var ranks = [...]struct {
	rule Rule
	rank func(q *Query, c *Candidate, t *PolicyTable) int
}{
	{RuleSame, func(q *Query, c *Candidate, _ *PolicyTable) int { return yes(c.Addr == q.Dst) }},
	{RuleScope, scopeRank},
	{RuleDeprecated, func(_ *Query, c *Candidate, _ *PolicyTable) int { return yes(!c.Deprecated) }},
	{RuleHome, homeRank},
	{RuleInterface, func(q *Query, c *Candidate, _ *PolicyTable) int { return yes(q.Out == 0 || c.Link == q.Out) }},
	{RuleNextHop, nextHopRank},
	{RuleLabel, func(q *Query, c *Candidate, t *PolicyTable) int { return yes(t.Label(&c.Addr) == t.Label(&q.Dst)) }},
	{RuleTemporary, func(_ *Query, c *Candidate, _ *PolicyTable) int { return yes(c.Temporary) }},
	{RuleLongest, func(q *Query, c *Candidate, _ *PolicyTable) int { return matching(q, c) }},
}

const neutral = -1

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// scopeRank is rule 2: the smallest scope that reaches the destination, else the largest.
func scopeRank(q *Query, c *Candidate, _ *PolicyTable) int {
	const most = 16
	s := int(scope(&c.Addr))
	if s >= int(scope(&q.Dst)) {
		return 2*most - s
	}
	return s
}

// nextHopRank is rule 5.5. The prefix of a router counts on the router's own link only.
func nextHopRank(q *Query, c *Candidate, _ *PolicyTable) int {
	if len(c.Routers) == 0 || wire.IsUnspecified(&q.NextHop) {
		return neutral
	}
	return yes(c.Link == q.Out && slices.Contains(c.Routers, q.NextHop))
}

// homeRank is rule 4: an address that is home and care-of is better than one that is only one of them,
// and a home address better than a care-of address. It says nothing about other addresses.
func homeRank(_ *Query, c *Candidate, _ *PolicyTable) int {
	switch {
	case c.Home && c.CareOf:
		return 3
	case c.Home:
		return 2
	case c.CareOf:
		return 1
	}
	return neutral
}

// scope is that of an address; of an IPv4-mapped one that of the IPv4 address (RFC 6724 3.2).
func scope(a *[16]byte) uint8 {
	if x := netip.AddrFrom16(*a); x.Is4In6() {
		if x = x.Unmap(); x.IsLinkLocalUnicast() || x.IsLoopback() {
			return wire.ScopeLink
		}
		return wire.ScopeGlobal
	}
	return wire.Scope(a)
}

// matching is the common prefix with the destination, up to the source's prefix length
// (RFC 6724 2.2).
func matching(q *Query, c *Candidate) int { return min(CommonPrefix(&c.Addr, &q.Dst), c.PrefixLen) }

// Select returns the index of the best source for q, or -1 if no candidate is in the set (RFC 6724 4),
// and the rule that decided last. Rule by rule those go that another one beats; of what is left after
// the last rule the first wins. Comparing pairs would let the order of the candidates decide: rules that
// say nothing about some of them make "better" intransitive. For up to 256 candidates it does not allocate.
func Select(q *Query, cands []Candidate, t *PolicyTable) (best int, by Rule) {
	return selectFrom(q, cands, t, nil)
}

// Verdict says what became of a candidate.
type Verdict struct {
	Chosen bool
	By     Rule // the rule by which another one was better; "" with Chosen false = not in the set
}

// Explain is [Select] with a verdict for each candidate.
func Explain(q *Query, cands []Candidate, t *PolicyTable) (best int, by Rule, all []Verdict) {
	all = make([]Verdict, len(cands))
	best, by = selectFrom(q, cands, t, all)
	if best >= 0 {
		all[best].Chosen = true
	}
	return best, by, all
}

func selectFrom(q *Query, cands []Candidate, t *PolicyTable, verdicts []Verdict) (int, Rule) {
	var small [256]bool
	in := small[:]
	if len(cands) > len(small) {
		in = make([]bool, len(cands))
	}
	n, by := 0, RuleNone
	for i := range cands {
		if in[i] = InSet(q, &cands[i]); in[i] {
			n++
		}
	}
	for r := 0; r < len(ranks) && n > 1; r++ {
		top := neutral
		for i := range cands {
			if in[i] {
				top = max(top, ranks[r].rank(q, &cands[i], t))
			}
		}
		for i := range cands {
			if !in[i] {
				continue
			}
			if x := ranks[r].rank(q, &cands[i], t); x != neutral && x < top {
				in[i], by = false, ranks[r].rule
				n--
				if verdicts != nil {
					verdicts[i].By = by
				}
			}
		}
	}
	return slices.Index(in[:len(cands)], true), by
}
