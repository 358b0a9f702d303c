package radv

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// TestChange is RFC 4861 6.2.4: a change is announced at once, as far as the rate limit allows, and by
// three advertisements no more than 16 s apart.
func TestChange(t *testing.T) {
	c := router() // 399 s when the draw is 0.5
	b := begin(t, c, always(0.5))
	b.until(100 * s)
	c.AdvCurHopLimit = 32
	b.a.SetConfig(b.now, c)
	log := b.until(900 * s)
	b.expect("announced", log, 100*s, 116*s, 132*s, 531*s)
	if log[0].RA.CurHopLimit != 32 || log[0].Final {
		t.Errorf("announced %+v", log[0].RA)
	}

	b.a.SetConfig(b.now, c)
	b.expect("nothing changed", b.until(1000*s), 930*s)
	b.until(1330 * s) // one was sent at 1329 s
	c.AdvCurHopLimit = 33
	b.a.SetConfig(b.now, c)
	b.until(1331 * s)
	c.AdvCurHopLimit = 34
	b.a.SetConfig(b.now, c)
	log = b.until(1340 * s)
	b.expect("two changes within 3 s of an advertisement", log, 1332*s)
	if log[0].RA.CurHopLimit != 34 {
		t.Error("the older change is announced")
	}

	// Other intervals are no news, but the timer follows them.
	b.until(2500 * s)
	quiet := c
	quiet.AdvDefaultLifetime = life(1800 * s)
	quiet.MaxRtrAdvInterval, quiet.MinRtrAdvInterval = 8*s, ptr(4*s)
	b.a.SetConfig(b.now, quiet)
	b.expect("shorter intervals", b.until(2513*s), 2506*s, 2512*s)
	quiet.MaxRtrAdvInterval, quiet.MinRtrAdvInterval = 20*s, ptr(10*s)
	b.a.SetConfig(b.now, quiet)
	b.expect("longer intervals after the next", b.until(2550*s), 2518*s, 2533*s, 2548*s)

	// A change before the first advertisement does not take its short intervals away.
	b = begin(t, router(), always(0.5))
	b.a.SetConfig(b.now, c)
	b.expect("at the start", b.until(100*s), 0, 16*s, 32*s, 48*s)
}

// TestIsRouter: a router that becomes a host but goes on advertising says so at once (6.2.5).
func TestIsRouter(t *testing.T) {
	c := router()
	b := begin(t, c, always(0))
	b.until(100 * s)
	c.IsRouter = false
	b.a.SetConfig(b.now, c)
	if log := b.until(101 * s); len(log) != 1 || log[0].RA.RouterLifetime != 0 || log[0].Final || len(log[0].RA.Prefixes) != 1 {
		t.Errorf("sent %+v", log)
	}
}

// TestCease is RFC 4861 6.2.5: three final advertisements at least 3 s apart, of the same contents but
// for the lifetimes of router and routes (RFC 4191 4); then silence.
func TestCease(t *testing.T) {
	c := router()
	c.AdvDefaultPreference = ndwire.High
	c.HomeAgent = HomeAgent{AdvHomeAgentFlag: true, Preference: 7}
	c.Routes = []Route{{Prefix: prefix("fd00::/48"), AdvRoutePreference: ndwire.Low}}
	c.RDNSS = []RDNSS{{Servers: []netip.Addr{addr("fd00::53")}}}
	off := c
	off.AdvSendAdvertisements, off.AdvPrefixList = false, nil
	for name, cease := range map[string]func(*bench){
		"Cease":                               func(b *bench) { b.a.Cease(b.now) },
		"AdvSendAdvertisements becomes FALSE": func(b *bench) { b.a.SetConfig(b.now, off) },
	} {
		t.Run(name, func(t *testing.T) {
			b := begin(t, c, always(0.5))
			b.until(17 * s) // the last was sent at 16.25 s
			b.a.Solicit(b.now, hostA)
			cease(b)
			b.a.Solicit(b.now, hostA)
			log := b.until(10000 * s)
			b.expect("final", log, 19250*ms, 22250*ms, 25250*ms)
			want := b.log[0].RA
			want.RouterLifetime, want.Preference, want.HomeAgentInfo = 0, ndwire.Medium, nil
			want.Routes = []ndwire.RouteInfo{{Prefix: prefix("fd00::/48"), Preference: ndwire.Low}}
			for _, e := range log {
				if !e.Final || e.Dst != wire.AllNodes || !reflect.DeepEqual(e.RA, want) {
					t.Errorf("final %+v\nwant %+v", e, want)
				}
			}
			cease(b)
			b.expect("ceased twice", b.until(20000*s))
			b.a.SetConfig(b.now, c)
			b.expect("begun anew", b.until(20050*s), 20000250*ms, 20016250*ms, 20032250*ms, 20048250*ms)
			if _, ok := b.a.RA(b.now); !ok || len(b.a.Stale(b.now)) != 0 {
				t.Error("the prefix is stale")
			}
		})
	}
	t.Run("before anything was said", func(t *testing.T) {
		b := begin(t, c, always(0.5))
		b.a.Cease(b.now)
		b.expect("final", b.until(100*s))
		if b.a.Stop(b.now) != nil {
			t.Error("a final advertisement of what was never advertised")
		}
	})
	t.Run("begun anew while ceasing", func(t *testing.T) {
		b := begin(t, c, always(0.5))
		b.until(40 * s)
		b.a.Cease(b.now)
		b.until(41 * s)
		b.a.SetConfig(b.now, c)
		log := b.until(60 * s)
		b.expect("not final", log, 43*s, 59*s)
		if log[0].Final || log[0].RA.RouterLifetime == 0 {
			t.Errorf("%+v", log[0])
		}
		b.a.Cease(b.now)
		b.a.SetConfig(b.now, c)
		b.a.Cease(b.now)
		b.expect("final", b.until(64*s), 62*s)
		b.a.SetConfig(b.now, c)
		b.a.Cease(b.now) // one final advertisement and none since: hosts may not have heard it
		b.expect("final again", b.until(100*s), 65*s, 68*s, 71*s)
	})
}

