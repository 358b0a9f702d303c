package spd

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/selector"
)

func noLink(name string) (int, bool) { return 1, name == "lo" }

var lab = View{Wall: func(i clock.Instant) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, int(i), time.UTC) }, Link: func(int) string { return "lo" }}

func oneTemplate(t Template) string {
	l := lab.List(&Policy{Templates: []Template{t}})
	return l.Text(false)
}

func golden(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWords: testdata/words.txt has commands after "ip -6 xfrm policy" and what iproute2 6.1 or Linux 6.1 said to each,
// run one after the other; here too. Where we say something else there is a line with it.
func TestWords(t *testing.T) {
	db := New([2]uint64{}, nil)
	n := 0
	for _, c := range strings.Split(strings.TrimSpace(golden(t, "words.txt")), "\n$ ") {
		lines := strings.Split(strings.TrimPrefix(c, "$ "), "\n")
		words, want := strings.Fields(lines[0]), strings.TrimPrefix(lines[1], "linux: ")
		if len(lines) > 2 {
			want = strings.TrimPrefix(lines[2], "ours: ")
		}
		got := "ok"
		if err := run(db, words[0], words[1:]); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s\n got  %s\n want %s", lines[0], got, want)
		}
		n++
	}
	if n < 200 {
		t.Errorf("only %d commands", n)
	}
}

func run(db *DB, verb string, list []string) error {
	var err error
	switch verb {
	case "list", "deleteall":
		_, err = ParseFilter(list, noLink)
		return err
	case "flush":
		_, err = ParseFlush(list)
		return err
	case "setdefault":
		_, err = ParseDefaults(list)
		return err
	}
	r, err := Parse(verb, list, noLink)
	if err != nil {
		return err
	}
	switch verb {
	case "add":
		_, err = db.Add(t0, r.Policy)
	case "update":
		_, err = db.Update(t0, r.Policy)
	default:
		var p *Policy
		if p, err = db.Named(r); err == nil && verb == "delete" {
			_, err = db.DeleteIndex(p.Index)
		}
	}
	return err
}

// TestListing: testdata/listing.txt is what iproute2 6.1 printed on Linux 6.1 after each "ip -6 xfrm policy add", without
// and with statistics, and in one line; the time and the index in it are replaced.
func TestListing(t *testing.T) {
	cases := strings.Split(golden(t, "listing.txt"), "== ")[1:]
	for _, c := range cases {
		line, want, _ := strings.Cut(c, "\n")
		r, err := Parse("add", strings.Fields(line)[1:], noLink)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		l := lab.List(mustAdd(t, New([2]uint64{}, nil), r.Policy))
		stats := l.Text(true)
		_, behind, _ := strings.Cut(stats, " index ")
		index, _, _ := strings.Cut(behind, " ")
		stats = strings.NewReplacer("add 2026-01-01 00:00:01 use", "add DATE use", " index "+index, " index N").Replace(stats)
		got := l.Text(false) + "-- stats\n" + stats + "-- oneline\n" + strings.ReplaceAll(l.Text(false), "\n", `\`) + "\n"
		if got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", line, got, want)
		}
		throughJSON(t, l)
	}
	if len(cases) < 40 {
		t.Errorf("only %d cases", len(cases))
	}
}

// throughJSON: what a client decodes is the same.
func throughJSON(t *testing.T, l Listed) {
	t.Helper()
	b, err := json.Marshal(l)
	var back Listed
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || !reflect.DeepEqual(l, back) {
		t.Errorf("%s: %v\n%+v\n%+v", b, err, l, back)
		return
	}
	p, err := back.Make(noLink)
	if err != nil || !reflect.DeepEqual(lab.Spec(p), l.Spec) {
		t.Errorf("%s is made %+v: %v", b, p, err)
	}
}

// TestFilters: testdata/filters.txt is what "ip -6 xfrm policy list|deleteall|count" of iproute2 6.1 did with the policies
// of listing.txt.
func TestFilters(t *testing.T) {
	db := New([2]uint64{}, nil)
	for _, c := range strings.Split(golden(t, "listing.txt"), "== ")[1:] {
		line, _, _ := strings.Cut(c, "\n")
		r, err := Parse("add", strings.Fields(line)[1:], noLink)
		if err != nil {
			t.Fatal(err)
		}
		mustAdd(t, db, r.Policy)
	}
	n := 0
	for _, c := range strings.Split(golden(t, "filters.txt"), "$ ")[1:] {
		line, want, _ := strings.Cut(c, "\n")
		words := strings.Fields(line)
		got := ""
		switch f, err := ParseFilter(words[1:], noLink); {
		case err != nil:
			got = "rc=255\nError: " + err.Error() + "\n"
		case words[0] == "list":
			for _, p := range db.List() {
				if f.Match(p) {
					l := lab.List(p)
					got += l.Text(false)
				}
			}
		case words[0] == "deleteall":
			db.DeleteFunc(f.Match)
		default:
			got = db.Count().Text(false) + "\n"
		}
		if got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", line, got, want)
		}
		n++
	}
	if n < 50 {
		t.Errorf("only %d commands", n)
	}
}

// FuzzParse: words never panic; what is taken and added prints as words that say the same.
func FuzzParse(f *testing.F) {
	for line := range strings.Lines(golden(f, "words.txt") + strings.ReplaceAll(golden(f, "listing.txt"), "== ", "$ ")) {
		if rest, ok := strings.CutPrefix(line, "$ "); ok {
			f.Add(rest)
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Fields(line)
		if len(words) == 0 {
			return
		}
		_, _ = ParseFilter(words[1:], noLink)
		_, _ = ParseFlush(words[1:])
		_, _ = ParseDefaults(words[1:])
		r, err := Parse(words[0], words[1:], noLink)
		if err != nil || words[0] != "add" {
			return
		}
		p, err := New([2]uint64{}, nil).Add(t0, r.Policy)
		if err != nil {
			return
		}
		l := lab.List(p)
		l.Text(true)
		again, err := Parse("add", append([]string{"dir", "out"}, strings.Fields(l.Spec.Spec.Text())...), noLink)
		if err != nil || again.Selector.Normal() != p.Selector {
			t.Errorf("%q is not read back: %v", l.Spec.Spec.Text(), err)
		}
		back, _, err := selector.Words(strings.Fields(l.Spec.Spec.Text()))
		if err != nil || back != l.Spec.Spec {
			t.Errorf("%+v is read back as %+v: %v", l.Spec.Spec, back, err)
		}
	})
}
