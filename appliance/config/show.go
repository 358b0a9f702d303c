package config

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Show returns the configuration as YAML that loads to the same tree.
func Show(r *Root) ([]byte, error) { return yaml.Marshal(r.raw) }

// Change is one difference between two configurations. Old or New is "" for what is added or gone.
type Change struct{ Path, Old, New string }

// Diff lists what differs from old to next, by path.
func Diff(old, next *Root) []Change {
	a, b := map[string]string{}, map[string]string{}
	flatten(old.raw, place{}, a)
	flatten(next.raw, place{}, b)
	var out []Change
	for _, k := range sortedKeys(a) {
		if b[k] != a[k] {
			out = append(out, Change{Path: k, Old: a[k], New: b[k]})
		}
	}
	for _, k := range sortedKeys(b) {
		if _, ok := a[k]; !ok {
			out = append(out, Change{Path: k, New: b[k]})
		}
	}
	return out
}

func flatten(v any, at place, into map[string]string) {
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
		into[at.path] = strconv.Quote(x)
	default:
		into[at.path] = fmt.Sprint(x)
	}
}
