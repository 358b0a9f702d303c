package xfrm

import (
	"net/netip"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

// What who keeps the bindings of mobile nodes wants: states of hao and route2 with policies of type sub, as UMIP has them. They are
// states and policies like others, to be seen and deleted; a new configuration does not take them away.

// Priorities of policies, as UMIP has them.
const (
	priorityUpdates = 9  // RO_SIG_ANY
	priorityBypass  = 12 // NO_RO_SIG_ANY
	priorityData    = 16 // RO_BCE_DATA
)

// homes is what a binding is for.
type homes struct{ local, home netip.Addr }

// bindings are those in force. Loop only.
type bindings struct {
	on     bool
	careOf map[homes]netip.Addr
}

// binds is what is to be done about bindings. Of what is wanted for the same two addresses the last counts.
type binds struct {
	correspond *bool
	of         map[homes]bind
	order      []homes // as they came
}

type bind struct {
	careOf netip.Addr
	done   []func(error)
}

// Correspond begins or ends what a correspondent node has without any binding: whatever home address a Mobility Header has is taken (RFC
// 6275 9.3.1), and what has a way of its own to mobile nodes does not go by their care-of addresses. When it ends, bindings end
// too. Any goroutine.
func (m *Module) Correspond(on bool) {
	m.inbox.mu.Lock()
	defer m.inbox.mu.Unlock()
	m.inbox.binds = binds{correspond: &on}
	m.nudge()
}

// Bind puts a binding in force, changes or ends it: states and policies are one change to packets. done, if not nil, is called
// on this module's loop after that and must not wait; with an error, nothing of the binding is in force. Any goroutine.
func (m *Module) Bind(b module.MobileBinding, done func(error)) {
	m.inbox.mu.Lock()
	defer m.inbox.mu.Unlock()
	pending := &m.inbox.binds
	k := homes{b.Local, b.Home}
	one, there := pending.of[k]
	if !there {
		if pending.of == nil {
			pending.of = map[homes]bind{}
		}
		pending.order = append(pending.order, k)
	}
	if one.careOf = b.CareOf; done != nil {
		one.done = append(one.done, done)
	}
	pending.of[k] = one
	m.nudge()
}

// Bound returns how many packets were sent by a binding since it is in force. Any goroutine.
func (m *Module) Bound(local, home netip.Addr) uint64 {
	s := m.view.Load().sad.ByAddrs(home, local, netip.Addr{}, proto.Route2, 0)
	if s == nil {
		return 0
	}
	_, packets := s.Live.Counted()
	return packets
}

// bind does what is to be done, as one change.
func (m *Module) bind(now clock.Instant, pending binds) {
	if pending.correspond == nil && len(pending.order) == 0 {
		return
	}
	b := &m.bindings
	if pending.correspond != nil {
		for _, p := range m.mobilePolicies() {
			m.dropPolicy(p.Key())
		}
		for _, s := range m.mobileStates() {
			m.dropState(s)
		}
		b.on, b.careOf = *pending.correspond, map[homes]netip.Addr{}
		if err := m.putBindings(now, m.mobileStates(), m.mobilePolicies()); err != nil {
			m.host.Log().Error("states and policies of a correspondent node", zap.Error(err))
		}
	}
	errs := make([]error, len(pending.order))
	for i, k := range pending.order {
		careOf := pending.of[k].careOf
		if !careOf.IsValid() || !b.on {
			m.unbind(k)
			delete(b.careOf, k)
			continue
		}
		if errs[i] = m.putBindings(now, k.states(careOf), k.policies()); errs[i] != nil {
			m.unbind(k)
			delete(b.careOf, k)
			continue
		}
		b.careOf[k] = careOf
	}
	m.changed(now)
	for i, k := range pending.order {
		for _, done := range pending.of[k].done {
			done(errs[i])
		}
	}
}

// mobileStates are all states that there are for mobile nodes.
func (m *Module) mobileStates() (all []*sad.State) {
	if !m.bindings.on {
		return nil
	}
	all = append(all, wildcard())
	for k, careOf := range m.bindings.careOf {
		all = append(all, k.states(careOf)...)
	}
	return all
}

// mobilePolicies are all policies that there are for mobile nodes.
func (m *Module) mobilePolicies() (all []spd.Policy) {
	if !m.bindings.on {
		return nil
	}
	all = corresponding()
	for k := range m.bindings.careOf {
		all = append(all, k.policies()...)
	}
	return all
}

// wildcard takes whatever home address a packet has: policies say then what is let in.
func wildcard() *sad.State {
	any6 := netip.IPv6Unspecified()
	return &sad.State{ID: sad.ID{DAddr: any6, Proto: proto.HAO}, SAddr: any6, Mode: proto.RO, CoA: any6, Flags: sad.WildRecv}
}

// corresponding are the policies of a correspondent node.
//
// DEVIATION(RFC 6275 9.3.1): a home address in front of ESP or AH needs a binding too, as on Linux: it is policies that let it in, and
// they do not see what was opened.
func corresponding() []spd.Policy {
	icmpErrors := selector.Selector{Proto: wire.ICMPv6, SPortMask: 0x80} // types below 128
	return []spd.Policy{{
		Name: "mip6-signaling", Dir: spd.In, Sub: true, Priority: priorityUpdates, Selector: selector.Selector{Proto: wire.MH}.Normal(),
		Templates: []spd.Template{{Proto: proto.HAO, Mode: proto.RO, Level: spd.Use}},
	}, {
		Name: "mip6-bypass", Dir: spd.Out, Sub: true, Priority: priorityBypass, Selector: selector.Selector{Proto: wire.MH}.Normal(),
	}, {
		Name: "mip6-bypass", Dir: spd.Out, Sub: true, Priority: priorityBypass, Selector: icmpErrors.Normal(),
	}}
}

// states are those of a binding.
func (k homes) states(careOf netip.Addr) []*sad.State {
	return []*sad.State{
		{ID: sad.ID{DAddr: k.home, Proto: proto.Route2}, SAddr: k.local, Mode: proto.RO, CoA: careOf},
		{ID: sad.ID{DAddr: k.local, Proto: proto.HAO}, SAddr: k.home, Mode: proto.RO, CoA: careOf},
	}
}

// policies are those of a binding. What comes from the mobile node without its home address in an option has come by its
// home agent; what has one must have come through the state of the binding.
func (k homes) policies() []spd.Policy {
	local, home := netip.PrefixFrom(k.local, 128), netip.PrefixFrom(k.home, 128)
	return []spd.Policy{{
		Name: "mip6-binding", Dir: spd.Out, Sub: true, Priority: priorityData, Selector: selector.Selector{Src: local, Dst: home}.Normal(),
		Templates: []spd.Template{{Proto: proto.Route2, Mode: proto.RO, Level: spd.Use, Src: k.local, Dst: k.home}},
	}, {
		Name: "mip6-binding", Dir: spd.In, Sub: true, Priority: priorityData, Selector: selector.Selector{Src: home, Dst: local}.Normal(),
		Templates: []spd.Template{{Proto: proto.HAO, Mode: proto.RO, Level: spd.Use, Src: k.home, Dst: k.local}},
	}}
}

// putBindings puts states and policies into the databases; the change is not visible yet.
func (m *Module) putBindings(now clock.Instant, states []*sad.State, policies []spd.Policy) error {
	for _, s := range states {
		if err := m.putState(now, s); err != nil {
			return err
		}
	}
	for _, p := range policies {
		if err := m.putPolicy(now, p); err != nil {
			return err
		}
	}
	return nil
}

func (m *Module) unbind(k homes) {
	for _, p := range k.policies() {
		m.dropPolicy(p.Key())
	}
	for _, s := range k.states(netip.Addr{}) {
		m.dropState(s)
	}
}

// putState adds a state, or makes the one of its addresses like it.
func (m *Module) putState(now clock.Instant, s *sad.State) error {
	if old := m.sad.Updates(s); old != nil {
		if sameState(old, s) {
			return nil
		}
		updated, err := m.sad.Update(now, s)
		if err == nil {
			m.event(xfrmapi.Event{Event: "updsa", State: m.listed(updated)})
		}
		return err
	}
	added, _, err := m.sad.Add(now, s)
	if err == nil {
		m.event(xfrmapi.Event{Event: "newsa", State: m.listed(added)})
	}
	return err
}

func (m *Module) dropState(s *sad.State) {
	if old := m.sad.Updates(s); old != nil {
		m.forget(old)
	}
}

// putPolicy adds a policy unless it is there.
func (m *Module) putPolicy(now clock.Instant, p spd.Policy) error {
	if old, err := m.spd.Get(p.Key()); err == nil {
		p.Index = old.Index
		if samePolicy(old, &p) {
			return nil
		}
		m.want(old, -1)
	}
	added, err := m.spd.Update(now, p)
	if err != nil {
		return err
	}
	m.want(added, 1)
	m.event(xfrmapi.Event{Event: "updpolicy", Policy: m.listedPolicy(added)})
	return nil
}

func (m *Module) dropPolicy(k spd.Key) {
	if p, err := m.spd.Delete(k); err == nil {
		m.gone(p)
	}
}
