package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// outOfTunnel is a rig whose link b takes superpackets, and to which all packets look as if they came out of a tunnel.
func outOfTunnel(t testing.TB) *rig {
	r := newRig(t)
	r.b.caps.TSO, r.b.caps.USO, r.b.caps.Checksum = true, true, true
	r.path.Attach(2, r.b)
	r.path.Hook(module.StageTransform, "test", func(p *packet.Packet) packet.Verdict {
		p.Tunneled = true
		return packet.Continue
	})
	return r
}

// segmentOf is one segment of a TCP flow, with a timestamp option.
func segmentOf(port uint16, seq uint32, data []byte) []byte {
	b := ip6(hostA, hostB, wire.TCP, make([]byte, 32), data)
	binary.BigEndian.PutUint16(b[40:], port)
	binary.BigEndian.PutUint32(b[44:], seq)
	b[52], b[53] = 8<<4, tcpACK
	copy(b[60:], []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2})
	setChecksum(b, 40, true)
	return b
}

// summed is a packet with octets changed and its checksum made right again.
func summed(b []byte, off int, octets ...byte) []byte {
	b = edit(b, off, octets...)
	setChecksum(b, 40, b[6] == wire.TCP)
	return b
}

// TestCoalesce: what is put together, and what is not.
func TestCoalesce(t *testing.T) {
	one, two := segmentOf(1, 1000, pattern(700)), segmentOf(1, 1700, pattern(700))
	dgram := udp(hostA, hostB, pattern(700))
	for _, c := range []struct {
		name string
		in   [][]byte
		want []int // segments of each packet that leaves
	}{
		{"two segments", [][]byte{one, two}, []int{2}},
		{"a short one is the last", [][]byte{one, segmentOf(1, 1700, pattern(10)), segmentOf(1, 1710, pattern(10))}, []int{2, 1}},
		{"a longer one", [][]byte{one, segmentOf(1, 1700, pattern(701))}, []int{1, 1}},
		{"not the next", [][]byte{one, segmentOf(1, 1701, pattern(700))}, []int{1, 1}},
		{"no data", [][]byte{one, segmentOf(1, 1700, nil), two}, []int{1, 1, 1}},
		{"PSH is the last", [][]byte{one, summed(two, 53, tcpACK|tcpPSH), segmentOf(1, 2400, pattern(700))}, []int{2, 1}},
		{"FIN", [][]byte{one, summed(two, 53, tcpACK|1)}, []int{1, 1}},
		{"another acknowledgment", [][]byte{one, summed(two, 51, 1)}, []int{1, 1}},
		{"another window", [][]byte{one, summed(two, 55, 1)}, []int{1, 1}},
		{"other options", [][]byte{one, summed(two, 71, 3)}, []int{1, 1}},
		{"urgent", [][]byte{one, summed(two, 59, 1)}, []int{1, 1}},
		{"another traffic class", [][]byte{one, edit(two, 1, 0x30)}, []int{1, 1}},
		{"another hop limit", [][]byte{one, edit(two, 7, 60)}, []int{1, 1}},
		{"another flow", [][]byte{one, segmentOf(2, 1700, pattern(700))}, []int{1, 1}},
		{"another flow between", [][]byte{one, segmentOf(2, 5, pattern(50)), two, segmentOf(2, 55, pattern(50))}, []int{2, 2}},
		{"wrong checksum", [][]byte{one, edit(two, 100, 0xff, 0xfe)}, []int{1, 1}},
		{"wrong checksum first", [][]byte{edit(one, 100, 0xff, 0xfe), two}, []int{1, 1}},
		{"datagrams", [][]byte{dgram, dgram, udp(hostA, hostB, pattern(1)), dgram}, []int{3, 1}},
		{"datagram without checksum", [][]byte{dgram, edit(dgram, 46, 0, 0)}, []int{1, 1}},
		{"empty datagrams", [][]byte{udp(hostA, hostB, nil), udp(hostA, hostB, nil)}, []int{1, 1}},
		{"datagram with something behind it", [][]byte{dgram, ip6(hostA, hostB, wire.UDP, dgram[40:], []byte{1})}, []int{1, 1}},
		{"extension headers", [][]byte{ip6(hostA, hostB, wire.DestOpts, []byte{wire.TCP, 0, 1, 4, 0, 0, 0, 0}, one[40:]), two}, []int{1, 1}},
	} {
		r := outOfTunnel(t)
		r.fromA(c.in...)
		var got []int
		for _, f := range r.b.out {
			got = append(got, segmentsOf(f))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v, drops %v", c.name, got, c.want, r.drops())
		}
		if s := r.path.Stats(); int(s.Get(PacketsCoalesced)) != len(c.in)-len(c.want) {
			t.Errorf("%s: counted %d", c.name, s.Get(PacketsCoalesced))
		}
	}
}

func segmentsOf(f memFrame) int {
	if f.gso.Type == packet.GSONone {
		return 1
	}
	return (len(f.data) - 14 - f.gso.HdrLen + f.gso.Size - 1) / f.gso.Size
}

