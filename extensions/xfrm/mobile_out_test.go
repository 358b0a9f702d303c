package xfrm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
)

// linuxOffset is where Linux puts a header into a packet as it is.
func linuxOffset(pkt []byte, p proto.Proto) int {
	at, next, routed := 40, pkt[6], false
	if p != proto.HAO && p != proto.Route2 {
		off, _, _ := insertAt(pkt)
		return off
	}
	for {
		switch next {
		case wire.HopByHop:
		case wire.Routing:
			if p == proto.Route2 && pkt[at+2] != 0 {
				return at
			}
			routed = true
		case wire.DestOpts:
			n := (int(pkt[at+1]) + 1) * 8
			if routed || wire.HomeAddress(pkt, &wire.Header{Off: at, Len: n}) != 0 {
				return at
			}
		default:
			return at
		}
		next, at = pkt[at], at+(int(pkt[at+1])+1)*8
	}
}

// TestPlaces: where headers go that are put in one by one, in any order, into packets with any headers: as looking at the
// packet each time says.
func TestPlaces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		body, next := bytes.Clone(datagram), uint8(wire.UDP)
		for range r.IntN(5) {
			var x []byte
			switch kind := r.IntN(5); kind {
			case 0:
				x = []byte{next, 0, byte(2 * r.IntN(3)), 0, 0, 0, 0, 0} // some Routing header
				next = wire.Routing
			case 1:
				x = []byte{next, 0, 0, 0, 0, 0, 0, 9}
				next = wire.Fragment
			default:
				x = []byte{next, 0, 1, 4, 0, 0, 0, 0}
				next = wire.DestOpts
			}
			body = append(x, body...)
		}
		if r.IntN(4) == 0 {
			body = append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, body...)
			next = wire.HopByHop
		}
		pkt := of(home, us, next, body)
		var b bundle
		var said []string
		for range 1 + r.IntN(5) {
			s := &sad.State{ID: sad.ID{Proto: []proto.Proto{proto.ESP, proto.AH, proto.HAO, proto.Route2}[r.IntN(4)]}, CoA: addr(away)}
			if s.Mode = proto.Transport; mobile(s.Proto) {
				s.Mode = proto.RO
			} else if s.Proto == proto.ESP && r.IntN(5) == 0 {
				s.Mode = proto.Tunnel
			}
			b.layers[b.n] = layer{state: s}
			b.n++
		}
		b.mobile = true
		b.once(pkt)
		ok := b.place(pkt)
		cur := pkt
		for i := range b.n {
			l := &b.layers[i]
			s := l.state
			_, fragment, _ := insertAt(cur)
			if !mobile(s.Proto) && s.Mode == proto.Transport && fragment {
				if ok {
					t.Fatalf("%s: %s of a fragment", headers(pkt), s.Proto)
				}
				break
			}
			want := linuxOffset(cur, s.Proto)
			if s.Mode == proto.Tunnel {
				want = 40
			}
			said = append(said, fmt.Sprintf("%s %s at %d, want %d", s.Mode, s.Proto, l.off, want))
			if ok && l.off != want {
				t.Fatalf("%s: %v", headers(pkt), said)
			}
			field := namedAt(cur, want)
			var x []byte
			switch s.Proto {
			case proto.HAO:
				x = option(cur[field], home)
			case proto.Route2:
				x = type2(cur[field], us)
			case proto.AH:
				x = append([]byte{cur[field], 4}, make([]byte, 22)...)
			default:
				x = make([]byte, 16)
			}
			if s.Mode == proto.Tunnel {
				cur = of(away, usAway, wire.ESP, x, cur)
				continue
			}
			cur = slices.Concat(cur[:want], x, cur[want:])
			cur[field] = uint8(s.Proto)
			binary.BigEndian.PutUint16(cur[4:], uint16(len(cur)-40))
		}
		if h, _ := carries(cur); h && b.n > 0 && strings.Count(headers(cur), "DestOpts") > 0 {
			n := 0
			var ch wire.Chain
			ch.Walk(cur)
			for i := range ch.N {
				if ch.Headers[i].Proto == wire.DestOpts && wire.HomeAddress(cur, &ch.Headers[i]) != 0 {
					n++
				}
			}
			if n != 1 {
				t.Fatalf("%d home addresses: %v", n, said)
			}
		}
	}
}

