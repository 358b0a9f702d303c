package sad

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Flags of a state, with Linux's bits.
type Flags uint8

// The flags.
const (
	NoECN Flags = 1 << iota
	DecapDSCP
	NoPMTUDisc
	WildRecv
	ICMP
	AFUnspec
	Align4
	ESN
)

// ExtraFlags of a state, with Linux's bits.
type ExtraFlags uint8

// The extra flags.
const (
	DontEncapDSCP ExtraFlags = 1 << iota
	OSeqMayWrap
)

// EncapType is how ESP is put into UDP (RFC 3948), with Linux's numbers; 0 = not.
type EncapType uint8

// The encapsulations.
const (
	ESPInUDPNonIKE EncapType = 1
	ESPInUDP       EncapType = 2
	ESPInTCP       EncapType = 7 // known by name and refused
)

// KM is where a state is in its life: in the database it is valid, or larval, waiting for keys.
type KM uint8

// The two.
const (
	Valid KM = iota
	Acq
)

var (
	encapWords = map[EncapType]string{ESPInUDPNonIKE: "espinudp-nonike", ESPInUDP: "espinudp", ESPInTCP: "espintcp"}
	kmWords    = map[KM]string{Valid: "VALID", Acq: "ACQ"}

	// By bit.
	flagWords      = []string{"noecn", "decap-dscp", "nopmtudisc", "wildrecv", "icmp", "af-unspec", "align4", "esn"}
	extraFlagWords = []string{"dont-encap-dscp", "oseq-may-wrap"}
)

func word[T ~uint8](words map[T]string, v T) string {
	if w, ok := words[v]; ok {
		return w
	}
	return strconv.Itoa(int(v))
}

func parseWord[T ~uint8](words map[T]string, s string) (T, bool) {
	for v, w := range words {
		if w == s {
			return v, true
		}
	}
	return 0, false
}

func unmarshalWord[T ~uint8](words map[T]string, into *T, b []byte) (err error) {
	var ok bool
	if *into, ok = parseWord(words, string(b)); !ok {
		err = fmt.Errorf("%q is unknown", b)
	}
	return err
}

// String returns iproute2's word.
func (t EncapType) String() string { return word(encapWords, t) }

// MarshalText implements encoding.TextMarshaler.
func (t EncapType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *EncapType) UnmarshalText(b []byte) error { return unmarshalWord(encapWords, t, b) }

// String returns Linux's name.
func (k KM) String() string { return word(kmWords, k) }

// MarshalText implements encoding.TextMarshaler.
func (k KM) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *KM) UnmarshalText(b []byte) error { return unmarshalWord(kmWords, k, b) }

func bitWords(words []string, v uint8) (out []string) {
	out = []string{}
	for i, w := range words {
		if v>>i&1 != 0 {
			out = append(out, w)
		}
	}
	return out
}

// parseBit returns the bit of a word, 0 if there is none.
func parseBit(words []string, s string) uint8 {
	for i, w := range words {
		if w == s {
			return 1 << i
		}
	}
	return 0
}

func unmarshalBits(words []string, b []byte) (v uint8, err error) {
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return 0, err
	}
	for _, w := range list {
		bit := parseBit(words, w)
		if bit == 0 {
			return 0, fmt.Errorf("flag %q is unknown", w)
		}
		v |= bit
	}
	return v, nil
}

// String returns iproute2's words.
func (f Flags) String() string { return strings.Join(bitWords(flagWords, uint8(f)), " ") }

// MarshalJSON returns a list of iproute2's words.
func (f Flags) MarshalJSON() ([]byte, error) { return json.Marshal(bitWords(flagWords, uint8(f))) }

// UnmarshalJSON reads the list.
func (f *Flags) UnmarshalJSON(b []byte) error {
	v, err := unmarshalBits(flagWords, b)
	*f = Flags(v)
	return err
}

// String returns iproute2's words.
func (f ExtraFlags) String() string { return strings.Join(bitWords(extraFlagWords, uint8(f)), " ") }

// MarshalJSON returns a list of iproute2's words.
func (f ExtraFlags) MarshalJSON() ([]byte, error) {
	return json.Marshal(bitWords(extraFlagWords, uint8(f)))
}

// UnmarshalJSON reads the list.
func (f *ExtraFlags) UnmarshalJSON(b []byte) error {
	v, err := unmarshalBits(extraFlagWords, b)
	*f = ExtraFlags(v)
	return err
}
