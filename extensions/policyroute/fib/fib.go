// Package fib is a table of routes: the authoritative list with iproute2's rules of what is the
// same route, and the compiled form that the packet path searches.
//
//	Table (loop)  --route in force of each prefix-->  Snapshot (any goroutine, immutable)
//	  bart: prefix -> routes                            flat interval tree for /64 and shorter,
//	                                                    batched; hash for /128; bart in between
package fib

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"leveret/appliance/clock"
)

// Type is what a route does, in iproute2's words and the numbers of packet.RouteType.
type Type uint8

// The types.
const (
	Unicast Type = iota
	Local
	Anycast
	Multicast
	Blackhole
	Unreachable
	Prohibit
	Throw
)

var typeNames = [...]string{"unicast", "local", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}

func (t Type) String() string { return typeNames[t] }

// ParseType returns the type of that name.
func ParseType(s string) (Type, bool) {
	i := slices.Index(typeNames[:], s)
	return Type(max(i, 0)), i >= 0
}

// HasDevice reports whether routes of the type have a link.
func (t Type) HasDevice() bool { return t <= Multicast }

// The default metrics of Linux.
const (
	MetricLocal     = 0
	MetricConnected = 256
	MetricDefault   = 1024
)

// Route is one route. Values are compared and copied; a change makes a new one.
type Route struct {
	Prefix   netip.Prefix
	From     netip.Prefix // for packets of these sources only; the zero Prefix = all
	Metric   uint32
	Type     Type
	Protocol string     // kernel, boot, static, ...
	Link     int        // 0 for types without a device
	Via      netip.Addr // zero = the destination is on the link
	NHID     uint32     // the nexthop object that says link and gateway; 0 = they are above
	Weight   uint16     // against the other next hops of the same prefix and metric; 0 = 1
	MTU      int        // 0 = the link's
	AdvMSS   int        // the most that TCP here announces as its MSS; 0 = no limit
	PrefSrc  netip.Addr
	Pref     string        // low, medium, high (RFC 4191 2.1)
	Expires  clock.Instant // clock.Never = forever
	Standby  bool          // listed, but another router is preferred just now
}

// The refusals, in the kernel's words.
var (
	ErrExists   = errors.New("File exists")
	ErrNotFound = errors.New("No such process")
)

// Table is the list of one table's routes. One goroutine owns it.
type Table struct {
	byPrefix bart.Table[[]Route] // of one prefix: by metric, then age
	n        int
}

// Len returns the number of routes.
func (t *Table) Len() int { return t.n }

// same reports whether two routes of one prefix are the same to the kernel: of the same metric, for the
// same sources.
func same(a, b *Route) bool { return a.Metric == b.Metric && a.From == b.From }

// Add adds a route; [ErrExists] if there is one with its prefix and metric.
func (t *Table) Add(r Route) error {
	r.Prefix = r.Prefix.Masked()
	list, _ := t.byPrefix.Get(r.Prefix)
	for i := range list {
		if same(&list[i], &r) {
			return ErrExists
		}
	}
	t.insert(list, r)
	return nil
}

func (t *Table) insert(list []Route, r Route) {
	i, _ := slices.BinarySearchFunc(list, r.Metric+1, func(x Route, m uint32) int { return cmp.Compare(x.Metric, m) })
	if r.Metric == ^uint32(0) {
		i = len(list)
	}
	t.byPrefix.Insert(r.Prefix, slices.Insert(slices.Clone(list), i, r))
	t.n++
}

// Delete removes the first route of a prefix that match takes (lowest metric first) and returns
// it; [ErrNotFound] if there is none.
func (t *Table) Delete(p netip.Prefix, match func(*Route) bool) (Route, error) {
	p = p.Masked()
	list, _ := t.byPrefix.Get(p)
	for i := range list {
		if !match(&list[i]) {
			continue
		}
		old := list[i]
		if len(list) == 1 {
			t.byPrefix.Delete(p)
		} else {
			t.byPrefix.Insert(p, slices.Delete(slices.Clone(list), i, i+1))
		}
		t.n--
		return old, nil
	}
	return Route{}, ErrNotFound
}

// DeleteFunc removes every route that match takes and returns them.
func (t *Table) DeleteFunc(match func(*Route) bool) []Route {
	var gone []Route
	for _, list := range t.byPrefix.All() {
		for i := range list {
			if match(&list[i]) {
				gone = append(gone, list[i])
			}
		}
	}
	for _, r := range gone {
		t.Delete(r.Prefix, func(x *Route) bool { return *x == r }) //nolint:errcheck // it is there
	}
	return gone
}

// All lists the routes as iproute2 does: by prefix, what is inside a prefix before it, then by
// metric; the default routes come last.
func (t *Table) All() []Route {
	out := make([]Route, 0, t.n)
	// Sorted, a prefix comes right before what is inside it: open holds those that still wait.
	var open [][]Route
	for p, list := range t.byPrefix.AllSorted() {
		for len(open) > 0 && !inside(open[len(open)-1][0].Prefix, p) {
			out = append(out, open[len(open)-1]...)
			open = open[:len(open)-1]
		}
		open = append(open, list)
	}
	for _, list := range slices.Backward(open) {
		out = append(out, list...)
	}
	return out
}

// Each calls f for every prefix with its routes, in no order. f must not change the table.
func (t *Table) Each(f func(p netip.Prefix, routes []Route)) {
	for p, list := range t.byPrefix.All() {
		f(p, list)
	}
}

// inside reports whether p is inside outer.
func inside(outer, p netip.Prefix) bool { return outer.Bits() <= p.Bits() && outer.Contains(p.Addr()) }

// Multipath reports whether a route may be one of several next hops of its prefix and metric: through a
// gateway, and not learned, as a learned one stands for itself.
func (r *Route) Multipath() bool {
	return r.Type == Unicast && r.Via.IsValid() && r.Protocol != "ra"
}

// Sibling reports whether two routes are next hops of one.
func (r *Route) Sibling(o *Route) bool {
	return r.Multipath() && o.Multipath() && r.Prefix == o.Prefix && same(r, o) && r.Pref == o.Pref
}

// SameHop reports whether a route is another in all but what it says about it.
func (r *Route) SameHop(o *Route) bool {
	return r.Prefix == o.Prefix && same(r, o) && r.Link == o.Link && r.Via == o.Via && r.NHID == o.NHID && r.Type == o.Type
}

// Append adds a route beside others of its prefix and metric, as connected routes of several links
// are; [ErrExists] if there is one with the same next hop.
func (t *Table) Append(r Route) error {
	r.Prefix = r.Prefix.Masked()
	list, _ := t.byPrefix.Get(r.Prefix)
	for i := range list {
		if list[i].SameHop(&r) {
			return ErrExists
		}
	}
	t.insert(list, r)
	return nil
}

// Update puts r in the place of the first route of its prefix that match takes, which must be of the
// same metric, and returns that one.
func (t *Table) Update(r Route, match func(*Route) bool) (old Route, found bool) {
	list, _ := t.byPrefix.Get(r.Prefix)
	for i := range list {
		if match(&list[i]) {
			old = list[i]
			list = slices.Clone(list)
			list[i] = r
			t.byPrefix.Insert(r.Prefix, list)
			return old, true
		}
	}
	return Route{}, false
}

// Routes returns the routes of one prefix, by metric. The slice is shared: do not change it.
func (t *Table) Routes(p netip.Prefix) []Route {
	list, _ := t.byPrefix.Get(p.Masked())
	return list
}
