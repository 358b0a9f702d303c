// Package slaac is Stateless Address Autoconfiguration for one link: the addresses that follow from the
// prefixes routers advertise (RFC 4862 5.5.3, 5.5.4), and the temporary ones of RFC 8981. It is pure; the
// caller has the addresses, does Duplicate Address Detection, and says how it ended.
package slaac

import (
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/ndp/ndwire"
)

// The constants of RFC 4862, RFC 7217 7 and RFC 8981 3.8.
const (
	TempValidLifetime     = 48 * time.Hour // TEMP_VALID_LIFETIME
	TempPreferredLifetime = 24 * time.Hour // TEMP_PREFERRED_LIFETIME
	TempIDGenRetries      = 3              // TEMP_IDGEN_RETRIES
	IDGenRetries          = 3              // IDGEN_RETRIES
	maxDesyncFactor       = 0.4            // of TEMP_PREFERRED_LIFETIME
	idLength              = 64             // of interface identifiers on every kind of link there is here
	twoHours              = 2 * time.Hour
	// maxTemporary bounds the temporary addresses of one prefix. By the constants there are three at most;
	// with other lifetimes there could be any number. Beyond the bound the oldest goes: it has been
	// deprecated for long, and without a new one there would be none to be preferred.
	maxTemporary = 8
)

// Vars are the variables of one link.
type Vars struct {
	Temporary bool // RFC 8981
	// TEMP_VALID_LIFETIME, TEMP_PREFERRED_LIFETIME and REGEN_ADVANCE.
	TempValid, TempPreferred, RegenAdvance time.Duration
	MaxPrefixes                            int // a newcomer beyond is refused
}

// RegenAdvance is REGEN_ADVANCE for those variables of the link.
func RegenAdvance(dupAddrDetectTransmits int, retransTimer time.Duration) time.Duration {
	return 2*time.Second + TempIDGenRetries*time.Duration(dupAddrDetectTransmits)*retransTimer
}

// IDs makes interface identifiers, none of them reserved (RFC 5453).
type IDs interface {
	// Stable returns the one of a prefix (RFC 7217 5). changes says whether another dadCounter gives
	// another one.
	Stable(prefix netip.Prefix, dadCounter int) (id [8]byte, changes bool)
	// Random returns a new one (RFC 8981 3.3.1).
	Random() [8]byte
}

// Effect is one change of the link's addresses.
type Effect struct {
	Kind      EffectKind
	Addr      netip.Addr // of 64 bits of prefix; Exhausted: the last one that was tried
	Temporary bool
	Valid     clock.Instant // the ends of its lifetimes; clock.Never = without end
	Preferred clock.Instant // not after now = deprecated
}

// EffectKind says what changes.
type EffectKind uint8

// The effects.
const (
	Add       EffectKind = iota // a new address: detect duplicates, then assign it
	Update                      // its lifetimes are others
	Remove                      // it is no address of ours any more
	Exhausted                   // every address that was tried is somebody else's: an operator has to look
)

// address is one of ours.
type address struct {
	addr             netip.Addr
	valid, preferred clock.Instant
	// Of temporary ones: CREATION_TIME, DESYNC_FACTOR, and until when it may be preferred at most.
	temporary      bool
	created, limit clock.Instant
	desync         time.Duration
}

// prefix is one that addresses are made of.
type prefix struct {
	prefix           netip.Prefix
	valid, preferred clock.Instant // as last advertised
	stable           *address      // nil after too many duplicates
	dadCounter       int
	temps            []*address    // the newest last
	tempTries        int           // consecutive duplicates
	noTemp           bool          // too many of them: none until the link is another one
	regen            clock.Instant // when the next temporary one is due; Never = none
}

// Autoconf is one link's. One goroutine owns it.
type Autoconf struct {
	vars     Vars
	ids      IDs
	draw     func() float64 // uniform in [0, 1)
	prefixes []*prefix
	spent    []netip.Prefix // that ended after too many duplicates, the latest last; MaxPrefixes at most
	refused  uint64
}

// New returns one without addresses.
func New(v Vars, ids IDs, draw func() float64) *Autoconf {
	return &Autoconf{vars: v, ids: ids, draw: draw}
}

// Refused counts the prefixes for which there was no room.
func (c *Autoconf) Refused() uint64 { return c.refused }

func until(now clock.Instant, d time.Duration) clock.Instant {
	if d == ndwire.Infinite {
		return clock.Never
	}
	return now.Add(d)
}

