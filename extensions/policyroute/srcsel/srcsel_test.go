package srcsel

import (
	"net/netip"
	"testing"
)

func cand(a string, link int, opts ...func(*Candidate)) Candidate {
	p := netip.MustParsePrefix(a)
	c := Candidate{Addr: p.Addr().As16(), PrefixLen: p.Bits(), Link: link}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// TestRules: each rule of RFC 6724 5, in both orders. The first candidate is the one to be chosen.
func TestRules(t *testing.T) {
	deprecated := func(c *Candidate) { c.Deprecated = true }
	home := func(c *Candidate) { c.Home = true }
	careOf := func(c *Candidate) { c.CareOf = true }
	temporary := func(c *Candidate) { c.Temporary = true }
	byNextHop := func(c *Candidate) { c.Routers = [][16]byte{{1}, {2}} }
	byOther := func(c *Candidate) { c.Routers = [][16]byte{{3}} }
	for _, c := range []struct {
		name      string
		dst       string
		out       int
		good, bad Candidate
		rule      Rule
	}{
		{"the destination itself", "2001:db8::1", 0, cand("2001:db8::1/64", 1), cand("2001:db8::2/64", 1), RuleSame},
		{"global for global", "2001:db8:1::1", 1, cand("2001:db8:3::1/64", 2), cand("fe80::1/64", 1), RuleScope},
		{"link-local for link-local", "fe80::9", 1, cand("fe80::1/64", 1), cand("2001:db8:3::1/64", 1), RuleScope},
		{"global group", "ff0e::1", 1, cand("2001:db8:3::1/64", 1), cand("fe80::1/64", 1), RuleScope},
		{"not the deprecated", "2001:db8:1::1", 0, cand("2001:db8:3::1/64", 1), cand("2001:db8:1::2/64", 1, deprecated), RuleDeprecated},
		{"home before care-of address", "2001:db8:1::1", 0, cand("2001:db8:3::1/64", 1, home), cand("2001:db8:1::2/64", 1, careOf), RuleHome},
		{"home address against neither", "2001:db8:1::1", 0, cand("2001:db8:1::2/64", 1), cand("2001:db8:3::1/64", 1, home), RuleLongest},
		{"home and care-of", "2001:db8:1::1", 0, cand("2001:db8:3::1/64", 1, home, careOf), cand("2001:db8:1::2/64", 1, home), RuleHome},
		{"outgoing link", "2001:db8:1::1", 2, cand("2001:db8:3::1/64", 2), cand("2001:db8:1::2/64", 1), RuleInterface},
		{"next hop's prefix", "2001:db8:1::1", 1, cand("2001:db8:3::1/64", 1, byNextHop), cand("2001:db8:1::2/64", 1, byOther), RuleNextHop},
		{"next hop's prefix against nobody's", "2001:db8:1::1", 1, cand("2001:db8:1::2/64", 1), cand("2001:db8:3::1/64", 1, byNextHop), RuleLongest},
		{"matching label", "2002:c633:6401::1", 1, cand("2002:c633:6401::d5e3/48", 1), cand("2001:db8:1::2/64", 1), RuleLabel},
		{"ULA to ULA", "fd12::1", 1, cand("fd34::1/64", 1), cand("2001:db8:1::2/64", 1), RuleLabel},
		{"temporary", "2001:db8:1::d5e3", 1, cand("2001:db8:1:0:a::1/64", 1, temporary), cand("2001:db8:1::2/64", 1), RuleTemporary},
		{"longest prefix", "2001:db8:1::1", 1, cand("2001:db8:1::2/64", 1), cand("2001:db8:3::2/64", 1), RuleLongest},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := &Query{Dst: netip.MustParseAddr(c.dst).As16(), Out: c.out, NextHop: [16]byte{2}}
			if ok, rule := better(q, &c.good, &c.bad, DefaultPolicy); !ok || rule != c.rule {
				t.Errorf("good before bad: %v by %q, want %q", ok, rule, c.rule)
			}
			if ok, rule := better(q, &c.bad, &c.good, DefaultPolicy); ok || rule != c.rule {
				t.Errorf("bad before good: %v by %q, want %q", ok, rule, c.rule)
			}
		})
	}
}

// TestPrefixLengthCapsTheMatch: bits beyond the source's prefix do not count (RFC 6724 2.2).
func TestPrefixLengthCapsTheMatch(t *testing.T) {
	q := &Query{Dst: netip.MustParseAddr("2001:db8:1::1234").As16()}
	a, b := cand("2001:db8:1::1235/64", 1), cand("2001:db8:1::8000/64", 1)
	if ok, rule := better(q, &a, &b, DefaultPolicy); ok || rule != RuleNone {
		t.Errorf("decided %v by %q", ok, rule)
	}
}

func TestCandidateSet(t *testing.T) {
	for _, c := range []struct {
		dst  string
		out  int
		c    Candidate
		want bool
	}{
		{"fe80::1", 1, cand("fe80::2/64", 1), true},
		{"fe80::1", 1, cand("fe80::2/64", 2), false},
		{"ff02::1", 1, cand("2001:db8::1/64", 2), false},
		{"ff0e::1", 1, cand("2001:db8::1/64", 2), false},
		{"ff0e::1", 1, cand("2001:db8::1/64", 1), true},
		{"2001:db8::9", 1, cand("2001:db8::1/64", 2), true},
		{"2001:db8::9", 1, cand("fe80::1/64", 2), false},
		{"2001:db8::9", 1, cand("2001:db8::1/64", 1, func(c *Candidate) { c.Excluded = true }), false},
	} {
		q := &Query{Dst: netip.MustParseAddr(c.dst).As16(), Out: c.out}
		if got := InSet(q, &c.c); got != c.want {
			t.Errorf("%s out %d, %s on %d: %v", c.dst, c.out, netip.AddrFrom16(c.c.Addr), c.c.Link, got)
		}
	}
}

func TestDefaultPolicyTable(t *testing.T) {
	for a, want := range map[string][2]int{
		"::1": {50, 0}, "2001:db8::1": {40, 1}, "::ffff:192.0.2.1": {35, 4}, "2002::1": {30, 2}, "2001::1": {5, 5},
		"fd00::1": {3, 13}, "::2": {1, 3}, "fec0::1": {1, 11}, "3ffe::1": {1, 12},
	} {
		b := netip.MustParseAddr(a).As16()
		if p, l := DefaultPolicy.Precedence(&b), DefaultPolicy.Label(&b); p != want[0] || l != want[1] {
			t.Errorf("%s: precedence %d label %d, want %v", a, p, l, want)
		}
	}
}

func TestRanksDoNotAllocate(t *testing.T) {
	q := &Query{Dst: netip.MustParseAddr("2001:db8:1::1").As16(), Out: 1}
	a, b := cand("2001:db8:1::2/64", 1), cand("2001:db8:3::2/64", 1)
	if n := testing.AllocsPerRun(100, func() { better(q, &a, &b, DefaultPolicy); InSet(q, &a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// better compares two candidates as RFC 6724 5 is written, in pairs: it reports whether a is the better source for q than b, and by
// which rule. Without a rule neither is better.
func better(q *Query, a, b *Candidate, t *PolicyTable) (bool, Rule) {
	for i := range ranks {
		ra, rb := ranks[i].rank(q, a, t), ranks[i].rank(q, b, t)
		if ra != rb && ra != neutral && rb != neutral {
			return ra > rb, ranks[i].rule
		}
	}
	return false, RuleNone
}
