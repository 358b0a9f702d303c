package datapath

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// The limits of reassembly. What a peer makes us keep is counted with its overhead.
const (
	reasmTimeout      = 60 * time.Second // RFC 8200 4.5
	reasmMax          = 8 << 20          // octets kept in all
	reasmMaxPerSource = 1 << 20          // octets kept for one source address
	reasmMaxFragments = 512              // of one datagram
	fragOverhead      = 320              // what keeping one fragment costs beside its octets
)

// reasmKey names a datagram (RFC 8200 4.5); link matters for link-local sources only. Fragments that came through
// other SAs are of another one, so that nobody slips his own in between.
type reasmKey struct {
	src, dst [16]byte
	id       uint32
	link     int
	came     [packet.MaxStates]any
}

// datagram is one packet being put together.
type datagram struct {
	key      reasmKey
	source   *source
	age      *list.Element // in reassembly.order
	ageInSrc *list.Element // in source.order
	deadline clock.Instant
	frags    []fragment // by offset
	have     int        // octets of the fragmentable part that are there
	total    int        // its length, -1 until the last fragment came
	ecn      uint8      // bit i: a fragment with ECN codepoint i came
	cost     int
	// poisoned: fragments overlapped. The datagram is gone, and what is still to come of it goes
	// the same way (RFC 5722 4).
	poisoned bool
}

type fragment struct {
	off, end int
	pkt      *packet.Packet // a copy, whole
	data     []byte         // in pkt
}

// reassembly puts fragments together. It is shared by all workers under one lock: fragments for
// this node are no part of the forwarding path. When a bound is reached the oldest datagram goes,
// of the same source if it is the source's bound.
type reassembly struct {
	mu      sync.Mutex
	byKey   map[reasmKey]*datagram
	sources map[[16]byte]*source
	order   *list.List // of *datagram, by age
	octets  int
}

// source is the account of one source address.
type source struct {
	order  *list.List // of *datagram, by age
	octets int
}

func newReassembly() *reassembly {
	return &reassembly{byKey: map[reasmKey]*datagram{}, sources: map[[16]byte]*source{}, order: list.New()}
}

// fragmented takes a fragment for this node. p is the worker's; its chain was walked in validate.
func (w *Worker) fragmented(p *packet.Packet) packet.Verdict {
	c := &w.chain
	b := p.Bytes()
	if c.Problem == wire.Truncated && c.Fragment+wire.FragmentHeaderLen > len(b) {
		return packet.Drop(packet.ChainTruncated)
	}
	data := b[c.Fragment+wire.FragmentHeaderLen:]
	p.FragField = namedAt(c, c.Fragment)
	w.count.simple[ReassemblyNeeded].add(1)
	if c.FragOffset == 0 && c.Problem == wire.FragmentIncomplete {
		w.sendError(p, paramProblem(wire.CodeFirstFragmentIncomplete, 0))
		return packet.Drop(packet.ChainFirstFragment)
	}
	if c.FragOffset == 0 && !c.MoreFragments {
		// An atomic fragment is whole, whatever else with its identification is around (RFC 6946 4).
		return w.whole(joined(p, c.Fragment, []fragment{{pkt: p, data: data}}, len(data)))
	}
	if c.MoreFragments && len(data)%8 != 0 {
		w.sendError(p, paramProblem(wire.CodeErroneousHeader, 4)) // the Payload Length field
		return packet.Drop(packet.FragmentMisaligned)
	}
	if c.Fragment-wire.IPv6HeaderLen+int(c.FragOffset)+len(data) > 65535 {
		w.sendError(p, paramProblem(wire.CodeErroneousHeader, c.Fragment+2)) // the Fragment Offset field
		return packet.Drop(packet.FragmentTooLong)
	}
	if len(data) == 0 {
		return packet.Drop(packet.FragmentMisaligned)
	}
	whole, v := w.path.reasm.add(w, p, data)
	if whole == nil {
		return v
	}
	return w.whole(whole)
}

