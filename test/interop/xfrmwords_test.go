package interop

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"leveret/test/interop/vm"
)

// xfrmStates and xfrmPolicies are given to ip in the VM and to leveret in the same words: every mode, kind of algorithm,
// form of a selector, flag, mark, limit, template, home address and if_id.
var (
	xfrmStates = strings.Split(strings.TrimSpace(`
src fd00::1 dst fd00::2 proto esp spi 0x1000 mode transport aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x1001 mode tunnel reqid 1 aead 'rfc7539esp(chacha20,poly1305)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x1002 mode tunnel reqid 4294967295 flag esn replay-window 128 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 64
src fd00::1 dst fd00::2 proto esp spi 0x1003 mode beet sel src fd00:1::1 dst fd00:1::2 enc 'cbc(aes)' 0x000102030405060708090a0b0c0d0e0f auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128
src fd00::1 dst fd00::2 proto esp spi 0x1004 mode tunnel enc 'cbc(aes)' 0x000102030405060708090a0b0c0d0e0f auth 'hmac(sha1)' 0x000102030405060708090a0b0c0d0e0f10111213
src fd00::1 dst fd00::2 proto esp spi 0x1005 enc 'ecb(cipher_null)' '' auth-trunc 'hmac(sha384)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f 192
src fd00::1 dst fd00::2 proto ah spi 0x1006 auth-trunc 'hmac(sha512)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 256
src fd00::1 dst fd00::2 proto ah spi 0x1007 mode tunnel flag esn replay-window 64 auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128
dst fd00::2 proto esp spi 0x1008 mark 5 mask 0xff output-mark 0x10 mask 0xf0 replay-window 32 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 96
src fd00::1 dst fd00::2 proto esp spi 0x1009 mode tunnel flag noecn decap-dscp nopmtudisc icmp af-unspec align4 extra-flag dont-encap-dscp oseq-may-wrap aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x100a mode tunnel tfcpad 500 limit time-soft 1000 limit time-hard 2000 limit time-use-soft 3000 limit time-use-hard 4000 limit byte-soft 5000 limit byte-hard 6000 limit packet-soft 7000 limit packet-hard 8000 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x100b encap espinudp 4500 4501 :: aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x100c sel src fd00::/16 dst fd01::/16 proto tcp sport 5 dport 80 dev eth0 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x100d sel proto ipv6-icmp type 128 code 0 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x100e sel proto mobility-header type 5 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto esp spi 0x100f sel proto gre key 1.2.3.4 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::3 dst fd00::4 proto esp spi 0xfffffffe mode tunnel aead 'rfc4309(ccm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbe 128
src fd00::3 dst fd00::4 proto esp spi 0x1011 enc 'rfc3686(ctr(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128
src fd00::3 dst fd00::4 proto esp spi 0x1012 mode tunnel aead 'rfc4543(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::5 dst fd00::6 proto hao mode ro coa fd00:c::5
src fd00::5 dst fd00::7 proto hao mode ro reqid 7 coa fd00:c::5 sel src fd00::5 dst fd00::7 proto udp dport 53 limit packet-hard 1000
src :: dst fd00::6 proto hao mode ro flag wildrecv coa ::
src fd00::6 dst fd00::5 proto route2 mode ro coa fd00:c::5
src fd00::7 dst fd00::5 proto route2 mode ro mark 3 mask 0xff output-mark 4 mask 0xf if_id 9 coa fd00:c::5 limit time-hard 9000
src :: dst fd00::5 proto route2 mode ro flag wildrecv coa fd00:c::5
src fd00::1 dst fd00::2 proto esp spi 0x1013 mode tunnel if_id 5 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
src fd00::1 dst fd00::2 proto ah spi 0x1014 if_id 0xffffffff auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128`), "\n")

	xfrmPolicies = strings.Split(strings.TrimSpace(`
dir out
dir in priority 5
dir fwd ptype sub priority 4294967295
dir out src fd00::1 dst fd00::2
dir out src fd00:1::/48 dst fd00:2::7/48
dir out dst fd00:3::/64 proto tcp
dir out dst fd00:3::/64 proto tcp sport 5
dir out dst fd00:3::/64 proto udp dport 443
dir out dst fd00:3::/64 proto sctp sport 5 dport 7
dir out dst fd00:3::/64 proto ipv6-icmp
dir out dst fd00:3::/64 proto ipv6-icmp type 0
dir out dst fd00:3::/64 proto ipv6-icmp type 128 code 0
dir out dst fd00:3::/64 proto ipv6-icmp code 3
dir out dst fd00:3::/64 proto mobility-header type 5
dir out dst fd00:3::/64 proto gre key 5
dir out dst fd00:3::/64 proto 253
dir out dst fd00:3::/64 proto esp
dir out dst fd00:4::/64 proto udp dport 5 dev eth0
dir out dst fd00:5::/64 action block
dir out dst fd00:6::/64 index 801 priority 16
dir out dst fd00:7::/64 flag localok
dir out dst fd00:7:2::/64 flag icmp localok priority 9
dir out dst fd00:8::/64 mark 5
dir out dst fd00:8::/64 mark 0x10 mask 0xf0
dir out dst fd00:9::/64 limit time-soft 1000 limit time-hard 2000 limit time-use-soft 3000 limit time-use-hard 4000
dir out dst fd00:a::/64 tmpl proto esp
dir out dst fd00:a:1::/64 tmpl proto ah mode transport reqid 9 level use
dir out dst fd00:a:2::/64 tmpl src fd00::1 dst fd00::2 proto esp spi 0x1234 mode tunnel reqid 5 level required
dir in dst fd00:a:3::/64 tmpl src fd00::1 dst fd00::2 proto esp mode tunnel level use
dir out dst fd00:a:4::/64 tmpl src fd00::1 dst fd00::2 proto esp mode beet
dir in dst fd00:a:5::/64 priority 3 flag icmp mark 7 mask 0xf tmpl src fd00::1 dst fd00::2 proto esp mode tunnel reqid 16385 tmpl proto ah spi 0x100
dir in dst fd00:a:6::/64 tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp
dir out src fd00::5 dst fd00::6 ptype sub tmpl proto hao mode ro level use
dir in src fd00::6 dst fd00::5 ptype sub priority 4 tmpl src fd00::6 dst fd00::5 proto route2 mode ro level use
dir out dst fd00:d::/64 proto mobility-header type 5 ptype sub priority 7 tmpl proto hao mode ro reqid 3 level use
dir out dst fd00:d:1::/64 ptype sub tmpl proto route2 mode ro level use tmpl proto hao mode ro level use
dir out dst fd00:d:2::/64 ptype sub flag icmp tmpl proto hao mode ro tmpl src fd00::1 dst fd00::2 proto route2 mode ro level required
dir in dst fd00:d:3::/64 ptype sub priority 2 tmpl proto route2 mode in_trigger level use
dir out dst fd00:d:4::/64 ptype sub tmpl proto hao mode in_trigger
dir out dst fd00:d:5::/64 tmpl proto hao mode ro level use tmpl proto esp
dir out dst fd00:d:6::/64 if_id 5
dir out dst fd00:d:6::/64 if_id 0xffffffff priority 3 tmpl src fd00::1 dst fd00::2 proto esp mode tunnel reqid 5
dir fwd dst fd00:d:6::/64 ptype sub if_id 6 mark 1 mask 3 tmpl src fd00::1 dst fd00::2 proto esp mode tunnel`), "\n")
)

