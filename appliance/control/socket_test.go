package control

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
)

func TestSocketHasItsModeAndGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "api.sock") // the folder is made
	s := NewServer(zap.NewNop())
	gid := os.Getgid()
	if os.Getuid() == 0 {
		gid = 4242
	}
	if err := s.Listen(SocketOptions{Path: path, Mode: 0o620, Group: strconv.Itoa(gid)}); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o620 || int(fi.Sys().(*syscall.Stat_t).Gid) != gid {
		t.Errorf("%v", fi.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the socket: %v %v", entries, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := NewServer(zap.NewNop()).Listen(SocketOptions{Path: path, Group: "no-such-group"}); err == nil || !strings.Contains(err.Error(), "no-such-group") {
		t.Errorf("err = %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestStaleSocketIsReplacedOnlyIfNobodyAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	s := NewServer(zap.NewNop())
	if err := s.Listen(SocketOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("while somebody listens: %v", err)
	}
	if err := l.Close(); err != nil { // as after SIGKILL: the file stays
		t.Fatal(err)
	}
	if err := s.Listen(SocketOptions{Path: path}); err != nil {
		t.Errorf("after it has gone: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(SocketOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q %v", b, err)
	}
}

func TestCloseLeavesASuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	s := NewServer(zap.NewNop())
	if err := s.Listen(SocketOptions{Path: path}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next := NewServer(zap.NewNop())
	if err := next.Listen(SocketOptions{Path: path}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("the successor's socket is gone")
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
}
