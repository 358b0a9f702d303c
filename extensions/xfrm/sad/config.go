package sad

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"leveret/extensions/xfrm/words"

	"leveret/extensions/xfrm/algo"
	"leveret/extensions/xfrm/proto"
)

// StateConfig is one item of ipsec.states.
type StateConfig struct {
	Src          netip.Addr   `mapstructure:"src"`
	Dst          netip.Addr   `mapstructure:"dst"`
	Proto        string       `mapstructure:"proto"`
	SPI          uint32       `mapstructure:"spi"`
	ReqID        uint32       `mapstructure:"reqid"`
	Mode         string       `mapstructure:"mode"`
	AEAD         *AlgoConfig  `mapstructure:"aead"`
	Enc          *AlgoConfig  `mapstructure:"enc"`
	Auth         *AlgoConfig  `mapstructure:"auth"`
	ReplayWindow *uint32      `mapstructure:"replay_window"`
	ESN          *bool        `mapstructure:"esn"`
	SrcSelective bool         `mapstructure:"src_selective"`
	Lifetime     Lifetime     `mapstructure:"lifetime"`
	CoA          netip.Addr   `mapstructure:"coa"`
	Flags        []string     `mapstructure:"flags"` // iproute2's flags and extra flags, but for esn
	Mark         string       `mapstructure:"mark"`  // VALUE or VALUE/MASK
	OutputMark   string       `mapstructure:"output_mark"`
	IfID         uint32       `mapstructure:"if_id"`
	TFCPad       uint32       `mapstructure:"tfcpad"`
	Encap        *EncapConfig `mapstructure:"encap"`
	Sel          string       `mapstructure:"sel"` // iproute2's SELECTOR
}

// AlgoConfig is an algorithm with its key, inline for labs, or in a file: as ip xfrm takes it, 0x and
// digits, or the octets themselves.
type AlgoConfig struct {
	Name      string `mapstructure:"name"`
	Key       string `mapstructure:"key"`
	KeyFile   string `mapstructure:"key_file"`
	ICVBits   int    `mapstructure:"icv_bits"`   // of aead
	TruncBits int    `mapstructure:"trunc_bits"` // of auth
}

// EncapConfig is UDP around ESP.
type EncapConfig struct {
	Type  string     `mapstructure:"type"`
	SPort uint16     `mapstructure:"sport"`
	DPort uint16     `mapstructure:"dport"`
	OAddr netip.Addr `mapstructure:"oaddr"`
}

// Defaults is ipsec.defaults, for states of ESP and AH that do not say otherwise.
type Defaults struct {
	ReplayWindow uint32 `mapstructure:"replay_window"`
	ESN          bool   `mapstructure:"esn"`

	AllowLegacy bool `mapstructure:"-"` // ipsec.allow_legacy, see [State.Check]
}

// Fault is what is wrong with the value of a key of an item; Key is empty if it is of none in particular.
type Fault struct{ Key, Text string }

// Error implements error.
func (f *Fault) Error() string { return f.Key + ": " + f.Text }

func fault(key, format string, a ...any) *Fault { return &Fault{key, fmt.Sprintf(format, a...)} }

// State makes the item a state that [DB.Add] takes. read reads the file of a key, link gives the number of
// a link's name.
func (c *StateConfig) State(d Defaults, read func(string) ([]byte, error), link func(string) (int, bool)) (*State, *Fault) {
	s := &State{
		ID: ID{DAddr: c.Dst, SPI: c.SPI}, SAddr: c.Src, SrcSelective: c.SrcSelective, ReqID: c.ReqID, IfID: c.IfID, CoA: c.CoA, TFCPad: c.TFCPad, Life: c.Lifetime,
	}
	if !v6(c.Src) {
		return nil, fault("src", "an IPv6 address is required")
	}
	if !v6(c.Dst) {
		return nil, fault("dst", "an IPv6 address is required")
	}
	var ok bool
	if s.Proto, ok = proto.Parse(c.Proto); !ok {
		return nil, fault("proto", "%q: want esp, ah, hao or route2", c.Proto)
	}
	if c.Mode != "" {
		if s.Mode, ok = proto.ParseMode(c.Mode); !ok {
			return nil, fault("mode", "%q: want transport, tunnel, beet or ro", c.Mode)
		}
	}
	for _, step := range []func(*State) *Fault{
		c.flags, c.marks, c.encap,
		func(s *State) *Fault { return c.replay(s, d) },
		func(s *State) *Fault { return c.algos(s, d, read) },
		func(s *State) *Fault { return c.selector(s, link) },
	} {
		if f := step(s); f != nil {
			return nil, f
		}
	}
	if err := s.Check(d.AllowLegacy); err != nil {
		return nil, &Fault{"", err.Error()}
	}
	return s, nil
}

