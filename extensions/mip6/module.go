package mip6

import (
	crand "crypto/rand"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/cn"
	"leveret/extensions/mip6/rr"
)

// Kinds of messages in the mailbox.
const (
	evMessage   = iota + 1 // a Mobility Header: Pkt
	evProtected            // one that came through an SA
	evLost                 // an ICMPv6 error about a packet that was sent by a binding: Pkt
	evInbox                // others have left something in inbox
)

// Transformer is what bindings need of who transforms packets.
type Transformer interface {
	// Correspond begins or ends what a correspondent node has without any binding: Mobility Headers with any home address
	// are taken, and are never sent by a care-of address. When it ends, bindings end too. Any goroutine.
	Correspond(on bool)
	// Bind puts a binding in force, changes or ends it, as one change to packets. done, which may be nil, is called after
	// that on another loop and must not wait; with an error, nothing of the binding is in force. Any goroutine.
	Bind(b module.MobileBinding, done func(error))
	// Bound returns how many packets were sent by a binding. Any goroutine.
	Bound(local, home netip.Addr) uint64
	// OnReport sets who is told of packets with a home address that has no binding; it must not wait. Before Start.
	OnReport(f func(home, careOf, dst netip.Addr, link int))
	// Secpath appends what a packet has come through. On the worker that has the packet.
	Secpath(p *packet.Packet, into []module.SA) []module.SA
}

// Module is the extension.
type Module struct {
	host  module.Host
	x     Transformer
	count counters
	on    atomic.Bool
	inbox inbox

	// Loop only.
	conf   Config
	cache  *bcache.Cache
	nonces *rr.Nonces
	node   *cn.Node
	sent   map[bcache.Key]uint64 // packets by each binding, when last looked
	look   clock.Instant         // when to look again
}

// lookEvery is how often it is found out which bindings are used.
const lookEvery = 10 * time.Second

// New returns the module; x takes what bindings mean to packets.
func New(x Transformer) *Module { return &Module{x: x, look: clock.Never} }

// Name implements [module.Module].
func (m *Module) Name() string { return "mip6" }

// Claims implements [module.Module].
func (m *Module) Claims() []string { return []string{"mobility.correspondent"} }

// Init implements [module.Module].
func (m *Module) Init(h module.Host) error {
	m.host = h
	m.count.init(h)
	m.clear()
	h.Hook(module.StageAdmit, m.admit)
	m.handle(h)
	m.x.OnReport(m.reported)
	return nil
}

// clear makes cache and nonces new ones.
func (m *Module) clear() {
	random := func(b []byte) { crand.Read(b) } //nolint:errcheck // never fails
	m.cache, m.nonces = bcache.New(m.conf.limits(), m.host.Rand().Float64), rr.New(random)
	m.node, m.sent, m.look = cn.New(m.cache, m.nonces), map[bcache.Key]uint64{}, clock.Never
}

// Prepare implements [module.Module].
func (m *Module) Prepare(next *module.Config) (func(clock.Instant), error) {
	c, err := decode(next.Sections["mobility.correspondent"])
	return func(clock.Instant) {
		was := m.conf.Enabled
		m.conf = c
		m.cache.SetLimits(c.limits())
		if c.Enabled == was {
			return
		}
		m.clear()
		m.on.Store(c.Enabled)
		m.x.Correspond(c.Enabled)
	}, err
}

// Reset implements [module.Resetter]: bindings are learned.
func (m *Module) Reset(now clock.Instant) { m.flush(now, func(bcache.Binding) bool { return true }) }

// Start implements [module.Module].
func (m *Module) Start(clock.Instant) {}

// Stop implements [module.Module]. Mobile nodes find out when they are answered by Binding Errors.
func (m *Module) Stop(clock.Instant) {}

// Deadline implements [module.Module].
func (m *Module) Deadline() clock.Instant {
	return clock.Earliest(clock.Earliest(m.cache.Deadline(), m.nonces.Deadline()), m.look)
}

// Tick implements [module.Module].
func (m *Module) Tick(now clock.Instant) {
	m.nonces.Expire(now)
	if now >= m.look || m.cache.Deadline() <= now {
		m.lookAtUse(now)
	}
	for _, e := range m.cache.Tick(now) {
		if e.Refresh {
			m.count.refreshes.Inc()
			m.send(cn.Refresh(e.Binding), 0)
			continue
		}
		m.ended(e.Binding, "expired")
	}
	m.rearm(now)
}

