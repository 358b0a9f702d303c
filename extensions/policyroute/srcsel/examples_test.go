package srcsel

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// source reads a candidate of an example: an address, then words.
func source(text string) Candidate {
	words := strings.Fields(text)
	a := netip.MustParseAddr(words[0])
	c := Candidate{Addr: a.As16(), PrefixLen: 64, Link: 1}
	if a.Is4() {
		c.PrefixLen = 96 + 24
	}
	for _, w := range words[1:] {
		switch w {
		case "deprecated":
			c.Deprecated = true
		case "care-of":
			c.CareOf = true
		case "home":
			c.Home = true
		case "temporary":
			c.Temporary = true
		}
	}
	return c
}

func sources(list string) (out []Candidate) {
	for _, s := range strings.Split(list, ", ") {
		out = append(out, source(s))
	}
	return out
}

// TestExamplesOfSourceSelection are those of RFC 6724 10.1, and the one of 10.6 about groups.
func TestExamplesOfSourceSelection(t *testing.T) {
	for _, c := range []struct{ dst, sources, want string }{
		{"2001:db8:1::1", "2001:db8:3::1, fe80::1", "2001:db8:3::1"},
		{"ff05::1", "2001:db8:3::1, fe80::1", "2001:db8:3::1"},
		{"2001:db8:1::1", "2001:db8:1::1 deprecated, 2001:db8:2::1", "2001:db8:1::1"},
		{"fe80::1", "fe80::2 deprecated, 2001:db8:1::1", "fe80::2"},
		{"2001:db8:1::1", "2001:db8:1::2, 2001:db8:3::2", "2001:db8:1::2"},
		{"2001:db8:1::1", "2001:db8:1::2 care-of, 2001:db8:3::2 home", "2001:db8:3::2"},
		{"2002:c633:6401::1", "2002:c633:6401::d5e3:7953:13eb:22e8 temporary, 2001:db8:1::2", "2002:c633:6401::d5e3:7953:13eb:22e8"},
		{"2001:db8:1::d5e3:0:0:1", "2001:db8:1::2, 2001:db8:1::d5e3:7953:13eb:22e8 temporary", "2001:db8:1::d5e3:7953:13eb:22e8"},
		{"ff0e::1", "2001:db8:1::1, fd11:1111:1111:1::1", "2001:db8:1::1"},
	} {
		cs := sources(c.sources)
		q := &Query{Dst: netip.MustParseAddr(c.dst).As16(), Out: 1}
		if i, rule := Select(q, cs, DefaultPolicy); i < 0 || netip.AddrFrom16(cs[i].Addr) != netip.MustParseAddr(c.want) {
			t.Errorf("%s from %s: %d by %q", c.dst, c.sources, i, rule)
		}
	}
}