// xfrmPair is ip in the VM and leveret, which get the same words.
type xfrmPair struct {
	t *testing.T
	v *vm.VM
	a *appliance
}

// what differs and is to: keys, times, what makes an index.
var aside = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`0x[0-9a-f]{18,}( \(\d+ bits\))?|<<Keys hidden>>`), "<hidden>"},
	{regexp.MustCompile(`(?m)enc ecb\(cipher_null\) $`), "enc ecb(cipher_null) <hidden>"}, // an empty one
	{regexp.MustCompile(`add [\d-]+ [\d:]+ use`), "add DATE use"},
	{regexp.MustCompile(` index \d+`), " index N"},
}

func withoutAside(text string) string {
	for _, a := range aside {
		text = a.what.ReplaceAllString(text, a.by)
	}
	return text
}

// said is what a command printed, out and wrong, and whether it was refused by the program (1) or behind it (2).
func (p *xfrmPair) said(line string) (ip, ours string, codeIP, codeOurs int) {
	opts, words := "", line
	for strings.HasPrefix(words, "-") {
		o, rest, _ := strings.Cut(words, " ")
		opts, words = opts+o+" ", rest
	}
	family := "" // that of the addresses
	if strings.HasPrefix(words, "policy ") {
		family = "-6 "
	}
	ip, err := p.v.Try("ip " + family + opts + "xfrm " + words)
	var exit *vm.ExitError
	if errors.As(err, &exit) {
		if codeIP = exit.Code; codeIP == 255 {
			codeIP = 1
		}
		ip = strings.TrimPrefix(strings.TrimPrefix(ip, "Error: "), "RTNETLINK answers: ")
		ip = strings.TrimRight(ip, "\n") + "\n" // some end with two
	} else if err != nil {
		p.t.Fatalf("%s: %v", line, err)
	}
	var args []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(opts+"xfrm "+words, -1) {
		args = append(args, m[1]+m[2])
	}
	ours, err = p.a.cli(args...)
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		codeOurs = failed.ExitCode()
		ours = strings.TrimPrefix(ours, "Error: ")
	}
	return withoutAside(ip), withoutAside(ours), codeIP, codeOurs
}

