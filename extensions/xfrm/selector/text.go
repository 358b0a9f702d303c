package selector

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"leveret/appliance/wire"
)

// protocols are the names that "ip xfrm" lists and takes, from the file protocols of a Debian system; the
// first of a number is the one that is written.
var protocols = []struct {
	name   string
	number uint8
}{
	{"any", 0},
	{"icmp", icmp}, {"ipv4", wire.IPv4Encap}, {"tcp", wire.TCP}, {"udp", wire.UDP}, {"dccp", wire.DCCP}, {"ipv6", wire.IPv6Encap},
	{"gre", wire.GRE}, {"esp", wire.ESP}, {"ah", wire.AH}, {"ipv6-icmp", wire.ICMPv6}, {"icmpv6", wire.ICMPv6},
	{"ipv6-nonxt", wire.NoNext}, {"ospf", 89}, {"pim", 103}, {"vrrp", 112}, {"sctp", wire.SCTP},
	{"mobility-header", wire.MH}, {"mh", wire.MH}, {"udplite", wire.UDPLite}, {"hip", wire.HIP}, {"shim6", wire.Shim6},
}

// ProtoName returns the name of a protocol, or its number.
func ProtoName(p uint8) string {
	for i := range protocols {
		if protocols[i].number == p {
			return protocols[i].name
		}
	}
	return strconv.Itoa(int(p))
}

// FieldError is what is wrong with a field of a [Spec].
type FieldError struct {
	Field, Text string
	Value       string // what cannot be read, if that is the reason
	Proto       string // that has no such field, if that is
}

// Error implements error: it begins with the field's name.
func (e *FieldError) Error() string { return e.Field + ": " + e.Text }

func unreadable(field, value, format string, a ...any) error {
	return &FieldError{Field: field, Value: value, Text: fmt.Sprintf(format, a...)}
}

// NoValue is the text of an error where a field's word is the last.
const NoValue = "needs a value"

// ParseProto reads a name or a number.
func ParseProto(s string) (uint8, error) {
	for i := range protocols {
		if protocols[i].name == s {
			return protocols[i].number, nil
		}
	}
	n, err := strconv.ParseUint(s, 0, 8)
	if err != nil {
		return 0, unreadable("proto", s, "%q is no protocol", s)
	}
	return uint8(n), nil
}

// opaque is the word for ports that are not to be had.
const opaque = "opaque"

// Text returns the selector in the words of "ip xfrm policy", as [Words] reads them; name gives the name of
// a link. Beside iproute2's words there are PORT/MASK for a port that does not count as a whole, and opaque.
func (s Selector) Text(name func(link int) string) string {
	spec := s.Spec(name)
	return spec.Text()
}

// Spec returns the selector as an operator writes it, with both prefixes.
func (s Selector) Spec(name func(link int) string) (out Spec) {
	s = s.Normal()
	out.Src, out.Dst = s.Src.String(), s.Dst.String()
	if s.Proto != 0 {
		out.Proto = ProtoName(s.Proto)
	}
	k := kindOf(s.Proto)
	first, second := k.names()
	switch {
	case s.Opaque:
		*out.field(first) = opaque
	case k == greKey:
		mask := uint32(s.SPortMask)<<16 | uint32(s.DPortMask)
		out.Key = number(uint32(s.SPort)<<16|uint32(s.DPort), mask, 1<<32-1)
	default:
		exact := func(v uint16) uint32 {
			if k == ports && v == 0 { // which is read as any without a mask
				return 0
			}
			return Exact
		}
		*out.field(first) = number(uint32(s.SPort), uint32(s.SPortMask), exact(s.SPort))
		*out.field(second) = number(uint32(s.DPort), uint32(s.DPortMask), exact(s.DPort))
	}
	if s.Link != 0 {
		out.Dev = name(s.Link)
	}
	return out
}

// number is a port with the bits of it that count, "" if none does.
func number(v, mask, exact uint32) string {
	switch mask {
	case 0:
		return ""
	case exact:
		return strconv.FormatUint(uint64(v), 10)
	}
	return fmt.Sprintf("%d/%#x", v, mask)
}

// Spec is a selector as an operator writes it: an item of the configuration, and the words of a command.
// Empty fields select everything.
type Spec struct {
	Src   string `json:"src,omitempty" mapstructure:"src"` // PREFIX, ADDRESS or any
	Dst   string `json:"dst,omitempty" mapstructure:"dst"`
	Proto string `json:"proto,omitempty" mapstructure:"proto"` // a name or a number
	SPort string `json:"sport,omitempty" mapstructure:"sport"` // PORT, PORT/MASK, LOW-HIGH or opaque
	DPort string `json:"dport,omitempty" mapstructure:"dport"`
	Type  string `json:"type,omitempty" mapstructure:"type"` // NUMBER, NUMBER/MASK, LOW-HIGH or opaque
	Code  string `json:"code,omitempty" mapstructure:"code"`
	Key   string `json:"key,omitempty" mapstructure:"key"` // NUMBER, NUMBER/MASK, DOTTED-QUAD or opaque
	Dev   string `json:"dev,omitempty" mapstructure:"dev"`
}

