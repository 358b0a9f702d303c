// Package docs runs what the documents tell people to run: every configuration is checked, every
// command of a shell block is run against a router in a network namespace, in the order of the text.
package docs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// block is one fenced block of a document.
type block struct {
	file string
	line int
	lang string
	text string
}

func (b block) String() string {
	return fmt.Sprintf("%s:%d", strings.TrimPrefix(b.file, root+"/"), b.line)
}

// documents lists every Markdown file of the project.
func documents(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "ls-files", "-co", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range strings.Fields(string(out)) {
		files = append(files, filepath.Join(root, f))
	}
	if len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	return files
}

// blocks returns the fenced blocks of a document, and a fault for each block that is only indented:
// those nobody could tell apart.
func blocks(t *testing.T, file string) (out []block) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	empty := true
	for i, l := range strings.Split(string(b), "\n") {
		switch fence := strings.HasPrefix(l, "```"); {
		case fence && open == nil:
			open = &block{file: file, line: i + 2, lang: strings.TrimPrefix(l, "```")}
		case fence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += l + "\n"
		case strings.HasPrefix(l, "    ") && empty:
			t.Errorf("%s:%d: an indented block: fence it and name its language", file, i+1)
		}
		empty = l == ""
	}
	return out
}

// program builds the binary once.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "leveret")
	build := exec.Command("go", "build", "-o", bin, "leveret/cmd/leveret")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// TestBlocks: configurations stand as they are, and there is no block that no test looks at.
func TestBlocks(t *testing.T) {
	bin := program(t)
	seen := map[string]int{}
	for _, file := range documents(t) {
		for _, b := range blocks(t, file) {
			seen[b.lang]++
			switch b.lang {
			case "yaml":
				f := filepath.Join(t.TempDir(), "leveret.yaml")
				if err := os.WriteFile(f, []byte(b.text), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(bin, "config", "check", "-c", f).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", b, err, out)
				}
			case "sh": // TestCommands
			case "text": // a drawing
			default:
				t.Errorf("%s: no test knows blocks in %q", b, b.lang)
			}
		}
	}
	if seen["yaml"] == 0 || seen["sh"] == 0 {
		t.Errorf("found %v", seen)
	}
}

