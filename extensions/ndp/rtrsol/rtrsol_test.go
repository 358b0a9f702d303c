package rtrsol

import (
	"math/rand/v2"
	"testing"
	"time"

	"leveret/appliance/clock"
)

var rfc7559 = Vars{Interval: 4 * time.Second, MaxInterval: time.Hour}

const t0 = clock.Instant(time.Hour)

// times runs a solicitor for d and returns when it solicited, since t0.
func times(s *Solicitor, d time.Duration) (out []time.Duration) {
	for s.Deadline() <= t0.Add(d) {
		now := s.Deadline()
		if s.Tick(now) {
			out = append(out, now.Sub(t0))
		}
	}
	return out
}

// TestBackoff: RFC 7559 2: 4 s, doubled each time, up to an hour, for ever, each 10 % more or less.
func TestBackoff(t *testing.T) {
	for seed := range uint64(50) {
		s := New(rfc7559, rand.New(rand.NewPCG(seed, 1)).Float64)
		s.Start(t0, time.Second)
		got := times(s, 48*time.Hour)
		if got[0] != time.Second {
			t.Fatalf("the first after %s", got[0])
		}
		prev := time.Duration(0)
		for i := 1; i < len(got); i++ {
			rt := got[i] - got[i-1]
			low, high := 3600*time.Millisecond, 4400*time.Millisecond
			if prev != 0 {
				low, high = prev*19/10, prev*21/10
			}
			if low > time.Hour || rt > 57*time.Minute { // the limit, drawn too
				low, high = 54*time.Minute-1, 66*time.Minute
			}
			if rt < low-1 || rt > high+1 {
				t.Fatalf("seed %d: wait %d is %s, want %s..%s", seed, i, rt, low, high)
			}
			prev = rt
		}
		if n := len(got); n < 50 || s.Sent() != n {
			t.Errorf("%d solicitations in two days, %d counted", n, s.Sent())
		}
	}
}

// TestLimit: RFC 4861 6.3.7: at most MAX_RTR_SOLICITATIONS, RTR_SOLICITATION_INTERVAL apart.
func TestLimit(t *testing.T) {
	s := New(Vars{Max: 3, Interval: 4 * time.Second, MaxInterval: time.Hour}, func() float64 { return 0 })
	s.Start(t0, 0)
	if got := times(s, 48*time.Hour); len(got) != 3 || got[1] != 4*time.Second || got[2] != 8*time.Second {
		t.Errorf("%v", got)
	}
	s.Start(t0, 0) // the link came up again
	if got := times(s, time.Minute); len(got) != 3 {
		t.Errorf("anew: %v", got)
	}
}

// TestHeard: RFC 4861 6.3.7, RFC 7559 2.1: who sent one and has a default router stops; before, one is
// sent all the same; an advertisement without a default router ends nothing.
func TestHeard(t *testing.T) {
	s := New(rfc7559, func() float64 { return 0.5 })
	s.Start(t0, time.Second)
	s.Heard(true)
	if !s.Tick(t0.Add(time.Second)) {
		t.Error("none was sent")
	}
	s.Heard(false)
	if s.Deadline() == clock.Never {
		t.Error("stopped without a default router")
	}
	s.Heard(true)
	if s.Deadline() != clock.Never || s.Tick(t0.Add(time.Hour)) {
		t.Error("goes on with a default router")
	}
}

// TestJump: a clock that jumps makes one solicitation.
func TestJump(t *testing.T) {
	s := New(rfc7559, func() float64 { return 0.5 })
	s.Start(t0, 0)
	late := t0.Add(100 * time.Hour)
	if !s.Tick(late) || s.Tick(late) || s.Sent() != 1 {
		t.Errorf("%d sent", s.Sent())
	}
	s.Stop()
	if s.Deadline() != clock.Never {
		t.Error("stopped")
	}
}

// TestSetVars: intervals from the next solicitation on, a limit at once; what has ended stays so.
func TestSetVars(t *testing.T) {
	s := New(rfc7559, func() float64 { return 0.5 })
	s.Start(t0, 0)
	if got := times(s, 30*time.Second); len(got) != 4 { // 0, 4, 12, 28
		t.Fatalf("%v", got)
	}
	s.SetVars(Vars{Interval: 4 * time.Second, MaxInterval: 10 * time.Second})
	if got := times(s, 75*time.Second); len(got) != 2 || got[0] != time.Minute || got[1] != 70*time.Second {
		t.Errorf("with another MRT: %v", got)
	}
	s.SetVars(Vars{Max: 7, Interval: 4 * time.Second})
	if got := times(s, 48*time.Hour); len(got) != 1 {
		t.Errorf("the seventh: %v", got)
	}
	s.SetVars(rfc7559)
	if s.Deadline() != clock.Never {
		t.Error("what has ended goes on")
	}
	s.Start(t0, 0)
	times(s, 30*time.Second)
	if s.SetVars(Vars{Max: 3}); s.Deadline() != clock.Never {
		t.Error("goes on beyond MAX_RTR_SOLICITATIONS")
	}
}

// TestNoInterval: variables that are missing or negative lead to those of RFC 7559, not to a storm.
func TestNoInterval(t *testing.T) {
	for _, v := range []Vars{{}, {Interval: -time.Second, MaxInterval: -time.Second}, {Max: 5}, {Max: 5, Interval: -time.Second}} {
		s := New(v, func() float64 { return 0.5 })
		s.Start(t0, 0)
		for i, now := 0, t0; i < 3; i++ {
			if !s.Tick(now) {
				t.Fatalf("%+v: none was sent", v)
			}
			if s.Deadline() < now.Add(4*time.Second) {
				t.Errorf("%+v: the next after %s", v, s.Deadline().Sub(now))
			}
			now = s.Deadline()
		}
	}
}
