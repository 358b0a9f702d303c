package wire

import (
	"net/netip"

	"leveret/appliance/wire"
)

const (
	// HomeAddressLen is the length of a Destination Options header with a Home Address option and nothing else.
	HomeAddressLen = 24
	// Type2Len is the length of a Type 2 Routing header.
	Type2Len = 24
	// RoutingType2 is its Routing Type.
	RoutingType2 = 2
)

// HomeAddress finds the Home Address option of a packet (RFC 6275 6.3); c is its chain, walked without a
// problem, over the whole packet as it was on the wire or after reassembly. Without one the address is not
// valid. off is that of the option's address.
//
// A packet is discarded if the option is of another length or misaligned, stands before a Routing header or
// behind a Fragment, AH or ESP header, is there twice, or holds an address that cannot be a home address.
func HomeAddress(pkt []byte, c *wire.Chain) (home netip.Addr, off int, f Fault) {
	late := false // behind a header that it has to stand before
	for _, h := range c.Headers[:c.N] {
		switch h.Proto {
		case wire.Routing:
			if home.IsValid() {
				return netip.Addr{}, 0, Fault{HomeAddressBad, off - 2}
			}
		case wire.Fragment, wire.AH:
			late = true
		case wire.DestOpts:
			opts := wire.ParseOptions(pkt[:h.Off+h.Len], h.Off)
			for {
				o, ok := opts.Next()
				if !ok {
					break
				}
				if o.Type != wire.OptHomeAddress {
					continue
				}
				if late || home.IsValid() || len(o.Data) != 16 || (o.Off-h.Off)%8 != 6 {
					return netip.Addr{}, 0, Fault{HomeAddressBad, o.Off}
				}
				home, off = netip.AddrFrom16([16]byte(o.Data)), o.Off+2
				if !Routable(home) {
					return netip.Addr{}, 0, Fault{HomeNotRoutable, off}
				}
			}
		}
	}
	return home, off, Fault{}
}

// AppendHomeAddress appends a Destination Options header with a Home Address option; next is the protocol
// behind it.
func AppendHomeAddress(b []byte, next uint8, home netip.Addr) []byte {
	a := home.As16()
	return append(append(b, next, HomeAddressLen/8-1, wire.OptPadN, 2, 0, 0, wire.OptHomeAddress, 16), a[:]...)
}

// Type2 reads the Type 2 Routing header at off of a packet (RFC 6275 6.4.1); off is that of a Routing header
// that a chain walked without a problem has. The packet is discarded if a length is another one, or the
// address cannot be a home address.
func Type2(pkt []byte, off int) (netip.Addr, Fault) {
	if off < 0 || off+Type2Len > len(pkt) || pkt[off+1] != Type2Len/8-1 || pkt[off+2] != RoutingType2 || pkt[off+3] != 1 {
		return netip.Addr{}, Fault{RoutingHeaderBad, max(off, 0)}
	}
	home := netip.AddrFrom16([16]byte(pkt[off+8:]))
	if !Routable(home) {
		return netip.Addr{}, Fault{HomeNotRoutable, off + 8}
	}
	return home, Fault{}
}

// AppendType2 appends a Type 2 Routing header; next is the protocol behind it.
func AppendType2(b []byte, next uint8, home netip.Addr) []byte {
	a := home.As16()
	return append(append(b, next, Type2Len/8-1, RoutingType2, 1, 0, 0, 0, 0), a[:]...)
}
