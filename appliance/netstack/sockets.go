package netstack

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

const (
	defaultHopLimit = 64
	// A multicast datagram stays on its link unless its sender says otherwise (RFC 3493 5.2).
	defaultMulticastHopLimit = 1
	// maxPayload is the longest payload of an IPv6 packet: jumbograms are not sent.
	maxPayload = 65535
)

// ExtHeader is one extension header as it is on the wire, Next Header and length octets included.
// Sending, the Next Header octet is filled in.
type ExtHeader struct {
	Proto uint8 // wire.HopByHop, wire.DestOpts or wire.Routing
	Data  []byte
}

// Info is what RFC 3542 lets a program see and say beside a datagram's data.
type Info struct {
	// Local is the address at this end (IPV6_PKTINFO): where the datagram was sent to; sending,
	// its source, or the zero Addr to have one chosen.
	Local netip.Addr
	// Link is the link it came in on; 0 = it never was on a link. Sending: the link to leave by,
	// 0 = as routed.
	Link int
	// HopLimit (IPV6_HOPLIMIT) and TrafficClass (IPV6_TCLASS) are of its IPv6 header; sending, 0
	// means the socket's.
	HopLimit     int
	TrafficClass int
	// PathMTU is not 0 when ReadMsg reports no datagram but a change (IPV6_PATHMTU), for a socket
	// with ReportPathMTU: datagrams of this one's size to its source's address do not fit any more.
	PathMTU int
	// ExtHeaders are its Hop-by-Hop Options, Destination Options and Routing headers in their
	// order, received only by a socket with ReportExtHeaders, and copied.
	ExtHeaders []ExtHeader
	// Mark and DontFragment (IPV6_DONTFRAG) are for sending only, and add to the socket's.
	Mark         uint32
	DontFragment bool
}

// SocketOptions are fixed when a socket is made.
type SocketOptions struct {
	// Local is the address and port to bind; zero values are any address and a port of ours. A
	// link-local address has its link's name as zone.
	Local netip.AddrPort
	// Link is the only link to use; 0 = any.
	Link int
	// Mark is for rules ("fwmark").
	Mark uint32
	// Reuse lets several sockets that all have it share an address and port (groups).
	Reuse bool
	// ReceiveBuffer is in octets; 0 = the default.
	ReceiveBuffer int

	HopLimit          int // 0 = the default, 64
	MulticastHopLimit int // 0 = the default, 1
	TrafficClass      int
	// DontFragment refuses datagrams longer than the path MTU instead of fragmenting them.
	DontFragment bool
	// NoMulticastLoop keeps the datagrams sent to a group from this node's other members.
	NoMulticastLoop bool

	// ReportExtHeaders, ReportErrors and ReportPathMTU say what ReadMsg reports besides data.
	ReportExtHeaders bool
	ReportErrors     bool // every ICMPv6 error, as *ICMPError
	ReportPathMTU    bool
}

// socket is what UDP and raw sockets have in common.
type socket struct {
	h     *Host
	proto uint8
	opts  SocketOptions
	// local and remote have no zone; the zero Addr is any. link is that of the zone or option.
	local, remote netip.Addr
	link          int
	rx            rxQueue

	groupMu sync.Mutex
	// groups are the groups joined, replaced as a whole at each change.
	groups atomic.Pointer[map[zonedAddr]bool]
}

// init binds the socket's address; what is unset stays any.
func (s *socket) init(h *Host, proto uint8, o SocketOptions) error {
	s.h, s.proto, s.opts, s.link = h, proto, o, o.Link
	s.rx.init(h.clock, o.ReceiveBuffer)
	a := o.Local.Addr()
	if !a.IsValid() || a.IsUnspecified() {
		return s.checkLink()
	}
	if err := s.zone(a); err != nil {
		return err
	}
	s.local = a.WithZone("")
	if a.IsMulticast() { // binding a group limits what is received
		return s.checkLink()
	}
	if needsLink(a) && s.link == 0 {
		return ErrInvalid
	}
	if !h.ours(s.local, s.link) {
		return ErrAddrNotAvailable
	}
	return s.checkLink()
}

func (s *socket) checkLink() error {
	if s.link != 0 && s.h.links.Load().Index(s.link) == nil {
		return ErrNoDevice
	}
	return nil
}

// zone lets the zone of an address bind the socket to its link.
func (s *socket) zone(a netip.Addr) error {
	link, err := s.h.linkFor(a, s.link)
	s.link = link
	return err
}

