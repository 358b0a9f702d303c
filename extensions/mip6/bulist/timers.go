package bulist

import (
	"net/netip"
	"slices"

	"leveret/appliance/clock"
)

// deadline is when something is due in an entry.
func (e *entry) deadline() clock.Instant {
	at := clock.Never
	for _, t := range []clock.Instant{e.bu.at, e.home.at, e.careOfTest.at, e.silent} {
		if t != 0 {
			at = clock.Earliest(at, t)
		}
	}
	if e.bound.IsValid() {
		at = clock.Earliest(at, e.until)
		if !e.due && e.bu.at == 0 && !e.hold {
			at = clock.Earliest(at, e.refresh)
		}
	}
	return at
}

// Deadline returns when [List.Tick] has something to do.
func (l *List) Deadline() clock.Instant {
	at := clock.Never
	for _, e := range l.order {
		at = clock.Earliest(at, e.deadline())
	}
	return at
}

// Tick does what is due: retransmissions, refreshes, and the end of bindings.
func (l *List) Tick(now clock.Instant) (out []Effect) {
	l.pruneRates(now)
	for _, e := range slices.Clone(l.order) {
		if e.deadline() <= now && l.entries[e.Key] == e {
			out = l.tick(now, e, out)
		}
	}
	return out
}

func (l *List) tick(now clock.Instant, e *entry, out []Effect) []Effect {
	if e.silent != 0 && e.silent <= now { // it may be tried again
		l.remove(e)
		return out
	}
	if e.bound.IsValid() && e.until <= now {
		out = append(out, e.news(Unbound))
		e.bound, e.refresh = netip.Addr{}, clock.Never
		// Nobody tries to make it again, or could.
		if e.silent == 0 && (!e.due && e.bu.at == 0 || !e.agent && (e.lifetime == 0 || l.agentOf(e.Home) == nil)) {
			return l.end(now, e, out)
		}
	}
	if e.bound.IsValid() && e.refresh <= now && !e.due && e.bu.at == 0 && !e.hold {
		e.refresh = clock.Never
		if e.agent || e.inUse() {
			e.start()
			out = l.advance(now, e, out)
		}
	}
	if e.bu.at != 0 && e.bu.at <= now {
		out = l.retransmit(now, e, out)
	}
	for _, do := range [...]Action{SendHoTI, SendCoTI} {
		if t := e.test(do); t.at != 0 && t.at <= now {
			out = l.resendTest(now, e, do, out)
		}
	}
	return out
}

// retransmit sends an unanswered update once more, with a new sequence number (RFC 6275 11.8).
func (l *List) retransmit(now clock.Instant, e *entry, out []Effect) []Effect {
	if e.bu.tries == 0 { // it was held up by the rate limit only
		return l.update(now, e, out)
	}
	if !e.agent {
		if e.bu.tries > MaxRouteOptimizeFailed {
			return append(out, l.leaveAlone(now, e, Unsupported, 0)...)
		}
		if !e.home.token.good(now, e.Home) || e.lifetime != 0 && !e.careOfTest.token.good(now, e.careOf) {
			e.bu, e.due = timer{}, true
			return l.advance(now, e, out)
		}
	}
	was := e.bu.interval
	e.bu.next()
	if e.agent && was < MaxBindAckTimeout && e.bu.interval == MaxBindAckTimeout && e.lifetime != 0 {
		out = append(out, Effect{Do: NextAgent, Key: e.Key, Agent: true, CareOf: e.careOf}) // 11.7.1
	}
	return l.update(now, e, out)
}

// resendTest sends an unanswered test init message once more, with a new cookie; after MAX_RO_FAILURE retries the
// correspondent is left alone (RFC 6275 5.2.9).
func (l *List) resendTest(now clock.Instant, e *entry, do Action, out []Effect) []Effect {
	t := e.test(do)
	switch {
	case t.tries == 0:
	case t.tries > MaxRouteOptimizeFailed:
		return append(out, l.leaveAlone(now, e, Unsupported, 0)...)
	default:
		t.next()
	}
	return l.testInit(now, e, do, out)
}
