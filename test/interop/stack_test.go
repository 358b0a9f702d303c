package interop

import (
	"os"
	"testing"

	"leveret/extensions/xfrm/algo"
)

// brief are sizes around every border of padding and of fragments; most are more of them.
const brief, most = "0-17,1360-1380,1400-1460,2800", "0-600,1100-1560,2400-2950,3900-4000"

var (
	gcm128 = []transform{{algo.AEAD, "rfc4106(gcm(aes))", 20, 128}}
	gcm64  = []transform{{algo.AEAD, "rfc4106(gcm(aes))", 36, 64}}
	cbc256 = []transform{{algo.Enc, "cbc(aes)", 32, 0}, {algo.Auth, "hmac(sha256)", 32, 128}}
	sha256 = []transform{{algo.Auth, "hmac(sha256)", 32, 128}}
	sha512 = []transform{{algo.Auth, "hmac(sha512)", 64, 256}}
)

// TestStacks: what goes through more than one SA, in UDP, and in BEET mode.
func TestStacks(t *testing.T) {
	esp := func(mode string, parts []transform, spi uint32) layer {
		return layer{proto: "esp", mode: mode, parts: parts, spi: spi}
	}
	ah := func(mode string, parts []transform, spi uint32) layer {
		return layer{proto: "ah", mode: mode, parts: parts, spi: spi, esn: true}
	}
	udp := func(mode string, parts []transform) layer {
		return layer{proto: "esp", mode: mode, parts: parts, spi: 0x1001, udp: true}
	}
	for _, c := range []struct {
		name string
		long bool
		setup
	}{
		{"AH over ESP", false, setup{esp("transport", gcm128, 0x1001), ah("transport", sha256, 0x2001)}},
		{"AH over an ESP tunnel", false, setup{esp("tunnel", cbc256, 0x1001), ah("transport", sha512, 0x2001)}},
		{"an AH tunnel over ESP", true, setup{esp("transport", gcm64, 0x1001), ah("tunnel", sha256, 0x2001)}},
		{"ESP tunnel in ESP tunnel", false, setup{esp("tunnel", gcm128, 0x1001), esp("tunnel", cbc256, 0x2001)}},
		{"ESP in UDP", false, setup{udp("transport", gcm128)}},
		{"ESP tunnel in UDP", false, setup{udp("tunnel", cbc256)}},
		{"BEET", false, setup{esp("beet", gcm128, 0x1001)}},
		{"BEET of a CBC", true, setup{esp("beet", cbc256, 0x1001)}},
	} {
		if !c.long || os.Getenv("LVT_LONG") != "" {
			t.Run(c.name, func(t *testing.T) { c.works(t, sizes(brief, most)) })
		}
	}
}
