package mip6

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	awire "leveret/appliance/wire"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/mip6/cn"
	"leveret/extensions/mip6/mipapi"
	"leveret/extensions/mip6/wire"
)

// registered is a node with one binding.
func registered(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, on())
	u := registration(7, r.test(home, away))
	r.update(u)
	r.acked(u, wire.Accepted, 7, 100)
	r.Published = nil
	return r
}

func (r *rig) events() (out []string) {
	for _, p := range r.Published {
		out = append(out, p.Value.(mipapi.Event).Event)
	}
	r.Published = nil
	return out
}

// TestExpiry: a binding nobody uses ends without a word; what it was to packets ends with it.
func TestExpiry(t *testing.T) {
	r := registered(t)
	r.advance(399 * time.Second)
	if r.bound() != away || len(r.answers()) != 0 {
		t.Fatal("before its time")
	}
	r.advance(time.Second)
	if r.bound().IsValid() || len(r.answers()) != 0 || !slices.Equal(r.events(), []string{"expired"}) {
		t.Error("it has not ended, or with a word")
	}
	r.advance(time.Hour)
	if d := r.m.Deadline(); d-r.Manual.Now() < 1<<62 && len(r.m.cache.List()) == 0 {
		t.Errorf("something is due at %v with nothing there", d)
	}
}

// TestRefresh: a binding in use asks for a refresh, at the home address.
func TestRefresh(t *testing.T) {
	r := registered(t)
	var at []time.Duration
	began := r.Manual.Now()
	for range 400 {
		r.x.packets++
		r.advance(time.Second)
		for _, a := range r.answers() {
			if a.Type() != wire.TypeBRR || a.src != us || a.dst != home || a.route.IsValid() {
				t.Errorf("%+v", a)
			}
			at = append(at, r.Manual.Now().Sub(began))
		}
	}
	if len(at) != 3 || at[0] < 320*time.Second || at[0] > 361*time.Second || r.m.count.refreshes.Value() != 3 {
		t.Errorf("requests at %v", at)
	}
	if r.bound().IsValid() {
		t.Error("without an answer it has not ended")
	}
}

// unreachable is an ICMPv6 error about a packet that was sent to a mobile node.
func unreachable(typ uint8, careOf, home netip.Addr, damaged bool) *packet.Packet {
	quote := append(awire.AppendIPv6(nil, awire.IPv6Fields{PayloadLength: 32, NextHeader: awire.Routing, Src: us, Dst: careOf}), wire.AppendType2(nil, awire.UDP, home)...)
	icmp := append([]byte{typ, 3, 0, 0, 0, 0, 0, 0}, append(quote, 0, 1, 0, 2, 0, 8, 0, 0)...)
	from := addr("2001:db8:200::ffff")
	s, d := from.As16(), us.As16()
	c := awire.Checksum(&s, &d, awire.ICMPv6, icmp)
	icmp[2], icmp[3] = byte(c>>8), byte(c)
	if damaged {
		icmp[len(icmp)-1]++
	}
	p := packet.New(append(awire.AppendIPv6(nil, awire.IPv6Fields{PayloadLength: uint16(len(icmp)), NextHeader: awire.ICMPv6, Src: from, Dst: us}), icmp...))
	p.In, p.Proto, p.TransOff, p.GSO.Csum = 1, awire.ICMPv6, 40, packet.CsumUnknown
	return p
}

// TestUnreachable: Destination Unreachable that persists ends a binding, if packets were sent by it, to that care-of address.
func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		name    string
		packets uint64
		errs    int
		make    func() *packet.Packet
		ends    bool
	}{
		{"persistent", 1, 3, func() *packet.Packet { return unreachable(1, away, home, false) }, true},
		{"twice", 1, 2, func() *packet.Packet { return unreachable(1, away, home, false) }, false},
		{"none was sent", 0, 9, func() *packet.Packet { return unreachable(1, away, home, false) }, false},
		{"another care-of address", 1, 9, func() *packet.Packet { return unreachable(1, elsewhere, home, false) }, false},
		{"another home address", 1, 9, func() *packet.Packet { return unreachable(1, away, elsewhere, false) }, false},
		{"too long", 1, 9, func() *packet.Packet { return unreachable(2, away, home, false) }, false},
		{"checksum", 1, 9, func() *packet.Packet { return unreachable(1, away, home, true) }, false},
	} {
		r := registered(t)
		r.x.packets = c.packets
		for range c.errs {
			if v := r.Hooks[module.StageAdmit](c.make()); v != packet.Continue {
				t.Errorf("%s: %s", c.name, v)
			}
			r.settle()
			r.advance(time.Second)
		}
		if r.bound().IsValid() == c.ends || c.ends && !slices.Equal(r.events(), []string{"unreachable"}) {
			t.Errorf("%s: bound to %v", c.name, r.bound())
		}
	}
	for n := range 200 { // of any length
		p := unreachable(1, away, home, false)
		p.Trim(min(41+n, p.Len()))
		r := registered(t)
		if v := r.Hooks[module.StageAdmit](p); v != packet.Continue {
			t.Errorf("%d octets: %s", n, v)
		}
	}
}

