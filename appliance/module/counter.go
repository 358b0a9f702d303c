package module

import "sync/atomic"

// Counter is one 64-bit counter that any goroutine may add to; it never goes back. It is for control planes: the packet path has its own, one set a worker.
type Counter struct{ v atomic.Uint64 }

// Add adds n.
func (c *Counter) Add(n uint64) { c.v.Add(n) }

// Inc adds one.
func (c *Counter) Inc() { c.v.Add(1) }

// Value returns the count.
func (c *Counter) Value() uint64 { return c.v.Load() }
