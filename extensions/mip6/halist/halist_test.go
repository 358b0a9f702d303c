package halist

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

const second = clock.Instant(time.Second)

func list(seed uint64) *List { return New(rand.New(rand.NewPCG(seed, 1)).IntN) }

func global(i, j int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:100::%x:%x", i, j))
}

// ra is an advertisement of the ith agent with so many addresses.
func ra(i int, pref uint16, n int) Advertisement {
	a := Advertisement{From: netip.MustParseAddr(fmt.Sprintf("fe80::%x", i)), HomeAgent: true, Preference: pref, Lifetime: 1000 * time.Second}
	for j := range n {
		a.Addresses = append(a.Addresses, Address{global(i, j), wire.Infinite})
	}
	return a
}

func (l *List) count() (agents, addrs int) {
	for _, a := range l.List() {
		agents++
		addrs += len(a.Addresses)
	}
	return
}

// TestAdvertised: every step of RFC 6275 10.5.1.
func TestAdvertised(t *testing.T) {
	for _, c := range []struct {
		name          string
		then          func(a *Advertisement) // the second advertisement, after 10 s
		agents, addrs int
		pref          uint16
		until         time.Duration // from the first
	}{
		{"the same again", func(*Advertisement) {}, 1, 2, 5, 1010 * time.Second},
		{"without H", func(a *Advertisement) { a.HomeAgent = false }, 0, 0, 0, 0},
		{"with lifetime 0", func(a *Advertisement) { a.Lifetime = 0 }, 0, 0, 0, 0},
		{"other preference and lifetime", func(a *Advertisement) { a.Preference, a.Lifetime = 9, 20*time.Second }, 1, 2, 9, 30 * time.Second},
		{"without addresses they stay", func(a *Advertisement) { a.Addresses = nil }, 1, 2, 5, 1010 * time.Second},
		{"one more", func(a *Advertisement) { a.Addresses = []Address{{global(1, 7), time.Hour}} }, 1, 3, 5, 1010 * time.Second},
		{"one is not valid any more", func(a *Advertisement) { a.Addresses[0].Valid = 0 }, 1, 1, 5, 1010 * time.Second},
		{"one that was never valid", func(a *Advertisement) { a.Addresses = []Address{{global(1, 7), 0}} }, 1, 2, 5, 1010 * time.Second},
		{"no addresses of agents", func(a *Advertisement) {
			for _, s := range []string{"fe80::9", "ff0e::1", "::", "::1", "::ffff:1.2.3.4"} {
				a.Addresses = append(a.Addresses, Address{netip.MustParseAddr(s), wire.Infinite})
			}
		}, 1, 2, 5, 1010 * time.Second},
		{"another agent", func(a *Advertisement) { *a = ra(2, 9, 1) }, 2, 3, 9, 1010 * time.Second},
		{"another agent without lifetime", func(a *Advertisement) { *a = ra(2, 9, 1); a.Lifetime = 0 }, 1, 2, 5, 1000 * time.Second},
		{"another router", func(a *Advertisement) { *a = ra(2, 9, 1); a.HomeAgent = false }, 1, 2, 5, 1000 * time.Second},
	} {
		l := list(1)
		now := 100 * second
		l.Advertised(now, ra(1, 5, 2))
		a := ra(1, 5, 2)
		c.then(&a)
		l.Advertised(now+10*second, a)
		agents, addrs := l.count()
		if agents != c.agents || addrs != c.addrs {
			t.Errorf("%s: %d agents, %d addresses", c.name, agents, addrs)
			continue
		}
		if agents > 0 {
			if x := l.List()[0]; x.Preference != c.pref || x.Until != now.Add(c.until) {
				t.Errorf("%s: %+v", c.name, x)
			}
		}
	}
}

// TestExpiry: agents end with their lifetime, addresses with their prefix (RFC 6275 10.1).
func TestExpiry(t *testing.T) {
	l := list(1)
	a := ra(1, 5, 2)
	a.Addresses[1].Valid = 20 * time.Second
	a.Lifetime = 50 * time.Second
	l.Advertised(second, a)
	l.SetOwn(0, false, []netip.Addr{global(0, 0)})
	var at []clock.Instant
	for l.Deadline() != clock.Never {
		at = append(at, l.Deadline())
		before := l.Deadline()
		l.Tick(before - 1)
		if l.Deadline() != before {
			t.Error("over before its time")
		}
		l.Tick(before)
	}
	if !slices.Equal(at, []clock.Instant{21 * second, 51 * second}) {
		t.Errorf("%v", at)
	}
	if agents, addrs := l.count(); agents != 1 || addrs != 1 || l.List()[0].LinkLocal.IsValid() {
		t.Errorf("this node is gone: %+v", l.List())
	}
	l.Advertised(second, a)
	l.Flush()
	l.SetOwn(0, false, nil)
	if agents, _ := l.count(); agents != 0 {
		t.Errorf("%+v", l.List())
	}
}

