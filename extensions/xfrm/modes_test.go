package xfrm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/esp"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmapi"
)

var (
	left, right = addr("2001:db8:f::1"), addr("2001:db8:f::2")

	hmac256 = &sad.AlgoConfig{Name: "hmac(sha256)", Key: "0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}
)

// ahState is an SA of AH.
func ahState(spi uint32, mode string) sad.StateConfig {
	return sad.StateConfig{Src: left, Dst: right, Proto: "ah", SPI: spi, Mode: mode, ReqID: 1, Auth: hmac256}
}

func espState(spi uint32, mode string) sad.StateConfig {
	return change(gcm(spi), func(c *sad.StateConfig) { c.Mode = mode })
}

// tmpl is what a policy asks for in the order in which it is done: "esp transport, ah tunnel".
func tmpl(list string) (out []TemplateConfig) {
	for t := range strings.SplitSeq(list, ", ") {
		p, mode, _ := strings.Cut(t, " ")
		c := TemplateConfig{Proto: p, Mode: mode, ReqID: 1}
		if mode != "transport" {
			c.Src, c.Dst = left, right
		}
		out = append(out, c)
	}
	return out
}

// headers names the headers of a packet up to what is hidden.
func headers(b []byte) string {
	names := map[uint8]string{wire.HopByHop: "HBH", wire.DestOpts: "DestOpts", wire.Routing: "RH", wire.Fragment: "Frag", wire.AH: "AH",
		wire.ESP: "ESP", wire.UDP: "UDP", wire.IPv6Encap: "IPv6"}
	var c wire.Chain
	c.Walk(b)
	out := []string{}
	for i := range c.N {
		out = append(out, names[c.Headers[i].Proto])
	}
	return strings.Join(append(out, names[c.Proto]), " ")
}

// opened gives a packet to a node until nothing more is to be opened, as the packet path does.
func opened(t *testing.T, to *bench, sent []byte) (*packet.Packet, packet.Verdict) {
	t.Helper()
	p := packet.New(sent)
	p.In = 1
	for {
		b := p.Bytes()
		if n := wire.IPv6HeaderLen + int(binary.BigEndian.Uint16(b[4:])); n != len(b) {
			t.Fatalf("payload length for %d of %d octets", n, len(b))
		}
		var c wire.Chain
		c.Walk(b)
		if v := homesOf(to, p, &c); v != packet.Local {
			return p, v
		}
		p.Proto, p.TransOff, p.ProtoField = c.Proto, c.Off, c.ProtoField
		for i := range c.N {
			if c.Headers[i].Proto == wire.AH {
				p.Proto, p.TransOff, p.ProtoField = wire.AH, c.Headers[i].Off, wire.NextHeaderOffset
				if i > 0 {
					p.ProtoField = c.Headers[i-1].Off
				}
				break
			}
		}
		if p.Proto != wire.ESP && p.Proto != wire.AH && p.Proto != wire.UDP {
			return p, packet.Continue
		}
		if v := to.m.input(p); v != packet.Again {
			return p, v
		}
	}
}

// homesOf lets the headers of Mobile IPv6 in front of AH have their effect.
func homesOf(to *bench, p *packet.Packet, c *wire.Chain) packet.Verdict {
	b := p.Bytes()
	for i := range c.N {
		h := &c.Headers[i]
		if h.Proto == wire.AH {
			break
		}
		if h.Off < p.Walked || !(h.Proto == wire.Routing && b[h.Off+2] == 2 || h.Proto == wire.DestOpts && wire.HomeAddress(b, h) != 0) {
			continue
		}
		p.Proto, p.TransOff = h.Proto, h.Off
		if v := to.m.input(p); v != packet.Local {
			return v
		}
		p.Walked = h.Off + h.Len
	}
	return packet.Local
}

// with puts extension headers, each of 8 octets, in front of UDP.
func with(ext ...uint8) []byte {
	src, dst := left, right
	body := []byte{0x10, 0, 0x20, 0, 0, 12, 1, 2, 'd', 'a', 't', 'a'}
	next := uint8(wire.UDP)
	for _, h := range slices.Backward(ext) {
		x := []byte{next, 0, 1, 4, 0, 0, 0, 0}
		switch h {
		case wire.Routing:
			x[2], x[3] = 253, 0
		case wire.Fragment:
			x = []byte{next, 0, 0, 1, 0, 0, 0, 9}
		}
		body, next = append(x, body...), h
	}
	return append(wire.AppendIPv6(nil, wire.IPv6Fields{
		TrafficClass: 0xb8, PayloadLength: uint16(len(body)), NextHeader: next, HopLimit: 64, Src: src, Dst: dst,
	}), body...)
}

// TestModes: what is sent looks as it should, and comes out as it was.
func TestModes(t *testing.T) {
	beet := change(espState(0x103, "beet"), func(c *sad.StateConfig) { c.Sel = "src 2001:db8:e::1 dst 2001:db8:e::2" })
	beetPlain := with()
	e1, e2 := addr("2001:db8:e::1").As16(), addr("2001:db8:e::2").As16()
	copy(beetPlain[8:], e1[:])
	copy(beetPlain[24:], e2[:])
	udp := func(mode string) sad.StateConfig {
		return change(espState(0x104, mode), func(c *sad.StateConfig) { c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 4501, DPort: 4500} })
	}
	for _, c := range []struct {
		tmpl   string
		states []sad.StateConfig
		plain  []byte
		want   string
	}{
		{"esp transport", []sad.StateConfig{espState(0x100, "transport")}, with(), "ESP"},
		{"esp transport", []sad.StateConfig{espState(0x100, "transport")}, with(wire.HopByHop), "HBH ESP"},
		{"esp transport", []sad.StateConfig{espState(0x100, "transport")}, with(wire.DestOpts), "ESP"},
		{"esp transport", []sad.StateConfig{espState(0x100, "transport")}, with(wire.HopByHop, wire.DestOpts, wire.Routing, wire.DestOpts), "HBH DestOpts RH ESP"},
		{"ah transport", []sad.StateConfig{ahState(0x101, "transport")}, with(), "AH UDP"},
		{"ah transport", []sad.StateConfig{ahState(0x101, "transport")}, with(wire.HopByHop, wire.DestOpts), "HBH AH DestOpts UDP"},
		{"esp transport, ah transport", []sad.StateConfig{espState(0x100, "transport"), ahState(0x101, "transport")}, with(), "AH ESP"},
		{"esp transport, ah transport", []sad.StateConfig{espState(0x100, "transport"), ahState(0x101, "transport")}, with(wire.HopByHop, wire.Routing), "HBH RH AH ESP"},
		{"esp tunnel", []sad.StateConfig{espState(0x100, "tunnel")}, with(wire.DestOpts), "ESP"},
		{"esp tunnel", []sad.StateConfig{espState(0x100, "tunnel")}, with(wire.Fragment), "ESP"},
		{"esp tunnel", []sad.StateConfig{change(espState(0x100, "tunnel"), func(c *sad.StateConfig) { c.TFCPad = 600 })}, with(), "ESP"},
		{"ah tunnel", []sad.StateConfig{ahState(0x101, "tunnel")}, with(wire.HopByHop), "AH IPv6"},
		{"esp tunnel, ah transport", []sad.StateConfig{espState(0x100, "tunnel"), ahState(0x101, "transport")}, with(), "AH ESP"},
		{"ah transport, esp tunnel", []sad.StateConfig{ahState(0x101, "transport"), espState(0x100, "tunnel")}, with(), "ESP"},
		{"esp tunnel, esp tunnel", []sad.StateConfig{espState(0x100, "tunnel")}, with(), "ESP"},
		{"esp beet", []sad.StateConfig{beet}, beetPlain, "ESP"},
		{"esp transport", []sad.StateConfig{udp("transport")}, with(), "UDP"},
		{"esp transport", []sad.StateConfig{udp("transport")}, with(wire.HopByHop), "HBH UDP"},
		{"esp tunnel", []sad.StateConfig{udp("tunnel")}, with(), "UDP"},
	} {
		from, to := newBench(t), newBench(t)
		pol := PolicyConfig{Name: "p", Dir: "out", Action: "protect", Selector: SelectorConfig{}, Templates: tmpl(c.tmpl)}
		from.apply(sections(c.states, []PolicyConfig{pol}))
		pol.Dir = "in"
		to.apply(sections(c.states, []PolicyConfig{pol}))
		p := roomy(packet.New(c.plain))
		p.Out, p.Route = 1, &packet.Route{}
		want := packet.Continue
		if strings.Contains(c.tmpl, "tunnel") || strings.Contains(c.tmpl, "beet") {
			want = packet.Forward
		}
		if v := from.m.transform(p); v != want || !p.Protected {
			t.Errorf("%s of %s: %s", c.tmpl, headers(c.plain), v)
			continue
		}
		sent := finished(p)
		if got := headers(sent); got != c.want {
			t.Errorf("%s of %s: sent %s, want %s", c.tmpl, headers(c.plain), got, c.want)
		}
		if c.states[0].TFCPad != 0 && len(sent) < 600 {
			t.Errorf("%d octets of 600", len(sent))
		}
		if c.states[0].Encap != nil {
			u := sent[upperAt(sent):]
			if binary.BigEndian.Uint16(u) != 4501 || binary.BigEndian.Uint16(u[2:]) != 4500 {
				t.Errorf("ports % x", u[:4])
			}
		}
		q, v := opened(t, to, sent)
		if v != packet.Continue || !bytes.Equal(q.Bytes(), c.plain) {
			t.Errorf("%s of %s: %s\n% x\n% x", c.tmpl, headers(c.plain), v, q.Bytes(), c.plain)
			continue
		}
		if got := len(q.Came()); got != len(strings.Split(c.tmpl, ", ")) {
			t.Errorf("%s: came through %d", c.tmpl, got)
		}
		if v := to.m.admit(q); v != packet.Continue {
			t.Errorf("%s: %s", c.tmpl, v)
		}
		// In the clear it does not come in.
		bare := packet.New(c.plain)
		bare.In = 1
		if v := to.m.admit(bare); v != packet.Drop(packet.XfrmInTmplMismatch) || to.Counters["XfrmInTmplMismatch"].Value() != 1 {
			t.Errorf("%s in the clear: %s", c.tmpl, v)
		}
	}
}

