package differential

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// packetOf makes a packet of a question.
func (q *question) packetOf() *packet.Packet {
	f := wire.IPv6Fields{NextHeader: wire.NoNext, HopLimit: 64, Src: q.src, Dst: q.dst, TrafficClass: q.dsField}
	var l4 []byte
	if q.proto != 0 {
		f.NextHeader = q.proto
		l4 = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, q.sport), q.dport)
		l4 = append(l4, make([]byte, 16)...)
	}
	f.PayloadLength = uint16(len(l4))
	p := packet.New(append(wire.AppendIPv6(nil, f), l4...))
	p.Mark, p.Proto, p.TransOff = q.mark, f.NextHeader, wire.IPv6HeaderLen
	p.In, p.Out = slices.Index(links, q.in)+1, slices.Index(links, q.out)+1
	return p
}

// TestPacketsGoWhereQuestionsSay: vectors of packets get the routes that questions get one by one, for
// any rules.
func TestPacketsGoWhereQuestionsSay(t *testing.T) {
	p := pool{rand.New(rand.NewPCG(7, 7))}
	routed := 0
	for n := range 5 {
		w := p.world(n)
		l := newLeveret(t, w)
		for range 100 {
			c := p.policy(w)
			l.configure(c)
			var qs []question
			var ps []*packet.Packet
			for len(qs) < 100 {
				q := p.question(w)
				if q.src.IsValid() && !w.has(q.dst) {
					qs, ps = append(qs, q), append(ps, q.packetOf())
				}
			}
			l.m.RouteBatch(ps)
			for i := range qs {
				q := &qs[i]
				want := l.m.Route(module.RouteQuery{
					Dst: q.dst, Src: q.src, In: slices.Index(links, q.in) + 1, Out: slices.Index(links, q.out) + 1, Mark: q.mark, DSField: q.dsField,
					Proto: max(q.proto, ps[i].Proto), SPort: q.sport, DPort: q.dport,
				})
				switch got := ps[i].Route; {
				case got != want.Route:
					t.Fatalf("%s: packet %+v, question %+v\n%s", q, got, want.Route, c.text(w))
				case got != nil && got.Type == packet.RouteUnicast:
					if routed++; ps[i].Out != want.Out || netip.AddrFrom16(ps[i].NextHop) != want.NextHop {
						t.Fatalf("%s: packet by %s over %d, question %+v", q, netip.AddrFrom16(ps[i].NextHop), ps[i].Out, want)
					}
				}
			}
		}
	}
	if routed < 10000 {
		t.Errorf("only %d packets had a route", routed)
	}
}
