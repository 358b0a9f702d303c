// Package mld is the listener side of Multicast Listener Discovery for one link (RFC 3810; RFC 2710
// while an older querier is around). Groups are joined for any source. It is pure.
package mld

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
)

// The constants of RFC 3810 9 and RFC 2710 7.
const (
	RobustnessVariable    = 2
	unsolicitedInterval   = time.Second      // RFC 3810 9.11
	unsolicitedIntervalV1 = 10 * time.Second // RFC 2710 7.10
	queryInterval         = 125 * time.Second
	queryResponseInterval = 10 * time.Second
	olderQuerierPresent   = RobustnessVariable*queryInterval + queryResponseInterval // RFC 3810 9.12
	maxGroups             = 4096
)

// RecordType is the type of a group record (RFC 3810 5.2.5).
type RecordType uint8

// The record types that a listener for any source sends.
const (
	ModeIsExclude   RecordType = 2
	ChangeToInclude RecordType = 3
	ChangeToExclude RecordType = 4
)

// Record is one line of a report.
type Record struct {
	Type  RecordType
	Group netip.Addr
}

// Effect is a message to send. With V1, Records has one: a Done for ChangeToInclude, otherwise a
// Report, to the group itself.
type Effect struct {
	V1      bool
	Records []Record
}

// Query is a valid query.
type Query struct {
	V1       bool
	Group    netip.Addr    // :: = general
	MaxDelay time.Duration // the maximum response delay
}

// group is one group joined on the link, or one that was left and whose leaving is still told.
type group struct {
	addr  netip.Addr
	users int
	// change: reports of a change of state still to be sent, and when the next is due.
	change   int
	changeAt clock.Instant
	// answerAt: a current-state report to this group's query is due; Never = none.
	answerAt clock.Instant
	// reported: in v1, we were the last to report, so we say Done.
	reported bool
}

// Listener is the listener of one link. One goroutine owns it.
type Listener struct {
	draw    func() float64 // uniform in [0, 1)
	groups  []*group       // in the order they were joined
	general clock.Instant  // a report of everything is due
	v1Until clock.Instant  // an MLDv1 querier was heard
	hold    clock.Instant  // nothing is reported before
}

// New returns a listener without groups.
func New(draw func() float64) *Listener {
	return &Listener{draw: draw, general: clock.Never}
}

// reported says whether a group is reported at all: not all-nodes, and nothing of a scope that does
// not leave the node (RFC 3810 6, RFC 2710 4).
func reported(a netip.Addr) bool {
	b := a.As16()
	return b[1]&0x0f > 1 && a != netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 1})
}

func (l *Listener) find(a netip.Addr) *group {
	for _, g := range l.groups {
		if g.addr == a {
			return g
		}
	}
	return nil
}

// Join adds a user of a group; it reports whether the group is new, false also when there are too
// many.
func (l *Listener) Join(now clock.Instant, a netip.Addr) bool {
	g := l.find(a)
	switch {
	case g == nil && len(l.groups) >= maxGroups:
		return false
	case g == nil:
		g = &group{addr: a, answerAt: clock.Never, changeAt: clock.Never}
		l.groups = append(l.groups, g)
	case g.users > 0:
		g.users++
		return false
	}
	g.users++
	l.changed(now, g)
	return true
}

// Leave removes a user; it reports whether that was the last one.
func (l *Listener) Leave(now clock.Instant, a netip.Addr) bool {
	g := l.find(a)
	if g == nil || g.users == 0 {
		return false
	}
	if g.users--; g.users > 0 {
		return false
	}
	g.answerAt = clock.Never
	l.changed(now, g)
	if g.change == 0 {
		l.forget(g)
	}
	return true
}

// changed arms the reports of a change: the first one at once, the rest at random.
func (l *Listener) changed(now clock.Instant, g *group) {
	g.change, g.changeAt = 0, clock.Never
	if reported(g.addr) {
		g.change, g.changeAt = RobustnessVariable, max(now, l.hold)
		if g.users == 0 && l.v1(now) {
			g.change = 1
			if !g.reported { // somebody else reported last: they are still there (RFC 2710 4)
				g.change, g.changeAt = 0, clock.Never
			}
		}
	}
}

