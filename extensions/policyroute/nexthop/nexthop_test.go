package nexthop

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"leveret/appliance/wire"
)

const flows = 100_000

// hashes are those of many flows between two networks.
func hashes(seed uint64) []uint64 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]uint64, flows)
	for i := range out {
		f := Flow{Proto: wire.TCP, SPort: uint16(r.Uint32()), DPort: 443}
		f.Src[15], f.Dst[15], f.Dst[14] = byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())
		out[i] = f.Hash(Key{1, 2})
	}
	return out
}

// TestSharesAreInProportion: chi-square of the flows of 2, 3 and 8 next hops with weights; the bounds
// are those of a chance of 1 in 1000.
func TestSharesAreInProportion(t *testing.T) {
	bound := map[int]float64{1: 10.83, 2: 13.82, 7: 24.32}
	hs := hashes(3)
	for _, weights := range [][]uint16{{1, 1}, {3, 1}, {1, 1, 1}, {5, 2, 1}, {1, 1, 1, 1, 1, 1, 1, 1}, {1, 2, 3, 4, 5, 6, 7, 8}, {256, 1}} {
		th, got, total := NewThreshold(weights), make([]int, len(weights)), 0
		for _, h := range hs {
			got[th.Select(h)]++
		}
		for _, w := range weights {
			total += int(w)
		}
		chi := 0.0
		for i, w := range weights {
			want := flows * float64(w) / float64(total)
			chi += math.Pow(float64(got[i])-want, 2) / want
		}
		if b := bound[len(weights)-1]; chi > b {
			t.Errorf("weights %v: %v, chi-square %.1f > %.1f", weights, got, chi, b)
		}
	}
}

// TestFlowsThatMove when one of four next hops leaves or comes: between a quarter and a half of all,
// by its place (RFC 2992 3: 1/4 in the middle, 1/2 at an end, of equal ones).
func TestFlowsThatMove(t *testing.T) {
	hs := hashes(4)
	for gone, most := range []float64{0.5, 1. / 3, 1. / 3, 0.5} {
		four, three := NewThreshold([]uint16{1, 1, 1, 1}), NewThreshold([]uint16{1, 1, 1})
		moved, lost := 0, 0
		for _, h := range hs {
			a, b := four.Select(h), three.Select(h)
			if b >= gone {
				b++
			}
			if a == gone {
				lost++
			}
			if a != b {
				moved++
			}
		}
		share := float64(moved) / flows
		t.Logf("next hop %d of 4: %.1f %% lost it, %.1f %% moved", gone, float64(lost)*100/flows, share*100)
		if share < 0.24 || share > most+0.01 {
			t.Errorf("next hop %d of 4: %.3f of the flows moved, want 0.25 to %.3f", gone, share, most)
		}
	}
}

// TestEveryHashHasANextHop, the last one included.
func TestEveryHashHasANextHop(t *testing.T) {
	for _, weights := range [][]uint16{{0}, {0, 0, 0}, {1, 1, 1, 1, 1, 1, 1}, {256, 255}} {
		th := NewThreshold(weights)
		if a, z := th.Select(0), th.Select(math.MaxUint64); a != 0 || z != len(weights)-1 {
			t.Errorf("%v: %d to %d", weights, a, z)
		}
	}
}

// make returns a packet of that upper layer.
func pkt(label uint32, proto uint8, body ...byte) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		FlowLabel: label, NextHeader: proto, PayloadLength: uint16(len(body)), HopLimit: 64,
		Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::2"),
	})
	return append(b, body...)
}

