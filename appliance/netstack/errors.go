package netstack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// What sockets refuse, in the kernel's words, which commands show to the operator as they are.
var (
	ErrNetUnreachable    = errors.New("Network is unreachable")
	ErrHostUnreachable   = errors.New("No route to host")
	ErrPermission        = errors.New("Permission denied")
	ErrInvalid           = errors.New("Invalid argument")
	ErrConnectionRefused = errors.New("Connection refused")
	ErrMessageTooLong    = errors.New("Message too long")
	ErrAddrInUse         = errors.New("Address already in use")
	ErrAddrNotAvailable  = errors.New("Cannot assign requested address")
	ErrProtocol          = errors.New("Protocol error")
	ErrTimeout           = errors.New("Connection timed out")
	ErrReset             = errors.New("Connection reset by peer")
	ErrNoDevice          = errors.New("No such device")
	ErrNotConnected      = errors.New("Destination address required")
)

// ICMPError is an ICMPv6 error about something that a socket here sent (RFC 4443 3). It unwraps to
// the plain error it means.
type ICMPError struct {
	From       netip.Addr // who says so; zoned if link-local
	Type, Code uint8
	Arg        uint32         // the MTU or the pointer
	Dst        netip.AddrPort // of the packet in question; zoned if link-local
}

func (e *ICMPError) Error() string { return e.Unwrap().Error() }

// Unwrap returns what the error means, as Linux maps it.
func (e *ICMPError) Unwrap() error {
	switch e.Type {
	case wire.TypeDestinationUnreachable:
		switch e.Code {
		case wire.CodeNoRoute:
			return ErrNetUnreachable
		case wire.CodePortUnreachable:
			return ErrConnectionRefused
		case wire.CodeAdminProhibited, wire.CodePolicyFailed, wire.CodeRejectRoute:
			return ErrPermission
		}
		return ErrHostUnreachable
	case wire.TypePacketTooBig:
		return ErrMessageTooLong
	case wire.TypeParameterProblem:
		return ErrProtocol
	}
	return ErrHostUnreachable
}

// hard reports whether a connected socket fails by the error without having asked to see errors:
// the others may pass (RFC 5461 2).
func (e *ICMPError) hard() bool {
	switch e.Type {
	case wire.TypeDestinationUnreachable:
		switch e.Code {
		case wire.CodeAdminProhibited, wire.CodePortUnreachable, wire.CodePolicyFailed, wire.CodeRejectRoute:
			return true
		}
	case wire.TypeParameterProblem:
		return true
	}
	return false
}

// quote is the packet that an ICMPv6 error is about, as far as the error holds it.
type quote struct {
	src, dst  [16]byte
	proto     uint8
	transport []byte // from the transport header on
}

// parseQuote finds the transport header in a quoted packet, behind extension headers of any
// length. A fragment that is not the first has none.
func parseQuote(b []byte) (q quote, ok bool) {
	if len(b) < wire.IPv6HeaderLen || b[0]>>4 != 6 {
		return q, false
	}
	var c wire.Chain
	c.Walk(b)
	if c.FragOffset != 0 || c.Problem == wire.Truncated || c.Problem == wire.TooMany || c.Off > len(b) {
		return q, false
	}
	return quote{src: *src(b), dst: *dst(b), proto: c.Proto, transport: b[c.Off:]}, true
}

// deliverICMP takes in echo replies and errors. Everything else of ICMPv6 is the path's.
func (h *Host) deliverICMP(p *packet.Packet, b []byte) bool {
	m := b[p.TransOff:]
	if len(m) < wire.ICMPv6HeaderLen {
		h.count.malformed.Inc()
		return true
	}
	switch {
	case m[0] == wire.TypeEchoReply:
		h.probes.reply(h, p, b)
		return true
	case !wire.IsError(m[0]):
		return true
	}
	e := ICMPError{Type: m[0], Code: m[1], Arg: binary.BigEndian.Uint32(m[4:])}
	if e.Type == wire.TypePacketTooBig && e.Arg < wire.MinMTU {
		// RFC 8201 4: a node must not reduce its estimate below the minimum MTU. The path has
		// dropped these already; nothing is lost by looking once more at what would make TCP send
		// single octets.
		h.count.pmtuTooLow.Inc()
		return true
	}
	q, ok := parseQuote(m[wire.ICMPv6HeaderLen:])
	if !ok || len(q.transport) < 4 {
		h.count.errorsIgnored.Inc()
		return true
	}
	e.From = h.zoned(netip.AddrFrom16(*src(b)), p.Zone())
	if !h.deliverError(p, &e, &q) {
		h.count.errorsIgnored.Inc()
		return true
	}
	h.count.errorsIn.Inc()
	return true
}

