package policyroute

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/fib"
)

// protoRA is the protocol of routes from Router Advertisements: they share by destination and source.
const protoRA = "ra"

// protoKernel is that of the routes that follow from addresses and links.
const protoKernel = "kernel"

// learnedKey names a learned route.
type learnedKey struct {
	prefix netip.Prefix
	link   int
	via    netip.Addr
	metric uint32
	proto  string
}

func keyOf(r *fib.Route) learnedKey {
	return learnedKey{r.Prefix, r.Link, r.Via, r.Metric, r.Protocol}
}

// RoutesLearned implements [module.RouteObserver]: what is no longer learned goes, what is new comes,
// what changed is put in the place of what it was.
func (m *Module) RoutesLearned(_ clock.Instant, routes []module.LearnedRoute) {
	m.lastLearned = routes
	m.together(func() {
		m.followLearned()
		m.followCandidates()
	})
}

func (m *Module) followLearned() {
	routes := m.lastLearned
	want := make(map[learnedKey]fib.Route, len(routes))
	was := m.learned
	m.learned = make(map[learnedKey]module.LearnedRoute, len(routes))
	order := make([]learnedKey, 0, len(routes))
	for _, l := range routes {
		r := fib.Route{
			Prefix: l.Prefix.Masked(), Link: l.Link, Via: l.Via, Metric: l.Metric, Protocol: l.Protocol, Pref: l.Pref,
			Expires: l.Expires, Standby: l.Standby,
		}
		if _, own := m.kernel[kernelKey{tableMain, r.Prefix, r.Link, r.Type}]; own && r.Protocol == protoKernel {
			continue // that the prefix is on the link follows from an address already
		}
		k := keyOf(&r)
		if _, twice := want[k]; !twice {
			order = append(order, k)
		}
		want[k], m.learned[k] = r, l
	}
	table := m.table(tableMain)
	for k := range was {
		if _, ok := want[k]; !ok {
			m.remove(tableMain, k.prefix, func(r *fib.Route) bool { return keyOf(r) == k }) // if no operator has deleted it
		}
	}
	for _, k := range order {
		r := want[k]
		if _, ok := was[k]; ok {
			old, found := table.Update(r, func(x *fib.Route) bool { return keyOf(x) == k })
			switch {
			case !found: // an operator deleted it; it is still learned, so it comes back only when learned anew
			case old != r:
				m.event(tableMain, r, false)
				m.publish(tableMain, r.Prefix)
			default:
				m.publish(tableMain, r.Prefix) // its sources may be others
			}
			continue
		}
		if table.Append(r) == nil {
			m.added.Inc()
			m.publish(tableMain, r.Prefix)
			m.event(tableMain, r, false)
		}
	}
}

// mix is a keyed hash of an address: the finalizer of MurmurHash3 over both halves.
func mix(key uint64, a *[16]byte) uint64 {
	h := key
	for _, half := range [2]uint64{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])} {
		h ^= half
		h ^= h >> 33
		h *= 0xff51afd7ed558ccd
		h ^= h >> 33
		h *= 0xc4ceb9fe1a85ec53
		h ^= h >> 33
	}
	return h
}
