package policyroute

import (
	"leveret/appliance/clock"
	"leveret/appliance/module"
)

// protoRedirect is the protocol that `route get` gives an answer which a redirect has changed.
const protoRedirect = "redirect"

// redirectKey names what a redirect is about: a destination, where its packets go through a router.
type redirectKey struct {
	dst, by [16]byte
	link    int
}

// RedirectsLearned implements [module.RedirectObserver].
func (m *Module) RedirectsLearned(_ clock.Instant, redirects []module.Redirect) {
	var next map[redirectKey][16]byte
	if len(redirects) > 0 {
		next = make(map[redirectKey][16]byte, len(redirects))
	}
	for _, r := range redirects {
		next[redirectKey{r.Dst.As16(), r.By.As16(), r.Link}] = r.Target.As16()
	}
	m.store(func(v *view) { v.redirects = next })
}

// nextHop returns whom a route through a gateway gives the packets to dst: that gateway, or whom it has
// redirected them to (RFC 4861 8.3). The route is one that conforms to its rule as it is: what a router
// says about its neighbors changes neither the choice of the route nor that of the source.
func (v *view) nextHop(h *hop, dst *[16]byte) [16]byte {
	if v.redirects != nil {
		if target, ok := v.redirects[redirectKey{*dst, h.gateway, h.dev}]; ok {
			return target
		}
	}
	return h.gateway
}
