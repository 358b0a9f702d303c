package bcache

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// TestRegistration: every check of a home registration, in its order (RFC 6275 9.5.1, 10.3, RFC 4285).
func TestRegistration(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(r *rig)
		edit   func(r *rig, u *homeUpdate)
		want   Reason
		status wire.Status
		seq    uint16
		change Change
	}{
		{name: "a new one waits for DAD", change: Waiting},
		{name: "reserved flags are ignored", change: Waiting, edit: func(_ *rig, u *homeUpdate) { u.flags |= 0x083f }},
		{name: "by a shared key", change: Waiting, edit: func(_ *rig, u *homeUpdate) { u.protection = SharedKey }},
		{name: "nothing protects it", edit: func(_ *rig, u *homeUpdate) { u.protection = Nothing }, want: Unprotected},
		{name: "wrong key", edit: func(_ *rig, u *homeUpdate) { u.protection = WrongKey }, want: BadKey, status: wire.AuthFailed},
		{name: "no timestamp", edit: func(_ *rig, u *homeUpdate) { u.protection = WithoutTime }, want: NoTimestamp, status: wire.IDRequired},
		{name: "timestamp of another time", edit: func(_ *rig, u *homeUpdate) { u.protection = WrongTime }, want: BadTimestamp, status: wire.IDMismatch},
		{name: "nonce indices", edit: func(_ *rig, u *homeUpdate) { u.indices = true }, want: WithNonceIndices},
		{name: "nonce indices at a correspondent", before: noAgent, edit: func(_ *rig, u *homeUpdate) { u.indices = true }, want: WithNonceIndices},
		{name: "no home address option", edit: func(_ *rig, u *homeUpdate) { u.src, u.home = home, netip.Addr{} }, want: NoHomeOption},
		{name: "to a correspondent", before: noAgent, edit: func(_ *rig, u *homeUpdate) { u.protection = Nothing }, want: NoAgent, status: wire.HomeNotSupported},
		{name: "to a correspondent that has a binding", before: func(r *rig) { boundAt(agent)(r); noAgent(r) }, want: OtherType, status: wire.TypeChange},
		{name: "to an agent that has a binding as correspondent", before: boundAt(agent), want: OtherType, status: wire.TypeChange},
		{name: "not on the link", before: func(r *rig) { r.policy.Agent.OnLink = false }, want: NotOnLink, status: wire.NotHomeSubnet},
		{name: "not on the link, without A", before: func(r *rig) { r.policy.Agent.OnLink = false }, want: NotOnLink, status: wire.NotHomeSubnet,
			edit: func(_ *rig, u *homeUpdate) { u.flags &^= wire.FlagAcknowledge }},
		{name: "the prefix is over", before: func(r *rig) { r.policy.Agent.Valid = r.now + 3*second }, want: NotOnLink, status: wire.NotHomeSubnet},
		{name: "denied", before: func(r *rig) { r.policy.Denied = true }, want: Denied, status: wire.Prohibited},
		{name: "no room", before: func(r *rig) { r.c.SetLimits(Limits{Peers: 10}) }, want: NoRoom, status: wire.NoResources},
		{name: "circular", before: func(r *rig) {
			u := registration(1, 100)
			u.home, u.src, u.careOf = elsewhere, cn, cn
			r.register(u)
			r.c.DADDone(r.now, Key{agent, elsewhere}, false)
		}, edit: func(_ *rig, u *homeUpdate) { u.careOf = elsewhere }, want: Circular},
		{name: "link-local home address", edit: func(_ *rig, u *homeUpdate) { u.home = netip.MustParseAddr("fe80::1") }, want: BadHome},
		{name: "group as home address", edit: func(_ *rig, u *homeUpdate) { u.home = netip.MustParseAddr("ff0e::1") }, want: BadHome},
		{name: "group as care-of address", edit: func(_ *rig, u *homeUpdate) { u.careOf = netip.MustParseAddr("ff0e::1") }, want: BadCareOf},
		{name: "refresh", before: registered, change: Updated, edit: func(_ *rig, u *homeUpdate) { u.seq = 51 }},
		{name: "refresh without A", before: registered, change: Updated, edit: func(_ *rig, u *homeUpdate) { u.seq = 51; u.flags &^= wire.FlagAcknowledge }},
		{name: "refresh with an old number", before: registered, want: OldSequence, status: wire.SequenceOutOfWindow, seq: 50, edit: func(_ *rig, u *homeUpdate) { u.seq = 50 }},
		{name: "refresh with R", before: registered, want: OtherType, status: wire.TypeChange, edit: func(_ *rig, u *homeUpdate) { u.seq = 51; u.flags |= wire.FlagMobileRouter }},
		{name: "deregistration at home", before: registered, change: Removed, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51) }},
		{name: "with the option", before: registered, change: Removed, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51); u.home = home }},
		{name: "with a lifetime", before: registered, change: Removed, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51); u.lifetime = 100 }},
		{name: "from elsewhere", before: registered, change: Removed, edit: func(_ *rig, u *homeUpdate) { u.seq, u.lifetime = 51, 0 }},
		{name: "with R it is not looked at", before: registered, change: Removed, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51); u.flags |= wire.FlagMobileRouter }},
		{name: "deregistration with an old number", before: registered, want: OldSequence, status: wire.SequenceOutOfWindow, seq: 50, edit: func(_ *rig, u *homeUpdate) { *u = atHome(50) }},
		{name: "deregistration of nothing", want: NotRegistered, status: wire.NotHomeAgent, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51) }},
		{name: "deregistration without protection", before: registered, want: Unprotected, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51); u.protection = Nothing }},
		{name: "deregistration while DAD runs", before: func(r *rig) { r.register(registration(50, 100)) }, change: Removed, edit: func(_ *rig, u *homeUpdate) { *u = atHome(51) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, roomy)
			r.policy.Agent = homeAgent()
			if c.before != nil {
				c.before(r)
			}
			u := registration(7, 1000)
			if c.edit != nil {
				c.edit(r, &u)
			}
			before, _ := r.c.Get(Key{agent, home})
			o := r.register(u)
			r.check()
			if o.Reason != c.want || o.Change != c.change {
				t.Fatalf("%v, change %d; want %v, %d", o.Reason, o.Change, c.want, c.change)
			}
			if o.Reason != None {
				if after, _ := r.c.Get(Key{agent, home}); !same(before, after) {
					t.Errorf("a refused update changes the entry: %+v, then %+v", before, after)
				}
			}
			if (o.Reply != nil) != (!c.want.Silent() && c.change != Waiting) {
				t.Fatalf("reply %+v", o.Reply)
			}
			if o.Reply == nil {
				return
			}
			seq := c.seq
			if seq == 0 {
				seq = u.seq
			}
			if o.Reply.Status != c.status || o.Reply.Sequence != seq || o.Reply.Signed || o.Reply.To != u.src ||
				o.Reply.RoutingHeader != u.home.IsValid() || o.Reply.Home != home && c.want != BadHome {
				t.Errorf("reply %+v, want status %v, sequence %d", o.Reply, c.status, seq)
			}
			if (c.change == Updated) != (o.Reply.Lifetime != 0) {
				t.Errorf("lifetime %d", o.Reply.Lifetime)
			}
		})
	}
}

