// Package appliance puts the parts together: links, packet path, host stack, modules, control. It
// is wiring only and knows no protocol.
//
//	        ports ── packet path ── host stack
//	                  │  hooks
//	control ── module loops (ndp, policyroute, ...)
//
// Order of start: every module Init and Prepare, links open, every module commits and starts,
// ports attached. Order of stop: the reverse.
package appliance

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	crand "crypto/rand"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/datapath"
	"leveret/appliance/link"
	"leveret/appliance/module"
	"leveret/appliance/netstack"
	"leveret/appliance/observe"
	"leveret/appliance/resolver"
)

// defaultHopLimit is what this node's own packets start with (RFC 4861 6.3.2: the value of the
// Assigned Numbers, until a router advertises another).
const defaultHopLimit = 64

// Options are what an appliance is made of.
type Options struct {
	Root    *config.Root    // the configuration it starts with
	Source  string          // where that came from, for status
	Modules []module.Module // in the order of the path's hooks
	// Logger returns the logger of a module or part by name; nil logs nothing.
	Logger func(name string) *zap.Logger
	Clock  clock.Clock // nil: the machine's
	// Ports are attachments that the embedding program or a test brings along, by link name; the
	// configuration's link of that name (kind pipe) uses it instead of opening one.
	Ports   map[string]link.Port
	Version string
	// Load reads a configuration again: from text if there is any, otherwise from where the first
	// came from. nil: the appliance has no files.
	Load func(name string, text []byte) (root *config.Root, source string, err error)
	// OnReady is called once, when the links are up and the addresses have passed DAD.
	OnReady func()
	// OnApply is called after each change of the configuration, the first included.
	OnApply func(*config.Root)
	// Manual: no goroutine is started; the owner calls Step and moves the clock.
	Manual bool
}

// Appliance is one router. Its methods may be called by any goroutine.
type Appliance struct {
	opts    Options
	clock   clock.Clock
	log     *zap.Logger
	path    *datapath.Path
	host    *netstack.Host
	bus     *observe.Bus
	taps    *observe.Taps
	router  module.Router
	names   *resolver.Resolver
	loops   []*loop
	hosts   []*host
	started time.Time

	handlers []handler

	linkSnap atomic.Pointer[module.Links]
	addrSnap atomic.Pointer[module.Addrs]
	// resolvers are what a module has learned.
	resolvers atomic.Pointer[module.Resolvers]

	// applyMu is held while the configuration or a link changes.
	applyMu    sync.Mutex
	root       *config.Root // in force
	fileRoot   *config.Root // what `reset` goes back to
	generation uint64
	applied    time.Time
	links      map[string]*linkState
	pairs      map[string]link.Port // other ends of pipes whose link is not open yet
	// linkChanged holds a token when a port has news.
	linkChanged chan struct{}
	captures    []*fileCapture

	// paramsMu guards params, what routers said about links, and states, what a module says of those it makes; by index.
	paramsMu sync.Mutex
	params   map[int]module.LinkParams
	states   map[int]link.State

	// publishMu orders what the host stack hears of links and addresses.
	publishMu sync.Mutex

	// up: started and not yet stopping; before and after, modules take no commands.
	up atomic.Bool
}

// handler is one command of a module.
type handler struct {
	method, path string
	loop         *loop
	f            module.Handler
}

// New makes an appliance from a valid configuration. Nothing is opened yet.
func New(o Options) (*Appliance, error) {
	if o.Clock == nil {
		o.Clock = clock.NewReal()
	}
	if o.Logger == nil {
		o.Logger = func(string) *zap.Logger { return zap.NewNop() }
	}
	a := &Appliance{
		opts: o, clock: o.Clock, log: o.Logger("appliance"), fileRoot: o.Root, root: o.Root,
		bus: observe.NewBus(o.Clock.Wall), taps: &observe.Taps{}, links: map[string]*linkState{}, pairs: map[string]link.Port{}, params: map[int]module.LinkParams{}, states: map[int]link.State{}, linkChanged: make(chan struct{}, 1),
	}
	a.linkSnap.Store(module.NewLinks(nil))
	a.addrSnap.Store(module.NewAddrs(nil, nil))
	a.resolvers.Store(&module.Resolvers{})
	seed, err := newSeed(o.Root.System.Seed)
	if err != nil {
		return nil, err
	}
	var groups module.GroupMember
	var progress func(module.RouteQuery)
	var senders []module.Sender
	for _, m := range o.Modules {
		if r, ok := m.(module.Router); ok {
			a.router = r
		}
		if g, ok := m.(module.GroupMember); ok {
			groups = g
		}
		if c, ok := m.(module.Confirmer); ok {
			progress = c.Confirmed
		}
		if s, ok := m.(module.Sender); ok {
			senders = append(senders, s)
		}
	}
	a.path = datapath.New(datapath.Options{
		Clock: o.Clock, Router: a.router, Seed: seed, Params: params(o.Root), Manual: o.Manual,
	})
	a.path.SetSenders(senders)
	a.host, err = netstack.New(netstack.Options{
		Clock: o.Clock, Log: o.Logger("netstack"), Seed: binary.LittleEndian.Uint64(seed[8:]),
		Output: a.path.Send, NewPacket: a.path.NewPacket, Router: a.router, Groups: groups,
		PathMTU: a.pathMTU, SendError: a.path.SendError, Progress: progress,
	})
	if err != nil {
		return nil, fmt.Errorf("host stack: %w", err)
	}
	a.path.SetHost(a.host)
	a.names = a.newResolver(seed)
	for i, m := range o.Modules {
		l := newLoop(m, o.Clock, o.Manual)
		s := seed
		s[31] ^= byte(i + 1)
		h := &host{
			a: a, loop: l, log: o.Logger(m.Name()), rand: rand.New(rand.NewChaCha8(s)),
			counters: map[string]*module.Counter{}, busy: &module.Counter{},
		}
		h.counters["mailbox_full"] = h.busy
		a.loops, a.hosts = append(a.loops, l), append(a.hosts, h)
		if err := m.Init(h); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name(), err)
		}
		h.frozen = true
	}
	return a, nil
}

