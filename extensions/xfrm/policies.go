package xfrm

import (
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// usage notes when a policy was used first: the clock is asked once. It implements [spd.Usage].
type usage struct {
	first atomic.Int64
	clock clock.Clock
}

// Note implements [spd.Usage].
func (u *usage) Note() {
	if u.first.Load() == 0 {
		u.first.CompareAndSwap(0, int64(u.clock.Now()))
	}
}

// First implements [spd.Usage].
func (u *usage) First() clock.Instant { return clock.Instant(u.first.Load()) }

func (m *Module) newUsage() spd.Usage { return &usage{clock: m.host.Clock()} }

// addPolicy adds a policy.
func (m *Module) addPolicy(now clock.Instant, p spd.Policy) (*spd.Policy, error) {
	if err := checkPolicy(&p); err != nil {
		return nil, err
	}
	added, err := m.spd.Add(now, p)
	if err != nil {
		return nil, err
	}
	m.want(added, 1)
	m.changed(now)
	m.event(xfrmapi.Event{Event: "newpolicy", Policy: m.listedPolicy(added)})
	return added, nil
}

// updatePolicy adds a policy or replaces the one of the same key.
func (m *Module) updatePolicy(now clock.Instant, p spd.Policy) (*spd.Policy, error) {
	if err := checkPolicy(&p); err != nil {
		return nil, err
	}
	old, _ := m.spd.Get(p.Key())
	updated, err := m.spd.Update(now, p)
	if err != nil {
		return nil, err
	}
	if old != nil {
		m.want(old, -1)
	}
	m.want(updated, 1)
	m.changed(now)
	m.event(xfrmapi.Event{Event: "updpolicy", Policy: m.listedPolicy(updated)})
	return updated, nil
}

// deletePolicy deletes a policy of the database.
func (m *Module) deletePolicy(now clock.Instant, p *spd.Policy) error {
	gone, err := m.spd.DeleteIndex(p.Index)
	if err != nil {
		return err
	}
	m.gone(gone)
	m.changed(now)
	return nil
}

// gone tells of a policy that is not in the database any more.
func (m *Module) gone(p *spd.Policy) {
	m.want(p, -1)
	m.event(xfrmapi.Event{Event: "delpolicy", Policy: m.listedPolicy(p)})
}

// deletePolicies deletes the policies that match takes, one by one as "ip xfrm policy deleteall" does, and returns how
// many they were.
func (m *Module) deletePolicies(now clock.Instant, match func(*spd.Policy) bool) int {
	gone := m.spd.DeleteFunc(match)
	for _, p := range gone {
		m.gone(p)
	}
	m.changed(now)
	return len(gone)
}

// flushPolicies deletes the policies of a type and returns how many they were. It is one event, and none if there were
// none.
func (m *Module) flushPolicies(now clock.Instant, sub bool) int {
	gone := m.spd.Flush(sub)
	if len(gone) == 0 {
		return 0
	}
	for _, p := range gone {
		m.want(p, -1)
	}
	m.changed(now)
	m.event(xfrmapi.Event{Event: "flushpolicy", Type: spd.TypeName(sub)})
	return len(gone)
}

// expirePolicies tells of limits that policies have reached.
func (m *Module) expirePolicies(now clock.Instant) {
	list := m.spd.Expire(now, nil)
	for _, x := range list {
		if x.Hard {
			m.want(x.Policy, -1)
		}
		m.event(xfrmapi.Event{Event: "polexpire", Hard: x.Hard, Policy: m.listedPolicy(x.Policy)})
	}
	if len(list) > 0 {
		m.changed(now)
	}
}

// setDefaults says what becomes of packets without a policy, of the directions that are given.
func (m *Module) setDefaults(now clock.Instant, actions map[spd.Dir]spd.Action) {
	for dir, a := range actions {
		m.block[dir] = a == spd.Block
	}
	m.changed(now)
	m.tellDefaults()
}

func (m *Module) tellDefaults() {
	d := m.defaultActions()
	m.event(xfrmapi.Event{Event: "setdefault", Default: &d})
}

// defaultActions is what setDefaults has set.
func (m *Module) defaultActions() xfrmapi.PolicyDefault {
	actions := map[spd.Dir]spd.Action{}
	for dir, block := range m.block {
		actions[spd.Dir(dir)] = spd.Allow
		if block {
			actions[spd.Dir(dir)] = spd.Block
		}
	}
	return xfrmapi.NewPolicyDefault(actions)
}

// want counts a policy for which packets are to be looked at: one that wants anything of them, or ends with its use.
func (m *Module) want(p *spd.Policy, n int) {
	if p.Action == spd.Block || len(p.Templates) > 0 || p.Lifetime.SoftUse|p.Lifetime.HardUse != 0 {
		m.wants[p.Dir] += n
	}
}

// checkPolicy refuses what is understood and not built.
func checkPolicy(p *spd.Policy) error {
	l := &p.Lifetime
	switch {
	case p.Selector.Family() == selector.IPv4:
		return errIPv4
	case l.SoftBytes|l.HardBytes|l.SoftPackets|l.HardPackets != 0:
		// DEVIATION(Linux): it takes them and counts nothing, so that they are never reached.
		return errLimits
	}
	for i := range p.Templates {
		if t := &p.Templates[i]; t.Src.Is4() || t.Dst.Is4() {
			return errIPv4
		}
	}
	return nil
}
