package netstack

import (
	"io"
	"net"
	"net/netip"
	"sync"

	"go.uber.org/zap"

	"leveret/appliance/clock"
)

// serviceConn is one connection to a TCP service. It is ended when it has been idle too long.
type serviceConn struct {
	*TCPConn
	of Service
	h  *Host

	mu    sync.Mutex
	timer clock.Timer
}

// touch starts the idle time again.
func (c *serviceConn) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = c.h.clock.AfterFunc(serviceIdle, func() {
		c.h.count.serviceIdle.Inc()
		c.Abort()
	})
}

func (c *serviceConn) end() {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	_ = c.Close()
}

// Read and Write count as activity.
func (c *serviceConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.touch()
	return n, err
}

func (c *serviceConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.touch()
	return n, err
}

// serveTCP accepts connections to a service until l is closed.
func (h *Host) serveTCP(l net.Listener, sv Service, ended *sync.WaitGroup) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		c := &serviceConn{TCPConn: nc.(*TCPConn), of: sv, h: h}
		if !h.services.add(c) {
			h.count.serviceRefused.Inc()
			c.Abort()
			continue
		}
		h.count.services.Inc()
		h.log.Debug("service connection", zap.Stringer("service", sv), zap.Stringer("from", c.RemoteAddr()))
		ended.Go(func() {
			c.touch()
			serveConn(c, sv.Name)
			h.services.remove(c)
			c.end()
		})
	}
}

func (s *services) add(c *serviceConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxServiceConns {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *services) remove(c *serviceConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serveConn speaks one service until the other end has had enough. Errors end the connection;
// there is nobody to tell.
func serveConn(c io.ReadWriter, name string) {
	switch name {
	case "echo": // RFC 862
		_, _ = io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{c}, make([]byte, 64<<10))
	case "discard": // RFC 863
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 64<<10))
	case "chargen": // RFC 864
		var text []byte
		for line := range 9 * chargenCycle { // about what a superpacket holds, and begins again evenly
			text = appendChargen(text, line)
		}
		for {
			if _, err := c.Write(text); err != nil {
				return
			}
		}
	}
}

const (
	chargenFirst = ' '
	chargenCycle = 95 // printable ASCII characters, space to tilde
	chargenWidth = 72
)

// appendChargen appends one line of the customary pattern: 72 of the 95 printable characters, each
// line beginning one further (RFC 864).
func appendChargen(b []byte, line int) []byte {
	for i := range chargenWidth {
		b = append(b, byte(chargenFirst+(line+i)%chargenCycle))
	}
	return append(b, '\r', '\n')
}

// serveUDP speaks one service until c is closed.
func (h *Host) serveUDP(c *UDPConn, name string) {
	b := make([]byte, 65536)
	var info Info
	for line := 0; ; line++ {
		n, from, err := c.ReadMsg(b, &info)
		if err != nil {
			return
		}
		if name == "discard" { // RFC 863
			continue
		}
		if h.smallService(from.Port()) {
			h.count.serviceLoops.Inc()
			continue
		}
		answer := b[:n]        // RFC 862
		if name == "chargen" { // RFC 864: a random number of characters, whatever came
			answer = appendChargen(b[:0], line%chargenCycle)[:h.random(chargenWidth+3)]
		}
		// From the address it was sent to, by the link it came from if that matters.
		reply := Info{Local: info.Local, TrafficClass: info.TrafficClass}
		if info.Local.IsMulticast() {
			reply.Local = netip.Addr{}
		}
		_, _ = c.WriteMsg(answer, from, &reply) // it was worth no more than one try
	}
}
