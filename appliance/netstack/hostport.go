package netstack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

const (
	// portMTU is the longest packet there is, so that netstack never fragments: the path does, by
	// the path MTU, and tells TCP what fits.
	portMTU = 65535 + wire.IPv6HeaderLen
	// gsoMaxSize bounds superpackets so that a whole one stays within 65535 octets, which is what
	// virtio-net and the kernel's devices take.
	gsoMaxSize = 65535

	tcpChecksumOffset = 16
	tcpSYN            = 0x02
	tcpOptionNop      = 1
	tcpOptionMSS      = 2
)

// hostPort is the link endpoint of one of netstack's NICs: its wire is the packet path.
type hostPort struct {
	h    *Host
	link int // 0 = the global NIC
	disp atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*hostPort)(nil)
	_ stack.GSOEndpoint  = (*hostPort)(nil)
)

// WritePackets hands what netstack sends to the packet path. It does not keep the buffers.
func (hp *hostPort) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for _, pb := range list.AsSlice() {
		hp.write(pb)
	}
	return list.Len(), nil
}

func (hp *hostPort) write(pb *stack.PacketBuffer) {
	h := hp.h
	size, trans := pb.Size(), len(pb.NetworkHeader().Slice())
	p := h.opts.NewPacket(size)
	b := p.Extend(size)
	views, off := pb.AsViewList()
	n := 0
	for v := views.Front(); v != nil; v = v.Next() {
		n += copy(b[n:], v.AsSlice()[off:])
		off = 0
	}
	if trans < wire.IPv6HeaderLen || pb.TransportProtocolNumber != header.TCPProtocolNumber || len(b) < trans+header.TCPMinimumSize {
		// netstack answers nothing but TCP here: what it should want to say itself is the path's.
		p.Release()
		return
	}
	p.Mark, p.Out = pb.Mark, hp.link
	if isLinkLocal(src(b)) {
		p.Out = leaveZone(src(b))
	}
	if isLinkLocal(dst(b)) {
		p.Out = leaveZone(dst(b))
	}
	if o, ok := pb.Owner.(*listenerOptions); ok {
		setTrafficClass(b, o.class)
		b[7] = o.hop
	}
	t := b[trans:]
	if t[13]&tcpSYN != 0 {
		h.limitMSS(p, t)
	}
	h.progress.sent(b[24:40], t, sentAs{p.Mark, uint8(trafficClass(b))})
	putFlowLabel(b, h.flowLabel(src(b), dst(b), wire.TCP, binary.BigEndian.Uint32(t)))
	// The checksum is the port's or the path's to finish; this much of it depends on addresses.
	binary.BigEndian.PutUint16(t[tcpChecksumOffset:], wire.Fold(wire.PseudoHeader(src(b), dst(b), wire.TCP, len(t))))
	p.GSO.Csum, p.GSO.CsumStart, p.GSO.CsumOffset = packet.CsumPartial, trans, tcpChecksumOffset
	g := &pb.GSOOptions
	hdr := trans + int(t[12]>>4)*4
	if g.Type == stack.GSOTCPv6 && g.MSS > 0 && size-hdr > int(g.MSS) {
		p.GSO.Type, p.GSO.Size, p.GSO.HdrLen = packet.GSOTCP6, int(g.MSS), hdr
		h.count.superOut.Inc()
	}
	h.count.tcpOut.Inc()
	h.opts.Output(p)
}

// limitMSS lowers the MSS that a SYN announces to the advmss of its route, if that has one. netstack's
// own option does not do for the passive side: the MSS of a SYN-ACK is settled before the listener's
// option reaches the new endpoint, and no route is known when it is set. t is the TCP header; its
// checksum comes later.
func (h *Host) limitMSS(p *packet.Packet, t []byte) {
	if h.opts.Router == nil {
		return
	}
	b := p.Bytes()
	res := h.opts.Router.Route(module.RouteQuery{
		Dst: netip.AddrFrom16(*dst(b)), Src: netip.AddrFrom16(*src(b)), Out: p.Out, Mark: p.Mark, DSField: uint8(trafficClass(b)),
		Proto: wire.TCP, SPort: binary.BigEndian.Uint16(t), DPort: binary.BigEndian.Uint16(t[2:]),
	})
	if res.Route == nil || res.Route.AdvMSS == 0 {
		return
	}
	for o := t[tcpHeaderLen:min(int(t[12]>>4)*4, len(t))]; len(o) >= 2; {
		switch {
		case o[0] == tcpOptionNop:
			o = o[1:]
		case o[0] == tcpOptionMSS && o[1] == 4 && len(o) >= 4:
			binary.BigEndian.PutUint16(o[2:], uint16(min(int(binary.BigEndian.Uint16(o[2:])), res.Route.AdvMSS)))
			return
		default: // netstack has no end of options before the MSS
			o = o[min(max(int(o[1]), 2), len(o)):]
		}
	}
}

// GSOMaxSize and SupportedGSO: superpackets always; the path splits them where a port cannot.
func (*hostPort) GSOMaxSize() uint32 { return gsoMaxSize }

// SupportedGSO implements stack.GSOEndpoint.
func (*hostPort) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Capabilities: checksums are the path's both ways (Deliver has verified them), and there is
// nothing to resolve.
func (*hostPort) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
}

// Attach is called with the NIC, and with nil when that is removed.
func (hp *hostPort) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		hp.disp.Store(nil)
		return
	}
	hp.disp.Store(&d)
}

// IsAttached implements stack.NetworkLinkEndpoint, and so do the rest: there is no link header
// and no link address.
func (hp *hostPort) IsAttached() bool                     { return hp.disp.Load() != nil }
func (*hostPort) MTU() uint32                             { return portMTU }
func (*hostPort) SetMTU(uint32)                           {}
func (*hostPort) MaxHeaderLength() uint16                 { return 0 }
func (*hostPort) LinkAddress() tcpip.LinkAddress          { return "" }
func (*hostPort) SetLinkAddress(tcpip.LinkAddress)        {}
func (*hostPort) Wait()                                   {}
func (*hostPort) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (*hostPort) AddHeader(*stack.PacketBuffer)           {}
func (*hostPort) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (*hostPort) Close()                                  {}
func (*hostPort) SetOnCloseAction(func())                 {}
