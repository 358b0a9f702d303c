package ndp

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
)

var (
	global = netip.MustParseAddr("2001:db8::1")
	anyone = netip.MustParseAddr("2001:db8::") // the Subnet-Router anycast address of global
	peerLL = netip.MustParseAddr("fe80::2")
)

// change lets the link become what set makes of it.
func (b *bench) change(set func(*module.Link)) {
	l := *b.LinkList[0]
	set(&l)
	b.LinkList[0] = &l
	b.m.LinksChanged(b.Manual.Now(), b.Links())
}

// sentAt is a message and when it was sent.
type sentAt struct {
	ndwire.Message
	at clock.Instant
}

// watch lets d pass and returns what is sent meanwhile with its times.
func (b *bench) watch(d time.Duration) (out []sentAt) {
	b.Sent = nil
	for end := b.Manual.Now().Add(d); b.Manual.Now() < end; {
		b.advance(min(end, max(b.m.Deadline(), b.Manual.Now())).Sub(b.Manual.Now()))
		for _, m := range b.messages() {
			out = append(out, sentAt{m, b.Manual.Now()})
		}
	}
	return out
}

func adverts(ms []sentAt) (out []sentAt) {
	for _, m := range ms {
		if m.Type == wire.TypeNeighborAdvertisement {
			out = append(out, m)
		}
	}
	return out
}

// newHost is a bench whose link does not forward, and takes no advertisements.
func newHost(t *testing.T, addrs ...string) *bench {
	b := newBench(t, "fe80::1", addrs...)
	b.m.links[1].cfg.host.AcceptRA = acceptNever
	b.change(func(l *module.Link) { l.Forwarding = false })
	return b
}

// TestRoutersAreToldOfNewAddresses: RFC 9131 6.1.2: three NAs to the routers, RetransTimer apart, as
// soon as DAD has ended; not for link-local and anycast addresses.
func TestRoutersAreToldOfNewAddresses(t *testing.T) {
	b := newHost(t, "2001:db8::1/64")
	var assigned clock.Instant
	var got []sentAt
	for range 100 {
		got = append(got, adverts(b.watch(100*time.Millisecond))...)
		if assigned == 0 && len(b.m.Waiting()) == 0 {
			assigned = b.Manual.Now()
		}
	}
	if len(got) != maxNeighborAdvertisement {
		t.Fatalf("%d advertisements: %+v", len(got), got)
	}
	for i, m := range got {
		if m.Src != global || m.Target != global || m.Dst != wire.AllRouters || m.Solicited || m.Override || m.TargetLLA != ownMAC || m.Router {
			t.Errorf("%+v", m)
		}
		if i > 0 && m.at.Sub(got[i-1].at) != time.Second {
			t.Errorf("%s after the one before", m.at.Sub(got[i-1].at))
		}
	}
	if first := got[0].at; first > assigned || assigned.Sub(first) > 100*time.Millisecond {
		t.Errorf("the first %s after the address was assigned", first.Sub(assigned))
	}
}

