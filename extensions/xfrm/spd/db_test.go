package spd

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// t0 is when tests begin.
const t0 = clock.Instant(time.Second)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// sel returns the selector that words say.
func sel(words string) selector.Selector {
	s, rest, err := selector.Words(strings.Fields(words))
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("left over: %q", rest)
	}
	var all []selector.Selector
	if err == nil {
		all, err = s.Selectors(func(string) int { return 1 })
	}
	if err != nil || len(all) != 1 {
		panic(fmt.Sprint(words, all, err))
	}
	return all[0]
}

func flow(src, dst string, proto uint8, sport, dport uint16) selector.Flow {
	return selector.Flow{Src: ip(src).As16(), Dst: ip(dst).As16(), Proto: proto, SPort: sport, DPort: dport}
}

func mustAdd(t testing.TB, d *DB, p Policy) *Policy {
	t.Helper()
	out, err := d.Add(t0, p)
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	return out
}

// found returns the names of the policies that Lookup returns as one after the other is deleted: the order
// of the database.
func found(t *testing.T, d *DB, dir Dir, f selector.Flow) (names []string) {
	t.Helper()
	for {
		p := d.Snapshot().Lookup(dir, false, &f, 0)
		if p == nil {
			return names
		}
		names = append(names, p.Name)
		if _, err := d.DeleteIndex(p.Index); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOrder: by priority; of the same, the first that was put in; a replaced one keeps its place and its
// index unless its priority changes. Few policies and many are found in the same order.
func TestOrder(t *testing.T) {
	for _, more := range []int{0, 40} {
		d := New([2]uint64{}, nil)
		for i := range more { // for other packets
			mustAdd(t, d, Policy{Dir: Out, Selector: sel(fmt.Sprintf("dst 2001:db8:ffff:%x::/64", i))})
		}
		f := flow("2001:db8::1", "2001:db8:1::1", wire.TCP, 1, 2)
		add := func(name, words string, prio uint32) *Policy {
			return mustAdd(t, d, Policy{Dir: Out, Name: name, Selector: sel(words), Priority: prio})
		}
		add("a", "dst 2001:db8:1::/48", 10)
		b := add("b", "dst 2001:db8:1::/64", 10)
		add("c", "proto tcp", 5)
		add("d", "proto tcp dport 2", 10)
		e := add("e", "src 2001:db8::/32", 10)
		add("f", "", 10)
		add("g", "dst 2001:db8::/32", 1<<32-1)
		add("other", "proto udp", 0)
		for _, p := range []*Policy{b, e} {
			q := *p
			q.Name += "'"
			q.Index = 0
			if p == e {
				q.Priority = 5
			}
			got, err := d.Update(t0, q)
			if err != nil || got.Index != p.Index {
				t.Fatalf("%+v %v, index was %d", got, err, p.Index)
			}
		}
		if got, want := fmt.Sprint(found(t, d, Out, f)), "[c e' a b' d f g]"; got != want {
			t.Errorf("with %d more: %s, want %s", more, got, want)
		}
		if d.Len() != more+1 {
			t.Errorf("%d are left", d.Len())
		}
	}
}

// TestRefusals, in the kernel's words where it has some.
func TestRefusals(t *testing.T) {
	esp := Template{Proto: proto.ESP}
	with := func(set func(*Policy)) Policy {
		p := Policy{Dir: Out, Selector: sel("dst 2001:db8::/32")}
		set(&p)
		return p
	}
	tmpl := func(dir Dir, t Template) Policy {
		return with(func(p *Policy) { p.Dir, p.Templates = dir, []Template{t} })
	}
	d := New([2]uint64{}, nil)
	for _, c := range []struct {
		p    Policy
		want string
	}{
		{with(func(*Policy) {}), ""},
		{with(func(*Policy) {}), "File exists"},
		{with(func(p *Policy) { p.Selector.Src = netip.Prefix{} }), "File exists"}, // any is ::/0
		{with(func(p *Policy) { p.Priority = 7 }), "File exists"},
		{with(func(p *Policy) { p.Sub = true }), ""},
		{with(func(p *Policy) { p.Mask = 1 }), ""},
		{with(func(p *Policy) { p.IfID = 1 }), ""},
		{with(func(p *Policy) { p.IfID, p.Index = 2, 1 }), "File exists"}, // the index of the first
		{with(func(p *Policy) { p.IfID, p.Index = 2, 82 }), "Policy index doesn't match direction."},
		{with(func(p *Policy) { p.IfID, p.Index = 2, 81 }), ""},
		{with(func(p *Policy) { p.Dir = 3 }), "dir: 3 is none of in, out and fwd"},
		{with(func(p *Policy) { p.Action = 2 }), "action: 2 is none"},
		{with(func(p *Policy) { p.Flags = 6 }), "flag: 0x4 is none"},
		{with(func(p *Policy) { p.Mark, p.Mask = 5, 2 }), "mark: 0x5 has bits outside of its mask 0x2"},
		{with(func(p *Policy) { p.Selector.Proto, p.Selector.SPortMask = wire.ESP, 1 }), "sport: protocol esp has no ports"},
		{with(func(p *Policy) { p.Templates = slices.Repeat([]Template{esp}, 7) }), "Template count must be <= XFRM_MAX_DEPTH (6)."},
		{with(func(p *Policy) { p.IfID, p.Templates = 3, slices.Repeat([]Template{esp}, 6) }), ""},
		{with(func(p *Policy) { p.Action, p.Templates = Block, []Template{esp} }), "tmpl: a policy that blocks sends nothing through a template"},
		{tmpl(In, Template{Proto: proto.Comp}), "tmpl 1: proto: comp: IP payload compression is not supported"},
		{tmpl(In, Template{Proto: 41, Mode: proto.Tunnel}), "tmpl 1: proto: 41 is none of esp, ah, route2 and hao"},
		{tmpl(In, Template{Proto: proto.ESP, Mode: proto.RO}), "tmpl 1: mode: esp has no mode ro"},
		{tmpl(In, Template{Proto: proto.ESP, Mode: 9}), "tmpl 1: mode: esp has no mode 9"},
		{tmpl(In, Template{Proto: proto.HAO, Mode: proto.Tunnel}), "tmpl 1: mode: hao has no mode tunnel"},
		{tmpl(In, Template{Proto: proto.HAO, Mode: proto.RO, SPI: 4}), "tmpl 1: spi: hao has none"},
		{tmpl(In, Template{Proto: proto.ESP, SPI: 255}), "tmpl 1: spi: 255 is reserved (RFC 4303 2.1)"},
		{tmpl(In, Template{Proto: proto.ESP, Level: 2}), "tmpl 1: level: 2 is none"},
		{tmpl(In, Template{Proto: proto.ESP, Src: ip("ff02::1")}), "tmpl 1: src: ff02::1 is no address for an outer header"},
		{tmpl(In, Template{Proto: proto.ESP, Dst: ip("fe80::1%1")}), "tmpl 1: dst: fe80::1%1 is no address for an outer header"},
		{tmpl(In, Template{Proto: proto.ESP, Src: ip("::1"), Dst: ip("10.0.0.1")}), "tmpl 1: src: ::1 and dst 10.0.0.1 are not of the same family"},
		{tmpl(Out, Template{Proto: proto.ESP, Mode: proto.Tunnel}), "tmpl 1: dst: mode tunnel needs the other end"},
		{tmpl(Out, Template{Proto: proto.ESP, Mode: proto.Tunnel, Dst: ip("::")}), "tmpl 1: dst: mode tunnel needs the other end"},
		{tmpl(Out, Template{Proto: proto.ESP, Mode: proto.BEET, Dst: ip("::1"), Level: Use}), "Mode in optional template not allowed in outbound policy."},
		{tmpl(In, Template{Proto: proto.ESP, Mode: proto.Tunnel, Level: Use}), ""},
	} {
		_, err := d.Add(t0, c.p)
		if (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%+v: %v, want %q", c.p, err, c.want)
		}
	}
	for _, err := range []error{
		second(d.Get(Key{Selector: sel("proto 201"), Dir: Out})), second(d.Delete(Key{Dir: In})), second(d.ByIndex(8001)), second(d.DeleteIndex(8001)),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestDB: what is put in is found by key and index, listed as Linux lists it, and gone when deleted.
func TestDB(t *testing.T) {
	d := New([2]uint64{}, nil)
	tmpls := []Template{{Proto: proto.ESP}}
	a := mustAdd(t, d, Policy{Name: "a", Dir: Out, Selector: sel("proto tcp"), Templates: tmpls})
	b := mustAdd(t, d, Policy{Name: "b", Dir: In, Selector: sel("proto tcp"), Mark: 1, Mask: 3, IfID: 5})
	c := mustAdd(t, d, Policy{Name: "c", Dir: Fwd, Selector: sel("proto tcp"), Sub: true, Index: 18})
	e := mustAdd(t, d, Policy{Name: "e", Dir: Fwd, Selector: sel("proto udp")})
	if tmpls[0].SPI = 1; a.Templates[0].SPI != 0 {
		t.Error("the database shares templates with the caller")
	}
	if got, want := fmt.Sprint(a.Index, b.Index, c.Index, e.Index), "1 8 18 26"; got != want {
		t.Errorf("indexes %s, want %s", got, want) // 18 is taken
	}
	names := func(ps []*Policy) (s string) {
		for _, p := range ps {
			s += p.Name
		}
		return s
	}
	gen := d.Gen()
	snap := d.Snapshot()
	if d.Snapshot() != snap || snap.Gen() != gen {
		t.Error("a snapshot without a change is another one")
	}
	if _, err := d.Update(t0, Policy{Name: "B", Dir: In, Selector: sel("proto tcp"), Mark: 1, Mask: 3, IfID: 5, Index: 800}); err != nil {
		t.Fatal(err)
	}
	if got := names(d.List()); got != "Beca" || d.Gen() == gen || d.Snapshot() == snap {
		t.Errorf("list %s", got)
	}
	if p, err := d.ByIndex(8); err != nil || p.Name != "B" {
		t.Errorf("%+v %v", p, err)
	}
	if p, err := d.Get(Key{Selector: selector.Selector{Proto: wire.TCP}, Dir: Out}); err != nil || p != a {
		t.Errorf("%+v %v", p, err)
	}
	f := flow("::1", "::2", wire.TCP, 1, 2)
	f.Mark = 9
	for _, q := range []struct {
		dir  Dir
		ifid uint32
		mark uint32
		want string
	}{{Out, 0, 9, "a"}, {Out, 5, 9, ""}, {In, 5, 9, "b"}, {In, 0, 9, ""}, {In, 5, 8, ""}} {
		f.Mark = q.mark
		name := ""
		if p := snap.Lookup(q.dir, false, &f, q.ifid); p != nil {
			name = p.Name
		}
		if name != q.want {
			t.Errorf("%+v: %q", q, name)
		}
	}
	if got := names(d.Flush(true)); got != "c" || d.Len() != 3 {
		t.Errorf("flushed %s", got)
	}
	if got := names(d.DeleteFunc(func(p *Policy) bool { return p.Dir == In })); got != "B" || d.Len() != 2 {
		t.Errorf("deleted %s", got)
	}
	if p := snap.Lookup(Fwd, true, &f, 0); p != c {
		t.Error("a snapshot has changed")
	}
}

// TestFull: the database is bounded.
func TestFull(t *testing.T) {
	d := New([2]uint64{}, nil)
	p := Policy{Dir: Out, Selector: sel("proto tcp")}
	for len(d.byKey) < MaxPolicies {
		d.byKey[Key{IfID: uint32(len(d.byKey)) + 1}] = nil
	}
	if _, err := d.Add(t0, p); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
}

// TestText: the listing of iproute2 6.1 and Linux 6.18 of the same policies.
func TestText(t *testing.T) {
	want, err := os.ReadFile("testdata/list.txt")
	if err != nil {
		t.Fatal(err)
	}
	d := New([2]uint64{}, nil)
	a1, a2 := ip("2001:db8:a::1"), ip("2001:db8:a::2")
	for _, p := range []Policy{
		{Selector: sel("src 2001:db8::/48 proto ipv6-icmp type 133 code 0 dev lo"), Dir: Out, Priority: 5},
		{Selector: sel("dst 2001:db8::1 proto udp sport 5 dport 443"), Dir: In, Action: Block, Mark: 5, Mask: 0xff},
		{Selector: sel("proto mh type 5"), Dir: In, Sub: true, Templates: []Template{{Proto: proto.HAO, Mode: proto.RO, Level: Use}}},
		{Selector: sel("src 2001:db8::/48 dst 2001:db8:1::/48"), Dir: Fwd, Templates: []Template{
			{Src: a1, Dst: a2, Proto: proto.ESP, SPI: 0x100, ReqID: 3, Mode: proto.Tunnel}, {Proto: proto.AH, Level: Use}}},
		{Selector: sel("dst 10.0.0.0/8"), Dir: Out, Flags: LocalOK | ICMP, IfID: 7, Mark: 6, Mask: ^uint32(0), Templates: []Template{
			{Src: a1, Dst: a2, Proto: proto.ESP, Mode: proto.BEET}, {Proto: proto.Route2, Mode: proto.InTrigger, Level: Use}}},
		{Selector: sel("dst 2001:db8:8::/48"), Dir: Out, Flags: LocalOK},
	} {
		mustAdd(t, d, p)
	}
	got := ""
	for _, p := range d.List() {
		l := lab.List(p)
		got += l.Text(false)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := oneTemplate(Template{Src: ip("10.0.0.1"), Proto: proto.ESP, Mode: proto.Tunnel}); !strings.Contains(s, "tmpl src 10.0.0.1 dst 0.0.0.0\n") {
		t.Error(s)
	}
}

// TestNames: every name of iproute2 is read back.
func TestNames(t *testing.T) {
	for _, p := range []proto.Proto{proto.ESP, proto.AH, proto.Comp, proto.Route2, proto.HAO} {
		if got, ok := proto.Parse(p.String()); !ok || got != p {
			t.Error(p)
		}
	}
	for m := proto.Transport; m <= proto.BEET; m++ {
		if got, ok := proto.ParseMode(m.String()); !ok || got != m {
			t.Error(m)
		}
	}
	for d := In; d <= Fwd; d++ {
		if got, ok := ParseDir(d.String()); !ok || got != d {
			t.Error(d)
		}
	}
	for l := Required; l <= Use; l++ {
		if got, ok := ParseLevel(l.String()); !ok || got != l {
			t.Error(l)
		}
	}
	if _, ok := proto.Parse("ipip"); ok {
		t.Error("ipip")
	}
	if _, ok := proto.ParseMode("x"); ok {
		t.Error("mode x")
	}
	if _, ok := ParseDir(""); ok {
		t.Error("dir")
	}
	if _, ok := ParseLevel("bogus"); ok {
		t.Error("level")
	}
	if got := fmt.Sprint(Allow, Block, In, Dir(7), proto.Proto(41), proto.Mode(9)); got != "allow block in 7 41 9" {
		t.Error(got)
	}
}

// TestNDBypass: Neighbor Discovery passes a policy that blocks all, and no other ICMPv6 does.
func TestNDBypass(t *testing.T) {
	d := New([2]uint64{}, nil)
	for _, p := range NDBypass() {
		mustAdd(t, d, p)
	}
	for _, dir := range []Dir{In, Out} {
		mustAdd(t, d, Policy{Dir: dir, Priority: 100, Action: Block})
		for typ := range uint16(256) {
			f := flow("fe80::1", "ff02::1", wire.ICMPv6, typ, 0)
			p := d.Snapshot().Lookup(dir, false, &f, 0)
			if (p.Action == Allow) != (typ >= 133 && typ <= 137) {
				t.Errorf("%s type %d: %s", dir, typ, p.Action)
			}
		}
	}
	if d.Len() != 12 {
		t.Errorf("%d policies", d.Len())
	}
}
