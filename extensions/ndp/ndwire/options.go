package ndwire

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strings"
	"time"
)

// Option types of Router Advertisements.
const (
	OptAdvInterval   = 7  // RFC 6275 7.3
	OptHomeAgentInfo = 8  // RFC 6275 7.4
	OptRoute         = 24 // RFC 4191 2.3
	OptRDNSS         = 25 // RFC 8106 5.1
	OptFlagsExt      = 26 // RFC 5175 4
	OptDNSSL         = 31 // RFC 8106 5.2
	OptCaptivePortal = 37 // RFC 8910 2.3
	OptPREF64        = 38 // RFC 8781 4
)

const (
	// maxKept bounds what one RA makes a receiver keep: prefixes, routes, servers, names and NAT64
	// prefixes, each. The first ones win.
	maxKept = 64
	// maxOption is the most an option can have: 255 units of eight octets.
	maxOption = 255 * 8
	// MaxPREF64Lifetime is what 13 bits of eight seconds can say (RFC 8781 4.1).
	MaxPREF64Lifetime = 8191 * 8 * time.Second
	// MaxCaptivePortal is how many octets a portal's URI can have.
	MaxCaptivePortal = maxOption - 2
)

// PrefixInfo is a Prefix Information option (RFC 4861 4.6.2, RFC 6275 7.2).
type PrefixInfo struct {
	Prefix             netip.Prefix
	OnLink, Autonomous bool
	RouterAddr         bool
	Valid, Preferred   time.Duration // or Infinite
	Addr               netip.Addr    // with RouterAddr: the router's whole address, in Prefix
}

// RouteInfo is a Route Information option (RFC 4191 2.3).
type RouteInfo struct {
	Prefix     netip.Prefix
	Preference Preference
	Lifetime   time.Duration // or Infinite
}

// RDNSS is a Recursive DNS Server option (RFC 8106 5.1).
type RDNSS struct {
	Servers  []netip.Addr
	Lifetime time.Duration // or Infinite
}

// DNSSL is a DNS Search List option (RFC 8106 5.2). Domains have no dot at the end.
type DNSSL struct {
	Domains  []string
	Lifetime time.Duration // or Infinite
}

// PREF64 is the prefix of a NAT64 (RFC 8781 4) of 32, 40, 48, 56, 64 or 96 bits. The lifetime is
// rounded up to a multiple of eight seconds and has at most MaxPREF64Lifetime.
type PREF64 struct {
	Prefix   netip.Prefix
	Lifetime time.Duration
}

// HomeAgentInfo is a Home Agent Information option (RFC 6275 7.4).
type HomeAgentInfo struct {
	Preference   uint16
	Lifetime     time.Duration // 1 s to 65535 s
	MobileRouter bool          // the R flag of RFC 3963 7.3
}

// plc are the prefix lengths by Prefix Length Code (RFC 8781 4).
var plc = [...]int{96, 64, 56, 48, 40, 32}

// option reads one option; b is all of it.
func (m *RA) option(b []byte) {
	n := len(b)
	switch b[0] {
	case OptMTU:
		if n == 8 && m.MTU == 0 {
			m.MTU = binary.BigEndian.Uint32(b[4:])
		}
	case OptPrefix:
		m.prefix(b)
	case OptRoute:
		m.route(b)
	case OptRDNSS:
		m.rdnss(b)
	case OptDNSSL:
		m.dnssl(b)
	case OptPREF64:
		m.pref64(b)
	case OptCaptivePortal:
		if s := strings.TrimRight(string(b[2:]), "\x00"); m.CaptivePortal == "" && IsPortal(s) {
			m.CaptivePortal = s
		}
	case OptAdvInterval:
		if n == 8 && m.AdvInterval == 0 {
			m.AdvInterval = time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Millisecond
		}
	case OptHomeAgentInfo:
		if n == 8 && m.HomeAgentInfo == nil {
			m.HomeAgentInfo = &HomeAgentInfo{
				Preference:   binary.BigEndian.Uint16(b[4:]),
				Lifetime:     time.Duration(binary.BigEndian.Uint16(b[6:])) * time.Second,
				MobileRouter: b[2]&0x80 != 0,
			}
		}
	}
}

