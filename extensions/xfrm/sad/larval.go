package sad

import (
	"fmt"
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/wire"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// want is what a larval state waits for.
type want struct {
	Template
	mark Mark
}

func wanted(s *State) want {
	return want{Template{s.DAddr, s.SAddr, s.Proto, s.SPI, s.Mode, s.ReqID, s.IfID}, s.Mark}
}

// Acquire adds the larval state that a flow waits for, with the selector of exactly this flow, and returns
// it with true: an ACQUIRE with its Seq is to be sent. While there is one for the template that is
// returned with false, so that key managers hear once of it in its lifetime. The number of larval states
// is bounded: ErrFull.
func (db *DB) Acquire(now clock.Instant, t *Template, f *selector.Flow) (*State, bool, error) {
	if s := db.waiting[want{*t, Mark{}}]; s != nil {
		return s, false, nil
	}
	if db.larval >= db.o.MaxLarval || db.n >= db.o.MaxStates {
		return nil, false, ErrFull
	}
	if db.seq++; db.seq == 0 { // 0 is none
		db.seq = 1
	}
	s := &State{ID: ID{t.DAddr, t.SPI, t.Proto}, SAddr: t.SAddr, Mode: t.Mode, ReqID: t.ReqID, IfID: t.IfID, Seq: db.seq, Sel: exactly(f), Life: db.larvalLife()}
	if !t.Proto.HasSPI() {
		s.CoA = netip.IPv6Unspecified()
	}
	return db.insert(now, s, Acq, nil), true, nil
}

// exactly is the selector that takes packets of one flow.
func exactly(f *selector.Flow) selector.Selector {
	s := selector.Selector{Src: host(f.Src), Dst: host(f.Dst), Proto: f.Proto, Link: f.Link}
	if !f.Opaque {
		s.SPort, s.SPortMask = f.SPort, 0xffff
		if f.Proto != wire.MH {
			s.DPort, s.DPortMask = f.DPort, 0xffff
		}
	}
	return s
}

func host(a [16]byte) netip.Prefix {
	addr := netip.AddrFrom16(a).Unmap()
	return netip.PrefixFrom(addr, addr.BitLen())
}

// larvalLife is what Linux has a larval state listed with.
func (db *DB) larvalLife() Lifetime { return Lifetime{HardAdd: uint64(db.o.AcqExpires / time.Second)} }

// answered returns the larval state that s is the answer to, nil if none.
func (db *DB) answered(s *State) *State {
	if s.Seq != 0 {
		if o := db.bySeq[s.Seq]; o != nil && o.Proto == s.Proto && o.DAddr == s.DAddr {
			return o
		}
	}
	k := wanted(s)
	k.SPI = 0
	return db.waiting[k]
}

func (db *DB) replaceLarval(s *State) {
	if s != nil {
		db.remove(s)
	}
}

// AllocSPI adds a larval state with an SPI of low to high that no state of its destination and protocol
// has, for an Update to give it keys. It starts at random(), which is any number, and takes the first that
// is free. Of s the addresses, protocol, mode, reqid, seq, mark and if_id are used.
func (db *DB) AllocSPI(now clock.Instant, s *State, low, high uint32, random func() uint32) (*State, error) {
	switch {
	case !v6(s.DAddr) || !v6(s.SAddr):
		return nil, fmt.Errorf("%w: states have IPv6 addresses", ErrFamily)
	case s.Proto != proto.ESP && s.Proto != proto.AH || s.DAddr.IsUnspecified() || low > high || low < 256:
		return nil, fmt.Errorf("%w: SPIs of %s from %d to %d", ErrInvalid, s.Proto, low, high)
	case db.larval >= db.o.MaxLarval || db.n >= db.o.MaxStates:
		return nil, ErrFull
	}
	c := &State{ID: ID{s.DAddr, 0, s.Proto}, SAddr: s.SAddr, Mode: s.Mode, ReqID: s.ReqID, Seq: s.Seq, Mark: s.Mark, IfID: s.IfID,
		Sel: selector.Selector{Src: netip.PrefixFrom(s.SAddr, 128), Dst: netip.PrefixFrom(s.DAddr, 128)}, Life: db.larvalLife()}
	span := uint64(high-low) + 1
	start := uint64(random()) % span
	for i := range min(span, uint64(db.n)+1) { // of so many one is free
		c.SPI = low + uint32((start+i)%span)
		if db.find(&c.ID, c.SAddr, func(*State) bool { return true }) == nil {
			db.replaceLarval(db.answered(c))
			return db.insert(now, c, Acq, nil), nil
		}
	}
	return nil, ErrNoSPI
}
