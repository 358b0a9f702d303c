package sad

import (
	"math"
	"net/netip"

	"leveret/extensions/xfrm/words"

	"leveret/extensions/xfrm/proto"
)

// Filter selects states as "ip xfrm state list" does. What is nil or zero matches all.
type Filter struct {
	Src, Dst netip.Prefix
	Proto    proto.Proto
	SPI      *uint32
	Mode     *proto.Mode
	ReqID    *uint32
	Flags    Flags // any of them
	NoKeys   bool  // was said
}

// Match reports whether the filter takes a state.
func (f *Filter) Match(s *State) bool {
	within := func(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Bits() == 0 || p.Contains(a) }
	return within(f.Src, s.SAddr) && within(f.Dst, s.DAddr) && (f.Proto == 0 || f.Proto == s.Proto) && (f.SPI == nil || *f.SPI == s.SPI) &&
		(f.Mode == nil || *f.Mode == s.Mode) && (f.ReqID == nil || *f.ReqID == s.ReqID) && (f.Flags == 0 || f.Flags&s.Flags != 0)
}

// ParseFilter reads the words after "ip xfrm state list" and deleteall. Errors are as those of [Parse].
func ParseFilter(list []string) (Filter, error) {
	p := &parser{Reader: words.Reader{Words: list}, r: &Request{}}
	var f Filter
	for ; p.More(); p.At++ {
		if err := p.filter(&f, p.Word()); err != nil {
			return Filter{}, hide(err, list)
		}
	}
	return f, nil
}

// ParseFlush reads the words after "ip xfrm state flush".
func ParseFlush(list []string) (proto.Proto, error) {
	p := &parser{Reader: words.Reader{Words: list}, r: &Request{}}
	if !p.More() {
		return 0, nil
	}
	err := words.Wrong(list[0], "unknown")
	if list[0] == "proto" {
		err = p.Protocol(&p.r.Proto)
	}
	if err == nil && p.At+1 < len(p.Words) {
		err = words.Wrong(p.Next(), "unknown")
	}
	if err != nil {
		return 0, hide(err, list)
	}
	return p.r.Proto, nil
}

// filter reads one of the options of list and deleteall.
func (p *parser) filter(f *Filter, w string) error {
	s := &p.r.State
	switch w {
	case "nokeys":
		f.NoKeys = true
		return nil
	case "flag":
		return p.flags(flagWords, func(bit uint8) { f.Flags |= Flags(bit) })
	case "mode", "reqid":
		_, err := p.common(w)
		if w == "mode" {
			f.Mode = &s.Mode
		} else {
			f.ReqID = &s.ReqID
		}
		return err
	case "src", "dst", "proto", "spi":
		return p.filterID(f)
	}
	return words.Wrong(w, "unknown")
}

// filterID reads ID of a filter: addresses may be prefixes, and none of it is required.
func (p *parser) filterID(f *Filter) error {
	if p.ids {
		return words.Wrong(p.Word(), "unknown")
	}
	p.ids = true
	for {
		var err error
		switch p.Word() {
		case "src":
			f.Src, err = p.Prefix()
		case "dst":
			f.Dst, err = p.Prefix()
		case "proto":
			err = p.Protocol(&p.r.Proto)
		case "spi":
			f.SPI = &p.r.SPI
			err = p.Number32(f.SPI, "SPI value is invalid")
		}
		if err != nil {
			return err
		}
		if !words.IsID(p.Next()) {
			break
		}
		p.At++
	}
	f.Proto = p.r.Proto
	switch {
	case f.Src.IsValid() && f.Dst.IsValid() && f.Src.Addr().Is4() != f.Dst.Addr().Is4():
		return p.Families()
	case f.Proto == proto.Comp && p.r.SPI > math.MaxUint16:
		return words.ErrLargeSPI
	}
	return nil
}
