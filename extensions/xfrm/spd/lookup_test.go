package spd

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/selector"
)

// plain is the database as a list, and the search as the reference has it (RFC 4301 4.4.1, xfrm A2).
type plain struct {
	policies []*Policy // in the order of their making
	seq      map[*Policy]int
	n        int
}

func (r *plain) put(p, old *Policy) {
	r.n++
	r.seq[p] = r.n
	if old == nil {
		r.policies = append(r.policies, p)
		return
	}
	if old.Priority == p.Priority {
		r.seq[p] = r.seq[old]
	}
	r.policies[slices.Index(r.policies, old)] = p
	delete(r.seq, old)
}

func (r *plain) drop(p *Policy) {
	i := slices.Index(r.policies, p)
	r.policies[i] = r.policies[len(r.policies)-1]
	r.policies = r.policies[:len(r.policies)-1]
	delete(r.seq, p)
}

func (r *plain) lookup(dir Dir, sub bool, f *selector.Flow, ifid uint32) (best *Policy) {
	for _, p := range r.policies {
		if p.Dir != dir || p.Sub != sub || p.IfID != ifid || !plainMatch(p, f) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(p.Priority, best.Priority), cmp.Compare(r.seq[p], r.seq[best])) < 0 {
			best = p
		}
	}
	return best
}

// plainMatch compares by netip what the compiled form compares by masks.
func plainMatch(p *Policy, f *selector.Flow) bool {
	in := func(x netip.Prefix, a [16]byte) bool {
		addr := netip.AddrFrom16(a)
		if f.IPv4 {
			addr = addr.Unmap()
		}
		return addr.Is4() == x.Addr().Is4() && x.Contains(addr)
	}
	port := func(want, mask, got uint16) bool { return mask == 0 || !f.Opaque && want&mask == got&mask }
	s := &p.Selector
	return in(s.Src, f.Src) && in(s.Dst, f.Dst) && (s.Proto == 0 || s.Proto == f.Proto) && (s.Link == 0 || s.Link == f.Link) &&
		(!s.Opaque || f.Opaque) && port(s.SPort, s.SPortMask, f.SPort) && port(s.DPort, s.DPortMask, f.DPort) && p.Mark == f.Mark&p.Mask
}

// world draws policies and flows that have much in common.
type world struct {
	*rand.Rand
	plain bool // policies of three shapes only
}

func (w world) addr() [16]byte {
	a := [16]byte{0x20, 1, 0xd, 0xb8, 0, byte(w.IntN(4)), 0, byte(w.IntN(3)), 15: byte(w.IntN(4))}
	if w.IntN(8) == 0 {
		a[0] ^= 0x80
	}
	return a
}

func (w world) addr4() [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: 10, 13: byte(w.IntN(3)), 14: byte(w.IntN(2)), 15: byte(w.IntN(4))}
}

func (w world) prefix(v4 bool) netip.Prefix {
	if v4 {
		return netip.PrefixFrom(netip.AddrFrom16(w.addr4()).Unmap(), []int{0, 8, 16, 24, 32, 31}[w.IntN(6)])
	}
	return netip.PrefixFrom(netip.AddrFrom16(w.addr()), []int{0, 1, 32, 48, 63, 64, 65, 127, 128}[w.IntN(9)])
}

var protos = []uint8{wire.TCP, wire.UDP, wire.ICMPv6, wire.MH, wire.GRE, wire.ESP, 0}

func (w world) policy() Policy {
	if w.plain {
		p := Policy{Dir: Out, Priority: uint32(w.IntN(1000)), Selector: selector.Selector{Src: w.wide(128), Dst: w.wide(128)}}
		switch w.IntN(3) {
		case 0:
			p.Selector.Dst = w.wide(120)
		case 1:
			p.Selector.Src = w.wide(0)
		}
		return p
	}
	v4 := w.IntN(5) == 0
	p := Policy{
		Dir: Dir(w.IntN(3)), Sub: w.IntN(2) == 0, Priority: uint32(w.IntN(5)), Action: Action(w.IntN(2)), IfID: uint32(max(0, w.IntN(4)-2)),
		Selector: selector.Selector{Src: w.prefix(v4), Dst: w.prefix(v4), Link: max(0, w.IntN(4)-2)},
	}
	s := &p.Selector
	if s.Proto = protos[w.IntN(len(protos))]; s.Proto != 0 && s.Proto != wire.ESP {
		s.SPortMask, s.DPortMask = []uint16{0, 0xffff, 0xfe, 1}[w.IntN(4)], []uint16{0, 0, 0xffff, 2}[w.IntN(4)]
		s.SPort, s.DPort = uint16(w.IntN(4))&s.SPortMask, uint16(w.IntN(4))&s.DPortMask
		if s.Proto == wire.MH {
			s.DPort, s.DPortMask = 0, 0
		}
		s.Opaque = s.SPortMask|s.DPortMask == 0 && w.IntN(2) == 0
	}
	p.Mask = []uint32{0, 0, 0, 1, ^uint32(0)}[w.IntN(5)]
	p.Mark = uint32(w.IntN(3)) & p.Mask
	return p
}

