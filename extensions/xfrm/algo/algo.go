// Package algo is the table of IPsec algorithms by the names of `ip xfrm`, and what makes ciphers of keys
// (RFC 8221 says which are wanted). Nothing here tells a key: errors have lengths only. It is pure.
package algo

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is which of the three places an algorithm fills.
type Kind uint8

// The kinds, with the words of `ip xfrm`.
const (
	AEAD Kind = iota // aead: encryption and integrity in one
	Enc              // enc
	Auth             // auth, auth-trunc
)

func (k Kind) String() string { return [...]string{"aead", "enc", "auth"}[k] }

// Algorithm is one row of the table. All lengths are octets.
type Algorithm struct {
	Name  string
	Alias string // another name of it; "" = none
	Kind  Kind
	Keys  []int // lengths of the key without salt
	Salt  int   // the key is followed by that much salt (nonce in RFC 3686)
	IV    int   // explicit, in each packet
	Block int   // the ciphertext is a multiple of it
	ICVs  []int // lengths the ICV may have, the default first
	// Legacy algorithms are taken only where they were asked for as such: broken or nearly (RFC 8221), or no
	// integrity, which only AH around ESP can make good (RFC 8221 4).
	Legacy bool
}

var aesKeys = []int{16, 24, 32}

// Unlike Linux, which still takes 96, hmac(sha256) has 128 bits unless said otherwise (RFC 4868 2.3).
var table = []Algorithm{
	{Name: "rfc4106(gcm(aes))", Kind: AEAD, Keys: aesKeys, Salt: 4, IV: 8, Block: 1, ICVs: []int{16, 12, 8}},
	{Name: "rfc4309(ccm(aes))", Kind: AEAD, Keys: aesKeys, Salt: 3, IV: 8, Block: 1, ICVs: []int{16, 12, 8}},
	{Name: "rfc4543(gcm(aes))", Kind: AEAD, Keys: aesKeys, Salt: 4, IV: 8, Block: 1, ICVs: []int{16}}, // GMAC: no encryption
	{Name: "rfc7539esp(chacha20,poly1305)", Kind: AEAD, Keys: []int{32}, Salt: 4, IV: 8, Block: 1, ICVs: []int{16}},

	{Name: "cbc(aes)", Kind: Enc, Keys: aesKeys, IV: 16, Block: 16},
	{Name: "rfc3686(ctr(aes))", Kind: Enc, Keys: aesKeys, Salt: 4, IV: 8, Block: 1},
	{Name: "ecb(cipher_null)", Alias: "cipher_null", Kind: Enc, Keys: []int{0}, Block: 1},
	{Name: "cbc(des3_ede)", Kind: Enc, Keys: []int{24}, IV: 8, Block: 8, Legacy: true},

	{Name: "hmac(sha1)", Kind: Auth, Keys: []int{20}, ICVs: []int{12}},
	{Name: "hmac(sha256)", Kind: Auth, Keys: []int{32}, ICVs: []int{16, 12}}, // 96 bits: what Linux has unasked
	{Name: "hmac(sha384)", Kind: Auth, Keys: []int{48}, ICVs: []int{24}},
	{Name: "hmac(sha512)", Kind: Auth, Keys: []int{64}, ICVs: []int{32}},
	{Name: "hmac(md5)", Kind: Auth, Keys: []int{16}, ICVs: []int{12}, Legacy: true},
	{Name: "xcbc(aes)", Kind: Auth, Keys: []int{16}, ICVs: []int{12}, Legacy: true},
	{Name: "digest_null", Kind: Auth, Keys: []int{0}, ICVs: []int{0}, Legacy: true},
}

// The algorithms that others are told apart from.
var (
	GMAC       = mustFind(AEAD, "rfc4543(gcm(aes))")
	NullCipher = mustFind(Enc, "ecb(cipher_null)")
	NullDigest = mustFind(Auth, "digest_null")
)

func mustFind(kind Kind, name string) *Algorithm {
	a, err := Find(kind, name, true)
	if err != nil {
		panic(err)
	}
	return a
}

// Find returns the algorithm of that name or alias. Legacy ones are refused unless allowLegacy is set.
func Find(kind Kind, name string, allowLegacy bool) (*Algorithm, error) {
	var names []string
	for i := range table {
		a := &table[i]
		if a.Kind != kind {
			continue
		}
		if name != "" && (a.Name == name || a.Alias == name) {
			if a.Legacy && !allowLegacy {
				return nil, fmt.Errorf("%s %s: is not used unless allow_legacy is set (RFC 8221)", kind, a.Name)
			}
			return a, nil
		}
		if !a.Legacy || allowLegacy {
			names = append(names, a.Name)
		}
	}
	return nil, fmt.Errorf("%s %q: not known, there are %s", kind, name, strings.Join(names, ", "))
}

// All returns the table in the order it is shown. The rows are not to be changed.
func All() []*Algorithm {
	out := make([]*Algorithm, len(table))
	for i := range table {
		out[i] = &table[i]
	}
	return out
}

// CheckKey says whether a key of so many octets, salt included, fits.
func (a *Algorithm) CheckKey(octets int) error {
	if slices.Contains(a.Keys, octets-a.Salt) {
		return nil
	}
	allowed := make([]string, len(a.Keys))
	for i, k := range a.Keys {
		allowed[i] = fmt.Sprint(k + a.Salt)
	}
	with := ""
	if a.Salt != 0 {
		with = fmt.Sprintf(", of which the last %d are the salt", a.Salt)
	}
	return fmt.Errorf("%s %s: the key has %d octets, allowed: %s%s", a.Kind, a.Name, octets, strings.Join(allowed, ", "), with)
}

// ICVLen turns a length in bits, as users give it, into octets; 0 is the default.
func (a *Algorithm) ICVLen(bits int) (octets int, err error) {
	if bits == 0 && len(a.ICVs) != 0 {
		return a.ICVs[0], nil
	}
	if bits%8 == 0 && slices.Contains(a.ICVs, bits/8) {
		return bits / 8, nil
	}
	allowed := make([]string, len(a.ICVs))
	for i, n := range a.ICVs {
		allowed[i] = fmt.Sprint(n * 8)
	}
	return 0, fmt.Errorf("%s %s: the ICV has %d bits, allowed: %s", a.Kind, a.Name, bits, strings.Join(allowed, ", "))
}

// bare is set by the linker for test/bench only: a tunnel that does no cryptography shows what the rest of it costs.
var bare string

// CheckPair says whether an enc and an auth algorithm make an ESP SA together.
func CheckPair(enc, auth *Algorithm) error {
	switch {
	case enc.Kind != Enc || auth.Kind != Auth:
		return fmt.Errorf("%s %s with %s %s: not an enc and an auth algorithm", enc.Kind, enc.Name, auth.Kind, auth.Name)
	case auth == NullDigest && enc == NullCipher && bare == "": // RFC 4303 3.2
		return fmt.Errorf("enc %s with auth %s: neither encryption nor integrity (RFC 4303 3.2)", enc.Name, auth.Name)
	case auth == NullDigest && enc.Salt != 0: // counter mode: bits flip at will
		return fmt.Errorf("enc %s with auth %s: a counter mode needs integrity (RFC 3686 1)", enc.Name, auth.Name)
	}
	return nil
}

// check is what every constructor asks first.
func (a *Algorithm) check(kind Kind, key []byte) error {
	if a.Kind != kind {
		return fmt.Errorf("%s %s: is no %s algorithm", a.Kind, a.Name, kind)
	}
	return a.CheckKey(len(key))
}
