package slaac

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
)

// host is what a caller makes of the effects.
type host struct {
	t    *testing.T
	a    *Autoconf
	ends map[netip.Addr]Effect
	born map[netip.Addr]clock.Instant // of temporary ones
}

// apply takes in effects, each of which has to fit what was said before.
func (h *host) apply(now clock.Instant, es []Effect) {
	for _, e := range es {
		_, has := h.ends[e.Addr]
		switch {
		case e.Kind == Add && has, (e.Kind == Update || e.Kind == Remove) && !has:
			h.t.Fatalf("%s when there is such an address: %v", show([]Effect{e}), has)
		case e.Kind == Add && e.Temporary:
			if e.Preferred <= now.Add(h.a.vars.RegenAdvance) { // RFC 8981 3.4 5.
				h.t.Fatalf("%s is hardly preferred", e.Addr)
			}
			h.born[e.Addr] = now
		}
		switch e.Kind {
		case Add, Update:
			e.Kind = Update
			h.ends[e.Addr] = e
		case Remove:
			delete(h.ends, e.Addr)
		}
	}
}

// check holds List against what the effects said, and both against the bounds.
func (h *host) check(now clock.Instant) {
	list := h.a.List()
	if len(list) != len(h.ends) {
		h.t.Fatalf("%d addresses, the effects say %d", len(list), len(h.ends))
	}
	of := map[netip.Prefix]int{}
	preferred := map[netip.Prefix]int{}
	for _, e := range list {
		if h.ends[e.Addr] != e {
			h.t.Fatalf("%+v, the effects say %+v", e, h.ends[e.Addr])
		}
		if e.Preferred > e.Valid || e.Valid <= now {
			h.t.Fatalf("%s: valid for %s, preferred for %s", e.Addr, e.Valid.Sub(now), e.Preferred.Sub(now))
		}
		p, _ := e.Addr.Prefix(64)
		of[p]++
		if !e.Temporary {
			continue
		}
		v := h.a.vars
		if born := h.born[e.Addr]; e.Valid > born.Add(v.TempValid) || e.Preferred > born.Add(v.TempPreferred) { // RFC 8981 3.4 1.
			h.t.Fatalf("%s exceeds the lifetimes of temporary addresses", e.Addr)
		}
		if e.Preferred > now.Add(v.RegenAdvance) {
			if preferred[p]++; preferred[p] > 1 { // 3.5
				h.t.Fatalf("%d temporary addresses of %s are preferred", preferred[p], p)
			}
		}
	}
	for p, n := range of {
		if n > 1+maxTemporary {
			h.t.Fatalf("%d addresses of %s", n, p)
		}
	}
	if len(h.a.prefixes) > stable.MaxPrefixes || len(h.a.spent) > stable.MaxPrefixes {
		h.t.Fatalf("%d prefixes, %d remembered", len(h.a.prefixes), len(h.a.spent))
	}
	if d := h.a.Deadline(); d <= now {
		h.t.Fatalf("after a Tick the deadline is %s ago", now.Sub(d))
	}
}

// FuzzSequence: whatever happens in whatever order, the effects say what there is, every address is within
// its lifetimes and their number within the bounds.
func FuzzSequence(f *testing.F) {
	f.Add([]byte{1, 0, 0, 200, 200, 4, 100, 0, 0, 0, 0, 200, 0})
	f.Add([]byte{1, 0, 1, 255, 255, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 9, 9})
	f.Add([]byte{1, 2, 3, 9, 6, 0, 0, 99, 99, 4, 50, 0, 0, 2, 1, 200, 100, 4, 200, 0, 0, 3, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) == 0 {
			return
		}
		n, v := 0, temporary()
		v.RegenAdvance = time.Duration(in[0]) * time.Minute
		a := New(v, &wideIDs{}, func() float64 { n++; return float64(n%10) / 10 })
		h := &host{t: t, a: a, ends: map[netip.Addr]Effect{}, born: map[netip.Addr]clock.Instant{}}
		now := t0
		for in = in[1:]; len(in) >= 4; in = in[4:] {
			x, y, z := in[1], time.Duration(in[2]), time.Duration(in[3])
			switch in[0] % 6 {
			case 0: // lifetimes from seconds to weeks
				p := netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 7: x % 6}), 64)
				h.apply(now, a.Prefix(now, pio(p, y*y*y*100*time.Millisecond, min(y, z)*y*z*100*time.Millisecond)))
			case 1:
				if l := a.List(); len(l) > 0 {
					es := a.DADFailed(now, l[int(x)%len(l)].Addr)
					h.apply(now, es)
				}
			case 2:
				v.Temporary = x&1 != 0
				v.TempValid = max(y, z) * y * time.Minute
				v.TempPreferred = min(y, z) * y * time.Minute
				h.apply(now, a.SetVars(now, v))
			case 3:
				if x == 0 {
					h.apply(now, a.Flush())
				}
			case 4:
				now = now.Add(time.Duration(x) * time.Hour)
			case 5: // as a caller that waits for deadlines
				for end := now.Add(time.Duration(x) * time.Minute); a.Deadline() <= end; {
					now = a.Deadline()
					h.apply(now, a.Tick(now))
					h.check(now)
				}
			}
			h.apply(now, a.Tick(now))
			h.check(now)
		}
	})
}
