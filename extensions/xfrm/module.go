package xfrm

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// evWork is the only message in the mailbox: workers have left something in inbox.
const evWork = 1

// Module is the extension.
type Module struct {
	host module.Host

	// view is what packets are looked at with.
	view atomic.Pointer[view]
	ivs  ivs
	// label is what flow labels of outer headers are made with.
	label uint64
	count counters
	inbox inbox
	queue queue

	// Loop only.
	sad      *sad.DB
	spd      *spd.DB
	defaults sad.Defaults
	block    [3]bool // by direction: packets without a policy
	waits    bool    // packets wait for the SA that was asked for
	// wants counts by direction the policies that want anything of a packet: those that block or have templates.
	wants   [3]int
	ports   map[udpEnd]int // where ESP comes in UDP: SAs for each
	keep    keep
	expired []sad.Expire // spare
	reported
	bindings bindings
}

// keep is where numbers that must not come again are kept over restarts; dir "" = nowhere.
type keep struct {
	dir    string
	lab    bool // a run with a seed
	opened bool
}

// udpEnd is one end of ESP in UDP.
type udpEnd struct {
	addr [16]byte
	port uint16
}

// view is the two databases as they belong together. Immutable.
type view struct {
	sad   *sad.Snapshot
	spd   *spd.Snapshot
	block [3]bool
	waits bool
	// idle: by direction, no policy wants anything of a packet that came through no SA.
	idle  [3]bool
	ports map[udpEnd]int
}

// New returns the module.
func New() *Module {
	m := &Module{ports: map[udpEnd]int{}, defaults: sad.Defaults{ReplayWindow: 32}}
	m.view.Store(&view{sad: &sad.Snapshot{}, spd: &spd.Snapshot{}, idle: [3]bool{true, true, true}})
	return m
}

// Name implements [module.Module].
func (m *Module) Name() string { return "xfrm" }

// Init implements [module.Module].
func (m *Module) Init(h module.Host) error {
	m.host = h
	r := h.Rand()
	m.label = r.Uint64()
	m.sad = sad.New(sad.Options{Seed: r.Uint64(), NewWork: m.newWork})
	m.spd = spd.New([2]uint64{r.Uint64(), r.Uint64()}, m.newUsage)
	m.inbox.acquire = map[sad.Template]wanted{}
	m.count.init(h)
	h.Hook(module.StageInput, m.input)
	h.Hook(module.StageAdmit, m.admit)
	h.Hook(module.StageTransform, m.transform)
	h.Ahead(module.StageInput, m.aheadOfInput)
	h.Ahead(module.StageTransform, m.aheadOfTransform)
	h.Handle("GET", "/v1/xfrm/stat", m.showStat)
	m.handleStates(h)
	m.handlePolicies(h)
	h.Handle("POST", "/v1/xfrm/migrate", m.handleMigrate)
	m.publish()
	return nil
}

// Start implements [module.Module].
func (m *Module) Start(clock.Instant) {}

// Stop implements [module.Module].
func (m *Module) Stop(clock.Instant) {}

// Reset implements [module.Resetter]: nothing here was learned but larval states, which the configuration that has just
// been put in force does not have either.
func (m *Module) Reset(now clock.Instant) {
	for _, s := range m.sad.List() {
		if s.KM == sad.Acq {
			m.forget(s)
		}
	}
	m.changed(now)
}

// publish makes the databases as they are what packets see.
func (m *Module) publish() {
	v := &view{sad: m.sad.Snapshot(), spd: m.spd.Snapshot(), block: m.block, waits: m.waits, ports: maps.Clone(m.ports)}
	for dir := range v.idle {
		v.idle[dir] = m.wants[dir] == 0 && !m.block[dir]
	}
	m.view.Store(v)
}

// changed makes one change of all that was done to the databases since the last time.
func (m *Module) changed(now clock.Instant) {
	m.reserve(now)
	m.publish()
	m.settle()
}

// Deadline implements [module.Module].
func (m *Module) Deadline() clock.Instant {
	return clock.Earliest(m.sad.NextDeadline(), m.spd.NextDeadline())
}

// Tick implements [module.Module]: the time of states or policies is over, softly or for good.
func (m *Module) Tick(now clock.Instant) {
	m.expirePolicies(now)
	m.tell(now, m.sad.Expire(now, m.expired[:0]))
}

