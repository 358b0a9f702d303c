// Package dummy is a link to nowhere: what is sent is swallowed, nothing is received. It holds
// addresses that belong to no link.
package dummy

import (
	"sync"

	"leveret/appliance/link"
	"leveret/appliance/packet"
)

// Port implements [link.Port].
type Port struct {
	mu     sync.Mutex
	mtu    int
	closed bool
	wake   chan struct{}
}

// New returns a dummy with that MTU.
func New(mtu int) *Port { return &Port{mtu: mtu, wake: make(chan struct{}, 1)} }

// Kind implements [link.Port].
func (p *Port) Kind() string { return "dummy" }

// HostDevice implements [link.Port].
func (p *Port) HostDevice() string { return "" }

// Caps implements [link.Port]: what is swallowed can be swallowed whole.
func (p *Port) Caps() link.Caps {
	return link.Caps{Checksum: true, TSO: true, USO: true, Queues: 1, MaxFrame: 1280}
}

// MAC implements [link.Port].
func (p *Port) MAC() [6]byte { return [6]byte{} }

// State implements [link.Port].
func (p *Port) State() link.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return link.State{Carrier: true, MTU: p.mtu}
}

// Watch implements [link.Port]: nothing ever happens.
func (p *Port) Watch(func(link.State)) {}

// SetMTU implements [link.Port].
func (p *Port) SetMTU(mtu int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mtu = mtu
	return nil
}

// Rx implements [link.Port].
func (p *Port) Rx(int) link.RxQueue { return (*rx)(p) }

// NewTx implements [link.Port].
func (p *Port) NewTx() link.TxQueue { return tx{} }

// Close implements [link.Port].
func (p *Port) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	(*rx)(p).Wake()
	return nil
}

type rx Port

// Rx implements [link.RxQueue].
func (r *rx) Rx([]*packet.Packet) (int, error) { return 0, nil }

// Wait implements [link.RxQueue].
func (r *rx) Wait() bool {
	<-r.wake
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed
}

// Wake implements [link.RxQueue].
func (r *rx) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

type tx struct{}

// Tx implements [link.TxQueue].
func (tx) Tx(ps []*packet.Packet) int { return len(ps) }
