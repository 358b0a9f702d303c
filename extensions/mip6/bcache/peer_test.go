package bcache

import (
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

var roomy = Limits{Peers: 10, Homes: 10, Ended: 10}

// TestCorrespondent: every check of an update to a correspondent node, in its order (RFC 6275 9.5.1, 9.5.4).
func TestCorrespondent(t *testing.T) {
	link := netip.MustParseAddr("fe80::1")
	group := netip.MustParseAddr("ff0e::1")
	for _, c := range []struct {
		name   string
		before func(r *rig) // what has happened
		edit   func(r *rig, u *peerUpdate)
		want   Reason
		status wire.Status
		seq    uint16 // of the reply; 0 = that of the update
		signed bool
		change Change
	}{
		{name: "a new binding", signed: true, change: Added},
		{name: "without A nobody is told", edit: func(_ *rig, u *peerUpdate) { u.flags = 0 }, change: Added},
		{name: "K and L are ignored", edit: func(_ *rig, u *peerUpdate) { u.flags |= wire.FlagKeyManagement | wire.FlagLinkLocal }, signed: true, change: Added},
		{name: "a pure correspondent ignores R", edit: func(_ *rig, u *peerUpdate) { u.flags |= wire.FlagMobileRouter }, signed: true, change: Added},
		{name: "alternate care-of address", edit: func(r *rig, u *peerUpdate) { u.careOf = elsewhere; u.k = r.tokens(home, elsewhere) }, signed: true, change: Added},
		{name: "alternate care-of address with tokens of the source", edit: func(_ *rig, u *peerUpdate) { u.careOf = elsewhere }, want: BadAuthenticator},
		{name: "source is a group", edit: func(_ *rig, u *peerUpdate) { u.src, u.careOf = group, careOf }, want: BadSource},
		{name: "source is unspecified", edit: func(_ *rig, u *peerUpdate) { u.src, u.careOf = netip.IPv6Unspecified(), careOf }, want: BadSource},
		{name: "home address is link-local", edit: func(_ *rig, u *peerUpdate) { u.home = link }, want: BadHome},
		{name: "home address is a group", edit: func(_ *rig, u *peerUpdate) { u.home = group }, want: BadHome},
		{name: "home address is loopback", edit: func(_ *rig, u *peerUpdate) { u.home = netip.IPv6Loopback() }, want: BadHome},
		{name: "care-of address is link-local", edit: func(_ *rig, u *peerUpdate) { u.src = link }, want: BadCareOf},
		{name: "care-of address is a group", edit: func(_ *rig, u *peerUpdate) { u.careOf = group }, want: BadCareOf},
		{name: "care-of address is unspecified", edit: func(_ *rig, u *peerUpdate) { u.careOf = netip.IPv6Unspecified() }, want: BadCareOf},
		{name: "circular", before: func(r *rig) {
			u := r.peer(1, 100, r.tokens(elsewhere, careOf))
			u.home = elsewhere
			r.send(u)
		}, edit: func(r *rig, u *peerUpdate) { u.src = elsewhere; u.k = r.tokens(home, elsewhere) }, want: Circular},
		{name: "no nonce indices", edit: func(_ *rig, u *peerUpdate) { u.noIndices = true }, want: NoNonceIndices},
		{name: "no authorization data", edit: func(_ *rig, u *peerUpdate) { u.noAuth = true }, want: NoAuthorization},
		{name: "expired home nonce", edit: func(r *rig, u *peerUpdate) {
			r.now += 240 * second
			u.k.ci, u.k.careOf = r.nonces.CareOf(r.now, careOf)
		},
			want: Expired, status: wire.ExpiredHomeNonce},
		{name: "expired care-of nonce", edit: func(r *rig, u *peerUpdate) { r.now += 240 * second; u.k.hi, u.k.home = r.nonces.Home(r.now, home) },
			want: Expired, status: wire.ExpiredCareOfNonce},
		{name: "expired nonces, without A", edit: func(r *rig, u *peerUpdate) { r.now += 240 * second; u.flags = 0 }, want: Expired, status: wire.ExpiredNonces},
		{name: "expired nonces come before the authenticator", edit: func(r *rig, u *peerUpdate) { r.now += 240 * second; u.wrong = true }, want: Expired, status: wire.ExpiredNonces},
		{name: "wrong authenticator", edit: func(_ *rig, u *peerUpdate) { u.wrong = true }, want: BadAuthenticator},
		{name: "tokens of another home address", edit: func(r *rig, u *peerUpdate) { u.k = r.tokens(elsewhere, careOf) }, want: BadAuthenticator},
		{name: "the key of a deletion does not register", edit: func(r *rig, u *peerUpdate) { u.k.careOf = rr.Token{} }, want: BadAuthenticator},
		{name: "registered at home", before: registered, want: OtherType, status: wire.TypeChange, signed: true, edit: func(r *rig, u *peerUpdate) { u.dst = agent }},
		{name: "of another type, without A", before: registered, want: OtherType, status: wire.TypeChange, signed: true,
			edit: func(_ *rig, u *peerUpdate) { u.dst, u.flags = agent, 0 }},
		{name: "the same number", before: bound(50), want: OldSequence, status: wire.SequenceOutOfWindow, seq: 50, signed: true, edit: func(_ *rig, u *peerUpdate) { u.seq = 50 }},
		{name: "an old number, without A", before: bound(50), want: OldSequence, status: wire.SequenceOutOfWindow, seq: 50, signed: true,
			edit: func(_ *rig, u *peerUpdate) { u.seq, u.flags = 49, 0 }},
		{name: "a deletion with an old number", before: bound(50), want: OldSequence, status: wire.SequenceOutOfWindow, seq: 50, signed: true,
			edit: func(_ *rig, u *peerUpdate) { u.seq, u.lifetime = 49, 0 }},
		{name: "a newer number", before: bound(50), signed: true, change: Updated, edit: func(_ *rig, u *peerUpdate) { u.seq = 51 }},
		{name: "denied", before: func(r *rig) { r.policy.Denied = true }, want: Denied, status: wire.Prohibited, signed: true},
		{name: "denied, without A", before: func(r *rig) { r.policy.Denied = true }, want: Denied, edit: func(_ *rig, u *peerUpdate) { u.flags = 0 }},
		{name: "denied deletion", before: func(r *rig) { bound(50)(r); r.policy.Denied = true }, signed: true, change: Removed,
			edit: func(_ *rig, u *peerUpdate) { u.seq, u.lifetime = 51, 0 }},
		{name: "no room, without A", before: func(r *rig) { r.c.SetLimits(Limits{Homes: 1}) }, want: NoRoom, status: wire.NoResources, signed: true,
			edit: func(_ *rig, u *peerUpdate) { u.flags = 0 }},
		{name: "deletion", before: bound(50), signed: true, change: Removed, edit: func(_ *rig, u *peerUpdate) { u.seq, u.lifetime = 51, 0 }},
		{name: "deletion without A", before: bound(50), change: Removed, edit: func(_ *rig, u *peerUpdate) { u.seq, u.lifetime, u.flags = 51, 0, 0 }},
		{name: "deletion by the home address as care-of address", before: bound(50), signed: true, change: Removed,
			edit: func(_ *rig, u *peerUpdate) { u.seq, u.src, u.home = 51, home, netip.Addr{} }},
		{name: "deletion with an unknown care-of nonce", before: bound(50), signed: true, change: Removed,
			edit: func(_ *rig, u *peerUpdate) { u.seq, u.lifetime, u.k.ci = 51, 0, 9999 }},
		{name: "deletion of nothing", signed: true, edit: func(_ *rig, u *peerUpdate) { u.lifetime = 0 }},
		{name: "deletion with an expired nonce", before: bound(50), edit: func(r *rig, u *peerUpdate) { r.now += 240 * second; u.seq, u.lifetime = 51, 0 },
			want: Expired, status: wire.ExpiredHomeNonce},
		{name: "R to a home agent", before: func(r *rig) { r.policy.Agent = homeAgent() }, want: NoRouter, status: wire.RouterNotPermitted, signed: true,
			edit: func(_ *rig, u *peerUpdate) { u.flags |= wire.FlagMobileRouter }},
		{name: "R to a home agent by an SA", before: func(r *rig) { r.policy.Agent = homeAgent() }, want: NoRouter, status: wire.RouterNotPermitted,
			edit: func(_ *rig, u *peerUpdate) {
				u.flags |= wire.FlagMobileRouter
				u.noIndices, u.noAuth, u.protection = true, true, IPsec
			}},
		{name: "R to a home agent by nothing", before: func(r *rig) { r.policy.Agent = homeAgent() }, want: NoNonceIndices,
			edit: func(_ *rig, u *peerUpdate) { u.flags |= wire.FlagMobileRouter; u.noIndices, u.noAuth = true, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, roomy)
			if c.before != nil {
				c.before(r)
			}
			u := r.peer(7, 105, r.tokens(home, careOf))
			if c.edit != nil {
				c.edit(r, &u)
			}
			before, _ := r.c.Get(Key{u.dst, home})
			o := r.send(u)
			r.check()
			if o.Reason != c.want || o.Change != c.change {
				t.Fatalf("%v, change %d; want %v, %d", o.Reason, o.Change, c.want, c.change)
			}
			if o.Reason != None {
				if after, _ := r.c.Get(Key{u.dst, home}); !same(before, after) {
					t.Errorf("a refused update changes the entry: %+v, then %+v", before, after)
				}
			}
			asked := u.flags&wire.FlagAcknowledge != 0
			if want := !c.want.Silent() && (asked || c.status != 0); (o.Reply != nil) != want {
				t.Fatalf("reply %+v", o.Reply)
			}
			if o.Reply == nil {
				return
			}
			seq := c.seq
			if seq == 0 {
				seq = u.seq
			}
			if o.Reply.Status != c.status || o.Reply.Sequence != seq || o.Reply.Signed != c.signed || o.Reply.To != u.src ||
				o.Reply.RoutingHeader != u.home.IsValid() || o.Reply.Flags != 0 {
				t.Errorf("reply %+v, want status %v, sequence %d, signed %v", o.Reply, c.status, seq, c.signed)
			}
			if o.Reply.Status != wire.Accepted && (o.Reply.Lifetime != 0 || o.Reply.Refresh != 0) {
				t.Errorf("refused for %d units", o.Reply.Lifetime)
			}
			if c.signed {
				want := rr.BindingKey(u.k.home, u.k.careOf)
				if u.lifetime == 0 || o.Reply.CareOf == home {
					want = rr.DeletionKey(u.k.home)
				}
				if o.Reply.Key != want {
					t.Error("signed by another key")
				}
			}
		})
	}
}

