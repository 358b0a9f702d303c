// Package rtrsol is when a host solicits the routers of one link: RFC 4861 6.3.7 with the endless
// backoff of RFC 7559. It is pure.
package rtrsol

import (
	"time"

	"leveret/appliance/clock"
)

// Vars say how often.
type Vars struct {
	// Max is MAX_RTR_SOLICITATIONS (RFC 4861 10): that many, Interval apart. 0 = until a router answers,
	// each time twice as long apart, up to MaxInterval (RFC 7559).
	Max         int
	Interval    time.Duration // RTR_SOLICITATION_INTERVAL, or IRT; 0 or less = 4 s
	MaxInterval time.Duration // MRT; 0 or less = 3600 s
}

// The intervals where none is given (RFC 4861 10, RFC 7559 2): without one there would be no end of sending.
const (
	defaultInterval    = 4 * time.Second
	defaultMaxInterval = time.Hour
)

// Solicitor is one link's. One goroutine owns it.
type Solicitor struct {
	vars Vars
	draw func() float64 // uniform in [0, 1)
	next clock.Instant
	wait time.Duration // RT of RFC 3315 14; 0 = none was sent
	sent int
}

// New returns a solicitor that has nothing to do.
func New(v Vars, draw func() float64) *Solicitor {
	s := &Solicitor{draw: draw, next: clock.Never}
	s.SetVars(v)
	return s
}

// Start begins anew, with a first solicitation after delay, which the caller draws from 0 to
// MAX_RTR_SOLICITATION_DELAY where hosts may be switched on together.
func (s *Solicitor) Start(now clock.Instant, delay time.Duration) {
	s.next, s.wait, s.sent = now.Add(delay), 0, 0
}

// Stop ends it: the link is no host's any more, or is down.
func (s *Solicitor) Stop() { s.next = clock.Never }

// SetVars puts other variables in force from the next solicitation on; if there were enough by the new Max,
// there is none. What has ended stays so until Start.
func (s *Solicitor) SetVars(v Vars) {
	if v.Interval <= 0 {
		v.Interval = defaultInterval
	}
	if v.MaxInterval <= 0 {
		v.MaxInterval = defaultMaxInterval
	}
	s.vars = v
	if v.Max != 0 && s.sent >= v.Max {
		s.Stop()
	}
}

// Heard takes in a valid Router Advertisement. One that gives a default router ends the soliciting; any
// other does not (RFC 7559 2.1).
func (s *Solicitor) Heard(defaultRouter bool) {
	if defaultRouter && s.sent > 0 { // RFC 4861 6.3.7: at least one is sent even if one came unasked
		s.Stop()
	}
}

// Deadline returns when Tick is due, or clock.Never.
func (s *Solicitor) Deadline() clock.Instant { return s.next }

// Sent returns how many were sent since Start.
func (s *Solicitor) Sent() int { return s.sent }

// Tick reports whether a solicitation is to be sent now; it is then counted as sent. However late, it is
// one.
func (s *Solicitor) Tick(now clock.Instant) bool {
	if now < s.next {
		return false
	}
	s.sent++
	switch {
	case s.vars.Max == 0:
		s.next = now.Add(s.backOff())
	case s.sent < s.vars.Max:
		s.next = now.Add(s.vars.Interval)
	default:
		s.Stop()
	}
	return true
}

// backOff is RFC 3315 14, without its limits of count and duration (RFC 7559 2).
func (s *Solicitor) backOff() time.Duration {
	rand := func(d time.Duration) time.Duration { return time.Duration((s.draw()*0.2 - 0.1) * float64(d)) }
	if s.wait == 0 {
		s.wait = s.vars.Interval + rand(s.vars.Interval)
	} else {
		s.wait = 2*s.wait + rand(s.wait)
	}
	if s.wait > s.vars.MaxInterval {
		s.wait = s.vars.MaxInterval + rand(s.vars.MaxInterval)
	}
	return s.wait
}
