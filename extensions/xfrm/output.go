package xfrm

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/esp"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
)

// transform is the hook for what has a route: of a packet in transit, did it come in as policies want, and for all, what
// do policies want done before it leaves (RFC 4301 5.1)?
func (m *Module) transform(p *packet.Packet) packet.Verdict {
	v := m.view.Load()
	if v.idle[spd.Out] && (p.In == 0 || v.idle[spd.Fwd] && len(p.Came()) == 0) {
		return packet.Continue
	}
	if b := planned(v, p); b != nil {
		return m.wrap(b, p, &b.flow)
	}
	f, r := flowOut(p)
	if r != packet.NoReason {
		return m.drop(r)
	}
	if p.In != 0 && !(v.idle[spd.Fwd] && len(p.Came()) == 0) {
		if verdict := m.check(v, p, spd.Fwd, &f); verdict != packet.Continue {
			return verdict
		}
	}
	if v.idle[spd.Out] {
		return packet.Continue
	}
	return m.protect(v, p, &f)
}

// flowOut is the flow of a packet that leaves. That of a fragment this node has made is its whole's.
func flowOut(p *packet.Packet) (selector.Flow, packet.Reason) {
	if p.In != 0 {
		f, err := selector.Decode(p.Bytes(), selector.Wire)
		if err != nil {
			return f, packet.XfrmFwdHdrError
		}
		return f, packet.NoReason
	}
	f, err := selector.Decode(p.Bytes(), 0)
	if err != nil {
		return f, packet.XfrmOutPolError
	}
	if p.Upper.Set {
		f.SetUpper(p.Upper.Proto, p.Upper.Head[:])
	}
	return f, packet.NoReason
}

// protect does what the policies out say. DEVIATION(Linux): it asks those without if_id before a packet gets to an XFRM
// interface, too. Here they are not for what is routed to a link of kind ipsec: the route says which policies are.
func (m *Module) protect(v *view, p *packet.Packet, f *selector.Flow) packet.Verdict {
	f.Link, f.Mark = p.Out, p.Mark
	ifID := m.ifID(p.Out)
	sub, main := v.spd.Policies(spd.Out, f, ifID)
	if sub == nil && main == nil && p.In == 0 && f.Proto == wire.ICMPv6 {
		main = v.forError(p, f, ifID)
	}
	switch {
	case sub == nil && main == nil:
		if v.block[spd.Out] {
			return m.drop(packet.XfrmOutPolBlock)
		}
		return packet.Continue
	case sub != nil && sub.Action == spd.Block, main != nil && main.Action == spd.Block:
		return m.drop(packet.XfrmOutPolBlock)
	}
	var b bundle
	switch r := m.resolve(v, &b, sub, main, p, f); {
	case r == packet.XfrmOutNoStates && v.waits:
		return m.wait(&b.missing, p, f)
	case r != packet.NoReason:
		return m.drop(r)
	}
	if sub != nil && main != nil {
		spd.SortStates(b.layers[:b.n], kind)
	}
	if b.mobile {
		b.once(p.Bytes())
	}
	if b.n == 0 { // none, or nothing but optional ones
		return packet.Continue
	}
	b.ends(f)
	if verdict := m.measure(&b, p, f); verdict != packet.Continue {
		if verdict == packet.Split && p.GSO.Type != packet.GSONone {
			plan(v, &b, p, f)
		}
		return verdict
	}
	return m.wrap(&b, p, f)
}

// forError returns the policy with flag icmp that an ICMPv6 error of this node goes by: that of the way back of the
// packet it quotes (RFC 4301 6.2).
func (v *view) forError(p *packet.Packet, f *selector.Flow, ifID uint32) *spd.Policy {
	q, ok := quotedFlow(p.Bytes())
	if !ok {
		return nil
	}
	q.Link, q.Mark = f.Link, f.Mark
	if pol := v.spd.Lookup(spd.Out, false, &q, ifID); pol != nil && pol.Flags&spd.ICMP != 0 {
		pol.Note()
		return pol
	}
	return nil
}