// wide is a prefix of many.
func (w world) wide(bits int) netip.Prefix {
	a := w.addr()
	a[14], a[15] = byte(w.IntN(3)), byte(w.IntN(64))
	return netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
}

func (w world) flow() selector.Flow {
	if w.plain {
		return selector.Flow{Src: w.wide(128).Addr().As16(), Dst: w.wide(128).Addr().As16()}
	}
	f := selector.Flow{
		Src: w.addr(), Dst: w.addr(), Proto: protos[w.IntN(len(protos))], SPort: uint16(w.IntN(4)), DPort: uint16(w.IntN(4)), Link: w.IntN(3), Mark: uint32(w.IntN(3)),
	}
	f.Opaque = f.Proto == 0 || f.Proto == wire.ESP || w.IntN(6) == 0
	if f.IPv4 = w.IntN(5) == 0; f.IPv4 || w.IntN(20) == 0 { // an IPv6 packet with IPv4-mapped addresses too
		f.Src, f.Dst = w.addr4(), w.addr4()
	}
	return f
}

func (w world) compare(t *testing.T, s *Snapshot, r *plain, flows int) {
	t.Helper()
	hits := 0
	for range flows {
		f, dir, sub, ifid := w.flow(), Dir(w.IntN(3)), w.IntN(2) == 0, uint32(w.IntN(3))
		if w.plain {
			dir, sub, ifid = Out, false, 0
		}
		got, want := s.Lookup(dir, sub, &f, ifid), r.lookup(dir, sub, &f, ifid)
		if got != want {
			t.Fatalf("%s sub=%v ifid=%d %+v:\n got %+v\nwant %+v", dir, sub, ifid, f, got, want)
		}
		if got != nil {
			hits++
		}
	}
	if len(r.policies) > 1000 && flows > 1000 && hits < flows/10 {
		t.Fatalf("only %d of %d flows have a policy", hits, flows)
	}
}

// intact checks what lookups rely on: groups by their first policy, none of theirs before it, buckets in order.
func intact(t *testing.T, d *DB) {
	t.Helper()
	for dir := range d.tables {
		for _, tb := range d.tables[dir] {
			if !slices.IsSortedFunc(tb.few, compareEntries) || !slices.IsSortedFunc(tb.groups, func(a, b *group) int { return a.first.compare(b.first) }) {
				t.Fatal("not in order")
			}
			n := len(tb.few)
			for _, g := range tb.groups {
				n += g.n
				for e := range g.all() {
					if e.order().compare(g.first) < 0 || e.shape() != g.shape {
						t.Fatalf("%+v is in the group of %+v", e.policy, g.first)
					}
				}
				for _, b := range g.buckets {
					if !slices.IsSortedFunc(b, func(x, y slot) int { return compareEntries(x.entry, y.entry) }) {
						t.Fatal("a bucket is not in order")
					}
				}
			}
			if n != tb.n {
				t.Fatalf("%d policies, counted %d", tb.n, n)
			}
		}
	}
}

// TestLookup: 10,000 random policies (and with LVT_LONG as many flows), put in, replaced and deleted in any order: lookups equal a plain
// search, and what an old snapshot says does not change. Once of very many shapes, once of few.
func TestLookup(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("few shapes=%v", plain), func(t *testing.T) { testLookup(t, plain) })
	}
}

func testLookup(t *testing.T, few bool) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := world{rand.New(rand.NewPCG(seed, 1)), few}
	d, r := New([2]uint64{w.Uint64(), w.Uint64()}, nil), &plain{seq: map[*Policy]int{}}
	var old *Snapshot
	var oldPlain *plain
	steps, size := 14000, 10000
	change := func() {
		p := w.policy()
		was, _ := d.Get(p.Key())
		got, err := d.Update(t0, p)
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		r.put(got, was)
	}
	drop := func() {
		p := r.policies[w.IntN(len(r.policies))]
		if few && w.IntN(2) == 0 { // more often the first of its shape
			p = slices.MinFunc(r.policies, func(a, b *Policy) int { return cmp.Compare(a.Priority, b.Priority) })
		}
		if got, err := d.DeleteIndex(p.Index); err != nil || got != p {
			t.Fatal(got, err)
		}
		r.drop(p)
	}
	for i := range steps {
		if w.IntN(6) != 0 || len(r.policies) == 0 {
			change()
		} else {
			drop()
		}
		if i%20 == 0 {
			intact(t, d)
		}
		if i%500 == 0 || i < 300 && i%10 == 0 {
			w.compare(t, d.Snapshot(), r, 20)
		}
		if i == steps/2 {
			old, oldPlain = d.Snapshot(), &plain{policies: slices.Clone(r.policies), seq: map[*Policy]int{}, n: r.n}
			for p, n := range r.seq {
				oldPlain.seq[p] = n
			}
		}
	}
	for len(r.policies) < size {
		change()
	}
	flows := 1500
	if os.Getenv("LVT_LONG") != "" {
		flows = 10000
	}
	w.compare(t, d.Snapshot(), r, flows)
	for len(r.policies) > 0 {
		drop()
		if n := len(r.policies); n%1000 == 0 || n < 200 && n%10 == 0 {
			w.compare(t, d.Snapshot(), r, 50)
		}
	}
	w.compare(t, old, oldPlain, 500)
	for dir := range d.tables {
		for _, tb := range d.tables[dir] {
			if tb.n != 0 || len(tb.few) != 0 || len(tb.groups) != 0 {
				t.Errorf("an empty database has %+v", tb)
			}
		}
	}
}

