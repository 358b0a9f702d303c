package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	hostA = netip.MustParseAddr("2001:db8:1::a")
	hostB = netip.MustParseAddr("2001:db8:2::b")
)

func TestIPv6GoldenBothWays(t *testing.T) {
	f := IPv6Fields{TrafficClass: 0xb9, FlowLabel: 0x12345, PayloadLength: 0x0102, NextHeader: TCP, HopLimit: 63, Src: hostA, Dst: hostB}
	b := AppendIPv6([]byte{0xee}, f)[1:]
	want := []byte{0x6b, 0x91, 0x23, 0x45, 1, 2, 6, 63, 0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa,
		0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb}
	if !bytes.Equal(b, want) {
		t.Fatalf("got  % x\nwant % x", b, want)
	}
	h, err := ParseIPv6(b)
	if err != nil {
		t.Fatal(err)
	}
	got := IPv6Fields{h.TrafficClass(), h.FlowLabel(), h.PayloadLength(), h.NextHeader(), h.HopLimit(), h.Src(), h.Dst()}
	if got != f {
		t.Errorf("read back %+v", got)
	}
	for n := range 40 {
		if _, err := ParseIPv6(b[:n]); err == nil {
			t.Errorf("%d octets are a header", n)
		}
	}
	b[0] = 0x45
	if _, err := ParseIPv6(b); err == nil {
		t.Error("version 4 is accepted")
	}
}

// naiveSum is RFC 1071 as it is written.
func naiveSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if sum += w; sum > 0xffff {
			sum = sum&0xffff + 1
		}
	}
	return uint16(sum)
}

// TestSumAgreesWithTheNaiveOne at every length and alignment; zero and all ones are the same number.
func TestSumAgreesWithTheNaiveOne(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	buf := make([]byte, 4096)
	for i := range buf {
		buf[i] = byte(r.Uint32())
		if r.IntN(4) == 0 {
			buf[i] = 0xff
		}
	}
	for n := range 600 {
		off := r.IntN(64)
		got, want := Fold(Sum(buf[off:off+n], 0)), naiveSum(buf[off:off+n])
		if got%0xffff != want%0xffff {
			t.Fatalf("length %d: %04x, want %04x", n, got, want)
		}
	}
}

func TestICMPv6ChecksumVerifies(t *testing.T) {
	for n := range 100 {
		b := AppendIPv6(nil, IPv6Fields{PayloadLength: uint16(8 + n), NextHeader: ICMPv6, HopLimit: 64, Src: hostA, Dst: hostB})
		b = append(b, TypeEchoRequest, 0, 0, 0, 0, 1, 0, 2)
		b = append(b, bytes.Repeat([]byte{0xa5}, n)...)
		UpdateICMPv6Checksum(b, 40)
		if !VerifyICMPv6(b, 40) {
			t.Fatalf("%d octets of data: not right", n)
		}
		b[len(b)-1] ^= 0x10
		if VerifyICMPv6(b, 40) {
			t.Fatalf("%d octets of data: a changed message is right", n)
		}
	}
	if VerifyICMPv6(make([]byte, 47), 40) || VerifyICMPv6(make([]byte, 60), 0) {
		t.Error("a message that is not there is right")
	}
}

// hdr builds an extension header of n octets.
func hdr(next uint8, n int) []byte {
	b := make([]byte, n)
	b[0], b[1] = next, byte(n/8-1)
	return b
}

func chainPacket(first uint8, parts ...[]byte) []byte {
	var body []byte
	for _, p := range parts {
		body = append(body, p...)
	}
	return append(AppendIPv6(nil, IPv6Fields{PayloadLength: uint16(len(body)), NextHeader: first, HopLimit: 64, Src: hostA, Dst: hostB}), body...)
}

func frag(next uint8, off int, more bool) []byte {
	b := make([]byte, 8)
	PutFragment(b, FragmentFields{NextHeader: next, Offset: off, More: more, ID: 7})
	return b
}

