package slaac

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

// wideIDs has more random identifiers than fakeIDs, for long runs.
type wideIDs struct {
	fakeIDs
	n uint32
}

func (w *wideIDs) Random() [8]byte {
	w.n++
	return [8]byte{3: 1, 4: byte(w.n >> 24), 5: byte(w.n >> 16), 6: byte(w.n >> 8), 7: byte(w.n)}
}

const day = 24 * time.Hour

var p2 = netip.MustParsePrefix("2001:db8:2::/64")

// twiceIDs gives every random identifier twice.
type twiceIDs struct{ fakeIDs }

func (d *twiceIDs) Random() [8]byte { d.n++; return [8]byte{6: 1, 7: d.n / 2} }

// TestOwnAddress: RFC 8981 3.3: an identifier that is in use on the prefix is not taken, be it a temporary
// one's or the stable one's.
func TestOwnAddress(t *testing.T) {
	a := New(temporary(), &twiceIDs{}, func() float64 { return 0 })
	a.Prefix(t0, pio(p1, 30*day, 30*day))
	for range 2 {
		a.Tick(a.Deadline())
	}
	seen := map[netip.Addr]bool{}
	for _, e := range a.List() {
		if seen[e.Addr] {
			t.Errorf("%s twice", e.Addr)
		}
		seen[e.Addr] = true
	}
	if len(seen) < 4 {
		t.Errorf("%d addresses", len(seen))
	}
}

// temps returns the temporary addresses.
func temps(a *Autoconf) (out []Effect) {
	for _, e := range a.List() {
		if e.Temporary {
			out = append(out, e)
		}
	}
	return out
}

// TestAlwaysPreferred: RFC 8981 3.5, also where lifetimes ask for more temporary addresses than are kept:
// with the seven days of RFC 4941 more than eight are valid at a time. Then the oldest goes.
func TestAlwaysPreferred(t *testing.T) {
	v := temporary()
	v.TempValid = 7 * day
	a := New(v, &wideIDs{}, rand.New(rand.NewPCG(5, 5)).Float64)
	now, full := t0, false
	a.Prefix(now, pio(p1, ndwire.Infinite, ndwire.Infinite))
	for now < t0.Add(60*day) {
		now = a.Deadline()
		before := temps(a)
		for _, e := range a.Tick(now) {
			if e.Kind == Remove && e.Valid > now {
				full = true
				if e.Addr != before[0].Addr || e.Preferred > now {
					t.Fatalf("after %s: %s had to go, not the oldest", now.Sub(t0), e.Addr)
				}
			}
		}
		l := temps(a)
		if last := l[len(l)-1]; last.Preferred <= now.Add(v.RegenAdvance) {
			t.Fatalf("after %s: %d temporary addresses, none to be preferred", now.Sub(t0), len(l))
		}
		if len(l) > maxTemporary {
			t.Fatalf("after %s: %d temporary addresses", now.Sub(t0), len(l))
		}
	}
	if !full {
		t.Error("the bound was not reached")
	}
}

// TestDesync: RFC 8981 3.8: DESYNC_FACTOR is smaller than TEMP_PREFERRED_LIFETIME - REGEN_ADVANCE, whatever
// is drawn; and when hardly anything is between the two, no new address follows at once.
func TestDesync(t *testing.T) {
	for _, c := range []struct {
		name               string
		preferred, advance time.Duration
		draw               float64
		want               bool
	}{
		{"much is left", day, 5 * time.Second, 0.999999, true},
		{"less than MAX_DESYNC_FACTOR is left", 8 * time.Second, 5 * time.Second, 0.999999, true},
		{"hardly anything is left", 5001 * time.Millisecond, 5 * time.Second, 0.5, true},
		{"nothing is left", 5 * time.Second, 5 * time.Second, 0, false},
		{"the advance is longer", 5 * time.Second, time.Hour, 0.5, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := temporary()
			v.TempPreferred, v.RegenAdvance = c.preferred, c.advance
			a := New(v, &wideIDs{}, func() float64 { return c.draw })
			a.Prefix(t0, pio(p1, 30*day, 30*day))
			l := temps(a)
			if (len(l) == 1) != c.want {
				t.Fatalf("%d temporary addresses", len(l))
			}
			if !c.want {
				return
			}
			if l[0].Preferred <= t0.Add(c.advance) {
				t.Errorf("preferred for %s", l[0].Preferred.Sub(t0))
			}
			made := 0
			for end := t0.Add(10 * c.advance); a.Deadline() < end; {
				now := a.Deadline()
				for _, e := range append(a.Prefix(now, pio(p1, 30*day, 30*day)), a.Tick(now)...) {
					if e.Kind == Add {
						made++
					}
				}
			}
			if made > 10 {
				t.Errorf("%d made in the time of ten REGEN_ADVANCE", made)
			}
		})
	}
}

