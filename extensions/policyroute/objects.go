package policyroute

import (
	"maps"
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/buckets"
	"leveret/extensions/policyroute/fib"
	"leveret/extensions/policyroute/nexthop"
)

// resilient is the state of a resilient group.
type resilient struct {
	buckets *buckets.Group
	next    clock.Instant // when its buckets are to be looked at again
}

// objectsChanged makes the present nexthop objects what the packet path sees, and forgets what belonged to
// those that are gone. Routes that name one that is gone go with it.
func (m *Module) objectsChanged(now clock.Instant) {
	m.objectsTouched = true
	m.together(func() {
		for id := range m.objectUsers {
			if m.objects.Get(id) == nil {
				m.removeUsers(id)
			}
		}
		next := make(map[uint32]*paths, len(m.objects.All()))
		for _, o := range m.objects.All() {
			next[o.ID] = m.pathsOf(now, o)
		}
		m.store(func(v *view) { v.objects = next })
		m.countObjectGateways()
	})
}

// balanceChanged balances the groups whose members may be others, after packets know the members, so that
// they find those that buckets name.
func (m *Module) balanceChanged() {
	if !m.objectsTouched {
		return
	}
	m.objectsTouched = false
	now := m.host.Clock().Now()
	for id, r := range m.resilient {
		if o := m.objects.Get(id); o == nil || !o.Resilient {
			delete(m.resilient, id)
		} else {
			m.balance(now, o, r)
		}
	}
}

// pathsOf builds the ways that an object leads: over links that are up, by gateways that answer if some do.
func (m *Module) pathsOf(now clock.Instant, o *nexthop.Object) *paths {
	up, silent := m.alive(o)
	ways := make([]way, 0, len(up))
	for _, p := range up {
		w := way{weight: p.Weight, member: p.ID}
		h := module.Hop{Link: p.Hop.Link, Addr: p.Hop.Addr}
		if p.Blackhole {
			w.found = found{Route: routeBlackhole}
		} else {
			w.hop = m.hopTo(h)
		}
		if !o.Resilient {
			w.member = memberOf(h)
		}
		ways = append(ways, w)
	}
	p := newPaths(ways, nil)
	if o.Resilient {
		r := m.resilient[o.ID]
		if r == nil || r.buckets.Args() != o.Args {
			r = &resilient{buckets: buckets.New(o.Args)}
			m.resilient[o.ID] = r
			m.balance(now, o, r)
		}
		p = newPaths(ways, r.buckets)
	}
	p.silent = silent
	return p
}

// alive returns the paths of an object that packets can take. silent: all their gateways are known not to
// answer.
func (m *Module) alive(o *nexthop.Object) (up []nexthop.Path, silent bool) {
	up = slices.DeleteFunc(m.objects.Paths(o.ID), func(p nexthop.Path) bool { return !p.Blackhole && !m.usable(p.Hop.Link) })
	answer := slices.DeleteFunc(slices.Clone(up), func(p nexthop.Path) bool {
		return !p.OnLink() && m.silent[module.Hop{Link: p.Hop.Link, Addr: p.Hop.Addr}]
	})
	if len(answer) == 0 {
		return up, len(up) > 0
	}
	return answer, false
}

// balance gives the buckets of a group to its members that are alive.
func (m *Module) balance(now clock.Instant, o *nexthop.Object, r *resilient) {
	var members []nexthop.Member
	up, _ := m.alive(o)
	for _, p := range up {
		members = append(members, nexthop.Member{ID: p.ID, Weight: p.Weight})
	}
	r.next = r.buckets.Balance(members, now)
}

// tickObjects balances the groups whose time it is.
func (m *Module) tickObjects(now clock.Instant) {
	for id, r := range m.resilient {
		if r.next <= now {
			m.balance(now, m.objects.Get(id), r)
		}
	}
}

// countObjectGateways has the gateways of objects watched as those of routes are.
func (m *Module) countObjectGateways() {
	next := map[module.Hop]bool{}
	for _, o := range m.objects.All() {
		if o.Hop.Addr.IsValid() {
			next[module.Hop{Link: o.Hop.Link, Addr: o.Hop.Addr}] = true
		}
	}
	for h := range m.objectGateways {
		if !next[h] {
			m.countHop(h, -1)
		}
	}
	for h := range next {
		if !m.objectGateways[h] {
			m.countHop(h, 1)
		}
	}
	m.objectGateways = next
}

// noteUser keeps account of the routes that name an object.
func (m *Module) noteUser(table uint32, r *fib.Route, by int) {
	if r.NHID == 0 {
		return
	}
	users := m.objectUsers[r.NHID]
	if users == nil {
		users = map[prefixKey]int{}
		m.objectUsers[r.NHID] = users
	}
	k := prefixKey{table, r.Prefix}
	if users[k] += by; users[k] == 0 {
		delete(users, k)
	}
	if len(users) == 0 {
		delete(m.objectUsers, r.NHID)
	}
}

// removeUsers deletes the routes that name an object.
func (m *Module) removeUsers(id uint32) {
	for k := range maps.Clone(m.objectUsers[id]) {
		m.remove(k.table, k.prefix, func(r *fib.Route) bool { return r.NHID == id })
	}
}

// dropLinkObjects deletes the objects that lead over a link.
func (m *Module) dropLinkObjects(link int) {
	for _, o := range m.objects.All() {
		if len(o.Group) == 0 && !o.Blackhole && o.Hop.Link == link {
			m.deleteObject(o.ID) //nolint:errcheck // it is there
		}
	}
}

// deleteObject deletes an object and the groups that have nobody else.
func (m *Module) deleteObject(id uint32) error {
	gone, _, err := m.objects.Delete(id)
	for _, o := range gone {
		m.objectEvent(o, true)
	}
	return err
}

// hops returns the ways that a route of the list leads, one for each next hop: itself, or the paths of the
// object that it names.
func (m *Module) hops(r *fib.Route) []fib.Route {
	if r.NHID == 0 {
		return []fib.Route{*r}
	}
	var out []fib.Route
	for _, p := range m.objects.Paths(r.NHID) {
		x := *r
		x.Link, x.Via, x.Weight = p.Hop.Link, p.Hop.Addr, p.Weight
		if p.Blackhole {
			x.Type = fib.Blackhole
		}
		out = append(out, x)
	}
	return out
}

// checkHop checks the link and the gateway of an object as those of a route are, and finds the link of a
// gateway in a connected prefix.
func (m *Module) checkHop(via netip.Addr, link int) (int, error) {
	switch {
	case !via.IsValid():
		return link, nil
	case via.IsMulticast() || via.IsUnspecified() || !via.Is6() || via.Zone() != "":
		return 0, module.Refuse("Error: Invalid gateway address.")
	case link == 0 && via.IsLinkLocalUnicast():
		return 0, module.Refuse("Error: Gateway's device is unknown: a link-local gateway needs dev.")
	}
	a := via.As16()
	if link == 0 {
		e := m.view.Load().tables[slotMain].Lookup(&a)
		if e == nil || e.best.hop == nil || !e.best.hop.onLink {
			return 0, module.Refuse("No route to host")
		}
		link = e.best.hop.dev
	}
	if m.addrs.Lookup(&a, link) != nil {
		return 0, module.Refuse("Error: Gateway can not be a local address.")
	}
	return link, nil
}
