package ndwire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"leveret/appliance/wire"
)

var (
	prefix   = netip.MustParsePrefix
	addr     = netip.MustParseAddr
	theirMAC = [6]byte{2, 0, 0, 0, 0, 2}
)

// vectorRA is what the RA of the vectors says.
func vectorRA() RA {
	return RA{
		Src: b, Dst: wire.AllNodes, CurHopLimit: 64, Managed: true, Other: true, HomeAgent: true, Preference: High,
		RouterLifetime: 1800 * time.Second, ReachableTime: 30 * time.Second, RetransTimer: time.Second,
		SourceLLA: &theirMAC, MTU: 1500,
		Prefixes: []PrefixInfo{{
			Prefix: prefix("2001:db8:100::/64"), OnLink: true, Autonomous: true, RouterAddr: true,
			Valid: 2592000 * time.Second, Preferred: 604800 * time.Second, Addr: addr("2001:db8:100::"), // no host part
		}},
		Routes:        []RouteInfo{{prefix("2001:db8:900::/48"), Low, 600 * time.Second}},
		RDNSS:         []RDNSS{{[]netip.Addr{addr("2001:db8::53")}, 900 * time.Second}},
		AdvInterval:   3 * time.Second,
		HomeAgentInfo: &HomeAgentInfo{Preference: 10, Lifetime: 1800 * time.Second},
		DNSSL:         []DNSSL{{[]string{"example.com"}, 900 * time.Second}},
	}
}