func (m *RA) prefix(b []byte) {
	if len(b) != 32 || b[2] > 128 || len(m.Prefixes) >= maxKept {
		return
	}
	a := netip.AddrFrom16([16]byte(b[16:32]))
	p := PrefixInfo{
		Prefix: netip.PrefixFrom(a, int(b[2])).Masked(),
		OnLink: b[3]&0x80 != 0, Autonomous: b[3]&0x40 != 0, RouterAddr: b[3]&0x20 != 0,
		Valid: lifetime(b[4:]), Preferred: lifetime(b[8:]),
	}
	if p.RouterAddr {
		p.Addr = a
	}
	m.Prefixes = append(m.Prefixes, p)
}

func (m *RA) route(b []byte) {
	pref, ok := preference(b[3])
	// RFC 4191 2.3: the option must hold its prefix; one with the reserved preference MUST be ignored.
	if !ok || b[2] > 128 || len(b) > 24 || int(b[2]) > (len(b)-8)*8 || len(m.Routes) >= maxKept {
		return
	}
	var a [16]byte
	copy(a[:], b[8:])
	m.Routes = append(m.Routes, RouteInfo{
		Prefix: netip.PrefixFrom(netip.AddrFrom16(a), int(b[2])).Masked(), Preference: pref, Lifetime: lifetime(b[4:]),
	})
}

func (m *RA) rdnss(b []byte) {
	if len(b) < 24 || len(b)%16 != 8 { // RFC 8106 5.3.1
		return
	}
	room := maxKept
	for _, r := range m.RDNSS {
		room -= len(r.Servers)
	}
	r := RDNSS{Lifetime: lifetime(b[4:])}
	for a := b[8:]; len(a) > 0; a = a[16:] {
		s := netip.AddrFrom16([16]byte(a))
		if s.IsMulticast() || s.IsUnspecified() { // RFC 8106 5.3.1: unicast addresses, or no valid option
			return
		}
		if len(r.Servers) < room {
			r.Servers = append(r.Servers, s)
		}
	}
	if len(r.Servers) > 0 {
		m.RDNSS = append(m.RDNSS, r)
	}
}

func (m *RA) dnssl(b []byte) {
	if len(b) < 16 { // RFC 8106 5.3.1
		return
	}
	room := maxKept
	for _, d := range m.DNSSL {
		room -= len(d.Domains)
	}
	d := DNSSL{Lifetime: lifetime(b[4:])}
	for o := b[8:]; len(o) > 0 && o[0] != 0; { // a zero where a name would begin is padding
		name, n := readName(o)
		if n == 0 {
			return
		}
		if len(d.Domains) < room {
			d.Domains = append(d.Domains, name)
		}
		o = o[n:]
	}
	if len(d.Domains) > 0 {
		m.DNSSL = append(m.DNSSL, d)
	}
}

func (m *RA) pref64(b []byte) {
	word := binary.BigEndian.Uint16(b[2:])
	if len(b) != 16 || int(word&7) >= len(plc) || len(m.PREF64) >= maxKept { // RFC 8781 4
		return
	}
	var a [16]byte
	copy(a[:], b[4:])
	m.PREF64 = append(m.PREF64, PREF64{
		Prefix:   netip.PrefixFrom(netip.AddrFrom16(a), plc[word&7]).Masked(),
		Lifetime: time.Duration(word&^7) * time.Second, // scaled by eight already
	})
}

// appendOptions appends all options; flags before what they may need (RFC 5175 4).
func (m *RA) appendOptions(b []byte) []byte {
	if m.FlagsExt != [6]byte{} {
		b = append(append(b, OptFlagsExt, 1), m.FlagsExt[:]...)
	}
	if m.SourceLLA != nil {
		b = appendLLA(b, OptSourceLLA, *m.SourceLLA)
	}
	if m.MTU != 0 {
		b = binary.BigEndian.AppendUint32(append(b, OptMTU, 1, 0, 0), m.MTU)
	}
	for _, p := range m.Prefixes {
		b = p.append(b)
	}
	for _, r := range m.Routes {
		b = r.append(b)
	}
	for _, r := range m.RDNSS {
		b = r.append(b)
	}
	if m.AdvInterval != 0 {
		b = binary.BigEndian.AppendUint32(append(b, OptAdvInterval, 1, 0, 0), milliseconds(m.AdvInterval))
	}
	if h := m.HomeAgentInfo; h != nil {
		b = append(b, OptHomeAgentInfo, 1, 0, 0)
		if h.MobileRouter {
			b[len(b)-2] = 0x80
		}
		b = binary.BigEndian.AppendUint16(b, h.Preference)
		b = binary.BigEndian.AppendUint16(b, uint16(min(seconds(h.Lifetime), math.MaxUint16)))
	}
	for _, d := range m.DNSSL {
		b = d.append(b)
	}
	for _, p := range m.PREF64 {
		b = p.append(b)
	}
	if IsPortal(m.CaptivePortal) {
		b = pad(append(append(b, OptCaptivePortal, 0), m.CaptivePortal...), len(b))
	}
	return b
}

