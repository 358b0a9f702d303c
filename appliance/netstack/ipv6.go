package netstack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"leveret/appliance/wire"
)

// ipv6Protocol is netstack's IPv6 with endpoints that ask us where netstack would decide for
// itself.
type ipv6Protocol struct {
	stack.NetworkProtocol
	h *Host
}

// newIPv6 makes the protocol with everything switched off that is ours: ND, DAD, router
// advertisements, MLD, address generation.
func (h *Host) newIPv6(s *stack.Stack) stack.NetworkProtocol {
	inner := ipv6.NewProtocolWithOptions(ipv6.Options{
		NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
	})(s)
	return &ipv6Protocol{NetworkProtocol: inner, h: h}
}

// NewEndpoint implements stack.NetworkProtocol; netstack calls it for every NIC.
func (p *ipv6Protocol) NewEndpoint(nic stack.NetworkInterface, d stack.TransportDispatcher) stack.NetworkEndpoint {
	inner := p.NetworkProtocol.NewEndpoint(nic, d)
	return &ipv6Endpoint{
		hostEndpoint: inner.(hostEndpoint), h: p.h, link: linkOf(nic.ID()), transport: d,
	}
}

// hostEndpoint is what netstack needs of a network endpoint of a host. Forwarding, ND and MLD are
// left out, so that there is no way to switch them on.
type hostEndpoint interface {
	stack.NetworkEndpoint
	stack.AddressableEndpoint
	stack.GroupAddressableEndpoint
}

// ipv6Endpoint is the IPv6 of one NIC.
type ipv6Endpoint struct {
	hostEndpoint
	h         *Host
	link      int // 0 = the global NIC
	transport stack.TransportDispatcher
}

// HandlePacket takes a packet from Deliver: a bare IPv6 header and a TCP segment, both checked. It
// goes straight to the transport. netstack's own way through the headers would find nothing left
// to do, and is not exposed to anything from the wire.
func (e *ipv6Endpoint) HandlePacket(pb *stack.PacketBuffer) {
	b, ok := pb.NetworkHeader().Consume(wire.IPv6HeaderLen)
	if !ok || !e.Enabled() {
		return
	}
	// The address may have gone while the packet was queued.
	if e.AcquireAssignedAddress(tcpip.AddrFrom16(*dst(b)), false, stack.NeverPrimaryEndpoint, true) == nil {
		return
	}
	pb.NetworkProtocolNumber = ipv6.ProtocolNumber
	pb.NICID = nicOf(e.link)
	if parse.TCP(pb) {
		e.transport.DeliverTransportPacket(header.TCPProtocolNumber, pb)
	}
}

// MTU is what TCP derives its segment size from, not the port's, which takes anything: the link's,
// and on the global NIC, where the link is not known yet, the largest link's.
func (e *ipv6Endpoint) MTU() uint32 { return uint32(e.h.mtu(e.link)) - wire.IPv6HeaderLen }

// AcquireOutgoingPrimaryAddress returns the source that findRoute chose for the connection being
// dialed: netstack knows neither rules nor what they ask for.
func (e *ipv6Endpoint) AcquireOutgoingPrimaryAddress(_, _ tcpip.Address, _ bool) stack.AddressEndpoint {
	if !e.h.dialing.from.IsValid() {
		return nil
	}
	return e.AcquireAssignedAddress(toStack(e.h.dialing.from, e.link), false, stack.NeverPrimaryEndpoint, false)
}

// AcquireAssignedAddress returns the endpoint of an address of this node. The global addresses are
// on the global NIC, but they may be used over any link: a router is one node.
func (e *ipv6Endpoint) AcquireAssignedAddress(a tcpip.Address, allowTemp bool, peb stack.PrimaryEndpointBehavior, readOnly bool) stack.AddressEndpoint {
	ae := e.hostEndpoint.AcquireAssignedAddress(a, allowTemp, peb, readOnly)
	if k := a.As16(); ae != nil || e.link == 0 || isLinkLocal(&k) {
		return ae
	}
	if g := e.h.global.Load(); g != nil {
		return (*g).AcquireAssignedAddress(a, allowTemp, peb, readOnly)
	}
	return nil
}

// NIC numbers: the global one, then one for each link.
const globalNIC tcpip.NICID = 1

func nicOf(link int) tcpip.NICID { return globalNIC + tcpip.NICID(link) }
func linkOf(nic tcpip.NICID) int { return int(nic - globalNIC) }
