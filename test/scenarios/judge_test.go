package scenarios

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"leveret/appliance/netstack"
	"leveret/test/simnet"
)

// suite is one of ESP.
type suite struct {
	name      string
	enc, auth string // as the configuration has them; enc alone is an aead
	encKey    int    // octets, with the salt
	authKey   int
	icv       int // bits
	tsharkEnc string
	tsharkMac string
}

// judged are the suites of ESP that tshark 4.0 knows, by its names; the others (CCM, GMAC, ChaCha20, XCBC, extended
// sequence numbers) are judged by the kernel in test/interop, which takes what is sent.
var judged = []suite{
	{"aes-gcm-128", "rfc4106(gcm(aes))", "", 20, 0, 128, "AES-GCM with 16 octet ICV [RFC4106]", "NULL"},
	{"aes-gcm-192", "rfc4106(gcm(aes))", "", 28, 0, 96, "AES-GCM with 12 octet ICV [RFC4106]", "NULL"},
	{"aes-gcm-256", "rfc4106(gcm(aes))", "", 36, 0, 64, "AES-GCM with 8 octet ICV [RFC4106]", "NULL"},
	{"aes-cbc-128-sha1", "cbc(aes)", "hmac(sha1)", 16, 20, 96, "AES-CBC [RFC3602]", "HMAC-SHA-1-96 [RFC2404]"},
	{"aes-cbc-192-sha256-96", "cbc(aes)", "hmac(sha256)", 24, 32, 96, "AES-CBC [RFC3602]", "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]"},
	{"aes-cbc-256-sha256", "cbc(aes)", "hmac(sha256)", 32, 32, 128, "AES-CBC [RFC3602]", "HMAC-SHA-256-128 [RFC4868]"},
	{"aes-cbc-128-sha384", "cbc(aes)", "hmac(sha384)", 16, 48, 192, "AES-CBC [RFC3602]", "HMAC-SHA-384-192 [RFC4868]"},
	{"aes-ctr-128-sha512", "rfc3686(ctr(aes))", "hmac(sha512)", 20, 64, 256, "AES-CTR [RFC3686]", "HMAC-SHA-512-256 [RFC4868]"},
	{"aes-ctr-256-sha256", "rfc3686(ctr(aes))", "hmac(sha256)", 36, 32, 128, "AES-CTR [RFC3686]", "HMAC-SHA-256-128 [RFC4868]"},
	{"null-sha256", "ecb(cipher_null)", "hmac(sha256)", 0, 32, 128, "NULL", "HMAC-SHA-256-128 [RFC4868]"},
	{"3des-md5", "cbc(des3_ede)", "hmac(md5)", 24, 16, 96, "TripleDES-CBC [RFC2451]", "HMAC-MD5-96 [RFC2403]"},
}

// judgeKey is a key of n octets, another one for each SA.
func judgeKey(n int, spi uint32) string {
	if n == 0 {
		return ""
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*11) ^ byte(spi*29)
	}
	return fmt.Sprintf("0x%x", b)
}

// TestJudge: tshark, with the keys, decrypts every packet of every suite, finds the ICV good and nothing malformed, and
// sees the plain echo messages inside, in transport and tunnel mode, in UDP, below AH.
func TestJudge(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("tshark is not installed: run `make deps`")
		}
		t.Skip("tshark is not installed: run `make deps` as root")
	}
	const a, b = "2001:db8:1::a", "2001:db8:1::b"
	all, keys, cases := &simnet.Segment{Name: "all"}, []string(nil), map[uint32]string{}
	sizes := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 100, 1300, 3000}
	spi := uint32(0x1000)
	for i := range judged {
		for _, kind := range []string{"transport", "tunnel", "tunnel with padding", "transport in UDP", "tunnel in UDP", "transport below AH"} {
			c := judgedCase{&judged[i], kind, spi, spi + 1}
			n := simnet.New(t, uint64(spi)) // another one each time: fragments have other numbers
			lan := n.Segment("lan")
			na := n.Node("a", c.conf(a, b, a, b), modules, map[string]*simnet.Segment{"lan0": lan})
			n.Node("b", c.conf(a, b, b, a), modules, map[string]*simnet.Segment{"lan0": lan})
			n.Advance(2 * time.Second)
			for _, size := range sizes {
				if got := ping(t, n, na, netstack.PingOptions{Dst: netip.MustParseAddr(b), Size: size}); got != "replied" {
					t.Fatalf("%s, %s, %d octets: %s", c.name, kind, size, got)
				}
			}
			all.Frames = append(all.Frames, lan.Frames...)
			for _, spi := range []uint32{c.there, c.back} {
				cases[spi] = c.name + ", " + kind
				keys = append(keys, "-o", fmt.Sprintf(`uat:esp_sa:"IPv6","*","*","%#x","%s","%s","%s","%s"`,
					spi, c.tsharkEnc, judgeKey(c.encKey, spi), c.tsharkMac, judgeKey(c.authKey, spi)))
			}
			spi += 2
		}
	}
	judge(t, all, keys, cases, len(sizes))
}

