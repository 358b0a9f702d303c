package slaac

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

const t0 = clock.Instant(time.Hour)

var (
	p1     = netip.MustParsePrefix("2001:db8:1::/64")
	stable = Vars{MaxPrefixes: 4, TempValid: TempValidLifetime, TempPreferred: TempPreferredLifetime, RegenAdvance: RegenAdvance(1, time.Second)}
)

// fakeIDs: stable identifiers are 1 and the counter, random ones count from 0x100.
type fakeIDs struct {
	fixed bool
	n     byte
}

func (f *fakeIDs) Stable(_ netip.Prefix, dadCounter int) ([8]byte, bool) {
	if f.fixed {
		dadCounter = 0
	}
	return [8]byte{6: 1, 7: byte(dadCounter)}, !f.fixed
}

func (f *fakeIDs) Random() [8]byte { f.n++; return [8]byte{5: 1, 7: f.n} }

func temporary() Vars { v := stable; v.Temporary = true; return v }

func pio(p netip.Prefix, valid, preferred time.Duration) *ndwire.PrefixInfo {
	return &ndwire.PrefixInfo{Prefix: p, Autonomous: true, Valid: valid, Preferred: preferred}
}

// show renders effects: "+ADDR valid/preferred" in seconds from t0.
func show(es []Effect) string {
	var out []string
	end := func(i clock.Instant) string {
		if i == clock.Never {
			return "forever"
		}
		return fmt.Sprint(int(i.Sub(t0) / time.Second))
	}
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s%s %s/%s", []string{"+", "~", "-", "!"}[e.Kind], e.Addr, end(e.Valid), end(e.Preferred)))
	}
	return strings.Join(out, "\n")
}

