package policyroute

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/routeapi"
	"leveret/extensions/policyroute/srcsel"
)

// maxPrecedence bounds labels and precedences; RFC 6724 sets no bound.
const maxPrecedence = 65535

// SourceSelectionConfig is routing.source_selection.
type SourceSelectionConfig struct {
	Labels []routeapi.LabelSpec `mapstructure:"labels"`
}

// parseLabel reads a row that is added to t; an error is an *errSelector.
func parseLabel(s *routeapi.LabelSpec, t *srcsel.PolicyTable) (srcsel.Policy, error) {
	p, ok := parsePrefix(s.Prefix)
	if ip, err := netip.ParsePrefix(s.Prefix); err == nil && ip.Addr().Is4In6() { // IPv4 has its row too
		p, ok = ip.Masked(), true
	}
	if !ok {
		return srcsel.Policy{}, &errSelector{"prefix", fmt.Sprintf("any valid prefix is expected rather than %q.", s.Prefix)}
	}
	a := p.Addr().As16()
	row := srcsel.Policy{Prefix: p, Precedence: t.Precedence(&a)}
	for _, x := range []struct {
		key  string
		from *int
		to   *int
	}{{"label", s.Label, &row.Label}, {"precedence", s.Precedence, &row.Precedence}} {
		switch {
		case x.from == nil && x.key == "label":
			return row, &errSelector{"label", `Not enough information: "label" argument is required.`}
		case x.from == nil:
		case *x.from < 0 || *x.from > maxPrecedence:
			return row, &errSelector{x.key, fmt.Sprintf("%d is outside 0..%d", *x.from, maxPrecedence)}
		default:
			*x.to = *x.from
		}
	}
	return row, nil
}

func prepareLabels(s module.Section) (*srcsel.PolicyTable, error) {
	var cfg SourceSelectionConfig
	if s == nil || !s.Present() {
		return srcsel.DefaultPolicy, nil
	}
	if err := s.Decode(&cfg); err != nil {
		return nil, err
	}
	var rows []srcsel.Policy
	var errs []error
	for i := range cfg.Labels {
		at := fmt.Sprintf("labels[%d]", i)
		row, err := parseLabel(&cfg.Labels[i], srcsel.DefaultPolicy)
		var sel *errSelector
		switch {
		case errors.As(err, &sel):
			errs = append(errs, s.Fault(at+"."+sel.key, sel.msg, "RFC 6724 2.1"))
		case slices.ContainsFunc(rows, func(x srcsel.Policy) bool { return x.Prefix == row.Prefix }):
			errs = append(errs, s.Fault(at+".prefix", fmt.Sprintf("%s has a row above", row.Prefix), ""))
		}
		rows = append(rows, row)
	}
	return srcsel.DefaultPolicy.With(rows), errors.Join(errs...)
}

func (m *Module) showLabels(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	out := []routeapi.Label{}
	for _, r := range m.view.Load().labels.Rows() {
		out = append(out, routeapi.Label{Address: r.Prefix.Addr().String(), PrefixLen: r.Prefix.Bits(), Label: r.Label, Precedence: r.Precedence})
	}
	return out, nil
}

// changeLabels answers addrlabel add, replace, del and flush.
func (m *Module) changeLabels(_ clock.Instant, req module.Request) (any, error) {
	var b routeapi.LabelRequest
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	t := m.view.Load().labels
	if b.Op == "flush" {
		m.store(func(v *view) { v.labels = srcsel.DefaultPolicy })
		return struct{}{}, nil
	}
	if b.Op == "del" && b.Label == nil {
		b.Label = new(int)
	}
	row, err := parseLabel(&b.LabelSpec, t)
	if err != nil {
		return nil, module.Refuse("Error: " + err.Error())
	}
	known := slices.ContainsFunc(t.Rows(), func(x srcsel.Policy) bool { return x.Prefix == row.Prefix })
	switch {
	case b.Op == "add" && known:
		return nil, module.Refuse("File exists")
	case b.Op == "add" || b.Op == "replace":
		t = t.With([]srcsel.Policy{row})
	case b.Op == "del" && !known:
		return nil, module.Refuse("No such process")
	case b.Op == "del":
		t = srcsel.NewPolicyTable(slices.DeleteFunc(t.Rows(), func(x srcsel.Policy) bool { return x.Prefix == row.Prefix }))
	default:
		return nil, module.Refuse("unknown operation \"" + b.Op + "\"")
	}
	m.store(func(v *view) { v.labels = t })
	return struct{}{}, nil
}
