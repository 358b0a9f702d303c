package appliance

import (
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/config"
	"leveret/appliance/control/api"
	"leveret/appliance/datapath"
	"leveret/appliance/link"
	"leveret/appliance/link/ports"
	"leveret/appliance/module"
	"leveret/appliance/wire"
)

// linkState is one link that is open. applyMu guards it.
type linkState struct {
	cfg   config.Link
	index int
	port  link.Port
	own   bool // opened here, so closed here
	state link.State
	told  module.LinkParams // by routers
	up    bool              // administratively
	mtu   int               // the configured or commanded limit
}

// snapshot returns the link as the rest of the program sees it.
func (s *linkState) snapshot() *module.Link {
	caps := s.port.Caps()
	mtu, hops := min(s.state.MTU, s.mtu), defaultHopLimit
	if s.told.MTU != 0 {
		mtu = min(mtu, s.told.MTU)
	}
	if s.told.HopLimit != 0 {
		hops = s.told.HopLimit
	}
	return &module.Link{
		Index: s.index, Name: s.cfg.Name, Kind: s.port.Kind(), HostDevice: s.port.HostDevice(),
		Ethernet: caps.Ethernet, MAC: s.port.MAC(), IfID: s.cfg.IfID, Tunnel: config.IsTunnel(s.cfg.Kind),
		DeviceMTU: s.state.MTU, MTU: mtu, HopLimit: hops,
		Up: s.up, Carrier: s.state.Carrier, Forwarding: *s.cfg.Forwarding,
		Checksum: caps.Checksum, TSO: caps.TSO, USO: caps.USO,
	}
}

// linkSpec is what a port is opened with; two equal ones can share an open port.
func linkSpec(root *config.Root, l config.Link) ports.Spec {
	s := ports.Spec{
		Name: l.Name, Kind: l.Kind, HostDevice: l.HostDevice, Netns: l.Netns,
		MAC: l.MAC.Addr, UseDeviceMAC: l.MAC.Device, MTU: l.MTU, Queues: l.Queues, Offload: *l.Offload, FD: l.FD,
	}
	if !l.MAC.Set {
		s.MAC = ports.StableMAC(root.System.Hostname, l.Name)
	}
	return s
}

// openLink opens a link's port or takes the one that was brought along.
func (a *Appliance) openLink(root *config.Root, l config.Link, index int) (*linkState, error) {
	s := &linkState{cfg: l, index: index, up: true, mtu: l.MTU, port: a.opts.Ports[l.Name]}
	if s.port == nil {
		s.port = a.pairs[l.Name]
		delete(a.pairs, l.Name)
		s.own = true
	}
	if s.port == nil && l.Peer != "" {
		s.port = a.openPair(root, l)
	}
	if s.port == nil {
		p, err := ports.Open(linkSpec(root, l))
		if err != nil {
			return nil, err
		}
		s.port = p
	}
	s.state = a.stateOf(s)
	return s, nil
}

// openPair opens both ends of a pipe between two links; the other end waits in pairs for its link.
func (a *Appliance) openPair(root *config.Root, l config.Link) link.Port {
	for _, o := range root.Links {
		if o.Name == l.Peer {
			mine, theirs := ports.Pair(linkSpec(root, l), linkSpec(root, o))
			a.pairs[o.Name] = theirs
			return mine
		}
	}
	return nil
}

// watch asks for a look at the links whenever the port's state changes. The look itself is
// taken elsewhere: the port's goroutine must not wait for whoever is just closing it.
func (a *Appliance) watch(s *linkState) {
	s.port.Watch(func(link.State) { a.lookAtLinks() })
	a.lookAtLinks() // what changed between opening and watching was told to nobody
}

// followLinks takes in what has changed about the ports.
func (a *Appliance) followLinks() {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	changed := false
	for _, s := range a.links {
		if told := a.linkParams(s.index); told != s.told {
			s.told, changed = told, true
		}
		if st := a.stateOf(s); st != s.state {
			a.log.Info("link changed", zap.String("link", s.cfg.Name), zap.Bool("carrier", st.Carrier), zap.Int("mtu", st.MTU))
			s.state, changed = st, true
		}
	}
	if changed {
		a.publishLinks()
	}
}