// TestWhatMakesAFlow: for each policy what tells packets apart and what does not.
func TestWhatMakesAFlow(t *testing.T) {
	tcp := func(p byte) []byte { return []byte{0, p, 0, 80, 0, 0, 0, 0} }
	esp := func(spi byte) []byte { return []byte{0, 0, 0, spi, 0, 0, 0, 0} }
	ah := func(spi byte) []byte { return []byte{6, 4, 0, 0, 0, 0, 0, spi} }
	echo := func(id byte) []byte { return []byte{128, 0, 0, 0, 0, id, 0, 1} }
	six := func(p byte) []byte { return pkt(0, wire.TCP, tcp(p)...) }
	four := func(p byte) []byte {
		return append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}, tcp(p)...)
	}
	gre := func(typ uint16, in []byte) []byte {
		return append([]byte{0xb0, 0, byte(typ >> 8), byte(typ), 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}, in...)
	}
	for _, c := range []struct {
		name     string
		policy   Policy
		proto    uint8
		a, b     []byte
		labels   [2]uint32
		fragment bool
		differ   bool
	}{
		{"l4 ports", L4, wire.TCP, tcp(1), tcp(2), [2]uint32{}, false, true},
		{"l4 the label does not count", L4, wire.TCP, tcp(1), tcp(1), [2]uint32{1, 2}, false, false},
		{"l4 ESP", L4, wire.ESP, esp(1), esp(2), [2]uint32{}, false, true},
		{"l4 AH", L4, wire.AH, ah(1), ah(2), [2]uint32{}, false, true},
		{"l4 echo", L4, wire.ICMPv6, echo(1), echo(2), [2]uint32{}, false, true},
		{"l4 fragments", L4, wire.TCP, tcp(1), tcp(2), [2]uint32{}, true, false},
		{"l3 ports", L3, wire.TCP, tcp(1), tcp(2), [2]uint32{}, false, false},
		{"l3 label", L3, wire.TCP, tcp(1), tcp(1), [2]uint32{1, 2}, false, true},
		{"flowlabel", FlowLabel, wire.TCP, tcp(1), tcp(1), [2]uint32{1, 2}, false, true},
		{"flowlabel ports", FlowLabel, wire.TCP, tcp(1), tcp(2), [2]uint32{1, 1}, false, false},
		{"flowlabel 0", FlowLabel, wire.TCP, tcp(1), tcp(2), [2]uint32{}, false, true},
		{"flowlabel 0 fragments", FlowLabel, wire.TCP, tcp(1), tcp(2), [2]uint32{}, true, false},
		{"inner IPv6", Inner, wire.IPv6Encap, six(1), six(2), [2]uint32{}, false, true},
		{"inner IPv4", Inner, wire.IPv4Encap, four(1), four(2), [2]uint32{}, false, true},
		{"inner GRE", Inner, wire.GRE, gre(0x86dd, six(1)), gre(0x86dd, six(2)), [2]uint32{}, false, true},
		{"inner GRE IPv4", Inner, wire.GRE, gre(0x800, four(1)), gre(0x800, four(2)), [2]uint32{}, false, true},
		{"inner of TCP", Inner, wire.TCP, tcp(1), tcp(2), [2]uint32{}, false, true},
		{"inner fragments", Inner, wire.IPv6Encap, six(1), six(2), [2]uint32{}, true, false},
		{"l4 of a tunnel", L4, wire.IPv6Encap, six(1), six(2), [2]uint32{}, false, false},
	} {
		fa := FlowOf(c.policy, pkt(c.labels[0], c.proto, c.a...), c.proto, wire.IPv6HeaderLen, c.fragment)
		fb := FlowOf(c.policy, pkt(c.labels[1], c.proto, c.b...), c.proto, wire.IPv6HeaderLen, c.fragment)
		if k := (Key{5, 6}); (fa.Hash(k) != fb.Hash(k)) != c.differ || (fa != fb) != c.differ {
			t.Errorf("%s: %+v and %+v", c.name, fa, fb)
		}
	}
}

// TestKeysGiveOtherSpreads: who does not know the key cannot tell who goes where.
func TestKeysGiveOtherSpreads(t *testing.T) {
	th, same := NewThreshold([]uint16{1, 1}), 0
	for i := range 1000 {
		f := Flow{SPort: uint16(i)}
		if th.Select(f.Hash(Key{1, 2})) == th.Select(f.Hash(Key{3, 4})) {
			same++
		}
	}
	if same < 400 || same > 600 {
		t.Errorf("%d of 1000 flows go the same way", same)
	}
}

func TestParsePolicy(t *testing.T) {
	for _, p := range []Policy{L3, L4, Inner, FlowLabel} {
		if got, ok := ParsePolicy(p.String()); !ok || got != p {
			t.Errorf("%s: %s", p, got)
		}
	}
	if _, ok := ParsePolicy("l5"); ok {
		t.Error("l5 is a policy")
	}
}

// TestChoosingDoesNotAllocate.
func TestChoosingDoesNotAllocate(t *testing.T) {
	th, p := NewThreshold([]uint16{1, 2, 3}), pkt(0, wire.TCP, 0, 1, 0, 80, 0, 0, 0, 0)
	if n := testing.AllocsPerRun(100, func() {
		f := FlowOf(Inner, p, wire.TCP, 40, false)
		th.Select(f.Hash(Key{1, 2}))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzFlowOf: nothing beyond the packet is read.
func FuzzFlowOf(f *testing.F) {
	f.Add(pkt(1, wire.TCP, 0, 1, 0, 80, 0, 0, 0, 0), uint8(wire.TCP), 40, false)
	f.Add(pkt(0, wire.GRE, 0xb0, 0, 0x86, 0xdd, 0, 0, 0, 0), uint8(wire.GRE), 40, false)
	f.Add(pkt(0, wire.IPv4Encap, 0x4f, 0, 0, 28), uint8(wire.IPv4Encap), 40, true)
	f.Fuzz(func(t *testing.T, b []byte, proto uint8, off int, fragment bool) {
		for p := L4; p <= FlowLabel; p++ {
			x := FlowOf(p, b, proto, off, fragment)
			if y := FlowOf(p, b, proto, off, fragment); x != y {
				t.Error("not the same twice")
			}
		}
	})
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{2, 8} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			th, p := NewThreshold(make([]uint16, n)), pkt(0, wire.TCP, 0, 1, 0, 80, 0, 0, 0, 0)
			for b.Loop() {
				f := FlowOf(L4, p, wire.TCP, 40, false)
				th.Select(f.Hash(Key{1, 2}))
			}
		})
	}
}
