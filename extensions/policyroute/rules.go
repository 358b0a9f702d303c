package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/routeapi"
	"leveret/extensions/policyroute/rule"
)

// errSelector is what is wrong with one word of a rule.
type errSelector struct{ key, msg string }

func (e *errSelector) Error() string { return e.msg }

// parseRule reads a rule; an error is an *errSelector.
func parseRule(s *routeapi.RuleSpec, names tableNames) (r rule.Rule, err error) {
	bad := func(key, format string, args ...any) {
		if err == nil {
			err = &errSelector{key, fmt.Sprintf(format, args...)}
		}
	}
	prefix := func(key, text string) (p netip.Prefix) {
		p, ok := parseSelector(text)
		if !ok {
			bad(key, "inet6 prefix is expected rather than %q.", text)
		}
		return p
	}
	num := func(key, text string, bits int) uint64 {
		n, e := strconv.ParseUint(text, 0, bits)
		if e != nil {
			bad(key, "argument %q is wrong: invalid %s value", text, key)
		}
		return n
	}
	ports := func(key, text string) (p rule.Ports) {
		if text == "" {
			return p
		}
		low, high, isRange := strings.Cut(text, "-")
		if !isRange {
			high = low
		}
		p = rule.Ports{Low: uint16(num(key, low, 16)), High: uint16(num(key, high, 16))}
		if p.Low == 0 || p.Low > p.High {
			bad(key, "Invalid %s range.", key)
		}
		return p
	}
	r = rule.Rule{
		Not: s.Not, From: prefix("from", s.From), To: prefix("to", s.To), IIF: s.IIF, OIF: s.OIF, SPort: ports("sport", s.SPort),
		DPort: ports("dport", s.DPort), SuppressPrefixLen: rule.NoSuppress, Protocol: s.Protocol,
	}
	if s.Priority != nil {
		r.Priority = *s.Priority
	}
	if s.FwMark != "" {
		var e error
		if r.Mark, r.Mask, e = parseMark(s.FwMark); e != nil {
			bad("fwmark", "%v", e)
		}
		if r.Mark == 0 && !strings.Contains(s.FwMark, "/") { // 0 selects nothing
			r.Mask = 0
		}
	}
	if s.DSField != "" {
		r.DSField = uint8(num("dsfield", s.DSField, 8))
	}
	if s.IPProto != "" {
		var ok bool
		if r.IPProto, ok = routeapi.Protocols[s.IPProto]; !ok {
			r.IPProto = uint8(num("ipproto", strings.TrimPrefix(s.IPProto, "ipproto-"), 8))
		}
	}
	if s.Suppress != nil {
		if r.SuppressPrefixLen = *s.Suppress; *s.Suppress < 0 {
			bad("suppress_prefixlength", "%v", rule.ErrSuppress)
		}
	}
	actionOf(&r, s, names, bad)
	return r, err
}

// actionOf reads what a rule does.
func actionOf(r *rule.Rule, s *routeapi.RuleSpec, names tableNames, bad func(key, format string, args ...any)) {
	action := s.Action
	switch {
	case s.Lookup != "" && s.Goto != 0, s.Lookup != "" && action != "" && action != "lookup", s.Goto != 0 && action != "" && action != "goto":
		bad("action", "a rule does one thing: lookup, goto, nop, blackhole, unreachable or prohibit")
	case s.Goto != 0:
		action = "goto"
	case action == "":
		action = "lookup"
	}
	var ok bool
	if r.Action, ok = rule.ParseAction(action); !ok {
		bad("action", "argument %q is wrong: Failed to parse rule type", action)
	}
	r.Target = s.Goto
	if r.Action == rule.Lookup {
		if r.Table, ok = names.id(s.Lookup); !ok {
			bad("lookup", "argument %q is wrong: invalid table ID", s.Lookup)
		}
	}
}

