package tunnel

import (
	"sync/atomic"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/tunnel/encap"
)

// live is what workers write of one tunnel.
type live struct {
	sent   atomic.Uint32 // the number of the next GRE header
	next   atomic.Uint32 // what the number of the next one that comes in is at least
	path   atomic.Int64  // octets that tunnel packets may have
	looked atomic.Int64  // when that was found out
}

// defaultPath is what a path is taken to bear that is not known.
const defaultPath = 1500

// lookAgain is how long it is believed what a path bears: routes change without the module being told.
const lookAgain = time.Second

func newLive() *live {
	l := &live{}
	l.path.Store(defaultPath)
	return l
}

// link returns the tunnel that is the link with an index, or nil.
func (v *view) link(i int) *tunnel {
	if uint(i) >= uint(len(v.byLink)) {
		return nil
	}
	return v.byLink[i]
}

// enter is the hook for what leaves by a link: it puts a packet into the tunnel (RFC 2473 3.1, 4.1.1, 5).
func (m *Module) enter(p *packet.Packet) packet.Verdict {
	t := m.view.Load().link(p.Out)
	if t == nil {
		return packet.Continue
	}
	e, refused, pointer := t.params.Enter(p.Bytes())
	switch refused {
	case encap.NotCarried:
		return packet.Drop(packet.TunnelProtocol)
	case encap.LimitIsZero:
		p.Answer = packet.ICMPError{Type: wire.TypeParameterProblem, Code: wire.CodeErroneousHeader, Arg: uint32(pointer)}
		return packet.Drop(packet.TunnelLimit)
	case encap.LoopsBack:
		p.Answer = unreachable
		return packet.Drop(packet.TunnelLoop)
	}
	if p.Nested == packet.MaxNested || p.RoomBefore() < e.Overhead {
		p.Answer = unreachable
		return packet.Drop(packet.TunnelNested)
	}
	if fate, mtu := e.Fits(p.Len(), m.pathNow(t), false); fate == encap.TooLong {
		p.MTU = mtu
		return packet.Drop(packet.TooBig)
	}
	number := uint32(0)
	if t.params.OSeq {
		number = t.live.sent.Add(1) - 1
	}
	p.Push(e.Overhead)
	t.params.Put(p.Bytes(), e, number)
	mark := p.Mark
	p.Own()
	p.Out, p.Mark = t.dev, mark
	p.Nested++
	return packet.Forward
}

var unreachable = packet.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodeAddressUnreachable}

// pathNow is how long tunnel packets may be. It is found out anew from time to time; the loop hears of a change.
func (m *Module) pathNow(t *tunnel) int {
	path := int(t.live.path.Load())
	now, looked := m.host.Clock().Now(), t.live.looked.Load()
	if now.Sub(clock.Instant(looked)) < lookAgain || !t.live.looked.CompareAndSwap(looked, int64(now)) {
		return path
	}
	if found := m.findPath(t); found != path {
		path = found
		t.live.path.Store(int64(path))
		m.host.Mail(module.Event{Kind: evPath, Link: t.index})
	}
	return path
}

// findPath asks how long packets to the other end may be (RFC 2473 6.7). Any goroutine.
func (m *Module) findPath(t *tunnel) int {
	path := defaultPath
	r := m.host.Router().Route(module.RouteQuery{Dst: t.params.Remote, Src: t.params.Local, Out: t.dev, Proto: t.params.Kind.Protocol()})
	if r.Route == nil || r.Out == t.index {
		return path
	}
	if l := m.host.Links().Index(r.Out); l != nil {
		path = l.MTU
	}
	if r.Route.MTU != 0 {
		path = min(path, max(r.Route.MTU, wire.MinMTU))
	}
	if known := m.host.PathMTU(t.params.Remote.As16()); known != 0 {
		path = min(path, known)
	}
	return path
}

// faults are the reasons of what is wrong with a packet that comes in.
var faults = [...]packet.Reason{
	encap.Header: packet.TunnelHeader, encap.Checksum: packet.TunnelChecksum, encap.WrongKey: packet.TunnelKey,
	encap.Sequence: packet.TunnelSequence, encap.Protocol: packet.TunnelProtocol, encap.Length: packet.TunnelLength,
	encap.Source: packet.TunnelSource, encap.ECN: packet.TunnelECN,
}

// exit is the hook for what carries packets to this node: it takes out what a tunnel of this node's has carried
// (RFC 2473 3.3). A packet of no tunnel is refused (RFC 4213 3.6); where there is none with its protocol, nobody wants it.
func (m *Module) exit(p *packet.Packet) packet.Verdict {
	v := m.view.Load()
	b := p.Bytes()
	from := ends{local: [16]byte(b[24:40]), remote: [16]byte(b[8:24]), gre: p.Proto == wire.GRE}
	switch {
	case p.Proto == wire.IPv4Encap, from.gre && !v.gre, !from.gre && !v.plain:
		return packet.Continue
	case from.gre:
		var ok bool
		if from.key, ok = encap.GREKey(b[min(p.TransOff, len(b)):]); !ok {
			return packet.Drop(packet.TunnelHeader)
		}
	}
	t := v.byEnds[from]
	if t == nil || t.dev != 0 && t.dev != p.In {
		p.Answer = unreachable
		return packet.Drop(packet.TunnelUnknown)
	}
	o, f := t.params.Open(b, p.TransOff, t.live.next.Load())
	if o.Unused {
		m.count.unused.Inc()
	}
	switch {
	case f != encap.NoFault:
		return packet.Drop(faults[f])
	case o.V4: // there is nobody to have it
		return packet.Drop(packet.TunnelProtocol)
	case t.params.ISeq && !t.live.advance(o.Seq):
		return packet.Drop(packet.TunnelSequence)
	}
	p.Emerge(t.index, o.Off, o.Len)
	return packet.Arrived
}

// advance makes the number behind seq the next one, unless another worker has gone on meanwhile.
func (l *live) advance(seq uint32) bool {
	for {
		next := l.next.Load()
		if int32(seq-next) < 0 {
			return false
		}
		if l.next.CompareAndSwap(next, seq+1) {
			return true
		}
	}
}
