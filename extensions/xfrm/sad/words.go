package sad

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// Request is what the words after "ip xfrm state add|update|delete|get|allocspi" say.
type Request struct {
	State // of delete and get the ID, SAddr if given, and the mark
	// Min and Max are those of allocspi; 0x100 and 0xffffffff if not given.
	Min, Max uint32
}

var (
	errIncomplete = errors.New(`Command line is not complete. Try option "help"`)
	errLargeSPI   = errors.New(`SPI value is too large with XFRM-PROTO value "comp"`)
)

// wrong is iproute2's way to say it.
func wrong(w, why string) error { return fmt.Errorf("argument %q is wrong: %s", w, why) }

// Outside is what words refer to.
type Outside struct {
	Link func(name string) (index int, ok bool)
	// Key reads the file of a key, "-" = the standard input. Its errors do not repeat the name, which may be a key in
	// the wrong place.
	Key func(name string) ([]byte, error)
}

type parser struct {
	words   []string
	i       int // of the word being read
	outside Outside
	r       *Request

	ids, window bool // were given
	hi          bool // replay-seq-hi or replay-oseq-hi was
}

func (p *parser) more() bool { return p.i < len(p.words) }

// arg goes on to the next word.
func (p *parser) arg() (string, error) {
	p.i++
	if !p.more() {
		return "", errIncomplete
	}
	return p.words[p.i], nil
}

// number goes on to the next word, which is a number.
func (p *parser) number(bits int, why string) (uint64, error) {
	w, err := p.arg()
	if err != nil {
		return 0, err
	}
	n, ok := number(w, bits)
	if !ok {
		return 0, wrong(w, why)
	}
	return n, nil
}

func (p *parser) number32(into *uint32, why string) error {
	n, err := p.number(32, why)
	*into = uint32(n)
	return err
}

