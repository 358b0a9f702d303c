package spd

import (
	"net/netip"

	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/words"
)

// Filter is what "ip xfrm policy list|deleteall" selects by. What is nil or zero matches all.
type Filter struct {
	Dir             *Dir
	Sub             *bool
	Action          *Action
	Priority, Index *uint32
	Flags           Flags // any of them
	Selector        selector.Selector
}

// ParseFilter reads the words after "ip xfrm policy list|deleteall".
func ParseFilter(list []string, link func(string) (int, bool)) (*Filter, error) {
	f := &Filter{}
	r := &words.Reader{Words: list, Link: link}
	sel := false
	for ; r.More(); r.At++ {
		var err error
		switch w := r.Word(); w {
		case "dir":
			f.Dir = new(Dir)
			err = direction(r, f.Dir)
		case "ptype":
			f.Sub = new(bool)
			err = ptype(r, f.Sub)
		case "action":
			f.Action = new(Action)
			err = action(r, f.Action)
		case "priority":
			f.Priority = new(uint32)
			err = r.Number32(f.Priority, "PRIORITY value is invalid")
		case "index":
			f.Index = new(uint32)
			err = r.Number32(f.Index, "INDEX value is invalid")
		case "flag":
			var set uint8
			set, _, err = r.Flags(flagBit)
			f.Flags |= Flags(set)
		case "nosock": // sockets have no policies here
		default:
			if sel {
				return nil, words.Wrong(w, "unknown")
			}
			sel = true
			f.Selector, err = r.Selector()
			err = words.Said(err)
			r.At--
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Match reports whether the filter takes a policy. As in iproute2 a prefix selects the policies whose address begins so, and
// ports those that have them, or none, which is port 0.
func (f *Filter) Match(p *Policy) bool {
	s, want := &p.Selector, &f.Selector
	begins := func(prefix, address netip.Prefix) bool {
		return !prefix.IsValid() || prefix.Bits() == 0 || prefix.Contains(address.Addr())
	}
	switch {
	case f.Dir != nil && *f.Dir != p.Dir,
		f.Sub != nil && *f.Sub != p.Sub,
		f.Action != nil && *f.Action != p.Action,
		f.Priority != nil && *f.Priority != p.Priority,
		f.Index != nil && *f.Index != p.Index,
		f.Flags != 0 && f.Flags&p.Flags == 0,
		!begins(want.Src, s.Src) || !begins(want.Dst, s.Dst),
		want.Proto != 0 && want.Proto != s.Proto,
		(want.SPort^s.SPort)&want.SPortMask != 0 || (want.DPort^s.DPort)&want.DPortMask != 0,
		want.Opaque && !s.Opaque,
		want.Link != 0 && want.Link != s.Link:
		return false
	}
	return true
}

// ParseFlush reads the words after "ip xfrm policy flush": the type that is to go, main if none is given.
func ParseFlush(list []string) (sub bool, err error) {
	r := &words.Reader{Words: list}
	for given := false; r.More(); r.At++ {
		switch w := r.Word(); {
		case w != "ptype":
			return false, words.Wrong(w, "unknown")
		case given:
			return false, words.Duplicate(w, w)
		}
		given = true
		if err := ptype(r, &sub); err != nil {
			return false, err
		}
	}
	return sub, nil
}

// ParseDefaults reads the words after "ip xfrm policy setdefault": by direction what becomes of packets without a
// policy.
func ParseDefaults(list []string) (map[Dir]Action, error) {
	r := &words.Reader{Words: list}
	out := map[Dir]Action{}
	if len(list) == 0 {
		return nil, words.ErrIncomplete // where iproute2 does nothing
	}
	for ; r.More(); r.At++ {
		name := r.Word()
		dir, ok := ParseDir(name)
		if !ok {
			return nil, words.Wrong(name, "unknown direction")
		}
		if _, there := out[dir]; there {
			return nil, words.Duplicate(name, name)
		}
		w, err := r.Arg()
		if err != nil {
			return nil, err
		}
		switch w {
		case "accept":
			out[dir] = Allow
		case "block":
			out[dir] = Block
		default:
			return nil, words.Wrong(w, name+" policy value is invalid")
		}
	}
	return out, nil
}
