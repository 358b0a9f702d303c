package bulist

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// TestRegister: what a home registration says and when it is made again (RFC 6275 11.7.1).
func TestRegister(t *testing.T) {
	r := newRig(t)
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000, Flags: wire.FlagLinkLocal}), SendBU)
	if x.Flags != wire.FlagAcknowledge|wire.FlagHome|wire.FlagLinkLocal || x.Lifetime != 1000 || !x.Agent || x.Signed || x.CareOf != careOf || x.Key != toAgent {
		t.Errorf("%+v", x)
	}
	if _, ok := r.l.Lookup(r.now, toAgent); ok {
		t.Error("bound before the acknowledgement")
	}
	sent := r.now
	r.now += second / 2
	b := r.only(r.yes(x), Bound)
	if b.CareOf != careOf || !b.Agent {
		t.Errorf("%+v", b)
	}
	if a, ok := r.l.Lookup(r.now, toAgent); !ok || a != careOf {
		t.Error("not bound")
	}
	// 80 % of the lifetime, from when the update was sent.
	_, out := r.wait()
	y := r.only(out, SendBU)
	if r.now != sent+3200*second || y.Sequence != x.Sequence+1 || y.CareOf != careOf || y.Lifetime != 1000 {
		t.Errorf("after %v: %+v", time.Duration(r.now-sent), y)
	}
	// There is a binding: the first timeout is one second.
	if d, _ := r.wait(); d != time.Second {
		t.Errorf("sent again after %v", d)
	}
	// The home agent never answers: the binding ends, and the update is sent on.
	for ended := false; !ended; {
		d, out := r.wait()
		if d > MaxBindAckTimeout {
			t.Fatalf("silence for %v", d)
		}
		ended = slices.Contains(kinds(out), Unbound)
	}
	if r.now != sent+4000*second {
		t.Errorf("ended after %v", time.Duration(r.now-sent))
	}
	if d, out := r.wait(); d > MaxBindAckTimeout || !slices.Contains(kinds(out), SendBU) {
		t.Errorf("%v after %v", out, d)
	}
}

// TestBackOff: InitialBindackTimeoutFirstReg, then doubled up to MAX_BINDACK_TIMEOUT, each with a new sequence
// number; there another home agent is asked for (RFC 6275 11.7.1, 11.8).
func TestBackOff(t *testing.T) {
	r := newRig(t)
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	for i, want := range []time.Duration{1500, 3000, 6000, 12_000, 24_000, 32_000, 32_000, 32_000} {
		want *= time.Millisecond
		d, out := r.wait()
		wantKinds := []Action{SendBU}
		if i == 4 {
			wantKinds = []Action{NextAgent, SendBU}
		}
		if d != want || !slices.Equal(kinds(out), wantKinds) {
			t.Fatalf("%d: %v after %v, want %v", i, kinds(out), d, want)
		}
		y := out[len(out)-1]
		if y.Sequence != x.Sequence+1 || y.CareOf != careOf {
			t.Fatalf("%d: number %d after %d", i, y.Sequence, x.Sequence)
		}
		if old := r.yes(x); old != nil {
			t.Fatalf("%d: the acknowledgement of a number that is not outstanding counts: %v", i, old)
		}
		x = y
	}
	r.only(r.yes(x), Bound)
	if out := r.yes(x); out != nil {
		t.Errorf("acknowledged twice: %v", out)
	}
	// A configured first timeout; the sequence number of before a restart.
	l := New(Config{FirstTimeout: 4 * time.Second}, seeded(1))
	y := r.only(l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000, Sequence: 0xffff, Known: true}), SendBU)
	if y.Sequence != 0 || l.Deadline() != r.now+4*second {
		t.Errorf("%+v, due in %v", y, time.Duration(l.Deadline()-r.now))
	}
}

