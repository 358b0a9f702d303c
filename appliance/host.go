package appliance

import (
	"math/rand/v2"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// host is what one module sees of the appliance.
type host struct {
	a        *Appliance
	loop     *loop
	log      *zap.Logger
	rand     *rand.Rand
	frozen   bool
	counters map[string]*module.Counter
	busy     *module.Counter // messages lost to a full mailbox
}

func (h *host) Log() *zap.Logger   { return h.log }
func (h *host) Clock() clock.Clock { return h.a.clock }
func (h *host) Rand() *rand.Rand   { return h.rand }

func (h *host) Hook(s module.Stage, f module.Hook) {
	h.mustInit()
	h.a.path.Hook(s, h.loop.mod.Name(), f)
}

func (h *host) Ahead(s module.Stage, f module.Ahead) {
	h.mustInit()
	h.a.path.Ahead(s, f)
}

func (h *host) Handle(method, path string, f module.Handler) {
	h.mustInit()
	h.a.handlers = append(h.a.handlers, handler{method: method, path: path, loop: h.loop, f: f})
}

func (h *host) mustInit() {
	if h.frozen {
		panic("appliance: " + h.loop.mod.Name() + " adds hooks or commands after Init")
	}
}

func (h *host) Mail(ev module.Event) bool {
	if !h.loop.mail.put(ev) {
		h.busy.Inc()
		return false
	}
	h.loop.nudge()
	return true
}

func (h *host) Links() *module.Links { return h.a.linkSnap.Load() }
func (h *host) Addrs() *module.Addrs { return h.a.addrSnap.Load() }

func (h *host) PublishAddrs(s *module.Addrs) { h.a.publishAddrs(s) }
func (h *host) PublishRoutes(rs []module.LearnedRoute) {
	for _, l := range h.a.loops {
		if o, ok := l.mod.(module.RouteObserver); ok {
			l.post(func(now clock.Instant) { o.RoutesLearned(now, rs) })
		}
	}
}

func (h *host) PublishRedirects(rs []module.Redirect) {
	for _, l := range h.a.loops {
		if o, ok := l.mod.(module.RedirectObserver); ok {
			l.post(func(now clock.Instant) { o.RedirectsLearned(now, rs) })
		}
	}
}

func (h *host) PublishGateways(hops []module.Hop) {
	for _, l := range h.a.loops {
		if o, ok := l.mod.(module.GatewayObserver); ok {
			l.post(func(now clock.Instant) { o.GatewaysChanged(now, hops) })
		}
	}
}

func (h *host) PublishSilent(hops []module.Hop) {
	for _, l := range h.a.loops {
		if o, ok := l.mod.(module.SilenceObserver); ok {
			l.post(func(now clock.Instant) { o.GatewaysSilent(now, hops) })
		}
	}
}

func (h *host) PublishResolvers(r module.Resolvers)         { h.a.resolvers.Store(&r) }
func (h *host) SetLinkParams(link int, p module.LinkParams) { h.a.setLinkParams(link, p) }
func (h *host) SetLinkState(link int, carrier bool, mtu int) {
	h.a.setLinkState(link, carrier, mtu)
}
func (h *host) PathMTU(dst [16]byte) int { return h.a.path.PathMTU().Lookup(&dst, h.a.clock.Now()) }
func (h *host) LimitPathMTU(n int)       { h.a.path.PathMTU().Limit(n) }
func (h *host) Router() module.Router    { return h.a.router }

func (h *host) Send(p *packet.Packet)   { h.a.path.Send(p) }
func (h *host) Resume(p *packet.Packet) { h.a.path.Resume(p) }
func (h *host) Transmit(p *packet.Packet, link int, dst [6]byte) {
	h.a.path.Transmit(p, link, dst)
}
func (h *host) SendError(p *packet.Packet, e module.ICMPError) { h.a.path.SendError(p, e) }
func (h *host) Drop(p *packet.Packet, r packet.Reason)         { h.a.path.Drop(p, r) }
func (h *host) Watched(topic string) bool                      { return h.a.bus.Watched(topic) }
func (h *host) Publish(topic string, v any)                    { h.a.bus.Publish(topic, v) }

func (h *host) Counter(name string) *module.Counter {
	c := h.counters[name]
	if c == nil {
		h.mustInit()
		c = &module.Counter{}
		h.counters[name] = c
	}
	return c
}
