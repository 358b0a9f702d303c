package xfrm

import (
	"errors"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// What this file and states.go change is the loop's. Each function makes its change visible to packets as one, tells of
// it, and refuses in the words of the kernel.

// What is understood and not built.
var (
	errIPv4   = errors.New("Address family not supported by protocol: IPv4")
	errNonIKE = errors.New("Unsupported encapsulation type for ESP.: espinudp-nonike")
	errLimits = errors.New("Protocol not supported: lifetimes of policies")
)

// addPolicy adds a policy.
func (m *Module) addPolicy(now clock.Instant, p spd.Policy) (*spd.Policy, error) {
	if err := checkPolicy(&p); err != nil {
		return nil, err
	}
	added, err := m.spd.Add(p)
	if err != nil {
		return nil, err
	}
	m.want(added, 1)
	m.changed(now)
	m.event(xfrmapi.Event{Event: "newpolicy", Policy: m.listedPolicy(added)})
	return added, nil
}

// policies returns all policies, as Linux lists them.
func (m *Module) policies() []*spd.Policy { return m.spd.List() }

// want counts a policy that wants anything of packets.
func (m *Module) want(p *spd.Policy, n int) {
	if p.Action == spd.Block || len(p.Templates) > 0 {
		m.wants[p.Dir] += n
	}
}

// checkPolicy refuses what is understood and not built.
func checkPolicy(p *spd.Policy) error {
	switch {
	case p.Selector.Family() == selector.IPv4:
		return errIPv4
	case p.Lifetime != spd.Lifetime{}:
		return errLimits
	}
	for i := range p.Templates {
		if t := &p.Templates[i]; t.Src.Is4() || t.Dst.Is4() {
			return errIPv4
		}
	}
	return nil
}
