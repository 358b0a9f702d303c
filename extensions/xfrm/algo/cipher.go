package algo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // RFC 2451, for peers that have nothing better; only with allow_legacy
	"crypto/subtle"
	"encoding/binary"
)

// Cipher encrypts and decrypts in place, without integrity. b is a multiple of the algorithm's block; iv has
// the length the algorithm says. One goroutine at a time; a Clone, which shares the key schedule, is for another.
type Cipher interface {
	Encrypt(iv, b []byte)
	Decrypt(iv, b []byte)
	Clone() Cipher
}

// NewCipher returns the cipher for a key, followed by its nonce in counter mode.
func (a *Algorithm) NewCipher(key []byte) (Cipher, error) {
	if err := a.check(Enc, key); err != nil {
		return nil, err
	}
	if a == NullCipher {
		return null{}, nil
	}
	newBlock := aes.NewCipher
	if a.Name == "cbc(des3_ede)" {
		newBlock = des.NewTripleDESCipher
	}
	block, err := newBlock(key[:len(key)-a.Salt])
	if err != nil {
		return nil, err
	}
	if a.Salt == 0 {
		return newCBC(block), nil
	}
	return &ctr{block: block, nonce: [4]byte(key[len(key)-a.Salt:])}, nil
}

// null is NULL encryption (RFC 2410).
type null struct{}

func (null) Encrypt(_, _ []byte) {}
func (null) Decrypt(_, _ []byte) {}
func (null) Clone() Cipher       { return null{} }

// mode is what crypto/cipher's CBC modes are, besides a way to set the IV without making a new one; crypto/tls
// relies on it as well.
type mode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// cbc is RFC 3602 and RFC 2451.
type cbc struct {
	block    cipher.Block
	enc, dec mode
}

func newCBC(block cipher.Block) *cbc {
	iv := make([]byte, block.BlockSize())
	return &cbc{block: block, enc: cipher.NewCBCEncrypter(block, iv).(mode), dec: cipher.NewCBCDecrypter(block, iv).(mode)}
}

func (c *cbc) Encrypt(iv, b []byte) {
	c.enc.SetIV(iv)
	c.enc.CryptBlocks(b, b)
}

func (c *cbc) Decrypt(iv, b []byte) {
	c.dec.SetIV(iv)
	c.dec.CryptBlocks(b, b)
}

func (c *cbc) Clone() Cipher { return newCBC(c.block) }

// ctr is RFC 3686: the counter block is nonce, IV and a counter that begins with 1. cipher.NewCTR would
// allocate for each packet.
type ctr struct {
	block   cipher.Block
	nonce   [4]byte
	counter [16]byte
	stream  [streamLen]byte
}

func (c *ctr) Encrypt(iv, b []byte) {
	copy(c.counter[:], c.nonce[:])
	copy(c.counter[4:], iv)
	binary.BigEndian.PutUint32(c.counter[12:], 1)
	xorStream(c.block, &c.counter, c.stream[:], b)
}

func (c *ctr) Decrypt(iv, b []byte) { c.Encrypt(iv, b) }
func (c *ctr) Clone() Cipher        { return &ctr{block: c.block, nonce: c.nonce} }

const streamLen = 512 // key stream made at once

// xorStream adds to b the key stream that begins at counter, whose last 32 bits count.
func xorStream(block cipher.Block, counter *[16]byte, stream, b []byte) {
	for len(b) > 0 {
		n := min(len(b), len(stream))
		for i := 0; i < n; i += 16 {
			block.Encrypt(stream[i:], counter[:])
			binary.BigEndian.PutUint32(counter[12:], binary.BigEndian.Uint32(counter[12:])+1)
		}
		subtle.XORBytes(b, b[:n], stream)
		b = b[n:]
	}
}