// linkFor returns the link an address with a zone and a link asked for agree on.
func (h *Host) linkFor(a netip.Addr, link int) (int, error) {
	if a.Zone() == "" {
		return link, nil
	}
	z := h.linkByZone(a.Zone())
	switch {
	case z == 0:
		return link, ErrNoDevice
	case link != 0 && z != link:
		return link, ErrInvalid
	}
	return z, nil
}

// ours reports whether an address is this node's and in use, on a link if it is link-local.
func (h *Host) ours(a netip.Addr, link int) bool {
	k := a.As16()
	e := h.addrs.Load().Lookup(&k, link)
	return e != nil && e.Assigned()
}

// JoinGroup lets the socket receive what is sent to a group on a link (RFC 3493 5.2); 0 = the link
// the routes name for the group.
func (s *socket) JoinGroup(link int, group netip.Addr) error {
	z, err := s.group(link, group)
	if err != nil {
		return err
	}
	return s.changeGroups(z, true)
}

// LeaveGroup undoes [socket.JoinGroup].
func (s *socket) LeaveGroup(link int, group netip.Addr) error {
	z, err := s.group(link, group)
	if err != nil {
		return err
	}
	return s.changeGroups(z, false)
}

func (s *socket) group(link int, group netip.Addr) (zonedAddr, error) {
	link, err := s.h.linkFor(group, link)
	if err != nil {
		return zonedAddr{}, err
	}
	group = group.WithZone("")
	if !group.Is6() || !group.IsMulticast() {
		return zonedAddr{}, ErrInvalid
	}
	if link == 0 {
		if _, link, err = s.h.findRoute(group, netip.Addr{}, 0, 0); err != nil {
			return zonedAddr{}, err
		}
	}
	if s.h.links.Load().Index(link) == nil {
		return zonedAddr{}, ErrNoDevice
	}
	return zonedAddr{group, link}, nil
}

func (s *socket) changeGroups(z zonedAddr, join bool) error {
	s.groupMu.Lock()
	defer s.groupMu.Unlock()
	next := map[zonedAddr]bool{}
	if old := s.groups.Load(); old != nil {
		for k := range *old {
			next[k] = true
		}
	}
	if next[z] == join {
		if join {
			return ErrAddrInUse
		}
		return ErrAddrNotAvailable
	}
	if join {
		next[z] = true
	} else {
		delete(next, z)
	}
	s.groups.Store(&next)
	if g := s.h.opts.Groups; g != nil {
		if join {
			g.JoinGroup(z.link, z.addr)
		} else {
			g.LeaveGroup(z.link, z.addr)
		}
	}
	return nil
}

// leaveAll leaves every group, for closing.
func (s *socket) leaveAll() {
	if g := s.groups.Load(); g != nil {
		for z := range *g {
			_ = s.changeGroups(z, false) // it is joined
		}
	}
}

// wants reports whether the socket takes what came from -> to on a link, and how closely it asks
// for that: sockets that name more win.
func (s *socket) wants(from, to netip.Addr, link int) (score int, ok bool) {
	if s.link != 0 {
		if s.link != link {
			return 0, false
		}
		score++
	}
	if s.remote.IsValid() {
		if s.remote != from {
			return 0, false
		}
		score += 4
	}
	if s.local.IsValid() {
		if s.local != to {
			return 0, false
		}
		score += 2
	}
	if to.IsMulticast() {
		g := s.groups.Load()
		if g == nil || !(*g)[zonedAddr{to, link}] {
			return 0, false
		}
	}
	return score, true
}

// receive queues a datagram with all the socket wants to know about it.
func (s *socket) receive(p *packet.Packet, b, data []byte, from netip.AddrPort) {
	d := newDatagram(data)
	d.src = from
	link := p.Zone()
	d.info.Local = s.h.zoned(netip.AddrFrom16(*dst(b)), link)
	d.info.Link, d.info.HopLimit, d.info.TrafficClass = link, hopLimit(b), trafficClass(b)
	if s.opts.ReportExtHeaders && p.TransOff > wire.IPv6HeaderLen {
		d.keepExtHeaders(b, p.TransOff)
	}
	if !s.rx.push(d) {
		d.release()
		s.h.count.socketFull.Inc()
	}
}