// TestBindingErrors: who uses a home address without a binding is told, at the address the packet came from, and not too often.
func TestBindingErrors(t *testing.T) {
	r := newRig(t, on())
	for range 3 * cn.ErrorRate {
		r.x.report(home, away, us, 1)
		r.settle()
	}
	all := r.answers()
	if len(all) != cn.ErrorRate || r.m.count.errors[1].Value() != cn.ErrorRate || r.m.count.errorsLimited.Value() != 2*cn.ErrorRate {
		t.Errorf("%d errors, %v", len(all), r.m.count.all())
	}
	for _, a := range all {
		if e, ok := a.BindingError(); !ok || e.Status() != wire.UnknownBinding || e.HomeAddress() != home || a.src != us || a.dst != away || a.route.IsValid() {
			t.Fatalf("%+v", a)
		}
	}
	r.advance(time.Second)
	r.x.report(home, addr("ff02::1"), us, 1)
	r.settle()
	if n := len(r.answers()); n != 0 {
		t.Errorf("%d errors to a group", n)
	}
	r.x.report(home, away, addr("ff02::1"), 1)
	r.settle()
	if n := len(r.answers()); n != 0 {
		t.Errorf("%d errors about a packet to a group", n)
	}
	r.configure(Config{MaxBindings: 8, MaxLifetime: time.Minute})
	r.x.report(home, away, us, 1)
	r.settle()
	if n := len(r.answers()); n != 0 {
		t.Errorf("%d errors of a node that is none", n)
	}
}

// TestReplay: an update that somebody has recorded does nothing, while the binding holds or after.
func TestReplay(t *testing.T) {
	r := newRig(t, on())
	first := registration(7, r.test(home, away))
	r.update(first)
	r.acked(first, wire.Accepted, 7, 100)
	gone := registration(8, first.k)
	gone.lifetime = 0
	r.update(gone)
	r.acked(gone, wire.Accepted, 8, 0)
	for _, u := range []update{first, gone} {
		r.update(u)
		r.acked(u, wire.SequenceOutOfWindow, 8, 0)
	}
	if r.bound().IsValid() {
		t.Error("a binding has come back")
	}
	r.advance(241 * time.Second)
	r.update(first)
	r.acked(first, wire.ExpiredNonces, 7, 0)
	// From elsewhere it is not what was signed.
	second := registration(9, r.test(home, away))
	b := second.bytes()
	r.deliver(elsewhere, us, home, b)
	if len(r.answers()) != 0 || r.bound().IsValid() {
		t.Error("a reflected update counts")
	}
}

// TestEviction: when the cache is full the binding that is unused the longest gives its place, to packets too.
func TestEviction(t *testing.T) {
	r := newRig(t, on())
	for i := range 12 {
		h := addr("2001:db8:100::1:0").As16()
		h[15] = byte(i)
		u := registration(1, r.test(netip.AddrFrom16(h), away))
		u.home = netip.AddrFrom16(h)
		r.update(u)
		r.acked(u, wire.Accepted, 1, 100)
	}
	if len(r.x.bindings) != 8 || r.m.cache.Counts().Peers != 8 {
		t.Errorf("%d in force, %+v", len(r.x.bindings), r.m.cache.Counts())
	}
	for _, b := range r.m.cache.List() {
		_, there := r.x.bindings[[2]netip.Addr{us, b.Key.Home}]
		if there != (b.State.String() == "registered") {
			t.Errorf("%v is %v, in force %v", b.Key.Home, b.State, there)
		}
	}
}

