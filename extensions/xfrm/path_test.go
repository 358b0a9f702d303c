package xfrm

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
)

// ends are two nodes with one SA from the first to the second, and a policy for what goes to 2001:db8:7::/48.
func ends(t testing.TB, sa sad.StateConfig) (from, to *bench) {
	from, to = newBench(t), newBench(t)
	out := protect("7")
	from.apply(sections([]sad.StateConfig{sa}, []PolicyConfig{out}))
	in := out
	in.Name, in.Dir = "in", "fwd"
	to.apply(sections([]sad.StateConfig{sa}, []PolicyConfig{in}))
	return from, to
}

// clear is a UDP packet of a node to 2001:db8:7::1.
func clearPacket(payload int) *packet.Packet {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		PayloadLength: uint16(8 + payload), NextHeader: wire.UDP, HopLimit: 64, Src: addr("2001:db8:f::1"), Dst: addr("2001:db8:7::1"),
	})
	b = append(b, 0x10, 0, 0x20, 0, byte((8+payload)>>8), byte(8+payload), 1, 2)
	p := packet.New(append(b, make([]byte, payload)...))
	p.Out, p.Route = 1, &packet.Route{}
	return p
}

// finished is a packet as it leaves, with its checksum completed by the port.
func finished(p *packet.Packet) []byte {
	b := bytes.Clone(p.Bytes())
	if p.GSO.Csum == packet.CsumPartial {
		binary.BigEndian.PutUint16(b[p.GSO.CsumStart+p.GSO.CsumOffset:], ^wire.Fold(wire.Sum(b[p.GSO.CsumStart:], 0)))
	}
	return b
}

// arrived is what the other end has received, with what the validate stage finds in it.
func arrived(b []byte) *packet.Packet {
	p := packet.New(b)
	p.In = 1
	var c wire.Chain
	c.Walk(b)
	p.Proto, p.TransOff, p.ProtoField = c.Proto, c.Off, wire.NextHeaderOffset
	return p
}

// TestThroughAnSA: what the policy is for leaves as ESP of the tunnel's ends, and comes out at the other end as it
// was; a copy, a changed octet and a wrong SPI are refused, each for its reason.
func TestThroughAnSA(t *testing.T) {
	sa := gcm(0x1001)
	sa.ReplayWindow = new(uint32(64))
	from, to := ends(t, sa)
	for _, n := range []int{0, 1, 2, 3, 4, 100, 1300} {
		p := clearPacket(n)
		plain := bytes.Clone(p.Bytes())
		if v := from.m.transform(p); v != packet.Forward {
			t.Fatalf("%d octets: %s", n, v)
		}
		sent := bytes.Clone(p.Bytes())
		if h, err := wire.ParseIPv6(sent); err != nil || h.NextHeader() != wire.ESP || h.Dst() != addr("2001:db8:f::2") || bytes.Contains(sent, plain[8:40]) {
			t.Fatalf("%d octets: % x", n, sent)
		}
		q := arrived(sent)
		if v := to.m.input(q); v != packet.Again || !bytes.Equal(q.Bytes(), plain) || len(q.Came()) != 1 {
			t.Fatalf("%d octets: %s\n% x\n% x", n, v, q.Bytes(), plain)
		}
		if v := to.m.input(arrived(sent)); v != packet.Drop(packet.XfrmInStateSeqError) {
			t.Errorf("a copy: %s", v)
		}
		again := clearPacket(n)
		from.m.transform(again)
		changed := bytes.Clone(again.Bytes())
		changed[len(changed)-1] ^= 1
		if v := to.m.input(arrived(changed)); v != packet.Drop(packet.XfrmInStateProtoError) {
			t.Errorf("a changed octet: %s", v)
		}
		changed = bytes.Clone(again.Bytes())
		changed[43]++
		if v := to.m.input(arrived(changed)); v != packet.Drop(packet.XfrmInNoStates) {
			t.Errorf("another SPI: %s", v)
		}
	}
}

// fixedLinks is a host whose links stay the same, as in an appliance: the bench makes them anew each time.
type fixedLinks struct {
	module.Host
	links *module.Links
}

func (h fixedLinks) Links() *module.Links { return h.links }

