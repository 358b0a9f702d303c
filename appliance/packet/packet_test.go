package packet

import (
	"bytes"
	"testing"
)

func TestPushPullExtendTrim(t *testing.T) {
	p := New([]byte("payload"))
	copy(p.Push(4), "head")
	copy(p.Extend(4), "tail")
	if got := string(p.Bytes()); got != "headpayloadtail" {
		t.Fatalf("got %q", got)
	}
	p.Pull(4)
	p.Trim(7)
	if got := string(p.Bytes()); got != "payload" {
		t.Fatalf("got %q", got)
	}
	if cap(p.Bytes()) != len(p.Bytes()) {
		t.Error("Bytes must not lend the tailroom")
	}
}

func TestCloneIsIndependent(t *testing.T) {
	p := New([]byte("abc"))
	p.In, p.Mark, p.SrcMAC = 3, 7, [6]byte{2}
	c := p.Clone()
	p.Bytes()[0] = 'X'
	if !bytes.Equal(c.Bytes(), []byte("abc")) || c.In != 3 || c.Mark != 7 || c.SrcMAC[0] != 2 {
		t.Errorf("clone %q in %d mark %d", c.Bytes(), c.In, c.Mark)
	}
	copy(c.Push(Headroom), bytes.Repeat([]byte{1}, Headroom)) // all the headroom is there again
}

func TestPoolReusesAndResets(t *testing.T) {
	pl := NewPool(2000)
	p := pl.Get()
	p.Extend(10)
	p.In = 5
	p.Release()
	q := pl.Get()
	if q != p || q.Len() != 0 || q.In != 0 || pl.Made() != 1 {
		t.Errorf("same %v len %d in %d made %d", q == p, q.Len(), q.In, pl.Made())
	}
	if n := testing.AllocsPerRun(100, func() { pl.Get().Release() }); n != 0 {
		t.Errorf("%v allocations for a get and a release", n)
	}
	if len(q.Space()) != 2000 {
		t.Errorf("space %d", len(q.Space()))
	}
}

func TestEveryReasonHasItsOwnName(t *testing.T) {
	seen := map[string]Reason{}
	for r := range NumReasons {
		n := r.String()
		if n == "" {
			t.Errorf("reason %d has no name", r)
		}
		if o, dup := seen[n]; dup {
			t.Errorf("reasons %d and %d are both %q", o, r, n)
		}
		seen[n] = r
	}
}

func TestVerdict(t *testing.T) {
	if r, ok := Drop(NoRoute).Dropped(); !ok || r != NoRoute {
		t.Errorf("Drop(NoRoute) = %v %v", r, ok)
	}
	if _, ok := Continue.Dropped(); ok {
		t.Error("Continue drops")
	}
	if Drop(NoRoute).String() != "drop no_route" || Verdict(0).String() != "invalid" {
		t.Error("verdict words")
	}
}

// TestStatesGoWithThePacket: and with its copies, but not with its buffer.
func TestStatesGoWithThePacket(t *testing.T) {
	pl := NewPool(100)
	p := pl.Get()
	var sas [MaxStates + 1]int
	for i := range sas {
		if got := p.ComeThrough(&sas[i]); got != (i < MaxStates) {
			t.Errorf("state %d: %v", i, got)
		}
	}
	c := p.Clone()
	p.Own()
	if len(p.Came()) != 0 || len(c.Came()) != MaxStates || c.Came()[5] != any(&sas[5]) {
		t.Errorf("packet %d, copy %v", len(p.Came()), c.Came())
	}
	c.ComeThrough(nil)
	p.ComeThrough(&sas[0])
	if c.CopyTo(p); len(p.Came()) != MaxStates || p.Came()[0] != any(&sas[0]) {
		t.Errorf("copied over: %v", p.Came())
	}
	p.Release()
	if q := pl.Get(); q != p || len(q.Came()) != 0 || *q.came != (states{}) {
		t.Errorf("a new packet came through %v", q.Came())
	}
	if n := testing.AllocsPerRun(100, func() { q := pl.Get(); q.ComeThrough(&sas[0]); q.Release() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNotes: they are about one packet; what was noted stays with the buffer to be used again.
func TestNotes(t *testing.T) {
	note := new(int)
	p := NewBuffer(100)
	if n, valid := p.Notes(); n != nil || valid {
		t.Error("a new packet has notes")
	}
	for name, forget := range map[string]func(){"Reset": p.Reset, "Own": p.Own, "CopyTo": func() { New([]byte{1}).CopyTo(p) }} {
		p.Note(note)
		if n, valid := p.Notes(); n != any(note) || !valid {
			t.Errorf("before %s: %v %v", name, n, valid)
		}
		if n, valid := p.Clone().Notes(); n != nil || valid {
			t.Errorf("a copy has %v %v", n, valid)
		}
		forget()
		if n, valid := p.Notes(); n != any(note) || valid {
			t.Errorf("after %s: %v %v", name, n, valid)
		}
	}
}

// TestEmerge: of what carried a packet nothing is left but how often it was classified; a checksum inside it that is not
// complete stays so.
func TestEmerge(t *testing.T) {
	p := New([]byte("outer|inner|padding"))
	p.In, p.Out, p.Mark, p.L2, p.Passes, p.Nested, p.Whole, p.Answer.Type = 1, 2, 3, L2Multicast, 4, 5, true, 1
	p.GSO = GSO{Csum: CsumPartial, HdrLen: 14, CsumStart: 8, CsumOffset: 1}
	p.ComeThrough(t)
	p.Emerge(7, 6, 5)
	if string(p.Bytes()) != "inner" || p.GSO != (GSO{Csum: CsumPartial, HdrLen: 8, CsumStart: 2, CsumOffset: 1}) || len(p.Came()) != 0 {
		t.Errorf("%q %+v", p.Bytes(), p.GSO)
	}
	if p.In != 7 || p.Out != 0 || p.Mark != 0 || p.L2 != L2Unicast || p.Passes != 4 || p.Nested != 0 || p.Whole || p.Answer.Type != 0 {
		t.Errorf("%+v", p)
	}
	p.GSO = GSO{Csum: CsumPartial, CsumStart: 1}
	p.Emerge(8, 2, 3)
	if string(p.Bytes()) != "ner" || p.GSO != (GSO{}) {
		t.Errorf("a checksum of what is gone: %q %+v", p.Bytes(), p.GSO)
	}
	q := New([]byte("x"))
	q.Nested, q.In, q.Passes = 2, 1, 3
	if q.Own(); q.Nested != 2 || q.In != 0 || q.Passes != 0 {
		t.Errorf("its own: %+v", q)
	}
}
