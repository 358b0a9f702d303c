package appliance

import (
	"context"
	"time"

	"leveret/appliance/control/api"
	"leveret/appliance/module"
)

// getCache answers `route show cache`: what was learned about paths (RFC 8201).
func (a *Appliance) getCache(context.Context, module.Request) (any, error) {
	now := a.clock.Now()
	out := []api.CachedRoute{}
	for _, e := range a.path.PathMTU().All(now) {
		left := int64(e.Until.Sub(now) / time.Second)
		out = append(out, api.CachedRoute{
			Dst: e.Dst, Flags: []string{}, Expires: &left, Metrics: []api.CachedMetrics{{MTU: e.MTU}},
		})
	}
	return out, nil
}

// flushCache answers `route flush cache`.
func (a *Appliance) flushCache(context.Context, module.Request) (any, error) {
	return api.Flushed{Flushed: a.path.PathMTU().Flush()}, nil
}
