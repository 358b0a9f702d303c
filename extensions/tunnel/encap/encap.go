// Package encap is the core of tunnels: the headers that carry one IP packet in another, what both ends make of them,
// and what the source of the original packet is told when one is lost between them. RFC 2473, 2784, 2890, 4213, 6040,
// 6438 and 7676.
//
// The words are RFC 2473's: an original packet enters a tunnel at its entry-point, becomes a tunnel packet by the
// headers in front of it, and leaves the tunnel at its exit-point. No function allocates.
package encap

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"leveret/appliance/wire"
)

// Kind is what carries what.
type Kind uint8

// The kinds of tunnel.
const (
	IP6IP6 Kind = iota // IPv6 in IPv6 (RFC 2473)
	IPIP6              // IPv4 in IPv6 (RFC 2473)
	SIT                // IPv6 in IPv4 (RFC 4213)
	IP6GRE             // IPv6 or IPv4 in GRE in IPv6 (RFC 7676)
	GRE                // IPv6 or IPv4 in GRE in IPv4 (RFC 2784, RFC 7676)
	numKinds
)

var kindNames = [numKinds]string{"ip6ip6", "ipip6", "sit", "ip6gre", "gre"}

func (k Kind) String() string { return kindNames[k] }

// ParseKind reads a kind; 6in4 is another word for sit.
func ParseKind(s string) (Kind, bool) {
	if s == "6in4" {
		return SIT, true
	}
	for k, n := range kindNames {
		if n == s {
			return Kind(k), true
		}
	}
	return 0, false
}

// OverIPv4 reports whether tunnel packets are IPv4.
func (k Kind) OverIPv4() bool { return k == SIT || k == GRE }

// IsGRE reports whether there is a GRE header.
func (k Kind) IsGRE() bool { return k == IP6GRE || k == GRE }

// carries reports whether original packets of an IP version enter the tunnel.
func (k Kind) carries(v4 bool) bool { return k.IsGRE() || v4 == (k == IPIP6) }

// Protocol is what the header in front of the original packet's, or of GRE's, announces.
func (k Kind) Protocol() uint8 {
	switch k {
	case IPIP6:
		return wire.IPv4Encap
	case IP6GRE, GRE:
		return wire.GRE
	}
	return wire.IPv6Encap
}

// Label says how the flow label of tunnel packets is made.
type Label uint8

// The ways.
const (
	LabelHash    Label = iota // of the original packet's flow (RFC 6438 3)
	LabelFixed                // a configured value (RFC 2473 6.5)
	LabelInherit              // the original packet's
)

// NoLimit is the encapsulation limit of a tunnel that has none (RFC 2473 6.6).
const NoLimit = -1

// The defaults (RFC 2473 6.3, 6.6).
const (
	DefaultHopLimit   = 64
	DefaultEncapLimit = 4
)

// Params are the variables of one tunnel (RFC 2473 6). Immutable.
type Params struct {
	Kind          Kind
	Local, Remote netip.Addr // entry-point and exit-point as this node sees them
	HopLimit      uint8
	EncapLimit    int // 0..255 or NoLimit; not of kinds over IPv4
	// TClass is the traffic class of tunnel packets, but for the ECN bits; with InheritClass it is the original packet's.
	TClass       uint8
	InheritClass bool
	// CopyDSCP gives original packets that come out the DSCP of their tunnel packets (RFC 2983 3.1, the uniform model).
	CopyDSCP bool
	// NoECN is the compatibility mode of RFC 6040 4.1, for an exit-point that does not understand ECN.
	NoECN bool
	Label Label
	// FlowLabel is that of LabelFixed; LabelKey makes those of LabelHash hard to foretell.
	FlowLabel uint32
	LabelKey  uint64
	// PMTUDisc sets Don't Fragment on tunnel packets over IPv4 (RFC 4213 3.2.2).
	PMTUDisc bool
	// What GRE headers have, and what is wanted of those that come in.
	OKey, IKey   Key
	OCsum, ICsum bool
	OSeq, ISeq   bool
}

// Key is a GRE key (RFC 2890 2.1).
type Key struct {
	Set   bool
	Value uint32
}

// The errors of [Params.Check].
var (
	ErrFamily   = errors.New("the ends are not of the address family of the kind")
	ErrUnicast  = errors.New("an end is not a unicast address")
	ErrLoopback = errors.New("both ends are the same address (RFC 2473 4.1.2)")
	ErrGRE      = errors.New("only kinds with GRE have keys, checksums and sequence numbers")
)

