package xfrmapi

// Policy is a policy to be shown: what JSON has, in iproute2's words.
type Policy struct {
	Name      string     `json:"name,omitempty"`
	Selector  string     `json:"selector"` // as "ip xfrm policy" prints it
	Dir       string     `json:"dir"`
	Type      string     `json:"ptype"`
	Action    string     `json:"action"`
	Priority  uint32     `json:"priority"`
	Index     uint32     `json:"index"`
	Flags     string     `json:"flags,omitempty"`
	Mark      uint32     `json:"mark,omitempty"`
	Mask      uint32     `json:"mask,omitempty"`
	IfID      uint32     `json:"if_id,omitempty"`
	Templates []Template `json:"templates,omitempty"`
}

// Template is a template of a policy.
type Template struct {
	Src   string `json:"src,omitempty"`
	Dst   string `json:"dst,omitempty"`
	Proto string `json:"proto"`
	SPI   uint32 `json:"spi,omitempty"`
	ReqID uint32 `json:"reqid"`
	Mode  string `json:"mode"`
	Level string `json:"level"`
}
