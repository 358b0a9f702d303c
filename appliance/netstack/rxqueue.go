package netstack

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"leveret/appliance/clock"
)

const (
	// defaultReceiveBuffer is how many octets wait for a reader, each datagram counted with its
	// overhead.
	defaultReceiveBuffer = 256 << 10
	datagramOverhead     = 256
	// datagramSize is the room that pooled datagrams have.
	datagramSize = 2048
)

// datagram is one received message, or an error that is reported in its place.
type datagram struct {
	data []byte
	src  netip.AddrPort
	info Info
	err  error
	ext  []byte // what info.ExtHeaders points into
}

var datagrams = sync.Pool{New: func() any { return &datagram{data: make([]byte, 0, datagramSize)} }}

func newDatagram(data []byte) *datagram {
	d := datagrams.Get().(*datagram)
	d.data = append(d.data[:0], data...)
	return d
}

func (d *datagram) release() {
	data, ext, headers := d.data[:0], d.ext[:0], d.info.ExtHeaders[:0]
	if cap(data) > 4*datagramSize {
		return // one large datagram must not keep its memory for ever
	}
	*d = datagram{data: data, ext: ext}
	d.info.ExtHeaders = headers
	datagrams.Put(d)
}

// rxQueue holds what a socket has received until it is read.
type rxQueue struct {
	clock clock.Clock
	limit int

	mu       sync.Mutex
	cond     sync.Cond
	items    []*datagram // a ring: n from head on
	head, n  int
	octets   int
	closed   bool
	pending  error // of an earlier send: the next read or write returns it
	expired  bool
	deadline clock.Timer
	turn     int // of the deadline in force
}

func (q *rxQueue) init(c clock.Clock, limit int) {
	if limit <= 0 {
		limit = defaultReceiveBuffer
	}
	q.clock, q.limit = c, limit
	q.cond.L = &q.mu
}

// push adds d, or refuses it when the buffer is full.
func (q *rxQueue) push(d *datagram) bool {
	size := len(d.data) + datagramOverhead
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.octets+size > q.limit {
		return false
	}
	if q.n == len(q.items) {
		q.grow()
	}
	q.items[(q.head+q.n)%len(q.items)] = d
	q.n++
	q.octets += size
	q.cond.Signal()
	return true
}

func (q *rxQueue) grow() {
	items := make([]*datagram, max(16, 2*len(q.items)))
	for i := range q.n {
		items[i] = q.items[(q.head+i)%len(q.items)]
	}
	q.items, q.head = items, 0
}

// fail makes err the result of the next read or write.
func (q *rxQueue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.pending == nil {
		q.pending = err
	}
	q.cond.Signal()
}

// takeError returns the pending error, once.
func (q *rxQueue) takeError() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return net.ErrClosed
	}
	err := q.pending
	q.pending = nil
	return err
}

// pop waits for the next message. The caller releases it.
func (q *rxQueue) pop() (*datagram, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.closed:
			return nil, net.ErrClosed
		case q.expired:
			return nil, os.ErrDeadlineExceeded
		case q.pending != nil:
			err := q.pending
			q.pending = nil
			return nil, err
		case q.n > 0:
			d := q.items[q.head]
			q.items[q.head] = nil
			q.head = (q.head + 1) % len(q.items)
			q.n--
			q.octets -= len(d.data) + datagramOverhead
			return d, nil
		}
		q.cond.Wait()
	}
}

// setDeadline lets reads fail from t on; the zero time never. The calendar time is the clock's, so
// that deadlines hold in a simulation too.
func (q *rxQueue) setDeadline(t time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn++
	q.expired = false
	if q.deadline != nil {
		q.deadline.Stop()
		q.deadline = nil
	}
	if t.IsZero() || q.closed {
		return
	}
	d := t.Sub(q.clock.Wall())
	if d <= 0 {
		q.expired = true
		q.cond.Broadcast()
		return
	}
	turn := q.turn
	q.deadline = q.clock.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.turn == turn {
			q.expired = true
			q.cond.Broadcast()
		}
	})
}

// close wakes all readers; false if it was closed before.
func (q *rxQueue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	q.turn++
	if q.deadline != nil {
		q.deadline.Stop()
	}
	for ; q.n > 0; q.n-- {
		q.items[q.head].release()
		q.head = (q.head + 1) % len(q.items)
	}
	q.items = nil
	q.cond.Broadcast()
	return true
}