// roomy is a copy with the room of a worker's buffer behind it.
func roomy(p *packet.Packet) *packet.Packet {
	q := packet.NewBuffer(2000)
	p.CopyTo(q)
	return q
}

// upperAt is where the upper layer of a packet begins.
func upperAt(b []byte) int {
	var c wire.Chain
	c.Walk(b)
	return c.Off
}

// TestMeasure: the MTU that a packet too long is answered with is the most that passes, and what passes fits; of a
// path that takes little, 1280 octets pass all the same (RFC 8200 5).
func TestMeasure(t *testing.T) {
	for _, c := range []struct {
		tmpl   string
		states []sad.StateConfig
	}{
		{"esp tunnel", []sad.StateConfig{espState(0x100, "tunnel")}},
		{"esp tunnel", []sad.StateConfig{change(espState(0x100, "tunnel"), func(c *sad.StateConfig) { c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 1, DPort: 2} })}},
		{"esp tunnel", []sad.StateConfig{change(espState(0x100, "tunnel"), func(c *sad.StateConfig) { c.TFCPad = 1500 })}},
		{"ah tunnel", []sad.StateConfig{ahState(0x101, "tunnel")}},
		{"esp tunnel, ah transport", []sad.StateConfig{espState(0x100, "tunnel"), ahState(0x101, "transport")}},
		{"esp tunnel", []sad.StateConfig{change(espState(0x100, "tunnel"), func(c *sad.StateConfig) {
			c.AEAD, c.Enc, c.Auth = nil, &sad.AlgoConfig{Name: "cbc(aes)", Key: "0x000102030405060708090a0b0c0d0e0f"}, hmac256
		})}},
	} {
		for _, path := range []int{1500, 1400, 1399, 1340, 1300} {
			b := newBench(t)
			peer := right.As16()
			if path != 1500 {
				b.MTUs[peer] = path
			}
			b.apply(sections(c.states, []PolicyConfig{{Name: "p", Dir: "out", Action: "protect", Templates: tmpl(c.tmpl)}}))
			most, told := 0, 0
			for n := 1200; n <= 1500; n++ {
				p := roomy(clearPacket(n - 48))
				p.In = 1
				switch v := b.m.transform(p); {
				case v == packet.Forward:
					if most = n; p.Len() > max(path, 1280) && n > 1280 {
						t.Fatalf("%s, path %d: %d octets became %d", c.tmpl, path, n, p.Len())
					}
				case v == packet.Drop(packet.TooBig) && (told == 0 || told == p.MTU):
					told = p.MTU
				default:
					t.Fatalf("%s, path %d: %d octets: %s, MTU %d", c.tmpl, path, n, v, p.MTU)
				}
			}
			if most != told || most < 1280 {
				t.Errorf("%s, path %d: %d octets pass, told %d", c.tmpl, path, most, told)
			}
		}
	}
}

