// Package cn is a correspondent node of Mobile IPv6 (RFC 6275 9): what it answers to the messages of mobile nodes. It is pure.
//
// Nothing is kept of who asks for tokens; tests and Binding Errors are limited in their rate. What updates do to bindings is
// package bcache's, what messages say package wire's.
package cn

import (
	"net/netip"

	awire "leveret/appliance/wire"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// Rates of what is sent for the asking, a second; as many at once.
const (
	TestRate  = 1000 // Home and Care-of Tests
	ErrorRate = 10   // Binding Errors (RFC 6275 9.3.3)
)

// Why a message that its parser has passed gets no answer.
const (
	NotHere     = "not to a unicast address of this node"
	HomeOption  = "test init with a home address option" // RFC 6275 9.4.1, 9.4.2
	NotRoutable = "source is not unicast routable"
	NotUnicast  = "source is not unicast" // RFC 6275 9.3.3
	TooMany     = "rate limit"
	NotForUs    = "not for a correspondent node" // tests, acknowledgements, requests, errors
)

// Node is a correspondent node. One goroutine owns it.
type Node struct {
	cache  *bcache.Cache
	nonces *rr.Nonces
	tests  bucket
	errors bucket
}

// New returns a node that gives tokens of those nonces.
func New(c *bcache.Cache, n *rr.Nonces) *Node {
	return &Node{cache: c, nonces: n, tests: bucket{rate: TestRate}, errors: bucket{rate: ErrorRate}}
}

// Arrival is how a message came.
type Arrival struct {
	Src, Dst  netip.Addr // as upper layers know them: home addresses in their places
	CareOf    netip.Addr // the source on the wire
	Option    bool       // there was a Home Address option
	Own       bool       // Dst is a unicast address of this node
	Protected bool       // by an SA (RFC 6275 5.1)
}

// option returns the address of the Home Address option; not valid = none.
func (a *Arrival) option() netip.Addr {
	if a.Option {
		return a.Src
	}
	return netip.Addr{}
}

// Result is what becomes of a message.
type Result struct {
	// Packet is the answer, a whole IPv6 packet; nil = none. If Outcome has a change, it is sent when that is in force.
	Packet  []byte
	Outcome *bcache.Outcome // of a Binding Update
	Ignored string          // why there is neither; "" = there is
}

// Receive answers a message.
func (n *Node) Receive(now clock.Instant, a Arrival, m wire.Message, p bcache.Policy) Result {
	if !a.Own {
		return Result{Ignored: NotHere}
	}
	switch m.Type() {
	case wire.TypeHoTI, wire.TypeCoTI:
		return n.test(now, a, m)
	case wire.TypeBU:
		return n.update(now, a, m, p)
	}
	return Result{Ignored: NotForUs}
}

// test answers a Home or Care-of Test Init (RFC 6275 9.4). The answer goes to where it came from.
func (n *Node) test(now clock.Instant, a Arrival, m wire.Message) Result {
	init, _ := m.TestInit()
	switch {
	case a.Option:
		return Result{Ignored: HomeOption}
	case !wire.Routable(a.Src):
		return Result{Ignored: NotRoutable}
	case !n.tests.take(now):
		return Result{Ignored: TooMany}
	}
	token, typ := n.nonces.CareOf, uint8(wire.TypeCoT)
	if m.Type() == wire.TypeHoTI {
		token, typ = n.nonces.Home, wire.TypeHoT
	}
	index, t := token(now, a.Src)
	w := wire.NewTest(nil, typ, index, init.Cookie(), t)
	return Result{Packet: packet(a.Dst, a.Src, netip.Addr{}, w)}
}

// update judges a Binding Update (RFC 6275 9.5).
func (n *Node) update(now clock.Instant, a Arrival, m wire.Message, p bcache.Policy) Result {
	bu, _ := m.BindingUpdate()
	u := bcache.Update{Src: a.CareOf, Dst: a.Dst, HomeOption: a.option(), Message: bu}
	if a.Protected {
		u.Protection = bcache.IPsec
	}
	o := n.cache.Update(now, u, p, n.nonces)
	r := Result{Outcome: &o}
	if o.Reply != nil {
		r.Packet = ack(a.Dst, o.Reply)
	}
	return r
}

// Undo takes back a binding that could not be put in force, and returns the answer to its update: 130 (RFC 6275 9.5.2); nil
// if it did not ask for one.
func (n *Node) Undo(now clock.Instant, o *bcache.Outcome) []byte {
	n.cache.Remove(now, o.After.Key)
	r := o.Reply
	if r == nil { // it did not ask for one, and finds out by Binding Errors
		return nil
	}
	no := *r
	no.Status, no.Lifetime, no.Flags, no.Refresh = wire.NoResources, 0, 0, 0
	return ack(o.After.Local, &no)
}

// Error returns a Binding Error (RFC 6275 9.3.3); nil with the reason if there is to be none. to is the source of the packet at
// fault on the wire, home the address of its Home Address option, not valid = none.
func (n *Node) Error(now clock.Instant, from, to, home netip.Addr, status uint8) (pkt []byte, why string) {
	switch {
	case to.IsMulticast() || to.IsUnspecified() || to.IsLoopback():
		return nil, NotUnicast
	case !n.errors.take(now):
		return nil, TooMany
	}
	if !home.IsValid() {
		home = netip.IPv6Unspecified()
	}
	return packet(from, to, netip.Addr{}, wire.NewBindingError(nil, status, home)), ""
}

// Refresh returns the Binding Refresh Request of a binding: it goes to the home address, by the home agent (RFC 6275 6.1.2, 9.5.5).
func Refresh(b bcache.Binding) []byte {
	return packet(b.Local, b.Key.Home, netip.Addr{}, wire.NewRefreshRequest(nil))
}

// ack makes a Binding Acknowledgement (RFC 6275 9.5.4).
func ack(from netip.Addr, r *bcache.Reply) []byte {
	w := wire.NewBindingAck(nil, r.Status, r.Flags, r.Sequence, r.Lifetime)
	if r.Refresh != 0 {
		w.RefreshAdvice(r.Refresh)
	}
	if r.Signed {
		w.Authorization()
		rr.Sign(r.Key, r.CareOf, from, w.Close())
	}
	home := netip.Addr{}
	if r.RoutingHeader {
		home = r.Home
	}
	return packet(from, r.To, home, w)
}

// packet puts a message into a packet, which has a Type 2 Routing header if home is valid. The hop limit is the link's.
func packet(from, to, home netip.Addr, w wire.Builder) []byte {
	f := awire.IPv6Fields{NextHeader: awire.MH, Src: from, Dst: to}
	var rh []byte
	last := to
	if home.IsValid() {
		rh = wire.AppendType2(nil, awire.MH, home)
		f.NextHeader, last = awire.Routing, home
	}
	m := w.Finish(from, last)
	f.PayloadLength = uint16(len(rh) + len(m))
	return append(append(awire.AppendIPv6(nil, f), rh...), m...)
}

// Lost returns the binding that a quoted packet was sent by, which an ICMPv6 error says was lost; c is its chain (RFC 6275 9.3.4).
func Lost(quote []byte, c *awire.Chain) (k bcache.Key, careOf netip.Addr, ok bool) {
	if len(quote) < awire.IPv6HeaderLen || quote[0]>>4 != 6 {
		return k, careOf, false
	}
	for _, h := range c.Headers[:c.N] {
		if h.Proto != awire.Routing {
			continue
		}
		if home, f := wire.Type2(quote, h.Off); f.OK() {
			return bcache.Key{Local: netip.AddrFrom16([16]byte(quote[8:])), Home: home}, netip.AddrFrom16([16]byte(quote[24:])), true
		}
	}
	return k, careOf, false
}

// bucket is a limit of a rate: rate tokens a second, and as many at once.
type bucket struct {
	rate float64
	used float64
	at   clock.Instant
}

func (b *bucket) take(now clock.Instant) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*b.rate)
	b.at = now
	if b.used+1 > b.rate {
		return false
	}
	b.used++
	return true
}
