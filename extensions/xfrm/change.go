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

// addState adds a state; the larval state that it is the answer to goes.
func (m *Module) addState(now clock.Instant, s *sad.State) (*sad.State, error) {
	if err := checkState(s); err != nil {
		return nil, err
	}
	m.openIVs()
	added, _, err := m.sad.Add(now, s)
	if err != nil {
		return nil, err
	}
	m.came(added)
	m.changed(now)
	m.event(Event{Event: "newsa", State: m.listed(added)})
	return added, nil
}

// updateState changes a state; its counters, sequence numbers and replay window go on.
func (m *Module) updateState(now clock.Instant, s *sad.State) (*sad.State, error) {
	if err := checkState(s); err != nil {
		return nil, err
	}
	m.openIVs()
	old := m.sad.Updates(s)
	updated, err := m.sad.Update(now, s)
	if err != nil {
		return nil, err
	}
	m.left(old)
	m.came(updated)
	m.changed(now)
	m.event(Event{Event: "updsa", State: m.listed(updated)})
	return updated, nil
}

// allocSPI adds a larval state with a free SPI from low to high.
func (m *Module) allocSPI(now clock.Instant, s *sad.State, low, high uint32) (*sad.State, error) {
	if err := checkState(s); err != nil {
		return nil, err
	}
	added, err := m.sad.AllocSPI(now, s, low, high, m.host.Rand().Uint32)
	if err == nil {
		m.changed(now)
		m.event(Event{Event: "newsa", State: m.listed(added)})
	}
	return added, err
}

// getState returns a state.
func (m *Module) getState(id sad.ID, saddr netip.Addr, mark sad.Mark) (*sad.State, error) {
	return m.sad.Get(id, saddr, mark)
}

// deleteState deletes the state that getState returns.
func (m *Module) deleteState(now clock.Instant, id sad.ID, saddr netip.Addr, mark sad.Mark) (*sad.State, error) {
	s, err := m.sad.Delete(id, saddr, mark)
	if err != nil {
		return nil, err
	}
	m.left(s)
	m.changed(now)
	m.event(Event{Event: "delsa", State: m.listed(s)})
	return s, nil
}

// deleteStates deletes the states that match takes, as "ip xfrm state deleteall", and returns how many they were.
func (m *Module) deleteStates(now clock.Instant, match func(*sad.State) bool) int {
	n := 0
	for _, s := range m.sad.List() {
		if match(s) {
			m.forget(s)
			n++
		}
	}
	m.changed(now)
	return n
}

// forget deletes a state of the list; the change is not visible yet.
func (m *Module) forget(s *sad.State) {
	if !m.sad.Remove(s) {
		return
	}
	m.left(s)
	m.event(Event{Event: "delsa", State: m.listed(s)})
}

// flushStates deletes the states of a protocol, 0 = all, and returns how many they were.
func (m *Module) flushStates(now clock.Instant, p proto.Proto) int {
	gone := m.sad.Flush(p)
	for _, s := range gone {
		m.left(s)
	}
	m.changed(now)
	e := Event{Event: "flushsa"}
	if p != 0 {
		e.Proto = p.String()
	}
	m.event(e)
	return len(gone)
}

// migrate moves states to other addresses (RFC 4877 on movement).
func (m *Module) migrate(now clock.Instant, ms []sad.Migration) ([]sad.Migrated, error) {
	list, err := m.sad.Migrate(ms)
	if err != nil {
		return nil, err
	}
	for _, x := range list {
		m.left(x.Old)
		m.came(x.New)
	}
	m.changed(now)
	for _, x := range list {
		m.event(Event{Event: "migrate", Old: m.listed(x.Old), State: m.listed(x.New)})
	}
	return list, nil
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
	m.event(Event{Event: "newpolicy", Policy: m.listedPolicy(added)})
	return added, nil
}

// updatePolicy adds a policy or replaces the one of the same key.
func (m *Module) updatePolicy(now clock.Instant, p spd.Policy) (*spd.Policy, error) {
	if err := checkPolicy(&p); err != nil {
		return nil, err
	}
	old, _ := m.spd.Get(p.Key())
	updated, err := m.spd.Update(p)
	if err != nil {
		return nil, err
	}
	if old != nil {
		m.want(old, -1)
	}
	m.want(updated, 1)
	m.changed(now)
	m.event(Event{Event: "updpolicy", Policy: m.listedPolicy(updated)})
	return updated, nil
}

// getPolicy returns the policy of a key, getPolicyIndex that of an index.
func (m *Module) getPolicy(k spd.Key) (*spd.Policy, error) { return m.spd.Get(k) }

func (m *Module) getPolicyIndex(index uint32) (*spd.Policy, error) { return m.spd.ByIndex(index) }

// deletePolicy deletes a policy that is in the database.
func (m *Module) deletePolicy(now clock.Instant, p *spd.Policy) error {
	gone, err := m.spd.DeleteIndex(p.Index)
	if err != nil {
		return err
	}
	m.want(gone, -1)
	m.changed(now)
	m.event(Event{Event: "delpolicy", Policy: m.listedPolicy(gone)})
	return nil
}

// deletePolicies deletes the policies that match takes, as "ip xfrm policy deleteall", and returns how many they were.
func (m *Module) deletePolicies(now clock.Instant, match func(*spd.Policy) bool) int {
	gone := m.spd.DeleteFunc(match)
	for _, p := range gone {
		m.want(p, -1)
	}
	m.changed(now)
	for _, p := range gone {
		m.event(Event{Event: "delpolicy", Policy: m.listedPolicy(p)})
	}
	return len(gone)
}

// flushPolicies deletes the policies of a type and returns how many they were.
func (m *Module) flushPolicies(now clock.Instant, sub bool) int {
	gone := m.spd.Flush(sub)
	for _, p := range gone {
		m.want(p, -1)
	}
	m.changed(now)
	m.event(Event{Event: "flushpolicy", Type: typeWord(sub)})
	return len(gone)
}

// policies returns all policies, as Linux lists them.
func (m *Module) policies() []*spd.Policy { return m.spd.List() }

// setDefault says what becomes of packets of a direction without a policy.
func (m *Module) setDefault(now clock.Instant, dir spd.Dir, a spd.Action) {
	m.block[dir] = a == spd.Block
	m.changed(now)
}

// defaultAction is what setDefault has set.
func (m *Module) defaultAction(dir spd.Dir) spd.Action {
	if m.block[dir] {
		return spd.Block
	}
	return spd.Allow
}

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
