package nud

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"leveret/appliance/clock"
)

// TestBackoff: RFC 7048 3: while packets go to it, UNREACHABLE is solicited by multicast, each time after
// three times as long, and given up after MAX_MULTICAST_SOLICIT.
func TestBackoff(t *testing.T) {
	c := in(t, Unreachable)
	var waits []time.Duration
	var at clock.Instant
	for c.Get(peer) != nil {
		d := c.Deadline()
		if at != 0 {
			waits = append(waits, d.Sub(at))
		}
		at = d
		c.Used(d-1, peer, nil)
		c.Tick(d, nil)
	}
	if want := []time.Duration{9 * time.Second, 27 * time.Second}; !slices.Equal(waits, want) {
		t.Errorf("after the first 3 s: %v", waits)
	}
	c.vars.RetransTimer = 30 * time.Second
	if got := c.backOff(5); got != time.Minute {
		t.Errorf("MAX_RETRANS_TIMER: %s", got)
	}
}

// TestProbe: RFC 4191 3.5: a single solicitation, whatever is known of the router.
func TestProbe(t *testing.T) {
	for _, from := range []State{None, Stale} {
		c := in(t, from)
		n := 0
		count := func(es []Effect) {
			for _, e := range es {
				if e.Kind == SolicitMulticast || e.Kind == SolicitUnicast {
					n++
				}
			}
		}
		count(c.Probe(start+1, peer, nil))
		for c.Deadline() != clock.Never {
			count(c.Tick(c.Deadline(), nil))
		}
		if n != 1 || c.Get(peer) != nil {
			t.Errorf("%s: %d solicitations", from, n)
		}
	}
	for _, from := range []State{Incomplete, Reachable, Delay, Probe, Unreachable, Failed} {
		if c := in(t, from); len(c.Probe(start+1, peer, nil)) != 0 {
			t.Errorf("%s was probed", from)
		}
	}
	c := in(t, None)
	c.Probe(start+1, peer, nil)
	c.NA(start+2, Advert{Target: peer, Solicited: true, LLA: lla1, HasLLA: true}, nil)
	if stateOf(c) != Reachable {
		t.Errorf("an answer: %s", stateOf(c))
	}
}

// TestLearnFromNA: RFC 9131 6.1.1: an unknown neighbor becomes STALE; a known one is not overwritten; one
// without an address, and a host, learn nothing.
func TestLearnFromNA(t *testing.T) {
	v := vars()
	v.LearnFromNA = true
	c := newCache(v)
	c.NA(start, Advert{Target: peer}, nil)
	if stateOf(c) != None {
		t.Error("made without an address")
	}
	c.NA(start, Advert{Target: peer, LLA: lla1, HasLLA: true, Router: true}, nil)
	if e := c.Get(peer); e == nil || e.State != Stale || e.LLA != lla1 || !e.IsRouter {
		t.Errorf("%+v", e)
	}
	c.NA(start, Advert{Target: peer, LLA: lla2, HasLLA: true}, nil)
	if c.Get(peer).LLA != lla1 {
		t.Error("overwritten with O=0")
	}
}

// TestNoRouter and what makes one, without an address.
func TestNoRouter(t *testing.T) {
	c := in(t, Stale)
	c.IsRouter(peer, nil)
	if !c.Get(peer).IsRouter {
		t.Error("RA without an address")
	}
	if es := c.NoRouter(peer, nil); !slices.Contains(kinds(es), RouterLost) {
		t.Errorf("%v", kinds(es))
	}
	if c := in(t, None); len(c.NoRouter(peer, nil))+len(c.IsRouter(peer, nil)) != 0 || c.Len() != 0 {
		t.Error("an entry was made")
	}
}

// TestFloodLeavesWhoWasConfirmed: 100,000 neighbors that announce themselves displace each other, not
// those that have answered before.
func TestFloodLeavesWhoWasConfirmed(t *testing.T) {
	v := vars()
	v.LearnFromNA = true
	c := newCache(v)
	addr := func(hi byte, i int) netip.Addr {
		a := [16]byte{0x20, 1, 2: hi}
		binary.BigEndian.PutUint32(a[12:], uint32(i))
		return netip.AddrFrom16(a)
	}
	for i := range 1000 {
		c.Send(start, addr(1, i), "p", nil)
		c.NA(start, Advert{Target: addr(1, i), Solicited: true, LLA: lla1, HasLLA: true}, nil)
	}
	now := start.Add(time.Minute)
	c.Tick(now, nil) // all STALE
	for i := range 100_000 {
		c.Hint(now, addr(2, i), lla2, nil, nil)
		c.NA(now, Advert{Target: addr(3, i), LLA: lla2, HasLLA: true}, nil)
	}
	for i := range 1000 {
		if c.Get(addr(1, i)) == nil {
			t.Fatal("a neighbor that had answered was displaced")
		}
	}
	if c.Len() != v.MaxNeighbors {
		t.Errorf("%d entries", c.Len())
	}
}

// BenchmarkNewcomerWhenFull: finding whom to displace must not depend on how many there are.
func BenchmarkNewcomerWhenFull(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			v := vars()
			v.MaxNeighbors = n
			c := newCache(v)
			var es []Effect
			i := uint32(0)
			add := func() {
				a := [16]byte{0x20, 1}
				i++
				binary.BigEndian.PutUint32(a[12:], i)
				es = c.Hint(start, netip.AddrFrom16(a), lla1, nil, es[:0])
			}
			for range n {
				add()
			}
			for b.Loop() {
				add()
			}
		})
	}
}
