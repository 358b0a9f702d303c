package nud

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"leveret/appliance/clock"
)

var (
	peer = netip.MustParseAddr("fe80::2")
	lla1 = LLA{2, 0, 0, 0, 0, 1}
	lla2 = LLA{2, 0, 0, 0, 0, 2}
)

func vars() Vars {
	return Vars{
		ReachableTime: 30 * time.Second, RetransTimer: time.Second, DelayFirstProbeTime: 5 * time.Second,
		MaxMulticastSolicit: 3, MaxUnicastSolicit: 3, MaxNeighbors: 4096, MaxUnresolved: 256, QueuePackets: 3,
	}
}

const start = clock.Instant(1e9)

func newCache(v Vars) *Cache { return New(start, v, func() float64 { return 0.5 }) }

// in brings a cache's entry for peer into a state, with lla1 where it has an address.
func in(t *testing.T, s State) *Cache {
	t.Helper()
	c := newCache(vars())
	switch s {
	case None:
	case Incomplete:
		c.Send(start, peer, "p0", nil)
	case Unreachable:
		c.Set(start, peer, Probe, lla1, false, nil)
		c.Used(start+1, peer, nil)
		for range 4 {
			c.Tick(c.Deadline(), nil)
		}
	case Failed:
		c.Send(start, peer, "p0", nil)
		for range 3 {
			c.Tick(c.Deadline(), nil)
		}
	default:
		c.Set(start, peer, s, lla1, false, nil)
	}
	if got := stateOf(c); got != s {
		t.Fatalf("prepared %s, want %s", got, s)
	}
	return c
}

func stateOf(c *Cache) State {
	if e := c.Get(peer); e != nil {
		return e.State
	}
	return None
}

func kinds(es []Effect) (out []EffectKind) {
	for _, e := range es {
		out = append(out, e.Kind)
	}
	return out
}

var notConfirmed = []State{Stale, Delay, Probe, Unreachable}
var withAddress = []State{Reachable, Stale, Delay, Probe, Unreachable}

