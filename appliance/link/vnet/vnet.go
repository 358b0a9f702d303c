// Package vnet is the virtio-net header, in which TUN, TAP and AF_PACKET tell what is unfinished
// about a frame: a superpacket that has not been split, a checksum that has not been completed.
//
//	 0       1          2         4          6             8
//	+-------+----------+---------+----------+-------------+-------------+
//	| flags | gso_type | hdr_len | gso_size | csum_start  | csum_offset |   host byte order
//	+-------+----------+---------+----------+-------------+-------------+
package vnet

import (
	"encoding/binary"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// HeaderLen is the length of struct virtio_net_hdr.
const HeaderLen = 10

const (
	flagNeedsCsum = 1
	flagDataValid = 2

	gsoNone  = 0
	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDPL4 = 5
	gsoECN   = 0x80
)

// Decode reads the header h of a frame whose network header is at l2 into g. It reports false for
// a header that makes no sense or a kind of superpacket that IPv6 does not have; the frame is
// then not to be used.
func Decode(h, frame []byte, l2 int, g *packet.GSO) bool {
	*g = packet.GSO{}
	flags, typ := h[0], h[1]&^gsoECN
	if flags&flagNeedsCsum != 0 {
		g.Csum = packet.CsumPartial
		g.CsumStart = int(binary.NativeEndian.Uint16(h[6:])) - l2
		g.CsumOffset = int(binary.NativeEndian.Uint16(h[8:]))
		if g.CsumStart < 0 || g.CsumStart+l2+g.CsumOffset+2 > len(frame) {
			return false
		}
	} else if flags&flagDataValid != 0 {
		g.Csum = packet.CsumVerified
	}
	if typ == gsoNone {
		return true
	}
	g.Size = int(binary.NativeEndian.Uint16(h[4:]))
	// hdr_len is a hint that some senders leave wrong: the headers themselves say it.
	trans := g.CsumStart
	if g.Csum != packet.CsumPartial || g.Size == 0 {
		return false // every sender of superpackets leaves the checksum to us
	}
	switch typ {
	case gsoTCPv6:
		g.Type = packet.GSOTCP6
		if len(frame) < l2+trans+20 {
			return false
		}
		g.HdrLen = trans + int(frame[l2+trans+12]>>4)*4
	case gsoUDPL4:
		g.Type = packet.GSOUDP
		g.HdrLen = trans + 8
	default:
		return false
	}
	return l2+g.HdrLen <= len(frame) && trans >= wire.IPv6HeaderLen
}

// Encode writes the header of a frame whose network header is at l2 over h.
func Encode(h []byte, g *packet.GSO, l2 int) {
	_ = h[HeaderLen-1]
	clear(h[:HeaderLen])
	switch g.Csum {
	case packet.CsumPartial:
		h[0] = flagNeedsCsum
		binary.NativeEndian.PutUint16(h[6:], uint16(g.CsumStart+l2))
		binary.NativeEndian.PutUint16(h[8:], uint16(g.CsumOffset))
	case packet.CsumVerified:
		h[0] = flagDataValid
	}
	switch g.Type {
	case packet.GSOTCP6:
		h[1] = gsoTCPv6
	case packet.GSOUDP:
		h[1] = gsoUDPL4
	default:
		return
	}
	binary.NativeEndian.PutUint16(h[2:], uint16(g.HdrLen+l2))
	binary.NativeEndian.PutUint16(h[4:], uint16(g.Size))
}
