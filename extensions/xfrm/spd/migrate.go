package spd

import (
	"net/netip"
	"slices"

	"leveret/extensions/xfrm/proto"
)

// Migrated returns what a policy is after migrations: the templates of mode tunnel and beet that one takes have its new
// addresses; of several the first is its. Templates of mode transport have the addresses of packets. If none takes a
// template, the migrations are not this policy's: ErrNoTemplate.
func (p *Policy) Migrated(ms []proto.Migration) (*Policy, error) {
	c := *p
	c.Templates = slices.Clone(p.Templates)
	found := false
	for i := range c.Templates {
		t := &c.Templates[i]
		j := slices.IndexFunc(ms, func(m proto.Migration) bool { return t.migrates(&m) })
		if j < 0 {
			continue
		}
		found = true
		if t.Mode != proto.Transport {
			t.Src, t.Dst = ms[j].NewSrc, ms[j].NewDst
		}
	}
	if !found {
		return nil, ErrNoTemplate
	}
	return &c, c.Check()
}

func (t *Template) migrates(m *proto.Migration) bool {
	if t.Proto != m.Proto || t.Mode != m.Mode || m.ReqID != 0 && t.ReqID != m.ReqID {
		return false
	}
	switch t.Mode {
	case proto.Transport:
		return true
	case proto.Tunnel, proto.BEET:
		return same(t.Src, m.OldSrc) && same(t.Dst, m.OldDst)
	}
	return false
}

func same(a, b netip.Addr) bool { return a == b || wild(a) && wild(b) }

// Replace puts what [Policy.Migrated] has returned of a policy of the database in its place: in the order of packets and
// of the list, with its index, age and use.
func (d *DB) Replace(old, p *Policy) {
	n := d.byIndex[old.Index]
	e := newEntry(d.seed, p, n.seq)
	d.table(p).remove(d, n.entry)
	d.table(p).insert(d, e)
	n.entry = e
	d.changed()
}