func TestWalk(t *testing.T) {
	udp := make([]byte, 8)
	for _, c := range []struct {
		name                     string
		pkt                      []byte
		n, off, field, unfragEnd int
		proto                    uint8
		unfragField              int
		hbh, routing, fragment   int
		problem                  ChainProblem
		problemOff               int
	}{
		{name: "UDP", pkt: chainPacket(UDP, udp), proto: UDP, off: 40, field: 6, unfragEnd: 40, unfragField: 6},
		{name: "nothing behind the header", pkt: chainPacket(NoNext), proto: NoNext, off: 40, field: 6, unfragEnd: 40, unfragField: 6},
		{name: "every header in the recommended order", pkt: chainPacket(HopByHop, hdr(DestOpts, 8), hdr(Routing, 16), hdr(Fragment, 24), frag(DestOpts, 0, false), hdr(UDP, 8), udp),
			n: 5, proto: UDP, off: 104, field: 96, unfragEnd: 88, unfragField: 64, hbh: 40, routing: 64, fragment: 88},
		{name: "destination options without a routing header are fragmentable", pkt: chainPacket(DestOpts, hdr(UDP, 8), udp),
			n: 1, proto: UDP, off: 48, field: 40, unfragEnd: 40, unfragField: 6},
		{name: "a header of 2048 octets", pkt: chainPacket(DestOpts, hdr(UDP, 2048), udp), n: 1, proto: UDP, off: 2088, field: 40, unfragEnd: 40, unfragField: 6},
		{name: "AH counts in fours", pkt: chainPacket(AH, append([]byte{UDP, 4}, make([]byte, 22)...), udp), n: 1, proto: UDP, off: 64, field: 40, unfragEnd: 40, unfragField: 6},
		{name: "ESP ends the walk", pkt: chainPacket(DestOpts, hdr(ESP, 8), make([]byte, 30)), n: 1, proto: ESP, off: 48, field: 40, unfragEnd: 40, unfragField: 6},
		{name: "a later fragment ends the walk", pkt: chainPacket(Fragment, frag(DestOpts, 8, true), make([]byte, 8)), n: 1, proto: DestOpts, off: 48, field: 40, unfragEnd: 40, unfragField: 6, fragment: 40},
		{name: "hop-by-hop not first", pkt: chainPacket(DestOpts, hdr(HopByHop, 8), hdr(UDP, 8), udp), n: 1, proto: HopByHop, off: 48, field: 40, unfragEnd: 40, unfragField: 6,
			problem: HBHNotFirst, problemOff: 40},
		{name: "header over the end", pkt: chainPacket(DestOpts, []byte{UDP, 9, 0, 0, 0, 0, 0, 0}), proto: DestOpts, off: 40, field: 6, unfragEnd: 40, unfragField: 6, problem: Truncated, problemOff: 40},
		{name: "header cut", pkt: chainPacket(Routing, []byte{UDP, 0, 0}), proto: Routing, off: 40, field: 6, unfragEnd: 40, unfragField: 6, problem: Truncated, problemOff: 40},
		{name: "first fragment with half a TCP header", pkt: chainPacket(Fragment, frag(TCP, 0, true), make([]byte, 16)), n: 1, proto: TCP, off: 48, field: 40, unfragEnd: 40, unfragField: 6, fragment: 40,
			problem: FragmentIncomplete},
		{name: "first fragment with a whole TCP header", pkt: chainPacket(Fragment, frag(TCP, 0, true), make([]byte, 24)), n: 1, proto: TCP, off: 48, field: 40, unfragEnd: 40, unfragField: 6, fragment: 40},
		{name: "first fragment cut in the chain", pkt: chainPacket(Fragment, frag(DestOpts, 0, true), hdr(UDP, 16)[:8]), n: 1, proto: DestOpts, off: 48, field: 40, unfragEnd: 40, unfragField: 6, fragment: 40,
			problem: FragmentIncomplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w Chain
			w.Walk(c.pkt)
			if w.N != c.n || w.Proto != c.proto || w.Off != c.off || w.ProtoField != c.field || w.UnfragEnd != c.unfragEnd || w.UnfragProtoField != c.unfragField ||
				w.HopByHop != c.hbh || w.Routing != c.routing || w.Fragment != c.fragment || w.Problem != c.problem || w.ProblemOff != c.problemOff {
				t.Errorf("got %+v", w)
			}
		})
	}
}

