package spd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Proto is what a template or a state does to a packet: the number of the header it adds.
type Proto uint8

// The protocols, with the names of "ip xfrm".
const (
	ProtoRoute2 Proto = 43 // Type 2 Routing header (RFC 6275 6.4)
	ProtoESP    Proto = 50
	ProtoAH     Proto = 51
	ProtoHAO    Proto = 60  // Home Address option (RFC 6275 6.3)
	ProtoComp   Proto = 108 // IPComp, refused
)

func (p Proto) String() string {
	switch p {
	case ProtoRoute2:
		return "route2"
	case ProtoESP:
		return "esp"
	case ProtoAH:
		return "ah"
	case ProtoHAO:
		return "hao"
	case ProtoComp:
		return "comp"
	}
	return fmt.Sprint(uint8(p))
}

// ParseProto returns the protocol of that name.
func ParseProto(s string) (Proto, bool) {
	for _, p := range [...]Proto{ProtoRoute2, ProtoESP, ProtoAH, ProtoHAO, ProtoComp} {
		if p.String() == s {
			return p, true
		}
	}
	return 0, false
}

// Mode is how, in the numbers of Linux.
type Mode uint8

// The modes.
const (
	ModeTransport Mode = iota
	ModeTunnel
	ModeRO        // route optimization: an option or header of Mobile IPv6
	ModeInTrigger // the same, on the way in: tells when there is no binding
	ModeBEET
)

var modes = [...]string{"transport", "tunnel", "ro", "in_trigger", "beet"}

func (m Mode) String() string {
	if int(m) < len(modes) {
		return modes[m]
	}
	return fmt.Sprint(uint8(m))
}

// ParseMode returns the mode of that name.
func ParseMode(s string) (Mode, bool) {
	i := slices.Index(modes[:], s)
	return Mode(max(i, 0)), i >= 0
}

// Level says whether packets go without what the template asks for.
type Level uint8

// The levels.
const (
	Required Level = iota
	Use            // if there is a state
)

func (l Level) String() string {
	if l == Use {
		return "use"
	}
	return "required"
}

// ParseLevel returns the level of that name.
func ParseLevel(s string) (Level, bool) {
	switch s {
	case "required":
		return Required, true
	case "use":
		return Use, true
	}
	return 0, false
}

// MaxTemplates is how many templates a packet can have to go through (XFRM_MAX_DEPTH).
const MaxTemplates = 6

// Template is what a state must be like that a policy's packets go through (RFC 4301 4.4.1.2). Values are
// compared.
type Template struct {
	// Src and Dst are the outer addresses; the zero Addr and :: = any. Transport and route optimization take
	// those of the packet.
	Src, Dst netip.Addr
	SPI      uint32 // 0 = any
	Proto    Proto
	Mode     Mode
	ReqID    uint32 // 0 = any
	Level    Level
}

// Why a template is refused, beside a field's own words.
var (
	errOptional = errors.New("level: Error: Mode in optional template not allowed in outbound policy.") // the kernel's words
	errComp     = errors.New("proto: comp: IP payload compression is not supported")
)

// Check refuses a template that no state of a policy of that direction conforms to. The error begins with
// the field's name.
func (t *Template) Check(dir Dir) error {
	switch t.Proto {
	case ProtoComp:
		return errComp
	case ProtoESP, ProtoAH:
		if t.Mode != ModeTransport && t.Mode != ModeTunnel && t.Mode != ModeBEET {
			return fmt.Errorf("mode: %s has no mode %s", t.Proto, t.Mode)
		}
		if t.SPI != 0 && t.SPI < 256 {
			return fmt.Errorf("spi: %d is reserved (RFC 4303 2.1)", t.SPI)
		}
	case ProtoRoute2, ProtoHAO:
		if t.Mode != ModeRO && t.Mode != ModeInTrigger {
			return fmt.Errorf("mode: %s has no mode %s", t.Proto, t.Mode)
		}
		if t.SPI != 0 {
			return fmt.Errorf("spi: %s has none", t.Proto)
		}
	default:
		return fmt.Errorf("proto: %s is none of esp, ah, route2 and hao", t.Proto)
	}
	for i, a := range [...]netip.Addr{t.Src, t.Dst} {
		if a.Zone() != "" || a.Is4In6() || a.IsMulticast() && i == 0 {
			return fmt.Errorf("%s: %s is no address for an outer header", [...]string{"src", "dst"}[i], a)
		}
	}
	if t.Src.IsValid() && t.Dst.IsValid() && t.Src.Is4() != t.Dst.Is4() {
		return fmt.Errorf("src: %s and dst %s are not of the same family", t.Src, t.Dst)
	}
	if dir == Out && (t.Mode == ModeTunnel || t.Mode == ModeBEET) {
		switch {
		case t.Level == Use:
			return errOptional
		case wild(t.Dst):
			return fmt.Errorf("dst: mode %s needs the other end", t.Mode)
		}
	}
	if t.Level > Use {
		return fmt.Errorf("level: %d is none", t.Level)
	}
	return nil
}

func wild(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
