package xfrm

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"leveret/appliance/clock"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/ah"
	"leveret/extensions/xfrm/esp"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/replay"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
)

// input is the hook for AH, ESP and UDP for this node: it opens what an SA is for (RFC 4303 3.4, RFC 4302 3.4).
func (m *Module) input(p *packet.Packet) packet.Verdict {
	v := m.view.Load()
	in := opening{m: m, p: p, off: p.TransOff}
	switch p.Proto {
	case wire.ESP:
		in.proto = proto.ESP
	case wire.AH:
		in.proto = proto.AH
	case wire.DestOpts:
		return m.homeAddress(v, p)
	case wire.Routing:
		return m.route2(v, p)
	default:
		if len(v.ports) == 0 {
			return packet.Continue
		}
		if verdict := in.udp(v); verdict != packet.Continue || in.proto == 0 {
			return verdict
		}
	}
	return in.open(v)
}

// opening is one packet that is being opened.
type opening struct {
	m     *Module
	p     *packet.Packet
	proto proto.Proto
	off   int // of the header
	udpAt int // of the UDP header in front of it; 0 = none

	next uint8 // what comes out: where it begins and how long it is
	at   int
	n    int
}

// udp finds out whether a UDP packet is ESP, RFC 3948; if it is not, and somebody else's, proto stays 0.
func (in *opening) udp(v *view) packet.Verdict {
	b := in.p.Bytes()
	if len(b) < in.off+esp.UDPHeaderLen {
		return packet.Continue
	}
	if v.ports[udpEnd{[16]byte(b[24:40]), binary.BigEndian.Uint16(b[in.off+2:])}] == 0 {
		return packet.Continue
	}
	begin, end := in.off+esp.UDPHeaderLen, in.off+int(binary.BigEndian.Uint16(b[in.off+4:]))
	ok := begin <= end && end <= len(b)
	if in.p.GSO.Csum == packet.CsumUnknown {
		begin, end, ok = esp.UDPPayload(b, in.off, false)
	}
	if !ok {
		return packet.Continue // the host stack says so
	}
	switch esp.Classify(b[begin:end]) {
	case esp.Keepalive:
		return packet.Drop(packet.XfrmInKeepalive)
	case esp.IKE:
		return packet.Continue
	case esp.Malformed:
		return in.m.drop(packet.XfrmInHdrError)
	}
	in.proto, in.udpAt, in.off = proto.ESP, in.off, begin
	in.p.Trim(end)
	return packet.Continue
}

// open opens the packet by its SA, which it notes for the policy check.
func (in *opening) open(v *view) packet.Verdict {
	m, p := in.m, in.p
	b := p.Bytes()
	if len(p.Came()) == packet.MaxStates {
		return m.drop(packet.XfrmInBufferError)
	}
	spi, seq, err := in.header(b)
	if err != nil {
		return m.drop(packet.XfrmInHdrError)
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	s := v.sad.ByID(dst, src, spi, in.proto, p.Mark)
	switch {
	case s == nil:
		return m.drop(packet.XfrmInNoStates)
	case s.KM == sad.Acq:
		return m.drop(packet.XfrmAcquireError)
	case (s.Encap.Type != 0) != (in.udpAt != 0):
		return m.drop(packet.XfrmInStateMismatch)
	}
	if id := m.ifID(p.In); id != 0 && id != s.IfID {
		// The policies of the link that it came by are for what it is, those of the next for what is inside.
		if verdict := m.admit(p); verdict != packet.Continue {
			return verdict
		}
		p.Forget()
	}
	now := m.host.Clock().Now()
	if r := in.verify(now, s, b, seq); r != packet.NoReason {
		return m.drop(r)
	}
	if in.next == wire.NoNext { // RFC 4303 2.6: to be discarded without a word
		return packet.Drop(packet.XfrmInDummy)
	}
	p.ComeThrough(s)
	p.GSO = packet.GSO{} // what the port knew was of the outer packet
	verdict := in.inner(s)
	if s.IfID == 0 || verdict != packet.Again {
		return verdict
	}
	l := m.host.Links().IfID(s.IfID)
	if l == nil || !l.Up {
		// DEVIATION(Linux): it leaves the packet on the link that it came in by, where policies without if_id are asked.
		return m.drop(packet.XfrmInNoPols)
	}
	p.In = l.Index
	return packet.Arrived
}

// inner makes the packet what the SA protected.
func (in *opening) inner(s *sad.State) packet.Verdict {
	switch s.Mode {
	case proto.Tunnel:
		return in.tunnel(s)
	case proto.BEET:
		return in.beet(s)
	}
	in.strip()
	return packet.Again
}

func (in *opening) header(b []byte) (spi, seq uint32, err error) {
	if in.proto == proto.AH {
		return ah.Header(b, in.off)
	}
	return esp.Header(b, in.off)
}

// verify does what has to be done in the order of RFC 4303 3.4.3: the window first, then the ICV, and only an
// authentic packet moves the window and counts.
func (in *opening) verify(now clock.Instant, s *sad.State, b []byte, low uint32) packet.Reason {
	if r := in.m.limits(s, 0, packet.XfrmInStateExpired, packet.XfrmInStateInvalid); r != packet.NoReason {
		return r
	}
	w := s.Live.Work.(*work)
	w.mu.Lock()
	defer w.mu.Unlock()
	seq, ok := w.window.Infer(low)
	if !ok {
		s.Live.LeftOfWindow()
		return packet.XfrmInStateSeqError
	}
	switch w.window.Check(seq) {
	case replay.Left:
		s.Live.LeftOfWindow()
		return packet.XfrmInStateSeqError
	case replay.Duplicate:
		s.Live.Replayed()
		return packet.XfrmInStateSeqError
	case replay.Invalid:
		return packet.XfrmInStateSeqError
	}
	if r := in.authentic(w, s, b, seq); r != packet.NoReason {
		return r
	}
	w.window.Advance(seq)
	if in.udpAt != 0 {
		in.m.cameFrom(now, s, w, b, in.udpAt)
	}
	if r := in.m.limits(s, in.n, packet.XfrmInStateExpired, packet.XfrmInStateInvalid); r != packet.NoReason {
		return r
	}
	s.Live.Count(now, in.n)
	return packet.NoReason
}

// authentic checks the ICV and decrypts.
func (in *opening) authentic(w *work, s *sad.State, b []byte, seq uint64) packet.Reason {
	if in.proto == proto.AH {
		o, err := w.ah.Open(b, in.off, seq)
		switch {
		case errors.Is(err, ah.ErrShort), errors.Is(err, ah.ErrLength):
			return packet.XfrmInHdrError
		case errors.Is(err, ah.ErrICV):
			s.Live.IntegrityFailed()
			return packet.XfrmInStateProtoError
		case err != nil:
			return packet.XfrmInStateProtoError
		}
		in.next, in.at = o.NextHeader, in.off+o.Len
		in.n = len(b) - in.at
		return packet.NoReason
	}
	o, err := w.esp.Open(b, in.off, seq)
	if err != nil {
		if errors.Is(err, esp.ErrICV) {
			s.Live.IntegrityFailed()
		}
		return packet.XfrmInStateProtoError
	}
	in.next, in.at, in.n = o.NextHeader, o.Off, o.Len
	return packet.NoReason
}

// limits asks whether the lifetime of a state lets a packet pass, and tells the loop of a limit that is reached.
func (m *Module) limits(s *sad.State, size int, expired, invalid packet.Reason) packet.Reason {
	switch v := s.Before(size); v {
	case sad.SoftReached:
		m.hasReached(s, v)
	case sad.HardReached:
		m.hasReached(s, v)
		return expired
	case sad.HardExpired:
		return expired
	case sad.Invalid:
		return invalid
	}
	return packet.NoReason
}

// strip takes AH or ESP out from between the headers before it and what it protects.
func (in *opening) strip() {
	p := in.p
	b := p.Bytes()
	front := in.off
	if in.udpAt != 0 {
		front = in.udpAt
	}
	b[p.ProtoField] = in.next
	p.Trim(in.at + in.n)
	copy(b[in.at-front:in.at], b[:front])
	p.Pull(in.at - front)
	b = p.Bytes()
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-wire.IPv6HeaderLen))
}

