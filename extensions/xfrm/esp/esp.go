// Package esp protects and opens ESP packets (RFC 4303). It knows the part from SPI to ICV only; headers in
// front of it, sequence numbers and replay windows are the caller's. It is pure and does not allocate for a
// packet.
//
//	SPI | Sequence Number | IV | data | TFC padding | 1,2,3.. | Pad Length | Next Header | ICV
//	<---- HeaderLen() ------->   <--- Payload.Len ->  <---------- TrailerLen() ------------->
package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"leveret/extensions/xfrm/algo"
)

// The errors of a packet. ErrICV and ErrPadding are XfrmInStateProtoError, the first counts as
// integrity_failed too.
var (
	ErrShort    = errors.New("ESP: too short, or no multiple of the cipher's block")
	ErrICV      = errors.New("ESP: not authentic")
	ErrPadding  = errors.New("ESP: wrong padding")
	ErrRoom     = errors.New("ESP: the buffer has another length than header, payload and trailer")
	ErrSequence = errors.New("ESP: sequence number beyond 32 bits")
	ErrNoIVKey  = errors.New("ESP: the SA has no key for IVs")
)

const (
	fixedLen = 8 // SPI and sequence number
	// IVKeyLen is the length of the key that CBC IVs are made with.
	IVKeyLen = 16
)

// Params are what an SA is made of. Key and AuthKey are not kept.
type Params struct {
	SPI uint32
	ESN bool
	// AEAD, or Enc and Auth; the others are nil.
	AEAD, Enc, Auth *algo.Algorithm
	Key             []byte // of AEAD or Enc, with its salt
	AuthKey         []byte
	ICV             int // octets, as [algo.Algorithm.ICVLen] returns them
	// IVKey is a random secret of IVKeyLen octets that is used for nothing else, or nil. Seal needs it when
	// the cipher is a CBC; not for inbound SAs.
	IVKey []byte
}

// SA is what the octets of one direction are worked with. One goroutine at a time uses it; a [SA.Clone] is for
// another.
type SA struct {
	spi       uint32
	esn       bool
	iv        int // length of the IV
	block     int // what the ciphertext is a multiple of
	icv       int
	headerLen int
	counter   bool // the IV must not repeat; otherwise it must not be foreseen either

	aead   cipher.AEAD // nil: cipher and mac
	origin algo.AEADCipher
	keys   []byte // of aead, only to be fetched
	gmac   bool   // aead encrypts nothing
	cipher algo.Cipher
	mac    hash.Cloner // nil: no integrity
	ivs    cipher.Block

	// What goes through an interface is here and not on the stack: it would be allocated.
	nonce   [12]byte // salt and IV
	nonceIV int      // where in it the IV begins
	nonceN  int
	aad     [12]byte
	tag     [64]byte
}

// New makes an SA and its key schedules.
func New(p Params) (*SA, error) {
	s := &SA{spi: p.SPI, esn: p.ESN, icv: p.ICV}
	switch {
	case p.AEAD != nil && (p.Enc != nil || p.Auth != nil):
		return nil, fmt.Errorf("ESP: aead %s with enc or auth: one or the other", p.AEAD.Name)
	case p.AEAD != nil:
		aead, salt, err := p.AEAD.NewAEAD(p.Key, p.ICV)
		if err != nil {
			return nil, err
		}
		s.origin, s.gmac = aead, p.AEAD == algo.GMAC
		s.aead, s.keys = algo.Plain(aead)
		s.iv, s.block, s.counter = p.AEAD.IV, max(p.AEAD.Block, 4), true
		s.nonceIV = copy(s.nonce[:], salt)
		s.nonceN = s.nonceIV + s.iv
	case p.Enc != nil && p.Auth != nil:
		if err := s.pair(p); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("ESP: neither aead nor both of enc and auth")
	}
	if p.IVKey != nil {
		if len(p.IVKey) != IVKeyLen {
			return nil, fmt.Errorf("ESP: the key for IVs has %d octets instead of %d", len(p.IVKey), IVKeyLen)
		}
		var err error
		if s.ivs, err = aes.NewCipher(p.IVKey); err != nil {
			return nil, err
		}
	}
	s.headerLen = fixedLen + s.iv
	return s, nil
}

func (s *SA) pair(p Params) (err error) {
	if err := algo.CheckPair(p.Enc, p.Auth); err != nil {
		return err
	}
	if s.icv, err = p.Auth.ICVLen(p.ICV * 8); err != nil {
		return err
	}
	if s.cipher, err = p.Enc.NewCipher(p.Key); err != nil {
		return err
	}
	s.iv, s.block, s.counter = p.Enc.IV, max(p.Enc.Block, 4), p.Enc.Salt != 0
	s.mac, err = p.Auth.NewMAC(p.AuthKey)
	return err
}

