package xfrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/esp"
	"leveret/extensions/xfrm/replay"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmtest"
)

// The vectors of the cores.
func espVectors(t *testing.T) []xfrmtest.Vector {
	return xfrmtest.Vectors(t, "esp/testdata/esp.json", 20)
}
func ahVectors(t *testing.T) []xfrmtest.Vector { return xfrmtest.Vectors(t, "ah/testdata/ah.json", 9) }

// wordsOf are those of "ip xfrm state add" for the end that opens; the window is right in front of the packet.
func wordsOf(v *xfrmtest.Vector, b []byte) string {
	return "ip xfrm state add src " + hostOf(b[8:24]) + " dst " + hostOf(b[24:40]) + keysOf(v)
}

// keysOf are the words behind the addresses.
func keysOf(v *xfrmtest.Vector) string {
	last := v.Seq - 1
	w := fmt.Sprintf(" proto %s spi %#x mode %s replay-window 64 replay-seq %#x", v.Proto, v.SPI, v.Mode, uint32(last))
	if v.ESN {
		w += fmt.Sprintf(" replay-seq-hi %#x flag esn", last>>32)
	}
	if v.UDP != nil {
		w += fmt.Sprintf(" encap espinudp %d %d ::", v.UDP[0], v.UDP[1])
	}
	switch {
	case v.Proto == "ah":
		return w + fmt.Sprintf(" auth-trunc %s 0x%s %d", v.Auth, v.AuthKey, v.ICV*8)
	case v.Auth == "":
		return w + fmt.Sprintf(" aead %s 0x%s%s %d", v.Enc, v.EncKey, v.Salt, v.ICV*8)
	case v.EncKey == "":
		return w + fmt.Sprintf(" auth-trunc %s 0x%s %d enc %s 0x", v.Auth, v.AuthKey, v.ICV*8, v.Enc)
	}
	return w + fmt.Sprintf(" auth-trunc %s 0x%s %d enc %s 0x%s", v.Auth, v.AuthKey, v.ICV*8, v.Enc, v.EncKey)
}

// TestVectorsRefused: of each vector every copy with a changed octet is refused, for the reason that Linux counts, and
// then it comes in all the same; a second time it is refused as a copy.
func TestVectorsRefused(t *testing.T) {
	done := 0
	for _, v := range append(espVectors(t), ahVectors(t)...) {
		pkt := xfrmtest.Hex(t, v.Protected)
		if pkt[0]>>4 == 4 || strings.Contains(v.Name, "rh0") { // TestVectorsOfNobody
			continue
		}
		done++
		t.Run(v.Name, func(t *testing.T) { refused(t, &v, pkt) })
	}
	if done != 27 {
		t.Errorf("%d vectors", done)
	}
}

