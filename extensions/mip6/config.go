package mip6

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"leveret/appliance/module"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// Config is mobility.correspondent.
type Config struct {
	Enabled     bool           `mapstructure:"enabled"`
	MaxBindings int            `mapstructure:"max_bindings"` // default 1024
	MaxLifetime time.Duration  `mapstructure:"max_lifetime"` // of a binding; default 420 s, which is the most
	Deny        []netip.Prefix `mapstructure:"deny"`         // home addresses that get no binding (129)
}

const (
	defaultBindings = 1024
	// mostBindings leaves room for others in the database of states, of which a binding has two.
	mostBindings = 32768
	leastTime    = wire.LifetimeUnit * time.Second
)

func decode(s module.Section) (c Config, err error) {
	c = Config{MaxBindings: defaultBindings, MaxLifetime: rr.MaxBindingLifetime}
	if s == nil || !s.Present() {
		return c, nil
	}
	if err := s.Decode(&c); err != nil {
		return c, err
	}
	var errs []error
	if c.MaxBindings < 1 || c.MaxBindings > mostBindings {
		errs = append(errs, s.Fault("max_bindings", fmt.Sprintf("%d is outside 1..%d", c.MaxBindings, mostBindings), ""))
	}
	if c.MaxLifetime < leastTime || c.MaxLifetime > rr.MaxBindingLifetime {
		errs = append(errs, s.Fault("max_lifetime", fmt.Sprintf("%s is outside %s..%s", c.MaxLifetime, leastTime, rr.MaxBindingLifetime), "RFC 6275 12"))
	}
	for i, p := range c.Deny {
		if !p.IsValid() || !p.Addr().Is6() || p.Addr().Is4In6() {
			errs = append(errs, s.Fault(fmt.Sprintf("deny[%d]", i), fmt.Sprintf("%s is not an IPv6 prefix", p), ""))
		}
	}
	return c, errors.Join(errs...)
}

// limits bound the cache. An entry that remembers a sequence number stays 240 s at most, so that they are a multiple.
func (c *Config) limits() bcache.Limits {
	return bcache.Limits{Peers: c.MaxBindings, Ended: 2 * c.MaxBindings}
}

// policy is what is thought of a home address.
func (c *Config) policy(home netip.Addr) bcache.Policy {
	p := bcache.Policy{MaxLifetime: c.MaxLifetime}
	for _, d := range c.Deny {
		p.Denied = p.Denied || d.Contains(home)
	}
	return p
}