// TestRows is the table of the states and events of RFC 4861 Appendix C and the sections it sums
// up, row by row.
func TestRows(t *testing.T) {
	yes, no := true, false
	na := func(a Advert) func(*Cache) []Effect {
		a.Target = peer
		return func(c *Cache) []Effect { return c.NA(start+1, a, nil) }
	}
	hint := func(l LLA, router *bool) func(*Cache) []Effect {
		return func(c *Cache) []Effect { return c.Hint(start+1, peer, l, router, nil) }
	}
	tick := func(c *Cache) []Effect { return c.Tick(c.Deadline(), nil) }
	last := func(c *Cache) (es []Effect) {
		for s := stateOf(c); stateOf(c) == s; {
			es = c.Tick(c.Deadline(), nil)
		}
		return es
	}
	used := func(c *Cache) []Effect {
		d := c.Deadline()
		c.Used(d-1, peer, nil)
		return c.Tick(d, nil)
	}
	lastUsed := func(c *Cache) []Effect {
		c.Used(start+1, peer, nil)
		return last(c)
	}
	send := func(c *Cache) []Effect { return c.Send(start+1, peer, "p", nil) }
	for _, r := range []struct {
		row   string
		from  []State
		event func(*Cache) []Effect
		to    State // numStates = unchanged
		want  []EffectKind
		lla   LLA // the address afterwards, where there is one
	}{
		{"1 packet to send", []State{None}, send, Incomplete, []EffectKind{Changed, SolicitMulticast}, LLA{}},
		{"2 retransmission", []State{Incomplete}, tick, Incomplete, []EffectKind{SolicitMulticast}, LLA{}},
		{"3 no answer", []State{Incomplete}, last, Failed, []EffectKind{Changed, GiveUp}, LLA{}},
		{"4 NA S=0", []State{Incomplete}, na(Advert{LLA: lla1, HasLLA: true, Override: true, Router: true}), Stale, []EffectKind{Changed, Changed, Release}, lla1},
		{"5 NA S=1", []State{Incomplete}, na(Advert{LLA: lla1, HasLLA: true, Solicited: true}), Reachable, []EffectKind{Changed, Release}, lla1},
		{"6 NA without an address", []State{Incomplete}, na(Advert{Solicited: true, Override: true, Router: true}), numStates, nil, LLA{}},
		{"7 NA S=1 O=0 same", withAddress, na(Advert{LLA: lla1, HasLLA: true, Solicited: true}), Reachable, nil, lla1},
		{"8 NA S=1 without an address", withAddress, na(Advert{Solicited: true}), Reachable, nil, lla1},
		{"8b NA S=0 without an address", withAddress, na(Advert{}), numStates, []EffectKind{}, lla1},
		{"9 NA O=0 other, S=1", []State{Reachable}, na(Advert{LLA: lla2, HasLLA: true, Solicited: true, Router: true}), Stale, []EffectKind{Changed}, lla1},
		{"9 NA O=0 other, S=0", []State{Reachable}, na(Advert{LLA: lla2, HasLLA: true, Router: true}), Stale, []EffectKind{Changed}, lla1},
		{"10 NA O=0 other", notConfirmed, na(Advert{LLA: lla2, HasLLA: true, Solicited: true, Router: true}), numStates, []EffectKind{}, lla1},
		{"11 NA S=1 O=1 other", withAddress, na(Advert{LLA: lla2, HasLLA: true, Solicited: true, Override: true}), Reachable, []EffectKind{Changed}, lla2},
		{"12 NA S=0 O=1 same", withAddress, na(Advert{LLA: lla1, HasLLA: true, Override: true, Router: true}), numStates, []EffectKind{Changed}, lla1},
		{"13 NA S=0 O=1 other", withAddress, na(Advert{LLA: lla2, HasLLA: true, Override: true}), Stale, []EffectKind{Changed}, lla2},
		{"13b NA S=0 O=0 same", withAddress, na(Advert{LLA: lla1, HasLLA: true, Router: true}), numStates, []EffectKind{Changed}, lla1},
		{"14 upper-layer confirmation", withAddress, func(c *Cache) []Effect { return c.Confirm(start+1, peer, nil) }, Reachable, nil, lla1},
		{"15 ReachableTime over", []State{Reachable}, tick, Stale, []EffectKind{Changed}, lla1},
		{"16 packet sent", []State{Stale}, send, Delay, []EffectKind{Release, Changed}, lla1},
		{"17 delay over", []State{Delay}, tick, Probe, []EffectKind{Changed, SolicitUnicast}, lla1},
		{"18 probe again", []State{Probe}, tick, Probe, []EffectKind{SolicitUnicast}, lla1},
		{"19 no answer, and nobody sends", []State{Probe}, last, None, []EffectKind{Removed}, LLA{}},
		{"19 no answer to who is in use (RFC 7048)", []State{Probe}, lastUsed, Unreachable, []EffectKind{Changed, SolicitMulticast}, lla1},
		{"UNREACHABLE and in use", []State{Unreachable}, used, Unreachable, []EffectKind{Changed, SolicitMulticast}, lla1},
		{"UNREACHABLE and out of use", []State{Unreachable}, tick, None, []EffectKind{Removed}, LLA{}},
		{"packets go to UNREACHABLE ones", []State{Unreachable}, send, Unreachable, []EffectKind{Release}, lla1},
		{"20 hint about an unknown neighbor", []State{None}, hint(lla1, nil), Stale, []EffectKind{Changed}, lla1},
		{"21 hint while resolving", []State{Incomplete}, hint(lla1, nil), Stale, []EffectKind{Changed, Release}, lla1},
		{"22 hint with another address", withAddress, hint(lla2, nil), Stale, []EffectKind{Changed}, lla2},
		{"23 hint with the same address", withAddress, hint(lla1, nil), numStates, []EffectKind{}, lla1},
		{"23 RA with the same address: a router", withAddress, hint(lla1, &yes), numStates, []EffectKind{Changed}, lla1},
		{"23 RS with the same address: no router", withAddress, hint(lla1, &no), numStates, []EffectKind{}, lla1},
		{"25 NA about an unknown neighbor", []State{None}, na(Advert{LLA: lla1, HasLLA: true, Solicited: true, Override: true}), None, nil, LLA{}},
		{"an operator's entry holds", []State{Permanent, NoARP}, na(Advert{LLA: lla2, HasLLA: true, Solicited: true, Override: true}), numStates, nil, lla1},
		{"a failed resolution is remembered", []State{Failed}, send, Failed, []EffectKind{Dropped}, LLA{}},
		{"and forgotten", []State{Failed}, tick, None, []EffectKind{Removed}, LLA{}},
	} {
		for _, from := range r.from {
			t.Run(r.row+" in "+from.String(), func(t *testing.T) {
				c := in(t, from)
				got := r.event(c)
				to := r.to
				if to == numStates {
					to = from
				}
				if s := stateOf(c); s != to {
					t.Errorf("state %s, want %s", s, to)
				}
				if r.want != nil && !slices.Equal(kinds(got), r.want) {
					t.Errorf("effects %v, want %v", kinds(got), r.want)
				}
				if e := c.Get(peer); e != nil && e.LLA != r.lla {
					t.Errorf("address % x, want % x", e.LLA, r.lla)
				}
			})
		}
	}
}

