package netstack

import (
	"net"
	"net/netip"
	"sync"
)

// Ephemeral ports are the dynamic ones (RFC 6335 6), picked at random (RFC 6056 3.3.1).
const (
	ephemeralFirst = 49152
	ephemeralCount = 65536 - ephemeralFirst
)

// udpTable finds sockets by local port.
type udpTable struct {
	h      *Host
	mu     sync.RWMutex
	ports  map[uint16][]*UDPConn
	closed bool
}

func (t *udpTable) init(h *Host) { t.h, t.ports = h, map[uint16][]*UDPConn{} }

// bind gives c its port and adds it to the table. Before it does, it calls choose, which may be nil:
// c.port is what it will be, and nobody else has c yet.
func (t *udpTable) bind(c *UDPConn, choose func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	c.port = c.opts.Local.Port()
	start := t.h.random(ephemeralCount)
	for i := 0; c.port == 0; i++ {
		p := uint16(ephemeralFirst + (start+i)%ephemeralCount)
		switch {
		case i == ephemeralCount:
			return ErrAddrInUse
		case len(t.ports[p]) == 0:
			c.port = p
		}
	}
	if choose != nil {
		if err := choose(); err != nil {
			return err
		}
	}
	if t.conflict(c) { // with none if the port was free
		return ErrAddrInUse
	}
	t.ports[c.port] = append(t.ports[c.port], c)
	return nil
}

// conflict reports whether another socket has what c asks for.
func (t *udpTable) conflict(c *UDPConn) bool {
	for _, o := range t.ports[c.port] {
		addr := !c.local.IsValid() || !o.local.IsValid() || c.local == o.local
		link := c.link == 0 || o.link == 0 || c.link == o.link
		if addr && link && !(c.opts.Reuse && o.opts.Reuse) {
			return true
		}
	}
	return false
}

func (t *udpTable) remove(c *UDPConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.ports[c.port]
	next := make([]*UDPConn, 0, len(list)) // readers may hold the old slice
	for _, o := range list {
		if o != c {
			next = append(next, o)
		}
	}
	if len(next) == 0 {
		delete(t.ports, c.port)
		return
	}
	t.ports[c.port] = next
}

func (t *udpTable) at(port uint16) []*UDPConn {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ports[port]
}

// sender returns the socket that sent from src to dst, for an error about that. zone is the link
// of link-local addresses, 0 for any.
func (t *udpTable) sender(src, dst *[16]byte, sport, dport uint16, zone int) *UDPConn {
	from, to := netip.AddrFrom16(*src), netip.AddrFrom16(*dst)
	var best *UDPConn
	most := -1
	for _, c := range t.at(sport) {
		score := 0
		if c.local.IsValid() && !c.local.IsMulticast() {
			if c.local != from {
				continue
			}
			score += 2
		}
		if c.remote.IsValid() {
			if c.remote != to || c.remotePort != dport {
				continue
			}
			score += 4
		}
		if zone != 0 && c.link != 0 && c.link != zone {
			continue
		}
		if score > most {
			best, most = c, score
		}
	}
	return best
}

func (t *udpTable) close() {
	t.mu.Lock()
	t.closed = true
	var all []*UDPConn
	for _, list := range t.ports {
		all = append(all, list...)
	}
	t.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}
