package xfrm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// moves is a migration of tunnels of ESP.
func moves(oldSrc, oldDst, newSrc, newDst string) proto.Migration {
	return proto.Migration{OldSrc: addr(oldSrc), OldDst: addr(oldDst), NewSrc: addr(newSrc), NewDst: addr(newDst), Proto: proto.ESP, Mode: proto.Tunnel}
}

// migrate moves the policy of a direction for 2001:db8:7::/48 and returns how many states went with it.
func (b *bench) migrate(dir string, ms ...proto.Migration) int {
	b.t.Helper()
	req := xfrmapi.MigrateRequest{PolicyID: xfrmapi.PolicyID{Dir: dir}, Migrate: ms}
	req.Dst = "2001:db8:7::/48"
	v, err := b.ask("POST /v1/xfrm/migrate", req)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.(xfrmapi.Migrated).States
}

// TestMigrateGoesOn: both ends of a tunnel move, and move again. What is sent has the next number and IV, and opens at the other
// end; what was sent before does not open once more, whatever addresses an attacker gives it; counters and the soft limit
// count on.
func TestMigrateGoesOn(t *testing.T) {
	sa := gcm(0x1001)
	sa.ReplayWindow, sa.Lifetime.SoftPackets = new(uint32(64)), 25
	from, to := ends(t, sa)
	at := [2]string{"2001:db8:f::1", "2001:db8:f::2"}
	var old [][]byte
	iv := uint64(0)
	for round := range 3 {
		for i := range 10 {
			p := clearPacket(i)
			plain := bytes.Clone(p.Bytes())
			if v := from.m.transform(p); v != packet.Forward {
				t.Fatal(v)
			}
			sent := bytes.Clone(p.Bytes())
			h, err := wire.ParseIPv6(sent)
			if err != nil || h.Src() != addr(at[0]) || h.Dst() != addr(at[1]) {
				t.Fatalf("round %d: from %s to %s, %v", round, h.Src(), h.Dst(), err)
			}
			seq, n := binary.BigEndian.Uint32(sent[44:]), binary.BigEndian.Uint64(sent[48:])
			if seq != uint32(round*10+i+1) || iv != 0 && n != iv+1 {
				t.Fatalf("round %d: number %d, IV %d after %d", round, seq, n, iv)
			}
			iv = n
			if q := arrived(bytes.Clone(sent)); to.m.input(q) != packet.Again || !bytes.Equal(q.Bytes(), plain) {
				t.Fatalf("round %d: packet %d does not open", round, i)
			}
			old = append(old, sent)
		}
		next := [2]string{fmt.Sprintf("2001:db8:e:%d::1", round), fmt.Sprintf("2001:db8:e:%d::2", round)}
		m := moves(at[0], at[1], next[0], next[1])
		if a, b := from.migrate("out", m), to.migrate("fwd", m); a != 1 || b != 1 {
			t.Fatalf("%d and %d states have moved", a, b)
		}
		for _, b := range old {
			if v := to.m.input(arrived(bytes.Clone(b))); v != packet.Drop(packet.XfrmInNoStates) {
				t.Fatalf("to the old address: %s", v)
			}
			again := bytes.Clone(b)
			copy(again[8:], addr(next[0]).AsSlice())
			copy(again[24:], addr(next[1]).AsSlice())
			if v := to.m.input(arrived(again)); v != packet.Drop(packet.XfrmInStateSeqError) {
				t.Fatalf("once more: %s", v)
			}
		}
		at = next
	}
	s := from.m.states()[0]
	if _, packets := s.Live.Counted(); packets != 30 {
		t.Errorf("%d packets counted", packets)
	}
	for len(from.Mailbox) > 0 {
		from.m.Receive(from.now(), <-from.Mailbox)
	}
	if got := fmt.Sprint(from.told()); !strings.HasSuffix(got, "migrate 7 migrate 7 migrate 7 expire 0x1001]") {
		t.Error(got)
	}
}

