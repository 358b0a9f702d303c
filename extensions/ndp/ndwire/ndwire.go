// Package ndwire reads and writes Neighbor Discovery messages (RFC 4861 4) with every check of
// 6.1, 7.1 and 8.1 that needs the packet only.
package ndwire

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"leveret/appliance/wire"
)

// The rules a message can break, one error each, so that they can be counted apart.
var (
	ErrHopLimit    = errors.New("hop limit is not 255")
	ErrChecksum    = errors.New("bad checksum")
	ErrCode        = errors.New("code is not 0")
	ErrLength      = errors.New("too short")
	ErrOption      = errors.New("option of length 0 or past the end")
	ErrTarget      = errors.New("target is multicast")
	ErrUnspecified = errors.New("source is unspecified and the message does not allow it")
	ErrDestination = errors.New("destination does not fit the message")
	ErrSource      = errors.New("source is not link-local")
	ErrSolicited   = errors.New("solicited flag in a multicast message")
	ErrFragmented  = errors.New("fragmented (RFC 6980)")
	ErrType        = errors.New("no neighbor discovery message")
)

// Option types (RFC 4861 4.6, RFC 3971 5.3.2).
const (
	OptSourceLLA  = 1
	OptTargetLLA  = 2
	OptPrefix     = 3
	OptRedirected = 4
	OptMTU        = 5
	OptNonce      = 14
)

// HopLimit is what every message is sent with (RFC 4861 11.2).
const HopLimit = 255

// least is the shortest body of each message type.
var least = map[uint8]int{
	wire.TypeRouterSolicitation: 8, wire.TypeRouterAdvertisement: 16, wire.TypeNeighborSolicitation: 24,
	wire.TypeNeighborAdvertisement: 24, wire.TypeRedirect: 40,
}

// Message is one valid message. It borrows the packet.
type Message struct {
	Type     uint8
	Src, Dst netip.Addr
	// Target of NS, NA and Redirect; Destination of Redirect.
	Target, Destination netip.Addr
	// Router, Solicited and Override are the flags of an NA.
	Router, Solicited, Override bool
	// SourceLLA and TargetLLA are the first option of that kind, of an Ethernet address.
	SourceLLA, TargetLLA       [6]byte
	HasSourceLLA, HasTargetLLA bool
	Nonce                      []byte // nil = none
	Redirected                 []byte // what a Redirect has of the packet, padding and all; nil = none
	Options                    []byte // all of them, checked
	body                       []byte // the message without its options
}

// Parse checks the message at off of a whole IPv6 packet; ext says that the packet has a Fragment
// header.
func Parse(pkt []byte, off int, fragmented bool) (Message, error) {
	var m Message
	h, err := wire.ParseIPv6(pkt)
	if err != nil {
		return m, err
	}
	if off < wire.IPv6HeaderLen || off >= len(pkt) {
		return m, ErrLength
	}
	b := pkt[off:]
	m.Type, m.Src, m.Dst = b[0], h.Src(), h.Dst()
	n, known := least[m.Type]
	switch {
	case !known:
		return m, ErrType
	case fragmented:
		return m, ErrFragmented
	case h.HopLimit() != HopLimit:
		return m, ErrHopLimit
	case len(b) < n:
		return m, ErrLength
	case !wire.VerifyICMPv6(pkt, off):
		return m, ErrChecksum
	case b[1] != 0:
		return m, ErrCode
	}
	m.body, m.Options = b[:n:n], b[n:]
	if err := m.options(); err != nil {
		return m, err
	}
	return m, m.check(b)
}

// options walks the options: any order, unknown ones are passed over, the first of a kind counts.
func (m *Message) options() error {
	for o := m.Options; len(o) > 0; {
		if len(o) < 2 || o[1] == 0 || int(o[1])*8 > len(o) {
			return ErrOption
		}
		n := int(o[1]) * 8
		switch {
		case o[0] == OptSourceLLA && n == 8 && !m.HasSourceLLA:
			m.SourceLLA, m.HasSourceLLA = [6]byte(o[2:8]), true
		case o[0] == OptTargetLLA && n == 8 && !m.HasTargetLLA:
			m.TargetLLA, m.HasTargetLLA = [6]byte(o[2:8]), true
		case o[0] == OptNonce && m.Nonce == nil:
			m.Nonce = o[2:n:n]
		case o[0] == OptRedirected && n > 8 && m.Type == wire.TypeRedirect && m.Redirected == nil:
			m.Redirected = o[8:n:n] // ignored in other messages (RFC 4861 4.6.3)
		}
		o = o[n:]
	}
	return nil
}