func refused(t *testing.T, v *xfrmtest.Vector, pkt []byte) {
	b := newBench(t)
	homes := onTheWire(pkt) // the other way round, which says the home addresses
	b.run(wordsOf(v, homes))
	home, careOf := "", ""
	switch {
	case strings.Contains(v.Name, "rh2"):
		home, careOf = hostOf(homes[24:40]), hostOf(pkt[24:40])
		b.owns(addr(home))
		b.run(fmt.Sprintf("ip xfrm state add src %s dst %s proto route2 mode ro coa %s", hostOf(homes[8:24]), home, careOf))
	case strings.Contains(v.Name, "hao"):
		home, careOf = hostOf(homes[8:24]), hostOf(pkt[8:24])
		b.run(fmt.Sprintf("ip xfrm state add src %s dst %s proto hao mode ro coa %s", home, hostOf(homes[24:40]), careOf))
	}
	off := upperAt(pkt)
	var c wire.Chain
	c.Walk(pkt)
	for i := range c.N {
		if c.Headers[i].Proto == wire.AH {
			off = c.Headers[i].Off
		}
	}
	if v.UDP != nil {
		off += 8
	}
	spi, seq := off, off+4
	if v.Proto == "ah" {
		spi, seq = off+4, off+8
	}
	input := func(pkt []byte) packet.Verdict {
		p := packet.New(pkt)
		p.In, p.GSO.Csum = 1, packet.CsumVerified // that of UDP is zero in the vector
		c.Walk(pkt)
		if got := homesOf(b, p, &c); got != packet.Local {
			return got
		}
		p.Proto, p.TransOff, p.ProtoField = pkt[namedAt(pkt, off)], off, namedAt(pkt, off)
		if v.UDP != nil {
			p.Proto, p.TransOff, p.ProtoField = wire.UDP, off-8, wire.NextHeaderOffset
		}
		verdict := b.m.input(p)
		if _, dropped := verdict.Dropped(); !dropped && v.Mode == "transport" {
			up, plain := upperPacket(p.Bytes()), upperPacket(xfrmtest.Hex(t, v.Plain))
			if !bytes.Equal(up[40:], plain[40:]) || up[6] != plain[6] {
				t.Errorf("opened %x\nof %x", up, plain)
			}
		}
		return verdict
	}
	counted := map[packet.Reason]uint64{}
	refuse := func(what string, pkt []byte, reasons ...packet.Reason) {
		t.Helper()
		got := input(pkt)
		for _, r := range reasons {
			if got == packet.Drop(r) {
				counted[r]++
				return
			}
		}
		t.Errorf("%s: %s, want %v", what, got, reasons)
	}
	for i := off; i < len(pkt); i++ {
		bad := bytes.Clone(pkt)
		bad[i] ^= 0x80
		what := fmt.Sprintf("octet %d", i-off)
		switch {
		case i >= spi && i < spi+4:
			refuse(what, bad, packet.XfrmInNoStates)
		case i >= seq && i < seq+4 && uint32(v.Seq) > 1: // it may lie left of the window then
			refuse(what, bad, packet.XfrmInStateProtoError, packet.XfrmInStateSeqError)
		case v.Proto == "ah" && i == off+1:
			refuse(what, bad, packet.XfrmInHdrError)
		default:
			refuse(what, bad, packet.XfrmInStateProtoError)
		}
	}
	if v.Proto == "esp" && v.UDP == nil {
		refuse("cut", cut(pkt, 1), packet.XfrmInStateProtoError)
		refuse("cut in the header", cut(pkt, len(pkt)-off-7), packet.XfrmInHdrError)
	}
	want := packet.Again
	switch {
	case strings.Contains(v.Name, "dummy"):
		want = packet.Drop(packet.XfrmInDummy)
	case strings.Contains(v.Name, "v4 in v6"):
		want = packet.Drop(packet.XfrmInStateModeError)
	}
	if got := input(pkt); got != want {
		t.Fatalf("as it is: %s", got)
	}
	refuse("a copy", pkt, packet.XfrmInStateSeqError)
	for r, n := range counted {
		if got := b.m.count[r].Value(); got != n {
			t.Errorf("%s: %d of %d", r, got, n)
		}
	}
}

