package packet

// GSOType says what kind of superpacket a packet is.
type GSOType uint8

// The kinds of superpacket.
const (
	GSONone GSOType = iota
	GSOTCP6         // one TCP segment of many segments' payload
	GSOUDP          // one UDP datagram of many datagrams' payload, each Size octets but the last
)

// CsumState says what is known of the transport checksum.
type CsumState uint8

// The checksum states.
const (
	CsumUnknown  CsumState = iota // whatever the packet carries
	CsumPartial                   // holds the pseudo-header sum only: complete it, or leave that to the port
	CsumVerified                  // the port vouches for it
)

// GSO is a packet's segmentation and checksum state, as the virtio-net header carries it. A
// superpacket passes whole through the path: one header check, one lookup, one hop-limit
// decrement. It is split only where it must be.
type GSO struct {
	Type       GSOType
	Csum       CsumState
	Size       int // payload octets of each segment
	HdrLen     int // octets from the network header to the end of the transport header
	CsumStart  int // where summing starts, from the network header (CsumPartial)
	CsumOffset int // where the checksum goes, from CsumStart
}

// SegmentLen returns the length of the longest packet on the wire: of one segment for a
// superpacket, otherwise of the packet itself.
func (p *Packet) SegmentLen() int {
	if p.GSO.Type == GSONone {
		return p.Len()
	}
	return p.GSO.HdrLen + p.GSO.Size
}
