package wire

import (
	"encoding/binary"
	"net/netip"
)

// Types of mobility options (RFC 6275 6.2, RFC 3963 4.3, RFC 4283 3, RFC 4285 5 and 6). All others are skipped.
const (
	OptPad1             = 0
	OptPadN             = 1
	OptRefreshAdvice    = 2
	OptAlternateCareOf  = 3
	OptNonceIndices     = 4
	OptAuthorization    = 5 // Binding Authorization Data
	OptMobileNetwork    = 6 // Mobile Network Prefix
	OptIdentifier       = 8 // Mobile Node Identifier
	OptAuthentication   = 9 // Mobility Message Authentication
	OptReplayProtection = 10
)

// AuthenticatorLen is the length of authenticators: the first 96 bits of an HMAC (RFC 6275 6.2.7, RFC 4285 5.1).
const AuthenticatorLen = 12

// Subtypes of options.
const (
	IdentifierNAI = 1 // RFC 4283 3.1
	AuthHome      = 1 // MN-HA, RFC 4285 5.1
	AuthAAA       = 2 // MN-AAA, RFC 4285 5.2
)

// form is the shape of an option: data of least to most octets, the type octet at x*n+y.
type form struct{ least, most, x, y int }

var forms = [...]form{
	OptRefreshAdvice:    {2, 2, 2, 0},
	OptAlternateCareOf:  {16, 16, 8, 6},
	OptNonceIndices:     {4, 4, 2, 0},
	OptAuthorization:    {AuthenticatorLen, AuthenticatorLen, 8, 2},
	OptMobileNetwork:    {0, 255, 8, 4}, // of another length it is answered, with a status (RFC 3963 6.2)
	OptIdentifier:       {2, 255, 1, 0},
	OptAuthentication:   {5, 255, 4, 1},
	OptReplayProtection: {8, 8, 8, 2},
}

// Option is one mobility option; Pad1 has no data.
type Option struct {
	Type uint8
	Off  int // of the type octet, from the start of the Mobility Header
	Data []byte
}

// Options walks the options of a message.
type Options struct {
	b   []byte
	off int
}

// Options returns the walk over all options, padding included.
func (m Message) Options() Options { return Options{m.b, fixed[m.Type()]} }

// Next returns the next option; false at the end.
func (w *Options) Next() (Option, bool) {
	at := w.off
	if at >= len(w.b) {
		return Option{}, false
	}
	if w.b[at] == OptPad1 {
		w.off++
		return Option{Type: OptPad1, Off: at}, true
	}
	if at+2 > len(w.b) || at+2+int(w.b[at+1]) > len(w.b) {
		return Option{}, false // only before checkOptions has passed the message
	}
	w.off = at + 2 + int(w.b[at+1])
	return Option{Type: w.b[at], Off: at, Data: w.b[at+2 : w.off : w.off]}, true
}

// first returns the first option of a type.
func (m Message) first(typ uint8) (Option, bool) {
	for w := m.Options(); ; {
		o, ok := w.Next()
		if !ok || o.Type == typ {
			return o, ok
		}
	}
}

// checkOptions says what is wrong with the options of a message, and where.
func (m Message) checkOptions() (Reason, int) {
	authenticated := m.is(TypeBU, TypeBA)
	w := m.Options()
	final, signed := false, uint8(0) // Binding Authorization Data was seen; the subtype seen last
	for {
		o, ok := w.Next()
		if !ok {
			break
		}
		pad := o.Type == OptPad1 || o.Type == OptPadN
		if final || signed != 0 && !pad && o.Type != OptAuthentication {
			return AuthNotLast, o.Off
		}
		if int(o.Type) >= len(forms) || forms[o.Type].x == 0 {
			continue
		}
		f := forms[o.Type]
		switch {
		case len(o.Data) < f.least || len(o.Data) > f.most:
			return OptionLength, o.Off + 1
		case o.Off%f.x != f.y:
			return OptionMisaligned, o.Off
		case !authenticated:
		case o.Type == OptAuthorization:
			final = true
		case o.Type == OptAuthentication:
			// RFC 4285 5: one of a subtype, MN-HA before MN-AAA; others are not defined.
			if o.Data[0] <= signed {
				return AuthNotLast, o.Off
			}
			signed = o.Data[0]
		}
	}
	if w.off != len(m.b) {
		return OptionOverrun, w.off
	}
	return Fine, 0
}

// Authenticator returns the contents of Binding Authorization Data (RFC 6275 6.2.7): the last octets of the
// message. Only updates and acknowledgements have one.
func (m Message) Authenticator() ([]byte, bool) {
	if !m.is(TypeBU, TypeBA) {
		return nil, false
	}
	o, ok := m.first(OptAuthorization)
	return o.Data, ok
}

// MobileNetwork reads a Mobile Network Prefix option (RFC 3963 4.3). One of another length, of more than 128
// bits, or that is not a unicast prefix is not ok. The host bits are cleared.
func (o Option) MobileNetwork() (netip.Prefix, bool) {
	if o.Type != OptMobileNetwork || len(o.Data) != 18 || o.Data[1] > 128 {
		return netip.Prefix{}, false
	}
	a := netip.AddrFrom16([16]byte(o.Data[2:]))
	if a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback() || a.Is4In6() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, int(o.Data[1])).Masked(), true
}

// Identifier returns the first Mobile Node Identifier (RFC 4283 3).
func (m Message) Identifier() (subtype uint8, id []byte, ok bool) {
	o, ok := m.first(OptIdentifier)
	if !ok {
		return 0, nil, false
	}
	return o.Data[0], o.Data[1:], true
}

// Authentication is a Mobility Message Authentication option (RFC 4285 5).
type Authentication struct {
	SPI  uint32
	Data []byte
	// Covered is what it protects: the Mobility Header up to and with the SPI.
	Covered []byte
}

// Authentication returns the option of a subtype. Only updates and acknowledgements have one.
func (m Message) Authentication(subtype uint8) (Authentication, bool) {
	if !m.is(TypeBU, TypeBA) {
		return Authentication{}, false
	}
	for w := m.Options(); ; {
		o, ok := w.Next()
		if !ok {
			return Authentication{}, false
		}
		if o.Type == OptAuthentication && o.Data[0] == subtype {
			return Authentication{binary.BigEndian.Uint32(o.Data[1:]), o.Data[5:], m.b[: o.Off+7 : o.Off+7]}, true
		}
	}
}

// Timestamp returns the NTP timestamp of the first Replay Protection option (RFC 4285 6).
func (m Message) Timestamp() (uint64, bool) {
	o, ok := m.first(OptReplayProtection)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint64(o.Data), true
}
