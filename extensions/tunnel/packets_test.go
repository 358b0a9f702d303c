package tunnel

import (
	"fmt"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// TestThereAndBack: what enters is routed as this node's own, and comes out of the same tunnel of the other end.
func TestThereAndBack(t *testing.T) {
	for _, kind := range []string{"ip6ip6", "ip6gre"} {
		b := newBench(t)
		cfg := conf(nil)
		if kind == "ip6gre" {
			cfg = conf(func(c *Config) { c.Key, c.Csum, c.Seq = "1.2.3.4", ptr(true), ptr(true) })
		}
		b.apply(item{"t0", kind, cfg})
		for i := range 3 {
			p := original(200)
			p.Mark = 7
			inner := string(p.Bytes())
			if v := b.Hooks[module.StageEnter](p); v != packet.Forward || p.In != 0 || p.Out != 0 || p.Nested != 1 || p.Mark != 7 {
				t.Fatalf("%s: %s, %+v", kind, v, p)
			}
			x, err := wire.ParseIPv6(p.Bytes())
			if err != nil || x.Src() != addr(local) || x.Dst() != addr(remote) || x.HopLimit() != 64 || int(x.PayloadLength()) != p.Len()-40 {
				t.Fatalf("%s: % x", kind, p.Bytes())
			}
			if kind == "ip6gre" && p.Bytes()[63] != byte(i) {
				t.Errorf("number %d: % x", i, p.Bytes()[48:64])
			}
			q := arrive(turned(p.Bytes()))
			q.Passes, q.L2 = 3, packet.L2Multicast
			if v := b.Hooks[module.StageExit](q); v != packet.Arrived || q.In != 2 || string(q.Bytes()) != inner || q.Passes != 3 || q.L2 != packet.L2Unicast {
				t.Errorf("%s: %s, %+v", kind, v, q)
			}
		}
	}
}

// TestRefusedIn: packets that no tunnel is for, and what becomes of them.
func TestRefusedIn(t *testing.T) {
	b := newBench(t)
	enclosed := func(kind string, f func(*Config)) []byte {
		x := newBench(t)
		x.apply(item{"t0", kind, conf(f)})
		p := original(100)
		if v := x.Hooks[module.StageEnter](p); v != packet.Forward {
			t.Fatal(v)
		}
		return turned(p.Bytes())
	}
	plain, gre := enclosed("ip6ip6", nil), enclosed("ip6gre", nil)
	edit := func(b []byte, at int, v byte) []byte {
		c := append([]byte(nil), b...)
		c[at] = v
		return c
	}
	none := packet.ICMPError{}
	exit := func(pkt []byte, in int) (string, packet.ICMPError) {
		p := arrive(pkt)
		p.In = in
		return b.Hooks[module.StageExit](p).String(), p.Answer
	}
	if v, _ := exit(plain, 1); v != "continue" {
		t.Errorf("without tunnels: %s", v)
	}
	b.apply(item{"t0", "ip6ip6", conf(nil)})
	if v, _ := exit(gre, 1); v != "continue" {
		t.Errorf("without one of that protocol: %s", v)
	}
	if v, _ := exit(edit(plain, 40, wire.IPv4Encap), 1); v != "continue" {
		t.Errorf("IPv4: %s", v)
	}
	b.apply(
		item{"t0", "ip6ip6", conf(func(c *Config) { c.Dev = "wan0" })}, item{"g0", "ip6gre", conf(nil)},
		item{"g5", "ip6gre", conf(func(c *Config) { c.Key, c.Csum, c.Seq = 5, ptr(true), ptr(true) })},
	)
	g5 := enclosed("ip6gre", func(c *Config) { c.Key, c.Csum, c.Seq = 5, ptr(true), ptr(true) })
	// The outer header is 40 octets, the limit 8, GRE 4 or 16; then the original's.
	for _, c := range []struct {
		name   string
		pkt    []byte
		in     int
		want   string
		answer packet.ICMPError
	}{
		{"as it should be", plain, 1, "arrived", none},
		{"from another source", edit(plain, 23, 9), 1, "drop tunnel_unknown", unreachable},
		{"by another link", plain, 3, "drop tunnel_unknown", unreachable},
		{"GRE as it should be", gre, 1, "arrived", none},
		{"GRE by any link", gre, 3, "arrived", none},
		{"GRE of version 1", edit(gre, 49, 1), 1, "drop tunnel_header", none},
		{"GRE with another key", edit(g5, 59, 6), 1, "drop tunnel_unknown", unreachable},
		{"GRE with a wrong checksum", edit(g5, 120, 6), 1, "drop tunnel_checksum", none},
		{"GRE with key, checksum and number", g5, 1, "arrived", none},
		{"its number again", g5, 1, "drop tunnel_sequence", none},
		{"GRE with Ethernet", edit(edit(gre, 50, 0x65), 51, 0x58), 1, "drop tunnel_protocol", none},
		{"another version", edit(plain, 48, 0x45), 1, "drop tunnel_protocol", none},
		{"longer than it is", edit(plain, 53, 200), 1, "drop tunnel_length", none},
		{"from a group", edit(plain, 56, 0xff), 1, "drop tunnel_source", none},
		{"congestion met", edit(plain, 1, plain[1]|0x30), 1, "drop tunnel_ecn", none},
	} {
		if got, answer := exit(c.pkt, c.in); got != c.want || answer != c.answer {
			t.Errorf("%s: %s %+v, want %s", c.name, got, answer, c.want)
		}
	}
	if got := b.Counters["ecn_unused_combinations"].Value(); got != 1 {
		t.Errorf("%d combinations that nobody makes", got)
	}
	four := append(append([]byte(nil), gre[:52]...), 0x45, 0, 0, 20, 0, 0, 0, 0, 9, wire.UDP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2)
	four[50], four[51], four[4], four[5] = 8, 0, 0, 32
	sum := ^wire.Fold(wire.Sum(four[52:72], 0))
	four[62], four[63] = byte(sum>>8), byte(sum)
	if got, _ := exit(four, 1); got != "drop tunnel_protocol" {
		t.Errorf("IPv4 in GRE: %s", got)
	}
}

// TestRefusedOut: packets that do not enter.
func TestRefusedOut(t *testing.T) {
	b := newBench(t)
	b.apply(item{"t0", "ip6ip6", conf(nil)})
	limited := original(60)
	copy(limited.Bytes()[40:], []byte{wire.NoNext, 0, wire.OptTunnelEncapLimit, 1, 0, wire.OptPadN, 1, 0})
	limited.Bytes()[6] = wire.DestOpts
	loop := original(60)
	l, r := addr(local).As16(), addr(remote).As16()
	copy(loop.Bytes()[8:], l[:])
	copy(loop.Bytes()[24:], r[:])
	nested := original(60)
	nested.Nested = packet.MaxNested
	noRoom := original(60)
	noRoom.Push(packet.Headroom - 60)
	copy(noRoom.Bytes(), original(60).Bytes())
	other := original(60)
	other.Out = 9
	four := original(60)
	four.Bytes()[0] = 0x45
	for _, c := range []struct {
		name   string
		p      *packet.Packet
		want   string
		answer packet.ICMPError
	}{
		{"limit of zero", limited, "drop tunnel_limit", packet.ICMPError{Type: 4, Code: 0, Arg: 44}},
		{"from end to end", loop, "drop tunnel_loop", unreachable},
		{"in too many", nested, "drop tunnel_nested", unreachable},
		{"without room for headers", noRoom, "drop tunnel_nested", unreachable},
		{"by a link that is no tunnel", other, "continue", packet.ICMPError{}},
		{"IPv4", four, "drop tunnel_protocol", packet.ICMPError{}},
		{"too long", original(1453), "drop too_big", packet.ICMPError{}},
		{"as long as fits", original(1452), "forward", packet.ICMPError{}},
	} {
		if got := b.Hooks[module.StageEnter](c.p).String(); got != c.want || c.p.Answer != c.answer {
			t.Errorf("%s: %s %+v, want %s", c.name, got, c.p.Answer, c.want)
		}
	}
}

// TestRelayed: an error about a tunnel packet becomes one about the original packet, if it is of a tunnel and its checksum
// right.
func TestRelayed(t *testing.T) {
	b := newBench(t)
	b.apply(item{"t0", "ip6gre", conf(func(c *Config) { c.OKey = 5 })})
	p := original(1400)
	if v := b.Hooks[module.StageEnter](p); v != packet.Forward {
		t.Fatal(v)
	}
	quote := p.Bytes()[:200]
	message := func(typ, code byte, arg uint32, quote []byte) []byte {
		m := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + len(quote)), NextHeader: wire.ICMPv6, HopLimit: 9, Src: addr("2001:db8:e::1"), Dst: addr(local)})
		m = append(append(m, typ, code, 0, 0, byte(arg>>24), byte(arg>>16), byte(arg>>8), byte(arg)), quote...)
		wire.UpdateICMPv6Checksum(m, 40)
		return m
	}
	wrong := message(wire.TypeTimeExceeded, 0, 0, quote)
	wrong[42]++
	for _, c := range []struct {
		name string
		msg  []byte
		want string
	}{
		{"hop limit", message(wire.TypeTimeExceeded, 0, 0, quote), "[{1 3 0}]"},
		{"too big", message(wire.TypePacketTooBig, 0, 1400, quote), "[{2 0 1344}]"},
		{"a wrong checksum", wrong, "[]"},
		{"of another tunnel", message(wire.TypeTimeExceeded, 0, 0, turned(quote)), "[]"},
		{"cut", message(wire.TypeTimeExceeded, 0, 0, quote[:60]), "[]"},
		{"no error", message(wire.TypeEchoRequest, 0, 0, quote), "[]"},
		{"nothing to tell", message(wire.TypeParameterProblem, 1, 6, quote), "[]"},
	} {
		b.Errors = nil
		if v := b.Hooks[module.StageAdmit](arrive(c.msg)); v != packet.Continue {
			t.Errorf("%s: %s", c.name, v)
		}
		for len(b.Mailbox) > 0 {
			b.m.Receive(b.now(), <-b.Mailbox)
		}
		if got := fmt.Sprint(b.Errors); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := b.Counters["errors_relayed"].Value(); got != 2 {
		t.Errorf("%d counted", got)
	}
	gre := [4][]byte{p.Bytes()[48:], {0, 0, 0x86, 0xdd}, {0x20, 0, 0x86, 0xdd, 0, 0, 0, 6}, nil}
	for i, want := range [4]bool{true} {
		if got := b.m.Sent(wire.GRE, addr(local).As16(), addr(remote).As16(), gre[i]); got != want {
			t.Errorf("sent %d: %v", i, got)
		}
	}
	if b.m.Sent(wire.IPv6Encap, addr(local).As16(), addr(remote).As16(), nil) || b.m.Sent(wire.GRE, addr(remote).As16(), addr(local).As16(), gre[0]) {
		t.Error("sent what no tunnel sends")
	}
}

