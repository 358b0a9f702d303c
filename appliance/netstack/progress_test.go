package netstack

import (
	"encoding/binary"
	"hash/maphash"
	"testing"
	"time"

	"leveret/appliance/clock"
)

// segment is a TCP header with n octets behind it.
func tcpSegment(from, to uint16, seq, ack uint32, flags byte, n int) []byte {
	b := make([]byte, 20+n)
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13] = 5<<4, flags
	return b
}

// TestProgress: RFC 4861 7.3.1: only an acknowledgment of what was sent and not acknowledged before is
// progress, and that is told once a second.
func TestProgress(t *testing.T) {
	const syn, fin, ack = 2, 1, 16
	g := &progress{seed: maphash.MakeSeed()}
	peer, other := make([]byte, 16), append(make([]byte, 15), 1)
	now, sent := clock.Instant(time.Hour), sentAs{mark: 7, dsField: 0x20}
	hear := func(from []byte, n uint32, flags byte) bool {
		now = now.Add(2 * time.Second)
		as, ok := g.acked(now, from, tcpSegment(80, 1000, 0, n, flags, 0))
		if ok != (as == sent) {
			t.Errorf("sent as %+v", as)
		}
		return ok
	}
	if hear(peer, 101, ack) {
		t.Error("a connection that nobody began")
	}
	g.sent(peer, tcpSegment(1000, 80, 100, 0, syn, 0), sent)
	for _, c := range []struct {
		what  string
		from  []byte
		ack   uint32
		flags byte
		want  bool
	}{
		{"without ACK", peer, 101, syn, false},
		{"of what was never sent", peer, 102, ack, false},
		{"from somebody else", other, 101, ack, false},
		{"of the SYN", peer, 101, ack | syn, true},
		{"once more", peer, 101, ack, false},
		{"of less", peer, 50, ack, false},
	} {
		if got := hear(c.from, c.ack, c.flags); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	g.sent(peer, tcpSegment(1000, 80, 101, 0, ack, 0), sent) // an acknowledgment of ours takes no number
	if hear(peer, 102, ack) {
		t.Error("an acknowledgment of nothing")
	}
	g.sent(peer, tcpSegment(1000, 80, 101, 0, ack, 1000), sent)
	g.sent(peer, tcpSegment(1000, 80, 101, 0, ack, 1000), sent) // again
	g.sent(peer, tcpSegment(1000, 80, 1101, 0, ack|fin, 0), sent)
	if !hear(peer, 601, ack) || !hear(peer, 1101, ack) || !hear(peer, 1102, ack) || hear(peer, 1103, ack) {
		t.Error("data and FIN")
	}
	// Twice within a second: told once.
	g.sent(peer, tcpSegment(1000, 80, 1102, 0, ack, 100), sent)
	now = now.Add(2 * time.Second)
	_, a := g.acked(now, peer, tcpSegment(80, 1000, 0, 1110, ack, 0))
	_, b := g.acked(now.Add(time.Second/2), peer, tcpSegment(80, 1000, 0, 1120, ack, 0))
	_, c := g.acked(now.Add(time.Second), peer, tcpSegment(80, 1000, 0, 1130, ack, 0))
	if !a || b || !c {
		t.Errorf("%v %v %v", a, b, c)
	}
	// Sequence numbers wrap.
	g.sent(peer, tcpSegment(1001, 80, 0xfffffff0, 0, ack, 0x20), sent)
	now = now.Add(2 * time.Second)
	if _, ok := g.acked(now, peer, tcpSegment(80, 1001, 0, 8, ack, 0)); !ok {
		t.Error("after the wrap")
	}
	if n := testing.AllocsPerRun(100, func() { g.sent(peer, tcpSegment(1, 2, 3, 4, ack, 5), sent) }); n > 1 { // the segment itself
		t.Errorf("%v allocations", n)
	}
}
