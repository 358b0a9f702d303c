package config

import (
	"fmt"
	"strings"
)

// later lists the keys of the schema that no part of the program has yet. They are refused, so
// that nobody believes in a setting that does nothing. Building a feature deletes its line.
var later = []string{
	"links[].addresses[].home",
	"mobility.home_agent", "mobility.mobile_node", "system.metrics",
}

// refuse finds and removes the keys of later.
func (l *loader) refuse(raw map[string]any, at place) {
	for _, path := range later {
		l.refusePath(raw, strings.Split(path, "."), at)
	}
	sandbox, _ := raw["system"].(map[string]any)
	m, _ := sandbox["sandbox"].(map[string]any)
	for _, k := range sortedKeys(m) {
		ok := false
		switch k {
		case "seccomp", "landlock":
			ok = m[k] == "off" || m[k] == false // YAML 1.1 readers make "off" a truth value
		case "drop_capabilities":
			ok = m[k] == false
		case "user":
			ok = m[k] == "" || m[k] == nil
		default:
			continue // unknown: the decoder says so
		}
		if !ok {
			l.fault(place{"system.sandbox." + k, "system.sandbox." + k}, fmt.Sprintf("%v: not built yet; leave it out", m[k]), "")
		}
		delete(m, k)
	}
}

func (l *loader) refusePath(raw any, words []string, at place) {
	m, ok := raw.(map[string]any)
	if !ok {
		return
	}
	key, isList := strings.CutSuffix(words[0], "[]")
	next := at.child(key)
	v, there := m[key]
	if !there && l.lines[next.key].file == "" { // viper drops empty maps
		return
	}
	switch {
	case len(words) == 1:
		l.fault(next, "not built yet", "")
		delete(m, key)
	case isList:
		list, _ := v.([]any)
		for i, x := range list {
			l.refusePath(x, words[1:], next.item(i, x))
		}
	default:
		l.refusePath(v, words[1:], next)
	}
}
