package datapath

import (
	"net/netip"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/link"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// memPort is a port whose two directions are slices.
type memPort struct {
	caps link.Caps
	mac  [6]byte
	mtu  int
	in   []memFrame
	out  []memFrame
	// keep: remember what is sent; a benchmark or an allocation test does not.
	keep bool
	sent int
}

type memFrame struct {
	data []byte
	gso  packet.GSO
}

func (m *memPort) Kind() string           { return "pipe" }
func (m *memPort) HostDevice() string     { return "" }
func (m *memPort) Caps() link.Caps        { return m.caps }
func (m *memPort) MAC() [6]byte           { return m.mac }
func (m *memPort) State() link.State      { return link.State{Carrier: true, MTU: m.mtu} }
func (m *memPort) Watch(func(link.State)) {}
func (m *memPort) SetMTU(mtu int) error   { m.mtu = mtu; return nil }
func (m *memPort) Rx(int) link.RxQueue    { return (*memRx)(m) }
func (m *memPort) NewTx() link.TxQueue    { return (*memTx)(m) }
func (m *memPort) Close() error           { return nil }

type memRx memPort

func (m *memRx) Rx(ps []*packet.Packet) (int, error) {
	n := min(len(ps), len(m.in))
	for i := range n {
		copy(ps[i].Space(), m.in[i].data)
		ps[i].SetLen(len(m.in[i].data))
		ps[i].GSO = m.in[i].gso
	}
	m.in = m.in[n:]
	return n, nil
}
func (m *memRx) Wait() bool { return false }
func (m *memRx) Wake()      {}

type memTx memPort

func (m *memTx) Tx(ps []*packet.Packet) int {
	m.sent += len(ps)
	if m.keep {
		for _, p := range ps {
			m.out = append(m.out, memFrame{append([]byte(nil), p.Bytes()...), p.GSO})
		}
	}
	return len(ps)
}

// rigRouter is a router with a list of routes, the longest prefix first.
type rigRouter struct {
	routes []*rigRoute
	addrs  []netip.Addr // candidates, in the order they are tried
	asked  module.RouteQuery
}

// rigRoute is a route with its next hop.
type rigRoute struct {
	packet.Route
	prefix  netip.Prefix
	dev     int
	gateway netip.Addr // the zero Addr: the destination is on the link
}

func (r *rigRouter) RouteBatch(ps []*packet.Packet) {
	for _, p := range ps {
		d := netip.AddrFrom16(*dst(p.Bytes()))
		for _, rt := range r.routes {
			if rt.prefix.Contains(d) && (p.Out == 0 || p.Out == rt.dev) {
				p.Route, p.Out, p.NextHop = &rt.Route, rt.dev, d.As16()
				if rt.gateway.IsValid() {
					p.NextHop = rt.gateway.As16()
				}
				break
			}
		}
	}
}

func (r *rigRouter) SortDestinations(dsts []netip.Addr) []netip.Addr { return dsts }

func (r *rigRouter) Route(q module.RouteQuery) (res module.RouteResult) {
	r.asked = q
	for _, a := range r.addrs {
		if a.IsLinkLocalUnicast() == q.Dst.IsLinkLocalUnicast() {
			res.Src = a
			break
		}
	}
	return res
}

// rigHost remembers what was delivered.
type rigHost struct {
	got  []*packet.Packet
	full bool
	sent bool
}

func (h *rigHost) Deliver(p *packet.Packet) bool {
	if h.full {
		return false
	}
	h.got = append(h.got, p.Clone())
	return true
}
func (h *rigHost) Sent(uint8, [16]byte, [16]byte, []byte) bool { return h.sent }

// The rig: a router with an Ethernet on links 1 and 2 (2001:db8:1::/64 and 2001:db8:2::/64), and
// link 3 without link-layer addresses. Every neighbor resolves to neighborMAC.
type rig struct {
	t      testing.TB
	clock  *clock.Manual
	path   *Path
	a, b   *memPort
	tun    *memPort
	host   *rigHost
	router *rigRouter
	links  []*module.Link
	found  int // discovery messages that reached the hook
	base   *Stats
}

var (
	macA        = [6]byte{2, 0, 0, 0, 0, 0xa}
	macB        = [6]byte{2, 0, 0, 0, 0, 0xb}
	peerMAC     = [6]byte{2, 0, 0, 0, 0xee, 1}
	neighborMAC = [6]byte{2, 0, 0, 0, 0xee, 2}

	hostA   = netip.MustParseAddr("2001:db8:1::a")
	hostB   = netip.MustParseAddr("2001:db8:2::b")
	routerA = netip.MustParseAddr("2001:db8:1::1")
	routerB = netip.MustParseAddr("2001:db8:2::1")
	routerT = netip.MustParseAddr("2001:db8:3::1")
	llA     = netip.MustParseAddr("fe80::a")
)

func newRig(t testing.TB) *rig {
	r := &rig{
		t: t, clock: clock.NewManual(), host: &rigHost{sent: true},
		a:   &memPort{caps: link.Caps{Ethernet: true, Queues: 1, MaxFrame: 66000}, mac: macA, mtu: 1500, keep: true},
		b:   &memPort{caps: link.Caps{Ethernet: true, Queues: 1, MaxFrame: 66000}, mac: macB, mtu: 1500, keep: true},
		tun: &memPort{caps: link.Caps{Queues: 1, MaxFrame: 66000}, mtu: 1500, keep: true},
	}
	route := func(p string, dev int) *rigRoute {
		return &rigRoute{prefix: netip.MustParsePrefix(p), dev: dev}
	}
	r.router = &rigRouter{
		routes: []*rigRoute{route("2001:db8:1::/64", 1), route("2001:db8:2::/64", 2), route("2001:db8:3::/64", 3)},
		addrs:  []netip.Addr{routerB, routerA, llA},
	}
	r.path = New(Options{
		Clock: r.clock, Router: r.router, Host: r.host, Manual: true,
		Params: Params{EchoReplyMulticast: true, ProcessHopByHop: true, HopLimit: 64},
	})
	r.path.Hook(module.StageDiscovery, "test", func(*packet.Packet) packet.Verdict {
		r.found++
		return packet.Consumed
	})
	r.path.Hook(module.StageResolve, "test", func(p *packet.Packet) packet.Verdict {
		p.DstMAC = neighborMAC
		return packet.Continue
	})
	for i, m := range []*memPort{r.a, r.b, r.tun} {
		r.links = append(r.links, &module.Link{
			Index: i + 1, Name: string(rune('a' + i)), Ethernet: m.caps.Ethernet, MAC: m.mac,
			DeviceMTU: m.mtu, MTU: m.mtu, Up: true, Carrier: true, Forwarding: true,
		})
		r.path.Attach(i+1, m)
	}
	r.path.SetLinks(module.NewLinks(r.links))
	addr := func(a netip.Addr, l int) *module.Addr {
		return &module.Addr{Addr: a, PrefixLen: 64, Link: l, ValidUntil: clock.Never, PreferredUntil: clock.Never}
	}
	tentative := addr(netip.MustParseAddr("2001:db8:1::7e"), 1)
	tentative.Tentative = true
	anycast := addr(netip.MustParseAddr("2001:db8:1::"), 1)
	anycast.Anycast, anycast.SubnetRouter = true, true
	r.path.SetAddrs(module.NewAddrs(
		[]*module.Addr{addr(routerA, 1), addr(routerB, 2), addr(routerT, 3), addr(llA, 1), tentative, anycast},
		[]module.Group{{Addr: netip.MustParseAddr("ff02::1"), Link: 1, Users: 1}}))
	return r
}

// link replaces a link's snapshot row.
func (r *rig) link(i int, change func(*module.Link)) {
	l := *r.links[i-1]
	change(&l)
	r.links[i-1] = &l
	r.path.SetLinks(module.NewLinks(r.links))
}

// frame puts an Ethernet header in front of a packet.
func frame(dst, src [6]byte, pkt []byte) []byte {
	return append(append(append(append([]byte(nil), dst[:]...), src[:]...), 0x86, 0xdd), pkt...)
}

// fromA receives packets on link a, addressed to its own address, and runs the path until it is idle.
func (r *rig) fromA(pkts ...[]byte) {
	for _, p := range pkts {
		r.a.in = append(r.a.in, memFrame{data: frame(macA, peerMAC, p)})
	}
	r.run()
}

func (r *rig) run() {
	for r.path.Step() {
	}
}

// took returns the IPv6 packets sent on a port since the last call.
func (m *memPort) took() [][]byte {
	var out [][]byte
	for _, f := range m.out {
		if m.caps.Ethernet {
			out = append(out, f.data[14:])
		} else {
			out = append(out, f.data)
		}
	}
	m.out = nil
	return out
}

// drops returns the drops since the last call, by reason.
func (r *rig) drops() map[packet.Reason]uint64 {
	s := r.path.Stats()
	out := map[packet.Reason]uint64{}
	for i, n := range s.Drops {
		if r.base != nil {
			n -= r.base.Drops[i]
		}
		if n != 0 {
			out[packet.Reason(i)] = n
		}
	}
	r.base = s
	return out
}

// ip6 builds a packet: extra headers and payload are what follows the IPv6 header.
func ip6(src, dst netip.Addr, next uint8, rest ...[]byte) []byte {
	var body []byte
	for _, b := range rest {
		body = append(body, b...)
	}
	return append(wire.AppendIPv6(nil, wire.IPv6Fields{
		PayloadLength: uint16(len(body)), NextHeader: next, HopLimit: 64, Src: src, Dst: dst,
	}), body...)
}

// udp builds a datagram with a right checksum between two ports.
func udp(src, dst netip.Addr, payload []byte) []byte {
	b := ip6(src, dst, wire.UDP, []byte{0x10, 0, 0x20, 0, byte((8 + len(payload)) >> 8), byte(8 + len(payload)), 0, 0}, payload)
	setChecksum(b, 40, false)
	return b
}

// echoRequest builds an echo request with a right checksum.
func echoRequest(src, dst netip.Addr, payload []byte) []byte {
	b := ip6(src, dst, wire.ICMPv6, []byte{wire.TypeEchoRequest, 0, 0, 0, 0, 7, 0, 1}, payload)
	wire.UpdateICMPv6Checksum(b, 40)
	return b
}
