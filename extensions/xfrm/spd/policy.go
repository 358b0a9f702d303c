// Package spd is the security policy database (RFC 4301 4.4.1): the ordered list of policies with the
// order and the refusals of "ip xfrm policy", the snapshot that workers search, and the check that an
// arriving packet came through what its policy asks for.
//
//	DB (loop)  --Snapshot-->  Snapshot (any goroutine, immutable): Policies(flow) --Verify(what it came through)--> Verdict
package spd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"leveret/appliance/wire"
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

// Lifetime is when a policy ends; 0 = never. Seconds count from when it was added, or first used.
type Lifetime struct {
	SoftAdd, HardAdd         uint64
	SoftUse, HardUse         uint64
	SoftBytes, HardBytes     uint64
	SoftPackets, HardPackets uint64
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
	Lifetime   Lifetime
	Name       string
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
	ErrExists    = errors.New("File exists")
	ErrNotFound  = errors.New("No such file or directory")
	ErrFull      = errors.New("No buffer space available")
	ErrIndex     = errors.New("Error: Policy index doesn't match direction.")
	ErrTemplates = errors.New("Error: Template count must be <= XFRM_MAX_DEPTH (6).")
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
			return fmt.Errorf("tmpl %d: %w", i+1, err)
		}
	}
	return nil
}

// Text returns the policy as "ip xfrm policy" lists it, with its newlines; name gives the name of a link.
func (p *Policy) Text(name func(link int) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s \n\tdir %s ", p.Selector.Text(name), p.Dir)
	if p.Action == Block {
		b.WriteString("action block ")
	}
	ptype := "main"
	if p.Sub {
		ptype = "sub"
	}
	fmt.Fprintf(&b, "priority %d ptype %s ", p.Priority, ptype)
	if p.Flags != 0 {
		fmt.Fprintf(&b, "flag %s", p.Flags)
	}
	b.WriteByte('\n')
	if p.Mask != 0 {
		fmt.Fprintf(&b, "\tmark %#x/%#x \n", p.Mark, p.Mask)
	}
	for i := range p.Templates {
		p.Templates[i].text(&b)
	}
	if p.IfID != 0 {
		fmt.Fprintf(&b, "\tif_id %#x\n", p.IfID)
	}
	return b.String()
}

func (t *Template) text(b *strings.Builder) {
	src, dst := t.Src, t.Dst
	unspecified := netip.IPv6Unspecified()
	if src.Is4() || dst.Is4() {
		unspecified = netip.IPv4Unspecified()
	}
	if !src.IsValid() {
		src = unspecified
	}
	if !dst.IsValid() {
		dst = unspecified
	}
	fmt.Fprintf(b, "\ttmpl src %s dst %s\n\t\tproto %s ", src, dst, t.Proto)
	if t.SPI != 0 {
		fmt.Fprintf(b, "spi 0x%08x ", t.SPI)
	}
	fmt.Fprintf(b, "reqid %d mode %s\n", t.ReqID, t.Mode)
	if t.Level == Use {
		b.WriteString("\t\tlevel use \n")
	}
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
