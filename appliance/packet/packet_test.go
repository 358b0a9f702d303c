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
