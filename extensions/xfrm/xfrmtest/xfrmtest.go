// Package xfrmtest reads the vectors of the tests of IPsec.
package xfrmtest

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// Load reads a file of JSON.
func Load(t testing.TB, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Hex is what hexadecimal digits say; spaces between them do not count.
func Hex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Vector is a packet before and behind ESP or AH. Octets are in hexadecimal digits.
type Vector struct {
	Name, Proto, Mode string
	Enc, Auth         string // as the kernel names them; with a mode that authenticates Auth is empty
	EncKey            string `json:"enc_key"`
	Salt              string
	AuthKey           string `json:"auth_key"`
	ICV               int    `json:"icv_len"` // octets
	SPI               uint32
	Seq               uint64 // both halves
	ESN               bool
	IV                string
	Pad               int      `json:"pad_len"`
	UDP               []uint16 `json:"udp_encap"` // ports; none: not in UDP
	Total             int      `json:"ah_total_len"`
	ICVInput          string   `json:"icv_input"`
	Plain, Protected  string
}

// names are the kernel's, by those of the files.
var names = map[string]string{
	"aes-gcm": "rfc4106(gcm(aes))", "aes-ccm": "rfc4309(ccm(aes))", "aes-gmac": "rfc4543(gcm(aes))", "chacha20poly1305": "rfc7539esp(chacha20,poly1305)",
	"aes-cbc": "cbc(aes)", "null": "ecb(cipher_null)",
	"hmac-sha1": "hmac(sha1)", "hmac-sha256": "hmac(sha256)", "hmac-sha384": "hmac(sha384)", "hmac-sha512": "hmac(sha512)",
}

// Vectors reads a file of n vectors.
func Vectors(t testing.TB, file string, n int) (out []Vector) {
	t.Helper()
	var all []struct {
		Vector
		High uint64 `json:"seq_hi"`
	}
	Load(t, file, &all)
	if len(all) != n {
		t.Fatalf("%s: %d vectors", file, len(all))
	}
	for _, v := range all {
		v.Seq |= v.High << 32
		v.Enc, v.Auth = names[v.Enc], names[v.Auth]
		out = append(out, v.Vector)
	}
	return out
}
