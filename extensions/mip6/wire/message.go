package wire

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/wire"
)

// Offsets in the Mobility Header.
const (
	offLen      = 1
	offType     = 2
	offChecksum = 4
	offData     = 6
)

// Message is one valid Mobility Header.
type Message struct{ b []byte }

// Parse checks the Mobility Header at off of a whole IPv6 packet, in the order of RFC 6275 9.2. The addresses
// are those of the checksum (6.1.1): src is that of the Home Address option if there is one, dst that of the
// Type 2 Routing header. Options that are known must be aligned and of their type's length, and nothing may
// stand behind what authenticates an update or an acknowledgement; otherwise the message is discarded
// silently.
func Parse(pkt []byte, off int, src, dst netip.Addr) (Message, Fault) {
	if off < 0 || off > len(pkt)-8 {
		return Message{}, Fault{Truncated, max(off, 0)}
	}
	n := (int(pkt[off+offLen]) + 1) * 8
	if n > len(pkt)-off {
		return Message{}, Fault{Truncated, off + offLen}
	}
	b := pkt[off : off+n : off+n]
	typ := b[offType]
	switch {
	case !verify(b, wire.MH, src, dst):
		return Message{}, Fault{BadChecksum, off + offChecksum}
	case typ >= types:
		return Message{}, Fault{UnrecognizedType, off + offType}
	case b[0] != wire.NoNext:
		return Message{}, Fault{Piggybacked, off}
	case n < fixed[typ]:
		return Message{}, Fault{ShortHeader, off + offLen}
	}
	m := Message{b}
	if r, at := m.checkOptions(); r != Fine {
		return Message{}, Fault{r, off + at}
	}
	return m, Fault{}
}

// verify reports whether a message has the right checksum between two addresses.
func verify(b []byte, proto uint8, src, dst netip.Addr) bool {
	s, d := src.As16(), dst.As16()
	return wire.Fold(wire.Sum(b, wire.PseudoHeader(&s, &d, proto, len(b)))) == 0xffff
}

// Type returns the MH Type; 0 to 7.
func (m Message) Type() uint8 { return m.b[offType] }

// Bytes returns the whole header: what an authenticator is computed over.
func (m Message) Bytes() []byte { return m.b }

func (m Message) word(off int) uint16 { return binary.BigEndian.Uint16(m.b[off:]) }

func (m Message) is(types ...uint8) bool {
	if m.b == nil {
		return false
	}
	for _, t := range types {
		if m.b[offType] == t {
			return true
		}
	}
	return false
}

// TestInit is a Home or Care-of Test Init (RFC 6275 6.1.3, 6.1.4).
type TestInit struct{ Message }

// TestInit returns the view of a message that is one.
func (m Message) TestInit() (TestInit, bool) { return TestInit{m}, m.is(TypeHoTI, TypeCoTI) }

// Cookie returns the init cookie.
func (t TestInit) Cookie() [8]byte { return [8]byte(t.b[8:]) }

// Test is a Home or Care-of Test (RFC 6275 6.1.5, 6.1.6).
type Test struct{ Message }

// Test returns the view of a message that is one.
func (m Message) Test() (Test, bool) { return Test{m}, m.is(TypeHoT, TypeCoT) }

// NonceIndex returns the index of the nonce that the token was made with.
func (t Test) NonceIndex() uint16 { return t.word(offData) }

// Cookie returns the cookie of the test init message.
func (t Test) Cookie() [8]byte { return [8]byte(t.b[8:]) }

// Token returns the keygen token.
func (t Test) Token() [8]byte { return [8]byte(t.b[16:]) }

// BindingUpdate is a Binding Update (RFC 6275 6.1.7).
type BindingUpdate struct{ Message }

// BindingUpdate returns the view of a message that is one.
func (m Message) BindingUpdate() (BindingUpdate, bool) { return BindingUpdate{m}, m.is(TypeBU) }

// Sequence returns the sequence number.
func (u BindingUpdate) Sequence() uint16 { return u.word(offData) }

// Flags returns the flags, reserved ones too.
func (u BindingUpdate) Flags() uint16 { return u.word(8) }

// Lifetime returns the lifetime in units of four seconds.
func (u BindingUpdate) Lifetime() uint16 { return u.word(10) }

// AlternateCareOf returns the care-of address of the first option that has one (RFC 6275 6.2.5).
func (u BindingUpdate) AlternateCareOf() (netip.Addr, bool) {
	o, ok := u.first(OptAlternateCareOf)
	if !ok {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(o.Data)), true
}

// NonceIndices returns the home and the care-of nonce index of the first such option (RFC 6275 6.2.6).
func (u BindingUpdate) NonceIndices() (home, careOf uint16, ok bool) {
	o, ok := u.first(OptNonceIndices)
	if !ok {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(o.Data), binary.BigEndian.Uint16(o.Data[2:]), true
}

// BindingAck is a Binding Acknowledgement (RFC 6275 6.1.8).
type BindingAck struct{ Message }

// BindingAck returns the view of a message that is one.
func (m Message) BindingAck() (BindingAck, bool) { return BindingAck{m}, m.is(TypeBA) }

// Status returns what became of the update.
func (a BindingAck) Status() Status { return Status(a.b[6]) }

// Flags returns the flags, reserved ones too.
func (a BindingAck) Flags() uint8 { return a.b[7] }

// Sequence returns the sequence number.
func (a BindingAck) Sequence() uint16 { return a.word(8) }

// Lifetime returns the granted lifetime in units of four seconds.
func (a BindingAck) Lifetime() uint16 { return a.word(10) }

// RefreshAdvice returns the interval of the first Binding Refresh Advice in units of four seconds (RFC 6275
// 6.2.4). It counts from a home agent only.
func (a BindingAck) RefreshAdvice() (uint16, bool) {
	o, ok := a.first(OptRefreshAdvice)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint16(o.Data), true
}

// ErrorMessage is a Binding Error (RFC 6275 6.1.9).
type ErrorMessage struct{ Message }

// BindingError returns the view of a message that is a Binding Error.
func (m Message) BindingError() (ErrorMessage, bool) { return ErrorMessage{m}, m.is(TypeBE) }

// Status returns what was wrong; other values than [UnknownBinding] and [UnknownType] occur.
func (e ErrorMessage) Status() uint8 { return e.b[6] }

// HomeAddress returns the address of the Home Address option at fault, or the unspecified address.
func (e ErrorMessage) HomeAddress() netip.Addr { return netip.AddrFrom16([16]byte(e.b[8:])) }
