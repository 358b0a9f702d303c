package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/control"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/extensions/xfrm"
)

// xfrmBench is the module behind a control socket, and commands that ask it.
type xfrmBench struct {
	t    *testing.T
	host *moduletest.Host
	sock string
}

func newXfrmBench(t *testing.T) *xfrmBench {
	t.Helper()
	b := &xfrmBench{t: t, host: moduletest.NewHost(), sock: filepath.Join(t.TempDir(), "api.sock")}
	b.host.LinkList = []*module.Link{{Index: 3, Name: "lo", MTU: 1500}}
	if err := xfrm.New().Init(b.host); err != nil {
		t.Fatal(err)
	}
	s := control.NewServer(zap.NewNop())
	var loop sync.Mutex
	for where, h := range b.host.Handlers {
		method, path, _ := strings.Cut(where, " ")
		s.Handle(method, path, func(_ context.Context, req module.Request) (any, error) {
			loop.Lock()
			defer loop.Unlock()
			return h(b.host.Manual.Now(), req)
		})
	}
	if err := s.Listen(control.SocketOptions{Path: b.sock}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return b
}

// run gives a command its words and what is on its standard input.
func (b *xfrmBench) run(in string, words ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	c := newCLI(strings.NewReader(in), &stdout, &stderr)
	code = c.main(b.t.Context(), append([]string{"--socket", b.sock}, words...))
	return code, stdout.String(), stderr.String()
}

// must is run for what has to go well.
func (b *xfrmBench) must(words ...string) string {
	b.t.Helper()
	code, out, errs := b.run("", words...)
	if code != exitOK || errs != "" {
		b.t.Errorf("leveret %q: exit %d, %s", words, code, errs)
	}
	return out
}

// shellWords makes words of a line, with its quotes.
func shellWords(line string) (words []string) {
	for _, m := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(line, -1) {
		words = append(words, m[1]+m[2])
	}
	return words
}

const sadTestdata = "../../extensions/xfrm/sad/testdata/"

// TestXfrmStateSaysWhatIPSays: the commands of words.txt, one after the other, with what ip or Linux said to each: what ip
// itself refuses ends with 1, what the kernel refuses with 2.
func TestXfrmStateSaysWhatIPSays(t *testing.T) {
	golden, err := os.ReadFile(sadTestdata + "words.txt")
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
		code, _, errs := b.run("", append([]string{"xfrm", "state"}, shellWords(lines[0])...)...)
		errs = strings.TrimPrefix(strings.TrimSuffix(errs, "\n"), "Error: ")
		switch {
		case notBuilt.MatchString(errs):
			code = -1
		case errs == "" && want == "ok":
		case errs != want && !strings.HasPrefix(errs, want+": "):
			t.Errorf("%s\n got  %s\n want %s", lines[0], errs, want)
		}
		codes[code]++
	}
	if codes[exitOK] < 15 || codes[exitUsage] < 60 || codes[exitRefused] < 15 || codes[-1] > 15 || len(codes) != 4 {
		t.Errorf("exit codes: %v", codes)
	}
}

// notBuilt is what the module refuses that package sad knows.
var notBuilt = regexp.MustCompile(`^Protocol not supported: |^Address family not supported by protocol: IPv4$|^Unsupported encapsulation type for ESP\.: espinudp-nonike$`)

// TestXfrmStateListsWhatIPLists: testdata/listing.txt is what ip printed of each state, with keys, without, with -s, and
// with -o.
func TestXfrmStateListsWhatIPLists(t *testing.T) {
	golden, err := os.ReadFile(sadTestdata + "listing.txt")
	if err != nil {
		t.Fatal(err)
	}
	b := newXfrmBench(t)
	date := regexp.MustCompile(`add \d{4}-\d\d-\d\d \d\d:\d\d:\d\d use`)
	built := 0
	for _, c := range strings.Split(strings.ReplaceAll(string(golden), "<<Keys hidden>>", "<hidden>"), "== ")[1:] {
		line, want, _ := strings.Cut(c, "\n")
		if code, _, errs := b.run("", append([]string{"xfrm", "state", "add"}, shellWords(line)...)...); code != exitOK {
			if !notBuilt.MatchString(strings.TrimSpace(strings.TrimPrefix(errs, "Error: "))) {
				t.Errorf("%s: exit %d, %s", line, code, errs)
			}
			continue
		}
		built++
		got := b.must("x", "s", "l", "--show-keys") + "-- nokeys\n" + b.must("xfrm", "state") + "-- stats\n" +
			date.ReplaceAllString(b.must("-s", "xfrm", "state", "--show-keys"), "add DATE use") + "-- oneline\n" + b.must("-o", "xfrm", "state", "list", "nokeys")
		if strings.Contains(line, "replay-seq ") { // what is up to there is taken as received, see newWork
			got = strings.NewReplacer("ffffffff ", "00000000 ", "00000fff ", "00000000 ", "bitmap 0x0000001f", "bitmap 0x00000000").Replace(got)
		}
		if got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", line, got, want)
		}
		b.must("xfrm", "state", "flush")
	}
	if built < 15 {
		t.Errorf("only %d states", built)
	}
}

