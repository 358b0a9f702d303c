package tunnel

import (
	"fmt"

	"leveret/extensions/tunnel/encap"
	"leveret/extensions/tunnel/tunnelapi"
)

// listed makes a tunnel one to be shown.
func (m *Module) listed(t *tunnel) tunnelapi.Tunnel {
	p := &t.params
	j := tunnelapi.Tunnel{
		IfName: t.name, Mode: "ipv6/ipv6", Remote: p.Remote.String(), Local: p.Local.String(), Link: t.conf.Dev, HopLimit: int(p.HopLimit),
		NoLimit: p.EncapLimit == encap.NoLimit, InheritClass: tunnelapi.Flag(p.InheritClass), InheritLabel: p.Label == encap.LabelInherit,
		FlowInfo: fmt.Sprintf("0x%08x", uint32(p.TClass)<<20|p.FlowLabel), CopyDSCP: tunnelapi.Flag(p.CopyDSCP), Compatibility: tunnelapi.Flag(p.NoECN),
	}
	if !j.NoLimit {
		n := p.EncapLimit
		j.EncapLimit = &n
	}
	if !p.InheritClass {
		j.TClass = fmt.Sprintf("0x%02x", p.TClass)
	}
	switch p.Label {
	case encap.LabelHash:
		j.FlowLabel = "hash"
	case encap.LabelFixed:
		j.FlowLabel = fmt.Sprintf("0x%05x", p.FlowLabel)
	}
	if !p.Kind.IsGRE() {
		return j
	}
	j.Mode = "gre/ipv6"
	key := func(k encap.Key) *uint32 {
		if !k.Set {
			return nil
		}
		return &k.Value
	}
	if p.IKey == p.OKey {
		j.Key = key(p.IKey)
	} else {
		j.IKey, j.OKey = key(p.IKey), key(p.OKey)
	}
	for _, x := range []struct {
		on   bool
		word tunnelapi.Word
	}{{p.ISeq, tunnelapi.DropOutOfSequence}, {p.ICsum, tunnelapi.WantChecksum}, {p.OSeq, tunnelapi.Number}, {p.OCsum, tunnelapi.Checksum}} {
		if x.on {
			j.Flags = append(j.Flags, x.word)
		}
	}
	return j
}
