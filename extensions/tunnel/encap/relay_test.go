package encap

import (
	"fmt"
	"testing"

	"leveret/appliance/wire"
)

// TestRelay is RFC 2473 8.1 to 8.3 and RFC 4213 3.4: every message about a tunnel packet, and what its source is told.
func TestRelay(t *testing.T) {
	limited := with(over6(IP6IP6), func(p *Params) { p.EncapLimit = 0 })
	one := with(over6(IP6IP6), func(p *Params) { p.EncapLimit = 1 })
	two := with(over6(IP6IP6), func(p *Params) { p.EncapLimit = 2 })
	big, small, inner4, df4 := v6(0, 1400), v6(0, 1232), v4(0, 1400, false), v4(0, 1400, true)
	const none = "nothing"
	for _, c := range []struct {
		name      string
		t         *Params
		inner     []byte
		typ, code uint8
		arg       uint32
		want      string
	}{
		{"no route", over6(IP6IP6), big, 1, 0, 0, "type 1 code 3 mtu 0 at 40"},
		{"prohibited", over6(IP6IP6), big, 1, 1, 0, "type 1 code 3 mtu 0 at 40"},
		{"unreachable", limited, big, 1, 3, 0, "type 1 code 3 mtu 0 at 48"},
		{"hop limit", over6(IP6IP6), big, 3, 0, 0, "type 1 code 3 mtu 0 at 40"},
		{"reassembly time", over6(IP6IP6), big, 3, 1, 0, none},
		{"limit zero", limited, big, 4, 0, 44, "type 1 code 3 mtu 0 at 48"},
		{"limit one", one, big, 4, 0, 44, "type 1 code 3 mtu 0 at 48"},
		{"limit two", two, big, 4, 0, 44, none},
		{"beside the limit", limited, big, 4, 0, 43, none},
		{"another fault", limited, big, 4, 0, 7, none},
		{"no limit there", over6(IP6IP6), big, 4, 0, 44, none},
		{"protocol", over6(IP6IP6), big, 4, 1, 6, none},
		{"too big", over6(IP6IP6), big, 2, 0, 1400, "type 2 code 0 mtu 1360 at 40"},
		{"too big, with a limit", limited, big, 2, 0, 1400, "type 2 code 0 mtu 1352 at 48"},
		{"too big, at least 1280", limited, big, 2, 0, 1280, "type 2 code 0 mtu 1280 at 48"},
		{"too big, original of 1280", limited, small, 2, 0, 1280, none},
		{"too big, original of 1281", limited, v6(0, 1233), 2, 0, 1280, "type 2 code 0 mtu 1280 at 48"},
		{"too big, huge", over6(IP6IP6), big, 2, 0, 0xffffffff, "type 2 code 0 mtu 65496 at 40"},
		{"echo", over6(IP6IP6), big, 128, 0, 0, none},
		{"unknown error", over6(IP6IP6), big, 100, 0, 0, none},
		{"GRE", over6(IP6GRE), big, 2, 0, 1400, "type 2 code 0 mtu 1356 at 44"},
		{"GRE with all", with(over6(IP6GRE), func(p *Params) { p.OKey.Set, p.OCsum, p.OSeq = true, true, true }), big, 1, 0, 0, "type 1 code 3 mtu 0 at 56"},
		{"IPv4: no route", over6(IPIP6), inner4, 1, 0, 0, "v4 type 3 code 1 mtu 0 at 40"},
		{"IPv4: too big", over6(IPIP6), df4, 2, 0, 1280, "v4 type 3 code 4 mtu 1240 at 40"},
		{"IPv4: too big without DF", over6(IPIP6), inner4, 2, 0, 1280, none},
	} {
		quote := c.t.enclose(t, c.inner, 0)[:150]
		if got := report(Relay(c.typ, c.code, c.arg, quote)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		end, ok := Quoted(quote)
		if !ok || end.Src != c.t.Local || end.Dst != c.t.Remote || end.Protocol != c.t.Kind.Protocol() || end.Key != c.t.OKey {
			t.Errorf("%s: %+v %v", c.name, end, ok)
		}
	}
	for _, c := range []struct {
		name      string
		inner     []byte
		typ, code uint8
		mtu       uint16
		want      string
	}{
		{"host", big, 3, 1, 0, "type 1 code 3 mtu 0 at 20"},
		{"time exceeded", big, 11, 0, 0, "type 1 code 3 mtu 0 at 20"},
		{"reassembly time", big, 11, 1, 0, none},
		{"too big", big, 3, 4, 1400, "type 2 code 0 mtu 1380 at 20"},
		{"too big, small", small, 3, 4, 1200, none},
		{"source quench", big, 4, 0, 0, none},
	} {
		if got := report(Relay4(c.typ, c.code, c.mtu, over4(SIT).enclose(t, c.inner, 0)[:150])); got != c.want {
			t.Errorf("ICMPv4 %s: %s, want %s", c.name, got, c.want)
		}
	}
}

func report(r Report, ok bool) string {
	if !ok {
		return "nothing"
	}
	s := fmt.Sprintf("type %d code %d mtu %d at %d", r.Type, r.Code, r.MTU, r.Off)
	if r.V4 {
		s = "v4 " + s
	}
	return s
}

// TestQuoteCut: of a quote that ends before the original packet's header does nothing is told, nor of a fragment that is
// not the first.
func TestQuoteCut(t *testing.T) {
	p := with(over6(IP6GRE), func(p *Params) { p.EncapLimit, p.OKey = 4, Key{true, 9} })
	whole := p.enclose(t, v6(0, 20), 0)
	header := p.Overhead() + wire.IPv6HeaderLen
	for n := range whole {
		if _, ok := Quoted(whole[:n]); ok != (n >= header) {
			t.Errorf("%d octets: %v", n, ok)
		}
	}
	frag := append([]byte{}, whole[:40]...)
	frag[6] = wire.Fragment
	frag = append(frag, wire.DestOpts, 0, 0, 1, 0, 0, 0, 9)
	frag = append(frag, whole[40:]...)
	if end, ok := Quoted(frag); !ok || end.Key.Value != 9 {
		t.Errorf("the first fragment: %+v %v", end, ok)
	}
	frag[43] = 9
	if _, ok := Quoted(frag); ok {
		t.Error("another fragment")
	}
	four := over4(GRE).enclose(t, v6(0, 20), 0)
	four[7] = 1
	if _, ok := Quoted(four); ok {
		t.Error("another fragment of IPv4")
	}
}
