package wire

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// MLDQuery is a query of either version (RFC 3810 5.1, RFC 2710 3).
type MLDQuery struct {
	V1       bool
	Group    netip.Addr // :: = general
	MaxDelay time.Duration
}

// ParseMLDQuery reads the query at off of a whole packet whose checksum is right; false for one
// that is malformed. The version follows from its length (RFC 3810 8.1).
func ParseMLDQuery(pkt []byte, off int) (MLDQuery, bool) {
	b := pkt[min(off, len(pkt)):]
	if len(b) < 24 || b[0] != TypeMLDQuery {
		return MLDQuery{}, false
	}
	code := binary.BigEndian.Uint16(b[4:])
	q := MLDQuery{V1: len(b) == 24, Group: netip.AddrFrom16([16]byte(b[8:24]))}
	if !q.Group.IsUnspecified() && !q.Group.IsMulticast() {
		return MLDQuery{}, false
	}
	ms := uint32(code)
	if !q.V1 {
		if len(b) < 28 {
			return MLDQuery{}, false
		}
		if code >= 0x8000 { // a floating-point value (RFC 3810 5.1.3)
			ms = (uint32(code&0xfff) | 0x1000) << (code>>12&7 + 3)
		}
	}
	q.MaxDelay = time.Duration(ms) * time.Millisecond
	return q, true
}

// MLDRecord is one group record without sources (RFC 3810 5.2.4).
type MLDRecord struct {
	Type  uint8
	Group netip.Addr
}

// routerAlert is a Hop-by-Hop Options header that says "MLD" (RFC 2711 2.1), padded to 8 octets.
var routerAlert = [8]byte{ICMPv6, 0, OptRouterAlert, 2, 0, 0, OptPadN, 0}

// AppendMLDv2Report appends a whole packet with a Version 2 report.
func AppendMLDv2Report(b []byte, src netip.Addr, records []MLDRecord) []byte {
	body := make([]byte, 8, 8+20*len(records))
	body[0] = TypeMLDv2Report
	binary.BigEndian.PutUint16(body[6:], uint16(len(records)))
	for _, r := range records {
		g := r.Group.As16()
		body = append(append(body, r.Type, 0, 0, 0), g[:]...)
	}
	return appendMLD(b, src, AllMLDv2Routers, body)
}

// AppendMLDv1 appends a whole packet with a Report or a Done (RFC 2710 3).
func AppendMLDv1(b []byte, src netip.Addr, typ uint8, group netip.Addr) []byte {
	body := make([]byte, 24)
	body[0] = typ
	g := group.As16()
	copy(body[8:], g[:])
	dst := group
	if typ == TypeMLDv1Done {
		dst = AllRouters
	}
	return appendMLD(b, src, dst, body)
}

func appendMLD(b []byte, src, dst netip.Addr, body []byte) []byte {
	at := len(b)
	b = AppendIPv6(b, IPv6Fields{
		PayloadLength: uint16(len(routerAlert) + len(body)), NextHeader: HopByHop, HopLimit: 1, Src: src, Dst: dst,
	})
	b = append(append(b, routerAlert[:]...), body...)
	UpdateICMPv6Checksum(b[at:], IPv6HeaderLen+len(routerAlert))
	return b
}
