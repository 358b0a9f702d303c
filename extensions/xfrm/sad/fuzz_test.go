package sad

import (
	"os"
	"strings"
	"testing"
)

// FuzzParse: words never panic; what is taken and added prints as words that say the same.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/words.txt", "testdata/listing.txt"} {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, "$ "); ok {
				f.Add(rest)
			} else if rest, ok := strings.CutPrefix(line, "== "); ok {
				f.Add("add " + rest)
			}
		}
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := split(line)
		if len(words) == 0 {
			return
		}
		if f, err := ParseFilter(words[1:]); err == nil {
			f.Match(esp(0x1000))
		}
		_, _ = ParseFlush(words[1:])
		r, err := Parse(words[0], words[1:], outside)
		if err != nil || words[0] != "add" {
			return
		}
		s, _, err := newDB().Add(t0, &r.State)
		if err != nil {
			return
		}
		shown := lab
		shown.Keys = true
		l := shown.List(s)
		l.Text(true)
		if made, err := l.Make(noLink); err != nil || !made.Equal(s) && l.Sel != "src ::/0 dst ::/0" {
			t.Errorf("%+v is not made again: %v", l.Spec, err)
		}
		again, err := Parse("add", append(split("src fd00::1 dst fd00::2 proto hao mode ro coa :: sel"), strings.Fields(l.Sel)...), outside)
		if l.Sel != "" && (err != nil || again.Sel.Text(lab.Link) != l.Sel) {
			t.Errorf("%q is not read back: %v", l.Sel, err)
		}
	})
}

// FuzzConfigWords: the texts in an item of the configuration.
func FuzzConfigWords(f *testing.F) {
	f.Add("0x5/0xff", "src fd01::/16 proto tcp dport 80", "0x0102")
	f.Add("", "proto gre key 1.2.3.4 dev lo", "")
	f.Fuzz(func(_ *testing.T, mark, sel, key string) {
		c := StateConfig{Src: addr1, Dst: addr2, Proto: "esp", SPI: 256, Mark: mark, Sel: sel, AEAD: &AlgoConfig{Name: "rfc4106(gcm(aes))", Key: key}}
		if s, fault := c.State(defaults, readKey, noLink); fault == nil {
			_ = lab.List(s2(s))
		}
	})
}

// s2 is a state as it is in a database.
func s2(s *State) *State {
	added, _, err := newDB().Add(t0, s)
	if err != nil {
		panic(err) // State has checked it
	}
	return added
}
