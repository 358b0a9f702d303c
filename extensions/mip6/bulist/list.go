// Package bulist is the Binding Update List of a mobile node (RFC 6275 11.1): its registrations with home agents
// (11.7.1) and correspondents (11.7.2), with the return routability procedure before those (11.6), and all their
// retransmissions (11.8). It is pure.
//
// What is called at some time returns effects: messages to send and news. A list that is full takes no more
// correspondents; their packets go through the home agent then.
package bulist

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/mip6/rr"
	"leveret/extensions/mip6/wire"
)

// Protocol constants (RFC 6275 12).
const (
	InitialBindAckTimeout  = time.Second // INITIAL_BINDACK_TIMEOUT
	MaxBindAckTimeout      = 32 * time.Second
	MaxUpdateRate          = 3 // MAX_UPDATE_RATE: messages of a type to a node in a second
	MaxRouteOptimizeFailed = 3 // MAX_RO_FAILURE: retries
	// DefaultFirstTimeout is InitialBindackTimeoutFirstReg, for a home agent that has no binding yet: it has
	// Duplicate Address Detection to do first.
	DefaultFirstTimeout = 1500 * time.Millisecond
)

const (
	unit = wire.LifetimeUnit * time.Second
	// Pause is how long a correspondent that does not answer, or refuses, is left alone (RFC 6275 11.3.5 wants
	// "a period of time").
	Pause = 10 * time.Minute
	// refreshAt is the part of a lifetime after which a registration is made again.
	refreshAt = 0.8
)

// Config are the variables of a mobile node.
type Config struct {
	FirstTimeout time.Duration // InitialBindackTimeoutFirstReg; 0 = the default
	Peers        int           // most correspondents, those that are left alone included
}

// Action is what an effect is.
type Action uint8

// Messages to send.
const (
	// SendBU: a Binding Update. With Signed it has Nonce Indices and is authenticated by Key. To a home agent it
	// needs an Alternate Care-of Address, unless CareOf is the home address (RFC 6275 11.7.1).
	SendBU   Action = iota + 1
	SendHoTI        // a Home Test Init, from the home address, through the home agent
	SendCoTI        // a Care-of Test Init, from CareOf

	// News.
	Bound       // the peer has a binding to CareOf; AckFlags and Status are those of the acknowledgement
	Unbound     // it has none any more: expired, deleted, or not to be relied on
	Refused     // the peer has refused with Status; it is asked no more for a while, or until told to
	Discover    // a home agent wants prefix discovery (status 1)
	NextAgent   // a home agent does not answer: another one should be tried
	NoRouter    // a home agent does not serve mobile routers; it is deregistered from (RFC 3963 5.3)
	Unsupported // the correspondent does not know Mobile IPv6, or does not answer; it is left alone for a while
)

// Key is what an entry is found by.
type Key struct{ Home, Peer netip.Addr }

// Effect is a message to send or news.
type Effect struct {
	Do Action
	Key
	Agent  bool // the peer is a home agent
	CareOf netip.Addr

	Cookie                    [8]byte // of test init messages
	Sequence, Flags, Lifetime uint16  // of updates
	Signed                    bool
	HomeIndex, CareOfIndex    uint16
	Kbm                       rr.Key

	Status   wire.Status
	AckFlags uint8
}

// timer is a retransmission: off, or due at some time and then after twice the interval.
type timer struct {
	at       clock.Instant // 0 = off
	interval time.Duration
	tries    int // transmissions
}

func (t *timer) next() { t.interval = min(2*t.interval, MaxBindAckTimeout) }

// token is a keygen token with what it was given for.
type token struct {
	have  bool
	value rr.Token
	index uint16
	addr  netip.Addr
	since clock.Instant
}

// good reports whether a token may still be used (RFC 6275 5.2.7).
func (t *token) good(now clock.Instant, addr netip.Addr) bool {
	return t.have && t.addr == addr && now.Sub(t.since) < rr.MaxTokenLifetime
}

// test is one half of return routability.
type test struct {
	timer
	cookie [8]byte
	careOf netip.Addr // of a Care-of Test Init
	asked  clock.Instant
	token  token
}

