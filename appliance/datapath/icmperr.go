package datapath

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// errorRoom is how much of the invoking packet an error can quote: the error must not exceed the
// minimum MTU (RFC 4443 2.4(c)).
const errorRoom = wire.MinMTU - wire.IPv6HeaderLen - wire.ICMPv6HeaderLen

// sendError answers p with an ICMPv6 error, if RFC 4443 2.4 allows one. p is borrowed and is as
// it was received: its hop limit not yet decremented. This is the only place that builds errors.
func (w *Worker) sendError(p *packet.Packet, e module.ICMPError) {
	if p.Walked != 0 {
		q := w.pool.Get()
		defer q.Release()
		if q.Room() < p.Len() {
			q = packet.NewBuffer(p.Len())
		}
		p.CopyTo(q)
		asReceived(q)
		p = q
	}
	b := p.Bytes()
	if len(b) < wire.IPv6HeaderLen || !w.mayAnswer(p, b, e) {
		w.count.drops[packet.ErrorNotAllowed].add(1)
		return
	}
	if p.In != 0 && !w.path.limiter.allow(w.now) { // what this node tells itself burdens no link
		w.count.drops[packet.ErrorRateLimited].add(1)
		return
	}
	to := netip.AddrFrom16(*src(b))
	from := w.errorSource(p, to)
	if !from.IsValid() {
		w.count.drops[packet.ErrorNotAllowed].add(1)
		return
	}
	quote := b[:min(len(b), p.SegmentLen(), errorRoom)]
	m := w.pool.Get()
	mb := m.Extend(wire.IPv6HeaderLen + wire.ICMPv6HeaderLen + len(quote))
	wire.PutIPv6(mb, wire.IPv6Fields{
		PayloadLength: uint16(len(mb) - wire.IPv6HeaderLen), NextHeader: wire.ICMPv6,
		Src: from, Dst: to, // the hop limit is the link's
	})
	ic := mb[wire.IPv6HeaderLen:]
	ic[0], ic[1], ic[2], ic[3] = e.Type, e.Code, 0, 0
	binary.BigEndian.PutUint32(ic[4:], e.Arg)
	copy(ic[wire.ICMPv6HeaderLen:], quote)
	if p.GSO.Type != packet.GSONone { // the quote is of the first segment, not of the superpacket
		binary.BigEndian.PutUint16(ic[wire.ICMPv6HeaderLen+4:], uint16(p.SegmentLen()-wire.IPv6HeaderLen))
	}
	wire.UpdateICMPv6Checksum(mb, wire.IPv6HeaderLen)
	if to.IsLinkLocalUnicast() {
		m.Out = p.Zone()
	}
	w.count.icmpOut[e.Type].add(1)
	w.count.simple[ErrorsSent].add(1)
	w.route = append(w.route, m)
}

// mayAnswer applies RFC 4443 2.4(e).
func (w *Worker) mayAnswer(p *packet.Packet, b []byte, e module.ICMPError) bool {
	s, d := src(b), dst(b)
	if wire.IsUnspecified(s) || s[0] == 0xff || wire.IsLoopback(s) { // e.6
		return false
	}
	// e.3 to e.5: never to what was sent to many, but Packet Too Big (path MTU discovery works for
	// multicast) and the Parameter Problem of an option that asks for it.
	toMany := d[0] == 0xff || p.L2 != packet.L2Unicast
	if toMany && e.Type != wire.TypePacketTooBig &&
		(e.Type != wire.TypeParameterProblem || e.Code != wire.CodeUnrecognizedOption) {
		return false
	}
	var c wire.Chain // not the worker's: the caller may be walking with that one
	c.Walk(b)
	if c.Proto == wire.ICMPv6 && c.Off < len(b) && c.FragOffset == 0 {
		t := b[c.Off]
		return !wire.IsError(t) && t != wire.TypeRedirect // e.1, e.2
	}
	return true
}

// errorSource picks the source address (RFC 4443 2.2): the address the packet was sent to if it is
// a unicast address of ours, otherwise the one that anything sent to that destination would have.
func (w *Worker) errorSource(p *packet.Packet, to netip.Addr) netip.Addr {
	b := p.Bytes()
	if p.In == 0 { // our own packet: the error comes from the same node
		return to
	}
	if a := w.addrs.Lookup(dst(b), p.In); a != nil && a.Assigned() && !a.Anycast && !a.SubnetRouter {
		return a.Addr
	}
	if w.path.router == nil {
		return netip.Addr{}
	}
	q := module.RouteQuery{Dst: to, Proto: wire.ICMPv6} // that of the error
	if to.IsLinkLocalUnicast() {
		q.Out = p.In
	}
	return w.path.router.Route(q).Src
}

// limiter is the token bucket of RFC 4443 2.4(f), shared by all workers. It holds the virtual
// time at which the bucket is full again (GCRA), so one atomic word is the whole state.
type limiter struct {
	fullAt   atomic.Int64
	interval atomic.Int64 // nanoseconds a token takes; 0 = no limit
	burst    atomic.Int64 // nanoseconds of tokens the bucket holds
}

func (l *limiter) set(rate, burst int) {
	if rate <= 0 {
		l.interval.Store(0)
		return
	}
	iv := int64(time.Second) / int64(rate)
	l.burst.Store(iv * int64(max(burst, 1)))
	l.interval.Store(iv)
}

// allow takes a token if there is one.
func (l *limiter) allow(now clock.Instant) bool {
	iv := l.interval.Load()
	if iv == 0 {
		return true
	}
	for {
		full := l.fullAt.Load()
		next := max(full, int64(now)) + iv
		if next-int64(now) > l.burst.Load() {
			return false
		}
		if l.fullAt.CompareAndSwap(full, next) {
			return true
		}
	}
}
