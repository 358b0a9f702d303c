package datapath

import (
	"sync/atomic"

	"leveret/appliance/packet"
)

// maxLinks bounds the links that have counters of their own; it is also the limit of the
// configuration.
const (
	maxLinks = 256
	linkMask = maxLinks - 1
)

// MaxLinks is the highest link index plus one.
const MaxLinks = maxLinks

// cell is a counter with one writer: the worker that owns it. Readers see whole values.
type cell struct{ v uint64 }

func (c *cell) add(n uint64) { atomic.StoreUint64(&c.v, c.v+n) }
func (c *cell) load() uint64 { return atomic.LoadUint64(&c.v) }

// linkCells is one worker's account of one link.
type linkCells struct {
	rxPackets, rxOctets, txPackets, txOctets, txFailed cell
	noCarrier, collisions                              cell // of links of kind ipsec
}

func (l *linkCells) received(n, octets uint64) {
	l.rxPackets.add(n)
	l.rxOctets.add(octets)
}

// Counters is one worker's account. It is the worker's own memory: nothing here is shared with
// another writer.
type Counters struct {
	links   [maxLinks]linkCells
	drops   [packet.NumReasons]cell
	icmpIn  [256]cell
	icmpOut [256]cell
	simple  [numSimple]cell
}

// Simple names a counter that is one number.
type Simple int

// The simple counters, named after the IP-MIB (RFC 4293) where it has them.
const (
	Forwarded Simple = iota
	Delivered
	Originated
	FragmentedOK
	FragmentsCreated
	ReassemblyNeeded
	ReassembledOK
	SegmentedSuperpackets
	SegmentsCreated
	PacketsCoalesced
	ChecksumsCompleted
	EchoReplies
	ErrorsSent
	numSimple
)

var simpleNames = [numSimple]string{
	"forwarded", "delivered", "originated", "fragmented_ok", "fragments_created", "reassembly_needed",
	"reassembled_ok", "superpackets_split", "segments_created", "packets_coalesced", "checksums_completed", "echo_replies", "icmp_errors_sent",
}

func (s Simple) String() string { return simpleNames[s] }

// offPath counts the drops made by other goroutines than workers.
type offPath struct {
	drops [packet.NumReasons]atomic.Uint64
}

// LinkStats is the account of one link: 64 bits each, never going back.
type LinkStats struct {
	RxPackets, RxOctets, TxPackets, TxOctets, TxFailed uint64
	// Of links of kind ipsec, as Linux counts: what no SA takes, and what would come back to such a link.
	TxCarrier, TxCollisions uint64
}

// Stats is the sum over all workers at one moment.
type Stats struct {
	Links   map[int]LinkStats
	Drops   [packet.NumReasons]uint64
	ICMPIn  [256]uint64
	ICMPOut [256]uint64
	Simple  [numSimple]uint64
}

// Get returns a simple counter.
func (s *Stats) Get(c Simple) uint64 { return s.Simple[c] }

// Each calls f for every simple counter.
func (s *Stats) Each(f func(name string, value uint64)) {
	for i, v := range s.Simple {
		f(simpleNames[i], v)
	}
}

// Stats sums the counters. Any goroutine.
func (p *Path) Stats() *Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &Stats{Links: map[int]LinkStats{}}
	s.sum(&p.retired)
	for _, w := range p.workers {
		s.sum(&w.count)
	}
	for i := range p.off.drops {
		s.Drops[i] += p.off.drops[i].Load()
	}
	return s
}

func (s *Stats) sum(c *Counters) {
	for i := range c.links {
		l := &c.links[i]
		rx, tx, failed, carrier, collisions := l.rxPackets.load(), l.txPackets.load(), l.txFailed.load(), l.noCarrier.load(), l.collisions.load()
		if rx|tx|failed|carrier|collisions != 0 {
			t := s.Links[i]
			t.RxPackets += rx
			t.RxOctets += l.rxOctets.load()
			t.TxPackets += tx
			t.TxOctets += l.txOctets.load()
			t.TxFailed += failed
			t.TxCarrier += carrier
			t.TxCollisions += collisions
			s.Links[i] = t
		}
	}
	for i := range c.drops {
		s.Drops[i] += c.drops[i].load()
	}
	for i := range c.icmpIn {
		s.ICMPIn[i] += c.icmpIn[i].load()
		s.ICMPOut[i] += c.icmpOut[i].load()
	}
	for i := range c.simple {
		s.Simple[i] += c.simple[i].load()
	}
}

// addTo adds the account of a worker that has ended; the path's mutex is held.
func (c *Counters) addTo(w *Counters) {
	for i := range c.links {
		a, b := &c.links[i], &w.links[i]
		a.rxPackets.add(b.rxPackets.load())
		a.rxOctets.add(b.rxOctets.load())
		a.txPackets.add(b.txPackets.load())
		a.txOctets.add(b.txOctets.load())
		a.txFailed.add(b.txFailed.load())
		a.noCarrier.add(b.noCarrier.load())
		a.collisions.add(b.collisions.load())
	}
	for i := range c.drops {
		c.drops[i].add(w.drops[i].load())
	}
	for i := range c.icmpIn {
		c.icmpIn[i].add(w.icmpIn[i].load())
		c.icmpOut[i].add(w.icmpOut[i].load())
	}
	for i := range c.simple {
		c.simple[i].add(w.simple[i].load())
	}
}
