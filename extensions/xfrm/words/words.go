// Package words reads what the commands of "ip xfrm" have in common: ID, SELECTOR, LIMIT, marks, flags. Errors are in
// iproute2's words, without its "Error: ".
package words

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

// ErrIncomplete is that a word is missing at the end.
var ErrIncomplete = errors.New(`Command line is not complete. Try option "help"`)

// ErrLargeSPI is that IPComp has 16 bits for it.
var ErrLargeSPI = errors.New(`SPI value is too large with XFRM-PROTO value "comp"`)

// Wrong is iproute2's way to say it.
func Wrong(w, why string) error { return fmt.Errorf("argument %q is wrong: %s", w, why) }

// Duplicate says that there is a second one of what.
func Duplicate(what, w string) error {
	return fmt.Errorf("duplicate %q: %q is the second value.", what, w)
}

// Reader reads words one after the other.
type Reader struct {
	Words []string
	At    int                      // of the word being read
	Link  func(string) (int, bool) // the number of a link's name
	Inet6 bool                     // addresses are of IPv6, as those before them are
}

// More reports whether there is a word to be read.
func (r *Reader) More() bool { return r.At < len(r.Words) }

// Word is the one being read.
func (r *Reader) Word() string { return r.Words[r.At] }

// Next is the word behind it, "" if there is none.
func (r *Reader) Next() string {
	if r.At+1 < len(r.Words) {
		return r.Words[r.At+1]
	}
	return ""
}

// Arg goes on to the next word.
func (r *Reader) Arg() (string, error) {
	r.At++
	if !r.More() {
		return "", ErrIncomplete
	}
	return r.Word(), nil
}

// Number goes on to the next word, which is a number of so many bits.
func (r *Reader) Number(bits int, why string) (uint64, error) {
	w, err := r.Arg()
	if err != nil {
		return 0, err
	}
	n, ok := Number(w, bits)
	if !ok {
		return 0, Wrong(w, why)
	}
	return n, nil
}

// Number32 is Number for a field.
func (r *Reader) Number32(into *uint32, why string) error {
	n, err := r.Number(32, why)
	*into = uint32(n)
	return err
}

// Number reads a number of so many bits as strtoul does with base 0, but not a negative one.
func Number(w string, bits int) (uint64, bool) {
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

// Prefix goes on to the next word, which is a prefix or an address.
func (r *Reader) Prefix() (netip.Prefix, error) {
	after := r.Word()
	w, err := r.Arg()
	if err != nil {
		return netip.Prefix{}, err
	}
	switch {
	case w == "any" || w == "default" || w == "all":
		return netip.Prefix{}, Wrong(w, fmt.Sprintf("value after %q has an unrecognized address family", after))
	case strings.Contains(w, "/"):
		pre, err := netip.ParsePrefix(w)
		if err == nil && !pre.Addr().Is4In6() && !(r.Inet6 && pre.Addr().Is4()) {
			return pre, nil
		}
	default:
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" && !a.Is4In6() && !(r.Inet6 && a.Is4()) {
			return netip.PrefixFrom(a, a.BitLen()), nil
		}
	}
	what := "any valid"
	if r.Inet6 {
		what = "inet6"
	}
	return netip.Prefix{}, fmt.Errorf("%s prefix is expected rather than %q.", what, w)
}

// Addr is Prefix for where a prefix makes no sense.
func (r *Reader) Addr() (netip.Addr, error) {
	pre, err := r.Prefix()
	if err == nil && !pre.IsSingleIP() {
		return netip.Addr{}, fmt.Errorf("any valid address is expected rather than %q.", r.Word())
	}
	return pre.Addr(), err
}

// ID is what names a state, or asks for one.
type ID struct {
	Src, Dst netip.Addr // zero = not given
	Proto    proto.Proto
	SPI      uint32
}

// IsID reports whether a word is one of ID.
func IsID(w string) bool { return w == "src" || w == "dst" || w == "proto" || w == "spi" }

// ID reads the words of ID, which stand together, from the one being read to the last of them.
func (r *Reader) ID() (id ID, err error) {
	for {
		switch r.Word() {
		case "src":
			id.Src, err = r.Addr()
		case "dst":
			id.Dst, err = r.Addr()
		case "proto":
			err = r.Protocol(&id.Proto)
		case "spi":
			err = r.Number32(&id.SPI, "SPI value is invalid")
		}
		if err != nil {
			return id, err
		}
		if !IsID(r.Next()) {
			break
		}
		r.At++
	}
	switch {
	case id.Src.IsValid() && id.Dst.IsValid() && id.Src.Is4() != id.Dst.Is4():
		return id, r.Families()
	case id.Proto == 0:
		return id, errors.New(`argument "XFRM-PROTO" is required`)
	case id.Proto == proto.Comp && id.SPI > 0xffff:
		return id, ErrLargeSPI
	case !id.Proto.HasSPI() && id.SPI != 0:
		return id, fmt.Errorf(`"spi" is invalid with XFRM-PROTO value %q`, id.Proto)
	}
	return id, nil
}

