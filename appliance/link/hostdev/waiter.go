package hostdev

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Waiter lets a thread wait for a descriptor to become readable, and others end the wait. The
// thread holds it while it uses the descriptor, so that closing never takes it from under a system
// call.
type Waiter struct {
	fds    [2]unix.PollFd
	closed atomic.Bool
	busy   sync.Mutex
}

// NewWaiter returns a waiter for fd.
func NewWaiter(fd int) (*Waiter, error) {
	e, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Waiter{fds: [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(e), Events: unix.POLLIN}}}, nil
}

// Enter takes the descriptor for a system call; false after Close. Leave gives it back.
func (w *Waiter) Enter() bool {
	w.busy.Lock()
	if w.closed.Load() {
		w.busy.Unlock()
		return false
	}
	return true
}

// Leave ends what Enter began.
func (w *Waiter) Leave() { w.busy.Unlock() }

// Wait returns when there is something to read or Wake was called; false after Close.
func (w *Waiter) Wait() bool {
	w.busy.Lock()
	defer w.busy.Unlock()
	for !w.closed.Load() {
		w.fds[0].Revents, w.fds[1].Revents = 0, 0
		_, err := unix.Poll(w.fds[:], -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if w.fds[1].Revents != 0 {
			var b [8]byte
			_, _ = unix.Read(int(w.fds[1].Fd), b[:]) // empties the counter; it may be empty already
		}
		return !w.closed.Load()
	}
	return false
}

// Wake ends the current or next Wait. Any goroutine.
func (w *Waiter) Wake() {
	one := [8]byte{1}
	_, _ = unix.Write(int(w.fds[1].Fd), one[:]) // cannot fail: the counter is far from full
}

// Close makes every Wait and Enter false, waits until nobody is in between, and then closes the
// descriptor and what the waiter has itself.
func (w *Waiter) Close() error {
	if w.closed.Swap(true) {
		return nil
	}
	w.Wake()
	w.busy.Lock()
	defer w.busy.Unlock()
	return errors.Join(unix.Close(int(w.fds[0].Fd)), unix.Close(int(w.fds[1].Fd)))
}
