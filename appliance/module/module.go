// Package module is the contract between the appliance and its extensions. It is small and
// stable: an extension sees the rest of the program through it and nothing else.
//
// Every module has one loop, one goroutine in a running appliance, and all of the module's state belongs to it.
// The appliance calls Start, Receive, Tick, Stop, the observers, the commit functions and the
// command handlers on that loop only, so none of them needs a lock. The packet path runs on other
// threads: it calls the hooks, which read immutable snapshots and hand over what needs work with
// [Host.Mail].
//
//	        hooks (workers)                    loop (one goroutine)
//	packet ---------------> snapshot     Receive, Tick, commands -> new snapshot
//	                  \---- Mail ------> mailbox (bounded, full = counted drop)
package module

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/packet"
)

// Module is one extension.
type Module interface {
	// Name is the module's word in logs, configuration and commands.
	Name() string
	// Claims lists the parts of the configuration the module decodes itself, by path, such as
	// "links[].nud" or "routing.routes".
	Claims() []string
	// Init registers hooks and command handlers and keeps h. No goroutine, no I/O.
	Init(h Host) error
	// Prepare checks the module's part of a new configuration against what it has and returns
	// the function that puts it in force. Nothing changes before commit is called, on the loop;
	// commit cannot fail. It is called before Start with the first configuration, then for each
	// change. The error may join several faults.
	Prepare(next *Config) (commit func(now clock.Instant), err error)
	// Start begins work: the links are open and the first configuration is committed.
	Start(now clock.Instant)
	// Receive takes one message from the mailbox.
	Receive(now clock.Instant, ev Event)
	// Deadline returns when Tick wants to be called next, or clock.Never.
	Deadline() clock.Instant
	// Tick does what is due at now.
	Tick(now clock.Instant)
	// Stop ends work: last messages may still be sent.
	Stop(now clock.Instant)
}

// Class tells messages of one link apart that must not keep each other waiting: each has a queue of
// its own in the mailbox, in order, and the queues take turns.
type Class uint8

// The classes.
const (
	ClassOwn           Class = iota // what this node itself began
	ClassKnown                      // from a neighbor that is known already
	ClassSolicitation               // somebody asks
	ClassAdvertisement              // somebody answers or announces
	ClassRouter                     // what routers and hosts say about routers
	ClassGroup                      // group membership
	NumClasses
)

// Event is one message in a module's mailbox. Kind, Link (0 = none), Addr and Pkt mean what the
// module says.
type Event struct {
	Kind  int
	Class Class
	Link  int
	Addr  [16]byte
	Pkt   *packet.Packet // owned by the receiver
}

// LinkObserver is a module that wants to know when links come, go or change. Called on its loop.
type LinkObserver interface {
	LinksChanged(now clock.Instant, links *Links)
}

// AddrObserver is a module that wants to know when addresses or groups change. Called on its loop.
type AddrObserver interface {
	AddrsChanged(now clock.Instant, addrs *Addrs)
}

// Readier is a module that takes time to become ready (addresses in DAD). Called on its loop.
type Readier interface {
	// Waiting names what is still waited for, one line each; none when ready.
	Waiting() []string
}

// Resetter is a module with caches and learned state to drop. Called on its loop; the module is
// then as after Start with its current configuration.
type Resetter interface {
	Reset(now clock.Instant)
}

// Router is the module that answers route questions. Its methods read immutable snapshots: any
// goroutine may call them, they take no lock, and RouteBatch does not allocate.
type Router interface {
	// RouteBatch sets Route, NextHop and Out of every packet from its destination, source, mark
	// and links. Packets without a route keep a nil Route. A packet whose Out is set already
	// (a socket bound to a link, a link-local destination) only takes routes over that link.
	RouteBatch(ps []*packet.Packet)
	// Route answers for one question that is not a packet, and chooses its source.
	Route(q RouteQuery) RouteResult
	// SortDestinations returns the addresses of one peer, without zones, in the order in which they are to
	// be tried (RFC 6724 6), each with the source that [Router.Route] chooses for it.
	SortDestinations(dsts []netip.Addr) []netip.Addr
}

