package tunnel

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/tunnel/tunnelapi"
)

var addr = netip.MustParseAddr

const (
	local  = "2001:db8:f::1"
	remote = "2001:db8:f::2"
)

// bench is a module on a host with one link, wan0, and the links of tunnels from index 2 on.
type bench struct {
	*moduletest.Host
	t     testing.TB
	m     *Module
	route fixedRoute
	links *module.Links // in the place of the host's, which are made anew each time; nil: the host's
}

// Links implements [module.Host].
func (b *bench) Links() *module.Links {
	if b.links != nil {
		return b.links
	}
	return b.Host.Links()
}

func newBench(t testing.TB) *bench {
	b := &bench{Host: moduletest.NewHost(), t: t, m: New(), route: fixedRoute{out: 1}}
	b.LinkList = []*module.Link{{Index: 1, Name: "wan0", MTU: 1500, Up: true, Carrier: true}}
	b.AddrSnap = module.NewAddrs([]*module.Addr{{Addr: addr(local), Link: 1, PrefixLen: 64}}, nil)
	b.Routing = &b.route
	if err := b.m.Init(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// fixedRoute is a router whose only route leads over one link.
type fixedRoute struct {
	out, mtu int
	none     bool
	asked    module.RouteQuery
	route    packet.Route
}

func (r *fixedRoute) RouteBatch([]*packet.Packet) {}
func (r *fixedRoute) Route(q module.RouteQuery) module.RouteResult {
	r.asked = q
	if r.none {
		return module.RouteResult{}
	}
	r.route.MTU = r.mtu
	return module.RouteResult{Route: &r.route, Out: r.out, NextHop: q.Dst, Src: q.Src}
}
func (r *fixedRoute) SortDestinations(d []netip.Addr) []netip.Addr { return d }

func (b *bench) now() clock.Instant { return b.Manual.Now() }

// item is one of tunnels.
type item struct {
	name, kind string
	conf       Config
}

func conf(f func(*Config)) Config {
	c := Config{Local: addr(local), Remote: addr(remote)}
	if f != nil {
		f(&c)
	}
	return c
}

// configure returns a configuration; the links get indexes from 2 on.
func configure(items ...item) *module.Config {
	c := &module.Config{Links: []module.LinkConfig{{Name: "wan0", Index: 1, Addresses: []module.AddressConfig{{Prefix: netip.MustParsePrefix(local + "/64")}}}}}
	for i, x := range items {
		c.Links = append(c.Links, module.LinkConfig{Name: x.name, Index: 2 + i, Kind: x.kind, Sections: map[string]module.Section{
			"tunnel": moduletest.Section[Config]{Value: x.conf},
		}})
	}
	return c
}

func (b *bench) apply(items ...item) {
	b.t.Helper()
	c := configure(items...)
	commit, err := b.m.Prepare(c)
	if err != nil {
		b.t.Fatal(err)
	}
	b.LinkList = b.LinkList[:1]
	for _, l := range c.Links[1:] {
		b.LinkList = append(b.LinkList, &module.Link{Index: l.Index, Name: l.Name, Kind: l.Kind, Tunnel: true, MTU: 1500, Up: true, Carrier: true})
	}
	commit(b.now())
}

// original is a packet that is to enter: UDP with n octets in all.
func original(n int) *packet.Packet {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		PayloadLength: uint16(n - 40), NextHeader: wire.UDP, HopLimit: 9, Src: addr("2001:db8:a::1"), Dst: addr("2001:db8:b::1"),
	})
	p := packet.New(append(b, make([]byte, n-40)...))
	p.In, p.Out = 1, 2
	return p
}

// arrive makes a packet one that has come in on wan0 for this node.
func arrive(b []byte) *packet.Packet {
	p := packet.New(b)
	var c wire.Chain
	c.Walk(b)
	p.In, p.Proto, p.TransOff, p.ProtoField = 1, c.Proto, c.Off, c.ProtoField
	return p
}

// turned is a tunnel packet with its ends exchanged.
func turned(b []byte) []byte {
	out := append([]byte(nil), b...)
	copy(out[8:24], b[24:40])
	copy(out[24:40], b[8:24])
	return out
}

