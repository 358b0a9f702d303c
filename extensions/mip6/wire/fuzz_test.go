package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"leveret/appliance/wire"
)

// FuzzParse: no view panics, a message built again says the same, and is then stable octet for octet.
func FuzzParse(f *testing.F) {
	v := load(f)
	for _, x := range append(v.MobilityHeader, v.Data[:2]...) {
		raw := x.Packet + x.Plain
		pkt := unhex(f, raw)
		f.Add(pkt[open(f, pkt).off:])
	}
	w := NewBindingUpdate(nil, 1, FlagHome|FlagMobileRouter, 5)
	w.MobileNetwork(netip.MustParsePrefix("2001:db8:7::/48"))
	w.Identifier(IdentifierNAI, []byte("mn@example.com"))
	w.Timestamp(1)
	w.Authentication(AuthHome, 256)
	w.Authentication(AuthAAA, 3)
	f.Add(w.Finish(homeAddr, peer))
	w = NewTest(nil, TypeCoT, 1, [8]byte{2}, [8]byte{3})
	f.Add(w.Finish(homeAddr, peer))
	f.Fuzz(func(t *testing.T, b []byte) {
		// Most of what a fuzzer finds has a wrong checksum: it is made right.
		if len(b) >= 8 {
			if n := (int(b[1]) + 1) * 8; n <= len(b) {
				b = bytes.Clone(b)
				b[4], b[5] = 0, 0
				s, d := homeAddr.As16(), peer.As16()
				binary.BigEndian.PutUint16(b[4:], wire.Checksum(&s, &d, wire.MH, b[:n]))
			}
		}
		m, fault := Parse(b, 0, homeAddr, peer)
		if !fault.OK() {
			if fault.Pointer < 0 || fault.Pointer > len(b) || fault.Reason.String() == "" {
				t.Fatalf("%+v of %d octets", fault, len(b))
			}
			return
		}
		once := rebuild(nil, m, homeAddr, peer)
		m2, fault := Parse(once, 0, homeAddr, peer)
		if !fault.OK() {
			t.Fatalf("built from %x: %x: %v at %d", m.Bytes(), once, fault.Reason, fault.Pointer)
		}
		if m.Type() != m2.Type() {
			t.Fatalf("type %d, then %d", m.Type(), m2.Type())
		}
		x, _ := m.BindingUpdate()
		y, is := m2.BindingUpdate()
		if is {
			ax, okx := x.AlternateCareOf()
			ay, oky := y.AlternateCareOf()
			hx, cx, nx := x.NonceIndices()
			hy, cy, ny := y.NonceIndices()
			if x.Sequence() != y.Sequence() || x.Flags() != y.Flags() || x.Lifetime() != y.Lifetime() ||
				ax != ay || okx != oky || hx != hy || cx != cy || nx != ny {
				t.Fatalf("%x differs from %x", m.Bytes(), once)
			}
		}
		p, okp := m.Authenticator()
		q, okq := m2.Authenticator()
		if okp != okq || !bytes.Equal(p, q) {
			t.Fatalf("authenticators %x, %x", p, q)
		}
		if twice := rebuild(nil, m2, homeAddr, peer); !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x", once, twice)
		}
	})
}

// FuzzHeaders: the Home Address option and the Type 2 Routing header of any packet.
func FuzzHeaders(f *testing.F) {
	for _, x := range load(f).Data {
		f.Add(unhex(f, x.Protected))
		f.Add(unhex(f, x.Plain))
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		if len(pkt) < wire.IPv6HeaderLen {
			return
		}
		var c wire.Chain
		c.Walk(pkt)
		if c.Problem != wire.NoProblem {
			return
		}
		home, off, fault := HomeAddress(pkt, &c)
		if home.IsValid() != (off != 0) || home.IsValid() && (!fault.OK() || !Routable(home) || netip.AddrFrom16([16]byte(pkt[off:])) != home) {
			t.Fatalf("%v at %d: %+v", home, off, fault)
		}
		for _, h := range c.Headers[:c.N] {
			if h.Proto != wire.Routing {
				continue
			}
			if a, fault := Type2(pkt, h.Off); fault.OK() && (!Routable(a) || h.Len != Type2Len) {
				t.Fatalf("%v of %d octets", a, h.Len)
			}
		}
	})
}

// FuzzControl: discovery messages, read and built again.
func FuzzControl(f *testing.F) {
	for _, x := range load(f).ICMPv6 {
		pkt := unhex(f, x.Packet)
		f.Add(pkt[open(f, pkt).off:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 8 {
			b = bytes.Clone(b)
			b[2], b[3] = 0, 0
			s, d := homeAddr.As16(), peer.As16()
			binary.BigEndian.PutUint16(b[2:], wire.Checksum(&s, &d, wire.ICMPv6, b))
		}
		c, fault := ParseControl(b, 0, homeAddr, peer)
		if !fault.OK() {
			return
		}
		once := rebuildControl(nil, c, homeAddr, peer)
		c2, fault := ParseControl(once, 0, homeAddr, peer)
		if !fault.OK() || c.ID() != c2.ID() || c.Managed() != c2.Managed() || c.Routers() != c2.Routers() {
			t.Fatalf("%x differs from %x: %v", b, once, fault)
		}
		if twice := rebuildControl(nil, c2, homeAddr, peer); !bytes.Equal(once, twice) {
			t.Fatalf("%x, then %x", once, twice)
		}
	})
}
