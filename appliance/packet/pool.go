package packet

import "sync"

// Pool is one worker's free list of buffers of one size. It is not safe for concurrent use: a
// packet is released on the worker that got it.
type Pool struct {
	size int
	free []*Packet
	made int
}

// NewPool returns a pool of packets with room for size octets each.
func NewPool(size int) *Pool { return &Pool{size: size} }

// Get returns an empty packet, a new one if all are in use. What is in use at once is bounded by
// the caller: a worker holds one vector and what its stages made of it.
func (pl *Pool) Get() *Packet {
	if n := len(pl.free); n > 0 {
		p := pl.free[n-1]
		pl.free = pl.free[:n-1]
		p.Reset()
		return p
	}
	pl.made++
	p := NewBuffer(pl.size)
	p.home = pl
	return p
}

// Size returns the room of the pool's packets in octets.
func (pl *Pool) Size() int { return pl.size }

// Made returns how many packets the pool has ever made; Free how many are not in use.
func (pl *Pool) Made() int { return pl.made }

// Free returns how many packets are not in use.
func (pl *Pool) Free() int { return len(pl.free) }

func (pl *Pool) put(p *Packet) { pl.free = append(pl.free, p) }

// SharedPool is a free list for packets that cross goroutines: what this node itself sends. Any
// goroutine may get and release.
type SharedPool struct {
	size int
	pool sync.Pool
}

// NewSharedPool returns a pool of packets with room for size octets each.
func NewSharedPool(size int) *SharedPool { return &SharedPool{size: size} }

// Get returns an empty packet with room for at least size octets. One larger than the pool's size
// is made for the occasion.
func (sp *SharedPool) Get(size int) *Packet {
	if size > sp.size {
		return NewBuffer(size)
	}
	if p, ok := sp.pool.Get().(*Packet); ok {
		p.Reset()
		return p
	}
	p := NewBuffer(sp.size)
	p.home = sp
	return p
}

func (sp *SharedPool) put(p *Packet) { sp.pool.Put(p) }
