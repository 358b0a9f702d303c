package appliance

import (
	"context"
	"errors"
	"sync"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

// mailBatch is how many messages a loop takes before it looks at its deadline again.
const mailBatch = 64

// errStopped is what a call gets when the loop it waits for has ended.
var errStopped = errors.New("the appliance is stopping")

// loop runs one module: everything that touches the module's state happens here, one thing after
// the other. In a running appliance it is a goroutine; with a manual clock, step is called instead.
type loop struct {
	mod   module.Module
	clock clock.Clock
	mail  mailbox
	batch [mailBatch]module.Event

	mu     sync.Mutex
	calls  []func(now clock.Instant)
	wake   chan struct{} // holds a token while there is mail or a call, or the deadline may have moved
	ended  chan struct{}
	quit   chan struct{}
	manual bool
	began  bool
}

func newLoop(m module.Module, c clock.Clock, manual bool) *loop {
	return &loop{
		mod: m, clock: c, manual: manual,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), quit: make(chan struct{}),
	}
}

// post queues f for the loop. Any goroutine.
func (l *loop) post(f func(now clock.Instant)) {
	l.mu.Lock()
	l.calls = append(l.calls, f)
	l.mu.Unlock()
	l.nudge()
}

func (l *loop) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// call runs f on the loop and waits for it.
func (l *loop) call(ctx context.Context, f func(now clock.Instant)) error {
	done := make(chan struct{})
	l.post(func(now clock.Instant) {
		defer close(done)
		f(now)
	})
	if l.manual { // the caller is the one that steps
		l.step()
	}
	select {
	case <-done:
		return nil
	case <-l.ended:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// start begins to run the loop of a module that has been started.
func (l *loop) start() {
	l.began = true
	if !l.manual {
		go l.run()
	}
}

// stop ends the loop and the module, if they began, and returns when that is done.
func (l *loop) stop() {
	switch {
	case !l.began:
	case l.manual:
		l.drain()
		l.mod.Stop(l.clock.Now())
		close(l.ended)
	default:
		close(l.quit)
		<-l.ended
	}
	l.began = false
}

// run is the loop's goroutine. It returns after the module's Stop.
func (l *loop) run() {
	defer close(l.ended)
	var timer clock.Timer
	armed := clock.Never
	for {
		if d := l.mod.Deadline(); d != armed {
			if timer != nil {
				timer.Stop()
				timer = nil
			}
			if armed = d; d != clock.Never {
				timer = l.clock.AfterFunc(max(d.Sub(l.clock.Now()), 0), l.nudge)
			}
		}
		select {
		case <-l.wake:
		case <-l.quit:
			if timer != nil {
				timer.Stop()
			}
			l.drain()
			l.mod.Stop(l.clock.Now())
			return
		}
		l.drain()
		if l.receive() {
			l.nudge() // there may be more
		}
		if now := l.clock.Now(); l.mod.Deadline() <= now {
			armed = clock.Never // fired: what follows is armed anew even if it is the same instant
			l.mod.Tick(now)
		}
	}
}

// receive gives the module a batch of its mail; it reports whether there was any.
func (l *loop) receive() bool {
	n := l.mail.take(l.batch[:])
	for i := range n {
		l.mod.Receive(l.clock.Now(), l.batch[i])
		l.batch[i] = module.Event{}
	}
	return n > 0
}

// drain makes the queued calls; it reports whether there were any.
func (l *loop) drain() bool {
	worked := false
	for {
		l.mu.Lock()
		calls := l.calls
		l.calls = nil
		l.mu.Unlock()
		if len(calls) == 0 {
			return worked
		}
		worked = true
		for _, f := range calls {
			f(l.clock.Now())
		}
	}
}

// step does everything there is to do right now, on the caller's goroutine, and reports whether
// there was anything.
func (l *loop) step() bool {
	worked := l.drain()
	for l.receive() {
		worked = true
	}
	if now := l.clock.Now(); l.mod.Deadline() <= now {
		l.mod.Tick(now)
		worked = true
	}
	return worked
}
