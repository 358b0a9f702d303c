package fib

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/gaissmai/bart"
	"pgregory.net/rapid"
)

// randomPrefix favours what real tables have, and every length now and then.
func randomPrefix(r *rand.Rand) netip.Prefix {
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], 0x2000<<48|r.Uint64()>>3)
	binary.BigEndian.PutUint64(a[8:], r.Uint64())
	a[2], a[4] = a[2]&3, a[4]&7 // few blocks, so that prefixes nest
	bits := 16 + r.IntN(49)
	if r.IntN(8) == 0 {
		bits = r.IntN(129)
	}
	return netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
}

// randomIn returns a random address in a prefix.
func randomIn(r *rand.Rand, p netip.Prefix) [16]byte {
	a := p.Addr().As16()
	for i := p.Bits(); i < 128; i++ {
		if r.IntN(2) == 1 {
			a[i/8] |= 0x80 >> (i % 8)
		}
	}
	return a
}

func check(t *testing.T, s *Snapshot[int], rib *bart.Table[*int], probes [][16]byte) {
	t.Helper()
	addrs, out := make([]*[16]byte, len(probes)), make([]*int, len(probes))
	for i := range probes {
		addrs[i] = &probes[i]
	}
	s.Batch(addrs, out)
	text := func(v *int) string {
		if v == nil {
			return "none"
		}
		return fmt.Sprint(*v)
	}
	for i := range probes {
		want, _ := rib.Lookup(netip.AddrFrom16(probes[i]))
		if one := s.Lookup(&probes[i]); text(out[i]) != text(want) || text(one) != text(want) {
			t.Fatalf("%s: batch %s, single %s, want %s", netip.AddrFrom16(probes[i]), text(out[i]), text(one), text(want))
		}
	}
}

// TestCompiledAgreesWithBart on tables of nested prefixes of every length.
func TestCompiledAgreesWithBart(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 7, 8, 9, 64, 1000, 100000} {
		rib := new(bart.Table[*int])
		probes := [][16]byte{{}, {0: 0xff, 1: 0xff, 2: 0xff, 3: 0xff, 4: 0xff, 5: 0xff, 6: 0xff, 7: 0xff, 8: 0xff}}
		for i := range n {
			p := randomPrefix(r)
			rib.Insert(p, new(i))
			if len(probes) < 20000 {
				probes = append(probes, randomIn(r, p), p.Addr().As16())
			}
		}
		for range 2000 {
			probes = append(probes, randomIn(r, netip.MustParsePrefix("2000::/3")))
		}
		check(t, Compile(rib), rib, probes)
	}
}

// TestSnapshotFollowsChanges: adding, replacing and deleting prefixes, with compilations from
// earlier states coming in between, always answers like the list.
func TestSnapshotFollowsChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		s, want := Empty[int](), new(bart.Table[*int])
		var pool []netip.Prefix
		for range 20 {
			pool = append(pool, randomPrefix(r))
		}
		pool = append(pool, netip.MustParsePrefix("::/0"), netip.MustParsePrefix("2000::/3"))
		var pending *Snapshot[int]
		var since []netip.Prefix
		for i := range 60 {
			p := pool[r.IntN(len(pool))]
			if r.IntN(3) == 0 {
				s = s.With(p, nil)
				want.Delete(p)
			} else {
				v := new(i)
				s = s.With(p, v)
				want.Insert(p, v)
			}
			since = append(since, p)
			switch r.IntN(5) {
			case 0:
				pending, since = Compile(s.RIB()), nil
			case 1:
				if pending != nil {
					s, pending = s.Rebase(pending, since), nil
				}
			}
			var probes [][16]byte
			for _, p := range pool {
				probes = append(probes, randomIn(r, p), p.Addr().As16())
			}
			check(t, s, want, probes)
		}
	})
}