// TestNewPrefix: RFC 4862 5.5.3 a) to d).
func TestNewPrefix(t *testing.T) {
	for _, c := range []struct {
		name string
		pio  *ndwire.PrefixInfo
		want string
	}{
		{"an address", pio(p1, 100*time.Second, 50*time.Second), "+2001:db8:1::100 100/50"},
		{"without end", pio(p1, ndwire.Infinite, ndwire.Infinite), "+2001:db8:1::100 forever/forever"},
		{"deprecated from the start", pio(p1, 100*time.Second, 0), "+2001:db8:1::100 100/0"},
		{"a) not autonomous", &ndwire.PrefixInfo{Prefix: p1, OnLink: true, Valid: time.Hour, Preferred: time.Hour}, ""},
		{"b) link-local", pio(netip.MustParsePrefix("fe80::/64"), time.Hour, time.Hour), ""},
		{"c) preferred over valid", pio(p1, time.Hour, time.Hour+1), ""},
		{"d) /63", pio(netip.MustParsePrefix("2001:db8::/63"), time.Hour, time.Hour), ""},
		{"d) /65", pio(netip.MustParsePrefix("2001:db8::/65"), time.Hour, time.Hour), ""},
		{"d) valid 0", pio(p1, 0, 0), ""},
		{"a group", pio(netip.MustParsePrefix("ff02::/64"), time.Hour, time.Hour), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := show(New(stable, &fakeIDs{}, nil).Prefix(t0, c.pio)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestTwoHours: RFC 4862 5.5.3 e), every branch. An address with so much left hears of another lifetime.
func TestTwoHours(t *testing.T) {
	const h = 3600
	for _, c := range []struct {
		name                        string
		remaining, received, wanted int // valid lifetimes, in seconds
	}{
		{"1. more than two hours", 10 * h, 3 * h, 3 * h},
		{"1. more than is left", h, h + 1, h + 1},
		{"1. without end", h, -1, -1},
		{"2. two hours or less left, less received", h, 60, h},
		{"2. two hours left exactly", 2 * h, 60, 2 * h},
		{"2. zero received", h, 0, h},
		{"3. more than two hours left, less received", 10 * h, 60, 2 * h},
		{"3. two hours received", 10 * h, 2 * h, 2 * h},
		{"3. zero received", 10 * h, 0, 2 * h},
		{"3. without end before", -1, 60, 2 * h},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := func(s int) time.Duration {
				if s < 0 {
					return ndwire.Infinite
				}
				return time.Duration(s) * time.Second
			}
			a := New(stable, &fakeIDs{}, nil)
			a.Prefix(t0, pio(p1, d(c.remaining), d(c.remaining)))
			a.Prefix(t0, pio(p1, d(c.received), d(c.received)/2))
			got := a.List()[0]
			if want := until(t0, d(c.wanted)); got.Valid != want {
				t.Errorf("valid %d s, want %d", got.Valid.Sub(t0)/time.Second, c.wanted)
			}
			if want := until(t0, d(c.received)/2); got.Preferred != want { // always taken
				t.Errorf("preferred %d", got.Preferred)
			}
		})
	}
}

// TestExpiry: RFC 4862 5.5.4.
func TestExpiry(t *testing.T) {
	a := New(stable, &fakeIDs{}, nil)
	a.Prefix(t0, pio(p1, 100*time.Second, 50*time.Second))
	if d := a.Deadline(); d != t0.Add(100*time.Second) {
		t.Errorf("deadline %v", d.Sub(t0))
	}
	if got := a.Tick(t0.Add(99 * time.Second)); got != nil {
		t.Errorf("too early: %s", show(got))
	}
	if got := show(a.Tick(t0.Add(100 * time.Second))); got != "-2001:db8:1::100 100/50" || a.Deadline() != clock.Never || len(a.List()) != 0 {
		t.Errorf("%s", got)
	}
	if got := show(a.Prefix(t0.Add(200*time.Second), pio(p1, 100*time.Second, 50*time.Second))); got != "+2001:db8:1::100 300/250" {
		t.Errorf("again: %s", got)
	}
}

// TestDuplicates: RFC 7217 6: the next identifier, IDGEN_RETRIES times; one that cannot change is given up.
func TestDuplicates(t *testing.T) {
	a := New(stable, &fakeIDs{}, nil)
	a.Prefix(t0, pio(p1, 100*time.Second, 50*time.Second))
	var got []string
	for range 4 {
		got = append(got, show(a.DADFailed(t0, a.List()[0].Addr)))
	}
	want := []string{
		"-2001:db8:1::100 100/50\n+2001:db8:1::101 100/50", "-2001:db8:1::101 100/50\n+2001:db8:1::102 100/50",
		"-2001:db8:1::102 100/50\n+2001:db8:1::103 100/50", "!2001:db8:1::103 100/50",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := a.Prefix(t0, pio(p1, 200*time.Second, 50*time.Second)); len(got) != 1 || got[0].Kind != Update {
		t.Errorf("the next advertisement began anew: %s", show(got))
	}
	a = New(stable, &fakeIDs{fixed: true}, nil)
	a.Prefix(t0, pio(p1, 100*time.Second, 50*time.Second))
	if got := show(a.DADFailed(t0, a.List()[0].Addr)); got != "!2001:db8:1::100 100/50" {
		t.Errorf("EUI-64: %s", got)
	}
	if a.DADFailed(t0, netip.MustParseAddr("::1")) != nil {
		t.Error("an address of somebody else")
	}
}

// TestTemporary: RFC 8981 3.4 4., 5.: lifetimes of a new temporary address, and when there is none.
func TestTemporary(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name             string
		valid, preferred time.Duration
		draw             float64
		want             string // of the temporary one
	}{
		{"limited by TEMP_*", 30 * day, 7 * day, 0, "172800/86400"},
		{"DESYNC_FACTOR", 30 * day, 7 * day, 0.999999, "172800/51840"},
		{"limited by the prefix", time.Hour, time.Hour / 2, 0, "3600/1800"},
		{"preferred not above REGEN_ADVANCE", time.Hour, 5 * time.Second, 0, ""},
		{"preferred above it", time.Hour, 6 * time.Second, 0, "3600/6"},
		{"preferred 0", time.Hour, 0, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New(temporary(), &fakeIDs{}, func() float64 { return c.draw })
			got := show(a.Prefix(t0, pio(p1, c.valid, c.preferred))[1:])
			if c.want != "" {
				c.want = "+2001:db8:1::1:1 " + c.want
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRotation: RFC 8981 3.5, 3.6, over ten days: one new temporary address a day or sooner, always a
// preferred one, never more than three, none valid longer than two days.
func TestRotation(t *testing.T) {
	a := New(temporary(), &fakeIDs{}, rand.New(rand.NewPCG(3, 3)).Float64)
	born := map[netip.Addr]clock.Instant{}
	made := 0
	note := func(now clock.Instant, es []Effect) {
		for _, e := range es {
			switch {
			case e.Kind == Add && e.Temporary:
				born[e.Addr] = now
				made++
			case e.Kind == Remove && e.Temporary && now.Sub(born[e.Addr]) > TempValidLifetime:
				t.Fatalf("%s was valid for %s", e.Addr, now.Sub(born[e.Addr]))
			}
		}
	}
	const every = 10 * time.Minute
	for at := time.Duration(0); at < 240*time.Hour; at += every {
		now := t0.Add(at)
		note(now, a.Prefix(now, pio(p1, 30*24*time.Hour, 7*24*time.Hour)))
		for d := a.Deadline(); d < now.Add(every); d = a.Deadline() {
			note(d, a.Tick(d))
		}
		temps, preferred := 0, 0
		for _, e := range a.List() {
			if e.Temporary {
				temps++
				if e.Preferred > now.Add(every) {
					preferred++
				}
			}
		}
		if temps > 4 || preferred == 0 && a.Deadline() > now.Add(every) {
			t.Fatalf("after %s: %d temporary addresses, %d preferred", at, temps, preferred)
		}
	}
	if made < 10 || made > 17 {
		t.Errorf("%d in ten days", made)
	}
}

// TestTemporaryDuplicates: RFC 8981 3.4 7.
func TestTemporaryDuplicates(t *testing.T) {
	a := New(temporary(), &fakeIDs{}, func() float64 { return 0 })
	a.Prefix(t0, pio(p1, 100*time.Hour, 50*time.Hour))
	fail := func() []Effect { l := a.List(); return a.DADFailed(t0, l[len(l)-1].Addr) }
	for range TempIDGenRetries {
		if got := fail(); len(got) != 2 || got[0].Kind != Remove || got[1].Kind != Add {
			t.Fatalf("%s", show(got))
		}
	}
	if got := fail(); len(got) != 2 || got[1].Kind != Exhausted {
		t.Errorf("%s", show(got))
	}
	if got := a.Prefix(t0, pio(p1, 200*time.Hour, 150*time.Hour)); len(got) != 1 || a.Deadline() != t0.Add(200*time.Hour) {
		t.Errorf("another one all the same: %s", show(got))
	}
	// One that passes in between begins the count anew.
	a = New(temporary(), &fakeIDs{}, func() float64 { return 0 })
	a.Prefix(t0, pio(p1, 100*time.Hour, 50*time.Hour))
	for range 2 * TempIDGenRetries {
		if got := fail(); got[len(got)-1].Kind != Add {
			t.Fatalf("%s", show(got))
		}
		a.DADPassed(a.List()[1].Addr)
	}
}

// TestDeprecatedPrefixMakesNoTemporary: RFC 8981 3.5, and a prefix that comes back makes one.
func TestDeprecatedPrefixMakesNoTemporary(t *testing.T) {
	a := New(temporary(), &fakeIDs{}, func() float64 { return 0 })
	a.Prefix(t0, pio(p1, 100*time.Hour, 50*time.Hour))
	for _, e := range a.Prefix(t0, pio(p1, 100*time.Hour, 0)) {
		if e.Kind == Add {
			t.Errorf("made %s", e.Addr)
		}
	}
	if got := a.Tick(t0.Add(time.Hour)); got != nil {
		t.Errorf("made %s", show(got))
	}
	if got := a.Prefix(t0.Add(time.Hour), pio(p1, 100*time.Hour, 50*time.Hour)); a.prefixes[0].last().preferred <= t0.Add(time.Hour) {
		t.Errorf("%s", show(got))
	}
}

// TestSwitches: temporary addresses on and off, and the end of everything.
func TestSwitches(t *testing.T) {
	a := New(stable, &fakeIDs{}, func() float64 { return 0 })
	a.Prefix(t0, pio(p1, time.Hour, time.Hour))
	if got := a.SetVars(t0, temporary()); len(got) != 1 || got[0].Kind != Add || !got[0].Temporary {
		t.Errorf("on: %s", show(got))
	}
	if got := a.SetVars(t0, stable); len(got) != 1 || got[0].Kind != Remove || !got[0].Temporary {
		t.Errorf("off: %s", show(got))
	}
	if got := a.Flush(); len(got) != 1 || got[0].Kind != Remove || len(a.List()) != 0 {
		t.Errorf("flush: %s", show(got))
	}
}

// TestBounds: whatever is advertised, prefixes and addresses keep within their bounds, and those that
// were there stay.
func TestBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	a := New(temporary(), &fakeIDs{}, r.Float64)
	a.Prefix(t0, pio(p1, ndwire.Infinite, ndwire.Infinite))
	now := t0
	for range 20_000 {
		now = now.Add(time.Duration(r.IntN(600)) * time.Second)
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 6: byte(r.IntN(20)), 7: byte(r.IntN(2))}), 64)
		life := time.Duration(r.IntN(200_000)) * time.Second
		a.Prefix(now, pio(p, life, time.Duration(r.Float64()*float64(life))))
		if r.IntN(4) == 0 {
			a.Tick(now)
		}
		if n := len(a.prefixes); n > stable.MaxPrefixes || len(a.List()) > n*(1+maxTemporary) {
			t.Fatalf("%d prefixes, %d addresses", n, len(a.List()))
		}
	}
	if a.Refused() == 0 || a.prefixes[0].prefix != p1 {
		t.Error("the first prefix had to go")
	}
}

// TestJump: a clock that jumps by a month makes one address for each prefix, not thirty.
func TestJump(t *testing.T) {
	a := New(temporary(), &fakeIDs{}, func() float64 { return 0.5 })
	a.Prefix(t0, pio(p1, ndwire.Infinite, ndwire.Infinite))
	added := 0
	for _, e := range a.Tick(t0.Add(30 * 24 * time.Hour)) {
		if e.Kind == Add {
			added++
		}
	}
	if added != 1 {
		t.Errorf("%d made", added)
	}
}
