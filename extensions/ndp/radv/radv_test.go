package radv

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
)

const start = clock.Instant(1e9)

var (
	prefix = netip.MustParsePrefix
	addr   = netip.MustParseAddr
	hostA  = addr("fe80::a")
	hostB  = addr("fe80::b")
)

func ptr[T any](v T) *T { return &v }

func life(d time.Duration) *Lifetime { return ptr(Lifetime(d)) }

// router is a configuration that advertises, with one prefix and all else by default.
func router() Config {
	c := Defaults()
	c.IsRouter, c.AdvSendAdvertisements = true, true
	c.AdvPrefixList = []Prefix{{Prefix: prefix("2001:db8:1::/64")}}
	return c
}

// quick has intervals of 4 s to 8 s.
func quick() Config {
	c := router()
	c.MaxRtrAdvInterval, c.MinRtrAdvInterval = 8*time.Second, ptr(4*time.Second)
	return c
}

func always(f float64) func() float64 { return func() float64 { return f } }

func seeded(seed uint64) func() float64 { return rand.New(rand.NewPCG(seed, 1)).Float64 }

// event is an advertisement and when it was sent, from start.
type event struct {
	at time.Duration
	Send
}

// bench is an advertiser and what it has sent.
type bench struct {
	t   *testing.T
	a   *Advertiser
	now clock.Instant
	log []event
}

func begin(t *testing.T, c Config, draw func() float64, record ...StalePrefix) *bench {
	t.Helper()
	return &bench{t: t, a: New(start, c, draw, record), now: start}
}

func (b *bench) add(s []Send) {
	for _, x := range s {
		b.log = append(b.log, event{b.now.Sub(start), x})
	}
}

// until advances to a time from start, at each deadline on the way, and returns what was sent.
func (b *bench) until(d time.Duration) []event {
	b.t.Helper()
	n := len(b.log)
	for end := start.Add(d); ; {
		due := b.a.Deadline()
		if due > end {
			b.now = end
			return b.log[n:]
		}
		if due < b.now {
			b.t.Fatalf("deadline %s is before %s", due.Sub(start), b.now.Sub(start))
		}
		b.now = due
		sent := b.a.Tick(due)
		if len(sent) == 0 && b.a.Deadline() <= due {
			b.t.Fatalf("nothing was done at the deadline, %s", due.Sub(start))
		}
		b.add(sent)
	}
}

// times are when advertisements were sent.
func times(log []event) []time.Duration {
	out := []time.Duration{}
	for _, e := range log {
		out = append(out, e.at)
	}
	return out
}

func (b *bench) expect(what string, log []event, want ...time.Duration) {
	b.t.Helper()
	if want == nil {
		want = []time.Duration{}
	}
	if got := times(log); !reflect.DeepEqual(got, want) {
		b.t.Errorf("%s: sent at %v, want %v", what, got, want)
	}
}

const (
	ms = time.Millisecond
	s  = time.Second
)

// TestInitial is RFC 4861 6.2.4: the first is sent within half a second, the three intervals after it
// are cut to 16 s, then they are drawn from the whole range.
func TestInitial(t *testing.T) {
	b := begin(t, router(), always(0.5))
	b.expect("interval of 399 s", b.until(1000*s), 250*ms, 16250*ms, 32250*ms, 48250*ms, 447250*ms, 846250*ms)
	b = begin(t, quick(), always(0))
	b.expect("least", b.until(20*s), 0, 4*s, 8*s, 12*s, 16*s, 20*s)
	for _, e := range b.log {
		if e.Dst != wire.AllNodes || e.RA.Dst != wire.AllNodes || e.Final || !e.SourceLLA {
			t.Errorf("sent %+v", e)
		}
	}
}

// TestAdvSendAdvertisements: FALSE by default, and then nothing is sent and nobody answered (6.2.2).
func TestAdvSendAdvertisements(t *testing.T) {
	if Defaults().AdvSendAdvertisements {
		t.Error("advertising by default")
	}
	b := begin(t, Defaults(), always(0))
	b.a.Solicit(b.now, hostA)
	b.expect("quiet", b.until(10000*s))
	if _, ok := b.a.RA(b.now); ok || b.a.Deadline() != clock.Never || b.a.Stop(b.now) != nil {
		t.Error("a quiet interface has something to say")
	}
	b.a.SetConfig(b.now, quick())
	b.expect("turned on", b.until(10004*s), 10000*s, 10004*s)
	if _, ok := b.a.RA(b.now); !ok {
		t.Error("an advertising interface has nothing to say")
	}
}