// RouteQuery is a question to the [Router]. What is zero is not known, and no rule that asks for it
// conforms.
type RouteQuery struct {
	Dst, Src netip.Addr // without zones; Src may be the zero Addr: chosen inside the lookup
	In, Out  int        // links; 0 = none (In: locally originated)
	Mark     uint32
	DSField  uint8 // the octet; the ECN bits do not matter
	Proto    uint8
	SPort    uint16
	DPort    uint16
}

// RouteResult is the answer: a nil Route means no route.
type RouteResult struct {
	Route  *packet.Route
	Prefix netip.Prefix // that the route is of
	// Gateway is that of the route; the zero Addr if the destination is on the link.
	Gateway netip.Addr
	NextHop netip.Addr // the gateway or the destination, or whom the gateway has redirected packets to
	Out     int
	// Src is the query's, or the chosen one (RFC 6724 5); the zero Addr if there is none for the route.
	Src netip.Addr
}

// Confirmer is the module that knows neighbors. Confirmed says that an upper layer makes forward progress
// by packets of this node that go as q asks (RFC 4861 7.3.1); q.Out is set for a link-local peer alone.
// Any goroutine may call it.
type Confirmer interface {
	Confirmed(q RouteQuery)
}

// Sender is a module that sends packets which no socket knows of. Sent reports whether a quoted packet, by its protocol
// and what follows its headers, can be one of them. Any goroutine may call it.
type Sender interface {
	Sent(proto uint8, src, dst [16]byte, transport []byte) bool
}

// SA is what the receiver of a packet may know of a security association that it came through: some messages count for
// something only if they were protected (RFC 6275 5.1). Proto and Mode have Linux's numbers; Mobile IPv6's headers (43, 60)
// are among them.
type SA struct {
	Proto, Mode uint8
	SPI, ReqID  uint32
	Integrity   bool // nobody on the way has changed the packet
}

// MobileBinding is what who keeps bindings of mobile nodes wants of who transforms packets: what is sent from Local to Home
// goes by CareOf (RFC 6275 9.3.2), and what comes from there with that home address is taken (9.3.1).
type MobileBinding struct {
	Local, Home netip.Addr
	CareOf      netip.Addr // not valid: there is no binding any more
}

// LinkMaker is a module that makes links: their configuration is items of tunnels, and what leaves by them comes to its
// hook of [StageEnter]. Its methods are called on its loop.
type LinkMaker interface {
	// MakeLink checks what a command wants a link of that name, kind and index to be, new or not, and returns the function
	// that puts it in force, which cannot fail. decode fills v with the keys that the command gives, strictly.
	MakeLink(name, kind string, index int, decode func(v any) error) (commit func(now clock.Instant), err error)
}

// GroupMember is the module that speaks MLD. JoinGroup and LeaveGroup may be called from any
// goroutine and count users; the address is a multicast group, link an index.
type GroupMember interface {
	JoinGroup(link int, group netip.Addr)
	LeaveGroup(link int, group netip.Addr)
}

// Ahead is called on a worker with the packets of a vector before they come to the hooks of a stage one by one, so that it can
// have the memory they need fetched for all at once. Before StageInput that is what a port has received, with its network
// headers at off; before StageTransform they have their routes. It only reads.
type Ahead func(ps []*packet.Packet, off int)

// Hook is called on a worker for a packet that reaches a stage. It may change the packet. It
// borrows it unless it returns Consumed, in which case it has copied what it needs: the worker
// releases the buffer.
type Hook func(*packet.Packet) packet.Verdict

// Stage names a place in the packet path where hooks run, in the order of the path.
type Stage int

