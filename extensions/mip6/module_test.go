package mip6

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	awire "leveret/appliance/wire"

	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/appliance/packet"
	"leveret/extensions/mip6/mipapi"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

var (
	addr      = netip.MustParseAddr
	us        = addr("2001:db8:300::c")
	home      = addr("2001:db8:100::abcd")
	away      = addr("2001:db8:200::1234")
	elsewhere = addr("2001:db8:201::1234")
)

// transformer stands for who transforms packets: it keeps what it is told, and does it when it is let.
type transformer struct {
	on       bool
	bindings map[[2]netip.Addr]netip.Addr
	waiting  []func()
	packets  uint64
	fail     error
	report   func(home, careOf, dst netip.Addr, link int)
	sas      []module.SA
}

func (x *transformer) Correspond(on bool) { x.on, x.bindings = on, map[[2]netip.Addr]netip.Addr{} }

func (x *transformer) Bind(b module.MobileBinding, done func(error)) {
	x.waiting = append(x.waiting, func() {
		k := [2]netip.Addr{b.Local, b.Home}
		if delete(x.bindings, k); b.CareOf.IsValid() && x.fail == nil {
			x.bindings[k] = b.CareOf
		}
		if done != nil {
			done(x.fail)
		}
	})
}

func (x *transformer) Bound(local, home netip.Addr) uint64 {
	if _, ok := x.bindings[[2]netip.Addr{local, home}]; ok {
		return x.packets
	}
	return 0
}

func (x *transformer) OnReport(f func(home, careOf, dst netip.Addr, link int)) { x.report = f }

func (x *transformer) Secpath(_ *packet.Packet, into []module.SA) []module.SA {
	return append(into, x.sas...)
}

// rig is a correspondent node, and mobile nodes that talk to it.
type rig struct {
	*moduletest.Host
	t testing.TB
	m *Module
	x *transformer
}

func newRig(t testing.TB, c Config) *rig {
	t.Helper()
	x := &transformer{}
	r := &rig{Host: moduletest.NewHost(), t: t, x: x, m: New(x)}
	r.LinkList = []*module.Link{{Index: 1, Name: "wan0", MTU: 1500, Up: true, Carrier: true}}
	r.AddrSnap = module.NewAddrs([]*module.Addr{
		{Addr: us, PrefixLen: 64, Link: 1}, {Addr: addr("2001:db8:300::a"), PrefixLen: 64, Link: 1, Anycast: true},
		{Addr: addr("2001:db8:300::d"), PrefixLen: 64, Link: 1, Tentative: true},
	}, nil)
	if err := r.m.Init(r); err != nil {
		t.Fatal(err)
	}
	r.configure(c)
	return r
}

func (r *rig) configure(c Config) {
	r.t.Helper()
	commit, err := r.m.Prepare(sections(c))
	if err != nil {
		r.t.Fatal(err)
	}
	commit(r.Manual.Now())
}

func sections(c Config) *module.Config {
	return &module.Config{Sections: map[string]module.Section{"mobility.correspondent": moduletest.Section[Config]{Value: c}}}
}

func on() Config { return Config{Enabled: true, MaxBindings: 8, MaxLifetime: rr.MaxBindingLifetime} }

// settle lets the loops do what they have to do.
func (r *rig) settle() {
	for len(r.Mailbox) > 0 || len(r.x.waiting) > 0 {
		jobs := r.x.waiting
		r.x.waiting = nil
		for _, f := range jobs {
			f()
		}
		for len(r.Mailbox) > 0 {
			r.m.Receive(r.Manual.Now(), <-r.Mailbox)
		}
	}
}

func (r *rig) advance(d time.Duration) {
	end := r.Manual.Now().Add(d)
	for r.m.Deadline() <= end {
		r.Manual.AdvanceTo(max(r.m.Deadline(), r.Manual.Now()))
		r.m.Tick(r.Manual.Now())
		r.settle()
	}
	r.Manual.AdvanceTo(end)
}

// deliver gives the node a packet with a Mobility Header, as it is when all in front of that has had its effect.
func (r *rig) deliver(src, dst, home netip.Addr, mh []byte) packet.Verdict {
	r.t.Helper()
	f := awire.IPv6Fields{NextHeader: awire.MH, HopLimit: 60, Src: src, Dst: dst}
	var option []byte
	if home.IsValid() { // the addresses have changed places
		f.NextHeader, f.Src = awire.DestOpts, home
		option = wire.AppendHomeAddress(nil, awire.MH, src)
	}
	f.PayloadLength = uint16(len(option) + len(mh))
	p := packet.New(append(append(awire.AppendIPv6(nil, f), option...), mh...))
	p.In, p.Proto, p.TransOff, p.Walked = 1, awire.MH, 40+len(option), 40+len(option)
	if option == nil {
		p.Walked = 0
	}
	v := r.Hooks[module.StageAdmit](p)
	r.settle()
	return v
}

