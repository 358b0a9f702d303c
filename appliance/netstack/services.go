package netstack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// maxServiceConns bounds the connections of all TCP services together.
	maxServiceConns = 256
	// serviceIdle is how long a connection may be silent.
	serviceIdle = 5 * time.Minute
)

// Service is one small server inside the appliance.
type Service struct {
	Name  string // echo (RFC 862), discard (RFC 863), chargen (RFC 864)
	Proto string // tcp, udp
	Port  uint16
}

func (s Service) String() string { return fmt.Sprintf("%s/%s port %d", s.Name, s.Proto, s.Port) }

// services runs what SetServices asked for.
type services struct {
	h       *Host
	mu      sync.Mutex
	running map[Service]func() // stops one and returns when it has ended
	conns   map[*serviceConn]bool
	closed  bool
}

func (s *services) init(h *Host) {
	s.h, s.running, s.conns = h, map[Service]func(){}, map[*serviceConn]bool{}
}

// CheckServices says what is wrong with a list of services, all of it, before anything is started.
func (h *Host) CheckServices(list []Service) error {
	var errs []error
	seen := map[Service]bool{}
	for _, s := range list {
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("service %s: %s", s, fmt.Sprintf(format, args...)))
		}
		switch s.Name {
		case "echo", "discard", "chargen":
		default:
			fault("name must be echo, discard or chargen")
		}
		if s.Proto != "tcp" && s.Proto != "udp" {
			fault("proto must be tcp or udp")
		}
		if s.Port == 0 {
			fault("port must be 1 to 65535")
		}
		at := Service{Proto: s.Proto, Port: s.Port}
		if seen[at] {
			fault("another service has this port")
		}
		seen[at] = true
	}
	return errors.Join(errs...)
}

// SetServices makes the running services those of list. Services that stay are not touched, and
// neither are their connections. What cannot be started is in the error; the others run.
func (h *Host) SetServices(list []Service) error {
	if err := h.CheckServices(list); err != nil {
		return err
	}
	s := &h.services
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	want := map[Service]bool{}
	for _, sv := range list {
		want[sv] = true
	}
	var stops []func()
	for sv, stop := range s.running {
		if !want[sv] {
			stops = append(stops, stop)
			delete(s.running, sv)
			h.log.Info("service stopped", zap.Stringer("service", sv))
		}
	}
	s.mu.Unlock()
	for _, stop := range stops { // they take the lock for their connections
		stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, sv := range list {
		if s.running[sv] != nil {
			continue
		}
		stop, err := h.startService(sv)
		if err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", sv, err))
			continue
		}
		s.running[sv] = stop
		h.log.Info("service started", zap.Stringer("service", sv))
	}
	return errors.Join(errs...)
}

func (h *Host) startService(sv Service) (stop func(), err error) {
	local := SocketOptions{Local: netip.AddrPortFrom(netip.IPv6Unspecified(), sv.Port)}
	var ended sync.WaitGroup
	if sv.Proto == "udp" {
		c, err := h.ListenUDP(local)
		if err != nil {
			return nil, err
		}
		ended.Go(func() { h.serveUDP(c, sv.Name) })
		return func() { _ = c.Close(); ended.Wait() }, nil
	}
	l, err := h.ListenTCP(local)
	if err != nil {
		return nil, err
	}
	ended.Go(func() { h.serveTCP(l, sv, &ended) })
	return func() {
		_ = l.Close()
		h.services.closeConns(sv)
		ended.Wait()
	}, nil
}

// close stops everything.
func (s *services) close() {
	s.mu.Lock()
	s.closed = true
	var stops []func()
	for _, stop := range s.running {
		stops = append(stops, stop)
	}
	clear(s.running)
	s.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
}

// closeConns ends the connections of one service.
func (s *services) closeConns(sv Service) {
	s.mu.Lock()
	var list []*serviceConn
	for c := range s.conns {
		if c.of == sv {
			list = append(list, c)
		}
	}
	s.mu.Unlock()
	for _, c := range list {
		c.Abort()
	}
}

// smallService reports whether a port is one that answers whatever it is sent: an answer to it
// could go back and forth for ever. The ports of our own services are among them.
func (h *Host) smallService(port uint16) bool {
	switch port {
	case 7, 13, 17, 19, 37: // echo, daytime, quote of the day, chargen, time
		return true
	}
	s := &h.services
	s.mu.Lock()
	defer s.mu.Unlock()
	for sv := range s.running {
		if sv.Proto == "udp" && sv.Port == port && sv.Name != "discard" {
			return true
		}
	}
	return false
}