func (l *Listener) forget(g *group) {
	l.groups = slices.DeleteFunc(l.groups, func(x *group) bool { return x == g })
}

// Hold keeps reports of changes back until at: the first message on a link that has just come up is
// sent after a random delay, so that nodes that come up together do not talk at once (RFC 4862
// 5.4.2).
func (l *Listener) Hold(at clock.Instant) { l.hold = at }

// Restart reports every group anew: the link has come up, or its source address has become usable
// (RFC 3590 4).
func (l *Listener) Restart(now clock.Instant) {
	for _, g := range l.groups {
		if g.users > 0 {
			l.changed(now, g)
		}
	}
}

// v1 reports whether an MLDv1 querier rules the link.
func (l *Listener) v1(now clock.Instant) bool { return now < l.v1Until }

// Heard takes in a query (RFC 3810 6.2, RFC 2710 4).
func (l *Listener) Heard(now clock.Instant, q Query) {
	if q.V1 {
		l.v1Until = now.Add(olderQuerierPresent)
		// What was being told in v2's words is told in v1's.
		l.general = clock.Never
	}
	at := now.Add(time.Duration(l.draw() * float64(q.MaxDelay)))
	if q.Group.IsUnspecified() && !q.V1 {
		if at < l.general {
			l.general = at
		}
		return
	}
	for _, g := range l.groups {
		if g.users == 0 || !reported(g.addr) || !q.Group.IsUnspecified() && g.addr != q.Group {
			continue
		}
		if at = now.Add(time.Duration(l.draw() * float64(q.MaxDelay))); at < g.answerAt && at < l.general {
			g.answerAt = at
		}
	}
}

// HeardReport takes in another listener's MLDv1 report: ours for that group is not needed any more
// (RFC 2710 4).
func (l *Listener) HeardReport(now clock.Instant, a netip.Addr) {
	if g := l.find(a); g != nil && l.v1(now) {
		g.answerAt, g.reported = clock.Never, false
		if g.users > 0 {
			g.change, g.changeAt = 0, clock.Never
		}
	}
}

// Deadline returns when Tick is due, or clock.Never.
func (l *Listener) Deadline() clock.Instant {
	d := l.general
	for _, g := range l.groups {
		d = clock.Earliest(d, clock.Earliest(g.changeAt, g.answerAt))
	}
	return d
}

// Tick returns the messages that are due.
func (l *Listener) Tick(now clock.Instant) []Effect {
	var out []Effect
	var records []Record
	v1 := l.v1(now)
	for _, g := range slices.Clone(l.groups) {
		if g.answerAt <= now {
			g.answerAt = clock.Never
			out = append(out, l.one(g, v1, Record{ModeIsExclude, g.addr}))
		}
		if g.changeAt > now {
			continue
		}
		r := Record{ChangeToExclude, g.addr}
		if g.users == 0 {
			r.Type = ChangeToInclude
		}
		if v1 {
			out = append(out, l.one(g, true, r))
		} else {
			records = append(records, r)
		}
		interval := unsolicitedInterval
		if v1 {
			interval = unsolicitedIntervalV1
		}
		if g.change--; g.change > 0 {
			g.changeAt = now.Add(time.Duration((1 - l.draw()) * float64(interval))) // (0, interval]
			continue
		}
		g.changeAt = clock.Never
		if g.users == 0 {
			l.forget(g)
		}
	}
	if len(records) > 0 {
		out = append(out, Effect{Records: records})
	}
	if l.general <= now {
		l.general = clock.Never
		var all []Record
		for _, g := range l.groups {
			if g.users > 0 && reported(g.addr) {
				all = append(all, Record{ModeIsExclude, g.addr})
			}
		}
		if len(all) > 0 {
			out = append(out, Effect{Records: all})
		}
	}
	return out
}

func (l *Listener) one(g *group, v1 bool, r Record) Effect {
	g.reported = r.Type != ChangeToInclude
	return Effect{V1: v1, Records: []Record{r}}
}

// Member is one joined group.
type Member struct {
	Addr  netip.Addr
	Users int
}

// Members lists the joined groups in the order they were joined.
func (l *Listener) Members() []Member {
	var out []Member
	for _, g := range l.groups {
		if g.users > 0 {
			out = append(out, Member{g.addr, g.users})
		}
	}
	return out
}