// answers are the messages that were sent since the last time, with their addresses.
type answer struct {
	src, dst, route netip.Addr
	wire.Message
}

func (r *rig) answers() (out []answer) {
	r.t.Helper()
	for _, b := range r.Routed {
		a := answer{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:]))}
		off, last := 40, a.dst
		if b[6] == awire.Routing {
			var f wire.Fault
			if a.route, f = wire.Type2(b, 40); !f.OK() {
				r.t.Fatalf("%v", f)
			}
			off, last = 64, a.route
		}
		var f wire.Fault
		if a.Message, f = wire.Parse(b, off, a.src, last); !f.OK() || len(b) != off+len(a.Message.Bytes()) || int(b[4])<<8|int(b[5]) != len(b)-40 {
			r.t.Fatalf("%v: % x", f.Reason, b)
		}
		out = append(out, a)
	}
	r.Routed = nil
	return out
}

func (r *rig) one() answer {
	r.t.Helper()
	all := r.answers()
	if len(all) != 1 {
		r.t.Fatalf("%d answers", len(all))
	}
	return all[0]
}

// tokens are what a mobile node has learned.
type tokens struct {
	hi, ci       uint16
	home, careOf rr.Token
}

// test is the return routability procedure.
func (r *rig) test(home, careOf netip.Addr) (k tokens) {
	r.t.Helper()
	for i, from := range [...]netip.Addr{home, careOf} {
		cookie := [8]byte{1, 2, 3, byte(i)}
		w := wire.NewTestInit(nil, []uint8{wire.TypeHoTI, wire.TypeCoTI}[i], cookie)
		if v := r.deliver(from, us, netip.Addr{}, w.Finish(from, us)); v != packet.Consumed {
			r.t.Fatalf("%s", v)
		}
		a := r.one()
		m, ok := a.Test()
		if !ok || a.src != us || a.dst != from || a.route.IsValid() || m.Cookie() != cookie || a.Type() != []uint8{wire.TypeHoT, wire.TypeCoT}[i] {
			r.t.Fatalf("%+v", a)
		}
		if i == 0 {
			k.hi, k.home = m.NonceIndex(), m.Token()
		} else {
			k.ci, k.careOf = m.NonceIndex(), m.Token()
		}
	}
	return k
}

// update is a Binding Update as it should be; edits change it.
type update struct {
	src, home            netip.Addr
	seq, flags, lifetime uint16
	k                    tokens
	wrong, bare          bool
}

func registration(seq uint16, k tokens) update {
	return update{src: away, home: home, seq: seq, flags: wire.FlagAcknowledge, lifetime: 100, k: k}
}

func (u update) key() rr.Key {
	if u.lifetime == 0 {
		return rr.DeletionKey(u.k.home)
	}
	return rr.BindingKey(u.k.home, u.k.careOf)
}

func (u update) bytes() []byte {
	w := wire.NewBindingUpdate(nil, u.seq, u.flags, u.lifetime)
	if !u.bare {
		w.NonceIndices(u.k.hi, u.k.ci)
		w.Authorization()
		key := u.key()
		if u.wrong {
			key[0]++
		}
		rr.Sign(key, u.src, us, w.Close())
	}
	return w.Finish(u.home, us)
}

func (r *rig) update(u update) { r.t.Helper(); r.deliver(u.src, us, u.home, u.bytes()) }

// acked wants the acknowledgement of an update.
func (r *rig) acked(u update, status wire.Status, seq, lifetime uint16) {
	r.t.Helper()
	a := r.one()
	m, ok := a.BindingAck()
	if !ok || a.src != us || a.dst != u.src || a.route != u.home {
		r.t.Fatalf("%+v", a)
	}
	if m.Status() != status || m.Sequence() != seq || m.Lifetime() != lifetime {
		r.t.Errorf("status %v, sequence %d, lifetime %d", m.Status(), m.Sequence(), m.Lifetime())
	}
	_, signed := m.Authenticator()
	unsigned := status == wire.ExpiredHomeNonce || status == wire.ExpiredCareOfNonce || status == wire.ExpiredNonces || status == wire.HomeNotSupported || status == wire.TypeChange
	if signed == unsigned || signed && !rr.Verify(u.key(), u.src, us, m.Bytes()) {
		r.t.Errorf("status %v: signed %v", status, signed)
	}
}

