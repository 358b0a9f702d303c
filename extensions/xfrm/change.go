package xfrm

import (
	"errors"
	"fmt"
	"net/netip"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// What this file changes is the loop's. Each function makes its change visible to packets as one, tells of it, and
// refuses in the words of the kernel.

// What is understood and not built.
var (
	errMobile = errors.New("Protocol not supported: the headers of Mobile IPv6 (hao, route2)")
	errIfID   = errors.New("Protocol not supported: XFRM interfaces (if_id)")
	errIPv4   = errors.New("Address family not supported by protocol: IPv4")
	errNonIKE = errors.New("Unsupported encapsulation type for ESP.: espinudp-nonike")
	errLimits = errors.New("Protocol not supported: lifetimes of policies")
)

// getState returns a state.
func (m *Module) getState(id sad.ID, saddr netip.Addr, mark sad.Mark) (*sad.State, error) {
	return m.sad.Get(id, saddr, mark)
}

// forget deletes a state of the list; the change is not visible yet.
func (m *Module) forget(s *sad.State) {
	if !m.sad.Remove(s) {
		return
	}
	m.left(s)
	m.event(xfrmapi.Event{Event: "delsa", State: m.listed(s)})
}

// states returns all states, the newest first.
func (m *Module) states() []*sad.State { return m.sad.List() }

// checkState refuses what is understood and not built.
func checkState(s *sad.State) error {
	switch {
	case s.Proto == proto.HAO || s.Proto == proto.Route2:
		return errMobile
	case s.IfID != 0:
		return errIfID
	case s.Sel.Family() == selector.IPv4:
		return errIPv4
	case s.Encap.Type == sad.ESPInUDPNonIKE:
		return errNonIKE
	case s.Mode == proto.BEET && (!s.Sel.Src.IsSingleIP() || !s.Sel.Dst.IsSingleIP()):
		return fmt.Errorf("%w: mode beet needs a sel with both addresses", sad.ErrInvalid)
	}
	return nil
}

// came and left note what of a state the view has beside the database.
func (m *Module) came(s *sad.State) {
	if s.Encap.Type != 0 {
		m.ports[udpEnd{s.DAddr.As16(), s.Encap.DPort}]++
	}
}

func (m *Module) left(s *sad.State) {
	if s.Encap.Type == 0 || s.KM != sad.Valid {
		return
	}
	k := udpEnd{s.DAddr.As16(), s.Encap.DPort}
	if m.ports[k]--; m.ports[k] <= 0 {
		delete(m.ports, k)
	}
}

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
	case p.IfID != 0:
		return errIfID
	case p.Selector.Family() == selector.IPv4:
		return errIPv4
	case p.Lifetime != spd.Lifetime{}:
		return errLimits
	}
	for i := range p.Templates {
		t := &p.Templates[i]
		switch {
		case t.Proto == proto.HAO || t.Proto == proto.Route2:
			return errMobile
		case t.Src.Is4() || t.Dst.Is4():
			return errIPv4
		}
	}
	return nil
}