// namedAt returns the offset of the Next Header octet that named the header at off.
func namedAt(c *wire.Chain, off int) int {
	at := wire.NextHeaderOffset
	for i := range c.N {
		if c.Headers[i].Off == off {
			break
		}
		at = c.Headers[i].Off
	}
	return at
}

// whole lets a datagram that is whole into the path in place of its last fragment.
func (w *Worker) whole(whole *packet.Packet) packet.Verdict {
	w.count.simple[ReassembledOK].add(1)
	w.act(whole, w.again(whole))
	return packet.Consumed
}

// joined builds the datagram: the headers in front of the first fragment's Fragment header, then
// the data of all.
func joined(last *packet.Packet, fragOff int, frags []fragment, total int) *packet.Packet {
	first := frags[0].pkt.Bytes()
	whole := packet.NewBuffer(fragOff + total)
	whole.In, whole.Out, whole.Mark, whole.Passes, whole.Whole = last.In, last.Out, last.Mark, last.Passes, true
	whole.SrcMAC, whole.DstMAC, whole.L2, whole.Tunneled = last.SrcMAC, last.DstMAC, frags[0].pkt.L2, last.Tunneled
	whole.Walked = frags[0].pkt.Walked
	whole.CameLike(last)
	copy(whole.Extend(fragOff), first[:fragOff])
	for _, f := range frags {
		copy(whole.Extend(len(f.data)), f.data)
	}
	b := whole.Bytes()
	b[frags[0].pkt.FragField] = first[fragOff] // what the Fragment header announced
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-wire.IPv6HeaderLen))
	return whole
}

// add takes one fragment in and returns the datagram when that made it whole.
func (r *reassembly) add(w *Worker, p *packet.Packet, data []byte) (*packet.Packet, packet.Verdict) {
	c := &w.chain
	b := p.Bytes()
	key := reasmKey{src: *src(b), dst: *dst(b), id: c.FragID}
	if wire.IsLinkLocal(&key.src) {
		key.link = p.Zone()
	}
	copy(key.came[:], p.Came())
	off := int(c.FragOffset)
	f := fragment{off: off, end: off + len(data)}

	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.byKey[key]
	if d == nil {
		d = r.insert(key, w.now.Add(reasmTimeout))
	}
	if d.poisoned {
		return nil, packet.Drop(packet.FragmentOverlap)
	}
	i, _ := slices.BinarySearchFunc(d.frags, off, func(x fragment, off int) int { return x.off - off })
	if i < len(d.frags) && d.frags[i].off == off && d.frags[i].end == f.end && bytes.Equal(d.frags[i].data, data) {
		return nil, packet.Drop(packet.FragmentDuplicate)
	}
	overlaps := i > 0 && d.frags[i-1].end > off || i < len(d.frags) && d.frags[i].off < f.end
	beyond := d.total >= 0 && (f.end > d.total || !c.MoreFragments && f.end != d.total) ||
		!c.MoreFragments && len(d.frags) > 0 && d.frags[len(d.frags)-1].end > f.end
	if overlaps || beyond {
		r.poison(d)
		return nil, packet.Drop(packet.FragmentOverlap)
	}
	if len(d.frags) >= reasmMaxFragments {
		r.poison(d)
		return nil, packet.Drop(packet.FragmentLimit)
	}
	cost := p.Len() + fragOverhead
	if !r.makeRoom(w, d, cost) {
		if len(d.frags) == 0 {
			r.remove(d)
		}
		return nil, packet.Drop(packet.FragmentLimit)
	}
	f.pkt = p.Clone()
	f.data = f.pkt.Bytes()[len(b)-len(data):]
	d.frags = slices.Insert(d.frags, i, f)
	d.have += len(data)
	d.ecn |= 1 << (b[1] >> 4 & 3)
	if !c.MoreFragments {
		d.total = f.end
	}
	if d.have != d.total {
		return nil, packet.Consumed
	}
	r.remove(d)
	const notECT, ce = 1 << 0, 1 << 3
	if d.ecn&ce != 0 && d.ecn&notECT != 0 {
		return nil, packet.Drop(packet.FragmentECN)
	}
	first := d.frags[0].pkt
	whole := joined(p, first.FragOff, d.frags, d.total)
	if d.ecn&ce != 0 {
		whole.Bytes()[1] |= 0x30
	}
	return whole, packet.Continue
}

