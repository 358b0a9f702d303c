package wire

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/wire"
)

// Builder writes one message behind what a buffer has. Its methods are called in the order New..., options,
// [Builder.Close] if something is computed over the message, [Builder.Finish]. Options come in the order of
// the calls, aligned and padded as their types want it. It allocates only where the buffer is too small.
type Builder struct {
	b      []byte
	at     int // where the message begins
	closed bool
}

// maxLen is the longest Mobility Header.
const maxLen = 256 * 8

func begin(b []byte, typ uint8) Builder {
	return Builder{b: append(b, wire.NoNext, 0, typ, 0, 0, 0), at: len(b)}
}

func (w *Builder) word(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }

// NewRefreshRequest begins a Binding Refresh Request (RFC 6275 6.1.2).
func NewRefreshRequest(b []byte) Builder {
	w := begin(b, TypeBRR)
	w.word(0)
	return w
}

// NewTestInit begins a Home or Care-of Test Init; typ is [TypeHoTI] or [TypeCoTI] (RFC 6275 6.1.3, 6.1.4).
func NewTestInit(b []byte, typ uint8, cookie [8]byte) Builder {
	w := begin(b, typ)
	w.word(0)
	w.b = append(w.b, cookie[:]...)
	return w
}

// NewTest begins a Home or Care-of Test; typ is [TypeHoT] or [TypeCoT] (RFC 6275 6.1.5, 6.1.6).
func NewTest(b []byte, typ uint8, nonceIndex uint16, cookie, token [8]byte) Builder {
	w := begin(b, typ)
	w.word(nonceIndex)
	w.b = append(append(w.b, cookie[:]...), token[:]...)
	return w
}

// NewBindingUpdate begins a Binding Update (RFC 6275 6.1.7); the lifetime is in units of four seconds.
func NewBindingUpdate(b []byte, sequence, flags, lifetime uint16) Builder {
	w := begin(b, TypeBU)
	w.word(sequence)
	w.word(flags)
	w.word(lifetime)
	return w
}

// NewBindingAck begins a Binding Acknowledgement (RFC 6275 6.1.8); the lifetime is in units of four seconds.
func NewBindingAck(b []byte, status Status, flags uint8, sequence, lifetime uint16) Builder {
	w := begin(b, TypeBA)
	w.b = append(w.b, uint8(status), flags)
	w.word(sequence)
	w.word(lifetime)
	return w
}

// NewBindingError begins a Binding Error (RFC 6275 6.1.9); home is the unspecified address where the packet at
// fault had no Home Address option.
func NewBindingError(b []byte, status uint8, home netip.Addr) Builder {
	w := begin(b, TypeBE)
	a := home.As16()
	w.b = append(append(w.b, status, 0), a[:]...)
	return w
}

// pad appends padding until the message has x*n+y octets.
func (w *Builder) pad(x, y int) {
	n := ((y-len(w.b)+w.at)%x + x) % x
	switch {
	case n == 1:
		w.b = append(w.b, OptPad1)
	case n > 1:
		w.b = append(w.b, OptPadN, byte(n-2))
		w.b = append(w.b, make([]byte, n-2)...)
	}
}

// option appends the head of an option where its type may stand.
func (w *Builder) option(typ uint8, n int) {
	w.pad(forms[typ].x, forms[typ].y)
	w.b = append(w.b, typ, byte(n))
}

// RefreshAdvice appends Binding Refresh Advice, in units of four seconds (RFC 6275 6.2.4).
func (w *Builder) RefreshAdvice(interval uint16) {
	w.option(OptRefreshAdvice, 2)
	w.word(interval)
}

// AlternateCareOf appends an Alternate Care-of Address (RFC 6275 6.2.5).
func (w *Builder) AlternateCareOf(a netip.Addr) {
	w.option(OptAlternateCareOf, 16)
	v := a.As16()
	w.b = append(w.b, v[:]...)
}

// NonceIndices appends Nonce Indices (RFC 6275 6.2.6).
func (w *Builder) NonceIndices(home, careOf uint16) {
	w.option(OptNonceIndices, 4)
	w.word(home)
	w.word(careOf)
}

// MobileNetwork appends a Mobile Network Prefix (RFC 3963 4.3) if the message has room for it and for what
// authenticates it.
func (w *Builder) MobileNetwork(p netip.Prefix) bool {
	if len(w.b)-w.at > maxLen-64 {
		return false
	}
	w.option(OptMobileNetwork, 18)
	a := p.Masked().Addr().As16()
	w.b = append(append(w.b, 0, byte(p.Bits())), a[:]...)
	return true
}

// Identifier appends a Mobile Node Identifier of up to 254 octets (RFC 4283 3). It has to stand before what
// authenticates the message.
func (w *Builder) Identifier(subtype uint8, id []byte) {
	id = id[:min(len(id), 254)]
	w.option(OptIdentifier, 1+len(id))
	w.b = append(append(w.b, subtype), id...)
}

// Timestamp appends a Replay Protection option with an NTP timestamp (RFC 4285 6).
func (w *Builder) Timestamp(ntp uint64) {
	w.option(OptReplayProtection, 8)
	w.b = binary.BigEndian.AppendUint64(w.b, ntp)
}

// Authorization appends Binding Authorization Data (RFC 6275 6.2.7), the last option there can be, with an
// authenticator of zeros: the last octets of what [Builder.Close] returns.
func (w *Builder) Authorization() {
	w.option(OptAuthorization, AuthenticatorLen)
	w.b = append(w.b, make([]byte, AuthenticatorLen)...)
}

// Authentication appends a Mobility Message Authentication option (RFC 4285 5) with data of zeros, which
// begins at that offset of what [Builder.Close] returns: what it protects ends there.
func (w *Builder) Authentication(subtype uint8, spi uint32) int {
	w.option(OptAuthentication, 5+AuthenticatorLen)
	w.b = binary.BigEndian.AppendUint32(append(w.b, subtype), spi)
	w.b = append(w.b, make([]byte, AuthenticatorLen)...)
	return len(w.b) - AuthenticatorLen - w.at
}

// Close completes the message but for its checksum, which is zero, and returns it: authenticators are
// computed over that and written into it.
func (w *Builder) Close() []byte {
	if !w.closed {
		w.pad(8, 0)
		w.b[w.at+offLen] = byte((len(w.b)-w.at)/8 - 1)
		w.closed = true
	}
	return w.b[w.at:]
}

// Finish writes the checksum between the addresses that [Parse] takes and returns the whole buffer.
func (w *Builder) Finish(src, dst netip.Addr) []byte {
	m := w.Close()
	s, d := src.As16(), dst.As16()
	binary.BigEndian.PutUint16(m[offChecksum:], wire.Checksum(&s, &d, wire.MH, m))
	return w.b
}
