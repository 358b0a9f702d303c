package selector

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"leveret/appliance/wire"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) [16]byte      { return netip.MustParseAddr(s).As16() }

var links = map[string]int{"lan0": 1, "wan0": 2}

func link(name string) int { return links[name] }

func linkName(i int) string {
	for n, x := range links {
		if x == i {
			return n
		}
	}
	return "?"
}

// one returns the selector that words say.
func one(t *testing.T, words string) Selector {
	t.Helper()
	s, rest, err := Words(strings.Fields(words))
	if err != nil || len(rest) > 0 {
		t.Fatalf("%s: %v, rest %q", words, err, rest)
	}
	all, err := s.Selectors(link)
	if err != nil || len(all) != 1 {
		t.Fatalf("%s: %v %v", words, all, err)
	}
	return all[0]
}

// TestMatches: each field of a selector, with a flow that it takes and one that it does not.
func TestMatches(t *testing.T) {
	base := Flow{Src: ip("2001:db8:1::1"), Dst: ip("2001:db8:2::2"), Proto: wire.TCP, SPort: 4000, DPort: 443, Link: 1}
	icmpFlow := Flow{Src: base.Src, Dst: base.Dst, Proto: wire.ICMPv6, SPort: 1, DPort: 4}
	mh := Flow{Src: base.Src, Dst: base.Dst, Proto: wire.MH, SPort: 0}
	gre := Flow{Src: base.Src, Dst: base.Dst, Proto: wire.GRE, SPort: 1, DPort: 2}
	v4 := Flow{Src: ip("::ffff:10.0.0.1"), Dst: ip("::ffff:10.0.0.2"), IPv4: true, Proto: wire.UDP, SPort: 1, DPort: 2}
	for _, c := range []struct {
		words string
		flow  Flow
		odd   func(*Flow) // makes it one that does not match
	}{
		{"src 2001:db8:1::/48", base, func(f *Flow) { f.Src = ip("2001:db8:2::1") }},
		{"src 2001:db8:1::99/48", base, func(f *Flow) { f.Src = ip("2001:db8:2::1") }},
		{"dst 2001:db8:2::2", base, func(f *Flow) { f.Dst = ip("2001:db8:2::3") }},
		{"dst 2001:db8:2::/65", base, func(f *Flow) { f.Dst = ip("2001:db8:2:0:8000::") }},
		{"dst 2001:db8:2::/64", base, func(f *Flow) { f.Dst = ip("2001:db8:2:1::") }},
		{"proto tcp", base, func(f *Flow) { f.Proto = wire.UDP }},
		{"proto tcp", base, func(f *Flow) { f.Proto, f.Opaque = 0, true }}, // a protocol that is not known
		{"proto tcp sport 4000", base, func(f *Flow) { f.SPort = 4001 }},
		{"proto tcp dport 443", base, func(f *Flow) { f.DPort = 444 }},
		{"proto tcp dport 443", base, func(f *Flow) { f.Opaque = true }},
		{"proto tcp sport 4000/0xfff0", base, func(f *Flow) { f.SPort = 4016 }},
		{"proto tcp sport 4000/0xfff0", base, func(f *Flow) { f.Opaque = true }},
		{"proto tcp sport opaque", Flow{Src: base.Src, Dst: base.Dst, Proto: wire.TCP, Opaque: true}, func(f *Flow) { f.Opaque = false }},
		{"dev lan0", base, func(f *Flow) { f.Link = 2 }},
		{"proto ipv6-icmp type 1", icmpFlow, func(f *Flow) { f.SPort = 2 }},
		{"proto ipv6-icmp code 4", icmpFlow, func(f *Flow) { f.DPort = 0 }},
		{"proto ipv6-icmp type 0/0x80", icmpFlow, func(f *Flow) { f.SPort = 128 }}, // every error
		{"proto mh type 0", mh, func(f *Flow) { f.SPort = 5 }},
		{"proto mh type 0", mh, func(f *Flow) { f.Opaque = true }}, // 0 is a type, not any
		{"proto gre key 0x10002", gre, func(f *Flow) { f.SPort = 0 }},
		{"proto gre key 0.1.0.2", gre, func(f *Flow) { f.DPort = 3 }},
		{"dst 10.0.0.0/8", v4, func(f *Flow) { f.Dst = ip("::ffff:11.0.0.2") }},
		{"dst 10.0.0.0/8", v4, func(f *Flow) { f.IPv4 = false }}, // an IPv6 packet with a mapped address
		{"dst ::/0", base, func(f *Flow) { *f = v4 }},
		{"src 0.0.0.0/0", v4, func(f *Flow) { *f = base }},
	} {
		s := one(t, c.words)
		if !s.Matches(&c.flow) {
			t.Errorf("%s does not match %+v", c.words, c.flow)
		}
		c.odd(&c.flow)
		if s.Matches(&c.flow) {
			t.Errorf("%s matches %+v", c.words, c.flow)
		}
	}
	opaque := base
	opaque.Opaque = true
	for _, s := range []Selector{{}, {Proto: wire.TCP}, {Src: pfx("2001:db8:1::/48"), Proto: wire.TCP}} { // ANY takes OPAQUE
		if !s.Matches(&opaque) || !s.Matches(&base) {
			t.Errorf("%+v takes not both", s)
		}
	}
	if !(&Selector{}).Matches(&v4) {
		t.Error("the zero Selector does not take IPv4")
	}
	if n := testing.AllocsPerRun(100, func() { (&Selector{Src: pfx1}).Matches(&base) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var pfx1 = pfx("2001:db8:1::/48")

// TestValid: what is refused, and the field that the error names.
func TestValid(t *testing.T) {
	for _, c := range []struct {
		s    Selector
		want string // how the error begins; "" = valid
	}{
		{Selector{}, ""},
		{Selector{Src: pfx("10.0.0.0/8"), Dst: pfx("2001:db8::/32")}, "src: "},
		{Selector{Dst: pfx("::ffff:10.0.0.0/104")}, "dst: "},
		{Selector{Proto: wire.DestOpts}, "proto: "},
		{Selector{Proto: wire.ESP}, ""},
		{Selector{Proto: wire.ESP, SPort: 1, SPortMask: Exact}, "sport: protocol esp has no ports"},
		{Selector{Proto: wire.ESP, DPortMask: Exact}, "dport: protocol esp has no ports"},
		{Selector{DPort: 80, DPortMask: Exact}, "dport: needs a protocol"},
		{Selector{Proto: wire.TCP, DPort: 80, DPortMask: 0xff}, ""},
		{Selector{Proto: wire.TCP, DPort: 80}, "dport: 80 has bits"},
		{Selector{Proto: wire.TCP, SPort: 0x180, SPortMask: 0xff}, "sport: 384 has bits"},
		{Selector{Proto: wire.ICMPv6, SPort: 256, SPortMask: Exact}, "type: 256"},
		{Selector{Proto: wire.ICMPv6, DPort: 256, DPortMask: Exact}, "code: 256"},
		{Selector{Proto: wire.ICMPv6, SPortMask: 0x1ff}, "type: 0/0x1ff"},
		{Selector{Proto: wire.MH, SPort: 5, SPortMask: Exact}, ""},
		{Selector{Proto: wire.MH, SPort: 5, SPortMask: Exact, DPortMask: Exact}, "code: "},
		{Selector{Proto: wire.GRE, SPort: 5, SPortMask: 0xff}, ""},
		{Selector{Proto: wire.GRE, SPort: 5}, "key: 5 has bits"},
		{Selector{Proto: wire.TCP, Opaque: true}, ""},
		{Selector{Proto: wire.TCP, Opaque: true, DPortMask: Exact}, "dport: a packet whose ports are opaque"},
		{Selector{Proto: wire.ESP, Opaque: true}, "sport: protocol esp has no ports"},
		{Selector{Opaque: true}, "sport: needs a protocol"},
		{Selector{Link: -1}, "dev: "},
	} {
		err := c.s.Valid()
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.s, err, c.want)
		}
	}
}

// TestText: the words of "ip xfrm policy add" and what "ip xfrm policy" (iproute2 6.1, Linux 6.18) lists
// for them, but for masks, which iproute2 knows not.
func TestText(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"src 2001:db8::/48 dst ::/0 proto ipv6-icmp type 133 code 0 dev lan0", "src 2001:db8::/48 dst ::/0 proto ipv6-icmp type 133 code 0 dev lan0"},
		{"src ::/0 dst 2001:db8::1/128 proto udp sport 5 dport 443", "src ::/0 dst 2001:db8::1/128 proto udp sport 5 dport 443"},
		{"src ::/0 dst ::/0 proto 135 type 5", "src ::/0 dst ::/0 proto mobility-header type 5"},
		{"src 2001:db8::/48 dst 2001:db8:1::/48 proto gre key 5", "src 2001:db8::/48 dst 2001:db8:1::/48 proto gre key 5"},
		{"src 2001:db8::/48 dst 2001:db8:1::/48 proto gre key 1.2.3.4", "src 2001:db8::/48 dst 2001:db8:1::/48 proto gre key 16909060"},
		{"dst 2001:db8:2::/48 proto ipv6-icmp type 0", "src ::/0 dst 2001:db8:2::/48 proto ipv6-icmp type 0"},
		{"dst 2001:db8:2::/48 proto ipv6-icmp code 3", "src ::/0 dst 2001:db8:2::/48 proto ipv6-icmp code 3"},
		{"dst 2001:db8:2::/48 proto icmp type 3 code 3", "src ::/0 dst 2001:db8:2::/48 proto icmp type 3 code 3"},
		{"dst 10.0.0.0/8 proto tcp dport 80", "src 0.0.0.0/0 dst 10.0.0.0/8 proto tcp dport 80"},
		{"dst 2001:db8:5::/48 proto dccp sport 80", "src ::/0 dst 2001:db8:5::/48 proto dccp sport 80"},
		{"dst 2001:db8:6::/48 proto 254", "src ::/0 dst 2001:db8:6::/48 proto 254"},
		{"dst 2001:db8:7::/48 proto any", "src ::/0 dst 2001:db8:7::/48"},
		{"dst 2001:db8:d::1/48", "src ::/0 dst 2001:db8:d::1/48"},
		{"dst 2001:db8:d::1", "src ::/0 dst 2001:db8:d::1/128"},
		{"dst 2001:db8:d::1 proto tcp dport 0", "src ::/0 dst 2001:db8:d::1/128 proto tcp"},
		{"src any dst all", "src ::/0 dst ::/0"},
		{"proto icmpv6 type 0/0x80", "src ::/0 dst ::/0 proto ipv6-icmp type 0/0x80"},
		{"proto icmpv6 type 3/0xff", "src ::/0 dst ::/0 proto ipv6-icmp type 3"},
		{"proto udp sport 0x1400/0xff00", "src ::/0 dst ::/0 proto udp sport 5120/0xff00"},
		{"proto sctp dport opaque", "src ::/0 dst ::/0 proto sctp sport opaque"},
		{"proto mh type opaque", "src ::/0 dst ::/0 proto mobility-header type opaque"},
		{"proto gre key opaque", "src ::/0 dst ::/0 proto gre key opaque"},
		{"proto gre key 0x50000/0xffff0000", "src ::/0 dst ::/0 proto gre key 327680/0xffff0000"},
	} {
		s := one(t, c.words)
		if got := s.Text(linkName); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.words, got, c.want)
		}
		if again := one(t, c.want); again != s {
			t.Errorf("%s is read as %+v, was %+v", c.want, again, s)
		}
	}
	if got := (Selector{}).Text(linkName); got != "src ::/0 dst ::/0" {
		t.Error(got)
	}
}

