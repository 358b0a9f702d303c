package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"leveret/appliance/module"
	"leveret/appliance/wire"
)

const (
	listenBacklog = 1024
	tcpHeaderLen  = 20
)

// TCPConn is a TCP connection, a net.Conn whose addresses have their zones.
type TCPConn struct {
	*gonet.TCPConn
	ep            tcpip.Endpoint
	local, remote net.Addr
}

// LocalAddr returns the address at this end.
func (c *TCPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the other end.
func (c *TCPConn) RemoteAddr() net.Addr { return c.remote }

// Abort ends the connection with a reset.
func (c *TCPConn) Abort() {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: true})
	c.Close()
}

// TCPListener waits for connections, a net.Listener.
type TCPListener struct {
	h    *Host
	opts SocketOptions
	ep   tcpip.Endpoint
	wq   *waiter.Queue
	addr net.Addr
}

// listenerOptions are what a listener's SYN-ACKs and whatever else leaves before Accept are sent
// with. netstack hands them on as the owner of the packets; of the options themselves a new endpoint
// has none but the mark.
type listenerOptions struct{ hop, class uint8 }

// KUID and KGID implement tcpip.PacketOwner, whose meaning there is nobody here to ask for.
func (*listenerOptions) KUID() uint32 { return 0 }

// KGID implements tcpip.PacketOwner.
func (*listenerOptions) KGID() uint32 { return 0 }

// newTCP makes an endpoint with the options of o, bound as far as o says. The caller closes it.
func (h *Host) newTCP(o *SocketOptions, link int, bind bool) (tcpip.Endpoint, *waiter.Queue, error) {
	if h.closed.Load() {
		return nil, nil, net.ErrClosed
	}
	wq := &waiter.Queue{}
	ep, terr := h.stack.NewEndpoint(header.TCPProtocolNumber, header.IPv6ProtocolNumber, wq)
	if terr != nil {
		return nil, nil, tcpError(terr)
	}
	so := ep.SocketOptions()
	so.SetV6Only(true)
	so.SetReuseAddress(true)
	so.SetMark(o.Mark)
	if err := setTCPOptions(ep, o); err != nil {
		ep.Close()
		return nil, nil, err
	}
	if !bind {
		return ep, wq, nil
	}
	full := tcpip.FullAddress{Port: o.Local.Port()}
	if a := o.Local.Addr(); a.IsValid() && !a.IsUnspecified() {
		full.Addr, full.NIC = toStack(a, link), nicOf(link)
	}
	if terr := ep.Bind(full); terr != nil {
		ep.Close()
		return nil, nil, tcpError(terr)
	}
	return ep, wq, nil
}

func setTCPOptions(ep tcpip.Endpoint, o *SocketOptions) error {
	if o.TrafficClass != 0 {
		if terr := ep.SetSockOptInt(tcpip.IPv6TrafficClassOption, o.TrafficClass); terr != nil {
			return tcpError(terr)
		}
	}
	if o.HopLimit != 0 {
		if terr := ep.SetSockOptInt(tcpip.IPv6HopLimitOption, o.HopLimit); terr != nil {
			return tcpError(terr)
		}
	}
	if o.ReceiveBuffer > 0 {
		ep.SocketOptions().SetReceiveBufferSize(int64(o.ReceiveBuffer), true)
	}
	return nil
}

// ListenTCP listens at o.Local; a link-local address has its link's name as zone. Of the options
// only Local, Mark, HopLimit, TrafficClass and ReceiveBuffer may be set. Errors: ErrAddrInUse,
// ErrAddrNotAvailable, ErrNoDevice, ErrInvalid.
func (h *Host) ListenTCP(o SocketOptions) (*TCPListener, error) {
	l, err := h.listenTCP(&o)
	if err != nil {
		return nil, opError("listen", "tcp", err)
	}
	return l, nil
}

