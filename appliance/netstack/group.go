package netstack

import (
	"net/netip"

	"leveret/appliance/module"
)

// JoinGroup lets the socket receive what is sent to a group on a link (RFC 3493 5.2); 0 = the link
// the routes name for the group.
func (s *socket) JoinGroup(link int, group netip.Addr) error {
	z, err := s.group(link, group)
	if err != nil {
		return err
	}
	return s.changeGroups(z, true)
}

// LeaveGroup undoes [socket.JoinGroup].
func (s *socket) LeaveGroup(link int, group netip.Addr) error {
	z, err := s.group(link, group)
	if err != nil {
		return err
	}
	return s.changeGroups(z, false)
}

func (s *socket) group(link int, group netip.Addr) (zonedAddr, error) {
	link, err := s.h.linkFor(group, link)
	if err != nil {
		return zonedAddr{}, err
	}
	group = group.WithZone("")
	if !group.Is6() || !group.IsMulticast() {
		return zonedAddr{}, ErrInvalid
	}
	if link == 0 {
		q, err := s.h.findRoute(module.RouteQuery{Dst: group})
		if err != nil {
			return zonedAddr{}, err
		}
		link = q.Out
	}
	if s.h.links.Load().Index(link) == nil {
		return zonedAddr{}, ErrNoDevice
	}
	return zonedAddr{group, link}, nil
}

func (s *socket) changeGroups(z zonedAddr, join bool) error {
	s.groupMu.Lock()
	defer s.groupMu.Unlock()
	next := map[zonedAddr]bool{}
	if old := s.groups.Load(); old != nil {
		for k := range *old {
			next[k] = true
		}
	}
	if next[z] == join {
		if join {
			return ErrAddrInUse
		}
		return ErrAddrNotAvailable
	}
	if join {
		next[z] = true
	} else {
		delete(next, z)
	}
	s.groups.Store(&next)
	if g := s.h.opts.Groups; g != nil {
		if join {
			g.JoinGroup(z.link, z.addr)
		} else {
			g.LeaveGroup(z.link, z.addr)
		}
	}
	return nil
}

// leaveAll leaves every group, for closing.
func (s *socket) leaveAll() {
	if g := s.groups.Load(); g != nil {
		for z := range *g {
			_ = s.changeGroups(z, false) // it is joined
		}
	}
}
