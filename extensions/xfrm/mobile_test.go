package xfrm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
)

// A mobile node with a home address is away; us is where it sends to, and our home address is for what comes to the
// address we have where we are.
const (
	home, away = "2001:db8:100::a", "2001:db8:200::a"
	us, usAway = "2001:db8:300::1", "2001:db8:400::1"
)

// option is a Destination Options header with home addresses.
func option(next uint8, homes ...string) []byte {
	b := []byte{next, 0}
	for _, h := range homes {
		b = append(append(b, 1, 2, 0, 0, 0xc9, 16), addr(h).AsSlice()...)
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	b[1] = uint8(len(b)/8 - 1)
	return b
}

func type2(next uint8, home string) []byte {
	return append([]byte{next, 2, 2, 1, 0, 0, 0, 0}, addr(home).AsSlice()...)
}

// of is a packet of headers and a payload of next.
func of(src, dst string, first uint8, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return append(wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(len(body)), NextHeader: first, HopLimit: 64, Src: addr(src), Dst: addr(dst)}), body...)
}

var datagram = []byte{0x10, 0, 0x20, 0, 0, 12, 1, 2, 'd', 'a', 't', 'a'}

// TestHomeAddress: which state a Home Address option is for, what is no such option, and what becomes of the packet.
func TestHomeAddress(t *testing.T) {
	const (
		exact  = "ip xfrm state add src " + home + " dst " + us + " proto hao mode ro coa " + away
		anyCoA = "ip xfrm state add src " + home + " dst " + us + " proto hao mode ro coa ::"
		anyMN  = "ip xfrm state add src :: dst " + us + " proto hao mode ro coa :: flag wildrecv"
		anyone = "ip xfrm state add src :: dst :: proto hao mode ro coa :: flag wildrecv"
		notAny = "ip xfrm state add src :: dst " + us + " proto hao mode ro coa ::"
		route  = "ip xfrm state add src " + us + " dst " + home + " proto route2 mode ro coa " + away
		marked = exact + " mark 7"
		over   = exact + " limit packet-hard 1"
	)
	good := of(away, us, wire.DestOpts, option(wire.UDP, home), datagram)
	invalid, none := packet.Drop(packet.HomeAddressInvalid), packet.Drop(packet.XfrmInNoStates)
	edit := func(b []byte, at int, v ...byte) []byte { b = bytes.Clone(b); copy(b[at:], v); return b }
	long := of(away, us, wire.DestOpts, append(append([]byte{wire.UDP, 2, 0xc9, 17}, addr(home).AsSlice()...), 0, 1, 1, 0), datagram)
	for _, c := range []struct {
		name   string
		states []string
		pkt    []byte
		want   packet.Verdict
	}{
		{"exact", []string{exact}, good, packet.Local},
		{"exact before wildcards", []string{anyone, anyMN, exact}, good, packet.Local},
		{"any care-of address", []string{anyCoA}, good, packet.Local},
		{"any mobile node", []string{anyMN}, good, packet.Local},
		{"any at all", []string{anyone}, good, packet.Local},
		{"another care-of address", []string{exact}, edit(good, 23, 9), none},
		{"another care-of address, wildcard", []string{exact, anyMN}, edit(good, 23, 9), packet.Local},
		{"another home", []string{exact}, edit(good, 63, 9), none},
		{"not to receive by", []string{notAny}, good, none},
		{"of the other header", []string{route}, good, none},
		{"another mark", []string{marked}, good, none},
		{"no states", nil, good, packet.Continue},
		{"two options", []string{exact}, of(away, us, wire.DestOpts, option(wire.UDP, home, home), datagram), invalid},
		{"too long", []string{exact}, long, invalid},
		{"a group", []string{anyone}, of(away, us, wire.DestOpts, option(wire.UDP, "ff05::1"), datagram), invalid},
		{"no address", []string{anyone}, of(away, us, wire.DestOpts, option(wire.UDP, "::"), datagram), invalid},
		{"loopback", []string{anyone}, of(away, us, wire.DestOpts, option(wire.UDP, "::1"), datagram), invalid},
		{"of one link only", []string{anyone}, of(away, us, wire.DestOpts, option(wire.UDP, "fe80::1"), datagram), invalid},
	} {
		b := newBench(t)
		b.run(c.states...)
		p := arrived(bytes.Clone(c.pkt))
		p.Proto, p.TransOff = wire.DestOpts, 40
		v := b.m.input(p)
		if v != c.want {
			t.Errorf("%s: %s, want %s", c.name, v, c.want)
		}
		want := c.pkt
		if v == packet.Local {
			want = edit(edit(c.pkt, 8, c.pkt[48:64]...), 48, c.pkt[8:24]...)
		}
		if !bytes.Equal(p.Bytes(), want) || (len(p.Came()) == 1) != (v == packet.Local) {
			t.Errorf("%s: came by %d\n% x\n% x", c.name, len(p.Came()), p.Bytes(), want)
		}
		if v == packet.Local {
			s := p.Came()[0].(*sad.State)
			if n, packets := s.Live.Counted(); n != 36 || packets != 1 {
				t.Errorf("%s: %d octets of %d packets counted", c.name, n, packets)
			}
		}
	}
	// A second one behind it; at the limit of the state; through too many.
	b := newBench(t)
	b.run(over)
	p := arrived(of(away, us, wire.DestOpts, option(wire.DestOpts, home), option(wire.UDP, home), datagram))
	for i, want := range []packet.Verdict{packet.Local, invalid} {
		p.Proto, p.TransOff = wire.DestOpts, 40+24*i
		if v := b.m.input(p); v != want {
			t.Errorf("option %d: %s", i, v)
		}
	}
	p = arrived(bytes.Clone(good))
	p.Proto, p.TransOff = wire.DestOpts, 40
	if v := b.m.input(p); v != none || b.Counters["XfrmInNoStates"].Value() != 1 {
		t.Errorf("at its limit: %s", v)
	}
	b = newBench(t)
	b.run(exact)
	p = arrived(bytes.Clone(good))
	p.Proto, p.TransOff = wire.DestOpts, 40
	for range packet.MaxStates {
		p.ComeThrough(&sad.State{Mode: proto.Tunnel})
	}
	if v := b.m.input(p); v != packet.Drop(packet.XfrmInBufferError) {
		t.Errorf("through too many: %s", v)
	}
}

