package ndp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
)

var (
	far         = netip.MustParseAddr("2001:db8:f::1")
	otherRouter = netip.MustParseAddr("fe80::e")
)

// throughPeer is a router of other modules' making: everything goes to the peer.
type throughPeer struct{ module.Router }

func (throughPeer) Route(q module.RouteQuery) module.RouteResult { return through(peerLL, peerLL) }

// through is the answer that packets go to a neighbor, on a route through a router.
func through(gateway, hop netip.Addr) module.RouteResult {
	return module.RouteResult{Route: &packet.Route{}, Gateway: gateway, NextHop: hop, Out: 1}
}

// asked answers questions as a test wants, and keeps them.
type asked struct {
	module.Router
	f  func(q module.RouteQuery) module.RouteResult
	qs []module.RouteQuery
}

func (a *asked) Route(q module.RouteQuery) module.RouteResult {
	a.qs = append(a.qs, q)
	return a.f(q)
}

// quoted is a packet to far, of a protocol with ports.
func quoted(proto uint8, sport, dport uint16) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 8, NextHeader: proto, TrafficClass: 0xb8, HopLimit: 63, Src: netip.MustParseAddr("2001:db8::1"), Dst: far})
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, sport), dport)
	return append(b, 0, 8, 0, 0)
}

func redirectTo(src, target netip.Addr, pkt []byte) []byte {
	return ndwire.AppendRedirect(nil, ndwire.Redirect{Src: src, Dst: netip.MustParseAddr("2001:db8::1"), Target: target, Destination: far, Packet: pkt})
}

// TestRedirectIsOfTheRouter that the route has: the sender, or who redirected to the sender before. The question
// is that of the packet, first as it is for anybody, then for who is bound to the link.
func TestRedirectIsOfTheRouter(t *testing.T) {
	r1, r2, r3 := netip.MustParseAddr("fe80::a1"), netip.MustParseAddr("fe80::a2"), netip.MustParseAddr("fe80::a3")
	onLink := module.RouteResult{Route: &packet.Route{}, NextHop: r1, Out: 1}
	elsewhere := through(r1, r1)
	elsewhere.Out = 2
	for _, c := range []struct {
		name        string
		any, bound  module.RouteResult
		from, by    netip.Addr
		target      netip.Addr
		refused     uint64
		redirection bool
	}{
		{name: "the sender", any: through(r1, r1), from: r1, by: r1, target: r2, redirection: true},
		{name: "redirected before", any: through(r1, r2), from: r2, by: r1, target: r3, redirection: true},
		{name: "and back", any: through(r1, r2), from: r2, target: r1},
		{name: "bound to the link", any: elsewhere, bound: through(r1, r1), from: r1, by: r1, target: r2, redirection: true},
		{name: "one of several", any: through(r2, r2), bound: through(r1, r1), from: r2, by: r2, target: r3, redirection: true},
		{name: "the router of before", any: through(r1, r2), bound: through(r1, r2), from: r1, target: r3, refused: 1},
		{name: "no route", from: r1, target: r2, refused: 1},
		{name: "a neighbor", any: onLink, bound: onLink, from: r1, target: r2, refused: 1},
		{name: "another link", any: elsewhere, bound: elsewhere, from: r1, target: r2, refused: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := listening(t)
			a := &asked{f: func(q module.RouteQuery) module.RouteResult {
				if q.Out == 0 {
					return c.any
				}
				return c.bound
			}}
			b.Routing = a
			b.hear(redirectTo(c.from, c.target, quoted(wire.UDP, 1000, 53)))
			var want []module.Redirect
			if c.redirection {
				want = []module.Redirect{{Link: 1, Dst: far, By: c.by, Target: c.target}}
			}
			if got := fmt.Sprint(b.Redirects); got != fmt.Sprint(want) || b.Counters["redirects_refused"].Value() != c.refused {
				t.Errorf("%s, want %v; %d refused", got, want, b.Counters["redirects_refused"].Value())
			}
			q := module.RouteQuery{Dst: far, Src: netip.MustParseAddr("2001:db8::1"), DSField: 0xb8, Proto: wire.UDP, SPort: 1000, DPort: 53}
			if len(a.qs) == 0 || a.qs[0] != q {
				t.Errorf("asked %+v", a.qs)
			}
		})
	}
}

