package bulist

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// authorize makes the key of an update to a correspondent (RFC 6275 5.2.5). Its care-of nonce index is 0 in a deletion
// (11.7.2).
func (e *entry) authorize(x *Effect) {
	h, c := &e.home.token, &e.careOfTest.token
	x.Signed, x.HomeIndex = true, h.index
	if x.Lifetime == 0 {
		x.Kbm = rr.DeletionKey(h.value)
	} else {
		x.CareOfIndex, x.Kbm = c.index, rr.BindingKey(h.value, c.value)
	}
	e.kbm = x.Kbm
}

// HomeTest takes in a Home Test (RFC 6275 11.6.2): from a correspondent to a home address. tunneled says that it came
// through the tunnel from the home agent.
func (l *List) HomeTest(now clock.Instant, k Key, tunneled bool, m wire.Test) []Effect {
	e := l.entries[k]
	if e == nil || m.Type() != wire.TypeHoT || !tunneled && e.careOf != e.Home {
		return nil
	}
	return l.tested(now, e, &e.home, e.Home, m)
}

// CareOfTest takes in a Care-of Test (RFC 6275 11.6.2): from a correspondent to a care-of address. Several home
// addresses may wait for it.
func (l *List) CareOfTest(now clock.Instant, peer, careOf netip.Addr, m wire.Test) (out []Effect) {
	if m.Type() != wire.TypeCoT {
		return nil
	}
	for _, e := range l.order {
		if e.Peer == peer && e.careOfTest.careOf == careOf && e.careOf == careOf {
			out = append(out, l.tested(now, e, &e.careOfTest, careOf, m)...)
		}
	}
	return out
}

// tested takes in the token that is waited for. Its life begins when it was asked for: when the correspondent
// made it is not known better.
func (l *List) tested(now clock.Instant, e *entry, t *test, addr netip.Addr, m wire.Test) []Effect {
	if t.at == 0 || t.tries == 0 || m.Cookie() != t.cookie {
		return nil
	}
	t.token = token{have: true, value: m.Token(), index: m.NonceIndex(), addr: addr, since: t.asked}
	t.timer = timer{}
	return l.advance(now, e, nil)
}

// Ack takes in a Binding Acknowledgement (RFC 6275 11.7.3): from a peer about a home address. protected says that IPsec,
// or an authentication option, protects it; of correspondents its authorization data is verified here.
func (l *List) Ack(now clock.Instant, k Key, protected bool, m wire.BindingAck) []Effect {
	e := l.entries[k]
	if e == nil || e.bu.at == 0 || e.bu.tries == 0 {
		return nil
	}
	status := m.Status()
	switch {
	case e.agent && !protected:
		return nil
	case e.agent:
	case status == wire.ExpiredHomeNonce || status == wire.ExpiredCareOfNonce || status == wire.ExpiredNonces: // 9.5.4: without
	case !e.verify(m):
		return nil
	}
	if status == wire.SequenceOutOfWindow {
		return l.resync(now, e, m.Sequence())
	}
	if m.Sequence() != e.sequence {
		return nil
	}
	e.resyncs = 0
	switch {
	case status.OK():
		return l.acknowledged(now, e, m)
	case e.lifetime == 0 && status == wire.NotHomeAgent: // there is nothing to delete
		return l.gone(now, e)
	case status == wire.ExpiredHomeNonce || status == wire.ExpiredCareOfNonce || status == wire.ExpiredNonces:
		return l.retest(now, e, status)
	}
	return l.refused(now, e, status)
}

// verify checks the authorization data of an acknowledgement from a correspondent.
func (e *entry) verify(m wire.BindingAck) bool {
	if _, ok := m.Authenticator(); !ok {
		return false
	}
	return rr.Verify(e.kbm, e.sentFor, e.Peer, m.Bytes())
}

// acknowledged notes that the peer has done what the update has asked for.
func (l *List) acknowledged(now clock.Instant, e *entry, m wire.BindingAck) (out []Effect) {
	if e.sentLife == 0 {
		return l.gone(now, e)
	}
	e.bu, e.restarts = timer{}, 0
	// 11.7.3: the time counts from when the update was sent.
	granted := min(m.Lifetime(), e.sentLife)
	e.bound, e.until = e.sentFor, e.sent.Add(duration(granted))
	e.refresh = e.sent.Add(time.Duration(refreshAt * float64(duration(granted))))
	e.hold = false
	if advice, ok := m.RefreshAdvice(); e.agent && ok {
		e.refresh = clock.Earliest(e.refresh, e.sent.Add(max(duration(advice), unit)))
	}
	x := e.news(Bound)
	x.Status, x.AckFlags = m.Status(), m.Flags()
	out = append(out, x)
	if !e.agent {
		return out
	}
	if m.Status() == wire.AcceptedPrefixDiscovery { // 11.7.1: no further registration before that
		e.hold = true
		out = append(out, e.news(Discover))
	}
	if e.flags&wire.FlagMobileRouter != 0 && m.Flags()&wire.AckMobileRouter == 0 { // RFC 3963 5.3
		out = append(out, e.news(NoRouter))
		return append(out, l.Deregister(now, e.Key, e.careOf)...)
	}
	return l.advanceHome(now, e.Home, out)
}