// TestType2: which Type 2 Routing headers are taken, RFC 6275 11.3.3.
func TestType2(t *testing.T) {
	const (
		exact  = "ip xfrm state add src " + home + " dst " + us + " proto route2 mode ro coa " + usAway
		anyone = "ip xfrm state add src :: dst " + us + " proto route2 mode ro coa :: flag wildrecv"
		wild   = "ip xfrm state add src :: dst :: proto route2 mode ro coa :: flag wildrecv"
	)
	good := of(home, usAway, wire.Routing, type2(wire.UDP, us), datagram)
	invalid, none := packet.Drop(packet.RoutingHeaderType2), packet.Drop(packet.XfrmInNoStates)
	edit := func(at int, v ...byte) []byte { b := bytes.Clone(good); copy(b[at:], v); return b }
	for _, c := range []struct {
		name  string
		state string
		pkt   []byte
		want  packet.Verdict
	}{
		{"exact", exact, good, packet.Local},
		{"from anybody", anyone, edit(23, 9), packet.Local},
		{"from another", exact, edit(23, 9), none},
		{"to another of our addresses", exact, edit(39, 9), none},
		{"no states", "", good, packet.Continue},
		{"length", exact, edit(41, 4), invalid},
		{"done before", exact, edit(43, 0), invalid},
		{"two segments", exact, edit(43, 2), invalid},
		{"to a group", wild, edit(24, 0xff, 5), invalid},
		{"home of another", wild, edit(63, 9), invalid},
		{"home of one link only", wild, edit(48, addr("fe80::1").AsSlice()...), invalid},
		{"home not assigned", wild, edit(48, addr("2001:db8:300::2").AsSlice()...), invalid},
		{"anycast", wild, edit(48, addr("2001:db8:300::3").AsSlice()...), invalid},
		{"hop limit", exact, edit(7, 1), packet.Drop(packet.HopLimitExceeded)},
	} {
		b := newBench(t)
		b.AddrSnap = module.NewAddrs([]*module.Addr{
			{Addr: addr(us), Link: 1}, {Addr: addr(usAway), Link: 1}, {Addr: addr("fe80::1"), Link: 1},
			{Addr: addr("2001:db8:300::2"), Link: 1, Tentative: true}, {Addr: addr("2001:db8:300::3"), Link: 1, Anycast: true},
		}, nil)
		b.run(c.state)
		p := arrived(bytes.Clone(c.pkt))
		p.Proto, p.TransOff = wire.Routing, 40
		v := b.m.input(p)
		want := c.pkt
		if v == packet.Local {
			want = of(hostOf(c.pkt[8:24]), us, wire.Routing, type2(wire.UDP, hostOf(c.pkt[24:40])), datagram)
			want[7], want[43] = 63, 0
		}
		if v != c.want || !bytes.Equal(p.Bytes(), want) || (len(p.Came()) == 1) != (v == packet.Local) {
			t.Errorf("%s: %s, want %s, came by %d\n% x\n% x", c.name, v, c.want, len(p.Came()), p.Bytes(), want)
		}
	}
}

