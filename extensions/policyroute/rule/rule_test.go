package rule

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) [16]byte      { return netip.MustParseAddr(s).As16() }

// plain is a rule that looks up a table.
func plain(priority, table uint32) Rule {
	return Rule{Priority: priority, Table: table, SuppressPrefixLen: NoSuppress}
}

func order(d *DB) (out []string) {
	for _, r := range d.All() {
		out = append(out, fmt.Sprintf("%d:%d", r.Priority, r.Table))
	}
	return out
}

// TestOrder: by priority, a new one behind those of the same; the defaults; the priority of a rule
// without one.
func TestOrder(t *testing.T) {
	d := New()
	if p := d.NextPriority(); p != 32765 {
		t.Errorf("first priority %d", p)
	}
	for _, r := range []Rule{plain(100, 1), plain(50, 2), plain(100, 3), plain(0, 4), plain(^uint32(0), 5)} {
		if err := d.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(order(d)), "[0:255 0:4 50:2 100:1 100:3 32766:254 4294967295:5]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if p := d.NextPriority(); p != 0 {
		t.Errorf("behind a second rule of priority 0: %d", p)
	}
}

// TestRefusals, in the kernel's words.
func TestRefusals(t *testing.T) {
	d := New()
	if err := d.Add(plain(100, 7)); err != nil {
		t.Fatal(err)
	}
	with := func(set func(*Rule)) Rule { r := plain(200, 7); set(&r); return r }
	for _, c := range []struct {
		r    Rule
		want error
	}{
		{plain(100, 7), ErrExists},
		{with(func(r *Rule) { r.Priority, r.Protocol = 100, "static" }), ErrExists},
		{plain(100, 8), nil},
		{with(func(r *Rule) { r.Table = 0 }), ErrTable},
		{with(func(r *Rule) { r.DSField = 1 }), ErrECN},
		{with(func(r *Rule) { r.Action, r.Target = Goto, 0 }), ErrBackward},
		{with(func(r *Rule) { r.Action, r.Target = Goto, 200 }), ErrBackward},
		{with(func(r *Rule) { r.Action, r.Target = Goto, 201 }), nil},
		{with(func(r *Rule) { r.SPort = Ports{5, 4} }), ErrSPort},
		{with(func(r *Rule) { r.DPort = Ports{0, 4} }), ErrDPort},
		{with(func(r *Rule) { r.SuppressPrefixLen = 129 }), ErrSuppress},
		{with(func(r *Rule) { r.Action, r.SuppressPrefixLen = Nop, 0 }), ErrSuppress},
	} {
		if err := d.Add(c.r); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.r, err, c.want)
		}
	}
	if _, err := d.Delete(func(r *Rule) bool { return r.Priority == 999 }); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete: %v", err)
	}
	if _, err := d.Delete(func(*Rule) bool { return true }); !errors.Is(err, ErrLocal) {
		t.Errorf("delete of the local rule: %v", err)
	}
	if r, err := d.Delete(func(r *Rule) bool { return r.Table == 7 }); err != nil || r.Priority != 100 {
		t.Errorf("delete: %+v %v", r, err)
	}
}

func compile(d *DB) *Set {
	links := map[string]int{"lan0": 1, "wan0": 2}
	return Compile(d, func(n string) int { return links[n] }, func(table uint32) int { return int(table) })
}

