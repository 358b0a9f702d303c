package proto

import "testing"

func TestWords(t *testing.T) {
	for _, p := range []Proto{Route2, ESP, AH, HAO, Comp} {
		if got, ok := Parse(p.String()); !ok || got != p {
			t.Errorf("%s: %s, %v", p, got, ok)
		}
		var q Proto
		if b, _ := p.MarshalText(); q.UnmarshalText(b) != nil || q != p {
			t.Errorf("%s is read back as %s", p, q)
		}
		if p.HasSPI() != (p == ESP || p == AH || p == Comp) {
			t.Errorf("%s has an SPI: %v", p, p.HasSPI())
		}
	}
	for m := Transport; m <= BEET; m++ {
		if got, ok := ParseMode(m.String()); !ok || got != m {
			t.Errorf("%s: %s, %v", m, got, ok)
		}
		var q Mode
		if b, _ := m.MarshalText(); q.UnmarshalText(b) != nil || q != m {
			t.Errorf("%s is read back as %s", m, q)
		}
	}
	var p Proto
	var m Mode
	if _, ok := Parse("tcp"); ok || p.UnmarshalText([]byte("tcp")) == nil || Proto(41).String() != "41" {
		t.Error("tcp is a protocol of states")
	}
	if _, ok := ParseMode("other"); ok || m.UnmarshalText([]byte("other")) == nil || Mode(9).String() != "9" {
		t.Error("other is a mode")
	}
}
