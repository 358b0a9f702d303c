package srcsel

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
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

// Rows lists the table, the longest prefix first.
func (t *PolicyTable) Rows() []Policy {
	out := make([]Policy, 0, len(t.rows))
	for _, r := range t.rows {
		out = append(out, Policy{netip.PrefixFrom(netip.AddrFrom16(r.addr), r.bits), r.prec, r.label})
	}
	slices.SortStableFunc(out, func(a, b Policy) int {
		return cmp.Or(cmp.Compare(b.Prefix.Bits(), a.Prefix.Bits()), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	return out
}

// With returns the table with rows that override or are added.
func (t *PolicyTable) With(ps []Policy) *PolicyTable {
	rows := slices.DeleteFunc(t.Rows(), func(r Policy) bool {
		return slices.ContainsFunc(ps, func(p Policy) bool { return p.Prefix == r.Prefix })
	})
	return NewPolicyTable(append(rows, ps...))
}