// TestSolicited is RFC 4861 6.2.6. The bench is at 100 s, between advertisements at 99.5 s and 107 s or
// others as told.
func TestSolicited(t *testing.T) {
	long := router()
	long.MinRtrAdvInterval = ptr(450 * s)
	for _, c := range []struct {
		name    string
		draw    float64
		config  Config
		solicit []time.Duration // after 100 s
		want    []time.Duration // within the 10 s after
	}{
		{"delayed at random", 0.5, long, []time.Duration{0}, []time.Duration{250 * ms}},
		{"no delay", 0, long, []time.Duration{0}, []time.Duration{0}},
		{"one answers several, by the delay of the first", 0.5, long, []time.Duration{0, 100 * ms, 200 * ms, 249 * ms}, []time.Duration{250 * ms}},
		{"the second within 3 s of the first", 0.5, long, []time.Duration{0, 300 * ms, 400 * ms}, []time.Duration{250 * ms, 3500 * ms}},
		{"the second after 3 s", 0.5, long, []time.Duration{0, 3300 * ms}, []time.Duration{250 * ms, 3550 * ms}},
		{"the second when 3 s are over", 0.5, long, []time.Duration{0, 3250 * ms}, []time.Duration{250 * ms, 3500 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := begin(t, c.config, always(c.draw))
			b.until(100 * s)
			n := len(b.log)
			for _, d := range c.solicit {
				b.until(100*s + d)
				b.a.Solicit(b.now, hostA)
			}
			b.until(110 * s)
			want := []time.Duration{}
			for _, d := range c.want {
				want = append(want, 100*s+d)
			}
			b.expect("answers", b.log[n:], want...)
			for _, e := range b.log[n:] {
				if e.Dst != wire.AllNodes {
					t.Errorf("answered to %s", e.Dst)
				}
			}
		})
	}
	t.Run("the scheduled one comes sooner", func(t *testing.T) {
		b := begin(t, quick(), always(0.5)) // at 0.25 s, 6.25 s, 12.25 s...
		b.until(6100 * ms)
		b.a.Solicit(b.now, hostA)
		b.expect("answer", b.until(13*s), 6250*ms, 12250*ms)
	})
	t.Run("the timer is reset by an answer", func(t *testing.T) {
		b := begin(t, quick(), always(0.5))
		b.until(5 * s)
		b.a.Solicit(b.now, hostA)
		b.expect("answer", b.until(12*s), 5250*ms, 11250*ms)
	})
	t.Run("a storm", func(t *testing.T) {
		b := begin(t, router(), seeded(7))
		b.until(50 * s)
		n := len(b.log)
		for d := 50 * s; d < 80*s; d += ms {
			b.until(d)
			b.a.Solicit(b.now, hostA)
			b.a.Solicit(b.now, netip.IPv6Unspecified())
		}
		if got := len(b.log) - n; got < 8 || got > 10 { // one every 3 s to 3.5 s
			t.Errorf("60000 solicitations in 30 s led to %d advertisements", got)
		}
		apart(t, b.log, 3*s)
	})
}

// apart checks how far multicast advertisements are apart at least.
func apart(t *testing.T, log []event, least time.Duration) {
	t.Helper()
	last := -time.Hour
	for _, e := range log {
		if e.Dst != wire.AllNodes {
			continue
		}
		if e.at-last < least {
			t.Fatalf("%s after the one at %s", e.at-last, last)
		}
		last = e.at
	}
}