// prefix goes on to the next word, which is a prefix or an address.
func (p *parser) prefix() (netip.Prefix, error) {
	after := p.words[p.i]
	w, err := p.arg()
	if err != nil {
		return netip.Prefix{}, err
	}
	switch {
	case w == "any" || w == "default" || w == "all":
		return netip.Prefix{}, wrong(w, fmt.Sprintf("value after %q has an unrecognized address family", after))
	case strings.Contains(w, "/"):
		pre, err := netip.ParsePrefix(w)
		if err == nil && !pre.Addr().Is4In6() {
			return pre, nil
		}
	default:
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" && !a.Is4In6() {
			return netip.PrefixFrom(a, a.BitLen()), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("any valid prefix is expected rather than %q.", w)
}

// addr is prefix for where a prefix makes no sense.
func (p *parser) addr() (netip.Addr, error) {
	pre, err := p.prefix()
	if err == nil && !pre.IsSingleIP() {
		return netip.Addr{}, fmt.Errorf("any valid address is expected rather than %q.", p.words[p.i])
	}
	return pre.Addr(), err
}

// Parse reads the words after "ip xfrm state VERB": add, update, delete, get or allocspi. Errors are in iproute2's words,
// without its "Error: ", and have nothing that may be a key.
func Parse(verb string, words []string, o Outside) (*Request, error) {
	p := &parser{words: words, outside: o, r: &Request{}}
	if err := p.parse(verb); err != nil {
		return nil, hide(err, words)
	}
	return p.r, nil
}

func (p *parser) parse(verb string) error {
	r := p.r
	read := map[string]func(string) error{"add": p.option, "update": p.option, "delete": p.mark, "get": p.mark, "allocspi": p.alloc}[verb]
	if read == nil {
		return fmt.Errorf("Command %q is unknown, try \"ip xfrm state help\".", verb)
	}
	for ; p.more(); p.i++ {
		if err := read(p.words[p.i]); err != nil {
			return err
		}
	}
	if !p.ids {
		return errors.New("Not enough information: ID is required")
	}
	if verb == "delete" || verb == "get" {
		return nil
	}
	any6 := netip.IPv6Unspecified() // a missing address is any
	if !r.SAddr.IsValid() {
		r.SAddr = any6
	}
	if !r.DAddr.IsValid() {
		r.DAddr = any6
	}
	if verb == "allocspi" {
		return p.finishAlloc()
	}
	return p.finish()
}

// id reads ID: its words stand together.
func (p *parser) id(w string) error {
	if p.ids {
		return wrong(w, "unknown")
	}
	p.ids = true
	s := &p.r.State
	for {
		switch p.words[p.i] {
		case "src", "dst":
			into := &s.SAddr
			if p.words[p.i] == "dst" {
				into = &s.DAddr
			}
			a, err := p.addr()
			if err != nil {
				return err
			}
			*into = a
		case "proto":
			if err := p.protocol(); err != nil {
				return err
			}
		case "spi":
			if err := p.number32(&s.SPI, "SPI value is invalid"); err != nil {
				return err
			}
		}
		if p.i+1 >= len(p.words) || !isID(p.words[p.i+1]) {
			break
		}
		p.i++
	}
	switch {
	case s.SAddr.IsValid() && s.DAddr.IsValid() && s.SAddr.Is4() != s.DAddr.Is4():
		return p.families()
	case s.Proto == 0:
		return errors.New(`argument "XFRM-PROTO" is required`)
	case s.Proto == proto.Comp && s.SPI > 0xffff:
		return errLargeSPI
	}
	return nil
}

// protocol goes on to the next word, which is a protocol.
func (p *parser) protocol() error {
	w, err := p.arg()
	if err != nil {
		return err
	}
	var ok bool
	if p.r.Proto, ok = proto.Parse(w); !ok {
		return wrong(w, "XFRM-PROTO value is invalid")
	}
	return nil
}

func (p *parser) families() error {
	return wrong(p.words[p.i], `the same address family is required between values after "src" and "dst"`)
}

func isID(w string) bool { return w == "src" || w == "dst" || w == "proto" || w == "spi" }

// mark reads one of ID and MARK.
func (p *parser) mark(w string) error {
	if w == "mark" {
		return p.marked(&p.r.Mark, "MARK value is invalid", "MASK value is invalid")
	}
	if isID(w) {
		return p.id(w)
	}
	return wrong(w, "unknown")
}

// marked reads VALUE [ mask MASK ].
func (p *parser) marked(into *Mark, why, whyMask string) error {
	if err := p.number32(&into.Value, why); err != nil {
		return err
	}
	into.Mask = math.MaxUint32
	if p.i+1 < len(p.words) && p.words[p.i+1] == "mask" {
		p.i++
		return p.number32(&into.Mask, whyMask)
	}
	return nil
}

// common reads what add and allocspi have both.
func (p *parser) common(w string) (bool, error) {
	s := &p.r.State
	switch w {
	case "mode":
		w, err := p.arg()
		if err != nil {
			return true, err
		}
		var ok bool
		if s.Mode, ok = proto.ParseMode(w); !ok {
			return true, wrong(w, "MODE value is invalid")
		}
	case "reqid":
		return true, p.number32(&s.ReqID, "REQID value is invalid")
	case "seq":
		return true, p.number32(&s.Seq, "SEQ value is invalid")
	case "mark", "src", "dst", "proto", "spi":
		return true, p.mark(w)
	default:
		return false, nil
	}
	return true, nil
}

// alloc reads one of the options of allocspi.
func (p *parser) alloc(w string) error {
	if done, err := p.common(w); done {
		return err
	}
	after := fmt.Sprintf("value after %q is invalid", w)
	switch w {
	case "min":
		return p.number32(&p.r.Min, after)
	case "max":
		return p.number32(&p.r.Max, after)
	}
	return wrong(w, "unknown")
}

func (p *parser) finishAlloc() error {
	r := p.r
	switch {
	case r.SPI != 0:
		return errors.New(`"spi" is invalid`)
	case r.Min != 0 && r.Max == 0:
		return errors.New(`"max" is missing`)
	case r.Max != 0 && r.Min == 0:
		return errors.New(`"min" is missing`)
	case r.Min > r.Max:
		return errors.New(`value after "min" is larger than value after "max"`)
	case r.Max == 0:
		r.Min, r.Max = 0x100, math.MaxUint32
	}
	return nil
}

// selector reads the words of SELECTOR, from the first that may be one of it. A state has one selector: what
// takes several, as a range, is refused.
func (p *parser) selector() (selector.Selector, error) {
	spec, rest, err := selector.Words(p.words[min(p.i, len(p.words)):])
	if err != nil {
		return selector.Selector{}, err
	}
	read := len(p.words) - len(rest) - p.i
	if read <= 0 {
		if p.more() {
			return selector.Selector{}, wrong(p.words[p.i], "unknown")
		}
		return selector.Selector{}, errIncomplete
	}
	p.i += read
	all, err := spec.Selectors(func(name string) int {
		n, ok := p.outside.Link(name)
		if !ok {
			return 0
		}
		return n
	})
	switch {
	case err != nil:
		return selector.Selector{}, err
	case len(all) > 1:
		return selector.Selector{}, errors.New("sel: a state has one selector, no range")
	}
	return all[0], nil
}

// parseSel reads SELECTOR alone; "" is the zero Selector.
func parseSel(text string, link func(string) (int, bool)) (selector.Selector, error) {
	if text == "" {
		return selector.Selector{}, nil
	}
	p := &parser{words: strings.Fields(text), outside: Outside{Link: link}}
	sel, err := p.selector()
	if err == nil && p.more() {
		err = wrong(p.words[p.i], "unknown")
	}
	return sel, err
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
