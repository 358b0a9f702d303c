package xfrm

import (
	"fmt"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// handlePolicies adds the commands of policies.
func (m *Module) handlePolicies(h module.Host) {
	h.Handle("GET", "/v1/xfrm/policy", m.showPolicies)
	h.Handle("POST", "/v1/xfrm/policy", m.changePolicy)
	h.Handle("GET", "/v1/xfrm/policy/get", m.showPolicy)
	h.Handle("GET", "/v1/xfrm/policy/count", m.countPolicies)
	h.Handle("POST", "/v1/xfrm/policy/delete", m.deleteNamed)
	h.Handle("POST", "/v1/xfrm/policy/deleteall", m.deleteMatching)
	h.Handle("POST", "/v1/xfrm/policy/flush", m.flushType)
	h.Handle("GET", "/v1/xfrm/policy/default", m.showDefault)
	h.Handle("POST", "/v1/xfrm/policy/default", m.changeDefault)
}

func (m *Module) showPolicies(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(append([]string{"dir", "ptype", "action", "priority", "index", "flag"}, selector.Names[:]...)...); err != nil {
		return nil, err
	}
	q := req.Query
	api := xfrmapi.PolicyFilter{
		Dir: q["dir"], Type: q["ptype"], Action: q["action"], Priority: q["priority"], Index: q["index"], Flag: q["flag"], Spec: selector.SpecOf(q),
	}
	f, err := spd.ParseFilter(api.Words(), m.linkNamed)
	if err != nil {
		return nil, refuse(err)
	}
	v := m.shownPolicies()
	out := []spd.Listed{}
	for _, p := range m.spd.List() {
		if f.Match(p) {
			out = append(out, v.List(p))
		}
	}
	return out, nil
}

func (m *Module) showPolicy(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(append([]string{"dir", "index", "ptype", "mark", "mask", "if_id"}, selector.Names[:]...)...); err != nil {
		return nil, err
	}
	q := req.Query
	p, err := m.namedPolicy(xfrmapi.PolicyID{
		Dir: q["dir"], Index: q["index"], Type: q["ptype"], Mark: q["mark"], Mask: q["mask"], IfID: q["if_id"], Spec: selector.SpecOf(q),
	})
	if err != nil {
		return nil, err
	}
	return m.shownPolicies().List(p), nil
}

func (m *Module) namedPolicy(id xfrmapi.PolicyID) (*spd.Policy, error) {
	r, err := spd.Parse("get", id.Words(), m.linkNamed)
	if err != nil {
		return nil, refuse(err)
	}
	p, err := m.spd.Named(r)
	return p, refuse(err)
}

// changePolicy answers xfrm policy add and update.
func (m *Module) changePolicy(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.PolicyRequest
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	p, err := b.Make(m.linkNamed)
	if err != nil {
		return nil, refuse(err)
	}
	switch b.Op {
	case "add":
		p, err = m.addPolicy(now, *p)
	case "update":
		p, err = m.updatePolicy(now, *p)
	default:
		err = fmt.Errorf("unknown operation %q", b.Op)
	}
	if err != nil {
		return nil, refuse(err)
	}
	return m.shownPolicies().List(p), nil
}

func (m *Module) deleteNamed(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.PolicyID
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	p, err := m.namedPolicy(b)
	if err != nil {
		return nil, err
	}
	return m.shownPolicies().List(p), refuse(m.deletePolicy(now, p))
}

func (m *Module) deleteMatching(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.PolicyFilter
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	f, err := spd.ParseFilter(b.Words(), m.linkNamed)
	if err != nil {
		return nil, refuse(err)
	}
	return xfrmapi.Flushed{Flushed: m.deletePolicies(now, f.Match)}, nil
}

func (m *Module) countPolicies(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	return m.spd.Count(), nil
}

func (m *Module) flushType(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.PolicyFlush
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	sub, err := spd.ParseType(b.Type)
	if err != nil {
		return nil, refuse(err)
	}
	return xfrmapi.Flushed{Flushed: m.flushPolicies(now, sub)}, nil
}

func (m *Module) showDefault(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	return m.defaultActions(), nil
}

func (m *Module) changeDefault(now clock.Instant, req module.Request) (any, error) {
	var b xfrmapi.PolicyDefault
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	actions, err := spd.ParseDefaults(b.Words())
	if err != nil {
		return nil, refuse(err)
	}
	m.setDefaults(now, actions)
	return m.defaultActions(), nil
}
