package ah

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/xfrmtest"
)

func vectors(t testing.TB) []xfrmtest.Vector {
	t.Helper()
	return xfrmtest.Vectors(t, "testdata/ah.json", 9)
}

func newSA(t testing.TB, v *xfrmtest.Vector) *SA {
	t.Helper()
	s, err := New(Params{SPI: v.SPI, ESN: v.ESN, Auth: find(t, v.Auth), Key: xfrmtest.Hex(t, v.AuthKey), ICV: v.ICV})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// where returns the offset of AH and of the octet that names it.
func where(t testing.TB, pkt []byte) (off, field int) {
	t.Helper()
	var c wire.Chain
	c.Walk(pkt)
	field = wire.NextHeaderOffset
	for _, h := range c.Headers[:c.N] {
		if h.Proto == wire.AH {
			return h.Off, field
		}
		field = h.Off
	}
	t.Fatalf("no AH in %x", pkt)
	return 0, 0
}

// received does what a node does with the headers before AH: Routing headers are followed hop by hop (RFC 2460 4.4),
// the Home Address option is swapped with the source.
func received(pkt []byte, off int) []byte {
	pkt = bytes.Clone(pkt)
	proto, at := pkt[6], 40
	for at < off {
		h := pkt[at : at+(int(pkt[at+1])+1)*8]
		switch proto {
		case wire.Routing:
			n := int(h[1]) / 2
			for h[3] > 0 {
				h[3]--
				i := n - int(h[3]) // counted from 1
				addr, dst := bytes.Clone(h[8+16*(i-1):8+16*i]), bytes.Clone(pkt[24:40])
				copy(pkt[24:], addr)
				copy(h[8+16*(i-1):], dst)
			}
		case wire.DestOpts:
			o := wire.ParseOptions(pkt[:at+len(h)], at)
			for opt, ok := o.Next(); ok; opt, ok = o.Next() {
				if opt.Type == wire.OptHomeAddress {
					home := bytes.Clone(opt.Data)
					copy(opt.Data, pkt[8:24])
					copy(pkt[8:], home)
				}
			}
		}
		proto, at = h[0], at+len(h)
	}
	return pkt
}

// insert makes room for AH at off of a packet without it.
func insert(plain []byte, off, field, n int) (pkt []byte, nextHeader uint8) {
	pkt = slices.Concat(plain[:off], bytes.Repeat([]byte{0xee}, n), plain[off:])
	nextHeader, pkt[field] = pkt[field], wire.AH
	binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-wire.IPv6HeaderLen))
	return pkt, nextHeader
}

// TestVectors: the ICV is computed over the right octets, a plain packet is sealed to the protected one, octet for octet,
// and that one is opened.
func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			want, plain := xfrmtest.Hex(t, v.Protected), xfrmtest.Hex(t, v.Plain)
			s := newSA(t, &v)
			off, field := where(t, want)
			if spi, seq, err := Header(want, off); err != nil || spi != v.SPI || seq != uint32(v.Seq) || s.HeaderLen() != v.Total {
				t.Errorf("SPI %#x, sequence number %d, %v, length %d", spi, seq, err, s.HeaderLen())
			}
			var sealed []byte
			var nh uint8
			if v.Mode == "transport" {
				sealed, nh = insert(plain, off, field, s.HeaderLen())
			} else {
				sealed, nh = slices.Concat(want[:off], make([]byte, s.HeaderLen()), plain), wire.IPv6Encap
			}
			if err := s.Seal(sealed, off, nh, v.Seq, 0); err != nil || !bytes.Equal(sealed, want) {
				t.Errorf("sealed %x, %v\nwant   %x", sealed, err, want)
			}
			for _, sending := range []bool{true, false} {
				input := bytes.Clone(want)
				if !sending {
					input = received(want, off)
				}
				ok := hide(input, off, sending)
				clear(input[off+fixedLen:][:v.ICV])
				if !ok || hex.EncodeToString(input) != v.ICVInput {
					t.Errorf("sending %v, ICV over %x\nwant          %s", sending, input, v.ICVInput)
				}
			}
			pkt := received(want, off)
			before := bytes.Clone(pkt)
			if o, err := s.Open(pkt, off, v.Seq); err != nil || o != (Opened{nh, v.Total}) || !bytes.Equal(pkt, before) {
				t.Errorf("opened %+v, %v, changed %v", o, err, !bytes.Equal(pkt, before))
			}
		})
	}
}

