package ndp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// bench is a module on a host that keeps everything it is given.
type bench struct {
	*moduletest.Host
	t *testing.T
	m *Module
}

var (
	ownMAC  = [6]byte{2, 0, 0, 0, 0, 1}
	peerMAC = [6]byte{2, 0, 0, 0, 0, 2}
)

// newBench starts a module on one Ethernet link with that link-local setting and addresses.
func newBench(t *testing.T, linkLocal string, addrs ...string) *bench {
	b := &bench{Host: moduletest.NewHost(), t: t, m: New()}
	b.LinkList = []*module.Link{{Index: 1, Name: "lan0", Kind: "pipe", Ethernet: true, MAC: ownMAC, MTU: 1500, Up: true, Carrier: true, Forwarding: true}}
	if err := b.m.Init(b); err != nil {
		t.Fatal(err)
	}
	lc := module.LinkConfig{Name: "lan0", Index: 1, LinkLocal: linkLocal}
	for _, a := range addrs {
		lc.Addresses = append(lc.Addresses, module.AddressConfig{Prefix: netip.MustParsePrefix(a), DAD: true})
	}
	commit, err := b.m.Prepare(&module.Config{Seed: 7, Links: []module.LinkConfig{lc}})
	if err != nil {
		t.Fatal(err)
	}
	commit(b.Manual.Now())
	b.m.Start(b.Manual.Now())
	return b
}

// advance lets d pass, every deadline at its own instant.
func (b *bench) advance(d time.Duration) {
	end := b.Manual.Now().Add(d)
	for {
		next := b.m.Deadline()
		if next > end {
			b.Manual.AdvanceTo(end)
			return
		}
		b.Manual.AdvanceTo(next)
		b.m.Tick(b.Manual.Now())
	}
}

// hear lets the module receive a message.
func (b *bench) hear(pkt []byte) {
	p := packet.New(pkt)
	p.In, p.SrcMAC, p.Proto, p.TransOff = 1, peerMAC, wire.ICMPv6, 40
	b.m.Receive(b.Manual.Now(), module.Event{Kind: evMessage, Link: 1, Pkt: p})
}

// solicitations returns the NS sent since the last call.
func (b *bench) messages() (out []ndwire.Message) {
	for _, s := range b.Sent {
		if m, err := ndwire.Parse(s, 40, false); err == nil {
			out = append(out, m)
		}
	}
	b.Sent = nil
	return out
}

// linkLocal returns the link-local address of the link.
func (b *bench) linkLocal() *module.Addr {
	for _, a := range b.AddrSnap.All() {
		if a.Addr.IsLinkLocalUnicast() {
			return a
		}
	}
	return nil
}

func TestLinkLocalKinds(t *testing.T) {
	stable := newBench(t, "auto").linkLocal().Addr
	if again := newBench(t, "auto").linkLocal().Addr; stable != again || !linkLocalPrefix.Contains(stable) {
		t.Errorf("stable: %s, then %s", stable, again)
	}
	for linkLocal, want := range map[string]string{"eui64": "fe80::ff:fe00:1", "fe80::77": "fe80::77"} {
		if got := newBench(t, linkLocal).linkLocal(); got == nil || got.Addr != netip.MustParseAddr(want) {
			t.Errorf("%s: %+v", linkLocal, got)
		}
	}
	if got := newBench(t, "none").linkLocal(); got != nil {
		t.Errorf("none: %+v", got)
	}
}

func TestReservedIdentifiers(t *testing.T) {
	for id, want := range map[[8]byte]bool{
		{}: true, {0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x80}: true, {0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}: true,
		{0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}: false, {2, 0, 0x5e, 0xff, 0xfe, 0, 0, 1}: true, {2, 0, 0x5e, 0xff, 0xff, 0, 0, 1}: false,
	} {
		if reservedID(id) != want {
			t.Errorf("% x: %v", id, !want)
		}
	}
}

// TestDuplicateStableAddressIsMadeAnew: RFC 7217 6, three times.
func TestDuplicateStableAddressIsMadeAnew(t *testing.T) {
	b := newBench(t, "auto")
	seen := map[netip.Addr]bool{}
	for range 4 {
		a := b.linkLocal().Addr
		if seen[a] {
			t.Fatalf("%s again", a)
		}
		seen[a] = true
		b.hear(ndwire.AppendNA(nil, ndwire.NA{Src: a, Dst: wire.AllNodes, Target: a, TargetLLA: &peerMAC}))
	}
	if a := b.linkLocal(); !a.DADFailed || !seen[a.Addr] {
		t.Errorf("after three retries %+v", a)
	}
	if n := b.Counters["dad_failed"].Value(); n != 4 {
		t.Errorf("%d failures counted", n)
	}
}

