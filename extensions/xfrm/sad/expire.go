package sad

import "leveret/appliance/clock"

// Expire is that a state has reached a limit: the soft one, once, to be replaced; or the hard one, with
// which it has left the database. A larval state that nobody answered is a hard one with KM Acq.
type Expire struct {
	State *State
	Hard  bool
}

// arm sets the timer of a state to when something is next to be done.
func (db *DB) arm(now clock.Instant, e *entry) { db.timers.Set(&e.timer, db.next(now, e.s)) }

// limits returns when the time of a state is over, softly and hard; used is when its first packet was,
// 0 = there was none.
func (db *DB) limits(s *State, used clock.Instant) (soft, hard clock.Instant) {
	soft, hard = clock.Never, clock.Never
	if s.KM == Acq {
		return soft, s.Live.Added.Add(db.o.AcqExpires)
	}
	earlier := func(t *clock.Instant, from clock.Instant, n uint64) {
		if n != 0 && from != 0 {
			*t = clock.Earliest(*t, seconds(from, n))
		}
	}
	earlier(&hard, s.Live.Added, s.Life.HardAdd)
	earlier(&hard, used, s.Life.HardUse)
	earlier(&soft, s.Live.Added, s.Life.SoftAdd)
	earlier(&soft, used, s.Life.SoftUse)
	return soft, hard
}

// next returns when to look at a state again. Workers do not say when they use one first: while it was
// not used it is looked at as often as what counts from then may end, which is never later than it ends.
func (db *DB) next(now clock.Instant, s *State) clock.Instant {
	used, _ := s.Live.Used() // once: a worker may be using it now
	soft, at := db.limits(s, used)
	told := s.Live.status.Load()&dying != 0
	if !told {
		at = clock.Earliest(at, soft)
	}
	if used == 0 && s.KM == Valid {
		if s.Life.HardUse != 0 {
			at = clock.Earliest(at, seconds(now, s.Life.HardUse))
		}
		if s.Life.SoftUse != 0 && !told {
			at = clock.Earliest(at, seconds(now, s.Life.SoftUse))
		}
	}
	return at
}

// NextDeadline returns when Expire is to be called, [clock.Never] if no state ends.
func (db *DB) NextDeadline() clock.Instant { return db.timers.Next() }

// Expire appends to out which states have reached a limit of time, and deletes those whose was a hard one.
func (db *DB) Expire(now clock.Instant, out []Expire) []Expire {
	for a := db.timers.Due(now); a != nil; a = db.timers.Due(now) {
		s := a.Item.s
		used, _ := s.Live.Used()
		soft, hard := db.limits(s, used)
		switch {
		case hard <= now:
			db.remove(s)
			out = append(out, Expire{s, true})
			continue
		case soft <= now && s.Live.latch(dying):
			out = append(out, Expire{s, false})
		}
		db.arm(now, s.Live.own)
	}
	return out
}

// Reached is what a worker's verdict makes of a state: the limits of octets and packets, and with
// SeqReached the end of its sequence numbers, with which it is softly expired. The state may be of an
// older generation, or gone.
func (db *DB) Reached(s *State, v Verdict, out []Expire) []Expire {
	status := s.Live.status.Load()
	if status&dead != 0 {
		return out
	}
	s = s.Live.own.s
	switch { // an update meanwhile has cleared what was told
	case v == HardReached && status&hardTold != 0:
		db.remove(s)
		out = append(out, Expire{s, true})
	case (v == SoftReached && status&softTold != 0 || v == SeqReached && status&seqTold != 0) && s.Live.latch(dying):
		out = append(out, Expire{s, false})
	}
	return out
}
