package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/xfrmtest"
)

func newSA(t testing.TB, v *xfrmtest.Vector) *SA {
	t.Helper()
	p := Params{SPI: v.SPI, ESN: v.ESN, ICV: v.ICV, Key: xfrmtest.Hex(t, v.EncKey+v.Salt), AuthKey: xfrmtest.Hex(t, v.AuthKey)}
	if v.Auth == "" {
		p.AEAD = find(t, algo.AEAD, v.Enc)
	} else {
		p.Enc, p.Auth = find(t, algo.Enc, v.Enc), find(t, algo.Auth, v.Auth)
	}
	s, err := New(p)
	if err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return s
}

// where returns where ESP begins in a packet of a vector.
func where(t testing.TB, v *xfrmtest.Vector, pkt []byte) int {
	t.Helper()
	off := wire.IPv6HeaderLen
	if pkt[0]>>4 == 4 {
		off = 20
	}
	if v.UDP != nil {
		begin, end, ok := UDPPayload(pkt, off, true)
		if !ok || end != len(pkt) || Classify(pkt[begin:end]) != ESP {
			t.Fatalf("%s: UDP header was not accepted", v.Name)
		}
		off = begin
	}
	return off
}

func vectors(t testing.TB) []xfrmtest.Vector {
	t.Helper()
	// RFC 7634 appendix A.
	return append(xfrmtest.Vectors(t, "testdata/esp.json", 20), xfrmtest.Vector{Name: "RFC 7634 A", Mode: "tunnel", Enc: "rfc7539esp(chacha20,poly1305)", ICV: 16, SPI: 0x01020304, Seq: 5, Pad: 2,
		EncKey: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", Salt: "a0a1a2a3", IV: "1011121314151617",
		Plain: "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec100007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" +
			"202122232425262728292a2b2c2d2e2f3031323334353637",
		Protected: "4500008c234500004032de5bcb007199cb0071050102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b9" +
			"82d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da9165b828" +
			"29f641e076aaa8266b7fb0f7b11b369907e1ad43"})
}

// TestVectors: each packet is opened to the plain one, and the plain one is sealed to it, octet for octet.
func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			want := xfrmtest.Hex(t, v.Protected)
			off := where(t, &v, want)
			s := newSA(t, &v)
			if spi, seq, err := Header(want, off); err != nil || spi != v.SPI || seq != uint32(v.Seq) {
				t.Errorf("SPI %#x, sequence number %d, %v", spi, seq, err)
			}
			pkt := bytes.Clone(want)
			o, err := s.Open(pkt, off, v.Seq)
			if err != nil {
				t.Fatal(err)
			}
			payload := bytes.Clone(pkt[o.Off : o.Off+o.Len])
			wantNH, wantPayload := uint8(59), payload // the dummy: any payload
			switch plain := xfrmtest.Hex(t, v.Plain); {
			case v.Plain == "":
			case v.Mode == "transport":
				wantNH, wantPayload = plain[wire.NextHeaderOffset], plain[wire.IPv6HeaderLen:]
			default:
				wantNH, wantPayload = map[byte]uint8{4: wire.IPv4Encap, 6: wire.IPv6Encap}[plain[0]>>4], plain
				if n, ok := InnerLen(payload, wantNH); !ok || n != len(plain) {
					t.Errorf("inner length %d %v", n, ok)
				}
			}
			if o.NextHeader != wantNH || !bytes.Equal(payload, wantPayload) || o.Off != off+s.HeaderLen() {
				t.Errorf("opened %+v %x\nwant %d %x", o, payload, wantNH, wantPayload)
			}
			if v.Plain != "" && s.TrailerLen(len(payload)) != v.Pad+2+v.ICV {
				t.Errorf("trailer of %d, want %d", s.TrailerLen(len(payload)), v.Pad+2+v.ICV)
			}

			sealed := bytes.Repeat([]byte{0xee}, off+s.HeaderLen()+len(payload)+s.TrailerLen(len(payload)))
			copy(sealed, want[:off])
			copy(sealed[off+s.HeaderLen():], payload)
			p := Payload{Len: len(payload), NextHeader: wantNH}
			if iv := xfrmtest.Hex(t, v.IV); s.counter {
				err = s.Seal(sealed, off, p, v.Seq, binary.BigEndian.Uint64(iv))
			} else {
				copy(sealed[off+fixedLen:], iv)
				err = s.seal(sealed, off, p, v.Seq)
			}
			if err != nil || !bytes.Equal(sealed, want) {
				t.Errorf("sealed %x, %v\nwant   %x", sealed, err, want)
			}
		})
	}
}

