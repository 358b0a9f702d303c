package sad

import (
	"container/heap"

	"leveret/appliance/clock"
)

// Expire is that a state has reached a limit: the soft one, once, to be replaced; or the hard one, with
// which it has left the database. A larval state that nobody answered is a hard one with KM Acq.
type Expire struct {
	State *State
	Hard  bool
}

// timers is a heap by deadline; a state that has none is not in it.
type timers []*entry

// Len implements heap.Interface.
func (t timers) Len() int { return len(t) }

// Less implements heap.Interface.
func (t timers) Less(i, j int) bool { return t[i].deadline < t[j].deadline }

// Swap implements heap.Interface.
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].pos, t[j].pos = i, j
}

// Push implements heap.Interface.
func (t *timers) Push(x any) {
	e := x.(*entry)
	e.pos = len(*t)
	*t = append(*t, e)
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	old := *t
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*t, e.pos = old[:len(old)-1], -1
	return e
}

// arm sets the timer of a state to when something is next to be done.
func (db *DB) arm(now clock.Instant, e *entry) {
	e.deadline = db.next(now, e.s)
	switch {
	case e.deadline != clock.Never && e.pos >= 0:
		heap.Fix(&db.timers, e.pos)
	case e.deadline != clock.Never:
		heap.Push(&db.timers, e)
	case e.pos >= 0:
		heap.Remove(&db.timers, e.pos)
	}
}

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
func (db *DB) NextDeadline() clock.Instant {
	if len(db.timers) == 0 {
		return clock.Never
	}
	return db.timers[0].deadline
}

// Expire appends to out which states have reached a limit of time, and deletes those whose was a hard one.
func (db *DB) Expire(now clock.Instant, out []Expire) []Expire {
	for len(db.timers) > 0 && db.timers[0].deadline <= now {
		s := db.timers[0].s
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