// TestConfigurations: every example is one that the program takes.
func TestConfigurations(t *testing.T) {
	bin := program(t)
	out, err := exec.Command("git", "-C", root, "ls-files", "-co", "--exclude-standard", "configs/*.yaml").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := strings.Fields(string(out))
	if len(files) < 3 {
		t.Fatalf("only %v", files)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), filepath.Base(f))
		if err := os.WriteFile(name, withKeys(t, text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(bin, "config", "check", "-c", name).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}

var keyFile = regexp.MustCompile(`key_file: ([^,}\s]+)`)

// keyLengths are the octets of the keys that examples speak of, salt included.
var keyLengths = map[string]int{"b7.out": 20, "b7.in": 20, "b8.enc": 32, "b8.auth": 48, "b9.out": 20, "b9.in": 20}

// withKeys makes the files of keys that a configuration names, and names them.
func withKeys(t *testing.T, text []byte) []byte {
	dir := t.TempDir()
	return keyFile.ReplaceAllFunc(text, func(m []byte) []byte {
		base := filepath.Base(string(keyFile.FindSubmatch(m)[1]))
		n := keyLengths[base]
		if n == 0 {
			t.Errorf("%s: no length is known of this key", base)
		}
		name := filepath.Join(dir, base)
		if err := os.WriteFile(name, []byte("0x"+strings.Repeat("5a", n)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return []byte("key_file: " + name)
	})
}

// setting is where the commands run: a namespace with a router on the device wan0 and behind it a
// neighbor, fe80::2, that has the address the documents speak of. Everything the router writes goes
// into a file system of its own.
const setting = `
set -e
mount -t tmpfs none /run
mkdir -p /run/leveret /run/state /run/etc
mount --bind /run/state /var/lib/leveret 2>/dev/null || { mkdir -p /var/lib/leveret; mount --bind /run/state /var/lib/leveret; }
mkdir -p /etc/leveret
mount --bind /run/etc /etc/leveret
cat >/etc/leveret/leveret.yaml <<'YAML'
version: 1
links:
  - {name: wan0, kind: tap, host_device: d0, link_local: "fe80::1", addresses: ["2001:db8:1::1/64"], dad: {transmits: 0}}
YAML
ip link set lo up
PATH=BIN:$PATH
ready() { for i in $(seq 200); do leveret health >/dev/null 2>&1 && return 0; sleep 0.05; done; cat /run/log; return 1; }
host() { ip -6 addr add fe80::2/64 dev d0 nodad; ip -6 addr add 2001:db8:7::1/128 dev d0 nodad; ip -6 route add 2001:db8:1::/64 dev d0; }
`

// streaming commands run until they are stopped; what they do in two seconds has to do.
var streaming = regexp.MustCompile(`^leveret (monitor|capture|ping)`)

// script turns a shell block into one that stops at the first command that fails and says which.
func script(t *testing.T, b block) string {
	t.Helper()
	var s strings.Builder
	before := "" // of a command that goes on in the next line
	for i, l := range strings.Split(strings.TrimSpace(b.text), "\n") {
		cmd, _, _ := strings.Cut(l, " #")
		cmd = before + strings.TrimSpace(cmd)
		if open, more := strings.CutSuffix(cmd, "\\"); more {
			before = open
			continue
		}
		before = ""
		where := fmt.Sprintf("%s:%d", strings.TrimPrefix(b.file, root+"/"), b.line+i)
		switch {
		case cmd == "":
		case strings.HasPrefix(cmd, "make "):
			if out, err := exec.Command("make", "-C", root, "-n", strings.TrimPrefix(cmd, "make ")).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", where, cmd, err, out)
			}
		case strings.HasPrefix(cmd, "leveret run"):
			s.WriteString(router(cmd))
		case streaming.MatchString(cmd):
			fmt.Fprintf(&s, "echo %s\ntimeout -s INT 2 bash -o pipefail -c %s || [ $? -eq 124 ] || exit 1\n", quoted(where+": "+cmd), quoted(cmd))
		default:
			fmt.Fprintf(&s, "echo %s\n%s\n", quoted(where+": "+cmd), cmd)
		}
	}
	return s.String()
}

// router starts the router.
func router(cmd string) string {
	return cmd + " >/run/log 2>&1 &\nrouter=$!\nready || { echo not ready; exit 1; }\nhost\n"
}

// quoted makes text one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// TestCommands runs the shell blocks of each document, one after the other.
func TestCommands(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes a network namespace")
	}
	bin := program(t)
	for i, file := range documents(t) {
		var body string
		for _, b := range blocks(t, file) {
			if b.lang == "sh" {
				body += script(t, b)
			}
		}
		if body == "" {
			continue
		}
		if !strings.Contains(body, "router=$!") { // a document that is about something else
			body = router("leveret run") + body
		}
		ns := fmt.Sprintf("lvt%d-doc%d", os.Getpid(), i)
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		whole := strings.ReplaceAll(setting, "BIN", filepath.Dir(bin)) + body + "kill $router && wait $router\n"
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, "ip", "netns", "exec", ns, "unshare", "--mount", "--fork", "--pid", "--mount-proc", "--kill-child", "bash", "-c", whole)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.WaitDelay = 10 * time.Second
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out.String())
		}
		cancel()
		t.Logf("%s\n%s", file, out.String())
		_ = exec.Command("ip", "netns", "del", ns).Run()
	}
}

// TestInlineCommands: a command that a document names is one of ours.
func TestInlineCommands(t *testing.T) {
	bin := program(t)
	inline := regexp.MustCompile("`leveret ([a-z][^`]*)`")
	n := 0
	for _, file := range documents(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inline.FindAllStringSubmatch(string(b), -1) {
			words := strings.FieldsFunc(m[1], func(r rune) bool { return r == ' ' || r == '|' })
			if out, err := exec.Command(bin, words[0], "--help").CombinedOutput(); err != nil || strings.Contains(string(out), "unknown command") {
				t.Errorf("%s: `leveret %s`: %v\n%s", file, m[1], err, out)
			}
			n++
		}
	}
	if n == 0 {
		t.Error("found none")
	}
}