func prepareRules(next *module.Config, names tableNames) ([]rule.Rule, error) {
	s := next.Sections["routing.rules"]
	list, err := items[routeapi.RuleSpec](s)
	errs := []error{err}
	db := rule.New()
	want := make([]rule.Rule, 0, len(list))
	for i := range list {
		at := fmt.Sprintf("[%d]", i)
		list[i].Protocol = "static"
		r, err := parseRule(&list[i], names)
		var sel *errSelector
		switch {
		case errors.As(err, &sel):
			errs = append(errs, s.Fault(at+"."+sel.key, sel.msg, ""))
			continue
		case list[i].Priority == nil:
			errs = append(errs, s.Fault(at+".priority", "a rule of the configuration needs one: it says what comes first", ""))
			continue
		}
		for _, name := range []struct{ key, link string }{{"iif", r.IIF}, {"oif", r.OIF}} {
			known := slices.ContainsFunc(next.Links, func(l module.LinkConfig) bool { return l.Name == name.link })
			if name.link != "" && name.link != rule.Loopback && !known {
				errs = append(errs, s.Fault(at+"."+name.key, fmt.Sprintf("%q is not a link", name.link), ""))
			}
		}
		if err := db.Add(r); err != nil {
			errs = append(errs, s.Fault(at, strings.TrimPrefix(err.Error(), "Error: "), ""))
		}
		want = append(want, r)
	}
	for i, r := range want {
		if db.Unresolved(&r) {
			errs = append(errs, s.Fault(fmt.Sprintf("[%d].goto", i), fmt.Sprintf("no rule has priority %d", r.Target), ""))
		}
	}
	return want, errors.Join(errs...)
}

// commitRules makes the rules those that every node has and those of the configuration.
func (m *Module) commitRules(want []rule.Rule) {
	next := rule.New()
	for _, r := range want {
		next.Add(r) //nolint:errcheck // was added in Prepare
	}
	old := m.rules
	m.rules = next
	m.rulesChanged()
	was := make(map[rule.Rule]bool, len(old.All()))
	for _, r := range old.All() {
		was[r] = true
	}
	for _, r := range next.All() {
		if !was[r] {
			m.rulesAdded.Inc()
			m.ruleEvent(r, false)
		}
		delete(was, r)
	}
	for _, r := range old.All() {
		if was[r] {
			m.rulesRemoved.Inc()
			m.ruleEvent(r, true)
		}
	}
}

// changeRule answers rule add and del.
func (m *Module) changeRule(_ clock.Instant, req module.Request) (any, error) {
	var b routeapi.RuleRequest
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	r, err := parseRule(&b.RuleSpec, m.names)
	if err != nil {
		return nil, module.Refuse("Error: " + err.Error())
	}
	switch b.Op {
	case "add":
		if b.Priority == nil {
			r.Priority = m.rules.NextPriority()
		}
		if r.Protocol == "" {
			r.Protocol = "unspec"
		}
		if err := m.rules.Add(r); err != nil {
			return nil, module.Refuse(err.Error())
		}
		m.rulesAdded.Inc()
	case "del":
		if b.RuleSpec == (routeapi.RuleSpec{}) {
			return nil, module.Refuse("say which rule: without a selector the first one would go")
		}
		if r, err = m.rules.Delete(ruleMatch(&b.RuleSpec, r)); err != nil {
			return nil, module.Refuse(err.Error())
		}
		m.rulesRemoved.Inc()
	default:
		return nil, module.Refuse("unknown operation \"" + b.Op + "\"")
	}
	m.rulesChanged()
	m.ruleEvent(r, b.Op == "del")
	return struct{}{}, nil
}

// ruleMatch takes the rules that are what is given, whatever the rest is.
func ruleMatch(s *routeapi.RuleSpec, r rule.Rule) func(*rule.Rule) bool {
	return func(x *rule.Rule) bool {
		switch {
		case s.Priority != nil && x.Priority != r.Priority,
			s.Not && !x.Not,
			s.From != "" && x.From != r.From,
			s.To != "" && x.To != r.To,
			s.IIF != "" && x.IIF != r.IIF,
			s.OIF != "" && x.OIF != r.OIF,
			s.FwMark != "" && (x.Mark != r.Mark || x.Mask != r.Mask),
			s.DSField != "" && x.DSField != r.DSField,
			s.IPProto != "" && x.IPProto != r.IPProto,
			s.SPort != "" && x.SPort != r.SPort,
			s.DPort != "" && x.DPort != r.DPort,
			(s.Action != "" || s.Goto != 0 || s.Lookup != "") && x.Action != r.Action,
			s.Lookup != "" && x.Table != r.Table,
			s.Goto != 0 && x.Target != r.Target,
			s.Suppress != nil && x.SuppressPrefixLen != r.SuppressPrefixLen,
			s.Protocol != "" && x.Protocol != r.Protocol:
			return false
		}
		return true
	}
}

