package netstack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

// RawConn is a raw socket: it sees every packet of one protocol that is delivered to this node and
// sends such packets (RFC 3542 3). Extension headers are not part of what it reads. A raw ICMPv6
// socket sees echo replies and errors; echo requests, ND and MLD end in the packet path.
type RawConn struct {
	socket
	// filter has a bit set for each ICMPv6 type to pass (RFC 3542 3.2).
	filter [4]atomic.Uint64
	// checksum is the offset of the checksum to fill in and verify, -1 for none.
	checksum atomic.Int32
}

// rawTable holds the raw sockets. Workers read the snapshot, which is nil as long as there is none.
type rawTable struct {
	mu     sync.Mutex
	conns  atomic.Pointer[[]*RawConn]
	closed bool
}

// ListenRaw makes a raw socket for a protocol. o.Local and o.Link limit what it receives; ports
// mean nothing.
func (h *Host) ListenRaw(proto uint8, o SocketOptions) (*RawConn, error) {
	switch proto {
	case wire.HopByHop, wire.Routing, wire.Fragment, wire.DestOpts, wire.NoNext:
		return nil, opError("listen", "ip6", ErrInvalid) // not upper-layer protocols
	}
	c := &RawConn{}
	c.checksum.Store(-1)
	if proto == wire.ICMPv6 {
		c.checksum.Store(2)
	}
	if err := c.init(h, proto, o); err != nil {
		return nil, opError("listen", "ip6", err)
	}
	for i := range c.filter {
		c.filter[i].Store(^uint64(0))
	}
	t := &h.raw
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, opError("listen", "ip6", net.ErrClosed)
	}
	var next []*RawConn
	if old := t.conns.Load(); old != nil {
		next = slices.Clone(*old)
	}
	next = append(next, c)
	t.conns.Store(&next)
	return c, nil
}

// deliver gives a copy to every raw socket that wants it. Called by workers.
func (t *rawTable) deliver(h *Host, p *packet.Packet, b []byte) {
	conns := t.conns.Load()
	if conns == nil {
		return
	}
	data := b[p.TransOff:]
	checked := false
	for _, c := range *conns {
		if c.proto != p.Proto {
			continue
		}
		if p.Proto == wire.ICMPv6 && (len(data) == 0 || !c.passes(data[0])) {
			continue
		}
		link := p.Zone()
		from := netip.AddrFrom16(*src(b))
		if _, ok := c.wants(from, netip.AddrFrom16(*dst(b)), link); !ok {
			continue
		}
		if !checked && (p.Proto == wire.TCP || p.Proto == wire.UDP) && !checksumOK(p, b, p.Proto) {
			return
		}
		checked = true
		if p.Proto != wire.ICMPv6 && c.checksum.Load() >= 0 && !checksumOK(p, b, p.Proto) {
			h.count.checksum.Inc()
			continue
		}
		h.count.rawIn.Inc()
		c.receive(p, b, data, netip.AddrPortFrom(h.zoned(from, link), 0))
	}
}

// failed reports an ICMPv6 error to the raw sockets of the quoted packet's protocol.
func (t *rawTable) failed(e *ICMPError, q *quote) bool {
	conns := t.conns.Load()
	if conns == nil {
		return false
	}
	found := false
	for _, c := range *conns {
		if c.proto != q.proto || c.local.IsValid() && c.local != netip.AddrFrom16(q.src) {
			continue
		}
		c.socket.failed(e, q.transport)
		found = true
	}
	return found
}

func (t *rawTable) close() {
	t.mu.Lock()
	t.closed = true
	conns := t.conns.Load()
	t.mu.Unlock()
	if conns != nil {
		for _, c := range *conns {
			c.Close()
		}
	}
}

// SetICMPFilter lets only those ICMPv6 types pass (ICMP6_FILTER, RFC 3542 3.2).
func (c *RawConn) SetICMPFilter(pass ...uint8) {
	var f [4]uint64
	for _, t := range pass {
		f[t>>6] |= 1 << (t & 63)
	}
	for i := range f {
		c.filter[i].Store(f[i])
	}
}

func (c *RawConn) passes(typ uint8) bool { return c.filter[typ>>6].Load()>>(typ&63)&1 != 0 }

// ReadMsg waits for a packet and copies what is behind its headers into b. See [UDPConn.ReadMsg].
func (c *RawConn) ReadMsg(b []byte, info *Info) (n int, from netip.Addr, err error) {
	n, ap, err := c.read(b, info)
	return n, ap.Addr(), err
}

// SetChecksum lets the checksum at an offset of the payload be filled in and verified
// (IPV6_CHECKSUM, RFC 3542 3.1); -1 is none. ICMPv6 always has its own, at offset 2, and refuses.
func (c *RawConn) SetChecksum(offset int) error {
	if c.proto == wire.ICMPv6 || offset < -1 || offset > maxPayload-2 || offset > 0 && offset&1 != 0 {
		return ErrInvalid
	}
	c.checksum.Store(int32(offset))
	return nil
}

// WriteMsg sends b as the payload of an IPv6 packet, with its checksum filled in if it has one.
// info may be nil.
func (c *RawConn) WriteMsg(b []byte, to netip.Addr, info *Info) (int, error) {
	if err := c.rx.takeError(); err != nil {
		return 0, err
	}
	at := int(c.checksum.Load())
	if at >= 0 && len(b) < at+2 {
		return 0, ErrInvalid
	}
	var sport, dport uint16
	if wire.HasPorts(c.proto) && len(b) >= 4 { // as the path will see them
		sport, dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	p, t, err := c.outgoing(c.query(to, sport, dport), len(b), info)
	if err != nil {
		return 0, err
	}
	pb := p.Bytes()
	copy(t, b)
	c.h.label(pb, nil, c.proto)
	if at >= 0 {
		t[at], t[at+1] = 0, 0
		binary.BigEndian.PutUint16(t[at:], wire.Checksum(src(pb), dst(pb), c.proto, t))
	}
	c.h.count.rawOut.Inc()
	c.h.opts.Output(p)
	return len(b), nil
}

// Close ends the socket: readers return net.ErrClosed.
func (c *RawConn) Close() error {
	if !c.rx.close() {
		return net.ErrClosed
	}
	t := &c.h.raw
	t.mu.Lock()
	var next []*RawConn
	for _, o := range *t.conns.Load() {
		if o != c {
			next = append(next, o)
		}
	}
	if len(next) == 0 {
		t.conns.Store(nil)
	} else {
		t.conns.Store(&next)
	}
	t.mu.Unlock()
	c.leaveAll()
	return nil
}

// SetReadDeadline lets reads fail from t on; the zero time never.
func (c *RawConn) SetReadDeadline(t time.Time) { c.rx.setDeadline(t) }
