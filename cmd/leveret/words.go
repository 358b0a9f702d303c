package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// words is iproute2's grammar: a sequence of keywords with their values and flags without, in any
// order, around one thing that needs no keyword.
type words struct {
	values map[string]func(value string) error // keyword -> what to do with the next word
	flags  map[string]func()                   // keyword alone
	// bare takes the first word that is no keyword; nil = there is none.
	bare func(word string) error
}

// parse reads args. The errors are iproute2's.
func (w words) parse(args []string) error {
	seen := map[string]bool{}
	bareTaken := false
	for i := 0; i < len(args); i++ {
		word := args[i]
		set, isValue := w.values[word]
		flag, isFlag := w.flags[word]
		switch {
		case (isValue || isFlag) && seen[word]:
			return usagef("duplicate %q", word)
		case isValue:
			seen[word] = true
			i++
			if i == len(args) {
				return usagef(`Command line is not complete. Try option "help"`)
			}
			if err := set(args[i]); err != nil {
				return err
			}
		case isFlag:
			seen[word] = true
			flag()
		case w.bare != nil && !bareTaken:
			bareTaken = true
			if err := w.bare(word); err != nil {
				return err
			}
		default:
			return usagef("either %q is duplicate, or %q is a garbage.", w.bareName(), word)
		}
	}
	return nil
}

// bareName is the keyword that the bare word stands for in messages.
func (w words) bareName() string {
	for _, k := range []string{"name", "to", "dev", "local"} {
		if _, ok := w.values[k]; ok {
			return k
		}
	}
	return "to"
}

// keywords returns every keyword, for completion.
func (w words) keywords() []string {
	var ks []string
	for k := range w.values {
		ks = append(ks, k)
	}
	for k := range w.flags {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

// text stores a word as it is.
func text(p *string) func(string) error {
	return func(v string) error {
		*p = v
		return nil
	}
}

// on makes a flag of a keyword.
func on(p *bool) func() { return func() { *p = true } }

// oneOf stores a word of a list.
func oneOf(p *string, what string, list ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(list, v) {
			return usagef("argument %q is wrong: %s is invalid", v, what)
		}
		*p = v
		return nil
	}
}

// addr stores an IPv6 address without a zone.
func addr(p *netip.Addr) func(string) error {
	return func(v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return usagef("inet6 address is expected rather than %q.", v)
		}
		*p = a
		return nil
	}
}

// addrText checks as addr does and stores the text.
func addrText(p *string) func(string) error {
	return func(v string) error {
		var a netip.Addr
		if err := addr(&a)(v); err != nil {
			return err
		}
		*p = a.String()
		return nil
	}
}

// parsePrefix reads a prefix, an address (/128) or a word for ::/0; host bits stay.
func parsePrefix(v string) (netip.Prefix, error) {
	switch v {
	case "default", "any", "all":
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
	}
	if p, err := netip.ParsePrefix(v); err == nil && p.Addr().Is6() {
		return p, nil
	}
	if a, err := netip.ParseAddr(v); err == nil && a.Is6() && a.Zone() == "" {
		return netip.PrefixFrom(a, 128), nil
	}
	return netip.Prefix{}, usagef("inet6 prefix is expected rather than %q.", v)
}

// prefix checks a prefix and stores its text, host bits cleared.
func prefix(p *string) func(string) error {
	return func(v string) error {
		pr, err := parsePrefix(v)
		if err != nil {
			return err
		}
		*p = pr.Masked().String()
		return nil
	}
}

// number stores a number, decimal or 0x, within bounds.
func number[T int | int64 | uint32](p *T, what string, least, most int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 0, 64)
		if err != nil || n < least || n > most {
			return usagef("argument %q is wrong: %q value is invalid", v, what)
		}
		*p = T(n)
		return nil
	}
}

// optional is number for a field that may be absent.
func optional[T int | int64 | uint32](p **T, what string, least, most int64) func(string) error {
	return func(v string) error {
		*p = new(T)
		return number(*p, what, least, most)(v)
	}
}

// numberText is number for a field that goes into a query.
func numberText(p *string, what string, most int64) func(string) error {
	return func(v string) error {
		var n int64
		if err := number(&n, what, 0, most)(v); err != nil {
			return err
		}
		*p = strconv.FormatInt(n, 10)
		return nil
	}
}

// lladdr checks and stores an Ethernet address in lower case with colons.
func lladdr(p *string) func(string) error {
	return func(v string) error {
		m, err := net.ParseMAC(v)
		if err != nil || len(m) != 6 {
			return usagef("%q is invalid lladdr.", v)
		}
		*p = m.String()
		return nil
	}
}

// line joins the parts of a line that are not empty.
func line(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// pair is a keyword and its value in a line of output; empty if the value is.
func pair(key string, value any) string {
	s := fmt.Sprint(value)
	if s == "" {
		return ""
	}
	return key + " " + s
}

// when returns s if cond holds.
func when(cond bool, s string) string {
	if cond {
		return s
	}
	return ""
}
