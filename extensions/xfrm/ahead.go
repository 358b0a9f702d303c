package xfrm

import (
	"encoding/binary"
	"net/netip"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/esp"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/spd"
)

// With thousands of SAs and policies, what one packet needs of them is not in the cache: it waits some thirty times for
// memory, mostly for what the wait before has brought. Before the packets of a vector are looked at one by one, their
// lookups are done step by step side by side, for nothing but that the waits fall together. With few SAs and policies,
// or packets, that is left out.

// atOnce is how many packets are taken side by side; fewer than fewest are not worth it.
const (
	atOnce = 64
	fewest = 4
)

// aheadOfTransform implements [module.Ahead] for [Module.transform].
func (m *Module) aheadOfTransform(ps []*packet.Packet, _ int) {
	v := m.view.Load()
	for _, dir := range [...]spd.Dir{spd.Fwd, spd.Out} {
		if !v.spd.Many(dir) && (dir != spd.Out || v.idle[dir] || !v.sad.Many()) {
			continue
		}
		for rest := ps; len(rest) >= fewest; {
			n := min(len(rest), atOnce)
			v.ahead(rest[:n], dir)
			rest = rest[n:]
		}
	}
}

func (v *view) ahead(ps []*packet.Packet, dir spd.Dir) (x uint64) {
	var probes [atOnce]spd.Probe
	n := 0
	for _, p := range ps {
		if p.Protected || dir == spd.Fwd && p.In == 0 {
			continue
		}
		if f, err := selector.Decode(p.Bytes(), 0); err == nil {
			v.spd.Begin(&probes[n], dir, &f)
			n++
		}
	}
	for i := range n {
		probes[i].Bucket()
	}
	for i := range n {
		x += probes[i].Slots()
	}
	for i := range n {
		x += probes[i].Entry()
	}
	for i := range n {
		x += probes[i].Action()
	}
	var templates [atOnce]*spd.Template
	for i := range n {
		t, y := probes[i].Template()
		templates[i], x = t, x+y
	}
	if dir != spd.Out {
		return x
	}
	var found [atOnce]sad.Probe
	for i, t := range templates[:n] {
		if t != nil && t.Mode != proto.Transport {
			found[i] = v.sad.BeginTemplate(t.Dst, t.Src, t.ReqID)
		}
	}
	return x + states(found[:n])
}

// aheadOfInput implements [module.Ahead] for [Module.input].
func (m *Module) aheadOfInput(ps []*packet.Packet, off int) {
	v := m.view.Load()
	if !v.sad.Many() {
		return
	}
	for len(ps) >= fewest {
		n := min(len(ps), atOnce)
		var found [atOnce]sad.Probe
		for i, p := range ps[:n] {
			found[i] = v.begin(p.Bytes()[min(off, p.Len()):])
		}
		states(found[:n])
		ps = ps[n:]
	}
}

// begin begins the lookup of what opens a packet, which nothing has looked at yet.
func (v *view) begin(b []byte) sad.Probe {
	at, p := wire.IPv6HeaderLen, proto.ESP
	if len(b) < at+esp.UDPHeaderLen+4 {
		return sad.Probe{}
	}
	switch b[wire.NextHeaderOffset] {
	case wire.ESP:
	case wire.AH:
		at, p = at+4, proto.AH
	case wire.UDP:
		at += esp.UDPHeaderLen
	default:
		return sad.Probe{}
	}
	return v.sad.BeginID(netip.AddrFrom16([16]byte(b[24:40])), binary.BigEndian.Uint32(b[at:]), p)
}

// states waits for the states that were looked up, and for what packets are made and opened with.
func states(found []sad.Probe) (x uint64) {
	for i := range found {
		found[i].Bucket()
	}
	for i := range found {
		found[i].State()
	}
	for i := range found {
		x += found[i].Fields()
	}
	var works [atOnce]*work
	for i := range found {
		if l := found[i].Live(); l != nil {
			works[i], _ = l.Work.(*work)
		}
	}
	var sas [atOnce]*esp.SA
	for i, w := range works[:len(found)] {
		if w != nil {
			sas[i] = w.esp
		}
	}
	for i, s := range sas[:len(found)] {
		if s != nil {
			x += s.Ahead() + uint64(works[i].window.Size())
		}
	}
	for _, s := range sas[:len(found)] {
		if s != nil {
			x += s.AheadKeys()
		}
	}
	return x
}
