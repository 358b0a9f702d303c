// Package nud is Neighbor Unreachability Detection and address resolution for one link (RFC 4861
// 7.2, 7.3, Appendix C): a table of what each event does in each state, and a bounded cache of
// entries with one deadline for all.
//
// It is pure: events come with `now`, what is to be done comes back as effects. Every timed state
// has an armed deadline; nothing is evaluated only when it is read.
package nud

import (
	"container/list"
	"net/netip"
	"time"

	"leveret/appliance/clock"
)

// LLA is a link-layer address.
type LLA [6]byte

// State is the state of an entry (RFC 4861 7.3.2), with iproute2's two for entries that an
// operator made.
type State uint8

// The states. Failed is ours: resolution has just ended without an answer, and for a short while
// nothing is solicited again, so that a scan does not make a solicitation of every packet.
const (
	None State = iota
	Incomplete
	Reachable
	Stale
	Delay
	Probe
	Unreachable // RFC 7048: does not answer, and packets still go to its last address
	Failed
	NoARP
	Permanent
	numStates
)

func (s State) String() string {
	return [...]string{"NONE", "INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "UNREACHABLE", "FAILED", "NOARP", "PERMANENT"}[s]
}

// Trigger is an event with its conditions already looked at, so that the table has no ifs.
type Trigger uint8

// The triggers. An NA is named by what it says: solicited or not, with Override or not, and how its
// address compares with the one that is known.
const (
	Send               Trigger = iota // a packet wants to go to the neighbor
	Timeout                           // the timer ran out, and tries are left
	TimeoutFinal                      // the timer ran out after the last try
	TimeoutInUse                      // PROBE: the same, and packets were sent meanwhile
	NASolicited                       // INCOMPLETE: NA with an address, S=1
	NAUnsolicited                     // INCOMPLETE: NA with an address, S=0
	NAConfirm                         // NA S=1, same or no address, or another one with O=1: it is taken over
	NAOtherNoOverride                 // NA with another address, O=0
	NAOtherUnsolicited                // NA with another address, S=0 O=1
	NASame                            // NA S=0 with the same or no address
	HintSame                          // NS, RS, RA or Redirect with the known address
	HintOther                         // NS, RS, RA or Redirect with another address, or the first one
	Confirm                           // progress of an upper layer (7.3.1)
	numTriggers
)

// do is a set of actions.
type do uint16

const (
	setLLA       do = 1 << iota // record the link-layer address
	setRouter                   // record the IsRouter flag of the NA
	armRetrans                  // wait RetransTimer
	armReachable                // wait ReachableTime
	armDelay                    // wait DELAY_FIRST_PROBE_TIME
	armFailed                   // wait failedTime
	armBackOff                  // wait longer each time (RFC 7048 3)
	multicast                   // solicit by multicast
	unicast                     // solicit the known address
	release                     // send what is queued
	unreachable                 // give up what is queued with an ICMPv6 error
	remove                      // delete the entry
)

// row is what a trigger does in a state. An empty ref means: nothing, on purpose.
type row struct {
	next State
	do   do
	ref  string
}

// table is RFC 4861 Appendix C, with the text of the sections where the two differ. Rows that are
// not here change nothing.
var table = [numStates][numTriggers]row{
	None: {
		Send:      {Incomplete, multicast | armRetrans, "7.2.2"},
		HintOther: {Stale, setLLA, "7.2.3"},
	},
	Incomplete: {
		Timeout:       {Incomplete, multicast | armRetrans, "7.2.2"},
		TimeoutFinal:  {Failed, unreachable | armFailed, "7.2.2"},
		NASolicited:   {Reachable, setLLA | setRouter | release | armReachable, "7.2.5"},
		NAUnsolicited: {Stale, setLLA | setRouter | release, "7.2.5"},
		HintOther:     {Stale, setLLA | release, "7.2.3"},
	},
	Reachable: {
		Timeout:            {Stale, 0, "7.3.2"},
		NAConfirm:          {Reachable, setLLA | setRouter | armReachable, "7.2.5"},
		NAOtherNoOverride:  {Stale, 0, "7.2.5"},
		NAOtherUnsolicited: {Stale, setLLA | setRouter, "7.2.5"},
		NASame:             {Reachable, setRouter, "7.2.5"},
		HintOther:          {Stale, setLLA, "7.2.3"},
		Confirm:            {Reachable, armReachable, "7.3.1"},
	},
	Stale: {
		Send:               {Delay, armDelay, "7.3.3"},
		NAConfirm:          {Reachable, setLLA | setRouter | armReachable, "7.2.5"},
		NAOtherUnsolicited: {Stale, setLLA | setRouter, "7.2.5"},
		NASame:             {Stale, setRouter, "7.2.5"},
		HintOther:          {Stale, setLLA, "7.2.3"},
		Confirm:            {Reachable, armReachable, "7.3.1"},
	},
	Delay: {
		Timeout:            {Probe, unicast | armRetrans, "7.3.3"},
		NAConfirm:          {Reachable, setLLA | setRouter | armReachable, "7.2.5"},
		NAOtherUnsolicited: {Stale, setLLA | setRouter, "7.2.5"},
		NASame:             {Delay, setRouter, "7.2.5"},
		HintOther:          {Stale, setLLA, "7.2.3"},
		Confirm:            {Reachable, armReachable, "7.3.1"},
	},
	Probe: {
		Timeout:            {Probe, unicast | armRetrans, "7.3.3"},
		TimeoutFinal:       {None, remove, "7.3.3"},
		TimeoutInUse:       {Unreachable, multicast | armBackOff, "RFC 7048 3"},
		NAConfirm:          {Reachable, setLLA | setRouter | armReachable, "7.2.5"},
		NAOtherUnsolicited: {Stale, setLLA | setRouter, "7.2.5"},
		NASame:             {Probe, setRouter, "7.2.5"},
		HintOther:          {Stale, setLLA, "7.2.3"},
		Confirm:            {Reachable, armReachable, "7.3.1"},
	},
	Unreachable: { // as PROBE (RFC 7048 3)
		Timeout:            {Unreachable, multicast | armBackOff, "RFC 7048 3"},
		TimeoutFinal:       {None, remove, "RFC 7048 3"},
		NAConfirm:          {Reachable, setLLA | setRouter | armReachable, "7.2.5"},
		NAOtherUnsolicited: {Stale, setLLA | setRouter, "7.2.5"},
		NASame:             {Unreachable, setRouter, "7.2.5"},
		HintOther:          {Stale, setLLA, "7.2.3"},
		Confirm:            {Reachable, armReachable, "7.3.1"},
	},
	Failed: {
		Timeout:   {None, remove, "7.2.2"},
		HintOther: {Stale, setLLA, "7.2.3"},
	},
}

// timed reports whether a state has a timer.
func (s State) timed() bool { return s >= Incomplete && s <= Failed && s != Stale }

// failedTime is how long a failed resolution is remembered.
const failedTime = 3 * time.Second

// The backoff of UNREACHABLE (RFC 7048 3, 4).
const (
	backoffMultiple = 3
	maxRetransTimer = 60 * time.Second
)

// Vars are the variables of RFC 4861 6.3.2 and 10 for one link, and the bounds of the cache.
type Vars struct {
	ReachableTime       time.Duration // BaseReachableTime
	RetransTimer        time.Duration
	DelayFirstProbeTime time.Duration
	MaxMulticastSolicit int
	MaxUnicastSolicit   int
	MaxNeighbors        int
	MaxUnresolved       int // entries in INCOMPLETE
	QueuePackets        int // of one entry
	// LearnFromNA: an advertisement of a neighbor that nobody asked for makes an entry (RFC 9131: routers).
	LearnFromNA bool
}

// Entry is one neighbor. Its fields are the cache's to change.
type Entry struct {
	Addr     netip.Addr
	State    State
	LLA      LLA
	HasLLA   bool
	IsRouter bool
	// Tries counts the solicitations sent since the state was entered.
	Tries int

	Confirmed, Used, Updated clock.Instant // for neigh -s; zero = never

	timer clock.Alarm[*Entry]
	class int // of eviction, and its place there; nil = not to be evicted
	place *list.Element
	inUse bool // packets were sent since the present state was entered, or since the last solicitation in it
	queue []any
	seq   uint64 // order of making
}

// Effect is one thing the runtime has to do.
type Effect struct {
	Kind  EffectKind
	Addr  netip.Addr
	LLA   LLA
	Entry *Entry // Changed, Removed: borrowed
	Old   State  // Changed, Removed: the state before
	Ref   string // Changed: the section of RFC 4861 it rests on
	Pkts  []any  // Release, GiveUp, Dropped: the queued packets, oldest first
	Why   string // Dropped; Removed: empty if it was asked and did not answer
}

// EffectKind says what to do.
type EffectKind uint8

// The effects.
const (
	SolicitMulticast EffectKind = iota // send an NS for Addr to its solicited-node group
	SolicitUnicast                     // send an NS for Addr to LLA
	Release                            // send Pkts to LLA
	GiveUp                             // answer Pkts with Destination Unreachable code 3 (RFC 4861 7.2.2)
	Dropped                            // Pkts are given up: queue full, table full, flushed
	Changed                            // the entry is new or has changed: publish it
	Removed                            // the entry is gone
	RouterLost                         // IsRouter went from true to false (RFC 4861 7.2.5)
)

// The reasons of [Dropped].
const (
	WhyQueueFull = "queue full"
	WhyTableFull = "table full"
	WhyFlushed   = "flushed"
	WhyFailed    = "resolution failed"
)
