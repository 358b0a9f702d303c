package netstack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

const udpHeaderLen = 8

// UDPConn is a UDP socket. Its methods may be called by any goroutine. It is a net.PacketConn, and
// if made by DialUDP also a net.Conn; ReadMsg and WriteMsg say more (RFC 3542).
type UDPConn struct {
	socket
	port       uint16
	to         netip.Addr // where it was dialed to, zoned; the zero Addr otherwise
	remotePort uint16
	// probe takes everything that comes in, on the worker, instead of the queue.
	probe prober
}

var (
	_ net.PacketConn = (*UDPConn)(nil)
	_ net.Conn       = (*UDPConn)(nil)
)

// deliverUDP hands a datagram to the sockets that want it. Called by workers.
func (h *Host) deliverUDP(p *packet.Packet, b []byte) bool {
	t := b[p.TransOff:]
	if len(t) < udpHeaderLen {
		h.count.malformed.Inc()
		return true
	}
	n := int(binary.BigEndian.Uint16(t[4:]))
	if n < udpHeaderLen || n > len(t) {
		h.count.malformed.Inc()
		return true
	}
	t = t[:n]
	if p.GSO.Csum == packet.CsumUnknown && (t[6]|t[7] == 0 ||
		wire.Fold(wire.Sum(t, wire.PseudoHeader(src(b), dst(b), wire.UDP, n))) != 0xffff) {
		h.count.checksum.Inc() // a zero checksum is no checksum, and not allowed (RFC 8200 8.1)
		return true
	}
	h.count.udpIn.Inc()
	link := p.Zone()
	from, to := netip.AddrFrom16(*src(b)), netip.AddrFrom16(*dst(b))
	sport, dport := binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])
	var best *UDPConn
	most := -1
	for _, c := range h.udp.at(dport) {
		score, ok := c.wants(from, to, link)
		if !ok || c.remote.IsValid() && c.remotePort != sport {
			continue
		}
		if to.IsMulticast() { // every member gets a copy
			c.deliver(p, b, t, sport)
			best = c
			continue
		}
		if score > most {
			best, most = c, score
		}
	}
	switch {
	case to.IsMulticast():
	case best != nil:
		best.deliver(p, b, t, sport)
	default:
		h.count.udpNoPort.Inc()
		return h.refuse(p, module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodePortUnreachable})
	}
	return true
}

func (c *UDPConn) deliver(p *packet.Packet, b, t []byte, sport uint16) {
	from := netip.AddrPortFrom(c.h.zoned(netip.AddrFrom16(*src(b)), p.Zone()), sport)
	if c.probe != nil {
		c.probe.reply(from.Addr(), t, hopLimit(b))
		return
	}
	c.receive(p, b, t[udpHeaderLen:], from)
}

// failed takes in an ICMPv6 error about a datagram of this socket.
func (c *UDPConn) failed(e *ICMPError, transport []byte) {
	if c.probe != nil {
		c.probe.failed(e, transport)
		return
	}
	if len(transport) >= udpHeaderLen {
		transport = transport[udpHeaderLen:]
	}
	c.socket.failed(e, transport)
}

// ListenUDP makes a socket that receives from anybody. Errors: ErrAddrInUse, ErrAddrNotAvailable,
// ErrNoDevice, ErrInvalid.
func (h *Host) ListenUDP(o SocketOptions) (*UDPConn, error) {
	c := &UDPConn{}
	if err := c.init(h, wire.UDP, o); err != nil {
		return nil, opError("listen", "udp", err)
	}
	if err := h.udp.bind(c, nil); err != nil {
		return nil, opError("listen", "udp", err)
	}
	return c, nil
}

// DialUDP makes a socket that receives only from remote and sends there. Errors: besides those of
// ListenUDP ErrNetUnreachable and what else the routes say.
func (h *Host) DialUDP(remote netip.AddrPort, o SocketOptions) (*UDPConn, error) {
	c, err := h.dialUDP(remote, o, nil)
	if err != nil {
		return nil, opError("dial", "udp", err)
	}
	return c, nil
}

func (h *Host) dialUDP(remote netip.AddrPort, o SocketOptions, pr prober) (*UDPConn, error) {
	c := &UDPConn{remotePort: remote.Port(), probe: pr}
	if err := c.init(h, wire.UDP, o); err != nil {
		return nil, err
	}
	if err := c.zone(remote.Addr()); err != nil {
		return nil, err
	}
	if err := h.udp.bind(c, c.choose(remote)); err != nil {
		return nil, err
	}
	return c, nil
}

// choose lets the routes choose the source for a socket that is dialed, once its port is known.
func (c *UDPConn) choose(remote netip.AddrPort) func() error {
	return func() error {
		q, err := c.h.findRoute(c.query(remote.Addr(), c.port, c.remotePort))
		if err != nil {
			return err
		}
		if !q.Dst.IsMulticast() { // answers come from members of a group, not from the group
			c.remote = q.Dst
		}
		c.local, c.to = q.Src, remote.Addr()
		return nil
	}
}

