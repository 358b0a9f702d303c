package xfrm

import (
	"fmt"

	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// event tells those who watch.
func (m *Module) event(e xfrmapi.Event) { m.host.Publish(xfrmapi.Topic, e) }

// listed makes a state one to be told of, if anybody listens.
func (m *Module) listed(s *sad.State) *sad.Listed {
	if !m.host.Watched(xfrmapi.Topic) {
		return nil
	}
	l := m.shown().List(s)
	return &l
}

// listedPolicy makes a policy one to be told of, if anybody listens.
func (m *Module) listedPolicy(p *spd.Policy) *spd.Listed {
	if !m.host.Watched(xfrmapi.Topic) {
		return nil
	}
	l := m.shownPolicies().List(p)
	return &l
}

func linkNumber(index int) string { return fmt.Sprintf("link%d", index) }
