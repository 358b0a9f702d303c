package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// The queue to netstack is bounded in packets and in octets: superpackets are few and large.
const (
	inQueuePackets = 4096
	inQueueOctets  = 32 << 20
)

// inbound is one thing for netstack: a packet for the NIC of port, an ICMPv6 error about a TCP
// segment, or a datagram nobody wants.
type inbound struct {
	port *hostPort
	pb   *stack.PacketBuffer

	err *transportError
	id  stack.TransportEndpointID

	refused *packet.Packet
	answer  module.ICMPError
}

func (i *inbound) size() int {
	switch {
	case i.pb != nil:
		return i.pb.Size()
	case i.refused != nil:
		return i.refused.Len()
	}
	return 0
}

// inQueue is between the workers and the one goroutine that calls netstack. Nothing is ever
// handed to netstack on a goroutine that may be inside its WritePackets: TCP takes an endpoint's
// lock for an error, and holds it while it sends.
type inQueue struct {
	mu     sync.Mutex
	items  []inbound
	spare  []inbound
	octets int
	ended  bool
	ready  chan struct{} // holds a token while there are items, or the end
}

func (q *inQueue) init() { q.ready = make(chan struct{}, 1) }

// push queues i; false when the queue is full or closed.
func (q *inQueue) push(i inbound) bool {
	n := i.size()
	q.mu.Lock()
	if q.ended || len(q.items) >= inQueuePackets || q.octets+n > inQueueOctets {
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, i)
	q.octets += n
	q.mu.Unlock()
	q.wake()
	return true
}

func (q *inQueue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take returns what has been queued; more is false at the end.
func (q *inQueue) take() (items []inbound, more bool) {
	<-q.ready
	q.mu.Lock()
	defer q.mu.Unlock()
	items = q.items
	q.items, q.spare, q.octets = q.spare[:0], nil, 0
	return items, !q.ended
}

// give returns the slice of take for another turn.
func (q *inQueue) give(items []inbound) {
	clear(items)
	q.mu.Lock()
	q.spare = items
	q.mu.Unlock()
}

func (q *inQueue) close() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.wake()
}

// receive is the goroutine that hands what is queued to netstack.
func (h *Host) receive() {
	defer h.running.Done()
	for {
		items, more := h.in.take()
		for i := range items {
			h.accept(&items[i], more)
		}
		h.in.give(items)
		if !more {
			return
		}
	}
}

// accept hands over one item; with deliver false it only lets it go.
func (h *Host) accept(i *inbound, deliver bool) {
	switch {
	case i.pb != nil:
		if d := i.port.disp.Load(); deliver && d != nil {
			(*d).DeliverNetworkPacket(header.IPv6ProtocolNumber, i.pb)
		}
		i.pb.DecRef()
	case i.err != nil:
		if deliver {
			h.tellTCP(i)
		}
	case i.refused != nil:
		if deliver {
			h.opts.SendError(i.refused, i.answer)
		}
	}
}
