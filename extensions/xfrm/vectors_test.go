package xfrm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmtest"
)

// run does what words of "ip xfrm" say; it passes over others.
func (b *bench) run(commands ...string) {
	b.t.Helper()
	b.m.openIVs()
	for _, c := range commands {
		w := strings.Fields(strings.ReplaceAll(c, `"`, ""))
		if len(w) < 4 || w[0] != "ip" || w[1] != "xfrm" {
			continue
		}
		var err error
		if w[2] == "state" {
			var r *sad.Request
			if r, err = sad.Parse("add", w[4:], sad.Outside{}); err == nil {
				_, err = b.m.addState(b.now(), &r.State)
			}
		} else {
			var p *spd.Policy
			if p, err = b.m.addPolicy(b.now(), policyOf(b.t, w[4:])); err == nil && p.Index == 0 {
				b.t.Fatalf("%s: no index", c)
			}
		}
		if err != nil {
			b.t.Fatalf("%s: %v", c, err)
		}
	}
	b.m.changed(b.now())
}

// policyOf reads what the vectors have of a policy's words.
func policyOf(t testing.TB, words []string) (p spd.Policy) {
	t.Helper()
	var tm *spd.Template
	prefix := func(s string) netip.Prefix {
		if !strings.Contains(s, "/") {
			s += "/128"
		}
		pre, e := netip.ParsePrefix(s)
		if e != nil {
			t.Fatal(e)
		}
		return pre
	}
	for i := 0; i < len(words); i++ {
		if words[i] == "tmpl" {
			p.Templates = append(p.Templates, spd.Template{})
			tm = &p.Templates[len(p.Templates)-1]
			continue
		}
		w, v, ok := words[i], words[i+1], true
		i++
		n, _ := strconv.Atoi(v)
		switch {
		case w == "src" && tm != nil:
			tm.Src = prefix(v).Addr()
		case w == "dst" && tm != nil:
			tm.Dst = prefix(v).Addr()
		case w == "src":
			p.Selector.Src = prefix(v)
		case w == "dst":
			p.Selector.Dst = prefix(v)
		case w == "dir":
			p.Dir, ok = spd.ParseDir(v)
		case w == "ptype":
			p.Sub = v == "sub"
		case w == "action":
			p.Action = spd.Block
		case w == "priority":
			p.Priority = uint32(n)
		case w == "proto" && tm != nil:
			tm.Proto, ok = proto.Parse(v)
		case w == "proto":
			p.Selector.Proto = uint8(n)
		case w == "type":
			p.Selector.SPort, p.Selector.SPortMask = uint16(n), 0xffff
		case w == "mode":
			tm.Mode, ok = proto.ParseMode(v)
		case w == "level":
			tm.Level, ok = spd.ParseLevel(v)
		case w == "reqid":
			tm.ReqID = uint32(n)
		default:
			ok = false
		}
		if !ok {
			t.Fatalf("%s %s", w, v)
		}
	}
	return p
}

// owns gives the node addresses.
func (b *bench) owns(addrs ...netip.Addr) {
	var list []*module.Addr
	for _, a := range addrs {
		list = append(list, &module.Addr{Addr: a, PrefixLen: 64, Link: 1})
	}
	b.AddrSnap = module.NewAddrs(list, nil)
}

