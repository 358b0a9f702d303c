package nexthop

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Hop is a way out: a link, and the gateway there.
type Hop struct {
	Link int
	Addr netip.Addr // the zero Addr: the destination is on the link
}

// ResilientArgs are a group's parameters, in iproute2's words. Values are compared.
type ResilientArgs struct {
	Buckets         int           // 1 to 65535
	IdleTimer       time.Duration // a bucket that no packet used for so long may move
	UnbalancedTimer time.Duration // after so long out of balance any bucket may move; 0 = never
}

// Member is one next hop of a group. Values are compared.
type Member struct {
	ID     uint32
	Weight uint16 // 1 to 256
}

// Object is a next hop, or a group of them, that routes name by number ("nhid"): it is changed once for
// all of them. Do not change one that is in [Objects].
type Object struct {
	ID        uint32
	Hop       Hop
	Blackhole bool
	Group     []Member // not empty: it is a group, and the fields above are zero
	Resilient bool     // a group that shares by buckets, as Args say; otherwise by hash-threshold
	Args      ResilientArgs
	Protocol  string
}

// Equal reports whether two objects are the same in everything.
func (o *Object) Equal(x *Object) bool {
	return o.ID == x.ID && o.Hop == x.Hop && o.Blackhole == x.Blackhole && slices.Equal(o.Group, x.Group) &&
		o.Resilient == x.Resilient && o.Args == x.Args && o.Protocol == x.Protocol
}

// The refusals, in the kernel's words.
var (
	ErrObjectExists   = errors.New("File exists")
	ErrNoObject       = errors.New("No such file or directory")
	ErrMember         = errors.New("Error: Invalid nexthop id.")
	ErrMemberTwice    = errors.New("Error: Nexthop id can not be used twice in a group.")
	ErrNestedGroup    = errors.New("Error: Hash-threshold group can not be a nexthop within a group.")
	ErrNestedBuckets  = errors.New("Error: Resilient group can not be a nexthop within a group.")
	ErrBlackholeGroup = errors.New("Error: Blackhole nexthop can not be used in a group with more than 1 path.")
	ErrHopToGroup     = errors.New("Error: Can not replace a nexthop with a nexthop group.")
	ErrGroupToHop     = errors.New("Error: Can not replace a nexthop group with a nexthop.")
	ErrGroupType      = errors.New("Error: Can not replace a nexthop group with one of a different type.")
)

// Objects are the next hops with a number. One goroutine owns it.
type Objects struct{ byID map[uint32]*Object }

// NewObjects returns none.
func NewObjects() *Objects { return &Objects{byID: map[uint32]*Object{}} }

// Get returns the object of that number, or nil.
func (s *Objects) Get(id uint32) *Object { return s.byID[id] }

// All returns the objects by number.
func (s *Objects) All() []*Object {
	return slices.SortedFunc(maps.Values(s.byID), func(a, b *Object) int { return cmp.Compare(a.ID, b.ID) })
}

// Free returns the least number that no object has.
func (s *Objects) Free() uint32 {
	id := uint32(1)
	for s.byID[id] != nil {
		id++
	}
	return id
}

// Add adds an object.
func (s *Objects) Add(o Object) error {
	if s.byID[o.ID] != nil {
		return ErrObjectExists
	}
	if err := s.check(&o); err != nil {
		return err
	}
	s.byID[o.ID] = &o
	return nil
}

// Replace puts an object in the place of the one with its number, or adds it. A next hop does not become
// a group, nor a group another kind of one.
func (s *Objects) Replace(o Object) error {
	old := s.byID[o.ID]
	switch {
	case old == nil:
		return s.Add(o)
	case len(old.Group) == 0 && len(o.Group) > 0:
		return ErrHopToGroup
	case len(old.Group) > 0 && len(o.Group) == 0:
		return ErrGroupToHop
	case old.Resilient != o.Resilient:
		return ErrGroupType
	}
	if o.Blackhole {
		for _, g := range s.groupsOf(o.ID) {
			if len(g.Group) > 1 {
				return ErrBlackholeGroup
			}
		}
	}
	if err := s.check(&o); err != nil {
		return err
	}
	s.byID[o.ID] = &o
	return nil
}

// check reports what is wrong with a group's members.
func (s *Objects) check(o *Object) error {
	for i, m := range o.Group {
		x := s.byID[m.ID]
		switch {
		case x == nil:
			return ErrMember
		case x.Resilient:
			return ErrNestedBuckets
		case len(x.Group) > 0:
			return ErrNestedGroup
		case x.Blackhole && len(o.Group) > 1:
			return ErrBlackholeGroup
		case slices.ContainsFunc(o.Group[:i], func(y Member) bool { return y.ID == m.ID }):
			return ErrMemberTwice
		}
	}
	return nil
}

// Delete deletes an object and takes it out of groups; a group without members is deleted with it. It
// returns what is deleted, and the groups that are left with other members.
func (s *Objects) Delete(id uint32) (gone []*Object, changed []uint32, err error) {
	o := s.byID[id]
	if o == nil {
		return nil, nil, ErrNoObject
	}
	delete(s.byID, id)
	gone = []*Object{o}
	for _, g := range s.groupsOf(id) {
		next := *g
		next.Group = slices.DeleteFunc(slices.Clone(g.Group), func(m Member) bool { return m.ID == id })
		if len(next.Group) == 0 {
			delete(s.byID, g.ID)
			gone = append(gone, g)
			continue
		}
		s.byID[g.ID] = &next
		changed = append(changed, g.ID)
	}
	return gone, changed, nil
}

// groupsOf returns the groups that an object is a member of, by number.
func (s *Objects) groupsOf(id uint32) (groups []*Object) {
	for _, g := range s.All() {
		if slices.ContainsFunc(g.Group, func(m Member) bool { return m.ID == id }) {
			groups = append(groups, g)
		}
	}
	return groups
}

// Path is one way that an object leads.
type Path struct {
	ID        uint32 // of the next hop
	Hop       Hop
	Blackhole bool
	Weight    uint16 // 0 = it is no member of a group
}

// Paths returns the ways that an object leads: those of its members, or its own; none if there is no
// such object.
func (s *Objects) Paths(id uint32) []Path {
	o := s.byID[id]
	if o == nil {
		return nil
	}
	if len(o.Group) == 0 {
		return []Path{{ID: id, Hop: o.Hop, Blackhole: o.Blackhole}}
	}
	paths := make([]Path, 0, len(o.Group))
	for _, m := range o.Group {
		x := s.byID[m.ID]
		paths = append(paths, Path{m.ID, x.Hop, x.Blackhole, m.Weight})
	}
	return paths
}

// OnLink reports whether a path's destinations are neighbors themselves.
func (p *Path) OnLink() bool { return p.Hop.Addr == netip.Addr{} }
