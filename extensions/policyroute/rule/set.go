package rule

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Request is what rules select by. A request without a source asks rules on the source too: whether
// such a rule holds is known when its table has answered (see [Compiled.ConformsSource]).
type Request struct {
	Src, Dst     [16]byte
	HasSrc       bool
	In, Out      int // links; In 0 = from this node, Out 0 = not bound to a link
	Mark         uint32
	DSField      uint8 // the traffic class without the ECN bits
	Proto        uint8
	SPort, DPort uint16

	// spans are what the index has for the request, of the first groups, once they have been looked up:
	// known has their bits.
	spans [cached]span
	known uint8
}

// Act is what a rule does. The packet path reads it of one of ten thousand rules for each packet, so it is
// small and apart from the rest. Immutable.
type Act struct {
	// Slot is what the caller's slot function gave for the table.
	Slot int32
	// Next is the index that Goto goes on at; -1 = unresolved.
	Next int32
	// Suppress is the rule's SuppressPrefixLen.
	Suppress int16
	Action   Action
	// BySource: the rule is for some sources only: a request without one conforms to it when the source
	// chosen for the route that its table returns is one of them.
	BySource bool
	exact    bool // the index compares all that it selects by
}

// Compiled is how a rule selects. Immutable.
type Compiled struct {
	Rule *Rule
	// Detached: its iif or oif is no link at present.
	Detached bool

	not          bool
	src, dst     mask
	in, out      int // 0 = any, here = from this node, nowhere = no link has the name
	mark, mask   uint32
	dsField      uint8
	proto        uint8
	sport, dport Ports
}

const (
	here    = -1
	nowhere = -2
)

// mask is a prefix in two words.
type mask struct{ hi, lo, mhi, mlo uint64 }

func maskOf(p netip.Prefix) (m mask) {
	if !p.IsValid() {
		return m
	}
	a, bits := p.Masked().Addr().As16(), p.Bits()
	m.hi, m.lo = binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])
	m.mhi = ^uint64(0) << (64 - min(bits, 64)) // a shift by 64 gives 0
	m.mlo = ^uint64(0) << (128 - max(bits, 64))
	return m
}

func (m *mask) holds(a *[16]byte) bool {
	return (binary.BigEndian.Uint64(a[:8])^m.hi)&m.mhi|(binary.BigEndian.Uint64(a[8:])^m.lo)&m.mlo == 0
}

// Set is the compiled list. Immutable; any goroutine may search it, without locks and without
// allocating.
type Set struct {
	rules []Compiled
	acts  []Act
	index *index // nil = short enough to be searched one by one
	// NeedsPorts: some rule selects by protocol or ports.
	NeedsPorts bool
}

// Compile makes the searchable form of a list. link gives a link's index by name, 0 if there is none;
// slot gives what the caller wants in [Act.Slot] for a table.
func Compile(d *DB, link func(name string) int, slot func(table uint32) int) *Set {
	s := &Set{rules: make([]Compiled, len(d.rules)), acts: make([]Act, len(d.rules))}
	rules := slices.Clone(d.rules) // the list goes on changing
	for i := range rules {
		r := &rules[i]
		c := Compiled{
			Rule: r, not: r.Not, src: maskOf(r.From), dst: maskOf(r.To), mark: r.Mark, mask: r.Mask,
			dsField: r.DSField, proto: r.IPProto, sport: r.SPort, dport: r.DPort,
		}
		c.in, c.out = named(r.IIF, link), named(r.OIF, link)
		if c.out == here { // nothing leaves by it
			c.out = nowhere
		}
		c.Detached = c.in == nowhere || c.out == nowhere
		a := Act{Next: -1, Suppress: int16(r.SuppressPrefixLen), Action: r.Action, BySource: c.src != mask{}}
		switch r.Action {
		case Lookup:
			a.Slot = int32(slot(r.Table))
		case Goto:
			a.Next = int32(slices.IndexFunc(rules, func(x Rule) bool { return x.Priority == r.Target }))
		}
		s.acts[i] = a
		s.NeedsPorts = s.NeedsPorts || r.IPProto != 0 || r.SPort != (Ports{}) || r.DPort != (Ports{})
		s.rules[i] = c
	}
	if x := newIndex(s.rules, s.acts); len(s.rules) > linear || len(s.rules) > few && len(x.groups) <= cached {
		s.index = x
	}
	return s
}

func named(name string, link func(string) int) int {
	switch name {
	case "":
		return 0
	case Loopback:
		return here
	}
	if i := link(name); i != 0 {
		return i
	}
	return nowhere
}

// Len returns the number of rules.
func (s *Set) Len() int { return len(s.rules) }

// Act returns what a rule does by its index.
func (s *Set) Act(i int) *Act { return &s.acts[i] }

// At returns a rule by its index.
func (s *Set) At(i int) *Compiled { return &s.rules[i] }

// Next returns the index of the first rule at or behind from that q conforms to; -1 = none. A request
// belongs to one set: what was found for it there is kept in it.
func (s *Set) Next(q *Request, from int) int {
	if s.index != nil && q.HasSrc {
		return s.index.next(s, q, from)
	}
	for i := from; i < len(s.rules); i++ {
		if s.rules[i].Conforms(q) {
			return i
		}
	}
	return -1
}

// Conforms reports whether q is one of those the rule is for.
func (c *Compiled) Conforms(q *Request) bool { return c.Misfit(q) == "" }

// Misfit names the first part of the selector that q does not conform to, "" if it does.
func (c *Compiled) Misfit(q *Request) string {
	if c.not {
		if c.misfit(q) == "" {
			return "not"
		}
		return ""
	}
	return c.misfit(q)
}

func (c *Compiled) misfit(q *Request) string {
	in := q.In
	if in == 0 {
		in = here
	}
	switch {
	case c.in != 0 && c.in != in:
		return "iif"
	case c.out != 0 && c.out != q.Out:
		return "oif"
	case (q.Mark^c.mark)&c.mask != 0:
		return "fwmark"
	case !c.dst.holds(&q.Dst):
		return "to"
	case q.HasSrc && !c.src.holds(&q.Src):
		return "from"
	case c.dsField != 0 && c.dsField != q.DSField:
		return "dsfield"
	case c.proto != 0 && c.proto != q.Proto:
		return "ipproto"
	case c.sport.High != 0 && (q.SPort < c.sport.Low || q.SPort > c.sport.High):
		return "sport"
	case c.dport.High != 0 && (q.DPort < c.dport.Low || q.DPort > c.dport.High):
		return "dport"
	}
	return ""
}

// ConformsSource reports whether a source chosen inside the lookup is one the rule is for.
func (c *Compiled) ConformsSource(src *[16]byte) bool { return c.src.holds(src) }