// Names are the words that values follow, in the order in which they are written.
var Names = [...]string{"src", "dst", "proto", "sport", "dport", "type", "code", "key", "dev"}

// SpecOf returns the spec of values by name.
func SpecOf(values map[string]string) (s Spec) {
	for _, w := range Names {
		*s.field(w) = values[w]
	}
	return s
}

// Words returns the words of what is given.
func (s *Spec) Words() (words []string) {
	for _, w := range Names {
		if v := *s.field(w); v != "" {
			words = append(words, w, v)
		}
	}
	return words
}

// Text returns them as one.
func (s *Spec) Text() string { return strings.Join(s.Words(), " ") }

func (s *Spec) field(word string) *string {
	switch word {
	case "src":
		return &s.Src
	case "dst":
		return &s.Dst
	case "proto":
		return &s.Proto
	case "sport":
		return &s.SPort
	case "dport":
		return &s.DPort
	case "type":
		return &s.Type
	case "code":
		return &s.Code
	case "key":
		return &s.Key
	case "dev":
		return &s.Dev
	}
	return nil
}

// IsWord reports whether a word is one of SELECTOR.
func IsWord(w string) bool {
	var s Spec
	return s.field(w) != nil
}

// Words reads the words of SELECTOR of "ip xfrm", in any order, and returns what is behind them.
func Words(words []string) (s Spec, rest []string, err error) {
	for len(words) > 0 {
		f := s.field(words[0])
		switch {
		case f == nil:
			return s, words, nil
		case len(words) == 1 || words[1] == "":
			return s, nil, &FieldError{Field: words[0], Text: NoValue}
		case *f != "":
			return s, nil, fmt.Errorf("%s: given twice", words[0])
		}
		*f, words = words[1], words[2:]
	}
	return s, nil, nil
}