// TestRoutersAreNotTold: of addresses that are not preferred, are duplicates, or are on a link that is
// down.
func TestRoutersAreNotTold(t *testing.T) {
	for name, event := range map[string]func(*bench){
		"duplicate": func(b *bench) {
			b.hear(ndwire.AppendNA(nil, ndwire.NA{Src: global, Dst: wire.AllNodes, Target: global, TargetLLA: &peerMAC}))
		},
		"deprecated": func(b *bench) { b.m.find(1, global).preferred = b.Manual.Now().Add(time.Millisecond) },
		"link down":  func(b *bench) { b.change(func(l *module.Link) { l.Carrier = false }) },
		"removed":    func(b *bench) { b.m.removeAddress(b.Manual.Now(), b.m.find(1, global)) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newHost(t, "2001:db8::1/64")
			event(b)
			if got := adverts(b.watch(10 * time.Second)); len(got) != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
	// While they are being told.
	b := newHost(t, "2001:db8::1/64")
	for b.m.find(1, global).announce != maxNeighborAdvertisement-1 {
		b.advance(10 * time.Millisecond)
	}
	b.m.find(1, global).preferred = b.Manual.Now().Add(time.Millisecond)
	if got := adverts(b.watch(10 * time.Second)); len(got) != 0 {
		t.Errorf("deprecated meanwhile: %+v", got)
	}
}

// TestRoutersAreToldWithoutDAD: an address without detection is assigned at once.
func TestRoutersAreToldWithoutDAD(t *testing.T) {
	b := newHost(t)
	b.advance(5 * time.Second)
	b.m.addAddress(b.Manual.Now(), &address{addr: global, prefixLen: 64, link: 1, noDAD: true, valid: clock.Never, preferred: clock.Never})
	if got := adverts(b.watch(10 * time.Second)); len(got) != maxNeighborAdvertisement {
		t.Errorf("%d advertisements", len(got))
	}
}

// TestAnycastAnswerIsDelayed: RFC 4861 7.2.7: up to a second, and without Override.
func TestAnycastAnswerIsDelayed(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(10 * time.Second)
	solicit := func(target netip.Addr) {
		b.hear(ndwire.AppendNS(nil, ndwire.NS{Src: peerLL, Dst: wire.SolicitedNode(target), Target: target, SourceLLA: &peerMAC}))
	}
	b.Sent = nil
	solicit(global)
	if ms := b.messages(); len(ms) != 1 || !ms[0].Override {
		t.Errorf("a unicast address: %+v", ms)
	}
	seen := map[time.Duration]bool{}
	for range 5 {
		asked := b.Manual.Now()
		solicit(anyone)
		if n := len(b.messages()); n != 0 {
			t.Fatalf("%d answers at once", n)
		}
		got := b.watch(2 * time.Second)
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		if m := got[0]; m.Target != anyone || m.Dst != peerLL || m.Src == anyone || !m.Solicited || m.Override || m.at.Sub(asked) > maxAnycastDelayTime {
			t.Errorf("after %s: %+v", m.at.Sub(asked), m)
		}
		seen[got[0].at.Sub(asked)] = true
	}
	if len(seen) != 5 {
		t.Errorf("the delay is not random: %v", seen)
	}

	for range 2 * maxDelayed {
		solicit(anyone)
	}
	if got := b.watch(2 * time.Second); len(got) != maxDelayed || b.Counters["delayed_na_refused"].Value() != maxDelayed {
		t.Errorf("%d of a flood are answered, %d counted", len(got), b.Counters["delayed_na_refused"].Value())
	}
	solicit(anyone)
	b.change(func(l *module.Link) { l.Carrier = false })
	b.change(func(l *module.Link) { l.Carrier = true })
	if n := len(b.m.links[1].delayed); n != 0 {
		t.Errorf("%d answers have survived a break of the link", n)
	}
	b.advance(10 * time.Second) // DAD again, and what follows it
	solicit(anyone)
	b.change(func(l *module.Link) { l.Forwarding = false }) // no router, no Subnet-Router anycast address
	if got := adverts(b.watch(2 * time.Second)); len(got) != 0 {
		t.Errorf("answered for an address that is gone: %+v", got)
	}
}

// TestRouterLearnsFromAdvertisements: RFC 9131 6.1.1, as long as the link forwards.
func TestRouterLearnsFromAdvertisements(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(10 * time.Second)
	na := func(target string) *nud.Entry {
		a := netip.MustParseAddr(target)
		b.hear(ndwire.AppendNA(nil, ndwire.NA{Src: a, Dst: wire.AllRouters, Target: a, TargetLLA: &peerMAC}))
		return b.m.links[1].cache.Get(a)
	}
	if e := na("2001:db8::7"); e == nil || e.State != nud.Stale || e.LLA != peerMAC {
		t.Errorf("a router: %+v", e)
	}
	b.change(func(l *module.Link) { l.Forwarding = false })
	if e := na("2001:db8::8"); e != nil {
		t.Errorf("a host: %+v", e)
	}
	b.change(func(l *module.Link) { l.Forwarding = true })
	if e := na("2001:db8::9"); e == nil {
		t.Error("a router again learns nothing")
	}
}

// TestRSWithoutAnAddress: it still says whether its sender is a router (RFC 4861 6.2.6).
func TestRSWithoutAnAddress(t *testing.T) {
	b := newBench(t, "fe80::1")
	b.advance(5 * time.Second)
	b.hear(ndwire.AppendNS(nil, ndwire.NS{Src: peerLL, Dst: wire.SolicitedNode(b.linkLocal().Addr), Target: b.linkLocal().Addr, SourceLLA: &peerMAC}))
	e := b.m.links[1].cache.Get(peerLL)
	b.m.apply(b.Manual.Now(), b.m.links[1], b.m.links[1].cache.IsRouter(peerLL, nil))
	if e == nil || !e.IsRouter {
		t.Fatalf("known as a router: %+v", e)
	}
	b.hear(ndwire.AppendRS(nil, ndwire.RS{Src: peerLL, Dst: wire.AllRouters}))
	if e.IsRouter {
		t.Errorf("after an RS: %+v", e)
	}
}

// TestSilentNeighborInUse: RFC 7048 3: packets go on to a neighbor that is silent, while it is probed by
// multicast, and then it is given up.
func TestSilentNeighborInUse(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(10 * time.Second)
	b.hear(ndwire.AppendNS(nil, ndwire.NS{Src: peerLL, Dst: wire.SolicitedNode(global), Target: global, SourceLLA: &peerMAC}))
	send := func() (ok bool) {
		p := packet.New(make([]byte, 40))
		p.Out, p.NextHop = 1, peerLL.As16()
		ok = b.m.resolve(p) == packet.Continue && p.DstMAC == peerMAC
		for len(b.Mailbox) > 0 {
			b.m.Receive(b.Manual.Now(), <-b.Mailbox)
		}
		return ok
	}
	begin := b.Manual.Now()
	var multicast []time.Duration
	b.Sent = nil
	for b.Manual.Now().Sub(begin) < 46*time.Second {
		if !send() {
			t.Fatalf("after %s a packet was not sent", b.Manual.Now().Sub(begin))
		}
		b.advance(time.Second)
		for _, m := range b.messages() {
			if m.Type == wire.TypeNeighborSolicitation && m.Target == peerLL && m.Dst.IsMulticast() {
				multicast = append(multicast, b.Manual.Now().Sub(begin))
			}
		}
	}
	// DELAY 5 s, PROBE 3 s, then 3 and 9 s; given up 27 s after the third.
	want := []time.Duration{8 * time.Second, 11 * time.Second, 20 * time.Second}
	if len(multicast) != len(want) {
		t.Fatalf("probes at %v, want %v", multicast, want)
	}
	for i := range want {
		if multicast[i] != want[i] {
			t.Errorf("probes at %v, want %v", multicast, want)
		}
	}
	b.advance(2 * time.Minute) // nobody uses it any more
	if b.m.links[1].cache.Get(peerLL) != nil {
		t.Error("nobody uses it, and it is still there")
	}
	k := peerLL.As16()
	if (*b.m.tables.Load())[1].lookup(&k) != nil {
		t.Error("it is gone, but packets go to it")
	}
}
