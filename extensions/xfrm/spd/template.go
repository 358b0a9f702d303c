package spd

import (
	"errors"
	"fmt"
	"net/netip"

	"leveret/extensions/xfrm/proto"
)

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
	Proto    proto.Proto
	Mode     proto.Mode
	ReqID    uint32 // 0 = any
	Level    Level
}

// Why a template is refused, beside a field's own words.
var (
	errOptional = &kernelError{"level", "Mode in optional template not allowed in outbound policy."}
	errProto    = &kernelError{"proto", "Invalid XFRM protocol in template."}
	errComp     = errors.New("proto: comp: IP payload compression is not supported")
)

// kernelError is what the kernel says of a field.
type kernelError struct{ field, text string }

// Error implements error.
func (e *kernelError) Error() string { return e.field + ": " + e.text }

// Check refuses a template that no state of a policy of that direction conforms to. The error begins with
// the field's name.
func (t *Template) Check(dir Dir) error {
	switch t.Proto {
	case 0:
		return errProto
	case proto.Comp:
		return errComp
	case proto.ESP, proto.AH:
		if t.Mode != proto.Transport && t.Mode != proto.Tunnel && t.Mode != proto.BEET {
			return fmt.Errorf("mode: %s has no mode %s", t.Proto, t.Mode)
		}
		if t.SPI != 0 && t.SPI < 256 {
			return fmt.Errorf("spi: %d is reserved (RFC 4303 2.1)", t.SPI)
		}
	case proto.Route2, proto.HAO:
		if t.Mode != proto.RO && t.Mode != proto.InTrigger {
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
	if dir == Out && (t.Mode == proto.Tunnel || t.Mode == proto.BEET) {
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