func same(a, b Binding) bool {
	a.Networks, b.Networks = nil, nil
	return a.Key == b.Key && a.CareOf == b.CareOf && a.State == b.State && a.Sequence == b.Sequence && a.Until == b.Until && a.Home == b.Home && a.Flags == b.Flags
}

// bound has a binding with a correspondent made by an update with that number.
func bound(seq uint16) func(r *rig) {
	return func(r *rig) {
		if o := r.send(r.peer(seq, 105, r.tokens(home, careOf))); o.Reason != None {
			r.t.Fatal(o.Reason)
		}
	}
}

// registered has a home registration at agent.
func registered(r *rig) {
	r.policy.Agent = homeAgent()
	if o := r.register(registration(50, 1000)); o.Change != Waiting {
		r.t.Fatal(o.Reason)
	}
	if o := r.c.DADDone(r.now, Key{agent, home}, false); o.Change != Added {
		r.t.Fatal(o.Reason)
	}
}

// TestGrantedToPeers: CN-5-2: no more than asked for, and than 420 s.
func TestGrantedToPeers(t *testing.T) {
	for _, c := range []struct {
		asked uint16
		most  time.Duration
		want  uint16
	}{{0xffff, 0, 105}, {106, 0, 105}, {105, 0, 105}, {104, 0, 104}, {1, 0, 1}, {105, time.Hour, 105}, {105, 60 * time.Second, 15}, {105, time.Second, 1}} {
		r := newRig(t, roomy)
		r.policy.MaxLifetime = c.most
		o := r.send(r.peer(1, c.asked, r.tokens(home, careOf)))
		if o.Reply.Lifetime != c.want || o.After.Lifetime != c.want || o.After.Until != r.now.Add(time.Duration(c.want)*4*time.Second) {
			t.Errorf("%d: %d, until %v", c.asked, o.Reply.Lifetime, o.After.Until-r.now)
		}
	}
}