// TestUnicastOnly: hosts are answered each for itself, the unspecified address by multicast, and nothing
// is sent unsolicited.
func TestUnicastOnly(t *testing.T) {
	c := quick()
	c.UnicastOnly = true
	b := begin(t, c, always(0.5))
	b.expect("unsolicited", b.until(100*s))
	b.a.Solicit(b.now, hostA)
	b.a.Solicit(b.now, hostA)
	b.a.Solicit(b.now.Add(100*ms), hostB)
	b.expect("answers", b.until(101*s), 100250*ms, 100350*ms)
	if b.log[0].Dst != hostA || b.log[0].RA.Dst != hostA || b.log[1].Dst != hostB {
		t.Errorf("answered to %s and %s", b.log[0].Dst, b.log[1].Dst)
	}
	b.a.Solicit(b.now, netip.IPv6Unspecified())
	b.a.Solicit(b.now, hostA)
	if got := b.until(110 * s); len(got) != 2 || got[0].Dst != wire.AllNodes || got[1].Dst != hostA || got[1].at != 101250*ms {
		t.Errorf("answered by %+v", got)
	}
	c.AdvCurHopLimit++
	b.a.SetConfig(b.now, c)
	b.expect("changed", b.until(200*s))
	// Bounded, and what is too much is counted.
	for i := range 100 {
		b.a.Solicit(b.now, netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(i)}))
	}
	if got := b.until(201 * s); len(got) != maxUnicast || b.a.Counters().UnicastDropped != 100-maxUnicast {
		t.Errorf("%d answers, %+v", len(got), b.a.Counters())
	}
	// Off: the timer runs again.
	c.UnicastOnly = false
	b.a.SetConfig(b.now, c)
	if got := b.until(210 * s); len(got) != 1 || got[0].at != 207*s {
		t.Errorf("unsolicited again: %+v", times(got))
	}
	// Waiting answers end with the advertising.
	c.UnicastOnly = true
	b.a.SetConfig(b.now, c)
	b.a.Solicit(b.now, hostA)
	b.a.Cease(b.now)
	for _, e := range b.until(300 * s) {
		if !e.Final || e.Dst != wire.AllNodes {
			t.Errorf("ceasing: %+v", e)
		}
	}
}

// TestLateTick: however long the machine slept, one multicast advertisement is sent, and the next an
// interval later.
func TestLateTick(t *testing.T) {
	b := begin(t, quick(), always(0.5))
	b.until(20 * s)
	b.a.Solicit(b.now, hostA)
	b.now = start.Add(time.Hour)
	if got := b.a.Tick(b.now); len(got) != 1 {
		t.Fatalf("sent %d", len(got))
	}
	if got := b.a.Tick(b.now); len(got) != 0 {
		t.Fatalf("sent %d more", len(got))
	}
	if d := b.a.Deadline().Sub(b.now); d != 6*s {
		t.Errorf("next in %s", d)
	}
}

// TestTiming runs 1000 hours with solicitations and changes at random: 6.2.4, 6.2.6.
func TestTiming(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := router()
	c.MaxRtrAdvInterval, c.MinRtrAdvInterval = 100*s, ptr(40*s)
	b := begin(t, c, rng.Float64)
	const hours = 1000
	b.until(hours * time.Hour)
	apart(t, b.log, 3*s)
	sum, low, high := time.Duration(0), 0, 0
	for i := 1; i < len(b.log); i++ {
		d := b.log[i].at - b.log[i-1].at
		if i <= MaxInitialRtrAdvertisements {
			if d != MaxInitialRtrAdvertInterval {
				t.Errorf("initial interval of %s", d)
			}
			continue
		}
		if d < 40*s || d > 100*s {
			t.Fatalf("interval of %s", d)
		}
		sum += d
		if d < 46*s {
			low++
		}
		if d > 94*s {
			high++
		}
	}
	n := len(b.log) - 4
	if mean := sum / time.Duration(n); mean < 69*s || mean > 71*s {
		t.Errorf("mean interval of %s", mean)
	}
	for what, got := range map[string]int{"lowest": low, "highest": high} { // uniform: a tenth each
		if got < n*9/100 || got > n*11/100 {
			t.Errorf("%d of %d intervals in the %s tenth", got, n, what)
		}
	}

	// With everything going on at once the limit still holds.
	b = begin(t, c, rng.Float64)
	delays := map[int]int{}
	for d := time.Duration(0); d < hours*time.Hour; d += time.Duration(rng.ExpFloat64() * float64(200*s)) {
		b.until(d)
		switch rng.IntN(10) {
		case 0:
			c.AdvCurHopLimit++
			b.a.SetConfig(b.now, c)
		case 1:
			b.a.Cease(b.now)
		case 2:
			b.a.SetConfig(b.now, c)
		default:
			before := len(b.log)
			b.a.Solicit(b.now, hostA)
			if due := b.a.solicit; due != clock.Never && before > 0 && b.now.Sub(start)-b.log[before-1].at > 3*s {
				delays[int(due.Sub(b.now)/(50*ms))]++
			}
		}
	}
	apart(t, b.log, 3*s)
	for i := range 10 {
		if delays[i] < delays[9]/2 || delays[i] == 0 || len(delays) != 10 {
			t.Fatalf("delays of answers by 50 ms: %v", delays)
		}
	}
}
