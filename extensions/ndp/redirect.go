package ndp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/ndp/ndwire"
	"leveret/extensions/ndp/nud"
)

const (
	// redirectPause is the least time between two Redirects on a link, and redirectAgain that between two
	// about one pair of source and destination (RFC 4861 8.2: they are to be limited).
	redirectPause = 10 * time.Millisecond
	redirectAgain = time.Second
	// maxRedirected bounds the pairs that are remembered; the oldest is forgotten.
	maxRedirected = 256
	// redirectLife is how long a redirect is followed. RFC 4861 has no limit, but the destinations of
	// conversations long over need not be kept.
	redirectLife = 10 * time.Minute
)

// redirected remembers what was told to whom.
type redirected struct {
	src, dst netip.Addr
	at       clock.Instant
}

// redirect tells the sender of a packet that a neighbor of its own is the better next hop (RFC 4861 8.2).
// p has come in by the link that it leaves by.
func (m *Module) redirect(now clock.Instant, l *linkState, p *packet.Packet) {
	b := p.Bytes()
	h, err := wire.ParseIPv6(b)
	if err != nil {
		return
	}
	src, dst, target := h.Src(), h.Dst(), netip.AddrFrom16(p.NextHop)
	from := m.linkLocal(l)
	switch {
	case !from.IsValid() || !l.link.Forwarding || dst.IsMulticast():
		return
	case !m.onLink(l, src), src == target: // not a neighbor; the next hop itself
		return
	case target != dst && !target.IsLinkLocalUnicast(): // a router is known by its link-local address (8.1)
		return
	case slices.ContainsFunc(l.told, func(r redirected) bool { return r.src == src && r.dst == dst && now < r.at.Add(redirectAgain) }):
		return
	}
	l.told = slices.DeleteFunc(l.told, func(r redirected) bool { return r.src == src && r.dst == dst })
	if len(l.told) >= maxRedirected {
		l.told = slices.Delete(l.told, 0, 1)
	}
	l.told = append(l.told, redirected{src, dst, now})
	b[7]++ // as it came
	msg := ndwire.Redirect{Src: from, Dst: src, Target: target, Destination: dst, Packet: b}
	if e := l.cache.Get(target); e != nil && e.HasLLA && l.link.Ethernet {
		lla := [6]byte(e.LLA)
		msg.TargetLLA = &lla
	}
	m.sendOn(l, ndwire.AppendRedirect(nil, msg))
}

// onLink reports whether an address is a neighbor's on a link, by the prefixes of our addresses there.
func (m *Module) onLink(l *linkState, a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.ContainsFunc(m.addrs, func(x *address) bool {
		return x.link == l.index() && !x.autoconf && netip.PrefixFrom(x.addr, x.prefixLen).Contains(a)
	})
}

// redirects are the destinations that routers of one link have redirected. The oldest goes when there are
// more than maxRedirects.
type redirects []redirection

type redirection struct {
	dst, by netip.Addr // a destination, and the router that the routes to it lead through
	target  netip.Addr // dst itself: it is a neighbor
	until   clock.Instant
}

// put notes that a router's packets to a destination go to a target now. A target may have redirected them
// further, and that may have brought them back to the router.
func (r *redirects) put(now clock.Instant, dst, by, target netip.Addr) {
	r.drop(func(x redirection) bool { return x.dst == dst && x.by == by })
	if target == by {
		return
	}
	if len(*r) >= maxRedirects {
		*r = slices.Delete(*r, 0, 1)
	}
	*r = append(*r, redirection{dst, by, target, now.Add(redirectLife)})
}

// drop forgets those that match, and reports whether there were any.
func (r *redirects) drop(match func(redirection) bool) bool {
	n := len(*r)
	*r = slices.DeleteFunc(*r, match)
	return len(*r) < n
}

// lost forgets what goes to a neighbor that does not answer, or is no router (RFC 4861 7.3.3).
func (r *redirects) lost(target netip.Addr) bool {
	return r.drop(func(x redirection) bool { return x.target == target })
}

// flush forgets all, and returns how many those were.
func (r *redirects) flush() int {
	n := len(*r)
	*r = nil
	return n
}

func (r *redirects) tick(now clock.Instant) bool {
	return r.drop(func(x redirection) bool { return x.until <= now })
}

