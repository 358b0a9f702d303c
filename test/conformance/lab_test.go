// Package conformance is the list of what the RFCs of IPv6 and of Neighbor Discovery demand, one row each,
// run against a router and against a host on a simulated link. `go test -v ./test/conformance` prints it.
package conformance

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/ndp"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/policyroute"
	"leveret/extensions/policyroute/routeapi"
	"leveret/test/simnet"
)

// kind is the node under test.
type kind uint8

const (
	router kind = 1 << iota
	host
	both = router | host
)

// row is one demand.
type row struct {
	ref   string // the RFC and its section
	level string // MUST, MUST NOT, SHOULD...
	what  string
	on    kind
	run   func(*lab) error
}

// lab is the node under test, "dut", on a link with a peer. The peer answers solicitations for the
// addresses in answers.
type lab struct {
	net     *simnet.Net
	seg     *simnet.Segment
	far     *simnet.Segment // behind the router
	dut     *simnet.Node
	peer    *simnet.Peer
	farPeer *simnet.Peer
	kind    kind
	answers map[netip.Addr]bool
	mark    int
}

var (
	dutLL   = netip.MustParseAddr("fe80::1")
	dutAddr = netip.MustParseAddr("2001:db8:1::1")
	peerLL  = netip.MustParseAddr("fe80::99")
	peerA   = netip.MustParseAddr("2001:db8:1::99")
	otherLL = netip.MustParseAddr("fe80::98")
	farAddr = netip.MustParseAddr("2001:db8:2::99")
	away    = netip.MustParseAddr("2001:db8:f::1") // behind a default router
)

const routerYAML = `version: 1
links:
  - name: lan0
    kind: pipe
    link_local: "fe80::1"
    addresses: ["2001:db8:1::1/64"]
    dad: {transmits: 0}
    router_advertisement: {adv_send_advertisements: true, prefixes: [{prefix: "2001:db8:1::/64"}]}
  - {name: far0, kind: pipe, link_local: "fe80::1", addresses: ["2001:db8:2::1/64"], dad: {transmits: 0}}
`

const hostYAML = `version: 1
routing: {forwarding: false}
links: [{name: lan0, kind: pipe, link_local: "fe80::1", addresses: ["2001:db8:1::1/64"], dad: {transmits: 0}, host: {load_share_routers: false}}]
`

func modules() []module.Module { return []module.Module{ndp.New(), policyroute.New()} }

// newLab starts a node and lets it come to rest. yaml "" is the usual one.
func newLab(t testing.TB, k kind, yaml string) *lab {
	l := &lab{net: simnet.New(t, 1), kind: k, answers: map[netip.Addr]bool{}}
	l.seg, l.far = l.net.Segment("lan"), l.net.Segment("far")
	at := map[string]*simnet.Segment{"lan0": l.seg}
	if yaml == "" {
		yaml = hostYAML
		if k == router {
			yaml = routerYAML
		}
	}
	if strings.Contains(yaml, "far0") {
		at["far0"] = l.far
	}
	l.dut = l.net.Node("dut", yaml, modules, at)
	l.peer, l.farPeer = l.seg.Peer("peer"), l.far.Peer("far")
	l.peer.OnFrame = l.answer
	l.net.Advance(time.Minute)
	l.forget()
	return l
}

// answer answers solicitations for the peer's addresses; the link-local ones are routers'.
func (l *lab) answer(f simnet.Frame) {
	m, err := ndwire.Parse(f.Data[14:], wire.IPv6HeaderLen, false)
	if err != nil || m.Type != wire.TypeNeighborSolicitation || !l.answers[m.Target] || m.Src.IsUnspecified() {
		return
	}
	l.send(ndwire.AppendNA(nil, ndwire.NA{Src: m.Target, Dst: m.Src, Target: m.Target, Solicited: true, Override: true, TargetLLA: &l.peer.MAC, Router: m.Target.IsLinkLocalUnicast()}))
}

func (l *lab) advance(d time.Duration) { l.net.Advance(d) }

// forget lets what was sent before now be of no interest.
func (l *lab) forget() { l.mark = len(l.seg.Frames) }

// mac maps a destination to the frame's.
func (l *lab) mac(dst netip.Addr) [6]byte {
	if a := dst.As16(); dst.IsMulticast() {
		return wire.MulticastMAC(&a)
	}
	return l.dut.Links().Name("lan0").MAC
}

// send lets the peer send a packet to the node or a group.
func (l *lab) send(b []byte) {
	h, err := wire.ParseIPv6(b)
	if err != nil {
		panic(err)
	}
	l.peer.Send(l.mac(h.Dst()), b)
	l.net.Settle()
}

// sent is one packet of the node.
type sent struct {
	at  time.Duration
	dst [6]byte
	pkt []byte
	nd  *ndwire.Message // nil if it is no message of Neighbor Discovery
}

// out returns what the node has sent on the link since forget.
func (l *lab) out() (list []sent) {
	for _, f := range l.seg.Frames[l.mark:] {
		if !strings.HasPrefix(f.From, "dut") {
			continue
		}
		s := sent{at: f.At, dst: [6]byte(f.Data), pkt: f.Data[14:]}
		if m, err := ndwire.Parse(s.pkt, wire.IPv6HeaderLen, false); err == nil {
			s.nd = &m
		}
		list = append(list, s)
	}
	return list
}

