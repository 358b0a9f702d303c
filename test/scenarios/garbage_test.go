package scenarios

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"leveret/appliance/datapath"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/xfrm/ah"
	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/esp"
	"leveret/test/simnet"
)

const (
	garbageAt, garbageFrom = "2001:db8:1::1", "2001:db8:1::66"
	garbageKey             = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

// forger makes packets of an SA, authentic ones too.
type forger struct {
	esp *esp.SA // or
	ah  *ah.SA
	udp bool
	seq uint64
}

// packet is an authentic packet with anything inside.
func (f *forger) packet(next uint8, inside []byte) []byte {
	f.seq++
	proto, at := uint8(wire.ESP), wire.IPv6HeaderLen
	n := 0
	switch {
	case f.ah != nil:
		proto, n = wire.AH, f.ah.HeaderLen()+len(inside)
	case f.udp:
		proto, at = wire.UDP, at+esp.UDPHeaderLen
		n = esp.UDPHeaderLen
		fallthrough
	default:
		n += f.esp.HeaderLen() + len(inside) + f.esp.TrailerLen(len(inside))
	}
	b := wire.AppendIPv6(make([]byte, 0, wire.IPv6HeaderLen+n), wire.IPv6Fields{
		PayloadLength: uint16(n), NextHeader: proto, HopLimit: 64, Src: netip.MustParseAddr(garbageFrom), Dst: netip.MustParseAddr(garbageAt),
	})
	b = b[:wire.IPv6HeaderLen+n]
	var err error
	if f.ah != nil {
		copy(b[at+f.ah.HeaderLen():], inside)
		err = f.ah.Seal(b, at, next, f.seq, f.seq)
	} else {
		copy(b[at+f.esp.HeaderLen():], inside)
		err = f.esp.Seal(b, at, esp.Payload{Len: len(inside), NextHeader: next}, f.seq, f.seq)
	}
	if err != nil {
		panic(err) // the lengths are wrong
	}
	if f.udp {
		esp.PutUDP(b, wire.IPv6HeaderLen, 4500, 4500, esp.WholeChecksum)
	}
	return b
}

// forgers are one for each SA of garbageConf.
func forgers(t *testing.T) (out []*forger) {
	t.Helper()
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	find := func(k algo.Kind, name string) *algo.Algorithm {
		a, err := algo.Find(k, name, true)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	sealer := func(p esp.Params) *esp.SA {
		p.IVKey = key[:esp.IVKeyLen]
		s, err := esp.New(p)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	gcm := func(spi uint32) esp.Params {
		return esp.Params{SPI: spi, AEAD: find(algo.AEAD, "rfc4106(gcm(aes))"), Key: key[:20], ICV: 16}
	}
	auth, err := ah.New(ah.Params{SPI: 0x1003, Auth: find(algo.Auth, "hmac(sha256)"), Key: key, ICV: 16})
	if err != nil {
		t.Fatal(err)
	}
	return []*forger{
		{esp: sealer(gcm(0x1001))},
		{esp: sealer(esp.Params{SPI: 0x1002, Enc: find(algo.Enc, "cbc(aes)"), Auth: find(algo.Auth, "hmac(sha256)"), Key: key[:16], AuthKey: key, ICV: 16})},
		{ah: auth},
		{esp: sealer(gcm(0x1004)), udp: true},
		{esp: sealer(gcm(0x1005))},
		{esp: sealer(gcm(0x1004))}, // without the UDP that it wants
	}
}

// garbageConf is a gateway with an SA of each kind, and policies that want them.
func garbageConf() string {
	gcm := `aead: {name: "rfc4106(gcm(aes))", key: "0x` + garbageKey[:40] + `", icv_bits: 128}`
	auth := `auth: {name: "hmac(sha256)", key: "0x` + garbageKey + `", trunc_bits: 128}`
	state := func(proto string, spi int, mode, more string) string {
		return fmt.Sprintf("    - {src: %q, dst: %q, proto: %s, spi: %#x, reqid: %[4]d, mode: %[5]s, replay_window: 64, %[6]s}\n", garbageFrom, garbageAt, proto, spi, mode, more)
	}
	var templates string
	for _, x := range []struct {
		reqid int
		mode  string
	}{{0x1001, "tunnel"}, {0x1004, "tunnel"}, {0x1005, "beet"}} {
		templates += fmt.Sprintf("{src: %q, dst: %q, proto: esp, mode: %s, reqid: %d, level: use}, ", garbageFrom, garbageAt, x.mode, x.reqid)
	}
	policy := func(dir, dst, action string) string {
		w := fmt.Sprintf("    - {name: %[1]s-%[3]s, dir: %[1]s, priority: 9, action: %[3]s, selector: {dst: %[2]q}", dir, dst, action)
		if action == "protect" {
			w += ", templates: [" + templates + "]"
		}
		return w + "}\n"
	}
	return fmt.Sprintf("version: 1\nlinks:\n  - {name: lan0, kind: pipe, addresses: [%q], dad: {transmits: 0}}\n  - {name: far0, kind: pipe, addresses: [\"2001:db8:7::1/64\"], dad: {transmits: 0}}\nipsec:\n  states:\n",
		garbageAt+"/64") + state("esp", 0x1001, "tunnel", gcm) + state("esp", 0x1002, "transport", `enc: {name: "cbc(aes)", key: "0x`+garbageKey[:32]+`"}, `+auth) +
		state("ah", 0x1003, "transport", auth) + state("esp", 0x1004, "tunnel", gcm+", encap: {type: espinudp, sport: 4500, dport: 4500}") +
		state("esp", 0x1005, "beet", gcm+`, sel: "src 2001:db8:5::1/128 dst `+garbageAt+`/128"`) +
		"  policies:\n" + policy("in", garbageAt+"/128", "protect") + policy("fwd", "2001:db8:7::8/128", "block") + policy("fwd", "2001:db8:7::/64", "protect")
}

// garbage draws packets.
type garbage struct {
	*rand.Rand
	forgers []*forger
	last    []byte
}

func (g *garbage) octets(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// inside is what an authentic packet has: an echo request, whole, changed or cut; a header chain; anything.
func (g *garbage) inside() (next uint8, b []byte) {
	dst := []string{garbageAt, "2001:db8:7::5", "2001:db8:7::8", "ff02::1", "::1", "2001:db8:1::77"}[g.IntN(6)]
	echo := make([]byte, 8+g.IntN(1200))
	echo[0] = wire.TypeEchoRequest
	b = append(wire.AppendIPv6(nil, wire.IPv6Fields{
		PayloadLength: uint16(len(echo)), NextHeader: wire.ICMPv6, HopLimit: uint8(g.IntN(4) * 20), Src: netip.MustParseAddr("2001:db8:5::1"), Dst: netip.MustParseAddr(dst),
	}), echo...)
	wire.UpdateICMPv6Checksum(b, wire.IPv6HeaderLen)
	switch g.IntN(6) {
	case 0:
		return wire.IPv6Encap, b
	case 1:
		return wire.ICMPv6, b[wire.IPv6HeaderLen:]
	case 2:
		b[g.IntN(wire.IPv6HeaderLen)] ^= byte(1 + g.IntN(255))
		return wire.IPv6Encap, b
	case 3:
		return wire.IPv6Encap, b[:g.IntN(len(b))]
	case 4: // headers in headers
		b = g.octets(g.IntN(300))
		for i := 0; i+8 < len(b); i += 8 * (1 + g.IntN(3)) {
			b[i] = []uint8{wire.HopByHop, wire.DestOpts, wire.Routing, wire.AH, wire.ESP, wire.UDP, wire.IPv6Encap, wire.NoNext}[g.IntN(8)]
			b[i+1] = uint8(g.IntN(3))
		}
		return []uint8{wire.HopByHop, wire.DestOpts, wire.Routing, wire.AH}[g.IntN(4)], b
	}
	return uint8(g.Uint32()), g.octets(g.IntN(1300))
}

// packet draws one packet with the SPI of an SA, most of them with a number that the window takes.
func (g *garbage) packet() []byte {
	f := g.forgers[g.IntN(len(g.forgers))]
	next, inside := g.inside()
	b := f.packet(next, inside)
	keep := wire.IPv6HeaderLen // what is behind it is changed: the SPI is not
	switch {
	case f.ah != nil:
		keep += 8
	case f.udp:
		keep += esp.UDPHeaderLen + 4
	default:
		keep += 4
	}
	fits := func() { binary.BigEndian.PutUint16(b[4:], uint16(len(b)-wire.IPv6HeaderLen)) }
	switch g.IntN(9) {
	case 0, 1: // as it is
		g.last = b
	case 2: // cut, and as long as it says
		b = b[:keep+g.IntN(len(b)-keep)]
		fits()
	case 3: // cut, and not as long as it says
		b = b[:g.IntN(len(b))]
	case 4: // longer
		b = append(b, g.octets(1+g.IntN(100))...)
		if g.IntN(2) == 0 && len(b) <= 1500 {
			fits()
		}
	case 5: // one octet
		i := keep + g.IntN(len(b)-keep)
		b[i] ^= byte(1 + g.IntN(255))
	case 6: // the IPv6 header, but for the addresses
		b[g.IntN(8)] ^= byte(1 + g.IntN(255))
	case 8:
		if g.last != nil {
			return bytes.Clone(g.last) // once more
		}
	case 7: // nothing but the SPI is left
		b = append(b[:keep:keep], g.octets(g.IntN(1400))...)
		fits()
	}
	return b[:min(len(b), 1500)]
}

// TestGarbage: a gateway is sent packets of its SAs that are cut, changed, made up, or authentic with rubbish inside:
// each of them is counted, once, memory stays where it is, and what is good still gets through.
func TestGarbage(t *testing.T) {
	count := 20_000
	if os.Getenv("LVT_LONG") != "" {
		count = 1_000_000
	}
	n := simnet.New(t, 12)
	lan := n.Segment("lan")
	far := n.Segment("far")
	node := n.Node("g", garbageConf(), modules, map[string]*simnet.Segment{"lan0": lan, "far0": far})
	x := lan.Peer("x")
	discovery, answers := 0, 0 // which the path does not count as its own: what the gateway sends (MLD too), and the answers
	for _, p := range []*simnet.Peer{x, far.Peer("y")} {
		p.OnFrame = func(f simnet.Frame) {
			p.Forget()
			if limit := f.Data[14+7]; limit != 255 && (limit != 1 || f.Data[14+24] != 0xff) {
				return
			}
			discovery++
			m, err := ndwire.Parse(f.Data[14:], wire.IPv6HeaderLen, false)
			if err == nil && m.Type == wire.TypeNeighborSolicitation && m.Target.As16()[15] != 0x77 {
				answers++
				p.Send([6]byte(f.Data[6:12]), ndwire.AppendNA(nil, ndwire.NA{Src: m.Target, Dst: m.Src, Target: m.Target, Solicited: true, Override: true, TargetLLA: &p.MAC}))
			}
		}
	}
	n.Advance(5 * time.Second)
	g := &garbage{Rand: rand.New(rand.NewPCG(12, 34)), forgers: forgers(t)}
	mac := node.Links().Name("lan0").MAC
	heap := func() uint64 {
		n.ForgetFrames()
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var before uint64
	for i := range count {
		x.Send(mac, g.packet())
		if i%50 == 0 {
			n.Settle()
		}
		if i%1000 == 0 {
			n.Advance(10 * time.Millisecond)
			n.ForgetFrames()
		}
		if i == count/4 {
			before = heap()
		}
	}
	n.Advance(2 * time.Minute) // fragments and packets that wait for a neighbor are given up
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("%d KiB more on the heap", grown>>10)
	}
	s := node.Path().Stats()
	var rx, tx, failed, drops uint64
	for _, l := range s.Links {
		rx, tx, failed = rx+l.RxPackets, tx+l.TxPackets, failed+l.TxFailed
	}
	for _, d := range s.Drops {
		drops += d
	}
	// What came in or was made here was dropped, delivered or sent.
	drops -= s.Drops[packet.ErrorRateLimited] + s.Drops[packet.ErrorNotAllowed] // errors that were not made
	in := rx + s.Get(datapath.Originated) + s.Get(datapath.ErrorsSent) + uint64(discovery)
	out := drops + s.Get(datapath.Delivered) + tx + failed + uint64(answers)
	if rx != uint64(count+answers) || in != out {
		t.Errorf("%d packets and %d answers sent: %d came in and %d were made; %d were dropped, %d delivered, %d sent, %d not",
			count, answers, rx, in-rx, drops, s.Get(datapath.Delivered), tx, failed)
	}
	for _, r := range []packet.Reason{
		packet.XfrmInHdrError, packet.XfrmInStateProtoError, packet.XfrmInStateModeError, packet.XfrmInStateSeqError, packet.XfrmInStateMismatch,
		packet.XfrmInNoPols, packet.XfrmInPolBlock, packet.HeaderPayloadLength, packet.NextHeaderUnrecognized, packet.NoRoute,
	} {
		if s.Drops[r] == 0 {
			t.Errorf("none dropped as %s", r)
		}
	}
	if t.Failed() || testing.Verbose() {
		for r, k := range s.Drops {
			if k > 0 {
				t.Logf("%8d %s", k, packet.Reason(r))
			}
		}
		s.Each(func(name string, k uint64) { t.Logf("%8d %s", k, name) })
	}
	if s.Get(datapath.EchoReplies) == 0 || s.Links[2].TxPackets == 0 {
		t.Errorf("%d echo replies", s.Get(datapath.EchoReplies))
	}
}
