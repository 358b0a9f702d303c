package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"leveret/extensions/xfrm/spd"
)

const spdTestdata = "../../extensions/xfrm/spd/testdata/"

// policy runs a command of xfrm policy.
func (b *xfrmBench) policy(line string) (code int, out, errs string) {
	return b.run("", append([]string{"xfrm", "policy"}, strings.Fields(line)...)...)
}

// TestXfrmPolicySaysWhatIPSays: the commands of words.txt, one after the other, with what ip or Linux said to each: what
// ip itself refuses ends with 1, what the kernel refuses with 2.
func TestXfrmPolicySaysWhatIPSays(t *testing.T) {
	golden, err := os.ReadFile(spdTestdata + "words.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := newXfrmBench(t)
	codes := map[int]int{}
	for _, c := range strings.Split(strings.TrimSpace(string(golden)), "\n$ ") {
		lines := strings.Split(strings.TrimPrefix(c, "$ "), "\n")
		want := strings.TrimPrefix(lines[1], "linux: ")
		if len(lines) > 2 {
			want = strings.TrimPrefix(lines[2], "ours: ")
		}
		code, _, errs := b.policy(lines[0])
		errs = strings.TrimPrefix(strings.TrimSuffix(errs, "\n"), "Error: ")
		switch {
		case notBuilt.MatchString(errs):
			code = -1
		case errs == "" && want == "ok":
		case errs != want:
			t.Errorf("%s\n got  %s\n want %s", lines[0], errs, want)
		}
		codes[code]++
	}
	if codes[exitOK] < 70 || codes[exitUsage] < 90 || codes[exitRefused] < 25 || codes[-1] > 10 || len(codes) != 4 {
		t.Errorf("exit codes: %v", codes)
	}
}

// TestXfrmPolicyListsWhatIPLists: testdata/listing.txt is what ip printed of each policy, without and with -s, and with -o;
// filters.txt what it printed of all with filters.
func TestXfrmPolicyListsWhatIPLists(t *testing.T) {
	read := func(name string) string {
		golden, err := os.ReadFile(spdTestdata + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(golden)
	}
	b := newXfrmBench(t) // with 256 commands all connections that a socket takes are open
	date, index := regexp.MustCompile(`add \d{4}-\d\d-\d\d \d\d:\d\d:\d\d use`), regexp.MustCompile(`index \d+`)
	cases := strings.Split(read("listing.txt"), "== ")[1:]
	for _, c := range cases {
		line, want, _ := strings.Cut(c, "\n")
		b.must(append([]string{"xfrm", "policy"}, strings.Fields(line)...)...)
		stats := index.ReplaceAllString(date.ReplaceAllString(b.must("-s", "x", "p", "l"), "add DATE use"), "index N")
		if got := b.must("xfrm", "policy") + "-- stats\n" + stats + "-- oneline\n" + b.must("-o", "xfrm", "policy", "show"); got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", line, got, want)
		}
		b.must("xfrm", "policy", "deleteall")
	}
	b = newXfrmBench(t)
	for _, c := range cases {
		line, _, _ := strings.Cut(c, "\n")
		b.must(append([]string{"xfrm", "policy"}, strings.Fields(line)...)...)
	}
	for _, c := range strings.Split(read("filters.txt"), "$ ")[1:] {
		line, want, _ := strings.Cut(c, "\n")
		code, out, errs := b.policy(line)
		if strings.HasPrefix(want, "rc=255\n") { // a link that is not there, which the appliance knows
			out, want = errs, strings.TrimPrefix(want, "rc=255\n")
			if code != exitRefused {
				t.Errorf("%s: exit %d", line, code)
			}
		}
		if out != want {
			t.Errorf("%s: exit %d\ngot:\n%s%s\nwant:\n%s", line, code, out, errs, want)
		}
	}
}

// TestXfrmPolicyVerbs: what is asked for comes to the module and back.
func TestXfrmPolicyVerbs(t *testing.T) {
	b := newXfrmBench(t)
	policy := func(line string) string {
		t.Helper()
		return b.must(append([]string{"xfrm", "policy"}, strings.Fields(line)...)...)
	}
	policy("add dir out dst fd00:1::/64 dev lo proto tcp dport 80 priority 7 index 41 tmpl src fd00::1 dst fd00::2 proto esp mode tunnel reqid 5")
	policy("a dir in dst fd00:1::/64 mark 5 mask 0xff")
	const shown = "src ::/0 dst fd00:1::/64 proto tcp dport 80 dev lo \n\tdir out priority 7 ptype main \n\ttmpl src fd00::1 dst fd00::2\n\t\tproto esp reqid 5 mode tunnel\n"
	for _, line := range []string{"get dir out index 41", "g dir out dst fd00:1::/64 dev lo proto tcp dport 80", "list dev lo", "l dir out proto 6", "show dst fd00:1::/60 dir out", "lst index 41"} {
		if got := policy(line); got != shown {
			t.Errorf("%s: %s", line, got)
		}
	}
	var list []spd.Listed
	if err := json.Unmarshal([]byte(b.must("-j", "-s", "xfrm", "policy", "get", "dir", "out", "index", "41")), &list); err != nil || len(list) != 1 || list[0].Dev != "lo" || list[0].Current.Added.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if got := b.must("-j", "xfrm", "policy", "list", "dir", "in"); got != `[{"src":"::/0","dst":"fd00:1::/64","dir":"in","ptype":"main","action":"allow","priority":0,"index":8,"flags":[],"mark":{"value":5,"mask":255}}]`+"\n" {
		t.Error(got)
	}
	policy("update dir out dst fd00:1::/64 dev lo proto tcp dport 80 priority 8 action block")
	if got := policy("list dir out"); !strings.Contains(got, "\tdir out action block priority 8 ptype main \n") {
		t.Error(got)
	}
	if got := policy("count"); got != "\t SPD IN  1 OUT 1 FWD 0\n" {
		t.Error(got)
	}
	if code, _, errs := b.policy("delete dir in dst fd00:1::/64"); code != exitRefused || errs != "Error: No such file or directory\n" {
		t.Errorf("its mark is not said: exit %d, %s", code, errs)
	}
	policy("delete dir in dst fd00:1::/64 mark 5 mask 0xff")
	policy("d dir out index 41")
	policy("add dir fwd ptype sub")
	policy("add dir fwd")
	policy("flush")
	if got := policy("list"); got != "src ::/0 dst ::/0 \n\tdir fwd priority 0 ptype sub \n" {
		t.Error(got)
	}
	for _, c := range []struct{ words, want string }{
		{"deleteall dir in", "Delete-all round = 0\nDelete-all completed\n"},
		{"delall dir fwd", "Delete-all round = 0\nDelete-all nlmsg count = 1\nDelete-all round = 1\nDelete-all completed\n"},
		{"flush ptype sub", "Flush policy\n"},
	} {
		if code, out, errs := b.run("", append([]string{"-s", "-s", "xfrm", "policy"}, strings.Fields(c.words)...)...); code != exitOK || out != "" || errs != c.want {
			t.Errorf("%s: exit %d, %s%s", c.words, code, out, errs)
		}
	}
	policy("setdefault in block out accept")
	if got := policy("getd"); got != "Default policies:\n in:  block\n fwd: accept\n out: accept\n" {
		t.Error(got)
	}
	for _, line := range []string{
		"add dir out dst fd00:2::/64 limit byte-soft 5", "add dir out dst fd00:2::/64 limit packet-hard 5",
		"add dir out dst fd00:2::/64 tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel",
	} {
		if code, _, errs := b.policy(line); code != exitRefused || !notBuilt.MatchString(strings.TrimSpace(strings.TrimPrefix(errs, "Error: "))) {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
	}
	if got := policy("list"); got != "" {
		t.Errorf("refused, and there: %s", got)
	}
}
