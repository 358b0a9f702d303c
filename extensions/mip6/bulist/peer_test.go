package bulist

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// TestReturnRoutability: both tests in parallel, then the update, authenticated by both tokens (RFC 6275 11.6, 11.7.2).
func TestReturnRoutability(t *testing.T) {
	r := newRig(t)
	if _, ok := r.l.Optimize(r.now, toPeer, careOf, 105); ok {
		t.Error("without a home registration")
	}
	r.registered()
	x := r.optimize()
	if x.Lifetime != 105 || x.Flags != wire.FlagAcknowledge || x.CareOf != careOf || x.Agent || !x.Signed {
		t.Errorf("%+v", x)
	}
	claim := rr.Claim{Home: home, CareOf: careOf, HomeIndex: x.HomeIndex, CareOfIndex: x.CareOfIndex}
	if k, s := r.nonces.Key(r.now, claim); k != x.Kbm || !s.OK() {
		t.Errorf("another key than the correspondent's: %v", s)
	}
	if b := r.only(r.yes(x), Bound); b.CareOf != careOf || b.Key != toPeer {
		t.Errorf("%+v", b)
	}
	if a, ok := r.l.Lookup(r.now, toPeer); !ok || a != careOf {
		t.Errorf("%v, %v", a, ok)
	}
	if _, ok := r.l.Lookup(r.now+420*second, toPeer); ok {
		t.Error("it holds for more than 420 s")
	}
	// No longer than the home registration.
	r = newRig(t)
	y := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 50}), SendBU)
	r.only(r.yes(y), Bound)
	r.now += 20 * second
	if x := r.optimize(); x.Lifetime != 45 {
		t.Errorf("%d units", x.Lifetime)
	}
	// An update that runs is not begun again.
	if out, ok := r.l.Optimize(r.now, toPeer, careOf, 105); out != nil || !ok {
		t.Errorf("%v, %v", out, ok)
	}
	if _, ok := r.l.Optimize(r.now, toAgent, careOf, 105); ok {
		t.Error("the home agent as correspondent")
	}
}

