package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"leveret/appliance/clock"
)

// stackClock lets netstack run on the appliance's clock.
type stackClock struct{ c clock.Clock }

func (s stackClock) Now() time.Time { return s.c.Wall() }

func (s stackClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Duration(s.c.Now()))
}

func (s stackClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return &stackTimer{c: s.c, f: f, t: s.c.AfterFunc(d, f)}
}

// stackTimer adds to a clock.Timer what netstack wants besides: to be set again.
type stackTimer struct {
	c clock.Clock
	f func()

	mu sync.Mutex
	t  clock.Timer
}

func (t *stackTimer) Stop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.t.Stop()
}

func (t *stackTimer) Reset(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r, ok := t.t.(interface{ Reset(time.Duration) bool }); ok { // the machine's clock: no allocation
		r.Reset(d)
		return
	}
	t.t.Stop()
	t.t = t.c.AfterFunc(d, t.f)
}
