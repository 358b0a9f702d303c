package interop

import (
	"os"
	"testing"

	"leveret/extensions/xfrm/algo"
)

// suites are the algorithms of the table; modes and ESN come in cells.
var suites = []struct {
	name, proto string
	parts       []transform
}{
	{"aes-gcm-128", "esp", []transform{{algo.AEAD, "rfc4106(gcm(aes))", 20, 128}}},
	{"aes-gcm-256", "esp", []transform{{algo.AEAD, "rfc4106(gcm(aes))", 36, 128}}},
	{"aes-gcm-256-icv64", "esp", []transform{{algo.AEAD, "rfc4106(gcm(aes))", 36, 64}}},
	{"aes-ccm-128", "esp", []transform{{algo.AEAD, "rfc4309(ccm(aes))", 19, 128}}},
	{"aes-ccm-256-icv96", "esp", []transform{{algo.AEAD, "rfc4309(ccm(aes))", 35, 96}}},
	{"gmac-128", "esp", []transform{{algo.AEAD, "rfc4543(gcm(aes))", 20, 128}}},
	{"chacha20-poly1305", "esp", []transform{{algo.AEAD, "rfc7539esp(chacha20,poly1305)", 36, 128}}},
	{"aes-cbc-128-sha256", "esp", []transform{{algo.Enc, "cbc(aes)", 16, 0}, {algo.Auth, "hmac(sha256)", 32, 128}}},
	{"aes-cbc-256-sha512", "esp", []transform{{algo.Enc, "cbc(aes)", 32, 0}, {algo.Auth, "hmac(sha512)", 64, 256}}},
	{"aes-cbc-192-sha384", "esp", []transform{{algo.Enc, "cbc(aes)", 24, 0}, {algo.Auth, "hmac(sha384)", 48, 192}}},
	{"aes-cbc-128-sha1", "esp", []transform{{algo.Enc, "cbc(aes)", 16, 0}, {algo.Auth, "hmac(sha1)", 20, 96}}},
	{"aes-ctr-128-sha256-96", "esp", []transform{{algo.Enc, "rfc3686(ctr(aes))", 20, 0}, {algo.Auth, "hmac(sha256)", 32, 96}}},
	{"null-sha256", "esp", []transform{{algo.Enc, "ecb(cipher_null)", 0, 0}, {algo.Auth, "hmac(sha256)", 32, 128}}},
	{"3des-md5", "esp", []transform{{algo.Enc, "cbc(des3_ede)", 24, 0}, {algo.Auth, "hmac(md5)", 16, 96}}},
	{"aes-cbc-128-xcbc", "esp", []transform{{algo.Enc, "cbc(aes)", 16, 0}, {algo.Auth, "xcbc(aes)", 16, 96}}},
	{"sha256", "ah", []transform{{algo.Auth, "hmac(sha256)", 32, 128}}},
	{"sha384", "ah", []transform{{algo.Auth, "hmac(sha384)", 48, 192}}},
	{"sha512", "ah", []transform{{algo.Auth, "hmac(sha512)", 64, 256}}},
	{"sha1", "ah", []transform{{algo.Auth, "hmac(sha1)", 20, 96}}},
}

// cells are all of the table with LVT_LONG; otherwise every third suite, with the modes and ESN by turns.
func cells() (names []string, out []setup) {
	long := os.Getenv("LVT_LONG") != ""
	for i, s := range suites {
		for j, mode := range []string{"transport", "tunnel"} {
			for k, esn := range []bool{false, true} {
				if !long && (i%3 != 0 || i%2 != j || i/2%2 != k) {
					continue
				}
				name := s.proto + " " + s.name + " " + mode
				if esn {
					name += " esn"
				}
				names = append(names, name)
				out = append(out, setup{layer{proto: s.proto, mode: mode, parts: s.parts, esn: esn, spi: 0x1001}})
			}
		}
	}
	return names, out
}

// TestGrid: ESP and AH of Leveret and the kernel, by every cell of the table: every size of ping, TCP both
// ways, packets counted at the kernel in both SAs and none refused there, nothing in clear.
func TestGrid(t *testing.T) {
	names, list := cells()
	failed := 0
	for i, g := range list {
		if t.Run(names[i], func(t *testing.T) { g.works(t, sizes(few, all)) }) {
			failed = 0
			continue
		}
		if failed++; failed == 2 {
			t.Fatalf("%q and %q have failed: the %d cells behind them, which would not do better, are left out", names[i-1], names[i], len(list)-1-i)
		}
	}
}
