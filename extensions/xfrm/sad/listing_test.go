package sad

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
)

// split makes words of a line of a shell, with its quotes.
func split(line string) (words []string) {
	for _, m := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		words = append(words, m[1]+m[2])
	}
	return words
}

var lab = View{Wall: func(i clock.Instant) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, int(i), time.UTC) }, Link: func(int) string { return "lo" }}

// TestListing: testdata/listing.txt is what iproute2 6.1 printed on Linux 6.1 after each "ip xfrm state add",
// with keys, without, with statistics and in one line; the time in it is replaced.
func TestListing(t *testing.T) {
	golden, err := os.ReadFile("testdata/listing.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(golden), "== ")[1:]
	for _, c := range cases {
		line, want, _ := strings.Cut(c, "\n")
		r, err := Parse("add", split(line), noLink)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		s := mustAdd(t, newDB(), t0, &r.State)
		shown := lab
		shown.Keys = true
		with, without := shown.List(s), lab.List(s)
		got := with.Text(false) + "-- nokeys\n" + without.Text(false) + "-- stats\n" +
			strings.ReplaceAll(with.Text(true), "add 2026-01-01 00:00:01 use", "add DATE use") + "-- oneline\n" + OneLine(without.Text(false))
		if got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", line, got, want)
		}
		throughJSON(t, with)
	}
	if len(cases) < 20 {
		t.Errorf("only %d cases", len(cases))
	}
}

// throughJSON: what a client decodes prints the same.
func throughJSON(t *testing.T, l Listed) {
	t.Helper()
	b, err := json.Marshal(l)
	var back Listed
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || back.Text(true) != l.Text(true) {
		t.Errorf("through JSON %s: %v\n%s", b, err, back.Text(true))
	}
}

func TestListingOfUse(t *testing.T) {
	db := newDB()
	s := mustAdd(t, db, t0, with(esp(0x1000), func(s *State) { s.ReplayWindow = 32; s.Life.SoftPackets = 1 }))
	s.Live.Work = fixedWindow(9)
	s.NextSeq()
	s.Live.Count(t0.Add(2*time.Second), 100)
	s.Live.Replayed()
	s.Live.LeftOfWindow()
	s.Live.LeftOfWindow()
	s.Live.IntegrityFailed()
	s.Before(1)
	l := lab.List(s)
	text := l.Text(true)
	for _, want := range []string{
		"seq 0x9, oseq 0x1, bitmap 0x00000000\n", "100(bytes), 1(packets)\n", "use 2026-01-01 00:00:03\n", "replay-window 2 replay 1 failed 1\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !l.Dying {
		t.Error("not shown as dying")
	}
	h := mustAdd(t, db, t0, hao("fd00::1", "fd00::9"))
	h.Live.Count(t0, 10)
	l = lab.List(h)
	if want := "\tlastused 2026-01-01 00:00:01\n"; !strings.Contains(l.Text(false), want) {
		t.Errorf("no %q in\n%s", want, l.Text(false))
	}
}

// TestNoLimit: 2^64-1 is how iproute2 says that there is none.
func TestNoLimit(t *testing.T) {
	r, err := Parse("add", split("src fd00::1 dst fd00::2 proto hao mode ro coa :: limit byte-hard 18446744073709551615 limit time-hard 0"), noLink)
	if err != nil || r.Life != (Lifetime{}) {
		t.Error(r, err)
	}
}
