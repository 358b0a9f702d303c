package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"leveret/appliance/wire"
)

// packet puts a Mobility Header behind an IPv6 header and a Home Address option, with a checksum that is right
// unless told otherwise.
func packet(mh []byte) []byte {
	b := wire.AppendIPv6(nil, wire.IPv6Fields{
		PayloadLength: uint16(HomeAddressLen + len(mh)), NextHeader: wire.DestOpts, HopLimit: 64, Src: careOf, Dst: peer,
	})
	return append(AppendHomeAddress(b, wire.MH, homeAddr), mh...)
}

func sum(mh []byte) []byte {
	mh = bytes.Clone(mh)
	mh[4], mh[5] = 0, 0
	n := min((int(mh[1])+1)*8, len(mh))
	s, d := homeAddr.As16(), peer.As16()
	binary.BigEndian.PutUint16(mh[4:], wire.Checksum(&s, &d, wire.MH, mh[:n]))
	return mh
}

// TestFaults: what is wrong with a message, which octet, and how it is answered (RFC 6275 9.2).
func TestFaults(t *testing.T) {
	const at = wire.IPv6HeaderLen + HomeAddressLen
	bu := "3b01050000000001800000690102 0000"
	for _, c := range []struct {
		name, mh string
		reason   Reason
		pointer  int // from the Mobility Header
		answer   Answer
	}{
		{"update", bu, Fine, 0, Silence},
		{"reserved fields are ignored", "3b0105ff 0000 0001 bfff0069 01020000", Fine, 0, Silence},
		{"padding is not looked at", "3b010500 0000 0001 80000069 0102ffff", Fine, 0, Silence},
		{"octets behind the header are ignored", bu + "ffff", Fine, 0, Silence},
		{"unknown options are skipped", "3b020500 0000 0001 80000069 ee03aaaaaa 0100 ff00 0101 00 00 00", Fine, 0, Silence},
		{"options of other extensions are skipped", "3b020500 0000 0001 80000069 07020100 1d06 2000 0a000001", Fine, 0, Silence},
		{"cut in the fixed part", "3b0105", Truncated, 0, Silence},
		{"longer than the packet", "3b02050000000001800000690102 0000", Truncated, 1, Silence},
		{"type 8", "3b00080000000000", UnrecognizedType, 2, BindingError},
		{"heartbeat", "3b000d0000000000", UnrecognizedType, 2, BindingError},
		{"type 255, piggybacked and short", "3a00ff0000000000", UnrecognizedType, 2, BindingError},
		{"piggybacked", "3a01050000000001800000690102 0000", Piggybacked, 0, ParameterProblem},
		{"piggybacked and short", "3a00050000000001", Piggybacked, 0, ParameterProblem},
		{"short HoTI", "3b00010000000000", ShortHeader, 1, ParameterProblem},
		{"short CoTI", "3b00020000000000", ShortHeader, 1, ParameterProblem},
		{"short HoT", "3b01030000000000 0000000000000000", ShortHeader, 1, ParameterProblem},
		{"short CoT", "3b01040000000000 0000000000000000", ShortHeader, 1, ParameterProblem},
		{"short BU", "3b00050000000001", ShortHeader, 1, ParameterProblem},
		{"short BA", "3b00060000000001", ShortHeader, 1, ParameterProblem},
		{"short BE", "3b01070001000000 0000000000000000", ShortHeader, 1, ParameterProblem},
		{"shortest BRR", "3b00000000000000", Fine, 0, Silence},
		{"option past the end", "3b01050000000001 80000069 ee030000", OptionOverrun, 12, Silence},
		{"option without length", "3b01050000000001 80000069 000000ee", OptionOverrun, 15, Silence},
		{"PadN past the end", "3b01050000000001 80000069 01030000", OptionOverrun, 12, Silence},
		{"refresh advice", "3b010600 0000 0000 00000069 02020e10", Fine, 0, Silence},
		{"refresh advice at an odd octet", "3b020600 0000 0000 00000069 00 02020e10 0101 00 0102 0000", OptionMisaligned, 13, Silence},
		{"refresh advice of three octets", "3b020600 0000 0000 00000069 02030e1000 0101 00 0102 0000", OptionLength, 13, Silence},
		{"misaligned alternate care-of address", "3b030500 0000 0001 80000069 0310 20010db8020000000000000000001234 0100", OptionMisaligned, 12, Silence},
		{"nonce indices at an odd octet", "3b020500 0000 0001 80000069 00 0404 0001 0002 0101 00 0100", OptionMisaligned, 13, Silence},
		{"nonce indices of two octets", "3b010500 0000 0001 80000069 04020001", OptionLength, 13, Silence},
		{"authorization", "3b030500 0000 0001 80000069 0404 00010002 050c 000000000000000000000000", Fine, 0, Silence},
		{"padding behind the authorization", "3b040500 0000 0001 80000069 0404 00010002 050c 000000000000000000000000 0106000000000000", AuthNotLast, 32, Silence},
		{"one octet of padding in front", "3b040500 0000 0001 80000069 0404 00010002 00 050c 000000000000000000000000 0105 0000000000", OptionMisaligned, 19, Silence},
		{"authorization of eight octets", "3b030500 0000 0001 80000069 0404 00010002 0508 0000000000000000 0102 0000", OptionLength, 19, Silence},
		{"authorization in a message that has none", "3b040000 0000 0000 0508 0000000000000000 01160000 000000000000 000000000000000000000000 00000000", OptionLength, 9, Silence},
		{"mobile network of no length", "3b010500 0000 0001 84000069 0600 0100", Fine, 0, Silence},
		{"misaligned mobile network", "3b040500 0000 0001 84000069 0100 0612 0030 20010db8000100000000000000000000 01040000 0000", OptionMisaligned, 14, Silence},
		{"identifier of one octet", "3b010500 0000 0001 8000 0069 080101 00", OptionLength, 13, Silence},
		{"misaligned replay protection", "3b020500 0000 0001 8000 0069 0a08 0000000000000000 0100", OptionMisaligned, 12, Silence},
		{"misaligned authentication", "3b020500 0000 0001 8000 0069 0906 0100000100aa 0102 0000", OptionMisaligned, 12, Silence},
		{"authentication without SPI", "3b010500 0000 0001 8000 0069 00 09 01 01", OptionLength, 14, Silence},
	} {
		mh := unhex(t, c.mh)
		if len(mh) >= 8 {
			mh = sum(mh)
		}
		pkt := packet(mh)
		m, f := Parse(pkt, at, homeAddr, peer)
		want := Fault{c.reason, at + c.pointer}
		if c.reason == Fine {
			want = Fault{}
		}
		if f != want || f.Answer() != c.answer {
			t.Errorf("%s: %v at %d, answer %d; want %v at %d, answer %d", c.name, f.Reason, f.Pointer-at, f.Answer(), want.Reason, want.Pointer-at, c.answer)
		}
		if _, is := m.BindingUpdate(); is && !f.OK() {
			t.Errorf("%s: there is a view of it", c.name)
		}
		if len(mh) < 8 {
			continue
		}
		// The checksum comes first (RFC 6275 9.2): then there is silence, whatever else is wrong.
		pkt[at+4] ^= 1
		if _, f := Parse(pkt, at, homeAddr, peer); f.Answer() != Silence || c.reason != Truncated && f.Reason != BadChecksum {
			t.Errorf("%s: a bad checksum is answered: %v", c.name, f)
		}
	}
	// Pointer 65 of the acceptance table: the Header Len behind 40 and 24 octets.
	if _, f := Parse(packet(sum(unhex(t, "3b00050000000001"))), at, homeAddr, peer); f != (Fault{ShortHeader, 65}) {
		t.Errorf("short update: %+v", f)
	}
	// The checksum is that of the home address, not of the care-of address.
	if _, f := Parse(packet(sum(unhex(t, bu))), at, careOf, peer); f.Reason != BadChecksum {
		t.Errorf("care-of address in the checksum: %v", f)
	}
	for _, off := range []int{-1, at + 9, 1 << 30} {
		if _, f := Parse(packet(unhex(t, bu)), off, homeAddr, peer); f.Reason != Truncated {
			t.Errorf("offset %d: %v", off, f)
		}
	}
}