// TestMeasureOwn: a packet of this node in transport mode is protected whole and fragmented then, TCP hears of the MTU
// first; superpackets and unfinished checksums come again.
func TestMeasureOwn(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{espState(0x100, "transport")}, []PolicyConfig{{Name: "p", Dir: "out", Action: "protect", Templates: tmpl("esp transport")}}))
	own := func(n int, next uint8, f func(*packet.Packet)) *packet.Packet {
		p := packet.New(append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(n - 40), NextHeader: next, Src: left, Dst: right}), make([]byte, n-40)...))
		p.Out, p.Route = 1, &packet.Route{}
		if f != nil {
			f(p)
		}
		return p
	}
	const fits = 1466 // 40 + (1460 - 8 - 8 - 16) - 2
	for _, c := range []struct {
		name string
		p    *packet.Packet
		want packet.Verdict
		mtu  int
	}{
		{"udp that fits", own(fits, wire.UDP, nil), packet.Continue, 0},
		{"udp", own(3000, wire.UDP, nil), packet.Continue, 0},
		{"udp, a probe", own(fits+1, wire.UDP, func(p *packet.Packet) { p.NoFrag = true }), packet.Drop(packet.TooBig), fits},
		{"tcp that fits", own(fits, wire.TCP, nil), packet.Continue, 0},
		{"tcp", own(fits+1, wire.TCP, nil), packet.Drop(packet.TooBig), fits},
		{"tcp, super", own(9000, wire.TCP, func(p *packet.Packet) { p.GSO = packet.GSO{Type: packet.GSOTCP6, HdrLen: 60, Size: 1440} }), packet.Drop(packet.TooBig), fits},
		{"tcp, super that fits", own(9000, wire.TCP, func(p *packet.Packet) { p.GSO = packet.GSO{Type: packet.GSOTCP6, HdrLen: 60, Size: 1400} }), packet.Split, 0},
		{"unfinished", own(100, wire.UDP, func(p *packet.Packet) { p.GSO.Csum = packet.CsumPartial }), packet.Split, 0},
		{"a fragment", packet.New(with(wire.Fragment)), packet.Drop(packet.XfrmOutStateModeError), 0},
	} {
		c.p.Out = 1
		if v := b.m.transform(c.p); v != c.want || c.p.MTU != c.mtu {
			t.Errorf("%s: %s, MTU %d", c.name, v, c.p.MTU)
		}
	}
}

