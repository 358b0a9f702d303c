package ndp

import (
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// TestSilentGateway: one that does not answer is told of, solicited once a minute and no more, and told of
// when it answers again.
func TestSilentGateway(t *testing.T) {
	b := newBench(t, "fe80::1")
	b.advance(5 * time.Second)
	b.m.GatewaysChanged(b.Manual.Now(), []module.Hop{{Link: 1, Addr: peerLL}})
	if b.Silent != nil {
		t.Errorf("nothing is known, but %v", b.Silent)
	}
	p := packet.New(wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: 59, HopLimit: 64, Src: global, Dst: global}))
	b.m.Receive(b.Manual.Now(), module.Event{Kind: evResolve, Link: 1, Addr: peerLL.As16(), Pkt: p})
	b.advance(10 * time.Second)
	if len(b.Silent) != 1 || b.Silent[0].Addr != peerLL {
		t.Fatalf("after resolution has failed: %v", b.Silent)
	}
	asked := 0
	for _, m := range b.watch(10 * time.Minute) {
		if m.Type == wire.TypeNeighborSolicitation && m.Target == peerLL {
			asked++
		}
	}
	if asked < 9 || asked > 10 {
		t.Errorf("solicited %d times in ten minutes", asked)
	}
	for range 200 { // until it is asked again
		if b.advance(time.Second); len(b.messages()) > 0 {
			b.hear(ndwire.AppendNA(nil, ndwire.NA{Src: peerLL, Dst: b.linkLocal().Addr, Target: peerLL, Router: true, Solicited: true, Override: true, TargetLLA: &peerMAC}))
			break
		}
	}
	if len(b.Silent) != 0 {
		t.Errorf("it has answered: %v", b.Silent)
	}
	if d := b.m.gatewayDeadline(); d < b.Manual.Now().Add(time.Hour) {
		t.Errorf("it is still to be solicited in %s", d.Sub(b.Manual.Now()))
	}
}