// TestReplay: as long as an update's nonces are known, it is of no use to send it once more, whatever became of
// its binding (RFC 6275 5.2.8, 9.5.3).
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(r *rig, k tokens)
	}{
		{"it holds", func(*rig, tokens) {}},
		{"deleted", func(r *rig, k tokens) { r.send(r.peer(101, 0, k)) }},
		{"expired", func(r *rig, _ tokens) { r.now += 40 * second; r.c.Tick(r.now) }},
		{"evicted", func(r *rig, _ tokens) {
			r.c.SetLimits(Limits{Peers: 1, Ended: 10})
			u := r.peer(1, 100, r.tokens(elsewhere, careOf))
			u.home = elsewhere
			r.send(u)
			r.c.SetLimits(roomy)
		}},
		{"unreachable", func(r *rig, _ tokens) {
			for range 5 {
				r.now += second
				r.c.Unreachable(r.now, Key{cn, home}, careOf)
			}
		}},
		{"registered at home then, and ended", func(r *rig, k tokens) {
			u := r.peer(101, 0, k)
			u.dst = agent
			r.send(u)
			r.policy.Agent = homeAgent()
			r.register(registration(7, 5))
			r.c.DADDone(r.now, Key{agent, home}, false)
			r.now += 20 * second
			r.c.Tick(r.now)
			r.policy.Agent = nil
		}},
		{"removed by hand", func(r *rig, _ tokens) { r.c.Remove(r.now, Key{cn, home}) }},
	} {
		r := newRig(t, roomy)
		k := r.tokens(home, careOf)
		start := r.now
		u := r.peer(100, 10, k)
		if c.name == "registered at home then, and ended" {
			u.dst = agent
		}
		recorded := r.build(u)
		r.c.Update(r.now, recorded, r.policy, r.nonces)
		c.end(r, k)
		r.check()
		e, ok := r.c.Get(Key{u.dst, home})
		if !ok || c.name != "it holds" && e.State != Ended {
			t.Errorf("%s: %v, %v", c.name, e.State, ok)
		}
		if _, ok := r.c.Lookup(Key{u.dst, home}); ok != (c.name == "it holds") {
			t.Errorf("%s: bound %v", c.name, ok)
		}
		for ; r.now < start+250*second; r.now += 7 * second {
			r.c.Tick(r.now)
			o := r.c.Update(r.now, recorded, r.policy, r.nonces)
			if o.Reason == None || o.Change != Unchanged {
				t.Fatalf("%s: replayed after %v", c.name, time.Duration(r.now-start))
			}
		}
		r.now += 1000 * second
		r.c.Tick(r.now)
		r.check()
		if n := len(r.c.List()); n != 0 && c.name != "evicted" {
			t.Errorf("%s: %d entries are left", c.name, n)
		}
	}
	// An ended binding is made again by a newer update, which is a binding that was not there before.
	r := newRig(t, roomy)
	bound(50)(r)
	r.send(r.peer(51, 0, r.tokens(home, careOf)))
	if o := r.send(r.peer(52, 105, r.tokens(home, careOf))); o.Change != Added || o.Before.State != 0 {
		t.Errorf("%v, %d", o.Reason, o.Change)
	}
	// A deletion of what has ended counts too.
	r.send(r.peer(53, 0, r.tokens(home, careOf)))
	if o := r.send(r.peer(60, 0, r.tokens(home, careOf))); o.Reason != None || o.Change != Unchanged {
		t.Errorf("%v, %d", o.Reason, o.Change)
	}
	if o := r.send(r.peer(55, 105, r.tokens(home, careOf))); o.Reason != OldSequence || o.Reply.Sequence != 60 {
		t.Errorf("%v, %+v", o.Reason, o.Reply)
	}
	r.check()
}

