package sad

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
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
	cases := strings.Split(strings.ReplaceAll(string(golden), "<<Keys hidden>>", hidden), "== ")[1:] // shorter: it is the default here
	for _, c := range cases {
		line, want, _ := strings.Cut(c, "\n")
		r, err := Parse("add", split(line), outside)
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
	s, err := back.Make(noLink)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	again := lab
	again.Keys = true
	if got := again.Spec(mustAdd(t, newDB(), t0, s)); !reflect.DeepEqual(got, l.Spec) {
		t.Errorf("made again %+v\nwant %+v", got, l.Spec)
	}
}

// TestMakeRefuses: what a client of its own may send.
func TestMakeRefuses(t *testing.T) {
	key := func(k string) *AlgoSpec { return &AlgoSpec{Name: "rfc4106(gcm(aes))", Key: &k} }
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{AEAD: key("012")}, "Invalid argument: a key is an even number of hexadecimal digits"},
		{Spec{AEAD: key("s3")}, "Invalid argument: a key is an even number of hexadecimal digits"},
		{Spec{Sel: "proto bogus"}, `argument "bogus" is wrong: PROTO value is invalid`},
		{Spec{Sel: "dev lan9"}, `argument "lan9" is wrong: DEV value is invalid`},
		{Spec{Sel: "bogus"}, `argument "bogus" is wrong: unknown`},
	} {
		_, err := c.spec.Make(noLink)
		mustErr(t, err, c.want)
	}
	if _, _, err := newDB().Add(t0, must(t, &Spec{Proto: proto.ESP, SPI: 0x1000})); err == nil || err.Error() != "Invalid argument: src and dst are required" {
		t.Error(err)
	}
}

func must(t *testing.T, c *Spec) *State {
	t.Helper()
	s, err := c.Make(noLink)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestListingOfLarval: what iproute2 6.1 printed of "ip xfrm state allocspi src fd00::1 dst fd00::2 proto esp reqid 7 mode tunnel
// min 0x1000 max 0x1000" and of "ip -s xfrm state" after it.
func TestListingOfLarval(t *testing.T) {
	r, err := Parse("allocspi", split("src fd00::1 dst fd00::2 proto esp reqid 7 mode tunnel min 0x1000 max 0x1000"), outside)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newDB().AllocSPI(t0, &r.State, r.Min, r.Max, func() uint32 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	l := lab.List(s)
	const want = `src fd00::1 dst fd00::2
	proto esp spi 0x00001000 reqid 7 mode tunnel
	replay-window 0 
	anti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
	sel src fd00::1/128 dst fd00::2/128 
src fd00::1 dst fd00::2
	proto esp spi 0x00001000(4096) reqid 7(0x00000007) mode tunnel
	replay-window 0 seq 0x00000000 flag  (0x00000000)
	anti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
	sel src fd00::1/128 dst fd00::2/128 uid 0
	lifetime config:
	  limit: soft (INF)(bytes), hard (INF)(bytes)
	  limit: soft (INF)(packets), hard (INF)(packets)
	  expire add: soft 0(sec), hard 30(sec)
	  expire use: soft 0(sec), hard 0(sec)
	lifetime current:
	  0(bytes), 0(packets)
	  add 2026-01-01 00:00:01 use -
	stats:
	  replay-window 0 replay 0 failed 0
`
	if got := l.Text(false) + l.Text(true); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
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
	r, err := Parse("add", split("src fd00::1 dst fd00::2 proto hao mode ro coa :: limit byte-hard 18446744073709551615 limit time-hard 0"), outside)
	if err != nil || r.Life != (Lifetime{}) {
		t.Error(r, err)
	}
}
