package ndp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"leveret/appliance/module"
	"leveret/extensions/ndp/radv"
)

// NUDConfig is links[].nud: the variables and constants of RFC 4861 10, and the bounds of RFC 6583.
type NUDConfig struct {
	ReachableTime       time.Duration `mapstructure:"reachable_time"`         // BaseReachableTime
	RetransTimer        time.Duration `mapstructure:"retrans_timer"`          // RetransTimer
	DelayFirstProbeTime time.Duration `mapstructure:"delay_first_probe_time"` // DELAY_FIRST_PROBE_TIME
	MaxMulticastSolicit int           `mapstructure:"max_multicast_solicit"`  // MAX_MULTICAST_SOLICIT
	MaxUnicastSolicit   int           `mapstructure:"max_unicast_solicit"`    // MAX_UNICAST_SOLICIT
	MaxNeighbors        int           `mapstructure:"max_neighbors"`
	MaxUnresolved       int           `mapstructure:"max_unresolved"`
	QueuePackets        int           `mapstructure:"queue_packets"`
}

// DADConfig is links[].dad.
type DADConfig struct {
	Transmits  int  `mapstructure:"transmits"`  // DupAddrDetectTransmits (RFC 4862 5.1); 0 = no DAD
	Enhanced   bool `mapstructure:"enhanced"`   // RFC 7527
	Optimistic bool `mapstructure:"optimistic"` // RFC 4429
}

// defaultNUD has the values of RFC 4861 10.
func defaultNUD() NUDConfig {
	return NUDConfig{
		ReachableTime: 30 * time.Second, RetransTimer: time.Second, DelayFirstProbeTime: 5 * time.Second,
		MaxMulticastSolicit: 3, MaxUnicastSolicit: 3, MaxNeighbors: 4096, MaxUnresolved: 256, QueuePackets: 16,
	}
}

func defaultDAD() DADConfig { return DADConfig{Transmits: 1, Enhanced: true} }

// linkConfig is one link's part of the configuration, checked.
type linkConfig struct {
	name      string
	index     int
	nud       NUDConfig
	dad       DADConfig
	addresses []module.AddressConfig
	linkLocal string

	host          HostConfig
	adv           radv.Config
	proxies       []ProxyConfig
	sendRedirects bool
}

// decodeLink checks one link's sections.
func decodeLink(l module.LinkConfig) (linkConfig, error) {
	c := linkConfig{
		name: l.Name, index: l.Index, nud: defaultNUD(), dad: defaultDAD(),
		addresses: l.Addresses, linkLocal: l.LinkLocal,
		host: defaultHost(), adv: radv.Defaults(), sendRedirects: true,
	}
	var errs []error
	if s := l.Sections["nud"]; s != nil && s.Present() {
		if err := s.Decode(&c.nud); err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, checkNUD(s, c.nud)...)
		}
	}
	if s := l.Sections["dad"]; s != nil && s.Present() {
		if err := s.Decode(&c.dad); err != nil {
			errs = append(errs, err)
		} else if c.dad.Transmits < 0 || c.dad.Transmits > 100 {
			errs = append(errs, s.Fault("transmits", fmt.Sprintf("%d is outside 0..100", c.dad.Transmits), "RFC 4862 5.1"))
		}
	}
	errs = append(errs, c.decodeRouters(l)...)
	return c, errors.Join(errs...)
}

func checkNUD(s module.Section, c NUDConfig) []error {
	var errs []error
	between := func(key string, v, least, most time.Duration, rfc string) {
		if v < least || v > most {
			errs = append(errs, s.Fault(key, fmt.Sprintf("%s is outside %s..%s", v, least, most), rfc))
		}
	}
	count := func(key string, v, least, most int, rfc string) {
		if v < least || v > most {
			errs = append(errs, s.Fault(key, fmt.Sprintf("%d is outside %d..%d", v, least, most), rfc))
		}
	}
	between("reachable_time", c.ReachableTime, time.Millisecond, time.Hour, "RFC 4861 6.3.2")
	between("retrans_timer", c.RetransTimer, time.Millisecond, time.Hour, "RFC 4861 6.3.2")
	between("delay_first_probe_time", c.DelayFirstProbeTime, 0, time.Hour, "RFC 4861 10")
	count("max_multicast_solicit", c.MaxMulticastSolicit, 1, 100, "RFC 4861 10")
	count("max_unicast_solicit", c.MaxUnicastSolicit, 1, 100, "RFC 4861 10")
	count("max_neighbors", c.MaxNeighbors, 8, 1<<20, "RFC 6583 7.1")
	count("max_unresolved", c.MaxUnresolved, 1, c.MaxNeighbors, "RFC 6583 7.1")
	count("queue_packets", c.QueuePackets, 1, 1024, "RFC 4861 7.2.2")
	return errs
}

// fixedLinkLocal returns the link-local address the configuration names, if it names one.
func (c *linkConfig) fixedLinkLocal() (netip.Addr, bool) {
	a, err := netip.ParseAddr(c.linkLocal)
	return a, err == nil
}