// Claims returns the parts of the configuration that those modules decode, for config.Load.
func Claims(ms []module.Module) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Claims()...)
	}
	return out
}

// pathMTU returns the path MTU to dst where it is known to be less than the first link's.
func (a *Appliance) pathMTU(dst netip.Addr) int {
	d := dst.As16()
	return a.path.PathMTU().Lookup(&d, a.clock.Now())
}

// newSeed returns the seed of everything random here: the system's, or for a lab run one that
// follows from the number in the configuration.
func newSeed(n uint64) (seed [32]byte, err error) {
	if n == 0 {
		_, err = crand.Read(seed[:])
		return seed, err
	}
	binary.LittleEndian.PutUint64(seed[:], n)
	rand.NewChaCha8(seed).Read(seed[:]) //nolint:errcheck // never fails
	return seed, nil
}

func params(r *config.Root) datapath.Params {
	return datapath.Params{
		ErrorRate: r.ICMPv6.ErrorRate, ErrorBurst: r.ICMPv6.ErrorBurst,
		EchoReplyMulticast: r.ICMPv6.EchoReplyMulticast,
		ProcessHopByHop:    r.Routing.HopByHop == "process",
		HopLimit:           defaultHopLimit,
	}
}

// Run starts the appliance and returns when ctx ends and everything is put back, or when it cannot
// start.
func (a *Appliance) Run(ctx context.Context) error {
	stop, err := a.Start()
	if err != nil {
		return err
	}
	go a.announceReady(ctx)
	<-ctx.Done()
	stop()
	return nil
}

// Start opens the links and starts the modules. stop undoes it all and returns when it is done.
func (a *Appliance) Start() (stop func(), err error) {
	a.started = a.clock.Wall()
	stopPath := a.path.Start()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	stop = func() {
		a.up.Store(false)
		cancel()
		running.Wait() // before applyMu is taken: the housekeeping takes it, too
		a.applyMu.Lock()
		defer a.applyMu.Unlock()
		a.stopCaptures()
		a.stopModules()
		a.closeLinks()
		stopPath()
		a.host.Close()
	}
	a.applyMu.Lock()
	err = a.commit(a.root)
	a.applyMu.Unlock()
	if err != nil {
		stop()
		return nil, err
	}
	a.up.Store(true)
	if !a.opts.Manual {
		running.Add(1)
		go func() { defer running.Done(); a.housekeeping(ctx) }()
	}
	return stop, nil
}

// startModules starts every module and its loop, in order.
func (a *Appliance) startModules() {
	for _, l := range a.loops {
		l.mod.Start(a.clock.Now())
		l.start()
	}
}

// stopModules ends the modules in reverse order, so that the last messages of one still find those
// it depends on, and lets the path send them.
func (a *Appliance) stopModules() {
	for i := len(a.loops) - 1; i >= 0; i-- {
		a.loops[i].stop()
	}
	a.path.Flush()
}

// housekeeping follows the links and runs the path's timed work.
func (a *Appliance) housekeeping(ctx context.Context) {
	// Fragments come in without anybody being told, so the deadline is looked at once a second:
	// timeouts of a minute and more need no better.
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.linkChanged:
			a.followLinks()
		case <-t.C:
			if a.path.Deadline() <= a.clock.Now() {
				a.path.Tick()
			}
		}
	}
}

// Step does all the work there is at the clock's present instant and reports whether there was
// any. For an appliance made with Manual.
func (a *Appliance) Step() bool {
	worked := a.path.Step()
	select {
	case <-a.linkChanged:
		a.followLinks()
		worked = true
	default:
	}
	for _, l := range a.loops {
		worked = l.step() || worked
	}
	if a.path.Deadline() <= a.clock.Now() {
		a.path.Tick()
		worked = true
	}
	return worked
}

// Deadline returns when the appliance has timed work next. For an appliance made with Manual.
func (a *Appliance) Deadline() clock.Instant {
	d := a.path.Deadline()
	for _, l := range a.loops {
		d = clock.Earliest(d, l.mod.Deadline())
	}
	return d
}

// Host returns the host stack, for programs inside the appliance.
func (a *Appliance) Host() *netstack.Host { return a.host }

// Links returns the links as they are now.
func (a *Appliance) Links() *module.Links { return a.linkSnap.Load() }

// Addrs returns the addresses and groups as they are now.
func (a *Appliance) Addrs() *module.Addrs { return a.addrSnap.Load() }

// Path returns the packet path, for counters and captures.
func (a *Appliance) Path() *datapath.Path { return a.path }

// Reset goes back to the start configuration without leaving the process: every cache and table
// is emptied and addresses go through DAD again.
func (a *Appliance) Reset(ctx context.Context) error {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	if err := a.commit(a.fileRoot); err != nil {
		return err
	}
	a.path.Reset()
	var errs []error
	for _, l := range a.loops {
		if r, ok := l.mod.(module.Resetter); ok {
			errs = append(errs, l.call(ctx, r.Reset))
		}
	}
	return errors.Join(errs...)
}