// TestDuplicateOfAHardwareAddressStopsTheLink: RFC 4862 5.4.5.
func TestDuplicateOfAHardwareAddressStopsTheLink(t *testing.T) {
	b := newBench(t, "eui64", "2001:db8::1/64")
	a := b.linkLocal().Addr
	b.hear(ndwire.AppendNA(nil, ndwire.NA{Src: a, Dst: wire.AllNodes, Target: a, TargetLLA: &peerMAC}))
	if !b.m.links[1].disabled || !b.linkLocal().DADFailed {
		t.Fatal("the link goes on")
	}
	b.advance(5 * time.Second)
	b.Sent = nil
	b.hear(ndwire.AppendNS(nil, ndwire.NS{Src: netip.MustParseAddr("fe80::2"), Dst: wire.SolicitedNode(netip.MustParseAddr("2001:db8::1")), Target: netip.MustParseAddr("2001:db8::1"), SourceLLA: &peerMAC}))
	if len(b.Sent) != 0 {
		t.Error("it still answers")
	}
}

// TestLoopedProbe: our own probe comes back: counted, three more, assigned.
func TestLoopedProbe(t *testing.T) {
	b := newBench(t, "fe80::1")
	b.advance(time.Second)
	var probe []byte
	for _, s := range b.Sent {
		if m, err := ndwire.Parse(s, 40, false); err == nil && m.Nonce != nil {
			probe = bytes.Clone(s)
		}
	}
	b.messages()
	b.hear(probe)
	b.advance(10 * time.Second)
	if n := len(b.messages()); n != 3 || b.Counters["dad_looped_back"].Value() != 1 {
		t.Errorf("%d more probes, %d loops counted", n, b.Counters["dad_looped_back"].Value())
	}
	if a := b.linkLocal(); a.Tentative || a.DADFailed {
		t.Errorf("%+v", a)
	}
}

// TestUnresolvedNeighborIsReported: three solicitations a second apart, then Destination Unreachable
// code 3 for each queued packet (RFC 4861 7.2.2).
func TestUnresolvedNeighborIsReported(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(5 * time.Second)
	b.Sent = nil
	target := netip.MustParseAddr("2001:db8::9")
	for range 2 {
		b.m.Receive(b.Manual.Now(), module.Event{Kind: evResolve, Link: 1, Addr: target.As16(), Pkt: packet.New([]byte("queued"))})
	}
	b.advance(10 * time.Second)
	ms := b.messages()
	if len(ms) != 3 || ms[0].Src != netip.MustParseAddr("2001:db8::1") || !ms[0].HasSourceLLA {
		t.Errorf("%d solicitations %+v", len(ms), ms)
	}
	want := module.ICMPError{Type: 1, Code: 3}
	if len(b.Errors) != 2 || b.Errors[0] != want || len(b.Dropped) != 2 {
		t.Errorf("errors %v, dropped %v", b.Errors, b.Dropped)
	}
}

// TestAnnounceAfterAddressChange: RFC 4861 7.2.6.
func TestAnnounceAfterAddressChange(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(5 * time.Second)
	b.Sent = nil
	l := *b.LinkList[0]
	l.MAC = [6]byte{2, 9, 9, 9, 9, 9}
	b.LinkList[0] = &l
	b.m.LinksChanged(b.Manual.Now(), b.Links())
	ms := b.messages()
	if len(ms) != 2 {
		t.Fatalf("%d announcements", len(ms))
	}
	for _, m := range ms {
		if m.Type != wire.TypeNeighborAdvertisement || m.Dst != wire.AllNodes || m.Solicited || !m.Override || m.TargetLLA != l.MAC || !m.Router {
			t.Errorf("%+v", m)
		}
	}
}

// TestLinkUpRunsDADAgain: what was ours may be somebody else's now.
func TestLinkUpRunsDADAgain(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8::1/64")
	b.advance(5 * time.Second)
	set := func(carrier bool) {
		l := *b.LinkList[0]
		l.Carrier = carrier
		b.LinkList[0] = &l
		b.m.LinksChanged(b.Manual.Now(), b.Links())
	}
	set(false)
	b.advance(time.Minute)
	b.Sent = nil
	set(true)
	if len(b.m.Waiting()) != 2 || !b.linkLocal().Tentative {
		t.Errorf("waiting for %v", b.m.Waiting())
	}
	b.advance(5 * time.Second)
	if n := len(b.messages()); n != 2 || len(b.m.Waiting()) != 0 {
		t.Errorf("%d probes, waiting for %v", n, b.m.Waiting())
	}
}