// nd returns the messages of a type that the node has sent since forget.
func (l *lab) nd(typ uint8) (list []ndwire.Message) {
	for _, s := range l.out() {
		if s.nd != nil && s.nd.Type == typ {
			list = append(list, *s.nd)
		}
	}
	return list
}

// icmp returns what the node has sent of an ICMPv6 type since forget, as whole packets.
func (l *lab) icmp(typ uint8) (list [][]byte) {
	for _, s := range l.out() {
		if s.pkt[6] == wire.ICMPv6 && s.pkt[40] == typ {
			list = append(list, s.pkt)
		}
	}
	return list
}

// neigh returns a neighbor of the node, with an empty state if there is none.
func (l *lab) neigh(a netip.Addr) ndpapi.Neigh {
	v, err := l.dut.Command("GET", "/v1/neigh", map[string]string{"to": a.String()}, "")
	if err != nil {
		panic(err)
	}
	if list := v.([]ndpapi.Neigh); len(list) > 0 {
		return list[0]
	}
	return ndpapi.Neigh{State: []string{""}}
}

func (l *lab) state(a netip.Addr) string { return l.neigh(a).State[0] }

// routes returns the node's routes as "PREFIX via ROUTER".
func (l *lab) routes() (list []string) {
	v, err := l.dut.Command("GET", "/v1/route", map[string]string{}, "")
	if err != nil {
		panic(err)
	}
	for _, r := range v.([]routeapi.Route) {
		via := "on-link"
		if r.Gateway.IsValid() {
			via = r.Gateway.String()
		}
		list = append(list, r.Dst+" via "+via)
	}
	return list
}

func (l *lab) hasRoute(prefix string, via netip.Addr) bool {
	return slices.Contains(l.routes(), prefix+" via "+via.String())
}

// addr returns an address of the node that begins so; nil if there is none.
func (l *lab) addr(begin string) *ndpapi.Addr {
	v, err := l.dut.Command("GET", "/v1/addr", map[string]string{}, "")
	if err != nil {
		panic(err)
	}
	for _, link := range v.([]ndpapi.Link) {
		for _, a := range link.AddrInfo {
			if strings.HasPrefix(a.Local.String(), begin) {
				return &a
			}
		}
	}
	return nil
}

// nextHop returns where packets to dst go: a router's address, "on-link" or "none".
func (l *lab) nextHop(dst netip.Addr) string {
	r, err := l.dut.Command("GET", "/v1/route/get", map[string]string{"dst": dst.String()}, "")
	if err != nil {
		return "none"
	}
	g := r.(routeapi.Route)
	if g.Gateway.IsValid() {
		return g.Gateway.String()
	}
	return "on-link"
}

// ra sends an advertisement of the peer, a router with a lifetime, changed as wanted.
func (l *lab) ra(change func(*ndwire.RA)) { l.send(l.raPacket(change)) }

func (l *lab) raPacket(change func(*ndwire.RA)) []byte {
	m := ndwire.RA{Src: peerLL, Dst: wire.AllNodes, RouterLifetime: 1800 * time.Second, SourceLLA: &l.peer.MAC}
	if change != nil {
		change(&m)
	}
	return ndwire.AppendRA(nil, m)
}

// ns sends a solicitation of the peer for a target.
func (l *lab) ns(target netip.Addr) { l.send(l.nsPacket(target)) }

func (l *lab) nsPacket(target netip.Addr) []byte {
	return ndwire.AppendNS(nil, ndwire.NS{Src: peerLL, Dst: wire.SolicitedNode(target), Target: target, SourceLLA: &l.peer.MAC})
}

// want is nil if cond holds, else an error that says what was wanted.
func want(cond bool, format string, args ...any) error {
	if cond {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// TestConformance runs every row and prints the list.
func TestConformance(t *testing.T) {
	rows := slices.Concat(validation(), discovery(), neighbors(), advertising(), hosts(), addresses(), internet())
	verdict := map[string]string{}
	for i, r := range rows {
		for _, k := range []kind{router, host} {
			if r.on&k == 0 {
				continue
			}
			name := map[kind]string{router: "router", host: "host"}[k]
			key := fmt.Sprintf("%d %s", i, name)
			verdict[key] = "FAIL"
			t.Run(fmt.Sprintf("%s/%s/%s", r.ref, r.what, name), func(t *testing.T) {
				if err := r.run(newLab(t, k, "")); err != nil {
					t.Errorf("%s %s %s: %v", r.ref, r.level, r.what, err)
					return
				}
				verdict[key] = "pass"
			})
		}
	}
	var table strings.Builder
	for i, r := range rows {
		cell := func(name string) string {
			if v := verdict[fmt.Sprintf("%d %s", i, name)]; v != "" {
				return v
			}
			return "-"
		}
		fmt.Fprintf(&table, "%-16s %-10s %-6s %-6s %s\n", r.ref, r.level, cell("router"), cell("host"), r.what)
	}
	t.Logf("%d rows\n%-16s %-10s %-6s %-6s %s\n%s", len(rows), "RFC", "level", "router", "host", "demand", table.String())
}