// TestWhatARedirectIsAbout, as far as it has the packet.
func TestWhatARedirectIsAbout(t *testing.T) {
	src := netip.MustParseAddr("2001:db8::1")
	other := quoted(wire.TCP, 1, 2)
	other[39] = 9
	fragment := append(quoted(wire.Fragment, 0, 0)[:40], wire.TCP, 0, 0, 8, 0, 0, 0, 1, 0, 1, 0, 2)
	for name, c := range map[string]struct {
		pkt  []byte
		want module.RouteQuery
	}{
		"nothing":                   {nil, module.RouteQuery{}},
		"no ports":                  {quoted(wire.ICMPv6, 0x8000, 1), module.RouteQuery{Src: src, DSField: 0xb8, Proto: wire.ICMPv6}},
		"ports":                     {quoted(wire.TCP, 1, 2), module.RouteQuery{Src: src, DSField: 0xb8, Proto: wire.TCP, SPort: 1, DPort: 2}},
		"cut off":                   {quoted(wire.TCP, 1, 2)[:43], module.RouteQuery{Src: src, DSField: 0xb8, Proto: wire.TCP}},
		"header alone":              {quoted(wire.TCP, 1, 2)[:40], module.RouteQuery{Src: src, DSField: 0xb8, Proto: wire.TCP}},
		"less":                      {quoted(wire.TCP, 1, 2)[:39], module.RouteQuery{}},
		"another destination":       {other, module.RouteQuery{}},
		"a fragment, not the first": {fragment, module.RouteQuery{Src: src, DSField: 0xb8, Proto: wire.TCP}},
	} {
		c.want.Dst = far
		if got := about(&ndwire.Message{Destination: far, Redirected: c.pkt}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestRedirectsOfTwoRouters for one destination stand side by side; each is listed until it is flushed or its
// time is over, and published when it changes.
func TestRedirectsOfTwoRouters(t *testing.T) {
	b, _ := listening(t)
	r1, r2 := netip.MustParseAddr("fe80::a1"), netip.MustParseAddr("fe80::a2")
	hear := func(by, target netip.Addr) {
		b.Routing = &asked{f: func(module.RouteQuery) module.RouteResult { return through(by, by) }}
		b.hear(redirectTo(by, target, nil))
	}
	list := func() string {
		v, err := b.m.showRedirects(b.Manual.Now(), module.Request{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, x := range v.([]ndpapi.Redirect) {
			out = append(out, fmt.Sprintf("%s via %s %s %v %d", x.Dst, x.Gateway, x.Dev, x.Flags, x.Expires))
		}
		return strings.Join(out, ", ")
	}
	hear(r1, otherRouter)
	b.advance(5 * time.Minute)
	hear(r2, far) // a neighbor
	if got := list(); got != "2001:db8:f::1 via fe80::e lan0 [redirect] 300, 2001:db8:f::1 via invalid IP lan0 [redirect] 600" {
		t.Error(got)
	}
	if len(b.Redirects) != 2 {
		t.Errorf("published %+v", b.Redirects)
	}
	if _, err := b.m.showRedirects(0, module.Request{Query: map[string]string{"dev": "lan0"}}); err == nil {
		t.Error("a selector that there is not was taken")
	}
	b.advance(5 * time.Minute)
	if len(b.Redirects) != 1 || b.Redirects[0].By != r2 {
		t.Errorf("after ten minutes %+v", b.Redirects)
	}
	hear(r1, otherRouter)
	if v, err := b.m.flushRedirects(b.Manual.Now(), module.Request{}); err != nil || v != (ndpapi.Flushed{Flushed: 2}) || len(b.Redirects) != 0 || list() != "" {
		t.Errorf("flushed %v %v: %+v, %q", v, err, b.Redirects, list())
	}
}
