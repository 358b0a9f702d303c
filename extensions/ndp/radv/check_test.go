package radv

import (
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"

	"leveret/extensions/ndp/ndwire"
)

// TestKeys: the keys of the configuration are those that operators were promised, and each is decoded.
func TestKeys(t *testing.T) {
	text, err := os.ReadFile("testdata/router_advertisement.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		t.Fatal(err)
	}
	got := Defaults()
	dec, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: &got, ErrorUnused: true, ErrorUnset: false,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToTimeDurationHookFunc()),
	})
	if err == nil {
		err = dec.Decode(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		AdvSendAdvertisements: true, MaxRtrAdvInterval: 600 * s, MinRtrAdvInterval: ptr(198 * s), AdvLinkMTU: 1500, AdvCurHopLimit: 64,
		AdvDefaultLifetime: life(1800 * s), AdvSourceLLAddress: true,
		HomeAgent: HomeAgent{AdvHomeAgentFlag: true, Lifetime: ptr(1800 * s), Preference: 10, MobileRouterSupport: true},
		AdvPrefixList: []Prefix{{
			Prefix: prefix("2001:db8:100:1::/64"), AdvOnLinkFlag: ptr(true), AdvAutonomousFlag: ptr(true),
			AdvValidLifetime: life(2592000 * s), AdvPreferredLifetime: life(604800 * s),
		}},
		Routes: []Route{{Prefix: prefix("fd12:3456:789a::/48"), AdvRouteLifetime: life(1800 * s)}},
		RDNSS:  []RDNSS{{Servers: []netip.Addr{addr("fd12:3456:789a:1::1")}, Lifetime: life(1200 * s)}},
		DNSSL:  []DNSSL{{Domains: []string{"corp.example"}, Lifetime: life(1200 * s)}},
		PREF64: []PREF64{{Prefix: prefix("64:ff9b::/96"), Lifetime: life(1800 * s)}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %+v\nwant %+v", got, want)
	}
	if faults := Check(got, 1500); faults != nil {
		t.Errorf("the example is faulty: %v", faults)
	}
	if faults := Check(Defaults(), 1500); faults != nil {
		t.Errorf("the defaults are faulty: %v", faults)
	}
}

// TestCheck: every range of RFC 4861 6.2.1 and of what came later, at its edges.
func TestCheck(t *testing.T) {
	one := func(set func(*Prefix)) func(*Config) { return func(c *Config) { set(&c.AdvPrefixList[0]) } }
	times := func(n int) []netip.Addr { return slices.Repeat([]netip.Addr{addr("fd00::53")}, n) }
	mobile := func(set func(*Config)) func(*Config) {
		return func(c *Config) { c.HomeAgent.AdvHomeAgentFlag = true; set(c) }
	}
	for _, c := range []struct {
		name string
		set  func(*Config)
		want string // keys at fault
	}{
		{"max 4 s", func(c *Config) { c.MaxRtrAdvInterval = 4 * s }, ""},
		{"max below 4 s", func(c *Config) { c.MaxRtrAdvInterval = 3999 * ms }, "max_rtr_adv_interval"},
		{"max 1800 s", func(c *Config) { c.MaxRtrAdvInterval = 1800 * s }, ""},
		{"max above 1800 s", func(c *Config) { c.MaxRtrAdvInterval = 1801 * s }, "max_rtr_adv_interval"},
		{"max not set", func(c *Config) { c.MaxRtrAdvInterval = 0 }, "max_rtr_adv_interval"},
		{"min 3 s", func(c *Config) { c.MinRtrAdvInterval = ptr(3 * s) }, ""},
		{"min below 3 s", func(c *Config) { c.MinRtrAdvInterval = ptr(2999 * ms) }, "min_rtr_adv_interval"},
		{"min 0.75 x max", func(c *Config) { c.MinRtrAdvInterval = ptr(450 * s) }, ""},
		{"min above 0.75 x max", func(c *Config) { c.MinRtrAdvInterval = ptr(451 * s) }, "min_rtr_adv_interval"},
		{"home agent: max 70 ms", mobile(func(c *Config) { c.MaxRtrAdvInterval, c.MinRtrAdvInterval = 70*ms, ptr(30*ms) }), ""},
		{"home agent: max below 70 ms", mobile(func(c *Config) { c.MaxRtrAdvInterval = 69 * ms }), "max_rtr_adv_interval"},
		{"home agent: min below 30 ms", mobile(func(c *Config) { c.MinRtrAdvInterval = ptr(29 * ms) }), "min_rtr_adv_interval"},
		{"with the interval option, too", func(c *Config) { c.AdvIntervalOption, c.MaxRtrAdvInterval = true, 70*ms }, ""},
		{"delay 3 s", func(c *Config) { c.MinDelayBetweenRAs = ptr(3 * s) }, ""},
		{"delay below 3 s", func(c *Config) { c.MinDelayBetweenRAs = ptr(2 * s) }, "min_delay_between_ras"},
		{"home agent: delay 30 ms", mobile(func(c *Config) { c.MinDelayBetweenRAs = ptr(30 * ms) }), ""},
		{"home agent: delay below 30 ms", mobile(func(c *Config) { c.MinDelayBetweenRAs = ptr(29 * ms) }), "min_delay_between_ras"},
		{"delay above the least interval", mobile(func(c *Config) { c.MaxRtrAdvInterval, c.MinDelayBetweenRAs = s, ptr(2*s) }), "min_delay_between_ras"},
		{"lifetime 0", func(c *Config) { c.AdvDefaultLifetime = life(0) }, ""},
		{"lifetime max", func(c *Config) { c.AdvDefaultLifetime = life(600 * s) }, ""},
		{"lifetime below max", func(c *Config) { c.AdvDefaultLifetime = life(599 * s) }, "adv_default_lifetime"},
		{"lifetime 9000 s", func(c *Config) { c.AdvDefaultLifetime = life(9000 * s) }, ""},
		{"lifetime above 9000 s", func(c *Config) { c.AdvDefaultLifetime = life(9001 * s) }, "adv_default_lifetime"},
		{"lifetime without end", func(c *Config) { c.AdvDefaultLifetime = ptr(Infinite) }, "adv_default_lifetime"},
		{"lifetime of a fraction", func(c *Config) { c.AdvDefaultLifetime = life(600500 * ms) }, "adv_default_lifetime"},
		{"reachable 1 h", func(c *Config) { c.AdvReachableTime = Lifetime(time.Hour) }, ""},
		{"reachable above 1 h", func(c *Config) { c.AdvReachableTime = Lifetime(time.Hour + ms) }, "adv_reachable_time"},
		{"retrans of 32 bits", func(c *Config) { c.AdvRetransTimer = Lifetime(4294967295 * ms) }, ""},
		{"retrans above 32 bits", func(c *Config) { c.AdvRetransTimer = Lifetime(4294967296 * ms) }, "adv_retrans_timer"},
		{"MTU 1280", func(c *Config) { c.AdvLinkMTU = 1280 }, ""},
		{"MTU 1279", func(c *Config) { c.AdvLinkMTU = 1279 }, "adv_link_mtu"},
		{"MTU of the link", func(c *Config) { c.AdvLinkMTU = 1500 }, ""},
		{"MTU above the link's", func(c *Config) { c.AdvLinkMTU = 1501 }, "adv_link_mtu"},
		{"portal", func(c *Config) { c.CaptivePortal = "https://portal.example/" }, ""},
		{"portal that is no URI", func(c *Config) { c.CaptivePortal = "two words" }, "captive_portal"},
		{"home agent without its link-layer address", mobile(func(c *Config) { c.AdvSourceLLAddress = false }), "adv_source_ll_address"},
		{"home agent lifetime 1 s", mobile(func(c *Config) { c.HomeAgent.Lifetime = ptr(s) }), ""},
		{"home agent lifetime 0", mobile(func(c *Config) { c.HomeAgent.Lifetime = ptr(0 * s) }), "home_agent.lifetime"},
		{"home agent lifetime of 17 bits", mobile(func(c *Config) { c.HomeAgent.Lifetime = ptr(65536 * s) }), "home_agent.lifetime"},
		{"home agent that is no default router", mobile(func(c *Config) { c.AdvDefaultLifetime = life(0) }), "home_agent.lifetime"},
		{"prefix missing", one(func(p *Prefix) { p.Prefix = netip.Prefix{} }), "prefixes[0].prefix"},
		{"prefix of IPv4", one(func(p *Prefix) { p.Prefix = prefix("192.0.2.0/24") }), "prefixes[0].prefix"},
		{"prefix with host bits", one(func(p *Prefix) { p.Prefix = prefix("2001:db8::1/64") }), "prefixes[0].prefix"},
		{"link-local prefix", one(func(p *Prefix) { p.Prefix = prefix("fe80::/64") }), "prefixes[0].prefix"},
		{"multicast prefix", one(func(p *Prefix) { p.Prefix = prefix("ff3e::/64") }), "prefixes[0].prefix"},
		{"all addresses", one(func(p *Prefix) { p.Prefix = prefix("::/0") }), ""},
		{"prefix twice", func(c *Config) { c.AdvPrefixList = append(c.AdvPrefixList, c.AdvPrefixList[0]) }, "prefixes[1].prefix"},
		{"preferred = valid", one(func(p *Prefix) { p.AdvValidLifetime, p.AdvPreferredLifetime = life(9*s), life(9*s) }), ""},
		{"preferred > valid", one(func(p *Prefix) { p.AdvValidLifetime, p.AdvPreferredLifetime = life(9*s), life(10*s) }), "prefixes[0].adv_preferred_lifetime"},
		{"both without end", one(func(p *Prefix) { p.AdvValidLifetime, p.AdvPreferredLifetime = ptr(Infinite), ptr(Infinite) }), ""},
		{"preferred without end, valid not", one(func(p *Prefix) { p.AdvPreferredLifetime = ptr(Infinite) }), "prefixes[0].adv_preferred_lifetime"},
		{"valid of 32 bits", one(func(p *Prefix) { p.AdvValidLifetime = life(4294967294 * s) }), ""},
		{"valid as long as infinity", one(func(p *Prefix) { p.AdvValidLifetime = life(4294967295 * s) }), "prefixes[0].adv_valid_lifetime"},
		{"valid of a fraction", one(func(p *Prefix) { p.AdvValidLifetime, p.AdvPreferredLifetime = life(500*ms), life(0) }), "prefixes[0].adv_valid_lifetime"},
		{"negative", one(func(p *Prefix) { p.AdvPreferredLifetime = life(-s) }), "prefixes[0].adv_preferred_lifetime"},
		{"65 prefixes", func(c *Config) {
			for i := range 64 {
				c.AdvPrefixList = append(c.AdvPrefixList, Prefix{Prefix: prefix(fmt.Sprintf("2001:db8:2:%x::/64", i))})
			}
		}, "prefixes"},
		{"17 routes", func(c *Config) { c.Routes = routes(17) }, ""},
		{"18 routes (RFC 4191 4)", func(c *Config) { c.Routes = routes(18) }, "routes"},
		{"route twice (RFC 4191 2.3)", func(c *Config) { c.Routes = append(routes(1), routes(1)...) }, "routes[1].prefix"},
		{"route with host bits", func(c *Config) { c.Routes = []Route{{Prefix: prefix("fd00::1/48")}} }, "routes[0].prefix"},
		{"route of a fraction", func(c *Config) { c.Routes = []Route{{Prefix: prefix("::/0"), AdvRouteLifetime: life(ms)}} }, "routes[0].adv_route_lifetime"},
		{"no server", func(c *Config) { c.RDNSS = []RDNSS{{}} }, "rdnss[0].servers"},
		{"link-local server", func(c *Config) { c.RDNSS = []RDNSS{{Servers: []netip.Addr{hostA}}} }, ""},
		{"multicast server", func(c *Config) { c.RDNSS = []RDNSS{{Servers: []netip.Addr{hostA, addr("ff02::fb")}}} }, "rdnss[0].servers[1]"},
		{"server of IPv4", func(c *Config) { c.RDNSS = []RDNSS{{Servers: []netip.Addr{addr("192.0.2.1")}}} }, "rdnss[0].servers[0]"},
		{"64 servers", func(c *Config) { c.RDNSS = []RDNSS{{Servers: times(64)}} }, ""},
		{"65 servers", func(c *Config) { c.RDNSS = []RDNSS{{Servers: times(64)}, {Servers: times(1)}} }, "rdnss"},
		{"server lifetime", func(c *Config) { c.RDNSS = []RDNSS{{times(1), life(ms)}} }, "rdnss[0].lifetime"},
		{"no domain", func(c *Config) { c.DNSSL = []DNSSL{{}} }, "dnssl[0].domains"},
		{"no domain name", func(c *Config) { c.DNSSL = []DNSSL{{Domains: []string{"a.lan", "a b"}}} }, "dnssl[0].domains[1]"},
		{"domains beyond one option", func(c *Config) {
			c.DNSSL = []DNSSL{{Domains: slices.Repeat([]string{strings.Repeat("long.", 20)}, 20)}}
		}, "dnssl[0].domains"},
		{"65 domains", func(c *Config) { c.DNSSL = []DNSSL{{Domains: slices.Repeat([]string{"a.lan"}, 65)}} }, "dnssl"},
		{"domain lifetime", func(c *Config) { c.DNSSL = []DNSSL{{[]string{"a"}, life(ms)}} }, "dnssl[0].lifetime"},
		{"NAT64 of 32 bits", func(c *Config) { c.PREF64 = []PREF64{{Prefix: prefix("2001:db8::/32")}} }, ""},
		{"NAT64 of 33 bits", func(c *Config) { c.PREF64 = []PREF64{{Prefix: prefix("2001:db8::/33")}} }, "pref64[0].prefix"},
		{"NAT64 twice", func(c *Config) {
			c.PREF64 = []PREF64{{Prefix: prefix("64:ff9b::/96")}, {Prefix: prefix("64:ff9b::/96")}}
		}, "pref64[1].prefix"},
		{"NAT64 65528 s", func(c *Config) { c.PREF64 = []PREF64{{prefix("64:ff9b::/96"), life(65528 * s)}} }, ""},
		{"NAT64 above", func(c *Config) { c.PREF64 = []PREF64{{prefix("64:ff9b::/96"), life(65529 * s)}} }, "pref64[0].lifetime"},
		{"NAT64 without end", func(c *Config) { c.PREF64 = []PREF64{{prefix("64:ff9b::/96"), ptr(Infinite)}} }, "pref64[0].lifetime"},
		{"all faults at once", func(c *Config) { c.MaxRtrAdvInterval, c.AdvLinkMTU, c.RDNSS = s, 9, []RDNSS{{}} },
			"max_rtr_adv_interval adv_link_mtu rdnss[0].servers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := router()
			c.set(&cfg)
			var keys []string
			for _, f := range Check(cfg, 1500) {
				keys = append(keys, f.Key)
				if f.Msg == "" || !strings.HasPrefix(f.RFC, "RFC ") {
					t.Errorf("%+v", f)
				}
			}
			if got := strings.Join(keys, " "); got != c.want {
				t.Errorf("faults at %q, want %q: %v", got, c.want, Check(cfg, 1500))
			}
		})
	}
}

