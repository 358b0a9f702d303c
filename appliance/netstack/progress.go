package netstack

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
)

const (
	// progressFlows is how many TCP connections are watched; one that falls on another's place takes it.
	progressFlows = 1024
	// progressPause is how long one connection's progress is not told again.
	progressPause = time.Second
)

// progress notices when TCP makes forward progress with a peer: an acknowledgment of data that was sent and
// not acknowledged before. It proves that the way to the peer works (RFC 4861 7.3.1). An acknowledgment of
// what was never sent proves nothing.
type progress struct {
	seed maphash.Seed
	mu   sync.Mutex
	at   [progressFlows]progressFlow
}

type progressFlow struct {
	key       uint64
	una, next uint32 // the sequence numbers that wait for an acknowledgment
	as        sentAs
	told      clock.Instant
}

// sentAs is what of a segment counts for its route and is not in an answer to it.
type sentAs struct {
	mark    uint32
	dsField uint8
}

// key names a connection: the peer's address, then the ports, local first.
func (g *progress) key(peer []byte, local, remote []byte) uint64 {
	var k [20]byte
	copy(k[:], peer)
	copy(k[16:], local)
	copy(k[18:], remote)
	return maphash.Bytes(g.seed, k[:])
}

// sent notes a segment of ours: t is its TCP header and data.
func (g *progress) sent(dst []byte, t []byte, as sentAs) {
	n := uint32(len(t) - int(t[12]>>4)*4)
	n += uint32(t[13]&1) + uint32(t[13]>>1&1) // FIN and SYN take a number each
	if n == 0 {
		return
	}
	seq := binary.BigEndian.Uint32(t[4:])
	key := g.key(dst, t[0:2], t[2:4])
	g.mu.Lock()
	defer g.mu.Unlock()
	f := &g.at[key%progressFlows]
	switch {
	case f.key != key:
		*f = progressFlow{key: key, una: seq, next: seq + n}
	case int32(seq+n-f.next) > 0:
		f.next = seq + n
	}
	f.as = as
}

// acked takes in a segment of the peer, and reports whether it is progress that is to be told now, and
// how what it acknowledges was sent.
func (g *progress) acked(now clock.Instant, src []byte, t []byte) (as sentAs, ok bool) {
	if t[13]&0x10 == 0 {
		return as, false
	}
	ack := binary.BigEndian.Uint32(t[8:])
	key := g.key(src, t[2:4], t[0:2])
	g.mu.Lock()
	defer g.mu.Unlock()
	f := &g.at[key%progressFlows]
	if f.key != key || int32(ack-f.una) <= 0 || int32(f.next-ack) < 0 {
		return as, false
	}
	f.una = ack
	if f.told != 0 && now < f.told.Add(progressPause) {
		return as, false
	}
	f.told = now
	return f.as, true
}

// tcpAcked tells whoever wants to know about the progress that a received segment proves.
func (h *Host) tcpAcked(b []byte, segment []byte, zone int) {
	if h.opts.Progress == nil {
		return
	}
	as, ok := h.progress.acked(h.clock.Now(), b[8:24], segment)
	if !ok {
		return
	}
	q := module.RouteQuery{
		Dst: netip.AddrFrom16(*src(b)), Src: netip.AddrFrom16(*dst(b)), Mark: as.mark, DSField: as.dsField,
		Proto: wire.TCP, SPort: binary.BigEndian.Uint16(segment[2:]), DPort: binary.BigEndian.Uint16(segment),
	}
	if isLinkLocal(src(b)) {
		q.Out = zone
	}
	h.opts.Progress(q)
}
