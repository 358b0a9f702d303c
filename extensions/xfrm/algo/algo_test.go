package algo

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"leveret/extensions/xfrm/xfrmtest"
)

func find(t testing.TB, kind Kind, name string) *Algorithm {
	t.Helper()
	a, err := Find(kind, name, true)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		name   string
		legacy bool
		want   string // the name found, or what the error says
	}{
		{AEAD, "rfc4106(gcm(aes))", false, "rfc4106(gcm(aes))"},
		{Enc, "cipher_null", false, "ecb(cipher_null)"},
		{Enc, "ecb(cipher_null)", false, "ecb(cipher_null)"},
		{Enc, "cbc(des3_ede)", true, "cbc(des3_ede)"},
		{Enc, "cbc(des3_ede)", false, "enc cbc(des3_ede): is not used unless allow_legacy is set (RFC 8221)"},
		{Auth, "hmac(md5)", false, "auth hmac(md5): is not used unless allow_legacy is set (RFC 8221)"},
		{Auth, "xcbc(aes)", false, "auth xcbc(aes): is not used unless allow_legacy is set (RFC 8221)"},
		{Auth, "digest_null", false, "auth digest_null: is not used unless allow_legacy is set (RFC 8221)"},
		{Enc, "cbc(blowfish)", false, `enc "cbc(blowfish)": not known, there are cbc(aes), rfc3686(ctr(aes)), ecb(cipher_null)`},
		{Enc, "", true, `enc "": not known, there are cbc(aes), rfc3686(ctr(aes)), ecb(cipher_null), cbc(des3_ede)`},
		{Auth, "cbc(aes)", false, `auth "cbc(aes)": not known, there are hmac(sha1), hmac(sha256), hmac(sha384), hmac(sha512)`},
	} {
		a, err := Find(c.kind, c.name, c.legacy)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = a.Name
		}
		if got != c.want {
			t.Errorf("%s %q legacy %v: %s\nwant %s", c.kind, c.name, c.legacy, got, c.want)
		}
	}
}

