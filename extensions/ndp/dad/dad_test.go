package dad

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
)

const start = clock.Instant(1e9)

func vars(transmits int) Vars {
	return Vars{Transmits: transmits, RetransTimer: time.Second, Enhanced: true, MaxMulticastSolicit: 3}
}

// counting returns nonces 1, 2, 3...
func counting() func() Nonce {
	n := byte(0)
	return func() Nonce { n++; return Nonce{n} }
}

// run advances a machine to its end, feeding it loops after each of the first n probes.
func run(m *Machine, loops int) (log []string, end clock.Instant) {
	for m.Deadline() != clock.Never {
		now := m.Deadline()
		switch m.Tick(now) {
		case SendProbe:
			n, _ := m.Probe()
			log = append(log, fmt.Sprintf("%s probe %d", now.Sub(start), n[0]))
			if loops > 0 {
				loops--
				if o := m.NS(true, n[:]); o != Looped {
					log = append(log, fmt.Sprintf("loop was taken for %d", o))
				}
			}
		case Assigned:
			log = append(log, fmt.Sprintf("%s assigned", now.Sub(start)))
		}
		end = now
	}
	return log, end
}

func TestTiming(t *testing.T) {
	for _, c := range []struct {
		name  string
		v     Vars
		delay time.Duration
		loops int
		want  []string
	}{
		{"one probe after a delay", vars(1), 300 * time.Millisecond, 0, []string{"300ms probe 1", "1.3s assigned"}},
		{"three probes", vars(3), 0, 0, []string{"0s probe 1", "1s probe 2", "2s probe 3", "3s assigned"}},
		{"no detection", vars(0), time.Second, 0, []string{"0s assigned"}},
		{"the probe comes back", vars(1), 0, 1, []string{"0s probe 1", "1s probe 2", "2s probe 3", "3s probe 4", "4s assigned"}},
		{"an early probe comes back, the last does not", vars(2), 0, 1, []string{"0s probe 1", "1s probe 2", "2s assigned"}},
		{"more come back", vars(1), 0, 4, []string{"0s probe 1", "1s probe 2", "2s probe 3", "3s probe 4", "4s probe 5", "5s probe 6", "6s probe 7", "7s assigned"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := run(Start(start, c.v, c.delay, counting()), c.loops)
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestLoopForEverEnds: the address is assigned in the end, having been seen nowhere else.
func TestLoopForEverEnds(t *testing.T) {
	log, end := run(Start(start, vars(1), 0, counting()), 1000)
	if len(log) != 1+maxExtra*3+1 || end.Sub(start) != (1+maxExtra*3)*time.Second {
		t.Errorf("%d lines, ended after %s", len(log), end.Sub(start))
	}
}

// TestInputs: RFC 4862 5.4.3 and 5.4.4, RFC 7527 4.2.
func TestInputs(t *testing.T) {
	for _, c := range []struct {
		name     string
		enhanced bool
		input    func(*Machine) Outcome
		want     Outcome
	}{
		{"NS from a unicast address", true, func(m *Machine) Outcome { return m.NS(false, nil) }, Nothing},
		{"NS of somebody else's DAD", true, func(m *Machine) Outcome { return m.NS(true, []byte{9, 9, 9, 9, 9, 9}) }, Duplicate},
		{"NS of somebody else's DAD, no nonce", true, func(m *Machine) Outcome { return m.NS(true, nil) }, Duplicate},
		{"our first probe comes back", true, func(m *Machine) Outcome { return m.NS(true, []byte{1, 0, 0, 0, 0, 0}) }, Looped},
		{"our second probe comes back", true, func(m *Machine) Outcome { return m.NS(true, []byte{2, 0, 0, 0, 0, 0}) }, Looped},
		{"a nonce of another length", true, func(m *Machine) Outcome { return m.NS(true, make([]byte, 14)) }, Duplicate},
		{"without RFC 7527 a loop is a duplicate", false, func(m *Machine) Outcome { return m.NS(true, nil) }, Duplicate},
		{"NA", true, (*Machine).NA, Duplicate},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := vars(2)
			v.Enhanced = c.enhanced
			m := Start(start, v, 0, counting())
			m.Tick(start)
			m.Tick(start.Add(time.Second))
			if _, ok := m.Probe(); ok != c.enhanced {
				t.Errorf("probe carries a nonce: %v", ok)
			}
			if got := c.input(m); got != c.want {
				t.Errorf("outcome %d, want %d", got, c.want)
			}
			if (m.Deadline() == clock.Never) != (c.want == Duplicate) {
				t.Errorf("deadline %d", m.Deadline())
			}
			if c.want == Duplicate && (m.NA() != Nothing || m.NS(true, nil) != Nothing || m.Tick(clock.Never) != Nothing) {
				t.Error("a run that is over still says something")
			}
		})
	}
}

// TestDuplicateBeforeTheFirstProbe: somebody else is faster (RFC 4862 5.4.3).
func TestDuplicateBeforeTheFirstProbe(t *testing.T) {
	m := Start(start, vars(1), time.Second, counting())
	if m.NS(true, []byte{9, 9, 9, 9, 9, 9}) != Duplicate {
		t.Error("not detected")
	}
}
