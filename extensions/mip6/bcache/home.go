package bcache

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/wire"
)

// pending is a registration that waits for Duplicate Address Detection.
type pending struct {
	request  request
	networks []netip.Prefix
	explicit bool
}

// registration judges an update with the H flag (RFC 6275 9.5.1, 10.3, RFC 3963 6.2).
func (c *Cache) registration(r *request) Outcome {
	if _, _, ok := r.Message.NonceIndices(); ok {
		return refused(WithNonceIndices)
	}
	e := c.entries[r.key]
	a := r.policy.Agent
	if a == nil { // nothing protects those: there is nobody to have keys with
		if live(e) && !e.Home {
			return r.refuse(OtherType)
		}
		return r.refuse(NoAgent)
	}
	switch r.Protection {
	case IPsec, SharedKey:
	case WrongKey:
		return r.refuse(BadKey)
	case WithoutTime:
		return r.refuse(NoTimestamp)
	case WrongTime:
		return r.refuse(BadTimestamp)
	default:
		return refused(Unprotected)
	}
	// Only who is at home and registers no care-of address can do without the option (10.3.2).
	if !r.HomeOption.IsValid() && !r.del {
		return refused(NoHomeOption)
	}
	router := r.flags&wire.FlagMobileRouter != 0
	switch {
	case live(e) && (!e.Home || !r.del && e.State == Registered && router != (e.Flags&wire.FlagMobileRouter != 0)):
		return r.refuse(OtherType)
	case e != nil && e.Home && !NewerSequence(r.seq, e.Sequence):
		return r.outOfWindow(e)
	case r.del:
		return c.deregister(r, e)
	}
	units := a.grant(r.now, r.units)
	switch {
	case router && !a.Served && !a.OnLink, !router && !a.OnLink, units == 0: // the prefix is over with less than a unit
		return r.refuse(NotOnLink)
	case r.policy.Denied:
		return r.refuse(Denied)
	case (e == nil || !e.Home) && c.home >= c.limits.Homes:
		return r.refuse(NoRoom)
	}
	p := &pending{request: *r}
	p.request.Message, p.request.nonces = wire.BindingUpdate{}, nil // they are the caller's
	if router {
		var why Reason
		if p.networks, p.explicit, why = c.mobileNetworks(r, e); why != None {
			return r.refuse(why)
		}
	}
	if live(e) && e.State == Registered {
		return c.registerHome(r.now, e, p)
	}
	return c.tentative(e, p)
}

// tentative begins, or goes on, to wait for Duplicate Address Detection. Of several updates the last one is
// answered: the mobile node looks for that sequence number.
func (c *Cache) tentative(e *entry, p *pending) Outcome {
	r := &p.request
	var o Outcome
	if live(e) {
		o.Before = e.binding()
	}
	if e == nil || !e.Home {
		next := &entry{Binding: Binding{Key: r.key, Home: true}}
		if e != nil { // the memory of a binding as correspondent goes on in this one
			next.replay = e.replay
			c.forget(e)
		}
		e = next
		c.insert(e)
	}
	if e.State != Tentative {
		o.Change = Waiting
	}
	e.State, e.CareOf, e.Sequence, e.Flags = Tentative, r.careOf, r.seq, r.flags&keptFlags
	e.Until, e.refresh, e.keep, e.pending = clock.Never, clock.Never, r.policy.Agent.KeepSequence, p
	c.schedule(e)
	o.After = e.binding()
	return o
}

// DADDone says how Duplicate Address Detection for a home address has ended; duplicate is that any of the
// addresses tested is in use. Without such an entry waiting nothing happens.
func (c *Cache) DADDone(now clock.Instant, k Key, duplicate bool) Outcome {
	e := c.entries[k]
	if e == nil || e.State != Tentative {
		return Outcome{}
	}
	p := e.pending
	p.request.now = now
	if duplicate {
		o := p.request.refuse(Duplicate)
		o.Change, o.Before = Removed, e.binding()
		c.end(now, e, false)
		return o
	}
	if p.request.policy.Agent.grant(now, p.request.units) == 0 {
		o := p.request.refuse(NotOnLink)
		o.Change, o.Before = Removed, e.binding()
		c.end(now, e, false)
		return o
	}
	for _, n := range p.networks {
		if c.networks[n] != nil { // another router was faster
			o := p.request.refuse(BadNetwork)
			o.Change, o.Before = Removed, e.binding()
			c.end(now, e, false)
			return o
		}
	}
	return c.registerHome(now, e, p)
}