func TestWalkGivesUpAfterTooMany(t *testing.T) {
	var parts [][]byte
	for range MaxHeaders + 1 {
		parts = append(parts, hdr(DestOpts, 8))
	}
	var w Chain
	w.Walk(chainPacket(DestOpts, parts...))
	if w.Problem != TooMany || w.N != MaxHeaders {
		t.Errorf("problem %d after %d", w.Problem, w.N)
	}
}

// FuzzWalk: whatever comes, every offset is inside the packet and the headers follow each other.
func FuzzWalk(f *testing.F) {
	f.Add(chainPacket(HopByHop, hdr(DestOpts, 8), hdr(Routing, 16), hdr(Fragment, 24), frag(UDP, 0, true), make([]byte, 8)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < IPv6HeaderLen {
			return
		}
		var w Chain
		w.Walk(b)
		at := IPv6HeaderLen
		for _, h := range w.Headers[:w.N] {
			if h.Off != at || h.Len < 8 {
				t.Fatalf("header %+v at %d", h, at)
			}
			at += h.Len
		}
		if w.Off != at || w.Off > len(b) || w.UnfragEnd > w.Off || w.ProtoField >= len(b) || w.ProblemOff >= len(b) && w.ProblemOff > w.Off {
			t.Fatalf("%+v in %d octets", w, len(b))
		}
	})
}

func FuzzOptions(f *testing.F) {
	f.Add([]byte{59, 0, 5, 2, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 8 {
			return
		}
		o := ParseOptions(b, 0)
		at := 2
		for {
			x, ok := o.Next()
			if !ok {
				break
			}
			if x.Off != at {
				t.Fatalf("option at %d, want %d", x.Off, at)
			}
			if at++; x.Type != OptPad1 {
				at += 1 + len(x.Data)
			}
		}
		if o.Problem >= len(b) {
			t.Fatalf("problem at %d of %d", o.Problem, len(b))
		}
	})
}

func TestOptionActions(t *testing.T) {
	for typ, want := range map[uint8]OptionAction{0x1e: ActionSkip, 0x5e: ActionDiscard, 0x9e: ActionDiscardICMP, 0xde: ActionDiscardICMPUnlessMulticast} {
		if got := Action(typ); got != want {
			t.Errorf("%#x: %d", typ, got)
		}
	}
}

func TestAddressHelpers(t *testing.T) {
	b := func(s string) *[16]byte { a := netip.MustParseAddr(s).As16(); return &a }
	if SolicitedNode(netip.MustParseAddr("2001:db8::1:800:200e:8c6c")) != netip.MustParseAddr("ff02::1:ff0e:8c6c") {
		t.Error("RFC 4291 2.7.1's example")
	}
	if MulticastMAC(b("ff02::1:ff0e:8c6c")) != [6]byte{0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c} {
		t.Error("RFC 2464 7")
	}
	if EUI64([6]byte{0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde}) != [8]byte{0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde} {
		t.Error("RFC 2464 4's example")
	}
	for s, want := range map[string]uint8{"fe80::1": ScopeLink, "::1": ScopeLink, "fec0::1": ScopeSite, "2001:db8::1": ScopeGlobal, "fd00::1": ScopeGlobal, "ff05::1": ScopeSite, "ff0e::1": ScopeGlobal} {
		if got := Scope(b(s)); got != want {
			t.Errorf("scope of %s is %d", s, got)
		}
	}
}

func TestFragmentHeaderGolden(t *testing.T) {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	PutFragment(b, FragmentFields{NextHeader: UDP, Offset: 1448, More: true, ID: 0x01020304})
	if want := []byte{17, 0, 0x05, 0xa9, 1, 2, 3, 4}; !bytes.Equal(b, want) {
		t.Errorf("got % x", b)
	}
}