func codes(format string, n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(format, i))
	}
	return strings.Join(all, "|")
}

// TestRanges: one selector for each type, the fewest masks for ports, and their products.
func TestRanges(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Proto: "ipv6-icmp", Type: "133-137"}, "type 133|type 134|type 135|type 136|type 137"},
		{Spec{Proto: "ipv6-icmp", Type: "0-0", Code: "1-2"}, "type 0 code 1|type 0 code 2"},
		{Spec{Proto: "ipv6-icmp", Type: "1-4", Code: "254-255"}, "type 1 code 254|type 1 code 255|type 2|type 3|" + codes("type 4 code %d", 256)},
		{Spec{Proto: "ipv6-icmp", Type: "1-2", Code: "253"}, "type 1 code 253|type 1 code 254|type 1 code 255|" + codes("type 2 code %d", 254)},
		{Spec{Proto: "tcp", DPort: "1000-1100"}, "dport 1000/0xfff8|dport 1008/0xfff0|dport 1024/0xffc0|dport 1088/0xfff8|dport 1096/0xfffc|dport 1100"},
		{Spec{Proto: "tcp", DPort: "0-65535"}, ""},
		{Spec{Proto: "tcp", SPort: "0-1023", DPort: "80-81"}, "sport 0/0xfc00 dport 80/0xfffe"},
		{Spec{Proto: "tcp", SPort: "65535-65535"}, "sport 65535"},
	} {
		all, err := c.spec.Selectors(link)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range all {
			head := "src ::/0 dst ::/0 proto " + c.spec.Proto
			got = append(got, strings.TrimSpace(strings.TrimPrefix(s.Text(linkName), head)))
		}
		if g := strings.Join(got, "|"); g != c.want {
			t.Errorf("%+v\n got %s\nwant %s", c.spec, g, c.want)
		}
	}
	for port := range 1 << 16 { // each port of the range in exactly one of them
		all := cover(1000, 1100, false)
		n := 0
		for _, m := range all {
			if (uint16(port)^m.value)&m.mask == 0 {
				n++
			}
		}
		if (n == 1) != (port >= 1000 && port <= 1100) || n > 1 {
			t.Fatalf("port %d is in %d blocks", port, n)
		}
	}
}