func ptr[T any](v T) *T { return &v }

// TestPath: the link's MTU is what the path leaves; it is found out at once when links or addresses change and when a
// Packet Too Big comes, and after a second when a route has changed. Packets of 1280 octets are carried whatever the path.
func TestPath(t *testing.T) {
	b := newBench(t)
	state := func(want string) {
		t.Helper()
		if b.States[2] != want {
			t.Errorf("%s, want %s", b.States[2], want)
		}
	}
	b.apply(item{"t0", "ip6ip6", conf(func(c *Config) { c.Dev = "wan0" })})
	state("up 1452")
	if b.route.asked != (module.RouteQuery{Dst: addr(remote), Src: addr(local), Out: 1, Proto: wire.IPv6Encap}) {
		t.Errorf("asked %+v", b.route.asked)
	}
	b.LinkList[0] = &module.Link{Index: 1, Name: "wan0", MTU: 9000}
	b.m.LinksChanged(b.now(), b.Links())
	state("up 8952")
	b.route.mtu = 1400
	enter := func(n int) (string, int) {
		p := original(n)
		v := b.Hooks[module.StageEnter](p)
		return v.String(), p.MTU
	}
	if v, _ := enter(8952); v != "forward" {
		t.Errorf("before it is found out: %s", v)
	}
	b.Manual.Advance(time.Second)
	if v, mtu := enter(1353); v != "drop too_big" || mtu != 1352 {
		t.Errorf("after a second: %s %d", v, mtu)
	}
	b.m.Receive(b.now(), <-b.Mailbox)
	state("up 1352")
	if len(b.Mailbox) != 0 {
		t.Error("told twice")
	}
	b.MTUs[addr(remote).As16()] = 1300
	b.m.LinksChanged(b.now(), b.Links())
	state("up 1280")
	if v, _ := enter(1280); v != "forward" {
		t.Errorf("1280 octets: %s", v)
	}
	if v, mtu := enter(1281); v != "drop too_big" || mtu != 1280 {
		t.Errorf("1281 octets: %s %d", v, mtu)
	}
	b.route.none = true
	b.m.LinksChanged(b.now(), b.Links())
	state("up 1452")
	b.AddrSnap = module.NewAddrs([]*module.Addr{{Addr: addr(local), Link: 1, Tentative: true}}, nil)
	b.m.AddrsChanged(b.now(), b.AddrSnap)
	state("down 1452")
	b.AddrSnap = module.NewAddrs(nil, nil)
	b.m.AddrsChanged(b.now(), b.AddrSnap)
	state("down 1452")
}

