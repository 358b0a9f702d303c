package encap

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/wire"
)

var addr = netip.MustParseAddr

// over6 and over4 are tunnels without extras.
func over6(k Kind) *Params {
	return &Params{Kind: k, Local: addr("2001:db8:f::1"), Remote: addr("2001:db8:f::2"), HopLimit: 64, EncapLimit: NoLimit, InheritClass: true, Label: LabelFixed}
}

func over4(k Kind) *Params {
	return &Params{Kind: k, Local: addr("192.0.2.1"), Remote: addr("192.0.2.2"), HopLimit: 64, EncapLimit: NoLimit, InheritClass: true}
}

func of(k Kind) *Params {
	if k.OverIPv4() {
		return over4(k)
	}
	return over6(k)
}

func with(t *Params, f func(*Params)) *Params {
	c := *t
	f(&c)
	return &c
}

// back is the tunnel as the other end has it.
func (t *Params) back() *Params {
	return with(t, func(b *Params) {
		b.Local, b.Remote = t.Remote, t.Local
		b.OKey, b.IKey, b.OCsum, b.ICsum, b.OSeq, b.ISeq = t.IKey, t.OKey, t.ICsum, t.OCsum, t.ISeq, t.OSeq
	})
}

// v6 is an original packet of that traffic class: UDP, and n octets of data.
func v6(class uint8, n int) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		TrafficClass: class, FlowLabel: 0x12345, PayloadLength: uint16(8 + n), NextHeader: wire.UDP, HopLimit: 9, Src: addr("2001:db8:a::1"), Dst: addr("2001:db8:b::1"),
	})
	b = append(b, 0x30, 0x39, 0, 53, byte((8+n)>>8), byte(8+n), 0xaa, 0xbb)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func v4(class uint8, n int, df bool) []byte {
	b := make([]byte, ipv4HeaderLen+n)
	putIPv4(b, ipv4Fields{tos: class, length: len(b), id: 77, df: df, ttl: 9, proto: wire.UDP, src: addr("198.51.100.1"), dst: addr("203.0.113.1")})
	return b
}

// enclose makes the tunnel packet.
func (t *Params) enclose(tb testing.TB, inner []byte, number uint32) []byte {
	tb.Helper()
	e, r, _ := t.Enter(inner)
	if r != Enters {
		tb.Fatalf("%s: refused: %d", t.Kind, r)
	}
	e.DF = true
	pkt := append(make([]byte, e.Overhead), inner...)
	for i := range e.Overhead {
		pkt[i] = 0xee // what was there before must not matter
	}
	t.Put(pkt, e, number)
	return pkt
}

// open takes it apart at the other end.
func (t *Params) open(tb testing.TB, pkt []byte, next uint32) (Opened, Fault) {
	tb.Helper()
	off, proto := ipv4HeaderLen, pkt[9]
	if pkt[0]>>4 == 6 {
		var c wire.Chain
		c.Walk(pkt)
		off, proto = c.Off, c.Proto
	} else if _, total, ok := ipv4Len(pkt); !ok || total != len(pkt) || wire.Fold(wire.Sum(pkt[:off], 0)) != 0xffff {
		tb.Fatalf("%s: no IPv4 header: %x", t.Kind, pkt[:off])
	}
	if proto != t.Kind.Protocol() {
		tb.Fatalf("%s: protocol %d", t.Kind, proto)
	}
	return t.back().Open(pkt, off, next)
}

