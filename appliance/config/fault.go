package config

import (
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration.
type Fault struct {
	File string // "" for the environment and flags
	Line int    // 0 = unknown
	Path string // as the operator typed it, lists by name: links[lan0].mtu
	Msg  string
	RFC  string // "RFC 8200 5" where there is one
}

func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
		if f.Line != 0 {
			fmt.Fprintf(&b, "%d:", f.Line)
		}
		b.WriteByte(' ')
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Msg)
	if f.RFC != "" {
		b.WriteString(" (" + f.RFC + ")")
	}
	return b.String()
}

// Faults are all faults of a configuration, in the order of files and lines.
type Faults []Fault

func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

func (fs Faults) sort() {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
}

// Collect returns every fault inside an error, also of several joined ones. rest is what is left
// of the error, nil if it is faults only.
func Collect(err error) (fs Faults, rest error) {
	switch e := err.(type) { //nolint:errorlint // joined errors are taken apart by hand
	case nil:
		return nil, nil
	case Faults:
		return e, nil
	case Fault:
		return Faults{e}, nil
	case interface{ Unwrap() []error }:
		for _, x := range e.Unwrap() {
			more, r := Collect(x)
			fs = append(fs, more...)
			if r != nil {
				rest = r
			}
		}
		fs.sort()
		return fs, rest
	default:
		return nil, err
	}
}
