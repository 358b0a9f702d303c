package xfrm

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/xfrmapi"
)

// TestBindings: what a correspondent node takes and sends, with a binding and without, also after another configuration.
func TestBindings(t *testing.T) {
	b := newBench(t)
	mh := []byte{59, 0, 5, 0, 0, 0, 0, 0}
	from := func(careOf string, next uint8, rest []byte) packet.Verdict {
		t.Helper()
		p := arrived(of(careOf, us, wire.DestOpts, option(next, home), rest))
		p.Proto, p.TransOff = wire.DestOpts, 40
		if v := b.m.input(p); v != packet.Local {
			return v
		}
		p.Proto, p.TransOff, p.Walked = next, 64, 64
		return b.m.admit(p)
	}
	to := func(next uint8, rest []byte) string {
		t.Helper()
		p := packet.New(of(us, home, next, rest))
		p.Out, p.Route = 1, &packet.Route{}
		switch v := b.m.transform(p); v {
		case packet.Continue:
			return "home"
		case packet.Forward:
			if !bytes.Equal(p.Bytes()[40:64], append([]byte{next, 2, 2, 1, 0, 0, 0, 0}, addr(home).AsSlice()...)) {
				t.Errorf("% x", p.Bytes())
			}
			return hostOf(p.Bytes()[24:40])
		default:
			return v.String()
		}
	}
	check := func(what string, bound string) {
		t.Helper()
		wantData, wantTo := packet.Drop(packet.XfrmInNoPols), "home"
		if bound != "" {
			wantData, wantTo = packet.Continue, bound
		}
		other := packet.Drop(packet.XfrmInNoPols)
		if bound != "" {
			other = packet.Drop(packet.XfrmInTmplMismatch)
		}
		at := bound
		if at == "" {
			at = away
		}
		if v := from(at, wire.UDP, datagram); v != wantData {
			t.Errorf("%s: from the care-of address: %s", what, v)
		}
		if v := from("2001:db8:200::bad", wire.UDP, datagram); v != other {
			t.Errorf("%s: from elsewhere: %s", what, v)
		}
		if v := from("2001:db8:200::bad", wire.MH, mh); v != packet.Continue {
			t.Errorf("%s: a binding update: %s", what, v)
		}
		p := arrived(of(home, us, wire.UDP, datagram)) // by the home agent
		if v := b.m.admit(p); v != packet.Continue {
			t.Errorf("%s: from home: %s", what, v)
		}
		if got := to(wire.UDP, datagram); got != wantTo {
			t.Errorf("%s: to %s", what, got)
		}
		if got := to(wire.MH, mh); got != "home" {
			t.Errorf("%s: a message goes to %s", what, got)
		}
		if got := to(wire.ICMPv6, []byte{wire.TypeDestinationUnreachable, 0, 0, 0, 0, 0, 0, 0}); got != "home" {
			t.Errorf("%s: an error goes to %s", what, got)
		}
		if got := to(wire.ICMPv6, []byte{wire.TypeEchoRequest, 0, 0, 0, 0, 0, 0, 0}); got != wantTo {
			t.Errorf("%s: an echo request goes to %s", what, got)
		}
	}
	var done []error
	bind := func(careOf string) {
		b.told()
		x := module.MobileBinding{Local: addr(us), Home: addr(home)}
		if careOf != "" {
			x.CareOf = addr(careOf)
		}
		b.m.Bind(x, func(err error) { done = append(done, err) })
		b.loop()
	}
	if v := from(away, wire.UDP, datagram); v != packet.Continue {
		t.Errorf("home addresses are known before anybody wants them: %s", v)
	}
	b.m.Correspond(true)
	b.loop()
	check("no binding", "")
	bind(away)
	check("bound", away)
	if n := b.m.Bound(addr(us), addr(home)); n != 2 {
		t.Errorf("%d packets", n)
	}
	b.told()
	b.apply(sections(nil, []PolicyConfig{protect("7")}))
	told := strings.Join(b.told(), " ")
	if !strings.Contains(told, "newpolicy 7") || strings.Contains(told, "mip6") || strings.Contains(told, "sa ") || b.m.Bound(addr(us), addr(home)) != 2 {
		t.Errorf("another configuration changes more than it says: %v", told)
	}
	check("another configuration", away)
	b.m.flushStates(b.now(), 0)
	b.m.flushPolicies(b.now(), true)
	b.apply(sections(nil, []PolicyConfig{protect("7")}))
	check("flushed, and the configuration again", away)
	const moved = "2001:db8:200::b"
	bind(moved)
	check("moved", moved)
	// What is wanted at once is one change, and the last counts.
	for _, careOf := range []string{away, moved, away} {
		b.m.Bind(module.MobileBinding{Local: addr(us), Home: addr(home), CareOf: addr(careOf)}, func(err error) { done = append(done, err) })
	}
	b.loop()
	check("moved much", away)
	bind("")
	check("ended", "")
	if n := b.m.Bound(addr(us), addr(home)); n != 0 || len(done) != 6 || slices.ContainsFunc(done, func(err error) bool { return err != nil }) {
		t.Errorf("%d packets, %v", n, done)
	}
	// One that cannot be leaves nothing.
	done = nil
	b.m.Bind(module.MobileBinding{Local: addr(us), Home: addr(home), CareOf: addr("fe80::1%x")}, func(err error) { done = append(done, err) })
	b.loop()
	if len(done) != 1 || done[0] == nil {
		t.Errorf("%v", done)
	}
	check("impossible", "")
	bind(away)
	b.m.Correspond(false)
	b.loop()
	if v := from(away, wire.UDP, datagram); v != packet.Continue || len(b.m.sad.List()) != 0 {
		t.Errorf("it is still known: %s", v)
	}
	for _, p := range b.m.spd.List() {
		if p.Sub {
			t.Errorf("left: %s", p.Name)
		}
	}
	bind(away)
	if len(b.m.sad.List()) != 0 {
		t.Error("a binding of a node that is no correspondent")
	}
}

// TestBindingsAreTold: states and policies that come and go are events like others.
func TestBindingsAreTold(t *testing.T) {
	b := newBench(t)
	b.m.Correspond(true)
	b.loop()
	b.Published = nil
	for _, careOf := range []string{away, away, "2001:db8:200::b", ""} {
		x := module.MobileBinding{Local: addr(us), Home: addr(home)}
		if careOf != "" {
			x.CareOf = addr(careOf)
		}
		b.m.Bind(x, nil)
		b.loop()
	}
	var got []string
	for _, p := range b.Published {
		got = append(got, p.Value.(xfrmapi.Event).Event)
	}
	want := []string{"newsa", "newsa", "updpolicy", "updpolicy", "updsa", "updsa", "delpolicy", "delpolicy", "delsa", "delsa"}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
