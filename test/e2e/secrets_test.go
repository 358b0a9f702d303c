package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// secrets are keys, and what was seen of the appliance, in which none of them may be.
type secrets struct {
	t    *testing.T
	keys map[string][]byte
	seen map[string][]byte
}

// key makes one of n octets.
func (s *secrets) key(name string, n int) []byte {
	k := make([]byte, n)
	rand.Read(k) //nolint:errcheck // never fails
	s.keys[name] = k
	return k
}

func (s *secrets) hex(name string, n int) string { return "0x" + hex.EncodeToString(s.key(name, n)) }

func (s *secrets) note(where string, what []byte) { s.seen[where] = append(s.seen[where], what...) }

// run notes what a command prints, whether it succeeds or not.
func (s *secrets) run(a *appliance, in string, args ...string) error {
	cmd := exec.Command(binary, append([]string{"--socket", filepath.Join(a.dir, "api.sock")}, args...)...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	s.note("leveret "+strings.Join(args[:min(3, len(args))], " "), out)
	return err
}

// find looks for every key, and for parts of it, in the forms in which something might print it.
func (s *secrets) find() {
	for name, k := range s.keys {
		for _, part := range [][]byte{k, k[:8], k[len(k)-8:]} {
			var numbers []string
			for _, b := range part {
				numbers = append(numbers, strconv.Itoa(int(b)))
			}
			forms := [][]byte{
				part, []byte(hex.EncodeToString(part)), []byte(strings.ToUpper(hex.EncodeToString(part))), fmt.Appendf(nil, "% x", part),
				[]byte(strings.Join(numbers, " ")), []byte(strings.Join(numbers, ",")),
			}
			for shift := range 3 { // base64 of something that has the part in it at any place
				n := (len(part) - (3-shift)%3) / 3 * 3
				whole := part[(3-shift)%3:][:n]
				forms = append(forms, []byte(base64.StdEncoding.EncodeToString(whole)), []byte(base64.URLEncoding.EncodeToString(whole)))
			}
			for where, text := range s.seen {
				for _, f := range forms {
					if at := bytes.Index(text, f); at >= 0 {
						s.t.Errorf("%s has the key %q: %q", where, name, text[max(0, at-100):min(len(text), at+len(f)+20)])
						break
					}
				}
			}
		}
	}
}

// answers are those of every GET of the API, as the sources have them.
func (s *secrets) answers(a *appliance) {
	s.t.Helper()
	out := sh(s.t, `grep -rhoE '(Handle|Stream)\("GET", "/v1/[^"]*"' --include=*.go --exclude=*_test.go ../../appliance ../../extensions`)
	paths := regexp.MustCompile(`(Handle|Stream)\("GET", "(/v1/[^"]*)`).FindAllStringSubmatch(out, -1)
	if len(paths) < 20 {
		s.t.Fatalf("paths: %q", paths)
	}
	c := http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(a.dir, "api.sock"))
	}}}
	for _, m := range paths {
		p, queries := m[2], []string{"", "?dst=2001:db8:9::2&proto=esp&spi=0x1001", "?x=y"}
		if m[1] == "Stream" {
			queries = queries[:1]
		}
		for _, query := range queries {
			r, err := c.Get("http://appliance" + p + query)
			if err != nil {
				s.t.Fatalf("%s: %v", p, err)
			}
			body, _ := io.ReadAll(r.Body) // a stream ends with the time
			r.Body.Close()
			s.note("GET "+p, body)
			s.note("GET "+p, fmt.Append(nil, r.Header))
		}
	}
	if !bytes.Contains(s.seen["GET /v1/xfrm/state"], []byte(`"spi":4097`)) || len(s.seen["GET /v1/capture"]) == 0 {
		s.t.Errorf("states: %s", s.seen["GET /v1/xfrm/state"])
	}
}