// Prefix takes in a Prefix Information option (RFC 4862 5.5.3).
func (c *Autoconf) Prefix(now clock.Instant, p *ndwire.PrefixInfo) []Effect {
	switch {
	case !p.Autonomous: // a)
		return nil
	case p.Prefix.Addr().IsLinkLocalUnicast(): // b)
		return nil
	case p.Preferred > p.Valid: // c)
		return nil
	case p.Prefix.Bits()+idLength != 128, p.Prefix.Addr().IsMulticast(): // d)
		return nil
	}
	out := c.Tick(now) // what is over by now does not come back without detection of duplicates
	valid, preferred := until(now, p.Valid), until(now, p.Preferred)
	for _, x := range c.prefixes {
		if x.prefix == p.Prefix {
			return c.refresh(now, x, valid, preferred, out)
		}
	}
	switch {
	case p.Valid == 0: // d)
		return out
	case len(c.prefixes) >= c.vars.MaxPrefixes:
		c.refused++
		return out
	}
	x := &prefix{prefix: p.Prefix, valid: valid, preferred: preferred, noTemp: slices.Contains(c.spent, p.Prefix)}
	c.prefixes = append(c.prefixes, x)
	return c.makeTemp(now, x, append(out, c.makeStable(x)))
}

func (c *Autoconf) makeStable(x *prefix) Effect {
	id, _ := c.ids.Stable(x.prefix, x.dadCounter)
	x.stable = &address{addr: join(x.prefix, id), valid: x.valid, preferred: x.preferred}
	return x.stable.effect(Add)
}

func join(p netip.Prefix, id [8]byte) netip.Addr {
	b := p.Addr().As16()
	copy(b[8:], id[:])
	return netip.AddrFrom16(b)
}

func (a *address) effect(k EffectKind) Effect {
	return Effect{Kind: k, Addr: a.addr, Temporary: a.temporary, Valid: a.valid, Preferred: a.preferred}
}

// refresh is 5.5.3 e). The two-hour rule holds for the prefix, and so for all its addresses: what it says
// of the remaining lifetime is the same for each of them but for the limits of temporary ones.
func (c *Autoconf) refresh(now clock.Instant, x *prefix, valid, preferred clock.Instant, out []Effect) []Effect {
	two := now.Add(twoHours)
	switch {
	case valid > two || valid > x.valid: // 1.
		x.valid = valid
	case x.valid <= two: // 2.
	default: // 3.
		x.valid = two
	}
	x.preferred = preferred
	return c.renew(now, x, out)
}

// renew gives the addresses of a prefix the lifetimes that follow from its own and from the variables, and
// sees to the next temporary one.
func (c *Autoconf) renew(now clock.Instant, x *prefix, out []Effect) []Effect {
	set := func(a *address, valid, preferred clock.Instant) {
		if a.valid != valid || a.preferred != preferred {
			a.valid, a.preferred = valid, preferred
			out = append(out, a.effect(Update))
		}
	}
	if x.stable != nil {
		set(x.stable, x.valid, x.preferred)
	}
	for _, a := range x.temps { // RFC 8981 3.4 1., 2.; one that has a successor is not to be preferred again
		a.limit = min(a.limit, c.limit(a))
		set(a, min(x.valid, a.created.Add(c.vars.TempValid)), min(x.preferred, a.limit))
	}
	if last := x.last(); last != nil && last.preferred > now {
		x.regen = c.successor(now, last)
		return out
	}
	return c.makeTemp(now, x, out)
}

// limit returns until when a temporary address may be preferred by the variables.
func (c *Autoconf) limit(a *address) clock.Instant {
	return a.created.Add(max(c.vars.TempPreferred-a.desync, 0))
}

// last returns the newest temporary address, or nil.
func (x *prefix) last() *address {
	if len(x.temps) == 0 {
		return nil
	}
	return x.temps[len(x.temps)-1]
}

// successor returns when that of a temporary address is due: REGEN_ADVANCE before it is deprecated (RFC 8981
// 3.5), but as long after it was made, lest they chase each other where the variables leave little between.
func (c *Autoconf) successor(now clock.Instant, a *address) clock.Instant {
	return max(a.preferred.Add(-c.vars.RegenAdvance), a.created.Add(c.vars.RegenAdvance), now)
}

// makeTemp makes a temporary address of a prefix, if it is to have one (RFC 8981 3.4, 4. to 6.).
func (c *Autoconf) makeTemp(now clock.Instant, x *prefix, out []Effect) []Effect {
	x.regen = clock.Never
	if !c.vars.Temporary || x.noTemp {
		return out
	}
	// MAX_DESYNC_FACTOR, and less than TEMP_PREFERRED_LIFETIME - REGEN_ADVANCE (3.8).
	most := min(maxDesyncFactor*float64(c.vars.TempPreferred), float64(c.vars.TempPreferred-c.vars.RegenAdvance))
	a := &address{temporary: true, created: now, desync: time.Duration(c.draw() * most)}
	a.limit = c.limit(a)
	a.valid, a.preferred = min(x.valid, now.Add(c.vars.TempValid)), min(x.preferred, a.limit)
	if a.preferred <= now.Add(c.vars.RegenAdvance) { // 5., and 3.5 for a prefix that is not to be preferred
		return out
	}
	for a.addr = join(x.prefix, c.ids.Random()); c.has(a.addr); {
		a.addr = join(x.prefix, c.ids.Random())
	}
	if len(x.temps) >= maxTemporary {
		out = append(out, x.temps[0].effect(Remove))
		x.temps = slices.Delete(x.temps, 0, 1)
	}
	x.temps = append(x.temps, a)
	x.regen = c.successor(now, a)
	return append(out, a.effect(Add))
}

