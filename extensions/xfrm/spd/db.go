package spd

import (
	"cmp"
	"fmt"
	"slices"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/selector"
)

// MaxPolicies bounds the database.
const MaxPolicies = 1 << 20

// DB is the database. One goroutine owns it.
type DB struct {
	byKey   map[Key]*node
	byIndex map[uint32]*node
	tables  [dirs][2]table // what snapshots share

	// What a snapshot has got is not changed: epoch is the number of the next snapshot, and what was made in
	// it may be changed still.
	epoch    uint64
	snapshot *Snapshot // the last one, while it holds
	seed     seed

	gen       uint64
	seq       uint64
	nextIndex uint32

	newUsage func() Usage
	timers   clock.Queue[*node]
}

// node is a policy in the database.
type node struct {
	*entry
	linked uint64 // when it was put in or replaced

	timer clock.Alarm[*node]
	told  bool // that its soft limit is reached
}

// New returns an empty database. seed is random and secret: where an attacker has a say in what policies
// are made, as a mobile node has, it keeps them from all being in one place. newUsage makes what policies note their use
// in; nil = they note none.
func New(seed [2]uint64, newUsage func() Usage) *DB {
	return &DB{
		byKey: map[Key]*node{}, byIndex: map[uint32]*node{}, epoch: 1, newUsage: newUsage,
		seed: [2]uint64{seed[0] ^ 0xa0761d6478bd642f, seed[1] ^ 0xe7037ed1a0b428db}, // a multiplier must not be 0
	}
}

// Len returns the number of policies.
func (d *DB) Len() int { return len(d.byKey) }

// Gen returns the number of changes there have been: what was worked out from policies at another
// generation has to be looked at again.
func (d *DB) Gen() uint64 { return d.gen }

// Add puts in a policy, behind those of its priority. One of the same key is refused, and so is an index
// that is taken. It returns the policy as it is kept.
func (d *DB) Add(now clock.Instant, p Policy) (*Policy, error) { return d.put(now, p, false) }

// Update puts in a policy, or replaces the one of the same key: the new one has the old one's index, and
// its place too unless the priority is another.
func (d *DB) Update(now clock.Instant, p Policy) (*Policy, error) { return d.put(now, p, true) }

func (d *DB) put(now clock.Instant, p Policy, replace bool) (*Policy, error) {
	p.Selector = p.Selector.Normal()
	if err := p.Check(); err != nil {
		return nil, err
	}
	p.Templates = slices.Clone(p.Templates)
	key := p.Key()
	old := d.byKey[key]
	switch {
	case old != nil && !replace:
		return nil, ErrExists
	case old != nil:
		p.Index = old.policy.Index
	case len(d.byKey) >= MaxPolicies:
		return nil, ErrFull
	case p.Index == 0:
		p.Index = d.freeIndex(p.Dir)
	case d.byIndex[p.Index] != nil:
		return nil, ErrExists
	}
	if p.Added == 0 {
		p.Added = now
		if d.newUsage != nil {
			p.Usage = d.newUsage()
		}
	}
	d.seq++
	e := newEntry(d.seed, &p, d.seq)
	if old != nil {
		if old.policy.Priority == p.Priority {
			e.seq = old.seq
		}
		d.table(&p).remove(d, old.entry)
		d.timers.Remove(&old.timer)
	}
	d.table(&p).insert(d, e)
	n := &node{entry: e, linked: d.seq}
	n.timer.Item = n
	d.byKey[key], d.byIndex[p.Index] = n, n
	d.arm(now, n)
	d.changed()
	return &p, nil
}

func (d *DB) table(p *Policy) *table { return &d.tables[p.Dir][kind(p.Sub)] }

func kind(sub bool) int {
	if sub {
		return 1
	}
	return 0
}

func (d *DB) changed() {
	d.gen++
	d.snapshot = nil
}

// freeIndex returns an index as Linux makes them: counting up, in steps of 8, and never 0.
func (d *DB) freeIndex(dir Dir) uint32 {
	for {
		i := d.nextIndex | uint32(dir)
		d.nextIndex += 8
		if i == 0 {
			i = 8
		}
		if d.byIndex[i] == nil {
			return i
		}
	}
}

// Get returns the policy of a key.
func (d *DB) Get(k Key) (*Policy, error) {
	k.Selector = k.Selector.Normal()
	return d.byKey[k].get()
}

// ByIndex returns the policy of an index.
func (d *DB) ByIndex(index uint32) (*Policy, error) { return d.byIndex[index].get() }