// TestEviction: the binding that is unused the longest gives its place; with no memory left for its sequence
// number the new one is refused (130), and none is forgotten before its time.
func TestEviction(t *testing.T) {
	r := newRig(t, Limits{Peers: 3, Ended: 2})
	add := func(i byte) Outcome {
		a := home.As16()
		a[15] = i
		h := netip.AddrFrom16(a)
		u := r.peer(1, 105, r.tokens(h, careOf))
		u.home = h
		o := r.send(u)
		r.check()
		return o
	}
	key := func(i byte) Key {
		a := home.As16()
		a[15] = i
		return Key{cn, netip.AddrFrom16(a)}
	}
	for i := range byte(3) {
		add(i)
	}
	r.c.Use(r.now, key(0)) // 1 is unused the longest
	if o := add(3); o.Reason != None || r.c.Bound(key(1), careOf) || !r.c.Bound(key(0), careOf) {
		t.Errorf("%v: %+v", o.Reason, r.c.List())
	}
	if o := add(4); o.Reason != None || r.c.Bound(key(2), careOf) {
		t.Errorf("%v: %+v", o.Reason, r.c.List())
	}
	if o := add(5); o.Reason != NoRoom || o.Reply.Status != wire.NoResources || !o.Reply.Signed {
		t.Errorf("%v: %+v", o.Reason, r.c.Counts())
	}
	if got := r.c.Counts(); got != (Counts{Peers: 3, Ended: 2, Evicted: 2}) {
		t.Errorf("%+v", got)
	}
	// 240 s later the nonces are over.
	r.now += 241 * second
	r.c.Tick(r.now)
	if o := add(5); o.Reason != None || r.c.Counts().Evicted != 3 {
		t.Errorf("%v: %+v", o.Reason, r.c.Counts())
	}
	if r.c.Counts().Ended != 0 {
		t.Errorf("%+v", r.c.Counts())
	}
}