// Check finds what is wrong with the variables together.
func (t *Params) Check() error {
	for _, a := range [...]netip.Addr{t.Local, t.Remote} {
		switch {
		case t.Kind.OverIPv4() != a.Is4() || a.Is4In6() || !a.IsValid():
			return ErrFamily
		case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a.Zone() != "", a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return ErrUnicast
		}
	}
	switch {
	case t.Local == t.Remote:
		return ErrLoopback
	case !t.Kind.IsGRE() && (t.OKey.Set || t.IKey.Set || t.OCsum || t.ICsum || t.OSeq || t.ISeq):
		return ErrGRE
	}
	return nil
}

// Overhead is how many octets are put in front of an original packet that brings no encapsulation limit along.
func (t *Params) Overhead() int { return t.overhead(t.EncapLimit != NoLimit) }

func (t *Params) overhead(limited bool) int {
	n := wire.IPv6HeaderLen
	if t.Kind.OverIPv4() {
		return ipv4HeaderLen + t.greLen()
	}
	if limited {
		n += limitHeaderLen
	}
	return n + t.greLen()
}

// limitHeaderLen is the length of a Destination Options header with an encapsulation limit alone (RFC 2473 5.1).
const limitHeaderLen = 8

// Entry is what is known of an original packet that enters a tunnel.
type Entry struct {
	V4    bool
	Class uint8 // its traffic class, or type of service
	// Limit is the encapsulation limit of the tunnel packet; HasLimit: it has one.
	HasLimit bool
	Limit    uint8
	// DF: the tunnel packet is not to be fragmented over IPv4. The caller sets it where the original packet fits [Whole].
	DF bool
	// label is the flow label of the tunnel packet.
	label uint32
	// Overhead is what is put in front of it, in octets.
	Overhead int
}

// Refusal is why an original packet does not enter.
type Refusal uint8

// The refusals.
const (
	Enters      Refusal = iota
	NotCarried          // not an IP packet of a version that the kind carries
	LimitIsZero         // it is in a tunnel that may not lead through another (RFC 2473 4.1.1 (b))
	LoopsBack           // it goes from this tunnel's entry-point to its exit-point (RFC 2473 4.1.2)
)

// Enter looks at an original packet, whole or a fragment, that is to enter (RFC 2473 4.1.1). Where its encapsulation
// limit is used up, pointer is the offset of the limit.
func (t *Params) Enter(pkt []byte) (e Entry, r Refusal, pointer int) {
	if len(pkt) == 0 {
		return e, NotCarried, 0
	}
	switch pkt[0] >> 4 {
	case 6:
		if len(pkt) < wire.IPv6HeaderLen || !t.Kind.carries(false) {
			return e, NotCarried, 0
		}
	case 4:
		e.V4 = true
		if len(pkt) < ipv4HeaderLen || !t.Kind.carries(true) {
			return e, NotCarried, 0
		}
	default:
		return e, NotCarried, 0
	}
	src, dst := addrs(pkt)
	if src == t.Local && dst == t.Remote {
		return e, LoopsBack, 0
	}
	e.Class = class(pkt)
	if !t.Kind.OverIPv4() {
		e.HasLimit, e.Limit = t.EncapLimit != NoLimit, uint8(t.EncapLimit)
		if !e.V4 {
			if at := limitAt(pkt); at != 0 {
				if pkt[at] == 0 {
					return e, LimitIsZero, at
				}
				e.HasLimit, e.Limit = true, pkt[at]-1
			}
		}
		e.label = t.label(pkt, e.V4)
	}
	e.Overhead = t.overhead(e.HasLimit)
	return e, Enters, 0
}

// limitAt returns where the limit of a Tunnel Encapsulation Limit option is, 0 if there is none to be found: the
// headers are looked at in their order, up to the first that is no extension header of IPv6 or cannot be read.
func limitAt(pkt []byte) int {
	switch pkt[wire.NextHeaderOffset] { // most packets
	case wire.TCP, wire.UDP, wire.ICMPv6, wire.ESP, wire.IPv6Encap:
		return 0
	}
	var c wire.Chain
	c.Walk(pkt)
	for i := range c.N {
		h := &c.Headers[i]
		if h.Proto != wire.DestOpts {
			continue
		}
		opts := wire.ParseOptions(pkt[:h.Off+h.Len], h.Off)
		for {
			o, ok := opts.Next()
			if !ok {
				break
			}
			if o.Type == wire.OptTunnelEncapLimit && len(o.Data) == 1 {
				return o.Off + 2
			}
		}
		if opts.Problem != 0 {
			return 0
		}
	}
	return 0
}

