package xfrm

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// bench is a module on a host with one link.
type bench struct {
	*moduletest.Host
	t testing.TB
	m *Module
}

func newBench(t testing.TB) *bench {
	b := &bench{Host: moduletest.NewHost(), t: t, m: New()}
	b.LinkList = []*module.Link{{Index: 1, Name: "wan0", MTU: 1500, Up: true, Carrier: true}}
	b.Routing = &fixedRoute{src: addr("2001:db8:f::1"), out: 1}
	if err := b.m.Init(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// fixedRoute is a router whose only route leads over one link.
type fixedRoute struct {
	src   netip.Addr
	out   int
	mtu   int
	route packet.Route
}

func (r *fixedRoute) RouteBatch([]*packet.Packet) {}
func (r *fixedRoute) Route(q module.RouteQuery) module.RouteResult {
	src := r.src
	if q.Src.IsValid() {
		src = q.Src
	}
	if r.route.MTU != r.mtu {
		r.route.MTU = r.mtu
	}
	return module.RouteResult{Route: &r.route, Out: r.out, NextHop: q.Dst, Src: src}
}
func (r *fixedRoute) SortDestinations(d []netip.Addr) []netip.Addr { return d }

var addr = netip.MustParseAddr

func (b *bench) now() clock.Instant { return b.Manual.Now() }

// sections are a configuration.
func sections(states []sad.StateConfig, policies []PolicyConfig) *module.Config {
	return &module.Config{
		Seed: 1, Links: []module.LinkConfig{{Name: "wan0", Index: 1}},
		Sections: map[string]module.Section{
			"ipsec.states": moduletest.Section[[]sad.StateConfig]{Value: states}, "ipsec.policies": moduletest.Section[[]PolicyConfig]{Value: policies},
		},
	}
}

func (b *bench) apply(c *module.Config) {
	b.t.Helper()
	commit, err := b.m.Prepare(c)
	if err != nil {
		b.t.Fatal(err)
	}
	commit(b.now())
}

// told returns the events since the last call.
func (b *bench) told() (out []string) {
	for _, p := range b.Published {
		e := p.Value.(xfrmapi.Event)
		s := e.Event
		switch {
		case e.State != nil:
			s += fmt.Sprintf(" %#x", e.State.SPI)
		case e.Policy != nil:
			s += " " + e.Policy.Name
		}
		out = append(out, s)
	}
	b.Published = nil
	return out
}

const gcmKey = "0x000102030405060708090a0b0c0d0e0f10111213"

func gcm(spi uint32) sad.StateConfig {
	return sad.StateConfig{
		Src: addr("2001:db8:f::1"), Dst: addr("2001:db8:f::2"), Proto: "esp", SPI: spi, Mode: "tunnel", ReqID: 1,
		AEAD: &sad.AlgoConfig{Name: "rfc4106(gcm(aes))", Key: gcmKey, ICVBits: 128},
	}
}

func protect(name string) PolicyConfig {
	return PolicyConfig{
		Name: name, Dir: "out", Action: "protect", Priority: 10, Selector: SelectorConfig{Dst: "2001:db8:" + name + "::/48"},
		Templates: []TemplateConfig{{Src: addr("2001:db8:f::1"), Dst: addr("2001:db8:f::2"), Proto: "esp", Mode: "tunnel", ReqID: 1}},
	}
}

func change[T any](v T, f func(*T)) T {
	f(&v)
	return v
}

// TestReload: what is the same goes on, what has other keys is another SA, what is no more in the file goes,
// whoever made it; policies stand in the order of the file.
func TestReload(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{gcm(0x100), gcm(0x101), gcm(0x102), gcm(0x103)}, []PolicyConfig{protect("a"), protect("b"), protect("c")}))
	if got := strings.Join(b.told(), ", "); !strings.HasPrefix(got, "newsa 0x100, newsa 0x101, newsa 0x102, newsa 0x103, newpolicy a, newpolicy b, newpolicy c, newpolicy ndp-bypass") {
		t.Error(got)
	}
	get := func(spi uint32) *sad.State {
		s, _ := b.m.getState(sad.ID{DAddr: addr("2001:db8:f::2"), SPI: spi, Proto: proto.ESP}, netip.Addr{}, sad.Mark{})
		return s
	}
	before := map[uint32]*sad.State{}
	for spi := uint32(0x100); spi < 0x104; spi++ {
		before[spi] = get(spi)
		before[spi].NextSeq()
		before[spi].Live.Count(b.now(), 10)
	}
	view := b.m.view.Load()
	b.apply(sections([]sad.StateConfig{gcm(0x100), gcm(0x101), gcm(0x102), gcm(0x103)}, []PolicyConfig{protect("a"), protect("b"), protect("c")}))
	if got := b.told(); len(got) != 0 || b.m.view.Load().sad != view.sad || b.m.view.Load().spd != view.spd {
		t.Errorf("nothing has changed: %v", got)
	}
	if _, err := b.m.addPolicy(b.now(), spd.Policy{Name: "cli", Dir: spd.Out, Priority: 5, Selector: selector.Selector{Proto: 6}}); err != nil {
		t.Fatal(err)
	}
	b.told()
	b.apply(sections([]sad.StateConfig{
		gcm(0x100), change(gcm(0x101), func(c *sad.StateConfig) { c.Lifetime.HardPackets = 9 }),
		change(gcm(0x102), func(c *sad.StateConfig) {
			c.AEAD = &sad.AlgoConfig{Name: c.AEAD.Name, Key: gcmKey[:38] + "ffff", ICVBits: 128}
		}),
	}, []PolicyConfig{protect("c"), protect("a"), change(protect("b"), func(c *PolicyConfig) { c.Priority = 11 })}))
	got := strings.Join(b.told(), ", ")
	if got != "updsa 0x101, delsa 0x103, delsa 0x102, newsa 0x102, delpolicy cli, updpolicy b" {
		t.Error(got)
	}
	for spi, live := range map[uint32]bool{0x100: true, 0x101: true, 0x102: false} {
		s := get(spi)
		if n, _ := s.NextSeq(); (s.Live == before[spi].Live) != live || (n == 2) != live {
			t.Errorf("%#x: number %d, goes on: %v", spi, n, s.Live == before[spi].Live)
		}
	}
	if get(0x103) != nil || !before[0x103].Live.Dead() {
		t.Error("0x103 is there")
	}
	var names []string
	for _, p := range b.m.spd.List() {
		if p.Name != "ndp-bypass" {
			names = append(names, p.Name)
		}
	}
	if !reflect.DeepEqual(names, []string{"b", "a", "c"}) {
		t.Errorf("order, the last first: %v", names)
	}
}

