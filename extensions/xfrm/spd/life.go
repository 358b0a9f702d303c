package spd

import (
	"math"
	"time"

	"leveret/appliance/clock"
)

// Usage is what packets make known of a policy. The owner of the database makes it, and whoever uses the policy changes
// it.
type Usage interface {
	// Note is called for each packet that a policy is for, by any goroutine.
	Note()
	// First returns when the policy was used first; 0 = never.
	First() clock.Instant
}

// Expire is that a policy has reached a limit of time: the soft one, once, to be replaced; or the hard one, with which
// it has left the database.
type Expire struct {
	Policy *Policy
	Hard   bool
}

// Note notes that a policy was used.
func (p *Policy) Note() {
	if p.Usage != nil {
		p.Usage.Note()
	}
}

// used is when a policy was used first; 0 = never.
func (p *Policy) used() clock.Instant {
	if p.Usage == nil {
		return 0
	}
	return p.Usage.First()
}

// limits returns when the time of a policy is over. What is counted from the first use has not begun before it.
//
// DEVIATION(Linux): it counts from the last use, and from when the policy was added while there was none.
func (p *Policy) limits(used clock.Instant) (soft, hard clock.Instant) {
	soft, hard = clock.Never, clock.Never
	earlier := func(t *clock.Instant, from clock.Instant, n uint64) {
		if n != 0 && from != 0 {
			*t = clock.Earliest(*t, after(from, n))
		}
	}
	l := &p.Lifetime
	earlier(&hard, p.Added, l.HardAdd)
	earlier(&hard, used, l.HardUse)
	earlier(&soft, p.Added, l.SoftAdd)
	earlier(&soft, used, l.SoftUse)
	return soft, hard
}

// after is n seconds later; never if that is beyond what an instant holds.
func after(at clock.Instant, n uint64) clock.Instant {
	if n > math.MaxInt64/uint64(time.Second) {
		return clock.Never
	}
	return at.Add(time.Duration(n) * time.Second)
}

// arm sets the timer of a policy to when something is next to be done. Nobody says when a policy is used first: while it
// was not it is looked at as often as what counts from then may end, which is never later than it ends.
func (d *DB) arm(now clock.Instant, n *node) {
	p := n.policy
	used := p.used() // once: it may be used now
	soft, at := p.limits(used)
	if !n.told {
		at = clock.Earliest(at, soft)
	}
	if used == 0 {
		if p.Lifetime.HardUse != 0 {
			at = clock.Earliest(at, after(now, p.Lifetime.HardUse))
		}
		if p.Lifetime.SoftUse != 0 && !n.told {
			at = clock.Earliest(at, after(now, p.Lifetime.SoftUse))
		}
	}
	d.timers.Set(&n.timer, at)
}

// NextDeadline returns when Expire is to be called, [clock.Never] if no policy ends.
func (d *DB) NextDeadline() clock.Instant { return d.timers.Next() }

// Expire appends to out which policies have reached a limit, and deletes those whose was a hard one.
func (d *DB) Expire(now clock.Instant, out []Expire) []Expire {
	for a := d.timers.Due(now); a != nil; a = d.timers.Due(now) {
		n := a.Item
		soft, hard := n.policy.limits(n.policy.used())
		switch {
		case hard <= now:
			d.drop(n)
			out = append(out, Expire{n.policy, true})
			continue
		case soft <= now && !n.told:
			n.told = true
			out = append(out, Expire{n.policy, false})
		}
		d.arm(now, n)
	}
	return out
}