// TestVectorsOfNobody: ESP in IPv4 is for no state, as states have IPv6 addresses (and links take no IPv4). Behind a Type 0
// Routing header AH fails for as long as that has segments left, as nobody follows it (RFC 5095 3: such a packet is dropped
// before it comes here); who has none left passes the header over, and AH is opened.
func TestVectorsOfNobody(t *testing.T) {
	done := 0
	for _, v := range espVectors(t) {
		pkt := xfrmtest.Hex(t, v.Protected)
		if pkt[0]>>4 != 4 {
			continue
		}
		done++
		words := fmt.Sprintf("src %s dst %s%s", netip.AddrFrom4([4]byte(pkt[12:])), netip.AddrFrom4([4]byte(pkt[16:])), keysOf(&v))
		r, err := sad.Parse("add", strings.Fields(words), sad.Outside{})
		if err != nil {
			t.Fatal(err)
		}
		b := newBench(t)
		if _, err = b.m.addState(b.now(), &r.State); !errors.Is(err, sad.ErrFamily) || len(b.m.states()) != 0 {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	for _, v := range ahVectors(t) {
		if !strings.Contains(v.Name, "rh0") {
			continue
		}
		done++
		raw, plain := xfrmtest.Hex(t, v.Protected), xfrmtest.Hex(t, v.Plain)
		for raw[43] > 0 { // each on the way, and the last
			b := newBench(t)
			b.run(wordsOf(&v, raw))
			if got := b.m.input(behindRouting(raw)); got != packet.Drop(packet.XfrmInStateProtoError) || b.Counters["XfrmInStateProtoError"].Value() != 1 {
				t.Errorf("%s: %d segments left: %s", v.Name, raw[43], got)
			}
			next := 48 + 16*(int(raw[41])/2-int(raw[43]))
			swapped(raw[24:40], raw[next:])
			raw[43]--
		}
		b := newBench(t)
		b.run(wordsOf(&v, raw))
		p := behindRouting(raw)
		if got := b.m.input(p); got != packet.Again || !bytes.Equal(upperPacket(p.Bytes())[40:], upperPacket(plain)[40:]) {
			t.Errorf("%s: none left: %s, %x", v.Name, got, p.Bytes())
		}
	}
	if done != 2 {
		t.Errorf("%d vectors", done)
	}
}

// behindRouting is a packet when AH behind its Routing header has its turn.
func behindRouting(b []byte) *packet.Packet {
	p := packet.New(bytes.Clone(b))
	p.In, p.Proto, p.ProtoField = 1, wire.AH, wire.IPv6HeaderLen
	p.TransOff = wire.IPv6HeaderLen + (int(b[wire.IPv6HeaderLen+1])+1)*8
	return p
}

// cut is a packet that lacks its last octets.
func cut(b []byte, n int) []byte {
	b = bytes.Clone(b[:len(b)-n])
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// TestReplayTraces: the traces that Linux agrees with, in packets: what is refused, and how it is counted.
func TestReplayTraces(t *testing.T) {
	var all []struct {
		Window uint32
		ESN    bool
		Start  uint64 `json:"start_top"`
		Trace  [][3]any
	}
	xfrmtest.Load(t, "replay/testdata/replay.json", &all)
	for i, c := range all {
		b := newBench(t)
		words := fmt.Sprintf("ip xfrm state add src %s dst %s proto esp spi 0x100 mode transport replay-window %d replay-seq %d aead rfc4106(gcm(aes)) %s 128",
			left, right, c.Window, uint32(c.Start), gcmKey)
		if c.ESN {
			words += " flag esn"
		}
		b.run(words)
		s := b.m.states()[0]
		w := s.Live.Work.(*work)
		// What is up to the number that an SA goes on from counts as received; the trace begins with nothing received.
		var err error
		if w.window, err = replay.Restore(replay.State{Size: int(c.Window), ESN: c.ESN, Top: c.Start, Seen: make([]uint64, (c.Window+63)/64)}); err != nil {
			t.Fatal(err)
		}
		var accepted, refused, old, copies uint64
		for _, step := range c.Trace {
			low, number := uint64(step[0].(float64)), uint64(step[0].(float64))
			if n, ok := step[2].(float64); ok {
				number = uint64(n)
			}
			n := w.esp.HeaderLen() + 8 + w.esp.TrailerLen(8)
			raw := append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(n), NextHeader: wire.ESP, Src: left, Dst: right}), make([]byte, n)...)
			if err := w.esp.Seal(raw, 40, esp.Payload{Len: 8, NextHeader: wire.UDP}, number, number); err != nil {
				t.Fatal(err)
			}
			want := packet.Again
			switch step[2] {
			case "left of window":
				old++
			case "replay":
				copies++
			}
			if step[1] == "reject" {
				refused++
				want = packet.Drop(packet.XfrmInStateSeqError)
			} else {
				accepted++
			}
			if got := b.m.input(arrived(raw)); got != want {
				t.Errorf("trace %d: %d: %s, want %s", i, low, got, want)
			}
		}
		_, packets := s.Live.Counted()
		stats := b.m.shown().List(s).Stats
		if packets != accepted || b.Counters["XfrmInStateSeqError"].Value() != refused || stats == nil || *stats != (sad.Stats{ReplayWindow: old, Replay: copies}) {
			t.Errorf("trace %d: %d accepted of %d, %d refused of %d, %+v, want %d old and %d copies", i, packets, accepted,
				b.Counters["XfrmInStateSeqError"].Value(), refused, stats, old, copies)
		}
	}
}
