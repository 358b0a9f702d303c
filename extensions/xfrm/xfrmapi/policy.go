package xfrmapi

import (
	"fmt"
	"strings"

	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
)

// PolicyRequest is the body of POST /v1/xfrm/policy: add or update. The answer is the policy, a [spd.Listed].
type PolicyRequest struct {
	Op string `json:"op"`
	spd.Spec
}

// PolicyID names a policy, by its index or by selector, mark and interface: the query of GET /v1/xfrm/policy/get and the
// body of POST /v1/xfrm/policy/delete, whose answers are a [spd.Listed].
type PolicyID struct {
	Dir   string `json:"dir"`
	Index string `json:"index,omitempty"`
	Type  string `json:"ptype,omitempty"` // main, which is the default, or sub
	Mark  string `json:"mark,omitempty"`
	Mask  string `json:"mask,omitempty"`
	IfID  string `json:"if_id,omitempty"`
	selector.Spec
}

// NewPolicyID names the policy of a request; link gives the name of a link.
func NewPolicyID(r *spd.Request, link func(int) string) PolicyID {
	id := PolicyID{Dir: r.Dir.String(), Type: spd.TypeName(r.Sub)}
	if r.ByIndex {
		id.Index = number(&r.Index)
	} else {
		id.Spec = r.Selector.Spec(link)
	}
	if r.Mark != 0 || r.Mask != 0 {
		id.Mark, id.Mask = number(&r.Mark), number(&r.Mask)
	}
	if r.IfID != 0 {
		id.IfID = number(&r.IfID)
	}
	return id
}

// Words are those after "ip xfrm policy get".
func (i *PolicyID) Words() []string {
	return append(given("dir", i.Dir, "index", i.Index, "ptype", i.Type, "mark", i.Mark, "mask", i.Mask, "if_id", i.IfID), i.Spec.Words()...)
}

// PolicyFilter selects policies: the query of GET /v1/xfrm/policy, whose answer is a list of [spd.Listed], the newest
// first, and the body of POST /v1/xfrm/policy/deleteall. Empty fields match all.
type PolicyFilter struct {
	Dir      string `json:"dir,omitempty"`
	Type     string `json:"ptype,omitempty"`
	Action   string `json:"action,omitempty"`
	Priority string `json:"priority,omitempty"`
	Index    string `json:"index,omitempty"`
	Flag     string `json:"flag,omitempty"` // words: any of them
	selector.Spec
}

// NewPolicyFilter writes a filter.
func NewPolicyFilter(f *spd.Filter, link func(int) string) PolicyFilter {
	out := PolicyFilter{Priority: number(f.Priority), Index: number(f.Index), Flag: f.Flags.String()}
	if f.Dir != nil {
		out.Dir = f.Dir.String()
	}
	if f.Sub != nil {
		out.Type = spd.TypeName(*f.Sub)
	}
	if f.Action != nil {
		out.Action = f.Action.String()
	}
	if f.Selector != (selector.Selector{}) {
		out.Spec = f.Selector.Spec(link)
	}
	return out
}

// Words are those after "ip xfrm policy list".
func (f *PolicyFilter) Words() []string {
	w := given("dir", f.Dir, "ptype", f.Type, "action", f.Action, "priority", f.Priority, "index", f.Index)
	if f.Flag != "" {
		w = append(append(w, "flag"), strings.Fields(f.Flag)...)
	}
	return append(w, f.Spec.Words()...)
}

// PolicyFlush is the body of POST /v1/xfrm/policy/flush. The answer, and that of deleteall, is a [Flushed].
type PolicyFlush struct {
	Type string `json:"ptype,omitempty"` // main, which is the default, or sub
}

// PolicyDefault is what becomes of packets without a policy, accept or block: the answer of GET /v1/xfrm/policy/default,
// and the body of POST, where empty ones stay as they are.
type PolicyDefault struct {
	In  string `json:"in,omitempty"`
	Fwd string `json:"fwd,omitempty"`
	Out string `json:"out,omitempty"`
}

// NewPolicyDefault writes what becomes of packets, by direction.
func NewPolicyDefault(actions map[spd.Dir]spd.Action) (d PolicyDefault) {
	for dir, a := range actions {
		w := "accept"
		if a == spd.Block {
			w = "block"
		}
		switch dir {
		case spd.In:
			d.In = w
		case spd.Fwd:
			d.Fwd = w
		default:
			d.Out = w
		}
	}
	return d
}

// Text is that of "ip xfrm policy getdefault".
func (d *PolicyDefault) Text() string {
	return fmt.Sprintf("Default policies:\n in:  %s\n fwd: %s\n out: %s\n", d.In, d.Fwd, d.Out)
}

// Words are those after "ip xfrm policy setdefault".
func (d *PolicyDefault) Words() []string { return given("in", d.In, "fwd", d.Fwd, "out", d.Out) }