// tell tells of limits that states have reached.
func (m *Module) tell(now clock.Instant, list []sad.Expire) {
	if m.expired = list; len(list) == 0 {
		return
	}
	for _, x := range list {
		if x.Hard {
			m.left(x.State)
		}
		m.event(xfrmapi.Event{Event: "expire", Hard: x.Hard, State: m.listed(x.State)})
	}
	clear(m.expired)
	m.changed(now)
}

// inbox is what workers have for the loop. It is bounded: what finds it full comes again with the next packet.
type inbox struct {
	mu       sync.Mutex
	acquire  map[sad.Template]wanted
	reached  []reached
	reports  map[report]selector.Flow
	mappings []mapping
	binds    binds
	told     bool // the loop knows that there is something
}

// wanted is a packet that there was no state for, and the policy that wants one.
type wanted struct {
	flow   selector.Flow
	policy *spd.Policy
}

// reached is a limit of a state.
type reached struct {
	state   *sad.State
	verdict sad.Verdict
}

const inboxMax = 256

// wantState asks for an SA of a template. Any goroutine.
func (m *Module) wantState(t *sad.Template, p *spd.Policy, f *selector.Flow) {
	b := &m.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.acquire) >= inboxMax {
		return
	}
	if _, there := b.acquire[*t]; !there {
		b.acquire[*t] = wanted{*f, p}
		m.nudge()
	}
}

// hasReached tells the loop of a limit. Any goroutine.
func (m *Module) hasReached(s *sad.State, v sad.Verdict) {
	b := &m.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.reached) >= inboxMax {
		s.Live.Again()
		return
	}
	b.reached = append(b.reached, reached{s, v})
	m.nudge()
}

// wantIVs tells the loop that numbers for IVs run out. Any goroutine.
func (m *Module) wantIVs() {
	m.inbox.mu.Lock()
	defer m.inbox.mu.Unlock()
	m.nudge()
}

// nudge wakes the loop; the inbox is locked.
func (m *Module) nudge() {
	if !m.inbox.told {
		m.inbox.told = m.host.Mail(module.Event{Kind: evWork})
	}
}

// Receive implements [module.Module].
func (m *Module) Receive(now clock.Instant, ev module.Event) {
	if ev.Kind != evWork {
		return
	}
	b := &m.inbox
	b.mu.Lock()
	limits, asked, reports, mappings, bindings := b.reached, b.acquire, b.reports, b.mappings, b.binds
	b.reached, b.acquire, b.reports, b.mappings, b.binds, b.told = nil, map[sad.Template]wanted{}, nil, nil, binds{}, false
	b.mu.Unlock()
	m.bind(now, bindings)
	list := m.expired[:0]
	for _, r := range limits {
		list = m.sad.Reached(r.state, r.verdict, list)
	}
	m.tell(now, list)
	m.acquire(now, asked)
	m.tellReports(now, reports)
	m.tellMappings(mappings)
	m.settle()
	m.reserve(now)
}

// acquire adds the larval states that packets wait for, and tells key managers of those that are new.
func (m *Module) acquire(now clock.Instant, asked map[sad.Template]wanted) {
	for t, w := range asked {
		s, fresh, err := m.sad.Acquire(now, &t, &w.flow)
		if err == nil && fresh {
			m.event(xfrmapi.Event{Event: "acquire", State: m.listed(s), Policy: m.listedPolicy(w.policy)})
		}
	}
	if len(asked) > 0 {
		m.changed(now)
	}
}

// view of states for people: keys stay hidden.
func (m *Module) shown() sad.View { return sad.View{Wall: m.wall(), Link: m.linkName} }

// shownPolicies is the view of policies.
func (m *Module) shownPolicies() spd.View { return spd.View{Wall: m.wall(), Link: m.linkName} }

// wall gives the calendar time of an instant.
func (m *Module) wall() func(clock.Instant) time.Time {
	now, wall := m.host.Clock().Now(), m.host.Clock().Wall()
	return func(at clock.Instant) time.Time { return wall.Add(at.Sub(now)) }
}

// linkName returns a link's name by index, or its number when it is gone.
func (m *Module) linkName(index int) string {
	if l := m.host.Links().Index(index); l != nil {
		return l.Name
	}
	return linkNumber(index)
}