// gone ends an entry whose binding the peer has deleted.
func (l *List) gone(now clock.Instant, e *entry) []Effect {
	return l.end(now, e, []Effect{e.news(Unbound)})
}

// resync takes over the sequence number that the peer knows (135) and sends the update again. When that does
// not help, the ordinary back-off goes on.
func (l *List) resync(now clock.Instant, e *entry, last uint16) []Effect {
	e.sequence = last
	if e.resyncs++; e.resyncs > MaxUpdateRate {
		return nil
	}
	return l.update(now, e, nil)
}

// retest runs return routability once more for nonces that the correspondent does not know any more.
func (l *List) retest(now clock.Instant, e *entry, s wire.Status) []Effect {
	if e.agent {
		return nil
	}
	if s != wire.ExpiredCareOfNonce {
		e.home.token = token{}
	}
	if s != wire.ExpiredHomeNonce {
		e.careOfTest.token = token{}
	}
	e.bu, e.due = timer{}, true
	if e.restarts++; e.restarts > MaxRouteOptimizeFailed {
		return l.leaveAlone(now, e, Refused, s)
	}
	return l.advance(now, e, nil)
}

// refused stops what the peer does not want. What a home agent says may pass is tried again at the slow rate;
// all else is not sent again until somebody asks for it (RFC 6275 11.7.1, 11.7.3, RFC 4285 5.3).
func (l *List) refused(now clock.Instant, e *entry, s wire.Status) []Effect {
	if !e.agent {
		return l.leaveAlone(now, e, Refused, s)
	}
	x := e.news(Refused)
	x.Status, x.CareOf = s, e.careOf
	if s == wire.Unspecified || s == wire.NoResources {
		e.bu = timer{at: now.Add(MaxBindAckTimeout), interval: MaxBindAckTimeout, tries: e.bu.tries}
		return []Effect{x}
	}
	e.bu, e.due, e.refresh, e.silent = timer{}, false, clock.Never, clock.Never
	return []Effect{x}
}

// leaveAlone gives up a correspondent for a while: its packets go through the home agent (RFC 6275 5.2.9, 11.3.5).
func (l *List) leaveAlone(now clock.Instant, e *entry, why Action, s wire.Status) []Effect {
	var out []Effect
	if e.bound.IsValid() {
		out = append(out, e.news(Unbound))
	}
	x := e.news(why)
	x.Status, x.CareOf = s, e.careOf
	e.bound, e.until, e.refresh, e.due = netip.Addr{}, 0, clock.Never, false
	e.bu, e.home, e.careOfTest = timer{}, test{}, test{}
	e.silent = now.Add(Pause)
	return append(out, x)
}

// RefreshRequest takes in a Binding Refresh Request (RFC 6275 11.7.4): a binding in use is made again.
func (l *List) RefreshRequest(now clock.Instant, k Key) []Effect {
	e := l.entries[k]
	if e == nil || !e.bound.IsValid() || e.due || e.bu.at != 0 || e.lifetime == 0 || e.silent != 0 || e.hold || !e.agent && !e.inUse() {
		return nil
	}
	e.start()
	return l.advance(now, e, nil)
}

// inUse reports whether packets went by the binding since its update was sent.
func (e *entry) inUse() bool { return e.used > e.sent }

// Error takes in a Binding Error (RFC 6275 11.3.6). progress says that the upper layers get on with that
// peer.
func (l *List) Error(now clock.Instant, k Key, status uint8, progress bool) []Effect {
	e := l.entries[k]
	if e == nil || e.silent != 0 {
		return nil
	}
	switch {
	case status == wire.UnknownBinding && e.agent:
		if e.due || e.bu.at != 0 || e.lifetime == 0 {
			return nil
		}
		e.start()
		return l.advance(now, e, nil)
	case status == wire.UnknownBinding && !progress && e.bound.IsValid():
		out := []Effect{e.news(Unbound)}
		l.remove(e)
		return out
	case status == wire.UnknownType && !e.agent && e.expecting():
		return l.leaveAlone(now, e, Unsupported, 0)
	}
	return nil
}

// expecting reports whether an answer is waited for.
func (e *entry) expecting() bool { return e.bu.at != 0 || e.home.at != 0 || e.careOfTest.at != 0 }

// NotSupported takes in a Parameter Problem, code 1, about a Mobility Header that was sent to a node (RFC 6275
// 11.3.5).
func (l *List) NotSupported(now clock.Instant, peer netip.Addr) (out []Effect) {
	for _, e := range l.order {
		if e.Peer == peer && !e.agent && e.silent == 0 && e.expecting() {
			out = append(out, l.leaveAlone(now, e, Unsupported, 0)...)
		}
	}
	return out
}

// PrefixesKnown lets a registration be refreshed again that a home agent wants prefix discovery for.
func (l *List) PrefixesKnown(k Key) {
	if e := l.entries[k]; e != nil {
		e.hold = false
	}
}
