package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"leveret/appliance/wire"
)

var (
	homeAddr = netip.MustParseAddr("2001:db8:100::abcd")
	careOf   = netip.MustParseAddr("2001:db8:200::1234")
	agent    = netip.MustParseAddr("2001:db8:100::1")
	peer     = netip.MustParseAddr("2001:db8:300::c")
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type fields struct {
	MHType            uint8  `json:"mh_type"`
	HomeInitCookie    string `json:"home_init_cookie"`
	CareOfInitCookie  string `json:"careof_init_cookie"`
	HomeNonceIndex    uint16 `json:"home_nonce_index"`
	CareOfNonceIndex  uint16 `json:"careof_nonce_index"`
	HomeKeygenToken   string `json:"home_keygen_token"`
	CareOfKeygenToken string `json:"careof_keygen_token"`
	Seq               uint16
	Flags             string
	Lifetime          uint16 `json:"lifetime_units"`
	Refresh           uint16 `json:"refresh_interval_units"`
	Status            uint8
	HomeAddress       string `json:"home_address"`
	Authenticator     string
	NAI               string
	SPI               uint32 `json:"mobility_spi"`
	AuthData          string `json:"auth_data"`
	AuthInput         string `json:"auth_input"`
}

type vector struct {
	Name, Packet     string
	Fields           fields
	Plain, Protected string
}

type vectors struct {
	MobilityHeader []vector `json:"mobility_header"`
	ICMPv6         []vector
	Data           []vector `json:"mip6_data"`
}

func load(t testing.TB) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/mobility.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// opened is a packet with what its headers say.
type opened struct {
	src, dst       netip.Addr // of the IPv6 header
	home, dstHome  netip.Addr // of the Home Address option and the Type 2 Routing header
	sumSrc, sumDst netip.Addr // of the checksum
	off            int        // of the Mobility Header or ICMPv6
}

func open(t testing.TB, pkt []byte) (o opened) {
	t.Helper()
	var c wire.Chain
	c.Walk(pkt)
	if c.Problem != wire.NoProblem {
		t.Fatalf("chain: %d", c.Problem)
	}
	o.src, o.dst = netip.AddrFrom16([16]byte(pkt[8:24])), netip.AddrFrom16([16]byte(pkt[24:40]))
	o.sumSrc, o.sumDst, o.off = o.src, o.dst, c.Off
	var f Fault
	if o.home, _, f = HomeAddress(pkt, &c); !f.OK() {
		t.Fatal(f)
	}
	if o.home.IsValid() {
		o.sumSrc = o.home
	}
	for _, h := range c.Headers[:c.N] {
		switch h.Proto {
		case wire.Routing:
			if o.dstHome, f = Type2(pkt, h.Off); !f.OK() {
				t.Fatal(f)
			}
			o.sumDst = o.dstHome
		case wire.MH:
			o.off = h.Off
		}
	}
	return o
}

// head builds the headers before the upper layer again.
func (o opened) head(last uint8, payload int) []byte {
	next, n := last, payload
	if o.home.IsValid() {
		next, n = wire.DestOpts, n+HomeAddressLen
	}
	first := next
	if o.dstHome.IsValid() {
		first, n = wire.Routing, n+Type2Len
	}
	b := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: uint16(n), NextHeader: first, HopLimit: 64, Src: o.src, Dst: o.dst})
	if o.dstHome.IsValid() {
		b = AppendType2(b, next, o.dstHome)
	}
	if o.home.IsValid() {
		b = AppendHomeAddress(b, last, o.home)
	}
	return b
}

func cookie(t testing.TB, s string) [8]byte { t.Helper(); return [8]byte(unhex(t, s)) }