// TestOtherLifetimes: RFC 8981 3.4 1.: no temporary address stays valid or preferred for longer than the
// variables say, also when these change.
func TestOtherLifetimes(t *testing.T) {
	a := New(temporary(), &wideIDs{}, func() float64 { return 0.5 })
	a.Prefix(t0, pio(p1, 30*day, 30*day))
	v := temporary()
	v.TempValid, v.TempPreferred = 20*time.Hour, 10*time.Hour
	now := t0.Add(time.Hour)
	if got, want := show(a.SetVars(now, v)), "~2001:db8:1::1:0:1 72000/18720"; got != want {
		t.Errorf("shorter: %q, want %q", got, want)
	}
	if got := a.SetVars(now, v); got != nil {
		t.Errorf("the same again: %s", show(got))
	}
	if d := a.Deadline().Sub(t0); d != 18715*time.Second {
		t.Errorf("the next is due after %s", d)
	}
	v.RegenAdvance = time.Minute
	if a.SetVars(now, v); a.Deadline().Sub(t0) != 18660*time.Second {
		t.Errorf("with another REGEN_ADVANCE after %s", a.Deadline().Sub(t0))
	}
	v = temporary()
	v.TempValid, v.TempPreferred = 30*time.Minute, 10*time.Minute
	got := show(a.SetVars(now, v))
	if want := "~2001:db8:1::1:0:1 1800/0\n+2001:db8:1::1:0:2 5400/4080"; got != want {
		t.Errorf("over: %q, want %q", got, want)
	}
	if got := show(a.Tick(now)); got != "-2001:db8:1::1:0:1 1800/0" {
		t.Errorf("over: %q", got)
	}
}

// TestExhaustedStays: RFC 8981 3.4 7.: none for the prefix until the link is another one, also if the prefix
// ends in between.
func TestExhaustedStays(t *testing.T) {
	a := New(temporary(), &wideIDs{}, func() float64 { return 0 })
	exhaust := func(now clock.Instant, p netip.Prefix) {
		t.Helper()
		a.Prefix(now, pio(p, time.Hour, time.Hour))
		for len(temps(a)) > 0 {
			a.DADFailed(now, temps(a)[0].Addr)
		}
		if d := a.Deadline().Sub(now); d != time.Hour {
			t.Errorf("something is due after %s", d)
		}
	}
	exhaust(t0, p1)
	now := t0.Add(time.Hour)
	a.Tick(now)
	if got := show(a.Prefix(now, pio(p1, time.Hour, time.Hour))); got != "+2001:db8:1::100 7200/7200" {
		t.Errorf("after its end: %s", got)
	}
	for range 2 * stable.MaxPrefixes { // it is remembered once, and displaces no other
		now = now.Add(time.Hour)
		a.Tick(now)
		exhaust(now, p2)
	}
	now = now.Add(time.Hour)
	a.Tick(now)
	if a.Prefix(now, pio(p1, time.Hour, time.Hour)); len(temps(a)) != 0 {
		t.Error("forgotten for another that failed again and again")
	}
	// What is remembered is bounded: the prefix that failed first is forgotten.
	for i := range stable.MaxPrefixes {
		now = now.Add(time.Hour)
		a.Tick(now)
		exhaust(now, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: byte(0x10 + i)}), 64))
	}
	now = now.Add(time.Hour)
	a.Tick(now)
	if a.Prefix(now, pio(p1, time.Hour, time.Hour)); len(temps(a)) != 1 {
		t.Error("more is remembered than the bound says")
	}
	exhaust(now.Add(time.Hour), p2)
	now = now.Add(2 * time.Hour)
	a.Tick(now)
	a.Flush()
	if a.Prefix(now, pio(p2, time.Hour, time.Hour)); len(temps(a)) != 1 {
		t.Error("none on another link")
	}
}

// TestLateTick: an address whose valid lifetime is over is invalid (RFC 4862 5.5.4): an advertisement that
// comes before the Tick does not bring it back, but makes it anew, so that duplicates are detected again.
func TestLateTick(t *testing.T) {
	a := New(stable, &fakeIDs{}, nil)
	a.Prefix(t0, pio(p1, 100*time.Second, 50*time.Second))
	got := show(a.Prefix(t0.Add(100*time.Second), pio(p1, 100*time.Second, 50*time.Second)))
	if want := "-2001:db8:1::100 100/50\n+2001:db8:1::100 200/150"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOnePreferred: RFC 8981 3.5: but for the time of the change, one temporary address of a prefix is not
// deprecated.
func TestOnePreferred(t *testing.T) {
	for _, c := range []struct {
		name  string
		event func(a *Autoconf, now clock.Instant) []Effect
	}{
		{"the predecessor turns out to be a duplicate", func(a *Autoconf, now clock.Instant) []Effect {
			return a.DADFailed(now, temps(a)[0].Addr)
		}},
		{"TEMP_PREFERRED_LIFETIME is longer", func(a *Autoconf, now clock.Instant) []Effect {
			v := temporary()
			v.TempPreferred = 2*day - time.Second
			return a.SetVars(now, v)
		}},
		{"the prefix is advertised again", func(a *Autoconf, now clock.Instant) []Effect {
			return a.Prefix(now, pio(p1, 60*day, 60*day))
		}},
		{"it was deprecated, and is advertised again", func(a *Autoconf, now clock.Instant) []Effect {
			return append(a.Prefix(now, pio(p1, 60*day, 0)), a.Prefix(now, pio(p1, 60*day, 60*day))...)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New(temporary(), &wideIDs{}, func() float64 { return 0 })
			a.Prefix(t0, pio(p1, 30*day, 30*day))
			a.Tick(a.Deadline())
			now := t0.Add(25 * time.Hour)
			if n := len(temps(a)); n != 2 {
				t.Fatalf("%d to begin with", n)
			}
			for _, e := range c.event(a, now) {
				if e.Kind == Add {
					t.Errorf("one more: %s", show([]Effect{e}))
				}
			}
			n := 0
			for _, e := range temps(a) {
				if e.Preferred > now {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d are preferred", n)
			}
		})
	}
}
