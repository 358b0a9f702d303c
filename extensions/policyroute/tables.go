package policyroute

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/rule"
)

// The numbers of the tables (rt_tables), and the slots of those that are always there.
const (
	tableDefault = 253
	tableMain    = rule.TableMain
	tableLocal   = rule.TableLocal

	slotLocal = 0
	slotMain  = 1
)

// compileAtOnce is the size up to which a table is compiled with each change; larger ones are
// compiled in the background.
const compileAtOnce = 2048

// table is one table of routes. Loop only.
type table struct {
	fib.Table
	id, slot int

	compiling bool
	since     []netip.Prefix // changed since the compilation that runs
	// generation counts the snapshots built from nothing; a compilation of an older one is dropped.
	generation int
}

// compilation is the result of one in the background.
type compilation struct {
	table      *table
	snapshot   *fib.Snapshot[entry]
	generation int
}

// prefixKey names a prefix of a table.
type prefixKey struct {
	table  uint32
	prefix netip.Prefix
}

// table returns a table, which is there from its first use on.
func (m *Module) table(id uint32) *table {
	t := m.tables[id]
	if t == nil {
		t = &table{id: int(id), slot: len(m.slots)}
		m.tables[id] = t
		m.slots = append(m.slots, t)
		m.store(func(v *view) { v.tables = append(slices.Clone(v.tables), fib.Empty[entry]()) })
	}
	return t
}

// store makes a changed view what workers see; while changes are collected, it becomes that with them.
func (m *Module) store(change func(v *view)) {
	if m.batch != nil {
		change(&m.batch.view)
		return
	}
	v := *m.view.Load()
	change(&v)
	m.view.Store(&v)
}

// usable reports whether routes over a link are in force.
func (m *Module) usable(link int) bool {
	l := m.links.Index(link)
	return l != nil && l.Usable()
}

// remove deletes the routes of a prefix that match takes, if there are any.
func (m *Module) remove(id uint32, p netip.Prefix, match func(*fib.Route) bool) {
	for {
		old, err := m.table(id).Delete(p, match)
		if err != nil {
			return
		}
		m.gone(id, old)
	}
}

// removeAll deletes every route of a table that match takes, and returns how many those were. It looks at
// the whole table.
func (m *Module) removeAll(id uint32, match func(*fib.Route) bool) int {
	gone := m.table(id).DeleteFunc(match)
	for _, r := range gone {
		m.gone(id, r)
	}
	return len(gone)
}

// gone takes note of a deleted route.
func (m *Module) gone(id uint32, r fib.Route) {
	m.removed.Inc()
	m.countGateway(&r, -1)
	m.noteUser(id, &r, -1)
	m.arm(id, r.Prefix)
	m.publish(id, r.Prefix)
	m.event(id, r, true)
}

// came takes note of a new route.
func (m *Module) came(id uint32, r fib.Route) {
	m.added.Inc()
	m.countGateway(&r, 1)
	m.noteUser(id, &r, 1)
	m.arm(id, r.Prefix)
	m.publish(id, r.Prefix)
	m.event(id, r, false)
}

// arm notes when the first of a prefix's routes ends. Learned ones are ended by who learned them.
func (m *Module) arm(id uint32, p netip.Prefix) {
	at := clock.Never
	for _, r := range m.table(id).Routes(p) {
		if operators(&r) {
			at = clock.Earliest(at, r.Expires)
		}
	}
	if k := (prefixKey{id, p}); at == clock.Never {
		delete(m.expiring, k)
	} else {
		m.expiring[k] = at
	}
}

// batch collects changes, so that workers see all of them or none.
type batch struct {
	view    view
	changed map[*table]map[netip.Prefix]bool
}

// rebuild has a table built from nothing when the batch ends.
func (b *batch) rebuild(t *table) { b.changed[t] = nil }

func (b *batch) add(t *table, p netip.Prefix) {
	ps, ok := b.changed[t]
	switch {
	case ok && ps == nil: // is rebuilt anyway
	case !ok:
		b.changed[t] = map[netip.Prefix]bool{p: true}
	case len(ps) == compileAtOnce:
		b.changed[t] = nil
	default:
		ps[p] = true
	}
}

// together makes many changes, of rules and routes, one change for the packet path.
func (m *Module) together(change func()) {
	if m.batch != nil { // inside another one
		change()
		return
	}
	b := &batch{view: *m.view.Load(), changed: map[*table]map[netip.Prefix]bool{}}
	m.batch = b
	change()
	m.batch = nil
	if len(b.changed) > 0 {
		b.view.tables = slices.Clone(b.view.tables)
	}
	for _, t := range m.slots { // in one order, whatever changed first
		ps, ok := b.changed[t]
		if !ok {
			continue
		}
		s := b.view.tables[t.slot]
		if ps == nil {
			s = m.rebuild(t)
		}
		for p := range ps {
			e := m.entryOf(t, p)
			s = s.With(p, e)
			if t.compiling {
				t.since = append(t.since, p)
			}
		}
		b.view.tables[t.slot] = m.compiledNow(t, s)
	}
	m.view.Store(&b.view)
	m.balanceChanged()
	m.publishGateways()
	for t := range b.changed {
		if b.view.tables[t.slot].Changed() > 0 {
			m.compileLater(t)
		}
	}
}

// publish makes a prefix's present routes what the packet path sees.
func (m *Module) publish(id uint32, p netip.Prefix) {
	m.together(func() { m.batch.add(m.table(id), p) })
}

// rebuild makes a table's snapshot from nothing. A compilation under way is of no use then.
func (m *Module) rebuild(t *table) *fib.Snapshot[entry] {
	rib := new(bart.Table[*entry])
	t.Each(func(p netip.Prefix, list []fib.Route) {
		if e := m.entryFor(t, list); e != nil {
			rib.Insert(p, e)
		}
	})
	t.generation++
	t.since = nil
	return fib.Compile(rib)
}

// compiledNow compiles a small table with its changes.
func (m *Module) compiledNow(t *table, s *fib.Snapshot[entry]) *fib.Snapshot[entry] {
	if t.compiling || s.Changed() == 0 || s.RIB().Size() > compileAtOnce {
		return s
	}
	return fib.Compile(s.RIB())
}

// compileLater compiles a large table with changes in the background, one at a time.
func (m *Module) compileLater(t *table) {
	if m.compiling || !m.started { // Start compiles what the configuration made
		return
	}
	s, generation := m.view.Load().tables[t.slot], t.generation
	m.compiling, t.compiling, t.since = true, true, nil
	go func() {
		m.compiled.Store(&compilation{t, fib.Compile(s.RIB()), generation})
		m.host.Mail( // never full: nobody else writes to this mailbox
			module.Event{Kind: evCompiled})
	}()
}

// takeCompiled puts a compilation that has ended in the place of what was compiled before.
func (m *Module) takeCompiled() {
	c := m.compiled.Swap(nil)
	if c == nil {
		return
	}
	t, since := c.table, c.table.since
	m.compiling, t.compiling, t.since = false, false, nil
	if c.generation == t.generation {
		m.store(func(v *view) {
			v.tables = slices.Clone(v.tables)
			v.tables[t.slot] = v.tables[t.slot].Rebase(c.snapshot, since)
		})
	}
	for _, t := range m.slots {
		if m.view.Load().tables[t.slot].Changed() > 0 {
			m.compileLater(t)
		}
	}
}
