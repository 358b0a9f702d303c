package xfrm

import (
	"bytes"
	"fmt"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
)

// withLinks gives a node the links ipsec5 (index 5, if_id 5) and ipsec6, and SAs and policies for all traffic by each,
// and for that to the documentation's 7 by none of them: SPI 0x1005, 0x1006 and 0x1000. dirs says what for.
func withLinks(t testing.TB, dirs ...string) *bench {
	b := newBench(t)
	c := sections(nil, nil)
	var states []sad.StateConfig
	var policies []PolicyConfig
	for _, id := range []uint32{0, 5, 6} {
		if id != 0 {
			b.LinkList = append(b.LinkList, &module.Link{Index: int(id), Name: fmt.Sprint("ipsec", id), IfID: id, MTU: 1400, Up: true, Carrier: true})
			c.Links = append(c.Links, module.LinkConfig{Name: fmt.Sprint("ipsec", id), Index: int(id)})
		}
		states = append(states, change(gcm(0x1000+id), func(s *sad.StateConfig) { s.IfID = id }))
		for _, dir := range dirs {
			policies = append(policies, change(protect("7"), func(p *PolicyConfig) {
				if p.Name, p.Dir, p.IfID = fmt.Sprint(dir, id), dir, id; id != 0 {
					p.Selector = SelectorConfig{}
				}
			}))
		}
	}
	more := sections(states, policies)
	more.Links = append(more.Links, c.Links...)
	b.apply(more)
	return b
}

func by(link int, p *packet.Packet) *packet.Packet { p.Out = link; return p }

// TestIfIDOut: what leaves by a link of kind ipsec goes through the SAs of its if_id and by its policies, other traffic
// by those without.
func TestIfIDOut(t *testing.T) {
	b := withLinks(t, "out")
	for link, spi := range map[int]byte{1: 0, 5: 5, 6: 6} {
		p := by(link, clearPacket(100))
		if v := b.m.transform(p); v != packet.Forward || p.Bytes()[43] != spi || !p.Protected {
			t.Errorf("by %d: %s % x", link, v, p.Bytes()[40:44])
		}
	}
	// That policies of a link are for all does not concern what leaves by others, nor the other way round.
	p := by(1, clearPacket(0))
	copy(p.Bytes()[24:], []byte{0x20, 1, 0xd, 0xb8, 0, 8})
	if v := b.m.transform(p); v != packet.Continue {
		t.Errorf("to elsewhere: %s", v)
	}
	b = newBench(t)
	b.LinkList = append(b.LinkList, &module.Link{Index: 5, IfID: 5, MTU: 1400, Up: true, Carrier: true})
	b.apply(sections([]sad.StateConfig{gcm(0x1000)}, []PolicyConfig{protect("7")}))
	if v := b.m.transform(by(5, clearPacket(0))); v != packet.Continue {
		t.Errorf("by a link without policies: %s", v)
	}
	b.apply(sections([]sad.StateConfig{gcm(0x1000)}, []PolicyConfig{change(protect("7"), func(p *PolicyConfig) { p.IfID = 5 })}))
	if v := b.m.transform(by(5, clearPacket(0))); v != packet.Drop(packet.XfrmOutNoStates) {
		t.Errorf("by a link without SAs: %s", v)
	}
	b.m.Receive(b.now(), <-b.Mailbox)
	if l := b.m.states(); len(l) != 2 || l[0].KM != sad.Acq || l[0].IfID != 5 {
		t.Errorf("asked for %+v", l)
	}
}

// TestIfIDOutMTU: what the link takes is the limit, if the SAs do not take less; and what would go back into such a link
// is not protected at all.
func TestIfIDOutMTU(t *testing.T) {
	for _, c := range []struct{ link, wire, want int }{{1400, 1500, 1400}, {1500, 1500, 1426}, {1500, 1300, 1280}, {1280, 1500, 1280}} {
		b := withLinks(t, "out")
		b.LinkList[0].MTU = c.wire
		for _, over := range []int{0, 1} {
			p := by(5, clearPacket(c.want-48+over))
			p.In, p.MTU = 1, c.link
			want := map[int]packet.Verdict{0: packet.Forward, 1: packet.Drop(packet.TooBig)}[over]
			if v := b.m.transform(p); v != want || over == 1 && p.MTU != c.want {
				t.Errorf("%+v, %d more: %s, MTU %d", c, over, v, p.MTU)
			}
		}
	}
	b := withLinks(t, "out")
	b.Routing.(*fixedRoute).out = 5
	if v := b.m.transform(by(5, clearPacket(0))); v != packet.Drop(packet.IPsecLinkLoop) {
		t.Errorf("the outer packet would leave by the link: %s", v)
	}
	if n, _ := b.m.states()[1].NextSeq(); n != 1 {
		t.Errorf("numbers are used: %d", n)
	}
	b = newBench(t)
	b.LinkList = append(b.LinkList, &module.Link{Index: 5, IfID: 5, MTU: 1400, Up: true, Carrier: true})
	transport := change(espState(0x1005, "transport"), func(s *sad.StateConfig) { s.IfID, s.Dst = 5, addr("2001:db8:7::1") })
	b.apply(sections([]sad.StateConfig{transport}, []PolicyConfig{change(protect("7"), func(p *PolicyConfig) { p.IfID, p.Templates = 5, tmpl("esp transport") })}))
	if v := b.m.transform(by(5, clearPacket(0))); v != packet.Drop(packet.IPsecLinkLoop) {
		t.Errorf("transport mode: %s", v)
	}
}