// TestRemovedSaysWhetherItAnswered: of an entry that was probed in vain it is known that the neighbor does not
// answer; of one that an operator took away, whatever its state, it is not.
func TestRemovedSaysWhetherItAnswered(t *testing.T) {
	last := func(es []Effect) Effect { return es[len(es)-1] }
	c := in(t, Probe)
	var es []Effect
	for c.Get(peer) != nil {
		es = c.Tick(c.Deadline(), nil)
	}
	if e := last(es); e.Kind != Removed || e.Old != Probe || e.Why != "" {
		t.Errorf("probed in vain: %+v", e)
	}
	es, _ = in(t, Probe).Delete(peer, nil)
	if e := last(es); e.Kind != Removed || e.Old != Probe || e.Why != WhyFlushed {
		t.Errorf("deleted: %+v", e)
	}
}

// TestProbesEndAfterThree: row 19.
func TestProbesEndAfterThree(t *testing.T) {
	c := in(t, Delay)
	now, sent := start, 0
	for c.Get(peer) != nil {
		now = c.Deadline()
		for _, e := range c.Tick(now, nil) {
			if e.Kind == SolicitUnicast {
				sent++
			}
		}
	}
	if sent != 3 || now != start.Add(5*time.Second+3*time.Second) {
		t.Errorf("%d probes, gone after %s", sent, now.Sub(start))
	}
}

// TestNeighborDisappears is the whole way at the RFC's times: REACHABLE 30 s, STALE until a packet,
// DELAY 5 s, three probes a second apart, gone.
func TestNeighborDisappears(t *testing.T) {
	c := newCache(vars())
	var log []string
	note := func(now clock.Instant, es []Effect) {
		for _, e := range es {
			if e.Kind == Changed || e.Kind == Removed {
				s := "gone"
				if e.Kind == Changed {
					s = e.Entry.State.String()
				}
				log = append(log, now.Sub(start).String()+" "+s)
			}
		}
	}
	note(start, c.Send(start, peer, "p", nil))
	note(start.Add(time.Second/2), c.NA(start.Add(time.Second/2), Advert{Target: peer, Solicited: true, LLA: lla1, HasLLA: true}, nil))
	note(c.Deadline(), c.Tick(c.Deadline(), nil))
	if c.Deadline() != clock.Never {
		t.Error("STALE has a timer")
	}
	note(start.Add(40*time.Second), c.Used(start.Add(40*time.Second), peer, nil))
	for c.Get(peer) != nil {
		d := c.Deadline()
		note(d, c.Tick(d, nil))
	}
	want := []string{"0s INCOMPLETE", "500ms REACHABLE", "30.5s STALE", "40s DELAY", "45s PROBE", "48s gone"}
	if !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}
}

