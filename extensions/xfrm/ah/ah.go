// Package ah protects and verifies IPv6 packets with AH (RFC 4302). It writes and checks the AH header and knows
// what of the headers before it may change on the way; where AH goes, sequence numbers and replay windows are the
// caller's. It is pure and does not allocate for a packet.
//
//	Next Header | Payload Len | Reserved | SPI | Sequence Number | [IV] | ICV | zeroes to 8 octets
//
// AH is computed over a whole packet, in tunnel mode the outer one. Only AH in IPv6 packets is built.
package ah

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"leveret/appliance/wire"
	"leveret/extensions/xfrm/algo"
)

// The errors of a packet. ErrShort and ErrLength are XfrmInHdrError, ErrHeaders and ErrICV XfrmInStateProtoError,
// the last counts as integrity_failed too.
var (
	ErrShort    = errors.New("AH: the packet does not have the length its header says, or ends inside AH")
	ErrLength   = errors.New("AH: the header is not as long as the SA's ICV needs")
	ErrHeaders  = errors.New("AH: headers before it that cannot be protected")
	ErrICV      = errors.New("AH: not authentic")
	ErrRoom     = errors.New("AH: no room behind the packet")
	ErrSequence = errors.New("AH: sequence number beyond 32 bits")
)

const (
	fixedLen = 12 // up to the ICV
	// maxHeaders is how much may come before AH: RFC 8504 5.3 lets a node set such a limit.
	maxHeaders = 4096
)

// Params are what an SA is made of. Key is not kept.
type Params struct {
	SPI  uint32
	ESN  bool
	Auth *algo.Algorithm // an auth algorithm, or GMAC (RFC 4543 4)
	Key  []byte          // with its salt
	ICV  int             // octets, as [algo.Algorithm.ICVLen] returns them
}

// SA is what the packets of one direction are worked with. One goroutine at a time uses it; a [SA.Clone] is for
// another.
type SA struct {
	spi       uint32
	esn       bool
	iv        int // length of the IV: 0, with GMAC 8
	icv       int
	headerLen int

	mac  hash.Cloner
	gmac algo.AEADCipher // instead of mac

	// saved are the headers as they were, while those that may change are hidden in the packet itself.
	saved []byte
	nonce [12]byte // salt and IV
	high  [4]byte
	tag   [64]byte
}

// New makes an SA and its key schedule.
func New(p Params) (*SA, error) {
	s := &SA{spi: p.SPI, esn: p.ESN, saved: make([]byte, 0, 256)}
	var err error
	switch {
	case p.Auth == nil || p.Auth == algo.NullDigest:
		return nil, errors.New("AH: without an auth algorithm there is nothing to protect with")
	case p.Auth == algo.GMAC:
		var salt []byte
		if s.gmac, salt, err = p.Auth.NewAEAD(p.Key, p.ICV); err != nil {
			return nil, err
		}
		copy(s.nonce[:], salt)
		s.iv = p.Auth.IV
	case p.Auth.Kind != algo.Auth:
		return nil, fmt.Errorf("AH: %s %s is no auth algorithm", p.Auth.Kind, p.Auth.Name)
	default:
		if s.mac, err = p.Auth.NewMAC(p.Key); err != nil {
			return nil, err
		}
	}
	if s.icv, err = p.Auth.ICVLen(p.ICV * 8); err != nil {
		return nil, err
	}
	// DEVIATION(RFC 4543 4): it says that GMAC needs no padding, but 12 + 8 + 16 octets are no multiple of 8, which
	// RFC 4302 2.6 wants in IPv6.
	s.headerLen = (fixedLen + s.iv + s.icv + 7) &^ 7
	return s, nil
}

// Clone returns an SA for another goroutine. The key schedule is shared, not made again.
func (s *SA) Clone() (*SA, error) {
	c := *s
	c.saved = make([]byte, 0, cap(s.saved))
	if s.gmac != nil {
		c.gmac = s.gmac.Clone()
		return &c, nil
	}
	var err error
	c.mac, err = s.mac.Clone()
	return &c, err
}

// SPI returns the SPI that Seal writes.
func (s *SA) SPI() uint32 { return s.spi }

// HeaderLen returns the octets of the AH header.
func (s *SA) HeaderLen() int { return s.headerLen }

// TailRoom returns the octets of capacity that Seal and Open need behind the packet; they are restored. It is 4
// for GMAC with ESN, which needs the high half of the number there, otherwise 0.
func (s *SA) TailRoom() int {
	if s.gmac != nil && s.esn {
		return len(s.high)
	}
	return 0
}

