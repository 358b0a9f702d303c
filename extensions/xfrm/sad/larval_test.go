package sad

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
)

func TestAcquire(t *testing.T) {
	db := newDB()
	tmpl := &Template{DAddr: addr2, SAddr: addr1, Proto: proto.ESP, Mode: proto.Tunnel, ReqID: 3}
	f := flow("fd01::1", "fd02::1")
	s, fresh, err := db.Acquire(t0, tmpl, f)
	if err != nil || !fresh || s.KM != Acq || s.Seq != 1 || s.SPI != 0 {
		t.Fatal(s, fresh, err)
	}
	if l := lab.List(s); l.Sel != "src fd01::1/128 dst fd02::1/128 proto udp sport 1 dport 2" || l.State != Acq {
		t.Errorf("listed %+v", l)
	}
	again, fresh, err := db.Acquire(t0.Add(29*time.Second), tmpl, flow("fd01::2", "fd02::2"))
	if again != s || fresh || err != nil {
		t.Error("a second one for the same template", again, fresh, err)
	}
	if s.Before(1) != Invalid {
		t.Error("a larval state takes packets")
	}
	if got := db.Expire(t0.Add(30*time.Second-1), nil); got != nil {
		t.Errorf("too early: %v", got)
	}
	if got := db.Expire(t0.Add(30*time.Second), nil); !slices.Equal(got, []Expire{{s, true}}) || db.Count() != 0 {
		t.Errorf("timeout: %v", got)
	}
	s, fresh, _ = db.Acquire(t0.Add(30*time.Second), tmpl, f)
	if !fresh || s.Seq != 2 {
		t.Error("not a new one after the timeout", s.Seq, fresh)
	}
	opaque := flow("10.0.0.1", "10.0.0.2")
	opaque.Opaque = true
	o, _, _ := db.Acquire(t0, &Template{DAddr: addr9, SAddr: addr1, Proto: proto.ESP, Mode: proto.Tunnel}, opaque)
	if l := lab.List(o); l.Sel != "src 10.0.0.1/32 dst 10.0.0.2/32 proto udp" {
		t.Errorf("listed %q", l.Sel)
	}
	mh := flow("fd01::1", "fd02::1")
	mh.Proto, mh.SPort, mh.DPort = wire.MH, 5, 0
	m, _, _ := db.Acquire(t0, &Template{DAddr: addr9, SAddr: addr1, Proto: proto.HAO, Mode: proto.InTrigger}, mh)
	if l := lab.List(m); l.Sel != "src fd01::1/128 dst fd02::1/128 proto mobility-header type 5" || l.Text(false) == "" {
		t.Errorf("listed %q", l.Sel)
	}
}

func TestAnswers(t *testing.T) {
	tmpl := &Template{DAddr: addr2, SAddr: addr1, Proto: proto.ESP, Mode: proto.Tunnel, ReqID: 3}
	for _, c := range []struct {
		name   string
		change func(*State)
		want   bool
	}{
		{"by seq", func(s *State) { s.Seq, s.ReqID = 1, 9 }, true},
		{"by seq of another destination", func(s *State) { s.Seq, s.DAddr = 1, addr9 }, false},
		{"by another seq, but for the template", func(s *State) { s.Seq, s.ReqID = 5, 3 }, true},
		{"for the template", func(s *State) { s.ReqID = 3 }, true},
		{"for another reqid", func(s *State) { s.ReqID = 4 }, false},
		{"of another mark", func(s *State) { s.ReqID, s.Mark = 3, Mark{1, 1} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := newDB()
			larval, _, err := db.Acquire(t0, tmpl, flow("fd01::1", "fd02::1"))
			if err != nil {
				t.Fatal(err)
			}
			s, replaced, err := db.Add(t0, with(esp(0x1000), c.change))
			if err != nil {
				t.Fatal(err)
			}
			if (replaced == larval) != c.want || larval.Live.Dead() != c.want || s.KM != Valid {
				t.Errorf("replaced %v", replaced)
			}
			if c.want && (db.NextDeadline() != clock.Never || db.Count() != 1 || len(db.waiting)+len(db.bySeq)+db.larval != 0) {
				t.Error("something of the larval state is left")
			}
		})
	}
}

