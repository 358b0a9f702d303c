// Package dad is Duplicate Address Detection for one address (RFC 4862 5.4) with looped-back
// probes told from duplicates by their nonces (RFC 7527). It is pure.
package dad

import (
	"slices"
	"time"

	"leveret/appliance/clock"
)

// Nonce is what a probe carries (RFC 3971 5.3.2: at least six octets).
type Nonce [6]byte

// Vars are the variables of one run.
type Vars struct {
	Transmits           int // DupAddrDetectTransmits; 0 = no detection
	RetransTimer        time.Duration
	Enhanced            bool // RFC 7527
	MaxMulticastSolicit int  // more probes after a looped-back one (RFC 7527 4.1)
}

// Outcome is what an input led to.
type Outcome uint8

// The outcomes.
const (
	Nothing   Outcome = iota
	SendProbe         // send an NS for the address from the unspecified one, with the nonce if HasNonce
	Assigned          // the address is unique: assign it
	Duplicate         // somebody else has the address: it must not be used
	Looped            // one of our own probes came back: it says nothing about duplicates
)

// maxExtra bounds the probing on a link that keeps looping: RFC 7527 4.1 lets it end by hand only,
// but a router that never gets its address is of no use to that hand.
const maxExtra = 10

// Machine is one run. One goroutine owns it.
type Machine struct {
	vars     Vars
	nonce    func() Nonce
	deadline clock.Instant
	left     int // probes still to be sent in this round
	sent     []Nonce
	looped   bool // since the last probe
	extra    int  // rounds after the first
	done     bool
}

// Start begins a run. The first probe is sent after delay, which the caller draws from 0 to
// MAX_RTR_SOLICITATION_DELAY where RFC 4862 5.4.2 asks for it. nonce gives a fresh one each time.
func Start(now clock.Instant, v Vars, delay time.Duration, nonce func() Nonce) *Machine {
	m := &Machine{vars: v, nonce: nonce, left: v.Transmits}
	if v.Transmits == 0 {
		delay = 0
	}
	m.deadline = now.Add(delay)
	return m
}

// Deadline returns when Tick is due, or clock.Never when the run is over.
func (m *Machine) Deadline() clock.Instant { return m.deadline }

// Probe returns the nonce of the probe to send; ok is false when probes carry none.
func (m *Machine) Probe() (n Nonce, ok bool) {
	if !m.vars.Enhanced {
		return Nonce{}, false
	}
	return m.sent[len(m.sent)-1], true
}

// Tick does what is due: a probe, or the end of the run.
func (m *Machine) Tick(now clock.Instant) Outcome {
	if m.done || now < m.deadline {
		return Nothing
	}
	if m.left == 0 && m.looped && m.extra < maxExtra {
		m.left, m.extra = m.vars.MaxMulticastSolicit, m.extra+1
	}
	if m.left == 0 {
		m.done, m.deadline = true, clock.Never
		return Assigned
	}
	m.left--
	m.looped = false
	m.deadline = now.Add(m.vars.RetransTimer)
	if m.vars.Enhanced {
		m.sent = append(m.sent, m.nonce())
	}
	return SendProbe
}

// NS takes in a Neighbor Solicitation for the address. unspecified says that it came from ::, so
// that its sender is doing DAD as well; nonce is the one it carries, nil for none.
func (m *Machine) NS(unspecified bool, nonce []byte) Outcome {
	if m.done || !unspecified { // from a unicast address: somebody resolves it (RFC 4862 5.4.3)
		return Nothing
	}
	if m.vars.Enhanced && len(nonce) == len(Nonce{}) && slices.Contains(m.sent, Nonce(nonce)) {
		m.looped = true
		return Looped
	}
	return m.fail()
}

// NA takes in a Neighbor Advertisement for the address (RFC 4862 5.4.4).
func (m *Machine) NA() Outcome {
	if m.done {
		return Nothing
	}
	return m.fail()
}

func (m *Machine) fail() Outcome {
	m.done, m.deadline = true, clock.Never
	return Duplicate
}
