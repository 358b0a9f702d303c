package sad

import (
	"net/netip"

	"leveret/extensions/xfrm/proto"
)

// Probe is a lookup among many states in steps, each of which begins where it would wait for memory: when those of a
// vector of packets take each step together, they wait together. Where there are several states it takes the newest.
// Its methods are called in their order.
type Probe struct {
	bucket *bucket
	last   **State
	state  *State
}

// Many reports whether the states are so many that a lookup waits for memory.
func (sn *Snapshot) Many() bool { return sn.n > 128 }

// BeginID begins a [Snapshot.ByID].
func (sn *Snapshot) BeginID(daddr netip.Addr, spi uint32, p proto.Proto) Probe {
	return Probe{bucket: sn.byID.get(sn.idHash(&ID{daddr, spi, p}))}
}

// BeginTemplate begins a [Snapshot.ForTemplate].
func (sn *Snapshot) BeginTemplate(daddr, saddr netip.Addr, reqid uint32) Probe {
	return Probe{bucket: sn.byTemplate.get(sn.templateHash(daddr, saddr, reqid))}
}

// Bucket waits for where the states are.
func (p *Probe) Bucket() {
	if p.bucket != nil && len(p.bucket.tail) > 0 {
		p.last = &p.bucket.tail[len(p.bucket.tail)-1]
	}
}

// State waits for which it is.
func (p *Probe) State() {
	if p.last != nil {
		p.state = *p.last
	}
}

// Fields waits for what is in the state; what it returns is to be used for nothing but that it is waited for.
func (p *Probe) Fields() uint64 {
	s := p.state
	if s == nil {
		return 0
	}
	x := uint64(s.SPI) + uint64(s.ReqID) + uint64(s.Encap.Type) + s.Life.SoftBytes + s.Life.HardPackets
	if s.SrcSelective {
		x++
	}
	if !s.takesAll {
		x += s.compiled.Src.Hi + uint64(s.compiled.Family) + uint64(s.compiled.Selector.Proto)
	}
	return x
}

// Live waits for what packets change of the state, and returns it; nil = there is no state.
func (p *Probe) Live() *Live {
	if p.state == nil {
		return nil
	}
	l := p.state.Live
	_ = l.status.Load() + uint32(l.last.Load())
	return l
}
