// Package proto has what states and policies have in common: the words for what header is added to a packet and how,
// marks, and when they end.
package proto

import (
	"fmt"
	"slices"
	"strconv"
)

// Proto is the protocol of a state or template: the number of the header it adds.
type Proto uint8

// The protocols.
const (
	Route2 Proto = 43 // Type 2 Routing header (RFC 6275 6.4)
	ESP    Proto = 50
	AH     Proto = 51
	HAO    Proto = 60  // Home Address option (RFC 6275 6.3)
	Comp   Proto = 108 // IPComp, refused
)

// String returns iproute2's word.
func (p Proto) String() string {
	switch p {
	case Route2:
		return "route2"
	case ESP:
		return "esp"
	case AH:
		return "ah"
	case HAO:
		return "hao"
	case Comp:
		return "comp"
	}
	return strconv.Itoa(int(p))
}

// Parse reads iproute2's word.
func Parse(s string) (Proto, bool) {
	for _, p := range [...]Proto{Route2, ESP, AH, HAO, Comp} {
		if p.String() == s {
			return p, true
		}
	}
	return 0, false
}

// HasSPI reports whether states of p are found by an SPI; the others are found by their two addresses.
func (p Proto) HasSPI() bool { return p == ESP || p == AH || p == Comp }

// MarshalText implements encoding.TextMarshaler.
func (p Proto) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Proto) UnmarshalText(b []byte) (err error) {
	var ok bool
	if *p, ok = Parse(string(b)); !ok {
		err = fmt.Errorf("%q is unknown", b)
	}
	return err
}

// Mode is what a state does to a packet, with Linux's numbers.
type Mode uint8

// The modes.
const (
	Transport Mode = iota
	Tunnel
	RO        // route optimization: an option or header of Mobile IPv6 (RFC 6275)
	InTrigger // the same, on the way in: tells when there is no binding
	BEET
)

var modes = [...]string{"transport", "tunnel", "ro", "in_trigger", "beet"}

// String returns iproute2's word.
func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m]
	}
	return strconv.Itoa(int(m))
}

// ParseMode reads iproute2's word.
func ParseMode(s string) (Mode, bool) {
	i := slices.Index(modes[:], s)
	return Mode(max(i, 0)), i >= 0
}

// MarshalText implements encoding.TextMarshaler.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(b []byte) (err error) {
	var ok bool
	if *m, ok = ParseMode(string(b)); !ok {
		err = fmt.Errorf("%q is unknown", b)
	}
	return err
}

// Mark is a value of some bits; the zero Mark matches everything.
type Mark struct {
	Value uint32 `json:"value"`
	Mask  uint32 `json:"mask"`
}

// Matches reports whether v has the value.
func (m Mark) Matches(v uint32) bool { return v&m.Mask == m.Value }
