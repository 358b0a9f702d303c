package sad

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"leveret/extensions/xfrm/words"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
)

// Spec is a state as it is configured, in iproute2's words: what a command adds, and the first part of what is shown.
type Spec struct {
	Src          netip.Addr  `json:"src,omitzero"`
	Dst          netip.Addr  `json:"dst,omitzero"`
	Proto        proto.Proto `json:"proto"`
	SPI          uint32      `json:"spi"`
	ReqID        uint32      `json:"reqid"`
	Mode         proto.Mode  `json:"mode"`
	SrcSelective bool        `json:"src_selective,omitempty"`
	ReplayWindow uint32      `json:"replay_window"`
	ReplaySeq    uint64      `json:"replay_seq,omitempty"` // where an SA goes on elsewhere
	ReplayOSeq   uint64      `json:"replay_oseq,omitempty"`
	Seq          uint32      `json:"seq,omitempty"`
	Flags        Flags       `json:"flags"`
	ExtraFlags   ExtraFlags  `json:"extra_flags"`
	Mark         *Mark       `json:"mark,omitempty"`
	OutputMark   *Mark       `json:"output_mark,omitempty"`
	IfID         uint32      `json:"if_id,omitempty"`
	Auth         *AlgoSpec   `json:"auth,omitempty"`
	AEAD         *AlgoSpec   `json:"aead,omitempty"`
	Enc          *AlgoSpec   `json:"enc,omitempty"`
	Comp         string      `json:"comp,omitempty"`
	Encap        *Encap      `json:"encap,omitempty"`
	CoA          *netip.Addr `json:"coa,omitempty"`
	TFCPad       uint32      `json:"tfcpad,omitempty"`
	Sel          string      `json:"sel,omitempty"` // absent if it takes all of both families
	Lifetime     Lifetime    `json:"lifetime,omitzero"`
}

// AlgoSpec is an algorithm. Key is absent if it is not to be seen.
type AlgoSpec struct {
	Name string  `json:"name"`
	Key  *string `json:"key,omitempty"` // hexadecimal
	Bits int     `json:"icv_bits,omitempty"`
}

// Spec is how a state is configured.
func (v View) Spec(s *State) Spec {
	out := Spec{
		Src: s.SAddr, Dst: s.DAddr, Proto: s.Proto, SPI: s.SPI, ReqID: s.ReqID, Mode: s.Mode, SrcSelective: s.SrcSelective, ReplayWindow: s.ReplayWindow,
		ReplaySeq: s.ReplaySeq, ReplayOSeq: s.ReplayOSeq, Seq: s.Seq, Flags: s.Flags, ExtraFlags: s.Extra,
		Mark: optional(s.Mark), OutputMark: optional(s.OutputMark), Encap: optional(s.Encap), CoA: optional(s.CoA), IfID: s.IfID, TFCPad: s.TFCPad,
		Auth: v.algo(&s.Auth), AEAD: v.algo(&s.AEAD), Enc: v.algo(&s.Enc), Comp: s.Comp, Lifetime: s.Life,
	}
	if s.Flags&AFUnspec == 0 || s.Sel != (selector.Selector{}) {
		out.Sel = s.Sel.Text(v.Link)
	}
	return out
}

func (v View) algo(a *Algo) *AlgoSpec {
	if a.Name == "" {
		return nil
	}
	out := &AlgoSpec{Name: a.Name, Bits: a.Bits}
	if v.Keys {
		key := hex.EncodeToString(a.Key.Reveal())
		out.Key = &key
	}
	return out
}

// Make makes a spec a state that [DB.Add] takes. link gives the number of a link's name.
func (c *Spec) Make(link func(string) (int, bool)) (*State, error) {
	s := &State{
		ID: ID{c.Dst, c.SPI, c.Proto}, SAddr: c.Src, SrcSelective: c.SrcSelective, Mode: c.Mode, ReqID: c.ReqID, Seq: c.Seq,
		Mark: value(c.Mark), OutputMark: value(c.OutputMark), IfID: c.IfID, CoA: value(c.CoA), Flags: c.Flags, Extra: c.ExtraFlags,
		Comp: c.Comp, Encap: value(c.Encap), TFCPad: c.TFCPad, ReplayWindow: c.ReplayWindow, ReplaySeq: c.ReplaySeq, ReplayOSeq: c.ReplayOSeq, Life: c.Lifetime,
	}
	for _, a := range []struct {
		from *AlgoSpec
		into *Algo
	}{{c.AEAD, &s.AEAD}, {c.Enc, &s.Enc}, {c.Auth, &s.Auth}} {
		if a.from == nil {
			continue
		}
		*a.into = Algo{Name: a.from.Name, Bits: a.from.Bits}
		if a.from.Key == nil {
			continue
		}
		b, err := hex.DecodeString(*a.from.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: a key is an even number of hexadecimal digits", ErrInvalid) // the decoder's error shows one
		}
		a.into.Key = NewSecret(b)
	}
	var err error
	s.Sel, err = parseSel(c.Sel, link)
	return s, words.Said(err)
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