// Clone returns an SA for another goroutine. Key schedules are shared, not made again.
func (s *SA) Clone() (*SA, error) {
	c := *s
	if s.aead != nil {
		c.origin = s.origin.Clone()
		c.aead, c.keys = algo.Plain(c.origin)
		return &c, nil
	}
	c.cipher = s.cipher.Clone()
	if s.mac == nil {
		return &c, nil
	}
	var err error
	c.mac, err = s.mac.Clone()
	return &c, err
}

// Ahead waits for the SA to be in the cache, and AheadKeys, after it, for its keys. What they return is to be used for nothing
// but that it is waited for. Any goroutine: they read what does not change, beside what does.
func (s *SA) Ahead() uint64 {
	x := uint64(s.spi) + uint64(s.headerLen) + uint64(s.nonceN)
	if s.ivs != nil {
		x++
	}
	return x
}

// AheadKeys waits for the keys.
func (s *SA) AheadKeys() (x uint64) {
	for i := 0; i < len(s.keys); i += 64 { // one for each line of memory
		x += uint64(s.keys[i])
	}
	return x
}

// SPI returns the SPI that Seal writes.
func (s *SA) SPI() uint32 { return s.spi }

// HeaderLen returns the octets in front of the payload: SPI, sequence number and IV.
func (s *SA) HeaderLen() int { return s.headerLen }

// TrailerLen returns the octets behind a payload of so many octets, TFC padding included: padding, Pad
// Length, Next Header and ICV.
func (s *SA) TrailerLen(payload int) int { return s.padding(payload) + 2 + s.icv }

// MaxTrailerLen returns the longest trailer there can be.
func (s *SA) MaxTrailerLen() int { return s.block - 1 + 2 + s.icv }

// MaxPayload returns the longest payload whose ESP, from SPI to ICV, fits into room octets; 0 when none does.
func (s *SA) MaxPayload(room int) int { return max(0, (room-s.headerLen-s.icv)&^(s.block-1)-2) }

// padding is the least that makes payload, padding and two octets a multiple of the block (RFC 4303 2.4).
func (s *SA) padding(payload int) int { return -(payload + 2) & (s.block - 1) }

// Header returns the fields that an SA is found by; seq is the low half of the sequence number. pkt[off:] is
// ESP.
func Header(pkt []byte, off int) (spi, seq uint32, err error) {
	if len(pkt)-off < fixedLen {
		return 0, 0, ErrShort
	}
	return binary.BigEndian.Uint32(pkt[off:]), binary.BigEndian.Uint32(pkt[off+4:]), nil
}

// Payload is what is to be protected.
type Payload struct {
	Len        int   // octets of data
	TFC        int   // octets of TFC padding behind it (RFC 4303 2.7)
	NextHeader uint8 // what the data is; 59 = a dummy packet
}

// Seal makes ESP of pkt[off:], in place: HeaderLen octets of any content, the payload, room for the TFC
// padding, TrailerLen octets of any content, and nothing else. seq is the whole sequence number. iv is a
// number that this SA and its clones, with this key, never had before: a repeated one breaks all ciphers but
// CBC.
//
// With rfc4543(gcm(aes)) and ESN the 4 octets before off are needed and restored.
func (s *SA) Seal(pkt []byte, off int, p Payload, seq, iv uint64) error {
	if off < 0 || p.Len < 0 || p.TFC < 0 || len(pkt)-off != s.headerLen+p.Len+p.TFC+s.TrailerLen(p.Len+p.TFC) {
		return ErrRoom
	}
	switch field := pkt[off+fixedLen : off+s.headerLen]; {
	case s.counter:
		binary.BigEndian.PutUint64(field, iv)
	case s.iv != 0:
		if s.ivs == nil {
			return ErrNoIVKey
		}
		// RFC 3602 3, RFC 2451 3: random and unpredictable. A permutation that nobody else knows, of numbers
		// that do not repeat, is both (NIST SP 800-38A appendix C).
		clear(s.tag[:16])
		binary.BigEndian.PutUint64(s.tag[:], iv)
		s.ivs.Encrypt(s.tag[:16], s.tag[:16])
		copy(field, s.tag[:])
	}
	return s.seal(pkt, off, p, seq)
}

// seal is Seal with the IV in its place.
func (s *SA) seal(pkt []byte, off int, p Payload, seq uint64) error {
	if !s.esn && seq>>32 != 0 {
		return ErrSequence
	}
	esp := pkt[off:]
	binary.BigEndian.PutUint32(esp, s.spi)
	binary.BigEndian.PutUint32(esp[4:], uint32(seq))
	end := len(esp) - s.icv
	clear(esp[s.headerLen+p.Len:][:p.TFC])
	pad := esp[s.headerLen+p.Len+p.TFC : end-2]
	for i := range pad {
		pad[i] = uint8(i + 1)
	}
	esp[end-2], esp[end-1] = uint8(len(pad)), p.NextHeader

	if s.aead == nil {
		s.cipher.Encrypt(esp[fixedLen:s.headerLen], esp[s.headerLen:end])
		copy(esp[end:], s.sum(esp[:end], seq))
		return nil
	}
	copy(s.nonce[s.nonceIV:], esp[fixedLen:s.headerLen])
	if !s.gmac {
		s.aead.Seal(esp[s.headerLen:s.headerLen], s.nonce[:s.nonceN], esp[s.headerLen:end], s.header(esp, seq))
		return nil
	}
	var saved [4]byte
	aad, ok := s.spread(pkt, off, off+end, seq, &saved)
	if !ok {
		return ErrRoom
	}
	s.aead.Seal(esp[end:end], s.nonce[:s.nonceN], nil, aad)
	s.gather(pkt, off, &saved)
	return nil
}