// bundle is the SAs that a packet goes through, the innermost first.
type bundle struct {
	layers [spd.MaxTemplates]layer
	n      int
	// wrapped: one of them gives the packet other addresses, so that it is routed again.
	wrapped bool
	mobile  bool         // one of them is of Mobile IPv6
	missing sad.Template // that there is no state for
	// peer and self are the addresses of what comes out.
	self, peer netip.Addr
	// Of the bundle of a superpacket, which is that of its pieces: what it was made with.
	view *view
	flow selector.Flow
}

// plan notes the bundle of a superpacket that is to be split: its pieces are of the same flow, and were measured with it.
func plan(v *view, b *bundle, p *packet.Packet, f *selector.Flow) {
	last, _ := p.Notes()
	n, ok := last.(*bundle)
	if !ok {
		n = new(bundle) // once for a buffer
	}
	*n = *b
	n.view, n.flow = v, *f
	p.Note(n)
}

// planned returns the bundle of a piece of a superpacket, nil if it has none that holds.
func planned(v *view, p *packet.Packet) *bundle {
	if p.Super == nil {
		return nil
	}
	if n, valid := p.Super.Notes(); valid {
		if b, ok := n.(*bundle); ok && b.view == v {
			return b
		}
	}
	return nil
}

// layer is one SA of a bundle.
type layer struct {
	state    *sad.State
	src, dst netip.Addr // of the outer header in tunnel and BEET mode
	off      int        // where the header goes, from the begin of the packet it is put into
	room     int        // how long what is protected may be, in tunnel mode
}

func kind(l layer) (proto.Proto, proto.Mode) { return l.state.Proto, l.state.Mode }

// resolve finds a state for each template (RFC 4301 5.1 step 3). Each is of the addresses that the one before left; each
// policy begins with those of the flow. The headers of Mobile IPv6 leave the home addresses.
func (m *Module) resolve(v *view, b *bundle, sub, main *spd.Policy, p *packet.Packet, f *selector.Flow) packet.Reason {
	var tmpl spd.Merged
	if !tmpl.Merge(sub, main) {
		return packet.XfrmOutPolError
	}
	second := 0 // where the templates of main begin
	if sub != nil {
		second = len(sub.Templates)
	}
	var self, peer netip.Addr
	for i := range tmpl.N {
		if i == 0 || i == second {
			self, peer = netip.AddrFrom16(f.Src), netip.AddrFrom16(f.Dst)
		}
		policy := main
		if i < second {
			policy = sub
		}
		t := tmpl.Templates[i]
		want := sad.Template{DAddr: peer, SAddr: self, Proto: t.Proto, SPI: t.SPI, Mode: t.Mode, ReqID: t.ReqID, IfID: tmpl.IfID}
		if wraps(t.Mode) {
			want.DAddr, want.SAddr = t.Dst, t.Src
			if !t.Src.IsValid() || t.Src.IsUnspecified() {
				if want.SAddr = m.host.Router().Route(module.RouteQuery{Dst: t.Dst, Proto: uint8(t.Proto), Mark: p.Mark}).Src; !want.SAddr.IsValid() {
					return packet.XfrmOutBundleGenError
				}
			}
		}
		s, acquiring := v.sad.ForTemplate(&want, f)
		switch {
		case s == nil && t.Level == spd.Use:
			if !acquiring && mobile(t.Proto) {
				m.wantState(&want, policy, f)
			}
			continue
		case s == nil:
			if !acquiring {
				m.wantState(&want, policy, f)
			}
			b.missing = want
			return packet.XfrmOutNoStates
		}
		b.layers[b.n] = layer{state: s, src: want.SAddr, dst: want.DAddr}
		b.n++
		self, peer = want.SAddr, want.DAddr
		b.mobile = b.mobile || mobile(t.Proto)
	}
	return packet.NoReason
}