// TestAuthenticationOrder: what may stand behind a Mobility Message Authentication option (RFC 4285 5, RFC 4283 3.2).
func TestAuthenticationOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		add  func(w *Builder)
		want Reason
	}{
		{"MN-HA", func(w *Builder) { w.Authentication(AuthHome, 256) }, Fine},
		{"MN-HA, MN-AAA", func(w *Builder) { w.Authentication(AuthHome, 256); w.Authentication(AuthAAA, 3) }, Fine},
		{"MN-AAA, MN-HA", func(w *Builder) { w.Authentication(AuthAAA, 3); w.Authentication(AuthHome, 256) }, AuthNotLast},
		{"MN-HA twice", func(w *Builder) { w.Authentication(AuthHome, 256); w.Authentication(AuthHome, 256) }, AuthNotLast},
		{"identifier, timestamp, MN-HA", func(w *Builder) {
			w.Identifier(IdentifierNAI, []byte("a@b"))
			w.Timestamp(1)
			w.Authentication(AuthHome, 256)
		}, Fine},
		{"identifier behind it", func(w *Builder) { w.Authentication(AuthHome, 256); w.Identifier(IdentifierNAI, []byte("a@b")) }, AuthNotLast},
		{"unknown subtype 0", func(w *Builder) { w.Authentication(0, 256) }, AuthNotLast},
	} {
		for _, w := range []Builder{NewBindingUpdate(nil, 1, FlagHome, 1), NewBindingAck(nil, 0, 0, 1, 1)} {
			c.add(&w)
			if _, f := Parse(w.Finish(homeAddr, peer), 0, homeAddr, peer); f.Reason != c.want {
				t.Errorf("%s: %v, want %v", c.name, f.Reason, c.want)
			}
		}
	}
	w := NewBindingUpdate(nil, 1, FlagHome, 1)
	w.Timestamp(0x0123456789abcdef)
	at := w.Authentication(AuthHome, 256)
	copy(w.Close()[at:], "authenticity")
	m, f := Parse(w.Finish(homeAddr, peer), 0, homeAddr, peer)
	if ts, ok := m.Timestamp(); !ok || ts != 0x0123456789abcdef || !f.OK() {
		t.Errorf("timestamp %x, %v", ts, f)
	}
	if a, ok := m.Authentication(AuthHome); !ok || string(a.Data) != "authenticity" || len(a.Covered) != at {
		t.Errorf("authentication %+v", a)
	}
	if _, ok := m.Authentication(AuthAAA); ok {
		t.Error("an option that is not there")
	}
}

