// Package link is the border between the packet path and the outside: a [Port] is one attachment,
// and each kind (tun, tap, af_packet, fd, pipe, dummy, ipsec, tunnel) has a folder or file of its own.
//
// A port knows nothing of IPv6. It hands over frames with their link header (Ethernet kinds) or
// packets (the others), with the segmentation state that came in the virtio-net header, and takes
// the same back. What a port cannot take whole is split before it gets there ([Caps]).
package link

import "leveret/appliance/packet"

// Caps is what a port can do.
type Caps struct {
	// Ethernet: frames begin with an Ethernet header.
	Ethernet bool
	// Checksum: takes packets whose transport checksum is not complete (packet.CsumPartial).
	Checksum bool
	// TSO and USO: takes TCP and UDP superpackets.
	TSO, USO bool
	// Queues is the number of receive queues, at least one.
	Queues int
	// MaxFrame is the longest frame Rx can return, link header included.
	MaxFrame int
}

// State is what changes about a port while it is open.
type State struct {
	Carrier bool // the other side is there and up
	MTU     int  // of the network layer: octets behind the link header
}

// Port is one attachment to the outside.
type Port interface {
	// Kind is the configuration's word.
	Kind() string
	// HostDevice is the name of the host's device, "" where there is none.
	HostDevice() string
	Caps() Caps
	// MAC is the port's own link-layer address (Ethernet kinds).
	MAC() [6]byte
	// State returns the current state; Watch sets the function that is called after each change,
	// from a goroutine of the port's. Set it once.
	State() State
	Watch(func(State))
	// SetMTU changes the MTU of a device that this port made; a device it adopted is left alone
	// and the port refuses what is larger than the device's.
	SetMTU(mtu int) error
	// Rx returns receive queue i. One goroutine may use a queue at a time.
	Rx(i int) RxQueue
	// NewTx returns a sender. Each worker makes its own: senders share no scratch memory.
	NewTx() TxQueue
	// Close puts everything back as it was found. Receivers that wait return.
	Close() error
}

// RxQueue is one receive queue.
type RxQueue interface {
	// Rx reads up to len(ps) frames into the empty packets ps, without waiting, and returns how
	// many. It sets each packet's length and GSO state, nothing else. An error means the queue
	// will never give a frame again.
	Rx(ps []*packet.Packet) (int, error)
	// Wait returns when there may be something to read or after Wake. It returns false once
	// the port is closed.
	Wait() bool
	// Wake makes the current or the next Wait return. Any goroutine.
	Wake()
}

// TxQueue sends.
type TxQueue interface {
	// Tx sends every frame of ps and returns how many went out; the rest were refused by the
	// device (queue full, down, too long) and are not tried again. The buffers stay the
	// caller's and may be used again at once; Tx may use their headroom.
	Tx(ps []*packet.Packet) int
}