// TestGoldenRouterMessages: what others made is read, and made again octet by octet.
func TestGoldenRouterMessages(t *testing.T) {
	vs := vectors(t)
	ra := vs["RA M,O,H prf=high(01) + SLLAO,MTU,PIO(L,A,R),RIO(prf low 11),RDNSS,AdvInterval,HAInfo,DNSSL"]
	m, err := parse(ra)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.RA()
	if want := vectorRA(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	if b := AppendRA(nil, got); !bytes.Equal(b, ra) {
		t.Errorf("RA:\ngot  %x\nwant %x", b, ra)
	}
	for _, name := range []string{"RS with SLLAO", "RS unspecified source"} {
		m, err := parse(vs[name])
		rs := RS{Src: m.Src, Dst: m.Dst}
		if m.HasSourceLLA {
			rs.SourceLLA = &m.SourceLLA
		}
		if b := AppendRS(nil, rs); err != nil || !bytes.Equal(b, vs[name]) {
			t.Errorf("%s: %v\ngot  %x\nwant %x", name, err, b, vs[name])
		}
		if m.Redirected != nil {
			t.Errorf("%s has a redirected header", name)
		}
	}
	const redirect = "Redirect to router with TLLAO + Redirected Header"
	m, err = parse(vs[redirect])
	r := Redirect{Src: m.Src, Dst: m.Dst, Target: m.Target, Destination: m.Destination, TargetLLA: &m.TargetLLA, Packet: m.Redirected}
	if b := AppendRedirect(nil, r); err != nil || !bytes.Equal(b, vs[redirect]) {
		t.Errorf("redirect: %v\ngot  %x\nwant %x", err, b, vs[redirect])
	}
	if _, err := m.RA(); !errors.Is(err, ErrType) {
		t.Errorf("RA of a redirect: %v", err)
	}
}

// bare is an RA without options, followed by raw ones in hex, spaces ignored.
func bare(t testing.TB, options string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(options, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return mend(AppendRA(nil, RA{Src: a, Dst: b}), func(p []byte) []byte { return append(p, raw...) })
}

// TestOptions has every option, its octets written by hand from its RFC, both ways.
func TestOptions(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		name, raw string
		want      RA
	}{
		{"flags extension (RFC 5175 4)", "1a01 800000000001", RA{FlagsExt: [6]byte{0: 0x80, 5: 1}}},
		{"source address", "0101 020000000001", RA{SourceLLA: &mac}},
		{"MTU", "0501 0000 00000500", RA{MTU: 1280}},
		{"prefix", "0304 40c0 00000010 00000008 00000000 20010db8000100020000000000000000",
			RA{Prefixes: []PrefixInfo{{Prefix: prefix("2001:db8:1:2::/64"), OnLink: true, Autonomous: true, Valid: 16 * s, Preferred: 8 * s}}}},
		{"prefix without end, of no use", "0304 0000 ffffffff ffffffff 00000000 00000000000000000000000000000000",
			RA{Prefixes: []PrefixInfo{{Prefix: prefix("::/0"), Valid: Infinite, Preferred: Infinite}}}},
		{"prefix with the router's address (RFC 6275 7.2)", "0304 4020 fffffffe 00000000 00000000 20010db8000100020000000000000001",
			RA{Prefixes: []PrefixInfo{{Prefix: prefix("2001:db8:1:2::/64"), RouterAddr: true, Valid: 4294967294 * s, Addr: addr("2001:db8:1:2::1")}}}},
		{"route of 0 bits", "1801 0008 00000001", RA{Routes: []RouteInfo{{prefix("::/0"), High, s}}}},
		{"route of 1 bit", "1802 0118 ffffffff 8000000000000000", RA{Routes: []RouteInfo{{prefix("8000::/1"), Low, Infinite}}}},
		{"route of 64 bits", "1802 4000 00000000 20010db800010002", RA{Routes: []RouteInfo{{prefix("2001:db8:1:2::/64"), Medium, 0}}}},
		{"route of 65 bits", "1803 4100 00000002 20010db8000100028000000000000000",
			RA{Routes: []RouteInfo{{prefix("2001:db8:1:2:8000::/65"), Medium, 2 * s}}}},
		{"route of 128 bits", "1803 8000 00000002 20010db8000100028000000000000001",
			RA{Routes: []RouteInfo{{prefix("2001:db8:1:2:8000::1/128"), Medium, 2 * s}}}},
		{"two servers", "1905 0000 ffffffff 20010db8000000000000000000000053 fe800000000000000000000000000053",
			RA{RDNSS: []RDNSS{{[]netip.Addr{addr("2001:db8::53"), addr("fe80::53")}, Infinite}}}},
		{"interval (RFC 6275 7.3)", "0701 0000 00000046", RA{AdvInterval: 70 * time.Millisecond}},
		{"home agent (RFC 6275 7.4)", "0801 0000 fffe ffff", RA{HomeAgentInfo: &HomeAgentInfo{Preference: 65534, Lifetime: 65535 * s}}},
		{"home agent for mobile routers (RFC 3963 7.3)", "0801 8000 0001 0001",
			RA{HomeAgentInfo: &HomeAgentInfo{Preference: 1, Lifetime: s, MobileRouter: true}}},
		{"two names, padded", "1f03 0000 00000000 0161 036c616e 00 0162 00 000000000000",
			RA{DNSSL: []DNSSL{{[]string{"a.lan", "b"}, 0}}}},
		{"a name that needs no padding", "1f02 0000 00000005 06 5f746370 2d31 00", RA{DNSSL: []DNSSL{{[]string{"_tcp-1"}, 5 * s}}}},
		{"NAT64 of 96 bits (RFC 8781 4)", "2602 0008 0064ff9b0000000000000000", RA{PREF64: []PREF64{{prefix("64:ff9b::/96"), 8 * s}}}},
		{"NAT64 of 64 bits", "2602 0011 20010db80001000200000000", RA{PREF64: []PREF64{{prefix("2001:db8:1:2::/64"), 16 * s}}}},
		{"NAT64 of 56 bits", "2602 0002 20010db80001000000000000", RA{PREF64: []PREF64{{prefix("2001:db8:1::/56"), 0}}}},
		{"NAT64 of 48 bits", "2602 0003 20010db80001000000000000", RA{PREF64: []PREF64{{prefix("2001:db8:1::/48"), 0}}}},
		{"NAT64 of 40 bits", "2602 0004 20010db80100000000000000", RA{PREF64: []PREF64{{prefix("2001:db8:100::/40"), 0}}}},
		{"NAT64 of 32 bits, the longest lifetime", "2602 fffd 20010db80000000000000000", RA{PREF64: []PREF64{{prefix("2001:db8::/32"), 65528 * s}}}},
		{"captive portal (RFC 8910 2.3)", "2502 68747470733a2f2f782f 00000000", RA{CaptivePortal: "https://x/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pkt := bare(t, c.raw)
			m, err := parse(pkt)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Src, c.want.Dst = a, b
			if got, err := m.RA(); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, c.want)
			}
			if got := AppendRA(nil, c.want); !bytes.Equal(got, pkt) {
				t.Errorf("got  %x\nwant %x", got, pkt)
			}
		})
	}
}