func noAgent(r *rig) { r.policy.Agent = nil }

// boundAt has a binding as correspondent by another own address.
func boundAt(local netip.Addr) func(r *rig) {
	return func(r *rig) {
		u := r.peer(50, 105, r.tokens(home, careOf))
		u.dst = local
		if o := r.send(u); o.Reason != None {
			r.t.Fatal(o.Reason)
		}
	}
}

// TestDAD: nothing holds before Duplicate Address Detection is done, and what it finds is the answer.
func TestDAD(t *testing.T) {
	key := Key{agent, home}
	r := newRig(t, roomy)
	r.policy.Agent = homeAgent()
	r.register(registration(1, 1000))
	if _, ok := r.c.Lookup(key); ok || r.c.Deadline() != clock.Never {
		t.Error("a tentative binding holds")
	}
	// Retransmissions are not answered, the last of them is: from where it came and with its number.
	r.now += second
	u := registration(2, 500)
	u.src, u.careOf = elsewhere, elsewhere
	if o := r.register(u); o.Reply != nil || o.Change != Unchanged || o.Reason != None {
		t.Errorf("%+v", o)
	}
	if o := r.register(registration(2, 500)); o.Reason != OldSequence {
		t.Errorf("%v", o.Reason)
	}
	r.now += second
	o := r.c.DADDone(r.now, key, false)
	r.check()
	if o.Change != Added || o.Reply.Sequence != 2 || o.Reply.To != elsewhere || o.Reply.Lifetime != 500 || o.After.CareOf != elsewhere || o.After.Until != r.now+2000*second {
		t.Errorf("%+v, %+v", o, o.Reply)
	}
	if a, ok := r.c.Lookup(key); !ok || a != elsewhere {
		t.Errorf("%v, %v", a, ok)
	}
	if o := r.c.DADDone(r.now, key, true); o.Reply != nil || o.Change != Unchanged {
		t.Errorf("done twice: %+v", o)
	}
	// A duplicate.
	r = newRig(t, roomy)
	r.policy.Agent = homeAgent()
	r.register(registration(1, 1000))
	if o := r.c.DADDone(r.now, key, true); o.Reason != Duplicate || o.Reply.Status != wire.DuplicateAddress || o.Reply.Lifetime != 0 || o.Change != Removed {
		t.Errorf("%+v", o)
	}
	if r.check(); len(r.c.List()) != 0 {
		t.Errorf("%+v", r.c.List())
	}
	// The prefix ends while DAD runs.
	r.policy.Agent.Valid = r.now + 4*second
	r.register(registration(1, 1000))
	r.now += second
	if o := r.c.DADDone(r.now, key, false); o.Reason != NotOnLink || o.Change != Removed || len(r.c.List()) != 0 {
		t.Errorf("%+v", o)
	}
}

