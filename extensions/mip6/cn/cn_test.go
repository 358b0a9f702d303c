package cn

import (
	"net/netip"
	"testing"
	"time"

	awire "leveret/appliance/wire"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

var (
	us   = netip.MustParseAddr("2001:db8:300::c")
	home = netip.MustParseAddr("2001:db8:100::abcd")
	away = netip.MustParseAddr("2001:db8:200::1234")
)

func newNode() *Node {
	c := bcache.New(bcache.Limits{Peers: 4, Homes: 4, Ended: 8}, func() float64 { return 0.5 })
	return New(c, rr.New(func(b []byte) {
		for i := range b {
			b[i] = byte(i + 1)
		}
	}))
}

// TestProtected: that an SA has protected an update is told to who judges it.
func TestProtected(t *testing.T) {
	for _, protected := range []bool{false, true} {
		n := newNode()
		w := wire.NewBindingUpdate(nil, 1, wire.FlagAcknowledge|wire.FlagHome, 100)
		w.AlternateCareOf(away)
		b := w.Finish(home, us)
		m, f := wire.Parse(b, 0, home, us)
		if !f.OK() {
			t.Fatal(f)
		}
		p := bcache.Policy{Agent: &bcache.Agent{OnLink: true, Valid: clock.Never, Preferred: clock.Never}}
		r := n.Receive(1, Arrival{Src: home, Dst: us, CareOf: away, Option: true, Own: true, Protected: protected}, m, p)
		want := bcache.Unprotected
		if protected {
			want = bcache.None
		}
		if r.Outcome == nil || r.Outcome.Reason != want {
			t.Errorf("protected %v: %+v", protected, r.Outcome)
		}
	}
}

// TestUndo: a binding that could not be put in force is refused as one that there is no room for.
func TestUndo(t *testing.T) {
	for _, flags := range []uint16{wire.FlagAcknowledge, 0} {
		n := newNode()
		hi, h := n.nonces.Home(1, home)
		ci, c := n.nonces.CareOf(1, away)
		w := wire.NewBindingUpdate(nil, 9, flags, 100)
		w.NonceIndices(hi, ci)
		w.Authorization()
		key := rr.BindingKey(h, c)
		rr.Sign(key, away, us, w.Close())
		m, f := wire.Parse(w.Finish(home, us), 0, home, us)
		if !f.OK() {
			t.Fatal(f)
		}
		r := n.Receive(1, Arrival{Src: home, Dst: us, CareOf: away, Option: true, Own: true}, m, bcache.Policy{})
		if r.Outcome == nil || r.Outcome.Change != bcache.Added || (r.Packet != nil) != (flags != 0) {
			t.Fatalf("%+v", r)
		}
		b := n.Undo(1, r.Outcome)
		if _, bound := n.cache.Lookup(bcache.Key{Local: us, Home: home}); bound || (b != nil) != (flags != 0) {
			t.Fatalf("bound %v, % x", bound, b)
		}
		if b == nil {
			continue
		}
		answer, f := wire.Parse(b, 64, us, home)
		ack, ok := answer.BindingAck()
		if !f.OK() || !ok || ack.Status() != wire.NoResources || ack.Sequence() != 9 || ack.Lifetime() != 0 || !rr.Verify(key, away, us, ack.Bytes()) {
			t.Errorf("%v: % x", f, b)
		}
	}
}

// TestBucket: as many at once as a second has, then one after the other.
func TestBucket(t *testing.T) {
	b := bucket{rate: 10}
	now := clock.Instant(time.Hour)
	took := func() (n int) {
		for range 100 {
			if b.take(now) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 10}, {0, 0}, {99 * time.Millisecond, 0}, {2 * time.Millisecond, 1}, {time.Second, 10}, {time.Hour, 10}} {
		now = now.Add(c.after)
		if n := took(); n != c.want {
			t.Errorf("after %v: %d, want %d", c.after, n, c.want)
		}
	}
}

// FuzzLost: quoted packets may be anything.
func FuzzLost(f *testing.F) {
	q := append(awire.AppendIPv6(nil, awire.IPv6Fields{PayloadLength: 24, NextHeader: awire.Routing, Src: us, Dst: away}), wire.AppendType2(nil, awire.UDP, home)...)
	for n := range len(q) {
		f.Add(q[:n])
	}
	f.Add(q)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < awire.IPv6HeaderLen {
			return
		}
		var c awire.Chain
		c.Walk(b)
		if k, careOf, ok := Lost(b, &c); ok && (!wire.Routable(k.Home) || !careOf.IsValid() || len(b) < 64) {
			t.Errorf("%v %v", k, careOf)
		}
	})
}

// FuzzReceive: a message that its parser has passed gets one answer at most, which its parser passes too.
func FuzzReceive(f *testing.F) {
	for _, w := range []wire.Builder{
		wire.NewTestInit(nil, wire.TypeHoTI, [8]byte{1}), wire.NewTestInit(nil, wire.TypeCoTI, [8]byte{2}), wire.NewRefreshRequest(nil),
		wire.NewBindingUpdate(nil, 1, 0xffff, 9), wire.NewBindingUpdate(nil, 1, wire.FlagAcknowledge, 0),
	} {
		f.Add(w.Close(), true, true)
		f.Add(w.Close(), false, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, option, protected bool) {
		if len(b) < 8 {
			return
		}
		b[4], b[5] = 0, 0
		s, d := home.As16(), us.As16()
		c := awire.Checksum(&s, &d, awire.MH, b[:min(len(b), (int(b[1])+1)*8)])
		b[4], b[5] = byte(c>>8), byte(c)
		m, fault := wire.Parse(b, 0, home, us)
		if !fault.OK() {
			return
		}
		a := Arrival{Src: home, Dst: us, CareOf: home, Option: option, Own: true, Protected: protected}
		if option {
			a.CareOf = away
		}
		r := newNode().Receive(1, a, m, bcache.Policy{})
		if (r.Ignored == "") != (r.Packet != nil || r.Outcome != nil) {
			t.Fatalf("%+v", r)
		}
		if r.Packet == nil {
			return
		}
		off, to := 40, netip.AddrFrom16([16]byte(r.Packet[24:]))
		if r.Packet[6] == awire.Routing {
			off, to = 64, home
		}
		if _, fault := wire.Parse(r.Packet, off, us, to); !fault.OK() {
			t.Errorf("%v: % x", fault.Reason, r.Packet)
		}
	})
}
