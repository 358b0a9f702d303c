package conformance

import (
	"net/netip"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// message is a kind of message, valid, with what shows that a node has taken it.
type message struct {
	name  string
	ref   string // where its validation stands
	on    kind
	least int // octets of the message
	// before prepares the node; build makes the packet; took reports whether it has had its effect.
	before func(*lab)
	build  func(*lab) []byte
	took   func(*lab) bool
}

func messages() []message {
	return []message{
		{
			name: "RS", ref: "4861 6.1.1", on: router, least: 8,
			build: func(l *lab) []byte {
				return ndwire.AppendRS(nil, ndwire.RS{Src: peerLL, Dst: wire.AllRouters, SourceLLA: &l.peer.MAC})
			},
			took: func(l *lab) bool { l.advance(4 * time.Second); return len(l.nd(wire.TypeRouterAdvertisement)) == 1 },
		},
		{
			name: "RA", ref: "4861 6.1.2", on: host, least: 16,
			build: func(l *lab) []byte { return l.raPacket(nil) },
			took:  func(l *lab) bool { return l.hasRoute("default", peerLL) },
		},
		{
			name: "NS", ref: "4861 7.1.1", on: both, least: 24,
			build: func(l *lab) []byte { return l.nsPacket(dutAddr) },
			took:  func(l *lab) bool { return len(l.nd(wire.TypeNeighborAdvertisement)) == 1 },
		},
		{
			name: "NA", ref: "4861 7.1.2", on: both, least: 24,
			before: func(l *lab) { l.ns(dutAddr) }, // makes a STALE entry
			build: func(l *lab) []byte {
				return ndwire.AppendNA(nil, ndwire.NA{Src: peerLL, Dst: dutAddr, Target: peerLL, Solicited: true, Override: true, TargetLLA: &l.peer.MAC})
			},
			took: func(l *lab) bool { return l.state(peerLL) == "REACHABLE" },
		},
		{
			name: "Redirect", ref: "4861 8.1", on: host, least: 40,
			before: func(l *lab) { l.ra(nil) },
			build:  func(l *lab) []byte { return redirect(away, otherLL) },
			took:   func(l *lab) bool { return l.nextHop(away) == otherLL.String() },
		},
	}
}

// redirect is one of the peer, the default router.
func redirect(dst, target netip.Addr) []byte {
	lla := [6]byte{2, 0, 0, 0, 0, 0x98}
	return ndwire.AppendRedirect(nil, ndwire.Redirect{Src: peerLL, Dst: dutAddr, Target: target, Destination: dst, TargetLLA: &lla})
}

// resum makes the checksum of a changed message right again.
func resum(b []byte) []byte { wire.UpdateICMPv6Checksum(b, wire.IPv6HeaderLen); return b }

// cut shortens a message to n octets.
func cut(b []byte, n int) []byte {
	b = b[:wire.IPv6HeaderLen+n]
	b[4], b[5] = byte(n>>8), byte(n)
	return resum(b)
}

// plus adds options to a message.
func plus(b []byte, opts ...byte) []byte {
	b = append(b, opts...)
	n := len(b) - wire.IPv6HeaderLen
	b[4], b[5] = byte(n>>8), byte(n)
	return resum(b)
}

// inFragment puts a Fragment header of a whole packet in front of a message.
func inFragment(b []byte) []byte {
	out := append([]byte(nil), b[:wire.IPv6HeaderLen]...)
	out = append(out, wire.ICMPv6, 0, 0, 0, 0, 0, 0, 1)
	out = append(out, b[wire.IPv6HeaderLen:]...)
	n := len(out) - wire.IPv6HeaderLen
	out[4], out[5], out[6] = byte(n>>8), byte(n), wire.Fragment
	return out
}

func validation() (rows []row) {
	type change struct {
		ref, level, what string
		f                func(message, []byte) []byte
		taken            bool
	}
	common := []change{
		{"", "MUST", "is taken when it is valid", func(_ message, b []byte) []byte { return b }, true},
		{"", "MUST", "with a hop limit other than 255 is discarded", func(_ message, b []byte) []byte { b[7] = 254; return b }, false},
		{"", "MUST", "with a wrong checksum is discarded", func(_ message, b []byte) []byte { b[42] ^= 1; return b }, false},
		{"", "MUST", "with a code other than 0 is discarded", func(_ message, b []byte) []byte { b[41] = 1; return resum(b) }, false},
		{"", "MUST", "that is too short is discarded", func(m message, b []byte) []byte { return cut(b, m.least-1) }, false},
		{"", "MUST", "with an option of length zero is discarded", func(_ message, b []byte) []byte { return plus(b, 99, 0, 0, 0, 0, 0, 0, 0) }, false},
		{"4861 4.6", "MUST", "with an unknown option is taken", func(_ message, b []byte) []byte { return plus(b, 99, 1, 0, 0, 0, 0, 0, 0) }, true},
		{"4861 9", "MUST", "with options in another order is taken", func(_ message, b []byte) []byte {
			return plus(b, 14, 1, 1, 2, 3, 4, 5, 6, 99, 1, 0, 0, 0, 0, 0, 0)
		}, true},
		{"4861 6.1", "MUST", "with something in its reserved field is taken", func(m message, b []byte) []byte {
			if m.name == "RA" {
				b[45] |= 1 // its flags' reserved bits
			} else {
				b[47] = 0xff
			}
			return resum(b)
		}, true},
		{"6980 5", "MUST", "with a Fragment header is ignored", func(_ message, b []byte) []byte { return inFragment(b) }, false},
	}
	special := map[string][]change{
		"RS": {{"4861 6.1.1", "MUST", "from :: with a source link-layer address is discarded", func(_ message, b []byte) []byte {
			clear(b[8:24])
			return resum(b)
		}, false}},
		"RA": {{"4861 6.1.2", "MUST", "from an address that is not link-local is discarded", func(_ message, b []byte) []byte {
			a := peerA.As16()
			copy(b[8:24], a[:])
			return resum(b)
		}, false}},
		"NS": {
			{"4861 7.1.1", "MUST", "for a multicast target is discarded", func(_ message, b []byte) []byte {
				a := wire.AllNodes.As16()
				copy(b[48:64], a[:])
				return resum(b)
			}, false},
			{"4861 7.1.1", "MUST", "from :: with a source link-layer address is discarded", func(_ message, b []byte) []byte {
				clear(b[8:24])
				return resum(b)
			}, false},
			{"4861 7.1.1", "MUST", "from :: to anything but a solicited-node address is discarded", func(_ message, b []byte) []byte {
				b = cut(b, 24)
				clear(b[8:24])
				a := dutAddr.As16()
				copy(b[24:40], a[:])
				return resum(b)
			}, false},
		},
		"NA": {
			{"4861 7.1.2", "MUST", "for a multicast target is discarded", func(_ message, b []byte) []byte {
				a := wire.AllNodes.As16()
				copy(b[48:64], a[:])
				return resum(b)
			}, false},
			{"4861 7.1.2", "MUST", "to a group with the Solicited flag is discarded", func(_ message, b []byte) []byte {
				a := wire.AllNodes.As16()
				copy(b[24:40], a[:])
				return resum(b)
			}, false},
		},
		"Redirect": {
			{"4861 8.1", "MUST", "from an address that is not link-local is discarded", func(_ message, b []byte) []byte {
				a := peerA.As16()
				copy(b[8:24], a[:])
				return resum(b)
			}, false},
			{"4861 8.1", "MUST", "from anybody but the present first hop is discarded", func(_ message, b []byte) []byte {
				a := netip.MustParseAddr("fe80::77").As16()
				copy(b[8:24], a[:])
				return resum(b)
			}, false},
			{"4861 8.1", "MUST", "about a multicast destination is discarded", func(_ message, b []byte) []byte {
				a := netip.MustParseAddr("ff0e::1").As16()
				copy(b[64:80], a[:])
				return resum(b)
			}, false},
			{"4861 8.1", "MUST", "to a target that is neither link-local nor the destination is discarded", func(_ message, b []byte) []byte {
				a := peerA.As16()
				copy(b[48:64], a[:])
				return resum(b)
			}, false},
		},
	}
	for _, m := range messages() {
		for _, c := range append(common, special[m.name]...) {
			ref := c.ref
			if ref == "" {
				ref = m.ref
			}
			rows = append(rows, row{ref, c.level, "a " + m.name + " " + c.what, m.on, func(l *lab) error {
				if m.before != nil {
					m.before(l)
					l.forget()
				}
				l.send(c.f(m, m.build(l)))
				return want(m.took(l) == c.taken, "taken: %v", !c.taken)
			}})
		}
	}
	return rows
}