func (c *StateConfig) flags(s *State) *Fault {
	for _, w := range c.Flags {
		f, x := parseBit(flagWords, w), parseBit(extraFlagWords, w)
		switch {
		case Flags(f) == ESN:
			return fault("flags", "esn is a key of its own")
		case f == 0 && x == 0:
			return fault("flags", "%q is unknown", w)
		}
		s.Flags |= Flags(f)
		s.Extra |= ExtraFlags(x)
	}
	return nil
}

func (c *StateConfig) marks(s *State) *Fault {
	var ok bool
	if s.Mark, ok = ParseMark(c.Mark); !ok {
		return fault("mark", "%q: want VALUE or VALUE/MASK", c.Mark)
	}
	if s.OutputMark, ok = ParseMark(c.OutputMark); !ok {
		return fault("output_mark", "%q: want VALUE or VALUE/MASK", c.OutputMark)
	}
	return nil
}

// ParseMark reads VALUE or VALUE/MASK, of which all bits count without a mask; "" is the zero Mark.
func ParseMark(text string) (m Mark, ok bool) {
	if text == "" {
		return m, true
	}
	value, mask, masked := strings.Cut(text, "/")
	v, ok := words.Number(value, 32)
	k, okMask := uint64(math.MaxUint32), true
	if masked {
		k, okMask = words.Number(mask, 32)
	}
	return Mark{uint32(v), uint32(k)}, ok && okMask
}

func (c *StateConfig) encap(s *State) *Fault {
	if c.Encap == nil {
		return nil
	}
	e := c.Encap
	t, ok := parseWord(encapWords, e.Type)
	if !ok {
		return fault("encap.type", "%q: want espinudp or espinudp-nonike", e.Type)
	}
	s.Encap = Encap{t, e.SPort, e.DPort, e.OAddr}
	if !e.OAddr.IsValid() {
		s.Encap.OAddr = netip.IPv6Unspecified()
	}
	return nil
}

func (c *StateConfig) replay(s *State, d Defaults) *Fault {
	esn := false
	if s.Proto == proto.ESP || s.Proto == proto.AH {
		s.ReplayWindow, esn = d.ReplayWindow, d.ESN
	}
	if c.ReplayWindow != nil {
		if s.ReplayWindow = *c.ReplayWindow; s.ReplayWindow == 0 {
			esn = false // it needs one
		}
	}
	if c.ESN != nil {
		esn = *c.ESN
	}
	if s.ReplayWindow > MaxReplayWindow {
		return fault("replay_window", "%d is outside 0..%d", s.ReplayWindow, MaxReplayWindow)
	}
	if esn && s.ReplayWindow == 0 {
		return fault("esn", "it needs a replay_window")
	}
	if esn {
		s.Flags |= ESN
	}
	return nil
}

func (c *StateConfig) algos(s *State, d Defaults, read func(string) ([]byte, error)) *Fault {
	if c.AEAD != nil && (c.Enc != nil || c.Auth != nil) {
		return fault("aead", "an SA has either aead, or enc and auth")
	}
	for _, a := range []struct {
		key  string
		c    *AlgoConfig
		into *Algo
		kind algo.Kind
	}{{"aead", c.AEAD, &s.AEAD, algo.AEAD}, {"enc", c.Enc, &s.Enc, algo.Enc}, {"auth", c.Auth, &s.Auth, algo.Auth}} {
		if a.c == nil {
			continue
		}
		f := a.c.algo(a.key, a.into, read)
		if f != nil {
			f.Key = a.key + "." + f.Key
			return f
		}
		if err := a.into.check(a.kind, d.AllowLegacy); err != nil {
			return &Fault{a.key, err.Error()}
		}
	}
	return nil
}

func (a *AlgoConfig) algo(kind string, into *Algo, read func(string) ([]byte, error)) *Fault {
	switch {
	case a.Name == "":
		return fault("name", "it is required, in the words of ip xfrm")
	case a.Key != "" && a.KeyFile != "":
		return fault("key", "there is a key_file too")
	case a.Key == "" && a.KeyFile == "" && a.Name != algo.NullCipher.Name && a.Name != algo.NullCipher.Alias && a.Name != algo.NullDigest.Name:
		return fault("key_file", "a key is required")
	case a.ICVBits != 0 && kind != "aead":
		return fault("icv_bits", "it is of aead")
	case a.TruncBits != 0 && kind != "auth":
		return fault("trunc_bits", "it is of auth")
	}
	*into = Algo{Name: a.Name, Bits: a.ICVBits + a.TruncBits}
	from := "key"
	var err error
	if a.KeyFile == "" {
		into.Key, err = ParseSecret(a.Key)
	} else {
		from = "key_file"
		var b []byte
		if b, err = read(a.KeyFile); err == nil {
			into.Key, err = FileSecret(b)
		}
	}
	if err != nil {
		return fault(from, "%v", err)
	}
	return nil
}

func (c *StateConfig) selector(s *State, link func(string) (int, bool)) *Fault {
	var err error
	if s.Sel, err = parseSel(c.Sel, link); err != nil {
		return &Fault{"sel", err.Error()}
	}
	return nil
}
