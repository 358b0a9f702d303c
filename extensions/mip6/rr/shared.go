package rr

import (
	"crypto/hmac"
	"crypto/sha1" // RFC 4285 5.1 has no other
	"fmt"
	"net/netip"
	"time"

	"leveret/extensions/mip6/wire"
)

// The window of timestamps (RFC 4285 5.1).
const (
	DefaultTimestampWindow = 7 * time.Second
	MinTimestampWindow     = 3 * time.Second
)

// MinSPI is the first mobility SPI that is not reserved (RFC 4285 5.1).
const MinSPI = 256

// SharedKeyLen is the length of a key shared between a mobile node and its home agent (RFC 4285 5.1).
const SharedKeyLen = 16

// SharedKey is a key shared between a mobile node and its home agent. It is not shown when printed.
type SharedKey struct{ k Key }

// NewSharedKey returns the key of 16 octets.
func NewSharedKey(b [SharedKeyLen]byte) (s SharedKey) {
	copy(s.k[:], b[:])
	return s
}

// Format hides the key from every verb.
func (s SharedKey) Format(f fmt.State, verb rune) { s.k.Format(f, verb) }

// mac makes First(96, HMAC_SHA1(key, care-of address | home address | MH data)) (RFC 4285 5.1).
func (s SharedKey) mac(careOf, home netip.Addr, covered []byte) [wire.AuthenticatorLen]byte {
	h := hmac.New(sha1.New, s.k[:SharedKeyLen])
	digest(h, careOf, home, covered)
	return [wire.AuthenticatorLen]byte(h.Sum(nil))
}

// SignHome returns the data of an MN-HA authentication option; covered is the Mobility Header up to and with
// the option's SPI, with its length final.
func (s SharedKey) SignHome(careOf, home netip.Addr, covered []byte) [wire.AuthenticatorLen]byte {
	return s.mac(careOf, home, covered)
}

// VerifyHome reports, in constant time, whether an MN-HA authentication option is right.
func (s SharedKey) VerifyHome(careOf, home netip.Addr, a wire.Authentication) bool {
	m := s.mac(careOf, home, a.Covered)
	return hmac.Equal(m[:], a.Data)
}

// Timestamp checks the timestamp of an authentic Binding Update (RFC 4285 6): it has to be within the window
// around the home agent's time and later than the last one accepted. All are in NTP's format. answer is what
// the acknowledgement has: the timestamp itself, or with the high half of the home agent's time.
func Timestamp(ts, last, now uint64, window time.Duration) (ok bool, answer uint64) {
	diff := ts - now
	if int64(diff) < 0 {
		diff = -diff
	}
	w := uint64(window/time.Second)<<32 | uint64(window%time.Second)<<32/uint64(time.Second)
	if diff <= w && ts > last {
		return true, ts
	}
	return false, now&^0xffffffff | ts&0xffffffff
}