// Put writes the headers of a tunnel packet over the first e.Overhead octets of pkt, behind which is the original
// packet, complete with its checksums. number is that of the packet in its tunnel, which GRE may carry and which
// identifies it over IPv4.
func (t *Params) Put(pkt []byte, e Entry, number uint32) {
	at, next := wire.IPv6HeaderLen, t.Kind.Protocol()
	switch {
	case t.Kind.OverIPv4():
		at = ipv4HeaderLen
		df := e.DF && t.PMTUDisc
		putIPv4(pkt, ipv4Fields{
			tos: t.class(e.Class), length: len(pkt), id: uint16(number), df: df, ttl: t.HopLimit, proto: next, src: t.Local, dst: t.Remote,
		})
	default:
		f := wire.IPv6Fields{
			TrafficClass: t.class(e.Class), FlowLabel: e.label, PayloadLength: uint16(len(pkt) - wire.IPv6HeaderLen),
			NextHeader: next, HopLimit: t.HopLimit, Src: t.Local, Dst: t.Remote,
		}
		if e.HasLimit {
			f.NextHeader = wire.DestOpts
		}
		wire.PutIPv6(pkt, f)
		if e.HasLimit {
			copy(pkt[at:], []byte{next, 0, wire.OptTunnelEncapLimit, 1, e.Limit, wire.OptPadN, 1, 0})
			at += limitHeaderLen
		}
	}
	if t.Kind.IsGRE() {
		t.putGRE(pkt[at:], e.V4, number)
	}
}

// MTU is the longest original packet that a tunnel takes whole where a path takes tunnel packets of so many octets
// (RFC 2473 6.7, RFC 4213 3.2.2, RFC 7676 3.2).
func (t *Params) MTU(path int) int { return path - t.Overhead() }

// Fate is what becomes of an original packet by its length.
type Fate uint8

// The fates.
const (
	Whole    Fate = iota // it is carried in one tunnel packet
	InPieces             // the tunnel packet is fragmented
	TooLong              // it is not carried, and its source told how long it may be
)

// Fits decides about an original packet of n octets where tunnel packets may have path octets (RFC 2473 7.1, 7.2,
// RFC 4213 3.2.2, RFC 7676 3.3); df: an IPv4 packet that is not to be fragmented. mtu is what its source is told.
func (e *Entry) Fits(n, path int, df bool) (f Fate, mtu int) {
	mtu = path - e.Overhead
	switch {
	case n <= mtu:
		return Whole, 0
	case e.V4 && df:
		return TooLong, max(mtu, ipv4MinMTU)
	case e.V4:
		return InPieces, 0
	case n > wire.MinMTU:
		return TooLong, max(mtu, wire.MinMTU)
	}
	return InPieces, 0
}

// label makes the flow label of a tunnel packet: the same for all packets of a flow (RFC 6438 3).
func (t *Params) label(pkt []byte, v4 bool) uint32 {
	switch t.Label {
	case LabelFixed:
		return t.FlowLabel
	case LabelInherit:
		if v4 {
			return 0
		}
		return binary.BigEndian.Uint32(pkt) & 0xfffff
	}
	h := t.LabelKey
	mix := func(w uint64) {
		h = (h ^ w) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	if v4 {
		mix(binary.BigEndian.Uint64(pkt[12:]))
	} else { // fragments have addresses and label alone in common with what they are of
		for at := 8; at < wire.IPv6HeaderLen; at += 8 {
			mix(binary.BigEndian.Uint64(pkt[at:]))
		}
		mix(uint64(binary.BigEndian.Uint32(pkt) & 0xfffff))
		if proto := pkt[wire.NextHeaderOffset]; wire.HasPorts(proto) && len(pkt) >= wire.IPv6HeaderLen+4 {
			mix(uint64(proto)<<32 | uint64(binary.BigEndian.Uint32(pkt[wire.IPv6HeaderLen:])))
		}
	}
	return uint32(h>>32) & 0xfffff
}

// addrs returns the addresses of an IP packet with a whole header.
func addrs(pkt []byte) (src, dst netip.Addr) {
	if pkt[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(pkt[12:])), netip.AddrFrom4([4]byte(pkt[16:]))
	}
	return netip.AddrFrom16([16]byte(pkt[8:])), netip.AddrFrom16([16]byte(pkt[24:]))
}
