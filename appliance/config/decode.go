package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
)

// place is where a value stands: its path for people, and the key of its line.
type place struct {
	path string // links[lan0].mtu
	key  string // links[0].mtu
}

func (p place) child(key string) place {
	if p.path == "" {
		return place{key, key}
	}
	return place{p.path + "." + key, p.key + "." + key}
}

func (p place) item(i int, v any) place {
	name := strconv.Itoa(i)
	if m, ok := v.(map[string]any); ok {
		if s, ok := m["name"].(string); ok && s != "" {
			name = s
		}
	}
	return place{p.path + "[" + name + "]", p.key + "[" + strconv.Itoa(i) + "]"}
}

// decoder fills typed values from what YAML gave, and collects faults instead of stopping.
type decoder struct {
	lines  map[string]position
	faults Faults
}

type position struct {
	file string
	line int
}

func (d *decoder) fault(at place, msg, rfc string) {
	if nearSecret.MatchString(at.key) {
		msg, _, _ = strings.Cut(msg, ", got ")
	}
	pos := d.lines[at.key]
	for k := at.key; pos.file == "" && k != ""; {
		i := strings.LastIndexAny(k, ".[")
		if i < 0 {
			break
		}
		k = k[:i]
		pos = d.lines[k]
	}
	d.faults = append(d.faults, Fault{File: pos.file, Line: pos.line, Path: at.path, Msg: msg, RFC: rfc})
}

// value decodes raw into v.
func (d *decoder) value(raw any, v reflect.Value, at place) {
	switch {
	case raw == nil:
		return // "key:" with nothing behind it: the default stays
	case v.Type() == reflect.TypeFor[Address]():
		if s, ok := raw.(string); ok {
			raw = map[string]any{"address": s}
		}
		d.fields(raw, v, at)
	case v.Kind() == reflect.Pointer:
		n := reflect.New(v.Type().Elem())
		d.value(raw, n.Elem(), at)
		v.Set(n)
	case v.Kind() == reflect.Struct && !isLeaf(v.Type()):
		d.fields(raw, v, at)
	case v.Kind() == reflect.Slice:
		list, ok := raw.([]any)
		if !ok {
			d.fault(at, "want a list, got "+kindOf(raw), "")
			return
		}
		s := reflect.MakeSlice(v.Type(), len(list), len(list))
		for i, x := range list {
			d.value(x, s.Index(i), at.item(i, x))
		}
		v.Set(s)
	default:
		d.leaf(raw, v, at)
	}
}

// fields decodes a map into a struct; every key must be one of its fields.
func (d *decoder) fields(raw any, v reflect.Value, at place) {
	m, ok := raw.(map[string]any)
	if !ok {
		d.fault(at, "want keys and values, got "+kindOf(raw), "")
		return
	}
	byKey := map[string]int{}
	var known []string
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("mapstructure"); tag != "" && tag != "-" {
			byKey[tag] = i
			known = append(known, tag)
		}
	}
	for _, k := range sortedKeys(m) {
		i, ok := byKey[k]
		if !ok {
			d.fault(at.child(k), "unknown key"+didYouMean(k, known), "")
			continue
		}
		d.value(m[k], v.Field(i), at.child(k))
	}
}

// leaf decodes one scalar.
func (d *decoder) leaf(raw any, v reflect.Value, at place) {
	switch x := v.Addr().Interface().(type) {
	case *netip.Prefix:
		d.text(raw, at, "an address with a prefix length, such as \"2001:db8::1/64\"", func(s string) error {
			p, err := netip.ParsePrefix(s)
			*x = p
			return err
		})
	case *netip.Addr:
		d.text(raw, at, "an IPv6 address", func(s string) error {
			a, err := netip.ParseAddr(s)
			*x = a
			return err
		})
	case *MAC:
		d.text(raw, at, "an Ethernet address such as \"02:00:5e:10:00:01\", or device", func(s string) error {
			if s == "device" {
				*x = MAC{Device: true, Set: true}
				return nil
			}
			m, err := net.ParseMAC(s)
			if err == nil && len(m) != 6 {
				err = fmt.Errorf("length %d", len(m))
			}
			if err == nil {
				*x = MAC{Addr: [6]byte(m), Set: true}
			}
			return err
		})
	case *time.Duration:
		d.text(raw, at, "a time with its unit, such as 30s", func(s string) error {
			if s == "infinity" {
				*x = 0
				return nil
			}
			t, err := time.ParseDuration(s)
			if err == nil && t <= 0 {
				err = errNotPositive
			}
			*x = t
			return err
		})
	case *Size:
		n, err := parseSize(fmt.Sprint(raw))
		if err != nil {
			d.fault(at, fmt.Sprintf("%v: want a number of octets, such as 65536 or 64MiB", raw), "")
			return
		}
		*x = n
	case encoding.TextUnmarshaler:
		s, ok := raw.(string)
		if !ok {
			d.fault(at, "want text, got "+kindOf(raw), "")
			return
		}
		if err := x.UnmarshalText([]byte(s)); err != nil {
			d.fault(at, err.Error(), "")
		}
	default:
		d.plain(raw, v, at)
	}
}