// pairWords are the commands of one direction: states and policies by which from sends to to, with what each of the two
// policies asks for; in: the same at the other end.
func pairWords(sub, main, dir string) (out []string) {
	words := map[string]string{
		"hao":    "proto hao mode ro coa " + away,
		"route2": "proto route2 mode ro coa " + usAway,
		"esp":    "proto esp spi 0x100 mode transport aead rfc4106(gcm(aes)) " + gcmKey + " 128",
		"ah":     "proto ah spi 0x101 mode transport auth-trunc hmac(sha256) " + hmac256.Key + " 128",
		"tunnel": "proto esp spi 0x102 mode tunnel aead rfc4106(gcm(aes)) " + gcmKey + " 128",
	}
	for _, ptype := range []string{"sub", "main"} {
		list := map[string]string{"sub": sub, "main": main}[ptype]
		if list == "" {
			continue
		}
		policy := "ip xfrm policy add src " + home + " dst " + us + " dir " + dir + " ptype " + ptype
		for _, p := range strings.Fields(list) {
			if p == "tunnel" {
				out = append(out, "ip xfrm state add src "+away+" dst "+usAway+" "+words[p])
				policy += " tmpl src " + away + " dst " + usAway + " proto esp mode tunnel"
				continue
			}
			out = append(out, "ip xfrm state add src "+home+" dst "+us+" "+words[p])
			policy += " tmpl proto " + p
			if p == "hao" || p == "route2" {
				policy += " mode ro level use"
			} else {
				policy += " mode transport"
			}
		}
		out = append(out, policy)
	}
	return out
}

// TestTwoPolicies: what a packet of a policy of type sub and one of type main looks like (Linux's order), and that the
// other end lets it in by the same policies, knowing the home addresses only.
func TestTwoPolicies(t *testing.T) {
	plain := of(home, us, wire.UDP, datagram)
	for _, c := range []struct{ sub, main, want string }{
		{"", "esp ah", "AH ESP"},
		{"hao", "", "DestOpts UDP"},
		{"route2", "", "RH UDP"},
		{"route2 hao", "", "RH DestOpts UDP"},
		{"hao route2", "", "RH DestOpts UDP"},
		{"hao", "esp", "DestOpts ESP"},
		{"route2", "esp", "RH ESP"},
		{"hao", "ah", "DestOpts AH UDP"},
		{"route2", "ah", "RH AH UDP"},
		{"route2 hao", "esp ah", "RH DestOpts AH ESP"},
		{"hao", "tunnel", "ESP"},
		{"route2 hao", "esp ah tunnel", "ESP"},
		{"tunnel", "esp", "ESP"}, // each policy's states are for the addresses of the packet
	} {
		name := c.sub + " + " + c.main
		from, to := newBench(t), newBench(t)
		from.run(pairWords(c.sub, c.main, "out")...)
		in := c.sub
		if in == "route2 hao" { // a template is looked for behind the one that stands after it: the last is the first header
			in = "hao route2"
		}
		to.run(pairWords(in, c.main, "in")...)
		to.owns(addr(us), addr(usAway))
		wild := "ip xfrm state add src :: dst " + us + " proto route2 mode ro coa :: flag wildrecv"
		to.run(wild) // for what comes from a care-of address
		p := roomy(packet.New(plain))
		p.Out, p.Route = 1, &packet.Route{}
		want := packet.Forward
		if c.sub == "" {
			want = packet.Continue
		}
		if v := from.m.transform(p); v != want || !p.Protected || (v == packet.Forward) != (p.Route == nil) {
			t.Fatalf("%s: %s", name, v)
		}
		sent := bytes.Clone(p.Bytes())
		if got := headers(sent); got != c.want {
			t.Errorf("%s: sent %s, want %s", name, got, c.want)
		}
		q, v := opened(t, to, sent)
		if v != packet.Continue {
			t.Errorf("%s: %s", name, v)
			continue
		}
		if got := upperPacket(q.Bytes()); !bytes.Equal(got[8:], plain[8:]) {
			t.Errorf("%s: opened %x", name, got)
		}
		if n := len(strings.Fields(c.sub + " " + c.main)); len(q.Came()) != n {
			t.Errorf("%s: came by %d of %d", name, len(q.Came()), n)
		}
		if v := to.m.admit(q); v != packet.Continue {
			t.Errorf("%s: %s", name, v)
		}
		// A header more than any policy asks for, or one in the clear that is required.
		other := newBench(t)
		other.run(pairWords("", c.main, "in")...)
		if c.main == "" && c.sub != "" {
			if v := other.m.admit(q); v != packet.Drop(packet.XfrmInNoPols) {
				t.Errorf("%s: by no policy: %s", name, v)
			}
		} else if c.sub != "" && !strings.Contains(c.main, "tunnel") {
			if v := other.m.admit(q); v != packet.Drop(packet.XfrmInTmplMismatch) {
				t.Errorf("%s: without the policy of type sub: %s", name, v)
			}
		}
		if c.main == "" {
			continue
		}
		bare := packet.New(plain)
		bare.In = 1
		if v := to.m.admit(bare); v != packet.Drop(packet.XfrmInTmplMismatch) {
			t.Errorf("%s: in the clear: %s", name, v)
		}
		if strings.Contains(c.main, "ah") || strings.Contains(c.main, "esp") { // the home address is no proof of anything
			sent[len(sent)-1] ^= 1
			if _, v := opened(t, to, sent); v != packet.Drop(packet.XfrmInStateSeqError) && v != packet.Drop(packet.XfrmInStateProtoError) {
				t.Errorf("%s: changed: %s", name, v)
			}
		}
	}
}