// TestIsRouter: what makes a neighbor a router and what ends that.
func TestIsRouter(t *testing.T) {
	yes, no := true, false
	c := in(t, Stale)
	c.Hint(start, peer, lla1, &yes, nil) // RA
	if !c.Get(peer).IsRouter {
		t.Error("an RA does not make a router")
	}
	c.Hint(start, peer, lla1, nil, nil) // NS says nothing
	if !c.Get(peer).IsRouter {
		t.Error("an NS unmade a router")
	}
	es := c.NA(start, Advert{Target: peer, LLA: lla1, HasLLA: true}, nil)
	if c.Get(peer).IsRouter || !slices.Contains(kinds(es), RouterLost) {
		t.Errorf("NA R=0: %v", kinds(es))
	}
	c.NA(start, Advert{Target: peer, Router: true, LLA: lla1, HasLLA: true}, nil)
	if es := c.Hint(start, peer, lla1, &no, nil); !slices.Contains(kinds(es), RouterLost) { // RS
		t.Errorf("RS: %v", kinds(es))
	}
}

// TestEveryPairIsARowOrIgnored: no state and trigger do something by accident, every timed state
// has a deadline after any history, and no other state has one.
func TestEveryPairIsARowOrIgnored(t *testing.T) {
	for s := range numStates {
		for tr := range numTriggers {
			r := table[s][tr]
			if r.ref == "" && r != (row{}) {
				t.Errorf("%s trigger %d has a row without a section", s, tr)
			}
			if r.ref != "" && r.do&remove == 0 && r.next.timed() && r.next != s && r.do&(armRetrans|armReachable|armDelay|armFailed|armBackOff) == 0 {
				t.Errorf("%s trigger %d enters %s without arming its timer", s, tr, r.next)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		c := newCache(vars())
		now := start
		addrs := []netip.Addr{peer, netip.MustParseAddr("fe80::3")}
		rt.Repeat(map[string]func(*rapid.T){
			"send": func(rt *rapid.T) { c.Send(now, rapid.SampledFrom(addrs).Draw(rt, "a"), "p", nil) },
			"used": func(rt *rapid.T) { c.Used(now, rapid.SampledFrom(addrs).Draw(rt, "a"), nil) },
			"na": func(rt *rapid.T) {
				b := rapid.Bool()
				c.NA(now, Advert{Target: rapid.SampledFrom(addrs).Draw(rt, "a"), Router: b.Draw(rt, "r"), Solicited: b.Draw(rt, "s"), Override: b.Draw(rt, "o"),
					LLA: rapid.SampledFrom([]LLA{lla1, lla2}).Draw(rt, "l"), HasLLA: b.Draw(rt, "h")}, nil)
			},
			"hint": func(rt *rapid.T) {
				c.Hint(now, rapid.SampledFrom(addrs).Draw(rt, "a"), rapid.SampledFrom([]LLA{lla1, lla2}).Draw(rt, "l"), nil, nil)
			},
			"confirm": func(rt *rapid.T) { c.Confirm(now, rapid.SampledFrom(addrs).Draw(rt, "a"), nil) },
			"delete":  func(rt *rapid.T) { c.Delete(rapid.SampledFrom(addrs).Draw(rt, "a"), nil) },
			"advance": func(rt *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 40000).Draw(rt, "ms")) * time.Millisecond)
				c.Tick(now, nil)
			},
			"": func(rt *rapid.T) {
				pending := 0
				for _, e := range c.All() {
					if e.State == Incomplete {
						pending++
					}
					if e.State.timed() != (e.timer.When() != clock.Never) {
						rt.Fatalf("%s has deadline %d", e.State, e.timer.When())
					}
					if (e.State >= Reachable && e.State <= Unreachable) != e.HasLLA {
						rt.Fatalf("%s has address %v", e.State, e.HasLLA)
					}
				}
				if pending != c.pending {
					rt.Fatalf("counted %d pending, are %d", c.pending, pending)
				}
			},
		})
	})
}