// TestFragmentsGoWithTheirWhole: a policy on ports takes the fragments that this node has made of a packet of those
// ports, and no fragment in transit whose ports are not to be seen.
func TestFragmentsGoWithTheirWhole(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{gcm(0x100)}, []PolicyConfig{{
		Name: "p", Dir: "out", Action: "protect", Selector: SelectorConfig{Proto: "udp", DPort: 0x2000}, Templates: tmpl("esp tunnel"),
	}}))
	later := func() *packet.Packet {
		b := with(wire.Fragment)
		b[43] = 0x10 // the offset
		p := packet.New(b)
		p.Out, p.Route = 1, &packet.Route{}
		return p
	}
	p := later()
	p.Upper = packet.Upper{Set: true, Proto: wire.UDP, Head: [4]byte{0x10, 0, 0x20, 0}}
	if v := b.m.transform(p); v != packet.Forward {
		t.Errorf("of a whole: %s", v)
	}
	p = later()
	p.In = 1
	if v := b.m.transform(p); v != packet.Continue || p.Protected {
		t.Errorf("in transit: %s", v)
	}
}

// TestCongestion: the table of RFC 6040 4.2, and DSCP (RFC 4301 5.1.2.1).
func TestCongestion(t *testing.T) {
	const drop = -1
	table := [4][4]int{ // by inner, by outer
		{0, 0, 0, drop},
		{1, 1, 1, 3},
		{2, 1, 2, 3},
		{3, 3, 3, 3},
	}
	for inner := range uint8(4) {
		for outer := range uint8(4) {
			got, ok := decapsulate(0x28<<2|inner, 0x12<<2|outer, 0)
			want := table[inner][outer]
			if ok != (want != drop) || ok && got != 0x28<<2|uint8(want) {
				t.Errorf("inner %d, outer %d: %#x, %v", inner, outer, got, ok)
			}
			if got, ok := decapsulate(0x28<<2|inner, 0x12<<2|outer, sad.NoECN); !ok || got != 0x28<<2|inner {
				t.Errorf("noecn: inner %d, outer %d: %#x", inner, outer, got)
			}
			if got, ok := decapsulate(0x28<<2|inner, 0x12<<2|outer, sad.DecapDSCP); ok && got>>2 != 0x12 {
				t.Errorf("decap-dscp: %#x", got)
			}
		}
	}
	for _, c := range []struct {
		flags []string
		inner uint8
		want  uint8
	}{
		{nil, 0xb9, 0xb9}, {[]string{"noecn"}, 0xb9, 0xb8}, {[]string{"dont-encap-dscp"}, 0xb9, 0x01}, {[]string{"dont-encap-dscp", "noecn"}, 0xb9, 0},
	} {
		b := newBench(t)
		b.apply(sections([]sad.StateConfig{change(gcm(0x100), func(s *sad.StateConfig) { s.Flags = c.flags })}, []PolicyConfig{protect("7")}))
		p := clearPacket(10)
		setClass(p.Bytes(), c.inner)
		if v := b.m.transform(p); v != packet.Forward || class(p.Bytes()) != c.want || p.Bytes()[7] != 0 {
			t.Errorf("%v: %s, class %#x, hop limit %d", c.flags, v, class(p.Bytes()), p.Bytes()[7])
		}
	}
}

