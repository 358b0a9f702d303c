package policyroute

import (
	"slices"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/pins"
	"leveret/extensions/policyroute/rule"
	"leveret/extensions/policyroute/srcsel"
)

// The messages in the mailbox.
const (
	evCompiled = iota + 1 // a background compilation has ended
)

// Module is the extension. It implements module.Router.
type Module struct {
	host module.Host

	// view is what workers read: rules, tables and candidates that belong together.
	view atomic.Pointer[view]

	// Loop only.
	tables  map[uint32]*table
	slots   []*table // the same, by slot
	names   tableNames
	rules   *rule.DB
	choice  *choice // immutable: another one comes in its place
	seeded  bool    // its key is of the configuration
	cache   CacheConfig
	kernel  map[kernelKey]fib.Route // connected and local routes, by what makes them
	learned map[learnedKey]module.LearnedRoute
	// lastLearned is all that was learned; learned leaves out what is connected anyway.
	lastLearned  []module.LearnedRoute
	links        *module.Links
	addrs        *module.Addrs
	routeByValue map[packet.Route]*packet.Route // shared by prefixes
	hopByName    map[module.Hop]*hop            // shared by routes
	gateways     map[module.Hop]int             // of configured routes: how many lead through each
	// gatewaysChanged: some came or went since they were published.
	gatewaysChanged bool
	silent          map[module.Hop]bool // those that do not answer
	objects         *nexthop.Objects
	resilient       map[uint32]*resilient // by the number of the group
	objectUsers     map[uint32]map[prefixKey]int
	objectGateways  map[module.Hop]bool
	objectsTouched  bool // buckets are to be looked at when what changes together is in force
	expiring        map[prefixKey]clock.Instant
	compiling       bool // some table, in the background
	compiled        atomic.Pointer[compilation]
	batch           *batch // what changed since together began; nil outside of it
	started         bool

	flows                                    pins.Counters
	added, removed, rulesAdded, rulesRemoved *module.Counter
}

// New returns the module.
func New() *Module {
	m := &Module{
		tables: map[uint32]*table{}, names: defaultNames(), rules: rule.New(),
		kernel:   map[kernelKey]fib.Route{},
		learned:  map[learnedKey]module.LearnedRoute{},
		expiring: map[prefixKey]clock.Instant{}, gateways: map[module.Hop]int{},
		objects: nexthop.NewObjects(), resilient: map[uint32]*resilient{}, hopByName: map[module.Hop]*hop{}, routeByValue: map[packet.Route]*packet.Route{}, objectUsers: map[uint32]map[prefixKey]int{},
		links: module.NewLinks(nil), addrs: module.NewAddrs(nil, nil),
	}
	m.view.Store(&view{labels: srcsel.DefaultPolicy})
	m.table(tableLocal)
	m.table(tableMain)
	m.rulesChanged()
	return m
}

// Name implements [module.Module].
func (m *Module) Name() string { return "policyroute" }

// Claims implements [module.Module].
func (m *Module) Claims() []string {
	return []string{"routing.routes", "routing.nexthops", "routing.marks", "routing.rules", "routing.tables", "routing.multipath", "routing.source_selection", "routing.destination_cache"}
}

// Init implements [module.Module].
func (m *Module) Init(h module.Host) error {
	m.host = h
	m.choice = &choice{key: nexthop.Key{h.Rand().Uint64(), h.Rand().Uint64()}, clock: h.Clock()}
	m.store(func(v *view) { v.choice = m.choice })
	m.added, m.removed = h.Counter("routes_added"), h.Counter("routes_removed")
	m.rulesAdded, m.rulesRemoved = h.Counter("rules_added"), h.Counter("rules_removed")
	m.flows = pins.Counters{New: h.Counter("flows_pinned"), Stale: h.Counter("flows_stale"), Evicted: h.Counter("flows_evicted"), Refused: h.Counter("flows_refused")}
	h.Handle("GET", "/v1/route", m.show)
	h.Handle("POST", "/v1/route", m.change)
	h.Handle("POST", "/v1/route/flush", m.flush)
	h.Handle("GET", "/v1/route/get", m.get)
	h.Handle("GET", "/v1/rule", m.showRules)
	h.Handle("POST", "/v1/rule", m.changeRule)
	h.Handle("POST", "/v1/rule/flush", m.flushRules)
	h.Handle("GET", "/v1/route/pinned", m.showPinned)
	h.Handle("POST", "/v1/route/pinned/flush", m.flushPinned)
	h.Handle("GET", "/v1/nexthop", m.showObjects)
	h.Handle("POST", "/v1/nexthop", m.changeObject)
	h.Handle("POST", "/v1/nexthop/flush", m.flushObjects)
	h.Handle("GET", "/v1/nexthop/bucket", m.showBuckets)
	h.Handle("GET", "/v1/addrlabel", m.showLabels)
	h.Handle("POST", "/v1/addrlabel", m.changeLabels)
	return nil
}

// Start implements [module.Module].
func (m *Module) Start(clock.Instant) {
	m.started = true
	m.together(func() {
		for _, t := range m.slots {
			m.batch.rebuild(t)
		}
	})
}

// Stop implements [module.Module].
func (m *Module) Stop(clock.Instant) {}

// Receive implements [module.Module].
func (m *Module) Receive(_ clock.Instant, ev module.Event) {
	if ev.Kind == evCompiled {
		m.takeCompiled()
	}
}

// Waiting implements [module.Readier]. There is nothing to wait for, but the answer comes from the
// loop: after the links and addresses it was told of have become routes.
func (m *Module) Waiting() []string { return nil }

// Deadline implements [module.Module].
func (m *Module) Deadline() clock.Instant {
	d := clock.Never
	for _, at := range m.expiring {
		d = clock.Earliest(d, at)
	}
	for _, r := range m.resilient {
		d = clock.Earliest(d, r.next)
	}
	return d
}

// Tick implements [module.Module]: routes whose time is over go.
func (m *Module) Tick(now clock.Instant) {
	m.tickObjects(now)
	for k, at := range m.expiring {
		if at <= now {
			m.together(func() {
				m.remove(k.table, k.prefix, func(r *fib.Route) bool { return operators(r) && r.Expires <= now })
			})
		}
	}
}

// Reset implements [module.Resetter]: nothing here was learned, and the configuration has just
// been put in force again.
func (m *Module) Reset(clock.Instant) {}

// linkIndex returns a link's index by name; 0 = there is none.
func (m *Module) linkIndex(name string) int {
	if l := m.links.Name(name); l != nil {
		return l.Index
	}
	return 0
}

// linkName returns a link's name by index; "" = there is none.
func (m *Module) linkName(index int) string {
	if l := m.links.Index(index); l != nil {
		return l.Name
	}
	return ""
}

// rulesChanged compiles the rules for the packet path.
func (m *Module) rulesChanged() {
	set := rule.Compile(m.rules, m.linkIndex, func(id uint32) int { return m.table(id).slot })
	m.store(func(v *view) {
		v.rules = set
		rules := m.rules.All()
		v.plain = len(rules) == 2 && slices.Equal(rules, rule.New().All())
	})
}
