package spd

import (
	"net/netip"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// Verdict is what the check of an arriving packet says.
type Verdict uint8

// The verdicts.
const (
	Accept          Verdict = iota
	InBufferError           // the two policies have more templates than a packet can go through
	InStateMismatch         // it came through a state that is not for it
	InNoPols                // no policy is for it, and none is not enough
	InPolBlock              // its policy blocks
	InTmplMismatch          // it did not come through what its policy asks for
)

var verdicts = [...]string{"", "XfrmInBufferError", "XfrmInStateMismatch", "XfrmInNoPols", "XfrmInPolBlock", "XfrmInTmplMismatch"}

// String returns the name of Linux's counter, "" for [Accept].
func (v Verdict) String() string { return verdicts[v] }

// State is what the check looks at in a state that a packet came through.
type State struct {
	Proto      proto.Proto
	Mode       proto.Mode
	SPI, ReqID uint32
	IfID       uint32
	Src, Dst   netip.Addr // the outer ones for tunnels, home addresses for route optimization
	// Selector is what the state is for; nil = all. ICMP: also for ICMP errors that quote a packet whose way
	// back it is for (RFC 4301 6.2).
	Selector *selector.Compiled
	ICMP     bool
}

// Check is the policy check of a packet that came through the states of path, the outermost first, before
// it is delivered (In) or forwarded (Fwd). f is its flow with the addresses of the upper layers; quoted is
// that of [selector.Quoted] if it is an ICMP error, else nil. block is the action for packets without a
// policy. It returns the verdict and the index of the state that is at fault, -1 = none. No allocation.
//
// An ICMP error that does not pass by itself passes as a packet of the flow on whose way back it came, if
// the innermost state is one for that (RFC 4301 6.2).
func (s *Snapshot) Check(dir Dir, path []State, f, quoted *selector.Flow, ifid uint32, block bool) (Verdict, int) {
	if v, i := fits(path, f, quoted); v != Accept {
		return v, i
	}
	sub, main := s.Policies(dir, f, ifid)
	v, i := Verify(path, sub, main, block)
	if v == Accept || quoted == nil || len(path) == 0 || !path[len(path)-1].ICMP {
		return v, i
	}
	sub, main = s.Policies(dir, quoted, ifid)
	if w, _ := Verify(path, sub, main, block); w == Accept {
		return Accept, -1
	}
	return v, i
}

// fits compares each state's selector with the packet (RFC 4301 5.2 step 4), the innermost state first.
func fits(path []State, f, quoted *selector.Flow) (Verdict, int) {
	for i := len(path) - 1; i >= 0; i-- {
		x := &path[i]
		if x.Selector == nil || x.Selector.Matches(f) || x.ICMP && quoted != nil && x.Selector.Matches(quoted) {
			continue
		}
		return InStateMismatch, i
	}
	return Accept, -1
}

// Verify compares what a packet came through with what the policies for it ask for; the states' own
// selectors are [Snapshot.Check]'s. nil = there is no policy of that type.
//
// Templates are taken from the last, the outermost, to the first. One that is required is looked for from
// where the one before was found, past states of transport mode only; so is one of level use, unless that is
// of transport mode itself (Linux searches the same way), but it may be missing. What
// is left over must be of transport mode: more protection than asked for, but no tunnel that no policy
// knows of.
//
// DEVIATION(Linux): a policy that allows packets without a template allows them also where block is set (RFC
// 4301 4.4.1: BYPASS). Linux wants a template then, so that Neighbor Discovery could not be let pass.
func Verify(path []State, sub, main *Policy, block bool) (Verdict, int) {
	if sub == nil && main == nil {
		if i := notTransport(path, 0); block || i >= 0 {
			return InNoPols, i
		}
		return Accept, -1
	}
	if sub != nil && sub.Action == Block || main != nil && main.Action == Block {
		return InPolBlock, -1
	}
	var m Merged
	if !m.Merge(sub, main) {
		return InBufferError, -1
	}
	if sub != nil && main != nil {
		m.SortInput()
	}
	k := 0
	for i := m.N - 1; i >= 0; i-- {
		at, ok := m.Templates[i].find(path, k, m.IfID)
		if !ok {
			return InTmplMismatch, at
		}
		k = at
	}
	if i := notTransport(path, k); i >= 0 {
		return InTmplMismatch, i
	}
	return Accept, -1
}

// notTransport returns the index of the first state at or behind k that is not of transport mode, -1 = none.
func notTransport(path []State, k int) int {
	for i := k; i < len(path); i++ {
		if path[i].Mode != proto.Transport {
			return i
		}
	}
	return -1
}

// find looks for the state of a template, of a policy with ifid, at or behind k and returns the index behind it, or k if the
// template does without. false: there is none; the index is that of the state in the way, -1 = the path
// ended.
func (t *Template) find(path []State, k int, ifid uint32) (int, bool) {
	if t.Level == Use && t.Mode == proto.Transport {
		return k, true
	}
	missing := -1
	for i := k; i < len(path); i++ {
		if path[i].IfID == ifid && t.Conforms(&path[i]) {
			return i + 1, true
		}
		if path[i].Mode != proto.Transport {
			missing = i
			break
		}
	}
	if t.Level == Use {
		return k, true
	}
	return missing, false
}

// Conforms reports whether a state is what the template asks for.
func (t *Template) Conforms(x *State) bool {
	switch {
	case t.Proto != x.Proto || t.Mode != x.Mode:
		return false
	case t.SPI != 0 && t.SPI != x.SPI, t.ReqID != 0 && t.ReqID != x.ReqID:
		return false
	case t.Mode == proto.Transport:
		return true // of the packet's own addresses
	}
	return (wild(t.Src) || t.Src == x.Src) && (wild(t.Dst) || t.Dst == x.Dst)
}

// Merged is the templates of a packet's policies.
type Merged struct {
	Templates [MaxTemplates]*Template // N are valid
	N         int
	IfID      uint32 // of the policies, which is that of the states
}

// Merge puts the templates of sub and then those of main into m; nil = no such policy. It reports false if
// there are more than [MaxTemplates].
func (m *Merged) Merge(sub, main *Policy) bool {
	m.N, m.IfID = 0, 0
	for _, p := range [...]*Policy{sub, main} {
		if p == nil {
			continue
		}
		m.IfID = p.IfID
		if m.N+len(p.Templates) > MaxTemplates {
			return false
		}
		for i := range p.Templates {
			m.Templates[m.N] = &p.Templates[i]
			m.N++
		}
	}
	return true
}

// SortInput puts templates of two policies into the order in which a packet was given their headers, the
// innermost first, as far as the mode tells: transport, route optimization, tunnel. Those of the same mode
// stay in the order of the policies.
func (m *Merged) SortInput() {
	sortStable(m.Templates[:m.N], func(t *Template) int {
		switch t.Mode {
		case proto.Transport:
			return 1
		case proto.RO, proto.InTrigger:
			return 2
		}
		return 3
	})
}

// SortStates puts the states of a packet that leaves by two policies into the order in which they are
// applied, the innermost first: ESP stays next to what it hides, the headers of Mobile IPv6 are in the
// clear, AH covers them, and a tunnel is around all. The states of each policy are in the order of its
// templates, those of sub first; of the same class they stay so. With one policy, its order is the
// administrator's. kind says what a state is.
func SortStates[T any](x []T, kind func(T) (proto.Proto, proto.Mode)) {
	sortStable(x, func(s T) int {
		switch header, mode := kind(s); {
		case mode == proto.Transport && header != proto.AH:
			return 1
		case mode == proto.RO || mode == proto.InTrigger:
			return 2
		case mode == proto.Transport:
			return 3
		}
		return 4
	})
}

// sortStable sorts a few things without allocating.
func sortStable[T any](x []T, class func(T) int) {
	for i := 1; i < len(x); i++ {
		for j := i; j > 0 && class(x[j]) < class(x[j-1]); j-- {
			x[j], x[j-1] = x[j-1], x[j]
		}
	}
}
