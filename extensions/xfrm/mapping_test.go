package xfrm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmapi"
)

// natted is a pair of benches with an SA in UDP between them, and what a NAT on the way makes of a packet: the port's
// checksum is known, as a port that has checked it says.
func natted(t testing.TB) (to *bench, packetFrom func(src string, port uint16) *packet.Packet) {
	sa := change(gcm(0x1001), func(c *sad.StateConfig) {
		c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 4500, DPort: 4500}
		c.ReplayWindow = new(uint32(64))
	})
	from, to := ends(t, sa)
	to.told()
	return to, func(src string, port uint16) *packet.Packet {
		p := clearPacket(10)
		if v := from.m.transform(p); v != packet.Forward {
			t.Fatal(v)
		}
		q := arrived(bytes.Clone(p.Bytes()))
		q.GSO.Csum = packet.CsumVerified
		if q.Proto != wire.UDP {
			t.Fatalf("protocol %d", q.Proto)
		}
		copy(q.Bytes()[8:], addr(src).AsSlice())
		binary.BigEndian.PutUint16(q.Bytes()[40:], port)
		return q
	}
}

// mappings are what the loop tells of those.
func (b *bench) mappings() (out []string) {
	b.t.Helper()
	for len(b.Mailbox) > 0 {
		b.m.Receive(b.now(), <-b.Mailbox)
	}
	for _, p := range b.Published {
		e := p.Value.(xfrmapi.Event)
		if e.Event != "mapping" {
			continue
		}
		if e.State.SPI != 0x1001 {
			b.t.Errorf("of SPI %#x", e.State.SPI)
		}
		line, _, _ := strings.Cut(e.Text(false), "\n")
		out = append(out, strings.TrimPrefix(line, "Mapping change "))
	}
	b.Published = nil
	return out
}

// TestMapping: each change of where authentic packets come from is told once, and not more than once a second; the state
// is as it was until somebody changes it, and then it says what is no change.
func TestMapping(t *testing.T) {
	const f1 = "2001:db8:f::1"
	to, from := natted(t)
	state := to.m.states()[0]
	for i, c := range []struct {
		wait time.Duration
		src  string
		port uint16
		want string
	}{
		{0, f1, 4500, "[]"},
		{0, f1, 6000, "[2001:db8:f::1:4500 -> 2001:db8:f::1:6000]"},
		{0, f1, 6000, "[]"},
		{time.Hour, f1, 6000, "[]"},
		{0, "2001:db8:e::1", 6000, "[2001:db8:f::1:6000 -> 2001:db8:e::1:6000]"},
		{time.Second / 2, "2001:db8:e::2", 6000, "[]"}, // too early
		{time.Second / 2, "2001:db8:e::3", 7000, "[2001:db8:e::1:6000 -> 2001:db8:e::3:7000]"},
		{time.Second, f1, 4500, "[2001:db8:e::3:7000 -> 2001:db8:f::1:4500]"},
		{time.Second, f1, 4500, "[]"},
	} {
		to.Manual.AdvanceTo(to.now().Add(c.wait))
		if v := to.m.input(from(c.src, c.port)); v != packet.Again {
			t.Fatalf("step %d: %s", i, v)
		}
		if got := fmt.Sprint(to.mappings()); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
	if to.m.states()[0] != state {
		t.Error("the state has changed by itself")
	}
	// What is not authentic, or comes once more, has nothing to say.
	to.Manual.AdvanceTo(to.now().Add(time.Minute))
	p := from(f1, 4500)
	again, forged := arrived(bytes.Clone(p.Bytes())), from(f1, 4501)
	to.m.input(p)
	binary.BigEndian.PutUint16(again.Bytes()[40:], 4501)
	again.GSO.Csum, forged.Bytes()[forged.Len()-1] = packet.CsumVerified, forged.Bytes()[forged.Len()-1]^1
	for want, p := range map[packet.Reason]*packet.Packet{packet.XfrmInStateSeqError: again, packet.XfrmInStateProtoError: forged} {
		if v := to.m.input(p); v != packet.Drop(want) {
			t.Errorf("%s: %s", want, v)
		}
	}
	// A state that goes with its peer.
	if got := to.mappings(); got != nil {
		t.Errorf("of what is not authentic: %s", got)
	}
	to.m.input(from(f1, 6000))
	to.mappings()
	to.Manual.AdvanceTo(to.now().Add(time.Minute))
	next := *state
	next.Encap.SPort = 6001
	if _, err := to.m.updateState(to.now(), &next); err != nil {
		t.Fatal(err)
	}
	to.m.input(from(f1, 6001))
	if got := to.mappings(); got != nil {
		t.Errorf("it comes from where the state says: %s", got)
	}
	to.migrate("fwd", moves(f1, "2001:db8:f::2", "2001:db8:e::1", "2001:db8:f::2"))
	to.m.input(from("2001:db8:e::1", 6001))
	if got := to.mappings(); got != nil {
		t.Errorf("it has moved: %s", got)
	}
}

// TestMappingOfAnySource: a state of src :: has its peer where the first packet comes from.
func TestMappingOfAnySource(t *testing.T) {
	to, from := natted(t)
	next := *to.m.states()[0]
	to.m.flushStates(to.now(), 0)
	next.SAddr = netip.IPv6Unspecified()
	if _, err := to.m.addState(to.now(), &next); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		src  string
		want string
	}{
		{"2001:db8:e::1", "[]"},
		{"2001:db8:e::1", "[]"},
		{"2001:db8:e::2", "[2001:db8:e::1:6000 -> 2001:db8:e::2:6000]"},
	} {
		if v := to.m.input(from(c.src, 6000)); v != packet.Again {
			t.Fatalf("step %d: %s", i, v)
		}
		if got := fmt.Sprint(to.mappings()); got != c.want {
			t.Errorf("step %d: %s, want %s", i, got, c.want)
		}
	}
}

