// Package datapath is the packet path. Read this file first; the rest is one file per stage.
//
//	port ─▶ s1_rx ─▶ s2_validate ─▶ s3_classify ─┬─ Discovery ─▶ admit ─▶ hooks (ndp)
//	                       ▲                     ├─ Local ─▶ local.go ─┬─▶ admit ─▶ host stack
//	                       │                     │                     ├─▶ reassembled: s2 again
//	                       │                     │                     ├─▶ input (xfrm), opened: s2 again, or s1 of the SA's link
//	                       │                     │                     └─▶ admit ─▶ exit (tunnel), taken out: s1 of the tunnel
//	                       └─────────────────────│─────────────────────────┘
//	                                             └─ Forward ─┐
//	host stack, modules, icmperr.go, echo ───────────────────┴▶ s4_route ─▶ s5_transform ─▶ s6_fragment ─▶ s7_resolve ─▶ s8_tx ─▶ port
//	                                                                ▲            │ in a tunnel                              │ by a tunnel
//	                                                                └────────────┴──────────────────────────────────────────┘
//
// A worker takes a vector of packets through the stages, run to completion, on one locked OS
// thread for each receive queue; one more worker does the same for what this node sends. A stage returns a
// packet.Verdict and only this file moves a packet on, so one place sees everything. Whatever the
// stages read is an immutable snapshot, loaded once a vector.
package datapath

