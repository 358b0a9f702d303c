package ndwire

import (
	"slices"

	"leveret/appliance/wire"
)

// raLen is an RA without options (RFC 4861 4.2).
const raLen = wire.IPv6HeaderLen + 16

// Split returns the advertisements that say all that m says, none longer than mtu octets: a message
// too long for the link cannot be fragmented (RFC 6980), but its options can be spread (RFC 4861
// 6.2.3). An option longer than mtu gets a message of its own all the same.
func (m RA) Split(mtu int) []RA {
	if raLen+len(m.appendOptions(nil)) <= mtu {
		return []RA{m}
	}
	base := m
	base.Prefixes, base.Routes, base.RDNSS, base.DNSSL, base.PREF64, base.CaptivePortal = nil, nil, nil, nil, nil, ""
	prefixes := slices.Clone(m.Prefixes)
	// RFC 6275 7.2: one prefix with the router's address, always the same, in each of them.
	if i := slices.IndexFunc(prefixes, func(p PrefixInfo) bool { return p.RouterAddr }); i >= 0 {
		base.Prefixes = []PrefixInfo{prefixes[i]}
		prefixes = slices.Delete(prefixes, i, i+1)
	}
	out, fresh := []RA{base}, true
	add := func(put func(*RA)) {
		next := out[len(out)-1]
		put(&next)
		if raLen+len(next.appendOptions(nil)) > mtu && !fresh {
			next = base
			put(&next)
			out = append(out, next)
			return
		}
		out[len(out)-1], fresh = next, false
	}
	for _, p := range prefixes {
		add(func(r *RA) { r.Prefixes = append(slices.Clip(r.Prefixes), p) })
	}
	for _, x := range m.Routes {
		add(func(r *RA) { r.Routes = append(slices.Clip(r.Routes), x) })
	}
	for _, x := range m.RDNSS {
		add(func(r *RA) { r.RDNSS = append(slices.Clip(r.RDNSS), x) })
	}
	for _, x := range m.DNSSL {
		add(func(r *RA) { r.DNSSL = append(slices.Clip(r.DNSSL), x) })
	}
	for _, x := range m.PREF64 {
		add(func(r *RA) { r.PREF64 = append(slices.Clip(r.PREF64), x) })
	}
	if m.CaptivePortal != "" {
		add(func(r *RA) { r.CaptivePortal = m.CaptivePortal })
	}
	return out
}
