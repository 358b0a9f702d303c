package datapath

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// send gives a packet to the path as this node's own.
func (r *rig) send(b []byte) {
	r.path.Send(packet.New(b))
	r.run()
}

// pattern returns n octets that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 2)
	}
	return b
}

// TestTailRule: a packet of exactly the path MTU leaves whole, without a Fragment header; the
// first octet too many makes fragments, each as large as fits (seed S4; RFC 8200 4.5).
func TestTailRule(t *testing.T) {
	for mtu := 1280; mtu <= 1296; mtu++ {
		for size := mtu - 16; size <= mtu+16; size++ {
			r := newRig(t)
			r.link(1, func(l *module.Link) { l.MTU = mtu })
			whole := udp(routerA, hostA, pattern(size-48))
			r.send(whole)
			got := r.a.took()
			if size <= mtu {
				if len(got) != 1 || !bytes.Equal(got[0], whole) {
					t.Fatalf("mtu %d size %d: %d packets, the first of %d octets", mtu, size, len(got), len(got[0]))
				}
				continue
			}
			first := 40 + 8 + (mtu-48)&^7
			if len(got) != 2 || len(got[0]) != first || len(got[1]) != size-first+56 {
				t.Fatalf("mtu %d size %d: %d packets of %v octets, want %d first", mtu, size, len(got), lengths(got), first)
			}
			if back := reassembleByHand(t, got); !bytes.Equal(back, whole) {
				t.Fatalf("mtu %d size %d: the fragments do not make the packet", mtu, size)
			}
		}
	}
}

func lengths(ps [][]byte) (out []int) {
	for _, p := range ps {
		out = append(out, len(p))
	}
	return out
}

// reassembleByHand joins fragments without extension headers, checking every field.
func reassembleByHand(t *testing.T, frags [][]byte) []byte {
	t.Helper()
	var body []byte
	id := binary.BigEndian.Uint32(frags[0][44:])
	for i, f := range frags {
		fo := binary.BigEndian.Uint16(f[42:])
		if f[6] != wire.Fragment || f[41] != 0 || fo&6 != 0 {
			t.Fatalf("fragment %d: next header %d, reserved %d, flags %x", i, f[6], f[41], fo)
		}
		if int(fo&^7) != len(body) || (fo&1 == 1) != (i < len(frags)-1) || binary.BigEndian.Uint32(f[44:]) != id {
			t.Fatalf("fragment %d: offset %d, want %d; more %d", i, fo&^7, len(body), fo&1)
		}
		if int(binary.BigEndian.Uint16(f[4:])) != len(f)-40 {
			t.Fatalf("fragment %d: payload length", i)
		}
		body = append(body, f[48:]...)
	}
	whole := append(append([]byte(nil), frags[0][:40]...), body...)
	whole[6] = frags[0][40]
	binary.BigEndian.PutUint16(whole[4:], uint16(len(body)))
	return whole
}

