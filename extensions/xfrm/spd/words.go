package spd

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/words"
)

// Request is what the words after "ip xfrm policy add|update|get|delete" say.
type Request struct {
	Policy // of get and delete: the key, or the direction, type and index
	// ByIndex: get and delete name the policy by its index.
	ByIndex bool
}

// parser reads the words that name a policy or are of one.
type parser struct {
	words.Reader
	p *Policy

	dir, ptype, sel, index bool // were given
}

// Parse reads the words after "ip xfrm policy VERB". link gives the number of a link's name. Errors are in iproute2's
// words, without its "Error: ".
func Parse(verb string, list []string, link func(string) (int, bool)) (*Request, error) {
	r := &Request{}
	p := &parser{Reader: words.Reader{Words: list, Link: link}, p: &r.Policy}
	read := map[string]func(string) error{"add": p.option, "update": p.option, "get": p.key, "delete": p.key}[verb]
	if read == nil {
		return nil, fmt.Errorf("Command %q is unknown, try \"ip xfrm policy help\".", verb)
	}
	for ; p.More(); p.At++ {
		if err := read(p.Word()); err != nil {
			return nil, err
		}
	}
	if !p.dir {
		return nil, errors.New("Not enough information: DIR is required.")
	}
	if verb == "get" || verb == "delete" {
		switch {
		case p.sel && p.index:
			return nil, errors.New(`either "SELECTOR" is duplicate, or "INDEX" is a garbage.`)
		case !p.sel && !p.index:
			return nil, errors.New("Not enough information: either SELECTOR or INDEX is required.")
		}
		r.ByIndex = p.index
	}
	return r, nil
}

// common reads what all verbs have.
func (p *parser) common(w string) (done bool, err error) {
	switch w {
	case "dir":
		return true, p.once(&p.dir, w, func() error { return direction(&p.Reader, &p.p.Dir) })
	case "ptype":
		return true, p.once(&p.ptype, w, func() error { return ptype(&p.Reader, &p.p.Sub) })
	case "mark":
		var m proto.Mark
		err := p.Mark(&m, "MARK value is invalid", "MASK value is invalid")
		p.p.Mark, p.p.Mask = m.Value, m.Mask
		return true, err
	case "index":
		p.index = true
		return true, p.Number32(&p.p.Index, "INDEX value is invalid")
	case "if_id":
		return true, p.Number32(&p.p.IfID, "IF_ID value is invalid")
	case "ctx":
		if w, err = p.Arg(); err == nil {
			// DEVIATION(Linux): iproute2 takes any, and a kernel without security labels forgets it.
			err = words.Wrong(w, "there are no security contexts")
		}
		return true, err
	}
	return false, nil
}

// once reads a word that may be there once.
func (p *parser) once(given *bool, w string, read func() error) error {
	if *given {
		return words.Duplicate(w, w)
	}
	*given = true
	return read()
}

// direction goes on to DIR.
func direction(r *words.Reader, into *Dir) error {
	w, err := r.Arg()
	if err != nil {
		return err
	}
	var ok bool
	if *into, ok = ParseDir(w); !ok {
		return words.Wrong(w, "DIR value is invalid")
	}
	return nil
}

// ptype goes on to PTYPE.
func ptype(r *words.Reader, sub *bool) error {
	w, err := r.Arg()
	switch {
	case err != nil:
		return err
	case w == "": // which is main elsewhere
		return words.Wrong(w, "PTYPE value is invalid")
	}
	*sub, err = ParseType(w)
	return err
}

// action goes on to ACTION.
func action(r *words.Reader, into *Action) error {
	w, err := r.Arg()
	if err != nil {
		return err
	}
	var ok bool
	if *into, ok = ParseAction(w); !ok {
		return words.Wrong(w, "ACTION value is invalid")
	}
	return nil
}

func flagBit(w string) uint8 {
	switch w {
	case LocalOK.String():
		return uint8(LocalOK)
	case ICMP.String():
		return uint8(ICMP)
	}
	return 0
}

// key reads one of the words that name a policy.
func (p *parser) key(w string) error {
	if done, err := p.common(w); done {
		return err
	}
	if p.sel {
		return words.Wrong(w, "unknown")
	}
	return p.selector()
}

// option reads one of the options of add and update, with what follows it.
func (p *parser) option(w string) error {
	if done, err := p.common(w); done {
		return err
	}
	switch w {
	case "action":
		return action(&p.Reader, &p.p.Action)
	case "priority":
		return p.Number32(&p.p.Priority, "PRIORITY value is invalid")
	case "flag":
		set, _, err := p.Flags(flagBit)
		p.p.Flags |= Flags(set)
		return err
	case "limit":
		return p.Limit(&p.p.Lifetime)
	case "tmpl":
		return p.template()
	}
	if p.sel || !selector.IsWord(w) {
		return words.Duplicate("unknown", w) // as iproute2 says it of any word it does not know
	}
	return p.selector()
}

// selector reads SELECTOR, whose words stand together, to the last of them.
func (p *parser) selector() error {
	p.sel = true
	spec, sel, err := p.Spec()
	for _, w := range [...]string{spec.Src, spec.Dst} {
		if a, _, _ := strings.Cut(w, "/"); is4(a) {
			return fmt.Errorf("inet6 prefix is expected rather than %q.", w)
		}
	}
	p.p.Selector = sel
	p.At--
	return words.Said(err)
}

func is4(w string) bool {
	a, err := netip.ParseAddr(w)
	return err == nil && a.Is4()
}

// template reads TMPL: the words of its ID stand together; the first word that is none of TMPL ends it.
func (p *parser) template() error {
	t := Template{}
	id := false
	first := true
	for ; ; first = false {
		switch w := p.Next(); {
		case w == "mode" || w == "reqid" || w == "level":
			p.At++
			if err := p.templateWord(&t, w); err != nil {
				return err
			}
			continue
		case words.IsID(w) && !id:
			p.At++
			id = true
			v, err := p.ID()
			if err != nil {
				return err
			}
			t.Src, t.Dst, t.Proto, t.SPI = v.Src, v.Dst, v.Proto, v.SPI
			continue
		case first && w == "" && p.At+1 >= len(p.Words):
			return words.ErrIncomplete
		case first:
			return errors.New(`argument "XFRM-PROTO" is required`)
		}
		break
	}
	p.p.Templates = append(p.p.Templates, t)
	return nil
}

func (p *parser) templateWord(t *Template, w string) error {
	switch w {
	case "mode":
		return p.Mode(&t.Mode)
	case "reqid":
		return p.Number32(&t.ReqID, "REQID value is invalid")
	}
	level, err := p.Arg()
	if err != nil {
		return err
	}
	var ok bool
	if t.Level, ok = ParseLevel(level); !ok {
		return words.Wrong(level, "LEVEL value is invalid")
	}
	return nil
}