func (h *Host) listenTCP(o *SocketOptions) (*TCPListener, error) {
	if err := onlyTCP(o); err != nil {
		return nil, err
	}
	a := o.Local.Addr()
	link, err := h.linkFor(a, 0)
	if err != nil {
		return nil, err
	}
	switch {
	case o.Link != 0 || a.IsMulticast() || a.IsValid() && needsLink(a) && link == 0:
		return nil, ErrInvalid
	case a.IsValid() && !a.IsUnspecified() && !h.ours(a.WithZone(""), link):
		return nil, ErrAddrNotAvailable
	}
	ep, wq, err := h.newTCP(o, link, true)
	if err != nil {
		return nil, err
	}
	ep.SetOwner(&listenerOptions{hop: uint8(o.HopLimit), class: uint8(o.TrafficClass)})
	if terr := ep.Listen(listenBacklog); terr != nil {
		ep.Close()
		return nil, tcpError(terr)
	}
	local, terr := ep.GetLocalAddress()
	if terr != nil {
		ep.Close()
		return nil, tcpError(terr)
	}
	l := &TCPListener{h: h, opts: *o, ep: ep, wq: wq}
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	l.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, local.Port))
	return l, nil
}

// Accept waits for the next connection.
func (l *TCPListener) Accept() (net.Conn, error) {
	var peer tcpip.FullAddress
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	for {
		ep, wq, terr := l.ep.Accept(&peer)
		switch terr.(type) {
		case nil:
			if err := setTCPOptions(ep, &l.opts); err != nil { // they are not inherited; see listenerOptions
				ep.Close()
				return nil, opError("accept", "tcp", err)
			}
			return l.h.conn(ep, wq), nil
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrInvalidEndpointState: // closed
			return nil, opError("accept", "tcp", net.ErrClosed)
		default:
			return nil, opError("accept", "tcp", tcpError(terr))
		}
	}
}

// Close ends the listener; connections that were accepted stay.
func (l *TCPListener) Close() error {
	l.ep.Shutdown(tcpip.ShutdownRead | tcpip.ShutdownWrite) // wakes Accept
	l.ep.Close()
	return nil
}

// Addr implements net.Listener.
func (l *TCPListener) Addr() net.Addr { return l.addr }

// conn wraps a connected endpoint. The other end may have reset it already.
func (h *Host) conn(ep tcpip.Endpoint, wq *waiter.Queue) *TCPConn {
	c := &TCPConn{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep}
	local, lerr := ep.GetLocalAddress()
	remote, rerr := ep.GetRemoteAddress()
	c.local, c.remote = h.tcpAddr(local), h.tcpAddr(remote)
	if lerr != nil || rerr != nil {
		return c
	}
	// The connection reckons with the largest link's MTU: tell it what its path takes, as a
	// Packet Too Big would once the first long segment has been lost.
	q := module.RouteQuery{Mark: ep.SocketOptions().GetMark(), Proto: wire.TCP, SPort: local.Port, DPort: remote.Port}
	q.Dst, q.Out = fromStack(remote.Addr)
	q.Src, _ = fromStack(local.Addr)
	if class, terr := ep.GetSockOptInt(tcpip.IPv6TrafficClassOption); terr == nil {
		q.DSField = uint8(class)
	}
	mtu := h.pathMTU(q)
	if te, ok := ep.(stack.TransportEndpoint); ok && mtu < h.mtu(q.Out) {
		(&transportError{kind: stack.PacketTooBigTransportError, ICMPError: ICMPError{
			Type: wire.TypePacketTooBig, Arg: uint32(max(mtu, wire.MinMTU)),
		}}).tell(te)
	}
	return c
}

func (h *Host) tcpAddr(a tcpip.FullAddress) net.Addr {
	addr, link := fromStack(a.Addr)
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.zoned(addr, link), a.Port))
}

// DialTCP connects to remote. Of the options Local, Link, Mark, HopLimit, TrafficClass and
// ReceiveBuffer may be set. Errors: what the routes say, ErrConnectionRefused, ErrTimeout, ctx's.
func (h *Host) DialTCP(ctx context.Context, remote netip.AddrPort, o SocketOptions) (*TCPConn, error) {
	c, err := h.dialTCP(ctx, remote, &o)
	if err != nil {
		return nil, opError("dial", "tcp", err)
	}
	return c, nil
}