// TestOctets: tunnel packets octet for octet.
func TestOctets(t *testing.T) {
	const ends6, ends4 = "20010db8000f0000000000000000000120010db8000f00000000000000000002", "c0000201c0000202"
	inner := v6(0xb9, 0)
	key := Key{true, 0x01020304}
	for _, c := range []struct {
		t    *Params
		want string // in front of the original packet
	}{
		{over6(IP6IP6), "6b900000 0030 29 40" + ends6},
		{with(over6(IP6IP6), func(p *Params) { p.EncapLimit = 4 }), "6b900000 0038 3c 40" + ends6 + "29 00 04 01 04 01 01 00"},
		{with(over6(IP6IP6), func(p *Params) { p.EncapLimit, p.HopLimit = 0, 5 }), "6b900000 0038 3c 05" + ends6 + "29 00 04 01 00 01 01 00"},
		{with(over6(IP6IP6), func(p *Params) { p.InheritClass, p.TClass, p.FlowLabel = false, 0x23, 0xabcde }), "621abcde 0030 29 40" + ends6},
		{with(over6(IP6IP6), func(p *Params) { p.NoECN, p.Label = true, LabelInherit }), "6b812345 0030 29 40" + ends6},
		{over4(SIT), "45b90044 0007 0000 40 29 f5cd" + ends4},
		{with(over4(SIT), func(p *Params) { p.PMTUDisc = true }), "45b90044 0007 4000 40 29 b5cd" + ends4},
		{over6(IP6GRE), "6b900000 0034 2f 40" + ends6 + "0000 86dd"},
		{with(over6(IP6GRE), func(p *Params) { p.EncapLimit, p.OKey, p.OSeq = 3, key, true }),
			"6b900000 0044 3c 40" + ends6 + "2f 00 04 01 03 01 01 00 3000 86dd 01020304 00000007"},
		{with(over4(GRE), func(p *Params) { p.OKey = key }), "45b9004c 0007 0000 40 2f f5bf" + ends4 + "2000 86dd 01020304"},
	} {
		got := c.t.enclose(t, inner, 7)
		want := strings.ReplaceAll(c.want, " ", "") + hex.EncodeToString(inner)
		if hex.EncodeToString(got) != want {
			t.Errorf("%s:\n got %x\nwant %s", c.t.Kind, got, want)
		}
	}
	// The checksum of GRE covers header, key and original packet, also one of odd length.
	for n := range 3 {
		p := with(over6(IP6GRE), func(p *Params) { p.OCsum, p.OKey = true, key })
		got := p.enclose(t, v6(0, n), 0)[40:]
		if got[0] != 0xa0 || wire.Fold(wire.Sum(got, 0)) != 0xffff || [2]byte(got[6:]) != [2]byte{} {
			t.Errorf("checksum: %x", got[:12])
		}
	}
	got := over6(IPIP6).enclose(t, v4(0xb9, 4, false), 7)
	if want := strings.ReplaceAll("6b900000 0018 04 40"+ends6, " ", ""); hex.EncodeToString(got[:40]) != want {
		t.Errorf("ipip6: got %x want %s", got[:40], want)
	}
}

// TestECN: every cell of figures 3 and 4 of RFC 6040, for every kind, whatever the DSCP.
func TestECN(t *testing.T) {
	words := [4]string{"not", "1", "0", "CE"}
	order := [4]uint8{notECT, ect0, ect1, ce} // of the rows and columns in the RFC
	normal, compat := [4]string{"not", "0", "1", "CE"}, [4]string{"not", "not", "not", "not"}
	figure4 := [4][4]string{
		{"not", "not(!)", "not(!)", "drop(!)"},
		{"0", "0", "1", "CE"},
		{"1", "1(!)", "1", "CE"},
		{"CE", "CE", "CE(!)", "CE"},
	}
	cells := 0
	for k := range numKinds {
		for _, dscp := range []uint8{0, 0xb8, 0xfc} {
			for i, in := range order {
				inner := v6(dscp|in, 4)
				if k == IPIP6 {
					inner = v4(dscp|in, 4, false)
				}
				for _, mode := range []struct {
					noECN bool
					want  [4]string
				}{{false, normal}, {true, compat}} {
					p := with(of(k), func(p *Params) { p.NoECN = mode.noECN })
					if c := class(p.enclose(t, inner, 0)); c&^ecn != dscp || words[c&ecn] != mode.want[i] {
						t.Errorf("%s: %s enters: %#x, want %s", k, words[in], c, mode.want[i])
					}
				}
				for j, out := range order {
					pkt := of(k).enclose(t, inner, 0)
					setClass(pkt, class(pkt)&^ecn|out)
					o, f := of(k).open(t, pkt, 0)
					got := "drop"
					if f == NoFault {
						x := pkt[o.Off:][:o.Len]
						got = words[class(x)&ecn]
						if class(x)&^ecn != dscp {
							t.Errorf("%s: DSCP %#x has become %#x", k, dscp, class(x))
						}
						if o.V4 && wire.Fold(wire.Sum(x[:ipv4HeaderLen], 0)) != 0xffff {
							t.Errorf("%s: %s in %s: header checksum", k, words[in], words[out])
						}
					}
					if o.Unused {
						got += "(!)"
					}
					if got != figure4[i][j] {
						t.Errorf("%s: %s in %s: %s, want %s", k, words[in], words[out], got, figure4[i][j])
					}
					cells++
				}
			}
		}
	}
	if cells != int(numKinds)*3*16 {
		t.Errorf("%d cells", cells)
	}
}

