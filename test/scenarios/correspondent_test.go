package scenarios

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/netstack"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/mip6/rr"
	mhwire "leveret/extensions/mip6/wire"
	"leveret/test/simnet"
)

// mobileNode speaks for a node that is away from home: its packets have the home address already where they need it.
type mobileNode struct {
	t            *testing.T
	n            *simnet.Net
	node         *simnet.Node
	wire         *simnet.Segment
	home, careOf netip.Addr
	peer         netip.Addr
	seen         int // frames of the segment
}

// send sends a message, with a Home Address option if its source on the wire is the care-of address of a binding.
func (m *mobileNode) send(src netip.Addr, option bool, b []byte) {
	f := wire.IPv6Fields{NextHeader: wire.MH, HopLimit: 64, Src: src, Dst: m.peer}
	var head []byte
	if option {
		f.NextHeader, head = wire.DestOpts, mhwire.AppendHomeAddress(nil, wire.MH, m.home)
	}
	f.PayloadLength = uint16(len(head) + len(b))
	m.node.Path().Send(packet.New(append(append(wire.AppendIPv6(nil, f), head...), b...)))
	m.n.Advance(100 * time.Millisecond)
}

// heard returns the messages of the correspondent since the last time.
func (m *mobileNode) heard() (out []mhwire.Message) {
	m.t.Helper()
	for _, f := range m.wire.Frames[m.seen:] {
		b := f.Data[14:]
		var c wire.Chain
		c.Walk(b)
		src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		if src != m.peer {
			continue
		}
		for _, h := range c.Headers[:c.N] {
			switch h.Proto {
			case wire.Routing:
				dst = netip.AddrFrom16([16]byte(b[h.Off+8:]))
			case wire.MH:
				msg, fault := mhwire.Parse(b, h.Off, src, dst)
				if !fault.OK() {
					m.t.Fatalf("%v: % x", fault.Reason, b)
				}
				out = append(out, msg)
			}
		}
	}
	m.seen = len(m.wire.Frames)
	return out
}

func (m *mobileNode) one() mhwire.Message {
	m.t.Helper()
	all := m.heard()
	if len(all) != 1 {
		m.t.Fatalf("%d messages", len(all))
	}
	return all[0]
}

// register runs the return routability procedure and sends an update; it returns the acknowledgement's status.
func (m *mobileNode) register(seq, lifetime uint16) mhwire.Status {
	m.t.Helper()
	m.heard()
	var index [2]uint16
	var token [2]rr.Token
	for i, from := range [...]netip.Addr{m.home, m.careOf} {
		w := mhwire.NewTestInit(nil, []uint8{mhwire.TypeHoTI, mhwire.TypeCoTI}[i], [8]byte{byte(seq), byte(i)})
		m.send(from, false, w.Finish(from, m.peer))
		test, ok := m.one().Test()
		if !ok || test.Cookie() != [8]byte{byte(seq), byte(i)} {
			m.t.Fatal("no test")
		}
		index[i], token[i] = test.NonceIndex(), test.Token()
	}
	key := rr.BindingKey(token[0], token[1])
	if lifetime == 0 {
		key = rr.DeletionKey(token[0])
	}
	w := mhwire.NewBindingUpdate(nil, seq, mhwire.FlagAcknowledge, lifetime)
	w.NonceIndices(index[0], index[1])
	w.Authorization()
	rr.Sign(key, m.careOf, m.peer, w.Close())
	m.send(m.careOf, true, w.Finish(m.home, m.peer))
	ack, ok := m.one().BindingAck()
	if !ok || ack.Sequence() != seq || !rr.Verify(key, m.careOf, m.peer, ack.Bytes()) {
		m.t.Fatal("no acknowledgement, or a wrong one")
	}
	return ack.Status()
}