func (h *Host) dialTCP(ctx context.Context, remote netip.AddrPort, o *SocketOptions) (*TCPConn, error) {
	if err := onlyTCP(o); err != nil {
		return nil, err
	}
	to := remote.Addr()
	if k := to.As16(); to.IsMulticast() || !zoneFree(&k) {
		return nil, ErrInvalid
	}
	link, err := h.linkFor(o.Local.Addr(), o.Link)
	if err != nil {
		return nil, err
	}
	q, err := h.tcpRoute(remote, o, link)
	if err != nil {
		return nil, err
	}
	// Without a wish of the caller's the port is chosen for this destination alone.
	bind := o.Local.Port() != 0 || q.Out != 0 || o.Mark != 0 || o.Local.Addr().IsValid()
	o.Local = netip.AddrPortFrom(q.Src, o.Local.Port())
	ep, wq, err := h.newTCP(o, q.Out, bind)
	if err != nil {
		return nil, err
	}
	// Announce what fits the link, whose MTU netstack does not know before (RFC 9293 3.7.1).
	if terr := ep.SetSockOptInt(tcpip.MaxSegOption, h.linkMTU(q)-wire.IPv6HeaderLen-tcpHeaderLen); terr != nil {
		ep.Close()
		return nil, tcpError(terr)
	}
	full := tcpip.FullAddress{Addr: toStack(q.Dst, q.Out), Port: remote.Port()}
	if q.Out != 0 {
		full.NIC = nicOf(q.Out)
	}
	if err := h.connect(ctx, ep, wq, full, q.Src); err != nil {
		ep.Close()
		return nil, err
	}
	return h.conn(ep, wq), nil
}

// tcpRoute returns source and link for a connection. A link is returned only if the packets must
// be bound to it. A port that netstack chooses is not known yet: it chooses one for two addresses.
func (h *Host) tcpRoute(to netip.AddrPort, o *SocketOptions, link int) (module.RouteQuery, error) {
	src := o.Local.Addr().WithZone("")
	if src.IsUnspecified() {
		src = netip.Addr{}
	}
	return h.findRoute(module.RouteQuery{
		Dst: to.Addr(), Src: src, Out: link, Mark: o.Mark, DSField: uint8(o.TrafficClass), Proto: wire.TCP, SPort: o.Local.Port(), DPort: to.Port(),
	})
}

// connect starts the handshake and waits for it.
func (h *Host) connect(ctx context.Context, ep tcpip.Endpoint, wq *waiter.Queue, to tcpip.FullAddress, from netip.Addr) error {
	entry, done := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	h.dialing.Lock()
	h.dialing.from = from
	terr := ep.Connect(to)
	h.dialing.from = netip.Addr{}
	h.dialing.Unlock()
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			terr = ep.LastError()
		}
	}
	if terr != nil {
		return tcpError(terr)
	}
	return nil
}

// onlyTCP refuses options that mean nothing to TCP.
func onlyTCP(o *SocketOptions) error {
	if o.Reuse || o.MulticastHopLimit != 0 || o.DontFragment || o.NoMulticastLoop || o.ReportExtHeaders || o.ReportErrors || o.ReportPathMTU {
		return ErrInvalid
	}
	return nil
}

// tcpError translates netstack's errors.
func tcpError(e tcpip.Error) error {
	switch e.(type) {
	case *tcpip.ErrConnectionRefused:
		return ErrConnectionRefused
	case *tcpip.ErrHostUnreachable:
		return ErrHostUnreachable
	case *tcpip.ErrNetworkUnreachable:
		return ErrNetUnreachable
	case *tcpip.ErrPortInUse, *tcpip.ErrDuplicateAddress:
		return ErrAddrInUse
	case *tcpip.ErrBadLocalAddress:
		return ErrAddrNotAvailable
	case *tcpip.ErrTimeout:
		return ErrTimeout
	case *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted:
		return ErrReset
	case *tcpip.ErrInvalidOptionValue:
		return ErrInvalid
	}
	return errors.New(e.String())
}
