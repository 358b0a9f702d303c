// Package moduletest is a [module.Host] for the tests of one module by itself: a manual clock, and
// everything that the module sends, drops or tells is kept.
package moduletest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// Host keeps what it is given. The test sets LinkList and AddrSnap; one goroutine uses it, but for
// Mail.
type Host struct {
	Manual   *clock.Manual
	Random   *rand.Rand
	LinkList []*module.Link
	AddrSnap *module.Addrs
	Mailbox  chan module.Event

	Sent      [][]byte // by Transmit
	Routed    [][]byte // by Send
	Resumed   []*packet.Packet
	Errors    []module.ICMPError
	Dropped   []packet.Reason
	Published []Published
	Counters  map[string]*module.Counter
	Routes    []module.LearnedRoute
	Redirects []module.Redirect
	Gateways  []module.Hop
	Silent    []module.Hop
	Resolvers module.Resolvers
	Params    map[int]module.LinkParams
	States    map[int]string   // what SetLinkState was told last: up or down, and the MTU
	PathMTUs  int              // by LimitPathMTU
	MTUs      map[[16]byte]int // what PathMTU answers
	Hooks     map[module.Stage]module.Hook
	Handlers  map[string]module.Handler // by method and path, a blank between
	Routing   module.Router

	mu    sync.Mutex
	links *module.Links
	of    []*module.Link
}

// Published is one event.
type Published struct {
	Topic string
	Value any
}

// NewHost returns a host without links or addresses.
func NewHost() *Host {
	return &Host{
		Manual: clock.NewManual(), Random: rand.New(rand.NewPCG(1, 1)), AddrSnap: module.NewAddrs(nil, nil),
		Mailbox: make(chan module.Event, 64), Counters: map[string]*module.Counter{}, Params: map[int]module.LinkParams{},
		MTUs: map[[16]byte]int{}, Hooks: map[module.Stage]module.Hook{}, Handlers: map[string]module.Handler{}, States: map[int]string{},
	}
}

// Log implements [module.Host].
func (h *Host) Log() *zap.Logger { return zap.NewNop() }

// Clock implements [module.Host].
func (h *Host) Clock() clock.Clock { return h.Manual }

// Rand implements [module.Host].
func (h *Host) Rand() *rand.Rand { return h.Random }

// Hook implements [module.Host].
func (h *Host) Hook(s module.Stage, f module.Hook) { h.Hooks[s] = f }

// Ahead implements [module.Host].
func (h *Host) Ahead(module.Stage, module.Ahead) {}

// Handle implements [module.Host].
func (h *Host) Handle(method, path string, f module.Handler) { h.Handlers[method+" "+path] = f }

// Mail implements [module.Host].
func (h *Host) Mail(ev module.Event) bool { h.Mailbox <- ev; return true }

// Links implements [module.Host]: as in the appliance, nothing is allocated for who asks.
func (h *Host) Links() *module.Links {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links == nil || !slices.Equal(h.LinkList, h.of) {
		h.links, h.of = module.NewLinks(h.LinkList), slices.Clone(h.LinkList)
	}
	return h.links
}

// Addrs implements [module.Host].
func (h *Host) Addrs() *module.Addrs { return h.AddrSnap }

// PublishAddrs implements [module.Host].
func (h *Host) PublishAddrs(a *module.Addrs) { h.AddrSnap = a }

// PublishRoutes implements [module.Host].
func (h *Host) PublishRoutes(r []module.LearnedRoute) { h.Routes = r }

// PublishRedirects implements [module.Host].
func (h *Host) PublishRedirects(r []module.Redirect) { h.Redirects = r }

// PublishGateways implements [module.Host].
func (h *Host) PublishGateways(hops []module.Hop) { h.Gateways = hops }

// PublishSilent implements [module.Host].
func (h *Host) PublishSilent(hops []module.Hop) { h.Silent = hops }

// PublishResolvers implements [module.Host].
func (h *Host) PublishResolvers(r module.Resolvers) { h.Resolvers = r }

// SetLinkParams implements [module.Host].
func (h *Host) SetLinkParams(link int, p module.LinkParams) { h.Params[link] = p }

// SetLinkState implements [module.Host].
func (h *Host) SetLinkState(link int, carrier bool, mtu int) {
	h.States[link] = fmt.Sprintf("%s %d", map[bool]string{true: "up", false: "down"}[carrier], mtu)
}

// PathMTU implements [module.Host].
func (h *Host) PathMTU(dst [16]byte) int { return h.MTUs[dst] }

// LimitPathMTU implements [module.Host].
func (h *Host) LimitPathMTU(n int) { h.PathMTUs = n }

// Router implements [module.Host].
func (h *Host) Router() module.Router { return h.Routing }

// Send implements [module.Host].
func (h *Host) Send(p *packet.Packet) { h.Routed = append(h.Routed, p.Bytes()) }

// Resume implements [module.Host].
func (h *Host) Resume(p *packet.Packet) { h.Resumed = append(h.Resumed, p) }

// Transmit implements [module.Host].
func (h *Host) Transmit(p *packet.Packet, _ int, _ [6]byte) { h.Sent = append(h.Sent, p.Bytes()) }

// SendError implements [module.Host].
func (h *Host) SendError(_ *packet.Packet, e module.ICMPError) { h.Errors = append(h.Errors, e) }

// Drop implements [module.Host].
func (h *Host) Drop(_ *packet.Packet, r packet.Reason) { h.Dropped = append(h.Dropped, r) }

// Watched implements [module.Host].
func (h *Host) Watched(string) bool { return true }

// Publish implements [module.Host].
func (h *Host) Publish(topic string, v any) { h.Published = append(h.Published, Published{topic, v}) }

// Counter implements [module.Host].
func (h *Host) Counter(name string) *module.Counter {
	if h.Counters[name] == nil {
		h.Counters[name] = &module.Counter{}
	}
	return h.Counters[name]
}