// TestFlush: bindings end by command, by name or all, and with the role.
func TestFlush(t *testing.T) {
	r := registered(t)
	call := func(method, path string, f mipapi.Filter, query map[string]string) any {
		t.Helper()
		v, err := r.Handlers[method+" "+path](r.Manual.Now(), module.Request{Query: query, Decode: func(v any) error { *v.(*mipapi.Filter) = f; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		r.settle()
		return v
	}
	r.x.packets = 5
	list := call("GET", "/v1/mip/bc", mipapi.Filter{}, map[string]string{"hoa": home.String()}).([]mipapi.Binding)
	if len(list) != 1 || list[0].HoA != home || list[0].CoA != away || list[0].Local != us || list[0].Status != "registered" || list[0].Lifetime != 400 ||
		list[0].Expires != 400 || list[0].Sequence != 7 || list[0].Packets != 5 || !slices.Equal(list[0].Flags, []string{"ack"}) {
		t.Errorf("%+v", list)
	}
	if list := call("GET", "/v1/mip/bc", mipapi.Filter{}, map[string]string{"hoa": away.String()}).([]mipapi.Binding); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if _, err := r.Handlers["GET /v1/mip/bc"](0, module.Request{Query: map[string]string{"hoa": "x"}}); err == nil {
		t.Error("not an address")
	}
	if n := call("GET", "/v1/mip/nonce", mipapi.Filter{}, nil).([]mipapi.Nonce); len(n) != 1 || n[0].Age != 0 {
		t.Errorf("%+v", n)
	}
	if s := call("GET", "/v1/mip/stat", mipapi.Filter{}, nil).(mipapi.Stat); s.Bindings != 1 || s.Counters["received_bu"] != 1 || s.Counters["sent_tests"] != 2 {
		t.Errorf("%+v", s)
	}
	if f := call("POST", "/v1/mip/bc/flush", mipapi.Filter{Local: away.String()}, nil).(mipapi.Flushed); f.Flushed != 0 || r.bound() != away {
		t.Errorf("%+v", f)
	}
	if f := call("POST", "/v1/mip/bc/flush", mipapi.Filter{HoA: home.String()}, nil).(mipapi.Flushed); f.Flushed != 1 || r.bound().IsValid() {
		t.Errorf("%+v", f)
	}
	if got := r.events(); !slices.Equal(got, []string{"flushed"}) {
		t.Errorf("%v", got)
	}
	u := registration(8, r.test(home, away))
	r.update(u)
	r.acked(u, wire.Accepted, 8, 100)
	r.m.Reset(r.Manual.Now())
	r.settle()
	if r.bound().IsValid() {
		t.Error("a reset leaves bindings")
	}
	r.configure(Config{MaxBindings: 8, MaxLifetime: time.Minute})
	if v := r.deliver(away, us, home, u.bytes()); r.x.on || v != packet.Continue || len(r.m.cache.List()) != 0 {
		t.Errorf("it is still a correspondent node: %s", v)
	}
}

// TestFlood: a million test init messages leave nothing behind, and no more answers than the rate.
func TestFlood(t *testing.T) {
	r := newRig(t, on())
	w := wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{})
	mh := w.Close()
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	var before uint64
	sent := 0
	for i := range 1_000_000 {
		src := away.As16()
		src[12], src[13], src[14] = byte(i>>16), byte(i>>8), byte(i)
		d := us.As16()
		mh[4], mh[5] = 0, 0
		c := awire.Checksum(&src, &d, awire.MH, mh)
		mh[4], mh[5] = byte(c>>8), byte(c)
		r.deliver(netip.AddrFrom16(src), us, netip.Addr{}, mh)
		sent += len(r.Routed)
		r.Routed = nil
		if i == 1000 {
			before = heap()
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("%d octets more", after-before)
	}
	if sent != cn.TestRate || len(r.m.cache.List()) != 0 {
		t.Errorf("%d answers", sent)
	}
}

// TestConfig: what is refused.
func TestConfig(t *testing.T) {
	for _, c := range []struct {
		edit func(*Config)
		want string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.MaxBindings = 0 }, "max_bindings: 0 is outside 1..32768"},
		{func(c *Config) { c.MaxBindings = 32769 }, "max_bindings: 32769 is outside 1..32768"},
		{func(c *Config) { c.MaxLifetime = time.Second }, "max_lifetime: 1s is outside 4s..7m0s"},
		{func(c *Config) { c.MaxLifetime = 421 * time.Second }, "max_lifetime: 7m1s is outside 4s..7m0s"},
		{func(c *Config) { c.Deny = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, "deny[0]: 10.0.0.0/8 is not an IPv6 prefix"},
	} {
		r := newRig(t, on())
		conf := on()
		c.edit(&conf)
		_, err := r.m.Prepare(sections(conf))
		if got := text(err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestOthersCostNothing: what is neither a message nor an error that tells of a binding passes without an allocation.
func TestOthersCostNothing(t *testing.T) {
	r := registered(t)
	udp := packet.New(append(awire.AppendIPv6(nil, awire.IPv6Fields{PayloadLength: 8, NextHeader: awire.UDP, Src: home, Dst: us}), make([]byte, 8)...))
	udp.In, udp.Proto, udp.TransOff = 1, awire.UDP, 40
	for _, p := range []*packet.Packet{udp, unreachable(2, away, home, false), unreachable(awire.TypeEchoRequest, away, home, false)} {
		if n := testing.AllocsPerRun(100, func() {
			if v := r.Hooks[module.StageAdmit](p); v != packet.Continue {
				t.Fatal(v)
			}
		}); n != 0 {
			t.Errorf("%d allocations for protocol %d", int(n), p.Proto)
		}
	}
}
