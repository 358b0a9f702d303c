package replay

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"leveret/extensions/xfrm/xfrmtest"
)

// receive is what an SA does with the low half of the number of an authentic packet.
func receive(w *Window, low uint32) (uint64, Verdict) {
	seq, ok := w.Infer(low)
	if !ok {
		return 0, Left
	}
	if v := w.Check(seq); v != OK {
		return seq, v
	}
	return seq, w.Advance(seq)
}

// TestVectors: traces that Linux 6.1 judged the same.
func TestVectors(t *testing.T) {
	var vectors []struct {
		Window   int
		ESN      bool
		StartTop uint64 `json:"start_top"`
		Trace    [][3]any
	}
	xfrmtest.Load(t, "testdata/replay.json", &vectors)
	if len(vectors) != 3 {
		t.Fatalf("%d vectors", len(vectors))
	}
	reasons := map[string]Verdict{"replay": Duplicate, "left of window": Left, "zero-or-negative": Invalid}
	for i, v := range vectors {
		start := State{Size: v.Window, ESN: v.ESN, Top: v.StartTop, Seen: make([]uint64, (v.Window+63)/64)}
		start.Seen[0] = 1
		w, err := Restore(start)
		if err != nil {
			t.Fatal(err)
		}
		for j, step := range v.Trace {
			seq, got := receive(w, uint32(step[0].(float64)))
			if step[1] == "accept" {
				if got != OK || seq != uint64(step[2].(float64)) {
					t.Errorf("vector %d step %d %v: verdict %d, number %d", i, j, step, got, seq)
				}
			} else if want, known := reasons[step[2].(string)]; !known || got != want {
				t.Errorf("vector %d step %d %v: verdict %d", i, j, step, got)
			}
		}
	}
}

// model remembers every number ever accepted.
type model struct {
	size uint64
	top  uint64
	seen map[uint64]bool
}

func (m *model) check(seq uint64) Verdict {
	switch {
	case seq == 0:
		return Invalid
	case seq <= m.top && m.top-seq >= m.size:
		return Left
	case m.seen[seq]:
		return Duplicate
	}
	return OK
}

func (m *model) receive(seq uint64) Verdict {
	v := m.check(seq)
	if v == OK {
		m.seen[seq] = true
		m.top = max(m.top, seq)
	}
	return v
}

// TestAgainstModel sends numbers around the top, with losses, reordering, jumps and wraps of the low half,
// and hands the window over now and then.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, MaxSize), rapid.SampledFrom([]int{1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 4095, 4096})).Draw(t, "size")
		esn := rapid.Bool().Draw(t, "esn")
		limit := uint64(math.MaxUint32)
		start := rapid.SampledFrom([]uint64{0, 1, 40, 5000, math.MaxUint32 - 5000, math.MaxUint32 - 3}).Draw(t, "start")
		if esn {
			limit = math.MaxUint64
			start += rapid.SampledFrom([]uint64{0, 1, 7, math.MaxUint32 - 1}).Draw(t, "high") << 32
		}
		w, err := Restore(State{Size: size, ESN: esn, Top: start, Seen: make([]uint64, (size+63)/64)})
		if err != nil {
			t.Fatal(err)
		}
		m := &model{size: uint64(size), top: start, seen: map[uint64]bool{}}
		back := rapid.Uint64Range(0, uint64(size)+70)
		steps := rapid.IntRange(1, 300).Draw(t, "steps")
		for range steps {
			var seq uint64
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0, 1, 2, 3: // in order
				seq = add(m.top, 1, limit)
			case 4, 5, 6: // late or again
				seq = m.top - min(back.Draw(t, "back"), m.top)
			case 7: // losses
				seq = add(m.top, back.Draw(t, "ahead"), limit)
			case 8: // many losses, within what the low half can tell
				seq = add(m.top, rapid.Uint64Range(1, math.MaxUint32-uint64(size)).Draw(t, "far"), limit)
			case 9:
				if w, err = Restore(w.State()); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want := m.check(seq)
			// What the window can place it places right; left of it, the low half reads as the next subspace.
			got, ok := w.Infer(uint32(seq))
			if want != Left && want != Invalid && (!ok || got != seq) {
				t.Fatalf("Infer(%#x) = %#x %v, want %#x (top %#x, size %d)", uint32(seq), got, ok, seq, m.top, size)
			}
			if v := w.Check(seq); v != want {
				t.Fatalf("Check(%#x) = %d, want %d (top %#x, size %d)", seq, v, want, m.top, size)
			}
			if v := w.Advance(seq); v != m.receive(seq) || v != want {
				t.Fatalf("Advance(%#x) = %d, want %d (top %#x, size %d)", seq, v, want, m.top, size)
			}
			if w.Top() != m.top {
				t.Fatalf("top %#x, want %#x", w.Top(), m.top)
			}
		}
		for i := range uint64(size) + 130 {
			if seq := m.top - min(i, m.top); w.Check(seq) != m.check(seq) {
				t.Fatalf("at the end Check(%#x) = %d, want %d (top %#x, size %d)", seq, w.Check(seq), m.check(seq), m.top, size)
			}
		}
	})
}