// TestSelector: each word of the selector, with a request that conforms and one that does not.
func TestSelector(t *testing.T) {
	base := Request{Src: ip("2001:db8:1::1"), Dst: ip("2001:db8:2::2"), HasSrc: true, In: 1, Mark: 0x15, DSField: 0x20, Proto: 6, SPort: 4000, DPort: 443}
	for _, c := range []struct {
		name string
		set  func(*Rule)
		odd  func(*Request)
		word string
	}{
		{"from", func(r *Rule) { r.From = pfx("2001:db8:1::/48") }, func(q *Request) { q.Src = ip("2001:db8:2::1") }, "from"},
		{"to", func(r *Rule) { r.To = pfx("2001:db8:2::2/128") }, func(q *Request) { q.Dst = ip("2001:db8:2::3") }, "to"},
		{"to 65", func(r *Rule) { r.To = pfx("2001:db8:2::/65") }, func(q *Request) { q.Dst = ip("2001:db8:2:0:8000::") }, "to"},
		{"iif", func(r *Rule) { r.IIF = "lan0" }, func(q *Request) { q.In = 2 }, "iif"},
		{"iif lo", func(r *Rule) { r.Not, r.IIF = true, "lo" }, func(q *Request) { q.In = 0 }, "not"},
		{"not oif", func(r *Rule) { r.Not, r.OIF = true, "wan0" }, func(q *Request) { q.Out = 2 }, "not"},
		{"fwmark", func(r *Rule) { r.Mark, r.Mask = 0x5, 0xf }, func(q *Request) { q.Mark = 0x16 }, "fwmark"},
		{"dsfield", func(r *Rule) { r.DSField = 0x20 }, func(q *Request) { q.DSField = 0 }, "dsfield"},
		{"ipproto", func(r *Rule) { r.IPProto = 6 }, func(q *Request) { q.Proto = 17 }, "ipproto"},
		{"sport", func(r *Rule) { r.SPort = Ports{4000, 4010} }, func(q *Request) { q.SPort = 3999 }, "sport"},
		{"dport", func(r *Rule) { r.DPort = Ports{443, 443} }, func(q *Request) { q.DPort = 444 }, "dport"},
		{"not to", func(r *Rule) { r.Not, r.To = true, pfx("2001:db8:3::/48") }, func(q *Request) { q.Dst = ip("2001:db8:3::1") }, "not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, n := range []int{0, linear} { // one by one, and by index
				d := &DB{}
				r := plain(10, 7)
				c.set(&r)
				if err := d.Add(r); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					x := plain(uint32(100+i), 8)
					x.To = pfx("ff00::/8")
					if err := d.Add(x); err != nil {
						t.Fatal(err)
					}
				}
				s := compile(d)
				fits, odd := base, base
				c.odd(&odd)
				if got := s.Next(&fits, 0); got != 0 {
					t.Errorf("%d more rules: a request that conforms gets %d", n, got)
				}
				if got := s.Next(&odd, 0); got != -1 || s.At(0).Misfit(&odd) != c.word {
					t.Errorf("%d more rules: a request that does not gets %d, %q", n, got, s.At(0).Misfit(&odd))
				}
			}
		})
	}
}

// TestDetachedAndUnresolved: a rule whose link is not there takes nothing, or with not all; a goto
// without its target is skipped by who searches; both come to life by compiling again.
func TestDetachedAndUnresolved(t *testing.T) {
	d := &DB{}
	det, inv, jump := plain(10, 7), plain(20, 7), plain(30, 0)
	det.IIF, inv.OIF, inv.Not, jump.Action, jump.Target = "eth9", "eth9", true, Goto, 50
	for _, r := range []Rule{det, inv, jump} {
		if err := d.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	s := compile(d)
	if q := (Request{In: 9, Out: 9}); s.Next(&q, 0) != 1 || !s.At(0).Detached || !s.At(1).Detached {
		t.Errorf("detached: %d", s.Next(&q, 0))
	}
	if !d.Unresolved(&d.All()[2]) || s.Act(2).Next != -1 {
		t.Errorf("unresolved: %+v", s.At(2))
	}
	if err := d.Add(plain(50, 8)); err != nil {
		t.Fatal(err)
	}
	s = Compile(d, func(string) int { return 9 }, func(uint32) int { return 0 })
	if q := (Request{In: 9, Out: 9}); s.Next(&q, 0) != 0 || s.Act(2).Next != 3 || d.Unresolved(&d.All()[2]) {
		t.Errorf("attached: %d, goto %d", s.Next(&q, 0), s.Act(2).Next)
	}
}

// TestWithoutSource: rules on the source are candidates for who has none yet.
func TestWithoutSource(t *testing.T) {
	d := &DB{}
	r := plain(10, 7)
	r.From = pfx("2001:db8:1::/48")
	if err := d.Add(r); err != nil {
		t.Fatal(err)
	}
	s := compile(d)
	a, b := ip("2001:db8:1::1"), ip("2001:db8:2::1")
	if c := s.At(0); s.Next(&Request{}, 0) != 0 || !s.Act(0).BySource || !c.ConformsSource(&a) || c.ConformsSource(&b) {
		t.Errorf("%+v", c)
	}
}

// random makes a rule out of few values, so that many conform.
func random(r *rand.Rand) Rule {
	x := plain(uint32(r.IntN(2000)), uint32(1+r.IntN(5)))
	prefix := func() netip.Prefix {
		a := ip("2001:db8::")
		a[5], a[7], a[15] = byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(3))
		return netip.PrefixFrom(netip.AddrFrom16(a), []int{0, 32, 48, 64, 65, 128}[r.IntN(6)]).Masked()
	}
	for _, set := range []func(){
		func() { x.From = prefix() }, func() { x.To = prefix() }, func() { x.IIF = []string{"lan0", "wan0", "eth9", "lo"}[r.IntN(4)] },
		func() { x.OIF = "wan0" }, func() { x.Mark, x.Mask = r.Uint32N(4), r.Uint32N(4) }, func() { x.DSField = uint8(r.IntN(3)) << 2 },
		func() { x.IPProto = uint8(r.IntN(3)) }, func() { x.SPort = Ports{1, uint16(1 + r.IntN(3))} }, func() { x.DPort = Ports{2, 2} }, func() { x.Not = true },
	} {
		if r.IntN(4) == 0 {
			set()
		}
	}
	return x
}

