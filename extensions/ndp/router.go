package ndp

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"leveret/appliance/clock"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/radv"
)

// maxContradictions bounds the routers of a link whose contradictions are remembered.
const maxContradictions = 16

// contradictionPause is the least time between two lines of the log about one router.
const contradictionPause = time.Minute

// advertiser is the router side of one link.
type advertiser struct {
	*radv.Advertiser
	src netip.Addr // what it advertises from: another link-local address is another router
	// said remembers how other routers contradict us, so that each thing is told once.
	said map[netip.Addr]contradiction
}

// contradiction is what one router advertises otherwise, and when that was logged last.
type contradiction struct {
	text string
	told clock.Instant
}

// linkLocal returns the link-local address that messages of routers and hosts come from; the zero Addr
// while there is none.
func (m *Module) linkLocal(l *linkState) netip.Addr {
	for _, a := range m.addrs {
		if a.link == l.index() && a.addr.IsLinkLocalUnicast() && !a.tentative() && !a.dadFailed && !a.anycast {
			return a.addr
		}
	}
	return netip.Addr{}
}

// syncRouter makes the router side of a link what configuration, link and addresses allow: an
// advertiser from the moment there is a link-local address to advertise from.
func (m *Module) syncRouter(now clock.Instant, l *linkState) {
	src := netip.Addr{}
	if l.link.Usable() && !l.disabled {
		src = m.linkLocal(l)
	}
	cfg := l.cfg.adv
	cfg.IsRouter = l.link.Forwarding
	cfg.AdvPrefixList = slices.Clone(cfg.AdvPrefixList)
	for i := range cfg.AdvPrefixList {
		p := &cfg.AdvPrefixList[i]
		for _, a := range m.addrs {
			if a.link == l.index() && !a.anycast && !a.tentative() && !a.dadFailed && p.Prefix.Contains(a.addr) && !p.Addr.IsValid() {
				p.Addr = a.addr
			}
		}
	}
	switch {
	case l.adv != nil && l.adv.src != src:
		if src.IsValid() { // who knew the old router is told that it is none (RFC 4861 6.2.8)
			m.advertise(l, l.adv.Stop(now))
		}
		m.remember(now, l)
		l.adv = nil
		m.syncRouter(now, l)
	case l.adv != nil:
		l.adv.SetConfig(now, cfg)
	case src.IsValid() && cfg.AdvSendAdvertisements:
		l.adv = &advertiser{radv.New(now, cfg, m.host.Rand().Float64, m.recall(l)), src, map[netip.Addr]contradiction{}}
	}
}

// tickRouter sends the advertisements that are due.
func (m *Module) tickRouter(now clock.Instant, l *linkState) {
	if l.adv == nil {
		return
	}
	out := l.adv.Tick(now)
	m.advertise(l, out)
	if len(out) > 0 {
		m.remember(now, l)
	}
}

// advertise sends advertisements, each split where the link's MTU asks for it.
func (m *Module) advertise(l *linkState, out []radv.Send) {
	for _, s := range out {
		s.RA.Src = l.adv.src
		if s.SourceLLA && l.link.Ethernet {
			s.RA.SourceLLA = &l.link.MAC
		}
		for _, ra := range s.RA.Split(l.link.MTU) {
			b := ndwire.AppendRA(nil, ra)
			if s.Dst.IsMulticast() {
				dst := s.Dst.As16()
				m.transmit(l, b, wire.MulticastMAC(&dst))
			} else {
				m.sendOn(l, b)
			}
		}
	}
}

// sendOn sends a message to a neighbor, which is resolved like any other.
func (m *Module) sendOn(l *linkState, b []byte) {
	m.told(l, b)
	p := packet.New(b)
	p.Out = l.index()
	m.host.Send(p)
}

// routerSolicited takes in an RS: only routers listen (RFC 4861 6.2.6).
func (m *Module) routerSolicited(now clock.Instant, l *linkState, msg *ndwire.Message) {
	if !l.link.Forwarding && l.adv == nil {
		return
	}
	if !msg.Src.IsUnspecified() {
		no := false // who solicits is a host
		if msg.HasSourceLLA {
			m.apply(now, l, l.cache.Hint(now, msg.Src, msg.SourceLLA, &no, m.effects[:0]))
		} else {
			m.apply(now, l, l.cache.NoRouter(msg.Src, m.effects[:0]))
		}
	}
	if l.adv != nil {
		l.adv.Solicit(now, msg.Src)
	}
}

