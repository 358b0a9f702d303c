// Package halist is the Home Agents List of a link (RFC 6275 10.1, 10.5.1, RFC 3963 7): which home agents there are, from
// their Router Advertisements, and in which order a mobile node that asks is told of them; and the asking itself
// (11.4.1). It is pure.
//
// The list is bounded: an agent that finds it full is refused, so that whoever floods the link with
// advertisements does not displace agents that are known.
package halist

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// The bounds, for one link.
const (
	MaxAgents    = 64
	MaxAddresses = 8 // of one agent
)

// Advertisement is what a Router Advertisement says of a home agent.
type Advertisement struct {
	From         netip.Addr    // its link-local address
	HomeAgent    bool          // the H flag
	Preference   uint16        // of the Home Agent Information option; 0 without
	Lifetime     time.Duration // of that option, or else that of the router
	MobileRouter bool          // the R flag of that option (RFC 3963 7.3)
	Addresses    []Address     // of Prefix Information options with the R flag (RFC 6275 7.2)
}

// Address is a global address of a home agent.
type Address struct {
	Addr  netip.Addr
	Valid time.Duration // of its prefix; wire.Infinite = for ever
}

type address struct {
	addr  netip.Addr
	until clock.Instant
}

type agent struct {
	from       netip.Addr // not valid = this node
	preference uint16
	router     bool
	until      clock.Instant
	addrs      []address
}

// List is the Home Agents List of one link. One goroutine owns it.
type List struct {
	own     *agent // nil = this node is none
	agents  []*agent
	intn    func(n int) int
	refused uint64
}

// New returns an empty list. intn gives random numbers from 0 up to n.
func New(intn func(n int) int) *List { return &List{intn: intn} }

// SetOwn makes this node a home agent of the link by its global addresses there; without any it is none.
func (l *List) SetOwn(preference uint16, router bool, addrs []netip.Addr) {
	l.own = nil
	if len(addrs) == 0 {
		return
	}
	l.own = &agent{preference: preference, router: router, until: clock.Never}
	for _, a := range addrs {
		l.own.addrs = append(l.own.addrs, address{a, clock.Never})
	}
}

func until(now clock.Instant, d time.Duration) clock.Instant {
	if d == wire.Infinite {
		return clock.Never
	}
	return now.Add(d)
}

// Advertised takes in a valid Router Advertisement of the link (RFC 6275 10.5.1).
func (l *List) Advertised(now clock.Instant, ra Advertisement) {
	l.Tick(now)
	i := slices.IndexFunc(l.agents, func(a *agent) bool { return a.from == ra.From })
	if !ra.HomeAgent || ra.Lifetime <= 0 {
		if i >= 0 {
			l.agents = slices.Delete(l.agents, i, i+1)
		}
		return
	}
	if i < 0 {
		if len(l.agents) >= MaxAgents {
			l.refused++
			return
		}
		i = len(l.agents)
		l.agents = append(l.agents, &agent{from: ra.From})
	}
	a := l.agents[i]
	a.preference, a.router, a.until = ra.Preference, ra.MobileRouter, until(now, ra.Lifetime)
	for _, x := range ra.Addresses {
		l.address(now, a, x)
	}
}

func (l *List) address(now clock.Instant, a *agent, x Address) {
	i := slices.IndexFunc(a.addrs, func(y address) bool { return y.addr == x.Addr })
	switch {
	case x.Valid <= 0 && i >= 0:
		a.addrs = slices.Delete(a.addrs, i, i+1)
	case x.Valid <= 0 || !wire.Routable(x.Addr):
	case i >= 0:
		a.addrs[i].until = until(now, x.Valid)
	case len(a.addrs) >= MaxAddresses:
		l.refused++
	default:
		a.addrs = append(a.addrs, address{x.Addr, until(now, x.Valid)})
	}
}

// Deadline returns when [List.Tick] has something to do.
func (l *List) Deadline() clock.Instant {
	at := clock.Never
	for _, a := range l.agents {
		at = clock.Earliest(at, a.until)
		for _, x := range a.addrs {
			at = clock.Earliest(at, x.until)
		}
	}
	return at
}

// Tick removes what is over: agents, and addresses whose prefix is not valid any more (RFC 6275 10.1).
func (l *List) Tick(now clock.Instant) {
	l.agents = slices.DeleteFunc(l.agents, func(a *agent) bool { return a.until <= now })
	for _, a := range l.agents {
		a.addrs = slices.DeleteFunc(a.addrs, func(x address) bool { return x.until <= now })
	}
}

// Flush forgets all agents but this node: the link may be another one.
func (l *List) Flush() { l.agents = nil }

// Refused returns how many agents and addresses found no room.
func (l *List) Refused() uint64 { return l.refused }

// Agent is what is shown of one.
type Agent struct {
	LinkLocal    netip.Addr // not valid = this node
	Preference   uint16
	MobileRouter bool
	Until        clock.Instant // Never = this node
	Addresses    []netip.Addr
}

// List returns the agents, the most preferable first, this node before others alike.
func (l *List) List() (list []Agent) {
	for _, a := range l.all() {
		x := Agent{LinkLocal: a.from, Preference: a.preference, MobileRouter: a.router, Until: a.until}
		for _, y := range a.addrs {
			x.Addresses = append(x.Addresses, y.addr)
		}
		list = append(list, x)
	}
	slices.SortStableFunc(list, func(a, b Agent) int { return cmp.Compare(b.Preference, a.Preference) })
	return list
}

func (l *List) all() []*agent {
	if l.own == nil {
		return slices.Clone(l.agents)
	}
	return append([]*agent{l.own}, l.agents...)
}

// Reply returns the addresses of a Discovery Reply (RFC 6275 10.5.1), as many as it can have: those of preferable
// agents first, agents alike and the addresses of one in another order each time. A mobile router is told of
// agents that serve those; if there is none, of all, and forRouters is false then (RFC 3963 7.2).
func (l *List) Reply(now clock.Instant, routers bool) (addrs []netip.Addr, forRouters bool) {
	l.Tick(now)
	agents := l.all()
	if routers {
		forRouters = slices.ContainsFunc(agents, func(a *agent) bool { return a.router && len(a.addrs) > 0 })
		if forRouters {
			agents = slices.DeleteFunc(agents, func(a *agent) bool { return !a.router })
		}
	}
	shuffle(agents, l.intn)
	slices.SortStableFunc(agents, func(a, b *agent) int { return cmp.Compare(b.preference, a.preference) })
	for _, a := range agents {
		list := slices.Clone(a.addrs)
		shuffle(list, l.intn)
		for _, x := range list {
			if len(addrs) == wire.MaxHomeAgents {
				return addrs, forRouters
			}
			addrs = append(addrs, x.addr)
		}
	}
	return addrs, forRouters
}

func shuffle[T any](s []T, intn func(int) int) {
	for i := len(s) - 1; i > 0; i-- {
		j := intn(i + 1)
		s[i], s[j] = s[j], s[i]
	}
}