// TestHomeInsideATunnel: each packet in a packet has a home address of its own.
func TestHomeInsideATunnel(t *testing.T) {
	const outer, outerAway = "2001:db8:500::1", "2001:db8:600::1"
	inner := []string{"ip xfrm state add src " + home + " dst " + us + " proto hao mode ro coa " + away}
	tunnel := []string{
		"ip xfrm state add src " + outer + " dst " + us + " proto esp spi 0x100 mode tunnel aead rfc4106(gcm(aes)) " + gcmKey + " 128",
		"ip xfrm state add src " + outer + " dst " + us + " proto hao mode ro coa " + outerAway,
	}
	mn, gateway, to := newBench(t), newBench(t), newBench(t)
	mn.run(append(inner, "ip xfrm policy add src "+home+" dst "+us+" dir out tmpl proto hao mode ro")...)
	gateway.run(append(tunnel, "ip xfrm policy add src "+away+" dst "+us+" dir out tmpl src "+outer+" dst "+us+" proto esp mode tunnel tmpl proto hao mode ro")...)
	to.run(append(inner, tunnel...)...)
	p := roomy(packet.New(of(home, us, wire.UDP, datagram)))
	p.Out, p.Route = 1, &packet.Route{}
	if v := mn.m.transform(p); v != packet.Forward {
		t.Fatal(v)
	}
	p.In, p.Out, p.Route = 1, 1, &packet.Route{}
	if v := gateway.m.transform(p); v != packet.Forward || headers(p.Bytes()) != "DestOpts ESP" || hostOf(p.Bytes()[8:24]) != outerAway {
		t.Fatalf("%s: % x", v, p.Bytes())
	}
	q, v := opened(t, to, bytes.Clone(p.Bytes()))
	if got := upperPacket(q.Bytes()); v != packet.Continue || len(q.Came()) != 3 || !bytes.Equal(got, of(home, us, wire.UDP, datagram)) {
		t.Errorf("%s, came by %d: % x", v, len(q.Came()), got)
	}
}

