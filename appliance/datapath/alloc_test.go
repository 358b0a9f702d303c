package datapath

import (
	"fmt"
	"testing"
)

// refill lets the port receive the same frames again.
func (r *rig) refill(frames []memFrame) { r.a.in = frames }

// TestForwardingDoesNotAllocate: vectors of 1 and 32 packets, through validation, classification,
// routing, resolution and sending, with counters.
func TestForwardingDoesNotAllocate(t *testing.T) {
	for _, n := range []int{1, 32} {
		t.Run(fmt.Sprintf("vector of %d", n), func(t *testing.T) {
			r := newRig(t)
			r.b.keep = false
			frames := make([]memFrame, n)
			for i := range frames {
				frames[i].data = frame(macA, peerMAC, udp(hostA, hostB, pattern(64)))
			}
			w := r.path.workers[1]
			round := func() {
				r.refill(frames)
				if got, err := w.once(); got != n || err != nil {
					t.Fatalf("took %d packets, %v", got, err)
				}
			}
			for range 4 { // the worker's free list and lists grow to what they need
				round()
			}
			if a := testing.AllocsPerRun(100, round); a != 0 {
				t.Errorf("%v allocations a vector", a)
			}
			if r.b.sent < 104*n {
				t.Errorf("sent %d", r.b.sent)
			}
		})
	}
}

func BenchmarkForward(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(fmt.Sprintf("vector%d", n), func(b *testing.B) {
			r := newRig(b)
			r.b.keep = false
			frames := make([]memFrame, n)
			for i := range frames {
				frames[i].data = frame(macA, peerMAC, udp(hostA, hostB, pattern(16)))
			}
			w := r.path.workers[1]
			b.ReportAllocs()
			for i := 0; i < b.N; i += n {
				r.refill(frames)
				w.once()
			}
		})
	}
}

// TestEveryBufferComesHome: whatever becomes of a packet, its buffer returns to the worker.
func TestEveryBufferComesHome(t *testing.T) {
	r := newRig(t)
	w := r.path.workers[1]
	good := udp(hostA, hostB, pattern(64))
	for range 200 {
		r.fromA(good, good[:30], edit(good, 7, 1), udp(hostA, routerA, nil), echoRequest(hostA, routerA, pattern(2000)),
			udp(hostA, hostB, pattern(1600)), udp(hostA, routerT, nil))
		r.fromA(fragments(udp(hostA, routerA, pattern(3000)), 1, 1024)...)
	}
	if out := w.pool.Made() - w.pool.Free() - len(w.vector); out != 0 {
		t.Errorf("%d buffers are missing", out)
	}
	if w.pool.Made() > 2*VectorSize+16 {
		t.Errorf("the worker made %d buffers", w.pool.Made())
	}
}
