package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

var (
	homeA  = netip.MustParseAddr("2001:db8:77::a") // of hostA, which is away
	homeUs = routerB                               // ours, for what comes to routerA
)

// homes is a hook that knows home addresses, and takes away headers of ESP as those of TestInputAgain are.
type homes struct {
	seen    []uint8
	verdict packet.Verdict // instead, if it is not 0
}

func (h *homes) hook(p *packet.Packet) packet.Verdict {
	if p.Proto == wire.UDP {
		return packet.Continue
	}
	h.seen = append(h.seen, p.Proto)
	if h.verdict != 0 {
		return h.verdict
	}
	b := p.Bytes()
	switch p.Proto {
	case wire.DestOpts:
		swap(b[8:24], b[p.TransOff+8:])
	case wire.Routing:
		swap(b[24:40], b[p.TransOff+8:])
		b[p.TransOff+3] = 0
		b[7]--
	case wire.ESP:
		next := b[p.TransOff]
		copy(b[8:], b[:p.TransOff])
		b[p.ProtoField+8] = next
		p.Pull(8)
		b = p.Bytes()
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return packet.Again
	}
	return packet.Local
}

func (h *homes) rig(t testing.TB) *rig {
	r := newRig(t)
	r.path.Hook(module.StageInput, "test", h.hook)
	return r
}

func homeOption(next uint8, home netip.Addr) []byte {
	return append([]byte{next, 2, 1, 2, 0, 0, 0xc9, 16}, home.AsSlice()...)
}

func type2(next uint8, home netip.Addr) []byte {
	return append([]byte{next, 2, 2, 1, 0, 0, 0, 0}, home.AsSlice()...)
}

// TestHomeAddresses: both headers have their effect once, in the order in which they stand, whatever is opened or put
// together behind them; upper layers have the home addresses.
func TestHomeAddresses(t *testing.T) {
	plain := udp(homeA, homeUs, pattern(100))
	part := func(off, n int, more byte) []byte { // a fragment of plain
		return append([]byte{wire.UDP, 0, byte(off >> 8), byte(off) | more, 0, 0, 0, 9}, plain[40+off:40+off+n]...)
	}
	esp := func(next uint8) []byte { return []byte{next, 0, 0, 0, 0, 0, 0, 0} }
	for _, c := range []struct {
		name string
		pkts [][]byte
		seen []uint8
	}{
		{"home address", [][]byte{ip6(hostA, homeUs, wire.DestOpts, homeOption(wire.UDP, homeA), plain[40:])}, []uint8{wire.DestOpts}},
		{"type 2", [][]byte{ip6(homeA, routerA, wire.Routing, type2(wire.UDP, homeUs), plain[40:])}, []uint8{wire.Routing}},
		{"both", [][]byte{ip6(hostA, routerA, wire.Routing, type2(wire.DestOpts, homeUs), homeOption(wire.UDP, homeA), plain[40:])}, []uint8{wire.Routing, wire.DestOpts}},
		{"opened behind them", [][]byte{ip6(hostA, routerA, wire.Routing, type2(wire.DestOpts, homeUs), homeOption(wire.ESP, homeA), esp(wire.ESP), esp(wire.UDP), plain[40:])},
			[]uint8{wire.Routing, wire.DestOpts, wire.ESP, wire.ESP}},
		{"put together behind them", [][]byte{
			ip6(hostA, routerA, wire.Routing, type2(wire.DestOpts, homeUs), homeOption(wire.Fragment, homeA), part(64, 44, 0)),
			ip6(hostA, routerA, wire.Routing, type2(wire.DestOpts, homeUs), homeOption(wire.Fragment, homeA), part(0, 64, 1)),
		}, []uint8{wire.Routing, wire.DestOpts, wire.Routing, wire.DestOpts}},
		{"an atomic fragment", [][]byte{ip6(hostA, homeUs, wire.DestOpts, homeOption(wire.Fragment, homeA), part(0, 108, 0))}, []uint8{wire.DestOpts}},
	} {
		h := &homes{}
		r := h.rig(t)
		r.fromA(c.pkts...)
		if len(r.host.got) != 1 || !bytes.Equal(h.seen, c.seen) {
			t.Errorf("%s: delivered %d, seen %v, drops %v", c.name, len(r.host.got), h.seen, r.drops())
			continue
		}
		p := r.host.got[0]
		b := p.Bytes()
		if !bytes.Equal(b[8:40], plain[8:40]) || !bytes.Equal(b[p.TransOff:], plain[40:]) || p.Proto != wire.UDP {
			t.Errorf("%s: % x", c.name, b)
		}
	}
}

