package pins

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

const start = clock.Instant(1000 * time.Second)

func flow(h uint64) *Flow {
	return &Flow{Hash: h * 0x9e3779b97f4a7c15, Src: [16]byte{15: byte(h)}, Dst: [16]byte{14: byte(h >> 8), 15: byte(h)}}
}

func newCache(entries int) *Cache {
	return New(entries, time.Minute, Counters{&module.Counter{}, &module.Counter{}, &module.Counter{}, &module.Counter{}})
}

// pin makes a flow one that was used twice.
func pin(c *Cache, f *Flow, member uint32, now clock.Instant) {
	c.Choose(f, member, now)
	c.Lookup(f, now)
}

// TestSecondPacketSeesTheFirstsChoice, and admits the flow; the third finds it.
func TestSecondPacketSeesTheFirstsChoice(t *testing.T) {
	c, f := newCache(64), flow(7)
	if _, ok := c.Lookup(f, start); ok {
		t.Fatal("found before it was chosen")
	}
	c.Choose(f, 5, start)
	if n := len(c.All(start)); n != 0 {
		t.Errorf("%d pinned after one packet", n)
	}
	for i := range 3 {
		if m, ok := c.Peek(f, start); !ok || m != 5 {
			t.Errorf("peek %d: %d %v", i, m, ok)
		}
		if m, ok := c.Lookup(f, start); !ok || m != 5 {
			t.Errorf("packet %d: %d %v", i+2, m, ok)
		}
	}
	if all := c.All(start); len(all) != 1 || all[0].Member != 5 || all[0].Dst.As16() != f.Dst || all[0].Src.As16() != f.Src {
		t.Errorf("%+v", all)
	}
	if n := c.count.New.Value(); n != 1 {
		t.Errorf("%d admitted", n)
	}
	c.Choose(f, 6, start) // the router is gone
	if m, ok := c.Lookup(f, start); !ok || m != 6 {
		t.Errorf("after another choice: %d %v", m, ok)
	}
}

// TestIdleFlowsAreForgotten, just after idle; use renews them.
func TestIdleFlowsAreForgotten(t *testing.T) {
	c, f := newCache(64), flow(7)
	pin(c, f, 5, start)
	for i := 1; i < 4; i++ {
		if _, ok := c.Lookup(f, start.Add(time.Duration(i)*time.Minute)); !ok {
			t.Fatalf("forgotten in use, minute %d", i)
		}
	}
	late := start.Add(4*time.Minute + time.Second)
	if len(c.All(late)) != 0 {
		t.Error("still listed")
	}
	if _, ok := c.Lookup(f, late); ok || c.count.Stale.Value() != 1 {
		t.Errorf("found when idle for too long; stale %d", c.count.Stale.Value())
	}
	c.Choose(f, 5, start)
	if _, ok := c.Lookup(f, late); ok {
		t.Error("probation has no end")
	}
}

// TestAScanEvictsNothing: a million flows of one packet each leave those in place that had two, also
// when these have been quiet for some seconds.
func TestAScanEvictsNothing(t *testing.T) {
	c := newCache(16384)
	r := rand.New(rand.NewPCG(1, 1))
	var mine []*Flow
	for len(mine) < 1000 {
		f := flow(r.Uint64())
		pin(c, f, uint32(len(mine)), start)
		mine = append(mine, f)
	}
	pinned := len(c.All(start))
	now := start.Add(5 * time.Second)
	for range 1_000_000 {
		f := flow(r.Uint64())
		if _, ok := c.Lookup(f, now); !ok {
			c.Choose(f, 9, now)
		}
	}
	if n := len(c.All(now)); n != pinned || c.count.Evicted.Value() != 0 {
		t.Errorf("%d pinned, then %d; %d evicted", pinned, n, c.count.Evicted.Value())
	}
	for i, f := range mine {
		if m, ok := c.Lookup(f, now); !ok || m != uint32(i) {
			t.Fatalf("flow %d: %d %v", i, m, ok)
		}
	}
}

// TestFullSet: the flow that has been idle longest goes; those in use stay, and the new one is refused.
func TestFullSet(t *testing.T) {
	c := newCache(1) // one set
	fs := make([]*Flow, 6)
	for i := range fs {
		fs[i] = &Flow{Hash: uint64(i+1) << 32}
	}
	for i, f := range fs[:4] {
		pin(c, f, uint32(i), start.Add(time.Duration(i)*time.Second))
	}
	now := start.Add(4 * time.Second)
	pin(c, fs[4], 4, now)
	if _, ok := c.Peek(fs[0], now); ok || c.count.Evicted.Value() != 1 {
		t.Errorf("the oldest is still there; %d evicted", c.count.Evicted.Value())
	}
	for _, f := range fs[1:5] {
		if _, ok := c.Lookup(f, now); !ok {
			t.Error("another one went")
		}
	}
	pin(c, fs[5], 5, now)
	if c.count.Refused.Value() != 1 || len(c.All(now)) != 4 {
		t.Errorf("refused %d, pinned %d", c.count.Refused.Value(), len(c.All(now)))
	}
	if m, ok := c.Lookup(fs[5], now); !ok || m != 5 {
		t.Error("who is refused has lost its choice")
	}
	if n := c.Flush(); n != 4 || len(c.All(now)) != 0 {
		t.Errorf("flushed %d", n)
	}
}

// TestWorkersTogether: each flow gets a member that was chosen for it.
func TestWorkersTogether(t *testing.T) {
	c := newCache(4096)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 20_000 {
				h := uint64(1 + r.IntN(500))
				f := flow(h)
				if m, ok := c.Lookup(f, start); !ok {
					c.Choose(f, uint32(h), start)
				} else if m != uint32(h) {
					t.Errorf("flow %d has member %d", h, m)
					return
				}
			}
		}()
	}
	wg.Wait()
}

// TestNoAllocation.
func TestNoAllocation(t *testing.T) {
	c, f := newCache(64), flow(7)
	if n := testing.AllocsPerRun(100, func() { c.Lookup(f, start); c.Choose(f, 1, start) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	c, f := newCache(16384), flow(7)
	pin(c, f, 1, start)
	for b.Loop() {
		c.Lookup(f, start)
	}
}
