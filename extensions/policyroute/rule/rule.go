// Package rule is the rule database of policy routing: the ordered list of rules with the defaults,
// the order and the refusals of "ip -6 rule", and the compiled form that finds the next rule that a
// request conforms to.
//
//	DB (loop)  --Compile, links by name-->  Set (any goroutine, immutable)
package rule

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
)

// Action is what a rule does with a request that conforms to it.
type Action uint8

// The actions.
const (
	Lookup      Action = iota // look the route up in Table
	Goto                      // go on at the rules of priority Target
	Nop                       // go on with the next rule
	Blackhole                 // drop in silence
	Unreachable               // answer that there is no route
	Prohibit                  // answer that it is prohibited
)

var actions = [...]string{"lookup", "goto", "nop", "blackhole", "unreachable", "prohibit"}

func (a Action) String() string { return actions[a] }

// ParseAction returns the action of that name.
func ParseAction(s string) (Action, bool) {
	i := slices.Index(actions[:], s)
	return Action(max(i, 0)), i >= 0
}

// NoSuppress is the suppress_prefixlength of a rule that suppresses nothing.
const NoSuppress = -1

// Loopback is the iif of packets that this node itself sends.
const Loopback = "lo"

// Ports is a range of ports, both ends included. The zero Ports is every packet, with ports or not.
type Ports struct{ Low, High uint16 }

// Rule is one rule. Zero fields select everything. Values are compared and copied.
type Rule struct {
	Priority     uint32
	Not          bool // takes what the selector below does not
	From, To     netip.Prefix
	IIF, OIF     string
	Mark, Mask   uint32
	DSField      uint8 // the DSCP in its place in the traffic class; the ECN bits are 0
	IPProto      uint8
	SPort, DPort Ports

	Action            Action
	Table             uint32 // of Lookup
	Target            uint32 // of Goto
	SuppressPrefixLen int    // of Lookup: routes with a prefix of that length or shorter do not count; [NoSuppress] = all count
	Protocol          string // who made it: kernel, boot, static, ...
}

// The tables' numbers (rt_tables) and the priorities of the rules that every node begins with.
const (
	TableMain  = 254
	TableLocal = 255

	PriorityLocal = 0
	PriorityMain  = 32766
)

// The refusals, in the kernel's words.
var (
	ErrExists   = errors.New("File exists")
	ErrNotFound = errors.New("No such file or directory")
	ErrBackward = errors.New("Error: Backward goto not supported.")
	ErrECN      = errors.New("Error: Invalid dsfield (tos): ECN bits must be 0.")
	ErrTable    = errors.New("Error: Invalid table.")
	ErrSPort    = errors.New("Error: Invalid sport range.")
	ErrDPort    = errors.New("Error: Invalid dport range.")
	ErrSuppress = errors.New("Error: suppress_prefixlength is for rules that look up a table, 0 to 128.")
	// ErrLocal: the address snapshot answers for this node's own addresses before any rule is asked.
	ErrLocal = errors.New("Operation not permitted: packets for this node's own addresses are delivered before any rule is asked, so rule 0 stays")
)

// Check refuses what the kernel refuses.
func (r *Rule) Check() error {
	bad := func(p Ports) bool { return p.Low > p.High || p.Low == 0 && p.High != 0 }
	switch {
	case r.DSField&3 != 0:
		return ErrECN
	case r.Action == Lookup && r.Table == 0:
		return ErrTable
	case r.Action == Goto && r.Target <= r.Priority:
		return ErrBackward
	case bad(r.SPort):
		return ErrSPort
	case bad(r.DPort):
		return ErrDPort
	case r.SuppressPrefixLen != NoSuppress && (r.Action != Lookup || r.SuppressPrefixLen < 0 || r.SuppressPrefixLen > 128):
		return ErrSuppress
	}
	return nil
}

// DB is the list. One goroutine owns it.
type DB struct{ rules []Rule }

// New returns the list that every node begins with.
func New() *DB {
	return &DB{rules: []Rule{
		{Priority: PriorityLocal, Table: TableLocal, SuppressPrefixLen: NoSuppress, Protocol: "kernel"},
		{Priority: PriorityMain, Table: TableMain, SuppressPrefixLen: NoSuppress, Protocol: "kernel"},
	}}
}

// All returns the rules in the order in which they are asked. It is borrowed until the list is changed.
func (d *DB) All() []Rule { return d.rules }

// NextPriority returns the priority of a rule that is added without one: one less than that of the
// second rule of the list.
func (d *DB) NextPriority() uint32 {
	if len(d.rules) > 1 && d.rules[1].Priority > 0 {
		return d.rules[1].Priority - 1
	}
	return 0
}

// Add puts a rule behind those of its priority and before those of a higher number. The same rule
// twice is refused, whoever made it.
func (d *DB) Add(r Rule) error {
	if err := r.Check(); err != nil {
		return err
	}
	i, _ := slices.BinarySearchFunc(d.rules, uint64(r.Priority)+1, func(x Rule, p uint64) int { return cmp.Compare(uint64(x.Priority), p) })
	for _, x := range slices.Backward(d.rules[:i]) {
		if x.Protocol = r.Protocol; x == r {
			return ErrExists
		}
		if x.Priority != r.Priority {
			break
		}
	}
	d.rules = slices.Insert(d.rules, i, r)
	return nil
}

// Delete removes the first rule that match takes and returns it.
func (d *DB) Delete(match func(*Rule) bool) (Rule, error) {
	for i := range d.rules {
		if !match(&d.rules[i]) {
			continue
		}
		if d.rules[i].IsLocal() {
			return Rule{}, ErrLocal
		}
		r := d.rules[i]
		d.rules = slices.Delete(d.rules, i, i+1)
		return r, nil
	}
	return Rule{}, ErrNotFound
}

// DeleteFunc removes every rule that match takes, but the local one, and returns them.
func (d *DB) DeleteFunc(match func(*Rule) bool) (gone []Rule) {
	d.rules = slices.DeleteFunc(d.rules, func(r Rule) bool {
		if r.IsLocal() || !match(&r) {
			return false
		}
		gone = append(gone, r)
		return true
	})
	return gone
}

// IsLocal reports whether a rule is the one that looks up table local first of all.
func (r *Rule) IsLocal() bool {
	return r.Priority == PriorityLocal && r.Table == TableLocal && r.Protocol == "kernel"
}

// Unresolved reports whether a rule goes to a priority that no rule has: it does nothing.
func (d *DB) Unresolved(r *Rule) bool {
	return r.Action == Goto && !slices.ContainsFunc(d.rules, func(x Rule) bool { return x.Priority == r.Target })
}
