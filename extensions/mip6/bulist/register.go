package bulist

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// Registration is what a mobile node wants of a home agent.
type Registration struct {
	Home, Agent, CareOf netip.Addr
	Lifetime            uint16 // in units of four seconds; not 0
	Flags               uint16 // L, K and R; A and H are always set
	// Sequence, with Known, is the number last used, from before a restart (RFC 6275 5.1 with manual keys).
	Sequence uint16
	Known    bool
}

// Register registers a care-of address with a home agent, or another one (RFC 6275 11.7.1). Correspondents of the
// home address follow when the home agent has acknowledged it (11.7.2).
func (l *List) Register(now clock.Instant, r Registration) []Effect {
	k := Key{r.Home, r.Agent}
	e := l.entries[k]
	if e != nil && !e.agent { // a correspondent until now
		l.remove(e)
		e = nil
	}
	if e == nil {
		e = l.add(k, true)
		if r.Known {
			e.sequence = r.Sequence
		}
	}
	e.careOf, e.lifetime, e.flags = r.CareOf, max(r.Lifetime, 1), r.Flags|wire.FlagAcknowledge|wire.FlagHome
	e.hold, e.silent = false, 0
	l.follow(r.Home, r.CareOf)
	e.start()
	return l.advanceHome(now, r.Home, l.advance(now, e, nil))
}

// Deregister ends a registration: careOf is the home address when the mobile node is at home, otherwise the
// address it is at (RFC 6275 11.5.5, 11.7.1). Bindings with correspondents are deleted when that is done.
func (l *List) Deregister(now clock.Instant, k Key, careOf netip.Addr) []Effect {
	e := l.entries[k]
	if e == nil || !e.agent {
		return nil
	}
	e.careOf, e.lifetime, e.hold, e.silent = careOf, 0, false, 0
	l.follow(k.Home, careOf)
	e.start()
	return l.advance(now, e, nil)
}

// Drop forgets an entry without a word to the peer: a home agent that another one has taken the place of, or a
// mobile node that stops.
func (l *List) Drop(now clock.Instant, k Key) (out []Effect) {
	e := l.entries[k]
	if e == nil {
		return nil
	}
	if e.bound.IsValid() {
		out = append(out, e.news(Unbound))
	}
	return l.end(now, e, out)
}

// end removes an entry. Without a home agent its correspondents have nothing to wait for any more; what they
// hold ends by itself.
func (l *List) end(now clock.Instant, e *entry, out []Effect) []Effect {
	l.remove(e)
	if !e.agent {
		return out
	}
	if l.agentOf(e.Home) == nil {
		for _, p := range slices.Clone(l.order) {
			if p.agent || p.Home != e.Home || p.careOf == p.Home || p.silent != 0 {
				continue
			}
			if p.due, p.bu = false, (timer{}); !p.bound.IsValid() {
				l.remove(p)
			}
		}
	}
	return l.advanceHome(now, e.Home, out)
}

// follow makes the correspondents of a home address want another care-of address.
func (l *List) follow(home, careOf netip.Addr) {
	for _, e := range slices.Clone(l.order) {
		if e.agent || e.Home != home || e.careOf == careOf || e.silent != 0 {
			continue
		}
		if careOf == home { // at home there is nothing to keep (RFC 6275 11.7.2)
			if !e.bound.IsValid() && e.bu.tries == 0 {
				l.remove(e)
				continue
			}
			e.lifetime = 0
		}
		e.careOf = careOf
		e.home.timer, e.careOfTest.timer = timer{}, timer{}
		e.start()
	}
}

// start begins to deliver an update; one that is under way is of the past.
func (e *entry) start() {
	e.due, e.bu, e.resyncs, e.restarts = true, timer{}, 0, 0
}

// Optimize begins a correspondent registration for the care-of address (RFC 6275 11.7.2): after return routability,
// and with a home registration only. It reports false where there is none, the list is full, or the
// correspondent is left alone.
func (l *List) Optimize(now clock.Instant, k Key, careOf netip.Addr, lifetime uint16) ([]Effect, bool) {
	e := l.entries[k]
	switch {
	case e != nil && (e.agent || e.silent != 0 && now < e.silent):
		return nil, false
	case l.agentOf(k.Home) == nil:
		return nil, false
	case e == nil && !l.room(now):
		return nil, false
	case e == nil:
		e = l.add(k, false)
	case e.lifetime != 0 && e.careOf == careOf && (e.due || e.bu.at != 0):
		return nil, true // it runs
	}
	e.careOf, e.lifetime, e.flags, e.silent, e.used = careOf, max(lifetime, 1), wire.FlagAcknowledge, 0, now
	e.start()
	return l.advance(now, e, nil), true
}

// Forget deletes the binding that a correspondent has (RFC 6275 11.7.2). Until it is acknowledged packets go through
// the home agent.
func (l *List) Forget(now clock.Instant, k Key) []Effect {
	e := l.entries[k]
	if e == nil || e.agent || e.lifetime == 0 {
		return nil
	}
	var out []Effect
	if e.bound.IsValid() {
		out = append(out, e.news(Unbound))
	} else if e.bu.at == 0 { // nothing was sent that would have to be undone
		l.remove(e)
		return nil
	}
	e.lifetime, e.bound = 0, netip.Addr{}
	e.start()
	return l.advance(now, e, out)
}

