package sad

import (
	"sync/atomic"

	"leveret/appliance/clock"
)

// Work is what workers make and open packets of an SA with: ciphers, replay window. The database only keeps
// it, so that updates and migrations do not begin anew; workers know its type.
type Work interface {
	// Position returns the highest number received and which of those up to it were.
	Position() (top uint64, bitmap []uint32)
}

// Live is what packets change of a state. Its methods are for any goroutine.
type Live struct {
	Added clock.Instant // set before the state is published
	Work  Work          // of a valid state of ESP or AH; likewise

	bytes, packets  atomic.Uint64
	oseq            atomic.Uint64 // the last number sent
	first, last     atomic.Int64  // use; 0 = never
	status          atomic.Uint32
	replayWindow    atomic.Uint64
	replay          atomic.Uint64
	integrityFailed atomic.Uint64

	own *entry // owner only
}

// Bits of status.
const (
	softTold = 1 << iota // a worker has returned SoftReached
	hardTold             // HardReached
	seqTold              // SeqReached
	dying                // the owner knows of the soft limit
	dead                 // not in the database any more
)

// Verdict is what the limits of a state say to a packet.
type Verdict uint8

// The verdicts. Those named Reached are returned to one packet only, whose worker tells the owner, see
// [DB.Reached], or, when it cannot, calls [Live.Again].
const (
	Ok          Verdict = iota
	SoftReached         // the packet goes on; the state is to be replaced
	HardReached         // the packet is dropped, the state is to go
	HardExpired         // as told before
	SeqReached          // the packet is dropped: no number is left (RFC 4303 3.3.3: to be audited)
	SeqExpired          // as told before
	Invalid             // the state is larval or gone: the snapshot is old
)

// latch sets a bit and reports whether it was clear.
func (l *Live) latch(bit uint32) bool { return l.status.Or(bit)&bit == 0 }

// Again makes the next packet return what could not be handed to the owner.
func (l *Live) Again() { l.status.And(^uint32(softTold | hardTold | seqTold)) }

// Before says, before a packet is processed, whether the limits of the state let it pass; size is what
// [Live.Count] will be given for it. Several workers can be between Before and Count at once, so that a
// limit is exceeded by what they hold, at most.
//
// DEVIATION(Linux): the packet that goes beyond a limit of octets is dropped, RFC 4301 4.4.2.1 (c), Linux
// drops the one after it.
func (s *State) Before(size int) Verdict {
	l := s.Live
	status := l.status.Load()
	if s.KM != Valid || status&dead != 0 {
		return Invalid
	}
	v := &s.Life
	n, p := l.bytes.Load(), l.packets.Load()
	if v.HardBytes != 0 && n+uint64(size) > v.HardBytes || v.HardPackets != 0 && p >= v.HardPackets {
		if l.latch(hardTold) {
			return HardReached
		}
		return HardExpired
	}
	soft := v.SoftBytes != 0 && n >= v.SoftBytes || v.SoftPackets != 0 && p >= v.SoftPackets
	if soft && status&(softTold|dying) == 0 && l.latch(softTold) {
		return SoftReached
	}
	return Ok
}

// NextSeq takes the next sequence number for a packet to be sent: 64 bits, of which 32 are on the wire and
// all make the IV of counter modes, so that an IV is never used twice. It is not reset by anything.
// RFC 4303 3.3.3: without esn the number must not cycle, unless oseq-may-wrap says that the peer does not
// mind.
func (s *State) NextSeq() (uint64, Verdict) {
	l := s.Live
	for {
		last := l.oseq.Load()
		n := last + 1
		if n == 0 || n > 1<<32-1 && s.Flags&ESN == 0 && s.Extra&OSeqMayWrap == 0 {
			if l.latch(seqTold) {
				return 0, SeqReached
			}
			return 0, SeqExpired
		}
		if l.oseq.CompareAndSwap(last, n) {
			return n, Ok
		}
	}
}

// Count counts a packet that was processed, with its size.
func (l *Live) Count(now clock.Instant, size int) {
	l.bytes.Add(uint64(size))
	l.packets.Add(1)
	if l.first.Load() == 0 {
		l.first.CompareAndSwap(0, int64(now))
	}
	l.last.Store(int64(now))
}

// LeftOfWindow counts a packet that was too old.
func (l *Live) LeftOfWindow() { l.replayWindow.Add(1) }

// Replayed counts a duplicate.
func (l *Live) Replayed() { l.replay.Add(1) }

// IntegrityFailed counts a packet with a wrong ICV.
func (l *Live) IntegrityFailed() { l.integrityFailed.Add(1) }

// Used returns when the first and the last packet were processed; 0 = never.
func (l *Live) Used() (first, last clock.Instant) {
	return clock.Instant(l.first.Load()), clock.Instant(l.last.Load())
}

// Counted returns the octets and packets processed.
func (l *Live) Counted() (octets, packets uint64) { return l.bytes.Load(), l.packets.Load() }

// OSeq returns the last sequence number taken.
func (l *Live) OSeq() uint64 { return l.oseq.Load() }

// Dying reports whether the soft limit was reached: another state is preferred.
func (l *Live) Dying() bool { return l.status.Load()&(dying|softTold) != 0 }

// Dead reports whether the state has left the database.
func (l *Live) Dead() bool { return l.status.Load()&dead != 0 }
