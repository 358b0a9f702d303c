package sad

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
)

func TestBefore(t *testing.T) {
	type step struct {
		size int // of the packet, counted if it passes
		want Verdict
	}
	for _, c := range []struct {
		name  string
		life  Lifetime
		steps []step
	}{
		{"no limits", Lifetime{}, []step{{100, Ok}, {math.MaxInt, Ok}, {100, Ok}}},
		{"octets", Lifetime{SoftBytes: 100, HardBytes: 250}, []step{{99, Ok}, {1, Ok}, {100, SoftReached}, {50, Ok}, {1, HardReached}, {1, HardExpired}}},
		{"the packet that is too much", Lifetime{HardBytes: 250}, []step{{200, Ok}, {51, HardReached}, {51, HardExpired}, {50, Ok}, {1, HardExpired}}},
		{"packets", Lifetime{SoftPackets: 1, HardPackets: 2}, []step{{1, Ok}, {1, SoftReached}, {1, HardReached}, {1, HardExpired}}},
		{"soft above hard", Lifetime{SoftPackets: 5, HardPackets: 1}, []step{{1, Ok}, {1, HardReached}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustAdd(t, newDB(), t0, with(esp(0x1000), func(s *State) { s.Life = c.life }))
			for i, st := range c.steps {
				got := s.Before(st.size)
				if got != st.want {
					t.Errorf("packet %d: %d, want %d", i, got, st.want)
				}
				if got <= SoftReached {
					s.Live.Count(t0, st.size)
				}
			}
		})
	}
}

func TestReached(t *testing.T) {
	db := newDB()
	add := func() *State {
		return mustAdd(t, db, t0, with(esp(0x1000), func(s *State) { s.Life = Lifetime{SoftPackets: 1, HardPackets: 2} }))
	}
	s := add()
	s.Live.Count(t0, 1)
	if v := s.Before(1); v != SoftReached {
		t.Fatal(v)
	}
	s.Live.Again() // the mailbox was full
	if v := s.Before(1); v != SoftReached {
		t.Fatal(v)
	}
	if got := db.Reached(s, SoftReached, nil); !slices.Equal(got, []Expire{{s, false}}) {
		t.Errorf("soft: %v", got)
	}
	if got := db.Reached(s, SoftReached, nil); got != nil {
		t.Errorf("soft again: %v", got)
	}
	s.Live.Again()
	s.Live.Count(t0, 1)
	if v := s.Before(1); v != HardReached {
		t.Fatal(v)
	}
	next, err := db.Update(t0, esp(0x1000)) // no limits
	if err != nil {
		t.Fatal(err)
	}
	if got := db.Reached(s, HardReached, nil); got != nil || next.Before(1) != Ok {
		t.Errorf("hard after an update took it away: %v", got)
	}
	if next, err = db.Update(t0, with(esp(0x1000), func(s *State) { s.Life.HardPackets = 2 })); err != nil || next.Before(1) != HardReached {
		t.Fatal("not reached", err)
	}
	if got := db.Reached(s, HardReached, nil); !slices.Equal(got, []Expire{{next, true}}) || db.Count() != 0 {
		t.Errorf("hard: %v", got)
	}
	if got := db.Reached(s, HardReached, nil); got != nil || next.Before(1) != Invalid || s.Before(1) != Invalid {
		t.Errorf("hard again: %v", got)
	}
	other := add()
	if other.Live.Dead() || other.Before(1) != Ok {
		t.Error("the next of the same SPI has something of the last one")
	}
}

func TestNextSeq(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*State)
		oseq   uint64
		want   uint64 // 0 = none
	}{
		{"first", func(*State) {}, 0, 1},
		{"last", func(*State) {}, 1<<32 - 2, 1<<32 - 1},
		{"cycle", func(*State) {}, 1<<32 - 1, 0},
		{"cycle allowed", func(s *State) { s.Extra = OSeqMayWrap }, 1<<32 - 1, 1 << 32},
		{"esn", func(s *State) { s.Flags, s.ReplayWindow = ESN, 32 }, 1<<32 - 1, 1 << 32},
		{"esn, last", func(s *State) { s.Flags, s.ReplayWindow = ESN, 32 }, math.MaxUint64 - 1, math.MaxUint64},
		{"esn, cycle", func(s *State) { s.Flags, s.ReplayWindow = ESN, 32 }, math.MaxUint64, 0},
		{"never cycles", func(s *State) { s.Extra = OSeqMayWrap }, math.MaxUint64, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := newDB()
			s := mustAdd(t, db, t0, with(esp(0x1000), c.change))
			s.Live.oseq.Store(c.oseq)
			n, v := s.NextSeq()
			if n != c.want || (v == Ok) != (c.want != 0) {
				t.Errorf("%d, %d", n, v)
			}
			if c.want != 0 {
				return
			}
			if v != SeqReached || s.Live.OSeq() != c.oseq {
				t.Errorf("%d, and the counter is %d", v, s.Live.OSeq())
			}
			if n, v := s.NextSeq(); n != 0 || v != SeqExpired {
				t.Errorf("then %d, %d", n, v)
			}
			if got := db.Reached(s, SeqReached, nil); !slices.Equal(got, []Expire{{s, false}}) {
				t.Errorf("effects %v", got)
			}
		})
	}
}

const year = 365 * 24 * time.Hour