// TestUnfragmentablePartStaysInFront: Hop-by-Hop and Routing headers are in every fragment, before
// the Fragment header and in their order; other Destination Options are in the first one only.
func TestUnfragmentablePartStaysInFront(t *testing.T) {
	hbh := []byte{wire.DestOpts, 0, 1, 4, 0, 0, 0, 0}
	do1 := []byte{wire.Routing, 0, 1, 4, 0, 0, 0, 0}
	rh := []byte{wire.DestOpts, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	do2 := []byte{200, 0, 1, 4, 0, 0, 0, 0}
	r := newRig(t)
	r.send(ip6(routerA, hostA, wire.HopByHop, hbh, do1, rh, do2, pattern(3000)))
	got := r.a.took()
	if len(got) != 3 {
		t.Fatalf("%d fragments", len(got))
	}
	for i, f := range got {
		want := slices.Concat(hbh, do1, rh)
		want[16] = wire.Fragment // the routing header announces it
		if !bytes.Equal(f[40:80], want) || f[80] != wire.DestOpts {
			t.Errorf("fragment %d begins % x", i, f[40:96])
		}
	}
}

// TestOwnHopLimit: a packet of this node that names no hop limit gets the one of the link it leaves
// by (CurHopLimit, RFC 4861 6.3.2), else the node's.
func TestOwnHopLimit(t *testing.T) {
	for _, c := range []struct{ made, link, want int }{{0, 0, 64}, {0, 17, 17}, {255, 17, 255}, {1, 0, 1}} {
		r := newRig(t)
		r.link(1, func(l *module.Link) { l.HopLimit = c.link })
		b := udp(routerA, hostA, nil)
		b[7] = byte(c.made)
		r.send(b)
		if got := r.a.took(); len(got) != 1 || int(got[0][7]) != c.want {
			t.Errorf("made with %d, link says %d: %x", c.made, c.link, got)
		}
	}
}

// TestOwnTCPTooLong: TCP is told, as a router on the way would tell it.
func TestOwnTCPTooLong(t *testing.T) {
	r := newRig(t)
	tcp := make([]byte, 20)
	tcp[12] = 5 << 4
	r.send(ip6(routerA, hostA, wire.TCP, tcp, pattern(1500)))
	if len(r.a.took()) != 0 || len(r.host.got) != 1 || icmpOf(r.host.got[0].Bytes()) != (module.ICMPError{Type: 2, Arg: 1500}) {
		t.Errorf("delivered %d", len(r.host.got))
	}
	if e := r.path.PathMTU().All(r.clock.Now()); len(e) != 0 {
		t.Errorf("our own message made a path MTU entry: %v", e)
	}
}

// TestPathMTU: a Packet Too Big makes later packets smaller, for ten minutes, and never larger.
func TestPathMTU(t *testing.T) {
	r := newRig(t)
	r.router.routes = append(r.router.routes, &rigRoute{prefix: netip.MustParsePrefix("::/0"), dev: 2, gateway: hostB})
	far := netip.MustParseAddr("2001:db8:f::1")
	big := udp(routerB, far, pattern(1400))
	count := func() int { r.send(big); return len(r.b.took()) }
	if n := count(); n != 1 {
		t.Fatalf("%d packets before", n)
	}
	r.fromA(ptb(udp(routerB, far, nil), 1300))
	r.fromA(ptb(udp(routerB, far, nil), 1400)) // must not raise it
	if n := count(); n != 2 {
		t.Errorf("%d packets after Packet Too Big", n)
	}
	if e := r.path.PathMTU().All(r.clock.Now()); len(e) != 1 || e[0].MTU != 1300 || e[0].Dst != far {
		t.Errorf("entries %v", e)
	}
	r.host.sent = false
	r.fromA(ptb(udp(routerB, far, nil), 1280)) // of a flow that does not exist
	if e := r.path.PathMTU().All(r.clock.Now()); e[0].MTU != 1300 {
		t.Errorf("a foreign flow's message was believed: %v", e)
	}
	r.clock.Advance(10 * time.Minute)
	if d := r.path.Deadline(); d > r.clock.Now() {
		t.Errorf("no deadline for the entry's age")
	}
	r.path.Tick()
	if n := count(); n != 1 {
		t.Errorf("%d packets after ten minutes", n)
	}
}

func TestPathMTUIsBounded(t *testing.T) {
	c := NewPathMTU()
	for i := range pmtuMax + 1000 {
		var d [16]byte
		binary.BigEndian.PutUint32(d[12:], uint32(i))
		c.Update(&d, 1300, 1)
	}
	if n := len(c.All(2)); n != pmtuMax {
		t.Errorf("%d entries", n)
	}
	if n := c.Flush(); n != pmtuMax || len(c.All(2)) != 0 {
		t.Errorf("flushed %d", n)
	}
}

// TestPathMTULimit: a smaller bound evicts what ends first, at once, and holds from then on; a larger one
// gives room.
func TestPathMTULimit(t *testing.T) {
	c := NewPathMTU()
	add := func(from, to int) {
		for i := from; i < to; i++ {
			var d [16]byte
			binary.BigEndian.PutUint32(d[12:], uint32(i))
			c.Update(&d, 1300, clock.Instant(i+1))
		}
	}
	add(0, 100)
	c.Limit(20)
	all := c.All(101)
	if len(all) != 20 || all[0].Dst != netip.MustParseAddr("::50") {
		t.Errorf("%d entries are left, from %v", len(all), all[0].Dst)
	}
	add(100, 200)
	if n := len(c.All(201)); n != 20 {
		t.Errorf("%d entries, want 20", n)
	}
	c.Limit(50)
	add(200, 300)
	if n := len(c.All(301)); n != 50 {
		t.Errorf("%d entries, want 50", n)
	}
}

// fragments cuts a packet for us into fragments of n octets of data each.
func fragments(whole []byte, id uint32, n int) [][]byte {
	var out [][]byte
	body := whole[40:]
	for off := 0; off < len(body); off += n {
		end := min(off+n, len(body))
		more := byte(0)
		if end < len(body) {
			more = 1
		}
		f := append([]byte(nil), whole[:40]...)
		f = append(f, whole[6], 0, byte(off>>8), byte(off)|more)
		f = binary.BigEndian.AppendUint32(f, id)
		f = append(f, body[off:end]...)
		f[6] = wire.Fragment
		binary.BigEndian.PutUint16(f[4:], uint16(len(f)-40))
		out = append(out, f)
	}
	return out
}

// TestReassemblyAnyOrder: the datagram comes out whole whatever the order, exact duplicates are
// passed over, and two datagrams do not mix.
func TestReassemblyAnyOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		r := newRig(t)
		one, two := udp(hostA, routerA, pattern(3000)), udp(hostA, routerA, pattern(2500))
		all := append(fragments(one, 1, 8*(1+rnd.IntN(100))), fragments(two, 2, 1024)...)
		all = append(all, all[0])
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		r.fromA(all...)
		if len(r.host.got) != 2 {
			t.Fatalf("delivered %d, drops %v", len(r.host.got), r.drops())
		}
		for _, p := range r.host.got {
			if !bytes.Equal(p.Bytes(), one) && !bytes.Equal(p.Bytes(), two) {
				t.Fatal("neither datagram")
			}
		}
	}
}

