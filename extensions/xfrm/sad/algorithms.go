package sad

import (
	"errors"
	"fmt"
	"slices"
)

// algorithm is what is known of one by name: key lengths in octets with the salt, and the lengths of the
// ICV in bits, the first of which is used where none is given.
type algorithm struct {
	name string
	keys []int
	icv  []int
}

// nullCipher is no encryption (RFC 2410).
const nullCipher = "ecb(cipher_null)"

// The names are those of the kernel's crypto API. What RFC 8221 has for MUST NOT is not here.
var (
	aeads = []algorithm{
		{"rfc4106(gcm(aes))", []int{20, 28, 36}, []int{128, 96, 64}},
		{"rfc4309(ccm(aes))", []int{19, 27, 35}, []int{128, 96, 64}},
		{"rfc4543(gcm(aes))", []int{20, 28, 36}, []int{128}},
		{"rfc7539esp(chacha20,poly1305)", []int{36}, []int{128}},
	}
	ciphers = []algorithm{
		{nullCipher, []int{0}, nil},
		{"cbc(aes)", []int{16, 24, 32}, nil},
		{"rfc3686(ctr(aes))", []int{20, 28, 36}, nil},
	}
	// DEVIATION(Linux): auth without a length is cut as RFC 4868 2.3 says; Linux cuts hmac(sha256) to 96
	// bits as a draft of it did.
	macs = []algorithm{
		{"hmac(sha1)", []int{20}, []int{96}},
		{"hmac(sha256)", []int{32}, []int{128, 96}},
		{"hmac(sha384)", []int{48}, []int{192}},
		{"hmac(sha512)", []int{64}, []int{256}},
	}
)

// Algo is one algorithm of a state. The zero Algo is none.
type Algo struct {
	Name string // in the kernel's words
	Key  Secret // with the salt behind it, if the algorithm has one
	Bits int    // of the ICV; 0 for ciphers
}

// Equal compares; keys in constant time.
func (a Algo) Equal(b Algo) bool { return a.Name == b.Name && a.Bits == b.Bits && a.Key.Equal(b.Key) }

// check compares an algorithm with those of its kind; a missing length of the ICV is filled in.
func (a *Algo) check(kind string, known []algorithm) error {
	i := slices.IndexFunc(known, func(k algorithm) bool { return k.name == a.Name })
	if i < 0 {
		return fmt.Errorf("Requested %s algorithm not found.", kind)
	}
	k := &known[i]
	if !slices.Contains(k.keys, a.Key.Len()) {
		return fmt.Errorf("%w: %s takes a key of %v octets with its salt, not %d", ErrInvalid, k.name, k.keys, a.Key.Len())
	}
	if a.Bits == 0 && len(k.icv) > 0 {
		a.Bits = k.icv[0]
	}
	if len(k.icv) > 0 && !slices.Contains(k.icv, a.Bits) {
		return fmt.Errorf("%w: %s has an ICV of %v bits, not %d", ErrInvalid, k.name, k.icv, a.Bits)
	}
	return nil
}

// checkAlgorithms says whether a state has the algorithms of its protocol.
func (s *State) checkAlgorithms() error {
	switch s.Proto {
	case COMP:
		return errors.New("Requested COMP algorithm not found.")
	case ESP:
		switch {
		case s.AEAD.Name != "" && (s.Enc.Name != "" || s.Auth.Name != ""):
			return fmt.Errorf("%w: aead is both enc and auth", ErrInvalid)
		case s.AEAD.Name != "":
			return s.AEAD.check("AEAD", aeads)
		case s.Enc.Name == "":
			return fmt.Errorf("%w: esp needs aead, or enc and auth", ErrInvalid)
		}
		if err := s.Enc.check("CRYPT", ciphers); err != nil {
			return err
		}
		if s.Auth.Name == "" {
			// DEVIATION(Linux): it takes them. RFC 8221 4: encryption without authentication MUST NOT be
			// used; RFC 4301 4.2: nor neither.
			return fmt.Errorf("%w: esp without integrity (RFC 8221 4): enc needs auth", ErrInvalid)
		}
		return s.Auth.check("AUTH", macs)
	case AH:
		if s.AEAD.Name != "" || s.Enc.Name != "" || s.Auth.Name == "" {
			return fmt.Errorf("%w: ah has auth and no other algorithm", ErrInvalid)
		}
		return s.Auth.check("AUTH", macs)
	}
	if s.AEAD.Name != "" || s.Enc.Name != "" || s.Auth.Name != "" || s.Comp != "" {
		return fmt.Errorf("%w: %s has no algorithms", ErrInvalid, s.Proto)
	}
	return nil
}