// TestAcknowledged: RFC 6275 11.7.3 and 6.2.4: the shorter lifetime, counted from the sending; refresh advice; status 1.
func TestAcknowledged(t *testing.T) {
	for _, c := range []struct {
		name    string
		a       ack
		until   time.Duration
		refresh time.Duration
	}{
		{"as asked for", ack{life: 1000}, 4000 * time.Second, 3200 * time.Second},
		{"shorter", ack{life: 500}, 2000 * time.Second, 1600 * time.Second},
		{"longer does not count", ack{life: 2000}, 4000 * time.Second, 3200 * time.Second},
		{"refresh advice", ack{life: 1000, advice: 100}, 4000 * time.Second, 400 * time.Second},
		{"late refresh advice", ack{life: 1000, advice: 999}, 4000 * time.Second, 3200 * time.Second},
	} {
		r := newRig(t)
		x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
		sent := r.now
		r.now += second
		c.a.seq = x.Sequence
		r.only(r.ack(x, c.a), Bound)
		e := r.l.List()[0]
		if e.Until != sent.Add(c.until) || r.l.Deadline() != sent.Add(c.refresh) {
			t.Errorf("%s: until %v, refresh %v", c.name, time.Duration(e.Until-sent), time.Duration(e.Refresh-sent))
		}
	}
	// Status 1: no refresh before prefix discovery.
	r := newRig(t)
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	out := r.ack(x, ack{status: wire.AcceptedPrefixDiscovery, seq: x.Sequence, life: 1000})
	if !slices.Equal(kinds(out), []Action{Bound, Discover}) || out[0].Status != wire.AcceptedPrefixDiscovery {
		t.Errorf("%v", out)
	}
	if r.l.Deadline() != r.now+4000*second || r.l.RefreshRequest(r.now, toAgent) != nil {
		t.Error("refreshed before prefix discovery")
	}
	r.l.PrefixesKnown(toAgent)
	if _, out := r.wait(); r.now != 1000*second+3200*second || !slices.Equal(kinds(out), []Action{SendBU}) {
		t.Errorf("%v", out)
	}
	// Without it, the binding ends.
	r = newRig(t)
	x = r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	r.ack(x, ack{status: wire.AcceptedPrefixDiscovery, seq: x.Sequence, life: 1000})
	if _, out := r.wait(); !slices.Equal(kinds(out), []Action{Unbound}) || r.l.Deadline() != clock.Never || len(r.l.List()) != 0 {
		t.Errorf("%v", out)
	}
	// What nothing protects does not count.
	r = newRig(t)
	x = r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	if out := r.ack(x, ack{seq: x.Sequence, life: 1000, unsigned: true}); out != nil {
		t.Errorf("%v", out)
	}
	if out := r.l.Ack(r.now, toPeer, true, wire.BindingAck{}); out != nil {
		t.Errorf("an acknowledgement from nobody: %v", out)
	}
}

// TestHomeRefused: what becomes of the statuses of a home agent (RFC 6275 11.7.3, RFC 3963 5.4, RFC 4285 5.3).
func TestHomeRefused(t *testing.T) {
	for _, c := range []struct {
		status wire.Status
		again  time.Duration // when it is tried again; 0 = it is not
	}{
		{wire.Unspecified, 32 * time.Second}, {wire.NoResources, 32 * time.Second}, {wire.Prohibited, 0}, {wire.HomeNotSupported, 0}, {wire.NotHomeSubnet, 0},
		{wire.NotHomeAgent, 0}, {wire.DuplicateAddress, 0}, {wire.TypeChange, 0}, {wire.RouterNotPermitted, 0}, {wire.InvalidPrefix, 0},
		{wire.NotAuthorizedForPrefix, 0}, {wire.ForwardingFailed, 0}, {wire.IDMismatch, 0}, {wire.AuthFailed, 0}, {wire.InvalidCareOf, 0}, {200, 0},
	} {
		r := newRig(t)
		x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
		n := r.only(r.ack(x, ack{status: c.status, seq: x.Sequence}), Refused)
		if n.Status != c.status || n.CareOf != careOf {
			t.Errorf("%v: %+v", c.status, n)
		}
		if c.again == 0 {
			if r.l.Deadline() != clock.Never {
				t.Errorf("%v: something is due in %v", c.status, time.Duration(r.l.Deadline()-r.now))
			}
		} else if d, out := r.wait(); d != c.again || !slices.Equal(kinds(out), []Action{SendBU}) {
			t.Errorf("%v: %v after %v", c.status, out, d)
		}
		// Asked to, it tries again.
		if y := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU); y.Sequence == x.Sequence {
			t.Errorf("%v: the same number", c.status)
		}
	}
}

