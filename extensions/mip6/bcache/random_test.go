package bcache

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// nth is the nth address of a prefix.
func nth(prefix string, i uint32) netip.Addr {
	a := netip.MustParseAddr(prefix).As16()
	a[12], a[13], a[14], a[15] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
	return netip.AddrFrom16(a)
}

// TestRandom: whatever happens in whatever order, the parts of the cache agree, it stays within its limits, no
// binding outlives what was granted, and nothing is left in the end.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		r := newRig(t, Limits{Peers: 5, Homes: 4, Ended: 3})
		r.policy.Agent = homeAgent()
		r.policy.Agent.Router = true
		var recorded []Update
		promised := map[Key]clock.Instant{}
		for range 600 {
			r.now = r.now.Add(time.Duration(rnd.Uint32N(20_000)) * time.Millisecond)
			h, co := nth("2001:db8:100::1:0", rnd.Uint32N(9)), nth("2001:db8:200::", rnd.Uint32N(3)+1)
			if rnd.Uint32N(10) == 0 {
				co = nth("2001:db8:100::1:0", rnd.Uint32N(9)) // may be circular
			}
			var o Outcome
			switch rnd.Uint32N(9) {
			case 0, 1, 2:
				u := r.peer(uint16(rnd.Uint32N(60)), uint16(rnd.Uint32N(120)), r.tokens(h, co))
				u.src, u.home, u.wrong = co, h, rnd.Uint32N(8) == 0
				b := r.build(u)
				recorded = append(recorded, b)
				o = r.c.Update(r.now, b, r.policy, r.nonces)
			case 3, 4:
				u := registration(uint16(rnd.Uint32N(60)), uint16(rnd.Uint32N(200)))
				u.home, u.src, u.careOf = h, co, co
				if rnd.Uint32N(2) == 0 {
					u.flags |= wire.FlagMobileRouter
				}
				r.policy.Agent.KeepSequence = h == nth("2001:db8:100::1:0", 0)
				r.policy.Agent.Networks = []netip.Prefix{netip.PrefixFrom(nth("2001:db8:7::", rnd.Uint32N(4)), 128)}
				o = r.register(u)
			case 5:
				o = r.c.DADDone(r.now, Key{agent, h}, rnd.Uint32N(4) == 0)
			case 6:
				r.c.Use(r.now, Key{cn, h})
				if _, ok := r.c.Unreachable(r.now, Key{cn, h}, co); ok {
					delete(promised, Key{cn, h})
				}
			case 7:
				if len(recorded) > 0 { // an attacker
					was := recorded[rnd.IntN(len(recorded))]
					o = r.c.Update(r.now, was, r.policy, r.nonces)
				}
			case 8:
				r.c.Remove(r.now, Key{agent, h})
			}
			switch o.Change {
			case Added, Updated:
				promised[o.After.Key] = o.After.Until
			case Removed:
				delete(promised, o.Before.Key)
			}
			r.check()
			for _, ev := range r.c.Tick(r.now) {
				if (ev.Until <= r.now) == ev.Refresh {
					t.Errorf("%+v at %v", ev, r.now)
				}
			}
			r.check()
			for _, b := range r.c.List() {
				if b.State == Registered && (b.Until != promised[b.Key] || b.Until <= r.now) {
					t.Fatalf("seed %d: %v holds until %v, promised %v, now %v", seed, b.Key, b.Until, promised[b.Key], r.now)
				}
			}
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		for r.c.Deadline() != clock.Never {
			r.now = r.c.Deadline()
			r.c.Tick(r.now)
		}
		for _, b := range r.c.List() { // tentative ones wait for an answer, kept numbers for ever
			if b.State != Tentative && (b.State != Ended || b.Until != clock.Never) {
				t.Errorf("seed %d: left: %+v", seed, b)
			}
		}
	}
}

// FuzzUpdate: no update panics, and none without a valid authenticator or protection changes the cache.
func FuzzUpdate(f *testing.F) {
	r := newRig(f, roomy)
	u := r.build(r.peer(1, 105, r.tokens(home, careOf)))
	for how := range byte(8) {
		f.Add(u.Message.Bytes(), how)
	}
	w := wire.NewBindingUpdate(nil, 1, wire.FlagHome|wire.FlagMobileRouter, 100)
	w.AlternateCareOf(careOf)
	w.MobileNetwork(mnp)
	f.Add(w.Finish(home, cn), byte(7))
	f.Fuzz(func(t *testing.T, mh []byte, how byte) {
		r := newRig(t, roomy)
		if how&4 != 0 {
			r.policy.Agent = homeAgent()
		}
		m, fault := wire.Parse(mh, 0, home, cn)
		u, ok := m.BindingUpdate()
		if !fault.OK() || !ok {
			return
		}
		in := Update{Src: careOf, Dst: cn, Message: u}
		if how&1 != 0 {
			in.HomeOption = home
		}
		if how&2 != 0 {
			in.Protection = IPsec
		}
		o := r.c.Update(r.now, in, r.policy, r.nonces)
		r.check()
		if o.Change != Unchanged && in.Protection == Nothing {
			t.Fatalf("%+v", o)
		}
		if o.Reply != nil && o.Reply.Status != wire.Accepted && o.Reply.Lifetime != 0 {
			t.Fatalf("%+v", o.Reply)
		}
	})
}

// full returns a cache of so many home registrations.
func full(b *testing.B, n int) (*Cache, []Key) {
	c := New(Limits{Homes: n}, func() float64 { return 0 })
	keys := make([]Key, n)
	for i := range keys {
		keys[i] = Key{agent, nth("2001:db8:100::", uint32(i))}
		if !c.Restore(second, Binding{Key: keys[i], CareOf: careOf, State: Registered, Home: true, Until: clock.Instant(i+2) * second}) {
			b.Fatal("no room")
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return c, keys
}

// BenchmarkLookup: the same few mobile nodes among many, and all of them.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		c, keys := full(b, n)
		run := func(name string, keys []Key) {
			b.Run(name, func(b *testing.B) {
				i := 0
				for b.Loop() {
					if _, ok := c.Lookup(keys[i]); !ok {
						b.Fatal("lost")
					}
					if i++; i == len(keys) {
						i = 0
					}
				}
			})
		}
		name := map[int]string{10: "10", 1000: "1000", 100_000: "100000"}[n]
		run(name+"/few", keys[:10])
		run(name+"/all", keys)
	}
}

// BenchmarkRefresh: a registration that is refreshed, among many.
func BenchmarkRefresh(b *testing.B) {
	for _, n := range []int{10, 100_000} {
		b.Run(map[int]string{10: "10", 100_000: "100000"}[n], func(b *testing.B) {
			r := newRig(b, Limits{Homes: n})
			c, keys := full(b, n)
			r.c = c
			r.policy.Agent = homeAgent()
			w := wire.NewBindingUpdate(nil, 1, wire.FlagHome, 1000)
			m := r.parse(w.Finish(home, agent), home, agent)
			i := 0
			for b.Loop() {
				e := c.entries[keys[i]]
				e.Sequence = 0
				if o := c.Update(r.now, Update{Src: careOf, Dst: agent, HomeOption: keys[i].Home, Message: m, Protection: IPsec}, r.policy, r.nonces); o.Change != Updated {
					b.Fatal(o.Reason)
				}
				if i++; i == len(keys) {
					i = 0
				}
			}
		})
	}
}
