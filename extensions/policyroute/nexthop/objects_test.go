package nexthop

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

func hopTo(id uint32) Object {
	return Object{ID: id, Hop: Hop{Link: 1, Addr: netip.MustParseAddr(fmt.Sprintf("fe80::%x", id))}}
}

func groupOf(id uint32, of ...uint32) Object {
	o := Object{ID: id}
	for _, m := range of {
		o.Group = append(o.Group, Member{m, 1})
	}
	return o
}

// TestRefusedObjects: what the kernel refuses, in its words.
func TestRefusedObjects(t *testing.T) {
	s := NewObjects()
	black, res := Object{ID: 3, Blackhole: true}, groupOf(11, 1)
	res.Resilient, res.Args = true, ResilientArgs{Buckets: 8}
	for _, o := range []Object{hopTo(1), hopTo(2), black, groupOf(10, 1, 2), groupOf(13, 3), res} {
		if err := s.Add(o); err != nil {
			t.Fatal(o.ID, err)
		}
	}
	turned := hopTo(2)
	turned.Hop, turned.Blackhole = Hop{}, true
	plain := groupOf(11, 1)
	for _, c := range []struct {
		name string
		do   func(Object) error
		o    Object
		want error
	}{
		{"there already", s.Add, hopTo(1), ErrObjectExists},
		{"unknown member", s.Add, groupOf(20, 1, 99), ErrMember},
		{"itself", s.Add, groupOf(20, 20), ErrMember},
		{"member twice", s.Add, groupOf(20, 1, 1), ErrMemberTwice},
		{"group in a group", s.Add, groupOf(20, 10), ErrNestedGroup},
		{"buckets in a group", s.Add, groupOf(20, 11), ErrNestedBuckets},
		{"blackhole among others", s.Add, groupOf(20, 1, 3), ErrBlackholeGroup},
		{"hop becomes group", s.Replace, groupOf(1, 2), ErrHopToGroup},
		{"group becomes hop", s.Replace, hopTo(10), ErrGroupToHop},
		{"another type", s.Replace, plain, ErrGroupType},
		{"member becomes blackhole", s.Replace, turned, ErrBlackholeGroup},
		{"replaced by itself", s.Replace, groupOf(10, 10), ErrNestedGroup},
		{"replaced", s.Replace, groupOf(10, 2), nil},
		{"replaced, new", s.Replace, hopTo(5), nil},
	} {
		if err := c.do(c.o); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if s.Get(20) != nil || s.Free() != 4 {
		t.Error("a refused object is there")
	}
}

// TestDeletedObjects leave their groups, and take those with them that have nobody else.
func TestDeletedObjects(t *testing.T) {
	s := NewObjects()
	for _, o := range []Object{hopTo(1), hopTo(2), groupOf(10, 1, 2), groupOf(11, 1)} {
		if err := s.Add(o); err != nil {
			t.Fatal(err)
		}
	}
	if p := s.Paths(10); len(p) != 2 || p[1].ID != 2 || p[1].Hop != hopTo(2).Hop || p[1].Weight != 1 || p[1].OnLink() {
		t.Errorf("paths of 10: %+v", p)
	}
	gone, changed, err := s.Delete(1)
	if err != nil || len(gone) != 2 || gone[1].ID != 11 || fmt.Sprint(changed) != "[10]" {
		t.Errorf("gone %v, changed %v, %v", gone, changed, err)
	}
	if p := s.Paths(10); len(p) != 1 || p[0].ID != 2 {
		t.Errorf("paths of 10: %+v", p)
	}
	if _, _, err := s.Delete(1); !errors.Is(err, ErrNoObject) {
		t.Error(err)
	}
	if got := len(s.All()); got != 2 || s.Paths(1) != nil {
		t.Errorf("%d left", got)
	}
}
