package bulist

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// message is one on its way.
type message struct {
	at       clock.Instant
	src, dst netip.Addr
	mh       []byte
	home     netip.Addr // of the Home Address option or the routing header
}

// world is a mobile node with a home agent and a correspondent, and a network that loses and reorders.
type world struct {
	t              *testing.T
	now            clock.Instant
	rnd            *rand.Rand
	loss           float64
	l              *List
	cache          map[netip.Addr]*bcache.Cache
	nonces         *rr.Nonces
	air            []message
	where          netip.Addr // the care-of address; home = at home
	bound, refused int
}

func (w *world) send(m message) {
	if w.rnd.Float64() < w.loss {
		return
	}
	m.at = w.now.Add(time.Duration(10+w.rnd.IntN(500)) * time.Millisecond)
	w.air = append(w.air, m)
}

// effects sends what the mobile node wants sent.
func (w *world) effects(out []Effect) {
	for _, x := range out {
		var b wire.Builder
		src := x.CareOf
		switch x.Do {
		case SendHoTI:
			b, src = wire.NewTestInit(nil, wire.TypeHoTI, x.Cookie), x.Home
		case SendCoTI:
			b = wire.NewTestInit(nil, wire.TypeCoTI, x.Cookie)
		case SendBU:
			b = wire.NewBindingUpdate(nil, x.Sequence, x.Flags, x.Lifetime)
			if x.Signed {
				b.NonceIndices(x.HomeIndex, x.CareOfIndex)
				b.Authorization()
				rr.Sign(x.Kbm, x.CareOf, x.Peer, b.Close())
			}
			w.send(message{src: x.CareOf, dst: x.Peer, mh: b.Finish(x.Home, x.Peer), home: x.Home})
			continue
		case Bound:
			w.bound++
			continue
		case Refused, Unsupported:
			w.refused++
			continue
		default:
			continue
		}
		w.send(message{src: src, dst: x.Peer, mh: b.Finish(src, x.Peer)})
	}
}

// arrive delivers a message.
func (w *world) arrive(m message) {
	sum, to, served := m.src, m.dst, m.dst == agent || m.dst == cn
	switch {
	case m.home.IsValid() && served:
		sum = m.home
	case m.home.IsValid():
		to = m.home
	}
	p, f := wire.Parse(m.mh, 0, sum, to)
	if !f.OK() {
		w.t.Fatalf("%v: %x", f.Reason, m.mh)
	}
	if served {
		w.serve(m, p)
		return
	}
	if t, ok := p.Test(); ok {
		switch {
		case p.Type() == wire.TypeHoT:
			// Through the home agent, if it knows where the node is.
			co, away := w.cache[agent].Lookup(bcache.Key{Local: agent, Home: home})
			if away == (w.where != home) && (!away || co == w.where) {
				w.effects(w.l.HomeTest(w.now, Key{home, m.src}, away, t))
			}
		case m.dst == w.where:
			w.effects(w.l.CareOfTest(w.now, m.src, m.dst, t))
		}
		return
	}
	if a, ok := p.BindingAck(); ok && m.dst == w.where {
		w.effects(w.l.Ack(w.now, Key{home, m.src}, m.src == agent, a))
	}
	if p.Type() == wire.TypeBRR {
		w.effects(w.l.RefreshRequest(w.now, Key{home, m.src}))
	}
}

// serve is the home agent and the correspondent.
func (w *world) serve(m message, p wire.Message) {
	if ti, ok := p.TestInit(); ok {
		var index uint16
		var tok rr.Token
		typ := uint8(wire.TypeHoT)
		if p.Type() == wire.TypeHoTI {
			index, tok = w.nonces.Home(w.now, m.src)
		} else {
			index, tok = w.nonces.CareOf(w.now, m.src)
			typ = wire.TypeCoT
		}
		b := wire.NewTest(nil, typ, index, ti.Cookie(), tok)
		w.send(message{src: m.dst, dst: m.src, mh: b.Finish(m.dst, m.src)})
		return
	}
	u, _ := p.BindingUpdate()
	in := bcache.Update{Src: m.src, Dst: m.dst, Message: u}
	if m.src != m.home {
		in.HomeOption = m.home
	}
	var policy bcache.Policy
	if m.dst == agent {
		in.Protection = bcache.IPsec
		policy.Agent = &bcache.Agent{OnLink: true, Valid: clock.Never, Preferred: clock.Never}
	}
	c := w.cache[m.dst]
	o := c.Update(w.now, in, policy, w.nonces)
	if o.Change == bcache.Waiting {
		o = c.DADDone(w.now, bcache.Key{Local: agent, Home: home}, false)
	}
	if o.Reason.Silent() {
		w.t.Fatalf("an honest node is refused: %v", o.Reason)
	}
	if r := o.Reply; r != nil {
		b := wire.NewBindingAck(nil, r.Status, r.Flags, r.Sequence, r.Lifetime)
		if r.Signed {
			b.Authorization()
			rr.Sign(r.Key, r.CareOf, m.dst, b.Close())
		}
		w.send(message{src: m.dst, dst: r.To, mh: b.Finish(m.dst, home), home: home})
	}
}

