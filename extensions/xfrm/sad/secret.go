package sad

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// hidden is what is shown of a key.
const hidden = "<hidden>"

// Secret is a key that no way of printing shows; only [Secret.Reveal] does. The octets are behind two
// pointers: fmt does not call the methods of what is in an unexported field, and follows one.
type Secret struct{ p **[]byte }

// NewSecret returns a secret with a copy of b.
func NewSecret(b []byte) Secret {
	c := bytes.Clone(b)
	p := &c
	return Secret{&p}
}

// ParseSecret reads a key as ip xfrm takes it: 0x and hexadecimal digits, an odd one first standing for
// half an octet of zero; or else the characters themselves. An error does not repeat it.
func ParseSecret(s string) (Secret, error) {
	if len(s) < 2 || s[:2] != "0x" {
		return NewSecret([]byte(s)), nil
	}
	if s = s[2:]; len(s)%2 != 0 {
		s = "0" + s
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return Secret{}, errors.New("it has other than hexadecimal digits") // the decoder's error shows one
	}
	return NewSecret(b), nil
}

// FileSecret reads what is in the file of a key: as [ParseSecret], but that there may be blanks and line ends around the
// digits.
func FileSecret(b []byte) (Secret, error) {
	if t := bytes.TrimSpace(b); bytes.HasPrefix(t, []byte("0x")) {
		b = t
	}
	return ParseSecret(string(b))
}

// Reveal returns the octets, which belong to the secret.
func (s Secret) Reveal() []byte {
	if s.p == nil {
		return nil
	}
	return **s.p
}

// Len is the number of octets.
func (s Secret) Len() int { return len(s.Reveal()) }

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1 }

// String hides the key.
func (s Secret) String() string { return hidden }

// Format hides the key from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the key, from encoding/json too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