// Selectors returns the selectors of a spec: one, or those that the ranges in it need. link gives the index
// of a link, 0 if there is none of that name. An error begins with the field's name, or has one line for
// each field at fault.
func (s Spec) Selectors(link func(name string) int) ([]Selector, error) {
	var out Selector
	var errs []error
	var err error
	note := func(e error) {
		if e != nil {
			errs = append(errs, e)
		}
	}
	out.Src, err = prefix("src", s.Src)
	note(err)
	out.Dst, err = prefix("dst", s.Dst)
	note(err)
	pairs := []pair{{}}
	if s.Proto != "" {
		out.Proto, err = ParseProto(s.Proto)
		note(err)
	}
	if s.Proto == "" || err == nil { // which words are allowed hangs on the protocol
		if out.Opaque, err = s.opaque(kindOf(out.Proto)); err == nil && !out.Opaque {
			pairs, err = s.pairs(kindOf(out.Proto))
		}
		note(err)
	}
	if s.Dev != "" {
		if out.Link = link(s.Dev); out.Link == 0 {
			note(unreadable("dev", s.Dev, "there is no link %q", s.Dev))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	out = out.Normal()
	var all []Selector
	for _, p := range pairs {
		out.SPort, out.SPortMask, out.DPort, out.DPortMask = p[0].value, p[0].mask, p[1].value, p[1].mask
		if err := out.Valid(); err != nil {
			return nil, err
		}
		all = append(all, out)
	}
	return all, nil
}

// prefix reads a prefix; host bits stay as they are written, as in Linux.
func prefix(field, s string) (netip.Prefix, error) {
	switch s {
	case "", "any", "all", "default":
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		var a netip.Addr
		if a, err = netip.ParseAddr(s); err == nil && a.Zone() == "" {
			return netip.PrefixFrom(a, a.BitLen()), nil
		}
		return p, unreadable(field, s, "%q is neither a prefix nor an address", s)
	}
	return p, nil
}

// masked is a port with the bits of it that count.
type masked struct{ value, mask uint16 }

// pair is what the two port fields of a selector are.
type pair [2]masked

// opaque reports whether the ports are to be opaque; what a protocol of the kind has not is refused.
func (s *Spec) opaque(k kind) (yes bool, err error) {
	said := 0
	for _, f := range [...]struct {
		word, value string
		ok          bool
	}{
		{"sport", s.SPort, k == ports}, {"dport", s.DPort, k == ports}, {"type", s.Type, k == types || k == mhType},
		{"code", s.Code, k == types || k == mhType}, {"key", s.Key, k == greKey},
	} {
		switch {
		case f.value == "":
			continue
		case !f.ok && s.Proto == "":
			return false, fmt.Errorf("%s: needs a protocol (RFC 4301 7.1)", f.word)
		case !f.ok:
			return false, &FieldError{Field: f.word, Text: fmt.Sprintf("protocol %s has none", s.Proto), Proto: s.Proto}
		case said > 0 && yes != (f.value == opaque):
			return false, fmt.Errorf("%s: the ports of a packet are all opaque or none is", f.word)
		}
		said++
		yes = f.value == opaque
	}
	return yes, nil
}

// pairs returns what the words for ports say, as a list of alternatives.
func (s *Spec) pairs(k kind) ([]pair, error) {
	switch k {
	case ports:
		a, err := values("sport", s.SPort, Exact, false)
		if err != nil {
			return nil, err
		}
		b, err := values("dport", s.DPort, Exact, false)
		return product(a, b), err
	case types, mhType:
		return s.typesAndCodes()
	case greKey:
		p, err := key(s.Key)
		return []pair{p}, err
	}
	return []pair{{}}, nil
}

func product(firsts, seconds []masked) (out []pair) {
	for _, a := range firsts {
		for _, b := range seconds {
			out = append(out, pair{a, b})
		}
	}
	return out
}

// typesAndCodes: a range of types with codes goes from the first code of the first type to the last code of
// the last one (RFC 4301 4.4.1.1: compared as type*256 + code).
func (s *Spec) typesAndCodes() ([]pair, error) {
	a, err := values("type", s.Type, 255, true)
	if err != nil {
		return nil, err
	}
	b, err := values("code", s.Code, 255, true)
	if err != nil || s.Code == "" || len(a) == 1 {
		return product(a, b), err
	}
	if strings.Contains(s.Code, "/") {
		return nil, fmt.Errorf("code: %s: a range of types goes with no mask", s.Code)
	}
	last := len(a) - 1
	out := product(a[:1], cover(b[0].value, 255, true))
	out = append(out, product(a[1:last], []masked{{}})...)
	return append(out, product(a[last:], cover(0, b[len(b)-1].value, true))...), nil
}

// values reads NUMBER, NUMBER/MASK or LOW-HIGH. A range of types is one selector for each, so that they can
// be read; one of ports is the few masks that cover it. Port 0 alone is any, as iproute2 has it; type 0 is
// a type.
func values(field, s string, limit uint64, zero bool) ([]masked, error) {
	if s == "" {
		return []masked{{}}, nil
	}
	parse := func(t string) (uint16, error) {
		n, err := strconv.ParseUint(t, 0, 16)
		if err != nil || n > limit {
			return 0, unreadable(field, t, "%q is no number from 0 to %d", t, limit)
		}
		return uint16(n), nil
	}
	if low, high, ok := strings.Cut(s, "-"); ok {
		l, err := parse(low)
		if err != nil {
			return nil, err
		}
		h, err := parse(high)
		if err != nil {
			return nil, err
		}
		if l > h {
			return nil, fmt.Errorf("%s: the range %s is empty", field, s)
		}
		return cover(l, h, zero), nil
	}
	value, mask, hasMask := strings.Cut(s, "/")
	v, err := parse(value)
	if err != nil {
		return nil, err
	}
	m := uint16(Exact)
	if hasMask {
		if m, err = parse(mask); err != nil {
			return nil, err
		}
		if v&^m != 0 {
			return nil, fmt.Errorf("%s: %s has bits outside of its mask", field, s)
		}
		if uint64(m) == limit {
			m = Exact
		}
	} else if v == 0 && !zero {
		m = 0
	}
	return []masked{{v, m}}, nil
}

// cover returns the values from l to h, one by one or as the largest aligned blocks.
func cover(l, h uint16, each bool) (out []masked) {
	for at := uint32(l); at <= uint32(h); {
		size := uint32(1)
		for !each && at&(2*size-1) == 0 && at+2*size-1 <= uint32(h) {
			size *= 2
		}
		out = append(out, masked{uint16(at), uint16(^(size - 1))})
		at += size
	}
	return out
}

func key(s string) (p pair, err error) {
	if s == "" {
		return p, nil
	}
	value, mask, hasMask := strings.Cut(s, "/")
	bad := unreadable("key", s, "%q is neither a number of 32 bits nor a dotted quad", s)
	v, err := strconv.ParseUint(value, 0, 32)
	if a, aerr := netip.ParseAddr(value); aerr == nil && a.Is4() {
		q := a.As4()
		v, err = uint64(binary.BigEndian.Uint32(q[:])), nil
	}
	if err != nil {
		return p, bad
	}
	m := uint64(1<<32 - 1)
	if hasMask {
		if m, err = strconv.ParseUint(mask, 0, 32); err != nil {
			return p, bad
		}
		if v&^m != 0 {
			return p, fmt.Errorf("key: %s has bits outside of its mask", s)
		}
	}
	return pair{{uint16(v >> 16), uint16(m >> 16)}, {uint16(v), uint16(m)}}, nil
}