// overhead is what a state puts between the outer header and what it protects, and where a UDP header is.
func (w *work) overhead(s *sad.State) int {
	if w.ah != nil {
		return w.ah.HeaderLen()
	}
	if s.Encap.Type != 0 {
		return w.esp.HeaderLen() + esp.UDPHeaderLen
	}
	return w.esp.HeaderLen()
}

// fits returns how long what is protected may be for all to be no longer than n octets behind the outer header.
func (w *work) fits(s *sad.State, n int) int {
	if w.ah != nil {
		return max(n-w.ah.HeaderLen(), 0)
	}
	if s.Encap.Type != 0 {
		n -= esp.UDPHeaderLen
	}
	return w.esp.MaxPayload(n)
}

// measure says where headers go and how long the packet may be, from the outermost header in; one that is longer goes
// back with that (RFC 4301 8.2).
func (m *Module) measure(b *bundle, p *packet.Packet, f *selector.Flow) packet.Verdict {
	first := !wraps(b.layers[0].state.Mode)
	if !b.place(p.Bytes()) {
		return m.drop(packet.XfrmOutStateModeError)
	}
	mtu, r := m.pathMTU(b, p)
	if r != packet.NoReason {
		return m.drop(r)
	}
	for i := b.n - 1; i >= 0; i-- {
		l := &b.layers[i]
		if mobile(l.state.Proto) {
			mtu -= mobileLen
			continue
		}
		w := l.state.Live.Work.(*work)
		switch l.state.Mode {
		case proto.Tunnel:
			mtu = w.fits(l.state, mtu-wire.IPv6HeaderLen)
			l.room = mtu
		default:
			mtu = l.off + w.fits(l.state, mtu-l.off)
		}
	}
	if p.MTU != 0 { // of a link of kind ipsec
		mtu = min(mtu, p.MTU)
	}
	n, least := p.SegmentLen(), max(mtu, wire.MinMTU)
	segments := p.GSO.Type != packet.GSONone || p.NoFrag || f.Proto == wire.TCP // whoever sends makes them as long as is wanted
	switch {
	case n <= mtu:
	case p.In == 0 && first && !segments: // the whole is protected, and then fragmented
	case n <= least && !b.wrapped && p.In != 0: // nobody is to fragment it
		return m.drop(packet.XfrmOutError)
	case n > least:
		p.MTU = least
		return packet.Drop(packet.TooBig)
	}
	if p.GSO.Type != packet.GSONone || p.GSO.Csum == packet.CsumPartial {
		return packet.Split
	}
	return packet.Continue
}

// pathMTU is that of the packet that comes out.
func (m *Module) pathMTU(b *bundle, p *packet.Packet) (int, packet.Reason) {
	out, route := p.Out, p.Route
	if b.wrapped {
		r := m.host.Router().Route(module.RouteQuery{Dst: b.peer, Src: b.self, Proto: uint8(b.layers[b.n-1].state.Proto), Mark: b.mark(p.Mark)})
		if r.Route == nil {
			return 0, packet.XfrmOutBundleGenError
		}
		out, route = r.Out, r.Route
	}
	l := m.host.Links().Index(out)
	if l == nil {
		return 0, packet.XfrmOutBundleGenError
	}
	if l.IfID != 0 && l.Index == p.Out { // nothing would ever get to a wire
		return 0, packet.IPsecLinkLoop
	}
	mtu := l.MTU
	if route != nil && route.MTU != 0 {
		mtu = min(mtu, max(route.MTU, wire.MinMTU))
	}
	if peer := b.peer.As16(); b.wrapped || p.In == 0 {
		if known := m.host.PathMTU(peer); known != 0 {
			mtu = min(mtu, known)
		}
	}
	return mtu, packet.NoReason
}

// mark is what the mark of the packet becomes.
func (b *bundle) mark(v uint32) uint32 {
	for i := range b.n {
		o := &b.layers[i].state.OutputMark
		v = v&^o.Mask | o.Value&o.Mask
	}
	return v
}

