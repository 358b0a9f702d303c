// Package ndp is Neighbor Discovery for the appliance: the addresses of its links with Duplicate
// Address Detection, address resolution and Neighbor Unreachability Detection, and the multicast
// groups that go with them, reported by MLD.
//
// RFCs: 4861 (7.2, 7.3, Appendix C), 4862 (5.3, 5.4), 7527, 4291 (2.6, 2.8), 7217, 6583, 6980,
// 3810 and 2710 (listener), 3590.
//
//	worker: StageDiscovery ──Mail──▶ loop: validate ▶ nud, dad, mld cores ▶ effects ▶ Transmit
//	worker: StageResolve ──lookup──▶ neighbor table (atomic) ──miss: Mail──▶ loop: queue, solicit
//
// State it owns: addresses and groups (published as module.Addrs), one neighbor cache for each
// link (published as a table of immutable entries that the resolve hook reads).
//
// Limits: nud.max_neighbors entries a link, of them nud.max_unresolved unresolved, each holding
// nud.queue_packets packets; dad and mld keep one record for each own address and group.
package ndp
