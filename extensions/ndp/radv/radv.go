// Package radv is the router side of Router Discovery for one interface (RFC 4861 6.2): when Router
// Advertisements are sent, to whom, and what they say. It is pure.
package radv

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// maxUnicast bounds the answers to single hosts that wait for their delay, at most half a second. When
// there are more, newcomers get none: they solicit again.
const maxUnicast = 64

// Send is an advertisement to send. The runtime fills in the source, and the source link-layer address
// if SourceLLA asks for it, and splits what is longer than the link's MTU ([ndwire.RA.Split]).
type Send struct {
	Dst       netip.Addr // ff02::1 or a host
	RA        ndwire.RA
	SourceLLA bool // AdvSourceLLAddress
	Final     bool // one of those after which the interface does not advertise any more
}

// Counters count what was left out.
type Counters struct {
	UnicastDropped uint64 // answers to single hosts beyond 64 waiting ones
	StaleEvicted   uint64 // stale prefixes beyond 64, those first that would end first
}

type state uint8

const (
	quiet state = iota // no advertising interface (RFC 4861 6.2.2)
	advertising
	ceasing // 6.2.5
)

// answer is a solicited advertisement to one host.
type answer struct {
	dst netip.Addr
	at  clock.Instant
}

// Advertiser is one interface's. One goroutine owns it.
type Advertiser struct {
	cfg   Config
	draw  func() float64 // uniform in [0, 1)
	state state
	told  bool // hosts may know of us: not all final RAs were sent since the last that is not final

	next    clock.Instant // the interval timer, or when the next final RA is due
	solicit clock.Instant // a multicast answer is due
	last    clock.Instant // of the last multicast RA; 0 = none
	short   int           // intervals still to be cut to MAX_INITIAL_RTR_ADVERT_INTERVAL
	finals  int           // final RAs still to be sent
	unicast []answer

	contents
	counters Counters
}

// New returns the advertiser of an interface that comes up. record is what [Advertiser.Record] returned
// before a restart: what of it is not configured any more is stale (RFC 9096 3.5). draw gives random
// numbers from [0, 1). The advertiser keeps cfg, lists and all: they must not change.
func New(now clock.Instant, cfg Config, draw func() float64, record []StalePrefix) *Advertiser {
	a := &Advertiser{cfg: cfg, draw: draw, next: clock.Never, solicit: clock.Never}
	a.recall(now, record)
	a.configure(now, &a.cfg, &a.counters)
	if cfg.AdvSendAdvertisements {
		a.become(now)
	}
	return a
}

// Deadline returns when Tick is due, or clock.Never.
func (a *Advertiser) Deadline() clock.Instant {
	d := clock.Earliest(a.next, a.solicit)
	for _, u := range a.unicast {
		d = clock.Earliest(d, u.at)
	}
	return d
}

// Counters returns the counters.
func (a *Advertiser) Counters() Counters { return a.counters }

// RA returns what an advertisement sent now would say; ok is false while none is sent.
func (a *Advertiser) RA(now clock.Instant) (ra ndwire.RA, ok bool) {
	return a.build(now, &a.cfg, a.state == ceasing), a.state != quiet
}

// become makes the interface an advertising one (6.2.2). The first advertisement is sent at once but for
// a delay that keeps routers apart which were switched on together.
func (a *Advertiser) become(now clock.Instant) {
	a.state, a.finals, a.short = advertising, 0, MaxInitialRtrAdvertisements
	a.schedule(a.notBefore(now.Add(a.delay())))
}

// schedule sets the timer of unsolicited advertisements.
func (a *Advertiser) schedule(at clock.Instant) {
	a.next = at
	if a.cfg.UnicastOnly {
		a.next = clock.Never
	}
}

// notBefore keeps multicast advertisements MIN_DELAY_BETWEEN_RAS apart (6.2.6).
func (a *Advertiser) notBefore(at clock.Instant) clock.Instant {
	if a.last == 0 {
		return at
	}
	return max(at, a.last.Add(a.cfg.minDelayBetweenRAs()))
}

func (a *Advertiser) delay() time.Duration { return time.Duration(a.draw() * float64(MaxRADelayTime)) }

// interval draws the time to the next unsolicited advertisement (6.2.4).
func (a *Advertiser) interval() time.Duration {
	least := a.cfg.minRtrAdvInterval()
	d := least + time.Duration(a.draw()*float64(a.cfg.MaxRtrAdvInterval-least))
	if a.short > 0 {
		a.short--
		d = min(d, MaxInitialRtrAdvertInterval)
	}
	return d
}