// TestNobodyKnowsHomes: then the option is one that is not recognized, and the Routing header of a type that is not.
func TestNobodyKnowsHomes(t *testing.T) {
	hbh := append([]byte{wire.UDP, 2, 1, 2, 0, 0, 0xc9, 16}, homeA.AsSlice()...)
	for _, c := range []struct {
		name    string
		verdict packet.Verdict
		pkt     []byte
		drop    packet.Reason
		err     module.ICMPError
	}{
		{"option", packet.Continue, ip6(hostA, routerA, wire.DestOpts, homeOption(wire.UDP, homeA), pattern(8)), packet.OptionUnrecognized,
			module.ICMPError{Type: 4, Code: 2, Arg: 46}},
		{"type 2", packet.Continue, ip6(hostA, routerA, wire.Routing, type2(wire.UDP, homeUs), pattern(8)), packet.RoutingHeaderUnrecognized, module.ICMPError{Type: 4, Arg: 42}},
		{"hop by hop", 0, ip6(hostA, routerA, wire.HopByHop, hbh, pattern(8)), packet.OptionUnrecognized, module.ICMPError{Type: 4, Code: 2, Arg: 46}},
		{"refused", packet.Drop(packet.HomeAddressInvalid), ip6(hostA, routerA, wire.DestOpts, homeOption(wire.UDP, homeA), pattern(8)), packet.HomeAddressInvalid, module.ICMPError{}},
		{"refused type 2", packet.Drop(packet.RoutingHeaderType2), ip6(hostA, routerA, wire.Routing, type2(wire.UDP, homeUs), pattern(8)), packet.RoutingHeaderType2, module.ICMPError{}},
		{"hop limit", packet.Drop(packet.HopLimitExceeded), ip6(hostA, routerA, wire.Routing, type2(wire.UDP, homeUs), pattern(8)), packet.HopLimitExceeded, module.ICMPError{Type: 3}},
	} {
		h := &homes{verdict: c.verdict}
		r := h.rig(t)
		r.fromA(c.pkt)
		var err module.ICMPError
		for _, e := range r.a.took() {
			err = icmpOf(e)
		}
		if got := r.drops(); got[c.drop] != 1 || len(got) != 1 || err != c.err || len(r.host.got) != 0 {
			t.Errorf("%s: drops %v, error %+v, delivered %d", c.name, got, err, len(r.host.got))
		}
	}
}

// TestErrorsQuoteWhatCame: an error about a packet whose home addresses are in place goes to where it came from, and
// quotes it as it was on the wire (RFC 4443 2.4(c)).
func TestErrorsQuoteWhatCame(t *testing.T) {
	h := &homes{}
	r := h.rig(t)
	in := ip6(hostA, routerA, wire.Routing, type2(wire.DestOpts, homeUs), homeOption(200, homeA), pattern(30))
	r.fromA(in)
	got := r.a.took()
	if len(got) != 1 || !bytes.Equal(got[0][48:], in) || *dst(got[0]) != hostA.As16() || *src(got[0]) != routerA.As16() ||
		icmpOf(got[0]) != (module.ICMPError{Type: 4, Code: 1, Arg: 64}) {
		t.Errorf("%d errors, % x", len(got), got)
	}
	w := r.path.workers[1]
	if out := w.pool.Made() - w.pool.Free() - len(w.vector); out != 0 {
		t.Errorf("%d buffers are missing", out)
	}
}

