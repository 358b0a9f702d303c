// Package spd is the security policy database (RFC 4301 4.4.1): the ordered list of policies with the
// order and the refusals of "ip xfrm policy", the snapshot that workers search, and the check that an
// arriving packet came through what its policy asks for.
//
//	DB (loop)  --Snapshot-->  Snapshot (any goroutine, immutable): Policies(flow) --Verify(what it came through)--> Verdict
package spd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// Dir is which way packets go: In to this node, Out from it or forwarded, at the exit, Fwd forwarded, at
// the entry. Numbers are Linux's.
type Dir uint8

// The directions.
const (
	In Dir = iota
	Out
	Fwd
	dirs
)

var dirNames = [dirs]string{"in", "out", "fwd"}

func (d Dir) String() string {
	if d < dirs {
		return dirNames[d]
	}
	return fmt.Sprint(uint8(d))
}

// ParseDir returns the direction of that name.
func ParseDir(s string) (Dir, bool) {
	i := slices.Index(dirNames[:], s)
	return Dir(max(i, 0)), i >= 0
}

// Action is what becomes of the packets.
type Action uint8

// The actions.
const (
	Allow Action = iota // by way of the templates, if there are any (RFC 4301: PROTECT or BYPASS)
	Block               // RFC 4301: DISCARD
)

func (a Action) String() string {
	if a == Block {
		return "block"
	}
	return "allow"
}

// ParseAction returns the action of that name.
func ParseAction(s string) (Action, bool) {
	switch s {
	case "allow":
		return Allow, true
	case "block":
		return Block, true
	}
	return 0, false
}

// Flags are a set of marks.
type Flags uint8

// The flags.
const (
	LocalOK Flags = 1 << iota // programs may override the policy for their sockets
	// ICMP: an ICMP error that no policy is for goes by this policy if it quotes a packet whose way back is
	// this policy's (RFC 4301 6.2). See [selector.Quoted].
	ICMP
)

func (f Flags) String() string {
	var s []string
	if f&LocalOK != 0 {
		s = append(s, "localok")
	}
	if f&ICMP != 0 {
		s = append(s, "icmp")
	}
	return strings.Join(s, " ")
}

// Policy is one policy. What the database returns is shared by all: it is not changed.
type Policy struct {
	Selector selector.Selector
	Dir      Dir
	Sub      bool   // of type sub, which is asked before type main
	Priority uint32 // lower comes first
	// Index is the policy's number: its low 3 bits are the direction. 0 = any that is free.
	Index      uint32
	Action     Action
	Flags      Flags
	Mark, Mask uint32 // the packet's mark; mask 0 = any
	IfID       uint32 // of the XFRM interface that packets go by; 0 = none
	Templates  []Template
	Lifetime   proto.Lifetime
	Name       string

	// What the database keeps of it: when it was put in, and its use. Who makes a policy leaves them zero.
	Added clock.Instant
	Usage Usage
}

// Key is what no two policies have in common.
type Key struct {
	Selector   selector.Selector // normal: see [selector.Selector.Normal]
	Dir        Dir
	Sub        bool
	Mark, Mask uint32
	IfID       uint32
}

// Key returns the key of a policy.
func (p *Policy) Key() Key {
	return Key{Selector: p.Selector.Normal(), Dir: p.Dir, Sub: p.Sub, Mark: p.Mark, Mask: p.Mask, IfID: p.IfID}
}

// The refusals, in the kernel's words.
var (
	ErrExists   = errors.New("File exists")
	ErrNotFound = errors.New("No such file or directory")
	ErrFull     = errors.New("No buffer space available")
	// ErrNoTemplate (ENODATA): no template has what is to be migrated.
	ErrNoTemplate = errors.New("No data available: no template of the policy is to be migrated")
	ErrIndex      = errors.New("Policy index doesn't match direction.")
	ErrTemplates  = errors.New("Template count must be <= XFRM_MAX_DEPTH (6).")
)

// Check refuses a policy that means nothing or asks for what is not built. The error of a field begins with
// its name.
func (p *Policy) Check() error {
	switch {
	case p.Dir >= dirs:
		return fmt.Errorf("dir: %s is none of in, out and fwd", p.Dir)
	case p.Action > Block:
		return fmt.Errorf("action: %d is none", uint8(p.Action))
	case p.Flags&^(LocalOK|ICMP) != 0:
		return fmt.Errorf("flag: %#x is none", uint8(p.Flags&^(LocalOK|ICMP)))
	case p.Mark&^p.Mask != 0:
		return fmt.Errorf("mark: %#x has bits outside of its mask %#x", p.Mark, p.Mask)
	case p.Index != 0 && p.Index&7 != uint32(p.Dir):
		return ErrIndex
	case len(p.Templates) > MaxTemplates:
		return ErrTemplates
	case p.Action == Block && len(p.Templates) > 0:
		return errors.New("tmpl: a policy that blocks sends nothing through a template")
	}
	if err := p.Selector.Valid(); err != nil {
		return err
	}
	for i := range p.Templates {
		if err := p.Templates[i].Check(p.Dir); err != nil {
			if k := (*kernelError)(nil); errors.As(err, &k) {
				return errors.New(k.text)
			}
			return fmt.Errorf("tmpl %d: %w", i+1, err)
		}
	}
	return nil
}

// NDBypass returns the policies that let Neighbor Discovery pass (types 133 to 137, in and out), without
// which a policy that wants all traffic protected leaves no neighbor to protect it with. They are policies
// like any other, to be seen and deleted: there is no hidden exemption.
func NDBypass() (all []Policy) {
	for _, dir := range [...]Dir{In, Out} {
		for typ := uint16(wire.TypeRouterSolicitation); typ <= wire.TypeRedirect; typ++ {
			all = append(all, Policy{
				Name: "ndp-bypass", Dir: dir, Priority: 1,
				Selector: selector.Selector{Proto: wire.ICMPv6, SPort: typ, SPortMask: selector.Exact}.Normal(),
			})
		}
	}
	return all
}