func TestTableHasTheKernelsRules(t *testing.T) {
	p := netip.MustParsePrefix("2001:db8::/32")
	var tab Table
	if err := tab.Add(Route{Prefix: p, Metric: 1024, Link: 1}); err != nil {
		t.Fatal(err)
	}
	if err := tab.Add(Route{Prefix: netip.MustParsePrefix("2001:db8::1/32"), Metric: 1024, Link: 2}); !errors.Is(err, ErrExists) {
		t.Errorf("the same prefix and metric: %v", err)
	}
	if err := tab.Add(Route{Prefix: p, Metric: 100, Link: 2}); err != nil {
		t.Fatal(err)
	}
	if rs := tab.Routes(p); len(rs) != 2 || rs[0].Link != 2 {
		t.Errorf("not by metric: %+v", rs)
	}
	if old, ok := tab.Update(Route{Prefix: p, Metric: 100, Link: 3}, func(r *Route) bool { return r.Metric == 100 }); !ok || old.Link != 2 || tab.Len() != 2 {
		t.Errorf("updated %+v %v, %d routes", old, ok, tab.Len())
	}
	if _, err := tab.Delete(p, func(r *Route) bool { return r.Metric == 7 }); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting what is not there: %v", err)
	}
	if old, err := tab.Delete(p, func(*Route) bool { return true }); err != nil || old.Link != 3 {
		t.Errorf("deleted %+v %v: the lowest metric goes first", old, err)
	}
	if err := tab.Append(Route{Prefix: p, Metric: 1024, Link: 9}); err != nil {
		t.Fatal(err)
	}
	if err := tab.Append(Route{Prefix: p, Metric: 1024, Link: 9}); !errors.Is(err, ErrExists) {
		t.Errorf("the same next hop twice: %v", err)
	}
	if rs := tab.Routes(p); len(rs) != 2 || rs[1].Link != 9 {
		t.Errorf("append: %+v", rs)
	}
	tab.Delete(p, func(r *Route) bool { return r.Link == 9 })
	tab.Add(Route{Prefix: netip.MustParsePrefix("::/0"), Metric: 1})
	tab.Add(Route{Prefix: netip.MustParsePrefix("fe80::/64"), Metric: 256})
	tab.Add(Route{Prefix: netip.MustParsePrefix("2001:db8:1::/48"), Metric: 7})
	tab.Add(Route{Prefix: netip.MustParsePrefix("2001:db8:1:1::/64"), Metric: 7})
	var got []string
	for _, r := range tab.All() {
		got = append(got, fmt.Sprint(r.Prefix, " ", r.Metric))
	}
	if want := []string{"2001:db8:1:1::/64 7", "2001:db8:1::/48 7", "2001:db8::/32 1024", "fe80::/64 256", "::/0 1"}; !slices.Equal(got, want) {
		t.Errorf("listed %v", got)
	}
	if gone := tab.DeleteFunc(func(r *Route) bool { return r.Metric > 1 }); len(gone) != 4 || tab.Len() != 1 {
		t.Errorf("flushed %v", gone)
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := Empty[int]()
	for i := range 200 {
		s = s.With(randomPrefix(r), new(i))
	}
	s = Compile(s.RIB()).With(netip.MustParsePrefix("2001:db8::/32"), new(1))
	probes, addrs, out := make([][16]byte, 32), make([]*[16]byte, 32), make([]*int, 32)
	for i := range probes {
		probes[i] = randomIn(r, netip.MustParsePrefix("2000::/3"))
		addrs[i] = &probes[i]
	}
	if n := testing.AllocsPerRun(100, func() { s.Batch(addrs, out); s.Lookup(addrs[0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBatch(b *testing.B) {
	for _, n := range []int{10, 1000, 100000, 1000000} {
		r := rand.New(rand.NewPCG(1, 2))
		rib := new(bart.Table[*int])
		var ps []netip.Prefix
		for i := range n {
			var a [16]byte
			binary.BigEndian.PutUint64(a[:], 0x2000<<48|r.Uint64()>>3)
			p := netip.PrefixFrom(netip.AddrFrom16(a), 32+r.IntN(17)).Masked()
			rib.Insert(p, new(i))
			ps = append(ps, p)
		}
		s := Compile(rib)
		probes := make([][16]byte, 1<<16)
		for i := range probes {
			probes[i] = randomIn(r, ps[r.IntN(n)])
		}
		for _, batch := range []int{1, 32} {
			b.Run(fmt.Sprintf("routes%d/batch%d", n, batch), func(b *testing.B) {
				addrs, out := make([]*[16]byte, batch), make([]*int, batch)
				for i := 0; i < b.N; i += batch {
					for j := range addrs {
						addrs[j] = &probes[(i+j)&(1<<16-1)]
					}
					s.Batch(addrs, out)
				}
			})
		}
	}
}