// TestGrantedAtHome: lifetime, status 1, refresh advice, K (RFC 6275 10.3.1).
func TestGrantedAtHome(t *testing.T) {
	const now = 1000 * second
	for _, c := range []struct {
		name             string
		asked            uint16
		valid, preferred clock.Instant // from now; 0 = never
		most             time.Duration
		units            uint16
		status           wire.Status
	}{
		{"as asked for", 1000, 0, 0, 0, 1000, wire.Accepted},
		{"the longest", 65535, 0, 0, 0, 65535, wire.Accepted},
		{"the longest, of a prefix that is valid for longer", 65535, 2592000 * second, 604800 * second, 0, 65535, wire.Accepted},
		{"the longest, of a prefix that is valid for as long", 65535, 262143 * second, 0, 0, 65535, wire.AcceptedPrefixDiscovery},
		{"limited here", 1000, 0, 0, time.Hour, 900, wire.Accepted},
		{"limited here to less than a unit", 1000, 0, 0, time.Second, 1, wire.Accepted},
		{"limited by the valid lifetime", 1000, 403 * second, 0, 0, 100, wire.AcceptedPrefixDiscovery},
		{"valid for just as long", 100, 403 * second, 0, 0, 100, wire.AcceptedPrefixDiscovery},
		{"valid for longer", 100, 404 * second, 0, 0, 100, wire.Accepted},
		{"deprecated", 100, 0, -second, 0, 100, wire.AcceptedPrefixDiscovery},
		{"deprecated while it holds", 100, 0, 399 * second, 0, 100, wire.AcceptedPrefixDiscovery},
		{"deprecated after it", 100, 0, 400 * second, 0, 100, wire.Accepted},
		{"preferred does not limit it", 100, 0, 4 * second, 0, 100, wire.AcceptedPrefixDiscovery},
	} {
		r := newRig(t, roomy)
		a := homeAgent()
		if c.valid != 0 {
			a.Valid = now + c.valid
		}
		if c.preferred != 0 {
			a.Preferred = now + c.preferred
		}
		a.MaxLifetime = c.most
		r.policy.Agent = a
		r.register(registration(1, c.asked))
		o := r.c.DADDone(r.now, Key{agent, home}, false)
		if o.Reply.Lifetime != c.units || o.Reply.Status != c.status {
			t.Errorf("%s: %d units, %v", c.name, o.Reply.Lifetime, o.Reply.Status)
		}
	}
	for _, c := range []struct {
		advice time.Duration
		units  uint16
		want   uint16
	}{{0, 100, 0}, {100 * time.Second, 100, 25}, {396 * time.Second, 100, 99}, {400 * time.Second, 100, 0}, {time.Second, 100, 0}} {
		r := newRig(t, roomy)
		r.policy.Agent = homeAgent()
		r.policy.Agent.Refresh = c.advice
		r.register(registration(1, c.units))
		if o := r.c.DADDone(r.now, Key{agent, home}, false); o.Reply.Refresh != c.want {
			t.Errorf("advice of %v: %d", c.advice, o.Reply.Refresh)
		}
		if o := r.register(atHome(2)); o.Reply.Refresh != 0 || o.Reply.Lifetime != 0 {
			t.Errorf("deregistration: %+v", o.Reply)
		}
	}
	for _, c := range []struct{ asked, can, want bool }{{true, true, true}, {true, false, false}, {false, true, false}} {
		r := newRig(t, roomy)
		r.policy.Agent = homeAgent()
		r.policy.Agent.KeyMobility = c.can
		u, back := registration(1, 100), atHome(2)
		if c.asked {
			u.flags |= wire.FlagKeyManagement
			back.flags |= wire.FlagKeyManagement
		}
		r.register(u)
		o := r.c.DADDone(r.now, Key{agent, home}, false)
		d := r.register(back)
		if got := o.Reply.Flags == wire.AckKeyManagement; got != c.want || (d.Reply.Flags == wire.AckKeyManagement) != c.want {
			t.Errorf("%+v: %x, %x", c, o.Reply.Flags, d.Reply.Flags)
		}
	}
}

