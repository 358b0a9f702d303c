package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// SocketOptions say where the control socket is and who may use it.
type SocketOptions struct {
	Path  string
	Mode  fs.FileMode // permission bits; 0 = 0660
	Group string      // a name or a number; "" = the process's
}

// socket is the listener with the file it made.
type socket struct {
	listener *net.UnixListener
	path     string
	id       os.FileInfo
}

// Listen makes the socket. A file left behind by a process that is gone is replaced; a socket
// that somebody answers on is an error. The socket appears under its name only once its mode
// and group are set.
func (s *Server) Listen(o SocketOptions) error {
	if o.Mode == 0 {
		o.Mode = 0o660
	}
	if err := removeStale(o.Path); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(o.Path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("control socket: %w", err)
	}
	// The temporary name is kept short: a socket's path has at most 107 octets.
	tmp := o.Path + "~"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	id, err := place(tmp, o)
	if err != nil {
		return fmt.Errorf("control socket: %w", errors.Join(err, l.Close(), os.Remove(tmp)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sock = &socket{listener: l, path: o.Path, id: id}
	return nil
}

// place gives the file its mode and group, then its name.
func place(tmp string, o SocketOptions) (os.FileInfo, error) {
	if o.Group != "" {
		gid, err := groupID(o.Group)
		if err != nil {
			return nil, err
		}
		if err := os.Chown(tmp, -1, gid); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(tmp, o.Mode.Perm()); err != nil {
		return nil, err
	}
	id, err := os.Lstat(tmp)
	if err != nil {
		return nil, err
	}
	return id, os.Rename(tmp, o.Path)
}

func groupID(name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 {
		return n, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// removeStale removes the socket at path if nobody listens on it. What is not a socket is left
// alone.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s is there and is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("control socket: another process answers at %s", path)
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("control socket: %w", err)
	}
	return os.Remove(path)
}

// close stops listening and removes the file, unless another process has put its own there.
func (s *socket) close() error {
	var errs []error
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	if fi, err := os.Lstat(s.path); err == nil && os.SameFile(fi, s.id) {
		errs = append(errs, os.Remove(s.path))
	}
	return errors.Join(errs...)
}