type entry struct {
	Key
	agent    bool
	careOf   netip.Addr // what is to be registered; the home address when at home
	lifetime uint16     // what is asked for, in units; 0 = the binding is to be deleted
	flags    uint16
	// due: an update is to be sent as soon as it can be.
	due bool

	// The last update.
	sequence uint16
	bu       timer         // at != 0: it is unanswered
	sent     clock.Instant // when
	sentFor  netip.Addr
	sentLife uint16
	kbm      rr.Key
	resyncs  int // 135 in a row
	restarts int // expired nonces in a row

	// What the peer has acknowledged.
	bound   netip.Addr // not valid = nothing
	until   clock.Instant
	refresh clock.Instant // Never = not by itself
	hold    bool          // no refresh before prefix discovery

	home, careOfTest test
	used             clock.Instant
	silent           clock.Instant // left alone until then; Never = until told to; 0 = not
}

// List is the Binding Update List of a mobile node. One goroutine owns it.
type List struct {
	cfg     Config
	random  func([]byte)
	entries map[Key]*entry
	order   []*entry // in the order of their making
	peers   int
	rates   map[netip.Addr]*rates
}

// New returns an empty list. random fills what it is given with octets that nobody can foresee.
func New(cfg Config, random func([]byte)) *List {
	if cfg.FirstTimeout == 0 {
		cfg.FirstTimeout = DefaultFirstTimeout
	}
	return &List{cfg: cfg, random: random, entries: map[Key]*entry{}, rates: map[netip.Addr]*rates{}}
}

// add makes an entry. The first sequence number is any one (RFC 6275 11.7.2).
func (l *List) add(k Key, agent bool) *entry {
	var b [2]byte
	l.random(b[:])
	e := &entry{Key: k, agent: agent, sequence: binary.BigEndian.Uint16(b[:]), refresh: clock.Never}
	l.entries[k] = e
	l.order = append(l.order, e)
	if !agent {
		l.peers++
	}
	return e
}

func (l *List) remove(e *entry) {
	delete(l.entries, e.Key)
	l.order = slices.DeleteFunc(l.order, func(x *entry) bool { return x == e })
	if !e.agent {
		l.peers--
	}
}

// Lookup returns the care-of address that a peer has acknowledged a binding for, and that holds: packets to a
// correspondent may go directly from there (RFC 6275 11.3.1).
func (l *List) Lookup(now clock.Instant, k Key) (netip.Addr, bool) {
	if e := l.entries[k]; e != nil && e.bound.IsValid() && now < e.until && e.lifetime != 0 {
		return e.bound, true
	}
	return netip.Addr{}, false
}

// Use notes that packets are exchanged with a correspondent by its binding: it will be made again before it
// ends.
func (l *List) Use(now clock.Instant, k Key) {
	if e := l.entries[k]; e != nil {
		e.used = now
	}
}

// Entry is what is shown of one.
type Entry struct {
	Key
	Agent     bool
	CareOf    netip.Addr // wanted
	Bound     netip.Addr // acknowledged; not valid = none
	Until     clock.Instant
	Refresh   clock.Instant // Never = none
	Sequence  uint16
	Lifetime  uint16 // asked for
	Waiting   bool   // for an acknowledgement
	Testing   bool   // return routability runs
	LeftAlone clock.Instant
}

// List returns all entries in the order of their making.
func (l *List) List() []Entry {
	list := make([]Entry, 0, len(l.order))
	for _, e := range l.order {
		list = append(list, Entry{
			Key: e.Key, Agent: e.agent, CareOf: e.careOf, Bound: e.bound, Until: e.until, Refresh: e.refresh, Sequence: e.sequence,
			Lifetime: e.lifetime, Waiting: e.bu.at != 0, Testing: e.home.at != 0 || e.careOfTest.at != 0, LeftAlone: e.silent,
		})
	}
	return list
}

// rates is when messages of a type were last sent to a node (RFC 6275 11.8).
type rates [3][MaxUpdateRate]clock.Instant

// allow returns when a message may be sent; now if at once, which it notes.
func (l *List) allow(now clock.Instant, peer netip.Addr, do Action) clock.Instant {
	r := l.rates[peer]
	if r == nil {
		r = &rates{}
		l.rates[peer] = r
	}
	last := &r[do-SendBU]
	if at := last[0].Add(time.Second); last[0] != 0 && now < at {
		return at
	}
	copy(last[:], last[1:])
	last[MaxUpdateRate-1] = now
	return now
}

// pruneRates forgets what is too old to matter.
func (l *List) pruneRates(now clock.Instant) {
	for peer, r := range l.rates {
		busy := false
		for i := range r {
			busy = busy || now < r[i][MaxUpdateRate-1].Add(time.Second)
		}
		if !busy {
			delete(l.rates, peer)
		}
	}
}

// left is what remains of a lifetime in whole units.
func left(now, then clock.Instant) uint16 {
	return uint16(min(max(then.Sub(now)/unit, 0), 65535))
}