// Named returns the policy that the words of get and delete name.
func (d *DB) Named(r *Request) (*Policy, error) {
	if !r.ByIndex {
		return d.Get(r.Key())
	}
	p, err := d.ByIndex(r.Index)
	if err == nil && (p.Dir != r.Dir || p.Sub != r.Sub || p.Mark != r.Mark || p.Mask != r.Mask || p.IfID != r.IfID) {
		return nil, ErrNotFound
	}
	return p, err
}

// Counts is how many policies there are of each direction.
type Counts struct {
	In  int `json:"in"`
	Out int `json:"out"`
	Fwd int `json:"fwd"`
}

// Count returns how many policies there are.
func (d *DB) Count() (c Counts) {
	for _, n := range d.byKey {
		switch n.policy.Dir {
		case In:
			c.In++
		case Out:
			c.Out++
		default:
			c.Fwd++
		}
	}
	return c
}

// Text is that of "ip xfrm policy count", and of "ip -s xfrm policy count": sockets have no policies here.
func (c Counts) Text(stats bool) string {
	s := fmt.Sprintf("\t SPD IN  %d OUT %d FWD %d", c.In, c.Out, c.Fwd)
	if stats {
		s += " (Sock: IN 0 OUT 0 FWD 0)"
	}
	return s
}

func (n *node) get() (*Policy, error) {
	if n == nil {
		return nil, ErrNotFound
	}
	return n.policy, nil
}

// Delete takes out the policy of a key and returns it.
func (d *DB) Delete(k Key) (*Policy, error) {
	p, err := d.Get(k)
	if err == nil {
		d.drop(d.byIndex[p.Index])
	}
	return p, err
}

// DeleteIndex takes out the policy of an index and returns it.
func (d *DB) DeleteIndex(index uint32) (*Policy, error) {
	p, err := d.ByIndex(index)
	if err == nil {
		d.drop(d.byIndex[index])
	}
	return p, err
}

func (d *DB) drop(n *node) {
	d.table(n.policy).remove(d, n.entry)
	delete(d.byKey, n.policy.Key())
	delete(d.byIndex, n.policy.Index)
	d.timers.Remove(&n.timer)
	d.changed()
}

// DeleteFunc takes out the policies that match takes and returns them as [DB.List] does.
func (d *DB) DeleteFunc(match func(*Policy) bool) (gone []*Policy) {
	for _, p := range d.List() {
		if match(p) {
			d.drop(d.byIndex[p.Index])
			gone = append(gone, p)
		}
	}
	return gone
}

// Flush takes out the policies of one type and returns them.
func (d *DB) Flush(sub bool) []*Policy {
	return d.DeleteFunc(func(p *Policy) bool { return p.Sub == sub })
}

// List returns the policies in the order in which Linux lists them: the last that was put in or replaced
// comes first.
func (d *DB) List() []*Policy {
	nodes := make([]*node, 0, len(d.byKey))
	for _, n := range d.byKey {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(b.linked, a.linked) })
	all := make([]*Policy, len(nodes))
	for i, n := range nodes {
		all[i] = n.policy
	}
	return all
}

// Snapshot returns the database as it is now. It costs nothing itself; the first change in each part of the
// database behind it copies that part's list of pointers.
func (d *DB) Snapshot() *Snapshot {
	if d.snapshot == nil {
		d.snapshot = &Snapshot{tables: d.tables, seed: d.seed, gen: d.gen}
		d.epoch++
	}
	return d.snapshot
}

// Snapshot is the database at one time. Immutable; any goroutine may search it, without locks and without
// allocating.
type Snapshot struct {
	tables [dirs][2]table
	seed   seed
	gen    uint64
}

// Gen is [DB.Gen] at that time. A bundle that was made from policies of one snapshot holds in the next if
// the lookup returns the same pointers.
func (s *Snapshot) Gen() uint64 { return s.gen }

// Lookup returns the first policy of a direction and type that f conforms to; nil = none. ifid is the
// XFRM interface that the packet goes by, 0 = none.
func (s *Snapshot) Lookup(dir Dir, sub bool, f *selector.Flow, ifid uint32) *Policy {
	if e := s.tables[dir][kind(sub)].find(s.seed, f, ifid); e != nil {
		return e.policy
	}
	return nil
}

// Policies returns the policies that decide on a packet: that of type sub, and that of type main unless the
// sub one blocks. They have been used then. A packet of both goes through the templates of both: see [Merged].
func (s *Snapshot) Policies(dir Dir, f *selector.Flow, ifid uint32) (sub, main *Policy) {
	if sub = s.Lookup(dir, true, f, ifid); sub != nil {
		sub.Note()
	}
	if sub == nil || sub.Action == Allow {
		if main = s.Lookup(dir, false, f, ifid); main != nil {
			main.Note()
		}
	}
	return sub, main
}
