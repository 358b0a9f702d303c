package sad

import (
	"os"
	"strings"
	"testing"
)

// TestWords: testdata/words.txt has commands after "ip xfrm state" and what iproute2 6.1 or Linux 6.1 said
// to each, run one after the other; here too. Where we say something else there is a line with it, and a
// reason in the code. A refusal of the kernel may have more words than its own.
func TestWords(t *testing.T) {
	golden, err := os.ReadFile("testdata/words.txt")
	if err != nil {
		t.Fatal(err)
	}
	db := newDB()
	n := 0
	for _, c := range strings.Split(strings.TrimSpace(string(golden)), "\n$ ") {
		lines := strings.Split(strings.TrimPrefix(c, "$ "), "\n")
		words, want := split(lines[0]), strings.TrimPrefix(lines[1], "linux: ")
		if len(lines) > 2 {
			want = strings.TrimPrefix(lines[2], "ours: ")
		}
		got := "ok"
		if err := run(db, words[0], words[1:]); err != nil {
			got = err.Error()
		}
		if got != want && !(len(lines) == 2 && strings.HasPrefix(got, want+": ")) {
			t.Errorf("%s\n got  %s\n want %s", lines[0], got, want)
		}
		n++
	}
	if n < 100 {
		t.Errorf("only %d commands", n)
	}
}

func run(db *DB, verb string, words []string) error {
	r, err := Parse(verb, words, outside)
	if err != nil {
		return err
	}
	switch verb {
	case "add":
		_, _, err = db.Add(t0, &r.State)
	case "update":
		_, err = db.Update(t0, &r.State)
	case "delete":
		_, err = db.Delete(r.ID, r.SAddr, r.Mark)
	case "get":
		_, err = db.Get(r.ID, r.SAddr, r.Mark)
	case "allocspi":
		_, err = db.AllocSPI(t0, &r.State, r.Min, r.Max, func() uint32 { return 0 })
	}
	return err
}