// The stages with hooks.
const (
	// StageInput has AH, ESP and UDP for this node: Proto, TransOff and ProtoField say where. The hook opens the
	// packet and wants it looked at Again, or as one that has Arrived on the link In; drops it, or leaves it as it is. It
	// also has the headers of Mobile IPv6, Type 2 Routing headers and Destination Options with a Home Address, as their turn
	// comes: TransOff is the header's. Local: the hook has put the home address in its place. Continue: nobody here knows of
	// home addresses. When it drops for HopLimitExceeded, the source is told.
	StageInput Stage = iota
	// StageAdmit has what is about to be delivered or answered here, and Discovery messages: the hook drops what
	// must not be.
	StageAdmit
	// StageExit has IPv4, IPv6 and GRE in packets for this node: the hook takes out what it carries, which has Arrived on
	// the link In, drops it, with an Answer or without, or leaves it as one that nobody wants.
	StageExit
	StageDiscovery // ND and MLD messages for this node: the hook consumes or drops
	// StageTransform has what has a route, its hop limit decremented: the hook leaves it, changes it in place, wraps
	// it up into a packet of this node that is to be routed (Forward), wants it Split, or drops it; for TooBig with
	// the MTU that would do, which its source is told, or this node's packet is fragmented to. What is to leave by a link
	// of kind ipsec is not sent if the hook leaves it.
	StageTransform
	StageResolve // sets DstMAC for NextHop on Out, or takes a copy and consumes
	// StageEnter has what leaves by a link of kind tunnel, as it would be on a wire: the hook puts it into a packet of this
	// node that is to be routed (Forward), or drops it, with an Answer or without; for TooBig with the MTU that would do.
	StageEnter
	NumStages
)

func (s Stage) String() string {
	return [...]string{"input", "admit", "exit", "discovery", "transform", "resolve", "enter"}[s]
}

// Host is what the appliance does for one module.
type Host interface {
	// Log returns the module's logger.
	Log() *zap.Logger
	// Clock returns the appliance's clock; loops get `now` as an argument.
	Clock() clock.Clock
	// Rand returns the module's random source. Loop only; seeded by system.seed.
	Rand() *rand.Rand

	// Ahead adds what is to see a vector before its packets come to the hooks of StageInput or StageTransform. Init only.
	Ahead(Stage, Ahead)
	// Hook adds a hook to a stage; Handle adds a command handler. Both panic after Init: the
	// path and the command set are frozen while running.
	Hook(Stage, Hook)
	Handle(method, path string, h Handler)

	// Mail puts ev in the module's own mailbox. Any goroutine; false when the queue of its link
	// and class is full (counted): ev.Pkt stays the caller's then.
	Mail(ev Event) bool

	// Links and Addrs return the current snapshots. Any goroutine.
	Links() *Links
	Addrs() *Addrs
	// PublishAddrs replaces the address snapshot. Only the module that owns addresses calls it.
	PublishAddrs(*Addrs)

	// PublishRoutes replaces the routes this module has learned; it keeps the slice. Only one
	// module does so.
	PublishRoutes([]LearnedRoute)
	// PublishRedirects replaces the redirects this module has learned; it keeps the slice. Only one
	// module does so.
	PublishRedirects([]Redirect)
	// PublishGateways says which neighbors routes lead through; PublishSilent which of them do not
	// answer. Each keeps the slice, and only one module calls it.
	PublishGateways([]Hop)
	PublishSilent([]Hop)
	// PublishResolvers replaces the resolvers this module has learned; it keeps the slices. Only one
	// module does so.
	PublishResolvers(Resolvers)
	// SetLinkParams replaces what routers said about a link; it shows in [Host.Links] a moment
	// later. Any goroutine.
	SetLinkParams(link int, p LinkParams)
	// SetLinkState says what a link of kind tunnel is like: whether the other side may be there, and the longest packet that
	// it takes; it shows in [Host.Links] a moment later. Any goroutine; only the module that makes such links calls it.
	SetLinkState(link int, carrier bool, mtu int)
	// PathMTU returns the path MTU to dst where it is known to be less than the first link's, else 0. Any goroutine.
	PathMTU(dst [16]byte) int
	// LimitPathMTU bounds the path MTU cache to n destinations. Any goroutine; only one module calls it.
	LimitPathMTU(n int)
	// Router returns the module that answers route questions, nil if there is none. From Start on.
	Router() Router

	// Send gives a complete IPv6 packet of this node to the route stage. Any goroutine; p
	// becomes the appliance's.
	Send(p *packet.Packet)
	// Resume takes a packet of which a hook of StageTransform has kept a copy to the route stage again: what it waited for
	// is there. Any goroutine; p becomes the appliance's.
	Resume(p *packet.Packet)
	// Transmit sends p on link to the link-layer address dst without routing or resolving it,
	// for ND, MLD and packets whose resolution has just ended. Any goroutine; p becomes the
	// appliance's.
	Transmit(p *packet.Packet, link int, dst [6]byte)
	// SendError answers p with an ICMPv6 error under all the rules of RFC 4443 2.4. p is borrowed.
	SendError(p *packet.Packet, e ICMPError)
	// Drop counts a packet the module gave up after it had consumed it, so that drops have one
	// account and captures show it. p is borrowed.
	Drop(p *packet.Packet, r packet.Reason)

	// Watched reports whether anybody subscribes to the topic, so that what nobody would see need
	// not be made. Any goroutine.
	Watched(topic string) bool
	// Publish tells the subscribers of `leveret monitor TOPIC` about v, a value that renders as
	// one JSON object in the keys of the topic's `show` command.
	Publish(topic string, v any)
	// Counter returns the counter of that name, made at the first call. Init only; adding is for
	// any goroutine.
	Counter(name string) *Counter
}