// upperPacket is what upper layers know of a packet: the addresses, and what is behind all headers.
func upperPacket(b []byte) []byte {
	var c wire.Chain
	c.Walk(b)
	off, next := c.Off, c.Proto
	for i := range c.N { // of a fragment and of Mobility Headers nothing is in front
		if h := c.Headers[i]; h.Proto == wire.MH {
			off, next = h.Off, wire.MH
		}
	}
	out := append(bytes.Clone(b[:40]), b[off:]...)
	out[6] = next
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

// joinedFragments is the packet that fragments are of; one that is none stays as it is.
func joinedFragments(t testing.TB, frags [][]byte) []byte {
	t.Helper()
	var whole []byte
	for _, f := range frags {
		var c wire.Chain
		c.Walk(f)
		if c.Fragment == 0 {
			if len(frags) != 1 {
				t.Fatalf("%d packets, not all fragments", len(frags))
			}
			return f
		}
		if whole == nil {
			whole = bytes.Clone(f[:c.Fragment])
			whole[namedAt(f, c.Fragment)] = f[c.Fragment]
		}
		whole = append(whole, f[c.Fragment+8:]...)
	}
	binary.BigEndian.PutUint16(whole[4:], uint16(len(whole)-40))
	return whole
}

// linuxIV makes the next packet of the only SA with an IV the one that Linux has made, at off.
func (b *bench) linuxIV(pkt []byte) {
	var c wire.Chain
	c.Walk(pkt)
	off := c.Off
	if c.Proto != wire.ESP {
		return
	}
	for _, s := range b.m.sad.List() {
		if s.Proto == proto.ESP {
			s.Live.Work.(*work).iv = binary.BigEndian.Uint64(pkt[off+8:]) - 1
		}
	}
}

// otherEnd is a node that the states of the commands are for. One that is away from home gets packets from another that is:
// the source of those is no home address when the Routing header's turn comes, so Linux has a wildcard state for them.
func otherEnd(t testing.TB, commands []string) *bench {
	b := newBench(t)
	b.run(commands...)
	for _, s := range b.m.sad.List() {
		b.owns(append(ownAddrs(b), s.DAddr)...)
		if s.Proto == proto.Route2 {
			b.run("ip xfrm state add src :: dst " + s.DAddr.String() + " proto route2 mode ro coa " + s.CoA.String() + " flag wildrecv")
		}
	}
	return b
}

// TestLinuxOutput: configured by the words that Linux was, the module makes the packets that Linux has made, octet for octet
// but for the flow label of tunnels, and AH's padding, which is of chance there, and ICV with it; the other end gets what
// went in, of Linux's packets and of ours.
func TestLinuxOutput(t *testing.T) {
	var all []struct {
		Case              string
		Commands, Packets []string
	}
	xfrmtest.Load(t, "testdata/linux_output.json", &all)
	if len(all) != 14 {
		t.Fatalf("%d cases", len(all))
	}
	for _, c := range all {
		t.Run(c.Case, func(t *testing.T) {
			to, back, from := otherEnd(t, c.Commands), otherEnd(t, c.Commands), newBench(t)
			from.run(c.Commands...)
			var packets [][]byte
			for _, p := range c.Packets {
				packets = append(packets, xfrmtest.Hex(t, p))
			}
			tunnel := strings.Contains(c.Case, "tunnel")
			if !tunnel {
				packets = [][]byte{joinedFragments(t, packets)}
			}
			var inner [][]byte
			for _, linux := range packets {
				q, v := opened(t, to, linux)
				if v != packet.Continue {
					t.Fatalf("Linux's packet: %s", v)
				}
				plain := q.Bytes()
				if !tunnel {
					plain = upperPacket(plain)
				}
				if !tunnel {
					plain[7] = linux[7] // a Routing header has taken one
				}
				inner = append(inner, bytes.Clone(plain))
				p := roomy(packet.New(plain))
				p.Out, p.Route = 1, &packet.Route{}
				if len(packets) > 1 {
					p.Upper = packet.Upper{Set: true, Proto: wire.ICMPv6, Head: [4]byte{128}}
				}
				from.linuxIV(linux)
				if v := from.m.transform(p); v != packet.Continue && v != packet.Forward || p.Protected != (len(c.Commands) > 1) {
					t.Fatalf("%s", v)
				}
				got := bytes.Clone(p.Bytes())
				q, v = opened(t, back, got)
				if again := q.Bytes(); v != packet.Continue || !bytes.Equal(again[len(again)-8:], plain[len(plain)-8:]) {
					t.Errorf("our packet: %s", v)
				}
				var ch wire.Chain
				for _, b := range [][]byte{got, linux} {
					ch.Walk(b)
					for i := range ch.N {
						if h := ch.Headers[i]; h.Proto == wire.AH {
							clear(b[h.Off+12 : h.Off+h.Len])
						}
					}
				}
				if tunnel {
					got[7] = 64
					for _, b := range [][]byte{got, linux} {
						b[1], b[2], b[3] = b[1]&0xf0, 0, 0
					}
				}
				if !bytes.Equal(got, linux) {
					t.Errorf("got  %x\nwant %x", got, linux)
				}
			}
			if len(inner) == 2 { // the whole is too long, and Linux's fragments are as long as we have them made
				p := roomy(packet.New(joinedFragments(t, inner)))
				p.Out, p.Route = 1, &packet.Route{}
				if v := from.m.transform(p); v != packet.Drop(packet.TooBig) || 48+(p.MTU-48)&^7 != len(inner[0]) {
					t.Errorf("%s, MTU %d, Linux's fragments of %d", v, p.MTU, len(inner[0]))
				}
			}
		})
	}
}

func ownAddrs(b *bench) (out []netip.Addr) {
	for _, a := range b.AddrSnap.All() {
		out = append(out, a.Addr)
	}
	return out
}

// TestMobileVectors: signaling and data of Mobile IPv6, protected and opened, octet for octet.
func TestMobileVectors(t *testing.T) {
	const (
		home, careOf, agent = "2001:db8:100::abcd", "2001:db8:200::1234", "2001:db8:100::1"
		cn, peer, peerCoA   = "2001:db8:300::c", "2001:db8:400::77", "2001:db8:500::88"
		key                 = " aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0fdeadbeef 128"
	)
	state := func(src, dst, rest string) string {
		return "ip xfrm state add src " + src + " dst " + dst + " proto " + rest
	}
	policy := func(src, dst, rest string) string {
		return "ip xfrm policy add src " + src + " dst " + dst + " dir out " + rest
	}
	commands := map[string][]string{
		"BU": {
			state(home, agent, "hao mode ro coa "+careOf), state(home, agent, "esp spi 0x3000 mode transport"+key),
			policy(home, agent, "ptype sub proto 135 type 5 tmpl proto hao mode ro level use"), policy(home, agent, "proto 135 tmpl proto esp mode transport"),
		},
		"BA": {
			state(agent, home, "route2 mode ro coa "+careOf), state(agent, home, "esp spi 0x3001 mode transport"+key),
			policy(agent, home, "ptype sub proto 135 type 6 tmpl proto route2 mode ro level use"), policy(agent, home, "proto 135 tmpl proto esp mode transport"),
		},
		"HoTI": {
			state(careOf, agent, "esp spi 0x3002 mode tunnel"+key),
			policy(home, cn, "proto 135 type 1 tmpl src "+careOf+" dst "+agent+" proto esp mode tunnel"),
		},
		"RO data MN->CN": {state(home, cn, "hao mode ro coa "+careOf), policy(home, cn, "ptype sub tmpl proto hao mode ro")},
		"RO data MN->MN": {
			state(home, peer, "hao mode ro coa "+careOf), state(home, peer, "route2 mode ro coa "+peerCoA),
			policy(home, peer, "ptype sub tmpl proto route2 mode ro tmpl proto hao mode ro"),
		},
	}
	var all []struct{ Name, IV, Plain, Protected string }
	xfrmtest.Load(t, "testdata/mip6_data.json", &all)
	if len(all) != len(commands) {
		t.Fatalf("%d cases", len(all))
	}
	for _, c := range all {
		for begin, words := range commands {
			if !strings.HasPrefix(c.Name, begin+" ") {
				continue
			}
			plain, protected := xfrmtest.Hex(t, c.Plain), xfrmtest.Hex(t, c.Protected)
			to := otherEnd(t, words)
			q, v := opened(t, to, protected)
			if v != packet.Continue {
				t.Fatalf("%s: %s", c.Name, v)
			}
			got := q.Bytes()
			if begin == "BU" || begin == "BA" { // plain is as it was on the wire
				got = onTheWire(got)
			} else if begin != "HoTI" {
				got = upperPacket(got)
				got[7] = plain[7]
			}
			if !bytes.Equal(got, plain) {
				t.Errorf("%s opened\ngot  %x\nwant %x", c.Name, got, plain)
			}
			// What upper layers send, and the same with its header built by who sends it.
			for _, sent := range [][]byte{plain, between(plain, map[string][2]string{"BU": {home, agent}, "BA": {agent, home}}[begin])} {
				from := newBench(t)
				from.run(words...)
				from.linuxIV(protected)
				p := roomy(packet.New(sent))
				p.Out, p.Route = 1, &packet.Route{}
				if v := from.m.transform(p); v != packet.Forward && (v != packet.Continue || &sent[0] != &plain[0]) {
					t.Fatalf("%s: %s", c.Name, v)
				}
				got := p.Bytes()
				if begin == "HoTI" {
					got[1], got[2], got[3], got[7] = got[1]&0xf0, 0, 0, 64
				}
				if !bytes.Equal(got, protected) {
					t.Errorf("%s protected\ngot  %x\nwant %x", c.Name, got, protected)
				}
			}
		}
	}
}

// between is a packet without headers in front of what upper layers have, between two addresses; none: those it has.
func between(b []byte, addrs [2]string) []byte {
	out := upperPacket(b)
	if addrs[0] != "" {
		copy(out[8:], addr(addrs[0]).AsSlice())
		copy(out[24:], addr(addrs[1]).AsSlice())
	}
	return out
}

// onTheWire is a packet as it was before its home addresses were put in place.
func onTheWire(b []byte) []byte {
	b = bytes.Clone(b)
	var c wire.Chain
	c.Walk(b)
	for i := range c.N {
		switch h := &c.Headers[i]; h.Proto {
		case wire.Routing:
			swapped(b[24:40], b[h.Off+8:])
			b[h.Off+3] = 1
			b[7]++
		case wire.DestOpts:
			if o := wire.HomeAddress(b, h); o != 0 {
				swapped(b[8:24], b[o+2:])
			}
		}
	}
	return b
}

func swapped(a, b []byte) {
	t := bytes.Clone(a[:16])
	copy(a, b[:16])
	copy(b, t)
}

func hostOf(b []byte) string { return netip.AddrFrom16([16]byte(b)).String() }