// step goes to the next thing that happens, no later than end.
func (w *world) step(end clock.Instant) {
	next := clock.Earliest(end, w.l.Deadline())
	for _, c := range w.cache {
		next = clock.Earliest(next, c.Deadline())
	}
	for _, m := range w.air {
		next = clock.Earliest(next, m.at)
	}
	w.now = max(next, w.now)
	for i := 0; i < len(w.air); i++ {
		if m := w.air[i]; m.at <= w.now {
			w.air = append(w.air[:i], w.air[i+1:]...)
			w.arrive(m)
			i = -1
		}
	}
	for _, c := range w.cache {
		for _, ev := range c.Tick(w.now) {
			if ev.Refresh {
				b := wire.NewRefreshRequest(nil)
				w.send(message{src: ev.Local, dst: home, mh: b.Finish(ev.Local, home)})
			}
		}
	}
	w.effects(w.l.Tick(w.now))
	w.check()
}

// check: what the mobile node believes to be bound is bound, at that address, at least that long.
func (w *world) check() {
	for _, e := range w.l.List() {
		if co, ok := w.l.Lookup(w.now, e.Key); ok && !e.Waiting && e.CareOf == e.Bound {
			b, _ := w.cache[e.Peer].Get(bcache.Key{Local: e.Peer, Home: e.Home})
			if b.State != bcache.Registered || b.CareOf != co || b.Until < e.Until {
				w.t.Fatalf("at %v: the node believes in %v until %v, the peer has %+v", w.now, co, e.Until, b)
			}
		}
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, now: 1000 * second, rnd: rand.New(rand.NewPCG(seed, 1)), where: home,
		l: New(Config{Peers: 5}, seeded(seed)), nonces: rr.New(seeded(seed + 1000)),
	}
	limits := bcache.Limits{Peers: 5, Homes: 5, Ended: 5}
	w.cache = map[netip.Addr]*bcache.Cache{agent: bcache.New(limits, w.rnd.Float64), cn: bcache.New(limits, w.rnd.Float64)}
	return w
}

// TestTogether: a mobile node with this list, and a home agent and a correspondent with their caches, while it moves
// and the network loses and reorders: what it believes is so, with a network that does not lose it is bound
// everywhere, and nothing is left when it is at home.
func TestTogether(t *testing.T) {
	places := []netip.Addr{careOf, elsewhere, netip.MustParseAddr("2001:db8:202::1234")}
	for seed := range uint64(30) {
		w := newWorld(t, seed)
		for range 40 {
			w.loss = 0.3 * w.rnd.Float64()
			w.where = places[w.rnd.IntN(len(places))]
			w.effects(w.l.Register(w.now, Registration{Home: home, Agent: agent, CareOf: w.where, Lifetime: uint16(20 + w.rnd.IntN(1000))}))
			out, _ := w.l.Optimize(w.now, toPeer, w.where, 105)
			w.effects(out)
			for end := w.now.Add(time.Duration(w.rnd.IntN(300)) * time.Second); w.now < end; w.step(end) {
				w.l.Use(w.now, toPeer)
			}
		}
		w.loss = 0
		w.where = places[0]
		w.effects(w.l.Register(w.now, Registration{Home: home, Agent: agent, CareOf: w.where, Lifetime: 1000}))
		for end := w.now.Add(Pause + time.Minute); w.now < end; w.step(end) {
			w.l.Use(w.now, toPeer)
		}
		out, _ := w.l.Optimize(w.now, toPeer, w.where, 105)
		w.effects(out)
		for end := w.now.Add(30 * time.Second); w.now < end; w.step(end) {
		}
		for _, k := range []Key{toAgent, toPeer} {
			if co, ok := w.l.Lookup(w.now, k); !ok || co != w.where {
				t.Fatalf("seed %d: %v: %v, %v: %+v", seed, k, co, ok, w.l.List())
			}
			if !w.cache[k.Peer].Bound(bcache.Key{Local: k.Peer, Home: home}, w.where) {
				t.Fatalf("seed %d: %v is not bound", seed, k)
			}
		}
		// Home.
		w.where = home
		w.effects(w.l.Deregister(w.now, toAgent, home))
		for end := w.now.Add(20 * time.Second); w.now < end; w.step(end) {
		}
		if list := w.l.List(); len(list) != 0 || w.l.Deadline() != clock.Never {
			t.Fatalf("seed %d: left: %+v", seed, list)
		}
		for a, c := range w.cache {
			if _, ok := c.Lookup(bcache.Key{Local: a, Home: home}); ok {
				t.Fatalf("seed %d: %v still has a binding", seed, a)
			}
		}
		if w.bound < 40 {
			t.Errorf("seed %d: bound %d times, refused %d times", seed, w.bound, w.refused)
		}
	}
}