// keepExtHeaders copies the extension headers of b, which end at end.
func (d *datagram) keepExtHeaders(b []byte, end int) {
	d.ext = append(d.ext[:0], b[wire.IPv6HeaderLen:end]...)
	d.info.ExtHeaders = d.info.ExtHeaders[:0]
	proto := b[wire.NextHeaderOffset]
	for rest := d.ext; len(rest) >= 8; {
		n := wire.FragmentHeaderLen
		switch proto {
		case wire.HopByHop, wire.DestOpts, wire.Routing:
			if n = (int(rest[1]) + 1) * 8; n > len(rest) {
				return
			}
			d.info.ExtHeaders = append(d.info.ExtHeaders, ExtHeader{Proto: proto, Data: rest[:n:n]})
		case wire.Fragment: // of an atomic fragment: no business of programs (RFC 3542 7)
		default:
			return
		}
		proto, rest = rest[0], rest[n:]
	}
}

// read waits for a message and copies it out.
func (s *socket) read(b []byte, info *Info) (n int, from netip.AddrPort, err error) {
	d, err := s.rx.pop()
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	n, from, err = copy(b, d.data), d.src, d.err
	if info != nil {
		headers := info.ExtHeaders[:0]
		*info = d.info
		info.ExtHeaders = headers
		for _, h := range d.info.ExtHeaders {
			info.ExtHeaders = append(info.ExtHeaders, ExtHeader{h.Proto, append([]byte(nil), h.Data...)})
		}
	}
	d.release()
	return n, from, err
}

// failed takes in an ICMPv6 error about a datagram of this socket (RFC 4443 3).
func (s *socket) failed(e *ICMPError, transport []byte) {
	if s.opts.ReportErrors {
		err := *e
		d := newDatagram(transport)
		d.src, d.err = err.Dst, &err
		if !s.rx.push(d) {
			d.release()
			s.h.count.socketFull.Inc()
		}
	}
	if e.Type == wire.TypePacketTooBig && s.opts.ReportPathMTU {
		d := newDatagram(nil)
		d.src, d.info.PathMTU = e.Dst, int(e.Arg)
		if !s.rx.push(d) {
			d.release()
			s.h.count.socketFull.Inc()
		}
	}
	if s.remote.IsValid() && e.hard() && !s.opts.ReportErrors {
		err := *e
		s.rx.fail(&err)
	}
}

// findRoute chooses the source address and the link for dst, in the kernel's order: what the
// caller names must be ours; then the routes; then RFC 6724. link 0 stays 0 where the path routes.
func (h *Host) findRoute(to, from netip.Addr, link int, mark uint32) (netip.Addr, int, error) {
	link, err := h.linkFor(to, link)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	to = to.WithZone("")
	switch {
	case !to.Is6() || to.IsUnspecified() || to.Is4In6():
		return netip.Addr{}, 0, ErrInvalid
	case link == 0 && needsLink(to):
		return netip.Addr{}, 0, ErrInvalid
	case link != 0:
		l := h.links.Load().Index(link)
		if l == nil {
			return netip.Addr{}, 0, ErrNoDevice
		}
	}
	r := h.opts.Router
	if r != nil && (!needsLink(to) && !to.IsMulticast() || link == 0) {
		res := r.Route(module.RouteQuery{Dst: to, Src: from, Out: link, Mark: mark})
		if err := routeError(res.Route); err != nil {
			return netip.Addr{}, 0, err
		}
		if !from.IsValid() {
			from = res.Src
		}
		if to.IsMulticast() || from.IsLinkLocalUnicast() && link == 0 {
			link = res.Out
		}
	}
	if to.IsMulticast() && link == 0 {
		return netip.Addr{}, 0, ErrNetUnreachable
	}
	if !from.IsValid() {
		if from = h.selectSource(to, link, mark); !from.IsValid() {
			h.count.noSource.Inc()
			return netip.Addr{}, 0, ErrAddrNotAvailable
		}
	} else if !h.ours(from, link) {
		return netip.Addr{}, 0, ErrAddrNotAvailable
	}
	return from, link, nil
}

// selectSource asks the router, or without one takes the first address that fits the scope.
func (h *Host) selectSource(to netip.Addr, link int, mark uint32) netip.Addr {
	if h.opts.Router != nil {
		return h.opts.Router.SelectSource(to, link, mark)
	}
	for _, a := range h.addrs.Load().All() {
		if a.Assigned() && !a.Anycast && !a.SubnetRouter && a.Addr.IsLinkLocalUnicast() == needsLink(to) &&
			(link == 0 || a.Link == link) {
			return a.Addr
		}
	}
	return netip.Addr{}
}

// routeError says what a route that does not lead anywhere means to a socket.
func routeError(r *packet.Route) error {
	if r == nil {
		return ErrNetUnreachable
	}
	switch r.Type {
	case packet.RouteBlackhole:
		return ErrInvalid
	case packet.RouteUnreachable:
		return ErrHostUnreachable
	case packet.RouteProhibit:
		return ErrPermission
	case packet.RouteThrow:
		return ErrNetUnreachable
	}
	return nil
}

