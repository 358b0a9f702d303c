package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/wire"
	"leveret/extensions/tunnel/encap"
	"leveret/extensions/tunnel/tunnelapi"
)

// Kinds of messages in the mailbox.
const (
	evError = iota + 1 // an ICMPv6 error about a tunnel packet: Pkt
	evPath             // the path of the tunnel that is Link takes longer or shorter packets
)

// Module is the extension.
type Module struct {
	host     module.Host
	labelKey uint64
	count    counters

	// view is what packets are looked at with.
	view atomic.Pointer[view]

	// Loop only.
	tunnels map[string]*tunnel
}

// tunnel is one link. Immutable: a change makes another with the same live.
type tunnel struct {
	name   string
	index  int
	kind   string
	conf   Config
	params encap.Params
	dev    int // the link that tunnel packets take and come by; 0 = any
	live   *live
}

// view is all tunnels. Immutable.
type view struct {
	byLink []*tunnel // by index, nil where there is none
	byEnds map[ends]*tunnel
	// any says of which protocols there are tunnels.
	plain, gre bool
}

// ends are what tells to which tunnel a packet belongs.
type ends struct {
	local, remote [16]byte
	gre           bool
	key           encap.Key
}

func (t *tunnel) ends() ends {
	return ends{t.params.Local.As16(), t.params.Remote.As16(), t.params.Kind.IsGRE(), t.params.IKey}
}

// New returns the module.
func New() *Module {
	m := &Module{tunnels: map[string]*tunnel{}}
	m.view.Store(&view{})
	return m
}

// Name implements [module.Module].
func (m *Module) Name() string { return "tunnel" }

// Claims implements [module.Module].
func (m *Module) Claims() []string { return []string{"tunnels[]"} }

// Init implements [module.Module].
func (m *Module) Init(h module.Host) error {
	m.host, m.labelKey = h, h.Rand().Uint64()
	m.count.init(h)
	h.Hook(module.StageEnter, m.enter)
	h.Hook(module.StageExit, m.exit)
	h.Hook(module.StageAdmit, m.admit)
	h.Handle("GET", "/v1/tunnel", m.list)
	return nil
}

