// Package ipsec is a link whose other side is reached through SAs: what is routed to it never gets to its port, and
// nothing is received from it, as the packet path does both (appliance/datapath/ipseclink.go).
package ipsec

import (
	"leveret/appliance/link"
	"leveret/appliance/link/dummy"
	"leveret/appliance/packet"
)

// Port implements [link.Port].
type Port struct{ *dummy.Port }

// New returns the port of a link with that MTU.
func New(mtu int) Port { return Port{dummy.New(mtu)} }

// Kind implements [link.Port].
func (Port) Kind() string { return "ipsec" }

// Caps implements [link.Port]: SAs take packets as they are on the wire.
func (Port) Caps() link.Caps { return link.Caps{Queues: 1, MaxFrame: 1280} }

// NewTx implements [link.Port].
func (Port) NewTx() link.TxQueue { return tx{} }

type tx struct{}

// Tx implements [link.TxQueue]: nothing leaves in the clear.
func (tx) Tx([]*packet.Packet) int { return 0 }