// TestOtherMessages: options do not count where they are not valid (RFC 6275 6.2.4 to 6.2.7).
func TestOtherMessages(t *testing.T) {
	w := NewTestInit(nil, TypeHoTI, [8]byte{1})
	w.Authorization()
	w.RefreshAdvice(1)
	m, f := Parse(w.Finish(homeAddr, peer), 0, homeAddr, peer)
	if !f.OK() {
		t.Fatal(f)
	}
	if _, ok := m.Authenticator(); ok {
		t.Error("a test init message has an authenticator")
	}
	if _, ok := m.Authentication(AuthHome); ok {
		t.Error("a test init message has authentication data")
	}
	for name, is := range map[string]bool{
		"test": func() bool { _, ok := m.Test(); return ok }(), "update": func() bool { _, ok := m.BindingUpdate(); return ok }(),
		"acknowledgement": func() bool { _, ok := m.BindingAck(); return ok }(), "error": func() bool { _, ok := m.BindingError(); return ok }(),
	} {
		if is {
			t.Errorf("a test init message is a %s", name)
		}
	}
	if _, ok := m.TestInit(); !ok {
		t.Error("a test init message is none")
	}
	if _, ok := (Message{}).TestInit(); ok {
		t.Error("nothing is a test init message")
	}
}