// check compares a message with the fields of its vector.
func check(t *testing.T, m Message, f fields) {
	t.Helper()
	eq := func(name string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if f.NAI == "" { // that vector says nothing of it
		eq("type", m.Type(), f.MHType)
	}
	if x, ok := m.TestInit(); ok {
		eq("cookie", x.Cookie(), cookie(t, f.HomeInitCookie+f.CareOfInitCookie))
	}
	if x, ok := m.Test(); ok {
		eq("cookie", x.Cookie(), cookie(t, f.HomeInitCookie+f.CareOfInitCookie))
		eq("token", x.Token(), cookie(t, f.HomeKeygenToken+f.CareOfKeygenToken))
		eq("index", x.NonceIndex(), f.HomeNonceIndex+f.CareOfNonceIndex)
	}
	if x, ok := m.BindingUpdate(); ok {
		if f.NAI == "" {
			eq("sequence", x.Sequence(), f.Seq)
			eq("lifetime", x.Lifetime(), f.Lifetime)
			eq("A", x.Flags()&FlagAcknowledge != 0, true)
		}
	}
	if x, ok := m.BindingAck(); ok {
		eq("status", x.Status(), Status(f.Status))
		if f.Flags != "R" { // the vector has no others of them
			eq("sequence", x.Sequence(), f.Seq)
			eq("lifetime", x.Lifetime(), f.Lifetime)
		}
		eq("K", x.Flags()&AckKeyManagement != 0, strings.Contains(f.Flags, "K"))
		eq("R", x.Flags()&AckMobileRouter != 0, strings.Contains(f.Flags, "R"))
		if a, ok := x.RefreshAdvice(); ok || f.Refresh != 0 {
			eq("refresh advice", a, f.Refresh)
		}
	}
	if x, ok := m.BindingError(); ok {
		eq("status", x.Status(), f.Status)
		eq("home address", x.HomeAddress(), netip.MustParseAddr(f.HomeAddress))
	}
	a, _ := m.Authenticator()
	eq("authenticator", hex.EncodeToString(a), f.Authenticator)
	if f.NAI != "" {
		sub, id, _ := m.Identifier()
		eq("identifier", string(id), f.NAI)
		eq("subtype", sub, uint8(IdentifierNAI))
		au, _ := m.Authentication(AuthHome)
		eq("SPI", au.SPI, f.SPI)
		eq("data", hex.EncodeToString(au.Data), f.AuthData)
		covered := bytes.Clone(au.Covered)
		covered[4], covered[5] = 0, 0
		eq("covered", hex.EncodeToString(covered), f.AuthInput[64:])
	}
}

// rebuild builds a message from what the views say of another.
func rebuild(b []byte, m Message, src, dst netip.Addr) []byte {
	var w Builder
	switch m.Type() {
	case TypeBRR:
		w = NewRefreshRequest(b)
	case TypeHoTI, TypeCoTI:
		x, _ := m.TestInit()
		w = NewTestInit(b, m.Type(), x.Cookie())
	case TypeHoT, TypeCoT:
		x, _ := m.Test()
		w = NewTest(b, m.Type(), x.NonceIndex(), x.Cookie(), x.Token())
	case TypeBU:
		x, _ := m.BindingUpdate()
		w = NewBindingUpdate(b, x.Sequence(), x.Flags(), x.Lifetime())
	case TypeBA:
		x, _ := m.BindingAck()
		w = NewBindingAck(b, x.Status(), x.Flags(), x.Sequence(), x.Lifetime())
	case TypeBE:
		x, _ := m.BindingError()
		w = NewBindingError(b, x.Status(), x.HomeAddress())
	}
	type fill struct {
		at   int
		data []byte
	}
	var fills []fill
	for o := m.Options(); ; {
		x, ok := o.Next()
		if !ok {
			break
		}
		switch x.Type {
		case OptRefreshAdvice:
			w.RefreshAdvice(binary.BigEndian.Uint16(x.Data))
		case OptAlternateCareOf:
			w.AlternateCareOf(netip.AddrFrom16([16]byte(x.Data)))
		case OptNonceIndices:
			w.NonceIndices(binary.BigEndian.Uint16(x.Data), binary.BigEndian.Uint16(x.Data[2:]))
		case OptMobileNetwork:
			if p, ok := x.MobileNetwork(); ok {
				w.MobileNetwork(p)
			}
		case OptIdentifier:
			w.Identifier(x.Data[0], x.Data[1:])
		case OptReplayProtection:
			w.Timestamp(binary.BigEndian.Uint64(x.Data))
		case OptAuthorization:
			w.Authorization()
			fills = append(fills, fill{-AuthenticatorLen, x.Data})
		case OptAuthentication:
			if len(x.Data) == 5+AuthenticatorLen {
				fills = append(fills, fill{w.Authentication(x.Data[0], binary.BigEndian.Uint32(x.Data[1:])), x.Data[5:]})
			}
		}
	}
	out := w.Close()
	for _, f := range fills {
		at := f.at
		if at < 0 {
			at += len(out)
		}
		copy(out[at:], f.data)
	}
	return w.Finish(src, dst)
}

// TestVectors: every Mobility Header of the vectors, read and built again octet for octet.
func TestVectors(t *testing.T) {
	v := load(t)
	seen := map[uint8]bool{}
	for _, x := range v.MobilityHeader {
		t.Run(x.Name, func(t *testing.T) {
			pkt := unhex(t, x.Packet)
			o := open(t, pkt)
			m, f := Parse(pkt, o.off, o.sumSrc, o.sumDst)
			if !f.OK() {
				t.Fatalf("%v at %d", f.Reason, f.Pointer)
			}
			seen[m.Type()] = true
			check(t, m, x.Fields)
			if got := rebuild(o.head(wire.MH, len(pkt)-o.off), m, o.sumSrc, o.sumDst); !bytes.Equal(got, pkt) {
				t.Errorf("built\n%x, want\n%x", got, pkt)
			}
		})
	}
	if len(v.MobilityHeader) < 28 || len(seen) != types-1 { // there is no CoT among them
		t.Errorf("%d vectors of types %v", len(v.MobilityHeader), seen)
	}
}

// TestDataVectors: packets of Mobile IPv6, in which home addresses change places with those of the header.
func TestDataVectors(t *testing.T) {
	n := 0
	for _, x := range load(t).Data {
		raw := x.Protected
		if strings.Contains(x.Name, "ESP") {
			raw = x.Plain
		}
		pkt := unhex(t, raw)
		o := open(t, pkt)
		switch {
		case strings.HasPrefix(x.Name, "BU"), strings.HasPrefix(x.Name, "BA"):
			m, f := Parse(pkt, o.off, o.sumSrc, o.sumDst)
			if !f.OK() {
				t.Errorf("%s: %v", x.Name, f)
				continue
			}
			if got := rebuild(o.head(wire.MH, len(pkt)-o.off), m, o.sumSrc, o.sumDst); !bytes.Equal(got, pkt) {
				t.Errorf("%s: built\n%x, want\n%x", x.Name, got, pkt)
			}
			if u, ok := m.BindingUpdate(); ok {
				if a, ok := u.AlternateCareOf(); !ok || a != careOf || u.Flags() != FlagAcknowledge|FlagHome|FlagLinkLocal || o.home != homeAddr {
					t.Errorf("%s: care-of address %v, flags %x, home address %v", x.Name, a, u.Flags(), o.home)
				}
			}
			n++
		case strings.HasPrefix(x.Name, "RO data"):
			plain := unhex(t, x.Plain)
			if got, want := [2]netip.Addr{o.sumSrc, o.sumDst}, ([2]netip.Addr{netip.AddrFrom16([16]byte(plain[8:])), netip.AddrFrom16([16]byte(plain[24:]))}); got != want {
				t.Errorf("%s: %v, want %v", x.Name, got, want)
			}
			if got := append(o.head(plain[6], len(plain)-40), plain[40:]...); !bytes.Equal(got, pkt) {
				t.Errorf("%s: built\n%x, want\n%x", x.Name, got, pkt)
			}
			n++
		}
	}
	if n != 4 {
		t.Errorf("only %d", n)
	}
}

// TestControlVectors: discovery of home agents and prefixes.
func TestControlVectors(t *testing.T) {
	for _, x := range load(t).ICMPv6 {
		pkt := unhex(t, x.Packet)
		o := open(t, pkt)
		c, f := ParseControl(pkt, o.off, o.sumSrc, o.sumDst)
		if !f.OK() {
			t.Errorf("%s: %v", x.Name, f)
			continue
		}
		if got := rebuildControl(o.head(wire.ICMPv6, len(pkt)-o.off), c, o.sumSrc, o.sumDst); !bytes.Equal(got, pkt) {
			t.Errorf("%s: built\n%x, want\n%x", x.Name, got, pkt)
		}
		switch c.Type() {
		case TypeDiscoveryReply:
			if c.HomeAgents() != 2 || c.HomeAgent(0) != agent || c.ID() != 0x4242 || c.Routers() {
				t.Errorf("%s: %d agents, %v first", x.Name, c.HomeAgents(), c.HomeAgent(0))
			}
		case TypePrefixAdvertisement:
			w := c.Prefixes()
			p, ok := w.Next()
			if !ok || p.Prefix != netip.MustParsePrefix("2001:db8:100::/64") || p.Addr != agent || !p.RouterAddr || !p.OnLink || !p.Autonomous ||
				p.Valid.Seconds() != 2592000 || p.Preferred.Seconds() != 604800 || !c.Managed() || c.Other() {
				t.Errorf("%s: %+v", x.Name, p)
			}
			if _, ok := w.Next(); ok {
				t.Errorf("%s: a second prefix", x.Name)
			}
		}
	}
}

func rebuildControl(b []byte, c Control, src, dst netip.Addr) []byte {
	switch c.Type() {
	case TypeDiscoveryRequest:
		return AppendDiscoveryRequest(b, c.ID(), c.Routers(), src, dst)
	case TypeDiscoveryReply:
		var list []netip.Addr
		for i := range c.HomeAgents() {
			list = append(list, c.HomeAgent(i))
		}
		return AppendDiscoveryReply(b, c.ID(), c.Routers(), list, src, dst)
	case TypePrefixSolicitation:
		return AppendPrefixSolicitation(b, c.ID(), src, dst)
	}
	return AppendPrefixAdvertisement(b, c.ID(), c.Managed(), c.Other(), slices.Collect(func(yield func(Prefix) bool) {
		for w := c.Prefixes(); ; {
			if p, ok := w.Next(); !ok || !yield(p) {
				return
			}
		}
	}), src, dst)
}
