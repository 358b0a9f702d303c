package spd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/extensions/xfrm/proto"
)

// TestMigrated: which templates get other addresses.
func TestMigrated(t *testing.T) {
	a, b, c, d := ip("fd00::a"), ip("fd00::b"), ip("fd00::c"), ip("fd00::d")
	esp := Template{Src: a, Dst: b, Proto: proto.ESP, Mode: proto.Tunnel, ReqID: 7}
	with := func(f func(*Template)) Template { t := esp; f(&t); return t }
	move := proto.Migration{OldSrc: a, OldDst: b, NewSrc: c, NewDst: d, Proto: proto.ESP, Mode: proto.Tunnel}
	moving := func(f func(*proto.Migration)) proto.Migration { m := move; f(&m); return m }
	moved := with(func(t *Template) { t.Src, t.Dst = c, d })
	transport := Template{Proto: proto.ESP, Mode: proto.Transport, ReqID: 1}
	ah := Template{Proto: proto.AH, Mode: proto.Transport}
	ro := Template{Proto: proto.HAO, Mode: proto.RO}
	beet := with(func(t *Template) { t.Mode = proto.BEET })
	one := []proto.Migration{move}
	for _, x := range []struct {
		name string
		dir  Dir
		have []Template
		ms   []proto.Migration
		want []Template // nil: no template
	}{
		{"tunnel", Out, []Template{esp}, one, []Template{moved}},
		{"in a tunnel", Out, []Template{transport, esp, ah}, one, []Template{transport, moved, ah}},
		{"two", Fwd, []Template{esp, esp}, one, []Template{moved, moved}},
		{"level and spi stay", In, []Template{with(func(t *Template) { t.Level, t.SPI = Use, 0x100 })}, one,
			[]Template{with(func(t *Template) { t.Level, t.SPI, t.Src, t.Dst = Use, 0x100, c, d })}},
		{"reqid", Out, []Template{esp}, []proto.Migration{moving(func(m *proto.Migration) { m.ReqID = 7 })}, []Template{moved}},
		{"another reqid", Out, []Template{esp}, []proto.Migration{moving(func(m *proto.Migration) { m.ReqID = 8 })}, nil},
		{"another mode", Out, []Template{beet}, one, nil},
		{"beet", Out, []Template{beet}, []proto.Migration{moving(func(m *proto.Migration) { m.Mode = proto.BEET })},
			[]Template{with(func(t *Template) { t.Src, t.Dst, t.Mode = c, d, proto.BEET })}},
		{"another proto", Out, []Template{esp}, []proto.Migration{moving(func(m *proto.Migration) { m.Proto = proto.AH })}, nil},
		{"another src", Out, []Template{esp}, []proto.Migration{moving(func(m *proto.Migration) { m.OldSrc = c })}, nil},
		{"another dst", Out, []Template{esp}, []proto.Migration{moving(func(m *proto.Migration) { m.OldDst = c })}, nil},
		{"any src", Out, []Template{with(func(t *Template) { t.Src = netip.Addr{} })}, one, nil},
		{"from ::", Out, []Template{with(func(t *Template) { t.Src = netip.Addr{} })},
			[]proto.Migration{moving(func(m *proto.Migration) { m.OldSrc = ip("::") })}, []Template{moved}},
		{"transport", Out, []Template{transport}, []proto.Migration{moving(func(m *proto.Migration) { m.Mode = proto.Transport })}, []Template{transport}},
		{"home address", Out, []Template{ro}, []proto.Migration{moving(func(m *proto.Migration) { m.Proto, m.Mode = proto.HAO, proto.RO })}, nil},
		{"no template", Out, nil, one, nil},
		{"the first", Out, []Template{esp}, []proto.Migration{
			move, moving(func(m *proto.Migration) { m.ReqID, m.NewSrc = 7, a }), moving(func(m *proto.Migration) { m.OldSrc, m.OldDst, m.NewSrc = c, d, a }),
		}, []Template{moved}},
	} {
		p := Policy{Dir: x.dir, Templates: x.have, Priority: 5, Name: "p"}
		before := slices.Clone(x.have)
		got, err := p.Migrated(x.ms)
		switch {
		case x.want == nil && !errors.Is(err, ErrNoTemplate):
			t.Errorf("%s: %v, %v", x.name, got, err)
		case x.want != nil && (err != nil || !slices.Equal(got.Templates, x.want) || got.Name != "p" || got.Priority != 5):
			t.Errorf("%s: %+v, %v, want %+v", x.name, got, err, x.want)
		}
		if !slices.Equal(p.Templates, before) {
			t.Errorf("%s: the policy itself is changed", x.name)
		}
	}
	p := Policy{Dir: Out, Templates: []Template{esp}}
	if _, err := p.Migrated([]proto.Migration{moving(func(m *proto.Migration) { m.NewSrc = ip("ff02::1") })}); err == nil ||
		err.Error() != "tmpl 1: src: ff02::1 is no address for an outer header" {
		t.Error(err)
	}
}

// TestReplace: a policy stands where it stood, for packets, in the list and by its index, and ends when it would have; what
// snapshots had stays, with few policies and with many.
func TestReplace(t *testing.T) {
	for _, n := range []int{3, 100} {
		u := &firstUse{}
		d := New([2]uint64{1, 2}, func() Usage { return u })
		var want []string
		esp := Template{Src: ip("fd00::a"), Dst: ip("fd00::b"), Proto: proto.ESP, Mode: proto.Tunnel}
		for i := range n {
			name := fmt.Sprint(i)
			want = append(want, name)
			q := Policy{Name: name, Dir: Out, Selector: sel(fmt.Sprintf("dst fd01::/%d", 10+i)), Templates: []Template{esp}}
			if i == n/2 {
				q.Lifetime = proto.Lifetime{SoftAdd: 5, HardAdd: 10}
			}
			mustAdd(t, d, q)
		}
		list := d.List()
		at := n - 1 - n/2 // the newest is listed first
		old := list[at]
		if soft := d.Expire(t0.Add(5*time.Second), nil); len(soft) != 1 || soft[0].Policy != old {
			t.Fatalf("told: %v", soft)
		}
		before := d.Snapshot()
		p, err := old.Migrated([]proto.Migration{{OldSrc: esp.Src, OldDst: esp.Dst, NewSrc: ip("fd00::c"), NewDst: ip("fd00::d"), Proto: proto.ESP, Mode: proto.Tunnel}})
		if err != nil {
			t.Fatal(err)
		}
		d.Replace(old, p)
		list[at] = p
		if got, err := d.Get(old.Key()); err != nil || got != p || !slices.Equal(d.List(), list) {
			t.Errorf("%d: not in its place: %v, %v", n, got, err)
		}
		if got, err := d.ByIndex(old.Index); err != nil || got != p || p.Added != old.Added || p.Usage != old.Usage {
			t.Errorf("%d: not with its index: %v, %v", n, got, err)
		}
		f := flow("fd02::1", "fd01::1", 17, 1, 2)
		if before.Gen() == d.Snapshot().Gen() || before.Lookup(Out, false, &f, 0).Templates[0] != esp {
			t.Errorf("%d: the snapshot has changed", n)
		}
		if soft := d.Expire(t0.Add(6*time.Second), nil); len(soft) != 0 || d.NextDeadline() != t0.Add(10*time.Second) || d.timers.Due(d.NextDeadline()).Item.policy != p {
			t.Errorf("%d: told again, or it does not end: %v", n, soft)
		}
		if got := found(t, d, Out, f); !slices.Equal(got, want) {
			t.Errorf("%d: order %v", n, got)
		}
	}
}
