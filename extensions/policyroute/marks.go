package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// MarkConfig is one item of routing.marks: which packets that come in get a mark ("fwmark" of rules). The
// first item that a packet conforms to counts.
type MarkConfig struct {
	Link   string `mapstructure:"link"`   // that it came in by; any if empty
	From   string `mapstructure:"from"`   // prefix of its source; any if empty
	FwMark string `mapstructure:"fwmark"` // NUMBER or NUMBER/MASK: the bits of MASK are set so
}

// mark is a MarkConfig, understood.
type mark struct {
	link        int
	from        netip.Prefix // the zero Prefix = any
	value, bits uint32
}

// parseMark reads NUMBER or NUMBER/MASK; without a mask all bits count.
func parseMark(s string) (value, bits uint32, err error) {
	number, mask, masked := strings.Cut(s, "/")
	v, err := strconv.ParseUint(number, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("argument %q is wrong: invalid fwmark value", number)
	}
	if !masked {
		return uint32(v), ^uint32(0), nil
	}
	m, err := strconv.ParseUint(mask, 0, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("argument %q is wrong: invalid fwmark value", mask)
	}
	return uint32(v), uint32(m), nil
}

func prepareMarks(next *module.Config) ([]mark, error) {
	s := next.Sections["routing.marks"]
	list, err := items[MarkConfig](s)
	errs := []error{err}
	var marks []mark
	for i, mc := range list {
		at := fmt.Sprintf("[%d].", i)
		var x mark
		for _, l := range next.Links {
			if l.Name == mc.Link {
				x.link = l.Index
			}
		}
		if mc.Link != "" && x.link == 0 {
			errs = append(errs, s.Fault(at+"link", fmt.Sprintf("%q is not a link", mc.Link), ""))
		}
		var ok bool
		if x.from, ok = parseSelector(mc.From); !ok {
			errs = append(errs, s.Fault(at+"from", fmt.Sprintf("%q is not a prefix or an address", mc.From), ""))
		}
		x.value, x.bits, err = parseMark(mc.FwMark)
		switch {
		case mc.FwMark == "":
			errs = append(errs, s.Fault(at+"fwmark", "say which mark: NUMBER or NUMBER/MASK", ""))
		case err != nil:
			errs = append(errs, s.Fault(at+"fwmark", err.Error(), ""))
		case x.value&^x.bits != 0:
			errs = append(errs, s.Fault(at+"fwmark", fmt.Sprintf("%#x has bits outside the mask %#x", x.value, x.bits), ""))
		}
		marks = append(marks, x)
	}
	return marks, errors.Join(errs...)
}

// marked returns the mark of what comes in by a link, from a source, with a mark.
func (v *view) marked(in int, src *[16]byte, was uint32) uint32 {
	for i := range v.marks {
		m := &v.marks[i]
		if (m.link == 0 || m.link == in) && (!m.from.IsValid() || m.from.Contains(netip.AddrFrom16(*src))) {
			return was&^m.bits | m.value
		}
	}
	return was
}

// markIngress marks packets in transit.
func (v *view) markIngress(ps []*packet.Packet) {
	for _, p := range ps {
		if p.In != 0 {
			p.Mark = v.marked(p.In, (*[16]byte)(p.Bytes()[8:24]), p.Mark)
		}
	}
}