// same wants both to say the same.
func (p *xfrmPair) same(line string) string {
	p.t.Helper()
	ip, ours, codeIP, codeOurs := p.said(line)
	if ip != ours || codeIP != codeOurs {
		i, o := strings.Split(ip, "\n"), strings.Split(ours, "\n")
		n := 0
		for n < min(len(i), len(o)) && i[n] == o[n] {
			n++
		}
		p.t.Errorf("xfrm %s, from line %d\nip, exit %d:\n%s\nleveret, exit %d:\n%s", line, n+1,
			codeIP, strings.Join(i[n:min(n+6, len(i))], "\n"), codeOurs, strings.Join(o[n:min(n+6, len(o))], "\n"))
	}
	return ours
}

// TestXfrmWords: the same states and policies in the same words to ip and to leveret, and both list them alike, keys,
// times and numbers of policies aside; likewise with filters, one by one, after updates and deletions, and what they say
// of words that are wrong. Who watches is told the same.
func TestXfrmWords(t *testing.T) {
	v := peer.VM(t)
	v.Run("ip link set eth0 up; ip xfrm policy flush ptype sub; ip xfrm policy flush")
	p := &xfrmPair{t, v, start(t, "links:\n  - {name: eth0, kind: dummy}\nipsec: {nd_bypass: false}\n")}
	v.Run("ip xfrm monitor >/run/monitor 2>&1 & echo $! >/run/monitor.pid; sleep 1")
	var watched bytes.Buffer
	watch := exec.Command(program, "--socket", filepath.Join(p.a.dir, "api.sock"), "monitor", "xfrm")
	watch.Stdout, watch.Stderr = &watched, &watched
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // until both are listening

	lists := func() {
		t.Helper()
		for _, o := range []string{"", "-s ", "-o ", "-o -s "} {
			p.same(o + "state list nokeys")
			p.same(o + "policy list")
		}
		p.same("state count")
		p.same("policy count")
		p.same("-s policy count")
		p.same("policy getdefault")
	}
	lists()
	for _, s := range xfrmStates {
		p.same("state add " + s)
	}
	for _, s := range xfrmPolicies {
		p.same("policy add " + s)
	}
	lists()
	for _, line := range strings.Split(strings.TrimSpace(xfrmQuestions), "\n") {
		p.same(line)
	}
	if n := strings.Count(p.same("state list"), "\tproto ") + strings.Count(p.same("policy list"), "\tdir "); n < 25 {
		t.Errorf("only %d states and policies are left", n)
	}
	lists()
	for _, line := range strings.Split("state flush proto ah\nstate flush\nstate flush\npolicy flush\npolicy flush\npolicy flush ptype sub\npolicy flush ptype sub", "\n") {
		p.same(line)
	}
	lists()

	time.Sleep(time.Second)
	_ = watch.Process.Signal(syscall.SIGINT)
	_ = watch.Wait()
	told := withoutAside(v.Run("kill $(cat /run/monitor.pid); cat /run/monitor"))
	if got := withoutAside(watched.String()); got != told {
		i, o := strings.Split(told, "\n"), strings.Split(got, "\n")
		n := 0
		for n < min(len(i), len(o)) && i[n] == o[n] {
			n++
		}
		t.Errorf("monitor, from line %d of %d\nip:\n%s\nleveret:\n%s", n+1, len(i), strings.Join(i[n:min(n+12, len(i))], "\n"), strings.Join(o[n:min(n+12, len(o))], "\n"))
	}
	if strings.Count(told, "Deleted ") < 3 || strings.Count(told, "Updated ") < 3 {
		t.Errorf("the VM's monitor has seen only:\n%s", told)
	}
}

