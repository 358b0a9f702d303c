package mld

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
)

const start = clock.Instant(1e9)

var (
	g1  = netip.MustParseAddr("ff02::1:ff00:1")
	g2  = netip.MustParseAddr("ff05::2")
	all = netip.MustParseAddr("ff02::1")
)

// play advances a listener until nothing is due any more, at most to end, and logs what it sends.
func play(l *Listener, end clock.Instant) (log []string) {
	for d := l.Deadline(); d <= end; d = l.Deadline() {
		for _, e := range l.Tick(d) {
			s := d.Sub(start).String()
			if e.V1 {
				s += " v1"
			}
			for _, r := range e.Records {
				s += fmt.Sprintf(" %d:%s", r.Type, r.Group)
			}
			log = append(log, s)
		}
	}
	return log
}

func listener() *Listener { return New(func() float64 { return 0.5 }) }

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestJoinAndLeaveAreToldTwice: Robustness Variable times (RFC 3810 6.1).
func TestJoinAndLeaveAreToldTwice(t *testing.T) {
	l := listener()
	if !l.Join(start, g1) || l.Join(start, g1) {
		t.Error("the second user is no change")
	}
	expect(t, play(l, start.Add(time.Minute)), "0s 4:ff02::1:ff00:1", "500ms 4:ff02::1:ff00:1")
	if l.Leave(start.Add(time.Minute), g1) || !l.Leave(start.Add(time.Minute), g1) {
		t.Error("the last user leaves")
	}
	expect(t, play(l, start.Add(time.Hour)), "1m0s 3:ff02::1:ff00:1", "1m0.5s 3:ff02::1:ff00:1")
	if len(l.Members()) != 0 || len(l.groups) != 0 {
		t.Error("the group is not forgotten")
	}
}

// TestAllNodesIsNeverReported: RFC 3810 6.
func TestAllNodesIsNeverReported(t *testing.T) {
	l := listener()
	l.Join(start, all)
	l.Join(start, netip.MustParseAddr("ff01::5"))
	l.Heard(start, Query{Group: netip.IPv6Unspecified(), MaxDelay: time.Second})
	expect(t, play(l, start.Add(time.Hour)))
	if len(l.Members()) != 2 {
		t.Error("not joined")
	}
	l.Leave(start, all)
	if len(l.Members()) != 1 {
		t.Error("not left")
	}
}

// TestQueries: general, for a group, for somebody else's group.
func TestQueries(t *testing.T) {
	l := listener()
	l.Join(start, g1)
	l.Join(start, g2)
	play(l, start.Add(time.Minute))
	at := start.Add(time.Minute)
	l.Heard(at, Query{Group: netip.IPv6Unspecified(), MaxDelay: 10 * time.Second})
	expect(t, play(l, clock.Never-1), "1m5s 2:ff02::1:ff00:1 2:ff05::2")
	l.Heard(at, Query{Group: g2, MaxDelay: 2 * time.Second})
	expect(t, play(l, clock.Never-1), "1m1s 2:ff05::2")
	l.Heard(at, Query{Group: netip.MustParseAddr("ff05::9"), MaxDelay: 2 * time.Second})
	expect(t, play(l, clock.Never-1))
}

// TestOlderQuerier: with an MLDv1 querier around, its messages are sent, until it has been silent for
// long enough (RFC 3810 8.2.1).
func TestOlderQuerier(t *testing.T) {
	l := listener()
	l.Join(start, g1)
	play(l, start.Add(time.Minute))
	at := start.Add(time.Minute)
	l.Heard(at, Query{V1: true, Group: netip.IPv6Unspecified(), MaxDelay: 10 * time.Second})
	expect(t, play(l, start.Add(2*time.Minute)), "1m5s v1 2:ff02::1:ff00:1")
	l.Leave(start.Add(2*time.Minute), g1)
	expect(t, play(l, start.Add(3*time.Minute)), "2m0s v1 3:ff02::1:ff00:1")
	l.Join(start.Add(10*time.Minute), g1)
	expect(t, play(l, start.Add(11*time.Minute)), "10m0s 4:ff02::1:ff00:1", "10m0.5s 4:ff02::1:ff00:1")
}

// TestV1ReportOfAnotherSuppresses: RFC 2710 4.
func TestV1ReportOfAnotherSuppresses(t *testing.T) {
	l := listener()
	l.Join(start, g1)
	play(l, start.Add(time.Minute))
	at := start.Add(time.Minute)
	l.Heard(at, Query{V1: true, Group: g1, MaxDelay: 10 * time.Second})
	l.HeardReport(at.Add(time.Second), g1)
	expect(t, play(l, at.Add(time.Minute)))
	l.Leave(at.Add(time.Minute), g1) // the other one is still there: no Done
	expect(t, play(l, at.Add(time.Hour)))
}

func TestRestartReportsEverything(t *testing.T) {
	l := listener()
	l.Join(start, g1)
	l.Join(start, g2)
	play(l, start.Add(time.Minute))
	l.Restart(start.Add(time.Minute))
	expect(t, play(l, clock.Never-1), "1m0s 4:ff02::1:ff00:1 4:ff05::2", "1m0.5s 4:ff02::1:ff00:1 4:ff05::2")
}

// TestHold: nothing is said on a link that has just come up, then everything at once.
func TestHold(t *testing.T) {
	l := listener()
	l.Hold(start.Add(700 * time.Millisecond))
	l.Join(start, g1)
	l.Join(start, g2)
	expect(t, play(l, clock.Never-1), "700ms 4:ff02::1:ff00:1 4:ff05::2", "1.2s 4:ff02::1:ff00:1 4:ff05::2")
}

func TestGroupsAreBounded(t *testing.T) {
	l := listener()
	for i := range maxGroups + 10 {
		l.Join(start, netip.AddrFrom16([16]byte{0: 0xff, 1: 5, 14: byte(i >> 8), 15: byte(i)}))
	}
	if n := len(l.Members()); n != maxGroups {
		t.Errorf("%d groups", n)
	}
}
