// Package policyroute is routing for the appliance: the tables main and local, the answers to the
// packet path's route questions, and source address selection.
//
// RFCs: 8200, 4861 (5.2), 6724 (5), 4191 (preference is kept and shown). Semantics and words of
// routes are iproute2's.
//
//	loop: tables (fib.Table) ──change──▶ fib.Snapshot ◀── atomic load ── workers: RouteBatch
//	      ▲ configuration, commands, links, addresses
//
// State it owns: the routes. Connected and local routes follow the addresses and links; routes
// over a link that is down are not in force, those over one that is gone are removed.
//
// Limits: routes come from the operator only, so their number is not bounded. Large tables are
// compiled in the background; a change is visible at once (see fib.Snapshot).
package policyroute