// TestEndOfRegistration: what is remembered and for how long (RFC 6275 10.3.2 and 5.1).
func TestEndOfRegistration(t *testing.T) {
	key := Key{agent, home}
	start := func(keep bool) *rig {
		r := newRig(t, roomy)
		r.policy.Agent = homeAgent()
		r.policy.Agent.KeepSequence = keep
		r.register(registration(50, 1000))
		r.c.DADDone(r.now, key, false)
		return r
	}
	// A delayed update from before the return does not bring the binding back; a lost acknowledgement is sent again.
	r := start(false)
	r.register(atHome(60))
	r.now += 9 * second
	r.c.Tick(r.now)
	if o := r.register(registration(59, 1000)); o.Reason != OldSequence || o.Reply.Sequence != 60 {
		t.Errorf("%v", o.Reason)
	}
	if o := r.register(atHome(61)); o.Reason != None || o.Reply.Status != wire.Accepted || o.Change != Unchanged {
		t.Errorf("%v, %+v", o.Reason, o.Reply)
	}
	r.check()
	r.now += second
	r.c.Tick(r.now)
	if r.check(); len(r.c.List()) != 0 || r.c.Deadline() != clock.Never {
		t.Errorf("%+v", r.c.List())
	}
	if o := r.register(atHome(62)); o.Reason != NotRegistered {
		t.Errorf("%v", o.Reason)
	}
	// Expiry tells who has to stop things.
	r = start(false)
	r.now = r.c.Deadline()
	if ev := r.c.Tick(r.now); len(ev) != 1 || ev[0].Refresh || ev[0].CareOf != careOf || !ev[0].Home || len(r.c.List()) != 0 {
		t.Errorf("%+v", ev)
	}
	// With manual keys the number is kept for ever, however the binding ends; DAD runs again.
	for name, end := range map[string]func(r *rig){
		"deleted": func(r *rig) { r.register(atHome(60)) },
		"expired": func(r *rig) { r.now = r.c.Deadline(); r.c.Tick(r.now) },
		"removed": func(r *rig) { r.c.Remove(r.now, key) },
	} {
		r = start(true)
		end(r)
		r.now += clock.Instant(1e6) * second
		r.c.Tick(r.now)
		r.check()
		if o := r.register(registration(49, 1000)); o.Reason != OldSequence {
			t.Errorf("%s: %v", name, o.Reason)
		}
		if o := r.register(atHome(61)); o.Reason != NotRegistered {
			t.Errorf("%s: %v", name, o.Reason)
		}
		if o := r.send(peerUpdate{src: careOf, dst: agent, home: home, seq: 100, lifetime: 10, k: r.tokens(home, careOf)}); o.Reason != OtherType {
			t.Errorf("%s: an update as correspondent: %v", name, o.Reason)
		}
		if o := r.register(registration(62, 1000)); o.Change != Waiting {
			t.Errorf("%s: %v", name, o.Reason)
		}
		r.check()
	}
	// The prefix ends earlier than was known.
	r = start(false)
	r.c.PrefixEnds(netip.MustParsePrefix("2001:db8:999::/64"), r.now)
	if ev := r.c.Tick(r.now); len(ev) != 0 {
		t.Errorf("%+v", ev)
	}
	r.c.PrefixEnds(netip.MustParsePrefix("2001:db8:100::/64"), r.now+5*second)
	if r.check(); r.c.Deadline() != r.now+5*second {
		t.Errorf("%v", r.c.Deadline())
	}
	r.c.PrefixEnds(netip.MustParsePrefix("2001:db8:100::/64"), clock.Never)
	if ev := r.c.Tick(r.now + 5*second); len(ev) != 1 {
		t.Errorf("%+v", ev)
	}
}

