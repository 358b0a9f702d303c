package control

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// peerListener bounds the connections and finds out who each comes from.
type peerListener struct {
	*net.UnixListener
	log  *zap.Logger
	open atomic.Int32
}

// peerConn is one connection with the credentials its other end had when it connected.
type peerConn struct {
	*net.UnixConn
	cred    *unix.Ucred // nil if the kernel did not say
	release func()
}

// Accept implements [net.Listener]. Beyond [MaxConnections] a client finds its connection closed.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > MaxConnections {
			l.open.Add(-1)
			l.log.Warn("control connection refused: too many are open", zap.Int("open", MaxConnections))
			_ = c.Close()
			continue
		}
		return &peerConn{UnixConn: c, cred: peerCred(c), release: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
	}
}

// Close implements [net.Conn].
func (c *peerConn) Close() error {
	c.release()
	return c.UnixConn.Close()
}

func peerCred(c *net.UnixConn) *unix.Ucred {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil
	}
	return cred
}

type peerKey struct{}

// withPeer makes the credentials part of the context of every request of a connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if p, ok := c.(*peerConn); ok && p.cred != nil {
		return context.WithValue(ctx, peerKey{}, p.cred)
	}
	return ctx
}

// owner reports whether a request comes from root or from the user that the appliance runs as.
func owner(r *http.Request) bool {
	cred, ok := r.Context().Value(peerKey{}).(*unix.Ucred)
	return ok && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

// logRequest tells who asks for what: changes at level info, questions at debug.
func (s *Server) logRequest(r *http.Request) {
	fields := []zap.Field{zap.String("method", r.Method), zap.String("path", r.URL.Path)}
	if cred, ok := r.Context().Value(peerKey{}).(*unix.Ucred); ok {
		fields = append(fields, zap.Int32("pid", cred.Pid), zap.Uint32("uid", cred.Uid), zap.Uint32("gid", cred.Gid))
	}
	if r.Method == http.MethodGet {
		s.log.Debug("control request", fields...)
	} else {
		s.log.Info("control request", fields...)
	}
}