// TestDoesNotAllocate: into a tunnel and out of it, also when the path is looked at again.
func TestDoesNotAllocate(t *testing.T) {
	for _, kind := range []string{"ip6ip6", "ip6gre"} {
		b := newBench(t)
		b.apply(item{"t0", kind, conf(nil)})
		b.links = b.Host.Links()
		p, q := original(1000), packet.NewBuffer(2000)
		enter, exit, admit := b.Hooks[module.StageEnter], b.Hooks[module.StageExit], b.Hooks[module.StageAdmit]
		proto, off := uint8(wire.IPv6Encap), 48
		if kind == "ip6gre" {
			proto = wire.GRE
		}
		if n := testing.AllocsPerRun(200, func() {
			b.Manual.Advance(600 * time.Millisecond)
			p.CopyTo(q)
			q.Out = 2
			if v := enter(q); v != packet.Forward {
				panic(v.String())
			}
			x := q.Bytes()
			for i := 8; i < 24; i++ {
				x[i], x[i+16] = x[i+16], x[i]
			}
			q.Proto, q.TransOff, q.In = proto, off, 1
			if v := exit(q); v != packet.Arrived {
				panic(v.String())
			}
			admit(q)
		}); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

// BenchmarkTunnel: into a tunnel and out of it.
func BenchmarkTunnel(b *testing.B) {
	for _, kind := range []string{"ip6ip6", "ip6gre"} {
		b.Run(kind, func(b *testing.B) {
			x := newBench(b)
			x.apply(item{"t0", kind, conf(nil)})
			x.links = x.Host.Links()
			p, q := original(1000), packet.NewBuffer(2000)
			enter, exit := x.Hooks[module.StageEnter], x.Hooks[module.StageExit]
			proto, off := uint8(wire.IPv6Encap), 48
			if kind == "ip6gre" {
				proto = wire.GRE
			}
			src, dst := addr(local).As16(), addr(remote).As16()
			b.ReportAllocs()
			for b.Loop() {
				p.CopyTo(q)
				q.Out = 2
				enter(q)
				copy(q.Bytes()[8:], dst[:])
				copy(q.Bytes()[24:], src[:])
				q.Proto, q.TransOff, q.In = proto, off, 1
				if v := exit(q); v != packet.Arrived {
					b.Fatal(v)
				}
			}
		})
	}
}