// Header returns the fields that an SA is found by; seq is the low half of the sequence number. pkt[off:] begins
// with AH.
func Header(pkt []byte, off int) (spi, seq uint32, err error) {
	if len(pkt)-off < fixedLen {
		return 0, 0, ErrShort
	}
	return binary.BigEndian.Uint32(pkt[off+4:]), binary.BigEndian.Uint32(pkt[off+8:]), nil
}

// Seal writes the AH header into the HeaderLen octets at off, of any content, of pkt, a whole IPv6 packet as it will
// be sent: the payload length counts AH, the header before AH has 51 as its next header, a Routing header has its
// segments left, the Home Address option has the home address. nextHeader is what follows AH, seq the whole sequence
// number. iv, for GMAC only, is a number that this SA and its clones, with this key, never had before.
func (s *SA) Seal(pkt []byte, off int, nextHeader uint8, seq, iv uint64) error {
	if !s.esn && seq>>32 != 0 {
		return ErrSequence
	}
	if off < wire.IPv6HeaderLen || len(pkt)-off < s.headerLen {
		return ErrShort
	}
	h := pkt[off : off+s.headerLen]
	clear(h)
	h[0], h[1] = nextHeader, uint8(s.headerLen/4-2)
	binary.BigEndian.PutUint32(h[4:], s.spi)
	binary.BigEndian.PutUint32(h[8:], uint32(seq))
	if s.gmac != nil {
		binary.BigEndian.PutUint64(h[fixedLen:], iv)
	}
	tag, err := s.sum(pkt, off, seq, true)
	copy(h[fixedLen+s.iv:], tag)
	return err
}

// Opened is what a verified header says.
type Opened struct {
	NextHeader uint8
	Len        int // of the AH header, which the caller removes
}

// Open verifies pkt, a whole IPv6 packet with AH at off, and leaves it as it is. The headers before AH have been
// worked on: a Routing header has no segments left, a Home Address option has been swapped with the source. seq is
// the whole sequence number as the replay window infers it.
func (s *SA) Open(pkt []byte, off int, seq uint64) (Opened, error) {
	if off < 0 || len(pkt)-off < fixedLen {
		return Opened{}, ErrShort
	}
	if (int(pkt[off+1])+2)*4 != s.headerLen { // RFC 4302 3.3.3.2.1: no more padding than is needed
		return Opened{}, ErrLength
	}
	if len(pkt)-off < s.headerLen {
		return Opened{}, ErrShort
	}
	want, err := s.sum(pkt, off, seq, false)
	if err != nil {
		return Opened{}, err
	}
	at := off + fixedLen + s.iv
	if subtle.ConstantTimeCompare(want, pkt[at:at+s.icv]) != 1 {
		return Opened{}, ErrICV
	}
	return Opened{NextHeader: pkt[off], Len: s.headerLen}, nil
}

// sum returns the ICV of pkt. It hides in place what is not covered, and puts it back: the payload is not copied.
func (s *SA) sum(pkt []byte, off int, seq uint64, sending bool) ([]byte, error) {
	if off < wire.IPv6HeaderLen || len(pkt) != wire.IPv6HeaderLen+int(binary.BigEndian.Uint16(pkt[4:])) {
		return nil, ErrShort
	}
	if off > maxHeaders {
		return nil, ErrHeaders
	}
	if cap(pkt)-len(pkt) < s.TailRoom() {
		return nil, ErrRoom
	}
	s.saved = append(s.saved[:0], pkt[:off+s.headerLen]...)
	defer copy(pkt, s.saved)
	if !hide(pkt, off, sending) {
		return nil, ErrHeaders
	}
	clear(pkt[off+fixedLen+s.iv:][:s.icv])
	binary.BigEndian.PutUint32(s.high[:], uint32(seq>>32))
	if s.gmac != nil {
		return s.sumGMAC(pkt, off), nil
	}
	s.mac.Reset()
	s.mac.Write(pkt)
	if s.esn { // RFC 4302 3.3.3.2.2: behind the packet, unsent
		s.mac.Write(s.high[:])
	}
	return s.mac.Sum(s.tag[:0])[:s.icv], nil
}

// sumGMAC is the tag of no plaintext; all of the packet is AAD (RFC 4543 4), and has to be in one piece.
func (s *SA) sumGMAC(pkt []byte, off int) []byte {
	copy(s.nonce[len(s.nonce)-s.iv:], pkt[off+fixedLen:])
	n := len(pkt)
	if !s.esn {
		return s.gmac.Seal(s.tag[:0], s.nonce[:], nil, pkt)
	}
	pkt = pkt[:n+len(s.high)]
	behind := [4]byte(pkt[n:])
	copy(pkt[n:], s.high[:])
	tag := s.gmac.Seal(s.tag[:0], s.nonce[:], nil, pkt)
	copy(pkt[n:], behind[:])
	return tag
}