// TestCorrupted: but for what may change on the way, every bit counts, and the length, and the high half of the number.
func TestCorrupted(t *testing.T) {
	for _, v := range vectors(t) {
		s := newSA(t, &v)
		want := xfrmtest.Hex(t, v.Protected)
		off, _ := where(t, want)
		want = received(want, off)
		for bit := range len(want) * 8 {
			pkt := bytes.Clone(want)
			pkt[bit/8] ^= 1 << (bit % 8)
			before := bytes.Clone(pkt)
			_, err := s.Open(pkt, off, v.Seq)
			mutable := bit/8 == 0 && bit%8 < 4 || bit/8 > 0 && bit/8 < 4 || bit/8 == 7
			if (err == nil) != mutable {
				t.Errorf("%s: bit %d: %v", v.Name, bit, err)
			}
			if !bytes.Equal(pkt, before) {
				t.Errorf("%s: bit %d: the packet was changed", v.Name, bit)
			}
		}
		for n := range len(want) {
			pkt := bytes.Clone(want[:n])
			if _, err := s.Open(pkt, off, v.Seq); err == nil {
				t.Errorf("%s: cut to %d", v.Name, n)
			}
			if n < off+s.HeaderLen() {
				continue
			}
			binary.BigEndian.PutUint16(pkt[4:], uint16(n-40))
			if _, err := s.Open(pkt, off, v.Seq); !errors.Is(err, ErrICV) {
				t.Errorf("%s: cut to %d, with a length to match: %v", v.Name, n, err)
			}
		}
		if _, err := s.Open(append(bytes.Clone(want), 0), off, v.Seq); !errors.Is(err, ErrShort) {
			t.Errorf("%s: longer: %v", v.Name, err)
		}
		if v.ESN {
			if _, err := s.Open(bytes.Clone(want), off, v.Seq+1<<32); !errors.Is(err, ErrICV) {
				t.Errorf("%s: high half: %v", v.Name, err)
			}
		}
	}
}

// TestLinux opens what Linux 6.1 sent: AH alone, behind RH2, a Home Address option and both.
func TestLinux(t *testing.T) {
	var packets []struct{ Case, Packet string }
	xfrmtest.Load(t, "testdata/linux.json", &packets)
	if len(packets) != 4 {
		t.Fatalf("%d packets", len(packets))
	}
	for _, p := range packets {
		pkt := xfrmtest.Hex(t, p.Packet)
		off, _ := where(t, pkt)
		spi, seq, err := Header(pkt, off)
		if err != nil {
			t.Fatal(err)
		}
		key := xfrmtest.Hex(t, "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f")
		s, err := New(Params{SPI: spi, Auth: find(t, "hmac(sha256)"), Key: key, ICV: 16})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(received(pkt, off), off, uint64(seq)); err != nil {
			t.Errorf("%s: %v", p.Case, err)
		}
		// Linux leaves what was there in the padding, so the ICV of a packet sealed here is another.
		again := bytes.Clone(pkt)
		err = s.Seal(again, off, pkt[off], uint64(seq), 0)
		copy(again[off+fixedLen:off+s.HeaderLen()], pkt[off+fixedLen:])
		if err != nil || !bytes.Equal(again, pkt) {
			t.Errorf("%s: sealed %x, %v", p.Case, again, err)
		}
	}
}