// TestReply: by preference, agents alike and addresses of one in every order there is, none twice, no more than
// 1280 octets hold (RFC 6275 10.5.1).
func TestReply(t *testing.T) {
	l := list(3)
	l.SetOwn(10, false, []netip.Addr{global(0, 0)})
	l.Advertised(second, ra(1, 10, 2))
	l.Advertised(second, ra(2, 0xffff, 1))
	l.Advertised(second, ra(3, 0, 1))
	l.Advertised(second, ra(4, 3, 0)) // no address to tell
	orders := map[string]int{}
	for range 4000 {
		got, r := l.Reply(second, false)
		if r || len(got) != 5 || got[0] != global(2, 0) || got[4] != global(3, 0) {
			t.Fatalf("%v, %v", got, r)
		}
		// Addresses of one agent stay together.
		if got[2] == global(0, 0) {
			t.Fatalf("%v", got)
		}
		orders[fmt.Sprint(got[1:4])]++
	}
	if len(orders) != 4 {
		t.Errorf("%d orders of four: %v", len(orders), orders)
	}
	for o, n := range orders {
		if n < 800 || n > 1200 {
			t.Errorf("%s: %d of 4000", o, n)
		}
	}
	if got, _ := l.Reply(second+1000*second, false); len(got) != 1 {
		t.Errorf("%v after the lifetimes", got)
	}
	full := list(4)
	for i := range 40 {
		full.Advertised(second, ra(i+1, uint16(i), 3))
	}
	got, _ := full.Reply(second, false)
	if len(got) != wire.MaxHomeAgents || got[0].As16()[13] != 40 || slices.ContainsFunc(got, func(a netip.Addr) bool { return a.As16()[13] < 15 }) {
		t.Errorf("%d: %v", len(got), got)
	}
}

// TestReplyToRouters: RFC 3963 7.2.
func TestReplyToRouters(t *testing.T) {
	l := list(5)
	l.SetOwn(10, false, []netip.Addr{global(0, 0)})
	a := ra(1, 1, 1)
	a.MobileRouter = true
	b := ra(2, 50, 0) // serves them, but has no address
	b.MobileRouter = true
	l.Advertised(second, b)
	if got, r := l.Reply(second, true); r || !slices.Equal(got, []netip.Addr{global(0, 0)}) {
		t.Errorf("%v, %v", got, r)
	}
	l.Advertised(second, a)
	if got, r := l.Reply(second, true); !r || !slices.Equal(got, []netip.Addr{global(1, 0)}) {
		t.Errorf("%v, %v", got, r)
	}
	if got, r := l.Reply(second, false); r || len(got) != 2 {
		t.Errorf("%v, %v", got, r)
	}
	l.SetOwn(10, true, []netip.Addr{global(0, 0)})
	if got, r := l.Reply(second, true); !r || !slices.Equal(got, []netip.Addr{global(0, 0), global(1, 0)}) {
		t.Errorf("%v, %v", got, r)
	}
}

// TestBounded: a flood of agents and addresses displaces nobody.
func TestBounded(t *testing.T) {
	l := list(6)
	for i := range 10_000 {
		l.Advertised(second, ra(i+1, uint16(i), 20))
	}
	agents, addrs := l.count()
	if agents != MaxAgents || addrs != MaxAgents*MaxAddresses || l.Refused() != (10_000-MaxAgents)+MaxAgents*(20-MaxAddresses) {
		t.Errorf("%d agents, %d addresses, %d refused", agents, addrs, l.Refused())
	}
	if !slices.ContainsFunc(l.List(), func(a Agent) bool { return a.LinkLocal == netip.MustParseAddr("fe80::1") }) {
		t.Error("the first is gone")
	}
}

// TestAnycast: RFC 2526 2 and 3.
func TestAnycast(t *testing.T) {
	for _, c := range []struct{ prefix, want string }{
		{"2001:db8:100::/64", "2001:db8:100:0:fdff:ffff:ffff:fffe"},
		{"2001:db8:100::1/64", "2001:db8:100:0:fdff:ffff:ffff:fffe"},
		{"2001:db8:100::/48", "2001:db8:100:ffff:ffff:ffff:ffff:fffe"},
		{"2001:db8:100::/112", "2001:db8:100::fffe"},
		{"2001:db8:100::/121", "2001:db8:100::7e"},
		{"2001:db8:100::80/121", "2001:db8:100::fe"},
		{"2001:db8:100::/122", ""},
		{"192.0.2.0/24", ""},
	} {
		a, ok := Anycast(netip.MustParsePrefix(c.prefix))
		if ok != (c.want != "") || ok && a != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %v, %v", c.prefix, a, ok)
		}
	}
	if _, ok := Anycast(netip.Prefix{}); ok {
		t.Error("of no prefix")
	}
}

