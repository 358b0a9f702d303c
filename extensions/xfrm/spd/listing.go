package spd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
)

// Listed is a policy to be shown: what JSON has and what [Listed.Text] prints.
type Listed struct {
	Spec
	Current Current `json:"current,omitzero"`
}

// Current is what has become of a policy.
type Current struct {
	Added     time.Time  `json:"added"`
	FirstUsed *time.Time `json:"first_used,omitempty"`
}

// View says how policies are shown.
type View struct {
	Wall func(clock.Instant) time.Time // the calendar
	Link func(int) string              // the name of a link
}

// List makes a policy one to be shown. Any goroutine.
func (v View) List(p *Policy) Listed {
	l := Listed{v.Spec(p), Current{Added: v.Wall(p.Added)}}
	if used := p.used(); used != 0 {
		t := v.Wall(used)
		l.Current.FirstUsed = &t
	}
	return l
}

// Text prints a policy as "ip xfrm policy" of iproute2 6.1 does, with stats as "ip -s xfrm policy", to the blank. Octets
// and packets of a policy are not counted, neither here nor in Linux.
func (l *Listed) Text(stats bool) string {
	b := append([]byte(l.Spec.Spec.Text()), ' ')
	if stats {
		b = append(b, "uid 0"...)
	}
	b = fmt.Appendf(b, "\n\tdir %s ", l.Dir)
	if stats || l.Action != Allow {
		b = fmt.Appendf(b, "action %s ", l.Action)
	}
	if stats {
		b = fmt.Appendf(b, "index %d ", l.Index)
	}
	b = fmt.Appendf(b, "priority %d ptype %s ", l.Priority, l.Type)
	if stats {
		b = append(b, "share any "...)
	}
	if stats || l.Flags != 0 {
		b = fmt.Appendf(b, "flag %s", l.Flags)
	}
	if stats {
		b = fmt.Appendf(b, " (0x%08b)", uint8(l.Flags))
	}
	b = append(b, '\n')
	if stats {
		b = l.Lifetime.Append(b, &proto.Current{Added: l.Current.Added, FirstUsed: l.Current.FirstUsed})
	}
	if m := l.Mark; m != nil && m.Mask != 0 {
		b = fmt.Appendf(b, "\tmark %#x/%#x \n", m.Value, m.Mask)
	}
	for i := range l.Templates {
		b = l.Templates[i].text(b, stats)
	}
	if l.IfID != 0 {
		b = fmt.Appendf(b, "\tif_id %#x\n", l.IfID)
	}
	return string(b)
}

func (t *TemplateSpec) text(b []byte, stats bool) []byte {
	src, dst, unspecified := t.Src, t.Dst, netip.IPv6Unspecified()
	if src.Is4() || dst.Is4() {
		unspecified = netip.IPv4Unspecified()
	}
	if !src.IsValid() {
		src = unspecified
	}
	if !dst.IsValid() {
		dst = unspecified
	}
	b = fmt.Appendf(b, "\ttmpl src %s dst %s\n\t\tproto %s ", src, dst, t.Proto)
	switch {
	case stats:
		b = fmt.Appendf(b, "spi 0x%08x(%d) reqid %d(0x%08x) ", t.SPI, t.SPI, t.ReqID, t.ReqID)
	case t.SPI != 0:
		b = fmt.Appendf(b, "spi 0x%08x reqid %d ", t.SPI, t.ReqID)
	default:
		b = fmt.Appendf(b, "reqid %d ", t.ReqID)
	}
	b = fmt.Appendf(b, "mode %s\n", t.Mode)
	switch {
	case stats:
		b = fmt.Appendf(b, "\t\tlevel %s share any \n\t\tenc-mask ffffffff auth-mask ffffffff comp-mask ffffffff\n", t.Level)
	case t.Level == Use:
		b = append(b, "\t\tlevel use \n"...)
	}
	return b
}

// unmarshal reads a word.
func unmarshal[T any](into *T, b []byte, parse func(string) (T, bool)) error {
	v, ok := parse(string(b))
	if !ok {
		return fmt.Errorf("%q is unknown", b)
	}
	*into = v
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Dir) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Dir) UnmarshalText(b []byte) error { return unmarshal(d, b, ParseDir) }

// MarshalText implements encoding.TextMarshaler.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Action) UnmarshalText(b []byte) error { return unmarshal(a, b, ParseAction) }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(b []byte) error { return unmarshal(l, b, ParseLevel) }

// MarshalJSON returns a list of iproute2's words.
func (f Flags) MarshalJSON() ([]byte, error) { return json.Marshal(strings.Fields(f.String())) }

// UnmarshalJSON reads the list.
func (f *Flags) UnmarshalJSON(b []byte) error {
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	*f = 0
	for _, w := range list {
		bit := flagBit(w)
		if bit == 0 {
			return fmt.Errorf("flag %q is unknown", w)
		}
		*f |= Flags(bit)
	}
	return nil
}