// setLinkParams takes note of what routers said about a link. It does not wait for whoever changes
// links just now, who may wait for the caller.
func (a *Appliance) setLinkParams(index int, p module.LinkParams) {
	a.paramsMu.Lock()
	a.params[index] = p
	a.paramsMu.Unlock()
	a.lookAtLinks()
}

func (a *Appliance) linkParams(index int) module.LinkParams {
	a.paramsMu.Lock()
	defer a.paramsMu.Unlock()
	return a.params[index]
}

// setLinkState takes note of what a module says of a link that it makes.
func (a *Appliance) setLinkState(index int, carrier bool, mtu int) {
	a.paramsMu.Lock()
	a.states[index] = link.State{Carrier: carrier, MTU: mtu}
	a.paramsMu.Unlock()
	a.lookAtLinks()
}

// stateOf is a link's state: its port's, or where that has none what the module says that makes it.
func (a *Appliance) stateOf(s *linkState) link.State {
	if !config.IsTunnel(s.cfg.Kind) {
		return s.port.State()
	}
	a.paramsMu.Lock()
	defer a.paramsMu.Unlock()
	st, ok := a.states[s.index]
	if !ok {
		return link.State{MTU: wire.MinMTU}
	}
	st.MTU = min(st.MTU, s.mtu)
	return st
}

// lookAtLinks asks for a look at the links.
func (a *Appliance) lookAtLinks() {
	select {
	case a.linkChanged <- struct{}{}:
	default:
	}
}

// publishLinks makes the present links the snapshot that everybody sees. applyMu is held.
func (a *Appliance) publishLinks() {
	old := a.linkSnap.Load()
	list := make([]*module.Link, 0, len(a.links))
	for _, s := range a.links {
		list = append(list, s.snapshot())
	}
	snap := module.NewLinks(list)
	a.linkSnap.Store(snap)
	a.path.SetLinks(snap)
	a.publishMu.Lock()
	a.host.LinksChanged(snap)
	a.publishMu.Unlock()
	for _, l := range a.loops {
		if o, ok := l.mod.(module.LinkObserver); ok {
			l.post(func(now clock.Instant) { o.LinksChanged(now, a.linkSnap.Load()) })
		}
	}
	a.linkEvents(old, snap)
}

// linkEvents tells `leveret monitor link` what changed.
func (a *Appliance) linkEvents(old, snap *module.Links) {
	for _, l := range snap.All() {
		if o := old.Index(l.Index); o == nil || *o != *l {
			a.bus.Publish("link", linkJSON(l))
		}
	}
	for _, o := range old.All() {
		if snap.Index(o.Index) == nil {
			j := linkJSON(o)
			j.Deleted = true
			a.bus.Publish("link", j)
		}
	}
}

func linkJSON(l *module.Link) api.Link {
	j := api.Link{
		IfIndex: l.Index, IfName: l.Name, Flags: api.LinkFlags(l.Ethernet, l.Up, l.Carrier),
		MTU: l.DeviceMTU, MTU6: l.MTU, OperState: api.OperState(l.Up, l.Carrier), LinkType: "none",
		LinkInfo: &api.LinkInfo{
			Kind: l.Kind, HostDevice: l.HostDevice, Forwarding: l.Forwarding,
			Checksum: l.Checksum, TSO: l.TSO, USO: l.USO,
		},
	}
	if l.IfID != 0 {
		j.LinkInfo.Kind = "xfrm" // iproute2's word
		j.LinkInfo.IfID = fmt.Sprintf("%#x", l.IfID)
	}
	if l.Ethernet {
		j.LinkType, j.Address, j.Broadcast = "ether", macString(l.MAC), "ff:ff:ff:ff:ff:ff"
	}
	return j
}

