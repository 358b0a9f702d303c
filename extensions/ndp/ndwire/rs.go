package ndwire

import (
	"net/netip"

	"leveret/appliance/wire"
)

// RS is a Router Solicitation to send (RFC 4861 4.1).
type RS struct {
	Src, Dst  netip.Addr
	SourceLLA *[6]byte // nil = none; never sent from ::
}

// AppendRS appends the whole packet.
func AppendRS(b []byte, m RS) []byte {
	at := len(b)
	b = append(begin(b, m.Src, m.Dst, wire.TypeRouterSolicitation), 0, 0, 0, 0)
	if m.SourceLLA != nil && !m.Src.IsUnspecified() { // RFC 4861 4.1: MUST NOT then
		b = appendLLA(b, OptSourceLLA, *m.SourceLLA)
	}
	return finish(b, at)
}
