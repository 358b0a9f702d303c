package clock

import (
	"slices"
	"testing"
	"time"
)

func TestInstantSaturates(t *testing.T) {
	if got := Never.Add(time.Hour); got != Never {
		t.Errorf("Never + 1h = %d", got)
	}
	if got := (Never - 1).Add(time.Hour); got != Never {
		t.Errorf("(Never-1) + 1h = %d, want Never", got)
	}
	if got := Instant(5).Add(-3); got != 2 {
		t.Errorf("5 - 3 = %d", got)
	}
	if got := Earliest(Never, 7); got != 7 {
		t.Errorf("Earliest(Never, 7) = %d", got)
	}
}

func TestManualFiresInOrderAtTheirInstants(t *testing.T) {
	m := NewManual()
	start := m.Now()
	var got []time.Duration
	mark := func() { got = append(got, m.Now().Sub(start)) }
	m.AfterFunc(3*time.Second, mark)
	m.AfterFunc(time.Second, func() {
		mark()
		m.AfterFunc(time.Second, mark) // set while advancing: due inside the same Advance
	})
	stopped := m.AfterFunc(2*time.Second, func() { t.Error("a stopped timer fired") })
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop must be true once, then false")
	}
	if d := m.Deadline(); d != start.Add(time.Second) {
		t.Errorf("Deadline = %d", d)
	}
	m.Advance(10 * time.Second)
	want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}
	if !slices.Equal(got, want) {
		t.Errorf("fired at %v, want %v", got, want)
	}
	if m.Now() != start.Add(10*time.Second) || m.Deadline() != Never {
		t.Errorf("now %d, deadline %d", m.Now(), m.Deadline())
	}
}

func TestRealIsMonotonicAndStartsAboveZero(t *testing.T) {
	r := NewReal()
	a := r.Now()
	if a <= 0 {
		t.Errorf("first instant is %d", a)
	}
	done := make(chan struct{})
	r.AfterFunc(time.Millisecond, func() { close(done) })
	<-done
	if b := r.Now(); b.Sub(a) < time.Millisecond {
		t.Errorf("%s passed before a timer of 1 ms fired", b.Sub(a))
	}
}