// TestCareOfAddressMoves: an update of the state is all that a movement takes; counters go on, and what comes from the old
// address is not taken any more.
func TestCareOfAddressMoves(t *testing.T) {
	const moved = "2001:db8:201::a"
	from, to := newBench(t), newBench(t)
	from.run(pairWords("hao", "", "out")...)
	to.run(pairWords("hao", "", "in")...)
	state := from.m.states()[0]
	for i, careOf := range []string{away, moved} {
		if i == 1 {
			next := *state
			next.CoA = addr(moved)
			for _, b := range []*bench{from, to} {
				if _, err := b.m.updateState(b.now(), &next); err != nil {
					t.Fatal(err)
				}
			}
		}
		p := roomy(packet.New(of(home, us, wire.UDP, datagram)))
		p.Out, p.Route = 1, &packet.Route{}
		if v := from.m.transform(p); v != packet.Forward || hostOf(p.Bytes()[8:24]) != careOf {
			t.Errorf("%s: %s, from %s", careOf, v, hostOf(p.Bytes()[8:24]))
		}
		if _, v := opened(t, to, bytes.Clone(p.Bytes())); v != packet.Continue {
			t.Errorf("%s: %s", careOf, v)
		}
	}
	if _, n := from.m.states()[0].Live.Counted(); n != 2 {
		t.Errorf("%d packets counted", n)
	}
	if _, v := opened(t, to, of(away, us, wire.DestOpts, option(wire.UDP, home), datagram)); v != packet.Drop(packet.XfrmInNoStates) {
		t.Errorf("from the old address: %s", v)
	}
}

// TestMobileDoesNotAllocate, out and in.
func TestMobileDoesNotAllocate(t *testing.T) {
	from, to := newBench(t), newBench(t)
	from.run(pairWords("hao", "ah", "out")...)
	to.run(pairWords("hao", "ah", "in")...)
	from.m.host, to.m.host = fixedLinks{from, from.Links()}, fixedLinks{to, to.Links()}
	model := packet.New(of(home, us, wire.UDP, make([]byte, 500)))
	p := packet.NewBuffer(2000)
	if n := testing.AllocsPerRun(200, func() {
		model.CopyTo(p)
		p.Out, p.Route = 1, nil
		if v := from.m.transform(p); v != packet.Forward {
			t.Fatal(v)
		}
		p.In, p.Proto, p.TransOff = 1, wire.DestOpts, wire.IPv6HeaderLen
		if v := to.m.input(p); v != packet.Local {
			t.Fatal(v)
		}
		p.Proto, p.TransOff, p.ProtoField, p.Walked = wire.AH, 64, 40, 64
		if v := to.m.input(p); v != packet.Again {
			t.Fatal(v)
		}
		if v := to.m.admit(p); v != packet.Continue {
			t.Fatal(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMobileInput: whatever headers a packet has, it is refused, or its addresses and those in the headers have changed
// places, and nothing else.
func FuzzMobileInput(f *testing.F) {
	f.Add(of(away, usAway, wire.Routing, type2(wire.DestOpts, us), option(wire.UDP, home), datagram))
	f.Add(of(away, us, wire.DestOpts, option(wire.UDP, home, home), datagram))
	f.Add(of(away, usAway, wire.Routing, type2(wire.Routing, us), type2(wire.UDP, us), datagram))
	f.Add(of(away, us, wire.DestOpts, option(wire.Fragment, home), []byte{wire.DestOpts, 0, 0, 0, 0, 0, 0, 1}, option(wire.UDP, home), datagram))
	b := newBench(f)
	b.owns(addr(us), addr(usAway))
	b.run("ip xfrm state add src :: dst :: proto hao mode ro coa :: flag wildrecv", "ip xfrm state add src :: dst :: proto route2 mode ro coa :: flag wildrecv")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < 40 || raw[0]>>4 != 6 || len(raw) > 1500 {
			return
		}
		raw = bytes.Clone(raw)
		binary.BigEndian.PutUint16(raw[4:], uint16(len(raw)-40))
		p := packet.New(raw)
		p.In = 1
		var c wire.Chain
		c.Walk(raw)
		v := homesOf(b, p, &c)
		if _, dropped := v.Dropped(); dropped {
			return
		}
		if len(p.Came()) > 2 || v != packet.Local {
			t.Fatalf("%s, came by %d: % x", v, len(p.Came()), raw)
		}
		got := bytes.Clone(p.Bytes())
		for i := c.N - 1; i >= 0; i-- {
			h := &c.Headers[i]
			if h.Off >= p.Walked {
				continue
			}
			switch h.Proto {
			case wire.Routing:
				if got[h.Off+2] == 2 {
					swapped(got[24:40], got[h.Off+8:])
					got[h.Off+3] = 1
					got[7]++
				}
			case wire.DestOpts:
				if o := wire.HomeAddress(got, h); o != 0 {
					swapped(got[8:24], got[o+2:])
				}
			}
		}
		if !bytes.Equal(got, raw) {
			t.Fatalf("%x\n%x", got, raw)
		}
	})
}
