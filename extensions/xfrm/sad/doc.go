// Package sad is the Security Association Database (RFC 4301 4.4.2) with the data of the Linux kernel's
// XFRM states: IPsec SAs, and the states of Mobile IPv6's Home Address option and Type 2 Routing header.
//
//	owner (one goroutine)                         workers
//	DB ── Add, Update, Delete, Migrate ──▶ Snapshot ──▶ ByID, ByAddrs, ForTemplate
//	 │                                       │
//	 └─ Expire, Reached  ◀── mailbox ──  State.Live: counters, sequence number, latches
//
// A State is immutable once it is in the database; what packets change of it is its [Live], which all
// generations of a state share: an update or a migration goes on counting where the old one was. Live is
// of atomic words, the only ones here that two goroutines touch.
//
// A lookup allocates nothing; a change of one state in 100,000 and a snapshot of it take some 30 µs, see
// BenchmarkAdd.
//
// Not here: the replay window (see [Work]), the algorithms themselves, notifications. IPComp is
// understood and refused. Outer addresses are IPv6.
package sad