// TestResync: 135 (RFC 6275 11.7.1, 11.7.3).
func TestResync(t *testing.T) {
	r := newRig(t)
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	last := x.Sequence + 1000
	y := r.only(r.ack(x, ack{status: wire.SequenceOutOfWindow, seq: last}), SendBU)
	if y.Sequence != last+1 {
		t.Errorf("number %d after %d", y.Sequence, last)
	}
	r.only(r.yes(y), Bound)
	if out := r.ack(y, ack{status: wire.SequenceOutOfWindow, seq: 5}); out != nil || r.l.List()[0].Sequence != y.Sequence {
		t.Errorf("135 when nothing is outstanding: %v", out)
	}
	// Somebody who answers 135 to everything does not make a storm: three a second at most, then the back-off.
	r = newRig(t)
	x = r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	sent := 1
	for range 1000 {
		for _, y := range r.ack(x, ack{status: wire.SequenceOutOfWindow, seq: 77}) {
			x, sent = y, sent+1
		}
	}
	if sent > MaxUpdateRate {
		t.Errorf("%d updates at once", sent)
	}
	start := r.now
	for r.now < start+100*second {
		_, out := r.wait()
		for _, y := range out {
			if y.Do == SendBU {
				x, sent = y, sent+1
			}
		}
		for _, y := range r.ack(x, ack{status: wire.SequenceOutOfWindow, seq: 77}) {
			x, sent = y, sent+1
		}
	}
	if sent > 15 {
		t.Errorf("%d updates in 100 s", sent)
	}
	// Of a correspondent it has to be authentic.
	r = newRig(t)
	r.registered()
	x = r.optimize()
	if out := r.ack(x, ack{status: wire.SequenceOutOfWindow, seq: 7, unsigned: true}); out != nil {
		t.Errorf("%v", out)
	}
	if y := r.only(r.ack(x, ack{status: wire.SequenceOutOfWindow, seq: 7}), SendBU); y.Sequence != 8 || y.Kbm != x.Kbm {
		t.Errorf("%+v", y)
	}
}

// TestDeregister: at home, correspondents follow when the home agent has acknowledged (RFC 6275 11.5.5, 11.7.2).
func TestDeregister(t *testing.T) {
	r := newRig(t)
	r.registered()
	r.optimized()
	r.now += 300 * second // the tokens are too old
	r.l.Optimize(r.now, Key{home, cn2}, careOf, 105)
	x := r.only(r.l.Deregister(r.now, toAgent, home), SendBU)
	if x.Lifetime != 0 || x.CareOf != home || x.Flags&wire.FlagHome == 0 {
		t.Errorf("%+v", x)
	}
	if d, _ := r.wait(); d != time.Second {
		t.Errorf("sent again after %v", d)
	}
	if _, ok := r.l.Lookup(r.now, toPeer); ok {
		t.Error("at home, and packets still go by the binding")
	}
	out := r.ack(x, ack{seq: r.l.List()[0].Sequence})
	if !slices.Equal(kinds(out), []Action{Unbound, SendHoTI}) || out[1].Key != toPeer || out[1].CareOf != home {
		t.Fatalf("%+v", out)
	}
	y := r.only(r.answer(out[1]), SendBU)
	if y.Lifetime != 0 || y.CareOf != home || !y.Signed || y.CareOfIndex != 0 {
		t.Errorf("%+v", y)
	}
	if out := r.yes(y); !slices.Equal(kinds(out), []Action{Unbound}) || len(r.l.List()) != 0 || r.l.Deadline() != clock.Never {
		t.Errorf("%v, left %+v", out, r.l.List())
	}
	// 133: there was nothing to delete.
	r = newRig(t)
	r.registered()
	x = r.only(r.l.Deregister(r.now, toAgent, home), SendBU)
	if out := r.ack(x, ack{status: wire.NotHomeAgent, seq: x.Sequence}); !slices.Equal(kinds(out), []Action{Unbound}) || len(r.l.List()) != 0 {
		t.Errorf("%v", out)
	}
	if out := r.l.Deregister(r.now, toAgent, home); out != nil {
		t.Errorf("%v", out)
	}
	// From elsewhere: the correspondents' bindings end by themselves.
	r = newRig(t)
	r.registered()
	r.optimized()
	x = r.only(r.l.Deregister(r.now, toAgent, careOf), SendBU)
	r.only(r.yes(x), Unbound)
	var all []Action
	for r.l.Deadline() != clock.Never {
		_, out := r.wait()
		all = append(all, kinds(out)...)
	}
	if !slices.Equal(all, []Action{Unbound}) || len(r.l.List()) != 0 {
		t.Errorf("%v", all)
	}
}

// TestMove: the home agent first; then the correspondents, with the home keygen token they had (RFC 6275 5.2.7, 11.7.2).
func TestMove(t *testing.T) {
	r := newRig(t)
	r.registered()
	was := r.optimized()
	r.now += 100 * second
	out := r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: elsewhere, Lifetime: 1000})
	if !slices.Equal(kinds(out), []Action{SendBU, SendCoTI}) || out[0].CareOf != elsewhere || out[1].CareOf != elsewhere {
		t.Fatalf("%+v", out)
	}
	if early := r.answer(out[1]); len(early) != 0 {
		t.Errorf("%v before the home agent knows", early)
	}
	// The old binding is what the correspondent has until then.
	if a, ok := r.l.Lookup(r.now, toPeer); !ok || a != careOf {
		t.Errorf("%v, %v", a, ok)
	}
	next := r.yes(out[0])
	if !slices.Equal(kinds(next), []Action{Bound, SendBU}) {
		t.Fatalf("%+v", next)
	}
	if x := next[1]; x.Key != toPeer || x.CareOf != elsewhere || x.HomeIndex != was.HomeIndex || x.Kbm == was.Kbm || x.Sequence != was.Sequence+1 {
		t.Errorf("%+v", x)
	}
	r.yes(next[1])
	if a, _ := r.l.Lookup(r.now, toPeer); a != elsewhere {
		t.Errorf("%v", a)
	}
	// Later the token is too old: both tests run, when the home agent knows.
	r.now += 200 * second
	out = r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000})
	if next := r.yes(r.only(out, SendBU)); !slices.Equal(kinds(next), []Action{Bound, SendHoTI, SendCoTI}) {
		t.Errorf("%+v", next)
	}
	// An acknowledgement of where the node was does not count.
	r = newRig(t)
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	y := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: elsewhere, Lifetime: 1000}), SendBU)
	if out := r.yes(x); out != nil {
		t.Errorf("%v", out)
	}
	if b := r.only(r.yes(y), Bound); b.CareOf != elsewhere {
		t.Errorf("%+v", b)
	}
}