// deadline is that of the oldest: they are in the order in which they were made.
func (r *redirects) deadline() clock.Instant {
	if len(*r) == 0 {
		return clock.Never
	}
	return (*r)[0].until
}

func (r *redirects) list(link int) (out []module.Redirect) {
	for _, x := range *r {
		out = append(out, module.Redirect{Link: link, Dst: x.dst, By: x.by, Target: x.target})
	}
	return out
}

// followRedirect takes in a valid Redirect (RFC 4861 8.3): hosts only, and only from the router that the
// destination's packets go to now (8.1).
func (m *Module) followRedirect(now clock.Instant, l *linkState, msg *ndwire.Message) (notes []string) {
	switch {
	case l.host == nil || !l.cfg.host.AcceptRedirects: // a router must not be told (8.2)
		return []string{"redirects are not accepted here"}
	case m.host.Router() == nil:
		return nil
	case m.find(l.index(), msg.Destination) != nil:
		return []string{"the destination is this node"}
	}
	by := m.redirectedFrom(l, msg)
	if !by.IsValid() {
		m.count.redirectsRefused.Inc()
		return []string{"it is not from the next hop of its destination"}
	}
	isRouter := msg.Target != msg.Destination
	if msg.HasTargetLLA {
		var flag *bool
		if isRouter || l.cache.Get(msg.Target) == nil { // 8.3: of a host the flag is as it is, and FALSE at first
			flag = &isRouter
		}
		m.apply(now, l, l.cache.Hint(now, msg.Target, nud.LLA(msg.TargetLLA), flag, m.effects[:0]))
	} else if isRouter {
		m.apply(now, l, l.cache.IsRouter(msg.Target, m.effects[:0]))
	}
	l.host.redirects.put(now, msg.Destination, by, msg.Target)
	m.learned = true
	return nil
}

// redirectedFrom returns the router that the route of a redirected packet leads through: who sent the
// Redirect, or who has redirected the packets to that one before. The zero Addr: they do not go there.
func (m *Module) redirectedFrom(l *linkState, msg *ndwire.Message) netip.Addr {
	q := about(msg)
	for _, q.Out = range []int{0, l.index()} { // the packet may have been bound to the link
		r := m.host.Router().Route(q)
		if r.Route != nil && r.Gateway.IsValid() && r.Out == l.index() && r.NextHop == msg.Src {
			return r.Gateway
		}
	}
	return netip.Addr{}
}

// about asks for the route of a redirected packet, as far as the Redirect has it: rules may look at any of it,
// and the router may depend on the source (RFC 8028 3.4).
func about(msg *ndwire.Message) module.RouteQuery {
	q := module.RouteQuery{Dst: msg.Destination}
	b := msg.Redirected
	if len(b) < wire.IPv6HeaderLen || [16]byte(b[24:40]) != q.Dst.As16() {
		return q
	}
	var c wire.Chain
	c.Walk(b)
	q.Src, q.DSField, q.Proto = netip.AddrFrom16([16]byte(b[8:24])), b[0]<<4|b[1]>>4, c.Proto
	if wire.HasPorts(c.Proto) && c.FragOffset == 0 && c.Off+4 <= len(b) {
		q.SPort, q.DPort = binary.BigEndian.Uint16(b[c.Off:]), binary.BigEndian.Uint16(b[c.Off+2:])
	}
	return q
}

// showRedirects answers `route show cache`: the destinations that routers have redirected.
func (m *Module) showRedirects(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors(); err != nil {
		return nil, err
	}
	out := []ndpapi.Redirect{}
	for _, i := range m.linkOrder() {
		l := m.links[i]
		if l.host == nil {
			continue
		}
		for _, x := range l.host.redirects {
			r := ndpapi.Redirect{Dst: x.dst, Gateway: x.target, Dev: l.cfg.name, Flags: []string{"redirect"}, Expires: int64(x.until.Sub(now) / time.Second)}
			if x.target == x.dst {
				r.Gateway = netip.Addr{}
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// flushRedirects answers `route flush cache`.
func (m *Module) flushRedirects(now clock.Instant, _ module.Request) (any, error) {
	n := 0
	for _, l := range m.links {
		if l.host != nil {
			n += l.host.redirects.flush()
		}
	}
	m.learned = true
	m.publish(now)
	return ndpapi.Flushed{Flushed: n}, nil
}