// TestConfigFaults: by key.
func TestConfigFaults(t *testing.T) {
	one := func(f func(*Config)) []item { return []item{{"t0", "ip6ip6", conf(f)}} }
	gre := func(f func(*Config)) []item { return []item{{"t0", "ip6gre", conf(f)}} }
	for _, c := range []struct {
		items []item
		want  string
	}{
		{one(func(c *Config) { c.Local = netip.Addr{} }), "local: missing"},
		{one(func(c *Config) { c.Remote = netip.Addr{} }), "remote: missing"},
		{one(func(c *Config) { c.Remote = addr("192.0.2.1") }), ": the ends are not of the address family of the kind"},
		{one(func(c *Config) { c.Remote = addr("ff02::1") }), ": an end is not a unicast address"},
		{one(func(c *Config) { c.Remote = addr(local) }), ": both ends are the same address (RFC 2473 4.1.2)"},
		{one(func(c *Config) { c.Local, c.Remote = addr(remote), addr(local) }), "remote: 2001:db8:f::1 is this node's own, on link wan0"},
		{one(func(c *Config) { c.Dev = "lan9" }), `dev: there is no link "lan9"`},
		{one(func(c *Config) { c.Dev = "t0" }), "dev: a tunnel does not lead through itself"},
		{one(func(c *Config) { c.EncapLimit = 256 }), "encap_limit: 256 is outside 0..255"},
		{one(func(c *Config) { c.EncapLimit = "some" }), "encap_limit: some is outside 0..255"},
		{one(func(c *Config) { c.HopLimit = 0 }), "hop_limit: 0 is outside 1..255"},
		{one(func(c *Config) { c.TClass = 3 }), "tclass: 3: the two lowest bits are ECN's, which follow the original packet"},
		{one(func(c *Config) { c.TClass = 256 }), "tclass: 256 is outside 0..255"},
		{one(func(c *Config) { c.FlowLabel = 0x100000 }), "flowlabel: 1048576 is outside 0..1048575"},
		{one(func(c *Config) { c.DSCP = "x" }), `dscp: "x": want inherit, or nothing`},
		{one(func(c *Config) { c.ECN = "x" }), `ecn: "x": want normal or compatibility`},
		{one(func(c *Config) { c.Key = 5 }), ": only kinds with GRE have keys, checksums and sequence numbers"},
		{one(func(c *Config) { c.OSeq = ptr(true) }), ": only kinds with GRE have keys, checksums and sequence numbers"},
		{gre(func(c *Config) { c.Key = "x" }), "key: x: want a number or a dotted quad"},
		{gre(func(c *Config) { c.IKey = "1.2.3" }), "ikey: 1.2.3: want a number or a dotted quad"},
		{append(gre(nil), item{"t1", "ip6gre", conf(func(c *Config) { c.OKey = 5 })}), "remote: tunnel t0 has the same ends"},
		{append(gre(nil), item{"t1", "ip6gre", conf(func(c *Config) { c.Key = 5 })}), ""},
		{append(gre(nil), item{"t1", "ip6ip6", conf(nil)}), ""},
		{one(func(c *Config) { c.EncapLimit, c.TClass, c.FlowLabel, c.HopLimit = "none", "inherit", "inherit", 255 }), ""},
	} {
		_, err := newBench(t).m.Prepare(configure(c.items...))
		if got := fmt.Sprint(err); got != c.want && (c.want != "" || err != nil) {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

// TestShown: what `tunnel show` gets, in iproute2's keys, and the events.
func TestShown(t *testing.T) {
	b := newBench(t)
	b.apply(
		item{"t1", "ip6ip6", conf(nil)},
		item{"t2", "ip6gre", conf(func(c *Config) {
			c.EncapLimit, c.HopLimit, c.TClass, c.FlowLabel, c.Key, c.Csum, c.Seq, c.DSCP = "none", 10, "0x20", "0x12345", 5, ptr(true), ptr(true), "inherit"
		})},
		item{"t3", "ip6gre", conf(func(c *Config) {
			c.Dev, c.TClass, c.FlowLabel, c.Key, c.OKey, c.ISeq, c.ECN = "wan0", "inherit", "inherit", "1.2.3.4", 7, ptr(true), "compatibility"
		})},
	)
	const tail = `"remote":"2001:db8:f::2","local":"2001:db8:f::1",`
	want := []string{
		`{"ifname":"t1","mode":"ipv6/ipv6",` + tail + `"encap_limit":4,"hoplimit":64,"tclass":"0x00","flowlabel":"hash","flowinfo":"0x00000000"}`,
		`{"ifname":"t2","mode":"gre/ipv6",` + tail + `"ip6_tnl_f_ign_encap_limit":null,"hoplimit":10,"tclass":"0x20","flowlabel":"0x12345","flowinfo":"0x02012345",` +
			`"ip6_tnl_f_rcv_dscp_copy":null,"key":5,"flags":["rx_drop_ooseq","rx_csum","tx_seq","tx_csum"]}`,
		`{"ifname":"t3","mode":"gre/ipv6",` + tail + `"link":"wan0","encap_limit":4,"hoplimit":64,"ip6_tnl_f_use_orig_tclass":null,` +
			`"ip6_tnl_f_use_orig_flowlabel":null,"flowinfo":"0x00000000","ecn_compatibility":null,"ikey":16909060,"okey":7,"flags":["rx_drop_ooseq"]}`,
	}
	list := func(query map[string]string) string {
		v, err := b.m.list(b.now(), module.Request{Query: query})
		if err != nil {
			return err.Error()
		}
		j, _ := json.Marshal(v)
		return string(j)
	}
	if got := list(nil); got != "["+strings.Join(want, ",")+"]" {
		t.Errorf("got %s", got)
	}
	if got := list(map[string]string{"dev": "t2"}); got != "["+want[1]+"]" {
		t.Errorf("got %s", got)
	}
	if got := list(map[string]string{"dev": "t9"}); got != `Cannot find device "t9"` {
		t.Errorf("got %s", got)
	}
	if got := list(map[string]string{"mode": "x"}); !strings.HasPrefix(got, "unknown selector") {
		t.Errorf("got %s", got)
	}
	b.apply(item{"t1", "ip6ip6", conf(nil)}, item{"t2", "ip6gre", conf(func(c *Config) { c.Key = 5 })})
	var told []string
	for _, p := range b.Published {
		x := p.Value.(tunnelapi.Tunnel)
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s", map[bool]string{true: "gone"}[x.Deleted], x.IfName)))
	}
	if got := strings.Join(told, ", "); got != "t1, t2, t3, gone t3, t2" {
		t.Error(got)
	}
}

// TestMade: a command makes a tunnel and changes it; what is not named stays, and so do the numbers of GRE.
func TestMade(t *testing.T) {
	b := newBench(t)
	b.apply(item{"t0", "ip6gre", conf(nil)})
	b.LinkList = append(b.LinkList, &module.Link{Index: 3, Name: "t1", Tunnel: true, Up: true})
	make := func(name, kind string, index int, spec string) string {
		commit, err := b.m.MakeLink(name, kind, index, func(v any) error { return json.Unmarshal([]byte(spec), v) })
		if err != nil {
			return err.Error()
		}
		commit(b.now())
		p := original(100)
		p.Out = index
		b.Hooks[module.StageEnter](p)
		return fmt.Sprintf("%d octets, hop limit %d, % x", p.Len(), p.Bytes()[7], p.Bytes()[40:52])
	}
	for _, c := range []struct{ name, kind, spec, want string }{
		{"t1", "ip6gre", `{}`, "Invalid argument: local: missing (RFC 2473 6.1)"},
		{"t1", "ip6gre", `{"local":"2001:db8:f::1","remote":"2001:db8:f::2"}`, "Invalid argument: remote: tunnel t0 has the same ends"},
		{"t1", "ip6gre", `{"local":"2001:db8:f::3","remote":"2001:db8:f::1"}`, "Invalid argument: remote: 2001:db8:f::1 is this node's own (RFC 2473 4.1.2)"},
		{"t1", "ip6gre", `{"local":"2001:db8:f::1","remote":"2001:db8:f::3","encap_limit":"none","seq":true,"hop_limit":9}`,
			"148 octets, hop limit 9, 10 00 86 dd 00 00 00 00 60 00 00 00"},
		{"t1", "ip6gre", `{"hop_limit":7}`, "148 octets, hop limit 7, 10 00 86 dd 00 00 00 01 60 00 00 00"},
		{"t1", "ip6gre", `{"encap_limit":1}`, "156 octets, hop limit 7, 2f 00 04 01 01 01 01 00 10 00 86 dd"},
		{"t1", "ip6gre", `{"remote":"2001:db8:f::4"}`, "156 octets, hop limit 7, 2f 00 04 01 01 01 01 00 10 00 86 dd"},
		{"t1", "ip6gre", `{"encap_limit":"none"}`, "148 octets, hop limit 7, 10 00 86 dd 00 00 00 01 60 00 00 00"},
		{"t1", "ip6gre", `{"dev":"t1"}`, "Invalid argument: dev: a tunnel does not lead through itself (RFC 2473 4.1.3)"},
	} {
		if got := make(c.name, c.kind, 3, c.spec); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.spec, got, c.want)
		}
	}
	b.LinkList = b.LinkList[:2]
	b.m.LinksChanged(b.now(), b.Links())
	if len(b.m.tunnels) != 1 || b.m.view.Load().link(3) != nil {
		t.Error("the tunnel outlives its link")
	}
}