// TestDSCP: which of the two a packet has that comes out.
func TestDSCP(t *testing.T) {
	for _, c := range []struct {
		copied bool
		want   uint8
	}{{false, 0xb8 | ce}, {true, 0x28 | ce}} {
		for _, inner := range [][]byte{v6(0xb8|ect0, 4), v4(0xb8|ect0, 4, false)} {
			p := with(over6(IP6GRE), func(p *Params) { p.CopyDSCP = c.copied })
			pkt := p.enclose(t, inner, 0)
			setClass(pkt, 0x28|ce)
			o, f := p.open(t, pkt, 0)
			x := pkt[o.Off:][:o.Len]
			if f != NoFault || class(x) != c.want || o.V4 && wire.Fold(wire.Sum(x[:ipv4HeaderLen], 0)) != 0xffff {
				t.Errorf("copied %v: %d %#x", c.copied, f, class(x))
			}
		}
	}
}

// options is a packet with a Destination Options header of those octets behind its IPv6 header.
func options(next uint8, opts string) []byte {
	o, _ := hex.DecodeString(strings.ReplaceAll(opts, " ", ""))
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		PayloadLength: uint16(2 + len(o) + 8), NextHeader: wire.DestOpts, HopLimit: 9, Src: addr("2001:db8:a::1"), Dst: addr("2001:db8:b::1"),
	})
	b = append(b, next, byte((2+len(o))/8-1))
	return append(append(b, o...), make([]byte, 8)...)
}

