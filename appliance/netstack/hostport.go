package netstack

import (
	"encoding/binary"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

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
	h.progress.sent(b[24:40], t)
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