// TestHomesStay: correspondents never take the place of home registrations (RFC 6275 9.6), and a full home agent
// goes on to serve those it has.
func TestHomesStay(t *testing.T) {
	r := newRig(t, Limits{Peers: 1, Homes: 1, Ended: 1})
	registered(r)
	for range 3 {
		r.now += 300 * second
		r.c.Tick(r.now)
		bound(uint16(r.now / second))(r)
	}
	if !r.c.Bound(Key{agent, home}, careOf) {
		t.Errorf("%+v", r.c.List())
	}
	r.policy.Agent = homeAgent()
	u := registration(1, 100)
	u.home = elsewhere
	if o := r.register(u); o.Reason != NoRoom {
		t.Errorf("%v", o.Reason)
	}
	if o := r.register(registration(51, 100)); o.Change != Updated || o.Before.CareOf != careOf {
		t.Errorf("%v", o.Reason)
	}
	r.check()
}

// TestMobileRouter: RFC 3963 6.2.
func TestMobileRouter(t *testing.T) {
	other := netip.MustParsePrefix("2001:db8:8::/48")
	inside := netip.MustParsePrefix("2001:db8:7:1::/64")
	for _, c := range []struct {
		name     string
		agent    func(a *Agent)
		networks []netip.Prefix
		raw      string
		want     Reason
		status   wire.Status
		got      []netip.Prefix
	}{
		{name: "implicit", got: []netip.Prefix{mnp}},
		{name: "explicit", networks: []netip.Prefix{mnp}, got: []netip.Prefix{mnp}},
		{name: "twice the same", networks: []netip.Prefix{mnp, mnp}, got: []netip.Prefix{mnp}},
		{name: "part of it", networks: []netip.Prefix{inside}, got: []netip.Prefix{inside}},
		{name: "not permitted", agent: func(a *Agent) { a.Router = false }, want: NoRouter, status: wire.RouterNotPermitted},
		{name: "another's", networks: []netip.Prefix{mnp, other}, want: OtherNetwork, status: wire.NotAuthorizedForPrefix},
		{name: "more than its own", networks: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, want: OtherNetwork, status: wire.NotAuthorizedForPrefix},
		{name: "129 bits", raw: "\x06\x12\x00\x81\x20\x01\x0d\xb8\x00\x07", want: BadNetwork, status: wire.InvalidPrefix},
		{name: "a group", raw: "\x06\x12\x00\x40\xff\x0e\x0d\xb8\x00\x07", want: BadNetwork, status: wire.InvalidPrefix},
		{name: "reserved is ignored", raw: "\x06\x12\xff\x30\x20\x01\x0d\xb8\x00\x07", got: []netip.Prefix{mnp}},
		{name: "implicit without a table", agent: func(a *Agent) { a.Networks = nil }, want: NoNetwork, status: wire.ForwardingFailed},
		{name: "a routing protocol", agent: func(a *Agent) { a.Networks, a.Routing = nil, true }},
		{name: "served, not on the link", agent: func(a *Agent) { a.OnLink, a.Served = false, true }, got: []netip.Prefix{mnp}},
		{name: "neither", agent: func(a *Agent) { a.OnLink = false }, want: NotOnLink, status: wire.NotHomeSubnet},
	} {
		r := newRig(t, roomy)
		a := homeAgent()
		a.Router, a.Networks = true, []netip.Prefix{mnp}
		if c.agent != nil {
			c.agent(a)
		}
		r.policy.Agent = a
		u := registration(1, 100)
		u.flags |= wire.FlagMobileRouter
		u.networks = c.networks
		if c.raw != "" {
			u.raw = []byte(c.raw)
			u.careOf = netip.Addr{}
		}
		o := r.register(u)
		if o.Reason != c.want || c.want != None && (o.Reply.Status != c.status || o.Reply.Flags != 0) {
			t.Errorf("%s: %v, %+v", c.name, o.Reason, o.Reply)
			continue
		}
		if c.want != None {
			continue
		}
		o = r.c.DADDone(r.now, Key{agent, home}, false)
		r.check()
		if o.Reply.Flags != wire.AckMobileRouter || !slices.Equal(o.After.Networks, c.got) || o.After.Explicit != (len(c.networks) > 0 || c.raw != "") {
			t.Errorf("%s: %+v, %+v", c.name, o.After, o.Reply)
		}
	}

	// Served prefixes are for mobile routers only.
	r := newRig(t, roomy)
	r.policy.Agent = &Agent{Served: true, Valid: clock.Never, Preferred: clock.Never}
	if o := r.register(registration(1, 100)); o.Reason != NotOnLink {
		t.Errorf("%v", o.Reason)
	}

	// A changed list: what is not in it any more is not the router's any more, and another one's prefix stays his.
	r = newRig(t, roomy)
	r.policy.Agent = homeAgent()
	r.policy.Agent.Router, r.policy.Agent.Networks = true, []netip.Prefix{mnp, other}
	u := registration(1, 100)
	u.flags |= wire.FlagMobileRouter
	u.networks = []netip.Prefix{mnp, other}
	r.register(u)
	r.c.DADDone(r.now, Key{agent, home}, false)
	u.seq, u.networks = 2, []netip.Prefix{other}
	if o := r.register(u); o.Change != Updated || len(o.Before.Networks) != 2 || !slices.Equal(o.After.Networks, []netip.Prefix{other}) {
		t.Errorf("%v: %+v, then %+v", o.Reason, o.Before, o.After)
	}
	r.check()
	v := u
	v.home, v.seq, v.networks = elsewhere, 1, []netip.Prefix{mnp}
	r.register(v)
	r.c.DADDone(r.now, Key{agent, elsewhere}, false)
	r.check()
	u.seq, u.networks = 3, []netip.Prefix{mnp}
	if o := r.register(u); o.Reason != BadNetwork || o.Reply.Status != wire.InvalidPrefix {
		t.Errorf("%v", o.Reason)
	}
	u.seq, u.flags = 4, u.flags&^wire.FlagMobileRouter
	if o := r.register(u); o.Reason != OtherType {
		t.Errorf("%v", o.Reason)
	}
	// Of two that wait for DAD with the same network the first has it.
	r = newRig(t, roomy)
	r.policy.Agent = homeAgent()
	r.policy.Agent.Router, r.policy.Agent.Networks = true, []netip.Prefix{mnp}
	u = registration(1, 100)
	u.flags |= wire.FlagMobileRouter
	r.register(u)
	u.home = elsewhere
	r.register(u)
	r.c.DADDone(r.now, Key{agent, elsewhere}, false)
	if o := r.c.DADDone(r.now, Key{agent, home}, false); o.Reason != BadNetwork || o.Change != Removed {
		t.Errorf("%+v", o)
	}
	r.check()
}