// TestLifetimes: deprecated, then gone.
func TestLifetimes(t *testing.T) {
	b := newBench(t, "fe80::1")
	now := b.Manual.Now()
	b.m.addAddress(now, &address{addr: netip.MustParseAddr("2001:db8::5"), prefixLen: 64, link: 1, valid: now.Add(20 * time.Second), preferred: now.Add(10 * time.Second)})
	b.m.publish(now)
	k := netip.MustParseAddr("2001:db8::5").As16()
	for _, c := range []struct{ there, deprecated bool }{{true, false}, {true, true}, {false, false}} {
		if a := b.AddrSnap.Lookup(&k, 1); (a != nil) != c.there || a != nil && a.Deprecated != c.deprecated {
			t.Errorf("after %s: %+v", b.Manual.Now().Sub(now), a)
		}
		b.advance(11 * time.Second)
	}
}

// section is a configuration section for tests.
type section struct{ set func(any) }

func (s section) Present() bool      { return true }
func (s section) Decode(v any) error { s.set(v); return nil }
func (s section) Fault(key, msg, rfc string) error {
	return fmt.Errorf("%s: %s (%s)", key, msg, rfc)
}

// TestConfigRanges: what is outside its range is refused, with its key and section.
func TestConfigRanges(t *testing.T) {
	for key, change := range map[string]func(*NUDConfig){
		"reachable_time":         func(c *NUDConfig) { c.ReachableTime = 2 * time.Hour },
		"retrans_timer":          func(c *NUDConfig) { c.RetransTimer = 0 },
		"delay_first_probe_time": func(c *NUDConfig) { c.DelayFirstProbeTime = -1 },
		"max_multicast_solicit":  func(c *NUDConfig) { c.MaxMulticastSolicit = 0 },
		"max_unicast_solicit":    func(c *NUDConfig) { c.MaxUnicastSolicit = 101 },
		"max_neighbors":          func(c *NUDConfig) { c.MaxNeighbors = 1 },
		"max_unresolved":         func(c *NUDConfig) { c.MaxUnresolved = c.MaxNeighbors + 1 },
		"queue_packets":          func(c *NUDConfig) { c.QueuePackets = 0 },
	} {
		s := section{func(v any) { change(v.(*NUDConfig)) }}
		_, err := decodeLink(module.LinkConfig{Name: "x", Sections: map[string]module.Section{"nud": s}})
		if err == nil || !strings.HasPrefix(err.Error(), key+": ") || !strings.Contains(err.Error(), "(RFC ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	s := section{func(v any) { v.(*DADConfig).Transmits = -1 }}
	if _, err := decodeLink(module.LinkConfig{Name: "x", Sections: map[string]module.Section{"dad": s}}); err == nil {
		t.Error("negative transmits")
	}
	if c, err := decodeLink(module.LinkConfig{Name: "x"}); err != nil || c.nud != defaultNUD() || c.dad != defaultDAD() {
		t.Errorf("%+v %v", c, err)
	}
}

// TestKnownNeighborsHaveTheirOwnQueue: a message of a neighbor that is known, by address and frame, does not
// wait with those of strangers.
func TestKnownNeighborsHaveTheirOwnQueue(t *testing.T) {
	b := newBench(t, "fe80::1", "2001:db8:1::1/64")
	b.advance(5 * time.Second)
	peer := netip.MustParseAddr("fe80::2")
	target := netip.MustParseAddr("2001:db8:1::1")
	ns := func(mac [6]byte) *packet.Packet {
		p := packet.New(ndwire.AppendNS(nil, ndwire.NS{Src: peer, Dst: wire.SolicitedNode(target), Target: target, SourceLLA: &peerMAC}))
		p.In, p.SrcMAC, p.Proto, p.TransOff = 1, mac, wire.ICMPv6, 40
		return p
	}
	class := func(mac [6]byte) module.Class {
		b.m.discovery(ns(mac))
		return (<-b.Mailbox).Class
	}
	if c := class(peerMAC); c != module.ClassSolicitation {
		t.Errorf("a stranger is of class %d", c)
	}
	b.m.Receive(b.Manual.Now(), module.Event{Kind: evMessage, Link: 1, Pkt: ns(peerMAC)})
	if c := class(peerMAC); c != module.ClassKnown {
		t.Errorf("a known neighbor is of class %d", c)
	}
	if c := class([6]byte{2, 9, 9, 9, 9, 9}); c != module.ClassSolicitation {
		t.Errorf("somebody with its address is of class %d", c)
	}
}