// many returns a database with n policies of three shapes and what comes to a large gateway, and flows for
// the first policy, the middle and none.
func many(t testing.TB, n int) (*DB, []selector.Flow) {
	d := New([2]uint64{1, 2}, nil)
	add := func(i int, p Policy) {
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)})
		p.Dir, p.Priority = Out, uint32(100+i%7)
		switch i % 3 {
		case 0:
			p.Selector.Dst = netip.PrefixFrom(a, 56)
		case 1:
			p.Selector.Src, p.Selector.Dst = netip.MustParsePrefix("2001:db8:ffff::/48"), netip.PrefixFrom(a, 56)
		default:
			p.Selector.Dst, p.Selector.Proto, p.Selector.DPort, p.Selector.DPortMask = netip.PrefixFrom(a, 64), wire.TCP, 443, selector.Exact
		}
		mustAdd(t, d, p)
	}
	for i := range n {
		add(i, Policy{Name: fmt.Sprint(i)})
	}
	f := func(i int) selector.Flow {
		return selector.Flow{
			Src: [16]byte{0x20, 1, 0xd, 0xb8, 0xff, 0xff}, Dst: [16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 16), byte(i >> 8), byte(i)},
			Proto: wire.TCP, SPort: 5000, DPort: 443,
		}
	}
	return d, []selector.Flow{f(0), f(n / 2), f(n - 1), f(1 << 23)}
}

// TestNoAllocation: neither with few policies nor with many.
func TestNoAllocation(t *testing.T) {
	for _, n := range []int{10, 1000} {
		d, flows := many(t, n)
		s := d.Snapshot()
		for i := range flows {
			if a := testing.AllocsPerRun(100, func() { s.Policies(Out, &flows[i], 0) }); a != 0 {
				t.Errorf("%d policies: %v allocations", n, a)
			}
			if p := s.Lookup(Out, false, &flows[i], 0); (p == nil) != (i == 3) {
				t.Errorf("%d policies, flow %d: %+v", n, i, p)
			}
		}
	}
}

// TestBalance: with policies whose addresses are alike, no bucket gets out of hand.
func TestBalance(t *testing.T) {
	d, _ := many(t, 30000)
	for _, g := range d.tables[Out][0].groups {
		longest := 0
		for _, b := range g.buckets {
			longest = max(longest, len(b))
		}
		if longest > 4*load || len(g.buckets) < g.n/load {
			t.Errorf("%d policies in %d buckets, the longest of %d", g.n, len(g.buckets), longest)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 100000} {
		d, flows := many(b, n)
		s := d.Snapshot()
		for i, name := range []string{"first", "middle", "last", "none"} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					s.Lookup(Out, false, &flows[i], 0)
				}
			})
		}
		b.Run(fmt.Sprintf("%d/any", n), func(b *testing.B) { // of all policies by turns: out of the caches
			f, i := flows[0], 0
			for range b.N {
				i = (i + 7919) % n
				f.Dst[4], f.Dst[5], f.Dst[6] = byte(i>>16), byte(i>>8), byte(i)
				if s.Lookup(Out, false, &f, 0) == nil {
					b.Fatal(i)
				}
			}
		})
	}
}

// BenchmarkChange is one policy replaced in 100,000, and the snapshot with it.
func BenchmarkChange(b *testing.B) {
	d, _ := many(b, 100000)
	all := d.List()
	b.ResetTimer()
	for i := range b.N {
		p := *all[i%len(all)]
		p.Priority = uint32(i % 9)
		if _, err := d.Update(t0, p); err != nil {
			b.Fatal(err)
		}
		d.Snapshot()
	}
}

// BenchmarkFill is 100,000 policies put in, and one snapshot.
func BenchmarkFill(b *testing.B) {
	for range b.N {
		d, _ := many(b, 100000)
		d.Snapshot()
	}
}
