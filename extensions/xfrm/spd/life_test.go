package spd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
)

// firstUse is a [Usage].
type firstUse struct{ at clock.Instant }

func (u *firstUse) Note()                { u.at = t0 }
func (u *firstUse) First() clock.Instant { return u.at }

// TestLifetimes: a policy that ends, at each second something is told or at which nothing is used any more.
func TestLifetimes(t *testing.T) {
	for _, c := range []struct {
		life proto.Lifetime
		used int // second of the first use, 0 = never
		want string
	}{
		{proto.Lifetime{}, 0, ""},
		{proto.Lifetime{SoftAdd: 10, HardAdd: 20}, 0, "10 soft, 20 hard"},
		{proto.Lifetime{SoftAdd: 20, HardAdd: 10}, 0, "10 hard"},
		{proto.Lifetime{HardAdd: 1 << 62}, 0, ""},
		{proto.Lifetime{SoftUse: 5, HardUse: 10}, 0, ""},
		{proto.Lifetime{SoftUse: 5, HardUse: 10}, 3, "8 soft, 13 hard"},
		{proto.Lifetime{SoftAdd: 4, HardUse: 10}, 7, "4 soft, 17 hard"},
	} {
		u := &firstUse{}
		d := New([2]uint64{}, func() Usage { return u })
		mustAdd(t, d, Policy{Dir: Out, Lifetime: c.life})
		other := mustAdd(t, d, Policy{Dir: In, Lifetime: proto.Lifetime{SoftAdd: 1, HardAdd: 2}})
		if _, err := d.DeleteIndex(other.Index); err != nil {
			t.Fatal(err)
		}
		var told []string
		for sec := 1; sec < 40; sec++ {
			now := t0.Add(time.Duration(sec) * time.Second)
			if sec == c.used {
				u.at = now
			}
			if d.NextDeadline() > now {
				continue
			}
			for _, x := range d.Expire(now, nil) {
				told = append(told, fmt.Sprint(sec, map[bool]string{false: " soft", true: " hard"}[x.Hard]))
			}
		}
		if got := strings.Join(told, ", "); got != c.want {
			t.Errorf("%+v used at %d: %s, want %s", c.life, c.used, got, c.want)
		}
		f := flow("::1", "::2", 6, 1, 2)
		if gone := strings.HasSuffix(c.want, "hard"); gone != (d.Len() == 0) || gone != (d.Snapshot().Lookup(Out, false, &f, 0) == nil) {
			t.Errorf("%+v: %d are left", c.life, d.Len())
		}
	}
}

// TestUpdateIsNew: the time of a policy begins anew when it is replaced, and its soft limit is told again.
func TestUpdateIsNew(t *testing.T) {
	d := New([2]uint64{}, func() Usage { return &firstUse{} })
	p := Policy{Dir: Out, Lifetime: proto.Lifetime{SoftAdd: 1, HardAdd: 5}}
	mustAdd(t, d, p)
	if got := d.Expire(t0.Add(2*time.Second), nil); len(got) != 1 || got[0].Hard {
		t.Error(got)
	}
	if _, err := d.Update(t0.Add(4*time.Second), p); err != nil {
		t.Fatal(err)
	}
	if got := d.Expire(t0.Add(5*time.Second), nil); len(got) != 1 || got[0].Hard || got[0].Policy.Added != t0.Add(4*time.Second) {
		t.Error(got)
	}
	if got := d.Expire(t0.Add(9*time.Second), nil); len(got) != 1 || !got[0].Hard || d.NextDeadline() != clock.Never {
		t.Error(got)
	}
}