func (r *rig) bound() netip.Addr { return r.x.bindings[[2]netip.Addr{us, home}] }

// TestBinding: from the tests to a binding, by another care-of address, and back. Acknowledgements wait for what they tell of.
func TestBinding(t *testing.T) {
	r := newRig(t, on())
	if !r.x.on {
		t.Fatal("nobody was told")
	}
	u := registration(7, r.test(home, away))
	r.update(u)
	r.acked(u, wire.Accepted, 7, 100)
	if r.bound() != away {
		t.Errorf("bound to %v", r.bound())
	}
	moved := registration(8, r.test(home, elsewhere))
	moved.src, moved.lifetime = elsewhere, 1000
	r.update(moved)
	r.acked(moved, wire.Accepted, 8, 105)
	if r.bound() != elsewhere {
		t.Errorf("bound to %v", r.bound())
	}
	moved.seq, moved.lifetime = 9, 0
	r.update(moved)
	r.acked(moved, wire.Accepted, 9, 0)
	if r.bound().IsValid() || len(r.m.sent) != 0 {
		t.Errorf("bound to %v", r.bound())
	}
	var events []string
	for _, p := range r.Published {
		events = append(events, p.Value.(mipapi.Event).Event)
	}
	if want := []string{"added", "updated", "deleted"}; !slices.Equal(events, want) {
		t.Errorf("%v, want %v", events, want)
	}
	// The acknowledgement is not sent before the binding is in force.
	again := registration(10, r.test(home, away))
	p := packet.New(append(append(awire.AppendIPv6(nil, awire.IPv6Fields{PayloadLength: uint16(24 + len(again.bytes())), NextHeader: awire.DestOpts, Src: home, Dst: us}),
		wire.AppendHomeAddress(nil, awire.MH, away)...), again.bytes()...))
	p.In, p.Proto, p.TransOff, p.Walked = 1, awire.MH, 64, 64
	r.Hooks[module.StageAdmit](p)
	r.m.Receive(r.Manual.Now(), <-r.Mailbox)
	if len(r.Routed) != 0 || len(r.x.waiting) != 1 {
		t.Errorf("%d sent, %d waiting", len(r.Routed), len(r.x.waiting))
	}
	r.settle()
	r.acked(again, wire.Accepted, 10, 100)
}

