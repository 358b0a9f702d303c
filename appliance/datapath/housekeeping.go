package datapath

import "leveret/appliance/clock"

// Deadline returns when the path's timed work (reassembly timeouts, path MTU ages) is due next, or
// clock.Never. Any goroutine.
func (p *Path) Deadline() clock.Instant {
	return clock.Earliest(p.reasm.deadline(), p.pmtu.deadline())
}

// Tick does the timed work that is due. Any goroutine.
func (p *Path) Tick() {
	w := p.host0
	w.mu.Lock()
	defer w.mu.Unlock()
	w.load()
	p.reasm.expire(w)
	p.pmtu.expire(w.now)
	w.finish()
}

// Reset empties every cache of the path.
func (p *Path) Reset() {
	p.reasm.flush()
	p.pmtu.Flush()
}