// TestMigrateIsOneChange: no view has the policy there and the state here; UDP comes to the new address; one event tells all.
func TestMigrateIsOneChange(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{change(gcm(0x1001), func(c *sad.StateConfig) {
		c.Encap = &sad.EncapConfig{Type: "espinudp", SPort: 4500, DPort: 4500}
	}), gcm(0x1002)}, []PolicyConfig{protect("7"), protect("8")}))
	b.told()
	before := b.m.view.Load()
	req := xfrmapi.MigrateRequest{
		PolicyID: xfrmapi.PolicyID{Dir: "out"}, Migrate: []proto.Migration{moves("2001:db8:f::1", "2001:db8:f::2", "2001:db8:e::1", "2001:db8:e::2")},
		KMAddress: &xfrmapi.KMAddress{Local: addr("2001:db8:e::1"), Remote: addr("2001:db8:e::9")},
	}
	req.Dst = "2001:db8:7::/48"
	if _, err := b.ask("POST /v1/xfrm/migrate", req); err != nil {
		t.Fatal(err)
	}
	after := b.m.view.Load()
	for i, v := range []*view{before, after} {
		here := addr([...]string{"2001:db8:f::2", "2001:db8:e::2"}[i])
		f := selector.Flow{Dst: addr("2001:db8:7::1").As16()}
		p := v.spd.Lookup(spd.Out, false, &f, 0)
		if p == nil || p.Templates[0].Dst != here || v.sad.ByID(here, netip.Addr{}, 0x1001, proto.ESP, 0) == nil || v.sad.ByID(here, netip.Addr{}, 0x1002, proto.ESP, 0) == nil {
			t.Errorf("view %d: %+v", i, p)
		}
		if want := map[udpEnd]int{{here.As16(), 4500}: 1}; !maps.Equal(v.ports, want) {
			t.Errorf("view %d: ports %v", i, v.ports)
		}
	}
	if after.sad.Len() != 2 {
		t.Errorf("%d states", after.sad.Len())
	}
	if len(b.Published) != 1 {
		t.Fatalf("%+v", b.Published)
	}
	const want = `Migrated src ::/0 dst 2001:db8:7::/48 
	dir out priority 10 ptype main 
	tmpl src 2001:db8:e::1 dst 2001:db8:e::2
		proto esp reqid 1 mode tunnel
	migrate src 2001:db8:f::1 dst 2001:db8:f::2 to src 2001:db8:e::1 dst 2001:db8:e::2
		proto esp reqid 0 mode tunnel
	kmaddress local 2001:db8:e::1 remote 2001:db8:e::9
	states 2
`
	e := b.Published[0].Value.(xfrmapi.Event)
	if got := e.Text(false); e.Event != "migrate" || got != want {
		t.Errorf("%s: %s", e.Event, got)
	}
	text, err := json.Marshal(e)
	if want := `"migrate":[{"old_src":"2001:db8:f::1","old_dst":"2001:db8:f::2","new_src":"2001:db8:e::1","new_dst":"2001:db8:e::2","proto":"esp","mode":"tunnel"}],` +
		`"kmaddress":{"local":"2001:db8:e::1","remote":"2001:db8:e::9"},"states":2}`; err != nil || !strings.HasSuffix(string(text), want) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestMigrateRefused: what is refused changes nothing and is told to nobody.
func TestMigrateRefused(t *testing.T) {
	b := newBench(t)
	b.apply(sections([]sad.StateConfig{gcm(0x1001)}, []PolicyConfig{protect("7")}))
	const there = `"old_src":"2001:db8:f::1","old_dst":"2001:db8:f::2","new_src":"2001:db8:e::1","new_dst":"2001:db8:e::2","mode":"tunnel"`
	const policy = `"dir":"out","dst":"2001:db8:7::/48"`
	entries := func(n int) string { return strings.Repeat(`,{"proto":"esp",`+there+`}`, n)[1:] }
	// An SA in the way of the second migration.
	b.ipxfrm("state add src 2001:db8:f::1 dst 2001:db8:e::2 proto esp spi 0x1001 mode tunnel reqid 9 aead rfc4106(gcm(aes)) " + gcmKey + " 128")
	b.told()
	before, policies, states := b.m.view.Load(), b.m.spd.List(), b.m.states()
	for _, c := range []struct{ body, want string }{
		{`{` + policy + `}`, "Invalid argument: 0 migrations, want 1 to 6"},
		{`{` + policy + `,"migrate":[` + entries(7) + `]}`, "Invalid argument: 7 migrations, want 1 to 6"},
		{`{` + policy + `,"migrate":[` + entries(2) + `]}`, "Invalid argument: the same states twice"},
		{`{` + policy + `,"migrate":[{` + there + `}]}`, "Invalid argument: migration of proto 0, want esp or ah"},
		{`{"dir":"out","dst":"2001:db8:7::/47","migrate":[` + entries(1) + `]}`, "No such file or directory"},
		{`{"dir":"in","dst":"2001:db8:7::/48","migrate":[` + entries(1) + `]}`, "No such file or directory"},
		{`{"dir":"out","dst":"2001:db8:7::/48","ptype":"sub","migrate":[` + entries(1) + `]}`, "No such file or directory"},
		{`{"dir":"out","migrate":[` + entries(1) + `]}`, "Not enough information: either SELECTOR or INDEX is required."},
		{`{` + policy + `,"migrate":[{"proto":"ah",` + there + `}]}`, "No data available: no template of the policy is to be migrated"},
		{`{` + policy + `,"migrate":[` + entries(1) + `]}`, "File exists: spi 0x1001 at 2001:db8:e::2"},
		{`{` + policy + `,"migrate":[` + entries(1) + `],"kmaddress":{"local":"::","remote":"2001:db8::1"}}`, "Invalid argument: kmaddress local :: remote 2001:db8::1"},
		{`{` + policy + `,"migrate":[` + entries(1) + `],"kmaddress":{"local":"2001:db8::1"}}`, "Invalid argument: kmaddress local 2001:db8::1 remote invalid IP"},
		{`{` + policy + `,"migrate":[` + strings.ReplaceAll(entries(1), "2001:db8:e::1", "ff05::1") + `]}`, "tmpl 1: src: ff05::1 is no address for an outer header"},
	} {
		_, err := b.call("POST /v1/xfrm/migrate", c.body, true)
		wantErr(t, err, c.want)
	}
	now := b.m.view.Load()
	if len(b.told()) != 0 || now.sad != before.sad || now.spd != before.spd || b.m.spd.List()[0] != policies[0] || b.m.states()[0] != states[0] {
		t.Error("something has changed")
	}
}