// TestExamplesOfDestinationOrder are those of RFC 6724 10.2 to 10.7 with their policy tables; where an
// example names sources of IPv4 destinations only, the source is the candidate of that family.
func TestExamplesOfDestinationOrder(t *testing.T) {
	p := func(s string, prec, label int) Policy { return Policy{netip.MustParsePrefix(s), prec, label} }
	ipv4 := DefaultPolicy.With([]Policy{p("::ffff:0:0/96", 100, 4)})
	linkLocal := DefaultPolicy.With([]Policy{p("fe80::/10", 33, 1)})
	site := DefaultPolicy.With([]Policy{p("2001:db8:1aaa::/48", 43, 6), p("2001:db8:1bbb::/48", 43, 6)})
	ula := DefaultPolicy.With([]Policy{p("fd11:1111:1111::/48", 45, 14)})
	sixToFour := DefaultPolicy.With([]Policy{p("2002:c633:6401::/48", 45, 14)})
	for _, c := range []struct {
		section       string
		table         *PolicyTable
		sources, dsts string
		want          string
	}{
		{"10.2", DefaultPolicy, "2001:db8:1::2, fe80::1, 169.254.13.78", "2001:db8:1::1, 198.51.100.121", "2001:db8:1::1, 198.51.100.121"},
		{"10.2", DefaultPolicy, "fe80::1, 198.51.100.117", "2001:db8:1::1, 198.51.100.121", "198.51.100.121, 2001:db8:1::1"},
		{"10.2", DefaultPolicy, "2001:db8:1::2, fe80::1, 10.1.2.4", "2001:db8:1::1, 10.1.2.3", "2001:db8:1::1, 10.1.2.3"},
		{"10.2", DefaultPolicy, "2001:db8:1::2, fe80::2", "2001:db8:1::1, fe80::1", "fe80::1, 2001:db8:1::1"},
		{"10.2", DefaultPolicy, "2001:db8:1::2 care-of, 2001:db8:3::1 home, fe80::2 care-of", "2001:db8:1::1, fe80::1", "2001:db8:1::1, fe80::1"},
		{"10.2", DefaultPolicy, "2001:db8:1::2, fe80::2 deprecated", "2001:db8:1::1, fe80::1", "2001:db8:1::1, fe80::1"},
		{"10.2", DefaultPolicy, "2001:db8:1::2, 2001:db8:3f44::2, fe80::2", "2001:db8:1::1, 2001:db8:3ffe::1", "2001:db8:1::1, 2001:db8:3ffe::1"},
		{"10.2", DefaultPolicy, "2002:c633:6401::2, fe80::2", "2002:c633:6401::1, 2001:db8:1::1", "2002:c633:6401::1, 2001:db8:1::1"},
		{"10.2", DefaultPolicy, "2002:c633:6401::2, 2001:db8:1::2, fe80::2", "2002:c633:6401::1, 2001:db8:1::1", "2001:db8:1::1, 2002:c633:6401::1"},
		{"10.3", ipv4, "2001:db8::2, fe80::1, 169.254.13.78", "2001:db8::1, 198.51.100.121", "2001:db8::1, 198.51.100.121"},
		{"10.3", ipv4, "fe80::1, 198.51.100.117", "2001:db8::1, 198.51.100.121", "198.51.100.121, 2001:db8::1"},
		{"10.3", ipv4, "2001:db8::2, fe80::1, 10.1.2.4", "2001:db8::1, 10.1.2.3", "10.1.2.3, 2001:db8::1"},
		{"10.4", linkLocal, "2001:db8::2, fe80::2", "2001:db8::1, fe80::1", "2001:db8::1, fe80::1"},
		{"10.4", linkLocal, "2001:db8::2 deprecated, fe80::2", "2001:db8::1, fe80::1", "fe80::1, 2001:db8::1"},
		{"10.5", DefaultPolicy, "2001:db8:1aaa::a, 2001:db8:70aa::a, fe80::a", "2001:db8:1bbb::b, 2001:db8:70bb::b", "2001:db8:70bb::b, 2001:db8:1bbb::b"},
		{"10.5", DefaultPolicy, "2001:db8:1aaa::a, 2001:db8:70aa::a, fe80::a", "2001:db8:1ccc::c, 2001:db8:6ccc::c", "2001:db8:1ccc::c, 2001:db8:6ccc::c"},
		{"10.5", site, "2001:db8:1aaa::a, 2001:db8:70aa::a, fe80::a", "2001:db8:1bbb::b, 2001:db8:70bb::b", "2001:db8:1bbb::b, 2001:db8:70bb::b"},
		{"10.5", site, "2001:db8:1aaa::a, 2001:db8:70aa::a, fe80::a", "2001:db8:1ccc::c, 2001:db8:6ccc::c", "2001:db8:6ccc::c, 2001:db8:1ccc::c"},
		{"10.6", DefaultPolicy, "2001:db8:1::1, fd11:1111:1111:1::1", "2001:db8:2::2, fd22:2222:2222:2::2", "2001:db8:2::2, fd22:2222:2222:2::2"},
		{"10.6", ula, "2001:db8:1::1, fd11:1111:1111:1::1", "2001:db8:2::2, fd22:2222:2222:2::2", "2001:db8:2::2, fd22:2222:2222:2::2"},
		{"10.6", ula, "2001:db8:1::1, fd11:1111:1111:1::1", "2001:db8:2::2, fd11:1111:1111:2::2", "fd11:1111:1111:2::2, 2001:db8:2::2"},
		{"10.7", DefaultPolicy, "2002:c633:6401::2, 10.1.2.3", "2001:db8:1::1, 203.0.113.1", "203.0.113.1, 2001:db8:1::1"},
		{"10.7", DefaultPolicy, "2002:c633:6401::2, 10.1.2.3", "2002:c633:6401::1, 203.0.113.1", "203.0.113.1, 2002:c633:6401::1"},
		{"10.7", sixToFour, "2002:c633:6401::2, 10.1.2.3", "2002:c633:6401::1, 203.0.113.1", "2002:c633:6401::1, 203.0.113.1"},
	} {
		var ds []Destination
		for _, text := range strings.Split(c.dsts, ", ") {
			d := Destination{Addr: netip.MustParseAddr(text).As16()}
			var family []Candidate
			for _, s := range sources(c.sources) {
				if netip.AddrFrom16(s.Addr).Is4In6() == d.is4() {
					family = append(family, s)
				}
			}
			if i, _ := Select(&Query{Dst: d.Addr, Out: 1}, family, c.table); i >= 0 {
				d.Source = &family[i]
			}
			ds = append(ds, d)
		}
		for range 2 { // whatever the order before, unless they are equal
			SortDestinations(ds, c.table)
			var got []string
			for _, d := range ds {
				got = append(got, netip.AddrFrom16(d.Addr).Unmap().String())
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("%s, sources %s: %s, want %s", c.section, c.sources, got, c.want)
			}
			ds[0], ds[1] = ds[1], ds[0]
		}
	}
}

