package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Text returns the configuration as YAML that loads to the same tree.
func Text(r *Root) ([]byte, error) { return yaml.Marshal(r.raw) }

// Show returns the configuration as YAML for people: without its secrets.
func Show(r *Root) ([]byte, error) { return yaml.Marshal(hide(r.raw, place{})) }

// algorithm finds the algorithms of IPsec, by the key of a place, and what is below them.
var algorithm = regexp.MustCompile(`^ipsec\.states\[\d+\]\.(?:aead|enc|auth)(.*)$`)

// isSecret tells the keys of IPsec, and what may be one by mistake: names, files and lengths that look like such are shown.
func isSecret(at place, v any) bool {
	m := algorithm.FindStringSubmatch(at.key)
	if m == nil {
		return false
	}
	switch m[1] {
	case ".name", ".key_file":
		s, ok := v.(string)
		return !ok || strings.HasPrefix(s, "0x")
	case ".icv_bits", ".trunc_bits":
		n, ok := v.(int)
		return !ok || n < 0 || n > 1024
	}
	return true
}

// nearSecret finds where one may stand by mistake, too: faults do not repeat what is there.
var nearSecret = regexp.MustCompile(`^ipsec\.states\[\d+\]\.(aead|enc|auth)(\.key|\.key_file)?$`)

// hidden is what is shown of a secret.
const hidden = "<hidden>"

// hide returns a tree without its secrets.
func hide(v any, at place) any {
	switch x := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, e := range x {
			out[k] = hide(e, at.child(k))
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = hide(e, at.item(i, nil))
		}
		return out
	}
	if isSecret(at, v) {
		return hidden
	}
	return v
}

// Change is one difference between two configurations. Old or New is "" for what is added or gone; secrets are hidden.
type Change struct{ Path, Old, New string }

// Diff lists what differs from old to next, by path.
func Diff(old, next *Root) []Change {
	a, b := map[string]leaf{}, map[string]leaf{}
	flatten(old.raw, place{}, a)
	flatten(next.raw, place{}, b)
	var out []Change
	for _, k := range sortedKeys(a) {
		if b[k] != a[k] {
			out = append(out, Change{Path: k, Old: a[k].shown(), New: b[k].shown()})
		}
	}
	for _, k := range sortedKeys(b) {
		if _, ok := a[k]; !ok {
			out = append(out, Change{Path: k, New: b[k].shown()})
		}
	}
	return out
}

// leaf is a value of a tree; the zero leaf is none.
type leaf struct {
	text   string
	secret bool
}

func (l leaf) shown() string {
	if l.secret {
		return hidden
	}
	return l.text
}

func flatten(v any, at place, into map[string]leaf) {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			flatten(e, at.child(k), into)
		}
	case []any:
		names := map[string]bool{}
		for i, e := range x {
			p := at.item(i, e)
			if names[p.path] { // two items of one name: the second by its place
				p = at.item(i, nil)
			}
			names[p.path] = true
			flatten(e, p, into)
		}
	case string:
		into[at.path] = leaf{strconv.Quote(x), isSecret(at, x)}
	default:
		into[at.path] = leaf{fmt.Sprint(x), isSecret(at, x)}
	}
}