// room makes room for a correspondent by forgetting one that is left alone; false when there is none.
func (l *List) room(now clock.Instant) bool {
	if l.peers < l.cfg.Peers {
		return true
	}
	for _, e := range l.order {
		if !e.agent && e.silent != 0 && e.silent <= now {
			l.remove(e)
			return true
		}
	}
	return false
}

// agentOf returns the registration that serves a home address: one that is acknowledged rather than one that
// is not.
func (l *List) agentOf(home netip.Addr) (best *entry) {
	for _, e := range l.order {
		if e.agent && e.Home == home && (best == nil || !best.bound.IsValid() && e.bound.IsValid()) {
			best = e
		}
	}
	return best
}

// ready reports whether a home agent knows where the mobile node is, so that updates to correspondents may be
// sent (RFC 6275 11.7.2). At home that is when it knows of no care-of address.
func (l *List) ready(now clock.Instant, e *entry) bool {
	a := l.agentOf(e.Home)
	if e.careOf == e.Home {
		return a == nil
	}
	return a != nil && a.bound.IsValid() && now < a.until && !a.due && a.bu.at == 0
}

// advanceHome goes on with the correspondents of a home address.
func (l *List) advanceHome(now clock.Instant, home netip.Addr, out []Effect) []Effect {
	for _, e := range l.order {
		if !e.agent && e.Home == home {
			out = l.advance(now, e, out)
		}
	}
	return out
}

// advance does what an entry can do now: send its update, or test messages that have to come first.
func (l *List) advance(now clock.Instant, e *entry, out []Effect) []Effect {
	if !e.due || e.bu.at != 0 || e.silent != 0 {
		return out
	}
	if e.agent {
		return l.update(now, e, out)
	}
	ready := l.ready(now, e)
	home := e.home.token.good(now, e.Home)
	// A deletion needs the home keygen token alone (RFC 6275 5.2.6, 11.6.1).
	careOf := e.lifetime == 0 || e.careOfTest.token.good(now, e.careOf)
	if ready && home && careOf {
		return l.update(now, e, out)
	}
	// Before the home agent knows the care-of address nothing comes back through it: both tests wait for that,
	// so that they run in parallel (11.6.1). With a home keygen token only the other one is needed, at once.
	if !home && !ready {
		return out
	}
	if !home && e.home.at == 0 {
		out = l.testInit(now, e, SendHoTI, out)
	}
	if !careOf && e.careOfTest.at == 0 {
		out = l.testInit(now, e, SendCoTI, out)
	}
	return out
}

// test returns the half of return routability that a test init message is of.
func (e *entry) test(do Action) *test {
	if do == SendHoTI {
		return &e.home
	}
	return &e.careOfTest
}

// testInit sends a test init message with a new cookie (RFC 6275 11.8), or waits until it may.
func (l *List) testInit(now clock.Instant, e *entry, do Action, out []Effect) []Effect {
	t := e.test(do)
	if t.interval == 0 {
		t.timer = timer{interval: InitialBindAckTimeout}
	}
	if at := l.allow(now, e.Peer, do); at > now {
		t.at = at
		return out
	}
	l.random(t.cookie[:])
	t.careOf, t.asked, t.at = e.careOf, now, now.Add(t.interval)
	t.tries++
	return append(out, Effect{Do: do, Key: e.Key, CareOf: e.careOf, Cookie: t.cookie})
}

// update sends a Binding Update with the next sequence number, or waits until it may.
func (l *List) update(now clock.Instant, e *entry, out []Effect) []Effect {
	if e.bu.interval == 0 {
		e.bu.interval = InitialBindAckTimeout
		if e.agent && !(e.bound.IsValid() && now < e.until) && e.lifetime != 0 {
			e.bu.interval = l.cfg.FirstTimeout
		}
	}
	if at := l.allow(now, e.Peer, SendBU); at > now {
		e.bu.at = at
		return out
	}
	e.sequence++
	e.due = false
	e.bu.at = now.Add(e.bu.interval)
	e.bu.tries++
	e.sent, e.sentFor, e.sentLife = now, e.careOf, e.lifetime
	x := Effect{
		Do: SendBU, Key: e.Key, Agent: e.agent, CareOf: e.careOf, Sequence: e.sequence, Flags: e.flags, Lifetime: e.lifetime,
	}
	if !e.agent {
		l.lifetime(now, e, &x)
		e.authorize(&x)
	}
	return append(out, x)
}

// lifetime keeps a correspondent's binding within that of the home registration (RFC 6275 11.7.2).
func (l *List) lifetime(now clock.Instant, e *entry, x *Effect) {
	if a := l.agentOf(e.Home); a != nil && x.Lifetime != 0 {
		x.Lifetime = max(min(x.Lifetime, left(now, a.until)), 1)
		e.sentLife = x.Lifetime
	}
}

func (e *entry) news(do Action) Effect {
	return Effect{Do: do, Key: e.Key, Agent: e.agent, CareOf: e.bound}
}

// duration is a lifetime in units as a duration.
func duration(units uint16) time.Duration { return time.Duration(units) * unit }
