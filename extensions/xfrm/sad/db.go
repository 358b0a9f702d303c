package sad

import (
	"fmt"
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
)

// Options are what a database is made with.
type Options struct {
	// NewWork makes that of a valid state of ESP or AH. nil: none is made.
	NewWork func(*State) (Work, error)
	Seed    uint64 // of hashes: not to be known outside

	MaxStates  int           // 0 = 131,072
	MaxLarval  int           // of them; 0 = 1,024
	AcqExpires time.Duration // how long a larval state waits; 0 = 30 s (sysctl xfrm_acq_expires)

	AllowLegacy bool // see [State.Check]
}

// DB is the database. One goroutine owns it and gives the others snapshots.
type DB struct {
	o Options
	tables
	edition uint64 // of what may be changed in place
	genid   uint64
	ord     uint64    // of the last state put into the indexes
	snap    *Snapshot // nil if something has changed since

	first     *entry // the newest
	n, larval int
	waiting   map[want]*State   // larval states
	bySeq     map[uint32]*State // those of an ACQUIRE
	seq       uint32            // of the last ACQUIRE
	timers    clock.Queue[*entry]
}

// entry is what the owner knows of a state through all generations of it.
type entry struct {
	s          *State
	prev, next *entry // newer, older
	timer      clock.Alarm[*entry]
}

// New returns an empty database.
func New(o Options) *DB {
	if o.MaxStates == 0 {
		o.MaxStates = 1 << 17
	}
	if o.MaxLarval == 0 {
		o.MaxLarval = 1024
	}
	if o.AcqExpires == 0 {
		o.AcqExpires = 30 * time.Second
	}
	return &DB{o: o, tables: tables{seed: o.Seed}, waiting: map[want]*State{}, bySeq: map[uint32]*State{}}
}

// AllowLegacy changes what [Options] say of new states.
func (db *DB) AllowLegacy(allow bool) { db.o.AllowLegacy = allow }

// Snapshot returns the database as it is. What changes before the next call is changed in place, so that
// many changes with one snapshot after them cost little.
func (db *DB) Snapshot() *Snapshot {
	if db.snap == nil {
		db.snap = &Snapshot{tables: db.tables, genid: db.genid, n: db.n}
		db.edition++
	}
	return db.snap
}

func (db *DB) changed() {
	db.genid++
	db.snap = nil
}

// Count is the number of states, larval ones too.
func (db *DB) Count() int { return db.n }

// List returns all states, the newest first, as Linux lists them.
func (db *DB) List() []*State {
	out := make([]*State, 0, db.n)
	for e := db.first; e != nil; e = e.next {
		out = append(out, e.s)
	}
	return out
}

// bucket returns the states that may have an ID; those without an SPI are found with saddr.
func (db *DB) bucket(id *ID, saddr netip.Addr) *bucket {
	if id.Proto.HasSPI() {
		return db.byID.get(db.idHash(id))
	}
	return db.byAddrs.get(db.addrsHash(id.DAddr, saddr, id.Proto))
}

// find returns the newest state with an ID and a source that match accepts.
func (db *DB) find(id *ID, saddr netip.Addr, match func(*State) bool) *State {
	for s := range db.bucket(id, saddr).newest {
		if s.ID == *id && (id.Proto.HasSPI() || s.SAddr == saddr) && match(s) {
			return s
		}
	}
	return nil
}

// taken reports whether a state, of those that do not leave, has the key of a new one: the same ID, a mark
// that takes the new one's, and the source where it is of the key.
func (db *DB) taken(s *State, leaves map[*State]bool) bool {
	return nil != db.find(&s.ID, s.SAddr, func(o *State) bool {
		return o.Mark.matches(s.Mark.Value) && o.SrcSelective == s.SrcSelective && (!s.SrcSelective || o.SAddr == s.SAddr) &&
			(o.KM == Valid || o.SPI != 0) && !leaves[o]
	})
}

