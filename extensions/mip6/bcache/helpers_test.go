package bcache

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

const second = clock.Instant(time.Second)

var (
	home      = netip.MustParseAddr("2001:db8:100::abcd")
	careOf    = netip.MustParseAddr("2001:db8:200::1234")
	elsewhere = netip.MustParseAddr("2001:db8:201::1234")
	agent     = netip.MustParseAddr("2001:db8:100::1")
	cn        = netip.MustParseAddr("2001:db8:300::c")
	mnp       = netip.MustParsePrefix("2001:db8:7::/48")
)

// rig is a node with a cache and nonces, and mobile nodes that talk to it.
type rig struct {
	t      testing.TB
	now    clock.Instant
	c      *Cache
	nonces *rr.Nonces
	policy Policy
}

func newRig(t testing.TB, l Limits) *rig {
	r := rand.New(rand.NewPCG(1, 2))
	return &rig{
		t: t, now: 1000 * second, c: New(l, func() float64 { return 0.5 }),
		nonces: rr.New(func(b []byte) {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
		}),
	}
}

// tokens are what a mobile node has of the correspondent.
type tokens struct {
	hi, ci       uint16
	home, careOf rr.Token
}

func (r *rig) tokens(home, careOf netip.Addr) (k tokens) {
	k.hi, k.home = r.nonces.Home(r.now, home)
	k.ci, k.careOf = r.nonces.CareOf(r.now, careOf)
	return k
}

// peerUpdate is an update to a correspondent as it should be; edits change it before it is signed and sent.
type peerUpdate struct {
	src, dst, home, careOf netip.Addr // home not valid = no option; careOf valid = Alternate Care-of Address
	seq, flags, lifetime   uint16
	k                      tokens
	noIndices, noAuth      bool
	wrong                  bool // the authenticator
	protection             Protection
}

func (r *rig) peer(seq, lifetime uint16, k tokens) peerUpdate {
	return peerUpdate{src: careOf, dst: cn, home: home, seq: seq, flags: wire.FlagAcknowledge, lifetime: lifetime, k: k}
}

func (r *rig) send(u peerUpdate) Outcome {
	r.t.Helper()
	return r.c.Update(r.now, r.build(u), r.policy, r.nonces)
}

func (r *rig) build(u peerUpdate) Update {
	r.t.Helper()
	w := wire.NewBindingUpdate(nil, u.seq, u.flags, u.lifetime)
	about, co := u.home, u.src
	if !about.IsValid() {
		about = u.src
	}
	if u.careOf.IsValid() {
		w.AlternateCareOf(u.careOf)
		co = u.careOf
	}
	if !u.noIndices {
		w.NonceIndices(u.k.hi, u.k.ci)
	}
	if !u.noAuth {
		w.Authorization()
		key := rr.BindingKey(u.k.home, u.k.careOf)
		if u.lifetime == 0 || co == about {
			key = rr.DeletionKey(u.k.home)
		}
		if u.wrong {
			key[0] ^= 1
		}
		rr.Sign(key, co, u.dst, w.Close())
	}
	return Update{Src: u.src, Dst: u.dst, HomeOption: u.home, Message: r.parse(w.Finish(about, u.dst), about, u.dst), Protection: u.protection}
}

func (r *rig) parse(b []byte, src, dst netip.Addr) wire.BindingUpdate {
	r.t.Helper()
	m, f := wire.Parse(b, 0, src, dst)
	if !f.OK() {
		r.t.Fatalf("%v at %d", f.Reason, f.Pointer)
	}
	u, ok := m.BindingUpdate()
	if !ok {
		r.t.Fatal("no binding update")
	}
	return u
}

// homeUpdate is an update to a home agent as it should be.
type homeUpdate struct {
	src, home, careOf    netip.Addr // as in peerUpdate
	seq, flags, lifetime uint16
	networks             []netip.Prefix
	raw                  []byte // a mobile network option as it is
	indices              bool
	protection           Protection
}

func registration(seq, lifetime uint16) homeUpdate {
	return homeUpdate{src: careOf, home: home, careOf: careOf, seq: seq, lifetime: lifetime, protection: IPsec, flags: wire.FlagAcknowledge | wire.FlagHome}
}

// atHome is a deregistration of a mobile node that has come back.
func atHome(seq uint16) homeUpdate {
	return homeUpdate{src: home, seq: seq, protection: IPsec, flags: wire.FlagAcknowledge | wire.FlagHome}
}

func (r *rig) register(u homeUpdate) Outcome {
	r.t.Helper()
	w := wire.NewBindingUpdate(nil, u.seq, u.flags, u.lifetime)
	about := u.home
	if !about.IsValid() {
		about = u.src
	}
	if u.careOf.IsValid() {
		w.AlternateCareOf(u.careOf)
	}
	if u.indices {
		w.NonceIndices(1, 2)
	}
	for _, n := range u.networks {
		w.MobileNetwork(n)
	}
	b := w.Finish(about, agent)
	if u.raw != nil { // behind the rest, at 8n+4
		w := wire.NewBindingUpdate(nil, u.seq, u.flags, u.lifetime)
		w.MobileNetwork(mnp)
		b = w.Close()
		copy(b[12:], u.raw)
		b = w.Finish(about, agent)
	}
	return r.c.Update(r.now, Update{Src: u.src, Dst: agent, HomeOption: u.home, Message: r.parse(b, about, agent), Protection: u.protection}, r.policy, r.nonces)
}

func homeAgent() *Agent {
	return &Agent{OnLink: true, Valid: clock.Never, Preferred: clock.Never}
}

// check compares the parts of the cache with each other.
func (r *rig) check() {
	r.t.Helper()
	c := r.c
	var peers, homes, ended, linked int
	held := map[netip.Addr]int{}
	networks := 0
	for k, e := range c.entries {
		if e.Key != k {
			r.t.Errorf("%v is filed as %v", e.Key, k)
		}
		switch {
		case e.Home:
			homes++
		case e.State == Ended:
			ended++
		default:
			peers++
		}
		if e.State == Registered {
			held[k.Home]++
			for _, n := range e.Networks {
				networks++
				if c.networks[n] != e {
					r.t.Errorf("%v of %v is somebody else's", n, k)
				}
			}
		}
		if (e.next != nil) != (e.State == Registered && !e.Home) {
			r.t.Errorf("%v %v: in the list of use %v", k, e.State, e.next != nil)
		}
		if at := e.timer.When(); at != clock.Earliest(e.Until, e.refresh) {
			r.t.Errorf("%v: deadline %v", k, at)
		}
	}
	for e := c.used.next; e != &c.used; e = e.next {
		linked++
	}
	if peers != c.peers || homes != c.home || ended != c.ended || linked != peers || networks != len(c.networks) || len(held) != len(c.homes) {
		r.t.Errorf("%d peers, %d homes, %d ended, %d in the list, %d networks, %d home addresses; counted %d, %d, %d, %d",
			peers, homes, ended, linked, networks, len(held), c.peers, c.home, c.ended, len(c.homes))
	}
	if peers > c.limits.Peers || homes > c.limits.Homes || peers+ended > c.limits.Peers+c.limits.Ended {
		r.t.Errorf("%d peers, %d homes, %d ended: more than %+v", peers, homes, ended, c.limits)
	}
}