func randomRequest(r *rand.Rand) Request {
	a := func() [16]byte {
		a := ip("2001:db8::")
		a[5], a[7], a[15] = byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(3))
		return a
	}
	return Request{
		Src: a(), Dst: a(), HasSrc: r.IntN(8) != 0, In: r.IntN(3), Out: r.IntN(3), Mark: r.Uint32N(4), DSField: uint8(r.IntN(3)) << 2,
		Proto: uint8(r.IntN(3)), SPort: uint16(r.IntN(4)), DPort: uint16(r.IntN(4)),
	}
}

// TestIndexAgreesWithTheList, for any rules and requests, from any place on.
func TestIndexAgreesWithTheList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for range 200 {
		d := New()
		for range 20 + r.IntN(200) {
			_ = d.Add(random(r)) // some are there already
		}
		s := compile(d)
		for range 100 {
			q := randomRequest(r)
			from := r.IntN(s.Len())
			want := -1
			for i := from; i < s.Len() && want < 0; i++ {
				if s.At(i).Conforms(&q) {
					want = i
				}
			}
			if got := s.Next(&q, from); got != want {
				t.Fatalf("from %d: %d, want %d, for %+v", from, got, want, q)
			}
			if got := s.Next(&q, from); got != want {
				t.Fatalf("from %d, asked again: %d, want %d, for %+v", from, got, want, q)
			}
			if want >= 0 && want < s.Len()-1 {
				hits++
			}
		}
	}
	if hits < 1000 {
		t.Errorf("only %d requests conformed", hits)
	}
}

// many is a list of n rules of one shape.
func many(n int) *Set {
	d := New()
	rules := make([]Rule, n)
	for i := range rules {
		rules[i] = plain(uint32(1+i), 7)
		rules[i].From = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i)}), 64)
	}
	d.rules = append(d.rules[:1], append(rules, d.rules[1])...)
	return compile(d)
}

// TestSearchDoesNotAllocate.
func TestSearchDoesNotAllocate(t *testing.T) {
	for _, n := range []int{8, 10000} {
		s, q := many(n), Request{Src: ip("2001:db8:7::1"), HasSrc: true}
		if a := testing.AllocsPerRun(100, func() { s.Next(&q, 1) }); a != 0 {
			t.Errorf("%d rules: %v allocations", n, a)
		}
	}
}

// BenchmarkNext: the last rule of the list is the one.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{8, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, q := many(n), Request{Src: ip("2001:db9::1"), HasSrc: true}
			for b.Loop() {
				if s.Next(&q, 1) != n+1 {
					b.Fatal("wrong rule")
				}
			}
		})
	}
}

// TestDeleteFunc: all that match, but the local one.
func TestDeleteFunc(t *testing.T) {
	d := New()
	for i := range uint32(5) {
		if err := d.Add(plain(100+i, 7)); err != nil {
			t.Fatal(err)
		}
	}
	gone := d.DeleteFunc(func(r *Rule) bool { return r.Priority != 102 })
	if got := fmt.Sprint(order(d)); len(gone) != 5 || got != "[0:255 102:7]" {
		t.Errorf("%d gone, left %s", len(gone), got)
	}
}