// TestRulesOfDestinationOrder that the examples do not show: 1, 3, 7 and 10, and who has no source.
func TestRulesOfDestinationOrder(t *testing.T) {
	src, old := source("2001:db8:1::2"), source("2001:db8:1::3 deprecated")
	a, b := netip.MustParseAddr("2001:db8:2::1").As16(), netip.MustParseAddr("2001:db8:2::2").As16()
	for name, ds := range map[string][2]Destination{ // the better one first
		"1 unreachable":  {{Addr: a, Source: &src}, {Addr: b, Source: &src, Unreachable: true}},
		"1 no source":    {{Addr: a, Source: &src}, {Addr: b}},
		"3 deprecated":   {{Addr: a, Source: &src}, {Addr: b, Source: &old}},
		"7 encapsulated": {{Addr: a, Source: &src}, {Addr: b, Source: &src, Encapsulated: true}},
	} {
		for _, list := range [][]Destination{{ds[0], ds[1]}, {ds[1], ds[0]}} {
			if SortDestinations(list, DefaultPolicy); list[0] != ds[0] {
				t.Errorf("%s: %v first", name, list[0].Addr)
			}
		}
	}
	for _, list := range [][]Destination{{{Addr: a, Source: &src}, {Addr: b, Source: &src}}, {{Addr: b, Source: &src}, {Addr: a, Source: &src}}} {
		first := list[0]
		if SortDestinations(list, DefaultPolicy); list[0] != first {
			t.Error("10: equals change places")
		}
	}
}

// randomCandidate out of few values.
func randomCandidate(r *rand.Rand) Candidate {
	c := source([]string{"2001:db8:1::1", "2001:db8:1::2", "2001:db8:3::1", "fe80::1", "fd11::1", "2002:1::1", "2001:db8:1:0:8000::"}[r.IntN(7)])
	flag := func() bool { return r.IntN(4) == 0 }
	c.Deprecated, c.Home, c.CareOf, c.Temporary, c.Link = flag(), flag(), flag(), flag(), 1+r.IntN(2)
	for range r.IntN(3) {
		c.Routers = append(c.Routers, [16]byte{byte(1 + r.IntN(2))})
	}
	return c
}

// TestRulesAreOrders: each rule alone is antisymmetric and transitive, comparison is antisymmetric, and
// the choice does not depend on the order of the candidates.
func TestRulesAreOrders(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		cs := make([]Candidate, 2+r.IntN(5))
		for i := range cs {
			cs[i] = randomCandidate(r)
		}
		q := &Query{Dst: randomCandidate(r).Addr, Out: 1, NextHop: [16]byte{byte(r.IntN(2))}}
		for _, rule := range ranks {
			beats := func(a, b *Candidate) bool {
				ra, rb := rule.rank(q, a, DefaultPolicy), rule.rank(q, b, DefaultPolicy)
				return ra > rb && rb != neutral
			}
			a, b, c := &cs[0], &cs[1], &cs[len(cs)-1]
			if beats(a, b) && beats(b, a) || beats(a, b) && beats(b, c) && !beats(a, c) {
				t.Fatalf("%s is no order: %+v %+v %+v", rule.rule, *a, *b, *c)
			}
		}
		if x, _ := better(q, &cs[0], &cs[1], DefaultPolicy); x {
			if y, _ := better(q, &cs[1], &cs[0], DefaultPolicy); y {
				t.Fatalf("each is better than the other: %+v %+v", cs[0], cs[1])
			}
			if i, _ := Select(q, cs[:2], DefaultPolicy); i == 1 && InSet(q, &cs[0]) {
				t.Fatalf("the worse of two is chosen: %+v %+v", cs[0], cs[1])
			}
		}
		best, _, all := Explain(q, cs, DefaultPolicy)
		shuffled := append([]Candidate{}, cs...)
		r.Shuffle(len(cs), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		other, _ := Select(q, shuffled, DefaultPolicy)
		if (best < 0) != (other < 0) {
			t.Fatal("one order has a source, another has none")
		}
		if best < 0 {
			continue
		}
		if _, rule := better(q, &cs[best], &shuffled[other], DefaultPolicy); rule != RuleNone {
			t.Fatalf("another order, another source: %+v, %+v by %s", cs[best], shuffled[other], rule)
		}
		for i, v := range all {
			if v.Chosen != (i == best) || v.Chosen && v.By != "" || !InSet(q, &cs[i]) && v != (Verdict{}) {
				t.Fatalf("verdict %d of %d: %+v", i, best, v)
			}
		}
	}
}

// TestManyCandidates: more than fit without allocating.
func TestManyCandidates(t *testing.T) {
	cs := make([]Candidate, 300)
	for i := range cs {
		cs[i] = source(fmt.Sprintf("2001:db8:%x::1", i+16))
	}
	q := &Query{Dst: netip.MustParseAddr("2001:db8:11f::9").As16(), Out: 1}
	if i, by := Select(q, cs, DefaultPolicy); i != 0x11f-16 || by != RuleLongest {
		t.Errorf("%d by %s", i, by)
	}
	if n := testing.AllocsPerRun(100, func() { Select(q, cs[:256], DefaultPolicy) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
