// Package clock gives the whole appliance one notion of time, so that a test can own it.
//
// An [Instant] is monotonic and has 64 bits of nanoseconds: it does not overflow within 292
// years, and "never" is a value of its own rather than a large number. Cores take instants as
// arguments; only the runtime asks a [Clock].
package clock

import (
	"math"
	"time"
)

// Instant is a point of monotonic time in nanoseconds since its clock started. The zero value
// means "not set"; every clock starts above it.
type Instant int64

// Never is later than every instant a clock returns. A core with nothing to wait for returns it
// as its deadline.
const Never Instant = math.MaxInt64

// Add returns i moved by d. It saturates at [Never] and leaves Never where it is.
func (i Instant) Add(d time.Duration) Instant {
	if i == Never || (d > 0 && i > Never-Instant(d)) {
		return Never
	}
	return i + Instant(d)
}

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Earliest returns the earlier of two deadlines.
func Earliest(a, b Instant) Instant {
	if a < b {
		return a
	}
	return b
}

// Timer is one pending call made by [Clock.AfterFunc].
type Timer interface {
	// Stop keeps the call from being made; it reports whether it was in time.
	Stop() bool
}

// Clock tells the time and calls back later. Any goroutine may use it.
type Clock interface {
	// Now returns the monotonic time.
	Now() Instant
	// Wall returns the calendar time, for logs and captures only: no protocol depends on it.
	Wall() time.Time
	// AfterFunc calls f once d has passed: on a goroutine of its own with [Real], from Advance
	// with [Manual].
	AfterFunc(d time.Duration, f func()) Timer
}

// Real is the machine's clock.
type Real struct{ start time.Time }

// NewReal returns a clock whose first instant is one nanosecond.
func NewReal() *Real { return &Real{start: time.Now().Add(-1)} }

// Now implements [Clock].
func (r *Real) Now() Instant { return Instant(time.Since(r.start)) }

// Wall implements [Clock].
func (r *Real) Wall() time.Time { return time.Now() }

// AfterFunc implements [Clock].
func (r *Real) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
