package encap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"leveret/appliance/wire"
)

// TestLabel: packets of a flow have one label (RFC 6438 3), packets of many flows many, and another key others.
func TestLabel(t *testing.T) {
	p := with(over6(IP6IP6), func(p *Params) { p.Label, p.LabelKey = LabelHash, 7 })
	label := func(p *Params, pkt []byte) uint32 {
		x, _ := wire.ParseIPv6(p.enclose(t, pkt, 0))
		return x.FlowLabel()
	}
	seen := map[uint32]bool{}
	for port := range 256 {
		pkt := v6(0, 4)
		pkt[41] = byte(port)
		seen[label(p, pkt)] = true
		same := v6(3, 400)
		same[41] = byte(port)
		if label(p, pkt) != label(p, same) {
			t.Errorf("port %d: not one label", port)
		}
	}
	if len(seen) < 250 {
		t.Errorf("%d labels of 256 flows", len(seen))
	}
	if other := with(p, func(p *Params) { p.LabelKey = 8 }); label(p, v6(0, 4)) == label(other, v6(0, 4)) {
		t.Error("the key does not matter")
	}
	four := with(p, func(p *Params) { p.Kind = IPIP6 })
	if label(four, v4(0, 4, false)) != label(four, v4(0, 400, true)) || label(four, v4(0, 4, false)) == 0 {
		t.Error("IPv4")
	}
}

// TestIdentity: what enters comes out, whatever the tunnel, with no octet else than ECN changed.
func TestIdentity(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		p := of(Kind(r.IntN(int(numKinds))))
		p.EncapLimit = r.IntN(257) - 1
		p.Label, p.FlowLabel, p.LabelKey = Label(r.IntN(3)), r.Uint32()&0xfffff, r.Uint64()
		p.TClass, p.InheritClass, p.NoECN, p.PMTUDisc = uint8(r.Uint32()), r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
		if p.Kind.IsGRE() {
			p.OKey = Key{Set: r.IntN(2) == 0}
			if p.OKey.Set {
				p.OKey.Value = r.Uint32()
			}
			p.OCsum, p.OSeq = r.IntN(2) == 0, r.IntN(2) == 0
		}
		inner := v6(uint8(r.Uint32()), r.IntN(1500))
		if p.Kind == IPIP6 || p.Kind.IsGRE() && r.IntN(2) == 0 {
			inner = v4(uint8(r.Uint32()), r.IntN(1500), r.IntN(2) == 0)
		}
		number := r.Uint32()
		pkt := p.enclose(t, inner, number)
		if p.Kind.OverIPv4() != (pkt[0]>>4 == 4) || len(pkt) != len(inner)+p.Overhead() {
			t.Fatalf("%+v: %d octets of %d", p, len(pkt), len(inner))
		}
		o, f := p.open(t, pkt, number)
		if f != NoFault || !bytes.Equal(pkt[o.Off:][:o.Len], inner) || o.Unused {
			t.Fatalf("%+v: %d %+v", p, f, o)
		}
	}
}

// TestAllocations: none.
func TestAllocations(t *testing.T) {
	for k := range numKinds {
		p := with(of(k), func(p *Params) { p.EncapLimit, p.Label = 4, LabelHash })
		inner := v6(2, 1000)
		if k == IPIP6 {
			inner = v4(2, 1000, false)
		}
		pkt := p.enclose(t, inner, 0)
		back := p.back()
		if n := testing.AllocsPerRun(100, func() {
			e, _, _ := p.Enter(pkt[p.Overhead():])
			e.Fits(len(pkt), 1500, false)
			p.Put(pkt, e, 1)
			off := p.Overhead()
			if k.IsGRE() {
				off -= 4
			}
			if _, f := back.Open(pkt, off, 0); f != NoFault {
				panic(fmt.Sprint(k, f))
			}
			Relay(wire.TypeDestinationUnreachable, 0, 0, pkt)
		}); n != 0 {
			t.Errorf("%s: %v allocations", k, n)
		}
	}
}