// TestFlowLabels: one flow has one label, others have others.
func TestFlowLabels(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{gcm(0x100)}, []PolicyConfig{protect("7")}))
	seen := map[uint32]bool{}
	for port := range byte(8) {
		for range 2 {
			p := clearPacket(10)
			p.Bytes()[41] = port
			b.m.transform(p)
			seen[binary.BigEndian.Uint32(p.Bytes())&0xfffff] = true
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d labels of 8 flows", len(seen))
	}
}

// TestUDPPort: what comes to the port of an SA in UDP.
func TestUDPPort(t *testing.T) {
	b := newBench(t)
	sa := change(espState(0x100, "tunnel"), func(c *sad.StateConfig) { c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 4500, DPort: 4500} })
	b.apply(sections([]sad.StateConfig{sa, espState(0x101, "tunnel")}, nil))
	to := func(dst netip.Addr, port uint16, payload ...byte) *packet.Packet {
		u := binary.BigEndian.AppendUint16([]byte{0x11, 0x94}, port)
		u = binary.BigEndian.AppendUint16(u, uint16(8+len(payload)))
		u = append(append(u, 0, 0), payload...)
		raw := append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(len(u)), NextHeader: wire.UDP, Src: left, Dst: dst}), u...)
		l, r := left.As16(), dst.As16()
		binary.BigEndian.PutUint16(raw[46:], wire.Checksum(&l, &r, wire.UDP, raw[40:]))
		p := packet.New(raw)
		p.In, p.Proto, p.TransOff, p.ProtoField = 1, wire.UDP, 40, wire.NextHeaderOffset
		return p
	}
	broken := to(right, 4500, 0, 0, 1, 0, 0, 0, 0, 1)
	broken.Bytes()[47] ^= 1
	for _, c := range []struct {
		name string
		p    *packet.Packet
		want packet.Verdict
	}{
		{"keepalive", to(right, 4500, 0xff), packet.Drop(packet.XfrmInKeepalive)},
		{"ike", to(right, 4500, 0, 0, 0, 0, 1, 2, 3, 4, 5), packet.Continue},
		{"short", to(right, 4500, 1, 2, 3), packet.Drop(packet.XfrmInHdrError)},
		{"another port", to(right, 4501, 0xff), packet.Continue},
		{"another address", to(left, 4500, 0xff), packet.Continue},
		{"no such spi", to(right, 4500, 0, 0, 9, 9, 0, 0, 0, 1), packet.Drop(packet.XfrmInNoStates)},
		{"an SA without UDP", to(right, 4500, 0, 0, 1, 1, 0, 0, 0, 1), packet.Drop(packet.XfrmInStateMismatch)},
		{"not authentic", to(right, 4500, append([]byte{0, 0, 1, 0, 0, 0, 0, 1}, make([]byte, 40)...)...), packet.Drop(packet.XfrmInStateProtoError)},
		{"wrong checksum", broken, packet.Continue}, // the host stack's business
	} {
		if v := b.m.input(c.p); v != c.want {
			t.Errorf("%s: %s", c.name, v)
		}
	}
	b.apply(sections([]sad.StateConfig{espState(0x101, "tunnel")}, nil))
	if v := b.m.input(to(right, 4500, 0xff)); v != packet.Continue || len(b.m.view.Load().ports) != 0 {
		t.Errorf("without the SA: %s", v)
	}
	bare := change(sa, func(c *sad.StateConfig) { c.SPI = 0x102 })
	b.apply(sections([]sad.StateConfig{bare}, nil))
	p := packet.New(append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 40, NextHeader: wire.ESP, Src: left, Dst: right}), append([]byte{0, 0, 1, 2, 0, 0, 0, 1}, make([]byte, 32)...)...))
	p.In, p.Proto, p.TransOff = 1, wire.ESP, 40
	if v := b.m.input(p); v != packet.Drop(packet.XfrmInStateMismatch) {
		t.Errorf("ESP of an SA in UDP: %s", v)
	}
}

