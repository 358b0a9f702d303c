package xfrm

import (
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/xfrmapi"
)

// report is a packet with a Home Address option that no policy lets in, as there is no binding for it (RFC 6275 9.3.1). Who
// speaks for bindings answers it with a Binding Error.
type report struct {
	home, careOf, dst [16]byte // careOf is where the packet came from
	link              int
}

// reported are the reports of the last moments. Loop only.
type reported struct {
	last map[report]clock.Instant
	to   func(home, careOf, dst netip.Addr, link int)
}

const (
	reportEvery = time.Second // one of the same addresses
	reportMax   = 1024        // how many are remembered; of more, none is told
	maxMHType   = 7           // the last type of a Mobility Header that RFC 6275 has
)

// OnReport sets who is told of packets with a home address that has no binding: f is called on this module's loop and must
// not wait. Before Start.
func (m *Module) OnReport(f func(home, careOf, dst netip.Addr, link int)) { m.to = f }

// refused notes a packet that was refused for its Home Address option. A message about bindings is answered by who gets
// such messages.
func (m *Module) refused(p *packet.Packet, f *selector.Flow) {
	if f.Proto == wire.MH && f.SPort <= maxMHType {
		return
	}
	careOf, ok := careOfAddress(p)
	if !ok {
		return
	}
	b := &m.inbox
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.reports) >= inboxMax {
		return
	}
	if b.reports == nil {
		b.reports = map[report]selector.Flow{}
	}
	b.reports[report{f.Src, careOf, f.Dst, f.Link}] = *f
	m.nudge()
}

// careOfAddress is where a packet came from whose Home Address option has had its effect.
func careOfAddress(p *packet.Packet) (careOf [16]byte, ok bool) {
	b := p.Bytes()
	var c wire.Chain
	c.Walk(b)
	for i := range c.N {
		h := &c.Headers[i]
		if h.Off >= p.Walked {
			break
		}
		if h.Proto != wire.DestOpts {
			continue
		}
		if o := wire.HomeAddress(b, h); o != 0 {
			return [16]byte(b[o+2:]), true
		}
	}
	return careOf, false
}

// tellReports tells of each once in reportEvery.
func (m *Module) tellReports(now clock.Instant, list map[report]selector.Flow) {
	for r, f := range list {
		if at, told := m.last[r]; told && now.Sub(at) < reportEvery {
			continue
		}
		if len(m.last) >= reportMax {
			for k, at := range m.last {
				if now.Sub(at) >= reportEvery {
					delete(m.last, k)
				}
			}
			if len(m.last) >= reportMax {
				return
			}
		}
		if m.last == nil {
			m.last = map[report]clock.Instant{}
		}
		m.last[r] = now
		home, careOf, dst := netip.AddrFrom16(r.home), netip.AddrFrom16(r.careOf), netip.AddrFrom16(r.dst)
		if m.host.Watched(xfrmapi.Topic) {
			sel := selector.Selector{
				Src: netip.PrefixFrom(home, 128), Dst: netip.PrefixFrom(dst, 128), Proto: f.Proto, Link: r.link,
				SPort: f.SPort, SPortMask: exact(f.SPort), DPort: f.DPort, DPortMask: exact(f.DPort),
			}
			m.event(xfrmapi.Event{Event: "report", Proto: proto.HAO.String(), Sel: sel.Text(m.linkName), CoA: &careOf})
		}
		if m.to != nil {
			m.to(home, careOf, dst, r.link)
		}
	}
}

// exact is the mask of a port that is known.
func exact(port uint16) uint16 {
	if port != 0 {
		return selector.Exact
	}
	return 0
}

// Secpath appends to into what a receiver of the packet may know of the SAs that it came through, the outermost first: the
// selector of each has taken the packet. On the worker that has the packet.
func (m *Module) Secpath(p *packet.Packet, into []module.SA) []module.SA {
	for _, x := range p.Came() {
		s := x.(*sad.State)
		into = append(into, module.SA{Proto: uint8(s.Proto), Mode: uint8(s.Mode), SPI: s.SPI, ReqID: s.ReqID, Integrity: authentic(s)})
	}
	return into
}

// authentic reports whether what comes by a state is what its peer sent.
func authentic(s *sad.State) bool {
	switch s.Proto {
	case proto.AH:
		return true
	case proto.ESP:
		return s.AEAD.Name != "" || s.Auth.Name != "" && s.Auth.Name != algo.NullDigest.Name
	}
	return false
}
