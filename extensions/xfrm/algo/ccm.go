package algo

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"slices"
)

// ccm is AES-CCM as RFC 4309 uses it: nonces of 11 octets, lengths of 4 (RFC 3610 with L = 4). The arrays are
// here and not on the stack because what goes through an interface is allocated.
type ccm struct {
	block   cipher.Block
	icv     int
	mac     [16]byte
	counter [16]byte
	first   [16]byte // key stream of counter 0, for the tag
	stream  [streamLen]byte
}

const ccmLengthLen = 4 // L

func newCCM(block cipher.Block, icv int) *ccm { return &ccm{block: block, icv: icv} }

func (c *ccm) Clone() AEADCipher { return newCCM(c.block, c.icv) }
func (c *ccm) NonceSize() int    { return 15 - ccmLengthLen }
func (c *ccm) Overhead() int     { return c.icv }

// start makes the first counter block and the key stream for the tag (RFC 3610 2.3).
func (c *ccm) start(nonce []byte) {
	c.counter = [16]byte{ccmLengthLen - 1}
	copy(c.counter[1:], nonce)
	c.block.Encrypt(c.first[:], c.counter[:])
	c.counter[15] = 1
}

// tag computes the encrypted tag into mac (RFC 3610 2.2).
func (c *ccm) tag(nonce, plaintext, aad []byte) {
	c.mac = [16]byte{uint8((c.icv-2)/2<<3 | ccmLengthLen - 1)}
	copy(c.mac[1:], nonce)
	binary.BigEndian.PutUint32(c.mac[12:], uint32(len(plaintext)))
	if len(aad) != 0 { // at most 12 octets: with their length one block
		c.mac[0] |= 1 << 6
		c.block.Encrypt(c.mac[:], c.mac[:])
		c.mac[0] ^= uint8(len(aad) >> 8)
		c.mac[1] ^= uint8(len(aad))
		subtle.XORBytes(c.mac[2:], c.mac[2:], aad)
	}
	c.block.Encrypt(c.mac[:], c.mac[:])
	for len(plaintext) > 0 {
		n := subtle.XORBytes(c.mac[:], c.mac[:], plaintext)
		c.block.Encrypt(c.mac[:], c.mac[:])
		plaintext = plaintext[n:]
	}
	subtle.XORBytes(c.mac[:], c.mac[:], c.first[:])
}

func (c *ccm) Seal(dst, nonce, plaintext, aad []byte) []byte {
	n, at := len(plaintext), len(dst)
	c.start(nonce)
	c.tag(nonce, plaintext, aad)
	dst = slices.Grow(dst, n+c.icv)[:at+n+c.icv]
	copy(dst[at:], plaintext) // nothing to do when in place
	xorStream(c.block, &c.counter, c.stream[:], dst[at:at+n])
	copy(dst[at+n:], c.mac[:c.icv])
	return dst
}

func (c *ccm) Open(dst, nonce, ciphertext, aad []byte) ([]byte, error) {
	n, at := len(ciphertext)-c.icv, len(dst)
	if n < 0 {
		return nil, errOpen
	}
	c.start(nonce)
	dst = slices.Grow(dst, n)[:at+n]
	copy(dst[at:], ciphertext)
	xorStream(c.block, &c.counter, c.stream[:], dst[at:])
	c.tag(nonce, dst[at:], aad)
	if subtle.ConstantTimeCompare(c.mac[:c.icv], ciphertext[n:]) != 1 {
		clear(dst[at:])
		return nil, errOpen
	}
	return dst, nil
}