// Get returns the newest state of an ID whose mark takes the given one. A source that is given has to be
// the state's, also where packets are not compared with it; without an SPI it is of the name, and :: if it is not given.
func (db *DB) Get(id ID, saddr netip.Addr, mark Mark) (*State, error) {
	if !id.Proto.HasSPI() && !saddr.IsValid() {
		saddr = netip.IPv6Unspecified()
	}
	s := db.find(&id, saddr, func(o *State) bool {
		return o.Mark.matches(mark.Value&mark.Mask) && (!saddr.IsValid() || o.SAddr == saddr)
	})
	if s == nil {
		return nil, ErrNotFound
	}
	return s, nil
}

// Add adds a state, of which it keeps a copy. The larval state that it is the answer to is replaced: by
// its sequence number, else one that waits for what the new state is; what waits for it can go on.
func (db *DB) Add(now clock.Instant, s *State) (added, replaced *State, err error) {
	c := *s
	if err := c.Check(db.o.AllowLegacy); err != nil {
		return nil, nil, err
	}
	if db.taken(&c, nil) {
		return nil, nil, ErrExist
	}
	replaced = db.answered(&c)
	if replaced == nil && db.n >= db.o.MaxStates {
		return nil, nil, ErrFull
	}
	work, err := db.work(&c)
	if err != nil {
		return nil, nil, err
	}
	db.replaceLarval(replaced)
	return db.insert(now, &c, Valid, work), replaced, nil
}

func (db *DB) work(s *State) (Work, error) {
	if db.o.NewWork == nil || s.Proto != proto.ESP && s.Proto != proto.AH {
		return nil, nil
	}
	return db.o.NewWork(s)
}

// Updates returns the state that [DB.Update] would change, nil if there is none.
func (db *DB) Updates(s *State) *State {
	return db.find(&s.ID, s.SAddr, func(o *State) bool {
		return o.Mark == s.Mark && o.SrcSelective == s.SrcSelective && (o.SAddr == s.SAddr || s.SAddr.IsUnspecified())
	})
}

// Update changes a state that has the same ID, mark and source, :: standing for whatever it has. Counters
// and sequence numbers go on, whatever else changes; it is not dying any more. A larval state that has an
// SPI becomes a valid one.
func (db *DB) Update(now clock.Instant, s *State) (updated *State, err error) {
	c := *s
	if err := c.Check(db.o.AllowLegacy); err != nil {
		return nil, err
	}
	old := db.Updates(&c)
	switch {
	case old == nil:
		return nil, ErrNotFound
	case old.KM == Acq:
		work, err := db.work(&c)
		if err != nil {
			return nil, err
		}
		db.replaceLarval(old)
		return db.insert(now, &c, Valid, work), nil
	case !c.AEAD.Equal(old.AEAD) || !c.Enc.Equal(old.Enc) || !c.Auth.Equal(old.Auth):
		// DEVIATION(Linux): it leaves them as they were and says nothing. With other keys it is another SA: the
		// numbers that its packets had are of no use to it.
		return nil, fmt.Errorf("%w: algorithms and keys are not changed by an update", ErrInvalid)
	case c.ReplaySeq != 0 || c.ReplayOSeq != 0:
		return nil, fmt.Errorf("%w: sequence numbers are not changed by an update", ErrInvalid)
	case c.ReplayWindow != old.ReplayWindow || (c.Flags^old.Flags)&ESN != 0:
		return nil, fmt.Errorf("%w: replay-window and esn are not changed by an update", ErrInvalid)
	}
	c.SAddr, c.KM, c.Live = old.SAddr, Valid, old.Live
	c.ReplaySeq, c.ReplayOSeq = old.ReplaySeq, old.ReplayOSeq
	c.Live.status.And(^uint32(dying | softTold | hardTold))
	db.put(old, &c)
	db.arm(now, c.Live.own)
	return &c, nil
}

// Delete deletes the state that [DB.Get] finds.
func (db *DB) Delete(id ID, saddr netip.Addr, mark Mark) (*State, error) {
	s, err := db.Get(id, saddr, mark)
	if err == nil {
		db.remove(s)
	}
	return s, err
}

