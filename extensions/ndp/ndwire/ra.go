package ndwire

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"leveret/appliance/wire"
)

// Infinite is a lifetime without an end; on the wire it is 0xffffffff seconds.
const Infinite = time.Duration(math.MaxInt64)

// Preference orders routers and routes (RFC 4191 2.1).
type Preference int8

// The preferences.
const (
	Low    Preference = -1
	Medium Preference = 0
	High   Preference = 1
)

// String returns the configuration's word.
func (p Preference) String() string {
	switch p {
	case Low:
		return "low"
	case High:
		return "high"
	default:
		return "medium"
	}
}

// MarshalText implements encoding.TextMarshaler.
func (p Preference) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes low, medium or high.
func (p *Preference) UnmarshalText(text []byte) error {
	for _, q := range []Preference{Low, Medium, High} {
		if string(text) == q.String() {
			*p = q
			return nil
		}
	}
	return fmt.Errorf("%q is not low, medium or high", text)
}

// bits returns the two-bit signed integer where both RA and Route Information have it.
func (p Preference) bits() byte { return byte(p) & 3 << 3 }

// preference reads those bits; the reserved value 10 is not ok.
func preference(b byte) (p Preference, ok bool) {
	p = Preference(int8(b<<3) >> 6) // the sign is the upper of the two bits
	return max(p, Low), p != -2
}

// RA is a Router Advertisement (RFC 4861 4.2). Lifetimes are whole seconds on the wire and are cut
// down to them; ReachableTime, RetransTimer and AdvInterval are whole milliseconds.
type RA struct {
	Src, Dst       netip.Addr
	CurHopLimit    uint8 // 0 = unspecified
	Managed, Other bool
	HomeAgent      bool          // RFC 6275 7.1
	Proxy          bool          // RFC 4389 4.1.3.3
	Preference     Preference    // Medium whenever RouterLifetime is 0 (RFC 4191 2.2)
	RouterLifetime time.Duration // up to 65535 s; 0 = no default router
	ReachableTime  time.Duration // 0 = unspecified
	RetransTimer   time.Duration // 0 = unspecified

	SourceLLA     *[6]byte
	MTU           uint32 // 0 = no option
	Prefixes      []PrefixInfo
	Routes        []RouteInfo
	RDNSS         []RDNSS
	DNSSL         []DNSSL
	PREF64        []PREF64
	CaptivePortal string         // "" = no option
	AdvInterval   time.Duration  // RFC 6275 7.3; 0 = no option
	HomeAgentInfo *HomeAgentInfo // RFC 6275 7.4
	FlagsExt      [6]byte        // flag bits 8 to 55 (RFC 5175 4); all zero = no option
}

// The flags octet (RFC 5175 3).
const (
	flagManaged   = 0x80
	flagOther     = 0x40
	flagHomeAgent = 0x20
	flagProxy     = 0x04
)

// AppendRA appends the whole packet. What no option can hold is left out: a name that is none, a
// portal of more than 2038 octets, servers or names beyond 2040 octets of one option.
func AppendRA(b []byte, m RA) []byte {
	at := len(b)
	b = begin(b, m.Src, m.Dst, wire.TypeRouterAdvertisement)
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{{m.Managed, flagManaged}, {m.Other, flagOther}, {m.HomeAgent, flagHomeAgent}, {m.Proxy, flagProxy}} {
		if f.set {
			flags |= f.bit
		}
	}
	life := uint16(min(seconds(m.RouterLifetime), math.MaxUint16))
	if life != 0 { // otherwise the preference MUST be 00 (RFC 4191 2.2)
		flags |= m.Preference.bits()
	}
	b = append(b, m.CurHopLimit, flags)
	b = binary.BigEndian.AppendUint16(b, life)
	b = binary.BigEndian.AppendUint32(b, milliseconds(m.ReachableTime))
	b = binary.BigEndian.AppendUint32(b, milliseconds(m.RetransTimer))
	return finish(m.appendOptions(b), at)
}

// RA decodes a Router Advertisement. An option that breaks the rules of its own type is passed over
// alone. Of options that belong there once the first counts; of the others at most 64 prefixes,
// routes, servers, names and NAT64 prefixes are kept, the first ones.
func (m Message) RA() (RA, error) {
	if m.Type != wire.TypeRouterAdvertisement {
		return RA{}, ErrType
	}
	b := m.body
	r := RA{
		Src: m.Src, Dst: m.Dst, CurHopLimit: b[4],
		Managed: b[5]&flagManaged != 0, Other: b[5]&flagOther != 0,
		HomeAgent: b[5]&flagHomeAgent != 0, Proxy: b[5]&flagProxy != 0,
		RouterLifetime: time.Duration(binary.BigEndian.Uint16(b[6:])) * time.Second,
		ReachableTime:  time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Millisecond,
		RetransTimer:   time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Millisecond,
	}
	// RFC 4191 2.2: the reserved value counts as medium, and any without a lifetime.
	if p, ok := preference(b[5]); ok && r.RouterLifetime != 0 {
		r.Preference = p
	}
	if m.HasSourceLLA {
		lla := m.SourceLLA
		r.SourceLLA = &lla
	}
	flags := false
	for o := m.Options; len(o) > 0; {
		n := int(o[1]) * 8
		if o[0] != OptFlagsExt {
			r.option(o[:n:n])
		} else if !flags { // RFC 5175 4: only the first, and of a longer one what is known
			flags = true
			copy(r.FlagsExt[:], o[2:n])
		}
		o = o[n:]
	}
	return r, nil
}

// seconds returns a lifetime as it is on the wire.
func seconds(d time.Duration) uint32 {
	switch {
	case d <= 0:
		return 0
	case d/time.Second >= math.MaxUint32: // Infinite, too
		return math.MaxUint32
	default:
		return uint32(d / time.Second)
	}
}

// lifetime reads four octets of seconds.
func lifetime(b []byte) time.Duration {
	s := binary.BigEndian.Uint32(b)
	if s == math.MaxUint32 {
		return Infinite
	}
	return time.Duration(s) * time.Second
}

func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Millisecond, 0), math.MaxUint32))
}

// begin appends the IPv6 header and the first four octets of a message; finish makes them right.
func begin(b []byte, src, dst netip.Addr, typ uint8) []byte {
	b = wire.AppendIPv6(b, wire.IPv6Fields{NextHeader: wire.ICMPv6, HopLimit: HopLimit, Src: src, Dst: dst})
	return append(b, typ, 0, 0, 0)
}

func finish(b []byte, at int) []byte {
	pkt := b[at:]
	binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-wire.IPv6HeaderLen))
	wire.UpdateICMPv6Checksum(pkt, wire.IPv6HeaderLen)
	return b
}