// judgedCase is a suite in a mode, and what is around it.
type judgedCase struct {
	*suite
	kind        string
	there, back uint32
}

// conf is the configuration of the node at, for SAs from a to b and back.
func (c *judgedCase) conf(a, b, at, to string) string {
	mode, around, _ := strings.Cut(c.kind, " ")
	states := func(spi uint32, src, dst string) string {
		w := fmt.Sprintf("    - {src: %q, dst: %q, proto: esp, spi: %#x, reqid: 1, mode: %s, ", src, dst, spi, mode)
		if c.auth == "" {
			w += fmt.Sprintf("aead: {name: %q, key: %q, icv_bits: %d}", c.enc, judgeKey(c.encKey, spi), c.icv)
		} else {
			w += fmt.Sprintf("enc: {name: %q, key: %q}, auth: {name: %q, key: %q, trunc_bits: %d}",
				c.enc, judgeKey(c.encKey, spi), c.auth, judgeKey(c.authKey, spi), c.icv)
		}
		if around == "in UDP" {
			w += ", encap: {type: espinudp, sport: 4500, dport: 4500}"
		}
		if around == "with padding" {
			w += ", tfcpad: 600"
		}
		w += "}\n"
		if around == "below AH" {
			w += fmt.Sprintf("    - {src: %q, dst: %q, proto: ah, spi: %#x, reqid: 2, auth: {name: \"hmac(sha256)\", key: %q, trunc_bits: 128}}\n",
				src, dst, spi, judgeKey(32, spi))
		}
		return w
	}
	policy := func(dir, src, dst string) string {
		w := fmt.Sprintf("    - {name: %[1]s, dir: %[1]s, priority: 9, action: protect, selector: {src: %[2]q, dst: %[3]q}, "+
			"templates: [{src: %[2]q, dst: %[3]q, proto: esp, mode: %[4]s, reqid: 1}", dir, src, dst, mode)
		if around == "below AH" {
			w += ", {proto: ah, reqid: 2}"
		}
		return w + "]}\n"
	}
	return fmt.Sprintf("version: 1\nlinks: [{name: lan0, kind: pipe, addresses: [%q], dad: {transmits: 0}}]\nipsec:\n  allow_legacy: true\n  states:\n", at+"/64") +
		states(c.there, a, b) + states(c.back, b, a) + "  policies:\n" + policy("out", at, to) + policy("in", to, at)
}

// judge wants that tshark finds so many requests, or replies, in each SA of a capture, and nothing to remark.
func judge(t *testing.T, s *simnet.Segment, keys []string, cases map[uint32]string, echoes int) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "pcapng")
	if err := s.WriteCapture(file); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"-r", file, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE", "-T", "fields", "-E", "separator=|",
		"-e", "frame.protocols", "-e", "esp.spi", "-e", "esp.icv_good", "-e", "esp.icv_bad", "-e", "icmpv6.type", "-e", "icmpv6.checksum.status",
		"-e", "_ws.malformed", "-e", "_ws.expert.message",
	}, keys...)
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir) // the keys of nobody else
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	seen := map[uint32]int{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		if len(f) != 8 {
			t.Fatalf("%q", line)
		}
		spi, _ := strconv.ParseUint(f[1], 0, 32) // 0 where there is no ESP to be seen
		name := cases[uint32(spi)]
		echo := f[4] == "128" || f[4] == "129"
		switch {
		case f[6] != "" || strings.Contains(f[7], "alformed"):
			t.Errorf("%s: malformed: %s", name, line)
		case spi == 0 && echo:
			t.Errorf("in the clear: %s", line)
		case spi == 0:
		case f[2] != "1" || f[3] != "0":
			t.Errorf("%s: the ICV: %s", name, line)
		case strings.Contains(f[0], ":esp:ipv6:ipv6.fraghdr:data") && f[4] == "": // a fragment inside, not the last
		case !echo || f[5] != "1":
			t.Errorf("%s: no echo message with a good checksum inside: %s", name, line)
		default:
			seen[uint32(spi)]++
		}
	}
	for spi, name := range cases {
		if seen[spi] != echoes {
			t.Errorf("%s: %d echo messages of %d", name, seen[spi], echoes)
		}
	}
}