// check applies the rules of the message's own type.
func (m *Message) check(b []byte) error {
	if m.Type == wire.TypeNeighborSolicitation || m.Type == wire.TypeNeighborAdvertisement || m.Type == wire.TypeRedirect {
		m.Target = netip.AddrFrom16([16]byte(b[8:24]))
		if m.Target.IsMulticast() {
			return ErrTarget
		}
	}
	unspecified := m.Src.IsUnspecified()
	switch m.Type {
	case wire.TypeRouterSolicitation: // 6.1.1
		if unspecified && m.HasSourceLLA {
			return ErrUnspecified
		}
	case wire.TypeRouterAdvertisement: // 6.1.2
		if !m.Src.IsLinkLocalUnicast() {
			return ErrSource
		}
	case wire.TypeNeighborSolicitation: // 7.1.1
		if unspecified {
			if m.HasSourceLLA {
				return ErrUnspecified
			}
			if m.Dst != wire.SolicitedNode(m.Target) {
				return ErrDestination
			}
		}
	case wire.TypeNeighborAdvertisement: // 7.1.2
		m.Router, m.Solicited, m.Override = b[4]&0x80 != 0, b[4]&0x40 != 0, b[4]&0x20 != 0
		if m.Dst.IsMulticast() && m.Solicited {
			return ErrSolicited
		}
	case wire.TypeRedirect: // 8.1
		m.Destination = netip.AddrFrom16([16]byte(b[24:40]))
		switch {
		case !m.Src.IsLinkLocalUnicast():
			return ErrSource
		case m.Destination.IsMulticast():
			return ErrTarget
		case m.Target != m.Destination && !m.Target.IsLinkLocalUnicast():
			return ErrTarget
		}
	}
	return nil
}

// NS is a Neighbor Solicitation to send (RFC 4861 4.3).
type NS struct {
	Src, Dst, Target netip.Addr
	SourceLLA        *[6]byte // nil for DAD
	Nonce            []byte   // RFC 7527: 6 octets; nil = none
}

// AppendNS appends the whole packet.
func AppendNS(b []byte, m NS) []byte {
	var opts [16]byte
	n := 0
	if m.SourceLLA != nil {
		n += putLLA(opts[n:], OptSourceLLA, *m.SourceLLA)
	}
	if len(m.Nonce) == 6 {
		opts[n], opts[n+1] = OptNonce, 1
		copy(opts[n+2:], m.Nonce)
		n += 8
	}
	return appendMessage(b, m.Src, m.Dst, wire.TypeNeighborSolicitation, 0, m.Target, opts[:n])
}

// NA is a Neighbor Advertisement to send (RFC 4861 4.4).
type NA struct {
	Src, Dst, Target            netip.Addr
	Router, Solicited, Override bool
	TargetLLA                   *[6]byte
}

// AppendNA appends the whole packet.
func AppendNA(b []byte, m NA) []byte {
	var flags uint32
	for i, f := range []bool{m.Router, m.Solicited, m.Override} {
		if f {
			flags |= 1 << (31 - i)
		}
	}
	var opts [8]byte
	n := 0
	if m.TargetLLA != nil {
		n = putLLA(opts[:], OptTargetLLA, *m.TargetLLA)
	}
	return appendMessage(b, m.Src, m.Dst, wire.TypeNeighborAdvertisement, flags, m.Target, opts[:n])
}

func putLLA(b []byte, typ uint8, lla [6]byte) int {
	b[0], b[1] = typ, 1
	copy(b[2:], lla[:])
	return 8
}

func appendMessage(b []byte, src, dst netip.Addr, typ uint8, word uint32, target netip.Addr, opts []byte) []byte {
	at := len(b)
	b = wire.AppendIPv6(b, wire.IPv6Fields{
		PayloadLength: uint16(24 + len(opts)), NextHeader: wire.ICMPv6, HopLimit: HopLimit, Src: src, Dst: dst,
	})
	b = append(b, typ, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, word)
	t := target.As16()
	b = append(append(b, t[:]...), opts...)
	wire.UpdateICMPv6Checksum(b[at:], wire.IPv6HeaderLen)
	return b
}
