// Package simnet is a network in one process: whole appliances, and scripted hosts, on links that
// delay, lose and repeat frames, all on one manual clock and one seed. Hours of protocol time pass
// in milliseconds, and the same seed gives the same frames.
//
//	node ── end ──┐
//	node ── end ──┤ Segment (latency, loss, repetition; a capture of everything)
//	peer ── end ──┘
package simnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"leveret/appliance"
	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/link"
	"leveret/appliance/module"
)

// Net is one simulated network. Everything happens on the test's goroutine.
type Net struct {
	T        testing.TB
	Clock    *clock.Manual
	Rand     *rand.Rand
	Seed     uint64
	nodes    []*Node
	segments []*Segment
}

// New returns an empty network. The seed is printed when the test fails, and the frames of every
// segment are written to pcapng files then.
func New(t testing.TB, seed uint64) *Net {
	n := &Net{T: t, Clock: clock.NewManual(), Rand: rand.New(rand.NewPCG(seed, seed)), Seed: seed}
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("simnet: seed %d", seed)
			n.writeCaptures()
		}
	})
	return n
}

// Node is one appliance.
type Node struct {
	*appliance.Appliance
	Name string
	net  *Net
	stop func()
}

// Modules makes the extensions of one node; the caller joins them as the binary does.
type Modules func() []module.Module

// Node starts an appliance on that configuration, whose links (kind pipe) are attached to the
// segments named in at.
func (n *Net) Node(name, yaml string, modules Modules, at map[string]*Segment) *Node {
	n.T.Helper()
	mods := modules()
	root, err := config.Load(config.Options{Name: name, Text: []byte(yaml), Claims: appliance.Claims(mods)})
	if err != nil {
		n.T.Fatalf("simnet: node %s: %v", name, err)
	}
	root.System.Seed = n.Seed + uint64(len(n.nodes)) + 1
	root.System.Hostname = name
	ports := map[string]link.Port{}
	for l, s := range at {
		ports[l] = s.port(name+"-"+l, len(n.nodes)+1)
	}
	a, err := appliance.New(appliance.Options{
		Root: root, Source: "test", Modules: mods, Clock: n.Clock, Ports: ports, Manual: true,
		Logger: func(mod string) *zap.Logger {
			if !testing.Verbose() {
				return zap.NewNop()
			}
			return zaptest.NewLogger(n.T).Named(name + "." + mod)
		},
	})
	if err != nil {
		n.T.Fatalf("simnet: node %s: %v", name, err)
	}
	stop, err := a.Start()
	if err != nil {
		n.T.Fatalf("simnet: node %s: %v", name, err)
	}
	node := &Node{Appliance: a, Name: name, net: n, stop: stop}
	n.nodes = append(n.nodes, node)
	return node
}

// Stop ends a node as an operator would.
func (d *Node) Stop() {
	if d.stop != nil {
		d.stop()
		d.stop = nil
		d.net.nodes = slices.DeleteFunc(d.net.nodes, func(o *Node) bool { return o == d })
	}
}

func (n *Net) stop() {
	for _, d := range slices.Clone(n.nodes) {
		d.Stop()
	}
}

// maxSteps bounds the work at one instant: more is a loop.
const maxSteps = 100000

// Settle does all the work there is at the present instant.
func (n *Net) Settle() {
	n.T.Helper()
	for range maxSteps {
		worked := false
		for _, d := range n.nodes {
			worked = d.Step() || worked
		}
		if n.Clock.Deadline() <= n.Clock.Now() {
			n.Clock.AdvanceTo(n.Clock.Now())
			worked = true
		}
		if !worked {
			return
		}
	}
	n.T.Fatalf("simnet: work without end at %s", n.Now())
}

// Advance lets d pass; every deadline fires at its own instant.
func (n *Net) Advance(d time.Duration) {
	n.T.Helper()
	end := n.Clock.Now().Add(d)
	for {
		n.Settle()
		next := n.Clock.Deadline()
		for _, d := range n.nodes {
			next = clock.Earliest(next, d.Deadline())
		}
		if next >= end {
			n.Clock.AdvanceTo(end)
			n.Settle()
			return
		}
		n.Clock.AdvanceTo(next)
	}
}

// AdvanceUntil lets time pass until done, at most d; it reports whether done became true.
func (n *Net) AdvanceUntil(d time.Duration, done func() bool) bool {
	n.T.Helper()
	const grain = 10 * time.Millisecond
	for end := n.Clock.Now().Add(d); n.Clock.Now() < end; n.Advance(grain) {
		if n.Settle(); done() {
			return true
		}
	}
	return done()
}

// Segments returns the links, in the order in which they were made.
func (n *Net) Segments() []*Segment { return n.segments }

// ForgetFrames empties what the segments have kept, for tests that send very many.
func (n *Net) ForgetFrames() {
	for _, s := range n.segments {
		s.Frames = nil
	}
}

// Now returns the time since the network began.
func (n *Net) Now() time.Duration { return n.Clock.Now().Sub(clock.NewManual().Now()) }

func (n *Net) String() string {
	return fmt.Sprintf("simnet with %d nodes, seed %d", len(n.nodes), n.Seed)
}
