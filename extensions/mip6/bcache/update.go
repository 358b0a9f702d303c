package bcache

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// Protection says what protects a Binding Update, as far as others than the cache can tell: for the home
// address that it is about, and no other.
type Protection uint8

// The kinds.
const (
	Nothing     Protection = iota
	IPsec                  // an SA of that home address (RFC 6275 5.1)
	SharedKey              // an MN-HA authentication option that is right, and its timestamp (RFC 4285)
	WrongKey               // that option is not right
	WithoutTime            // it is, but there is no timestamp where one is wanted
	WrongTime              // it is, but the timestamp is not one to accept
)

// Update is a Binding Update and how it came.
type Update struct {
	Src, Dst   netip.Addr // of the IPv6 header; Dst is the final one behind a Type 2 Routing header
	HomeOption netip.Addr // of the Home Address option; not valid = none
	Message    wire.BindingUpdate
	Protection Protection
}

// Policy is what the node thinks of a home address.
type Policy struct {
	Denied      bool          // administratively (129)
	MaxLifetime time.Duration // of a binding as correspondent; 0 = 420 s, which it never exceeds
	Agent       *Agent        // nil = it is no home agent by the address the update was sent to
}

// Agent is what a home agent knows about a home address.
type Agent struct {
	OnLink bool // it is in a prefix of the home link
	Served bool // it is in a prefix served for mobile routers (RFC 3963 6.2)
	// Valid and Preferred are when the lifetimes of its prefix end; Never = they do not.
	Valid, Preferred clock.Instant
	MaxLifetime      time.Duration // of a registration; 0 = the longest there is
	// Refresh is the interval that is advised (RFC 6275 6.2.4); 0 = none: it must be none where bindings
	// survive a restart.
	Refresh      time.Duration
	KeyMobility  bool // the key management moves with the mobile node (K)
	KeepSequence bool // its SAs have manual keys: sequence numbers outlive the binding (RFC 6275 5.1)

	Router   bool           // it may be a mobile router
	Networks []netip.Prefix // the prefix table's (RFC 3963 6.1.2)
	Routing  bool           // a routing protocol says what is behind it (RFC 3963 8)
}

// Change is what an update did to the cache.
type Change uint8

// The changes.
const (
	Unchanged Change = iota
	// Waiting: Duplicate Address Detection has to run for the home address, and with the L flag for the
	// link-local address with its interface identifier; then [Cache.DADDone] is called.
	Waiting
	Added
	Updated
	Removed
)

// Reply is a Binding Acknowledgement to be sent (RFC 6275 9.5.4).
type Reply struct {
	Status             wire.Status
	Flags              uint8
	Sequence, Lifetime uint16
	Refresh            uint16     // Binding Refresh Advice; 0 = none
	To                 netip.Addr // the source of the update, whatever the cache says
	Home               netip.Addr
	RoutingHeader      bool // a Type 2 Routing header with Home is needed
	// Signed says that it has Binding Authorization Data with Key over CareOf and the address it is sent from.
	Signed bool
	Key    rr.Key
	CareOf netip.Addr
}

// Outcome is what becomes of an update.
type Outcome struct {
	Reason Reason // None = accepted, or it waits
	Reply  *Reply // nil = no answer
	Change Change
	// Before and After are the entry: Before without a State when there was none, After likewise.
	Before, After Binding
	Evicted       Binding // that has ended to make room; without a State when none has
}

// request is an update with what follows from it.
type request struct {
	now clock.Instant
	Update
	policy Policy
	nonces *rr.Nonces
	home   netip.Addr
	careOf netip.Addr
	key    Key
	del    bool // deletes: lifetime 0, or the care-of address is the home address
	seq    uint16
	flags  uint16
	units  uint16 // lifetime asked for
	kbm    rr.Key
	signed bool // kbm holds
}

// keptFlags are those of an update that a binding keeps.
const keptFlags = wire.FlagAcknowledge | wire.FlagLinkLocal | wire.FlagKeyManagement | wire.FlagMobileRouter

// Update judges a Binding Update and does what it asks for, if it may (RFC 6275 9.5.1, 10.3, RFC 3963 6.2). The
// message has passed its parser; it is not kept.
func (c *Cache) Update(now clock.Instant, u Update, p Policy, nonces *rr.Nonces) Outcome {
	r := request{now: now, Update: u, policy: p, nonces: nonces, home: u.HomeOption, careOf: u.Src}
	if !r.home.IsValid() {
		r.home = u.Src
	}
	if a, ok := u.Message.AlternateCareOf(); ok {
		r.careOf = a
	}
	r.key = Key{Local: u.Dst, Home: r.home}
	r.seq, r.flags, r.units = u.Message.Sequence(), u.Message.Flags(), u.Message.Lifetime()
	r.del = r.units == 0 || r.careOf == r.home
	switch {
	case u.Src.IsMulticast() || u.Src.IsUnspecified() || u.Src.IsLoopback():
		return refused(BadSource)
	case !wire.Routable(r.home):
		return refused(BadHome)
	case !wire.Routable(r.careOf):
		return refused(BadCareOf)
	case r.careOf != r.home && c.homes[r.careOf] > 0:
		return refused(Circular)
	}
	if r.flags&wire.FlagHome != 0 {
		return c.registration(&r)
	}
	return c.correspondent(&r)
}