// TestStop: a shutdown sends one at once, and nothing when the final ones have begun.
func TestStop(t *testing.T) {
	b := begin(t, router(), always(0.5))
	b.until(17 * s)
	out := b.a.Stop(b.now)
	if len(out) != 1 || !out[0].Final || out[0].RA.RouterLifetime != 0 || out[0].Dst != wire.AllNodes || len(out[0].RA.Prefixes) != 1 {
		t.Errorf("sent %+v", out)
	}
	b.expect("after it", b.until(1000*s))
	if b.a.Stop(b.now) != nil {
		t.Error("stopped twice")
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {3 * s, 0}, {7 * s, 0}, {20 * s, 0}} {
		b := begin(t, router(), always(0.5))
		b.until(17 * s)
		b.a.Cease(b.now)
		b.until(17*s + c.after)
		if got := len(b.a.Stop(b.now)); got != c.want {
			t.Errorf("%s after ceasing began: %d", c.after, got)
		}
	}
}

// stale says which prefixes of an advertisement are stale.
func stale(m ndwire.RA) (out []netip.Prefix) {
	for _, p := range m.Prefixes {
		if p.Valid == 0 && p.Preferred == 0 {
			out = append(out, p.Prefix)
		}
	}
	return out
}

// TestStale is RFC 9096 3.5: a prefix that is not configured any more is advertised with both lifetimes 0
// and its flags unchanged for as long as hosts can hold it.
func TestStale(t *testing.T) {
	old := prefix("2001:db8:1::/64")
	c := router()
	c.AdvPrefixList[0].AdvValidLifetime, c.AdvPrefixList[0].AdvAutonomousFlag = life(2*time.Hour), ptr(false)
	b := begin(t, c, always(0.5))
	b.until(100 * s)
	next := router()
	next.AdvPrefixList[0].Prefix = prefix("2001:db8:2::/64")
	b.a.SetConfig(b.now, next)
	b.until(100 * s)
	want := ndwire.PrefixInfo{Prefix: old, OnLink: true}
	if got := b.log[len(b.log)-1]; got.at != 100*s || len(got.RA.Prefixes) != 2 || got.RA.Prefixes[1] != want {
		t.Errorf("announced at %s: %+v", got.at, got.RA.Prefixes)
	}
	if got := b.a.Stale(b.now); !reflect.DeepEqual(got, []StalePrefix{{Prefix: old, OnLink: true, Left: 2 * time.Hour}}) {
		t.Errorf("stale: %+v", got)
	}
	log := b.until(3 * time.Hour)
	for _, e := range log {
		if got := len(stale(e.RA)) == 1; got != (e.at < 100*s+2*time.Hour) {
			t.Errorf("at %s stale: %v", e.at, got)
		}
	}
	if got := b.a.Record(b.now); len(got) != 1 || got[0].Prefix != prefix("2001:db8:2::/64") || !got[0].Live {
		t.Errorf("record: %+v", got)
	}

	t.Run("never sent", func(t *testing.T) {
		b := begin(t, c, always(0.5))
		b.a.SetConfig(b.now, next)
		if got := b.a.Record(b.now); got != nil {
			t.Errorf("record: %+v", got)
		}
	})
	t.Run("back again", func(t *testing.T) {
		b := begin(t, c, always(0))
		b.until(0)
		b.a.SetConfig(b.now, next)
		b.until(5 * s)
		b.a.SetConfig(b.now, c)
		b.until(6 * s)
		if got := b.log[len(b.log)-1].RA; got.Prefixes[0].Prefix != old || got.Prefixes[0].Valid != 2*time.Hour || len(got.Prefixes) != 2 {
			t.Errorf("%+v", got.Prefixes)
		}
	})
	t.Run("without end", func(t *testing.T) {
		c := router()
		c.AdvPrefixList[0].AdvValidLifetime = ptr(Infinite)
		b := begin(t, c, always(0))
		b.until(0)
		b.a.SetConfig(b.now, next)
		b.until(10000 * time.Hour)
		if got := b.a.Stale(b.now); len(got) != 1 || got[0].Left != ndwire.Infinite {
			t.Errorf("stale: %+v", got)
		}
	})
	t.Run("a longer lifetime was heard before", func(t *testing.T) {
		c := router()
		c.AdvPrefixList[0].AdvValidLifetime = life(10 * time.Hour)
		b := begin(t, c, always(0))
		b.until(0)
		c.AdvPrefixList = []Prefix{{Prefix: old, AdvValidLifetime: life(time.Hour)}}
		b.a.SetConfig(b.now, c)
		b.until(time.Hour)
		b.a.SetConfig(b.now, next)
		if got := b.a.Stale(b.now); len(got) != 1 || got[0].Left != 9*time.Hour {
			t.Errorf("stale: %+v", got)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		c := router()
		b := begin(t, c, always(0))
		for i := range 70 {
			c.AdvPrefixList = []Prefix{{
				Prefix:           netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 7: byte(i)}), 64),
				AdvValidLifetime: life(time.Duration(100-i) * time.Hour),
			}}
			b.a.SetConfig(b.now, c)
			b.until(b.now.Sub(start) + 3*s)
		}
		b.a.SetConfig(b.now, router())
		got := b.a.Stale(b.now)
		if len(got) != maxStale || b.a.Counters().StaleEvicted != 70-maxStale {
			t.Errorf("%d stale, %+v", len(got), b.a.Counters())
		}
		if slices.ContainsFunc(got, func(p StalePrefix) bool { return p.Left < 36*time.Hour }) {
			t.Error("those that end last are not the ones that stay")
		}
	})
}