// TestStatuses: what is refused, and how that is answered and counted; the binding stays as it was.
func TestStatuses(t *testing.T) {
	old := func(r *rig) tokens { k := r.test(home, away); r.advance(241 * time.Second); return k }
	for _, c := range []struct {
		name   string
		conf   func(*Config)
		update func(*rig) update
		status wire.Status // or
		silent bool
		seq    uint16
		count  string
	}{
		{name: "prohibited", conf: func(c *Config) { c.Deny = []netip.Prefix{netip.MustParsePrefix("2001:db8:100::/48")} },
			update: func(r *rig) update { return registration(7, r.test(home, away)) }, status: wire.Prohibited, seq: 7, count: "update_denied_by_policy"},
		{name: "old sequence number", update: func(r *rig) update {
			u := registration(7, r.test(home, away))
			r.update(u)
			r.acked(u, wire.Accepted, 7, 100)
			u.seq, u.flags = 7, 0
			return u
		}, status: wire.SequenceOutOfWindow, seq: 7, count: "update_sequence_number_is_not_newer"},
		{name: "old nonces", update: func(r *rig) update { return registration(7, old(r)) }, status: wire.ExpiredNonces, seq: 7, count: "update_nonce_index_is_not_known"},
		{name: "old home nonce", update: func(r *rig) update {
			k := old(r)
			n := r.test(home, away)
			n.hi, n.home = k.hi, k.home
			return registration(7, n)
		}, status: wire.ExpiredHomeNonce, seq: 7, count: "update_nonce_index_is_not_known"},
		{name: "old care-of nonce", update: func(r *rig) update {
			k := old(r)
			n := r.test(home, away)
			n.ci, n.careOf = k.ci, k.careOf
			return registration(7, n)
		}, status: wire.ExpiredCareOfNonce, seq: 7, count: "update_nonce_index_is_not_known"},
		{name: "wrong authenticator", update: func(r *rig) update { u := registration(7, r.test(home, away)); u.wrong = true; return u }, silent: true, count: "update_wrong_authenticator"},
		{name: "no authorization", update: func(*rig) update {
			return update{src: away, home: home, seq: 7, lifetime: 9, bare: true, flags: wire.FlagAcknowledge}
		},
			silent: true, count: "update_no_nonce_indices"},
		{name: "tokens of another home address", update: func(r *rig) update {
			return registration(7, r.test(addr("2001:db8:100::1"), away))
		}, silent: true, count: "update_wrong_authenticator"},
		{name: "tokens of another care-of address", update: func(r *rig) update {
			return registration(7, r.test(home, elsewhere))
		}, silent: true, count: "update_wrong_authenticator"},
		{name: "care-of address of one link", update: func(r *rig) update {
			u := registration(7, r.test(home, away))
			u.src = addr("fe80::1")
			return u
		}, silent: true, count: "update_care-of_address_is_not_unicast_routable"},
		{name: "home registration", update: func(*rig) update {
			return update{src: away, home: home, seq: 7, lifetime: 9, bare: true, flags: wire.FlagAcknowledge | wire.FlagHome}
		}, status: wire.HomeNotSupported, seq: 7, count: "update_not_a_home_agent"},
		{name: "home registration with an SA", update: func(r *rig) update {
			r.x.sas = []module.SA{{Proto: awire.ESP, Integrity: true}}
			return update{src: away, home: home, seq: 7, lifetime: 9, bare: true, flags: wire.FlagHome}
		}, status: wire.HomeNotSupported, seq: 7, count: "update_not_a_home_agent"},
		{name: "home registration, with a binding", update: func(r *rig) update {
			u := registration(7, r.test(home, away))
			r.update(u)
			r.acked(u, wire.Accepted, 7, 100)
			return update{src: away, home: home, seq: 8, lifetime: 9, bare: true, flags: wire.FlagAcknowledge | wire.FlagHome}
		}, status: wire.TypeChange, seq: 8, count: "update_registration_of_another_type"},
		{name: "home registration with nonce indices", update: func(r *rig) update {
			u := registration(7, r.test(home, away))
			u.flags |= wire.FlagHome
			return u
		}, silent: true, count: "update_home_registration_with_nonce_indices"},
		{name: "old nonces, with a binding", update: func(r *rig) update {
			u := registration(7, r.test(home, away))
			r.update(u)
			r.acked(u, wire.Accepted, 7, 100)
			r.advance(241 * time.Second)
			u.seq = 8
			return u
		}, status: wire.ExpiredNonces, seq: 8, count: "update_nonce_index_is_not_known"},
		{name: "no room for its states", update: func(r *rig) update { r.x.fail = errors.New("full"); return registration(7, r.test(home, away)) },
			status: wire.NoResources, seq: 7, count: "update_no_room_in_the_cache"},
		{name: "circular", update: func(r *rig) update { // away is the home address of another
			o := registration(1, r.test(away, elsewhere))
			o.src, o.home = elsewhere, away
			r.update(o)
			r.acked(o, wire.Accepted, 1, 100)
			return registration(7, r.test(home, away))
		}, silent: true, count: "update_care-of_address_is_the_home_address_of_another_node"},
	} {
		conf := on()
		if c.conf != nil {
			c.conf(&conf)
		}
		r := newRig(t, conf)
		u := c.update(r)
		before := r.bound()
		r.update(u)
		if c.silent {
			if n := len(r.answers()); n != 0 {
				t.Errorf("%s: %d answers", c.name, n)
			}
		} else {
			r.acked(u, c.status, c.seq, 0)
		}
		if r.Counters[c.count] == nil || r.Counters[c.count].Value() != 1 {
			t.Errorf("%s: not counted; %v", c.name, r.m.count.all())
		}
		if r.bound() != before {
			t.Errorf("%s: bound to %v", c.name, r.bound())
		}
		if c.name == "no room for its states" {
			continue
		}
		if e := r.Published[len(r.Published)-1].Value.(mipapi.Event); e.Event != "refused" || e.Section == "" || e.Code != int(c.status) || e.HoA != home || e.CoA != u.src {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
}

// TestMalformed: what RFC 6275 9.2 says of messages that are not as they should be, and where Binding Errors go.
func TestMalformed(t *testing.T) {
	good := func(typ uint8) []byte {
		w := wire.NewTestInit(nil, wire.TypeHoTI, [8]byte{})
		b := w.Close()
		b[2] = typ
		return b
	}
	sum := func(src netip.Addr, b []byte) []byte {
		s, d := src.As16(), us.As16()
		b[4], b[5] = 0, 0
		c := awire.Checksum(&s, &d, awire.MH, b)
		b[4], b[5] = byte(c>>8), byte(c)
		return b
	}
	edit := func(b []byte, at int, v byte) []byte { b = bytes.Clone(b); b[at] = v; return b }
	none := netip.Addr{}
	misaligned := append(append([]byte{awire.NoNext, 3, wire.TypeBU, 0, 0, 0, 0, 7, 0x80, 0, 0, 9, wire.OptAlternateCareOf, 16}, away.AsSlice()...), wire.OptPadN, 0)
	for _, c := range []struct {
		name      string
		src, home netip.Addr
		mh        []byte
		pointer   uint32 // of a Parameter Problem
		errorTo   netip.Addr
		about     netip.Addr
	}{
		{"checksum", home, none, edit(sum(home, good(1)), 15, 9), 0, none, none},
		{"unknown type", away, none, sum(away, good(77)), 0, away, netip.IPv6Unspecified()},
		{"unknown type with a home address", away, home, sum(home, good(77)), 0, away, home},
		{"unknown type from a link", addr("fe80::1"), none, sum(addr("fe80::1"), good(77)), 0, addr("fe80::1"), netip.IPv6Unspecified()},
		{"piggybacked", home, none, sum(home, edit(good(1), 0, awire.UDP)), 40, none, none},
		{"too short", home, none, sum(home, edit(good(1), 2, wire.TypeHoT)), 41, none, none},
		{"short update", away, home, sum(home, []byte{awire.NoNext, 0, wire.TypeBU, 0, 0, 0, 0, 0}), 65, none, none},
		{"misaligned option", away, home, sum(home, misaligned), 0, none, none},
		{"too short, with a home address", away, home, sum(home, edit(good(1), 2, wire.TypeHoT)), 65, none, none},
	} {
		r := newRig(t, on())
		r.deliver(c.src, us, c.home, c.mh)
		var want []module.ICMPError
		if c.pointer != 0 {
			want = []module.ICMPError{{Type: awire.TypeParameterProblem, Arg: c.pointer}}
		}
		if !slices.Equal(r.Errors, want) {
			t.Errorf("%s: %v", c.name, r.Errors)
		}
		all := r.answers()
		if !c.errorTo.IsValid() {
			if len(all) != 0 {
				t.Errorf("%s: %v", c.name, all)
			}
			continue
		}
		if len(all) != 1 {
			t.Errorf("%s: %d answers", c.name, len(all))
			continue
		}
		if e, ok := all[0].BindingError(); !ok || e.Status() != wire.UnknownType || e.HomeAddress() != c.about || all[0].dst != c.errorTo || all[0].route.IsValid() {
			t.Errorf("%s: %+v", c.name, all[0])
		}
	}
}

// TestIgnored: messages that are right, and get no answer.
func TestIgnored(t *testing.T) {
	r := newRig(t, on())
	for _, c := range []struct {
		name           string
		src, dst, home netip.Addr
		w              wire.Builder
	}{
		{"test init with a home address", away, us, home, wire.NewTestInit(nil, wire.TypeHoTI, [8]byte{})},
		{"care-of test init with a home address", away, us, home, wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{})},
		{"to an anycast address", away, addr("2001:db8:300::a"), netip.Addr{}, wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{})},
		{"to an address in DAD", away, addr("2001:db8:300::d"), netip.Addr{}, wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{})},
		{"to a group", away, addr("ff02::1"), netip.Addr{}, wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{})},
		{"from a link", addr("fe80::9"), us, netip.Addr{}, wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{})},
		{"a test", away, us, netip.Addr{}, wire.NewTest(nil, wire.TypeHoT, 1, [8]byte{}, [8]byte{})},
		{"a refresh request", away, us, netip.Addr{}, wire.NewRefreshRequest(nil)},
		{"an error", away, us, netip.Addr{}, wire.NewBindingError(nil, 1, home)},
		{"an acknowledgement", away, us, netip.Addr{}, wire.NewBindingAck(nil, 0, 0, 1, 1)},
	} {
		n := r.m.count.ignored.Value()
		about := c.src
		if c.home.IsValid() {
			about = c.home
		}
		r.deliver(c.src, c.dst, c.home, c.w.Finish(about, c.dst))
		if len(r.answers())+len(r.Errors) != 0 || r.m.count.ignored.Value() != n+1 {
			t.Errorf("%s: answered, or not counted", c.name)
		}
	}
}