// TestTests: which test messages count (RFC 6275 11.6.2).
func TestTests(t *testing.T) {
	r := newRig(t)
	r.registered()
	out, _ := r.l.Optimize(r.now, toPeer, careOf, 105)
	h, c := out[0], out[1]
	index, tok := r.nonces.Home(r.now, home)
	wrong := h.Cookie
	wrong[0] ^= 1
	for name, got := range map[string][]Effect{
		"another cookie":          r.l.HomeTest(r.now, toPeer, true, r.test(wire.TypeHoT, index, wrong, tok)),
		"not through the tunnel":  r.l.HomeTest(r.now, toPeer, false, r.test(wire.TypeHoT, index, h.Cookie, tok)),
		"another correspondent":   r.l.HomeTest(r.now, Key{home, cn2}, true, r.test(wire.TypeHoT, index, h.Cookie, tok)),
		"the home agent":          r.l.HomeTest(r.now, toAgent, true, r.test(wire.TypeHoT, index, h.Cookie, tok)),
		"a care-of test":          r.l.HomeTest(r.now, toPeer, true, r.test(wire.TypeCoT, index, h.Cookie, tok)),
		"a home test":             r.l.CareOfTest(r.now, cn, careOf, r.test(wire.TypeHoT, index, c.Cookie, tok)),
		"another care-of address": r.l.CareOfTest(r.now, cn, elsewhere, r.test(wire.TypeCoT, index, c.Cookie, tok)),
		"the other one's cookie":  r.l.CareOfTest(r.now, cn, careOf, r.test(wire.TypeCoT, index, h.Cookie, tok)),
		"somebody else's":         r.l.CareOfTest(r.now, cn2, careOf, r.test(wire.TypeCoT, index, c.Cookie, tok)),
	} {
		if len(got) != 0 || r.l.entries[toPeer].home.token.have || r.l.entries[toPeer].careOfTest.token.have {
			t.Fatalf("%s counts", name)
		}
	}
	r.answer(h)
	was := r.l.entries[toPeer].home.token
	r.l.HomeTest(r.now, toPeer, true, r.test(wire.TypeHoT, 999, h.Cookie, rr.Token{9})) // a token has been received
	if r.l.entries[toPeer].home.token != was {
		t.Error("a second Home Test counts")
	}
	r.only(r.answer(c), SendBU)
	// One Care-of Test is enough for several home addresses only if each has asked with its cookie.
	other := Key{elsewhere, cn}
	x := r.only(r.l.Register(r.now, Registration{Home: elsewhere, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	r.only(r.yes(x), Bound)
	out, _ = r.l.Optimize(r.now, other, careOf, 105)
	if !slices.Equal(kinds(out), []Action{SendHoTI, SendCoTI}) || out[1].Cookie == c.Cookie {
		t.Errorf("%+v", out)
	}
}

// TestTestBackOff: doubled, with new cookies; after MAX_RO_FAILURE retries the correspondent is left alone for a
// while, and packets go through the home agent (RFC 6275 5.2.9, 11.8).
func TestTestBackOff(t *testing.T) {
	r := newRig(t)
	r.registered()
	start := r.now
	out, _ := r.l.Optimize(r.now, toPeer, careOf, 105)
	r.answer(out[1])
	cookies := map[[8]byte]bool{out[0].Cookie: true}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		d, out := r.wait()
		x := r.only(out, SendHoTI)
		if d != want || cookies[x.Cookie] {
			t.Errorf("%d: after %v, new cookie %v", i, d, !cookies[x.Cookie])
		}
		cookies[x.Cookie] = true
	}
	if d, out := r.wait(); d != 8*time.Second || !slices.Equal(kinds(out), []Action{Unsupported}) {
		t.Errorf("%v after %v", out, d)
	}
	if _, ok := r.l.Optimize(r.now, toPeer, careOf, 105); ok {
		t.Error("it is not left alone")
	}
	if r.now += clock.Instant(Pause); r.now-start < clock.Instant(Pause) || r.l.Tick(r.now) != nil || len(r.l.List()) != 1 {
		t.Errorf("%+v", r.l.List())
	}
	if _, ok := r.l.Optimize(r.now, toPeer, careOf, 105); !ok {
		t.Error("it is left alone for ever")
	}
	// The same for updates, which have new sequence numbers.
	r = newRig(t)
	r.registered()
	x := r.optimize()
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		d, out := r.wait()
		y := r.only(out, SendBU)
		if d != want || y.Sequence != x.Sequence+1 || y.Kbm != x.Kbm {
			t.Errorf("%d: %+v after %v", i, y, d)
		}
		x = y
	}
	if _, out := r.wait(); !slices.Equal(kinds(out), []Action{Unsupported}) {
		t.Errorf("%v", out)
	}
}

// TestPeerRefreshed: a binding that is used is made again before it ends, with new tests; one that is not, ends.
func TestPeerRefreshed(t *testing.T) {
	r := newRig(t)
	r.registered()
	x := r.optimized()
	sent := r.now
	r.now += 10 * second
	r.l.Use(r.now, toPeer)
	_, out := r.wait()
	if r.now != sent+336*second || !slices.Equal(kinds(out), []Action{SendHoTI, SendCoTI}) {
		t.Fatalf("%v after %v", out, time.Duration(r.now-sent))
	}
	r.answer(out[0])
	y := r.only(r.answer(out[1]), SendBU)
	if y.Sequence != x.Sequence+1 || y.Kbm == x.Kbm {
		t.Errorf("%+v", y)
	}
	r.only(r.yes(y), Bound)
	var all []Action
	for len(r.l.List()) > 1 {
		_, out := r.wait()
		all = append(all, kinds(out)...)
	}
	if !slices.Equal(all, []Action{Unbound}) || r.now != sent+(336+420)*second {
		t.Errorf("%v, ended after %v", all, time.Duration(r.now-sent))
	}
	// A correspondent asks for it (11.7.4); one that has no entry, or that nobody talks to, is not answered.
	r = newRig(t)
	r.registered()
	if out := r.l.RefreshRequest(r.now, toPeer); out != nil {
		t.Errorf("%v", out)
	}
	r.optimized()
	r.now += second
	if out := r.l.RefreshRequest(r.now, toPeer); out != nil {
		t.Errorf("unused: %v", out)
	}
	r.l.Use(r.now, toPeer)
	if out := r.l.RefreshRequest(r.now, toPeer); !slices.Equal(kinds(out), []Action{SendBU}) { // the tokens are good
		t.Errorf("%v", out)
	}
	if out := r.l.RefreshRequest(r.now, toPeer); out != nil {
		t.Errorf("twice: %v", out)
	}
	if out := r.l.RefreshRequest(r.now, toAgent); !slices.Equal(kinds(out), []Action{SendBU}) {
		t.Errorf("%v", out)
	}
}

// TestPeerAcks: statuses of a correspondent, and what makes an acknowledgement authentic (RFC 6275 9.5.4, 11.7.3).
func TestPeerAcks(t *testing.T) {
	for _, c := range []struct {
		name string
		a    ack
		want []Action
	}{
		{"accepted", ack{life: 105}, []Action{Bound}},
		{"refresh advice does not count", ack{life: 105, advice: 1}, []Action{Bound}},
		{"without authorization data", ack{life: 105, unsigned: true}, nil},
		{"expired home nonce", ack{status: wire.ExpiredHomeNonce, unsigned: true}, []Action{SendHoTI}},
		{"expired care-of nonce", ack{status: wire.ExpiredCareOfNonce, unsigned: true}, []Action{SendCoTI}},
		{"expired nonces", ack{status: wire.ExpiredNonces, unsigned: true}, []Action{SendHoTI, SendCoTI}},
		{"prohibited", ack{status: wire.Prohibited}, []Action{Refused}},
		{"no resources", ack{status: wire.NoResources}, []Action{Refused}},
		{"another type", ack{status: wire.TypeChange}, []Action{Refused}},
		{"refused without authorization data", ack{status: wire.Prohibited, unsigned: true}, nil},
		{"status 1 means nothing more", ack{status: wire.AcceptedPrefixDiscovery, life: 105}, []Action{Bound}},
	} {
		r := newRig(t)
		r.registered()
		x := r.optimize()
		c.a.seq = x.Sequence
		out := r.ack(x, c.a)
		if !slices.Equal(kinds(out), c.want) {
			t.Errorf("%s: %v, want %v", c.name, kinds(out), c.want)
		}
		if c.want != nil && c.want[0] == Refused {
			if _, ok := r.l.Optimize(r.now, toPeer, careOf, 105); ok || out[0].Status != c.a.status {
				t.Errorf("%s: %+v, not left alone", c.name, out)
			}
		}
		if c.name == "refresh advice does not count" && r.l.Deadline() != r.now+336*second {
			t.Errorf("%s: due in %v", c.name, time.Duration(r.l.Deadline()-r.now))
		}
		if c.a.unsigned && c.want != nil { // of another number it is nothing
			r := newRig(t)
			r.registered()
			x := r.optimize()
			c.a.seq = x.Sequence - 1
			if out := r.ack(x, c.a); out != nil {
				t.Errorf("%s: with another number: %v", c.name, out)
			}
		}
	}
	// Somebody who says that all nonces are expired does not keep the node busy for ever.
	r := newRig(t)
	r.registered()
	x := r.optimize()
	for i := range 100 {
		out := r.ack(x, ack{status: wire.ExpiredNonces, unsigned: true, seq: x.Sequence})
		if slices.Equal(kinds(out), []Action{Refused}) {
			if i != MaxRouteOptimizeFailed {
				t.Errorf("after %d", i)
			}
			return
		}
		for !slices.Equal(kinds(out), []Action{SendBU}) {
			var next []Effect
			for _, y := range out {
				if y.Do == SendHoTI || y.Do == SendCoTI {
					next = append(next, r.answer(y)...)
				}
			}
			if out = next; len(out) == 0 {
				_, out = r.wait()
			}
		}
		x = out[0]
	}
	t.Error("it goes on for ever")
}

// TestForget: deleting a correspondent's binding (RFC 6275 11.7.2): with the home keygen token alone, and until it is done
// nothing goes by it.
func TestForget(t *testing.T) {
	r := newRig(t)
	r.registered()
	r.optimized()
	out := r.l.Forget(r.now, toPeer)
	if !slices.Equal(kinds(out), []Action{Unbound, SendBU}) || out[1].Lifetime != 0 || out[1].CareOf != careOf || out[1].CareOfIndex != 0 {
		t.Fatalf("%+v", out)
	}
	if _, ok := r.l.Lookup(r.now, toPeer); ok {
		t.Error("packets go by it")
	}
	claim := rr.Claim{Home: home, CareOf: careOf, HomeIndex: out[1].HomeIndex, Delete: true}
	if k, s := r.nonces.Key(r.now, claim); k != out[1].Kbm || !s.OK() {
		t.Errorf("another key than the correspondent's: %v", s)
	}
	if out := r.l.Forget(r.now, toPeer); out != nil {
		t.Errorf("twice: %v", out)
	}
	if out := r.yes(out[1]); !slices.Equal(kinds(out), []Action{Unbound}) || len(r.l.List()) != 1 {
		t.Errorf("%v", out)
	}
	// Nothing was sent yet.
	r.l.Optimize(r.now, Key{home, cn2}, careOf, 105)
	if out := r.l.Forget(r.now, Key{home, cn2}); out != nil || len(r.l.List()) != 1 {
		t.Errorf("%v", out)
	}
	if out := r.l.Forget(r.now, toAgent); out != nil {
		t.Errorf("the home agent: %v", out)
	}
}

// TestBindingError: RFC 6275 11.3.6.
func TestBindingError(t *testing.T) {
	for _, c := range []struct {
		name     string
		before   func(r *rig)
		k        Key
		status   uint8
		progress bool
		want     []Action
	}{
		{"from nobody", nil, Key{home, cn2}, wire.UnknownBinding, false, nil},
		{"unknown binding, from the home agent", nil, toAgent, wire.UnknownBinding, true, []Action{SendBU}},
		{"unknown binding", func(r *rig) { r.optimized() }, toPeer, wire.UnknownBinding, false, []Action{Unbound}},
		{"unknown binding, but all is well", func(r *rig) { r.optimized() }, toPeer, wire.UnknownBinding, true, nil},
		{"unknown binding, and there is none yet", func(r *rig) { r.optimize() }, toPeer, wire.UnknownBinding, false, nil},
		{"unknown type, and nothing is expected", func(r *rig) { r.optimized() }, toPeer, wire.UnknownType, false, nil},
		{"unknown type", func(r *rig) { r.optimize() }, toPeer, wire.UnknownType, true, []Action{Unsupported}},
		{"unknown type, to a test", func(r *rig) { r.l.Optimize(r.now, toPeer, careOf, 105) }, toPeer, wire.UnknownType, true, []Action{Unsupported}},
		{"unknown type, from the home agent", nil, toAgent, wire.UnknownType, false, nil},
		{"another status", func(r *rig) { r.optimized() }, toPeer, 9, false, nil},
	} {
		r := newRig(t)
		r.registered()
		if c.before != nil {
			c.before(r)
		}
		if got := kinds(r.l.Error(r.now, c.k, c.status, c.progress)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if c.name == "unknown binding" && len(r.l.List()) != 1 {
			t.Error("the entry is still there")
		}
		if again := r.l.Error(r.now, c.k, c.status, c.progress); len(again) != 0 {
			t.Errorf("%s: a second one: %v", c.name, again)
		}
	}
}

// TestNotSupported: Parameter Problem code 1 (RFC 6275 11.3.5).
func TestNotSupported(t *testing.T) {
	r := newRig(t)
	r.registered()
	if out := r.l.NotSupported(r.now, cn); out != nil || len(r.l.List()) != 1 {
		t.Errorf("an error makes an entry: %v", out)
	}
	r.l.Optimize(r.now, toPeer, careOf, 105)
	if out := r.l.NotSupported(r.now, cn2); out != nil {
		t.Errorf("%v", out)
	}
	if out := r.l.NotSupported(r.now, cn); !slices.Equal(kinds(out), []Action{Unsupported}) {
		t.Errorf("%v", out)
	}
	if r.l.Deadline() != r.now.Add(Pause) {
		t.Errorf("due in %v", time.Duration(r.l.Deadline()-r.now))
	}
	// It stays so when the node moves.
	r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: elsewhere, Lifetime: 1000})
	if e := r.l.entries[toPeer]; e.due || e.silent == 0 {
		t.Error("it is asked again")
	}
	r.now += clock.Instant(Pause)
	for r.l.Tick(r.now); len(r.l.List()) > 1; _, _ = r.wait() {
	}
}

// TestLimit: a full list takes no more correspondents, but for those whose time of silence is over.
func TestLimit(t *testing.T) {
	r := newRig(t)
	r.registered()
	peer := func(i byte) Key {
		a := cn.As16()
		a[15] = i
		return Key{home, netip.AddrFrom16(a)}
	}
	for i := range byte(7) {
		if _, ok := r.l.Optimize(r.now, peer(i), careOf, 105); ok != (i < 5) {
			t.Errorf("%d: %v", i, ok)
		}
	}
	r.l.NotSupported(r.now, peer(2).Peer)
	if _, ok := r.l.Optimize(r.now, peer(6), careOf, 105); ok {
		t.Error("the memory of a correspondent that is left alone is lost")
	}
	if _, ok := r.l.Optimize(r.now.Add(Pause), peer(6), careOf, 105); !ok || r.l.peers != 5 || len(r.l.entries) != 6 {
		t.Errorf("%d correspondents", r.l.peers)
	}
}
