package ndwire

import (
	"math"
	"net"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"pgregory.net/rapid"

	"leveret/appliance/wire"
)

// drawRA makes an RA with every option. Routes have whole octets, as the peer reads no others right.
func drawRA(t *rapid.T) RA {
	life := rapid.Custom(func(t *rapid.T) time.Duration {
		if rapid.IntRange(0, 4).Draw(t, "infinite") == 0 {
			return Infinite
		}
		return time.Duration(rapid.Uint32Range(0, math.MaxUint32-1).Draw(t, "seconds")) * time.Second
	})
	host := rapid.Custom(func(t *rapid.T) netip.Addr {
		b := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		b[0] = 0x20
		return netip.AddrFrom16(b)
	})
	pref := rapid.SampledFrom([]Preference{Low, Medium, High})
	flag := rapid.Bool()
	m := RA{
		Src: a, Dst: wire.AllNodes, CurHopLimit: rapid.Byte().Draw(t, "hops"),
		Managed: flag.Draw(t, "M"), Other: flag.Draw(t, "O"), HomeAgent: flag.Draw(t, "H"), Proxy: flag.Draw(t, "P"),
		Preference:     pref.Draw(t, "preference"),
		RouterLifetime: time.Duration(rapid.Uint16Range(1, math.MaxUint16).Draw(t, "router lifetime")) * time.Second,
		ReachableTime:  time.Duration(rapid.Uint32().Draw(t, "reachable")) * time.Millisecond,
		RetransTimer:   time.Duration(rapid.Uint32().Draw(t, "retrans")) * time.Millisecond,
		SourceLLA:      &mac, MTU: rapid.Uint32Min(1).Draw(t, "MTU"),
		CaptivePortal: rapid.StringMatching(`https://[a-z]{1,100}`).Draw(t, "portal"),
		FlagsExt:      [6]byte{rapid.ByteMin(1).Draw(t, "flags")},
	}
	for range rapid.IntRange(0, 4).Draw(t, "n") {
		m.Prefixes = append(m.Prefixes, PrefixInfo{
			Prefix: netip.PrefixFrom(host.Draw(t, "prefix"), rapid.IntRange(0, 128).Draw(t, "bits")).Masked(),
			OnLink: flag.Draw(t, "L"), Autonomous: flag.Draw(t, "A"), Valid: life.Draw(t, "valid"), Preferred: life.Draw(t, "preferred"),
		})
		m.Routes = append(m.Routes, RouteInfo{
			netip.PrefixFrom(host.Draw(t, "route"), 8*rapid.IntRange(0, 16).Draw(t, "octets")).Masked(), pref.Draw(t, "pref"), life.Draw(t, "route life"),
		})
		m.RDNSS = append(m.RDNSS, RDNSS{rapid.SliceOfN(host, 1, 5).Draw(t, "servers"), life.Draw(t, "server life")})
		m.DNSSL = append(m.DNSSL, DNSSL{
			rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,9}(\.[a-z0-9]{1,20}){0,3}\.[a-z]{1,8}`), 1, 5).Draw(t, "names"), life.Draw(t, "name life"),
		})
		m.PREF64 = append(m.PREF64, PREF64{
			netip.PrefixFrom(host.Draw(t, "NAT64"), rapid.SampledFrom(plc[:]).Draw(t, "NAT64 bits")).Masked(),
			time.Duration(8*rapid.IntRange(0, 8191).Draw(t, "scaled")) * time.Second,
		})
	}
	return m
}

func theirLife(d time.Duration) time.Duration {
	if d == Infinite {
		return ndp.Infinity
	}
	return d
}

// theirRA is an RA in the peer's types, options in our order.
func theirRA(m RA) *ndp.RouterAdvertisement {
	prefs := map[Preference]ndp.Preference{Low: ndp.Low, Medium: ndp.Medium, High: ndp.High}
	r := &ndp.RouterAdvertisement{
		CurrentHopLimit: m.CurHopLimit, ManagedConfiguration: m.Managed, OtherConfiguration: m.Other, MobileIPv6HomeAgent: m.HomeAgent,
		RouterSelectionPreference: prefs[m.Preference], NeighborDiscoveryProxy: m.Proxy,
		RouterLifetime: m.RouterLifetime, ReachableTime: m.ReachableTime, RetransmitTimer: m.RetransTimer,
		Options: []ndp.Option{
			&ndp.RAFlagsExtension{Flags: m.FlagsExt[:]},
			&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(m.SourceLLA[:])},
			ndp.NewMTU(m.MTU),
		},
	}
	for _, p := range m.Prefixes {
		r.Options = append(r.Options, &ndp.PrefixInformation{
			PrefixLength: uint8(p.Prefix.Bits()), Prefix: p.Prefix.Addr(), OnLink: p.OnLink, AutonomousAddressConfiguration: p.Autonomous,
			ValidLifetime: theirLife(p.Valid), PreferredLifetime: theirLife(p.Preferred),
		})
	}
	for _, x := range m.Routes {
		r.Options = append(r.Options, &ndp.RouteInformation{
			PrefixLength: uint8(x.Prefix.Bits()), Prefix: x.Prefix.Addr(), Preference: prefs[x.Preference], RouteLifetime: theirLife(x.Lifetime),
		})
	}
	for _, x := range m.RDNSS {
		r.Options = append(r.Options, &ndp.RecursiveDNSServer{Lifetime: theirLife(x.Lifetime), Servers: x.Servers})
	}
	for _, x := range m.DNSSL {
		r.Options = append(r.Options, &ndp.DNSSearchList{Lifetime: theirLife(x.Lifetime), DomainNames: x.Domains})
	}
	for _, x := range m.PREF64 {
		r.Options = append(r.Options, &ndp.PREF64{Lifetime: x.Lifetime, Prefix: x.Prefix})
	}
	r.Options = append(r.Options, &ndp.CaptivePortal{URI: m.CaptivePortal})
	return r
}

// TestPeer: github.com/mdlayher/ndp reads from our octets what we put in, and we from its octets
// what it put in.
func TestPeer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawRA(t)
		want := theirRA(m)
		got, err := ndp.ParseMessage(AppendRA(nil, m)[wire.IPv6HeaderLen:])
		if err != nil || !reflect.DeepEqual(got, ndp.Message(want)) {
			t.Fatalf("the peer reads %+v, %v\nwant %+v", got, err, want)
		}
		raw, err := ndp.MarshalMessageChecksum(want, m.Src, m.Dst)
		if err != nil {
			t.Fatal(err)
		}
		pkt := wire.AppendIPv6(nil, wire.IPv6Fields{
			PayloadLength: uint16(len(raw)), NextHeader: wire.ICMPv6, HopLimit: HopLimit, Src: m.Src, Dst: m.Dst,
		})
		parsed, err := parse(append(pkt, raw...))
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := parsed.RA(); err != nil || !reflect.DeepEqual(ours, m) {
			t.Fatalf("we read %+v, %v\nwant %+v", ours, err, m)
		}
	})
	got, err := ndp.ParseMessage(AppendRS(nil, RS{Src: a, Dst: wire.AllRouters, SourceLLA: &mac})[wire.IPv6HeaderLen:])
	want := &ndp.RouterSolicitation{Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(mac[:])}}}
	if err != nil || !reflect.DeepEqual(got, ndp.Message(want)) {
		t.Errorf("the peer reads %+v, %v", got, err)
	}
}