// TestAnotherAgent: when the first does not answer, another one is registered with, and the first forgotten.
func TestAnotherAgent(t *testing.T) {
	r := newRig(t)
	r.registered()
	r.optimized()
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent2, CareOf: careOf, Lifetime: 1000}), SendBU)
	r.only(r.yes(x), Bound)
	if out := r.l.Drop(r.now, toAgent); !slices.Equal(kinds(out), []Action{Unbound}) {
		t.Errorf("%v", out)
	}
	if _, ok := r.l.Lookup(r.now, toPeer); !ok || len(r.l.List()) != 2 {
		t.Errorf("%+v", r.l.List())
	}
	// Without any, a correspondent that waits has nothing to wait for.
	r.l.Optimize(r.now, Key{home, cn2}, careOf, 105)
	r.l.Drop(r.now, Key{home, agent2})
	if list := r.l.List(); len(list) != 1 || list[0].Key != toPeer {
		t.Errorf("%+v", list)
	}
	if out := r.l.Drop(r.now, Key{home, agent2}); out != nil {
		t.Errorf("%v", out)
	}
}

// TestMobileRouter: a home agent that does not set R does not serve mobile routers (RFC 3963 5.3).
func TestMobileRouter(t *testing.T) {
	r := newRig(t)
	reg := Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000, Flags: wire.FlagMobileRouter}
	x := r.only(r.l.Register(r.now, reg), SendBU)
	out := r.yes(x)
	if !slices.Equal(kinds(out), []Action{Bound, NoRouter, SendBU}) || out[2].Lifetime != 0 || out[2].Sequence != x.Sequence+1 {
		t.Fatalf("%+v", out)
	}
	if out := r.yes(out[2]); !slices.Equal(kinds(out), []Action{Unbound}) || len(r.l.List()) != 0 {
		t.Errorf("%v", out)
	}
	x = r.only(r.l.Register(r.now, reg), SendBU)
	if b := r.only(r.ack(x, ack{flags: wire.AckMobileRouter, seq: x.Sequence, life: 1000}), Bound); b.AckFlags != wire.AckMobileRouter {
		t.Errorf("%+v", b)
	}
}

// TestRate: never more than three messages of a type to a node within a second (RFC 6275 11.8).
func TestRate(t *testing.T) {
	r := newRig(t)
	r.l = New(Config{Peers: 20}, seeded(1))
	sent := map[Action][]clock.Instant{}
	note := func(out []Effect) {
		for _, x := range out {
			sent[x.Do] = append(sent[x.Do], r.now)
		}
	}
	for i := range byte(8) { // eight home addresses at one home agent, two care-of addresses each
		a := home.As16()
		a[15] = i
		h := netip.AddrFrom16(a)
		for _, co := range []netip.Addr{careOf, elsewhere} {
			note(r.l.Register(r.now, Registration{Home: h, Agent: agent, CareOf: co, Lifetime: 1000}))
		}
	}
	for range 60 {
		_, out := r.wait()
		note(out)
	}
	times := sent[SendBU]
	for i := MaxUpdateRate; i < len(times); i++ {
		if times[i]-times[i-MaxUpdateRate] < second {
			t.Fatalf("%d updates within %v", MaxUpdateRate+1, time.Duration(times[i]-times[i-MaxUpdateRate]))
		}
	}
	if len(times) < 30 {
		t.Errorf("%d updates", len(times))
	}
	r.now += 10 * second
	for _, e := range r.l.List() {
		r.l.Drop(r.now, e.Key)
	}
	r.l.Tick(r.now)
	if len(r.l.rates) != 0 || len(r.l.entries) != 0 {
		t.Errorf("%d rates, %d entries are left", len(r.l.rates), len(r.l.entries))
	}
}