// pathMTU returns the known path MTU to a destination, 0 for none.
func (h *Host) pathMTU(to netip.Addr) int {
	if h.opts.PathMTU == nil {
		return 0
	}
	return h.opts.PathMTU(to.WithZone(""))
}

// MTUError is ErrMessageTooLong with the path MTU that a packet did not fit.
type MTUError struct{ MTU int }

func (e *MTUError) Error() string { return ErrMessageTooLong.Error() }

// Unwrap returns ErrMessageTooLong.
func (e *MTUError) Unwrap() error { return ErrMessageTooLong }

// outgoing makes the packet for a message of size octets, transport header included, and returns
// where that goes. Of info only what is set counts.
func (s *socket) outgoing(to netip.Addr, size int, info *Info) (p *packet.Packet, transport []byte, err error) {
	o := &s.opts
	from, link, mark, noFrag := s.local, s.link, o.Mark, o.DontFragment
	hop, class := o.HopLimit, o.TrafficClass
	if to.IsMulticast() {
		hop = o.MulticastHopLimit
		if from.IsMulticast() { // bound to the group: that says what to receive
			from = netip.Addr{}
		}
	}
	var ext []ExtHeader
	if info != nil {
		if info.Local.IsValid() && !info.Local.IsMulticast() {
			from = info.Local.WithZone("")
		}
		if info.Link != 0 {
			if link != 0 && link != info.Link {
				return nil, nil, ErrInvalid
			}
			link = info.Link
		}
		if info.HopLimit != 0 {
			hop = info.HopLimit
		}
		if info.TrafficClass != 0 {
			class = info.TrafficClass
		}
		if info.Mark != 0 {
			mark = info.Mark
		}
		noFrag = noFrag || info.DontFragment
		ext = info.ExtHeaders
	}
	switch {
	case hop == 0 && to.IsMulticast():
		hop = defaultMulticastHopLimit
	case hop == 0:
		hop = defaultHopLimit
	}
	if hop < 0 || hop > 255 || class < 0 || class > 255 {
		return nil, nil, ErrInvalid
	}
	extLen, err := checkExtHeaders(ext)
	if err != nil {
		return nil, nil, err
	}
	if extLen+size > maxPayload {
		return nil, nil, &MTUError{MTU: wire.IPv6HeaderLen + maxPayload}
	}
	from, link, err = s.h.findRoute(to, from, link, mark)
	if err != nil {
		return nil, nil, err
	}
	whole := wire.IPv6HeaderLen + extLen + size
	if mtu := s.h.pathMTU(to); noFrag && mtu != 0 && whole > mtu {
		return nil, nil, &MTUError{MTU: mtu}
	}
	p = s.h.opts.NewPacket(whole)
	b := p.Extend(whole)
	next := s.proto
	wire.PutIPv6(b, wire.IPv6Fields{
		TrafficClass: uint8(class), PayloadLength: uint16(extLen + size), NextHeader: next, HopLimit: uint8(hop),
		Src: from, Dst: to.WithZone(""),
	})
	field := wire.NextHeaderOffset
	at := wire.IPv6HeaderLen
	for _, h := range ext {
		b[field] = h.Proto
		copy(b[at:], h.Data)
		b[at] = next
		field, at = at, at+len(h.Data)
	}
	p.Out, p.Mark, p.NoFrag = link, mark, noFrag
	return p, b[at:], nil
}

// checkExtHeaders checks the headers to send: the kinds and the order that RFC 8200 4.1 allows and
// lengths that agree with themselves. A Routing header that still has segments to go would need
// its own idea of the destination (RFC 8200 8.1).
func checkExtHeaders(ext []ExtHeader) (length int, err error) {
	for i, h := range ext {
		if len(h.Data) < 8 || len(h.Data) != (int(h.Data[1])+1)*8 {
			return 0, ErrInvalid
		}
		switch h.Proto {
		case wire.HopByHop:
			if i != 0 {
				return 0, ErrInvalid
			}
		case wire.DestOpts:
		case wire.Routing:
			if h.Data[3] != 0 {
				return 0, ErrInvalid
			}
		default:
			return 0, ErrInvalid
		}
		length += len(h.Data)
	}
	return length, nil
}

// label sets the flow label of a packet from its transport header.
func (h *Host) label(b, transport []byte, proto uint8) {
	var ports uint32
	if proto == wire.UDP {
		ports = binary.BigEndian.Uint32(transport)
	}
	putFlowLabel(b, h.flowLabel(src(b), dst(b), proto, ports))
}
