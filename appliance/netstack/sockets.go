package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

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