// TestSAsDoNotAllocate, out and in.
func TestSAsDoNotAllocate(t *testing.T) {
	from, to := ends(t, gcm(0x1001))
	from.m.host, to.m.host = fixedLinks{from, from.Links()}, fixedLinks{to, to.Links()}
	model := clearPacket(500)
	p := packet.NewBuffer(2000)
	if n := testing.AllocsPerRun(200, func() {
		model.CopyTo(p)
		if v := from.m.transform(p); v != packet.Forward {
			t.Fatal(v)
		}
		p.In, p.Proto, p.TransOff = 1, wire.ESP, wire.IPv6HeaderLen
		p.ProtoField = wire.NextHeaderOffset
		if v := to.m.input(p); v != packet.Again {
			t.Fatal(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// steadyRoute is a router for several goroutines.
type steadyRoute struct {
	fixedRoute
	steady packet.Route
}

func (r *steadyRoute) Route(q module.RouteQuery) module.RouteResult {
	return module.RouteResult{Route: &r.steady, Out: r.out, NextHop: q.Dst, Src: q.Src}
}

// TestIVsAreUsedOnce: three runs over one state_dir; in each four workers send, while the SA moves to other addresses
// and back, is taken away and brought back with the same key. No packet of all has the IV of another.
func TestIVsAreUsedOnce(t *testing.T) {
	dir, seen := t.TempDir(), map[uint64]bool{}
	policies := []PolicyConfig{protect("7")}
	conf := func(states ...sad.StateConfig) *module.Config {
		c := sections(states, policies)
		c.Seed, c.StateDir = 0, dir
		return c
	}
	there := moves("2001:db8:f::1", "2001:db8:f::2", "2001:db8:e::1", "2001:db8:e::2")
	back := moves("2001:db8:e::1", "2001:db8:e::2", "2001:db8:f::1", "2001:db8:f::2")
	for range 3 {
		b := newBench(t)
		b.Routing = &steadyRoute{fixedRoute: fixedRoute{out: 1}}
		b.m.host = fixedLinks{b, b.Links()}
		b.apply(conf(gcm(0x1001)))
		var lists [4][]uint64
		var workers sync.WaitGroup
		for i := range lists {
			workers.Go(func() {
				for len(lists[i]) < 2000 {
					p := clearPacket(10)
					if b.m.transform(p) == packet.Forward {
						lists[i] = append(lists[i], binary.BigEndian.Uint64(p.Bytes()[48:]))
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { workers.Wait(); close(done) }()
		moved, reloads := 0, 0
		for i, busy := 0, true; busy || i < 40; i++ {
			select {
			case ev := <-b.Mailbox:
				b.m.Receive(b.now(), ev)
			case <-done:
				busy = false
			default:
			}
			for _, m := range []proto.Migration{there, back} {
				moved += b.migrate("out", m)
			}
			if i%10 == 0 {
				b.apply(conf())
				b.apply(conf(gcm(0x1001)))
				reloads++
			}
			b.Published = nil
		}
		if moved < 80 || reloads < 4 {
			t.Errorf("%d moves, %d reloads", moved, reloads)
		}
		for _, l := range lists {
			for _, iv := range l {
				if seen[iv] {
					t.Fatalf("%#x twice", iv)
				}
				seen[iv] = true
			}
		}
	}
	if len(seen) != 3*4*2000 {
		t.Errorf("%d packets", len(seen))
	}
}

// TestPiecesGoTheWayOfTheWhole: the bundle of a superpacket is made once; its pieces take it, unless the databases have
// changed, and no other packet does.
func TestPiecesGoTheWayOfTheWhole(t *testing.T) {
	from, to := ends(t, gcm(0x1001))
	from.m.host = fixedLinks{from, from.Links()}
	whole := clearPacket(4000)
	split := func() {
		t.Helper()
		whole.GSO = packet.GSO{Type: packet.GSOUDP, Csum: packet.CsumPartial, Size: 1000, HdrLen: 48, CsumStart: 40, CsumOffset: 6}
		if v := from.m.transform(whole); v != packet.Split {
			t.Fatal(v)
		}
	}
	split()
	model := clearPacket(1000)
	plain := bytes.Clone(model.Bytes())
	p := packet.NewBuffer(2000)
	if n := testing.AllocsPerRun(100, func() {
		split()
		for range 4 {
			model.CopyTo(p)
			p.Super = whole
			if planned(from.m.view.Load(), p) == nil {
				t.Fatal("no bundle")
			}
			if v := from.m.transform(p); v != packet.Forward || p.Super != nil {
				t.Fatal(v)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	q := arrived(p.Bytes())
	if v := to.m.input(q); v != packet.Again || !bytes.Equal(q.Bytes(), plain) {
		t.Fatalf("%s\n% x\n% x", v, q.Bytes(), plain)
	}
	from.apply(sections([]sad.StateConfig{gcm(0x1001)}, []PolicyConfig{{Name: "b", Dir: "out", Action: "block", Priority: 1}}))
	model.CopyTo(p)
	p.Super = whole
	if v := from.m.transform(p); v != packet.Drop(packet.XfrmOutPolBlock) {
		t.Errorf("by a bundle of policies that are no more: %s", v)
	}
	from.apply(sections([]sad.StateConfig{gcm(0x1001)}, []PolicyConfig{protect("7")}))
	split()
	whole.Reset()
	model.CopyTo(p)
	p.Super = whole
	if planned(from.m.view.Load(), p) != nil {
		t.Error("the bundle of a packet that is no more")
	}
}
