package xfrm

import (
	"fmt"
	"net/netip"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/xfrmapi"
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
	m.event(xfrmapi.Event{Event: "newsa", State: m.listed(added)})
	return added, nil
}

// updateState changes a state, or gives a larval one its keys; counters, sequence numbers and replay window go on.
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
	m.event(xfrmapi.Event{Event: "updsa", State: m.listed(updated)})
	return updated, nil
}

// allocSPI adds a larval state with a free SPI from low to high.
func (m *Module) allocSPI(now clock.Instant, s *sad.State, low, high uint32) (*sad.State, error) {
	if err := checkState(s); err != nil {
		return nil, err
	}
	added, err := m.sad.AllocSPI(now, s, low, high, m.host.Rand().Uint32)
	if err != nil {
		return nil, err
	}
	m.changed(now)
	m.event(xfrmapi.Event{Event: "newsa", State: m.listed(added)})
	return added, nil
}

// getState returns a state.
func (m *Module) getState(id sad.ID, saddr netip.Addr, mark sad.Mark) (*sad.State, error) {
	return m.sad.Get(id, saddr, mark)
}

// deleteState deletes the state that getState returns.
func (m *Module) deleteState(now clock.Instant, id sad.ID, saddr netip.Addr, mark sad.Mark) error {
	s, err := m.getState(id, saddr, mark)
	if err != nil {
		return err
	}
	m.forget(s)
	m.changed(now)
	return nil
}

// deleteStates deletes the states that match takes, one by one as "ip xfrm state deleteall" does, and returns how many
// they were.
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
	m.event(xfrmapi.Event{Event: "delsa", State: m.listed(s)})
}

// flushStates deletes the states of a protocol, 0 = all, and returns how many they were. It is one event, and none if
// there were none.
func (m *Module) flushStates(now clock.Instant, p proto.Proto) int {
	gone := m.sad.Flush(p)
	if len(gone) == 0 {
		return 0
	}
	for _, s := range gone {
		m.left(s)
	}
	m.changed(now)
	e := xfrmapi.Event{Event: "flushsa"}
	if p != 0 {
		e.Proto = p.String()
	}
	m.event(e)
	return len(gone)
}

// states returns all states, the newest first.
func (m *Module) states() []*sad.State { return m.sad.List() }

// checkState refuses what is understood and not built.
func checkState(s *sad.State) error {
	switch {
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
	if s.Encap.Type == 0 {
		return
	}
	m.ports[udpEnd{s.DAddr.As16(), s.Encap.DPort}]++
	w := s.Live.Work.(*work)
	w.mu.Lock()
	w.peer = udpEnd{} // the state says anew where packets come from
	w.mu.Unlock()
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
