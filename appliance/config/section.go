package config

import (
	"reflect"
)

// Section is one part of the configuration that an extension claimed. It implements
// module.Section.
type Section struct {
	raw   any
	at    place
	lines map[string]position
}

// Present reports whether the operator wrote it. A nil Section is not present.
func (s *Section) Present() bool { return s != nil && s.raw != nil }

// Decode fills v, a pointer, strictly; the error is [Faults].
func (s *Section) Decode(v any) error {
	if !s.Present() {
		return nil
	}
	d := &decoder{lines: s.lines}
	d.value(s.raw, reflect.ValueOf(v).Elem(), s.at)
	if len(d.faults) > 0 {
		return d.faults
	}
	return nil
}

// Fault makes a fault at key below the section; "" is the section itself, "[2].via" a key of its
// third item.
func (s *Section) Fault(key, msg, rfc string) error {
	at := s.at
	switch {
	case key == "":
	case key[0] == '[':
		at.path, at.key = at.path+key, at.key+key
	default:
		at = at.child(key)
	}
	d := &decoder{lines: s.lines}
	d.fault(at, msg, rfc)
	return d.faults[0]
}
