package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// DefaultFile is read when no other file is named and it is there.
const DefaultFile = "/etc/leveret/leveret.yaml"

// Options say where a configuration comes from.
type Options struct {
	// File is read first; "" = Text is.
	File string
	// Name is what faults call Text.
	Name string
	Text []byte
	// Env holds NAME=value pairs, as os.Environ gives them.
	Env []string
	// Flags overrule everything, by path ("system.log.level").
	Flags map[string]string
	// Claims lists the parts that extensions decode themselves ("links[].nud", "routing.routes").
	Claims []string
}

// Find returns the file to read: the one named, else $LEVERET_CONFIG, else [DefaultFile] if it is
// there, else "" for the built-in default.
func Find(named string) string {
	if named != "" {
		return named
	}
	if f := os.Getenv("LEVERET_CONFIG"); f != "" {
		return f
	}
	if _, err := os.Stat(DefaultFile); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return DefaultFile // also one that cannot be read: reading says why
}

// Load reads, merges, decodes and checks a configuration. What is wrong with it comes as [Faults].
func Load(o Options) (*Root, error) {
	l := &loader{
		v:       viper.NewWithOptions(viper.KeyDelimiter("|")),
		decoder: decoder{lines: map[string]position{}},
	}
	if o.File != "" {
		if err := l.file(o.File); err != nil {
			return nil, err
		}
		drops, err := filepath.Glob(filepath.Join(filepath.Dir(o.File), "conf.d", "*.yaml"))
		if err != nil {
			return nil, err
		}
		for _, f := range drops {
			if err := l.file(f); err != nil {
				return nil, err
			}
		}
	} else {
		l.text(o.Name, o.Text)
	}
	if len(l.faults) > 0 { // a file that cannot be read as YAML: the rest would be guessing
		return nil, l.faults
	}
	l.env(o.Env)
	l.flags(o.Flags)
	root := l.root(o.Claims)
	if len(l.faults) > 0 {
		l.faults.sort()
		return nil, l.faults
	}
	return root, nil
}

type loader struct {
	v     *viper.Viper
	links int // items of links; those of tunnels come behind them
	decoder
}

func (l *loader) file(name string) error {
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Faults{{File: name, Msg: "no such file"}}
	case err != nil:
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return Faults{{File: name, Msg: err.Error()}}
	}
	l.text(name, b)
	return nil
}

// text merges one YAML document.
func (l *loader) text(name string, b []byte) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) { // nothing, or nothing but comments
			l.faults = append(l.faults, Fault{File: name, Msg: "the file is empty"})
			return
		}
		l.faults = append(l.faults, syntaxFault(name, b, err))
		return
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		l.faults = append(l.faults, Fault{File: name, Msg: "more than one YAML document"})
		return
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		l.faults = append(l.faults, Fault{File: name, Line: doc.Line, Msg: "want keys and values"})
		return
	}
	l.note(name, doc.Content[0], "", "")
	var m map[string]any
	if err := doc.Decode(&m); err != nil {
		l.faults = append(l.faults, syntaxFault(name, b, err))
		return
	}
	if err := l.v.MergeConfigMap(m); err != nil {
		l.faults = append(l.faults, Fault{File: name, Msg: err.Error()})
	}
}

// note remembers every node's line and finds what YAML does to addresses.
func (l *loader) note(file string, n *yaml.Node, key, path string) {
	l.lines[key] = position{file, n.Line}
	bad := func(n *yaml.Node, msg string) {
		l.faults = append(l.faults, Fault{File: file, Line: n.Line, Path: path, Msg: msg})
	}
	switch n.Kind {
	case yaml.AliasNode:
		bad(n, "YAML aliases are not supported: write the value out")
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if k.Kind != yaml.ScalarNode {
				bad(k, "a key must be a word: quote the address")
				continue
			}
			if strings.Contains(k.Value, ":") {
				bad(k, fmt.Sprintf("YAML reads %s: as a key: quote the address", k.Value))
				continue
			}
			if k.Value != strings.ToLower(k.Value) || strings.Contains(k.Value, "|") {
				bad(k, fmt.Sprintf("unknown key %q: keys are lower case", k.Value))
				continue
			}
			at := place{path, key}.child(k.Value)
			l.note(file, v, at.key, at.path)
			l.lines[at.key] = position{file, k.Line}
		}
	case yaml.SequenceNode:
		// The list replaces one of an earlier file, with the lists in it.
		if !strings.Contains(key, "[") {
			for k := range l.lines {
				if strings.HasPrefix(k, key+"[") {
					delete(l.lines, k)
				}
			}
		}
		for i, v := range n.Content {
			at := place{path, key}.item(i, nil)
			l.note(file, v, at.key, at.path)
		}
	}
}

var yamlLine = regexp.MustCompile(`line (\d+): (.*)`)

// syntaxFault explains what the YAML reader said.
func syntaxFault(file string, b []byte, err error) Fault {
	f := Fault{File: file, Msg: strings.TrimPrefix(err.Error(), "yaml: ")}
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return f
	}
	f.Line, _ = strconv.Atoi(m[1])
	f.Msg = m[2]
	lines := strings.Split(string(b), "\n")
	for i := max(f.Line-1, 0); i <= f.Line && i < len(lines); i++ {
		if s := lines[i]; strings.HasSuffix(strings.TrimSpace(s), "::") || strings.Contains(s, "[::") {
			f.Line = i + 1
			f.Msg = "YAML cannot read this: quote the address"
		}
		if strings.HasPrefix(lines[i], "\t") {
			f.Line = i + 1
			f.Msg = "indented with a tab: YAML wants spaces"
		}
	}
	return f
}