// lookAtUse tells the cache which bindings packets were sent by since the last time.
func (m *Module) lookAtUse(now clock.Instant) {
	for _, b := range m.cache.List() {
		if b.State != bcache.Registered {
			continue
		}
		if n := m.x.Bound(b.Local, b.Key.Home); n != m.sent[b.Key] {
			m.sent[b.Key] = n
			m.cache.Use(now, b.Key)
		}
	}
	m.look = clock.Never
}

// rearm sets when to look again, if there is anything to look at.
func (m *Module) rearm(now clock.Instant) {
	switch {
	case m.cache.Counts().Peers == 0:
		m.look = clock.Never
	case m.look == clock.Never:
		m.look = now.Add(lookEvery)
	}
}

// Receive implements [module.Module].
func (m *Module) Receive(now clock.Instant, ev module.Event) {
	switch ev.Kind {
	case evInbox:
		for _, f := range m.inbox.take() {
			f(now)
		}
	case evMessage, evProtected:
		if m.conf.Enabled {
			m.message(now, ev.Pkt, ev.Kind == evProtected)
		}
		ev.Pkt.Release()
	case evLost:
		if m.conf.Enabled {
			m.lost(now, ev.Pkt)
		}
		ev.Pkt.Release()
	}
	m.rearm(now)
}

// send sends a packet of this node. Where a link-local address is the destination, it is one of that link.
func (m *Module) send(b []byte, link int) {
	p := packet.New(b)
	if netip.AddrFrom16([16]byte(b[24:])).IsLinkLocalUnicast() {
		p.Out = link
	}
	m.host.Send(p)
}

// bind puts a binding in force; then is called on this loop when it is.
func (m *Module) bind(b bcache.Binding, then func(now clock.Instant, err error)) {
	m.x.Bind(module.MobileBinding{Local: b.Local, Home: b.Key.Home, CareOf: b.CareOf}, func(err error) {
		m.put(func(now clock.Instant) { then(now, err) })
	})
}

// ended ends what a binding means to packets, and tells of it.
func (m *Module) ended(b bcache.Binding, event string) {
	delete(m.sent, b.Key)
	m.x.Bind(module.MobileBinding{Local: b.Local, Home: b.Key.Home}, nil)
	m.tell(event, b)
}

// flush ends the bindings that match takes, and returns how many they were.
func (m *Module) flush(now clock.Instant, match func(bcache.Binding) bool) (n int) {
	for _, b := range m.cache.List() {
		if !match(b) {
			continue
		}
		if b, ok := m.cache.Remove(now, b.Key); ok {
			m.ended(b, "flushed")
			n++
		}
	}
	return n
}

// inbox is what other loops have for this one.
type inbox struct {
	mu   sync.Mutex
	jobs []func(now clock.Instant)
	told bool // the loop knows that there is something
}

// reportsMax is how many reports wait at most.
const reportsMax = 256

func (b *inbox) take() []func(clock.Instant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	jobs := b.jobs
	b.jobs, b.told = nil, false
	return jobs
}

// put leaves something for the loop. Any goroutine.
func (m *Module) put(f func(now clock.Instant)) {
	m.inbox.mu.Lock()
	defer m.inbox.mu.Unlock()
	m.inbox.jobs = append(m.inbox.jobs, f)
	if !m.inbox.told {
		m.inbox.told = m.host.Mail(module.Event{Kind: evInbox})
	}
}

// reported is told of a packet with a home address that has no binding (RFC 6275 9.3.1). Another loop.
func (m *Module) reported(home, careOf, dst netip.Addr, link int) {
	m.inbox.mu.Lock()
	full := len(m.inbox.jobs) >= reportsMax
	m.inbox.mu.Unlock()
	if full || !m.on.Load() {
		return
	}
	m.put(func(now clock.Instant) { m.bindingError(now, dst, careOf, home, link, unknownBinding) })
}

func (m *Module) debug(why string, b bcache.Binding) {
	m.host.Log().Debug(why, zap.Stringer("hoa", b.Key.Home), zap.Stringer("coa", b.CareOf))
}