// registerHome puts a registration in force and acknowledges it, asked to or not (RFC 6275 10.3.1).
func (c *Cache) registerHome(now clock.Instant, e *entry, p *pending) Outcome {
	r, a := &p.request, p.request.policy.Agent
	o := Outcome{Change: Added}
	if e.State == Registered {
		o.Change, o.Before = Updated, e.binding()
		c.release(e)
	}
	e.State, e.CareOf, e.Sequence, e.Flags = Registered, r.careOf, r.seq, r.flags&keptFlags
	e.Lifetime = a.grant(now, r.units)
	e.Until = now.Add(time.Duration(e.Lifetime) * unit)
	e.Networks, e.Explicit = p.networks, p.explicit
	e.keep, e.pending, e.refresh = a.KeepSequence, nil, clock.Never
	c.hold(e)
	c.schedule(e)

	o.After = e.binding()
	o.Reply = r.reply(a.status(now, e.Lifetime))
	o.Reply.Lifetime = e.Lifetime
	o.Reply.Flags = r.ackFlags()
	if advice := uint16(min(max(a.Refresh/unit, 0), 65535)); advice < e.Lifetime { // RFC 6275 6.2.4
		o.Reply.Refresh = advice
	}
	return o
}

// ackFlags are K (RFC 6275 10.3.1) and R (RFC 3963 6.6).
func (r *request) ackFlags() (f uint8) {
	if r.flags&wire.FlagKeyManagement != 0 && r.policy.Agent.KeyMobility {
		f |= wire.AckKeyManagement
	}
	if r.flags&wire.FlagMobileRouter != 0 {
		f |= wire.AckMobileRouter
	}
	return f
}

// deregister ends a home registration (RFC 6275 10.3.2). One that has just ended is ended again: the
// acknowledgement may have been lost.
func (c *Cache) deregister(r *request, e *entry) Outcome {
	if e == nil || !e.Home || e.State == Ended && (e.ended == 0 || r.now.Sub(e.ended) >= MaxDeleteTimeout) {
		return r.refuse(NotRegistered)
	}
	var o Outcome
	e.Sequence = r.seq
	if e.State != Ended {
		o.Change, o.Before = Removed, e.binding()
		e.keep = r.policy.Agent.KeepSequence
		c.end(r.now, e, true)
	}
	o.Reply = r.reply(wire.Accepted)
	o.Reply.Flags = r.ackFlags()
	return o
}

// grant is the lifetime of a registration in units: no more than was asked for, than the prefix is valid, than
// policy has it.
func (a *Agent) grant(now clock.Instant, asked uint16) uint16 {
	g := min(int64(asked), left(now, a.Valid))
	if a.MaxLifetime > 0 {
		g = min(g, max(int64(a.MaxLifetime/unit), 1))
	}
	return uint16(g)
}

// status is 1 where the prefix is deprecated, becomes so while the binding holds, or is invalid when it ends;
// compared in units (RFC 6275 10.3.1).
func (a *Agent) status(now clock.Instant, lifetime uint16) wire.Status {
	if left(now, a.Preferred) < int64(lifetime) || left(now, a.Valid) <= int64(lifetime) {
		return wire.AcceptedPrefixDiscovery
	}
	return wire.Accepted
}

// left is the time until then in whole units.
func left(now, then clock.Instant) int64 {
	if then == clock.Never {
		return math.MaxInt64
	}
	return max(int64(then.Sub(now)/unit), 0)
}

// mobileNetworks returns the networks of a mobile router's registration (RFC 3963 6.2): those it lists, if each
// is in the prefix table, or else those of the table. All of them or none.
func (c *Cache) mobileNetworks(r *request, e *entry) (list []netip.Prefix, explicit bool, why Reason) {
	a := r.policy.Agent
	if !a.Router {
		return nil, false, NoRouter
	}
	for w := r.Message.Options(); ; {
		o, ok := w.Next()
		if !ok {
			break
		}
		if o.Type != wire.OptMobileNetwork {
			continue
		}
		explicit = true
		p, ok := o.MobileNetwork()
		if !ok {
			return nil, true, BadNetwork
		}
		inTable := slices.ContainsFunc(a.Networks, func(t netip.Prefix) bool { return t.Bits() <= p.Bits() && t.Contains(p.Addr()) })
		if !inTable {
			return nil, true, OtherNetwork
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	if !explicit {
		list = slices.Clone(a.Networks)
		if len(list) == 0 && !a.Routing {
			return nil, false, NoNetwork
		}
	}
	for _, p := range list {
		if other := c.networks[p]; other != nil && other != e {
			return nil, explicit, BadNetwork
		}
	}
	return list, explicit, None
}