// env applies LEVERET_SYSTEM_LOG_LEVEL and the like: every leaf of the typed tree that is no list,
// and the lists as JSON.
func (l *loader) env(env []string) {
	byName := map[string]string{}
	// Only what begins like a key of ours is a misspelt one: a container platform sets others
	// (LEVERET_PORT, LEVERET_SERVICE_HOST) for a service of that name.
	sections := map[string]bool{}
	for path := range leaves(reflect.TypeFor[Root](), "") {
		section, _, _ := strings.Cut(path, "|")
		sections[strings.ToUpper(section)] = true
		byName["LEVERET_"+strings.ToUpper(strings.ReplaceAll(path, "|", "_"))] = path
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		path, ok := byName[name]
		if !ok {
			if section, _, _ := strings.Cut(strings.TrimPrefix(name, "LEVERET_"), "_"); strings.HasPrefix(name, "LEVERET_") && sections[section] {
				l.faults = append(l.faults, Fault{Path: "$" + name, Msg: "no configuration key has this variable" + didYouMean(name, sortedKeys(byName))})
			}
			continue
		}
		l.override("$"+name, path, value)
	}
}

func (l *loader) flags(flags map[string]string) {
	for _, path := range sortedKeys(flags) {
		l.override(path, strings.ReplaceAll(path, ".", "|"), flags[path])
	}
}

// override sets one leaf from text.
func (l *loader) override(name, path, value string) {
	var v any = value
	if typ := leaves(reflect.TypeFor[Root](), "")[path]; typ != nil && typ.Kind() != reflect.String {
		dec := json.NewDecoder(strings.NewReader(value))
		dec.UseNumber() // 64 bits stay 64 bits
		if err := dec.Decode(&v); err != nil || dec.More() {
			v = value // durations and sizes; the decoder judges
		}
	}
	l.v.Set(path, v)
	l.lines[strings.ReplaceAll(path, "|", ".")] = position{file: name}
}

// leaves lists the typed tree's leaves by viper path.
func leaves(t reflect.Type, prefix string) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("mapstructure")
		if tag == "" || tag == "-" {
			continue
		}
		if f.Type.Kind() == reflect.Struct && !isLeaf(f.Type) {
			for k, v := range leaves(f.Type, prefix+tag+"|") {
				out[k] = v
			}
			continue
		}
		out[prefix+tag] = f.Type
	}
	return out
}

// root decodes what was merged.
func (l *loader) root(claims []string) *Root {
	raw := normal(l.v.AllSettings()).(map[string]any)
	r := defaults()
	r.raw = clone(raw).(map[string]any)
	r.Sections = map[string]*Section{}
	l.refuse(raw, place{})
	linkSections := l.claim(raw, claims, r.Sections)
	l.value(raw, reflect.ValueOf(r).Elem(), place{})
	l.links = len(r.Links)
	r.Links, r.Tunnels = append(r.Links, r.Tunnels...), nil
	for i := range r.Links {
		if i < len(linkSections) {
			r.Links[i].Sections = linkSections[i]
		}
	}
	r.fill()
	l.check(r)
	return r
}

// claim takes the claimed parts out of raw.
func (l *loader) claim(raw map[string]any, claims []string, top map[string]*Section) []map[string]*Section {
	links, _ := raw["links"].([]any)
	tunnels, _ := raw["tunnels"].([]any)
	l.links = len(links)
	perLink := make([]map[string]*Section, len(links)+len(tunnels))
	for i := range perLink {
		perLink[i] = map[string]*Section{}
	}
	all := append(slices.Clone(links), tunnels...)
	for _, c := range claims {
		if key, ok := strings.CutPrefix(c, "links[]."); ok {
			for i, x := range all {
				m, _ := x.(map[string]any)
				perLink[i][key] = &Section{raw: m[key], at: l.linkPlace(i, x).child(key), lines: l.lines}
				delete(m, key)
			}
			continue
		}
		if c == "tunnels[]" {
			continue
		}
		section, key, _ := strings.Cut(c, ".")
		m, _ := raw[section].(map[string]any)
		top[c] = &Section{raw: m[key], at: place{c, c}, lines: l.lines}
		delete(m, key)
	}
	if slices.Contains(claims, "tunnels[]") {
		l.claimTunnels(tunnels, perLink[len(links):])
	}
	return perLink
}

// claimTunnels takes out of each tunnel what is not a key of every link.
func (l *loader) claimTunnels(tunnels []any, sections []map[string]*Section) {
	for i, x := range tunnels {
		m, ok := x.(map[string]any)
		if !ok {
			continue // the decoder says so
		}
		rest := map[string]any{}
		for k, v := range m {
			if !slices.Contains(linkKeys, k) {
				rest[k] = v
				delete(m, k)
			}
		}
		if m["mtu"] == "auto" {
			delete(m, "mtu")
		}
		sections[i]["tunnel"] = &Section{raw: rest, at: l.linkPlace(l.links+i, x), lines: l.lines}
	}
}

// linkPlace is where the link with index i of all, tunnels behind the others, stands.
func (l *loader) linkPlace(i int, v any) place {
	if i < l.links {
		return place{"links", "links"}.item(i, v)
	}
	return place{"tunnels", "tunnels"}.item(i-l.links, v)
}

// normal turns what YAML and viper give into maps of strings, lists, and plain numbers.
func normal(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k := range x {
			x[k] = normal(x[k])
		}
		return x
	case map[any]any:
		m := map[string]any{}
		for k, e := range x {
			m[fmt.Sprint(k)] = normal(e)
		}
		return m
	case []any:
		for i := range x {
			x[i] = normal(x[i])
		}
		return x
	default:
		return v
	}
}

func clone(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[k] = clone(e)
		}
		return m
	case []any:
		s := make([]any, len(x))
		for i, e := range x {
			s[i] = clone(e)
		}
		return s
	default:
		return v
	}
}
