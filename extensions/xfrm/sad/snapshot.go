package sad

import (
	"net/netip"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// tables are the three ways to find a state.
type tables struct {
	seed       uint64
	byID       index // of protocols with an SPI: by daddr, SPI and protocol
	byAddrs    index // of those without: by daddr, saddr and protocol
	byTemplate index // all: by daddr, saddr and reqid

	mobile int // valid states without an SPI
}

func (t *tables) idHash(id *ID) uint16 {
	return hash(t.seed, id.DAddr.As16(), [16]byte{}, uint64(id.SPI)<<8|uint64(id.Proto))
}

func (t *tables) addrsHash(daddr, saddr netip.Addr, p proto.Proto) uint16 {
	return hash(t.seed, daddr.As16(), saddr.As16(), uint64(p))
}

func (t *tables) templateHash(daddr, saddr netip.Addr, reqid uint32) uint16 {
	return hash(t.seed, daddr.As16(), saddr.As16(), uint64(reqid)<<8)
}

// Snapshot is the database at one time. Any goroutine; nothing is allocated.
type Snapshot struct {
	tables
	genid uint64
	n     int
}

// Genid changes with every change of the database: what was found in another snapshot is to be looked up
// again.
func (sn *Snapshot) Genid() uint64 { return sn.genid }

// Len is the number of states.
func (sn *Snapshot) Len() int { return sn.n }

// ByID returns the state of an inbound packet of a protocol with an SPI, nil if there is none: the longest
// match of RFC 4301 4.1, so that one which is selective by source comes first. It may be larval.
func (sn *Snapshot) ByID(daddr, saddr netip.Addr, spi uint32, p proto.Proto, mark uint32) *State {
	id := ID{daddr, spi, p}
	var found *State
	for s := range sn.byID.get(sn.idHash(&id)).newest {
		switch {
		case s.ID != id || !s.Mark.matches(mark):
		case s.SrcSelective:
			if s.SAddr == saddr {
				return s
			}
		case found == nil:
			found = s
		}
	}
	return found
}

// Known reports whether there is a state of an SPI, whatever its mark and source.
func (sn *Snapshot) Known(daddr netip.Addr, spi uint32, p proto.Proto) bool {
	id := ID{daddr, spi, p}
	for s := range sn.byID.get(sn.idHash(&id)).newest {
		if s.ID == id {
			return true
		}
	}
	return false
}

// Mobile reports whether there is any state for the headers of Mobile IPv6.
func (sn *Snapshot) Mobile() bool { return sn.mobile > 0 }

// ByAddrs returns the valid state of an inbound packet with a Home Address option or a Type 2 Routing
// header: that of the two addresses, or one for (daddr, ::) or (::, ::) if it has flag wildrecv. coa is the
// care-of address that the packet has beside them; a state that has another one, not ::, is not it. With
// the zero Addr it is not looked at.
func (sn *Snapshot) ByAddrs(daddr, saddr, coa netip.Addr, p proto.Proto, mark uint32) *State {
	any6 := netip.IPv6Unspecified()
	for try := range 3 {
		d, s := daddr, saddr
		if try > 0 {
			s = any6
		}
		if try > 1 {
			d = any6
		}
		for x := range sn.byAddrs.get(sn.addrsHash(d, s, p)).newest {
			if x.DAddr != d || x.SAddr != s || x.Proto != p || x.KM != Valid || !x.Mark.matches(mark) ||
				try > 0 && x.Flags&WildRecv == 0 || coa.IsValid() && x.CoA != coa && !x.CoA.IsUnspecified() {
				continue
			}
			return x
		}
	}
	return nil
}

// Template says which states a policy wants, the addresses being those of the packet where its own are not
// given.
type Template struct {
	DAddr, SAddr netip.Addr
	Proto        proto.Proto
	SPI          uint32 // 0 = any
	Mode         proto.Mode
	ReqID        uint32 // exactly this one, as on Linux: a template without does not take the states of others
	IfID         uint32
}

func (s *State) fits(t *Template, saddr netip.Addr, mark uint32) bool {
	return s.DAddr == t.DAddr && s.SAddr == saddr && s.Proto == t.Proto && s.Mode == t.Mode && s.ReqID == t.ReqID &&
		s.IfID == t.IfID && (t.SPI == 0 || s.SPI == t.SPI) && s.Mark.matches(mark)
}

// ForTemplate returns the state for a flow to be sent: a valid one whose selector takes the flow, one that
// is not dying rather than another, then the newest; states for any source only if there is no other. If
// there is none, acquiring says that one is waited for.
func (sn *Snapshot) ForTemplate(t *Template, f *selector.Flow) (s *State, acquiring bool) {
	saddr := t.SAddr
	for range 2 {
		var old *State
		for x := range sn.byTemplate.get(sn.templateHash(t.DAddr, saddr, t.ReqID)).newest {
			switch {
			case !x.fits(t, saddr, f.Mark) || x.Flags&WildRecv != 0:
			case x.KM == Acq:
				acquiring = true
			case x.Live.Dead() || !x.Accepts(f):
			case !x.Live.Dying():
				return x, false
			case old == nil:
				old = x
			}
		}
		if old != nil || acquiring || saddr.IsUnspecified() {
			return old, old == nil && acquiring
		}
		saddr = netip.IPv6Unspecified()
	}
	return nil, false
}

// Accepts reports whether the selector of a state takes a flow (RFC 4301 5.2 step 4).
func (s *State) Accepts(f *selector.Flow) bool { return s.takesAll && !f.IPv4 || s.compiled.Matches(f) }
