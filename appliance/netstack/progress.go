package netstack

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"leveret/appliance/clock"
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
	told      clock.Instant
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
func (g *progress) sent(dst []byte, t []byte) {
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
}

// acked takes in a segment of the peer, and reports whether it is progress that is to be told now.
func (g *progress) acked(now clock.Instant, src []byte, t []byte) bool {
	if t[13]&0x10 == 0 {
		return false
	}
	ack := binary.BigEndian.Uint32(t[8:])
	key := g.key(src, t[2:4], t[0:2])
	g.mu.Lock()
	defer g.mu.Unlock()
	f := &g.at[key%progressFlows]
	if f.key != key || int32(ack-f.una) <= 0 || int32(f.next-ack) < 0 {
		return false
	}
	f.una = ack
	if f.told != 0 && now < f.told.Add(progressPause) {
		return false
	}
	f.told = now
	return true
}

// tcpAcked tells whoever wants to know about the progress that a received segment proves.
func (h *Host) tcpAcked(b []byte, segment []byte, zone int) {
	if h.opts.Progress == nil || !h.progress.acked(h.clock.Now(), b[8:24], segment) {
		return
	}
	link := 0
	if isLinkLocal(src(b)) {
		link = zone
	}
	if p, err := wire.ParseIPv6(b); err == nil {
		h.opts.Progress(p.Dst(), p.Src(), link)
	}
}