// ReadMsg waits for a datagram, copies as much as fits into b, and fills info, which may be nil.
// With ReportErrors an ICMPv6 error comes in the place of a datagram: err is an *ICMPError, b has
// what was sent, as far as it was quoted. With ReportPathMTU so does a change of the path MTU: n
// is 0 and info.PathMTU is not.
func (c *UDPConn) ReadMsg(b []byte, info *Info) (n int, from netip.AddrPort, err error) {
	return c.read(b, info)
}

// WriteMsg sends b to an address, or with the zero AddrPort where the socket was dialed to. info
// may be nil. Errors: what findRoute says, *MTUError, or an earlier ICMPv6 error of a dialed socket.
func (c *UDPConn) WriteMsg(b []byte, to netip.AddrPort, info *Info) (int, error) {
	if err := c.rx.takeError(); err != nil {
		return 0, err
	}
	if !to.IsValid() {
		if !c.to.IsValid() {
			return 0, ErrNotConnected
		}
		to = netip.AddrPortFrom(c.to, c.remotePort)
	}
	if err := c.send(b, to, info); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *UDPConn) send(b []byte, to netip.AddrPort, info *Info) error {
	if to.Port() == 0 {
		return ErrInvalid
	}
	size := udpHeaderLen + len(b)
	p, t, err := c.outgoing(c.query(to.Addr(), c.port, to.Port()), size, info)
	if err != nil {
		return err
	}
	pb := p.Bytes()
	binary.BigEndian.PutUint16(t, c.port)
	binary.BigEndian.PutUint16(t[2:], to.Port())
	binary.BigEndian.PutUint16(t[4:], uint16(size))
	copy(t[udpHeaderLen:], b)
	c.h.label(pb, t, wire.UDP)
	// The port or the path completes the checksum.
	binary.BigEndian.PutUint16(t[6:], wire.Fold(wire.PseudoHeader(src(pb), dst(pb), wire.UDP, size)))
	p.GSO.Csum, p.GSO.CsumStart, p.GSO.CsumOffset = packet.CsumPartial, len(pb)-size, 6
	c.h.count.udpOut.Inc()
	c.loop(p, pb)
	c.h.opts.Output(p)
	return nil
}

// loop gives a datagram to a group to this node's own members (RFC 3493 5.2).
func (c *UDPConn) loop(p *packet.Packet, b []byte) {
	if !isMulticast(dst(b)) || c.opts.NoMulticastLoop {
		return
	}
	own := p.Clone()
	own.Proto, own.TransOff = wire.UDP, p.GSO.CsumStart
	c.h.deliverUDP(own, own.Bytes())
}

// Close ends the socket: readers return net.ErrClosed.
func (c *UDPConn) Close() error {
	if !c.rx.close() {
		return net.ErrClosed
	}
	c.h.udp.remove(c)
	c.leaveAll()
	return nil
}

// LocalAddrPort returns the address and port at this end; the address is unspecified if it is any.
func (c *UDPConn) LocalAddrPort() netip.AddrPort {
	a := c.local
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(c.h.zoned(a, c.link), c.port)
}

// PathMTU returns the path MTU to where the socket was dialed to: the learned one, or the first
// link's (IPV6_PATHMTU, RFC 3542 11.4); 0 if the socket was not dialed.
func (c *UDPConn) PathMTU() int {
	if !c.to.IsValid() {
		return 0
	}
	return c.h.pathMTU(c.query(c.to, c.port, c.remotePort))
}

// The rest makes it a net.PacketConn and a net.Conn.

// ReadFrom implements net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.read(b, nil)
	if err != nil {
		return n, nil, opError("read", "udp", err)
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements net.PacketConn.
func (c *UDPConn) WriteTo(b []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, opError("write", "udp", ErrInvalid)
	}
	n, err := c.WriteMsg(b, a.AddrPort(), nil)
	return n, opError("write", "udp", err)
}

// Read implements net.Conn.
func (c *UDPConn) Read(b []byte) (int, error) {
	n, _, err := c.read(b, nil)
	return n, opError("read", "udp", err)
}

// Write implements net.Conn.
func (c *UDPConn) Write(b []byte) (int, error) {
	n, err := c.WriteMsg(b, netip.AddrPort{}, nil)
	return n, opError("write", "udp", err)
}

// LocalAddr implements net.Conn.
func (c *UDPConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.LocalAddrPort()) }

// RemoteAddr implements net.Conn; nil if the socket was not dialed.
func (c *UDPConn) RemoteAddr() net.Addr {
	if !c.to.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(c.to, c.remotePort))
}

// SetDeadline implements net.Conn. Writing never waits.
func (c *UDPConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *UDPConn) SetReadDeadline(t time.Time) error {
	c.rx.setDeadline(t)
	return nil
}

// SetWriteDeadline implements net.Conn: writing never waits.
func (c *UDPConn) SetWriteDeadline(time.Time) error { return nil }

// opError wraps an error as package net does; nil stays nil.
func opError(op, network string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: network, Err: err}
}