// contradicts compares another router's advertisement with ours (RFC 4861 6.2.7).
func (m *Module) contradicts(now clock.Instant, l *linkState, ra *ndwire.RA) []string {
	if l.adv == nil {
		return nil
	}
	own, ok := l.adv.RA(now)
	if !ok {
		return nil
	}
	notes := radv.Compare(own, *ra)
	text := strings.Join(notes, "; ")
	old, known := l.adv.said[ra.Src]
	switch {
	case old.text == text, !known && len(l.adv.said) >= maxContradictions:
		return notes
	case text == "":
		old.text = "" // it agrees now
	default:
		m.count.contradictions.Inc()
		if known && now < old.told.Add(contradictionPause) {
			return notes // it is told when it still says so then
		}
		old = contradiction{text, now}
	}
	l.adv.said[ra.Src] = old
	if text != "" {
		m.host.Log().Warn("another router advertises something else", zap.String("link", l.cfg.name), zap.Stringer("router", ra.Src), zap.String("differs", text))
	}
	return notes
}

// stalePrefixFile is where what hosts may still hold of our advertisements outlives this process
// (RFC 9096 3.5), in state_dir.
const stalePrefixFile = "advertised_prefixes.json"

// recorded is one prefix in the file. Times are of the calendar: the process's own clock ends with it.
type recorded struct {
	Prefix     netip.Prefix `json:"prefix"`
	OnLink     bool         `json:"on_link"`
	Autonomous bool         `json:"autonomous"`
	Live       bool         `json:"live"`
	Left       string       `json:"left"` // a duration, or infinity
	At         time.Time    `json:"at"`   // when that much was left
}

// loadRecords reads the file once.
func (m *Module) loadRecords(dir string) {
	m.records, m.stateDir = map[string][]recorded{}, dir
	if dir == "" {
		return
	}
	b, err := os.ReadFile(filepath.Join(dir, stalePrefixFile))
	if err == nil {
		err = json.Unmarshal(b, &m.records)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.host.Log().Warn("the prefixes advertised before are not known: hosts may keep addresses of withdrawn ones", zap.Error(err))
	}
	if m.records == nil {
		m.records = map[string][]recorded{}
	}
}

// recall returns what hosts on a link may still hold.
func (m *Module) recall(l *linkState) (out []radv.StalePrefix) {
	wall := m.host.Clock().Wall()
	for _, r := range m.records[l.cfg.name] {
		var left radv.Lifetime
		if left.UnmarshalText([]byte(r.Left)) != nil {
			continue
		}
		if !r.Live && left != radv.Infinite {
			left -= radv.Lifetime(max(wall.Sub(r.At), 0))
		}
		out = append(out, radv.StalePrefix{Prefix: r.Prefix, OnLink: r.OnLink, Autonomous: r.Autonomous, Left: time.Duration(left), Live: r.Live})
	}
	return out
}

// remember keeps what hosts on a link may hold, and writes the file when that is something else than it
// says: how much is left of a stale prefix goes without saying.
func (m *Module) remember(now clock.Instant, l *linkState) {
	wall := m.host.Clock().Wall()
	next := []recorded{}
	for _, s := range l.adv.Record(now) {
		next = append(next, recorded{s.Prefix, s.OnLink, s.Autonomous, s.Live, radv.Lifetime(s.Left).String(), wall})
	}
	same := slices.EqualFunc(next, m.records[l.cfg.name], func(a, b recorded) bool {
		return a.Prefix == b.Prefix && a.OnLink == b.OnLink && a.Autonomous == b.Autonomous && a.Live == b.Live && (!a.Live || a.Left == b.Left)
	})
	if same {
		return
	}
	m.records[l.cfg.name] = next
	if m.stateDir == "" {
		return
	}
	b, err := json.MarshalIndent(m.records, "", "  ")
	if err == nil {
		err = writeWhole(filepath.Join(m.stateDir, stalePrefixFile), b)
	}
	if err != nil {
		m.host.Log().Warn("the advertised prefixes cannot be kept: after a restart withdrawn ones are not deprecated", zap.Error(err))
	}
}

// writeWhole puts a file in place so that readers see the old or the new one.
func writeWhole(name string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return err
	}
	tmp := name + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	return os.Rename(tmp, name)
}

// told counts a message that is sent and tells who watches.
func (m *Module) told(l *linkState, b []byte) {
	m.count.sent(b)
	if off, ok := m.watched(b); ok {
		if msg, err := ndwire.Parse(b, off, false); err == nil {
			m.eventMessage(l, "tx", &msg, nil)
		}
	}
}

// watched reports whether somebody watches messages of Neighbor Discovery, and where this one begins.
func (m *Module) watched(b []byte) (off int, ok bool) {
	return wire.IPv6HeaderLen, b[wire.NextHeaderOffset] == wire.ICMPv6 && m.host.Watched("ndp")
}