func routes(n int) (out []Route) {
	for i := range n {
		out = append(out, Route{Prefix: prefix(fmt.Sprintf("fd00:%x::/32", i))})
	}
	return out
}

func TestLifetimeText(t *testing.T) {
	for text, want := range map[string]Lifetime{"0s": 0, "1800s": Lifetime(1800 * s), "infinity": Infinite, "1h30m": Lifetime(90 * time.Minute)} {
		var got, again Lifetime
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		out, _ := got.MarshalText()
		if err := again.UnmarshalText(out); err != nil || again != got {
			t.Errorf("%s came back as %s, %v", got, again, err)
		}
	}
	for _, text := range []string{"", "-1s", "5", "forever"} {
		if err := new(Lifetime).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a lifetime", text)
		}
	}
}

// TestCompare is RFC 4861 6.2.7 and RFC 8781 5.2.
func TestCompare(t *testing.T) {
	full := func() ndwire.RA {
		return ndwire.RA{
			CurHopLimit: 64, ReachableTime: 30 * s, RetransTimer: s, MTU: 1500, RouterLifetime: 1800 * s,
			Prefixes: []ndwire.PrefixInfo{{Prefix: prefix("2001:db8::/64"), Valid: 2000 * s, Preferred: 1000 * s}},
			PREF64:   []ndwire.PREF64{{Prefix: prefix("64:ff9b::/96"), Lifetime: 9 * s}, {Prefix: prefix("2001:db8::/96")}},
		}
	}
	for _, c := range []struct {
		name string
		set  func(*ndwire.RA)
		want []string
	}{
		{"the same", func(*ndwire.RA) {}, nil},
		{"what may differ", func(m *ndwire.RA) { m.RouterLifetime, m.Preference, m.SourceLLA = 0, ndwire.High, &[6]byte{} }, nil},
		{"another hop limit", func(m *ndwire.RA) { m.CurHopLimit = 32 }, []string{"Cur Hop Limit is 64 here and 32 there"}},
		{"no hop limit", func(m *ndwire.RA) { m.CurHopLimit = 0 }, nil},
		{"M", func(m *ndwire.RA) { m.Managed = true }, []string{"the M flag is false here and true there"}},
		{"O", func(m *ndwire.RA) { m.Other = true }, []string{"the O flag is false here and true there"}},
		{"another Reachable Time", func(m *ndwire.RA) { m.ReachableTime = s }, []string{"Reachable Time is 30s here and 1s there"}},
		{"no Reachable Time", func(m *ndwire.RA) { m.ReachableTime = 0 }, nil},
		{"another Retrans Timer", func(m *ndwire.RA) { m.RetransTimer = 2 * s }, []string{"Retrans Timer is 1s here and 2s there"}},
		{"no Retrans Timer", func(m *ndwire.RA) { m.RetransTimer = 0 }, nil},
		{"another MTU", func(m *ndwire.RA) { m.MTU = 1400 }, []string{"the MTU is 1500 here and 1400 there"}},
		{"no MTU", func(m *ndwire.RA) { m.MTU = 0 }, nil},
		{"other prefixes", func(m *ndwire.RA) { m.Prefixes[0].Prefix = prefix("2001:db8:1::/64") }, nil},
		{"another valid lifetime", func(m *ndwire.RA) { m.Prefixes[0].Valid = ndwire.Infinite },
			[]string{"the valid lifetime of 2001:db8::/64 is 33m20s here and infinity there"}},
		{"another preferred lifetime", func(m *ndwire.RA) { m.Prefixes[0].Preferred = 994 * s },
			[]string{"the preferred lifetime of 2001:db8::/64 is 16m40s here and 16m34s there"}},
		{"within the skew", func(m *ndwire.RA) { m.Prefixes[0].Valid, m.Prefixes[0].Preferred = 1995*s, 1005*s }, nil},
		{"other NAT64 prefixes", func(m *ndwire.RA) { m.PREF64[0].Prefix = prefix("2001:db8:64::/96") },
			[]string{"the set of NAT64 prefixes is [64:ff9b::/96] here and [2001:db8:64::/96] there"}},
		{"another NAT64 lifetime", func(m *ndwire.RA) { m.PREF64[0].Lifetime = 99 * s }, nil},
		{"another ended NAT64 prefix", func(m *ndwire.RA) { m.PREF64 = m.PREF64[:1] },
			[]string{"the set of ended NAT64 prefixes is [2001:db8::/96] here and [] there"}},
		{"NAT64 prefixes in another order", func(m *ndwire.RA) { slices.Reverse(m.PREF64) }, nil},
		{"no NAT64", func(m *ndwire.RA) { m.PREF64 = nil }, nil},
	} {
		other := full()
		c.set(&other)
		if got := Compare(full(), other); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
