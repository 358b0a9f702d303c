package halist

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// Protocol constants (RFC 6275 12).
const (
	DiscoveryRetries    = 4               // DHAAD_RETRIES
	InitialDiscoverTime = 3 * time.Second // INITIAL_DHAAD_TIMEOUT
)

// anycastID is the Mobile IPv6 Home-Agents anycast identifier (RFC 2526 3).
const anycastID = 0x7e

// Anycast returns the Home-Agents anycast address of a home prefix (RFC 2526 2): its interface identifier is all ones
// but for the identifier in the last seven bits, and for a prefix of 64 bits the universal bit, which is zero. A
// prefix that leaves no room for the identifier has none.
func Anycast(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is6() || p.Bits() < 0 || p.Bits() > 121 {
		return netip.Addr{}, false
	}
	a := p.Masked().Addr().As16()
	for i := p.Bits(); i < 121; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	a[15] = a[15]&0x80 | anycastID
	if p.Bits() == 64 {
		a[8] &^= 2
	}
	return netip.AddrFrom16(a), true
}

// Discovery is a mobile node asking for home agents (RFC 6275 11.4.1). The zero Discovery asks for none.
type Discovery struct {
	id       uint16
	routers  bool
	at       clock.Instant // when the next request is due; 0 = none
	interval time.Duration
	tries    int
}

// Start begins to ask: a request with that identifier, of mobile routers or not, is to be sent now. One that runs
// ends.
func (d *Discovery) Start(now clock.Instant, id uint16, routers bool) {
	*d = Discovery{id: id, routers: routers, at: now.Add(InitialDiscoverTime), interval: InitialDiscoverTime}
}

// Stop ends it.
func (d *Discovery) Stop() { *d = Discovery{} }

// ID returns the identifier and R flag of the requests.
func (d *Discovery) ID() (id uint16, routers bool) { return d.id, d.routers }

// Deadline returns when [Discovery.Tick] has something to do.
func (d *Discovery) Deadline() clock.Instant {
	if d.at == 0 {
		return clock.Never
	}
	return d.at
}

// Tick says whether the same request is to be sent again, or nobody has answered. Each wait is twice as long as
// the one before.
func (d *Discovery) Tick(now clock.Instant) (send, failed bool) {
	if d.at == 0 || now < d.at {
		return false, false
	}
	if d.tries == DiscoveryRetries {
		d.Stop()
		return false, true
	}
	d.tries++
	d.interval *= 2
	d.at = now.Add(d.interval)
	return true, false
}

// Replied takes in a Discovery Reply and returns the home agents to try, in its order. A reply to something else is
// not ok and goes on being waited for; so is one that names none. For a mobile router there are none where no
// agent serves those (RFC 3963 7.2): the reply ends it, and the list is empty.
func (d *Discovery) Replied(c wire.Control) (agents []netip.Addr, ok bool) {
	if d.at == 0 || c.Type() != wire.TypeDiscoveryReply || c.ID() != d.id {
		return nil, false
	}
	if d.routers && !c.Routers() {
		d.Stop()
		return nil, true
	}
	for i := range min(c.HomeAgents(), wire.MaxHomeAgents) {
		if a := c.HomeAgent(i); wire.Routable(a) && !slices.Contains(agents, a) {
			agents = append(agents, a)
		}
	}
	if len(agents) == 0 {
		return nil, false
	}
	d.Stop()
	return agents, true
}