// TestEchoReplyOfReassembledRequestIsFragmented: a 3000-octet ping is answered in fragments.
func TestEchoReplyOfReassembledRequestIsFragmented(t *testing.T) {
	r := newRig(t)
	req := echoRequest(hostA, routerA, pattern(3000))
	r.fromA(fragments(req, 5, 1448)...)
	got := r.a.took()
	if len(got) != 3 {
		t.Fatalf("%d packets, drops %v", len(got), r.drops())
	}
	reply := reassembleByHand(t, got)
	if reply[40] != wire.TypeEchoReply || !wire.VerifyICMPv6(reply, 40) || !bytes.Equal(reply[48:], req[48:]) {
		t.Error("the reply is not the request's")
	}
}

// TestFragmentsAreNotTakenForND: what a later fragment begins with is data, whatever ICMPv6 type it looks like;
// an ND message in fragments is known by its first one, and dropped (RFC 6980 5).
func TestFragmentsAreNotTakenForND(t *testing.T) {
	for first := range 256 {
		r := newRig(t)
		data := pattern(3000)
		data[1440] = byte(first) // 1448 octets of a fragment, of which 8 are the ICMPv6 header
		r.fromA(fragments(echoRequest(hostA, routerA, data), 5, 1448)...)
		if got := r.a.took(); len(got) != 3 || r.found != 0 {
			t.Errorf("a later fragment begins with %d: %d fragments of the reply, want 3; drops %v", first, len(got), r.drops())
		}
	}
	r := newRig(t)
	r.fromA(fragments(retype(echoRequest(hostA, routerA, pattern(3000)), wire.TypeNeighborSolicitation), 5, 1448)[0])
	if want := (map[packet.Reason]uint64{packet.NDInvalid: 1}); !maps.Equal(r.drops(), want) || r.found != 0 {
		t.Errorf("ND in fragments: drops %v, want %v", r.drops(), want)
	}
}

func TestReassemblyOverlapDiscardsAll(t *testing.T) {
	r := newRig(t)
	fs := fragments(udp(hostA, routerA, pattern(3000)), 3, 1024)
	over := edit(fs[1], 42, byte(1016>>8), byte(1016&0xff)|1)
	r.fromA(fs[0], over, fs[1], fs[2])
	want := map[packet.Reason]uint64{packet.FragmentOverlap: 3}
	if got := r.drops(); len(r.host.got) != 0 || !maps.Equal(got, want) {
		t.Errorf("delivered %d, drops %v", len(r.host.got), got)
	}
}