func refused(why Reason) Outcome { return Outcome{Reason: why} }

// reply makes an acknowledgement; all that refuse have lifetime 0.
func (r *request) reply(s wire.Status) *Reply {
	return &Reply{
		Status: s, Sequence: r.seq, To: r.Src, Home: r.home, RoutingHeader: r.HomeOption.IsValid(),
		Signed: r.signed, Key: r.kbm, CareOf: r.careOf,
	}
}

// refuse answers with the status of a reason.
func (r *request) refuse(why Reason) Outcome {
	return Outcome{Reason: why, Reply: r.reply(reasonTexts[why].status)}
}

// outOfWindow answers with the last sequence number (RFC 6275 9.5.1).
func (r *request) outOfWindow(e *entry) Outcome {
	o := r.refuse(OldSequence)
	o.Reply.Sequence = e.Sequence
	return o
}

// live returns an entry that is a binding, or is about to be one.
func live(e *entry) bool { return e != nil && e.State != Ended }

// correspondent judges an update without the H flag (RFC 6275 9.5.1 to 9.5.3).
func (c *Cache) correspondent(r *request) Outcome {
	router := r.policy.Agent != nil && r.flags&wire.FlagMobileRouter != 0
	if router && (r.Protection == IPsec || r.Protection == SharedKey) {
		return r.refuse(NoRouter) // RFC 3963 6.2: H must be set
	}
	claim := rr.Claim{Home: r.home, CareOf: r.careOf, Delete: r.del}
	var ok bool
	if claim.HomeIndex, claim.CareOfIndex, ok = r.Message.NonceIndices(); !ok {
		return refused(NoNonceIndices)
	}
	if _, ok := r.Message.Authenticator(); !ok {
		return refused(NoAuthorization)
	}
	kbm, status := r.nonces.Key(r.now, claim)
	if !status.OK() {
		return Outcome{Reason: Expired, Reply: r.reply(status)}
	}
	if !rr.Verify(kbm, r.careOf, r.Dst, r.Message.Bytes()) {
		return refused(BadAuthenticator)
	}
	r.kbm, r.signed = kbm, true
	e := c.entries[r.key]
	switch {
	case e != nil && e.Home: // even one that has ended: its sequence number is not for this update to forget
		return r.refuse(OtherType)
	case router:
		return r.refuse(NoRouter)
	case e != nil && !NewerSequence(r.seq, e.Sequence):
		return r.outOfWindow(e)
	case r.del:
		return c.deletePeer(r, e, claim)
	case r.policy.Denied:
		o := r.refuse(Denied)
		if r.flags&wire.FlagAcknowledge == 0 {
			o.Reply = nil
		}
		return o
	}
	var evicted Binding
	if !live(e) {
		var ok bool
		if evicted, ok = c.room(r.now, e == nil); !ok {
			return r.refuse(NoRoom)
		}
	}
	o := c.addPeer(r, claim)
	o.Evicted = evicted
	return o
}

// acknowledged completes an outcome that a correspondent is told of if it has asked (RFC 6275 9.5.4).
func (r *request) acknowledged(o Outcome, lifetime uint16) Outcome {
	if r.flags&wire.FlagAcknowledge != 0 {
		o.Reply = r.reply(wire.Accepted)
		o.Reply.Lifetime = lifetime
	}
	return o
}

func (c *Cache) addPeer(r *request, claim rr.Claim) Outcome {
	var o Outcome
	e := c.entries[r.key] // may be gone: room was made
	switch {
	case live(e):
		o.Change, o.Before = Updated, e.binding()
	case e != nil: // ended: its place among those is free
		c.ended--
		c.peers++
		o.Change = Added
	default:
		e = &entry{Binding: Binding{Key: r.key}}
		c.insert(e)
		o.Change = Added
	}
	longest := r.policy.MaxLifetime
	if longest <= 0 || longest > rr.MaxBindingLifetime {
		longest = rr.MaxBindingLifetime
	}
	e.CareOf, e.Flags, e.Sequence = r.careOf, r.flags&keptFlags, r.seq
	e.Lifetime = min(r.units, max(uint16(longest/unit), 1))
	e.Until = r.now.Add(time.Duration(e.Lifetime) * unit)
	e.HomeIndex, e.CareOfIndex = claim.HomeIndex, claim.CareOfIndex
	e.replay = max(e.replay, replayUntil(r.now, r.nonces, claim))
	e.lost = 0
	if e.State != Registered {
		e.State, e.LastUsed = Registered, 0
		c.hold(e)
	}
	c.front(e)
	c.armRefresh(r.now, e)
	c.schedule(e)
	o.After = e.binding()
	return r.acknowledged(o, e.Lifetime)
}

func (c *Cache) deletePeer(r *request, e *entry, claim rr.Claim) Outcome {
	var o Outcome
	if e != nil {
		e.Sequence = r.seq
		e.replay = max(e.replay, replayUntil(r.now, r.nonces, claim))
		if e.State == Registered {
			o.Change, o.Before = Removed, e.binding()
			c.end(r.now, e, true)
		} else {
			e.Until = max(e.Until, e.replay)
			c.schedule(e)
		}
	}
	return r.acknowledged(o, 0)
}