import (
	"strings"
	"sync"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/link"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// VectorSize is the most packets a worker takes through the path at once.
const VectorSize = 64

// maxPasses bounds how often one packet may enter the classify stage: once as it is, once for each SA that it comes
// through, and when it is put together from fragments between them.
const maxPasses = 2 * (1 + packet.MaxStates)

// hostQueueLen bounds the packets this node has made that wait for the host worker.
const hostQueueLen = 4096

// Params is the part of the configuration the packet path reads. Immutable.
type Params struct {
	ErrorRate          int  // ICMPv6 errors per second; 0 = no limit (RFC 4443 2.4(f))
	ErrorBurst         int  // errors that may go out at once
	EchoReplyMulticast bool // answer echo requests to a group (RFC 4443 4.2)
	ProcessHopByHop    bool // look into Hop-by-Hop options of packets in transit (RFC 8200 4.3)
	HopLimit           int  // of what this node makes itself
}

// Host is the host stack as the path sees it. Both methods are called by workers.
type Host interface {
	// Deliver takes a copy of a packet for this node; false means its queue is full.
	Deliver(p *packet.Packet) bool
	// Sent reports whether a transport flow, named by the first octets of a packet that this
	// node is said to have sent, is one of ours (RFC 8201 4: only then is a Packet Too Big
	// believed).
	Sent(proto uint8, src, dst [16]byte, transport []byte) bool
}

// Point is where a packet was seen.
type Point uint8

// The capture points.
const (
	Ingress Point = iota
	Egress
	DropPoint
)

func (p Point) String() string { return [...]string{"ingress", "egress", "drop"}[p] }

// Tap sees packets for a capture. It is called by workers and must not block, keep frame or
// allocate.
type Tap interface {
	// Offer shows a frame at a point of a link; r is the reason at the drop point. ethernet says
	// whether the frame begins with an Ethernet header.
	Offer(at Point, link int, ethernet bool, frame []byte, r packet.Reason)
}

// Options are what a path is made of.
type Options struct {
	Clock  clock.Clock
	Router module.Router
	Host   Host // nil: packets for this node's transport are dropped
	Seed   [32]byte
	Params Params
	// Manual: no threads; the owner calls Step.
	Manual bool
}

// Path is the packet path of one appliance.
type Path struct {
	clock  clock.Clock
	router module.Router
	sender []module.Sender
	host   Host
	seed   [32]byte
	manual bool
	hooks  [module.NumStages][]namedHook
	ahead  [module.NumStages][]module.Ahead

	params atomic.Pointer[Params]
	links  atomic.Pointer[module.Links]
	addrs  atomic.Pointer[module.Addrs]
	ports  atomic.Pointer[portSet]
	tap    atomic.Pointer[Tap]

	limiter limiter
	pmtu    *PathMTU
	reasm   *reassembly
	out     hostQueue
	made    *packet.SharedPool
	off     offPath
	host0   *Worker // the host worker

	mu      sync.Mutex // guards workers, and the ports' changes
	workers []*Worker
	retired Counters // of workers that have ended
	threads sync.WaitGroup
}

type namedHook struct {
	owner string
	f     module.Hook
}

// New returns a path without links. Hooks are added before Start.
func New(o Options) *Path {
	p := &Path{
		clock: o.Clock, router: o.Router, host: o.Host, seed: o.Seed, manual: o.Manual,
		pmtu: NewPathMTU(), reasm: newReassembly(),
		made: packet.NewSharedPool(packet.MaxLen),
	}
	p.out.ready = make(chan struct{}, 1)
	p.SetParams(o.Params)
	p.links.Store(module.NewLinks(nil))
	p.addrs.Store(module.NewAddrs(nil, nil))
	p.ports.Store(&portSet{})
	p.host0 = p.newWorker("host", nil, nil)
	return p
}

// SetHost attaches the host stack; before Start.
func (p *Path) SetHost(h Host) { p.host = h }

// SetRouter sets who answers route questions; before Start.
func (p *Path) SetRouter(r module.Router) { p.router = r }

// SetSenders says who else but the host stack sends; before Start.
func (p *Path) SetSenders(s []module.Sender) { p.sender = s }

// Hook adds a hook to a stage; before Start. Hooks run in the order in which they were added.
func (p *Path) Hook(s module.Stage, owner string, f module.Hook) {
	p.hooks[s] = append(p.hooks[s], namedHook{owner, f})
}

// Ahead adds what sees a vector before the hooks of a stage see its packets; before Start.
func (p *Path) Ahead(s module.Stage, f module.Ahead) { p.ahead[s] = append(p.ahead[s], f) }

// String lists the stages in their order, each by the name of its file, with the owners of its hooks.
func (p *Path) String() string {
	hooked := map[string][]module.Stage{
		"s3_classify": {module.StageDiscovery}, "local": {module.StageInput, module.StageAdmit, module.StageExit}, "s5_transform": {module.StageTransform},
		"s7_resolve": {module.StageResolve}, "s8_tx": {module.StageEnter},
	}
	var b strings.Builder
	for _, name := range []string{
		"s1_rx", "s2_validate", "s3_classify", "local", "s4_route", "s5_transform", "s6_fragment", "s7_resolve", "s8_tx",
	} {
		b.WriteString(name)
		for _, s := range hooked[name] {
			for _, h := range p.hooks[s] {
				b.WriteString(" " + h.owner)
				if len(hooked[name]) > 1 {
					b.WriteString("/" + s.String())
				}
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// SetParams puts new parameters in force from the next vector on.
func (p *Path) SetParams(pr Params) { p.params.Store(&pr); p.limiter.set(pr.ErrorRate, pr.ErrorBurst) }

// SetLinks and SetAddrs publish new snapshots.
func (p *Path) SetLinks(l *module.Links) { p.links.Store(l) }

// SetAddrs publishes a new address snapshot.
func (p *Path) SetAddrs(a *module.Addrs) { p.addrs.Store(a) }

// SetTap starts showing packets to t, or stops with nil.
func (p *Path) SetTap(t Tap) {
	if t == nil {
		p.tap.Store(nil)
		return
	}
	p.tap.Store(&t)
}

// PathMTU returns the path MTU cache. Any goroutine may use it.
func (p *Path) PathMTU() *PathMTU { return p.pmtu }

// process takes a received vector through the path. The packets are the worker's.
func (w *Worker) process(ps []*packet.Packet, in int) {
	var octets uint64
	w.ahead(module.StageInput, ps, in)
	for _, p := range ps {
		octets += uint64(p.Len())
		w.act(p, w.receive(p, in))
	}
	w.count.links[in&linkMask].received(uint64(len(ps)), octets)
	w.finish()
}

// receive is the stages from the port to the decision whose packet it is.
func (w *Worker) receive(p *packet.Packet, in int) packet.Verdict {
	if v := w.rx(p, in); v != packet.Continue {
		return v
	}
	if v := w.validate(p); v != packet.Continue {
		return v
	}
	return w.classify(p)
}

// again takes a packet that is another one now through the stages that say whose it is.
func (w *Worker) again(p *packet.Packet) packet.Verdict {
	v := w.validate(p)
	if v == packet.Continue {
		v = w.classify(p)
	}
	return v
}

// act does what a verdict says. Every packet's way ends here, in finish, or in transmit.
func (w *Worker) act(p *packet.Packet, v packet.Verdict) {
	switch v {
	case packet.Forward: // or made here: from the route stage on they are alike
		w.route = append(w.route, p)
	case packet.Local:
		w.act(p, w.local(p))
	case packet.Discovery:
		if v = w.runHooks(module.StageAdmit, p); v == packet.Continue {
			v = w.runHooks(module.StageDiscovery, p)
		}
		w.act(p, v)
	case packet.Again:
		w.act(p, w.again(p))
	case packet.Arrived:
		w.act(p, w.arrived(p))
	case packet.Consumed:
		p.Release()
	case packet.Taken:
	default:
		r, dropped := v.Dropped()
		if !dropped {
			panic("datapath: a stage returned the verdict " + v.String())
		}
		if p.Answer.Type != 0 {
			w.sendError(p, p.Answer)
		}
		w.drop(p, r)
	}
}

// finish takes everything that waits for a route out of the path: packets to forward, and what
// this node made meanwhile (errors, echo replies, fragments put together for itself).
func (w *Worker) finish() {
	w.drain()
	w.flush()
}

// drain is finish without sending what has no company yet. It can come again from inside itself.
func (w *Worker) drain() {
	for len(w.route) > 0 {
		batch := w.route
		w.route = nil
		if n := len(w.spares); n > 0 {
			w.route, w.spares = w.spares[n-1], w.spares[:n-1]
		}
		w.lookup(batch)
		w.ahead(module.StageTransform, batch, 0)
		for _, p := range batch {
			w.act2(p, w.routed(p))
		}
		w.spares = append(w.spares, batch[:0])
	}
}

// act2 moves a routed packet on.
func (w *Worker) act2(p *packet.Packet, v packet.Verdict) {
	switch v {
	case packet.Local:
		// Own packet to an own address: it comes in like any other, but was never on a wire.
		w.act(p, w.again(p))
	case packet.Continue:
		if v = w.transform(p); v == packet.Continue {
			v = w.fit(p)
		}
		if v != packet.Continue {
			w.act(p, v)
			return
		}
		w.send(p)
	default:
		w.act(p, v)
	}
}

// send resolves and queues one packet that fits its link.
func (w *Worker) send(p *packet.Packet) {
	if v := w.resolve(p); v != packet.Continue {
		if v == packet.Drop(packet.NeighborUnreachable) { // known to be gone a moment ago (RFC 4861 7.2.2)
			w.sendError(p, unreachable(wire.CodeAddressUnreachable))
		}
		w.act(p, v)
		return
	}
	w.transmit(p)
}

// ahead shows a vector to who wants to see it before its packets; those of a link have its header.
func (w *Worker) ahead(s module.Stage, ps []*packet.Packet, link int) {
	off := 0
	if pt := w.ports.index(link); pt != nil && pt.caps.Ethernet {
		off = ethHeaderLen
	}
	for _, f := range w.path.ahead[s] {
		f(ps, off)
	}
}

// runHooks runs a stage's hooks until one decides. A packet for which none does has nobody who
// wants it.
func (w *Worker) runHooks(s module.Stage, p *packet.Packet) packet.Verdict {
	for i := range w.path.hooks[s] {
		if v := w.path.hooks[s][i].f(p); v != packet.Continue {
			return v
		}
	}
	if s == module.StageDiscovery {
		return packet.Drop(packet.ICMPUnknown)
	}
	return packet.Continue
}

// drop is the one trace point of everything that is not sent, delivered or consumed.
func (w *Worker) drop(p *packet.Packet, r packet.Reason) {
	w.count.drops[r].add(1)
	if t := w.tap; t != nil {
		t.Offer(DropPoint, p.In, false, p.Bytes(), r)
	}
	p.Release()
}

// Send queues a complete packet of this node for the route stage. Any goroutine; p becomes the
// path's.
func (p *Path) Send(pk *packet.Packet) {
	pk.In = 0
	p.enqueue(outgoing{p: pk})
}

// Resume queues a packet that a hook of the transform stage has kept a copy of for the route stage, as it was when it came
// there first. Any goroutine; pk becomes the path's.
func (p *Path) Resume(pk *packet.Packet) {
	if pk.In != 0 {
		pk.Bytes()[7]++
	}
	pk.Route = nil
	p.enqueue(outgoing{p: pk, resumed: true})
}

// Transmit queues p to leave by a link to a link-layer address, past routing and resolution. Any
// goroutine; pk becomes the path's.
func (p *Path) Transmit(pk *packet.Packet, out int, dst [6]byte) {
	pk.Out, pk.DstMAC = out, dst
	p.enqueue(outgoing{p: pk, direct: true})
}

// SendError answers pk with an ICMPv6 error. Any goroutine; pk is borrowed.
func (p *Path) SendError(pk *packet.Packet, e module.ICMPError) {
	w := p.host0
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load()
	w.sendError(pk, e)
	w.finish()
}

// Drop counts and shows a packet that somebody gave up after having consumed it. Any goroutine;
// pk is borrowed.
func (p *Path) Drop(pk *packet.Packet, r packet.Reason) {
	p.off.drops[r].Add(1)
	if t := p.tap.Load(); t != nil {
		(*t).Offer(DropPoint, pk.In, false, pk.Bytes(), r)
	}
}

// NewPacket returns an empty packet with room for size octets for Send or Transmit. Any goroutine.
func (p *Path) NewPacket(size int) *packet.Packet { return p.made.Get(size) }

// linkOf returns the link a packet came in on or leaves by; nil when it is gone.
func (w *Worker) linkOf(i int) *module.Link { return w.links.Index(i) }

// src and dst are the addresses of a packet that was validated.
func src(b []byte) *[16]byte { return (*[16]byte)(b[8:24]) }
func dst(b []byte) *[16]byte { return (*[16]byte)(b[24:40]) }

// maxFrame is the longest frame a port's buffers must hold.
func maxFrame(c link.Caps) int { return max(c.MaxFrame, wire.MinMTU+14) }