// shape says how echo messages between the two went over a segment since frame from: "request reply", each "home", if it had
// home addresses on the wire, or "care-of".
func (m *mobileNode) shape(s *simnet.Segment, from int) string {
	var out [2]string
	for _, f := range s.Frames[from:] {
		b := f.Data[14:]
		var c wire.Chain
		c.Walk(b)
		if c.Proto != wire.ICMPv6 || c.Off >= len(b) || b[c.Off] != wire.TypeEchoRequest && b[c.Off] != wire.TypeEchoReply {
			continue
		}
		how := "home"
		switch {
		case c.N == 1 && c.Headers[0].Proto == wire.DestOpts && wire.HomeAddress(b, &c.Headers[0]) != 0:
			how = "care-of"
		case c.N == 1 && c.Headers[0].Proto == wire.Routing && b[c.Headers[0].Off+2] == 2:
			how = "care-of"
		case c.N != 0:
			how = fmt.Sprintf("% x", b)
		}
		out[b[c.Off]-wire.TypeEchoRequest] = how
	}
	return out[0] + " " + out[1]
}

// TestCorrespondent: a node that is away from home registers with a correspondent node; what they say to each other goes by its
// care-of address then, both ways, until the binding ends. Who uses its home address without a binding, or from elsewhere, is told.
func TestCorrespondent(t *testing.T) {
	const home, careOf, moved, peer = "2001:db8:100::abcd", "2001:db8:2::a", "2001:db8:2::b", "2001:db8:1::c"
	n := simnet.New(t, 6)
	left, right := n.Segment("left"), n.Segment("right")
	cn := n.Node("cn", `version: 1
links: [{name: eth0, kind: pipe, addresses: ["2001:db8:1::c/64"], dad: {transmits: 0}}]
routing: {routes: [{to: "::/0", via: "2001:db8:1::ff"}]}
mobility: {correspondent: {enabled: true}}
`, modules, map[string]*simnet.Segment{"eth0": left})
	// The router stands for the home agent too: what is for the home address goes to where the node is.
	n.Node("r", `version: 1
links:
  - {name: l0, kind: pipe, addresses: ["2001:db8:1::ff/64"], dad: {transmits: 0}}
  - {name: r0, kind: pipe, addresses: ["2001:db8:2::ff/64"], dad: {transmits: 0}}
routing: {routes: [{to: "2001:db8:100::abcd/128", via: "2001:db8:2::a"}]}
`, modules, map[string]*simnet.Segment{"l0": left, "r0": right})
	mn := n.Node("mn", fmt.Sprintf(`version: 1
links: [{name: eth0, kind: pipe, addresses: [%[2]q, "2001:db8:2::b/64", %[1]q], dad: {transmits: 0}}]
routing: {routes: [{to: "::/0", via: "2001:db8:2::ff"}]}
ipsec:
  states:
    - {src: %[3]q, dst: %[4]q, proto: hao, mode: ro, coa: %[5]q}
    - {src: "::", dst: %[3]q, proto: route2, mode: ro, coa: "::", flags: [wildrecv]}
  policies:
    - {name: out, dir: out, sub: sub, priority: 10, action: protect, selector: {src: %[3]q, dst: %[4]q, proto: ipv6-icmp, type: 128}, templates: [{proto: hao, mode: ro}]}
    - {name: back, dir: out, sub: sub, priority: 10, action: protect, selector: {src: %[3]q, dst: %[4]q, proto: ipv6-icmp, type: 129}, templates: [{proto: hao, mode: ro}]}
    - {name: in, dir: in, sub: sub, priority: 10, action: protect, selector: {dst: %[3]q}, templates: [{proto: route2, mode: ro, level: use}]}
`, home+"/128", careOf+"/64", home, peer, careOf), modules, map[string]*simnet.Segment{"eth0": right})
	n.Advance(3 * time.Second)
	m := &mobileNode{t: t, n: n, node: mn, wire: right, home: netip.MustParseAddr(home), careOf: netip.MustParseAddr(careOf), peer: netip.MustParseAddr(peer)}
	out := netstack.PingOptions{Dst: m.peer, Source: m.home, Size: 56}
	toHome := netstack.PingOptions{Dst: m.home, Source: m.peer, Size: 56}

	if got := ping(t, n, mn, out); got != "timeout" {
		t.Errorf("without a binding: %s", got)
	}
	if e, ok := m.one().BindingError(); !ok || e.Status() != mhwire.UnknownBinding || e.HomeAddress() != m.home {
		t.Error("no Binding Error")
	}
	if s := m.register(1, 100); s != mhwire.Accepted {
		t.Fatalf("%v", s)
	}
	for i, p := range []struct {
		from *simnet.Node
		o    netstack.PingOptions
	}{{mn, out}, {cn, toHome}} {
		at := len(left.Frames)
		if got := ping(t, n, p.from, p.o); got != "replied" {
			t.Fatalf("%d: %s, drops %v, %v", i, got, cn.Path().Stats().Drops, mn.Path().Stats().Drops)
		}
		if s := m.shape(left, at); s != "care-of care-of" {
			t.Errorf("%d: %s", i, s)
		}
	}
	// From another address the same home address is somebody else's, binding or not.
	m.heard()
	echo := []byte{wire.TypeEchoRequest, 0, 0, 0, 0, 7, 0, 1}
	s, d := m.home.As16(), m.peer.As16()
	sum := wire.Checksum(&s, &d, wire.ICMPv6, echo)
	echo[2], echo[3] = byte(sum>>8), byte(sum)
	b := append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 32, NextHeader: wire.DestOpts, HopLimit: 64, Src: netip.MustParseAddr(moved), Dst: m.peer}),
		mhwire.AppendHomeAddress(nil, wire.ICMPv6, m.home)...)
	at := len(left.Frames)
	mn.Path().Send(packet.New(append(b, echo...)))
	n.Advance(time.Second)
	if e, ok := m.one().BindingError(); !ok || e.Status() != mhwire.UnknownBinding {
		t.Error("no Binding Error")
	}
	if s := m.shape(left, at); s != "care-of " {
		t.Errorf("from elsewhere: %s", s)
	}
	// A Type 2 Routing header to somebody else's address is for nobody here.
	cn2 := append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 32, NextHeader: wire.Routing, HopLimit: 64, Src: m.careOf, Dst: m.peer}),
		mhwire.AppendType2(nil, wire.ICMPv6, netip.MustParseAddr("2001:db8:9::9"))...)
	mn.Path().Send(packet.New(append(cn2, echo...)))
	n.Advance(time.Second)
	if dropped(cn, packet.RoutingHeaderType2) != 1 {
		t.Errorf("routing header: %v", cn.Path().Stats().Drops)
	}
	// Used, the binding asks for a refresh at the home address; without one it ends.
	asked := 0
	for range 40 {
		ping(t, n, cn, toHome)
		n.Advance(7 * time.Second)
		for _, msg := range m.heard() {
			if msg.Type() == mhwire.TypeBRR {
				asked++
			}
		}
	}
	if asked == 0 || asked > 3 {
		t.Errorf("%d refresh requests", asked)
	}
	at = len(left.Frames)
	if got := ping(t, n, cn, toHome); got == "replied" {
		t.Error("the answer has a home address without a binding")
	}
	if s := m.shape(left, at); s != "home care-of" {
		t.Errorf("afterwards: %s", s)
	}
	// Once more, and deleted.
	if s := m.register(2, 100); s != mhwire.Accepted {
		t.Errorf("%v", s)
	}
	if got := ping(t, n, mn, out); got != "replied" {
		t.Errorf("again: %s", got)
	}
	if s := m.register(3, 0); s != mhwire.Accepted {
		t.Errorf("%v", s)
	}
	if got := ping(t, n, mn, out); got != "timeout" {
		t.Errorf("deleted: %s", got)
	}
}

