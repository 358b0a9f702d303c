// Package rr is the return routability procedure of Mobile IPv6 (RFC 6275 5.2 and 9.4): nonces and keygen
// tokens of a correspondent node, the key of binding messages, and what authenticates them; and the key shared
// with a home agent that authenticates them instead of IPsec (RFC 4285). It is pure.
//
// A correspondent node keeps nothing of those it has given tokens: what a token was made with is found again
// by the nonce indices of the Binding Update.
package rr

import (
	"crypto/hmac"
	"crypto/sha1" // RFC 6275 5.2.4 has no other
	"fmt"
	"hash"
	"io"
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// Protocol constants (RFC 6275 12).
const (
	MaxTokenLifetime   = 210 * time.Second // MAX_TOKEN_LIFETIME: how long a mobile node uses a token
	MaxNonceLifetime   = 240 * time.Second // MAX_NONCE_LIFETIME: how long a correspondent node knows a nonce
	MaxBindingLifetime = 420 * time.Second // MAX_RR_BINDING_LIFETIME

	// NonceInterval is how long a nonce is given out (RFC 6275 5.2.7): a token is then good for
	// MAX_TOKEN_LIFETIME at least.
	NonceInterval = MaxNonceLifetime - MaxTokenLifetime
)

const (
	hidden   = "<<hidden>>"
	keyLen   = 20 // of Kcn, RFC 6275 5.2.1
	nonceLen = 8  // RFC 6275 5.2.2
	kept     = int(MaxNonceLifetime / NonceInterval)
)

// Token is a keygen token. It is not shown when printed.
type Token [8]byte

// Format hides the token from every verb.
func (Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// Key is the binding management key, Kbm. It is not shown when printed.
type Key [sha1.Size]byte

// Format hides the key from every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// nonce is a nonce with the node key of its time.
type nonce struct {
	index uint16
	since clock.Instant // first use; 0 = none here
	kcn   [keyLen]byte
	value [nonceLen]byte
}

// Nonces are the node keys and nonces of a correspondent node. One goroutine owns them.
//
// A nonce is made when one is needed and the last one is older than NonceInterval, and with it a node key, so
// that an index tells both (RFC 6275 5.2.7). The last eight are known.
type Nonces struct {
	random func([]byte)
	ring   [kept]nonce
	last   int // the slot of the newest
}

// New returns Nonces without any. random fills what it is given with octets that nobody can foresee.
func New(random func([]byte)) *Nonces {
	n := &Nonces{random: random}
	// A start at random: tokens from before a restart are then of an unknown index, which is answered, and not
	// of a known one with another key, which is not.
	var b [2]byte
	random(b[:])
	n.ring[n.last].index = uint16(b[0])<<8 | uint16(b[1])
	return n
}

// Expire discards what is too old; see [Nonces.Deadline].
func (n *Nonces) Expire(now clock.Instant) {
	for i := range n.ring {
		if s := &n.ring[i]; s.since != 0 && now.Sub(s.since) >= MaxNonceLifetime {
			*s = nonce{index: s.index}
		}
	}
}

// Deadline returns when [Nonces.Expire] has something to do.
func (n *Nonces) Deadline() clock.Instant {
	at := clock.Never
	for i := range n.ring {
		if s := &n.ring[i]; s.since != 0 {
			at = clock.Earliest(at, s.since.Add(MaxNonceLifetime))
		}
	}
	return at
}

// current returns the nonce that tokens are made with.
func (n *Nonces) current(now clock.Instant) *nonce {
	n.Expire(now)
	s := &n.ring[n.last]
	if s.since != 0 && now.Sub(s.since) < NonceInterval {
		return s
	}
	index := s.index + 1
	n.last = (n.last + 1) % kept
	s = &n.ring[n.last]
	s.index, s.since = index, max(now, 1)
	n.random(s.kcn[:])
	n.random(s.value[:])
	return s
}

// find returns the nonce of an index; nil when it is not known or too old.
func (n *Nonces) find(now clock.Instant, index uint16) *nonce {
	for i := range n.ring {
		if s := &n.ring[i]; s.since != 0 && s.index == index && now.Sub(s.since) < MaxNonceLifetime {
			return s
		}
	}
	return nil
}

// token makes First(64, HMAC_SHA1(Kcn, address | nonce | kind)) (RFC 6275 5.2.5).
func (s *nonce) token(a netip.Addr, kind byte) (t Token) {
	var in [16 + nonceLen + 1]byte
	v := a.As16()
	copy(in[:], v[:])
	copy(in[16:], s.value[:])
	in[16+nonceLen] = kind
	h := hmac.New(sha1.New, s.kcn[:])
	h.Write(in[:])
	copy(t[:], h.Sum(nil))
	return t
}

// The octet that tells the tokens apart.
const (
	kindHome   = 0
	kindCareOf = 1
)

// Home returns the home keygen token of a home address and its nonce index: the answer to a Home Test Init
// (RFC 6275 9.4.3).
func (n *Nonces) Home(now clock.Instant, home netip.Addr) (index uint16, t Token) {
	s := n.current(now)
	return s.index, s.token(home, kindHome)
}

// CareOf returns the care-of keygen token of a care-of address and its nonce index: the answer to a Care-of
// Test Init (RFC 6275 9.4.4).
func (n *Nonces) CareOf(now clock.Instant, careOf netip.Addr) (index uint16, t Token) {
	s := n.current(now)
	return s.index, s.token(careOf, kindCareOf)
}

// Claim is what a Binding Update says about the tokens it was made with.
type Claim struct {
	Home, CareOf           netip.Addr
	HomeIndex, CareOfIndex uint16
	// Delete says that the binding is to be deleted: the key depends on the home keygen token alone, and the
	// care-of nonce index is not looked at (RFC 6275 9.5.1).
	Delete bool
}

// Key makes the tokens of a Binding Update again, and of them its key. Without one the status says which of
// the nonces is not known any more (RFC 6275 9.5.1).
func (n *Nonces) Key(now clock.Instant, c Claim) (Key, wire.Status) {
	h, co := n.find(now, c.HomeIndex), n.find(now, c.CareOfIndex)
	switch {
	case c.Delete && h == nil, h == nil && co != nil:
		return Key{}, wire.ExpiredHomeNonce
	case c.Delete:
		return DeletionKey(h.token(c.Home, kindHome)), wire.Accepted
	case h == nil:
		return Key{}, wire.ExpiredNonces
	case co == nil:
		return Key{}, wire.ExpiredCareOfNonce
	}
	return BindingKey(h.token(c.Home, kindHome), co.token(c.CareOf, kindCareOf)), wire.Accepted
}

// Known returns until when a nonce index is known; now or before when it is not.
func (n *Nonces) Known(now clock.Instant, index uint16) clock.Instant {
	if s := n.find(now, index); s != nil {
		return s.since.Add(MaxNonceLifetime)
	}
	return now
}

// Nonce is what is shown of one.
type Nonce struct {
	Index uint16
	Since clock.Instant // first use
}

// List returns the nonces that are known, the newest first.
func (n *Nonces) List(now clock.Instant) (list []Nonce) {
	for i := range kept {
		if s := &n.ring[(n.last-i+kept)%kept]; s.since != 0 && now.Sub(s.since) < MaxNonceLifetime {
			list = append(list, Nonce{s.index, s.since})
		}
	}
	return list
}

// BindingKey makes Kbm of both tokens (RFC 6275 5.2.5).
func BindingKey(home, careOf Token) Key {
	var in [2 * len(home)]byte
	copy(in[:], home[:])
	copy(in[len(home):], careOf[:])
	return sha1.Sum(in[:])
}

// DeletionKey makes Kbm of the home keygen token alone, for a message that deletes a binding (RFC 6275 5.2.5).
func DeletionKey(home Token) Key { return sha1.Sum(home[:]) }

// digest writes what all authenticators begin with: two addresses and the Mobility Header as if its checksum
// were zero.
func digest(h hash.Hash, a, b netip.Addr, mh []byte) {
	x, y := a.As16(), b.As16()
	h.Write(x[:])
	h.Write(y[:])
	h.Write(mh[:4])
	h.Write([]byte{0, 0})
	h.Write(mh[6:])
}

// authenticator makes First(96, HMAC_SHA1(Kbm, care-of address | correspondent | MH data)) (RFC 6275 6.2.7).
func authenticator(k Key, careOf, correspondent netip.Addr, mh []byte) [wire.AuthenticatorLen]byte {
	h := hmac.New(sha1.New, k[:])
	digest(h, careOf, correspondent, mh[:len(mh)-wire.AuthenticatorLen])
	return [wire.AuthenticatorLen]byte(h.Sum(nil))
}

// minSigned is the shortest Mobility Header that can have an authenticator: 12 octets, 6 of Nonce Indices or
// padding, Binding Authorization Data.
const minSigned = 32

// Sign writes the authenticator of a Binding Update or Acknowledgement into its last octets (RFC 6275 6.2.7).
// mh is the whole Mobility Header, which ends with Binding Authorization Data. careOf is the care-of address
// of the binding: that of an Alternate Care-of Address option, or the home address where that is the care-of
// address. The correspondent is the node that keeps the binding, by its home address if it is mobile itself.
func Sign(k Key, careOf, correspondent netip.Addr, mh []byte) {
	if len(mh) < minSigned {
		return
	}
	a := authenticator(k, careOf, correspondent, mh)
	copy(mh[len(mh)-wire.AuthenticatorLen:], a[:])
}

// Verify reports, in constant time, whether a message has the right authenticator; the arguments are those of
// [Sign].
func Verify(k Key, careOf, correspondent netip.Addr, mh []byte) bool {
	if len(mh) < minSigned {
		return false
	}
	a := authenticator(k, careOf, correspondent, mh)
	return hmac.Equal(a[:], mh[len(mh)-wire.AuthenticatorLen:])
}