func (c *Autoconf) has(addr netip.Addr) bool {
	return slices.ContainsFunc(c.List(), func(e Effect) bool { return e.Addr == addr })
}

// DADFailed takes in that somebody else has an address: it is not ours. Another one is tried (RFC 7217 6,
// RFC 8981 3.4 7.).
func (c *Autoconf) DADFailed(now clock.Instant, addr netip.Addr) []Effect {
	for _, x := range c.prefixes {
		if x.stable != nil && x.stable.addr == addr {
			return c.stableFailed(x)
		}
		for i, a := range x.temps {
			if a.addr == addr {
				x.temps = slices.Delete(x.temps, i, i+1)
				return c.tempFailed(now, x, a)
			}
		}
	}
	return nil
}

func (c *Autoconf) stableFailed(x *prefix) []Effect {
	failed := x.stable
	if _, changes := c.ids.Stable(x.prefix, 0); !changes || x.dadCounter >= IDGenRetries {
		// It stays known as failed, so that the next advertisement does not make it again.
		return []Effect{failed.effect(Exhausted)}
	}
	x.dadCounter++
	return []Effect{failed.effect(Remove), c.makeStable(x)}
}

func (c *Autoconf) tempFailed(now clock.Instant, x *prefix, failed *address) []Effect {
	out := []Effect{failed.effect(Remove)}
	if x.tempTries++; x.tempTries > TempIDGenRetries {
		x.noTemp, x.regen = true, clock.Never
		return append(out, failed.effect(Exhausted))
	}
	return c.renew(now, x, out)
}

// DADPassed takes in that an address is ours alone.
func (c *Autoconf) DADPassed(addr netip.Addr) {
	for _, x := range c.prefixes {
		if slices.ContainsFunc(x.temps, func(a *address) bool { return a.addr == addr }) {
			x.tempTries = 0
		}
	}
}

// Deadline returns when Tick is due, or clock.Never. An address that becomes deprecated is the caller's
// to see: it knows the end.
func (c *Autoconf) Deadline() clock.Instant {
	d := clock.Never
	for _, x := range c.prefixes {
		d = clock.Earliest(d, clock.Earliest(x.valid, x.regen))
		for _, a := range x.temps {
			d = clock.Earliest(d, a.valid)
		}
	}
	return d
}

// Tick removes addresses whose valid lifetime is over and makes the successors of temporary ones. However
// late it comes, it makes one for each prefix.
func (c *Autoconf) Tick(now clock.Instant) []Effect {
	var out []Effect
	c.prefixes = slices.DeleteFunc(c.prefixes, func(x *prefix) bool {
		x.temps = slices.DeleteFunc(x.temps, func(a *address) bool {
			if a.valid > now {
				return false
			}
			out = append(out, a.effect(Remove))
			return true
		})
		if x.valid > now {
			if x.regen <= now {
				out = c.makeTemp(now, x, out)
			}
			return false
		}
		out = x.remove(out)
		if x.noTemp { // RFC 8981 3.4 7.: until the link is another one
			c.spent = slices.DeleteFunc(c.spent, func(p netip.Prefix) bool { return p == x.prefix })
			c.spent = append(c.spent, x.prefix)
			c.spent = c.spent[max(len(c.spent)-c.vars.MaxPrefixes, 0):]
		}
		return true
	})
	return out
}

// remove gives up the addresses of a prefix.
func (x *prefix) remove(out []Effect) []Effect {
	if x.stable != nil {
		out = append(out, x.stable.effect(Remove))
	}
	for _, a := range x.temps {
		out = append(out, a.effect(Remove))
	}
	return out
}

// SetVars puts other variables in force: switching temporary addresses off removes them, on makes them, and
// other lifetimes count for those that are there. What exceeds a lower MaxPrefixes stays while it is valid.
func (c *Autoconf) SetVars(now clock.Instant, v Vars) []Effect {
	c.vars = v
	var out []Effect
	for _, x := range c.prefixes {
		if !v.Temporary {
			for _, a := range x.temps {
				out = append(out, a.effect(Remove))
			}
			x.temps = nil
		}
		out = c.renew(now, x, out)
	}
	return out
}

// Flush gives up every address: the link is no host's any more, or is another one.
func (c *Autoconf) Flush() []Effect {
	var out []Effect
	for _, x := range c.prefixes {
		out = x.remove(out)
	}
	c.prefixes, c.spent = nil, nil
	return out
}

// List returns the addresses there are, as Update effects.
func (c *Autoconf) List() []Effect {
	var out []Effect
	for _, x := range c.prefixes {
		if x.stable != nil {
			out = append(out, x.stable.effect(Update))
		}
		for _, a := range x.temps {
			out = append(out, a.effect(Update))
		}
	}
	return out
}