// deliverError finds the sender of the quoted packet (RFC 4443 3: the upper-layer process must be
// told if it can be identified).
func (h *Host) deliverError(p *packet.Packet, e *ICMPError, q *quote) bool {
	zone := p.Zone()
	sport, dport := binary.BigEndian.Uint16(q.transport), binary.BigEndian.Uint16(q.transport[2:])
	to := h.zoned(netip.AddrFrom16(q.dst), zone)
	switch q.proto {
	case wire.TCP:
		e.Dst = netip.AddrPortFrom(to, dport)
		id, ep := h.findTCP(q.src, q.dst, sport, dport, zone)
		if ep == nil {
			return false
		}
		te := &transportError{ICMPError: *e}
		te.kind, te.soft = tcpKind(e)
		return h.in.push(inbound{err: te, id: id})
	case wire.UDP:
		e.Dst = netip.AddrPortFrom(to, dport)
		s := h.udp.sender(&q.src, &q.dst, sport, dport, zone)
		if s == nil {
			return false
		}
		s.failed(e, q.transport)
		return true
	case wire.ICMPv6:
		e.Dst = netip.AddrPortFrom(to, 0)
		return h.probes.failed(e, q) || h.raw.failed(e, q)
	}
	e.Dst = netip.AddrPortFrom(to, 0)
	return h.raw.failed(e, q)
}

// findTCP returns the connection that sent from src to dst. zone is the link of link-local
// addresses, 0 for any.
func (h *Host) findTCP(src, dst [16]byte, sport, dport uint16, zone int) (stack.TransportEndpointID, *tcp.Endpoint) {
	try := func(src, dst [16]byte, link int) (stack.TransportEndpointID, *tcp.Endpoint) {
		enterZone(&src, link)
		enterZone(&dst, link)
		id := stack.TransportEndpointID{
			LocalPort: sport, LocalAddress: tcpip.AddrFrom16(src), RemotePort: dport, RemoteAddress: tcpip.AddrFrom16(dst),
		}
		ep, ok := h.stack.FindTransportEndpoint(header.IPv6ProtocolNumber, header.TCPProtocolNumber, id, globalNIC).(*tcp.Endpoint)
		if !ok || ep.EndpointState() == tcp.StateListen {
			return id, nil
		}
		return id, ep
	}
	if zone != 0 || !isLinkLocal(&src) && !isLinkLocal(&dst) {
		return try(src, dst, zone)
	}
	for _, l := range h.links.Load().All() {
		if id, ep := try(src, dst, l.Index); ep != nil {
			return id, ep
		}
	}
	return stack.TransportEndpointID{}, nil
}

// tcpKind says what an error is to TCP, and whether it is a soft one that must not end a connection
// attempt.
//
// DEVIATION(RFC 9293 3.9.2.2): a Destination Unreachable ends a connection attempt, though its
// codes 0 to 3 are soft errors: programs would rather hear "No route to host" than wait minutes
// (RFC 5461 4.1, and what hosts do). It never ends an established connection.
func tcpKind(e *ICMPError) (kind stack.TransportErrorKind, soft bool) {
	switch e.Type {
	case wire.TypePacketTooBig:
		return stack.PacketTooBigTransportError, false
	case wire.TypeDestinationUnreachable:
		switch e.Code {
		case wire.CodeNoRoute:
			return stack.DestinationNetworkUnreachableTransportError, false
		case wire.CodePortUnreachable:
			return stack.DestinationPortUnreachableTransportError, false
		}
		return stack.DestinationHostUnreachableTransportError, false
	}
	return stack.DestinationHostUnreachableTransportError, true
}

// transportError is an ICMPv6 error as netstack's transports take it.
type transportError struct {
	ICMPError
	kind stack.TransportErrorKind
	soft bool
}

// Kind implements stack.TransportError, and so do the rest.
func (t *transportError) Kind() stack.TransportErrorKind { return t.kind }
func (*transportError) Origin() tcpip.SockErrOrigin      { return tcpip.SockExtErrorOriginICMP6 }
func (t *transportError) Type() uint8                    { return t.ICMPError.Type }
func (t *transportError) Code() uint8                    { return t.ICMPError.Code }

// Info is for a Packet Too Big the room behind the IPv6 header.
func (t *transportError) Info() uint32 {
	if t.kind == stack.PacketTooBigTransportError {
		return t.Arg - wire.IPv6HeaderLen
	}
	return t.Arg
}

// tellTCP hands an error to the connection it is about, if that is still there. Never on a
// goroutine that may be sending for netstack.
func (h *Host) tellTCP(i *inbound) {
	ep, ok := h.stack.FindTransportEndpoint(header.IPv6ProtocolNumber, header.TCPProtocolNumber, i.id, globalNIC).(*tcp.Endpoint)
	if !ok {
		return
	}
	if i.err.soft {
		switch ep.EndpointState() {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
			return
		}
	}
	i.err.tell(ep)
}

func (t *transportError) tell(ep stack.TransportEndpoint) {
	pb := stack.NewPacketBuffer(stack.PacketBufferOptions{})
	pb.NetworkProtocolNumber = header.IPv6ProtocolNumber
	ep.HandleError(t, pb)
	pb.DecRef()
}