// TestStaleOver: what is over is not evicted but gone. One ends every 3 s here, each after a minute.
func TestStaleOver(t *testing.T) {
	b := begin(t, router(), always(0))
	c := router()
	for i := range 3 * maxStale {
		c.AdvPrefixList = []Prefix{{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 7: byte(i)}), 64), AdvValidLifetime: life(60 * s)}}
		b.a.SetConfig(b.now, c)
		b.until(b.now.Sub(start) + 3*s)
	}
	if got := b.a.Stale(b.now); len(got) != 19 || b.a.Counters().StaleEvicted != 0 {
		t.Errorf("%d stale, %+v", len(got), b.a.Counters())
	}
}

// TestRestart: what was advertised before a restart and is not configured after it is stale, from the
// first advertisement on.
func TestRestart(t *testing.T) {
	c := router()
	c.AdvPrefixList = []Prefix{
		{Prefix: prefix("2001:db8:1::/64"), AdvValidLifetime: life(time.Hour)},
		{Prefix: prefix("2001:db8:2::/64"), AdvValidLifetime: life(time.Hour), AdvOnLinkFlag: ptr(false)},
		{Prefix: prefix("2001:db8:3::/64"), AdvValidLifetime: life(time.Hour)},
	}
	b := begin(t, c, always(0))
	b.until(0)
	c.AdvPrefixList = c.AdvPrefixList[1:]
	b.a.SetConfig(b.now, c)
	b.until(1000 * s)
	record := b.a.Record(b.now)
	want := []StalePrefix{
		{Prefix: prefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Left: 2600 * s},
		{Prefix: prefix("2001:db8:2::/64"), Autonomous: true, Left: time.Hour, Live: true},
		{Prefix: prefix("2001:db8:3::/64"), OnLink: true, Autonomous: true, Left: time.Hour, Live: true},
	}
	if !reflect.DeepEqual(record, want) {
		t.Fatalf("record: %+v\nwant %+v", record, want)
	}
	c.AdvPrefixList = c.AdvPrefixList[1:]
	record = append(record, StalePrefix{Prefix: prefix("2001:db8:4::/64"), Left: 0}, record[0])
	b = begin(t, c, always(0), record...)
	first := b.until(0)[0].RA
	if got := first.Prefixes; len(got) != 3 || got[0].Prefix != prefix("2001:db8:3::/64") || got[0].Valid != time.Hour ||
		got[1] != (ndwire.PrefixInfo{Prefix: prefix("2001:db8:1::/64"), OnLink: true, Autonomous: true}) ||
		got[2] != (ndwire.PrefixInfo{Prefix: prefix("2001:db8:2::/64"), Autonomous: true}) {
		t.Errorf("first: %+v", got)
	}
	b.until(2700 * s)
	if got := b.a.Stale(b.now); len(got) != 1 || got[0].Prefix != prefix("2001:db8:2::/64") || got[0].Left != 900*s {
		t.Errorf("stale: %+v", got)
	}
}