func reply(t *testing.T, id uint16, routers bool, agents ...netip.Addr) wire.Control {
	t.Helper()
	a, b := global(1, 1), global(2, 2)
	c, f := wire.ParseControl(wire.AppendDiscoveryReply(nil, id, routers, agents, a, b), 0, a, b)
	if !f.OK() {
		t.Fatal(f)
	}
	return c
}

// TestDiscovery: DHAAD_RETRIES and INITIAL_DHAAD_TIMEOUT (RFC 6275 11.4.1), and which replies count.
func TestDiscovery(t *testing.T) {
	var d Discovery
	if d.Deadline() != clock.Never {
		t.Error("something is due before it has begun")
	}
	if send, failed := d.Tick(1000 * second); send || failed {
		t.Error("something is sent before it has begun")
	}
	now := 10 * second
	d.Start(now, 7, false)
	for i, want := range []time.Duration{3, 6, 12, 24} {
		if got := d.Deadline().Sub(now); got != want*time.Second {
			t.Errorf("%d: after %v", i, got)
		}
		if send, _ := d.Tick(d.Deadline() - 1); send {
			t.Errorf("%d: too early", i)
		}
		now = d.Deadline()
		if send, failed := d.Tick(now); !send || failed {
			t.Errorf("%d: %v, %v", i, send, failed)
		}
		if id, r := d.ID(); id != 7 || r {
			t.Errorf("%d: another request", i)
		}
	}
	if send, failed := d.Tick(d.Deadline()); send || !failed || d.Deadline() != clock.Never {
		t.Errorf("%v, %v", send, failed)
	}

	x, y := global(5, 5), global(6, 6)
	link := netip.MustParseAddr("fe80::1")
	for _, c := range []struct {
		name    string
		routers bool
		c       wire.Control
		want    []netip.Addr
		ok      bool
	}{
		{"in its order", false, reply(t, 7, false, y, x), []netip.Addr{y, x}, true},
		{"twice the same, and one that is none", false, reply(t, 7, false, x, link, x, y), []netip.Addr{x, y}, true},
		{"to another request", false, reply(t, 8, false, x), nil, false},
		{"nobody", false, reply(t, 7, false), nil, false},
		{"nobody to be used", false, reply(t, 7, false, link), nil, false},
		{"for routers", true, reply(t, 7, true, x), []netip.Addr{x}, true},
		{"none for routers", true, reply(t, 7, false, x), nil, true},
	} {
		d.Start(now, 7, c.routers)
		got, ok := d.Replied(c.c)
		if ok != c.ok || !slices.Equal(got, c.want) || (d.Deadline() == clock.Never) != ok {
			t.Errorf("%s: %v, %v", c.name, got, ok)
		}
		if _, again := d.Replied(c.c); again {
			t.Errorf("%s: twice", c.name)
		}
	}
	d.Start(now, 7, false)
	a, b := global(1, 1), global(2, 2)
	request, _ := wire.ParseControl(wire.AppendDiscoveryRequest(nil, 7, false, a, b), 0, a, b)
	if _, ok := d.Replied(request); ok {
		t.Error("a request is a reply")
	}
}

// FuzzReplied: no reply panics, and what comes of it can be registered with.
func FuzzReplied(f *testing.F) {
	f.Add([]byte{145, 0, 0, 0, 0, 7, 0, 0}, false)
	f.Add(append([]byte{145, 0, 0, 0, 0, 7, 0x80, 0}, make([]byte, 32)...), true)
	a, b := global(1, 1), global(2, 2)
	f.Fuzz(func(t *testing.T, list []byte, routers bool) {
		var agents []netip.Addr
		for ; len(list) >= 16; list = list[16:] {
			agents = append(agents, netip.AddrFrom16([16]byte(list)))
		}
		c, fault := wire.ParseControl(wire.AppendDiscoveryReply(nil, 7, routers, agents, a, b), 0, a, b)
		if !fault.OK() {
			t.Fatal(fault)
		}
		var d Discovery
		d.Start(second, 7, routers)
		got, _ := d.Replied(c)
		for _, x := range got {
			if !wire.Routable(x) {
				t.Fatal(x)
			}
		}
	})
}
