package sad

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"leveret/extensions/xfrm/selector"
)

// Upper-layer protocols with words of their own in selectors.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoDCCP   = 33
	protoGRE    = 47
	protoICMPv6 = 58
	protoSCTP   = 132
)

// protoNames are the names in selectors, of /etc/protocols; other protocols are numbers.
var protoNames = map[uint8]string{
	protoICMP: "icmp", 4: "ipencap", protoTCP: "tcp", protoUDP: "udp", protoDCCP: "dccp", 41: "ipv6", 43: "ipv6-route", 44: "ipv6-frag",
	protoGRE: "gre", 50: "esp", 51: "ah", protoICMPv6: "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts", 89: "ospf", 103: "pim",
	108: "ipcomp", 112: "vrrp", protoSCTP: "sctp", protoMH: "mobility-header", 136: "udplite",
}

func protoName(p uint8) string { return word(protoNames, p) }

// selectorText prints a selector as iproute2 does, without what is before it.
func selectorText(s *selector.Selector, link func(int) string) string {
	zero := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if family(s.Src) == 4 || family(s.Dst) == 4 {
		zero = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	src, dst := s.Src, s.Dst
	if !src.IsValid() {
		src = zero
	}
	if !dst.IsValid() {
		dst = zero
	}
	b := fmt.Appendf(nil, "src %s dst %s ", src, dst)
	if s.Proto != 0 {
		b = fmt.Appendf(b, "proto %s ", protoName(s.Proto))
	}
	first, second := "sport", "dport"
	switch s.Proto {
	case protoICMP, protoICMPv6, protoMH:
		first, second = "type", "code"
	case protoGRE:
		if s.SPortMask|s.DPortMask != 0 {
			b = fmt.Appendf(b, "key %d ", uint32(s.SPort)<<16|uint32(s.DPort))
		}
		first, second = "", ""
	}
	if first != "" && s.SPortMask != 0 {
		b = fmt.Appendf(b, "%s %d ", first, s.SPort)
	}
	if second != "" && s.DPortMask != 0 {
		b = fmt.Appendf(b, "%s %d ", second, s.DPort)
	}
	if s.Link != 0 {
		b = fmt.Appendf(b, "dev %s ", link(s.Link))
	}
	return string(b)
}

// selector reads the words of SELECTOR, from the first that may be one of it.
func (p *parser) selector() (selector.Selector, error) {
	var s selector.Selector
	var sport, dport, typ, code, key string
	start := p.i
	for p.more() {
		w := p.words[p.i]
		var into *string
		var err error
		switch w {
		case "src":
			s.Src, err = p.prefix()
		case "dst":
			s.Dst, err = p.prefix()
		case "dev":
			err = p.dev(&s)
		case "proto":
			err = p.proto(&s)
		case "sport":
			into = &sport
		case "dport":
			into = &dport
		case "type":
			into = &typ
		case "code":
			into = &code
		case "key":
			into = &key
		default:
			if p.i == start {
				return s, wrong(w, "unknown")
			}
			return s, upper(&s, sport, dport, typ, code, key)
		}
		if into != nil {
			*into, err = p.arg()
		}
		if err != nil {
			return s, err
		}
		if family(s.Src)*family(s.Dst) == 24 {
			return s, wrong(p.words[p.i], `the same address family is required between values after "src" and "dst"`)
		}
		p.i++
	}
	if p.i == start {
		return s, errIncomplete
	}
	return s, upper(&s, sport, dport, typ, code, key)
}

func (p *parser) dev(s *selector.Selector) error {
	w, err := p.arg()
	if err != nil {
		return err
	}
	var ok bool
	if s.Link, ok = p.link(w); !ok {
		return wrong(w, "DEV value is invalid")
	}
	return nil
}

func (p *parser) proto(s *selector.Selector) error {
	w, err := p.arg()
	if err != nil {
		return err
	}
	for n, name := range protoNames {
		if name == w {
			s.Proto = n
			return nil
		}
	}
	n, ok := number(w, 8)
	if s.Proto = uint8(n); !ok {
		return wrong(w, "PROTO value is invalid")
	}
	return nil
}

// upper puts ports, types and keys where the protocol has them.
func upper(s *selector.Selector, sport, dport, typ, code, key string) error {
	ports, types := sport != "" || dport != "", typ != "" || code != ""
	name := protoName(s.Proto)
	with := func(words string) error { return fmt.Errorf("%s are invalid with PROTO value %q", words, name) }
	switch s.Proto {
	case 0, protoTCP, protoUDP, protoSCTP, protoDCCP:
		if types {
			return with(`"type" and "code"`)
		}
		if err := portOf(sport, "sport", 16, false, &s.SPort, &s.SPortMask); err != nil {
			return err
		}
		if err := portOf(dport, "dport", 16, false, &s.DPort, &s.DPortMask); err != nil {
			return err
		}
	case protoICMP, protoICMPv6, protoMH:
		switch {
		case ports:
			return with(`"sport" and "dport"`)
		case s.Proto == protoMH && code != "":
			// DEVIATION(Linux): it is taken and ignored. RFC 6275 6.1.1: there is none.
			return wrong("code", "a Mobility Header has a type only")
		}
		if err := portOf(typ, "type", 8, true, &s.SPort, &s.SPortMask); err != nil {
			return err
		}
		if err := portOf(code, "code", 8, true, &s.DPort, &s.DPortMask); err != nil {
			return err
		}
	case protoGRE:
		if ports {
			return with(`"sport" and "dport"`)
		}
		if types {
			return with(`"type" and "code"`)
		}
	default:
		if ports {
			return with(`"sport" and "dport"`)
		}
		if types {
			return with(`"type" and "code"`)
		}
	}
	return keyOf(s, key, name)
}

// portOf reads a port or type. A port of 0 is none in particular; a type of 0 is one.
func portOf(w, name string, bits int, zero bool, v, mask *uint16) error {
	if w == "" {
		return nil
	}
	n, ok := number(w, bits)
	if !ok {
		return wrong(w, fmt.Sprintf("value after %q is invalid", name))
	}
	if *v = uint16(n); n != 0 || zero {
		*mask = 0xffff
	}
	return nil
}

// keyOf reads the key of GRE: a number, or four octets with dots.
func keyOf(s *selector.Selector, w, name string) error {
	if w == "" {
		return nil
	}
	if s.Proto != protoGRE {
		return fmt.Errorf(`"key" is invalid with PROTO value %q`, name)
	}
	n, ok := number(w, 32)
	if strings.Contains(w, ".") {
		var a netip.Addr
		var err error
		a, err = netip.ParseAddr(w)
		if ok = err == nil && a.Is4(); ok {
			k := a.As4()
			n = uint64(k[0])<<24 | uint64(k[1])<<16 | uint64(k[2])<<8 | uint64(k[3])
		}
	}
	if !ok {
		return fmt.Errorf(`value after "key" is invalid`)
	}
	s.SPort, s.SPortMask, s.DPort, s.DPortMask = uint16(n>>16), 0xffff, uint16(n), 0xffff
	return nil
}

// number reads a number of so many bits as strtoul does with base 0, but not a negative one.
func number(w string, bits int) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(w, "0x") || strings.HasPrefix(w, "0X"):
		w, base = w[2:], 16
	case len(w) > 1 && w[0] == '0':
		w, base = w[1:], 8
	}
	n, err := strconv.ParseUint(w, base, bits)
	return n, err == nil
}