// TestKeysStayInside: keys of the configuration, of files and of commands, and those in what is refused, are in no log,
// error, answer, event, capture or goroutine dump, nor in what the system says of the process or what it keeps.
func TestKeysStayInside(t *testing.T) {
	need(t)
	s := &secrets{t, map[string][]byte{}, map[string][]byte{}}
	host := ns(t)
	yaml, dev := attach(t, host, "lan", "2001:db8:9::1", side{kind: "tap", extra: ", dad: {transmits: 0}"})
	a := &appliance{t: t, dir: tempDir(t)}
	keys := tempDir(t)
	file := func(name string, content []byte) string {
		name = filepath.Join(keys, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const ends = `src: "2001:db8:9::1", dst: "2001:db8:9::2", proto: esp, reqid: 1`
	configured := "    - {" + ends + `, spi: 0x1001, aead: {name: "rfc4106(gcm(aes))", key: "` + s.hex("inline", 20) + `", icv_bits: 128}}` + "\n" +
		"    - {" + ends + `, spi: 0x1002, aead: {name: "rfc4106(gcm(aes))", key_file: "` + file("hex", []byte(s.hex("file, digits", 20)+"\n")) + `", icv_bits: 128}}` + "\n" +
		"    - {" + ends + `, spi: 0x1003, enc: {name: "cbc(aes)", key_file: "` + file("raw", s.key("file, octets", 32)) + `"}, auth: {name: "hmac(sha256)", key: "` + s.hex("mac", 32) + `"}}` + "\n" +
		"    - {" + strings.Replace(ends, "esp", "ah", 1) + `, spi: 0x1004, auth: {name: "hmac(sha512)", key: "` + s.hex("ah", 64) + `"}}` + "\n"
	conf := func(states string) string {
		return "version: 1\nsystem: {run_dir: " + a.dir + ", state_dir: " + a.dir + ", log: {format: json, level: debug}}\nlinks:\n" + yaml + "ipsec:\n  states:\n" + states +
			`  policies: [{name: p, dir: out, priority: 5, action: protect, selector: {dst: "2001:db8:9::2/128", proto: ipv6-icmp}, templates: [{proto: esp, reqid: 1}]}]` + "\n" +
			"capture: [{name: all, link: lan, filter: all, file: " + filepath.Join(a.dir, "all.pcapng") + "}]\n"
	}
	if err := os.WriteFile(a.file(), []byte(conf(configured)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "-c", a.file())
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	a.run(cmd)
	t.Cleanup(func() {
		if a.alive() {
			a.kill()
		}
	})
	sh(t, fmt.Sprintf("ip -n %s -6 addr add 2001:db8:9::2/64 dev %s nodad", host, dev))
	var monitors []func() // each ends one and notes what it has printed
	for _, format := range []string{"-j", "-s"} {
		var out bytes.Buffer
		w := exec.Command(binary, "--socket", filepath.Join(a.dir, "api.sock"), format, "monitor")
		w.Stdout, w.Stderr = &out, &out
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		end := sync.OnceFunc(func() { _ = w.Process.Kill(); _ = w.Wait() })
		t.Cleanup(end)
		monitors = append(monitors, func() { end(); s.note("monitor "+format, out.Bytes()) })
	}
	time.Sleep(200 * time.Millisecond)

	// By commands: good ones, one more of each, and what is wrong in every way.
	id := []string{"xfrm", "state", "add", "src", "2001:db8:9::1", "dst", "2001:db8:9::2", "proto", "esp", "spi"}
	add := func(spi string, in string, words ...string) error {
		return s.run(a, in, append(append(append([]string{}, id...), spi), words...)...)
	}
	gcm := "rfc4106(gcm(aes))"
	byFile := file("command", []byte(s.hex("command, file", 20)))
	for range 2 { // the second exists
		_ = add("0x2001", "", "aead", gcm, s.hex(fmt.Sprint("command, words", len(s.keys)), 20), "128")
		_ = add("0x2002", "", "aead", gcm, "key-file", byFile, "128")
		_ = add("0x2003", string(s.key(fmt.Sprint("command, input", len(s.keys)), 20)), "aead", gcm, "-", "128")
	}
	_ = add("0x2004", "", "aead", gcm, s.hex("too short", 12), "128")
	_ = add("0x2005", "", "aead", gcm, s.hex("no digits", 20)+"zz", "128")
	_ = add("0x2006", "", "aead", s.hex("in place of the name", 20), gcm, "128")
	_ = add("0x2007", "", "aead", gcm, "128", s.hex("in place of the bits", 20))
	_ = add("0x2008", "", "enc", "cbc(aes)", s.hex("without a mac", 16))
	_ = add("0x2009", "", "auth", "hmac(sha256)", s.hex("a mac alone", 32))
	_ = add("10", "", "aead", gcm, s.hex("a reserved spi", 20), "128")
	_ = s.run(a, "", "xfrm", "state", "update", "dst", "2001:db8:9::2", "proto", "esp", "spi", "0x1001", "aead", gcm, s.hex("another key", 20), "128")
	if n := len(a.states(t)); n != 7 {
		t.Fatalf("%d states, want 4 and 3", n)
	}

	// By configurations that are refused, and one that is not.
	refuse := func(name, states string) {
		text := conf(configured + states)
		f := file("faulty.yaml", []byte(text))
		for _, verb := range []string{"check", "diff", "apply"} {
			if err := s.run(a, "", "config", verb, "-c", f); err == nil && verb != "diff" { // which only compares
				t.Errorf("config %s takes a configuration with %s", verb, name)
			}
		}
	}
	for _, x := range []struct{ name, item string }{
		{"a key too short", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key: "KEY12", icv_bits: 128}`},
		{"a key too long", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key: "KEY77", icv_bits: 128}`},
		{"no digits", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key: "KEY20zz", icv_bits: 128}`},
		{"a key without quotes", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key: KEY12, icv_bits: 128}`},
		{"a key for a name", `spi: 0x3001, aead: {name: "KEY20", key: "rfc4106(gcm(aes))", icv_bits: 128}`},
		{"a key for a file", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key_file: "KEY20", icv_bits: 128}`},
		{"a list for a key", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key: ["KEY20"], icv_bits: 128}`},
		{"a key for an aead", `spi: 0x3001, aead: "KEY20"`},
		{"an unknown word", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", keyy: "KEY20", icv_bits: 128}`},
		{"a quote too few", `spi: 0x3001, aead: {name: "rfc4106(gcm(aes))", key: "KEY20, icv_bits: 128}`},
		{"a state twice", `spi: 0x1001, aead: {name: "rfc4106(gcm(aes))", key: "KEY20", icv_bits: 128}`},
	} {
		item := regexp.MustCompile(`KEY\d+`).ReplaceAllStringFunc(x.item, func(w string) string {
			var n int
			_, _ = fmt.Sscanf(w, "KEY%d", &n)
			return s.hex(x.name, n)
		})
		refuse(x.name, "    - {"+ends+", "+item+"}\n")
	}
	changed := strings.Replace(configured, hex.EncodeToString(s.keys["inline"]), strings.TrimPrefix(s.hex("after a reload", 20), "0x"), 1)
	good := file("good.yaml", []byte(conf(changed)))
	for _, args := range [][]string{{"config", "show", "-c", good}, {"config", "diff", "-c", good}, {"config", "apply", "-c", good}} {
		if err := s.run(a, "", args...); err != nil && args[1] != "diff" { // which says by its code that there are differences
			t.Errorf("%q: %v\n%s", args, err, s.seen["leveret "+strings.Join(args, " ")])
		}
	}

	// Traffic: what is protected, what is refused.
	_ = s.run(a, "", "ping", "-c", "3", "-i", "0.05", "-W", "0.2", "2001:db8:9::2")
	sh(t, fmt.Sprintf(`ip netns exec %s python3 -c '
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 50)
for spi in (0x1001, 0x9999): s.sendto(spi.to_bytes(4, "big") + bytes(60), ("2001:db8:9::1", 0))'`, host))
	for _, args := range [][]string{
		{"xfrm", "state"}, {"-s", "xfrm", "state"}, {"-j", "xfrm", "state"}, {"-s", "-d", "-j", "xfrm", "state"}, {"xfrm", "stat"}, {"stats"}, {"stats", "drops"}, {"-j", "stats"},
		{"status"}, {"-j", "status"}, {"health"}, {"config", "show"}, {"-j", "config", "show"}, {"link"}, {"xfrm", "state", "deleteall", "spi", "0x2001"},
	} {
		_ = s.run(a, "", args...)
	}
	s.answers(a)
	for _, f := range []string{"cmdline", "environ", "status", "maps"} {
		s.note("/proc/PID/"+f, []byte(sh(t, fmt.Sprintf("cat /proc/%d/%s | tr '\\000' ' '", a.cmd.Process.Pid, f))))
	}
	if err := s.run(a, "", "xfrm", "state", "flush"); err != nil {
		t.Error(err)
	}
	time.Sleep(300 * time.Millisecond)
	_ = a.cmd.Process.Signal(syscall.SIGABRT)
	<-a.done
	s.note("log and goroutines", a.log.Bytes())
	if !strings.Contains(a.log.String(), "goroutine ") || !strings.Contains(a.log.String(), `"level":"debug"`) && !strings.Contains(a.log.String(), `"level":"info"`) {
		t.Errorf("no dump of goroutines in the log:\n%s", a.log)
	}
	time.Sleep(100 * time.Millisecond)
	for _, end := range monitors {
		end()
	}
	if journal := s.seen["monitor -j"]; !bytes.Contains(journal, []byte("newsa")) {
		t.Errorf("no events of states:\n%s", journal)
	}
	files, _ := filepath.Glob(filepath.Join(a.dir, "*"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && f != a.file() {
			s.note(filepath.Base(f), b)
		}
	}
	if len(s.seen["all.pcapng"]) == 0 {
		t.Errorf("no capture among %q", files)
	}
	s.find()
}

// states are the SPIs of an appliance's states.
func (a *appliance) states(t *testing.T) (spis []uint32) {
	t.Helper()
	var list []struct{ SPI uint32 }
	a.get(&list, "xfrm", "state")
	for _, s := range list {
		spis = append(spis, s.SPI)
	}
	return spis
}
