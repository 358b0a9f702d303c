package sad

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"leveret/appliance/clock"
	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// What the database refuses, in the words of the kernel. What more there is to say follows them.
var (
	ErrInvalid   = errors.New("Invalid argument")                         // EINVAL
	ErrExist     = errors.New("File exists")                              // EEXIST
	ErrNotFound  = errors.New("No such process")                          // ESRCH
	ErrNoSPI     = errors.New("No such file or directory")                // ENOENT
	ErrFull      = errors.New("No buffer space available")                // ENOBUFS
	ErrFamily    = errors.New("Address family not supported by protocol") // EAFNOSUPPORT
	ErrInTrigger = errors.New("Unsupported mode.")
)

// MaxReplayWindow is the largest replay window, in packets (XFRMA_REPLAY_ESN_MAX).
const MaxReplayWindow = 4096

// ID is what a packet names a state by.
type ID struct {
	DAddr netip.Addr
	SPI   uint32 // 0 for protocols without
	Proto proto.Proto
}

// Mark is a value of some bits; the zero Mark matches everything.
type Mark proto.Mark

func (m Mark) matches(v uint32) bool { return proto.Mark(m).Matches(v) }

// Lifetime is when a state ends.
type Lifetime = proto.Lifetime

// Encap is UDP around ESP (RFC 3948). The zero Encap is none.
type Encap struct {
	Type  EncapType  `json:"type"`
	SPort uint16     `json:"sport"`
	DPort uint16     `json:"dport"`
	OAddr netip.Addr `json:"addr"` // the original address, before a NAT changed it
}

// State is one entry of the database. Who makes one fills in what is exported here; the database copies it.
// KM and Live are the database's. What is in it is not changed any more and may be read by any goroutine.
type State struct {
	ID
	SAddr netip.Addr // :: = any
	// SrcSelective: inbound packets are of this SA only if they come from SAddr (RFC 4301 4.1: SAs of
	// source-specific multicast). The source is then part of the key.
	SrcSelective bool

	// What a packet looks at is together, in as few lines of memory as it goes.
	Mode       proto.Mode
	ReqID      uint32 // which template it is for
	Mark       Mark   // of packets it is for
	OutputMark Mark   // what the bits under the mask become
	IfID       uint32
	TFCPad     uint32 // up to how many octets payloads are padded
	Flags      Flags
	Extra      ExtraFlags
	KM         KM
	takesAll   bool // Sel has nothing to say
	Live       *Live
	Encap      Encap
	Life       Lifetime

	Sel                   selector.Selector // what it takes, of what is inside
	Seq                   uint32            // of the ACQUIRE that it answers; 0 = none
	CoA                   netip.Addr        // ro mode: the care-of address, :: = any
	AEAD                  Algo              // or
	Enc, Auth             Algo
	Comp                  string
	ReplayWindow          uint32 // packets; 0 = no check
	ReplaySeq, ReplayOSeq uint64 // the last numbers received and sent, where an SA goes on elsewhere

	ord      uint64 // in the indexes
	compiled selector.Compiled
}

// Check says what is wrong with a state, in the order of the kernel, and fills in lengths of ICVs that
// were not given. Algorithms that RFC 8221 has for MUST NOT are taken with legacy.
func (s *State) Check(legacy bool) error {
	switch {
	case !s.DAddr.IsValid() || !s.SAddr.IsValid():
		return fmt.Errorf("%w: src and dst are required", ErrInvalid)
	case !v6(s.DAddr) || !v6(s.SAddr):
		return fmt.Errorf("%w: states have IPv6 addresses", ErrFamily)
	case s.Proto.HasSPI() && s.DAddr.IsUnspecified():
		return fmt.Errorf("%w: dst :: has no SAs", ErrInvalid)
	case (s.Proto == proto.ESP || s.Proto == proto.AH) && s.SPI < 256:
		// DEVIATION(Linux): it takes any. RFC 4303 2.1: 0 is for local use, IANA has 1 to 255.
		return fmt.Errorf("%w: spi 0 to 255 are reserved (RFC 4303 2.1)", ErrInvalid)
	case s.ReplayWindow > MaxReplayWindow:
		return fmt.Errorf("%w: replay-window %d is above %d", ErrInvalid, s.ReplayWindow, MaxReplayWindow)
	case s.Mark.Value&^s.Mark.Mask != 0:
		return fmt.Errorf("%w: mark %#x has bits outside its mask %#x", ErrInvalid, s.Mark.Value, s.Mark.Mask)
	}
	if err := s.checkMode(); err != nil {
		return err
	}
	if err := s.checkAlgorithms(legacy); err != nil {
		return err
	}
	if err := s.Sel.Valid(); err != nil {
		return fmt.Errorf("%w: sel: %w", ErrInvalid, err)
	}
	return s.checkFeatures()
}

