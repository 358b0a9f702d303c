package tunnel

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"leveret/extensions/tunnel/encap"
)

// Config is what an item of tunnels has beside the keys of every link, and what a command gives. Words and numbers are
// those of "ip -6 tunnel"; numbers need no quotes.
type Config struct {
	Local      netip.Addr `mapstructure:"local" json:"local,omitzero"`
	Remote     netip.Addr `mapstructure:"remote" json:"remote,omitzero"`
	Dev        string     `mapstructure:"dev" json:"dev,omitempty"`                 // the link that tunnel packets take; "" = any
	EncapLimit any        `mapstructure:"encap_limit" json:"encap_limit,omitempty"` // 0..255 or none; default 4
	HopLimit   any        `mapstructure:"hop_limit" json:"hop_limit,omitempty"`     // 1..255; default 64
	TClass     any        `mapstructure:"tclass" json:"tclass,omitempty"`           // 0x00..0xfc or inherit; default 0
	FlowLabel  any        `mapstructure:"flowlabel" json:"flowlabel,omitempty"`     // 0..0xfffff, inherit or hash; default hash
	DSCP       string     `mapstructure:"dscp" json:"dscp,omitempty"`               // inherit: from the tunnel packet, at the exit
	ECN        string     `mapstructure:"ecn" json:"ecn,omitempty"`                 // normal or compatibility (RFC 6040 4.1)
	// Of kinds with GRE: both directions, or the one.
	Key   any   `mapstructure:"key" json:"key,omitempty"`
	IKey  any   `mapstructure:"ikey" json:"ikey,omitempty"`
	OKey  any   `mapstructure:"okey" json:"okey,omitempty"`
	Csum  *bool `mapstructure:"csum" json:"csum,omitempty"`
	ICsum *bool `mapstructure:"icsum" json:"icsum,omitempty"`
	OCsum *bool `mapstructure:"ocsum" json:"ocsum,omitempty"`
	Seq   *bool `mapstructure:"seq" json:"seq,omitempty"`
	ISeq  *bool `mapstructure:"iseq" json:"iseq,omitempty"`
	OSeq  *bool `mapstructure:"oseq" json:"oseq,omitempty"`
}

// fault is what is wrong with a key; Key "" = with all together.
type fault struct{ key, msg, rfc string }

func (f *fault) Error() string {
	s := f.msg
	if f.key != "" {
		s = f.key + ": " + s
	}
	if f.rfc != "" {
		s += " (" + f.rfc + ")"
	}
	return s
}

// params makes them the variables of a tunnel.
func (c *Config) params(kind string, labelKey uint64) (t encap.Params, _ *fault) {
	k, ok := encap.ParseKind(kind)
	if !ok {
		return t, &fault{"kind", fmt.Sprintf("%q is not a kind of tunnel", kind), ""}
	}
	t = encap.Params{Kind: k, Local: c.Local, Remote: c.Remote, HopLimit: encap.DefaultHopLimit, EncapLimit: encap.DefaultEncapLimit, LabelKey: labelKey}
	number := func(key string, v any, least, most uint64) (uint64, *fault) {
		n, err := strconv.ParseUint(fmt.Sprint(v), 0, 64)
		if err != nil || n < least || n > most {
			return 0, &fault{key, fmt.Sprintf("%v is outside %d..%d", v, least, most), ""}
		}
		return n, nil
	}
	for _, f := range []func() *fault{
		func() *fault {
			switch {
			case !c.Local.IsValid():
				return &fault{"local", "missing", "RFC 2473 6.1"}
			case !c.Remote.IsValid():
				return &fault{"remote", "missing", "RFC 2473 6.2"}
			}
			return nil
		},
		func() *fault {
			if c.EncapLimit == nil {
				return nil
			}
			if c.EncapLimit == "none" {
				t.EncapLimit = encap.NoLimit
				return nil
			}
			n, f := number("encap_limit", c.EncapLimit, 0, 255)
			t.EncapLimit = int(n)
			return f
		},
		func() *fault {
			if c.HopLimit == nil {
				return nil
			}
			n, f := number("hop_limit", c.HopLimit, 1, 255)
			if t.HopLimit = uint8(n); f != nil {
				f.rfc = "RFC 2473 6.3"
			}
			return f
		},
		func() *fault {
			if c.TClass == nil || c.TClass == "inherit" {
				t.InheritClass = c.TClass != nil
				return nil
			}
			n, f := number("tclass", c.TClass, 0, 255)
			if t.TClass = uint8(n); f == nil && n&3 != 0 {
				f = &fault{"tclass", fmt.Sprintf("%v: the two lowest bits are ECN's, which follow the original packet", c.TClass), "RFC 6040 4.1"}
			}
			return f
		},
		func() *fault {
			switch c.FlowLabel {
			case nil, "hash":
				return nil
			case "inherit":
				t.Label = encap.LabelInherit
				return nil
			}
			n, f := number("flowlabel", c.FlowLabel, 0, 0xfffff)
			t.Label, t.FlowLabel = encap.LabelFixed, uint32(n)
			return f
		},
		func() *fault {
			t.CopyDSCP = c.DSCP == "inherit"
			if c.DSCP != "" && !t.CopyDSCP {
				return &fault{"dscp", fmt.Sprintf("%q: want inherit, or nothing", c.DSCP), ""}
			}
			t.NoECN = c.ECN == "compatibility"
			if c.ECN != "" && c.ECN != "normal" && !t.NoECN {
				return &fault{"ecn", fmt.Sprintf("%q: want normal or compatibility", c.ECN), "RFC 6040 4.1"}
			}
			return nil
		},
		func() *fault { return c.gre(&t) },
		func() *fault {
			if err := t.Check(); err != nil {
				return &fault{"", err.Error(), ""}
			}
			return nil
		},
	} {
		if f := f(); f != nil {
			return t, f
		}
	}
	return t, nil
}

// gre reads what GRE headers have: what is said of a direction counts before what is said of both.
func (c *Config) gre(t *encap.Params) *fault {
	for _, x := range []struct {
		name      string
		both, one any
		into      *encap.Key
	}{{"ikey", c.Key, c.IKey, &t.IKey}, {"okey", c.Key, c.OKey, &t.OKey}} {
		name, v := x.name, x.one
		if v == nil {
			name, v = "key", x.both
		}
		if v == nil {
			continue
		}
		n, ok := parseKey(fmt.Sprint(v))
		if !ok {
			return &fault{name, fmt.Sprintf("%v: want a number or a dotted quad", v), "RFC 2890 2.1"}
		}
		*x.into = encap.Key{Set: true, Value: n}
	}
	for _, x := range []struct {
		both, one *bool
		into      *bool
	}{{c.Csum, c.ICsum, &t.ICsum}, {c.Csum, c.OCsum, &t.OCsum}, {c.Seq, c.ISeq, &t.ISeq}, {c.Seq, c.OSeq, &t.OSeq}} {
		switch {
		case x.one != nil:
			*x.into = *x.one
		case x.both != nil:
			*x.into = *x.both
		}
	}
	return nil
}

// parseKey reads a key as "ip tunnel" does: a number, or an IPv4 address.
func parseKey(s string) (uint32, bool) {
	if strings.Contains(s, ".") {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() {
			return 0, false
		}
		b := a.As4()
		return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), true
	}
	n, err := strconv.ParseUint(s, 0, 32)
	return uint32(n), err == nil
}
