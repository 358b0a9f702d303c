package sad

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"

	"leveret/extensions/xfrm/words"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// Request is what the words after "ip xfrm state add|update|delete|get|allocspi" say.
type Request struct {
	State // of delete and get the ID, SAddr if given, and the mark
	// Min and Max are those of allocspi; 0x100 and 0xffffffff if not given.
	Min, Max uint32
}

// Outside is what words refer to.
type Outside struct {
	Link func(name string) (index int, ok bool)
	// Key reads the file of a key, "-" = the standard input. Its errors do not repeat the name, which may be a key in
	// the wrong place.
	Key func(name string) ([]byte, error)
}

type parser struct {
	words.Reader
	outside Outside
	r       *Request

	ids, window bool // were given
	hi          bool // replay-seq-hi or replay-oseq-hi was
}

// Parse reads the words after "ip xfrm state VERB": add, update, delete, get or allocspi. Errors are in iproute2's words,
// without its "Error: ", and have nothing that may be a key.
func Parse(verb string, list []string, o Outside) (*Request, error) {
	p := &parser{Reader: words.Reader{Words: list, Link: o.Link}, outside: o, r: &Request{}}
	if err := p.parse(verb); err != nil {
		return nil, hide(err, list)
	}
	return p.r, nil
}

func (p *parser) parse(verb string) error {
	r := p.r
	read := map[string]func(string) error{"add": p.option, "update": p.option, "delete": p.mark, "get": p.mark, "allocspi": p.alloc}[verb]
	if read == nil {
		return fmt.Errorf("Command %q is unknown, try \"ip xfrm state help\".", verb)
	}
	for ; p.More(); p.At++ {
		if err := read(p.Word()); err != nil {
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
		return words.Wrong(w, "unknown")
	}
	id, err := p.ID()
	p.ids = true
	s := &p.r.State
	s.SAddr, s.DAddr, s.Proto, s.SPI = id.Src, id.Dst, id.Proto, id.SPI
	p.Inet6 = id.Src.Is6() || id.Dst.Is6()
	return err
}

// mark reads one of ID and MARK.
func (p *parser) mark(w string) error {
	if w == "mark" {
		return p.Reader.Mark((*proto.Mark)(&p.r.Mark), "MARK value is invalid", "MASK value is invalid")
	}
	if words.IsID(w) {
		return p.id(w)
	}
	return words.Wrong(w, "unknown")
}

// common reads what add and allocspi have both.
func (p *parser) common(w string) (bool, error) {
	s := &p.r.State
	switch w {
	case "mode":
		return true, p.Mode(&s.Mode)
	case "reqid":
		return true, p.Number32(&s.ReqID, "REQID value is invalid")
	case "seq":
		return true, p.Number32(&s.Seq, "SEQ value is invalid")
	case "mark", "src", "dst", "proto", "spi":
		return true, p.mark(w)
	}
	return false, nil
}

// alloc reads one of the options of allocspi.
func (p *parser) alloc(w string) error {
	if done, err := p.common(w); done {
		return err
	}
	after := fmt.Sprintf("value after %q is invalid", w)
	switch w {
	case "min":
		return p.Number32(&p.r.Min, after)
	case "max":
		return p.Number32(&p.r.Max, after)
	}
	return words.Wrong(w, "unknown")
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

// parseSel reads SELECTOR alone; "" is the zero Selector.
func parseSel(text string, link func(string) (int, bool)) (selector.Selector, error) {
	if text == "" {
		return selector.Selector{}, nil
	}
	p := words.Reader{Words: strings.Fields(text), Link: link}
	sel, err := p.Selector()
	if err == nil && p.More() {
		err = words.Wrong(p.Word(), "unknown")
	}
	return sel, err
}