// TestRefusedIn: packets that are authentic and do not come in all the same.
func TestRefusedIn(t *testing.T) {
	sealed := func(b *bench, next uint8, inner []byte, seq uint64) *packet.Packet {
		w := b.m.sad.List()[0].Live.Work.(*work)
		n := w.esp.HeaderLen() + len(inner) + w.esp.TrailerLen(len(inner))
		raw := append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(n), NextHeader: wire.ESP, Src: left, Dst: right}), make([]byte, n)...)
		copy(raw[40+w.esp.HeaderLen():], inner)
		if err := w.esp.Seal(raw, 40, esp.Payload{Len: len(inner), NextHeader: next}, seq, seq); err != nil {
			t.Fatal(err)
		}
		p := packet.New(raw)
		p.In, p.Proto, p.TransOff, p.ProtoField = 1, wire.ESP, 40, wire.NextHeaderOffset
		return p
	}
	tunnel := newBench(t)
	tunnel.apply(sections([]sad.StateConfig{change(gcm(0x100), func(c *sad.StateConfig) { c.Lifetime.HardPackets = 5 })}, nil))
	marked := with()
	setClass(marked, 0)
	ce := func(p *packet.Packet) *packet.Packet { setClass(p.Bytes(), 3); return p }
	full := sealed(tunnel, wire.IPv6Encap, with(), 9)
	for range packet.MaxStates {
		full.ComeThrough(tunnel)
	}
	for _, c := range []struct {
		name string
		p    *packet.Packet
		want packet.Verdict
	}{
		{"dummy", sealed(tunnel, wire.NoNext, make([]byte, 50), 1), packet.Drop(packet.XfrmInDummy)},
		{"no tunnel", sealed(tunnel, wire.UDP, make([]byte, 50), 2), packet.Drop(packet.XfrmInStateModeError)},
		{"short inner", sealed(tunnel, wire.IPv6Encap, with()[:45], 3), packet.Drop(packet.XfrmInStateModeError)},
		{"congestion", ce(sealed(tunnel, wire.IPv6Encap, marked, 4)), packet.Drop(packet.TunnelECN)},
		{"too many", full, packet.Drop(packet.XfrmInBufferError)},
		{"good", sealed(tunnel, wire.IPv6Encap, with(), 5), packet.Again},
		{"expired", sealed(tunnel, wire.IPv6Encap, with(), 6), packet.Drop(packet.XfrmInStateExpired)},
		{"expired before", sealed(tunnel, wire.IPv6Encap, with(), 7), packet.Drop(packet.XfrmInStateExpired)},
	} {
		if v := tunnel.m.input(c.p); v != c.want {
			t.Errorf("%s: %s", c.name, v)
		}
	}
	short := packet.New(append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 4, NextHeader: wire.ESP, Src: left, Dst: right}), 0, 0, 1, 0))
	short.In, short.Proto, short.TransOff = 1, wire.ESP, 40
	if v := tunnel.m.input(short); v != packet.Drop(packet.XfrmInHdrError) {
		t.Errorf("short: %s", v)
	}
	// The loop hears of the limit once, and the state goes.
	tunnel.told()
	tunnel.m.Receive(tunnel.now(), <-tunnel.Mailbox)
	if got := fmt.Sprint(tunnel.told()); got != "[expire 0x100]" || len(tunnel.m.states()) != 0 || len(tunnel.Mailbox) != 0 {
		t.Errorf("%s", got)
	}
	if tunnel.Counters["XfrmInStateExpired"].Value() != 2 || tunnel.Counters["XfrmInStateModeError"].Value() != 2 {
		t.Error("Linux's counters do not count")
	}
}

