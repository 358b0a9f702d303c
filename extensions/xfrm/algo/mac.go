package algo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/md5"  // RFC 2403, only with allow_legacy
	"crypto/sha1" // RFC 2404: HMAC does not need what SHA-1 lost
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"hash"
)

// NewMAC returns the keyed hash for a key, nil for digest_null. It has state: one goroutine at a time uses it,
// a Clone, which shares what was made of the key, is for another. Its Sum is the whole value; the ICV is the
// first part of that.
func (a *Algorithm) NewMAC(key []byte) (hash.Cloner, error) {
	if err := a.check(Auth, key); err != nil {
		return nil, err
	}
	var h func() hash.Hash
	switch a.Name {
	case "digest_null":
		return nil, nil
	case "xcbc(aes)":
		return newXCBC(key)
	case "hmac(md5)":
		h = md5.New
	case "hmac(sha1)":
		h = sha1.New
	case "hmac(sha256)":
		h = sha256.New
	case "hmac(sha384)":
		h = sha512.New384
	case "hmac(sha512)":
		h = sha512.New
	}
	m, ok := hmac.New(h, key).(hash.Cloner)
	if !ok {
		return nil, fmt.Errorf("auth %s: cannot be cloned", a.Name)
	}
	m.Reset() // keeps the state behind the key from here on, for clones too
	return m, nil
}

// xcbc is AES-XCBC-MAC (RFC 3566 4).
type xcbc struct {
	block  cipher.Block // of K1
	k2, k3 [16]byte
	e      [16]byte // E[i]
	last   [16]byte // the block not yet worked in: one is kept back, for the last block is different
	n      int      // octets of it
	final  [16]byte
}

func newXCBC(key []byte) (*xcbc, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xcbc{}
	var k1 [16]byte
	for i, k := range []*[16]byte{&k1, &x.k2, &x.k3} {
		for j := range k {
			k[j] = uint8(i + 1)
		}
		block.Encrypt(k[:], k[:])
	}
	x.block, err = aes.NewCipher(k1[:])
	return x, err
}

func (x *xcbc) Size() int      { return 16 }
func (x *xcbc) BlockSize() int { return 16 }
func (x *xcbc) Reset()         { x.e, x.n = [16]byte{}, 0 }

func (x *xcbc) Clone() (hash.Cloner, error) {
	c := *x
	return &c, nil
}

func (x *xcbc) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if x.n == 16 {
			subtle.XORBytes(x.e[:], x.e[:], x.last[:])
			x.block.Encrypt(x.e[:], x.e[:])
			x.n = 0
		}
		m := copy(x.last[x.n:], p)
		x.n += m
		p = p[m:]
	}
	return n, nil
}

func (x *xcbc) Sum(b []byte) []byte {
	k := &x.k2
	x.final = x.last
	if x.n < 16 {
		k = &x.k3
		clear(x.final[x.n:])
		x.final[x.n] = 0x80
	}
	subtle.XORBytes(x.final[:], x.final[:], x.e[:])
	subtle.XORBytes(x.final[:], x.final[:], k[:])
	x.block.Encrypt(x.final[:], x.final[:])
	return append(b, x.final[:]...)
}
