package wire

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"leveret/appliance/wire"
)

// ICMPv6 types (RFC 6275 6.5 to 6.8).
const (
	TypeDiscoveryRequest    = 144 // Home Agent Address Discovery Request
	TypeDiscoveryReply      = 145 // Home Agent Address Discovery Reply
	TypePrefixSolicitation  = 146 // Mobile Prefix Solicitation
	TypePrefixAdvertisement = 147 // Mobile Prefix Advertisement
)

// MaxHomeAgents is how many addresses a Discovery Reply has in a packet of 1280 octets (RFC 6275 10.5.1).
const MaxHomeAgents = (wire.MinMTU - wire.IPv6HeaderLen - wire.ICMPv6HeaderLen) / 16

// Infinite is a lifetime without an end; on the wire it is 0xffffffff seconds.
const Infinite = time.Duration(math.MaxInt64)

const (
	flagRouters = 0x80 // R of discovery messages (RFC 3963 7.1, 7.2)
	flagManaged = 0x80
	flagOther   = 0x40

	optPrefix    = 3 // Prefix Information (RFC 4861 4.6.2)
	optPrefixLen = 32
)

// Control is one valid ICMPv6 message of Mobile IPv6.
type Control struct{ b []byte }

// ParseControl checks the ICMPv6 message at off, which ends with the packet; src and dst are the addresses of
// the checksum, as for [Parse]. It has to be of one of the four types, of code 0, and its options, if it has
// any, have to be whole. All faults are answered with silence.
func ParseControl(pkt []byte, off int, src, dst netip.Addr) (Control, Fault) {
	if off < 0 || off > len(pkt)-wire.ICMPv6HeaderLen {
		return Control{}, Fault{Truncated, max(off, 0)}
	}
	b := pkt[off:len(pkt):len(pkt)]
	switch {
	case b[0] < TypeDiscoveryRequest || b[0] > TypePrefixAdvertisement:
		return Control{}, Fault{NotControl, off}
	case !verify(b, wire.ICMPv6, src, dst):
		return Control{}, Fault{BadChecksum, off + 2}
	case b[1] != 0:
		return Control{}, Fault{BadCode, off + 1}
	}
	switch b[0] {
	case TypeDiscoveryReply:
		if len(b)%16 != wire.ICMPv6HeaderLen {
			return Control{}, Fault{Truncated, off + wire.ICMPv6HeaderLen}
		}
	case TypePrefixSolicitation, TypePrefixAdvertisement:
		for at := wire.ICMPv6HeaderLen; at < len(b); {
			if at+2 > len(b) || b[at+1] == 0 || at+int(b[at+1])*8 > len(b) {
				return Control{}, Fault{OptionOverrun, off + at}
			}
			at += int(b[at+1]) * 8
		}
	}
	return Control{b}, Fault{}
}

// Type returns the ICMPv6 type.
func (c Control) Type() uint8 { return c.b[0] }

// ID returns the identifier.
func (c Control) ID() uint16 { return binary.BigEndian.Uint16(c.b[4:]) }

// Routers reports whether a discovery message is about home agents of mobile routers (RFC 3963 7.1, 7.2).
func (c Control) Routers() bool { return c.b[0] <= TypeDiscoveryReply && c.b[6]&flagRouters != 0 }

// Managed is the M flag of a Mobile Prefix Advertisement.
func (c Control) Managed() bool { return c.b[0] == TypePrefixAdvertisement && c.b[6]&flagManaged != 0 }

// Other is its O flag.
func (c Control) Other() bool { return c.b[0] == TypePrefixAdvertisement && c.b[6]&flagOther != 0 }

// HomeAgents returns how many addresses a Discovery Reply has.
func (c Control) HomeAgents() int {
	if c.b[0] != TypeDiscoveryReply {
		return 0
	}
	return (len(c.b) - wire.ICMPv6HeaderLen) / 16
}

// HomeAgent returns one of them; i is below their number. The sender orders them: the first is to be preferred.
func (c Control) HomeAgent(i int) netip.Addr {
	return netip.AddrFrom16([16]byte(c.b[wire.ICMPv6HeaderLen+i*16:]))
}

// Prefix is a Prefix Information option of a Mobile Prefix Advertisement (RFC 6275 6.8, 7.2). Lifetimes are
// whole seconds, or Infinite.
type Prefix struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool
	RouterAddr         bool // R: Addr is the home agent's whole address
	Addr               netip.Addr
	Valid, Preferred   time.Duration
}

