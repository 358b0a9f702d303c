package datapath

import (
	"encoding/binary"

	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// fit is stage 6: a packet of this node that is longer than its path takes is fragmented
// (RFC 8200 4.5), and a packet in transit has been checked in stage 4. A packet of exactly the
// path MTU leaves whole: the Fragment header's room is taken only when there is a fragment.
func (w *Worker) fit(p *packet.Packet) packet.Verdict {
	if p.In != 0 {
		return packet.Continue
	}
	l := w.linkOf(p.Out)
	if l == nil {
		return packet.Drop(packet.LinkDown)
	}
	mtu := w.pathMTU(p, l)
	if p.SegmentLen() <= mtu {
		return packet.Continue
	}
	if p.GSO.Type != packet.GSONone || p.NoFrag || w.isTCP(p) {
		// TCP makes its own segments: tell it the MTU, as a router on the way would.
		w.sendError(p, tooBig(mtu))
		return packet.Drop(packet.TooBig)
	}
	return w.fragment(p, mtu, false)
}

// pathMTU is the longest packet of this node that the way by l takes.
func (w *Worker) pathMTU(p *packet.Packet, l *module.Link) int {
	mtu := routeMTU(l, p.Route)
	if m := w.path.pmtu.Lookup(dst(p.Bytes()), w.now); m != 0 && m < mtu {
		mtu = m
	}
	return mtu
}

func (w *Worker) isTCP(p *packet.Packet) bool {
	w.chain.Walk(p.Bytes())
	return w.chain.Proto == wire.TCP
}

// fragment sends p as fragments, each as long as fits, and consumes it. The headers that every
// fragment must carry stay in front of the Fragment header, in their order. transform: the fragments go through
// stage 5 one by one, to where the whole packet would go.
func (w *Worker) fragment(p *packet.Packet, mtu int, transform bool) packet.Verdict {
	w.complete(p)
	b := p.Bytes()
	w.chain.Walk(b)
	unfrag, field := perFragment(b, &w.chain)
	room := (mtu - unfrag - wire.FragmentHeaderLen) &^ 7
	if unfrag+wire.FragmentHeaderLen > mtu || room < 8 || w.chain.Off-unfrag > room {
		// RFC 7112 5: the first fragment must hold the whole header chain.
		return packet.Drop(packet.ChainFirstFragment)
	}
	id, next := w.rand.Uint32(), b[field]
	var upper packet.Upper
	if transform {
		upper = packet.Upper{Set: true, Proto: w.chain.Proto}
		copy(upper.Head[:], b[min(w.chain.Off, len(b)):])
	}
	for rest, off := b[unfrag:], 0; len(rest) > 0; {
		n := len(rest)
		if unfrag+wire.FragmentHeaderLen+n > mtu {
			n = room
		}
		f := w.pool.Get()
		f.Out, f.Route, f.NextHop, f.Mark, f.Nested = p.Out, p.Route, p.NextHop, p.Mark, p.Nested
		fb := f.Extend(unfrag + wire.FragmentHeaderLen + n)
		copy(fb, b[:unfrag])
		fb[field] = wire.Fragment
		binary.BigEndian.PutUint16(fb[4:], uint16(len(fb)-wire.IPv6HeaderLen))
		wire.PutFragment(fb[unfrag:], wire.FragmentFields{NextHeader: next, Offset: off, More: n < len(rest), ID: id})
		copy(fb[unfrag+wire.FragmentHeaderLen:], rest[:n])
		rest, off = rest[n:], off+n
		w.count.simple[FragmentsCreated].add(1)
		if f.Upper = upper; transform {
			w.act2(f, packet.Continue)
			continue
		}
		w.send(f)
	}
	w.count.simple[FragmentedOK].add(1)
	return packet.Consumed
}