func add(a, b, limit uint64) uint64 {
	if a > limit-b {
		return limit
	}
	return a + b
}

// TestInfer: RFC 4303 A2.2, case A and case B, and the ends of the number space.
func TestInfer(t *testing.T) {
	for _, c := range []struct {
		top  uint64
		low  uint32
		want uint64
		ok   bool
	}{
		{0, 1, 1, true},
		{0, 0, 0, true},
		{0, math.MaxUint32 - 62, 0, false}, // would be before the first
		{62, 0, 0, true},
		{63, 0, 0, true},
		{64, 0, 1 << 32, true},
		{7<<32 | 100, 37, 7<<32 | 37, true},
		{7<<32 | 100, 36, 8<<32 | 36, true},
		{7<<32 | 10, math.MaxUint32 - 52, 6<<32 | math.MaxUint32 - 52, true},
		{7<<32 | 10, math.MaxUint32 - 53, 7<<32 | math.MaxUint32 - 53, true},
		{math.MaxUint64 - 1, math.MaxUint32, math.MaxUint64, true},
		{math.MaxUint64 - 1, 5, 0, false}, // would be beyond the last
	} {
		w, err := Restore(State{Size: 64, ESN: true, Top: c.top, Seen: make([]uint64, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := w.Infer(c.low); ok != c.ok || ok && got != c.want {
			t.Errorf("top %#x: Infer(%#x) = %#x %v, want %#x %v", c.top, c.low, got, ok, c.want, c.ok)
		}
	}
}

// TestRecheck: two copies of a packet pass the first check, one gets through.
func TestRecheck(t *testing.T) {
	w, _ := New(32, false)
	for range 2 {
		if v := w.Check(5); v != OK {
			t.Fatalf("before any is verified: %d", v)
		}
	}
	if v := w.Advance(5); v != OK {
		t.Errorf("first copy: %d", v)
	}
	if v := w.Advance(5); v != Duplicate {
		t.Errorf("second copy: %d", v)
	}
	w.Advance(100)
	if v := w.Advance(6); v != Left {
		t.Errorf("overtaken: %d", v)
	}
}

// TestNoCheck: manual keying without a window takes all and keeps nothing.
func TestNoCheck(t *testing.T) {
	w, err := New(0, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{5, 5, 1, 0, math.MaxUint32} {
		if w.Check(seq) != OK || w.Advance(seq) != OK {
			t.Errorf("%d was refused", seq)
		}
	}
	if w.Top() != 0 {
		t.Errorf("top %d", w.Top())
	}
}

func TestRefused(t *testing.T) {
	for _, s := range []State{
		{Size: -1},
		{Size: MaxSize + 1, Seen: make([]uint64, 65)},
		{Size: 0, ESN: true},
		{Size: 32, Seen: make([]uint64, 2)},
		{Size: 32},
		{Size: 32, Top: 1 << 32, Seen: make([]uint64, 1)},
	} {
		if _, err := Restore(s); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	w, _ := New(32, false)
	if v := w.Check(1 << 32); v != Invalid {
		t.Errorf("33 bits without ESN: %d", v)
	}
}

func TestNoAllocation(t *testing.T) {
	w, _ := New(MaxSize, true)
	seq := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		seq += 3
		receive(w, seq)
		receive(w, seq-1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkReceive(b *testing.B) {
	w, _ := New(MaxSize, true)
	for i := range b.N {
		receive(w, uint32(i+1))
	}
}