func TestReassemblyLastFragmentContradicts(t *testing.T) {
	for name, second := range map[string]int{"shorter end": 2, "beyond the end": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			long, short := fragments(udp(hostA, routerA, pattern(4000)), 4, 1024), fragments(udp(hostA, routerA, pattern(1500)), 4, 1024)
			if second == 2 {
				r.fromA(long[2], short[len(short)-1])
			} else {
				r.fromA(short[len(short)-1], long[2])
			}
			if got := r.drops(); got[packet.FragmentOverlap] != 1 {
				t.Errorf("drops %v", got)
			}
		})
	}
}

// TestReassemblyTimeout: sixty seconds after the first that came, Time Exceeded code 1 if that
// includes the first fragment.
func TestReassemblyTimeout(t *testing.T) {
	fs := fragments(udp(hostA, routerA, pattern(3000)), 6, 1024)
	for name, c := range map[string]struct {
		got  [][]byte
		want module.ICMPError
	}{
		"with the first fragment":    {fs[:2], module.ICMPError{Type: 3, Code: 1}},
		"without the first fragment": {fs[1:2], module.ICMPError{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.fromA(c.got...)
			if d := r.path.Deadline(); d != r.clock.Now().Add(60*time.Second) {
				t.Errorf("deadline in %s", d.Sub(r.clock.Now()))
			}
			r.clock.Advance(60 * time.Second)
			r.path.Tick()
			r.run()
			var err module.ICMPError
			for _, e := range r.a.took() {
				err = icmpOf(e)
				if !bytes.Equal(e[48:48+64], fs[0][:64]) {
					t.Error("the error does not quote the first fragment")
				}
			}
			if err != c.want {
				t.Errorf("error %+v, want %+v", err, c.want)
			}
			if octets, n := r.path.reasm.held(); octets != 0 || n != 0 {
				t.Errorf("%d octets of %d datagrams are still held", octets, n)
			}
			if got := r.drops()[packet.FragmentTimeout]; got != uint64(len(c.got)) {
				t.Errorf("%d fragments timed out", got)
			}
		})
	}
}

// TestReassemblyBounds: neither one source nor all together make us keep more than the bounds, and
// a source at its bound does not evict another's datagrams.
func TestReassemblyBounds(t *testing.T) {
	r := newRig(t)
	other := fragments(udp(hostB, routerA, pattern(2000)), 1, 1024)
	r.fromA(other[0])
	for id := range uint32(3000) {
		r.fromA(fragments(udp(hostA, routerA, pattern(2000)), id, 1024)[0])
		if octets, _ := r.path.reasm.held(); octets > reasmMaxPerSource+4096 {
			t.Fatalf("%d octets held for one source", octets)
		}
	}
	r.fromA(other[1])
	if len(r.host.got) != 1 {
		t.Error("the other source's datagram was evicted")
	}
	for i := range 20000 {
		src := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 9, 9, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		r.fromA(fragments(udp(src, routerA, pattern(2000)), 1, 1024)[0])
	}
	if octets, _ := r.path.reasm.held(); octets > reasmMax {
		t.Errorf("%d octets held in all", octets)
	}
	if r.drops()[packet.FragmentEvicted] == 0 {
		t.Error("nothing was evicted")
	}
}

// TestReassemblyECN: congestion experienced by one fragment is the datagram's (RFC 3168 5.3).
func TestReassemblyECN(t *testing.T) {
	const ect0, ce = 0x20, 0x30 // in the second octet of the header
	for name, c := range map[string]struct {
		a, b byte
		want int // of the datagram; -1 = dropped
	}{"all ECN-capable": {ect0, ect0, ect0}, "one CE": {ect0, ce, ce}, "CE and not capable": {0, ce, -1}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			fs := fragments(udp(hostA, routerA, pattern(1500)), 8, 1024)
			r.fromA(edit(fs[0], 1, c.a), edit(fs[1], 1, c.b))
			switch {
			case c.want < 0:
				if r.drops()[packet.FragmentECN] != 1 {
					t.Error("not dropped")
				}
			case len(r.host.got) != 1 || int(r.host.got[0].Bytes()[1]) != c.want:
				t.Errorf("delivered %d", len(r.host.got))
			}
		})
	}
}