func TestMobileNetwork(t *testing.T) {
	for _, c := range []struct {
		option string
		want   string // "" = not one
	}{
		{"0612 00 30 20010db8000100000000000000000000", "2001:db8:1::/48"},
		{"0612 ff 30 20010db8000100000000000000000001", "2001:db8:1::/48"}, // reserved is ignored
		{"0612 00 80 20010db8000100000000000000000001", "2001:db8:1::1/128"},
		{"0612 00 81 20010db8000100000000000000000000", ""},
		{"0612 00 40 ff020000000000000000000000000000", ""},
		{"0612 00 40 fe800000000000000000000000000000", ""},
		{"0611 00 30 20010db80001000000000000000000 00", ""},
		{"0600", ""},
	} {
		raw := unhex(t, "3b050500 0000 0001 84000069"+c.option)
		for len(raw) < 48 {
			raw = append(raw, 0)
		}
		m, f := Parse(sum(raw), 0, homeAddr, peer)
		if !f.OK() {
			t.Errorf("%s: %v", c.option, f)
			continue
		}
		o, _ := m.first(OptMobileNetwork)
		p, ok := o.MobileNetwork()
		if ok != (c.want != "") || ok && p.String() != c.want {
			t.Errorf("%s: %v, %v", c.option, p, ok)
		}
	}
	w := NewBindingUpdate(nil, 1, FlagMobileRouter, 1)
	n := 0
	for w.MobileNetwork(netip.MustParsePrefix("2001:db8::/48")) {
		n++
	}
	w.Authentication(AuthHome, 256)
	m, f := Parse(w.Finish(homeAddr, peer), 0, homeAddr, peer)
	if !f.OK() || len(m.Bytes()) > maxLen || n < 80 {
		t.Errorf("%d networks in %d octets: %v", n, len(m.Bytes()), f)
	}
}

// TestHomeAddress: where the option may stand and what it may say (RFC 6275 6.3, 9.3.1).
func TestHomeAddress(t *testing.T) {
	const (
		hao   = "0201020000c91020010db801000000000000000000abcd"
		other = "0001040000 0000"
		rh2   = "0202010000000020010db80200000000000000000012ff"
	)
	for _, c := range []struct {
		name, first, chain string // the first protocol; then headers, each from its Next Header octet
		want               Reason
		at                 int // of the address or the fault
	}{
		{"none", "00", "3b" + other, Fine, 0},
		{"alone", "3c", "3b" + hao, Fine, 48},
		{"misaligned", "3c", "3b02 c910 20010db801000000000000000000abcd 0102 0000", HomeAddressBad, 42},
		{"padded as it has to be", "3c", "3b03 010a 00000000000000000000 c910 20010db801000000000000000000abcd 0100", Fine, 56},
		{"behind the routing header", "2b", "3c" + rh2 + "3b" + hao, Fine, 72},
		{"before the routing header", "3c", "2b" + hao + "3b" + rh2, HomeAddressBad, 46},
		{"twice in a packet", "3c", "3c" + hao + "3b" + hao, HomeAddressBad, 70},
		{"twice in a header", "3c", "3b05 0102 0000 c910 20010db801000000000000000000abcd 0104 00000000 c910 20010db801000000000000000000abcd 0100", HomeAddressBad, 70},
		{"behind a fragment header", "2c", "3c00 0000 00000001 3b" + hao, HomeAddressBad, 54},
		{"behind AH", "33", "3c04 0000 00000100 00000001 000000000000000000000000 3b" + hao, HomeAddressBad, 70},
		{"of eight octets", "3c", "3b01 0102 0000 c908 20010db801000000", HomeAddressBad, 46},
		{"link-local", "3c", "3b0201020000c910fe80000000000000000000000000abcd", HomeNotRoutable, 48},
		{"group", "3c", "3b0201020000c910ff0e000000000000000000000000abcd", HomeNotRoutable, 48},
		{"unspecified", "3c", "3b0201020000c91000000000000000000000000000000000", HomeNotRoutable, 48},
		{"loopback", "3c", "3b0201020000c91000000000000000000000000000000001", HomeNotRoutable, 48},
	} {
		body := unhex(t, c.chain)
		b := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(len(body)), NextHeader: unhex(t, c.first)[0], HopLimit: 64, Src: careOf, Dst: peer})
		pkt := append(b, body...)
		var ch wire.Chain
		ch.Walk(pkt)
		if ch.Problem != wire.NoProblem {
			t.Errorf("%s: the chain is wrong: %d at %d", c.name, ch.Problem, ch.ProblemOff)
			continue
		}
		home, off, f := HomeAddress(pkt, &ch)
		switch {
		case f.Reason != c.want:
			t.Errorf("%s: %v, want %v", c.name, f.Reason, c.want)
		case !f.OK() && (f.Pointer != c.at || f.Answer() != Silence || home.IsValid()):
			t.Errorf("%s: %v, at %d, want %d", c.name, f.Reason, f.Pointer, c.at)
		case f.OK() && (off != c.at || home.IsValid() != (c.at != 0) || home.IsValid() && home != homeAddr):
			t.Errorf("%s: %v at %d, want %d", c.name, home, off, c.at)
		}
	}
}