// TestRestore: home registrations come back as they were, and nothing else does.
func TestRestore(t *testing.T) {
	r := newRig(t, roomy)
	r.policy.Agent = homeAgent()
	r.policy.Agent.Router, r.policy.Agent.Networks = true, []netip.Prefix{mnp}
	u := registration(50, 100)
	u.flags |= wire.FlagMobileRouter
	r.register(u)
	r.c.DADDone(r.now, Key{agent, home}, false)
	bound(1)(r)
	saved := r.c.List()
	back := newRig(t, roomy)
	for _, b := range saved {
		if got := back.c.Restore(back.now, b); got != b.Home {
			t.Errorf("%+v: %v", b, got)
		}
		if back.c.Restore(back.now, b) {
			t.Errorf("%+v: twice", b)
		}
	}
	back.check()
	if !back.c.Bound(Key{agent, home}, careOf) || back.c.networks[mnp] == nil || back.c.Deadline() != back.now+400*second {
		t.Errorf("%+v", back.c.List())
	}
	back.policy = r.policy
	if o := back.register(registration(50, 100)); o.Reason != OtherType {
		t.Errorf("%v", o.Reason)
	}
	u.seq = 50
	if o := back.register(u); o.Reason != OldSequence {
		t.Errorf("%v", o.Reason)
	}
	over := newRig(t, Limits{Homes: 1})
	b := saved[slices.IndexFunc(saved, func(b Binding) bool { return b.Home })]
	b.Until = over.now
	if over.c.Restore(over.now, b) {
		t.Error("one that is over is put in")
	}
	b.Until, b.State = clock.Never, Ended
	if !over.c.Restore(over.now, b) {
		t.Error("a sequence number is not put in")
	}
	b.Key.Home = elsewhere
	if over.c.Restore(over.now, b) {
		t.Error("more than there is room for")
	}
	over.check()
}