// TestXfrmKeysStayHidden: a key leaves the appliance when --show-keys asks for it, in that answer alone.
func TestXfrmKeysStayHidden(t *testing.T) {
	b := newXfrmBench(t)
	const key = "0102030405060708090a0b0c0d0e0f1011121314"
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("0x"+key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := shellWords("src fd00::1 dst fd00::2 proto esp spi 0x1000")
	add := func(in string, words ...string) (int, string, string) {
		return b.run(in, append(append([]string{"xfrm", "state", "add"}, id...), words...)...)
	}
	for _, c := range []struct {
		in    string
		words []string
	}{
		{"", []string{"aead", "rfc4106(gcm(aes))", "0x" + key, "128"}},
		{"", []string{"aead", "rfc4106(gcm(aes))", "key-file", file, "128"}},
		{"0x" + key + "\n", []string{"aead", "rfc4106(gcm(aes))", "-", "128"}},
		{"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14", []string{"aead", "rfc4106(gcm(aes))", "key-file", "-", "128"}},
	} {
		if code, out, errs := add(c.in, c.words...); code != exitOK || out+errs != "" {
			t.Fatalf("%q: exit %d, %s%s", c.words, code, out, errs)
		}
		get := append([]string{"xfrm", "state", "get"}, id...)
		shown := b.must(append([]string{"-j"}, append(get, "--show-keys")...)...) + b.must("-s", "xfrm", "state", "--show-keys")
		if strings.Count(shown, key) != 2 {
			t.Errorf("with --show-keys:\n%s", shown)
		}
		hidden := b.must(get...) + b.must("-s", "-j", "xfrm", "state") + b.must("xfrm", "state", "list", "nokeys", "--show-keys") + b.must("xfrm", "state")
		if strings.Contains(hidden, key) || strings.Count(hidden, "<hidden>") != 3 {
			t.Errorf("hidden:\n%s", hidden)
		}
		b.must("xfrm", "state", "deleteall")
	}
	for _, e := range b.host.Published {
		if text := jsonText(t, e.Value); strings.Contains(text, key) {
			t.Errorf("an event has a key: %s", text)
		}
	}
	// Words that are wrong are not repeated where they may be a key, nor are the names of files.
	for _, words := range [][]string{
		{"aead", "rfc4106(gcm(aes))", "0xzz" + key, "128"}, {"aead", "rfc4106(gcm(aes))", key}, {"aead", "rfc4106(gcm(aes))", "128", key}, {"aead", "0x" + key, "128"},
		{"aead", "rfc4106(gcm(aes))", "key-file", key, "128"}, {"aead", "rfc4106(gcm(aes))", "-" + key, "128"}, {"-" + key}, {key}, {"--" + key + "=1"},
		{"enc", "cbc(aes)", "-", "auth", "hmac(sha256)", "-"}, {"aead", "rfc4106(gcm(aes))", "key-file", t.TempDir(), "128"}, {"mode", "0x" + key},
	} {
		for _, opts := range [][]string{nil, {"-j"}} {
			code, out, errs := b.run(key, append(append(opts, "xfrm", "state", "add"), append(id, words...)...)...)
			if code == exitOK || errs == "" || strings.Contains(out+errs, key[:12]) {
				t.Errorf("%q: exit %d, %s%s", words, code, out, errs)
			}
		}
	}
	for in, want := range map[string]string{"0x": "Error: Invalid argument: aead rfc4106(gcm(aes)): the key has 0 octets", strings.Repeat("k", maxKey+1): "Error: key-file: it is longer than 4096 octets"} {
		if code, _, errs := add(in, "aead", "rfc4106(gcm(aes))", "-", "128"); code == exitOK || !strings.HasPrefix(errs, want) {
			t.Errorf("exit %d, %s", code, errs)
		}
	}
}

func jsonText(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	if err := newCLI(nil, &b, nil).printJSON(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestXfrmStateVerbs: what is asked for comes to the module and back, in the order that ip has.
func TestXfrmStateVerbs(t *testing.T) {
	b := newXfrmBench(t)
	b.host.Manual.AdvanceTo(clock.Instant(time.Second))
	const aead = ` aead "rfc4106(gcm(aes))" 0x0102030405060708090a0b0c0d0e0f1011121314 128`
	state := func(line string) string { return b.must(append([]string{"xfrm", "state"}, shellWords(line)...)...) }
	state("add src fd00::1 dst fd00::2 proto esp spi 0x1000 mode tunnel reqid 7 mark 5 mask 0xff sel dev lo proto tcp dport 80" + aead)
	state("a dst fd00::2 proto esp spi 0x1001 flag esn replay-window 64" + aead)
	state(`ad src fd01::1 dst fd00::2 proto ah spi 0x1002 auth-trunc "hmac(sha256)" "` + strings.Repeat("k", 32) + `" 128`)
	spis := func(line string) string {
		return strings.Join(regexp.MustCompile(`spi 0x\d{8}`).FindAllString(state(line), -1), " ")
	}
	for line, want := range map[string]string{
		"list": "1002 1001 1000", "show proto esp": "1001 1000", "src fd00::/16": "1000", "lst reqid 7": "1000", "l flag esn": "1001", "list mode tunnel": "1000",
		"list spi 0x1002": "1002", "list src fd01::/32 dst ::/0": "1002", "list proto ah spi 0x1000": "", "get dst fd00::2 proto esp spi 0x1001": "1001",
		"ge dst fd00::2 proto esp spi 0x1000 mark 0x105 mask 0xff": "1000",
	} {
		want = regexp.MustCompile(`\d+`).ReplaceAllString(want, "spi 0x0000$0")
		if got := spis(line); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	if got := state("get dst fd00::2 proto esp spi 0x1000 mark 5"); !strings.Contains(got, "\tmark 0x5/0xff \n") || !strings.Contains(got, "\tsel src ::/0 dst ::/0 proto tcp dport 80 dev lo \n") {
		t.Error(got)
	}
	state("update dst fd00::2 proto esp spi 0x1001 flag esn replay-window 64 limit time-hard 60" + aead)
	if got := b.must("-s", "xfrm", "state", "list", "spi", "0x1001"); !strings.Contains(got, "expire add: soft 0(sec), hard 60(sec)") {
		t.Error(got)
	}
	if got := state("allocspi src fd00::1 dst fd00::3 proto esp reqid 9 mode tunnel min 0x2000 max 0x2000"); !strings.HasPrefix(got, "src fd00::1 dst fd00::3\n\tproto esp spi 0x00002000 reqid 9 mode tunnel\n") {
		t.Error(got)
	}
	if code, _, errs := b.run("", shellWords("xfrm state allocspi src fd00::1 dst fd00::3 proto esp min 0x2000 max 0x2000")...); code != exitRefused || errs != "Error: No such file or directory\n" {
		t.Errorf("exit %d, %s", code, errs)
	}
	state("update src fd00::1 dst fd00::3 proto esp spi 0x2000 reqid 9 mode tunnel" + aead)
	if got := b.must("xfrm", "state", "count") + b.must("-s", "x", "s", "c") + b.must("-j", "xfrm", "state", "count"); got !=
		"\t SAD count 4\n\t SAD count 4 (buckets count 65536 Max 65536)\n"+`{"count":4,"buckets":65536,"max_buckets":65536}`+"\n" {
		t.Error(got)
	}
	state("de dst fd00::2 proto esp spi 0x1001")
	if code, _, errs := b.run("", shellWords("-s -s xfrm state deletea proto esp src fd00::1")...); code != exitOK || errs != "Delete-all round = 0\nDelete-all nlmsg count = 2\nDelete-all round = 1\nDelete-all completed\n" {
		t.Errorf("exit %d, %s", code, errs)
	}
	if code, _, errs := b.run("", shellWords("-s -s xfrm state delall proto esp")...); code != exitOK || errs != "Delete-all round = 0\nDelete-all completed\n" {
		t.Errorf("exit %d, %s", code, errs)
	}
	if got := b.must("-j", "xfrm", "state", "flush", "proto", "esp"); got != `{"flushed":0}`+"\n" || spis("list") != "spi 0x00001002" {
		t.Error(got)
	}
	if code, _, errs := b.run("", shellWords("-s -s xfrm state f proto ah")...); code != exitOK || errs != "Flush state with XFRM-PROTO value \"ah\"\n" || state("list") != "" {
		t.Errorf("exit %d, %s", code, errs)
	}
	if got := b.must("-j", "xfrm", "state"); got != "[]\n" {
		t.Error(got)
	}
}
