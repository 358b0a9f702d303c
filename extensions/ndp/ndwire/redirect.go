package ndwire

import (
	"net/netip"

	"leveret/appliance/wire"
)

// Redirect is a Redirect to send (RFC 4861 4.5).
type Redirect struct {
	Src, Dst            netip.Addr
	Target, Destination netip.Addr
	TargetLLA           *[6]byte // nil = not known
	Packet              []byte   // the packet that led to it, whole
}

// AppendRedirect appends the whole packet. The Redirected Header option has as much of Packet as
// keeps the message within 1280 octets, filled up with zeros to a multiple of eight (RFC 4861 4.6.3,
// 8.2).
func AppendRedirect(b []byte, m Redirect) []byte {
	at := len(b)
	b = append(begin(b, m.Src, m.Dst, wire.TypeRedirect), 0, 0, 0, 0)
	t, d := m.Target.As16(), m.Destination.As16()
	b = append(append(b, t[:]...), d[:]...)
	if m.TargetLLA != nil {
		b = appendLLA(b, OptTargetLLA, *m.TargetLLA)
	}
	// 1280 and all that comes before are multiples of eight, so that what is cut needs no padding.
	if room := wire.MinMTU - (len(b) - at) - 8; len(m.Packet) > 0 {
		o := len(b)
		b = append(b, OptRedirected, 0, 0, 0, 0, 0, 0, 0)
		b = pad(append(b, m.Packet[:min(len(m.Packet), room)]...), o)
	}
	return finish(b, at)
}