// TestMappingsAreBounded: what finds the loop busy comes again with the next packet; that of a state that is gone is not
// told.
func TestMappingsAreBounded(t *testing.T) {
	const f1 = "2001:db8:f::1"
	to, from := natted(t)
	s := to.m.states()[0]
	to.m.inbox.mu.Lock()
	to.m.inbox.mappings = make([]mapping, inboxMax)
	for i := range to.m.inbox.mappings {
		to.m.inbox.mappings[i].state = s
	}
	to.m.inbox.mu.Unlock()
	to.m.input(from(f1, 6000))
	if n := len(to.m.inbox.mappings); n != inboxMax {
		t.Errorf("%d wait", n)
	}
	to.m.inbox.mappings = nil
	to.m.input(from(f1, 6000))
	if got := fmt.Sprint(to.mappings()); got != "[2001:db8:f::1:4500 -> 2001:db8:f::1:6000]" {
		t.Error(got)
	}
	to.Manual.AdvanceTo(to.now().Add(time.Second))
	to.m.input(from(f1, 6001))
	to.m.flushStates(to.now(), 0)
	if got := to.mappings(); got != nil {
		t.Errorf("of a state that is gone: %s", got)
	}
}

// TestMappingCostsNothing: packets that come from where they came from allocate nothing, wherever that is. Workers open
// packets of one SA at a time, while the loop changes it: for the race detector, too.
func TestMappingCostsNothing(t *testing.T) {
	to, from := natted(t)
	to.m.host = fixedLinks{to, to.Links()}
	to.m.input(from("2001:db8:e::1", 6000))
	to.mappings()
	list := make([]*packet.Packet, 102)
	for i := range list {
		list[i] = from("2001:db8:e::1", 6000)
	}
	i, p := 0, packet.NewBuffer(2000)
	if n := testing.AllocsPerRun(100, func() {
		list[i].CopyTo(p)
		p.In, p.Proto, p.TransOff, p.ProtoField = 1, wire.UDP, wire.IPv6HeaderLen, wire.NextHeaderOffset
		if v := to.m.input(p); v != packet.Again {
			t.Fatal(v)
		}
		i++
	}); n != 0 || to.mappings() != nil {
		t.Errorf("%v allocations", n)
	}
	list = list[:60]
	for i := range list {
		list[i] = from("2001:db8:e::1", uint16(6000+i))
	}
	var workers sync.WaitGroup
	for w := range 3 {
		workers.Go(func() {
			for _, p := range list[w*20 : w*20+20] {
				to.m.input(p)
			}
		})
	}
	for range 20 {
		if _, err := to.m.updateState(to.now(), to.m.states()[0]); err != nil {
			t.Error(err)
		}
	}
	workers.Wait()
	to.mappings()
}