// Solicit takes in a valid Router Solicitation (6.2.6). src may be the unspecified address.
func (a *Advertiser) Solicit(now clock.Instant, src netip.Addr) {
	if a.state != advertising {
		return
	}
	if a.cfg.UnicastOnly && !src.IsUnspecified() {
		a.solicitUnicast(now, src)
		return
	}
	// One advertisement answers all; its delay is relative to the first solicitation.
	if a.solicit != clock.Never {
		return
	}
	// The delay counts from when an advertisement may be sent at all. A scheduled one that comes sooner
	// serves: it takes this one's place.
	a.solicit = a.notBefore(now).Add(a.delay())
}

func (a *Advertiser) solicitUnicast(now clock.Instant, src netip.Addr) {
	switch {
	case slices.ContainsFunc(a.unicast, func(u answer) bool { return u.dst == src }):
	case len(a.unicast) >= maxUnicast:
		a.counters.UnicastDropped++
	default:
		a.unicast = append(a.unicast, answer{src, now.Add(a.delay())})
	}
}

// Tick returns what is due. However late it comes, that is one multicast advertisement.
func (a *Advertiser) Tick(now clock.Instant) []Send {
	var out []Send
	if now >= a.next || now >= a.solicit {
		out = append(out, a.multicast(now))
	}
	waiting := a.unicast[:0]
	for _, u := range a.unicast {
		if now < u.at {
			waiting = append(waiting, u)
			continue
		}
		out = append(out, a.send(now, u.dst))
	}
	a.unicast = waiting
	return out
}

// multicast returns an advertisement to all nodes and sets the timer, solicited or not (6.2.4, 6.2.6).
func (a *Advertiser) multicast(now clock.Instant) Send {
	s := a.send(now, wire.AllNodes)
	a.last, a.solicit = now, clock.Never
	if a.state == advertising {
		a.schedule(now.Add(a.interval()))
		return s
	}
	if a.finals--; a.finals > 0 {
		a.next = a.notBefore(now)
	} else {
		a.silence()
	}
	return s
}

func (a *Advertiser) send(now clock.Instant, dst netip.Addr) Send {
	final := a.state == ceasing
	s := Send{Dst: dst, RA: a.build(now, &a.cfg, final), SourceLLA: a.cfg.AdvSourceLLAddress, Final: final}
	s.RA.Dst = dst
	a.told = a.told || !final
	a.sent(now, &a.cfg)
	return s
}

// SetConfig takes over another configuration. What it changes is announced at once, as far as the rate
// limit allows, and by as many short intervals as make three advertisements (6.2.4). Prefixes it does not
// have any more are advertised as stale, other information as ended. One without AdvSendAdvertisements
// is [Advertiser.Cease]: the rest of it is not looked at.
func (a *Advertiser) SetConfig(now clock.Instant, cfg Config) {
	if !cfg.AdvSendAdvertisements {
		a.Cease(now)
		return
	}
	before := a.build(now, &a.cfg, false)
	timing := a.cfg.MaxRtrAdvInterval != cfg.MaxRtrAdvInterval || a.cfg.minRtrAdvInterval() != cfg.minRtrAdvInterval() ||
		a.cfg.UnicastOnly != cfg.UnicastOnly
	a.ended.replace(&a.cfg, &cfg)
	a.cfg = cfg
	a.configure(now, &a.cfg, &a.counters)
	switch {
	case a.state != advertising:
		a.become(now)
	case !reflect.DeepEqual(before, a.build(now, &a.cfg, false)):
		a.short = max(a.short, MaxInitialRtrAdvertisements-1)
		a.schedule(a.notBefore(now))
	case timing:
		a.schedule(min(a.next, now.Add(a.interval())))
	}
}

// Cease ends advertising when the interface is disabled (6.2.5): three final advertisements with a
// Router Lifetime of 0 say so, otherwise of the same contents. SetConfig begins anew.
func (a *Advertiser) Cease(now clock.Instant) {
	switch {
	case a.state != advertising:
	case !a.told:
		a.silence()
	default:
		a.state, a.finals, a.unicast = ceasing, MaxFinalRtrAdvertisements, nil
		a.next, a.solicit = a.notBefore(now), clock.Never
	}
}

// Stop ends advertising when there is no time left to wait: it returns the one final advertisement to
// send at once, or none if hosts know already.
func (a *Advertiser) Stop(now clock.Instant) []Send {
	a.Cease(now)
	var out []Send
	if a.finals == MaxFinalRtrAdvertisements {
		// DEVIATION(RFC 4861 6.2.6): this one may follow another within MIN_DELAY_BETWEEN_RAS. Three
		// seconds later nobody would be there to send it.
		out = []Send{a.send(now, wire.AllNodes)}
		a.last = now
	}
	a.silence()
	return out
}

func (a *Advertiser) silence() {
	a.state, a.told, a.finals, a.unicast = quiet, false, 0, nil
	a.next, a.solicit = clock.Never, clock.Never
}