// TestMeasureMobile: each header is 24 octets of the path, exactly; the care-of address's path counts.
func TestMeasureMobile(t *testing.T) {
	for _, c := range []struct {
		sub, main string
		mtu       int
	}{
		{"hao", "", 1476}, {"route2", "", 1476}, {"route2 hao", "", 1452}, {"hao", "esp", 1442}, {"hao", "ah", 1444},
		{"route2 hao", "esp ah", 1386}, {"hao", "tunnel", 1402},
	} {
		for _, path := range []int{1500, 1400} {
			b := newBench(t)
			b.run(pairWords(c.sub, c.main, "out")...)
			to := us
			if strings.Contains(c.sub, "route2") || c.main == "tunnel" {
				to = usAway
			}
			b.MTUs[addr(to).As16()] = path
			most, told := 0, 0
			for n := 1280; n <= 1500; n++ {
				p := roomy(packet.New(of(home, us, wire.UDP, make([]byte, n-40))))
				p.NoFrag, p.Out, p.Route = true, 1, &packet.Route{}
				switch v := b.m.transform(p); {
				case v == packet.Forward:
					if most = n; p.Len() > path || p.NoFrag == (c.main == "tunnel") {
						t.Fatalf("%s + %s: %d octets became %d, whole %v", c.sub, c.main, n, p.Len(), p.NoFrag)
					}
				case v == packet.Drop(packet.TooBig) && (told == 0 || told == p.MTU):
					told = p.MTU
				default:
					t.Fatalf("%s + %s: %d octets: %s, MTU %d", c.sub, c.main, n, v, p.MTU)
				}
			}
			if want := c.mtu - (1500 - path); most != told || path == 1500 && most != want || most > want+3 || most < want-4 {
				t.Errorf("%s + %s, path %d: %d octets pass, told %d, want %d", c.sub, c.main, path, most, told, want)
			}
			// One that may be fragmented goes whole and is, unless a tunnel is around.
			p := roomy(packet.New(of(home, us, wire.UDP, make([]byte, 1460))))
			p.Out, p.Route = 1, &packet.Route{}
			if v := b.m.transform(p); v != packet.Forward {
				t.Errorf("%s + %s: %s", c.sub, c.main, v)
			}
		}
	}
}

// TestWithoutBinding: a template of level use without a state does not stop a packet, and asks for one once; required, it
// does.
func TestWithoutBinding(t *testing.T) {
	for _, c := range []struct {
		tmpl string
		want packet.Verdict
		told string
	}{
		{"tmpl proto hao mode ro level use", packet.Continue, "[acquire 0x0]"},
		{"tmpl proto route2 mode in_trigger level use", packet.Continue, "[acquire 0x0]"},
		{"tmpl proto hao mode ro", packet.Drop(packet.XfrmOutNoStates), "[acquire 0x0]"},
	} {
		b := newBench(t)
		b.run("ip xfrm policy add src " + home + "/128 dst " + us + "/128 dir out ptype sub " + c.tmpl)
		b.told()
		for i := range 3 {
			p := packet.New(of(home, us, wire.UDP, datagram))
			p.Out, p.Route = 1, &packet.Route{}
			if v := b.m.transform(p); v != c.want || !bytes.Equal(p.Bytes(), of(home, us, wire.UDP, datagram)) {
				t.Errorf("%s: %s", c.tmpl, v)
			}
			if len(b.Mailbox) > 0 {
				b.m.Receive(b.now(), <-b.Mailbox)
			}
			if got := fmt.Sprint(b.told()); (got == c.told) != (i == 0) {
				t.Errorf("%s, packet %d: %s", c.tmpl, i, got)
			}
		}
		s := b.m.states()[0]
		if s.KM != sad.Acq || s.Mode.String() != strings.Fields(c.tmpl)[4] || s.DAddr != addr(us) || s.SAddr != addr(home) {
			t.Errorf("%s: %+v", c.tmpl, s.ID)
		}
		if _, ok := b.m.Deadline(), b.m.view.Load().sad.Mobile(); ok {
			t.Errorf("%s: what is waited for is no binding", c.tmpl)
		}
	}
}