// TestEncapsulationLimit is RFC 2473 4.1.1 (a) to (e).
func TestEncapsulationLimit(t *testing.T) {
	hbh := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 24, NextHeader: wire.HopByHop, Src: addr("2001:db8:a::1"), Dst: addr("2001:db8:b::1")})
	hbh = append(hbh, wire.DestOpts, 0, 1, 4, 0, 0, 0, 0, wire.IPv6Encap, 0, 4, 1, 3, 1, 1, 0)
	hbh = append(hbh, make([]byte, 8)...)
	inside := append(options(wire.IPv6Encap, "01 04 00 00 00 00")[:48], options(wire.NoNext, "04 01 00 01 01 00")...)
	later := options(wire.NoNext, "04 01 03 01 01 00")
	later[6] = wire.Fragment
	copy(later[40:], []byte{wire.DestOpts, 0, 0, 8, 0, 0, 0, 1}) // a fragment, not the first: what is behind is data
	copy(later[48:], []byte{wire.NoNext, 0, 4, 1, 0, 1, 1, 0})
	for _, c := range []struct {
		name    string
		pkt     []byte
		limit   int
		want    int // in the tunnel packet; -1 none
		refusal Refusal
		pointer int
	}{
		{"(d) none, 4 configured", v6(0, 0), 4, 4, Enters, 0},
		{"(d) none, 0 configured", v6(0, 0), 0, 0, Enters, 0},
		{"(d) none, 255 configured", v6(0, 0), 255, 255, Enters, 0},
		{"(e) none, none configured", v6(0, 0), NoLimit, NoLimit, Enters, 0},
		{"(b) zero", options(wire.IPv6Encap, "04 01 00 01 01 00"), 4, 0, LimitIsZero, 44},
		{"(b) zero, none configured", options(wire.IPv6Encap, "04 01 00 01 01 00"), NoLimit, 0, LimitIsZero, 44},
		{"(c) one", options(wire.IPv6Encap, "04 01 01 01 01 00"), 4, 0, Enters, 0},
		{"(c) four, none configured", options(wire.IPv6Encap, "04 01 04 01 01 00"), NoLimit, 3, Enters, 0},
		{"(c) more than configured", options(wire.IPv6Encap, "04 01 ff 01 01 00"), 4, 254, Enters, 0},
		{"(b) behind another option", options(wire.IPv6Encap, "01 01 00 04 01 00"), 4, 0, LimitIsZero, 47},
		{"behind Hop-by-Hop Options", hbh, 4, 2, Enters, 0},
		{"behind another IPv6 header", inside, 4, 4, Enters, 0},
		{"in data", later, 4, 4, Enters, 0},
		{"of two octets", options(wire.IPv6Encap, "04 02 00 00 01 00"), 4, 4, Enters, 0},
		{"behind what cannot be read", options(wire.IPv6Encap, "05 09 04 01 00 00"), 4, 4, Enters, 0},
	} {
		p := with(over6(IP6IP6), func(p *Params) { p.EncapLimit = c.limit })
		e, r, pointer := p.Enter(c.pkt)
		if r != c.refusal || pointer != c.pointer {
			t.Errorf("%s: refusal %d at %d", c.name, r, pointer)
		}
		if r != Enters {
			if c.pkt[pointer] != 0 {
				t.Errorf("%s: the pointer shows %d", c.name, c.pkt[pointer])
			}
			continue
		}
		if got := e.HasLimit; got != (c.want >= 0) || got && e.Limit != uint8(c.want) || e.Overhead != 40+8*len(c.name[:min(1, c.want+1)]) {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
	if e, r, _ := with(over6(IPIP6), func(p *Params) { p.EncapLimit = 4 }).Enter(v4(0, 40, false)); r != Enters || !e.HasLimit || e.Limit != 4 {
		t.Errorf("IPv4: %+v %d", e, r)
	}
	if e, r, _ := over4(SIT).Enter(options(wire.IPv6Encap, "04 01 00 01 01 00")); r != Enters || e.HasLimit {
		t.Errorf("over IPv4: %+v %d", e, r)
	}
}

// TestRefusals: what a kind does not carry, and what would go round.
func TestRefusals(t *testing.T) {
	for k := range numKinds {
		p := of(k)
		for _, c := range []struct {
			pkt  []byte
			want Refusal
		}{
			{nil, NotCarried}, {[]byte{0x60}, NotCarried}, {[]byte{0x45}, NotCarried}, {append([]byte{0x50}, make([]byte, 60)...), NotCarried},
			{v6(0, 0), map[bool]Refusal{true: NotCarried}[k == IPIP6]}, {v4(0, 8, false), map[bool]Refusal{true: NotCarried}[k == IP6IP6 || k == SIT]},
		} {
			if _, r, _ := p.Enter(c.pkt); r != c.want {
				t.Errorf("%s: %x: %d, want %d", k, c.pkt[:min(len(c.pkt), 1)], r, c.want)
			}
		}
	}
	p := over6(IP6IP6)
	if _, r, _ := p.Enter(p.enclose(t, v6(0, 0), 0)); r != LoopsBack {
		t.Errorf("its own tunnel packet: %d", r)
	}
	other := with(p, func(p *Params) { p.Remote = addr("2001:db8:f::3") })
	if _, r, _ := p.Enter(other.enclose(t, v6(0, 0), 0)); r != Enters {
		t.Errorf("another tunnel's packet: %d", r)
	}
}

// TestCheck: variables that contradict each other.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		t    *Params
		want error
	}{
		{over6(IP6IP6), nil}, {over4(SIT), nil}, {over6(IPIP6), nil},
		{with(over6(IP6GRE), func(p *Params) { p.OKey.Set = true }), nil},
		{with(over6(IP6IP6), func(p *Params) { p.OKey.Set = true }), ErrGRE},
		{with(over4(SIT), func(p *Params) { p.ISeq = true }), ErrGRE},
		{with(over6(IP6IP6), func(p *Params) { p.Remote = p.Local }), ErrLoopback},
		{with(over6(IP6IP6), func(p *Params) { p.Remote = addr("192.0.2.1") }), ErrFamily},
		{with(over6(IP6IP6), func(p *Params) { p.Remote = addr("::ffff:192.0.2.1") }), ErrFamily},
		{with(over4(GRE), func(p *Params) { p.Remote = addr("2001:db8::1") }), ErrFamily},
		{with(over6(IP6IP6), func(p *Params) { p.Local = netip.Addr{} }), ErrFamily},
		{with(over6(IP6IP6), func(p *Params) { p.Local = addr("::") }), ErrUnicast},
		{with(over6(IP6IP6), func(p *Params) { p.Remote = addr("ff02::1") }), ErrUnicast},
		{with(over6(IP6IP6), func(p *Params) { p.Remote = addr("fe80::1%1") }), ErrUnicast},
		{with(over4(GRE), func(p *Params) { p.Remote = addr("255.255.255.255") }), ErrUnicast},
	} {
		if err := c.t.Check(); !errors.Is(err, c.want) {
			t.Errorf("%s %s %s: %v, want %v", c.t.Kind, c.t.Local, c.t.Remote, err, c.want)
		}
	}
	for k := range numKinds {
		if got, ok := ParseKind(k.String()); !ok || got != k {
			t.Errorf("%s: %v", k, got)
		}
	}
	if k, ok := ParseKind("6in4"); !ok || k != SIT {
		t.Error("6in4")
	}
	if _, ok := ParseKind("vti6"); ok {
		t.Error("vti6")
	}
}

