package clock

import (
	"container/heap"
	"sync"
	"time"
)

// manualStart is what a manual clock shows at first: whole seconds read well in scenarios.
const manualStart = Instant(time.Second)

// Manual is a clock that stands still until a test moves it.
type Manual struct {
	mu     sync.Mutex
	now    Instant
	seq    uint64
	timers timerHeap
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
	m.seq++
	t := &manualTimer{m: m, at: m.now.Add(max(d, 0)), seq: m.seq, f: f}
	heap.Push(&m.timers, t)
	return t
}

// Deadline returns when the next AfterFunc call is due, or [Never].
func (m *Manual) Deadline() Instant {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.timers) == 0 {
		return Never
	}
	return m.timers[0].at
}

// Advance moves the clock by d and makes every call that falls due, each at its own instant and
// in the order of their times.
func (m *Manual) Advance(d time.Duration) { m.AdvanceTo(m.Now().Add(d)) }

// AdvanceTo moves the clock to end, as [Manual.Advance]; it never moves back.
func (m *Manual) AdvanceTo(end Instant) {
	for {
		m.mu.Lock()
		if len(m.timers) == 0 || m.timers[0].at > end {
			m.now = max(m.now, end)
			m.mu.Unlock()
			return
		}
		t := heap.Pop(&m.timers).(*manualTimer)
		m.now = max(m.now, t.at)
		m.mu.Unlock()
		t.f()
	}
}

type manualTimer struct {
	m     *Manual
	at    Instant
	seq   uint64
	f     func()
	index int // in the heap; -1 once popped
}

// Stop implements [Timer].
func (t *manualTimer) Stop() bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.m.timers, t.index)
	return true
}

// timerHeap orders by time, then by age, so that equal times fire in the order they were set.
type timerHeap []*manualTimer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}
func (h *timerHeap) Push(x any) {
	t := x.(*manualTimer)
	t.index = len(*h)
	*h = append(*h, t)
}
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