// TestType2: RFC 6275 6.4.1.
func TestType2(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         Reason
	}{
		{"as it has to be", "3a020201 00000000 20010db801000000000000000000abcd", Fine},
		{"reserved is ignored", "3a020201 ffffffff 20010db801000000000000000000abcd", Fine},
		{"no segments left", "3a020200 00000000 20010db801000000000000000000abcd", RoutingHeaderBad},
		{"two segments left", "3a020202 00000000 20010db801000000000000000000abcd", RoutingHeaderBad},
		{"type 0", "3a020001 00000000 20010db801000000000000000000abcd", RoutingHeaderBad},
		{"two addresses", "3a040201 00000000 20010db801000000000000000000abcd 20010db801000000000000000000abcd", RoutingHeaderBad},
		{"cut", "3a020201 00000000 20010db8010000000000", RoutingHeaderBad},
		{"link-local", "3a020201 00000000 fe80000000000000000000000000abcd", HomeNotRoutable},
		{"group", "3a020201 00000000 ff0e000000000000000000000000abcd", HomeNotRoutable},
	} {
		home, f := Type2(unhex(t, c.header), 0)
		if f.Reason != c.want || f.Answer() != Silence || f.OK() && home != homeAddr || !f.OK() && home.IsValid() {
			t.Errorf("%s: %v, %v", c.name, home, f.Reason)
		}
	}
	if _, f := Type2(nil, -1); f.OK() {
		t.Error("an offset before the packet")
	}
}

