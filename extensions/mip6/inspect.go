package mip6

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/mip6/bcache"
	"leveret/extensions/mip6/cn"
	"leveret/extensions/mip6/mipapi"
	"leveret/extensions/mip6/wire"
)

func (m *Module) handle(h module.Host) {
	h.Handle("GET", "/v1/mip/bc", m.listBindings)
	h.Handle("POST", "/v1/mip/bc/flush", m.flushBindings)
	h.Handle("GET", "/v1/mip/nonce", m.listNonces)
	h.Handle("GET", "/v1/mip/stat", m.stat)
}

// flagNames are UMIP's.
var flagNames = []struct {
	flag uint16
	name string
}{{wire.FlagAcknowledge, "ack"}, {wire.FlagLinkLocal, "llocal"}, {wire.FlagKeyManagement, "keymgm"}, {wire.FlagMobileRouter, "mobrouter"}}

func (m *Module) listed(now clock.Instant, b bcache.Binding) mipapi.Binding {
	l := mipapi.Binding{
		HoA: b.Key.Home, Local: b.Local, CoA: b.CareOf, Status: b.State.String(), Flags: []string{}, Lifetime: int(b.Lifetime) * wire.LifetimeUnit,
		Expires: int64(max(b.Until.Sub(now), 0) / time.Second), Sequence: b.Sequence, HomeIndex: b.HomeIndex, CoAIndex: b.CareOfIndex,
	}
	if b.State == bcache.Registered {
		l.Packets = m.x.Bound(b.Local, b.Key.Home)
	}
	for _, f := range flagNames {
		if b.Flags&f.flag != 0 {
			l.Flags = append(l.Flags, f.name)
		}
	}
	return l
}

// selected returns what takes the bindings of a filter.
func selected(f mipapi.Filter) (func(bcache.Binding) bool, error) {
	var want [2]netip.Addr
	for i, s := range [...]string{f.HoA, f.Local} {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return nil, module.Refuse(s + ": inet6 address is expected")
		}
		want[i] = a
	}
	return func(b bcache.Binding) bool {
		return (!want[0].IsValid() || want[0] == b.Key.Home) && (!want[1].IsValid() || want[1] == b.Local)
	}, nil
}

func (m *Module) listBindings(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("hoa", "local"); err != nil {
		return nil, err
	}
	match, err := selected(mipapi.Filter{HoA: req.Query["hoa"], Local: req.Query["local"]})
	if err != nil {
		return nil, err
	}
	out := []mipapi.Binding{}
	for _, b := range m.cache.List() {
		if match(b) {
			out = append(out, m.listed(now, b))
		}
	}
	return out, nil
}

func (m *Module) flushBindings(now clock.Instant, req module.Request) (any, error) {
	var f mipapi.Filter
	if err := req.Decode(&f); err != nil {
		return nil, err
	}
	match, err := selected(f)
	if err != nil {
		return nil, err
	}
	return mipapi.Flushed{Flushed: m.flush(now, match)}, nil
}

func (m *Module) listNonces(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	out := []mipapi.Nonce{}
	for _, n := range m.nonces.List(now) {
		out = append(out, mipapi.Nonce{Index: n.Index, Age: int64(now.Sub(n.Since) / time.Second)})
	}
	return out, nil
}

func (m *Module) stat(_ clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	c := m.cache.Counts()
	return mipapi.Stat{Bindings: c.Peers, Ended: c.Ended, Evicted: c.Evicted, Counters: m.count.all()}, nil
}

// tell tells those who watch of a binding.
func (m *Module) tell(event string, b bcache.Binding) {
	if m.host.Watched(mipapi.Topic) {
		m.host.Publish(mipapi.Topic, mipapi.Event{Event: event, Binding: m.listed(m.host.Clock().Now(), b)})
	}
}

// refused tells of an update that was refused, and where it is written.
func (m *Module) refused(a cn.Arrival, u wire.BindingUpdate, o *bcache.Outcome) {
	if !m.host.Watched(mipapi.Topic) {
		return
	}
	e := mipapi.Event{Event: "refused", Reason: o.Reason.String(), Section: o.Reason.Section()}
	e.HoA, e.CoA, e.Local, e.Sequence, e.Flags = a.Src, a.CareOf, a.Dst, u.Sequence(), []string{}
	if o.Reply != nil {
		e.Code = int(o.Reply.Status)
	}
	m.host.Publish(mipapi.Topic, e)
}