// TestFits is RFC 2473 7.1 and 7.2 and RFC 4213 3.2.2 on both sides of each border.
func TestFits(t *testing.T) {
	six, four := Entry{Overhead: 48}, Entry{V4: true, Overhead: 48}
	for _, c := range []struct {
		e       Entry
		n, path int
		df      bool
		fate    Fate
		mtu     int
	}{
		{six, 1452, 1500, false, Whole, 0}, {six, 1453, 1500, false, TooLong, 1452},
		{six, 1280, 1328, false, Whole, 0}, {six, 1281, 1328, false, TooLong, 1280},
		{six, 1279, 1327, false, Whole, 0}, {six, 1280, 1327, false, InPieces, 0}, {six, 1281, 1327, false, TooLong, 1280},
		{six, 1232, 1280, false, Whole, 0}, {six, 1233, 1280, false, InPieces, 0}, {six, 1280, 1280, false, InPieces, 0}, {six, 1281, 1280, false, TooLong, 1280},
		{four, 1452, 1500, true, Whole, 0}, {four, 1453, 1500, true, TooLong, 1452}, {four, 1453, 1500, false, InPieces, 0},
		{four, 1232, 1280, true, Whole, 0}, {four, 1233, 1280, true, TooLong, 1232}, {four, 100, 60, true, TooLong, 68},
	} {
		if f, mtu := c.e.Fits(c.n, c.path, c.df); f != c.fate || mtu != c.mtu {
			t.Errorf("%d octets, path %d, DF %v, IPv4 %v: %d, %d", c.n, c.path, c.df, c.e.V4, f, mtu)
		}
	}
	if got := with(over6(IP6IP6), func(p *Params) { p.EncapLimit = 4 }).MTU(1500); got != 1452 {
		t.Errorf("MTU %d", got)
	}
	if got := with(over6(IP6GRE), func(p *Params) { p.OKey.Set, p.OCsum, p.OSeq = true, true, true }).MTU(1500); got != 1444 {
		t.Errorf("MTU with GRE %d", got)
	}
	if got := over4(SIT).MTU(1500); got != 1480 {
		t.Errorf("MTU over IPv4 %d", got)
	}
}

