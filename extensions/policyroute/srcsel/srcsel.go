// Package srcsel chooses source addresses (RFC 6724 5).
package srcsel

import (
	"math/bits"
	"net/netip"

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
	// ByNextHop: in a prefix that the chosen next hop advertised (rule 5.5).
	ByNextHop bool
}

// Query is what the source is for.
type Query struct {
	Dst [16]byte
	Out int // the link the packet leaves by; 0 = unknown
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

// Policy is one row of the policy table (RFC 6724 2.1).
type Policy struct {
	Prefix     netip.Prefix
	Precedence int
	Label      int
}

// PolicyTable answers by longest prefix. Immutable.
type PolicyTable struct{ rows []row }

type row struct {
	addr  [16]byte
	bits  int
	prec  int
	label int
}

// DefaultPolicy is the table of RFC 6724 2.1.
var DefaultPolicy = NewPolicyTable([]Policy{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::/0"), 40, 1},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("::/96"), 1, 3},
	{netip.MustParsePrefix("fec0::/10"), 1, 11},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
})

// NewPolicyTable returns a table of those rows.
func NewPolicyTable(ps []Policy) *PolicyTable {
	t := &PolicyTable{}
	for _, p := range ps {
		t.rows = append(t.rows, row{p.Prefix.Addr().As16(), p.Prefix.Bits(), p.Precedence, p.Label})
	}
	return t
}

// find returns the row of the longest prefix that holds a. The table has a handful of rows.
func (t *PolicyTable) find(a *[16]byte) (prec, label int) {
	best := -1
	for i := range t.rows {
		if r := &t.rows[i]; r.bits > best && CommonPrefix(a, &r.addr) >= r.bits {
			best, prec, label = r.bits, r.prec, r.label
		}
	}
	return prec, label
}

// Label returns an address's label.
func (t *PolicyTable) Label(a *[16]byte) int { _, l := t.find(a); return l }

// Precedence returns an address's precedence.
func (t *PolicyTable) Precedence(a *[16]byte) int { p, _ := t.find(a); return p }

// CommonPrefix returns how many leading bits two addresses share.
func CommonPrefix(a, b *[16]byte) int {
	for i := range a {
		if x := a[i] ^ b[i]; x != 0 {
			return i*8 + bits.LeadingZeros8(x)
		}
	}
	return 128
}

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

// Better compares two candidates: it reports whether a is the better source for q than b, and by
// which rule. Without a rule neither is better and the first one stays.
func Better(q *Query, a, b *Candidate, t *PolicyTable) (bool, Rule) {
	if sa, sb := a.Addr == q.Dst, b.Addr == q.Dst; sa != sb {
		return sa, RuleSame
	}
	if sa, sb := wire.Scope(&a.Addr), wire.Scope(&b.Addr); sa != sb {
		// The smaller scope is better if it reaches the destination.
		if sa < sb {
			return sa >= wire.Scope(&q.Dst), RuleScope
		}
		return sb < wire.Scope(&q.Dst), RuleScope
	}
	if a.Deprecated != b.Deprecated {
		return b.Deprecated, RuleDeprecated
	}
	if better, decided := preferHome(a, b); decided {
		return better, RuleHome
	}
	if ia, ib := a.Link == q.Out, b.Link == q.Out; q.Out != 0 && ia != ib {
		return ia, RuleInterface
	}
	if a.ByNextHop != b.ByNextHop {
		return a.ByNextHop, RuleNextHop
	}
	label := t.Label(&q.Dst)
	if la, lb := t.Label(&a.Addr) == label, t.Label(&b.Addr) == label; la != lb {
		return la, RuleLabel
	}
	if a.Temporary != b.Temporary {
		return a.Temporary, RuleTemporary
	}
	if ca, cb := matching(q, a), matching(q, b); ca != cb {
		return ca > cb, RuleLongest
	}
	return false, RuleNone
}

// preferHome is rule 4: an address that is home and care-of is better than one that is only one of
// them, and a home address better than a care-of address. It says nothing about other addresses.
func preferHome(a, b *Candidate) (better, decided bool) {
	rank := func(c *Candidate) int {
		switch {
		case c.Home && c.CareOf:
			return 3
		case c.Home:
			return 2
		case c.CareOf:
			return 1
		default:
			return 0
		}
	}
	ra, rb := rank(a), rank(b)
	return ra > rb, ra != rb && ra != 0 && rb != 0
}

// matching is the common prefix with the destination, up to the source's prefix length
// (RFC 6724 2.2).
func matching(q *Query, c *Candidate) int { return min(CommonPrefix(&c.Addr, &q.Dst), c.PrefixLen) }