// TestQueueKeepsTheNewest: 7.2.2.
func TestQueueKeepsTheNewest(t *testing.T) {
	c := newCache(vars())
	var dropped []any
	for _, p := range []string{"1", "2", "3", "4", "5"} {
		for _, e := range c.Send(start, peer, p, nil) {
			if e.Kind == Dropped {
				dropped = append(dropped, e.Pkts...)
			}
		}
	}
	es := c.NA(start, Advert{Target: peer, Solicited: true, LLA: lla1, HasLLA: true}, nil)
	i := slices.IndexFunc(es, func(e Effect) bool { return e.Kind == Release })
	if !slices.Equal(es[i].Pkts, []any{"3", "4", "5"}) || !slices.Equal(dropped, []any{"1", "2"}) {
		t.Errorf("released %v, dropped %v", es[i].Pkts, dropped)
	}
}

// TestScanDoesNotDisplaceNeighbors: a hundred thousand unknown addresses leave the neighbors that
// are known alone and the cache within its bounds (RFC 6583).
func TestScanDoesNotDisplaceNeighbors(t *testing.T) {
	v := vars()
	v.MaxNeighbors, v.MaxUnresolved = 512, 64
	c := newCache(v)
	addr := func(hi byte, i int) netip.Addr {
		a := [16]byte{0x20, 1, 2: hi}
		binary.BigEndian.PutUint32(a[12:], uint32(i))
		return netip.AddrFrom16(a)
	}
	for i := range 400 {
		c.Hint(start, addr(1, i), lla1, nil, nil)
	}
	c.Set(start, addr(2, 0), Permanent, lla1, false, nil)
	now := start
	for i := range 100000 {
		c.Send(now, addr(9, i), "p", nil)
		if now = now.Add(time.Millisecond); c.Len() > v.MaxNeighbors || c.pending > v.MaxUnresolved {
			t.Fatalf("%d entries, %d unresolved", c.Len(), c.pending)
		}
		c.Tick(now, nil)
	}
	for i := range 400 {
		if c.Get(addr(1, i)) == nil {
			t.Fatal("a known neighbor was displaced")
		}
	}
	if c.Get(addr(2, 0)) == nil {
		t.Error("the permanent entry was displaced")
	}
	// Neighbors that announce themselves do displace unused STALE ones, not more.
	for i := range 1000 {
		c.Hint(now, addr(3, i), lla2, nil, nil)
	}
	if c.Len() > v.MaxNeighbors || c.Get(addr(2, 0)) == nil || c.Evicted[Stale] == 0 {
		t.Errorf("%d entries, evicted %v", c.Len(), c.Evicted)
	}
}

// TestClockJump: a machine that slept for a day does not make up for it.
func TestClockJump(t *testing.T) {
	c := newCache(vars())
	for i := range 100 {
		c.Set(start, netip.AddrFrom16([16]byte{15: byte(i)}), Delay, lla1, false, nil)
	}
	es := c.Tick(start.Add(24*time.Hour), nil)
	n := 0
	for _, e := range es {
		if e.Kind == SolicitUnicast {
			n++
		}
	}
	if n != 100 || c.Deadline() != start.Add(24*time.Hour+time.Second) {
		t.Errorf("%d probes at once, the next in %s", n, c.Deadline().Sub(start.Add(24*time.Hour)))
	}
}

func TestReachableTimeIsRedrawn(t *testing.T) {
	draws := []float64{0, 0.999, 0.5}
	c := New(start, vars(), func() float64 { d := draws[0]; draws = draws[1:]; return d })
	if d := c.ReachableTime(start); d != 15*time.Second {
		t.Errorf("drawn %s", d)
	}
	if d := c.ReachableTime(start.Add(time.Hour)); d != 15*time.Second {
		t.Errorf("redrawn too early: %s", d)
	}
	if d := c.ReachableTime(start.Add(3 * time.Hour)); d < 44*time.Second || d > 45*time.Second {
		t.Errorf("redrawn %s", d)
	}
	v := vars()
	v.ReachableTime = 10 * time.Second
	c.SetVars(start.Add(3*time.Hour), v)
	if d := c.ReachableTime(start.Add(3 * time.Hour)); d != 10*time.Second {
		t.Errorf("with a new base %s", d)
	}
}

func TestUsedDoesNotAllocate(t *testing.T) {
	c := in(t, Reachable)
	var buf [4]Effect
	if n := testing.AllocsPerRun(100, func() { c.Used(start+2, peer, buf[:0]); c.Confirm(start+2, peer, buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