// TestRefusals: words that say nothing, or nothing that can be.
func TestRefusals(t *testing.T) {
	for words, want := range map[string]string{
		"src":                                 "src: needs a value",
		"src ::1 src ::2":                     "src: given twice",
		"src 2001:db8::/130":                  `src: "2001:db8::/130" is neither a prefix nor an address`,
		"src fe80::1%lan0":                    `src: "fe80::1%lan0" is neither a prefix nor an address`,
		"src 10.0.0.0/8 dst 2001:db8::/32":    "src: 10.0.0.0/8 and dst 2001:db8::/32 are not of the same family",
		"dst ::ffff:10.0.0.1":                 "dst: ::ffff:10.0.0.1/128: write the IPv4 address",
		"proto 300":                           `proto: "300" is no protocol`,
		"proto nope type 3":                   `proto: "nope" is no protocol`,
		"proto 44":                            "proto: 44 is an extension header, and selectors are for what is behind it (RFC 4301 4.4.1.1)",
		"dport 80":                            "dport: needs a protocol (RFC 4301 7.1)",
		"type 3":                              "type: needs a protocol (RFC 4301 7.1)",
		"proto any dport 80":                  "dport: protocol any has none",
		"proto udp type 3":                    "type: protocol udp has none",
		"proto udp key 3":                     "key: protocol udp has none",
		"proto ipv6-icmp sport 3":             "sport: protocol ipv6-icmp has none",
		"proto esp dport 80":                  "dport: protocol esp has none",
		"proto gre key 5 sport 3":             "sport: protocol gre has none",
		"proto udp sport 70000":               `sport: "70000" is no number from 0 to 65535`,
		"proto udp sport 7-x":                 `sport: "x" is no number from 0 to 65535`,
		"proto udp sport 9-3":                 "sport: the range 9-3 is empty",
		"proto udp sport 5/0xff00":            "sport: 5/0xff00 has bits outside of its mask",
		"proto udp sport 5/z":                 `sport: "z" is no number from 0 to 65535`,
		"proto ipv6-icmp code 70000":          `code: "70000" is no number from 0 to 255`,
		"proto ipv6-icmp type 1-3 code 1/1":   "code: 1/1: a range of types goes with no mask",
		"proto udp sport opaque dport 5":      "dport: the ports of a packet are all opaque or none is",
		"proto udp sport 5 dport opaque":      "dport: the ports of a packet are all opaque or none is",
		"proto udp type opaque":               "type: protocol udp has none",
		"sport opaque":                        "sport: needs a protocol (RFC 4301 7.1)",
		"proto ipv6-icmp type 300":            `type: "300" is no number from 0 to 255`,
		"proto mh type 1 code 2":              "code: a Mobility Header has a type only (RFC 4301 4.4.1.1)",
		"proto gre key 1.2.3":                 `key: "1.2.3" is neither a number of 32 bits nor a dotted quad`,
		"proto gre key 5000000000":            `key: "5000000000" is neither a number of 32 bits nor a dotted quad`,
		"proto gre key 5/2":                   "key: 5/2 has bits outside of its mask",
		"dev nope":                            `dev: there is no link "nope"`,
		"src x dst y proto udp sport z dev q": "src: \"x\" is neither a prefix nor an address\ndst: \"y\" is neither a prefix nor an address\nsport: \"z\" is no number from 0 to 65535\ndev: there is no link \"q\"",
	} {
		s, _, err := Words(strings.Fields(words))
		if err == nil {
			_, err = s.Selectors(link)
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", words, err, want)
		}
	}
	if _, rest, err := Words([]string{"src", "::1", "dir", "out"}); err != nil || strings.Join(rest, " ") != "dir out" {
		t.Errorf("%v %v", rest, err)
	}
}