// TestCorrespondentWithESP: ESP between the home addresses is inside of what the binding puts in front, and knows nothing of it;
// policies for the home address hold for what goes by the care-of address.
func TestCorrespondentWithESP(t *testing.T) {
	const home, careOf, peer = "2001:db8:100::abcd", "2001:db8:1::a", "2001:db8:1::c"
	n := simnet.New(t, 7)
	lan := n.Segment("lan")
	var states string
	policies := [2]string{} // of the correspondent node, of the mobile node
	for i, e := range [][2]string{{home, peer}, {peer, home}} {
		states += fmt.Sprintf("    - {src: %q, dst: %q, proto: esp, spi: %d, mode: transport, aead: {name: \"rfc4106(gcm(aes))\", key: \"0x000102030405060708090a0b0c0d0e0f101112%02x\", icv_bits: 128}}\n", e[0], e[1], 0x1001+i, i)
		for at := range policies {
			policies[at] += fmt.Sprintf("    - {name: esp%d, dir: %s, priority: 10, action: protect, selector: {src: %q, dst: %q, proto: ipv6-icmp, type: 128-129}, templates: [{proto: esp, mode: transport}]}\n",
				i, [...]string{"in", "out"}[(i+at)%2], e[0], e[1])
		}
	}
	cn := n.Node("cn", fmt.Sprintf(`version: 1
links: [{name: eth0, kind: pipe, addresses: [%q], dad: {transmits: 0}}]
routing: {routes: [{to: "2001:db8:100::/48", via: %q}]}
mobility: {correspondent: {enabled: true}}
ipsec:
  states:
%s  policies:
%s`, peer+"/64", careOf, states, policies[0]), modules, map[string]*simnet.Segment{"eth0": lan})
	mn := n.Node("mn", fmt.Sprintf(`version: 1
links: [{name: eth0, kind: pipe, addresses: [%[1]q, %[2]q], dad: {transmits: 0}}]
ipsec:
  states:
    - {src: %[3]q, dst: %[4]q, proto: hao, mode: ro, coa: %[5]q}
    - {src: "::", dst: %[3]q, proto: route2, mode: ro, coa: "::", flags: [wildrecv]}
%[6]s  policies:
    - {name: out, dir: out, sub: sub, priority: 10, action: protect, selector: {src: %[3]q, dst: %[4]q, proto: ipv6-icmp, type: 128-129}, templates: [{proto: hao, mode: ro}]}
    - {name: in, dir: in, sub: sub, priority: 10, action: protect, selector: {dst: %[3]q}, templates: [{proto: route2, mode: ro, level: use}]}
%[7]s`, careOf+"/64", home+"/128", home, peer, careOf, states, policies[1]), modules, map[string]*simnet.Segment{"eth0": lan})
	n.Advance(3 * time.Second)
	m := &mobileNode{t: t, n: n, node: mn, wire: lan, home: netip.MustParseAddr(home), careOf: netip.MustParseAddr(careOf), peer: netip.MustParseAddr(peer)}
	if s := m.register(1, 100); s != mhwire.Accepted {
		t.Fatalf("%v", s)
	}
	for i, from := range []*simnet.Node{mn, cn} {
		at := len(lan.Frames)
		o := netstack.PingOptions{Dst: m.peer, Source: m.home, Size: 1000}
		if from == cn {
			o.Dst, o.Source = m.home, m.peer
		}
		if got := ping(t, n, from, o); got != "replied" {
			t.Fatalf("%d: %s, drops %v, %v", i, got, cn.Path().Stats().Drops, mn.Path().Stats().Drops)
		}
		seen := map[uint8]int{}
		for _, f := range lan.Frames[at:] {
			b := f.Data[14:]
			var c wire.Chain
			c.Walk(b)
			if len(b) < 1000 {
				continue // Discovery
			}
			if c.N != 1 || c.Proto != wire.ESP {
				t.Errorf("%d: % x", i, b[:96])
				continue
			}
			seen[c.Headers[0].Proto]++
		}
		if seen[wire.DestOpts] != 1 || seen[wire.Routing] != 1 {
			t.Errorf("%d: %v", i, seen)
		}
	}
}
