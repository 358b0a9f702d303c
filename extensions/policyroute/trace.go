package policyroute

import (
	"leveret/extensions/policyroute/routeapi"
	"leveret/extensions/policyroute/rule"
)

// trace notes how a search went, for `route get -d`.
type trace struct{ steps []step }

// step is one rule that was asked.
type step struct {
	rule   *rule.Compiled
	misfit string // the word of its selector that the request does not conform to
	why    string // why the route of its table does not conform to it
	found         // of its table
}

// asked notes the rules from one index to the one that the request conforms to; -1 = to the end.
func (t *trace) asked(v *view, q *request, from, to int) {
	if t == nil {
		return
	}
	end := to
	if to < 0 {
		end = v.rules.Len()
	}
	for i := from; i < end; i++ {
		c := v.rules.At(i)
		word := c.Misfit(&q.Request)
		if c.Detached && (word == "iif" || word == "oif") {
			word += " is no link at present"
		}
		t.steps = append(t.steps, step{rule: c, misfit: word})
	}
	if to >= 0 {
		t.steps = append(t.steps, step{rule: v.rules.At(to)})
	}
}

// answered notes what the table of the last rule had, and why that is not used; "" = it is.
func (t *trace) answered(f found, why string) {
	if t != nil {
		last := &t.steps[len(t.steps)-1]
		last.found, last.why = f, why
	}
}

// renderTrace writes a search in the words of the commands.
func (m *Module) renderTrace(t *trace, dst [16]byte) []routeapi.Step {
	var out []routeapi.Step
	for _, s := range t.steps {
		x := routeapi.Step{Rule: m.renderRule(s.rule.Rule), Conforms: s.misfit == "", Why: s.misfit, Refused: s.why}
		if s.Route != nil {
			x.Route = dstText(s.prefix(&dst))
		}
		x.Used = x.Conforms && s.why == "" && s.rule.Rule.Action != rule.Nop && s.rule.Rule.Action != rule.Goto
		out = append(out, x)
	}
	return out
}