// insertAt returns where a header of transport mode goes: behind what the nodes on the way look at, before the headers
// for the destination (RFC 4303 3.1.1, RFC 4302 3.1.1). fragment: the packet is one.
func insertAt(pkt []byte) (off int, fragment, ok bool) {
	var c wire.Chain
	c.Walk(pkt)
	if c.Problem != wire.NoProblem && c.Problem != wire.FragmentIncomplete {
		return 0, false, false
	}
	off = wire.IPv6HeaderLen
	for i := range c.N {
		h := &c.Headers[i]
		switch h.Proto {
		case wire.HopByHop, wire.Routing:
			off = h.Off + h.Len
		case wire.DestOpts:
			if wire.HomeAddress(pkt, h) == 0 {
				continue // before a Routing header it counts as what is on the way
			}
			off = h.Off + h.Len
		default:
			return off, c.Fragment != 0, true
		}
	}
	return off, c.Fragment != 0, true
}

// wrap puts the headers on, the innermost first.
func (m *Module) wrap(b *bundle, p *packet.Packet, f *selector.Flow) packet.Verdict {
	for i := range b.n {
		l := &b.layers[i]
		if mobile(l.state.Proto) {
			if r := m.putMobile(l, p); r != packet.NoReason {
				return m.drop(r)
			}
			continue
		}
		w := l.state.Live.Work.(*work)
		if p.RoomBefore() < w.overhead(l.state)+wire.IPv6HeaderLen {
			return m.drop(packet.XfrmOutError)
		}
		if r := m.put(l, w, p, f, i == b.n-1); r != packet.NoReason {
			return m.drop(r)
		}
	}
	mark := b.mark(p.Mark)
	if b.wrapped {
		whole := p.NoFrag && !b.tunneled()
		p.Own()
		p.NoFrag = whole
	}
	p.GSO = packet.GSO{}
	if l := &b.layers[b.n-1]; l.state.Encap.Type != 0 {
		p.GSO = packet.GSO{Csum: packet.CsumPartial, CsumStart: l.off, CsumOffset: 6}
	}
	p.Mark, p.Protected = mark, true
	if b.wrapped {
		return packet.Forward
	}
	return packet.Continue
}

// put puts the header of one SA on. last: nothing goes around it, so a UDP checksum is left unfinished.
func (m *Module) put(l *layer, w *work, p *packet.Packet, f *selector.Flow, last bool) packet.Reason {
	s := l.state
	size := p.Len()
	if s.Mode != proto.Tunnel {
		size -= l.off
	}
	if r := m.limits(s, size, packet.XfrmOutStateExpired, packet.XfrmOutStateInvalid); r != packet.NoReason {
		return r
	}
	tfc, tail := 0, 0
	if w.esp != nil {
		if s.Mode == proto.Tunnel {
			tfc = max(min(int(s.TFCPad), l.room)-size, 0)
		}
		tail = tfc + w.esp.TrailerLen(size+tfc)
	}
	if p.Room() < tail {
		return packet.XfrmOutError
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seq, verdict := s.NextSeq()
	switch verdict {
	case sad.SeqReached:
		m.hasReached(s, verdict)
		return packet.XfrmOutStateSeqError
	case sad.SeqExpired:
		return packet.XfrmOutStateSeqError
	}
	next := l.place(w, p, f, m.label)
	var err error
	if w.ah != nil {
		err = w.ah.Seal(p.Bytes(), l.off, next, seq, 0)
	} else {
		iv, ok := w.nextIV(m)
		if !ok {
			return packet.XfrmOutError
		}
		p.Extend(tail)
		pkt := p.Bytes()
		at := l.off
		if s.Encap.Type != 0 {
			at += esp.UDPHeaderLen
		}
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-wire.IPv6HeaderLen))
		if err = w.esp.Seal(pkt, at, esp.Payload{Len: size, TFC: tfc, NextHeader: next}, seq, iv); err == nil && s.Encap.Type != 0 {
			checksum := esp.WholeChecksum
			if last {
				checksum = esp.HalfChecksum
			}
			esp.PutUDP(pkt, l.off, s.Encap.SPort, s.Encap.DPort, checksum)
		}
	}
	if err != nil {
		return packet.XfrmOutStateProtoError
	}
	s.Live.Count(m.host.Clock().Now(), size)
	return packet.NoReason
}