// Prefixes walks the Prefix Information options of a Mobile Prefix Advertisement.
type Prefixes struct {
	b   []byte
	off int
}

// Prefixes returns the walk. Other options are passed over, as are those with another length or more than
// 128 bits.
func (c Control) Prefixes() Prefixes {
	if c.b[0] != TypePrefixAdvertisement {
		return Prefixes{}
	}
	return Prefixes{c.b, wire.ICMPv6HeaderLen}
}

// Next returns the next prefix; false at the end.
func (w *Prefixes) Next() (Prefix, bool) {
	for w.off < len(w.b) {
		o := w.b[w.off:]
		o = o[:int(o[1])*8]
		w.off += len(o)
		if o[0] != optPrefix || len(o) != optPrefixLen || o[2] > 128 {
			continue
		}
		p := Prefix{
			OnLink: o[3]&0x80 != 0, Autonomous: o[3]&0x40 != 0, RouterAddr: o[3]&0x20 != 0,
			Valid: lifetime(o[4:]), Preferred: lifetime(o[8:]), Addr: netip.AddrFrom16([16]byte(o[16:])),
		}
		p.Prefix = netip.PrefixFrom(p.Addr, int(o[2])).Masked()
		return p, true
	}
	return Prefix{}, false
}

func lifetime(b []byte) time.Duration {
	s := binary.BigEndian.Uint32(b)
	if s == math.MaxUint32 {
		return Infinite
	}
	return time.Duration(s) * time.Second
}

func seconds(d time.Duration) uint32 {
	return uint32(min(uint64(max(d, 0)/time.Second), math.MaxUint32))
}

// AppendDiscoveryRequest appends a Home Agent Address Discovery Request (RFC 6275 6.5, RFC 3963 7.1).
func AppendDiscoveryRequest(b []byte, id uint16, routers bool, src, dst netip.Addr) []byte {
	at := len(b)
	return finish(control(b, TypeDiscoveryRequest, id, flag(routers, flagRouters)), at, src, dst)
}

// AppendDiscoveryReply appends a Home Agent Address Discovery Reply (RFC 6275 6.6, RFC 3963 7.2) with the
// first [MaxHomeAgents] of the addresses.
func AppendDiscoveryReply(b []byte, id uint16, routers bool, agents []netip.Addr, src, dst netip.Addr) []byte {
	at := len(b)
	b = control(b, TypeDiscoveryReply, id, flag(routers, flagRouters))
	for _, a := range agents[:min(len(agents), MaxHomeAgents)] {
		v := a.As16()
		b = append(b, v[:]...)
	}
	return finish(b, at, src, dst)
}

// AppendPrefixSolicitation appends a Mobile Prefix Solicitation (RFC 6275 6.7).
func AppendPrefixSolicitation(b []byte, id uint16, src, dst netip.Addr) []byte {
	at := len(b)
	return finish(control(b, TypePrefixSolicitation, id, 0), at, src, dst)
}

// AppendPrefixAdvertisement appends a Mobile Prefix Advertisement (RFC 6275 6.8).
func AppendPrefixAdvertisement(b []byte, id uint16, managed, other bool, prefixes []Prefix, src, dst netip.Addr) []byte {
	at := len(b)
	b = control(b, TypePrefixAdvertisement, id, flag(managed, flagManaged)|flag(other, flagOther))
	for _, p := range prefixes {
		a := p.Prefix.Masked().Addr()
		if p.RouterAddr { // RFC 6275 7.2
			a = p.Addr
		}
		v := a.As16()
		b = append(b, optPrefix, optPrefixLen/8, byte(p.Prefix.Bits()), flag(p.OnLink, 0x80)|flag(p.Autonomous, 0x40)|flag(p.RouterAddr, 0x20))
		b = binary.BigEndian.AppendUint32(b, seconds(p.Valid))
		b = binary.BigEndian.AppendUint32(b, seconds(p.Preferred))
		b = append(append(b, 0, 0, 0, 0), v[:]...)
	}
	return finish(b, at, src, dst)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func control(b []byte, typ uint8, id uint16, flags byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, typ, 0, 0, 0), id)
	return append(b, flags, 0)
}

func finish(b []byte, at int, src, dst netip.Addr) []byte {
	s, d := src.As16(), dst.As16()
	binary.BigEndian.PutUint16(b[at+2:], wire.Checksum(&s, &d, wire.ICMPv6, b[at:]))
	return b
}