// Opened is what came out of a packet.
type Opened struct {
	Off, Len   int // where in the packet the payload is, TFC padding included
	NextHeader uint8
}

// Open verifies and decrypts pkt[off:], ESP up to its last octet, in place. seq is the whole sequence number as
// the replay window infers it; without ESN its low half is all there is. Nothing of a packet that is not
// authentic comes out: its payload is as it was or zeroed. A dummy packet (next header 59) comes out as any
// other. Seal's note on the octets before off holds here too.
func (s *SA) Open(pkt []byte, off int, seq uint64) (Opened, error) {
	n := len(pkt) - off - s.headerLen - s.icv // payload and padding
	if off < 0 || n < 2 || s.block > 4 && n%s.block != 0 {
		return Opened{}, ErrShort
	}
	esp := pkt[off:]
	end := s.headerLen + n
	body := esp[s.headerLen:end]
	if s.aead == nil {
		if s.mac != nil && subtle.ConstantTimeCompare(s.sum(esp[:end], seq), esp[end:]) != 1 {
			return Opened{}, ErrICV
		}
		s.cipher.Decrypt(esp[fixedLen:s.headerLen], body)
	} else if err := s.openAEAD(pkt, off, end, seq); err != nil {
		return Opened{}, err
	}

	pad := int(body[n-2])
	if pad+2 > n {
		return Opened{}, ErrPadding
	}
	for i, b := range body[n-2-pad : n-2] { // RFC 4303 2.4
		if b != uint8(i+1) {
			return Opened{}, ErrPadding
		}
	}
	return Opened{Off: off + s.headerLen, Len: n - 2 - pad, NextHeader: body[n-1]}, nil
}

func (s *SA) openAEAD(pkt []byte, off, end int, seq uint64) error {
	esp := pkt[off:]
	copy(s.nonce[s.nonceIV:], esp[fixedLen:s.headerLen])
	if !s.gmac {
		if _, err := s.aead.Open(esp[s.headerLen:s.headerLen], s.nonce[:s.nonceN], esp[s.headerLen:], s.header(esp, seq)); err != nil {
			return ErrICV
		}
		return nil
	}
	var saved [4]byte
	aad, ok := s.spread(pkt, off, off+end, seq, &saved)
	if !ok {
		return ErrShort
	}
	_, err := s.aead.Open(s.tag[:0], s.nonce[:s.nonceN], esp[end:], aad)
	s.gather(pkt, off, &saved)
	if err != nil {
		return ErrICV
	}
	return nil
}

// sum returns the ICV of ESP up to Next Header; the high half of the number follows there, unsent (RFC 4303
// 2.2.1).
func (s *SA) sum(esp []byte, seq uint64) []byte {
	if s.mac == nil {
		return nil
	}
	s.mac.Reset()
	s.mac.Write(esp)
	if s.esn {
		binary.BigEndian.PutUint32(s.aad[:], uint32(seq>>32))
		s.mac.Write(s.aad[:4])
	}
	return s.mac.Sum(s.tag[:0])[:s.icv]
}

// header returns the AAD of combined modes: SPI and whole sequence number (RFC 4106 5).
func (s *SA) header(esp []byte, seq uint64) []byte {
	if !s.esn {
		copy(s.aad[:], esp[:fixedLen])
		return s.aad[:fixedLen]
	}
	copy(s.aad[:], esp[:4])
	binary.BigEndian.PutUint32(s.aad[4:], uint32(seq>>32))
	copy(s.aad[8:], esp[4:fixedLen])
	return s.aad[:]
}

// spread returns the AAD of GMAC: SPI, whole sequence number and all up to Next Header in one piece. With ESN the SPI
// moves 4 octets to the front for the high half of the number, over octets that gather puts back.
//
// DEVIATION(RFC 4543 3.3): the IV is part of it, as figure 4 and Linux have it and figures 2 and 3 do not.
func (s *SA) spread(pkt []byte, off, end int, seq uint64, saved *[4]byte) (aad []byte, ok bool) {
	if !s.esn {
		return pkt[off:end], true
	}
	if off < 4 {
		return nil, false
	}
	copy(saved[:], pkt[off-4:])
	copy(pkt[off-4:off], pkt[off:])
	binary.BigEndian.PutUint32(pkt[off:], uint32(seq>>32))
	return pkt[off-4 : end], true
}

func (s *SA) gather(pkt []byte, off int, saved *[4]byte) {
	if s.esn {
		copy(pkt[off:], pkt[off-4:off])
		copy(pkt[off-4:], saved[:])
	}
}