// TestOptionsPassedOver: an option that breaks the rules of its type says nothing, and the one
// behind it still counts.
func TestOptionsPassedOver(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	for name, raw := range map[string]string{
		"unknown":                           "c802 " + zeros(14),
		"MTU of 16 octets":                  "0502 0000 00000500" + zeros(8),
		"prefix of 24 octets":               "0303 40c0" + zeros(20),
		"prefix of 40 octets":               "0305 40c0" + zeros(36),
		"prefix of 129 bits":                "0304 81c0" + zeros(28),
		"route of 1 bit without octets":     "1801 0100 00000001",
		"route of 65 bits in 8 octets":      "1802 4100 00000001" + zeros(8),
		"route of 129 bits":                 "1803 8100 00000001" + zeros(16),
		"route of 32 octets":                "1804 0000 00000001" + zeros(24),
		"route of the reserved preference":  "1801 0010 00000001",
		"servers in even length":            "1904 0000 00000001 20010db8" + zeros(11) + "01 20010db8" + zeros(4),
		"no server":                         "1901 0000 00000001",
		"a group as server":                 "1903 0000 00000001 ff02" + zeros(13) + "01",
		":: as server":                      "1903 0000 00000001" + zeros(16),
		"interval of 16 octets":             "0702 0000 00000046" + zeros(8),
		"home agent of 16 octets":           "0802 0000 00010001" + zeros(8),
		"no name":                           "1f02 0000 00000001" + zeros(8),
		"names of 8 octets":                 "1f01 0000 00000001",
		"compressed name":                   "1f02 0000 00000001 0161 c008 00000000",
		"name past the end":                 "1f02 0000 00000001 0861626364656667",
		"name without end":                  "1f02 0000 00000001 0161 0162 0163 0164",
		"label of 64 octets":                "1f0a 0000 00000001 40" + strings.Repeat("61", 64) + zeros(7),
		"label with a dot":                  "1f02 0000 00000001 03612e62 00 000000",
		"label with a new line":             "1f02 0000 00000001 03610a62 00 000000",
		"good name before a bad one":        "1f02 0000 00000001 0161 00 40 00000000",
		"NAT64 of 24 octets":                "2603 0008 0064ff9b" + zeros(16),
		"NAT64 of 8 octets":                 "2601 0008 0064ff9b",
		"NAT64 of prefix length code 6":     "2602 000e 0064ff9b" + zeros(8),
		"portal without octets":             "2501 " + zeros(6),
		"portal with a zero in the middle":  "2501 610061000000",
		"portal with an escape":             "2501 611b62000000",
		"redirected header":                 "0402" + zeros(14),
		"target address":                    "0201 020000000001",
		"source address of 16 octets":       "0102" + zeros(14),
		"second of the flags extensions":    "1a01 000000000000 1a01 800000000000",
		"nonce that says nothing in an RA ": "0e01 020000000001",
	} {
		t.Run(name, func(t *testing.T) {
			m, err := parse(bare(t, raw+"0501 0000 00000501"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.RA()
			if want := (RA{Src: a, Dst: b, MTU: 0x501}); err != nil || !reflect.DeepEqual(got, want) || m.Redirected != nil {
				t.Errorf("got %+v, %v, redirected %x", got, err, m.Redirected)
			}
		})
	}
	// But a length of 0 or past the end drops the message (RFC 4861 6.1.2).
	for _, raw := range []string{"0500 0000 00000500", "0504 0000 00000500"} {
		if _, err := parse(bare(t, raw)); !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// TestFirstCounts: of what belongs into an RA once, the first.
func TestFirstCounts(t *testing.T) {
	m, err := parse(bare(t, "0501 0000 00000500 0501 0000 00000600 0701 0000 00000001 0701 0000 00000002"+
		"0801 0000 00010001 0801 0000 00020002 2501 610000000000 2501 620000000000 1a01 800000000000 1a01 400000000000"+
		"0101 020000000001 0101 020000000002"))
	if err != nil {
		t.Fatal(err)
	}
	want := RA{
		Src: a, Dst: b, MTU: 1280, AdvInterval: time.Millisecond, HomeAgentInfo: &HomeAgentInfo{Preference: 1, Lifetime: time.Second},
		CaptivePortal: "a", FlagsExt: [6]byte{0x80}, SourceLLA: &mac,
	}
	if got, err := m.RA(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestReceivedIsBounded: one RA cannot make a receiver keep more than 64 of anything.
func TestReceivedIsBounded(t *testing.T) {
	m, err := parse(bare(t, strings.Repeat("0304 4000"+strings.Repeat("00", 28)+"1801 0000 00000001"+"2602 0008 0064ff9b0000000000000000"+
		"1905 0000 00000001 20010db8000000000000000000000053 20010db8000000000000000000000054"+
		"1f02 0000 00000001 0161 00 0162 00 0000", 65)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.RA()
	if err != nil {
		t.Fatal(err)
	}
	servers, names := 0, 0
	for _, x := range r.RDNSS {
		servers += len(x.Servers)
	}
	for _, x := range r.DNSSL {
		names += len(x.Domains)
	}
	for what, n := range map[string]int{
		"prefixes": len(r.Prefixes), "routes": len(r.Routes), "NAT64 prefixes": len(r.PREF64), "servers": servers, "names": names,
	} {
		if n != 64 {
			t.Errorf("%d %s", n, what)
		}
	}
}

// TestPreference is RFC 4191 2.1 and 2.2.
func TestPreference(t *testing.T) {
	for _, c := range []struct {
		flags byte
		life  byte
		want  Preference
	}{{0x08, 9, High}, {0x00, 9, Medium}, {0x18, 9, Low}, {0x10, 9, Medium}, {0x08, 0, Medium}, {0x18, 0, Medium}} {
		pkt := mend(AppendRA(nil, RA{Src: a, Dst: b}), func(p []byte) []byte { p[45], p[47] = c.flags, c.life; return p })
		m, err := parse(pkt)
		if err != nil {
			t.Fatal(err)
		}
		if r, _ := m.RA(); r.Preference != c.want {
			t.Errorf("flags %#x, lifetime %d: %s, want %s", c.flags, c.life, r.Preference, c.want)
		}
	}
	if p := AppendRA(nil, RA{Src: a, Dst: b, Preference: Low}); p[45] != 0 {
		t.Errorf("flags %#x with a router lifetime of 0", p[45])
	}
	for _, p := range []Preference{Low, Medium, High} {
		text, _ := p.MarshalText()
		var q Preference
		if err := q.UnmarshalText(text); err != nil || p != q {
			t.Errorf("%s is read as %s, %v", text, q, err)
		}
	}
	if err := new(Preference).UnmarshalText([]byte("highest")); err == nil {
		t.Error("highest is a preference")
	}
}

// TestValuesThatDoNotFit are cut to what the wire can say.
func TestValuesThatDoNotFit(t *testing.T) {
	long := strings.Repeat("a", 63)
	name := strings.Join([]string{long, long, long, long[:61]}, ".") // 255 octets on the wire
	in := RA{
		Src: a, Dst: b, Proxy: true, RouterLifetime: Infinite, ReachableTime: Infinite, RetransTimer: -1,
		Prefixes: []PrefixInfo{{Prefix: prefix("2001:db8::1/64"), Valid: 1999 * time.Millisecond, Preferred: -1}},
		Routes:   []RouteInfo{{prefix("2001:db8::1/64"), Medium, 1 << 32 * time.Second}},
		RDNSS:    []RDNSS{{nil, 1}, {make([]netip.Addr, 0), 1}},
		DNSSL: []DNSSL{
			{[]string{"a..b", "", ".", "a b", "ä", long + "a", name + "a"}, time.Second},
			{[]string{name, "x.", name, name, name, name, name, name, name, "y"}, time.Second},
		},
		PREF64: []PREF64{
			{prefix("64:ff9b::1/96"), time.Nanosecond}, {prefix("64:ff9b::/96"), 9 * time.Second}, {prefix("64:ff9b::/96"), Infinite},
			{prefix("64:ff9b::/97"), time.Second},
		},
		CaptivePortal: "not a\nuri",
	}
	want := RA{
		Src: a, Dst: b, Proxy: true, RouterLifetime: 65535 * time.Second, ReachableTime: 4294967295 * time.Millisecond,
		Prefixes: []PrefixInfo{{Prefix: prefix("2001:db8::/64"), Valid: time.Second}},
		Routes:   []RouteInfo{{prefix("2001:db8::/64"), Medium, Infinite}},
		DNSSL:    []DNSSL{{[]string{name, "x", name, name, name, name, name, name, "y"}, time.Second}},
		PREF64: []PREF64{
			{prefix("64:ff9b::/96"), 8 * time.Second}, {prefix("64:ff9b::/96"), 16 * time.Second}, {prefix("64:ff9b::/96"), MaxPREF64Lifetime},
		},
	}
	m, err := parse(AppendRA(nil, in))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := m.RA(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	in.CaptivePortal = strings.Repeat("u", MaxCaptivePortal)
	if m, err = parse(AppendRA(nil, in)); err != nil {
		t.Fatal(err)
	}
	if got, _ := m.RA(); got.CaptivePortal != in.CaptivePortal {
		t.Errorf("portal of %d octets", len(got.CaptivePortal))
	}
}

// TestAppendKeepsWhatIsThere: all builders append.
func TestAppendKeepsWhatIsThere(t *testing.T) {
	front := []byte("front")
	for name, build := range map[string]func([]byte) []byte{
		"RA": func(p []byte) []byte { return AppendRA(p, vectorRA()) },
		"RS": func(p []byte) []byte { return AppendRS(p, RS{Src: a, Dst: wire.AllRouters, SourceLLA: &mac}) },
		"Redirect": func(p []byte) []byte {
			return AppendRedirect(p, Redirect{Src: a, Dst: b, Target: b, Destination: b, Packet: front})
		},
	} {
		if got := build(bytes.Clone(front)); !bytes.Equal(got, append(bytes.Clone(front), build(nil)...)) {
			t.Errorf("%s: %x", name, got)
		}
	}
	if p := AppendRS(nil, RS{Src: netip.IPv6Unspecified(), Dst: wire.AllRouters, SourceLLA: &mac}); len(p) != 48 {
		t.Errorf("RS from :: of %d octets", len(p))
	}
}

// FuzzRA: whatever is read as an RA is the same after it was written and read again.
func FuzzRA(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v)
	}
	f.Add(bare(f, "2602 0008 0064ff9b0000000000000000 2502 68747470733a2f2f782f 00000000 1a01 800000000001"+
		"1f03 0000 00000000 0161 036c616e 00 0162 00 000000000000"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 48 { // so that mutations get past the checksum
			wire.UpdateICMPv6Checksum(p, 40)
		}
		m, err := Parse(p, 40, false)
		if err != nil || m.Type != wire.TypeRouterAdvertisement {
			return
		}
		first, err := m.RA()
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range first.Split(1280) {
			_ = AppendRA(nil, part)
		}
		if m, err = parse(AppendRA(nil, first)); err != nil {
			t.Fatalf("%+v is written as no message: %v", first, err)
		}
		if again, err := m.RA(); err != nil || !reflect.DeepEqual(first, again) {
			t.Errorf("%+v came back as\n%+v, %v", first, again, err)
		}
	})
}