// place makes room for the header of an SA in front of what it protects, puts what goes before it there, and returns
// what it protects.
func (l *layer) place(w *work, p *packet.Packet, f *selector.Flow, key uint64) (next uint8) {
	s := l.state
	header := w.overhead(s)
	if s.Mode == proto.Tunnel {
		inner := class(p.Bytes())
		p.Push(header + wire.IPv6HeaderLen)
		l.outer(p.Bytes(), inner, label(f, key))
		next = wire.IPv6Encap
	} else {
		p.Push(header)
		pkt := p.Bytes()
		copy(pkt, pkt[header:header+l.off])
		field := namedAt(pkt, l.off)
		next = pkt[field]
		pkt[field] = l.proto()
	}
	pkt := p.Bytes()
	if s.Mode == proto.BEET {
		src, dst := l.src.As16(), l.dst.As16()
		copy(pkt[8:], src[:])
		copy(pkt[24:], dst[:])
	}
	binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-wire.IPv6HeaderLen))
	return next
}

// proto is what the header in front of that of the SA announces.
func (l *layer) proto() uint8 {
	if l.state.Encap.Type != 0 {
		return wire.UDP
	}
	return uint8(l.state.Proto)
}

// outer writes the header of a tunnel (RFC 4301 5.1.2.1, RFC 6040 4.1). The hop limit is left to the link it leaves by.
func (l *layer) outer(pkt []byte, inner uint8, flow uint32) {
	c := inner
	if l.state.Extra&sad.DontEncapDSCP != 0 {
		c &= ecn
	}
	if l.state.Flags&sad.NoECN != 0 {
		c &^= ecn
	}
	wire.PutIPv6(pkt, wire.IPv6Fields{TrafficClass: c, FlowLabel: flow, NextHeader: l.proto(), Src: l.src, Dst: l.dst})
}

// label is the flow label of an outer header: the same for all packets of a flow, so that they take one way (RFC 6438
// 3), and telling nothing else.
func label(f *selector.Flow, key uint64) uint32 {
	h := key
	for _, w := range [...]uint64{
		binary.LittleEndian.Uint64(f.Src[:8]), binary.LittleEndian.Uint64(f.Src[8:]), binary.LittleEndian.Uint64(f.Dst[:8]),
		binary.LittleEndian.Uint64(f.Dst[8:]), uint64(f.Proto)<<32 | uint64(f.SPort)<<16 | uint64(f.DPort),
	} {
		h = (h ^ w) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return uint32(h>>32) & 0xfffff
}

// namedAt returns the offset of the Next Header octet that names what is at off.
func namedAt(pkt []byte, off int) int {
	field, at := wire.NextHeaderOffset, wire.IPv6HeaderLen
	for at < off {
		field = at
		at += (int(pkt[at+1]) + 1) * 8
	}
	return field
}

// Sent implements [module.Sender]: is a quoted packet one of an SA?
func (m *Module) Sent(p uint8, _, dst [16]byte, transport []byte) bool {
	v := m.view.Load()
	to := netip.AddrFrom16(dst)
	switch {
	case p == wire.ESP && len(transport) >= 4:
		return v.sad.Known(to, binary.BigEndian.Uint32(transport), proto.ESP)
	case p == wire.AH && len(transport) >= 8:
		return v.sad.Known(to, binary.BigEndian.Uint32(transport[4:]), proto.AH)
	case p == wire.UDP && len(transport) >= esp.UDPHeaderLen+4:
		return v.sad.Known(to, binary.BigEndian.Uint32(transport[esp.UDPHeaderLen:]), proto.ESP)
	}
	return false
}
