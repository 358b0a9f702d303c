package ah

import "leveret/appliance/wire"

// hide makes the headers of pkt before AH at off what the ICV is computed over (RFC 4302 3.3.3.1.2 and A2): what may
// change on the way is zeroed, and when sending, what the headers do to the addresses is done, so that they look as
// at the receiver. It reports false for headers that do not lead to AH or of which nobody can tell that.
func hide(pkt []byte, off int, sending bool) bool {
	pkt[0], pkt[1], pkt[2], pkt[3] = pkt[0]&0xf0, 0, 0, 0 // DSCP, ECN, Flow Label
	pkt[7] = 0                                            // Hop Limit
	proto, at := pkt[wire.NextHeaderOffset], wire.IPv6HeaderLen
	swapped := false
	for at < off {
		n := 0
		if off-at >= 8 {
			n = (int(pkt[at+1]) + 1) * 8
		}
		if n == 0 || n > off-at {
			return false
		}
		h := pkt[at : at+n]
		ok := false
		switch proto {
		case wire.HopByHop:
			ok = hideOptions(pkt, at, n, nil)
		case wire.DestOpts:
			home := &swapped
			if !sending {
				home = nil
			}
			ok = hideOptions(pkt, at, n, home)
		case wire.Routing:
			ok = h[3] == 0 || sending && arrive(pkt, h)
		}
		if !ok {
			return false
		}
		proto, at = h[0], at+n
	}
	return at == off && proto == wire.AH
}

// hideOptions zeroes the data of options that may change (RFC 8200 4.2: the third highest bit of their type). With
// home, the Home Address option is swapped with the source, once: the ICV is of the home address as source (RFC
// 6275 11.3.2), as the receiver has it behind that header.
func hideOptions(pkt []byte, at, n int, home *bool) bool {
	o := wire.ParseOptions(pkt[:at+n], at)
	for {
		opt, ok := o.Next()
		switch {
		case !ok:
			return o.Problem == 0
		case opt.Type&0x20 != 0:
			clear(opt.Data)
		case opt.Type == wire.OptHomeAddress && home != nil:
			if *home || len(opt.Data) != 16 {
				return false
			}
			*home = true
			swap(opt.Data, pkt[8:24])
		}
	}
}

// arrive makes of a Routing header of type 0 or 2 with segments left, and of the destination, what the last
// destination gets (RFC 4302 A2): each node on the way puts the next address into the destination and the one that
// was there in its place. Type 2 has one address (RFC 6275 6.4, 9.3.2).
func arrive(pkt, h []byte) bool {
	n, left := int(h[1])/2, int(h[3])
	if h[2] != 0 && h[2] != 2 || h[1]%2 != 0 || left > n || h[2] == 2 && n != 1 {
		return false
	}
	for ; left > 0; left-- {
		swap(h[8+16*(n-left):][:16], pkt[24:40])
	}
	h[3] = 0
	return true
}

func swap(a, b []byte) {
	t := [16]byte(a)
	copy(a, b)
	copy(b, t[:])
}