// TestRefreshRequests: bindings that are used ask at 80 to 90 % of their lifetime, three times at most, until
// an update comes (RFC 6275 9.5.5).
func TestRefreshRequests(t *testing.T) {
	run := func(used bool) (at []time.Duration, end time.Duration) {
		r := newRig(t, roomy)
		start := r.now
		bound(1)(r)
		for r.c.Deadline() != clock.Never {
			if next := r.c.Deadline(); used && next-r.now > second {
				r.now = next - second
				r.c.Use(r.now, Key{cn, home})
			}
			r.now = r.c.Deadline()
			for _, ev := range r.c.Tick(r.now) {
				if ev.Refresh {
					at = append(at, time.Duration(r.now-start))
				} else {
					end = time.Duration(r.now - start)
				}
			}
			r.check()
		}
		return at, end
	}
	at, end := run(true)
	if len(at) != MaxRefreshRequests || at[0] != 357*time.Second || at[1] != 378*time.Second || at[2] != 399*time.Second || end != 420*time.Second {
		t.Errorf("asked at %v, ended at %v", at, end)
	}
	if at, end := run(false); len(at) != 0 || end != 420*time.Second {
		t.Errorf("unused, and asked at %v, ended at %v", at, end)
	}
	// An update answers: the next request waits for the new lifetime.
	r := newRig(t, roomy)
	bound(1)(r)
	r.now += 357 * second
	r.c.Use(r.now, Key{cn, home})
	if ev := r.c.Tick(r.now); len(ev) != 1 || !ev[0].Refresh || ev[0].Key.Home != home {
		t.Errorf("%+v", ev)
	}
	bound(2)(r)
	if got := r.c.Deadline() - r.now; got != 357*second {
		t.Errorf("the next deadline is in %v", time.Duration(got))
	}
}

// TestUnreachable: only persistent errors about the present care-of address end a binding (RFC 6275 9.3.4).
func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		name string
		at   []time.Duration
		co   netip.Addr
		want bool
	}{
		{"one", []time.Duration{0}, careOf, false},
		{"many at once", []time.Duration{0, 1, 2, 3, 4, 5, 6, 7, 8}, careOf, false},
		{"three in two seconds", []time.Duration{0, time.Second, 2 * time.Second}, careOf, true},
		{"three in three minutes", []time.Duration{0, 90 * time.Second, 180 * time.Second}, careOf, false},
		{"another care-of address", []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second}, elsewhere, false},
	} {
		r := newRig(t, roomy)
		bound(1)(r)
		start, ended := r.now, false
		for _, d := range c.at {
			b, ok := r.c.Unreachable(start.Add(d), Key{cn, home}, c.co)
			ended = ended || ok && b.CareOf == careOf
		}
		if ended != c.want {
			t.Errorf("%s: %v", c.name, ended)
		}
		r.check()
	}
	r := newRig(t, roomy)
	registered(r)
	for range 10 {
		r.now += second
		if _, ok := r.c.Unreachable(r.now, Key{agent, home}, careOf); ok {
			t.Error("a home registration ends")
		}
	}
}
