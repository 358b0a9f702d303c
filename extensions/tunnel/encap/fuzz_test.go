package encap

import (
	"bytes"
	"testing"

	"leveret/appliance/wire"
)

func seeds(f *testing.F) {
	for k := range numKinds {
		inner := v6(2, 20)
		if k == IPIP6 {
			inner = v4(2, 20, true)
		}
		p := of(k)
		f.Add(uint8(k), p.enclose(f, inner, 0))
		if k.IsGRE() {
			p.OKey, p.OCsum, p.OSeq = Key{true, 0}, true, true
			f.Add(uint8(k)|0x70, p.enclose(f, inner, 0))
		}
	}
	f.Add(uint8(0), options(wire.IPv6Encap, "04 01 00 01 01 00"))
}

// params makes a tunnel of one octet.
func params(b uint8) *Params {
	p := of(Kind(b & 0x0f % uint8(numKinds)))
	if b&0x80 != 0 {
		p.EncapLimit = 4
	}
	if p.Kind.IsGRE() {
		p.OKey.Set, p.OCsum, p.OSeq = b&0x10 != 0, b&0x20 != 0, b&0x40 != 0
	}
	return p
}

// FuzzOpen: no tunnel packet is read beyond its end, and what is taken out of one enters again and comes out the same.
func FuzzOpen(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, how uint8, pkt []byte) {
		if len(pkt) < wire.IPv6HeaderLen || pkt[0]>>4 != 6 && pkt[0]>>4 != 4 {
			return
		}
		p := params(how)
		off := wire.IPv6HeaderLen
		if p.Kind.OverIPv4() {
			off = ipv4HeaderLen
		}
		o, fault := p.back().Open(pkt, off, 0)
		if fault != NoFault {
			return
		}
		inner := bytes.Clone(pkt[o.Off:][:o.Len])
		if e, r, _ := p.Enter(inner); r != Enters || e.V4 != o.V4 {
			if r == NotCarried {
				t.Fatalf("came out and does not enter: %d %+v", r, e)
			}
			return
		}
		again := p.enclose(t, inner, 0)
		if len(again) > 65535 {
			return
		}
		x, fault := p.open(t, again, 0)
		if fault != NoFault || x.Len != o.Len || !bytes.Equal(again[x.Off:][:x.Len], inner) {
			t.Fatalf("%d %+v after %+v", fault, x, o)
		}
	})
}

// FuzzRelay: no quote is read beyond its end, and what is reported is a packet with a whole header within it.
func FuzzRelay(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, typ uint8, quote []byte) {
		for _, r := range []func() (Report, bool){
			func() (Report, bool) { return Relay(typ&7, typ>>7, 44, quote) },
			func() (Report, bool) { return Relay4(typ&15, typ>>4, 1400, quote) },
		} {
			rep, ok := r()
			if !ok {
				continue
			}
			if o := quote[rep.Off:]; rep.V4 != (o[0]>>4 == 4) || len(o) < ipv4HeaderLen || !rep.V4 && len(o) < wire.IPv6HeaderLen {
				t.Fatalf("%+v of %x", rep, quote)
			}
			if _, ok := Quoted(quote); !ok {
				t.Fatal("reported and not quoted")
			}
		}
	})
}
