package ndp

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// prefixRA is an advertisement of one autonomous prefix, with a link MTU.
func prefixRA(valid time.Duration) []byte {
	return ndwire.AppendRA(nil, ndwire.RA{
		Src: peerLL, Dst: wire.AllNodes, RouterLifetime: time.Hour, MTU: 1400, SourceLLA: &peerMAC,
		Prefixes: []ndwire.PrefixInfo{{Prefix: netip.MustParsePrefix("2001:db8:a::/64"), OnLink: true, Autonomous: true, Valid: valid, Preferred: valid}},
	})
}

// listening returns a bench whose link takes advertisements and has heard one.
func listening(t *testing.T) (*bench, *address) {
	b := newBench(t, "fe80::1")
	b.change(func(l *module.Link) { l.Forwarding = false })
	b.advance(5 * time.Second)
	b.hear(prefixRA(time.Hour))
	b.advance(5 * time.Second)
	for _, a := range b.m.addrs {
		if a.autoconf {
			return b, a
		}
	}
	t.Fatal("no address was made")
	return nil, nil
}

// TestRemovedAddressIsMadeAgain: one that an operator removed is back with the next advertisement.
func TestRemovedAddressIsMadeAgain(t *testing.T) {
	b, a := listening(t)
	b.m.removeAddress(b.Manual.Now(), a)
	b.advance(time.Second)
	b.hear(prefixRA(time.Hour))
	if b.m.find(1, a.addr) == nil {
		t.Error("it is not")
	}
}

// TestConfiguredAddressReplacesAutoconf: an address that was made of a prefix and is configured later
// is the configuration's, and only there once.
func TestConfiguredAddressReplacesAutoconf(t *testing.T) {
	b, a := listening(t)
	commit, err := b.m.Prepare(&module.Config{Seed: 7, Links: []module.LinkConfig{{
		Name: "lan0", Index: 1, LinkLocal: "fe80::1", Addresses: []module.AddressConfig{{Prefix: netip.PrefixFrom(a.addr, 64), DAD: true}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	commit(b.Manual.Now())
	b.hear(prefixRA(2 * time.Hour))
	n := 0
	for _, x := range b.m.addrs {
		if x.addr == a.addr {
			n++
			if x.autoconf || x.protocol != "static" {
				t.Errorf("%+v", x)
			}
		}
	}
	if n != 1 {
		t.Errorf("it is there %d times", n)
	}
}

// TestParametersGoWithTheLink: another link with the same index does not have them.
func TestParametersGoWithTheLink(t *testing.T) {
	b, _ := listening(t)
	if b.Params[1].MTU != 1400 {
		t.Fatalf("parameters %+v", b.Params[1])
	}
	b.LinkList = nil
	b.m.LinksChanged(b.Manual.Now(), b.Links())
	if b.Params[1] != (module.LinkParams{}) {
		t.Errorf("parameters %+v", b.Params[1])
	}
}

// TestNextHopIsNotRedirectedToItself: who sends what is for itself is told nothing.
func TestNextHopIsNotRedirectedToItself(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(5 * time.Second)
	for src, want := range map[string]int{"2001:db8::5": 0, "2001:db8::6": 1} {
		p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: 59, HopLimit: 64, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("2001:db8::5")}))
		p.In, p.Out, p.NextHop = 1, 1, netip.MustParseAddr("2001:db8::5").As16()
		b.Routed = nil
		b.m.redirect(b.Manual.Now(), b.m.links[1], p)
		if len(b.Routed) != want {
			t.Errorf("%s: %d redirects", src, len(b.Routed))
		}
	}
}

// TestContradictionsAreLoggedOnceAMinute: each that is new is counted, but a router that says something
// else each time does not fill the log.
func TestContradictionsAreLoggedOnceAMinute(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	l := b.m.links[1]
	l.cfg.adv.AdvSendAdvertisements = true
	b.advance(5 * time.Second)
	b.m.syncRouter(b.Manual.Now(), l)
	say := func(hopLimit uint8) {
		b.hear(ndwire.AppendRA(nil, ndwire.RA{Src: peerLL, Dst: wire.AllNodes, CurHopLimit: hopLimit, RouterLifetime: time.Hour}))
	}
	say(1)
	first := l.adv.said[peerLL]
	for i := range 10 {
		say(uint8(2 + i))
	}
	if l.adv.said[peerLL] != first || first.text == "" {
		t.Errorf("logged %+v, then %+v", first, l.adv.said[peerLL])
	}
	b.advance(contradictionPause)
	say(99)
	if got := l.adv.said[peerLL]; got.told != b.Manual.Now() {
		t.Errorf("a minute later %+v", got)
	}
	if n := b.Counters["ra_contradictions"].Value(); n != 12 {
		t.Errorf("%d counted", n)
	}
}