// tunnel takes the inner packet out (RFC 4301 5.1.2, 5.2).
func (in *opening) tunnel(s *sad.State) packet.Verdict {
	m, p := in.m, in.p
	b := p.Bytes()
	if r := s.Restricts(); in.next != wire.IPv6Encap || r != nil && r.Family == selector.IPv4 {
		return m.drop(packet.XfrmInStateModeError)
	}
	n, ok := esp.InnerLen(b[in.at:in.at+in.n], in.next) // what is behind it is TFC padding (RFC 4303 2.7)
	if !ok {
		return m.drop(packet.XfrmInStateModeError)
	}
	outer := class(b)
	p.Trim(in.at + n)
	p.Pull(in.at)
	p.Walked = 0
	inner, ok := decapsulate(class(p.Bytes()), outer, s.Flags)
	if !ok {
		return packet.Drop(packet.TunnelECN)
	}
	setClass(p.Bytes(), inner)
	p.Tunneled = true
	return packet.Again
}

// beet gives the packet its addresses back, which are those of the SA's selector.
func (in *opening) beet(s *sad.State) packet.Verdict {
	if in.next == 94 { // an IPv4 packet with options
		return in.m.drop(packet.XfrmInStateModeError)
	}
	in.strip()
	src, dst := s.Sel.Src.Addr().As16(), s.Sel.Dst.Addr().As16()
	b := in.p.Bytes()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return packet.Again
}

// class returns the traffic class of an IPv6 packet: DSCP and ECN.
func class(b []byte) uint8 { return b[0]<<4 | b[1]>>4 }

func setClass(b []byte, c uint8) { b[0], b[1] = b[0]&0xf0|c>>4, b[1]&0x0f|c<<4 }

// The codepoints of ECN (RFC 3168 5).
const (
	notECT = 0
	ect1   = 1
	ce     = 3
	ecn    = 3
)

// decapsulate returns the traffic class of what comes out of a tunnel (RFC 6040 4.2, RFC 4301 5.1.2.1); false: it is
// to be dropped, as its sender has not said that it understands congestion marks.
func decapsulate(inner, outer uint8, flags sad.Flags) (uint8, bool) {
	if flags&sad.DecapDSCP != 0 {
		inner = inner&ecn | outer&^ecn
	}
	if flags&sad.NoECN != 0 {
		return inner, true
	}
	switch from, mark := inner&ecn, outer&ecn; {
	case mark == ce && from == notECT:
		return 0, false
	case mark == ce:
		return inner | ce, true
	case mark == ect1 && from != notECT && from != ce:
		return inner&^ecn | ect1, true
	}
	return inner, true
}