// TestRefusedOut: no state, one that is waited for, one at its end, a policy that blocks.
func TestRefusedOut(t *testing.T) {
	b := newBench(t)
	b.apply(sections(nil, []PolicyConfig{protect("7"), {Name: "b", Dir: "out", Action: "block", Priority: 20, Selector: SelectorConfig{Dst: "2001:db8:8::/48"}}}))
	b.told()
	for i := range 3 {
		if v := b.m.transform(clearPacket(10)); v != packet.Drop(packet.XfrmOutNoStates) {
			t.Errorf("no state: %s", v)
		}
		if len(b.Mailbox) > 0 {
			b.m.Receive(b.now(), <-b.Mailbox)
		}
		if got := fmt.Sprint(b.told()); (got == "[acquire 0x0]") != (i == 0) {
			t.Errorf("packet %d: %s", i, got)
		}
	}
	s := b.m.states()[0]
	if s.KM != sad.Acq || s.Sel.Src.String() != "2001:db8:f::1/128" || s.Sel.DPort != 0x2000 {
		t.Errorf("the larval state is for %+v", s.Sel)
	}
	p := clearPacket(10)
	p.Bytes()[29] = 8
	if v := b.m.transform(p); v != packet.Drop(packet.XfrmOutPolBlock) {
		t.Errorf("blocked: %s", v)
	}
	b.apply(sections([]sad.StateConfig{gcm(0x100)}, []PolicyConfig{protect("7")}))
	b.m.states()[0].Live.Count(b.now(), 1)
	b.apply(sections([]sad.StateConfig{change(gcm(0x100), func(c *sad.StateConfig) { c.Lifetime.HardPackets = 2 })}, []PolicyConfig{protect("7")}))
	for i, want := range []packet.Verdict{packet.Forward, packet.Drop(packet.XfrmOutStateExpired), packet.Drop(packet.XfrmOutStateExpired)} {
		if v := b.m.transform(clearPacket(10)); v != want {
			t.Errorf("packet %d of 2: %s", i+1, v)
		}
	}
	b.m.Receive(b.now(), <-b.Mailbox)
	if v := b.m.transform(clearPacket(10)); v != packet.Drop(packet.XfrmOutNoStates) {
		t.Errorf("gone: %s", v)
	}
}

// TestNoNumberLeft: without ESN the last number is the last (RFC 4303 3.3.3).
func TestNoNumberLeft(t *testing.T) {
	b := newBench(t)
	b.apply(sections(nil, []PolicyConfig{protect("7")}))
	c := gcm(0x100)
	s, fault := c.State(sad.Defaults{ReplayWindow: 32}, nil, nil)
	if fault != nil {
		t.Fatal(fault)
	}
	s.ReplayOSeq = 1<<32 - 2
	if _, _, err := b.m.sad.Add(b.now(), s); err != nil {
		t.Fatal(err)
	}
	b.m.openIVs()
	b.m.changed(b.now())
	b.told()
	for i, want := range []packet.Verdict{packet.Forward, packet.Drop(packet.XfrmOutStateSeqError), packet.Drop(packet.XfrmOutStateSeqError)} {
		if v := b.m.transform(clearPacket(10)); v != want {
			t.Errorf("packet %d: %s", i, v)
		}
	}
	b.m.Receive(b.now(), <-b.Mailbox)
	if e := b.Published; len(e) != 1 || e[0].Value.(xfrmapi.Event).Event != "expire" || e[0].Value.(xfrmapi.Event).Hard {
		t.Errorf("%+v", e)
	}
}