func v6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }

func (s *State) checkMode() error {
	ok := s.Mode == proto.Transport || s.Mode == proto.Tunnel
	switch s.Proto {
	case proto.ESP:
		ok = ok || s.Mode == proto.BEET
	case proto.AH, proto.Comp:
	case proto.HAO, proto.Route2:
		if s.SPI != 0 {
			return fmt.Errorf("%w: %s has no spi", ErrInvalid, s.Proto)
		}
		if s.Mode == proto.InTrigger {
			return ErrInTrigger // it is a mode of templates
		}
		ok = s.Mode == proto.RO
	default:
		return fmt.Errorf("%w: protocol %d has no states", ErrInvalid, s.Proto)
	}
	if !ok {
		return fmt.Errorf("%w: mode %s with proto %s", ErrInvalid, s.Mode, s.Proto)
	}
	return nil
}

func (s *State) checkFeatures() error {
	ipsec := s.Proto == proto.ESP || s.Proto == proto.AH
	switch {
	case s.Proto.HasSPI() && s.CoA.IsValid():
		return fmt.Errorf("%w: coa with proto %s", ErrInvalid, s.Proto)
	case !s.Proto.HasSPI() && (!s.CoA.IsValid() || !v6(s.CoA)):
		return fmt.Errorf("%w: %s needs a coa", ErrInvalid, s.Proto)
	case s.SrcSelective && (!ipsec || s.SAddr.IsUnspecified()):
		return fmt.Errorf("%w: src_selective is for esp and ah with a src", ErrInvalid)
	case s.Encap.Type != 0 && s.Proto == proto.AH:
		return errors.New("AH is not compatible with encapsulation.")
	case s.Encap.Type != 0 && (s.Proto != proto.ESP || s.Encap.Type != ESPInUDP && s.Encap.Type != ESPInUDPNonIKE):
		return errors.New("Unsupported encapsulation type for ESP.")
	case s.TFCPad != 0 && (s.Mode != proto.Tunnel || s.Proto != proto.ESP):
		return errors.New("TFC padding can only be used in tunnel mode.")
	case s.Flags&ESN != 0 && (!ipsec || s.ReplayWindow == 0):
		return fmt.Errorf("%w: esn is for esp and ah with a replay-window", ErrInvalid)
	case s.Flags&ESN == 0 && (s.ReplaySeq > 1<<32-1 || s.ReplayOSeq > 1<<32-1):
		return fmt.Errorf("%w: sequence numbers have 32 bits without esn", ErrInvalid)
	case !ipsec && (s.ReplayWindow != 0 || s.ReplaySeq != 0 || s.ReplayOSeq != 0):
		return fmt.Errorf("%w: %s has no sequence numbers", ErrInvalid, s.Proto)
	case s.Sel.Family() == selector.IPv4 && s.Mode != proto.Tunnel && s.Mode != proto.BEET:
		return errors.New("Only tunnel modes can accommodate a change of family.")
	}
	return nil
}

// Compiled is the selector as packets are compared with it; what neither a prefix nor af-unspec says otherwise of is
// for IPv6. Of states that are in a database.
func (s *State) Compiled() *selector.Compiled { return &s.compiled }

// Restricts is Compiled, or nil if that takes all of IPv6, which costs a packet less to ask.
func (s *State) Restricts() *selector.Compiled {
	if s.takesAll {
		return nil
	}
	return &s.compiled
}

func (s *State) compile() {
	sel := s.Sel
	if s.Flags&AFUnspec == 0 {
		sel = sel.Normal()
	}
	s.compiled = sel.Compile()
	c := &s.compiled
	s.takesAll = c.Family != selector.IPv4 && c.Src == (selector.Mask{}) && c.Dst == (selector.Mask{}) &&
		sel.Proto == 0 && sel.SPortMask|sel.DPortMask == 0 && !sel.Opaque && sel.Link == 0
}

// Equal reports whether two states say the same, whatever has become of either. Owner only.
func (s *State) Equal(o *State) bool {
	return s.AEAD.Equal(o.AEAD) && s.Enc.Equal(o.Enc) && s.Auth.Equal(o.Auth) && s.plain() == o.plain()
}

// plain is s without what is compared by other means.
func (s *State) plain() State {
	p := *s
	p.AEAD, p.Enc, p.Auth, p.Live, p.ord, p.compiled, p.takesAll = Algo{}, Algo{}, Algo{}, nil, 0, selector.Compiled{}, false
	return p
}

// seconds after at; never if that is beyond what an instant holds.
func seconds(at clock.Instant, n uint64) clock.Instant {
	if n > uint64(clock.Never)/uint64(time.Second) {
		return clock.Never
	}
	return at.Add(time.Duration(n) * time.Second)
}
