package netstack

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/refs"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

func TestMain(m *testing.M) {
	refs.SetLeakMode(refs.LeaksPanic)
	code := m.Run()
	if code == 0 {
		runtime.GC()
		refs.DoLeakCheck()
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// node is one host stack on the test's wire.
type node struct {
	*Host
	t     testing.TB
	wire  *testWire
	peer  *node
	addrs *module.Addrs
	route func(module.RouteQuery) module.RouteResult // nil: everything is reachable
	pmtu  atomic.Int64

	mu     sync.Mutex
	joined map[zonedAddr]int
	errors []module.ICMPError
	proved []module.RouteQuery // what Progress was told
	seen   []*packet.Packet    // what Output got, if keep is set
	keep   bool
}

// testWire stands for the packet path and what is behind it: it brings what one node sends to the
// other, answers echo requests, and knows the links' MTU. One goroutine, so that nothing is
// delivered from inside Output.
type testWire struct {
	pool  *packet.SharedPool
	queue chan sent
	done  chan struct{}
	mtu   atomic.Int64 // of the path; superpackets pass if their segments fit
	hops  atomic.Int64 // routers between the two
	drop  func(p *packet.Packet) bool
	echo  func(reply []byte) bool // may change an echo reply; false drops it
	last  atomic.Int64            // length of the longest TCP segment seen lately
}

type sent struct {
	by *node
	p  *packet.Packet
}

var (
	addrA  = netip.MustParseAddr("2001:db8::a")
	addrA2 = netip.MustParseAddr("2001:db8:1::a")
	addrB  = netip.MustParseAddr("2001:db8::b")
	router = netip.MustParseAddr("2001:db8:ffff::1")
	llBoth = netip.MustParseAddr("fe80::1")
	llA    = netip.MustParseAddr("fe80::a")
)

func testLinks(mtu int) *module.Links {
	return module.NewLinks([]*module.Link{
		{Index: 1, Name: "lan0", MTU: mtu, Up: true, Carrier: true},
		{Index: 2, Name: "lan1", MTU: mtu, Up: true, Carrier: true},
	})
}

// newPair returns two nodes, each with both links: a has addrA, addrA2 and fe80::a on both links,
// b has addrB and fe80::1 on both.
func newPair(t testing.TB, c clock.Clock) (a, b *node) {
	w := &testWire{pool: packet.NewSharedPool(packet.MaxLen), queue: make(chan sent, 65536), done: make(chan struct{})}
	w.mtu.Store(1500)
	a, b = newNode(t, w, c, []*module.Addr{
		{Addr: addrA, PrefixLen: 64, Link: 1}, {Addr: addrA2, PrefixLen: 64, Link: 2},
		{Addr: llA, PrefixLen: 64, Link: 1}, {Addr: llA, PrefixLen: 64, Link: 2},
	}), newNode(t, w, c, []*module.Addr{
		{Addr: addrB, PrefixLen: 64, Link: 1}, {Addr: llBoth, PrefixLen: 64, Link: 1}, {Addr: llBoth, PrefixLen: 64, Link: 2},
	})
	a.peer, b.peer = b, a
	go w.run()
	t.Cleanup(func() {
		a.Close()
		b.Close()
		close(w.queue)
		<-w.done
	})
	return a, b
}

func newNode(t testing.TB, w *testWire, c clock.Clock, addrs []*module.Addr) *node {
	n := &node{t: t, wire: w, joined: map[zonedAddr]int{}}
	h, err := New(Options{
		Clock: c, Seed: 1, Router: n, Groups: n,
		Output: n.output, NewPacket: w.pool.Get,
		SendError: func(p *packet.Packet, e module.ICMPError) {
			n.mu.Lock()
			n.errors = append(n.errors, e)
			n.mu.Unlock()
			n.peer.Deliver(icmpError(p.Bytes(), addrOf(dst(p.Bytes())), e, p.In))
		},
		Progress: func(q module.RouteQuery) {
			n.mu.Lock()
			n.proved = append(n.proved, q)
			n.mu.Unlock()
		},
		PathMTU: func(netip.Addr) int { return int(n.pmtu.Load()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Host = h
	n.addrs = module.NewAddrs(addrs, nil)
	h.LinksChanged(testLinks(1500))
	h.AddrsChanged(n.addrs)
	return n
}

func (n *node) output(p *packet.Packet) {
	if b := p.Bytes(); b[7] == 0 { // as the path does
		b[7] = 64
	}
	n.mu.Lock()
	if n.keep {
		n.seen = append(n.seen, p.Clone())
	}
	n.mu.Unlock()
	select {
	case n.wire.queue <- sent{n, p}:
	default:
		n.t.Error("the wire's queue is full")
	}
}

func addrOf(a *[16]byte) netip.Addr { return netip.AddrFrom16(*a) }

func (w *testWire) run() {
	defer close(w.done)
	for s := range w.queue {
		w.carry(s.by, s.p)
		s.p.Release()
	}
}

// carry does with one packet what the path and the network would.
func (w *testWire) carry(by *node, p *packet.Packet) {
	if w.drop != nil && w.drop(p) {
		return
	}
	b := p.Bytes()
	var c wire.Chain
	c.Walk(b)
	if mtu := int(w.mtu.Load()); p.SegmentLen() > mtu && c.Proto != wire.UDP {
		by.Deliver(icmpError(b, router, module.ICMPError{Type: wire.TypePacketTooBig, Arg: uint32(mtu)}, 1))
		return
	}
	if c.Proto == wire.TCP {
		w.last.Store(int64(p.SegmentLen()))
	}
	to := by.peer
	in := p.Out
	own := by.addrs.Lookup(dst(b), p.Out) != nil
	switch {
	case own:
		to, in = by, 0
	case in == 0:
		in = 1
	}
	p.In = in
	if !own {
		if hops := int(w.hops.Load()); int(b[7]) <= hops {
			from := router
			for range b[7] - 1 {
				from = from.Next()
			}
			by.Deliver(icmpError(b, from, module.ICMPError{Type: wire.TypeTimeExceeded}, 1))
			return
		} else {
			b[7] -= byte(hops)
		}
	}
	p.Proto, p.TransOff, p.ProtoField, p.Ext = c.Proto, c.Off, c.ProtoField, c.N > 0
	if c.Proto == wire.ICMPv6 && b[c.Off] == wire.TypeEchoRequest {
		w.answer(by, to, b, c.Off, in)
		return
	}
	if !to.Deliver(p) && !to.closed.Load() {
		by.t.Error("the host refused a packet")
	}
}

func (w *testWire) answer(by, to *node, b []byte, off, in int) {
	m := append([]byte(nil), b[off:]...)
	r := packet.NewBuffer(40 + len(m))
	wire.PutIPv6(r.Extend(40), wire.IPv6Fields{
		PayloadLength: uint16(len(m)), NextHeader: wire.ICMPv6, HopLimit: 64, Src: addrOf(dst(b)), Dst: addrOf(src(b)),
	})
	if isMulticast(dst(b)) {
		copy(r.Bytes()[8:24], addrB.AsSlice())
	}
	copy(r.Extend(len(m)), m)
	rb := r.Bytes()
	rb[40] = wire.TypeEchoReply
	if w.echo != nil && !w.echo(rb) {
		return
	}
	wire.UpdateICMPv6Checksum(rb, 40)
	r.In, r.Proto, r.TransOff = in, wire.ICMPv6, 40
	by.Deliver(r)
	_ = to
}

// icmpError is what somebody says about the packet b.
func icmpError(b []byte, from netip.Addr, e module.ICMPError, in int) *packet.Packet {
	q := b[:min(len(b), 1232)]
	p := packet.NewBuffer(48 + len(q))
	wire.PutIPv6(p.Extend(40), wire.IPv6Fields{
		PayloadLength: uint16(8 + len(q)), NextHeader: wire.ICMPv6, HopLimit: 64, Src: from, Dst: addrOf(src(b)),
	})
	m := p.Extend(8 + len(q))
	clear(m[:8])
	m[0], m[1] = e.Type, e.Code
	binary.BigEndian.PutUint32(m[4:], e.Arg)
	copy(m[8:], q)
	wire.UpdateICMPv6Checksum(p.Bytes(), 40)
	p.In, p.Proto, p.TransOff = in, wire.ICMPv6, 40
	return p
}

// The node is its own router and MLD.

func (n *node) RouteBatch([]*packet.Packet) {}

func (n *node) SortDestinations(dsts []netip.Addr) []netip.Addr { return dsts }

func (n *node) Route(q module.RouteQuery) module.RouteResult {
	if n.route != nil {
		return n.route(q)
	}
	out := q.Out
	if out == 0 {
		out = 1
	}
	return module.RouteResult{Route: &packet.Route{}, Out: out, Src: n.source(q)}
}

func (n *node) source(q module.RouteQuery) netip.Addr {
	for _, a := range n.addrs.All() {
		if needsLink(q.Dst) == a.Addr.IsLinkLocalUnicast() && (q.Out == 0 || a.Link == q.Out) && (q.Mark != 2 || a.Link == 2) {
			return a.Addr
		}
	}
	return netip.Addr{}
}

func (n *node) JoinGroup(link int, g netip.Addr)  { n.count1(link, g, 1) }
func (n *node) LeaveGroup(link int, g netip.Addr) { n.count1(link, g, -1) }
func (n *node) count1(link int, g netip.Addr, d int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.joined[zonedAddr{g, link}] += d
}

func (n *node) kept() []*packet.Packet {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*packet.Packet(nil), n.seen...)
}

func (n *node) setKeep() {
	n.mu.Lock()
	n.keep = true
	n.mu.Unlock()
}