func macString(m [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// publishAddrs makes s the address snapshot. Called on the owner's loop.
func (a *Appliance) publishAddrs(s *module.Addrs) {
	a.addrSnap.Store(s)
	a.path.SetAddrs(s)
	a.publishMu.Lock()
	a.host.AddrsChanged(s)
	a.publishMu.Unlock()
	for _, l := range a.loops {
		if o, ok := l.mod.(module.AddrObserver); ok {
			l.post(func(now clock.Instant) { o.AddrsChanged(now, a.addrSnap.Load()) })
		}
	}
}

// linkPlan is what a new configuration means for the links.
type linkPlan struct {
	keep   []*linkState  // stay open; cfg and mtu follow the new configuration
	cfg    []config.Link // of keep, in its order
	opened []*linkState  // new, open already
	remove []*linkState  // no longer configured
	reopen []*linkState  // opened differently: closed and opened again
	recfg  []config.Link // of reopen
}

// planLinks opens what is new and decides about the rest. On error everything is as before.
func (a *Appliance) planLinks(root *config.Root) (*linkPlan, error) {
	p := &linkPlan{}
	names := map[string]bool{}
	var errs []error
	for _, l := range root.Links {
		names[l.Name] = true
		s := a.links[l.Name]
		switch {
		case s == nil:
			n, err := a.openLink(root, l, a.freeIndex(p))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			p.opened = append(p.opened, n)
		case a.mustReopen(root, s, l):
			p.reopen, p.recfg = append(p.reopen, s), append(p.recfg, l)
		default:
			if l.MTU != s.cfg.MTU && s.own {
				if err := s.port.SetMTU(l.MTU); err != nil {
					errs = append(errs, fmt.Errorf("links[%s].mtu: %w", l.Name, err))
				}
			}
			p.keep, p.cfg = append(p.keep, s), append(p.cfg, l)
		}
	}
	for name, s := range a.links {
		if !names[name] {
			p.remove = append(p.remove, s)
		}
	}
	if err := errors.Join(errs...); err != nil {
		a.undo(p)
		return nil, err
	}
	return p, nil
}

// undo closes what planLinks opened and gives devices their MTU back.
func (a *Appliance) undo(p *linkPlan) {
	for _, s := range p.opened {
		if s.own {
			s.port.Close()
		}
	}
	for i, s := range p.keep {
		if s.own && p.cfg[i].MTU != s.cfg.MTU {
			if err := s.port.SetMTU(s.cfg.MTU); err != nil {
				a.log.Warn("the device does not take its old MTU back", zap.String("link", s.cfg.Name), zap.Error(err))
			}
		}
	}
}

// mustReopen reports whether the change needs another port.
func (a *Appliance) mustReopen(root *config.Root, s *linkState, l config.Link) bool {
	if !s.own {
		return false
	}
	was, will := linkSpec(a.root, s.cfg), linkSpec(root, l)
	was.MTU, will.MTU = 0, 0
	return was != will
}

// freeIndex returns the lowest index that no link has, from 1.
func (a *Appliance) freeIndex(p *linkPlan) int {
	used := make([]bool, datapath.MaxLinks)
	for _, s := range a.links {
		used[s.index] = true
	}
	for _, s := range p.opened {
		used[s.index] = true
	}
	return slices.Index(used[1:], false) + 1
}

// commitLinks carries the plan out. Only opening again can fail; the old port is opened then.
func (a *Appliance) commitLinks(root *config.Root, p *linkPlan) error {
	for i, s := range p.reopen {
		a.close(s)
		n, err := a.openLink(root, p.recfg[i], s.index)
		if err != nil {
			back, berr := a.openLink(a.root, s.cfg, s.index)
			if berr == nil {
				a.install(back)
			} else {
				delete(a.links, s.cfg.Name)
			}
			a.undo(p)
			a.publishLinks()
			return errors.Join(err, berr)
		}
		a.install(n)
	}
	for _, s := range p.remove {
		delete(a.links, s.cfg.Name)
	}
	for i, s := range p.keep {
		s.cfg, s.mtu = p.cfg[i], p.cfg[i].MTU
		s.state = a.stateOf(s)
	}
	for _, s := range p.opened {
		a.install(s)
	}
	a.publishLinks()
	for _, s := range p.remove {
		a.close(s)
	}
	return nil
}

// install makes an open port part of the appliance.
func (a *Appliance) install(s *linkState) {
	a.links[s.cfg.Name] = s
	a.path.Attach(s.index, s.port)
	a.watch(s)
}

// close takes a link's port out of the path and closes it.
func (a *Appliance) close(s *linkState) {
	a.paramsMu.Lock()
	delete(a.states, s.index)
	a.paramsMu.Unlock()
	a.path.Detach(s.index)
	if !s.own {
		return
	}
	if err := s.port.Close(); err != nil {
		a.log.Warn("the link's device is not as it was found", zap.String("link", s.cfg.Name), zap.Error(err))
	}
}

// closeLinks closes every link. applyMu is held.
func (a *Appliance) closeLinks() {
	for name, s := range a.links {
		delete(a.links, name)
		a.close(s)
	}
}
