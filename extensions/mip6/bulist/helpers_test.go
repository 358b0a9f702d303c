package bulist

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
	agent2    = netip.MustParseAddr("2001:db8:100::2")
	cn        = netip.MustParseAddr("2001:db8:300::c")
	cn2       = netip.MustParseAddr("2001:db8:300::d")

	toAgent = Key{home, agent}
	toPeer  = Key{home, cn}
)

func seeded(seed uint64) func([]byte) {
	r := rand.New(rand.NewPCG(seed, seed))
	return func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
}

type rig struct {
	t      testing.TB
	now    clock.Instant
	l      *List
	nonces *rr.Nonces // of all correspondents
}

func newRig(t testing.TB) *rig {
	return &rig{t: t, now: 1000 * second, l: New(Config{Peers: 5}, seeded(1)), nonces: rr.New(seeded(2))}
}

// only returns the one effect that is expected.
func (r *rig) only(out []Effect, do Action) Effect {
	r.t.Helper()
	if len(out) != 1 || out[0].Do != do {
		r.t.Fatalf("%v, want one %d", out, do)
	}
	return out[0]
}

// kinds lists what effects are.
func kinds(out []Effect) (k []Action) {
	for _, e := range out {
		k = append(k, e.Do)
	}
	return k
}

// wait goes to the next deadline and returns how long that took and what came of it.
func (r *rig) wait() (time.Duration, []Effect) {
	r.t.Helper()
	at := r.l.Deadline()
	if at == clock.Never {
		r.t.Fatal("nothing is due any more")
	}
	if at < r.now {
		r.t.Fatalf("the deadline is %v ago", time.Duration(r.now-at))
	}
	d := time.Duration(at - r.now)
	r.now = at
	return d, r.l.Tick(at)
}

type ack struct {
	status    wire.Status
	flags     uint8
	seq, life uint16
	advice    uint16
	unsigned  bool
}

// ack answers an update.
func (r *rig) ack(x Effect, a ack) []Effect {
	r.t.Helper()
	w := wire.NewBindingAck(nil, a.status, a.flags, a.seq, a.life)
	if a.advice != 0 {
		w.RefreshAdvice(a.advice)
	}
	if x.Signed && !a.unsigned {
		w.Authorization()
		rr.Sign(x.Kbm, x.CareOf, x.Peer, w.Close())
	}
	m, f := wire.Parse(w.Finish(x.Peer, x.Home), 0, x.Peer, x.Home)
	b, ok := m.BindingAck()
	if !f.OK() || !ok {
		r.t.Fatal(f)
	}
	return r.l.Ack(r.now, x.Key, !a.unsigned, b)
}

// yes accepts an update.
func (r *rig) yes(x Effect) []Effect {
	r.t.Helper()
	return r.ack(x, ack{seq: x.Sequence, life: x.Lifetime})
}

func (r *rig) test(typ uint8, index uint16, cookie [8]byte, t rr.Token) wire.Test {
	w := wire.NewTest(nil, typ, index, cookie, t)
	m, f := wire.Parse(w.Finish(cn, home), 0, cn, home)
	x, ok := m.Test()
	if !f.OK() || !ok {
		r.t.Fatal(f)
	}
	return x
}

// answer answers a test init message.
func (r *rig) answer(x Effect) []Effect {
	r.t.Helper()
	if x.Do == SendHoTI {
		index, tok := r.nonces.Home(r.now, x.Home)
		return r.l.HomeTest(r.now, x.Key, x.CareOf != x.Home, r.test(wire.TypeHoT, index, x.Cookie, tok))
	}
	index, tok := r.nonces.CareOf(r.now, x.CareOf)
	return r.l.CareOfTest(r.now, x.Peer, x.CareOf, r.test(wire.TypeCoT, index, x.Cookie, tok))
}

// registered has a home registration of careOf for 1000 units.
func (r *rig) registered() Effect {
	r.t.Helper()
	x := r.only(r.l.Register(r.now, Registration{Home: home, Agent: agent, CareOf: careOf, Lifetime: 1000}), SendBU)
	r.only(r.yes(x), Bound)
	return x
}

// optimize runs return routability with cn up to the update.
func (r *rig) optimize() Effect {
	r.t.Helper()
	out, ok := r.l.Optimize(r.now, toPeer, careOf, 105)
	if !ok || len(out) != 2 || out[0].Do != SendHoTI || out[1].Do != SendCoTI {
		r.t.Fatalf("%v, %v", out, ok)
	}
	if early := r.answer(out[1]); len(early) != 0 {
		r.t.Fatalf("%v before the Home Test", early)
	}
	return r.only(r.answer(out[0]), SendBU)
}

// optimized has a binding with cn.
func (r *rig) optimized() Effect {
	r.t.Helper()
	x := r.optimize()
	r.only(r.yes(x), Bound)
	return x
}