func TestChecks(t *testing.T) {
	gcm, hmac := find(t, AEAD, "rfc4106(gcm(aes))"), find(t, Auth, "hmac(sha256)")
	for _, n := range []int{20, 28, 36} {
		if err := gcm.CheckKey(n); err != nil {
			t.Error(err)
		}
	}
	for bits, want := range map[int]int{0: 16, 128: 16, 96: 12} {
		if n, err := hmac.ICVLen(bits); err != nil || n != want {
			t.Errorf("ICV of %d bits: %d, %v", bits, n, err)
		}
	}
	_, icv := gcm.ICVLen(100)
	_, none := find(t, Enc, "cbc(aes)").ICVLen(0)
	null, digest := find(t, Enc, "cipher_null"), find(t, Auth, "digest_null")
	for _, c := range []struct {
		err  error
		want string
	}{
		{gcm.CheckKey(16), "aead rfc4106(gcm(aes)): the key has 16 octets, allowed: 20, 28, 36, of which the last 4 are the salt"},
		{hmac.CheckKey(20), "auth hmac(sha256): the key has 20 octets, allowed: 32"},
		{null.CheckKey(1), "enc ecb(cipher_null): the key has 1 octets, allowed: 0"},
		{icv, "aead rfc4106(gcm(aes)): the ICV has 100 bits, allowed: 128, 96, 64"},
		{none, "enc cbc(aes): the ICV has 0 bits, allowed: "},
		{CheckPair(null, digest), "enc ecb(cipher_null) with auth digest_null: neither encryption nor integrity (RFC 4303 3.2)"},
		{CheckPair(find(t, Enc, "rfc3686(ctr(aes))"), digest), "enc rfc3686(ctr(aes)) with auth digest_null: a counter mode needs integrity (RFC 3686 1)"},
		{CheckPair(hmac, null), "auth hmac(sha256) with enc ecb(cipher_null): not an enc and an auth algorithm"},
		{CheckPair(null, hmac), ""},
		{CheckPair(find(t, Enc, "cbc(aes)"), digest), ""},
	} {
		if got := fmt.Sprint(c.err); got != c.want && (c.err != nil || c.want != "") {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// TestSecretsStay: no error of a constructor has an octet of the key in it.
func TestSecretsStay(t *testing.T) {
	key := bytes.Repeat([]byte{0xa7}, 15)
	for _, a := range All() {
		_, _, e1 := a.NewAEAD(key, 16)
		_, e2 := a.NewCipher(key)
		_, e3 := a.NewMAC(key)
		for _, err := range []error{e1, e2, e3} {
			if err == nil {
				t.Fatalf("%s took a key of %d octets", a.Name, len(key))
			}
			if s := strings.ToLower(err.Error()); strings.Contains(s, "a7") || strings.Contains(s, "167") {
				t.Errorf("%s: %v", a.Name, err)
			}
		}
	}
}

// TestAll: every row makes what it is for, and nothing else.
func TestAll(t *testing.T) {
	for _, a := range All() {
		for _, k := range a.Keys {
			key := make([]byte, k+a.Salt)
			_, salt, e1 := a.NewAEAD(key, 16)
			c, e2 := a.NewCipher(key)
			m, e3 := a.NewMAC(key)
			if (e1 == nil) != (a.Kind == AEAD) || (e2 == nil) != (a.Kind == Enc) || (e3 == nil) != (a.Kind == Auth) {
				t.Errorf("%s: %v %v %v", a.Name, e1, e2, e3)
			}
			if a.Kind == AEAD && len(salt) != a.Salt || a.Kind == Enc && c == nil || a.Kind == Auth && (m == nil) != (a == NullDigest) {
				t.Errorf("%s: salt %d, %v %v", a.Name, len(salt), c, m)
			}
			if m != nil && m.Size() < a.ICVs[0] {
				t.Errorf("%s: ICV of %d out of %d", a.Name, a.ICVs[0], m.Size())
			}
		}
	}
}

// TestAEAD: values of pyca/cryptography, in place, twice with one cipher, and with a clone.
func TestAEAD(t *testing.T) {
	var vectors []struct {
		Name                        string
		ICV                         int
		Key, IV, AAD, Plain, Sealed string
	}
	xfrmtest.Load(t, "testdata/aead.json", &vectors)
	if len(vectors) != 114 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		first, salt, err := find(t, AEAD, v.Name).NewAEAD(xfrmtest.Hex(t, v.Key), v.ICV)
		if err != nil {
			t.Fatal(err)
		}
		nonce := append(bytes.Clone(salt), xfrmtest.Hex(t, v.IV)...)
		aad, plain, want := xfrmtest.Hex(t, v.AAD), xfrmtest.Hex(t, v.Plain), xfrmtest.Hex(t, v.Sealed)
		for _, c := range []AEADCipher{first, first, first.Clone()} {
			if c.NonceSize() != len(nonce) || c.Overhead() != v.ICV {
				t.Fatalf("%s %d: nonce %d, overhead %d", v.Name, v.ICV, c.NonceSize(), c.Overhead())
			}
			b := append(make([]byte, 0, len(want)), plain...)
			if got := c.Seal(b[:0], nonce, b, aad); !bytes.Equal(got, want) || len(got) > 0 && &got[0] != &b[:1][0] {
				t.Fatalf("%s %d, %d octets: sealed %x\nwant %x", v.Name, v.ICV, len(plain), got, want)
			}
			b = b[:len(want)]
			if got, err := c.Open(b[:0], nonce, b, aad); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s %d, %d octets: opened %x, %v", v.Name, v.ICV, len(plain), got, err)
			}
			for bit := range len(want) * 8 {
				if len(want) > 100 && bit%97 != 0 {
					continue
				}
				copy(b, want)
				b[bit/8] ^= 1 << (bit % 8)
				if _, err := c.Open(b[:0], nonce, b, aad); err == nil {
					t.Fatalf("%s %d, %d octets: flipped bit %d was not seen", v.Name, v.ICV, len(plain), bit)
				}
				if len(plain) >= 15 && bytes.Contains(b, plain[len(plain)-8:]) {
					t.Fatalf("%s %d: plaintext of a forged packet", v.Name, v.ICV)
				}
			}
			copy(b, want)
			if _, err := c.Open(b[:0], nonce, b[:v.ICV-1], aad); err == nil {
				t.Fatalf("%s %d: less than an ICV was opened", v.Name, v.ICV)
			}
			other := bytes.Clone(aad)
			other[3] ^= 1
			if _, err := c.Open(b[:0], nonce, b, other); err == nil {
				t.Fatalf("%s %d: another SPI was not seen", v.Name, v.ICV)
			}
		}
	}
}

// TestCipher: values of pyca/cryptography, in place, with a cipher and its clone.
func TestCipher(t *testing.T) {
	var vectors []struct{ Name, Key, IV, Plain, Sealed string }
	xfrmtest.Load(t, "testdata/cipher.json", &vectors)
	// RFC 3602 4, case 2; RFC 3686 6, vector 3.
	vectors = append(vectors, []struct{ Name, Key, IV, Plain, Sealed string }{
		{"cbc(aes)", "c286696d887c9aa0611bbb3e2025a45a", "562e17996d093d28ddb3ba695a2e6f58",
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
		{"rfc3686(ctr(aes))", "7691BE035E5020A8AC6E618529F9A0DC 00E0017B", "27777F3F4A1786F0",
			"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20212223",
			"C1CF48A89F2FFDD9CF4652E9EFDB72D74540A42BDE6D7836D59A5CEAAEF3105325B2072F"},
		{"ecb(cipher_null)", "", "", "0102", "0102"},
	}...)
	for _, v := range vectors {
		c, err := find(t, Enc, v.Name).NewCipher(xfrmtest.Hex(t, v.Key))
		if err != nil {
			t.Fatal(err)
		}
		iv, plain, want := xfrmtest.Hex(t, v.IV), xfrmtest.Hex(t, v.Plain), xfrmtest.Hex(t, v.Sealed)
		for _, c := range []Cipher{c, c.Clone()} {
			for range 2 {
				b := bytes.Clone(plain)
				if c.Encrypt(iv, b); !bytes.Equal(b, want) {
					t.Fatalf("%s: %x\nwant %x", v.Name, b, want)
				}
				if c.Decrypt(iv, b); !bytes.Equal(b, plain) {
					t.Fatalf("%s: decrypted %x\nwant %x", v.Name, b, plain)
				}
			}
		}
	}
}

// TestMAC: RFC 3566 4.6, RFC 2202 2, 3 and RFC 4868 2.7.2, written in pieces of every length.
func TestMAC(t *testing.T) {
	count := make([]byte, 34)
	for i := range count {
		count[i] = byte(i)
	}
	xkey := hex.EncodeToString(count[:16])
	for _, v := range []struct {
		name, key string
		msg       []byte
		want      string
	}{
		{"xcbc(aes)", xkey, nil, "75f0251d528ac01c4573dfd584d79f29"},
		{"xcbc(aes)", xkey, count[:3], "5b376580ae2f19afe7219ceef172756f"},
		{"xcbc(aes)", xkey, count[:16], "d2a246fa349b68a79998a4394ff7a263"},
		{"xcbc(aes)", xkey, count[:20], "47f51b4564966215b8985c63055ed308"},
		{"xcbc(aes)", xkey, count[:32], "f54f0ec8d2b9f3d36807734bd5283fd4"},
		{"xcbc(aes)", xkey, count[:34], "becbb3bccdb518a30677d5481fb6b4d8"},
		{"xcbc(aes)", xkey, make([]byte, 1000), "f0dafee895db30253761103b5d84528f"},
		{"hmac(md5)", strings.Repeat("0b", 16), []byte("Hi There"), "9294727a3638bb1c13f48ef8158bfc9d"},
		{"hmac(sha1)", strings.Repeat("0b", 20), []byte("Hi There"), "b617318655057264e28bc0b6fb378c8ef146be00"},
		{"hmac(sha256)", strings.Repeat("0b", 32), []byte("Hi There"), "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"},
		{"hmac(sha384)", strings.Repeat("0b", 48), []byte("Hi There"),
			"b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4fb68dab9f1b582c2"},
		{"hmac(sha512)", strings.Repeat("0b", 64), []byte("Hi There"),
			"637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b"},
	} {
		m, err := find(t, Auth, v.name).NewMAC(xfrmtest.Hex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		clone, err := m.Clone()
		if err != nil {
			t.Fatal(err)
		}
		for piece := 1; piece <= len(v.msg)+1 && piece < 40; piece++ {
			m.Reset()
			for rest := v.msg; len(rest) > 0; {
				n := min(piece, len(rest))
				m.Write(rest[:n])
				rest = rest[n:]
				clone.Write([]byte("something else"))
			}
			if got := hex.EncodeToString(m.Sum(nil)); got != v.want {
				t.Errorf("%s of %d octets by %d: %s, want %s", v.name, len(v.msg), piece, got, v.want)
			}
			clone.Reset()
			clone.Write(v.msg)
			if got := hex.EncodeToString(clone.Sum(nil)); got != v.want {
				t.Errorf("%s of %d octets, clone: %s, want %s", v.name, len(v.msg), got, v.want)
			}
		}
	}
}
