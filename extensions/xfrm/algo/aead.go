package algo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"reflect"
	"slices"
	"unsafe"

	"golang.org/x/crypto/chacha20poly1305"
)

// AEADCipher is a [cipher.AEAD] for one goroutine; its Clone, which shares the key schedule, may be used by
// another. It works in place. Open that fails leaves no plaintext: what it would have written is zeroed or
// as it was.
type AEADCipher interface {
	cipher.AEAD
	Clone() AEADCipher
}

// errOpen is what Open says of what is not authentic.
var errOpen = errors.New("message authentication failed")

// shared is an AEAD without state.
type shared struct{ cipher.AEAD }

func (s shared) Clone() AEADCipher { return s }

// Plain returns what a cipher is without its Clone, which takes a step less to get at, and the memory that its keys are
// in, to be fetched before it is needed; nil where that is not known. Nothing may be done with that memory.
func Plain(c AEADCipher) (cipher.AEAD, []byte) {
	s, ok := c.(shared)
	if !ok {
		return c, nil
	}
	v := reflect.ValueOf(s.AEAD)
	if v.Kind() != reflect.Pointer {
		return s.AEAD, nil
	}
	return s.AEAD, unsafe.Slice((*byte)(v.UnsafePointer()), v.Elem().Type().Size())
}

// NewAEAD returns the cipher for a key followed by its salt, and the salt, which begins each nonce. icv is in
// octets.
func (a *Algorithm) NewAEAD(key []byte, icv int) (c AEADCipher, salt []byte, err error) {
	if err := a.check(AEAD, key); err != nil {
		return nil, nil, err
	}
	if _, err := a.ICVLen(icv * 8); err != nil {
		return nil, nil, err
	}
	key, salt = key[:len(key)-a.Salt], slices.Clone(key[len(key)-a.Salt:])
	if a.Name == "rfc7539esp(chacha20,poly1305)" {
		aead, err := chacha20poly1305.New(key)
		return shared{aead}, salt, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case a.Name == "rfc4309(ccm(aes))":
		return newCCM(block, icv), salt, nil
	case icv == 8:
		aead, err := cipher.NewGCM(block)
		return &gcm8{full: aead}, salt, err
	}
	aead, err := cipher.NewGCMWithTagSize(block, icv)
	return shared{aead}, salt, err
}

// gcm8 is GCM with an ICV of 8 octets (RFC 4106 6), which crypto/cipher leaves out. The ICV is the begin of
// the full tag, and a full tag is only to be had by sealing. So Open decrypts aside - in GCM that is what
// encrypts, too -, seals the result for the tag, and writes into dst when the tag is right. It costs three
// passes and a buffer as long as the longest packet so far.
type gcm8 struct {
	full    cipher.AEAD
	scratch []byte
}

func (g *gcm8) Clone() AEADCipher { return &gcm8{full: g.full} }
func (g *gcm8) NonceSize() int    { return g.full.NonceSize() }
func (g *gcm8) Overhead() int     { return 8 }

// room returns the empty scratch buffer with room for n octets and a full tag.
func (g *gcm8) room(n int) []byte {
	g.scratch = slices.Grow(g.scratch[:0], n+g.full.Overhead())
	return g.scratch[:0]
}

func (g *gcm8) Seal(dst, nonce, plaintext, aad []byte) []byte {
	out := g.full.Seal(g.room(len(plaintext)), nonce, plaintext, aad)
	return append(dst, out[:len(plaintext)+8]...)
}

func (g *gcm8) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n := len(ciphertext) - 8
	if n < 0 {
		return nil, errOpen
	}
	s := g.room(n)
	plain := g.full.Seal(s, nonce, ciphertext[:n], nil)[:n]
	tag := g.full.Seal(s, nonce, plain, aad)[n:]
	if subtle.ConstantTimeCompare(tag[:8], ciphertext[n:]) != 1 {
		return nil, errOpen
	}
	return append(dst, g.full.Seal(s, nonce, ciphertext[:n], nil)[:n]...), nil
}
