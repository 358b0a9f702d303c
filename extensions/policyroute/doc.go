// Package policyroute is routing for the appliance: rules, tables, several next hops of one route,
// and source address selection.
//
// RFCs: 8200, 4861 (5.2), 6724, 4191 (2.1), 4311 (3), 8028 (3.2), 2992, 6438. Words, order and
// refusals of rules and routes are iproute2's; docs/differences.md lists where answers are not Linux's.
//
//	rule.Set ──▶ table (fib.Snapshot) ──▶ entry ──▶ one of several next hops ──▶ source (srcsel)
//	    ▲ does the route conform to the rule? no: the next rule      └─▶ redirects: has it redirected the destination?
//
// All that a search reads is one view, which workers load once for each vector. The loop changes it as
// a whole: rules and routes of a new configuration become visible together.
//
// State it owns: rules, tables, policy table. Connected and local routes follow the addresses and links,
// learned ones come from ndp; routes over a link that is down are not in force, those over one that is
// gone are removed.
//
// Which of several next hops a flow goes by: of those with the least metric that answer, those with the
// highest preference; of them the one that the flow has already (pins), else by hash or in turn. So a
// flow whose gateway falls silent goes by another one, and comes back when a preferred one answers; among
// equals it stays. Flows are remembered only where there is a choice: beside a gateway that was alone a
// second one takes its share of all of them. Routers that advertised themselves are shared by destination, and by the prefixes they
// advertised. A resilient group keeps flows in its buckets, not in the cache.
//
// A route that names a nexthop object has no next hop of its own: the view has one for each object, so
// that a change of it is one change for any number of prefixes.
//
// Limits: the destination cache has routing.destination_cache.max_entries; it puts out who has been idle
// longest, and takes in no flow of one packet. Rules and routes come from the operator, so their number
// is not bounded; what the wire teaches is bounded by ndp. Large tables are compiled in the background;
// a change is visible at once (see fib.Snapshot). More than 16 rules are found by an index (see rule.Set).
package policyroute
