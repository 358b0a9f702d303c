package ndwire

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSplit: nothing is lost, nothing is longer than the MTU, and each part has what each must have.
func TestSplit(t *testing.T) {
	m := vectorRA()
	if parts := m.Split(1280); len(parts) != 1 || !reflect.DeepEqual(parts[0], m) {
		t.Errorf("an RA that fits became %+v", parts)
	}
	for i := range 60 {
		m.Prefixes = append(m.Prefixes, PrefixInfo{Prefix: netip.PrefixFrom(addr(fmt.Sprintf("2001:db8:%x::", i)), 64)})
		m.Routes = append(m.Routes, RouteInfo{Prefix: netip.PrefixFrom(addr(fmt.Sprintf("fd00:%x::", i)), 32)})
		m.RDNSS = append(m.RDNSS, RDNSS{[]netip.Addr{netip.AddrFrom16([16]byte{0xfd, 15: byte(i)})}, time.Second})
		m.DNSSL = append(m.DNSSL, DNSSL{[]string{fmt.Sprint("n", i)}, time.Second})
		m.PREF64 = append(m.PREF64, PREF64{Prefix: prefix("64:ff9b::/96"), Lifetime: time.Duration(8*i) * time.Second})
	}
	m.CaptivePortal = "https://" + strings.Repeat("x", 1000)
	first := m.Prefixes[0]
	var all RA
	for _, p := range m.Split(1280) {
		if n := len(AppendRA(nil, p)); n > 1280 {
			t.Errorf("a part has %d octets", n)
		}
		if len(p.Prefixes) == 0 || p.Prefixes[0] != first || p.HomeAgentInfo == nil || p.SourceLLA == nil || p.MTU != 1500 || p.AdvInterval == 0 {
			t.Errorf("a part lacks what every part must have: %+v", p)
		}
		all.Prefixes = append(all.Prefixes, p.Prefixes[1:]...)
		all.Routes = append(all.Routes, p.Routes...)
		all.RDNSS = append(all.RDNSS, p.RDNSS...)
		all.DNSSL = append(all.DNSSL, p.DNSSL...)
		all.PREF64 = append(all.PREF64, p.PREF64...)
		all.CaptivePortal += p.CaptivePortal
	}
	want := m
	want.Prefixes = slices.Delete(slices.Clone(m.Prefixes), 0, 1)
	if !reflect.DeepEqual(all.Prefixes, want.Prefixes) || !reflect.DeepEqual(all.Routes, m.Routes) || !reflect.DeepEqual(all.RDNSS, m.RDNSS) ||
		!reflect.DeepEqual(all.DNSSL, m.DNSSL) || !reflect.DeepEqual(all.PREF64, m.PREF64) || all.CaptivePortal != m.CaptivePortal {
		t.Errorf("the parts say %+v", all)
	}
	// What no message can hold is sent all the same, alone.
	m = RA{Src: a, Dst: b, CaptivePortal: strings.Repeat("x", 1500), Routes: []RouteInfo{{Prefix: prefix("::/0")}}}
	if parts := m.Split(1280); len(parts) != 2 || len(parts[1].Routes) != 0 || parts[1].CaptivePortal == "" {
		t.Errorf("%d parts: %+v", len(parts), parts)
	}
	m.Routes = nil
	if parts := m.Split(1280); len(parts) != 1 {
		t.Errorf("%d parts, one of them empty: %+v", len(parts), parts)
	}
}

// TestRedirectFits is RFC 4861 4.6.3 and 8.2: as much of the packet as 1280 octets hold.
func TestRedirectFits(t *testing.T) {
	for _, c := range []struct {
		packet, want, kept int
		lla                *[6]byte
	}{
		{0, 80, 0, nil}, {1, 96, 1, nil}, {40, 128, 40, nil}, {41, 136, 41, nil}, {48, 136, 48, nil},
		{1192, 1280, 1192, nil}, {1193, 1280, 1192, nil}, {1500, 1280, 1192, nil}, {65535, 1280, 1192, nil},
		{0, 88, 0, &mac}, {1183, 1280, 1183, &mac}, {1184, 1280, 1184, &mac}, {1185, 1280, 1184, &mac}, {1500, 1280, 1184, &mac},
	} {
		packet := make([]byte, c.packet)
		for i := range packet {
			packet[i] = byte(i) | 1
		}
		p := AppendRedirect(nil, Redirect{Src: a, Dst: b, Target: a, Destination: addr("2001:db8::1"), TargetLLA: c.lla, Packet: packet})
		m, err := parse(p)
		if err != nil || len(p) != c.want {
			t.Errorf("packet of %d: redirect of %d, want %d; %v", c.packet, len(p), c.want, err)
			continue
		}
		if m.Target != a || m.Destination != addr("2001:db8::1") || m.HasTargetLLA != (c.lla != nil) {
			t.Errorf("packet of %d: %+v", c.packet, m)
		}
		if (c.kept > 0) != (m.Redirected != nil) || !slices.Equal(m.Redirected[:c.kept], packet[:c.kept]) ||
			strings.Trim(string(m.Redirected[c.kept:]), "\x00") != "" {
			t.Errorf("packet of %d came back as %x", c.packet, m.Redirected)
		}
	}
}
