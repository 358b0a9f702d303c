// Package tunnel is a link whose other side is reached by packets of this node: what is sent on it never gets to its
// port, and nothing is received from it, as the packet path does both (appliance/datapath/tunnel.go).
package tunnel

import (
	"leveret/appliance/link"
	"leveret/appliance/link/dummy"
	"leveret/appliance/packet"
)

// Port implements [link.Port]. Its carrier and MTU are for the module to say that makes the links of its kind.
type Port struct {
	*dummy.Port
	kind string
}

// New returns the port of a link of a kind.
func New(kind string, mtu int) Port { return Port{dummy.New(mtu), kind} }

// Kind implements [link.Port].
func (p Port) Kind() string { return p.kind }

// Caps implements [link.Port]: packets are put into others as they would be on a wire.
func (Port) Caps() link.Caps { return link.Caps{Queues: 1, MaxFrame: 1280} }

// NewTx implements [link.Port].
func (Port) NewTx() link.TxQueue { return tx{} }

type tx struct{}

// Tx implements [link.TxQueue]: nothing leaves as it is.
func (tx) Tx([]*packet.Packet) int { return 0 }