// xfrmQuestions are put to both when all is there.
const xfrmQuestions = `
state get src fd00::1 dst fd00::2 proto esp spi 0x1001
-s state get dst fd00::2 proto esp spi 0x1002
state get dst fd00::2 proto esp spi 0x1008 mark 5 mask 0xff
state get dst fd00::2 proto esp spi 0x1008
state get dst fd00::2 proto esp spi 0x2000
state list proto ah
state list src fd00::3
state list src fd00::/64 mode beet
state list reqid 1
state list flag esn
state list spi 0x1003
state add src fd00::1 dst fd00::2 proto esp spi 0x1001 mode tunnel reqid 1 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
state update src fd00::1 dst fd00::2 proto esp spi 0x1001 mode tunnel reqid 1 limit time-hard 5000 aead 'rfc7539esp(chacha20,poly1305)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fdeadbeef 128
state update src fd00::1 dst fd00::2 proto esp spi 0x3001 mode tunnel reqid 1 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
state delete src fd00::1 dst fd00::2 proto esp spi 0x1000
state delete src fd00::1 dst fd00::2 proto esp spi 0x1000
state deleteall src fd00::3
state get src fd00::5 dst fd00::6 proto hao
-s state get src fd00::7 dst fd00::5 proto route2 mark 3 mask 0xff
state get src fd00::7 dst fd00::5 proto route2
state get dst fd00::5 proto route2
state get src fd00::9 dst fd00::5 proto route2
state list proto hao
state list mode ro
state list flag wildrecv
state list proto route2 src fd00::6
state list mode in_trigger
state add src fd00::5 dst fd00::6 proto hao mode ro coa fd00:c::6
state update src fd00::5 dst fd00::6 proto hao mode ro coa fd00:c::6 limit time-hard 5000
state update src fd00::5 dst fd00::8 proto hao mode ro coa fd00:c::6
state add src fd00::1 dst fd00::2 proto esp spi 0x1013 mode tunnel if_id 6 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
state update src fd00::1 dst fd00::2 proto esp spi 0x1013 mode tunnel if_id 6 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
state get src fd00::1 dst fd00::2 proto esp spi 0x1013
state get src fd00::1 dst fd00::2 proto esp spi 0x1013 if_id 6
state delete src fd00::6 dst fd00::5 proto route2
state delete src fd00::6 dst fd00::5 proto route2
state delete dst fd00::6 proto hao
state deleteall proto hao src fd00::5 dst fd00::7
state add src fd00::9 dst fd00::6 proto hao mode ro
state add src fd00::9 dst fd00::6 proto hao coa fd00:c::9
state add src fd00::9 dst fd00::6 proto hao mode tunnel coa fd00:c::9
state add src fd00::9 dst fd00::6 proto hao mode in_trigger coa fd00:c::9
state add src fd00::9 dst fd00::6 proto hao mode ro coa
state add src fd00::9 dst fd00::6 proto hao mode ro coa x
state add src fd00::9 dst fd00::6 proto hao mode ro coa 192.0.2.1
state add coa x src fd00::9 dst fd00::6 proto hao mode ro
state add src fd00::9 dst fd00::6 proto route2 spi 5 mode ro coa fd00:c::9
state add src fd00::9 dst fd00::6 proto route2 mode ro coa fd00:c::9 enc 'ecb(cipher_null)' ''
state add src fd00::9 dst fd00::6 proto esp spi 0x2000 coa fd00:c::9 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef 128
state add src fd00::9 dst fd00::6 proto esp spi 0x2000 if_id x
state add
state add src
state add src xyz dst fd00::2 proto esp spi 5
state add src fd00::1 dst fd00::2
state add src fd00::1 dst fd00::2 proto frob
state add src fd00::1 dst fd00::2 proto esp spi x
state add src fd00::1 dst fd00::2 proto esp spi 0x2000
state add src fd00::1 dst fd00::2 proto esp spi 0x2000 mode frob
state add src fd00::1 dst fd00::2 proto esp spi 0x2000 aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0fdeadbeef
state add src fd00::1 dst fd00::2 proto ah spi 0x2000
state add src fd00::1 dst fd00::2 proto esp spi 0x2000 sel proto tcp dport x
state list frob
policy get dir out index 801
policy get dir out dst fd00:a:1::/64
-s policy get dir out dst fd00:8::/64 mark 5
policy get dir out dst fd00:8::/64
policy get dir out dst fd00:8:8::/64
policy get dir fwd ptype sub src ::/0
policy list dir in
policy list ptype sub
policy list action block
policy list priority 5
policy list index 801
policy list flag icmp
policy list flag localok icmp dir out
policy list src fd00:1::/32
policy list dst fd00:3::/64 proto ipv6-icmp
policy list proto tcp sport 5
policy list proto ipv6-icmp type 0
policy list proto gre key 5
policy list dev eth0
policy list dst fd00:a::/32 dir out
policy add dir out dst fd00:5::/64
policy update dir out dst fd00:5::/64 action allow priority 3
policy update dir out dst fd00:b::/64 tmpl proto esp
policy update dir in dst fd00:a:3::/64 action block
policy delete dir out dst fd00:b::/64
policy delete dir out dst fd00:b::/64
policy delete dir out index 801
policy deleteall dst fd00:3::/64 proto tcp
policy deleteall flag localok
policy setdefault in block out accept
policy getdefault
policy setdefault in accept
policy getdefault
policy get dir out src fd00::5 dst fd00::6 ptype sub
policy get dir out src fd00::5 dst fd00::6
-s policy get dir out dst fd00:d:6::/64 if_id 5
policy get dir out dst fd00:d:6::/64
policy get dir fwd dst fd00:d:6::/64 ptype sub if_id 6 mark 1 mask 3
policy list if_id 5
policy list ptype sub dir out
policy list ptype main proto mobility-header
policy add dir out src fd00::5 dst fd00::6 ptype sub tmpl proto route2 mode ro
policy add dir out src fd00::5 dst fd00::6 tmpl proto esp
policy update dir out src fd00::5 dst fd00::6 ptype sub priority 9 tmpl proto route2 mode ro level use
policy update dir out dst fd00:d:6::/64 if_id 5 priority 9 tmpl proto esp
policy update dir out dst fd00:d:6::/64 if_id 7 priority 9
policy delete dir out dst fd00:d:6::/64 if_id 5
policy delete dir out dst fd00:d:6::/64 if_id 5
policy delete dir in src fd00::6 dst fd00::5 ptype sub
policy add dir out dst fd00:c::/64 if_id x
policy add dir out dst fd00:c::/64 ptype sub ptype main
policy add dir out dst fd00:c::/64 tmpl proto hao spi 5 mode ro
policy add
policy add dir
policy add dir up
policy add dir out dir in
policy add dir out frob
policy add dir out dst xyz
policy add dir out dst fd00:c::/64 priority x
policy add dir out dst fd00:c::/64 action deny
policy add dir out dst fd00:c::/64 ptype x
policy add dir out dst fd00:c::/64 index 8
policy add dir out dst fd00:c::/64 flag x
policy add dir out dst fd00:c::/64 mark x
policy add dir out dst fd00:c::/64 limit x 5
policy add dir out dst fd00:c::/64 limit time-hard x
policy add dir out dst fd00:c::/64 proto frob
policy add dir out dst fd00:c::/64 proto tcp type 5
policy add dir out dst fd00:c::/64 proto udp dport 65536
policy add dir out dst fd00:c::/64 tmpl
policy add dir out dst fd00:c::/64 tmpl src fd00::1
policy add dir out dst fd00:c::/64 tmpl mode tunnel
policy add dir out dst fd00:c::/64 tmpl proto tcp
policy add dir out dst fd00:c::/64 tmpl proto esp mode frob
policy add dir out dst fd00:c::/64 tmpl proto esp level x
policy add dir out dst fd00:c::/64 tmpl proto esp reqid x
policy add dir out dst fd00:c::/64 tmpl src fd00::1 dst fd00::2 proto esp mode tunnel level use
policy add dir out dst fd00:c::/64 tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp tmpl proto esp
policy get
policy get dir out
policy get dir out dst fd00:3::/64 index 9
policy delete dir out priority 5
policy list frob
policy list dir up
policy deleteall action x
policy flush ptype x
policy flush frob
policy setdefault in allow
policy setdefault up block`