// errNotPositive: durations are how long something takes, and nothing takes no time.
var errNotPositive = errors.New("not positive")

// text decodes a scalar that is written as text.
func (d *decoder) text(raw any, at place, want string, parse func(string) error) {
	s, ok := raw.(string)
	if !ok {
		if m, isMap := raw.(map[string]any); isMap && len(m) == 1 {
			d.fault(at, "YAML reads an address that ends in \"::\" as a key: quote the address", "")
			return
		}
		d.fault(at, fmt.Sprintf("want %s, got %s", want, kindOf(raw)), "")
		return
	}
	switch err := parse(s); {
	case errors.Is(err, errNotPositive):
		d.fault(at, s+" is not more than zero", "")
	case err != nil:
		d.fault(at, fmt.Sprintf("%q is not %s", s, want), "")
	}
}

// plain decodes a string, number, truth value or map of strings without guessing: "5" is no number.
func (d *decoder) plain(raw any, v reflect.Value, at place) {
	if s, ok := raw.(string); ok && v.Kind() == reflect.Bool {
		d.fault(at, fmt.Sprintf("%q: write true or false", s), "")
		return
	}
	if v.CanInt() || v.CanUint() {
		d.number(raw, v, at)
		return
	}
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: v.Addr().Interface(), ErrorUnused: true})
	if err == nil {
		err = dec.Decode(raw)
	}
	if err != nil {
		d.fault(at, fmt.Sprintf("want %s, got %s", kindName(v.Type()), kindOf(raw)), "")
		return
	}
}

// number decodes a whole number without rounding or wrapping.
func (d *decoder) number(raw any, v reflect.Value, at place) {
	text := fmt.Sprint(raw)
	switch raw.(type) {
	case int, int64, uint64, json.Number:
	default:
		d.fault(at, "want a whole number, got "+kindOf(raw), "")
		return
	}
	var err error
	if v.CanInt() {
		var n int64
		if n, err = strconv.ParseInt(text, 10, v.Type().Bits()); err == nil {
			v.SetInt(n)
		}
	} else {
		var n uint64
		if n, err = strconv.ParseUint(text, 10, v.Type().Bits()); err == nil {
			v.SetUint(n)
		}
	}
	switch {
	case err == nil:
	case strings.HasPrefix(text, "-"):
		d.fault(at, text+" is negative", "")
	case strings.ContainsAny(text, ".eE"):
		d.fault(at, "want a whole number, got "+text, "")
	default:
		d.fault(at, text+" is too large", "")
	}
}

func isLeaf(t reflect.Type) bool {
	return t == reflect.TypeFor[netip.Addr]() || t == reflect.TypeFor[netip.Prefix]() || t == reflect.TypeFor[MAC]()
}

func parseSize(s string) (Size, error) {
	unit := int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if n, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = n, u
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("not a size")
	}
	return Size(n * unit), nil
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Map:
		return "keys and values"
	default:
		return "a number"
	}
}

func kindOf(raw any) string {
	switch raw.(type) {
	case string:
		return fmt.Sprintf("the text %q", raw)
	case bool:
		return fmt.Sprintf("%v", raw)
	case []any:
		return "a list"
	case map[string]any:
		return "keys and values"
	case nil:
		return "nothing"
	default:
		return fmt.Sprintf("the number %v", raw)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// didYouMean suggests the known word that is nearest, if one is near.
func didYouMean(word string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if n := distance(word, k); n < least {
			best, least = k, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j]+1, prev+1)
		}
	}
	return row[len(b)]
}
