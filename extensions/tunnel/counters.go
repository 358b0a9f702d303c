package tunnel

import "leveret/appliance/module"

// counters are what is counted beside drops.
type counters struct {
	relayed *module.Counter // errors about tunnel packets of which the source of the original was told
	unused  *module.Counter // combinations of ECN fields that no entry-point makes (RFC 6040 4.2)
}

func (c *counters) init(h module.Host) {
	c.relayed, c.unused = h.Counter("errors_relayed"), h.Counter("ecn_unused_combinations")
}