func TestExpire(t *testing.T) {
	type event struct {
		at   time.Duration
		hard bool
	}
	for _, c := range []struct {
		name string
		life Lifetime
		used time.Duration // when it is first used; 0 = never
		want []event
	}{
		{"never", Lifetime{}, 0, nil},
		{"from addition", Lifetime{SoftAdd: 50, HardAdd: 60}, 0, []event{{50 * time.Second, false}, {60 * time.Second, true}}},
		{"hard before soft", Lifetime{SoftAdd: 60, HardAdd: 60}, 0, []event{{60 * time.Second, true}}},
		{"soft only", Lifetime{SoftAdd: 60}, 0, []event{{60 * time.Second, false}}},
		{"not used", Lifetime{SoftUse: 5, HardUse: 7}, 0, nil},
		{"from use", Lifetime{SoftUse: 5, HardUse: 7}, 33 * time.Second, []event{{38 * time.Second, false}, {40 * time.Second, true}}},
		{"hard from use", Lifetime{HardUse: 7}, 100 * time.Second, []event{{107 * time.Second, true}}},
		{"the earlier", Lifetime{HardUse: 7, HardAdd: 100, SoftUse: 20, SoftAdd: 102}, 96 * time.Second, []event{{100 * time.Second, true}}},
		{"soft told once", Lifetime{SoftUse: 5, SoftAdd: 10}, 2 * time.Second, []event{{7 * time.Second, false}}},
		{"years", Lifetime{HardAdd: uint64(100 * year / time.Second)}, 0, []event{{100 * year, true}}},
		{"beyond time", Lifetime{HardAdd: math.MaxUint64, SoftUse: math.MaxUint64 - 1}, time.Second, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := newDB()
			s := mustAdd(t, db, t0, with(esp(0x1000), func(s *State) { s.Life = c.life }))
			var got []event
			steps, now := 0, t0
			for end := t0.Add(200 * year); ; steps++ {
				next := clock.Earliest(db.NextDeadline(), end)
				if use := t0.Add(c.used); c.used != 0 && now < use && use < next {
					next = use
				}
				if next == end || steps > 1000 {
					break
				}
				if now = next; c.used != 0 && now == t0.Add(c.used) {
					s.Live.Count(now, 1) // nobody is told
				}
				for _, e := range db.Expire(now, nil) {
					got = append(got, event{now.Sub(t0), e.Hard})
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if gone := slices.ContainsFunc(c.want, func(e event) bool { return e.hard }); gone != s.Live.Dead() || gone != (db.Count() == 0) {
				t.Errorf("dead %t, %d states", s.Live.Dead(), db.Count())
			}
		})
	}
}

func TestExpireInOrder(t *testing.T) {
	db := newDB()
	for i := range uint32(100) {
		mustAdd(t, db, t0, with(esp(0x1000+i), func(s *State) { s.Life.HardAdd = uint64(1 + i*37%100) }))
	}
	if _, err := db.Delete(ID{addr2, 0x1000, proto.ESP}, addr1, Mark{}); err != nil { // that of 1 s
		t.Fatal(err)
	}
	if d := db.NextDeadline(); d != t0.Add(2*time.Second) {
		t.Errorf("next in %s", d.Sub(t0))
	}
	if _, err := db.Update(t0, with(esp(0x1001), func(s *State) { s.Life.HardAdd = 1 })); err != nil {
		t.Fatal(err)
	}
	var last uint64
	n := 0
	for _, e := range db.Expire(t0.Add(time.Hour), nil) { // late, all at once
		if e.State.Life.HardAdd < last {
			t.Error("out of order")
		}
		last = e.State.Life.HardAdd
		n++
	}
	if n != 99 || db.Count() != 0 || db.NextDeadline() != clock.Never {
		t.Errorf("%d expired, %d left", n, db.Count())
	}
}

// TestWorkers: numbers are taken once each, whatever the owner does meanwhile. For the race detector too.
func TestWorkers(t *testing.T) {
	db := newDB()
	first := mustAdd(t, db, t0, with(esp(0x1000), func(s *State) { s.Life.SoftPackets = 100 }))
	seen := make([][]uint64, 4)
	told := make([]int, 4)
	var wg sync.WaitGroup
	cur := db.Snapshot()
	var mu sync.RWMutex
	for w := range seen {
		wg.Go(func() {
			f := flow("fd01::1", "fd02::1")
			for range 2000 {
				mu.RLock()
				sn := cur
				mu.RUnlock()
				s, _ := sn.ForTemplate(&Template{DAddr: addr2, SAddr: addr1, Proto: proto.ESP, Mode: proto.Tunnel}, f)
				if s == nil {
					s, _ = sn.ForTemplate(&Template{DAddr: addr9, SAddr: addr1, Proto: proto.ESP, Mode: proto.Tunnel}, f)
				}
				if s.Before(10) == SoftReached {
					told[w]++
				}
				n, _ := s.NextSeq()
				seen[w] = append(seen[w], n)
				s.Live.Count(t0, 10)
			}
		})
	}
	at := addr2
	for i := range 200 {
		to := addr9
		if at == addr9 {
			to = addr2
		}
		if _, err := db.Migrate([]Migration{{OldDst: at, OldSrc: addr1, NewDst: to, NewSrc: addr1, Proto: proto.ESP, Mode: proto.Tunnel}}, 0); err != nil {
			t.Error(err)
		}
		at = to
		for k := range uint32(5) {
			mustAdd(t, db, t0, with(esp(0x2000+uint32(i)*5+k), func(s *State) { s.DAddr = addr("fd00::3") }))
		}
		mu.Lock()
		cur = db.Snapshot()
		mu.Unlock()
	}
	wg.Wait()
	all := slices.Concat(seen...)
	slices.Sort(all)
	for i, n := range all {
		if n != uint64(i)+1 {
			t.Fatalf("number %d is %d", i, n)
		}
	}
	if n, p := first.Live.Counted(); n != 80_000 || p != 8000 {
		t.Errorf("%d octets, %d packets", n, p)
	}
	if n := told[0] + told[1] + told[2] + told[3]; n != 1 {
		t.Errorf("the soft limit was told %d times", n)
	}
}