// TestAnswersToHAO: a larval state of a protocol without an SPI has the key of its answer and is not in the way.
func TestAnswersToHAO(t *testing.T) {
	db := newDB()
	larval, _, err := db.Acquire(t0, &Template{DAddr: addr2, SAddr: addr1, Proto: proto.HAO, Mode: proto.RO}, flow("fd00::1", "fd00::2"))
	if err != nil {
		t.Fatal(err)
	}
	if db.Snapshot().ByAddrs(addr2, addr1, netip.Addr{}, proto.HAO, 0) != nil {
		t.Error("a larval state is found")
	}
	if _, replaced, err := db.Add(t0, hao("fd00::1", "fd00::9")); err != nil || replaced != larval || db.Count() != 1 {
		t.Error(replaced, err)
	}
}

func TestAllocSPIForAcquire(t *testing.T) {
	db := newDB()
	larval, _, err := db.Acquire(t0, &Template{DAddr: addr2, SAddr: addr1, Proto: proto.ESP, Mode: proto.Tunnel}, flow("fd00::1", "fd00::2"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := db.AllocSPI(t0, with(esp(0), func(s *State) { s.Seq = larval.Seq }), 0x100, 0x200, func() uint32 { return 5 })
	if err != nil || s.SPI != 0x105 || !larval.Live.Dead() || db.Count() != 1 {
		t.Fatal(s, err)
	}
	if list, err := db.Migrate([]Migration{{OldDst: addr2, OldSrc: addr1, NewDst: addr9, NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel}}, 0); err != nil || list != nil {
		t.Errorf("a larval state has moved: %v, %v", list, err)
	}
	if _, replaced, err := db.Add(t0, with(esp(0x1000), func(s *State) { s.Seq = larval.Seq })); err != nil || replaced != s {
		t.Error("not answered by its seq:", replaced, err)
	}
}

func TestLarvalBound(t *testing.T) {
	db := New(Options{MaxLarval: 2, AcqExpires: time.Second})
	acquire := func(reqid uint32) error {
		_, _, err := db.Acquire(t0, &Template{DAddr: addr2, SAddr: addr1, Proto: proto.ESP, ReqID: reqid}, flow("fd01::1", "fd02::1"))
		return err
	}
	if err := errors.Join(acquire(1), acquire(2), acquire(1)); err != nil {
		t.Error(err)
	}
	if err := acquire(3); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := db.AllocSPI(t0, esp(0), 256, 256, func() uint32 { return 0 }); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if n := len(db.Expire(t0.Add(time.Second), nil)); n != 2 {
		t.Errorf("%d expired after acq_expires", n)
	}
	if err := acquire(3); err != nil {
		t.Error(err)
	}
}

func TestAllocSPI(t *testing.T) {
	db := newDB()
	n := uint32(0)
	random := func() uint32 { n += 0x9e3779b9; return n }
	mustAdd(t, db, t0, with(esp(0x101), func(s *State) { s.Mark = Mark{1, 1} })) // taken, whatever the mark
	got := map[uint32]bool{}
	for range 7 {
		s, err := db.AllocSPI(t0, esp(0), 0x100, 0x107, random)
		if err != nil {
			t.Fatal(err)
		}
		got[s.SPI] = true
	}
	if len(got) != 7 || got[0x101] {
		t.Errorf("got %v", got)
	}
	_, err := db.AllocSPI(t0, esp(0), 0x100, 0x107, random)
	mustErr(t, err, "No such file or directory")
	if _, err := db.AllocSPI(t0, with(esp(0), func(s *State) { s.DAddr = addr9 }), 0x100, 0x107, random); err != nil {
		t.Error("of another destination:", err)
	}
	if s, err := db.AllocSPI(t0, esp(0), 0x100, 1<<32-1, random); err != nil || s.SPI < 0x100 {
		t.Error(s, err)
	}
	_, err = db.AllocSPI(t0, esp(0), 255, 0x107, random)
	mustErr(t, err, "Invalid argument: SPIs of esp from 255 to 263")

	_, _, err = db.Add(t0, esp(0x100))
	mustErr(t, err, "File exists") // as Linux: it is for an update
	sn := db.Snapshot()
	if s := sn.ByID(addr2, addr1, 0x100, proto.ESP, 0); s == nil || s.KM != Acq {
		t.Error("the larval state is not found by its SPI")
	}
	s, err := db.Update(t0, esp(0x100))
	if err != nil || s.KM != Valid || db.Snapshot().ByID(addr2, addr1, 0x100, proto.ESP, 0) != s {
		t.Error(s, err)
	}
	if n, _ := s.NextSeq(); n != 1 {
		t.Errorf("the first number is %d", n)
	}
	if _, err := db.Delete(ID{addr2, 0x102, proto.ESP}, netip.Addr{}, Mark{}); err != nil {
		t.Error("a larval state with an SPI is not to be deleted:", err)
	}
	if n := len(db.Expire(t0.Add(30*time.Second), nil)); n != 7 {
		t.Errorf("%d larval states end", n)
	}
}

func TestMigrate(t *testing.T) {
	db := newDB()
	add := func(spi uint32, change func(*State)) *State {
		return mustAdd(t, db, t0, with(esp(spi), func(s *State) {
			s.ReplayWindow, s.ReplaySeq, s.ReplayOSeq, s.Life.HardAdd = 32, 7, 8, 100
			change(s)
		}))
	}
	a := add(0x1000, func(s *State) { s.ReqID = 1 })
	add(0x1001, func(s *State) { s.ReqID = 2 })
	add(0x1002, func(s *State) { s.Mode = proto.Transport })
	add(0x1003, func(s *State) { s.DAddr = addr9 })
	m := Migration{OldDst: addr2, OldSrc: addr1, NewDst: addr9, NewSrc: addr("fd00::11"), Proto: proto.ESP, Mode: proto.Tunnel, ReqID: 1}
	change := func(f func(*Migration)) Migration { c := m; f(&c); return c }
	before, order := db.Snapshot(), db.List()
	for _, c := range []struct {
		name string
		ms   []Migration
		want string
	}{
		{"none", nil, "Invalid argument: 0 migrations, want 1 to 6"},
		{"seven", make([]Migration, 7), "Invalid argument: 7 migrations, want 1 to 6"},
		{"twice", []Migration{m, change(func(m *Migration) { m.NewDst = addr("fd00::12") })}, "Invalid argument: the same states twice"},
		{"to ::", []Migration{change(func(m *Migration) { m.NewDst = addr("::") })}, "Invalid argument: migration to src fd00::11 dst ::"},
		{"from nowhere", []Migration{change(func(m *Migration) { m.OldSrc = netip.Addr{} })}, "Invalid argument: migration from src invalid IP dst fd00::2"},
		{"hao", []Migration{change(func(m *Migration) { m.Proto, m.Mode = proto.HAO, proto.RO })}, "Invalid argument: migration of proto hao, want esp or ah"},
		{"to v4", []Migration{change(func(m *Migration) { m.NewSrc = addr("10.0.0.1") })}, "Invalid argument: migration to src 10.0.0.1 dst fd00::9"},
	} {
		_, err := db.Migrate(c.ms, 0)
		mustErr(t, err, c.want)
	}
	add(0x1000, func(s *State) { s.DAddr = addr9 }) // in the way
	_, err := db.Migrate([]Migration{m}, 0)
	mustErr(t, err, "File exists: spi 0x1000 at fd00::9")
	if _, err := db.Delete(ID{addr9, 0x1000, proto.ESP}, netip.Addr{}, Mark{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(db.List(), order) {
		t.Error("what was refused has changed something")
	}

	a.NextSeq()
	a.Live.Count(t0, 10)
	list, err := db.Migrate([]Migration{m}, 0)
	if err != nil || len(list) != 1 || list[0].Old != a {
		t.Fatal(list, err)
	}
	moved := list[0].New
	if moved.DAddr != addr9 || moved.SAddr != addr("fd00::11") || moved.SPI != 0x1000 || !moved.AEAD.Equal(a.AEAD) || moved.Live.Work != fixedWindow(7) {
		t.Errorf("moved %+v", moved)
	}
	n1, _ := moved.NextSeq()
	n2, _ := a.NextSeq() // by a worker that has the old snapshot
	n3, _ := moved.NextSeq()
	if n, p := moved.Live.Counted(); n1 != 10 || n2 != 11 || n3 != 12 || n != 10 || p != 1 {
		t.Errorf("numbers %d, %d, %d; %d octets", n1, n2, n3, n)
	}
	after := db.Snapshot()
	if before.ByID(addr2, addr1, 0x1000, proto.ESP, 0) != a || before.ByID(addr9, addr1, 0x1000, proto.ESP, 0) != nil ||
		after.ByID(addr2, addr1, 0x1000, proto.ESP, 0) != nil || after.ByID(addr9, addr1, 0x1000, proto.ESP, 0) != moved || after.Genid() == before.Genid() {
		t.Error("the snapshots are not before and after")
	}
	if l := db.List(); l[0] != moved || len(l) != 4 {
		t.Error("it is not listed first")
	}
	if got := db.Expire(t0.Add(100*time.Second), nil); len(got) != 4 || db.Count() != 0 {
		t.Errorf("lifetimes did not go on: %v", got)
	}
}

// TestMigrateAll: reqid 0 takes all, and two that change places are not in each other's way.
func TestMigrateAll(t *testing.T) {
	db := newDB()
	for i := range uint32(10) {
		mustAdd(t, db, t0, with(esp(0x1000+i), func(s *State) { s.ReqID = i }))
		mustAdd(t, db, t0, with(esp(0x1000+i), func(s *State) { s.DAddr, s.ReqID = addr9, i+100 }))
	}
	list, err := db.Migrate([]Migration{
		{OldDst: addr2, OldSrc: addr1, NewDst: addr9, NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel},
		{OldDst: addr9, OldSrc: addr1, NewDst: addr2, NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel},
	}, 0)
	if err != nil || len(list) != 20 {
		t.Fatal(len(list), err)
	}
	sn := db.Snapshot()
	for i := range uint32(10) {
		if a, b := sn.ByID(addr9, addr1, 0x1000+i, proto.ESP, 0), sn.ByID(addr2, addr1, 0x1000+i, proto.ESP, 0); a == nil || b == nil || a.ReqID != i || b.ReqID != i+100 {
			t.Errorf("%d: %v, %v", i, a, b)
		}
	}
	_, err = db.Migrate([]Migration{
		{OldDst: addr2, OldSrc: addr1, NewDst: addr("fd00::3"), NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel},
		{OldDst: addr9, OldSrc: addr1, NewDst: addr("fd00::3"), NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel},
	}, 0)
	if !errors.Is(err, ErrExist) || db.Snapshot() != sn {
		t.Errorf("two to one place: %v", err)
	}
	if list, err := db.Migrate([]Migration{{OldDst: addr("fd00::7"), OldSrc: addr1, NewDst: addr2, NewSrc: addr1, Proto: proto.ESP}}, 0); err != nil || list != nil {
		t.Errorf("none: %v, %v", list, err)
	}
}

// TestMigrateByIfID: a policy of an interface has no business with the states of others.
func TestMigrateByIfID(t *testing.T) {
	db := newDB()
	for i := range uint32(3) {
		mustAdd(t, db, t0, with(esp(0x1000+i), func(s *State) { s.IfID = i }))
	}
	m := Migration{OldDst: addr2, OldSrc: addr1, NewDst: addr9, NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel}
	if list, err := db.Migrate([]Migration{m}, 2); err != nil || len(list) != 1 || list[0].New.IfID != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := db.Migrate([]Migration{m}, 0); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}