func (p PrefixInfo) append(b []byte) []byte {
	var flags byte
	if p.OnLink {
		flags |= 0x80
	}
	if p.Autonomous {
		flags |= 0x40
	}
	a := p.Prefix.Masked().Addr().As16()
	if p.RouterAddr { // RFC 6275 7.2
		flags |= 0x20
		a = p.Addr.As16()
	}
	b = append(b, OptPrefix, 4, byte(p.Prefix.Bits()), flags)
	b = binary.BigEndian.AppendUint32(b, seconds(p.Valid))
	b = binary.BigEndian.AppendUint32(b, seconds(p.Preferred))
	return append(append(b, 0, 0, 0, 0), a[:]...)
}

func (r RouteInfo) append(b []byte) []byte {
	units := byte(1 + (r.Prefix.Bits()+63)/64) // the shortest that holds the prefix (RFC 4191 2.3)
	a := r.Prefix.Masked().Addr().As16()
	b = append(b, OptRoute, units, byte(r.Prefix.Bits()), r.Preference.bits())
	b = binary.BigEndian.AppendUint32(b, seconds(r.Lifetime))
	return append(b, a[:(units-1)*8]...)
}

func (r RDNSS) append(b []byte) []byte {
	if len(r.Servers) == 0 {
		return b
	}
	o := len(b)
	b = binary.BigEndian.AppendUint32(append(b, OptRDNSS, 0, 0, 0), seconds(r.Lifetime))
	for _, s := range r.Servers[:min(len(r.Servers), (maxOption-8)/16)] {
		a := s.As16()
		b = append(b, a[:]...)
	}
	return pad(b, o)
}

func (d DNSSL) append(b []byte) []byte {
	o := len(b)
	b = binary.BigEndian.AppendUint32(append(b, OptDNSSL, 0, 0, 0), seconds(d.Lifetime))
	for _, name := range d.Domains {
		if next := appendName(b, name); len(next)-o <= maxOption {
			b = next
		}
	}
	if len(b) == o+8 {
		return b[:o] // RFC 8106 5.2: at least one name
	}
	return pad(b, o)
}

func (p PREF64) append(b []byte) []byte {
	for code, bits := range plc {
		if bits == p.Prefix.Bits() {
			// RFC 8781 4.1: rounded up, so that a lifetime is zero only when it is meant to be.
			const unit = 8 * time.Second
			scaled := (min(max(p.Lifetime, 0), MaxPREF64Lifetime) + unit - 1) / unit
			a := p.Prefix.Masked().Addr().As16()
			b = binary.BigEndian.AppendUint16(append(b, OptPREF64, 2), uint16(scaled)<<3|uint16(code))
			return append(b, a[:12]...)
		}
	}
	return b
}

// appendLLA appends a link-layer address option.
func appendLLA(b []byte, typ uint8, lla [6]byte) []byte {
	return append(append(b, typ, 1), lla[:]...)
}

// pad fills the option that begins at o up to a multiple of eight and writes its length.
func pad(b []byte, o int) []byte {
	for (len(b)-o)%8 != 0 {
		b = append(b, 0)
	}
	b[o+1] = byte((len(b) - o) / 8)
	return b
}

// IsPortal says whether a captive portal's URI can be sent and is kept (RFC 8910 2.3): visible ASCII
// only, so that it can be printed and logged.
func IsPortal(s string) bool {
	if s == "" || len(s) > MaxCaptivePortal {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