// TestFragmentsBehindHomeAddresses: both headers are in each fragment (RFC 6275 6.3).
func TestFragmentsBehindHomeAddresses(t *testing.T) {
	opts := []byte{wire.UDP, 0, 1, 4, 0, 0, 0, 0}
	body := udp(routerA, hostB, pattern(3000))[40:]
	for _, c := range []struct {
		name  string
		pkt   []byte
		front int // octets in front of the Fragment header
	}{
		{"home address", ip6(routerA, hostB, wire.DestOpts, homeOption(wire.UDP, homeA), body), 64},
		{"type 2", ip6(routerA, hostB, wire.Routing, type2(wire.UDP, homeA), body), 64},
		{"both", ip6(routerA, hostB, wire.Routing, type2(wire.DestOpts, homeA), homeOption(wire.UDP, homeA), body), 88},
		{"both, and options", ip6(routerA, hostB, wire.Routing, type2(wire.DestOpts, homeA), homeOption(wire.DestOpts, homeA), opts, body), 88},
		{"options before", ip6(routerA, hostB, wire.DestOpts, edit(opts, 0, wire.DestOpts), homeOption(wire.UDP, homeA), body), 72},
		{"options alone", ip6(routerA, hostB, wire.DestOpts, opts, body), 40},
	} {
		r := newRig(t)
		r.send(c.pkt)
		var rest []byte
		front := edit(c.pkt[:c.front], 7, 64)
		for i, f := range r.b.took() {
			var ch wire.Chain
			ch.Walk(f)
			if ch.Fragment != c.front || ch.FragOffset != len(rest) || len(f) > 1500 {
				t.Fatalf("%s: fragment %d: header at %d, offset %d, %d octets", c.name, i, ch.Fragment, ch.FragOffset, len(f))
			}
			rest = append(rest, f[c.front+8:]...)
			field := namedAt(&ch, c.front)
			if f[field] = f[c.front]; !bytes.Equal(f[6:c.front], front[6:]) {
				t.Errorf("%s: fragment %d begins % x", c.name, i, f[:c.front])
			}
		}
		if !bytes.Equal(rest, c.pkt[c.front:]) {
			t.Errorf("%s: %d octets of %d, drops %v", c.name, len(rest), len(c.pkt)-c.front, r.drops())
		}
	}
}

// TestPathMTUOfHomes: a Packet Too Big about a packet between care-of addresses is believed if the flow between the home
// addresses is one of this node, and counts for the care-of address.
func TestPathMTUOfHomes(t *testing.T) {
	r := newRig(t)
	r.host.sent = false
	asked := [2][16]byte{}
	r.path.SetHost(sentFunc(func(from, to [16]byte) bool {
		asked = [2][16]byte{from, to}
		return to == homeA.As16() && from == homeUs.As16()
	}))
	quote := ip6(routerA, hostB, wire.Routing, type2(wire.DestOpts, homeA), homeOption(wire.UDP, homeUs), udp(homeUs, homeA, nil)[40:])
	r.fromA(ptb(quote, 1300))
	d := hostB.As16()
	if got := r.path.PathMTU().Lookup(&d, r.clock.Now()); got != 1300 {
		t.Errorf("path MTU %d, asked of %v, drops %v", got, asked, r.drops())
	}
	other := bytes.Clone(quote)
	copy(other[48:], hostA.AsSlice())
	r.fromA(ptb(other, 1290))
	if got := r.drops(); got[packet.ICMPQuoteInvalid] != 1 {
		t.Errorf("of another flow: %v", got)
	}
}

// sentFunc is a host stack that says which flows are its own.
type sentFunc func(from, to [16]byte) bool

func (f sentFunc) Deliver(*packet.Packet) bool                    { return true }
func (f sentFunc) Sent(_ uint8, src, dst [16]byte, _ []byte) bool { return f(src, dst) }

// FuzzAsReceived: whatever headers have had their effect, an error quotes the packet as it was.
func FuzzAsReceived(f *testing.F) {
	f.Add(ip6(hostA, routerA, wire.Routing, type2(wire.DestOpts, homeUs), homeOption(200, homeA), pattern(30)))
	f.Add(ip6(hostA, routerA, wire.DestOpts, homeOption(wire.Routing, homeA), type2(wire.ESP, homeUs), pattern(30)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 40 || len(b) > 1500 || b[0]>>4 != 6 {
			return
		}
		p := packet.New(b)
		var c wire.Chain
		c.Walk(b)
		q := p.Bytes()
		for i := range c.N {
			h := &c.Headers[i]
			switch {
			case h.Proto == wire.Routing && q[h.Off+2] == 2:
				if h.Len != 24 || q[h.Off+3] != 1 {
					return
				}
				swap(q[24:40], q[h.Off+8:])
				q[h.Off+3] = 0
				q[7]--
			case h.Proto == wire.DestOpts:
				if o := wire.HomeAddress(q, h); o != 0 && q[o+1] == 16 {
					swap(q[8:24], q[o+2:])
				} else if o != 0 {
					return
				}
			}
			p.Walked = h.Off + h.Len
		}
		if asReceived(p); !bytes.Equal(p.Bytes(), b) || p.Walked != 0 {
			t.Fatalf("%x\n%x", p.Bytes(), b)
		}
	})
}