// TestFragmentRoundTrip: what Put writes Walk reads.
func TestFragmentRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := FragmentFields{
			NextHeader: NoNext, Offset: 8 * rapid.IntRange(0, 8191).Draw(t, "offset"), More: rapid.Bool().Draw(t, "more"), ID: rapid.Uint32().Draw(t, "id"),
		}
		b := make([]byte, 8)
		PutFragment(b, f)
		var w Chain
		w.Walk(chainPacket(Fragment, b))
		if w.FragOffset != f.Offset || w.MoreFragments != f.More || w.FragID != f.ID {
			t.Fatalf("%+v came back as %+v", f, w)
		}
	})
}

func TestMLD(t *testing.T) {
	group := netip.MustParseAddr("ff02::1:ff00:1")
	src := netip.MustParseAddr("fe80::1")
	b := AppendMLDv2Report(nil, src, []MLDRecord{{Type: 4, Group: group}})
	if len(b) != 40+8+8+20 || b[7] != 1 || b[6] != HopByHop || b[48] != TypeMLDv2Report || !VerifyICMPv6(b, 48) || netip.AddrFrom16([16]byte(b[24:40])) != AllMLDv2Routers {
		t.Errorf("report % x", b)
	}
	if want := []byte{ICMPv6, 0, 5, 2, 0, 0, 1, 0}; !bytes.Equal(b[40:48], want) {
		t.Errorf("hop-by-hop % x", b[40:48])
	}
	d := AppendMLDv1(nil, src, TypeMLDv1Done, group)
	if netip.AddrFrom16([16]byte(d[24:40])) != AllRouters || !VerifyICMPv6(d, 48) || len(d) != 72 {
		t.Errorf("done % x", d)
	}
	query := func(n int, code uint16) []byte {
		q := make([]byte, n)
		q[0] = TypeMLDQuery
		binary.BigEndian.PutUint16(q[4:], code)
		return q
	}
	for _, c := range []struct {
		b    []byte
		ok   bool
		want MLDQuery
	}{
		{query(24, 10000), true, MLDQuery{V1: true, Group: netip.IPv6Unspecified(), MaxDelay: 10 * time.Second}},
		{query(28, 10000), true, MLDQuery{Group: netip.IPv6Unspecified(), MaxDelay: 10 * time.Second}},
		{query(28, 0x8000), true, MLDQuery{Group: netip.IPv6Unspecified(), MaxDelay: 32768 * time.Millisecond}},
		{query(28, 0xffff), true, MLDQuery{Group: netip.IPv6Unspecified(), MaxDelay: 8387584 * time.Millisecond}},
		{query(23, 0), false, MLDQuery{}},
		{query(26, 0), false, MLDQuery{}},
	} {
		if got, ok := ParseMLDQuery(c.b, 0); ok != c.ok || got != c.want {
			t.Errorf("%d octets: %+v %v", len(c.b), got, ok)
		}
	}
}

func FuzzMLDQuery(f *testing.F) {
	f.Add(make([]byte, 28), 0)
	f.Fuzz(func(t *testing.T, b []byte, off int) {
		if off < 0 {
			return
		}
		if q, ok := ParseMLDQuery(b, off); ok && !q.Group.IsUnspecified() && !q.Group.IsMulticast() {
			t.Errorf("group %s", q.Group)
		}
	})
}

func TestPortsAndWalkDoNotAllocate(t *testing.T) {
	b := chainPacket(HopByHop, hdr(UDP, 8), []byte{0, 1, 0, 2, 0, 8, 0, 0})
	var w Chain
	if n := testing.AllocsPerRun(100, func() { w.Walk(b); Ports(b, w.Off, w.Proto) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s, d, ok := Ports(b, w.Off, w.Proto); !ok || s != 1 || d != 2 {
		t.Errorf("ports %d %d %v", s, d, ok)
	}
	if _, _, ok := Ports(b, len(b)-2, UDP); ok {
		t.Error("ports of a cut header")
	}
}

func BenchmarkWalkUDP(b *testing.B) {
	p := chainPacket(UDP, make([]byte, 8))
	var w Chain
	for range b.N {
		w.Walk(p)
	}
}

func BenchmarkSum1400(b *testing.B) {
	p := make([]byte, 1400)
	b.SetBytes(1400)
	for range b.N {
		Sum(p, 0)
	}
}
