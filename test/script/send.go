package script

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
)

// send makes a peer send one message.
func (r *runner) send(peer, what string, args []string) error {
	p := r.peers[peer]
	if p == nil {
		return fmt.Errorf("no peer %q", peer)
	}
	switch what {
	case "ra":
		return r.sendRA(p, args)
	case "rs":
		return r.sendRS(p, args)
	case "redirect":
		return r.sendRedirect(p, args)
	}
	target, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	opts := args[1:]
	from := netip.MustParseAddr("fe80::99")
	if i := slices.Index(opts, "from"); i >= 0 {
		if from, err = netip.ParseAddr(opts[i+1]); err != nil {
			return err
		}
	}
	dst := wire.SolicitedNode(target)
	d := dst.As16()
	mac := wire.MulticastMAC(&d)
	switch what {
	case "ns":
		ns := ndwire.NS{Src: from, Dst: dst, Target: target, SourceLLA: &p.MAC}
		if from.IsUnspecified() {
			ns.SourceLLA = nil
		}
		if slices.Contains(opts, "nonce") {
			ns.Nonce = []byte{1, 2, 3, 4, 5, 6}
		}
		p.Send(mac, ndwire.AppendNS(nil, ns))
	case "na":
		na := ndwire.NA{
			Src: target, Dst: wire.AllNodes, Target: target, TargetLLA: &p.MAC,
			Router: slices.Contains(opts, "router"), Override: slices.Contains(opts, "override"),
		}
		mac = [6]byte{0x33, 0x33, 0, 0, 0, 1}
		if i := slices.Index(opts, "to"); i >= 0 { // solicited: to whoever asked
			if na.Dst, err = netip.ParseAddr(opts[i+1]); err != nil {
				return err
			}
			na.Solicited = true
			mac = r.macOf(na.Dst)
		}
		p.Send(mac, ndwire.AppendNA(nil, na))
	case "echo":
		size := 0
		if len(opts) > 0 && opts[0] != "from" {
			if size, err = strconv.Atoi(opts[0]); err != nil {
				return err
			}
		}
		b := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(8 + size), NextHeader: wire.ICMPv6, HopLimit: 64, Src: from, Dst: target})
		b = append(b, wire.TypeEchoRequest, 0, 0, 0, 0, 1, 0, 1)
		b = append(b, make([]byte, size)...)
		wire.UpdateICMPv6Checksum(b, 40)
		via := target
		if i := slices.Index(opts, "via"); i >= 0 {
			if via, err = netip.ParseAddr(opts[i+1]); err != nil {
				return err
			}
		}
		p.Send(r.macOf(via), b)
	default:
		return fmt.Errorf("cannot send %q", what)
	}
	return nil
}

// macOf returns the link-layer address of the node that has an address.
func (r *runner) macOf(a netip.Addr) [6]byte {
	for _, n := range r.nodes {
		for _, x := range n.Addrs().All() {
			if x.Addr == a {
				return n.Links().Index(x.Link).MAC
			}
		}
	}
	r.t.Fatalf("no node has the address %s", a)
	return [6]byte{}
}

// Describe writes a frame in a few words.
func Describe(frame []byte) string {
	if len(frame) < 54 {
		return fmt.Sprintf("%d octets", len(frame))
	}
	b := frame[14:]
	h, err := wire.ParseIPv6(b)
	if err != nil {
		return err.Error()
	}
	var c wire.Chain
	c.Walk(b)
	to := fmt.Sprintf("%s > %s", h.Src(), h.Dst())
	if c.Fragment != 0 {
		return fmt.Sprintf("%s fragment %d+%d more %v", to, c.FragOffset, len(b)-c.Fragment-8, c.MoreFragments)
	}
	if c.Proto == wire.ESP && c.Off+8 <= len(b) {
		return fmt.Sprintf("%s ESP spi %#x, %d octets", to, binary.BigEndian.Uint32(b[c.Off:]), len(b))
	}
	if c.Proto != wire.ICMPv6 || c.Off+8 > len(b) {
		return fmt.Sprintf("%s protocol %d, %d octets", to, c.Proto, len(b))
	}
	if m, err := ndwire.Parse(b, c.Off, false); err == nil {
		switch m.Type {
		case wire.TypeRouterSolicitation:
			if m.HasSourceLLA {
				to += ", lladdr"
			}
			return "RS " + to
		case wire.TypeRouterAdvertisement:
			if ra, err := m.RA(); err == nil {
				return "RA " + to + describeRA(ra)
			}
		case wire.TypeRedirect:
			s := fmt.Sprintf("Redirect %s, %s by %s, %d octets of the packet", to, m.Destination, m.Target, len(m.Redirected))
			if m.HasTargetLLA {
				s += ", lladdr"
			}
			return s
		case wire.TypeNeighborSolicitation:
			s := fmt.Sprintf("NS %s, target %s", to, m.Target)
			if m.Nonce != nil {
				s += ", nonce"
			}
			return s
		case wire.TypeNeighborAdvertisement:
			return fmt.Sprintf("NA %s, target %s, R=%d S=%d O=%d", to, m.Target, bit(m.Router), bit(m.Solicited), bit(m.Override))
		}
	}
	switch t := b[c.Off]; t {
	case wire.TypeEchoRequest:
		return fmt.Sprintf("echo request %s, %d octets", to, len(b))
	case wire.TypeEchoReply:
		return fmt.Sprintf("echo reply %s, %d octets", to, len(b))
	case wire.TypeMLDv2Report:
		s := fmt.Sprintf("MLDv2 report from %s:", h.Src())
		for r := b[c.Off+8:]; len(r) >= 20; r = r[20:] {
			s += fmt.Sprintf(" %d:%s", r[0], netip.AddrFrom16([16]byte(r[4:20])))
		}
		return s
	default:
		return fmt.Sprintf("ICMPv6 type %d code %d %s", t, b[c.Off+1], to)
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
