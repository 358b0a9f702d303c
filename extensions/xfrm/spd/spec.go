package spd

import (
	"net/netip"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/selector"
	"leveret/extensions/xfrm/words"
)

// Spec is a policy as it is configured, in iproute2's words: what a command adds, and the first part of what is shown.
type Spec struct {
	Name string `json:"name,omitempty"`
	selector.Spec
	Dir       Dir            `json:"dir"`
	Type      string         `json:"ptype,omitempty"` // main, which is the default, or sub
	Action    Action         `json:"action"`
	Priority  uint32         `json:"priority"`
	Index     uint32         `json:"index,omitempty"` // 0 = any that is free
	Flags     Flags          `json:"flags"`
	Mark      *proto.Mark    `json:"mark,omitempty"`
	IfID      uint32         `json:"if_id,omitempty"`
	Templates []TemplateSpec `json:"tmpl,omitempty"`
	Lifetime  proto.Lifetime `json:"lifetime,omitzero"`
}

// TemplateSpec is a template of a policy.
type TemplateSpec struct {
	Src   netip.Addr  `json:"src,omitzero"` // absent and :: = any
	Dst   netip.Addr  `json:"dst,omitzero"`
	Proto proto.Proto `json:"proto,omitzero"`
	SPI   uint32      `json:"spi,omitempty"`   // 0 = any
	ReqID uint32      `json:"reqid,omitempty"` // 0 = any
	Mode  proto.Mode  `json:"mode"`
	Level Level       `json:"level"`
}

// TypeName is the word for a type of policy.
func TypeName(sub bool) string {
	if sub {
		return "sub"
	}
	return "main"
}

// ParseType reads the word for a type; "" is main.
func ParseType(s string) (sub bool, err error) {
	switch s {
	case "", TypeName(false):
		return false, nil
	case TypeName(true):
		return true, nil
	}
	return false, words.Wrong(s, "PTYPE value is invalid")
}

// Spec is how a policy is configured.
func (v View) Spec(p *Policy) Spec {
	out := Spec{
		Name: p.Name, Spec: p.Selector.Spec(v.Link), Dir: p.Dir, Type: TypeName(p.Sub), Action: p.Action, Priority: p.Priority, Index: p.Index,
		Flags: p.Flags, IfID: p.IfID, Lifetime: p.Lifetime,
	}
	if p.Mark != 0 || p.Mask != 0 {
		out.Mark = &proto.Mark{Value: p.Mark, Mask: p.Mask}
	}
	for i := range p.Templates {
		t := &p.Templates[i]
		out.Templates = append(out.Templates, TemplateSpec{Src: t.Src, Dst: t.Dst, Proto: t.Proto, SPI: t.SPI, ReqID: t.ReqID, Mode: t.Mode, Level: t.Level})
	}
	return out
}

// Make makes a spec a policy that [DB.Add] takes. link gives the number of a link's name.
func (c *Spec) Make(link func(string) (int, bool)) (*Policy, error) {
	p := &Policy{
		Name: c.Name, Dir: c.Dir, Action: c.Action, Priority: c.Priority, Index: c.Index, Flags: c.Flags,
		IfID: c.IfID, Lifetime: c.Lifetime,
	}
	var err error
	if p.Sub, err = ParseType(c.Type); err != nil {
		return nil, err
	}
	if c.Mark != nil {
		p.Mark, p.Mask = c.Mark.Value, c.Mark.Mask
	}
	for _, t := range c.Templates {
		p.Templates = append(p.Templates, Template{Src: t.Src, Dst: t.Dst, Proto: t.Proto, SPI: t.SPI, ReqID: t.ReqID, Mode: t.Mode, Level: t.Level})
	}
	if c.Spec == (selector.Spec{}) {
		return p, nil
	}
	r := words.Reader{Words: c.Spec.Words(), Link: link}
	p.Selector, err = r.Selector()
	return p, words.Said(err)
}