// TestCorrupted: no bit of SPI to ICV may differ, nor the length, nor the high half of the number.
func TestCorrupted(t *testing.T) {
	for _, v := range vectors(t) {
		want := xfrmtest.Hex(t, v.Protected)
		off := where(t, &v, want)
		s := newSA(t, &v)
		opened := bytes.Clone(want)
		o, err := s.Open(opened, off, v.Seq)
		if err != nil {
			t.Fatal(err)
		}
		clear := opened[o.Off+8 : o.Off+o.Len] // what must not come out
		refused := func(pkt []byte, seq uint64, what string) {
			t.Helper()
			before := bytes.Clone(pkt)
			_, err := s.Open(pkt, off, seq)
			if !errors.Is(err, ErrICV) && !errors.Is(err, ErrShort) {
				t.Errorf("%s: %s: %v", v.Name, what, err)
			}
			if !bytes.Equal(pkt[:min(off, len(pkt))], before[:min(off, len(pkt))]) {
				t.Errorf("%s: %s: the octets before ESP changed", v.Name, what)
			}
			if bytes.Contains(pkt, clear) && !bytes.Contains(before, clear) {
				t.Errorf("%s: %s: plaintext of a packet that is not authentic", v.Name, what)
			}
		}
		for bit := off * 8; bit < len(want)*8; bit++ {
			pkt := bytes.Clone(want)
			pkt[bit/8] ^= 1 << (bit % 8)
			refused(pkt, v.Seq, fmt.Sprintf("bit %d", bit))
		}
		for n := range len(want) {
			refused(bytes.Clone(want[:n]), v.Seq, fmt.Sprintf("cut to %d", n))
		}
		refused(append(bytes.Clone(want), make([]byte, s.block)...), v.Seq, "longer")
		if v.ESN {
			refused(bytes.Clone(want), v.Seq+1<<32, "high half")
		}
		if _, err := s.Open(bytes.Clone(want), off, v.Seq); err != nil {
			t.Errorf("%s: right again: %v", v.Name, err)
		}
	}
}

// TestLinux opens what Linux 6.1 sent: plain, behind a Home Address option, and behind RH2, Home Address option and AH.
func TestLinux(t *testing.T) {
	var packets []struct{ Case, Packet, Inner string }
	xfrmtest.Load(t, "testdata/linux.json", &packets)
	if len(packets) != 6 {
		t.Fatalf("%d packets", len(packets))
	}
	for _, p := range packets {
		pkt := xfrmtest.Hex(t, p.Packet)
		var c wire.Chain
		c.Walk(pkt)
		spi, seq, err := Header(pkt, c.Off)
		if c.Proto != wire.ESP || err != nil {
			t.Fatalf("%s: protocol %d, %v", p.Case, c.Proto, err)
		}
		s, err := New(Params{SPI: spi, AEAD: find(t, algo.AEAD, "rfc4106(gcm(aes))"), ICV: 16, Key: xfrmtest.Hex(t, "000102030405060708090a0b0c0d0e0fdeadbeef")})
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Open(pkt, c.Off, uint64(seq))
		if err != nil || hex.EncodeToString(pkt[o.Off:o.Off+o.Len]) != p.Inner {
			t.Errorf("%s: %+v, %v", p.Case, o, err)
		}
	}
}
