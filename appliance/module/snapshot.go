package module

import (
	"net/netip"
	"slices"

	"leveret/appliance/clock"
)

// Link is one link as the packet path and the modules see it. Immutable: a change makes a new one.
type Link struct {
	Index      int
	Name       string
	Kind       string
	HostDevice string
	Ethernet   bool // has link-layer addresses: resolution, multicast mapping, DAD
	// IfID of a link of kind ipsec: the SAs and policies with this if_id are its own. 0 = the link is of another kind.
	IfID       uint32
	Tunnel     bool // made by a module, which puts what leaves by it into other packets
	MAC        [6]byte
	DeviceMTU  int  // the device's
	MTU        int  // in force for IPv6: the least of device, configuration and RA
	HopLimit   int  // of this node's own packets (CurHopLimit, RFC 4861 6.3.2)
	Up         bool // administratively
	Carrier    bool // the other side is there
	Forwarding bool // packets that come in here may be forwarded
	// What the port takes whole (see link.Caps).
	Checksum, TSO, USO bool
}

// Usable reports whether packets can leave.
func (l *Link) Usable() bool { return l.Up && l.Carrier }

// Links is the snapshot of all links. Immutable.
type Links struct {
	byIndex []*Link // by index, nil where there is none
	byIfID  map[uint32]*Link
}

// NewLinks returns the snapshot of ls.
func NewLinks(ls []*Link) *Links {
	s := &Links{byIfID: map[uint32]*Link{}}
	for _, l := range ls {
		if n := l.Index + 1; n > len(s.byIndex) {
			s.byIndex = append(s.byIndex, make([]*Link, n-len(s.byIndex))...)
		}
		s.byIndex[l.Index] = l
		if l.IfID != 0 {
			s.byIfID[l.IfID] = l
		}
	}
	return s
}

// Index returns the link with that index, or nil.
func (s *Links) Index(i int) *Link {
	if uint(i) >= uint(len(s.byIndex)) {
		return nil
	}
	return s.byIndex[i]
}

// Name returns the link of that name, or nil.
func (s *Links) Name(name string) *Link {
	for _, l := range s.byIndex {
		if l != nil && l.Name == name {
			return l
		}
	}
	return nil
}

// IfID returns the link of kind ipsec with that if_id, or nil. No allocation.
func (s *Links) IfID(id uint32) *Link { return s.byIfID[id] }

// All returns the links in the order of their indexes.
func (s *Links) All() []*Link {
	return slices.DeleteFunc(slices.Clone(s.byIndex), func(l *Link) bool { return l == nil })
}

// Addr is one address of this node. Immutable: a change makes a new one.
type Addr struct {
	Addr      netip.Addr // no zone
	PrefixLen int
	Link      int
	Protocol  string // kernel_ll, static, ...: who made it
	Tentative bool
	DADFailed bool
	// Deprecated: usable, but not chosen for new communication (RFC 4862 5.5.4).
	Deprecated bool
	Optimistic bool
	Anycast    bool
	Home       bool
	NoDAD      bool
	Temporary  bool
	// NoPrefixRoute: its prefix says nothing about what is on the link (RFC 5942 4).
	NoPrefixRoute bool
	// SubnetRouter marks the Subnet-Router anycast address of a prefix (RFC 4291 2.6.1): ours,
	// but never listed and never a source.
	SubnetRouter   bool
	ValidUntil     clock.Instant // clock.Never = forever
	PreferredUntil clock.Instant
}

// Assigned reports whether packets to the address are for this node: DAD has passed, or the
// address is optimistic (RFC 4429 3.1).
func (a *Addr) Assigned() bool { return !a.DADFailed && (!a.Tentative || a.Optimistic) }

// linkScope reports whether the address is link-local: it means something on its own link only.
func (a *Addr) linkScope() bool { return a.Addr.IsLinkLocalUnicast() }

// Addrs is the snapshot of all addresses and joined groups. Immutable.
type Addrs struct {
	list   []*Addr
	groups []Group
	local  map[zoned]*Addr
	member map[zoned]bool
	// filter has a bit set for the low octets of every local address, so that the lookup that
	// every forwarded packet makes ends here nearly always.
	filter [4]uint64
}

func filterBit(addr *[16]byte) (word, bit uint8) {
	h := addr[15] ^ addr[14]<<3 ^ addr[7]<<5 ^ addr[5]
	return h >> 6, h & 63
}

// Group is one multicast group joined on a link.
type Group struct {
	Addr  netip.Addr
	Link  int
	Users int
}

// zoned is an address with the link it belongs to; link 0 for addresses of global scope.
type zoned struct {
	addr [16]byte
	link int
}

// NewAddrs returns the snapshot of those addresses and groups; it keeps the slices.
func NewAddrs(list []*Addr, groups []Group) *Addrs {
	s := &Addrs{list: list, groups: groups, local: make(map[zoned]*Addr, len(list)), member: make(map[zoned]bool, len(groups))}
	for _, a := range list {
		k := zoned{addr: a.Addr.As16()}
		w, b := filterBit(&k.addr)
		s.filter[w] |= 1 << b
		if a.linkScope() {
			k.link = a.Link
		}
		// An address may be on several links (anycast): one that is in use wins.
		if old := s.local[k]; old == nil || (!old.Assigned() && a.Assigned()) {
			s.local[k] = a
		}
	}
	for _, g := range groups {
		s.member[zoned{g.Addr.As16(), g.Link}] = true
	}
	return s
}

// Lookup returns this node's address equal to addr, or nil. in is the link a packet came in on
// (or would leave by): a link-local address is ours on its own link only. A global address is
// ours whichever link the packet came in on: a router is one node.
// No allocation.
func (s *Addrs) Lookup(addr *[16]byte, in int) *Addr {
	if w, b := filterBit(addr); s.filter[w]&(1<<b) == 0 {
		return nil
	}
	k := zoned{addr: *addr}
	if addr[0] == 0xfe && addr[1]&0xc0 == 0x80 {
		k.link = in
	}
	return s.local[k]
}

// Member reports whether this node has joined a group on a link. No allocation.
func (s *Addrs) Member(group *[16]byte, link int) bool { return s.member[zoned{*group, link}] }

// All returns every address, in the order they were made. The slice is shared: do not change it.
func (s *Addrs) All() []*Addr { return s.list }

// Groups returns every joined group. The slice is shared: do not change it.
func (s *Addrs) Groups() []Group { return s.groups }

// OnLink returns the addresses of one link.
func (s *Addrs) OnLink(link int) []*Addr {
	var out []*Addr
	for _, a := range s.list {
		if a.Link == link {
			out = append(out, a)
		}
	}
	return out
}