// TestFaults: what is not taken apart.
func TestFaults(t *testing.T) {
	edit := func(p *Params, inner []byte, f func(pkt []byte) []byte) func() (*Params, []byte) {
		return func() (*Params, []byte) { return p, f(p.enclose(t, inner, 0)) }
	}
	set := func(at int, v ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], v); return b }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	plain := over6(IP6GRE)
	keyed := with(plain, func(p *Params) { p.OKey = Key{true, 5} })
	sum := with(plain, func(p *Params) { p.OCsum = true })
	from := func(s string) []byte { a := addr(s).As16(); return a[:] }
	ip6, in4 := over6(IP6IP6), over6(IPIP6)
	for _, c := range []struct {
		name string
		make func() (*Params, []byte)
		want Fault
	}{
		{"GRE version 1", edit(plain, v6(0, 0), set(41, 1)), Header},
		{"GRE with routing", edit(plain, v6(0, 0), set(40, 0x40)), Header},
		{"GRE with bit 4", edit(plain, v6(0, 0), set(40, 0x08)), Header},
		{"GRE with bit 5", edit(plain, v6(0, 0), set(40, 0x04)), Header},
		{"GRE with reserved bits 6 to 12", edit(plain, v6(0, 0), set(40, 0x03, 0xf8)), NoFault},
		{"GRE cut", edit(plain, v6(0, 0), cut(43)), Header},
		{"GRE cut in its key", edit(keyed, v6(0, 0), cut(47)), Header},
		{"GRE with another protocol", edit(plain, v6(0, 0), set(42, 0x65, 0x58)), Protocol},
		{"GRE with another key", edit(keyed, v6(0, 0), set(47, 6)), WrongKey},
		{"GRE without a key", func() (*Params, []byte) { return keyed, plain.enclose(t, v6(0, 0), 0) }, WrongKey},
		{"GRE with a key where none is", func() (*Params, []byte) { return plain, keyed.enclose(t, v6(0, 0), 0) }, WrongKey},
		{"GRE with a wrong checksum", edit(sum, v6(0, 3), set(90, 9)), Checksum},
		{"GRE with a checksum where none is wanted", func() (*Params, []byte) { return plain, sum.enclose(t, v6(0, 3), 0) }, NoFault},
		{"GRE with a wrong one where none is wanted", func() (*Params, []byte) { return plain, set(90, 9)(sum.enclose(t, v6(0, 3), 0)) }, Checksum},
		{"GRE without a checksum", func() (*Params, []byte) { return sum, plain.enclose(t, v6(0, 3), 0) }, Checksum},
		{"GRE without a number", func() (*Params, []byte) {
			return with(plain, func(p *Params) { p.OSeq = true }), plain.enclose(t, v6(0, 3), 0)
		}, Sequence},
		{"nothing in it", edit(ip6, v6(0, 0), cut(40)), Protocol},
		{"another version", edit(ip6, v6(0, 0), set(40, 0x45)), Protocol},
		{"half a header", edit(ip6, v6(0, 0), cut(79)), Length},
		{"cut", edit(ip6, v6(0, 9), cut(96)), Length},
		{"padding behind it", edit(ip6, v6(0, 9), func(b []byte) []byte { return append(b, 1, 2, 3) }), NoFault},
		{"source multicast", edit(ip6, v6(0, 0), set(48, from("ff02::1")...)), Source},
		{"source loopback", edit(ip6, v6(0, 0), set(48, from("::1")...)), Source},
		{"source IPv4-compatible", edit(ip6, v6(0, 0), set(48, from("::192.0.2.1")...)), Source},
		{"source IPv4-mapped", edit(ip6, v6(0, 0), set(48, from("::ffff:192.0.2.1")...)), Source},
		{"source unspecified", edit(ip6, v6(0, 0), set(48, from("::")...)), NoFault},
		{"source link-local", edit(ip6, v6(0, 0), set(48, from("fe80::1")...)), NoFault},
		{"source ::1:0:0", edit(ip6, v6(0, 0), set(48, from("::1:0:0")...)), NoFault},
		{"IPv4: another version", edit(in4, v4(0, 4, false), set(40, 0x65)), Protocol},
		{"IPv4: header length 16", edit(in4, v4(0, 4, false), set(40, 0x44)), Length},
		{"IPv4: header longer than all", edit(in4, v4(0, 4, false), set(40, 0x4f)), Length},
		{"IPv4: length below the header's", edit(in4, v4(0, 4, false), set(42, 0, 19)), Length},
		{"IPv4: cut", edit(in4, v4(0, 4, false), cut(63)), Length},
		{"IPv4: header checksum", edit(in4, v4(0, 4, false), set(48, 8)), Length},
	} {
		p, pkt := c.make()
		if _, f := p.open(t, pkt, 0); f != c.want {
			t.Errorf("%s: %d, want %d", c.name, f, c.want)
		}
	}
	for _, src := range []string{"0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"} {
		pkt := v4(0, 4, false)
		putIPv4(pkt, ipv4Fields{length: len(pkt), ttl: 1, src: addr(src), dst: addr("192.0.2.9")})
		if _, f := in4.open(t, in4.enclose(t, pkt, 0), 0); f != Source {
			t.Errorf("source %s: %d", src, f)
		}
	}
}

// TestSequence: numbers count on modulo 2^32 (RFC 2890 2.2).
func TestSequence(t *testing.T) {
	p := with(over6(IP6GRE), func(p *Params) { p.OSeq = true })
	for _, c := range []struct {
		next, seq uint32
		want      Fault
	}{
		{0, 0, NoFault}, {1, 0, Sequence}, {5, 5, NoFault}, {5, 4, Sequence}, {5, 100, NoFault},
		{0, 0xffffffff, Sequence}, {0xffffffff, 0, NoFault}, {0xffffffff, 0xfffffffe, Sequence},
	} {
		o, f := p.open(t, p.enclose(t, v6(0, 0), c.seq), c.next)
		if f != c.want || f == NoFault && (!o.HasSeq || o.Seq != c.seq) {
			t.Errorf("%d where %d is next: %d %+v", c.seq, c.next, f, o)
		}
	}
}
