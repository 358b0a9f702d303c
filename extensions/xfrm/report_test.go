package xfrm

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/xfrmapi"
)

// TestReports: a packet with a home address that only the wildcard is for, and that no policy lets in, is told of, once a
// second; not so a message about bindings.
func TestReports(t *testing.T) {
	mh := func(typ uint8) []byte { return []byte{59, 0, typ, 0, 0, 0, 0, 0} }
	b := newBench(t)
	type told struct {
		home, careOf, dst netip.Addr
		link              int
	}
	var calls []told
	b.m.OnReport(func(home, careOf, dst netip.Addr, link int) { calls = append(calls, told{home, careOf, dst, link}) })
	b.run("ip xfrm state add src :: dst "+us+" proto hao mode ro coa :: flag wildrecv",
		"ip xfrm policy add src ::/0 dst "+us+"/128 proto 135 type 5 dir in ptype sub tmpl proto hao mode ro level use")
	b.told()
	from := func(careOf string, next uint8, rest []byte) packet.Verdict {
		t.Helper()
		q, v := opened(t, b, of(careOf, us, wire.DestOpts, option(next, home), rest))
		if v != packet.Continue {
			t.Fatalf("%s", v)
		}
		v = b.m.admit(q)
		for len(b.Mailbox) > 0 {
			b.m.Receive(b.now(), <-b.Mailbox)
		}
		return v
	}
	none := packet.Drop(packet.XfrmInNoPols)
	for _, c := range []struct {
		careOf string
		next   uint8
		rest   []byte
		want   packet.Verdict
		sel    string
	}{
		{away, wire.MH, mh(5), packet.Continue, ""},
		{away, wire.MH, mh(3), none, ""},
		{away, wire.UDP, datagram, none, "src " + home + "/128 dst " + us + "/128 proto udp sport 4096 dport 8192 dev wan0"},
		{away, wire.UDP, datagram, none, ""},
		{"2001:db8:200::b", wire.UDP, datagram, none, "src " + home + "/128 dst " + us + "/128 proto udp sport 4096 dport 8192 dev wan0"},
	} {
		v := from(c.careOf, c.next, c.rest)
		var got string
		for _, p := range b.Published {
			e := p.Value.(xfrmapi.Event)
			got = e.Sel
			if e.Event != "report" || e.Proto != "hao" || *e.CoA != addr(c.careOf) {
				t.Errorf("%+v", e)
			}
			if text := e.Text(false); text != "report proto hao \n  sel "+c.sel+" \n  coa "+c.careOf+"\n" {
				t.Errorf("%q", text)
			}
			if calls[len(calls)-1] != (told{addr(home), addr(c.careOf), addr(us), 1}) {
				t.Errorf("%+v", calls)
			}
		}
		b.Published = nil
		if v != c.want || got != c.sel {
			t.Errorf("proto %d from %s: %s, %q, want %q", c.next, c.careOf, v, got, c.sel)
		}
	}
	b.Manual.AdvanceTo(b.now().Add(time.Second))
	if from(away, wire.MH, mh(200)); len(calls) != 3 {
		t.Errorf("a second later, a message of unknown type: told %d times", len(calls))
	}
	// Of many, as many are told as are remembered.
	for i := range 2 * reportMax {
		b.Manual.AdvanceTo(b.now().Add(time.Microsecond))
		from(fmt.Sprintf("2001:db8:200::1:%x", i), wire.UDP, datagram)
	}
	if len(calls) > 3+reportMax || len(b.m.last) > reportMax || len(calls) < reportMax {
		t.Errorf("told %d times, %d remembered", len(calls), len(b.m.last))
	}
}

// TestSecpath: what a receiver is told of the SAs.
func TestSecpath(t *testing.T) {
	to := newBench(t)
	from := newBench(t)
	from.run(pairWords("hao", "esp ah", "out")...)
	to.run(pairWords("hao", "esp ah", "in")...)
	p := roomy(packet.New(of(home, us, wire.UDP, datagram)))
	p.Out, p.Route = 1, &packet.Route{}
	from.m.transform(p)
	q, _ := opened(t, to, bytes.Clone(p.Bytes()))
	want := []module.SA{
		{Proto: wire.DestOpts, Mode: 2}, {Proto: wire.AH, SPI: 0x101, Integrity: true}, {Proto: wire.ESP, SPI: 0x100, Integrity: true},
	}
	if got := to.m.Secpath(q, nil); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if got := to.m.Secpath(packet.New(nil), nil); len(got) != 0 {
		t.Errorf("of none: %+v", got)
	}
	null := &sad.State{ID: sad.ID{Proto: proto.ESP}, Auth: sad.Algo{Name: "digest_null"}}
	if authentic(null) {
		t.Error("ESP without integrity counts as authentic")
	}
}