// TestIfIDIn: what an SA with an if_id opens has arrived on its link, and is for the policies of that.
func TestIfIDIn(t *testing.T) {
	from, to := withLinks(t, "out"), withLinks(t, "in", "fwd")
	for link, in := range map[int]int{1: 1, 5: 5, 6: 6} {
		p := by(link, clearPacket(100))
		plain := bytes.Clone(p.Bytes())
		from.m.transform(p)
		q := arrived(p.Bytes())
		v := to.m.input(q)
		if want := map[bool]packet.Verdict{true: packet.Again, false: packet.Arrived}[in == 1]; v != want || q.In != in || !bytes.Equal(q.Bytes(), plain) {
			t.Errorf("SA of %d: %s on %d", link, v, q.In)
		}
		f, _ := flowOut(q)
		for _, c := range []struct {
			dir  spd.Dir
			on   int
			want packet.Verdict
		}{
			{spd.In, in, packet.Continue}, {spd.Fwd, in, packet.Continue},
			{spd.In, map[int]int{1: 5, 5: 6, 6: 1}[in], packet.Drop(packet.XfrmInTmplMismatch)}, // policies that other links have
		} {
			q.In = c.on
			if got := to.m.check(to.m.view.Load(), q, c.dir, &f); got != c.want {
				t.Errorf("SA of %d, %s on %d: %s", link, c.dir, c.on, got)
			}
		}
	}
	in := by(5, clearPacket(1))
	from.m.transform(in)
	sent := bytes.Clone(in.Bytes())
	to.LinkList[1].Up = false
	if v := to.m.input(arrived(sent)); v != packet.Drop(packet.XfrmInNoPols) {
		t.Errorf("the link is down: %s", v)
	}
	in = by(5, clearPacket(1))
	from.m.transform(in)
	to.LinkList = to.LinkList[:1]
	if v := to.m.input(arrived(in.Bytes())); v != packet.Drop(packet.XfrmInNoPols) {
		t.Errorf("there is no such link: %s", v)
	}
}

// TestLinkInLink: the outer packet of one link goes by another. Where it arrives the policies of that have to let it in.
func TestLinkInLink(t *testing.T) {
	from, to := withLinks(t, "out"), withLinks(t, "in", "fwd")
	through := func() *packet.Packet {
		p := by(5, clearPacket(100))
		for _, out := range []int{6, 1} {
			from.Routing.(*fixedRoute).out = out
			if v := from.m.transform(p); v != packet.Forward {
				t.Fatal(v)
			}
			p.Out, p.Route = out, &packet.Route{}
		}
		return p
	}
	p := through()
	q := arrived(p.Bytes())
	if v := to.m.input(q); v != packet.Arrived || q.In != 6 {
		t.Fatalf("%s on %d", v, q.In)
	}
	if v := to.m.input(q); v != packet.Arrived || q.In != 5 || len(q.Came()) != 1 || !bytes.Equal(q.Bytes(), clearPacket(100).Bytes()) {
		t.Fatalf("%s on %d\n% x", v, q.In, q.Bytes())
	}
	if v := to.m.admit(q); v != packet.Continue {
		t.Error(v)
	}
	p = through()
	to.apply(sections([]sad.StateConfig{
		change(gcm(0x1005), func(s *sad.StateConfig) { s.IfID = 5 }), change(gcm(0x1006), func(s *sad.StateConfig) { s.IfID = 6 }),
	}, []PolicyConfig{change(protect("7"), func(p *PolicyConfig) { p.Dir, p.IfID = "in", 5 })}))
	q = arrived(p.Bytes())
	to.m.input(q)
	if v := to.m.input(q); v != packet.Drop(packet.XfrmInNoPols) || q.In != 6 {
		t.Errorf("no policy in for the outer link: %s on %d", v, q.In)
	}
}

// TestLinksDoNotAllocate, out and in.
func TestLinksDoNotAllocate(t *testing.T) {
	from, to := withLinks(t, "out"), withLinks(t, "in")
	from.m.host, to.m.host = fixedLinks{from, from.Links()}, fixedLinks{to, to.Links()}
	model := by(5, clearPacket(500))
	p := packet.NewBuffer(2000)
	if n := testing.AllocsPerRun(200, func() {
		model.CopyTo(p)
		if v := from.m.transform(p); v != packet.Forward {
			t.Fatal(v)
		}
		p.In, p.Proto, p.TransOff, p.ProtoField = 1, wire.ESP, wire.IPv6HeaderLen, wire.NextHeaderOffset
		if v := to.m.input(p); v != packet.Arrived {
			t.Fatal(v)
		}
		if v := to.m.admit(p); v != packet.Continue {
			t.Fatal(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