// poison drops what a datagram has and leaves the stub that drops the rest.
func (r *reassembly) poison(d *datagram) {
	r.charge(d, -d.cost)
	d.frags, d.poisoned = nil, true
	r.charge(d, fragOverhead)
}

func (r *reassembly) charge(d *datagram, n int) {
	d.cost += n
	d.source.octets += n
	r.octets += n
}

// makeRoom charges n octets to d, evicting older datagrams where a bound asks for it. It reports
// whether there was room to be made.
func (r *reassembly) makeRoom(w *Worker, d *datagram, n int) bool {
	for d.source.octets+n > reasmMaxPerSource {
		if !r.evict(w, d, d.source.order) {
			return false
		}
	}
	for r.octets+n > reasmMax {
		if !r.evict(w, d, r.order) {
			return false
		}
	}
	r.charge(d, n)
	return true
}

// evict removes the oldest datagram of a list that is not keep.
func (r *reassembly) evict(w *Worker, keep *datagram, order *list.List) bool {
	e := order.Front()
	if e != nil && e.Value.(*datagram) == keep {
		e = e.Next()
	}
	if e == nil {
		return false
	}
	d := e.Value.(*datagram)
	w.count.drops[packet.FragmentEvicted].add(uint64(max(len(d.frags), 1)))
	r.remove(d)
	return true
}

func (r *reassembly) insert(key reasmKey, deadline clock.Instant) *datagram {
	s := r.sources[key.src]
	if s == nil {
		s = &source{order: list.New()}
		r.sources[key.src] = s
	}
	d := &datagram{key: key, source: s, deadline: deadline, total: -1}
	r.byKey[key] = d
	d.age, d.ageInSrc = r.order.PushBack(d), s.order.PushBack(d)
	return d
}

func (r *reassembly) remove(d *datagram) {
	r.charge(d, -d.cost)
	delete(r.byKey, d.key)
	r.order.Remove(d.age)
	d.source.order.Remove(d.ageInSrc)
	if d.source.order.Len() == 0 {
		delete(r.sources, d.key.src)
	}
}

// expire gives up the datagrams whose time is over. If the first fragment came, the source is told
// (RFC 8200 4.5).
func (r *reassembly) expire(w *Worker) {
	r.mu.Lock()
	var over []*datagram
	for e := r.order.Front(); e != nil; e = r.order.Front() {
		d := e.Value.(*datagram)
		if d.deadline > w.now {
			break
		}
		over = append(over, d)
		r.remove(d)
	}
	r.mu.Unlock()
	for _, d := range over {
		if len(d.frags) == 0 {
			continue
		}
		w.count.drops[packet.FragmentTimeout].add(uint64(len(d.frags)))
		if d.frags[0].off == 0 {
			w.sendError(d.frags[0].pkt, module.ICMPError{Type: wire.TypeTimeExceeded, Code: wire.CodeReassembly})
		}
	}
}

// deadline returns when the oldest datagram's time is over.
func (r *reassembly) deadline() clock.Instant {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.order.Front(); e != nil {
		return e.Value.(*datagram).deadline
	}
	return clock.Never
}

// flush forgets everything.
func (r *reassembly) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.byKey)
	clear(r.sources)
	r.order.Init()
	r.octets = 0
}

// held returns the octets and datagrams that are being kept.
func (r *reassembly) held() (octets, datagrams int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.octets, r.order.Len()
}