// Prepare implements [module.Module].
func (m *Module) Prepare(next *module.Config) (func(clock.Instant), error) {
	all, taken := map[string]*tunnel{}, map[ends]string{}
	var errs []error
	for _, l := range next.Links {
		s := l.Sections["tunnel"]
		if s == nil {
			continue
		}
		t := &tunnel{name: l.Name, index: l.Index, kind: l.Kind}
		err := s.Decode(&t.conf)
		if err == nil {
			if f := m.check(t, taken, func(dev string) int { return indexOf(next.Links, dev) }); f != nil {
				err = s.Fault(f.key, f.msg, f.rfc)
			} else if owner := ownerOf(next.Links, t); owner != "" {
				err = s.Fault("remote", fmt.Sprintf("%s is this node's own, on link %s", t.conf.Remote, owner), "RFC 2473 4.1.2")
			}
		}
		errs = append(errs, err)
		all[t.name] = t
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func(now clock.Instant) {
		for _, name := range names(m.tunnels) {
			if all[name] == nil {
				m.tell(m.tunnels[name], true)
			}
		}
		old := m.tunnels
		m.tunnels = map[string]*tunnel{}
		for _, name := range names(all) {
			m.put(old[name], all[name])
		}
		m.changed(now)
	}, nil
}

func names(m map[string]*tunnel) []string {
	var out []string
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func indexOf(links []module.LinkConfig, name string) int {
	for i := range links {
		if links[i].Name == name {
			return links[i].Index
		}
	}
	return 0
}

// ownerOf returns the link that has a tunnel's remote address; "" if none has.
func ownerOf(links []module.LinkConfig, t *tunnel) string {
	for i := range links {
		for _, a := range links[i].Addresses {
			if a.Prefix.Addr() == t.conf.Remote {
				return links[i].Name
			}
		}
	}
	return ""
}

// check makes a tunnel's variables of what is configured; taken are the ends of the others.
func (m *Module) check(t *tunnel, taken map[ends]string, index func(dev string) int) *fault {
	var f *fault
	if t.params, f = t.conf.params(t.kind, m.labelKey); f != nil {
		return f
	}
	if t.conf.Dev != "" {
		switch t.dev = index(t.conf.Dev); t.dev {
		case 0:
			return &fault{"dev", fmt.Sprintf("there is no link %q", t.conf.Dev), ""}
		case t.index:
			return &fault{"dev", "a tunnel does not lead through itself", "RFC 2473 4.1.3"}
		}
	}
	if other := taken[t.ends()]; other != "" {
		return &fault{"remote", fmt.Sprintf("tunnel %s has the same ends", other), ""}
	}
	taken[t.ends()] = t.name
	return nil
}

// put makes a tunnel one of the module's: in the place of old, unless that is nil.
func (m *Module) put(old, t *tunnel) {
	t.live = newLive()
	if old != nil && old.index == t.index && old.ends() == t.ends() && old.params.OKey == t.params.OKey {
		t.live = old.live // to another end numbers begin anew
	}
	m.tunnels[t.name] = t
	if old == nil || old.params != t.params || old.conf.Dev != t.conf.Dev {
		m.tell(t, false)
	}
}

// MakeLink implements [module.LinkMaker].
func (m *Module) MakeLink(name, kind string, index int, decode func(v any) error) (func(clock.Instant), error) {
	t := &tunnel{name: name, index: index, kind: kind}
	old := m.tunnels[name]
	if old != nil {
		t.conf = old.conf
	}
	if err := decode(&t.conf); err != nil {
		return nil, err
	}
	taken := map[ends]string{}
	for _, o := range m.tunnels {
		if o.name != name {
			taken[o.ends()] = o.name
		}
	}
	links := m.host.Links()
	f := m.check(t, taken, func(dev string) int {
		if l := links.Name(dev); l != nil {
			return l.Index
		}
		return 0
	})
	if f != nil {
		return nil, module.Refuse("Invalid argument: " + f.Error())
	}
	if a := t.params.Remote.As16(); m.host.Addrs().Lookup(&a, 0) != nil {
		return nil, module.Refuse(fmt.Sprintf("Invalid argument: remote: %s is this node's own (RFC 2473 4.1.2)", t.params.Remote))
	}
	return func(now clock.Instant) {
		m.put(old, t)
		m.changed(now)
	}, nil
}

// Start implements [module.Module].
func (m *Module) Start(now clock.Instant) { m.changed(now) }

// LinksChanged implements [module.LinkObserver]: a tunnel whose link is gone goes, and paths may have become others.
func (m *Module) LinksChanged(now clock.Instant, links *module.Links) {
	for _, name := range names(m.tunnels) {
		if t := m.tunnels[name]; links.Name(name) == nil {
			delete(m.tunnels, name)
			m.tell(t, true)
		}
	}
	m.changed(now)
}

// AddrsChanged implements [module.AddrObserver]: a local address may have come or gone.
func (m *Module) AddrsChanged(now clock.Instant, _ *module.Addrs) {
	for _, t := range m.tunnels {
		m.measure(now, t)
	}
}

// changed makes the tunnels as they are what packets see.
func (m *Module) changed(now clock.Instant) {
	v := &view{byEnds: map[ends]*tunnel{}}
	for _, t := range m.tunnels {
		for len(v.byLink) <= t.index {
			v.byLink = append(v.byLink, nil)
		}
		v.byLink[t.index] = t
		v.byEnds[t.ends()] = t
		v.gre = v.gre || t.params.Kind.IsGRE()
		v.plain = v.plain || !t.params.Kind.IsGRE()
	}
	m.view.Store(v)
	for _, t := range m.tunnels {
		m.measure(now, t)
	}
}

// measure looks at the path of a tunnel, and says what that makes of the link.
func (m *Module) measure(now clock.Instant, t *tunnel) {
	path := m.findPath(t)
	t.live.path.Store(int64(path))
	t.live.looked.Store(int64(now))
	local := t.params.Local.As16()
	a := m.host.Addrs().Lookup(&local, t.dev)
	m.host.SetLinkState(t.index, a != nil && a.Assigned(), max(t.params.MTU(path), wire.MinMTU))
}

// Receive implements [module.Module].
func (m *Module) Receive(now clock.Instant, ev module.Event) {
	switch ev.Kind {
	case evError:
		m.relay(now, ev.Pkt)
	case evPath:
		if t := m.view.Load().link(ev.Link); t != nil {
			m.measure(now, t)
		}
	}
}

// Deadline implements [module.Module].
func (m *Module) Deadline() clock.Instant { return clock.Never }

// Tick implements [module.Module].
func (m *Module) Tick(clock.Instant) {}

// Stop implements [module.Module].
func (m *Module) Stop(clock.Instant) {}

// Topic is where tunnels that come, change or go are published.
const Topic = "tunnel"

// tell tells those who watch.
func (m *Module) tell(t *tunnel, gone bool) {
	if !m.host.Watched(Topic) {
		return
	}
	j := m.listed(t)
	j.Deleted = gone
	m.host.Publish(Topic, j)
}

// list answers GET /v1/tunnel.
func (m *Module) list(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("dev"); err != nil {
		return nil, err
	}
	out := []tunnelapi.Tunnel{}
	for _, name := range names(m.tunnels) {
		if dev := req.Query["dev"]; dev == "" || dev == name {
			out = append(out, m.listed(m.tunnels[name]))
		}
	}
	if dev := req.Query["dev"]; dev != "" && len(out) == 0 {
		return nil, module.Refuse(fmt.Sprintf("Cannot find device %q", dev))
	}
	return out, nil
}