// showRules answers rule show; the selectors are those of del.
func (m *Module) showRules(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("priority", "from", "to", "iif", "oif", "fwmark", "dsfield", "ipproto", "sport", "dport", "lookup", "protocol"); err != nil {
		return nil, err
	}
	q := req.Query
	s := routeapi.RuleSpec{
		From: q["from"], To: q["to"], IIF: q["iif"], OIF: q["oif"], FwMark: q["fwmark"], DSField: q["dsfield"], IPProto: q["ipproto"],
		SPort: q["sport"], DPort: q["dport"], Lookup: q["lookup"], Protocol: q["protocol"],
	}
	if q["priority"] != "" {
		p, err := number[uint32](req, "priority", 32)
		if err != nil {
			return nil, err
		}
		s.Priority = &p
	}
	r, err := parseRule(&s, m.names)
	if err != nil {
		return nil, module.Refuse("Error: " + err.Error())
	}
	match, out := ruleMatch(&s, r), []routeapi.Rule{}
	for _, x := range m.rules.All() {
		if match(&x) {
			out = append(out, m.renderRule(&x))
		}
	}
	return out, nil
}

// flushRules answers rule flush: as with iproute2, all but those of priority 0.
func (m *Module) flushRules(_ clock.Instant, req module.Request) (any, error) {
	var b routeapi.RuleSpec
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	want, err := parseRule(&b, m.names)
	if err != nil {
		return nil, module.Refuse("Error: " + err.Error())
	}
	match := ruleMatch(&b, want)
	gone := m.rules.DeleteFunc(func(x *rule.Rule) bool { return x.Priority != rule.PriorityLocal && match(x) })
	m.rulesChanged()
	for _, r := range gone {
		m.rulesRemoved.Inc()
		m.ruleEvent(r, true)
	}
	return routeapi.Flushed{Flushed: len(gone)}, nil
}

// ruleEvent tells who watches.
func (m *Module) ruleEvent(r rule.Rule, deleted bool) {
	if m.host.Watched("rule") {
		e := m.renderRule(&r)
		e.Deleted = deleted
		m.host.Publish("rule", e)
	}
}

// renderRule writes a rule in iproute2's keys.
func (m *Module) renderRule(r *rule.Rule) routeapi.Rule {
	addr := func(p netip.Prefix) (string, *int) {
		if !p.IsValid() {
			return "", nil
		}
		if p.Bits() == 128 {
			return p.Addr().String(), nil
		}
		n := p.Bits()
		return p.Addr().String(), &n
	}
	absent := func(link string) bool { return link != "" && link != rule.Loopback && m.links.Name(link) == nil }
	out := routeapi.Rule{
		Priority: r.Priority, Not: routeapi.Flag(r.Not), IIF: r.IIF, IIFDetached: routeapi.Flag(absent(r.IIF)), OIF: r.OIF, OIFDetached: routeapi.Flag(absent(r.OIF)),
		Protocol: r.Protocol, Nop: routeapi.Flag(r.Action == rule.Nop), Unresolved: routeapi.Flag(m.rules.Unresolved(r)),
	}
	if out.Src, out.SrcLen = addr(r.From); out.Src == "" {
		out.Src = "all"
	}
	out.Dst, out.DstLen = addr(r.To)
	if r.DSField != 0 {
		out.TOS = fmt.Sprintf("%#x", r.DSField)
	}
	if r.Mark != 0 || r.Mask != 0 {
		out.FwMark = fmt.Sprintf("0x%x", r.Mark)
		if r.Mask != ^uint32(0) {
			out.FwMask = fmt.Sprintf("0x%x", r.Mask)
		}
	}
	if r.IPProto != 0 {
		out.IPProto = "ipproto-" + strconv.Itoa(int(r.IPProto))
		for name, n := range routeapi.Protocols {
			if n == r.IPProto {
				out.IPProto = name
			}
		}
	}
	split := func(p rule.Ports) (one, low, high uint16) {
		if p.Low == p.High {
			return p.Low, 0, 0
		}
		return 0, p.Low, p.High
	}
	out.SPort, out.SPortStart, out.SPortEnd = split(r.SPort)
	out.DPort, out.DPortStart, out.DPortEnd = split(r.DPort)
	switch r.Action {
	case rule.Lookup:
		out.Table = m.names.name(r.Table)
		if n := r.SuppressPrefixLen; n != rule.NoSuppress {
			out.SuppressLen = &n
		}
	case rule.Goto:
		out.Goto = r.Target
	case rule.Blackhole, rule.Unreachable, rule.Prohibit:
		out.Action = r.Action.String()
	}
	return out
}
