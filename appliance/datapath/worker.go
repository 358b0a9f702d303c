package datapath

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/link"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// Worker takes packets through the path on one thread.
type Worker struct {
	path *Path
	name string
	link int // of the queue it reads; 0 for the host worker
	q    link.RxQueue
	pool *packet.Pool

	// mu is held while a vector is in the path, so that whoever changes ports can wait until no
	// worker uses the old ones. One uncontended lock a vector; no callback takes it.
	mu sync.Mutex

	// Snapshots, loaded once a vector.
	now    clock.Instant
	params *Params
	links  *module.Links
	addrs  *module.Addrs
	ports  *portSet
	tap    Tap

	vector []*packet.Packet   // empty packets to receive into
	route  []*packet.Packet   // packets that wait for a route
	spares [][]*packet.Packet // empty lists that route has been
	outbox []outgoing
	tx     []txBatch // by link index
	active []int     // links with something in tx
	chain  wire.Chain
	rand   *rand.Rand

	count Counters
	ended atomic.Bool
}

// txBatch is what waits to leave by one link.
type txBatch struct {
	port *port
	q    link.TxQueue
	ps   []*packet.Packet
	// joints has for each of ps what coalescing knows of it.
	joints []joint
}

// port is one attached port.
type port struct {
	link int
	port link.Port
	caps link.Caps
}

// portSet is the snapshot of all ports, by link index.
type portSet struct{ byIndex []*port }

func (s *portSet) index(i int) *port {
	if uint(i) >= uint(len(s.byIndex)) {
		return nil
	}
	return s.byIndex[i]
}

func (p *Path) newWorker(name string, pt *port, q link.RxQueue) *Worker {
	w := &Worker{path: p, name: name, q: q}
	size := packet.MaxLen + 14
	if pt != nil {
		w.link = pt.link
		size = maxFrame(pt.caps)
	}
	w.pool = packet.NewPool(size)
	w.vector = make([]*packet.Packet, 0, VectorSize)
	seed := p.seed
	seed[0] ^= byte(w.link)
	seed[1] ^= byte(len(p.workers))
	w.rand = rand.New(rand.NewChaCha8(seed))
	p.workers = append(p.workers, w)
	return w
}

// load takes the snapshots for one vector.
func (w *Worker) load() {
	w.now = w.path.clock.Now()
	w.params = w.path.params.Load()
	w.links = w.path.links.Load()
	w.addrs = w.path.addrs.Load()
	w.tap = nil
	if t := w.path.tap.Load(); t != nil {
		w.tap = *t
	}
	if ps := w.path.ports.Load(); ps != w.ports {
		w.ports = ps
		w.refreshTx()
	}
}

// refreshTx makes a sender for every port of the new set and keeps those of ports that stay.
func (w *Worker) refreshTx() {
	old := w.tx
	w.tx = make([]txBatch, len(w.ports.byIndex))
	for i, pt := range w.ports.byIndex {
		switch {
		case pt == nil:
		case i < len(old) && old[i].port == pt:
			w.tx[i] = old[i]
		default:
			w.tx[i] = txBatch{port: pt, q: pt.port.NewTx()}
		}
	}
}

// once receives one vector and takes it through the path. It returns how many packets there were.
func (w *Worker) once() (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.vector) < VectorSize {
		w.vector = append(w.vector, w.pool.Get())
	}
	n, err := w.q.Rx(w.vector)
	if n == 0 {
		return 0, err
	}
	w.load()
	w.process(w.vector[:n], w.link)
	// The packets of this vector have gone back to the pool: what is left moves to the front.
	w.vector = w.vector[:copy(w.vector, w.vector[n:])]
	return n, err
}

// run is a receive worker's thread.
func (w *Worker) run() {
	defer w.path.threads.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for !w.ended.Load() {
		n, err := w.once()
		if err != nil {
			return
		}
		if n == 0 && !w.q.Wait() {
			return
		}
	}
}

// outgoing is one packet on its way to the host worker. A direct one has its link and link-layer
// address already, one that is resumed was on the path before.
type outgoing struct {
	p       *packet.Packet
	direct  bool
	resumed bool
}

// hostQueue holds what this node wants to send. It is bounded: a full queue drops, and TCP takes
// that as congestion, which it is.
type hostQueue struct {
	mu    sync.Mutex
	items []outgoing
	ready chan struct{} // holds one token while there are items
}

func (p *Path) enqueue(o outgoing) {
	p.out.mu.Lock()
	if len(p.out.items) >= hostQueueLen {
		p.out.mu.Unlock()
		p.Drop(o.p, packet.TxQueueFull)
		o.p.Release()
		return
	}
	p.out.items = append(p.out.items, o)
	p.out.mu.Unlock()
	select {
	case p.out.ready <- struct{}{}:
	default:
	}
}

// sendQueued takes everything queued by this node through the second half of the path.
func (w *Worker) sendQueued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := &w.path.out
	q.mu.Lock()
	items := q.items
	q.items, w.outbox = w.outbox[:0], items
	q.mu.Unlock()
	if len(items) == 0 {
		return 0
	}
	w.load()
	for i, o := range items {
		items[i] = outgoing{}
		if o.direct {
			if l := w.linkOf(o.p.Out); l != nil && l.IfID != 0 {
				w.act2(o.p, packet.Continue)
			} else {
				w.transmit(o.p)
			}
			continue
		}
		if !o.resumed {
			w.count.simple[Originated].add(1)
		}
		w.act(o.p, whole(o.p))
		if len(w.route) >= VectorSize {
			w.finish()
		}
	}
	w.finish()
	return len(items)
}

// Flush sends what is queued now, on the caller's goroutine.
func (p *Path) Flush() {
	for p.host0.sendQueued() > 0 {
	}
}

// whole lets a packet of this node into the path if it has an IPv6 header.
func whole(p *packet.Packet) packet.Verdict {
	if b := p.Bytes(); len(b) < wire.IPv6HeaderLen || b[0]>>4 != 6 {
		return packet.Drop(packet.HeaderTruncated)
	}
	return packet.Forward
}

// runHost is the host worker's thread.
func (w *Worker) runHost(stop <-chan struct{}) {
	defer w.path.threads.Done()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case <-stop:
			return
		case <-w.path.out.ready:
			w.sendQueued()
		}
	}
}
