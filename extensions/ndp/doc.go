// Package ndp is Neighbor Discovery for the appliance, of routers and of hosts: the addresses of its
// links with Duplicate Address Detection, address resolution and Neighbor Unreachability Detection,
// Router Advertisements sent and received, Redirects sent and received, proxies, and the multicast
// groups that go with all that, reported by MLD.
//
// RFCs: 4861, 4862, 4191, 4311, 4429, 6583, 6980, 7048, 7217, 7527, 7559, 8028, 8106, 8781, 8910, 8981,
// 9096, 9131, 6275 (7), 4291 (2.6, 2.8), 3810 and 2710 (listener), 3590. docs/coverage/ndp.md has each
// section with its code and its test.
//
//	worker: StageDiscovery ──Mail──▶ loop: validate ▶ cores ▶ effects ▶ Transmit, PublishRoutes, SetLinkParams
//	worker: StageResolve ──lookup──▶ neighbor table (atomic) ──miss: Mail──▶ loop: queue, solicit
//
// The cores know no link and no socket: nud (the neighbor cache), dad, mld, radv (what a router says), and
// of a host rtrsol (when it asks), routers (what it was told) and slaac (the addresses it makes of that).
// A linkState has those of one link.
//
// State it owns: addresses and groups (published as module.Addrs), one neighbor cache for each
// link (published as a table of immutable entries that the resolve hook reads), and what routers taught
// (published as module.LearnedRoutes and module.Redirects, to policyroute). Files: state_dir/stable_secret,
// state_dir/advertised_prefixes.json, run_dir/resolv.conf.
//
// Limits: nud.max_neighbors entries a link, of them nud.max_unresolved unresolved, each holding
// nud.queue_packets packets; dad and mld keep one record for each own address and group; routers and
// slaac have limits of their own, and refuse what is beyond them; redirects and delayed answers forget
// the oldest.
package ndp
