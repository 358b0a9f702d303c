package xfrm

import (
	"bytes"
	"sync"
	"testing"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
)

// TestAheadFindsWhatIsUsed: the policies and states that are fetched are those that packets then come to, with few of
// them and with many; otherwise it would all be for nothing.
func TestAheadFindsWhatIsUsed(t *testing.T) {
	for _, n := range [][2]int{{1, 1}, {200, 200}, {300, 3000}} {
		from, to := scaled(t, n[0], n[1])
		other := 0
		for i := range n[1] {
			p := clearPacket(100)
			dst := prefix(i).As16()
			copy(p.Bytes()[24:], dst[:])
			f, err := selector.Decode(p.Bytes(), 0)
			if err != nil {
				t.Fatal(err)
			}
			v := from.m.view.Load()
			var probe spd.Probe
			v.spd.Begin(&probe, spd.Out, &f)
			probe.Bucket()
			probe.Slots()
			probe.Entry()
			probe.Action()
			tmpl, _ := probe.Template()
			if _, pol := v.spd.Policies(spd.Out, &f, 0); tmpl == nil || tmpl != &pol.Templates[0] {
				t.Fatalf("%d policies, number %d: another template", n[1], i)
			}
			want, _ := v.sad.ForTemplate(&sad.Template{DAddr: tmpl.Dst, SAddr: tmpl.Src, Proto: tmpl.Proto, Mode: tmpl.Mode, ReqID: tmpl.ReqID}, &f)
			out := v.sad.BeginTemplate(tmpl.Dst, tmpl.Src, tmpl.ReqID)
			if liveOf(&out) != want.Live {
				other++
			}
			if v := from.m.transform(p); v != packet.Forward {
				t.Fatal(v)
			}
			in := to.m.view.Load().begin(p.Bytes())
			q := arrived(p.Bytes())
			if v := to.m.input(q); v != packet.Again {
				t.Fatalf("%d states, number %d: %s", n[0], i, v)
			}
			if liveOf(&in) != q.Came()[0].(*sad.State).Live {
				other++
			}
		}
		if other > n[1]/20 { // there may be a newer one in the same bucket
			t.Errorf("%d states: another %d times in %d", n[0], other, 2*n[1])
		}
	}
}

func liveOf(p *sad.Probe) *sad.Live {
	p.Bucket()
	p.State()
	p.Fields()
	return p.Live()
}

// TestAheadOnlyLooks: whatever comes, packets stay as they are, and nothing is allocated.
func TestAheadOnlyLooks(t *testing.T) {
	from, to := scaled(t, 200, 1000)
	var ps []*packet.Packet
	whole := clearPacket(100)
	from.m.transform(whole)
	for _, b := range [][]byte{whole.Bytes(), clearPacket(10).Bytes(), change(bytes.Clone(whole.Bytes()), func(b *[]byte) { (*b)[6] = wire.AH })} {
		for n := range len(b) {
			p := packet.New(b[:n])
			p.In = n % 2
			ps = append(ps, p)
		}
	}
	before := make([][]byte, len(ps))
	for i, p := range ps {
		before[i] = bytes.Clone(p.Bytes())
	}
	if n := testing.AllocsPerRun(10, func() {
		to.m.aheadOfInput(ps, 14)
		to.m.aheadOfInput(ps, 0)
		to.m.aheadOfTransform(ps, 0)
		from.m.aheadOfTransform(ps, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for i, p := range ps {
		if !bytes.Equal(p.Bytes(), before[i]) {
			t.Fatalf("packet %d has changed", i)
		}
	}
	New().aheadOfInput(ps, 0)
	New().aheadOfTransform(ps, 0)
}

// TestAheadBesideOthers: one worker looks ahead while another one uses the same SAs; for the race detector.
func TestAheadBesideOthers(t *testing.T) {
	from, to := scaled(t, 200, 1000)
	var ps []*packet.Packet
	for i := range 64 {
		p := clearPacket(100)
		dst := prefix(i).As16()
		copy(p.Bytes()[24:], dst[:])
		ps = append(ps, p)
	}
	var sealed []*packet.Packet
	for _, p := range ps {
		c := p.Clone()
		if v := from.m.transform(c); v != packet.Forward {
			t.Fatal(v)
		}
		sealed = append(sealed, c)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				from.m.aheadOfTransform(ps, 0)
				to.m.aheadOfInput(sealed, 0)
			}
		}
	})
	out := packet.NewBuffer(2000)
	for range 20 {
		for _, p := range ps {
			p.CopyTo(out)
			if v := from.m.transform(out); v != packet.Forward {
				t.Fatal(v)
			}
			if v := to.m.input(arrived(out.Bytes())); v != packet.Again {
				t.Fatal(v)
			}
		}
	}
	close(stop)
	wg.Wait()
}
