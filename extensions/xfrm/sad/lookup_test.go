package sad

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

func TestByAddrs(t *testing.T) {
	db := newDB()
	exact := mustAdd(t, db, t0, hao("fd00::1", "fd00::c"))
	wild := mustAdd(t, db, t0, with(hao("::", "::"), func(s *State) { s.Flags = WildRecv }))
	mustAdd(t, db, t0, with(hao("::", "::"), func(s *State) { s.DAddr = addr("fd00::3") })) // no wildrecv: never
	all := mustAdd(t, db, t0, with(hao("::", "fd00::d"), func(s *State) { s.DAddr, s.Flags = addr("::"), WildRecv }))
	rh := mustAdd(t, db, t0, with(hao("fd00::1", "fd00::c"), func(s *State) { s.Proto = proto.Route2 }))
	sn := db.Snapshot()
	for _, c := range []struct {
		dst, src, coa string
		p             proto.Proto
		want          *State
	}{
		{"fd00::2", "fd00::1", "fd00::c", proto.HAO, exact},
		{"fd00::2", "fd00::1", "", proto.HAO, exact},
		{"fd00::2", "fd00::1", "fd00::bad", proto.HAO, wild}, // so that a Binding Update from a new address arrives
		{"fd00::2", "fd00::7", "fd00::c", proto.HAO, wild},
		{"fd00::3", "fd00::7", "fd00::c", proto.HAO, nil},
		{"fd00::3", "fd00::7", "fd00::d", proto.HAO, all},
		{"fd00::2", "fd00::1", "fd00::c", proto.Route2, rh},
		{"fd00::2", "fd00::7", "fd00::c", proto.Route2, nil},
	} {
		coa := netip.Addr{}
		if c.coa != "" {
			coa = addr(c.coa)
		}
		if got := sn.ByAddrs(addr(c.dst), addr(c.src), coa, c.p, 0); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

func TestByIDLongest(t *testing.T) {
	db := newDB()
	sel := func(src string) *State {
		return mustAdd(t, db, t0, with(esp(0x1000), func(s *State) { s.SrcSelective, s.SAddr = true, addr(src) }))
	}
	a := sel("fd00::a")
	any6 := mustAdd(t, db, t0, esp(0x1000)) // newer, but shorter
	b := sel("fd00::b")
	sn := db.Snapshot()
	for src, want := range map[string]*State{"fd00::a": a, "fd00::b": b, "fd00::c": any6, "fd00::1": any6} {
		if got := sn.ByID(addr("fd00::2"), addr(src), 0x1000, proto.ESP, 0); got != want {
			t.Errorf("from %s: %v", src, got)
		}
	}
}

func TestForTemplate(t *testing.T) {
	db := newDB()
	tmpl := &Template{DAddr: addr("fd00::2"), SAddr: addr("fd00::1"), Proto: proto.ESP, Mode: proto.Tunnel, ReqID: 1}
	of := func(spi uint32, change func(*State)) *State {
		return mustAdd(t, db, t0, with(esp(spi), func(s *State) {
			s.ReqID = 1
			change(s)
		}))
	}
	f := flow("fd01::1", "fd02::1")
	expect := func(what string, f *selector.Flow, want *State, acquiring bool) {
		t.Helper()
		if got, acq := db.Snapshot().ForTemplate(tmpl, f); got != want || acq != acquiring {
			t.Errorf("%s: got %v, %t", what, got, acq)
		}
	}
	expect("empty", f, nil, false)
	of(0x900, func(s *State) { s.ReqID = 2 })
	of(0x901, func(s *State) { s.Mode = proto.Transport })
	ofLink := of(0x902, func(s *State) { s.IfID = 1 })
	of(0x903, func(s *State) { s.Mark = Mark{1, 1} })
	of(0x904, func(s *State) { s.Flags = WildRecv })
	of(0x905, func(s *State) { s.DAddr = addr("fd00::3") })
	of(0x906, func(s *State) { s.Sel.Dst = netip.MustParsePrefix("fd03::/16") })
	expect("others", f, nil, false)
	tmpl.IfID = 1
	expect("of an if_id", f, ofLink, false)
	tmpl.IfID = 2
	expect("of another if_id", f, nil, false)
	if s, fresh, err := db.Acquire(t0, tmpl, f); !fresh || err != nil || s.IfID != 2 {
		t.Fatal(fresh, err)
	}
	expect("larval with an if_id", f, nil, true)
	tmpl.IfID = 0
	expect("larval with an if_id is not for others", f, nil, false)
	wild := of(0x907, func(s *State) { s.SAddr = addr("::") })
	expect("of any source", f, wild, false)
	if _, fresh, err := db.Acquire(t0, tmpl, f); !fresh || err != nil {
		t.Fatal(fresh, err)
	}
	expect("larval", f, nil, true)
	first := of(0x908, func(s *State) { s.Life.SoftPackets = 1 }) // answers the larval one
	expect("valid", f, first, false)
	second := of(0x909, func(s *State) { s.Life.SoftPackets = 1 })
	expect("the newest", f, second, false)
	second.Live.Count(t0, 1)
	if v := second.Before(1); v != SoftReached {
		t.Error(v)
	}
	expect("not dying", f, first, false)
	first.Live.Count(t0, 1)
	first.Before(1)
	expect("the newest that is dying", f, second, false)
	tmpl.SPI = 0x908
	expect("by SPI", f, first, false)
	tmpl.SPI = 0
	f4 := flow("10.0.0.1", "10.0.0.2")
	expect("IPv4", f4, nil, false)
	both := of(0x90a, func(s *State) { s.Flags = AFUnspec })
	expect("IPv4 with af-unspec", f4, both, false)
	expect("IPv6 with af-unspec", f, both, false)
	if _, err := db.Delete(both.ID, netip.Addr{}, Mark{}); err != nil {
		t.Fatal(err)
	}
	v4 := of(0x90b, func(s *State) { s.Sel.Dst = netip.MustParsePrefix("0.0.0.0/0") })
	expect("IPv4 with its selector", f4, v4, false)
	expect("IPv6", f, second, false)
}

// TestSnapshotsAgainstAList does random things to a database and to a list of states, and asks both.
// Old snapshots must go on saying what they said.
func TestSnapshotsAgainstAList(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	db := newDB()
	var model []*State // oldest first
	some := func(n int) netip.Addr { return addr(fmt.Sprintf("fd00::%x", 1+r.IntN(n))) }
	random := func() *State {
		s := esp(0x1000 + uint32(r.IntN(12)))
		s.DAddr, s.SAddr, s.ReqID, s.SrcSelective = some(3), some(2), uint32(r.IntN(2)), r.IntN(4) == 0
		if m := r.IntN(3); m > 0 {
			s.Mark = Mark{uint32(m), 3}
		}
		if r.IntN(3) == 0 {
			s.ID, s.SrcSelective, s.Mode, s.AEAD, s.CoA = ID{s.DAddr, 0, proto.HAO}, false, proto.RO, Algo{}, addr("::")
		}
		return s
	}
	type kept struct {
		sn    *Snapshot
		model []*State
	}
	var old []kept
	for range 20_000 {
		s := random()
		switch r.IntN(5) {
		case 0, 1, 2:
			if added, _, err := db.Add(t0, s); err == nil {
				model = append(model, added)
			}
		case 3:
			if gone, err := db.Delete(s.ID, s.SAddr, s.Mark); err == nil {
				model = slices.DeleteFunc(slices.Clone(model), func(o *State) bool { return o == gone })
			}
		case 4:
			if next, err := db.Update(t0, s); err == nil {
				model = slices.Clone(model)
				i := slices.IndexFunc(model, func(o *State) bool { return o.Live == next.Live })
				model[i] = next
			}
		}
		if r.IntN(4) == 0 {
			old = append(old, kept{db.Snapshot(), slices.Clone(model)})
			k := old[r.IntN(len(old))]
			ask(t, r, k.sn, k.model, some)
		}
		if t.Failed() {
			return
		}
	}
	if db.Count() != len(model) || db.Count() < 20 {
		t.Errorf("%d states, the list has %d", db.Count(), len(model))
	}
}

func ask(t *testing.T, r *rand.Rand, sn *Snapshot, model []*State, some func(int) netip.Addr) {
	d, s, spi, mark := some(3), some(2), 0x1000+uint32(r.IntN(12)), uint32(r.IntN(4))
	// which is the one of the most points, and of them any.
	check := func(got *State, points func(*State) int) {
		t.Helper()
		best := 0
		for _, x := range model {
			best = max(best, points(x))
		}
		if got == nil && best != 0 || got != nil && (points(got) != best || best == 0 || !slices.Contains(model, got)) {
			t.Errorf("found %+v, the best of the list has %d points", got, best)
		}
	}
	check(sn.ByID(d, s, spi, proto.ESP, mark), func(x *State) int {
		switch {
		case x.ID != ID{d, spi, proto.ESP} || mark&x.Mark.Mask != x.Mark.Value || x.SrcSelective && x.SAddr != s:
			return 0
		case x.SrcSelective:
			return 2
		}
		return 1
	})
	check(sn.ByAddrs(d, s, netip.Addr{}, proto.HAO, mark), func(x *State) int {
		if x.ID == (ID{d, 0, proto.HAO}) && x.SAddr == s && mark&x.Mark.Mask == x.Mark.Value {
			return 1
		}
		return 0
	})
	f := flow("fd01::1", "fd02::1")
	f.Mark = mark
	got, _ := sn.ForTemplate(&Template{DAddr: d, SAddr: s, Proto: proto.ESP, Mode: proto.Tunnel, ReqID: spi & 1}, f)
	if got != nil && got.Live.Dead() { // live by design: what is gone is not found, also in old snapshots
		t.Error("found what is gone")
	}
	check(got, func(x *State) int {
		if x.DAddr == d && x.SAddr == s && x.Proto == proto.ESP && x.ReqID == spi&1 && mark&x.Mark.Mask == x.Mark.Value && !x.Live.Dead() {
			return 1
		}
		return 0
	})
}

// big is a database of n states between as many hosts.
func big(t testing.TB, n int, peers bool) *DB {
	db := newDB()
	for i := range n {
		mustAdd(t, db, t0, bigState(i, peers))
	}
	return db
}

func bigState(i int, peers bool) *State {
	s := esp(0x1000 + uint32(i))
	if peers {
		a := s.DAddr.As16()
		a[8], a[9], a[10] = byte(i>>16), byte(i>>8), byte(i)
		s.DAddr = netip.AddrFrom16(a)
	}
	return s
}

func TestLookupsDoNotAllocate(t *testing.T) {
	db := big(t, 1000, true)
	mustAdd(t, db, t0, hao("fd00::1", "fd00::9"))
	sn, s, f := db.Snapshot(), bigState(500, true), flow("fd01::1", "fd02::1")
	tmpl := Template{DAddr: s.DAddr, SAddr: s.SAddr, Proto: proto.ESP, Mode: proto.Tunnel}
	found := db.bucket(&s.ID, s.SAddr).tail[0]
	n := testing.AllocsPerRun(100, func() {
		x := sn.ByID(s.DAddr, s.SAddr, s.SPI, proto.ESP, 0)
		y := sn.ByAddrs(addr2, addr1, addr9, proto.HAO, 0)
		z, _ := sn.ForTemplate(&tmpl, f)
		if x != found || y == nil || z != found || !x.Accepts(f) || x.Before(100) != Ok {
			t.Error("not found")
		}
		x.NextSeq()
		x.Live.Count(t0, 100)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var addr1, addr2, addr9 = addr("fd00::1"), addr("fd00::2"), addr("fd00::9")

// TestManyOfOnePair: what is done to each of many states between two hosts does not cost more for it.
func TestManyOfOnePair(t *testing.T) {
	const n = 20_000
	db := big(t, n, false)
	old := db.Snapshot()
	if got := len(db.Flush(proto.ESP)); got != n || db.Count() != 0 || db.Snapshot().Len() != 0 {
		t.Errorf("%d deleted, %d left", got, db.Count())
	}
	s := bigState(n/2, false)
	if x := old.ByID(s.DAddr, s.SAddr, s.SPI, proto.ESP, 0); x == nil || x.Before(1) != Invalid {
		t.Errorf("the old snapshot has %v", x)
	}
	if b := db.byTemplate.get(db.templateHash(s.DAddr, s.SAddr, 0)); len(b.older)+len(b.tail) != 0 {
		t.Errorf("%d parts are left", len(b.older))
	}
}

// TestPartsOfABucket takes out and changes states anywhere among many of one pair; an old snapshot keeps all.
func TestPartsOfABucket(t *testing.T) {
	const n = 4*chunk + 10
	r := rand.New(rand.NewPCG(3, 4))
	db := big(t, n, false)
	all := func(sn *Snapshot) (out []*State) {
		s := bigState(0, false)
		for x := range sn.byTemplate.get(sn.templateHash(s.DAddr, s.SAddr, 0)).newest {
			out = append(out, x)
		}
		return out
	}
	type kept struct {
		sn   *Snapshot
		list []*State
	}
	old := []kept{{db.Snapshot(), db.List()}}
	for i, k := range r.Perm(n) {
		s := bigState(k, false)
		var err error
		if i%3 == 0 {
			_, err = db.Update(t0, with(s, func(s *State) { s.Life.HardAdd = 9 }))
		} else {
			_, err = db.Delete(s.ID, s.SAddr, Mark{})
		}
		if err != nil {
			t.Fatal(k, err)
		}
		if i%100 == 0 {
			old = append(old, kept{db.Snapshot(), db.List()})
		}
	}
	for _, k := range append(old, kept{db.Snapshot(), db.List()}) {
		if got := all(k.sn); !slices.Equal(got, k.list) {
			t.Errorf("a snapshot has %d states, it had %d", len(got), len(k.list))
		}
	}
}

// BenchmarkAdd is one state more, a snapshot, one less and a snapshot, with 100,000
// states there: between as many hosts, and all of one pair.
func BenchmarkAdd(b *testing.B) {
	for name, peers := range map[string]bool{"peers": true, "one": false} {
		b.Run(name, func(b *testing.B) {
			db := big(b, 100_000, peers)
			db.Snapshot()
			b.ResetTimer()
			for i := range b.N {
				mustAdd(b, db, t0, bigState(200_000+i, peers))
				db.Snapshot()
				db.remove(db.first.next.s)
				db.Snapshot()
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	db := big(b, 100_000, true)
	sn := db.Snapshot()
	list := db.List()
	f := flow("fd01::1", "fd02::1")
	b.Run("ByID", func(b *testing.B) {
		for i := range b.N {
			s := list[i*7919%len(list)]
			if sn.ByID(s.DAddr, s.SAddr, s.SPI, proto.ESP, 0) != s {
				b.Fatal("not found")
			}
		}
	})
	b.Run("ForTemplate", func(b *testing.B) {
		for i := range b.N {
			s := list[i*7919%len(list)]
			if x, _ := sn.ForTemplate(&Template{DAddr: s.DAddr, SAddr: s.SAddr, Proto: proto.ESP, Mode: proto.Tunnel}, f); x != s {
				b.Fatal("not found")
			}
		}
	})
}