// TestControlFaults: RFC 6275 6.5 to 6.8 and RFC 3963 7.
func TestControlFaults(t *testing.T) {
	icmp := func(s string) []byte {
		b := unhex(t, s)
		x, y := homeAddr.As16(), peer.As16()
		if len(b) > 4 {
			binary.BigEndian.PutUint16(b[2:], wire.Checksum(&x, &y, wire.ICMPv6, b))
		}
		return b
	}
	for _, c := range []struct {
		name, msg string
		want      Reason
	}{
		{"request", "9000 0000 1234 0000", Fine},
		{"request with R", "9000 0000 1234 8000", Fine},
		{"reply without addresses", "9100 0000 1234 0000", Fine},
		{"reply with half an address", "9100 0000 1234 0000 20010db801000000", Truncated},
		{"solicitation with an unknown option", "9200 0000 1234 0000 0101 020000000001", Fine},
		{"option of no length", "9200 0000 1234 0000 0100 020000000001", OptionOverrun},
		{"option past the end", "9300 0000 1234 8000 0304 4040 00000000", OptionOverrun},
		{"half an option", "9300 0000 1234 8000 03", OptionOverrun},
		{"code 1", "9001 0000 1234 0000", BadCode},
		{"echo request", "8000 0000 1234 0000", NotControl},
		{"type 148", "9400 0000 1234 0000", NotControl},
		{"cut", "9000 0000 1234", Truncated},
	} {
		m, f := ParseControl(icmp(c.msg), 0, homeAddr, peer)
		if f.Reason != c.want || f.Answer() != Silence {
			t.Errorf("%s: %v, want %v, answer %d", c.name, f.Reason, c.want, f.Answer())
		}
		if f.OK() && (m.ID() != 0x1234 || m.Routers() != (c.name == "request with R")) {
			t.Errorf("%s: identifier %x, R %v", c.name, m.ID(), m.Routers())
		}
	}
	bad := icmp("9000 0000 1234 0000")
	bad[7] = 1
	if _, f := ParseControl(bad, 0, homeAddr, peer); f.Reason != BadChecksum {
		t.Errorf("checksum: %v", f)
	}
	// Prefix options that cannot be are passed over alone.
	c, f := ParseControl(icmp("9300 0000 1234 4000 0304 8140 00000001 00000001 00000000 20010db8000100000000000000000000"+
		"0302 4040 00000001 00000001 00000000 0304 3000 ffffffff 00000001 00000000 20010db8000100000000000000000001"), 0, homeAddr, peer)
	if !f.OK() || c.Managed() || !c.Other() {
		t.Fatalf("%v, M %v, O %v", f, c.Managed(), c.Other())
	}
	w := c.Prefixes()
	if p, ok := w.Next(); !ok || p.Prefix.String() != "2001:db8:1::/48" || p.Valid != Infinite || p.OnLink || p.RouterAddr {
		t.Errorf("%+v", p)
	}
	if p, ok := w.Next(); ok {
		t.Errorf("more: %+v", p)
	}
	// A reply has as many addresses as 1280 octets hold (10.5.1).
	b := AppendDiscoveryReply(nil, 1, true, make([]netip.Addr, 0, 1), homeAddr, peer)
	if len(b) != 8 {
		t.Errorf("%d octets", len(b))
	}
	list := make([]netip.Addr, 100)
	for i := range list {
		list[i] = agent
	}
	if b := AppendDiscoveryReply(nil, 1, true, list, homeAddr, peer); len(b)+wire.IPv6HeaderLen > wire.MinMTU || len(b)+wire.IPv6HeaderLen+16 <= wire.MinMTU {
		t.Errorf("%d octets", len(b))
	}
}

// TestNames: every reason and status has words of its own.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range reasons {
		if seen[r.String()] || r.String() == "" {
			t.Errorf("%d: %q", r, r)
		}
		seen[r.String()] = true
	}
	for s := range statuses {
		if seen[s.String()] {
			t.Errorf("%d: %q", s, s)
		}
		seen[s.String()] = true
	}
	if got := reasons.String() + ", " + Status(200).String(); got != "reason 15, status 200" {
		t.Error(got)
	}
}

// TestNoAllocation: views and builders cost none.
func TestNoAllocation(t *testing.T) {
	w := NewBindingUpdate(nil, 7, FlagAcknowledge|FlagHome, 100)
	w.AlternateCareOf(careOf)
	w.NonceIndices(1, 2)
	w.Authorization()
	pkt := packet(w.Finish(homeAddr, peer))
	buf := make([]byte, 0, 256)
	var c wire.Chain
	if n := testing.AllocsPerRun(100, func() {
		c.Walk(pkt)
		home, _, _ := HomeAddress(pkt, &c)
		m, f := Parse(pkt, c.Headers[c.N-1].Off, home, peer)
		u, ok := m.BindingUpdate()
		a, alt := u.AlternateCareOf()
		h, _, _ := u.NonceIndices()
		auth, _ := u.Authenticator()
		if !f.OK() || !ok || !alt || a != careOf || h != 1 || len(auth) != AuthenticatorLen {
			t.Fatal(f)
		}
		b := AppendHomeAddress(buf, wire.MH, homeAddr)
		w := NewBindingAck(b, Accepted, 0, 7, 100)
		w.Authorization()
		copy(w.Close(), "")
		w.Finish(peer, homeAddr)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