// TestCoalescedIsWhatWentIn: whoever splits what was put together has the packets that went in, those of each flow in
// their order.
func TestCoalescedIsWhatWentIn(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	merged := uint64(0)
	for range 200 {
		var in [][]byte
		seq := map[uint16]uint32{}
		for range 150 {
			port := uint16(rnd.IntN(3))
			n := []int{1200, 1200, 1200, 1200, 0, 1, 600}[rnd.IntN(7)]
			b := udp(hostA, hostB, pattern(n))
			if port > 0 {
				b = segmentOf(port, seq[port], pattern(n))
				seq[port] += uint32(n + rnd.IntN(20)/19)
				if rnd.IntN(10) == 0 {
					b = summed(b, 53, tcpACK|tcpPSH)
				}
			}
			in = append(in, b)
		}
		r := outOfTunnel(t)
		r.fromA(in...)
		merged += r.path.Stats().Get(PacketsCoalesced)
		split := newRig(t)
		for _, f := range r.b.out {
			copy(f.data, macA[:])
			split.a.in = append(split.a.in, f)
		}
		split.run()
		got, want := map[string][][]byte{}, map[string][][]byte{}
		flow := func(b []byte) string { return fmt.Sprintf("%d %x", b[6], b[40:42]) }
		for _, b := range split.b.took() {
			got[flow(b)] = append(got[flow(b)], b)
		}
		for _, b := range in {
			want[flow(b)] = append(want[flow(b)], edit(b, 7, 62))
		}
		for f, list := range want {
			if !slices.EqualFunc(got[f], list, bytes.Equal) {
				t.Fatalf("flow %s: %d packets, want %d", f, len(got[f]), len(list))
			}
		}
	}
	if merged < 200*20 {
		t.Errorf("%d packets were put together, of %d", merged, 200*150)
	}
}

// TestWhatAPortGaveIsLeftAsItWas: only what comes out of tunnels is put together, and only for a port that takes it.
func TestWhatAPortGaveIsLeftAsItWas(t *testing.T) {
	r := outOfTunnel(t)
	r.path.hooks[module.StageTransform] = nil
	r.fromA(segmentOf(1, 0, pattern(100)), segmentOf(1, 100, pattern(100)))
	if got := r.b.took(); len(got) != 2 {
		t.Errorf("%d packets", len(got))
	}
	r.link(1, func(l *module.Link) { l.IfID = 7 }) // a link that is a tunnel itself
	r.fromA(segmentOf(1, 200, pattern(100)), segmentOf(1, 300, pattern(100)))
	if got := r.b.took(); len(got) != 1 {
		t.Errorf("from a link of kind ipsec: %d packets", len(got))
	}
	r = outOfTunnel(t)
	r.b.caps.TSO = false
	r.path.Attach(2, r.b)
	r.fromA(segmentOf(1, 0, pattern(100)), segmentOf(1, 100, pattern(100)))
	if got := r.b.took(); len(got) != 2 {
		t.Errorf("%d packets", len(got))
	}
}

// TestCoalesceBounds: neither more octets than a packet has nor more datagrams than a kernel takes, and no buffer is
// lost.
func TestCoalesceBounds(t *testing.T) {
	r := outOfTunnel(t)
	for i := range 100 {
		r.a.in = append(r.a.in, memFrame{data: frame(macA, peerMAC, segmentOf(1, uint32(i*1400), pattern(1400)))})
	}
	for range 200 {
		r.a.in = append(r.a.in, memFrame{data: frame(macA, peerMAC, udp(hostA, hostB, pattern(10)))})
	}
	r.run()
	total := 0
	for _, f := range r.b.out {
		if n := segmentsOf(f); n > maxSegments || len(f.data)-14 > wire.IPv6HeaderLen+65535 {
			t.Errorf("%d segments in %d octets", n, len(f.data))
		}
		total += segmentsOf(f)
	}
	if total != 300 || len(r.b.out) > 12 {
		t.Errorf("%d segments in %d packets", total, len(r.b.out))
	}
	w := r.path.workers[1]
	if out := w.pool.Made() - w.pool.Free() - len(w.vector); out != 0 {
		t.Errorf("%d buffers are missing", out)
	}
}

// TestCoalescingDoesNotAllocate.
func TestCoalescingDoesNotAllocate(t *testing.T) {
	r := outOfTunnel(t)
	r.b.keep = false
	var frames []memFrame
	for i := range 32 {
		frames = append(frames, memFrame{data: frame(macA, peerMAC, segmentOf(1, uint32(i*700), pattern(700)))})
	}
	w := r.path.workers[1]
	round := func() {
		r.refill(frames)
		if got, err := w.once(); got != 32 || err != nil {
			t.Fatalf("took %d packets, %v", got, err)
		}
	}
	for range 4 {
		round()
	}
	if a := testing.AllocsPerRun(100, round); a != 0 || r.b.sent != 105 {
		t.Errorf("%v allocations a vector, %d sent", a, r.b.sent)
	}
}

// TestPiecesOfAVectorOfSuperpackets: they do not wait for each other in thousands of buffers.
func TestPiecesOfAVectorOfSuperpackets(t *testing.T) {
	h := &wrapIn{}
	r := h.rig(t)
	tcp := ip6(hostA, hostB, wire.TCP, make([]byte, 20), pattern(50000))
	tcp[52] = 5 << 4
	for range VectorSize {
		r.a.in = append(r.a.in, memFrame{frame(macA, peerMAC, tcp), packet.GSO{Type: packet.GSOTCP6, Csum: packet.CsumPartial, Size: 1000, HdrLen: 60, CsumStart: 40, CsumOffset: 16}})
	}
	r.run()
	if got := r.a.took(); len(got) != 50*VectorSize {
		t.Errorf("%d packets, drops %v", len(got), r.drops())
	}
	if n := r.path.workers[1].pool.Made(); n > 5*VectorSize {
		t.Errorf("the worker made %d buffers", n)
	}
}