// Remove deletes a state of the list; false: it is not there any more.
func (db *DB) Remove(s *State) bool {
	if s.Live.Dead() {
		return false
	}
	db.remove(s.Live.own.s)
	return true
}

// Flush deletes the states of a protocol, 0 = all, and returns them.
func (db *DB) Flush(p proto.Proto) (gone []*State) {
	for _, s := range db.List() {
		if p == 0 || s.Proto == p {
			db.remove(s)
			gone = append(gone, s)
		}
	}
	return gone
}

// insert puts a state in, as the newest; s is the database's from here.
func (db *DB) insert(now clock.Instant, s *State, km KM, work Work) *State {
	e := &entry{s: s}
	e.timer.Item = e
	s.KM, s.Live = km, &Live{Added: now, Work: work, own: e}
	s.Live.oseq.Store(s.ReplayOSeq)
	db.link(e)
	db.n++
	if km == Acq {
		db.larval++
		db.waiting[wanted(s)] = s
		if s.Seq != 0 {
			db.bySeq[s.Seq] = s
		}
	}
	db.index(s)
	db.arm(now, e)
	return s
}

func (db *DB) link(e *entry) {
	e.prev, e.next = nil, db.first
	if db.first != nil {
		db.first.prev = e
	}
	db.first = e
}

func (db *DB) unlink(e *entry) {
	if e.next != nil {
		e.next.prev = e.prev
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		db.first = e.next
	}
}

func (db *DB) index(s *State) {
	s.compile()
	db.ord++
	s.ord = db.ord
	switch {
	case !s.Proto.HasSPI():
		db.byAddrs.edit(db.edition, db.addrsHash(s.DAddr, s.SAddr, s.Proto)).add(s)
		db.mobile += valid(s)
	case s.SPI != 0:
		db.byID.edit(db.edition, db.idHash(&s.ID)).add(s)
	}
	db.byTemplate.edit(db.edition, db.templateHash(s.DAddr, s.SAddr, s.ReqID)).add(s)
	db.changed()
}

func valid(s *State) int {
	if s.KM == Valid {
		return 1
	}
	return 0
}

// unindex takes a state out of the indexes.
func (db *DB) unindex(s *State) {
	switch {
	case !s.Proto.HasSPI():
		db.byAddrs.edit(db.edition, db.addrsHash(s.DAddr, s.SAddr, s.Proto)).swap(s, nil)
		db.mobile -= valid(s)
	case s.SPI != 0:
		db.byID.edit(db.edition, db.idHash(&s.ID)).swap(s, nil)
	}
	db.byTemplate.edit(db.edition, db.templateHash(s.DAddr, s.SAddr, s.ReqID)).swap(s, nil)
	db.changed()
}

// put makes s the next generation of old, in the same place if the template that it is for is the same.
func (db *DB) put(old, s *State) {
	s.Live.own.s = s
	if s.ID == old.ID && s.SAddr == old.SAddr && s.ReqID == old.ReqID {
		s.ord = old.ord
		s.compile()
		if s.Proto.HasSPI() {
			db.byID.edit(db.edition, db.idHash(&s.ID)).swap(old, s)
		} else {
			db.byAddrs.edit(db.edition, db.addrsHash(s.DAddr, s.SAddr, s.Proto)).swap(old, s)
			db.mobile += valid(s) - valid(old)
		}
		db.byTemplate.edit(db.edition, db.templateHash(s.DAddr, s.SAddr, s.ReqID)).swap(old, s)
		db.changed()
		return
	}
	db.index(s)
	db.unindex(old)
}

func (db *DB) remove(s *State) {
	e := s.Live.own
	s.Live.status.Or(dead)
	db.unlink(e)
	db.timers.Remove(&e.timer)
	db.unindex(s)
	db.n--
	if s.KM == Acq {
		db.larval--
		if db.waiting[wanted(s)] == s {
			delete(db.waiting, wanted(s))
		}
		if db.bySeq[s.Seq] == s {
			delete(db.bySeq, s.Seq)
		}
	}
}
