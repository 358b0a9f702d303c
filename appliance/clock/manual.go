package clock

import (
	"sync"
	"time"
)

// manualStart is what a manual clock shows at first: whole seconds read well in scenarios.
const manualStart = Instant(time.Second)

// Manual is a clock that stands still until a test moves it.
type Manual struct {
	mu     sync.Mutex
	now    Instant
	timers Queue[func()]
}

// NewManual returns a clock that shows one second.
func NewManual() *Manual { return &Manual{now: manualStart} }

// Now implements [Clock].
func (m *Manual) Now() Instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Wall implements [Clock]: a fixed day plus the time advanced, so that captures of one seed are
// the same octet by octet.
func (m *Manual) Wall() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(m.Now().Sub(manualStart))
}

// AfterFunc implements [Clock]. The call is made by the Advance or AdvanceTo that reaches it.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &manualTimer{m, Alarm[func()]{Item: f}}
	m.timers.Set(&t.alarm, m.now.Add(max(d, 0)))
	return t
}

// Deadline returns when the next AfterFunc call is due, or [Never].
func (m *Manual) Deadline() Instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.timers.Next()
}

// Advance moves the clock by d and makes every call that falls due, each at its own instant and
// in the order of their times.
func (m *Manual) Advance(d time.Duration) { m.AdvanceTo(m.Now().Add(d)) }

// AdvanceTo moves the clock to end, as [Manual.Advance]; it never moves back.
func (m *Manual) AdvanceTo(end Instant) {
	for {
		m.mu.Lock()
		a := m.timers.Due(end)
		if a == nil {
			m.now = max(m.now, end)
			m.mu.Unlock()
			return
		}
		m.now = max(m.now, a.When())
		m.timers.Remove(a)
		m.mu.Unlock()
		a.Item()
	}
}

type manualTimer struct {
	m     *Manual
	alarm Alarm[func()]
}

// Stop implements [Timer].
func (t *manualTimer) Stop() bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	return t.m.timers.Remove(&t.alarm)
}