// Protocol goes on to XFRM-PROTO.
func (r *Reader) Protocol(into *proto.Proto) error {
	w, err := r.Arg()
	if err != nil {
		return err
	}
	var ok bool
	if *into, ok = proto.Parse(w); !ok {
		return Wrong(w, "XFRM-PROTO value is invalid")
	}
	return nil
}

// Families is that two addresses do not belong together.
func (r *Reader) Families() error {
	return Wrong(r.Word(), `the same address family is required between values after "src" and "dst"`)
}

// Mode goes on to MODE.
func (r *Reader) Mode(into *proto.Mode) error {
	w, err := r.Arg()
	if err != nil {
		return err
	}
	var ok bool
	if *into, ok = proto.ParseMode(w); !ok {
		return Wrong(w, "MODE value is invalid")
	}
	return nil
}

// Mark reads VALUE [ mask MASK ].
func (r *Reader) Mark(into *proto.Mark, why, whyMask string) error {
	if err := r.Number32(&into.Value, why); err != nil {
		return err
	}
	into.Mask = math.MaxUint32
	if r.Next() == "mask" {
		r.At++
		return r.Number32(&into.Mask, whyMask)
	}
	return nil
}

// Flags reads the words of a list of flags; the first that is none ends it. bit gives that of a word, 0 if it is none.
// It reports how many were read.
func (r *Reader) Flags(bit func(string) uint8) (set uint8, n int, err error) {
	for ; ; n++ {
		b := bit(r.Next())
		if b == 0 {
			break
		}
		set |= b
		r.At++
	}
	if n == 0 && r.At+1 >= len(r.Words) {
		err = ErrIncomplete
	}
	return set, n, err
}

// Limit reads LIMIT. 2^64-1 is iproute2's way to say that there is none.
func (r *Reader) Limit(l *proto.Lifetime) error {
	w, err := r.Arg()
	if err != nil {
		return err
	}
	into := map[string]*uint64{
		"time-soft": &l.SoftAdd, "time-hard": &l.HardAdd, "time-use-soft": &l.SoftUse, "time-use-hard": &l.HardUse,
		"byte-soft": &l.SoftBytes, "byte-hard": &l.HardBytes, "packet-soft": &l.SoftPackets, "packet-hard": &l.HardPackets,
	}[w]
	if into == nil {
		return Wrong(w, "LIMIT value is invalid")
	}
	*into, err = r.Number(64, fmt.Sprintf("value after %q is invalid", w))
	if *into == math.MaxUint64 {
		*into = 0
	}
	return err
}

// Selector reads the words of SELECTOR from the one being read, and goes on to the first behind them. Its errors are
// those of package selector: see [Said].
func (r *Reader) Selector() (selector.Selector, error) {
	_, s, err := r.Spec()
	return s, err
}

// Spec is Selector for who asks which words were given.
func (r *Reader) Spec() (selector.Spec, selector.Selector, error) {
	spec, rest, err := selector.Words(r.Words[min(r.At, len(r.Words)):])
	if err != nil {
		return spec, selector.Selector{}, err
	}
	read := len(r.Words) - len(rest) - r.At
	switch {
	case read <= 0 && r.More():
		return spec, selector.Selector{}, Wrong(r.Word(), "unknown")
	case read <= 0:
		return spec, selector.Selector{}, ErrIncomplete
	}
	r.At += read
	all, err := spec.Selectors(func(name string) int {
		n, ok := r.Link(name)
		if !ok {
			return 0
		}
		return n
	})
	switch {
	case err != nil:
		return spec, selector.Selector{}, err
	case len(all) > 1: // as the configuration may say it: a command is about one
		for field, v := range map[string]string{"sport": spec.SPort, "dport": spec.DPort, "type": spec.Type, "code": spec.Code} {
			if strings.Contains(v, "-") {
				err = &selector.FieldError{Field: field, Value: v, Text: "a range takes more than one selector"}
			}
		}
		return spec, selector.Selector{}, err
	}
	return spec, all[0], nil
}

// Said puts an error of package selector into iproute2's words where it has some.
func Said(err error) error {
	var f *selector.FieldError
	switch {
	case !errors.As(err, &f):
		return err
	case f.Text == selector.NoValue:
		return ErrIncomplete
	case f.Proto != "":
		p, _ := selector.ParseProto(f.Proto)
		words := map[string]string{"sport": `"sport" and "dport" are`, "type": `"type" and "code" are`, "key": `"key" is`}
		words["dport"], words["code"] = words["sport"], words["type"]
		return fmt.Errorf("%s invalid with PROTO value %q", words[f.Field], selector.ProtoName(p))
	case f.Value == "":
		return err
	}
	switch f.Field {
	case "src", "dst":
		return fmt.Errorf("inet6 prefix is expected rather than %q.", f.Value)
	case "proto":
		return Wrong(f.Value, "PROTO value is invalid")
	case "dev":
		return Wrong(f.Value, "DEV value is invalid")
	case "key":
		return errors.New(`value after "key" is invalid`)
	}
	return Wrong(f.Value, fmt.Sprintf("value after %q is invalid", f.Field))
}