// TestEnded: routes, servers, names and NAT64 prefixes that are not configured any more are advertised
// three times with a lifetime of 0.
func TestEnded(t *testing.T) {
	c := router()
	c.Routes = []Route{{Prefix: prefix("fd00::/48")}, {Prefix: prefix("fd01::/48")}}
	c.RDNSS = []RDNSS{{Servers: []netip.Addr{addr("fd00::1"), addr("fd00::2")}}}
	c.DNSSL = []DNSSL{{Domains: []string{"a.lan", "b.lan"}}}
	c.PREF64 = []PREF64{{Prefix: prefix("64:ff9b::/96")}}
	b := begin(t, c, always(0))
	b.until(100 * s)
	less := c
	less.Routes, less.RDNSS = c.Routes[:1], []RDNSS{{Servers: []netip.Addr{addr("fd00::2")}}}
	less.DNSSL, less.PREF64 = []DNSSL{{Domains: []string{"b.lan"}}}, nil
	b.a.SetConfig(b.now, less)
	log := b.until(200 * s)
	b.expect("announced", log, 100*s, 116*s, 132*s)
	keep, _ := New(start, less, always(0), nil).RA(start)
	want := keep
	want.Routes = append(slices.Clone(keep.Routes), ndwire.RouteInfo{Prefix: prefix("fd01::/48")})
	want.RDNSS = append(slices.Clone(keep.RDNSS), ndwire.RDNSS{Servers: []netip.Addr{addr("fd00::1")}})
	want.DNSSL = append(slices.Clone(keep.DNSSL), ndwire.DNSSL{Domains: []string{"a.lan"}})
	want.PREF64 = []ndwire.PREF64{{Prefix: prefix("64:ff9b::/96")}}
	want.Dst, keep.Dst = wire.AllNodes, wire.AllNodes
	for _, e := range log {
		if !reflect.DeepEqual(e.RA, want) {
			t.Errorf("at %s %+v\nwant %+v", e.at, e.RA, want)
		}
	}
	if got := b.until(400 * s); len(got) != 1 || !reflect.DeepEqual(got[0].RA, keep) {
		t.Errorf("later: %+v", got)
	}
	// However often the configuration changes between two advertisements, there is an end to it.
	b = begin(t, c, always(0))
	for i := range 100 {
		many := c
		many.Routes = []Route{{Prefix: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(i)}), 48)}}
		b.a.SetConfig(b.now, many)
	}
	if m, _ := b.a.RA(b.now); len(m.Routes) != 1+maxEnded || m.Routes[maxEnded].Prefix != prefix("fd62::/48") {
		t.Errorf("%d routes, the last %+v", len(m.Routes), m.Routes[len(m.Routes)-1])
	}
}

// TestEndedComesBack: what is configured again is not ended, and the rest of what ended is said to the end.
func TestEndedComesBack(t *testing.T) {
	c := router()
	c.Routes = []Route{{Prefix: prefix("fd00::/48")}, {Prefix: prefix("fd01::/48")}}
	c.RDNSS = []RDNSS{{Servers: []netip.Addr{addr("fd00::1"), addr("fd00::2")}}}
	less := c
	less.Routes, less.RDNSS = c.Routes[:1], []RDNSS{{Servers: []netip.Addr{addr("fd00::2")}}}
	b := begin(t, c, always(0))
	b.until(400 * s)
	b.a.SetConfig(b.now, less)
	back := less
	back.Routes = c.Routes
	b.a.SetConfig(b.now, back)
	got := b.until(404 * s)
	if m := got[len(got)-1].RA; len(m.Routes) != 2 || m.Routes[1].Lifetime == 0 || len(m.RDNSS) != 2 || m.RDNSS[1].Lifetime != 0 {
		t.Errorf("back: %+v", m)
	}
}
