package netstack

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
)

// TCP buffers grow by themselves between these bounds, in octets.
const (
	tcpBufferMin     = 4 << 10
	tcpBufferDefault = 1 << 20
	tcpBufferMax     = 6 << 20
)

// Options are what a host stack is made of.
type Options struct {
	Clock clock.Clock // nil: the machine's
	Log   *zap.Logger // nil: none
	// Seed makes the identifiers, ephemeral ports and flow labels of datagram sockets and probes.
	// TCP's sequence numbers and ports always come from the system's secure source (RFC 6528).
	Seed uint64
	// Output takes a packet of this node: p becomes the path's. It must not block and must not
	// call back into the host stack. p.Out is set where the sender knows the link (link-local and
	// multicast destinations, sockets bound to a link), p.Mark is the socket's, p.NoFrag forbids
	// fragmentation, and a TCP superpacket has its GSO set. Called by any goroutine.
	Output func(p *packet.Packet)
	// NewPacket returns an empty packet with room for size octets; nil: packet.NewBuffer.
	NewPacket func(size int) *packet.Packet
	// SendError answers a received packet with an ICMPv6 error; it borrows p. It is called by a
	// goroutine of the host stack, for datagrams to a port where nobody listens. nil: no answer.
	SendError func(p *packet.Packet, e module.ICMPError)
	// Router selects sources and answers whether there is a route; nil: the first address in use,
	// and everything is reachable.
	Router module.Router
	// Groups is told of groups joined and left by sockets; may be nil.
	Groups module.GroupMember
	// PathMTU returns the path MTU to dst, or 0 if it is not known to be less than the link's;
	// may be nil.
	PathMTU func(dst netip.Addr) int
	// Progress is told that TCP makes forward progress with a peer, at most once a second for each
	// connection: q asks for the way to the peer. Called by workers; may be nil.
	Progress func(q module.RouteQuery)
}

// Host is the host stack. Its methods may be called by any goroutine, except where they say
// otherwise.
type Host struct {
	opts    Options
	clock   clock.Clock
	log     *zap.Logger
	flowKey uint64
	stack   *stack.Stack
	count   counters

	links atomic.Pointer[module.Links]
	addrs atomic.Pointer[module.Addrs]
	// global is the endpoint of the global NIC.
	global atomic.Pointer[hostEndpoint]
	maxMTU atomic.Int64 // the largest MTU of all links

	mirror mirror
	in     inQueue

	udp udpTable
	raw rawTable
	// probes are the pings and traceroutes under way, by echo identifier.
	probes   probeTable
	progress progress

	// dialing is the source of the connection whose endpoint is inside Connect. One that is not bound,
	// so that its port is chosen for its destination alone, asks for its source there, and does not
	// say who it is: they go one by one.
	dialing struct {
		sync.Mutex
		from netip.Addr
	}

	randMu sync.Mutex
	rand   *rand.Rand

	services services
	closed   atomic.Bool
	running  sync.WaitGroup
}

// New returns a host stack without links and addresses. It must be closed.
func New(o Options) (*Host, error) {
	if o.Clock == nil {
		o.Clock = clock.NewReal()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.NewPacket == nil {
		o.NewPacket = packet.NewBuffer
	}
	if o.Output == nil {
		return nil, fmt.Errorf("no output")
	}
	h := &Host{opts: o, clock: o.Clock, log: o.Log}
	h.rand = rand.New(rand.NewPCG(o.Seed, 0x6c657665726574))
	h.flowKey = h.rand.Uint64()
	h.links.Store(module.NewLinks(nil))
	h.addrs.Store(module.NewAddrs(nil, nil))
	h.maxMTU.Store(defaultMTU)
	h.in.init()
	h.progress.seed = maphash.MakeSeed()
	h.udp.init(h)
	h.services.init(h)
	h.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{h.newIPv6},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		Clock:              stackClock{o.Clock},
		// Traffic from one own address to another takes the packet path like all other.
		HandleLocal: false,
	})
	if err := h.setTCP(); err != nil {
		h.stack.Destroy()
		return nil, err
	}
	if err := h.mirror.init(h); err != nil {
		h.stack.Destroy()
		return nil, err
	}
	h.running.Add(1)
	go h.receive()
	return h, nil
}

// setTCP sets what of TCP and below is not netstack's default.
func (h *Host) setTCP() error {
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	cubic := tcpip.CongestionControlOption("cubic")
	// No RACK: when a whole flight is lost, as by a path MTU that has shrunk, netstack's RACK
	// enters recovery without marking anything lost in the pipe (RFC 6675 4), so that two segments
	// go out at each retransmission timeout. Losses are found by SACK and duplicate ACKs.
	recovery := tcpip.TCPRecovery(0)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &cubic, &recovery,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcpBufferMin, Default: tcpBufferDefault, Max: tcpBufferMax},
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcpBufferMin, Default: tcpBufferDefault, Max: tcpBufferMax},
	} {
		if err := h.stack.SetTransportProtocolOption(header.TCPProtocolNumber, o); err != nil {
			return fmt.Errorf("TCP option %T: %s", o, err)
		}
	}
	ttl := tcpip.DefaultTTLOption(0) // the link's: see send.go
	if err := h.stack.SetNetworkProtocolOption(header.IPv6ProtocolNumber, &ttl); err != nil {
		return fmt.Errorf("default hop limit: %s", err)
	}
	return nil
}

// Close ends every service, socket, probe and connection and returns when nothing runs any more.
// Packets delivered from then on are refused.
func (h *Host) Close() {
	if h.closed.Swap(true) {
		return
	}
	h.services.close()
	h.probes.close()
	h.udp.close()
	h.raw.close()
	h.in.close()
	h.running.Wait()
	h.stack.Destroy()
}

// random returns a random number in [0, n).
func (h *Host) random(n int) int {
	h.randMu.Lock()
	defer h.randMu.Unlock()
	return h.rand.IntN(n)
}
