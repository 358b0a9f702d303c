package esp

import (
	"encoding/binary"

	"leveret/appliance/wire"
)

// InnerLen returns the length of the IP packet that payload begins with, by its own header, so that TFC padding
// behind it can be cut (RFC 4303 2.7). It is not ok when the payload is no such packet or ends before it does.
func InnerLen(payload []byte, nextHeader uint8) (n int, ok bool) {
	switch nextHeader {
	case wire.IPv6Encap:
		if len(payload) < wire.IPv6HeaderLen || payload[0]>>4 != 6 {
			return 0, false
		}
		n = wire.IPv6HeaderLen + int(binary.BigEndian.Uint16(payload[4:]))
	case wire.IPv4Encap:
		if len(payload) < 20 || payload[0]>>4 != 4 {
			return 0, false
		}
		n = int(binary.BigEndian.Uint16(payload[2:]))
		if header := int(payload[0]&15) * 4; header < 20 || n < header {
			return 0, false
		}
	default:
		return 0, false
	}
	return n, n <= len(payload)
}