// ICMPError is what an ICMPv6 error says (RFC 4443 3).
type ICMPError = packet.ICMPError

// Handler answers one command on the module's loop. What it returns is rendered as JSON; an error
// made by [Refuse] is the operator's, any other a fault of ours.
type Handler func(now clock.Instant, req Request) (any, error)

// Request is one command.
type Request struct {
	// Query holds the selectors of a GET or DELETE.
	Query map[string]string
	// Decode fills v from the JSON body; an unknown key is an error.
	Decode func(v any) error
	// Owner: it comes from root or from the user that the appliance runs as, who may see secrets.
	Owner bool
}

// Selectors returns an error when the query has a key that is not one of keys, so that a typing
// error does not select everything.
func (r Request) Selectors(keys ...string) error {
	for _, k := range slices.Sorted(maps.Keys(r.Query)) {
		if !slices.Contains(keys, k) {
			return Refuse(fmt.Sprintf("unknown selector %q; there are: %s", k, strings.Join(keys, ", ")))
		}
	}
	return nil
}

// Refused is an error that goes to the operator as it is: exit code 2, "Error: ...".
type Refused struct{ Msg string }

func (r *Refused) Error() string { return r.Msg }

// Refuse returns a [Refused] error.
func Refuse(msg string) error { return &Refused{Msg: msg} }

// Config is one module's view of the configuration.
type Config struct {
	Seed     uint64
	Hostname string
	// StateDir is where a module may keep files of its own across restarts; "" = nowhere.
	StateDir string
	// RunDir is for files that tell others what is so now; "" = nowhere.
	RunDir  string
	Routing RoutingConfig
	Links   []LinkConfig
	// Sections holds the parts of the configuration this module claimed, by their path, such as
	// "routing.routes".
	Sections map[string]Section
}

// RoutingConfig is what several modules need of the routing section.
type RoutingConfig struct {
	Forwarding bool
}

// LinkConfig is one link of the configuration.
type LinkConfig struct {
	Name      string
	Index     int // the index it has or will have
	Kind      string
	MTU       int // the configured one
	Addresses []AddressConfig
	LinkLocal string // auto, eui64, none or an address
	// Sections holds the parts claimed below a link, by key, such as "nud".
	Sections map[string]Section
}

// AddressConfig is one configured address.
type AddressConfig struct {
	Prefix    netip.Prefix // the address with its prefix length, host bits kept
	Anycast   bool
	DAD       bool
	Valid     time.Duration // 0 = forever
	Preferred time.Duration // 0 = forever
}

// Section is one part of the configuration, decoded by the module that claimed it.
type Section interface {
	// Present reports whether the operator wrote it.
	Present() bool
	// Decode fills v strictly: an unknown key is a fault. Faults carry file, line and path.
	Decode(v any) error
	// Fault makes a fault at key below this section.
	Fault(key, msg, rfc string) error
}