// TestConfigFaults: by path.
func TestConfigFaults(t *testing.T) {
	policy := func(f func(*PolicyConfig)) *module.Config {
		return sections(nil, []PolicyConfig{change(protect("a"), f)})
	}
	state := func(f func(*sad.StateConfig)) *module.Config {
		return sections([]sad.StateConfig{change(gcm(0x100), f)}, nil)
	}
	for _, c := range []struct {
		conf *module.Config
		want string
	}{
		{policy(func(c *PolicyConfig) { c.Dir = "up" }), `[0].dir: "up": want in, out or fwd`},
		{policy(func(c *PolicyConfig) { c.Action = "drop" }), `[0].action: "drop": want allow, block or protect`},
		{policy(func(c *PolicyConfig) { c.Action = "allow" }), "[0].templates: only a policy with action protect has any"},
		{policy(func(c *PolicyConfig) { c.Templates = nil }), "[0].templates: action protect needs at least one"},
		{policy(func(c *PolicyConfig) { c.Sub = "x" }), `[0].sub: "x": want main or sub`},
		{policy(func(c *PolicyConfig) { c.Flags = []string{"x"} }), `[0].flags: "x": want localok or icmp`},
		{policy(func(c *PolicyConfig) { c.Mark = "x" }), `[0].mark: "x": want VALUE or VALUE/MASK`},
		{policy(func(c *PolicyConfig) { c.Selector.DPort = 5 }), "[0].selector.dport: needs a protocol (RFC 4301 7.1)"},
		{policy(func(c *PolicyConfig) { c.Selector.Proto = true }), "[0].selector.proto: want a word or a number"},
		{policy(func(c *PolicyConfig) { c.Selector.Dev = "lan9" }), `[0].selector.dev: there is no link "lan9"`},
		{policy(func(c *PolicyConfig) { c.Templates[0].Mode = "x" }), `[0].templates[0].mode: "x": want transport, tunnel, beet, ro or in_trigger`},
		{policy(func(c *PolicyConfig) { c.Templates[0].Level = "use" }), "[0].templates[0].level: Mode in optional template not allowed in outbound policy."},
		{policy(func(c *PolicyConfig) { c.Templates = []TemplateConfig{{Proto: "hao", Mode: "tunnel"}} }), "[0].templates[0].mode: hao has no mode tunnel"},
		{policy(func(c *PolicyConfig) { c.Templates[0].Src, c.Templates[0].Dst = addr("10.0.0.1"), addr("10.0.0.2") }), "[0]: Address family not supported by protocol: IPv4"},
		{sections(nil, []PolicyConfig{protect("a"), protect("a")}), "[1]: a policy above is for the same packets"},
		{state(func(c *sad.StateConfig) { c.AEAD.Key, c.AEAD.KeyFile = "", "keys/x" }), "[0].aead.key_file: want a path from the root"},
		{state(func(c *sad.StateConfig) { c.Sel = "proto x" }), `[0].sel: proto: "x" is no protocol`},
		{state(func(c *sad.StateConfig) { c.Mode = "beet" }), "[0]: Invalid argument: mode beet needs a sel with both addresses"},
		{state(func(c *sad.StateConfig) { c.Encap = &sad.EncapConfig{Type: "espinudp-nonike"} }), "[0]: Unsupported encapsulation type for ESP.: espinudp-nonike"},
		{sections([]sad.StateConfig{gcm(0x100), gcm(0x100)}, nil), "[1]: proto esp spi 0x100 at 2001:db8:f::2 is a state above"},
		{&module.Config{Sections: map[string]module.Section{"ipsec.default": moduletest.Section[DefaultConfig]{Value: DefaultConfig{In: "drop"}}}}, `in: "drop": want allow or block`},
		{&module.Config{Sections: map[string]module.Section{"ipsec.defaults": moduletest.Section[sad.Defaults]{Value: sad.Defaults{ReplayWindow: 5000}}}}, "replay_window: 5000 is outside 0..4096"},
		{&module.Config{Sections: map[string]module.Section{"ipsec.defaults": moduletest.Section[sad.Defaults]{Value: sad.Defaults{ESN: true}}}}, "esn: it needs a replay_window"},
	} {
		if _, err := newBench(t).m.Prepare(c.conf); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// TestRanges: one item of several policies; numbers with and without quotes.
func TestRanges(t *testing.T) {
	b := newBench(t)
	b.apply(sections(nil, []PolicyConfig{
		{Name: "nd", Dir: "out", Priority: 1, Action: "allow", Selector: SelectorConfig{Proto: "ipv6-icmp", Type: "133-137"}},
		{Name: "dns", Dir: "in", Priority: 2, Action: "block", Selector: SelectorConfig{Proto: 17, DPort: 53}},
	}))
	n := map[string]int{}
	for _, p := range b.m.spd.List() {
		n[p.Name+" "+p.Dir.String()]++
	}
	if !reflect.DeepEqual(n, map[string]int{"nd out": 5, "dns in": 1, "ndp-bypass in": 5}) {
		t.Errorf("%v", n)
	}
	if v := b.m.view.Load(); v.idle != [3]bool{false, true, true} {
		t.Errorf("idle %v", v.idle)
	}
}

// TestExpiry: limits of time, and those that workers come upon.
func TestExpiry(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{
		change(gcm(0x100), func(c *sad.StateConfig) { c.Lifetime.SoftAdd, c.Lifetime.HardAdd = 5, 9 }),
		change(gcm(0x101), func(c *sad.StateConfig) { c.Lifetime.HardPackets = 1 }),
	}, nil))
	b.told()
	for range 2 {
		b.Manual.AdvanceTo(b.m.Deadline())
		b.m.Tick(b.now())
	}
	if got := fmt.Sprint(b.told()); got != "[expire 0x100 expire 0x100]" || len(b.m.states()) != 1 {
		t.Errorf("%s, %d states", got, len(b.m.states()))
	}
	s := b.m.states()[0]
	s.Live.Count(b.now(), 1)
	v := b.m.view.Load()
	b.m.hasReached(s, s.Before(1))
	b.m.Receive(b.now(), <-b.Mailbox)
	if got := fmt.Sprint(b.told()); got != "[expire 0x101]" || len(b.m.states()) != 0 || b.m.view.Load() == v {
		t.Errorf("%s, %d states", got, len(b.m.states()))
	}
}
