package netstack

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"leveret/appliance/clock"
)

var allServices = []Service{
	{"echo", "tcp", 7}, {"discard", "tcp", 9}, {"chargen", "tcp", 19},
	{"echo", "udp", 7}, {"discard", "udp", 9}, {"chargen", "udp", 19},
}

func setServices(t testing.TB, n *node, list []Service) {
	t.Helper()
	if err := n.SetServices(list); err != nil {
		t.Fatal(err)
	}
}

func dialTCP(t testing.TB, n *node, to netip.AddrPort) *TCPConn {
	t.Helper()
	c, err := n.DialTCP(testContext(t), to, SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(soon())
	t.Cleanup(func() { c.Abort() })
	return c
}

func TestServicesTCP(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	setServices(t, b, allServices)

	echo := dialTCP(t, a, at(addrB, 7))
	if _, err := echo.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := echo.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(echo); err != nil || string(got) != "hello" {
		t.Errorf("echo: %q %v", got, err)
	}

	discard := dialTCP(t, a, at(addrB, 9))
	if _, err := discard.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := discard.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(discard); err != nil || len(got) != 0 {
		t.Errorf("discard: %q %v", got, err)
	}

	chargen := dialTCP(t, a, at(addrB, 19))
	r := bufio.NewReader(chargen)
	first := ""
	for i := range 96 {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case len(line) != 74 || !strings.HasSuffix(line, "\r\n"):
			t.Fatalf("line %d: %q", i, line)
		case i == 0:
			first = line
			if !strings.HasPrefix(line, ` !"#$%&'()*+,-./0123456789`) {
				t.Errorf("first line %q", line)
			}
		case i == 1 && line[:71] != first[1:72]:
			t.Errorf("second line %q", line)
		case i == 95 && line != first:
			t.Errorf("line 95 does not begin again: %q", line)
		}
	}
	if n := b.Stats().ServiceConnections; n != 3 {
		t.Errorf("%d connections", n)
	}
}

func TestServicesUDP(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	setServices(t, b, allServices)
	buf := make([]byte, 200)

	echo := dialUDP(t, a, at(addrB, 7), SocketOptions{})
	if _, err := echo.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := echo.Read(buf); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("echo: %q %v", buf[:n], err)
	}

	chargen := dialUDP(t, a, at(addrB, 19), SocketOptions{})
	if _, err := chargen.Write(nil); err != nil {
		t.Fatal(err)
	}
	if n, err := chargen.Read(buf); err != nil || n > 74 || !strings.HasPrefix(string(appendChargen(nil, 0)), string(buf[:n])) {
		t.Errorf("chargen: %q %v", buf[:n], err)
	}

	// From the port of another small service nothing is answered, or it would never end.
	loop := dialUDP(t, a, at(addrB, 7), SocketOptions{Local: at(netip.Addr{}, 19)})
	if _, err := loop.Write([]byte("loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Write([]byte("after")); err != nil { // comes behind it
		t.Fatal(err)
	}
	if n, err := echo.Read(buf); err != nil || string(buf[:n]) != "after" {
		t.Errorf("echo: %q %v", buf[:n], err)
	}
	_ = loop.SetReadDeadline(time.Now())
	if n, err := loop.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("port 19 was answered: %q %v", buf[:n], err)
	}
	if n := b.Stats().ServiceLoops; n != 1 {
		t.Errorf("%d loops counted", n)
	}

	discard := dialUDP(t, a, at(addrB, 9), SocketOptions{})
	if _, err := discard.Write([]byte("gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if _, err := echo.Read(buf); err != nil {
		t.Fatal(err)
	}
	_ = discard.SetReadDeadline(time.Now())
	if n, err := discard.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("discard answered %q %v", buf[:n], err)
	}
}

func TestSetServicesKeepsWhatStays(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	setServices(t, b, []Service{{"echo", "tcp", 7}, {"discard", "tcp", 9}})
	keep, gone := dialTCP(t, a, at(addrB, 7)), dialTCP(t, a, at(addrB, 9))
	roundTrip := func() {
		t.Helper()
		if _, err := keep.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(keep, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	roundTrip()
	setServices(t, b, []Service{{"echo", "udp", 7}, {"echo", "tcp", 7}})
	roundTrip()
	if _, err := gone.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of a stopped service goes on")
	}
	if _, err := a.DialTCP(testContext(t), at(addrB, 9), SocketOptions{}); !errors.Is(err, ErrConnectionRefused) {
		t.Errorf("a stopped service: %v", err)
	}
	setServices(t, b, nil)
	if _, err := keep.Read(make([]byte, 1)); err == nil {
		t.Error("echo goes on after the last service has gone")
	}
}

func TestCheckServicesFindsEveryFault(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	err := a.CheckServices([]Service{
		{"echo", "tcp", 7}, {"daytime", "tcp", 13}, {"echo", "sctp", 8}, {"echo", "udp", 0}, {"discard", "tcp", 7}, {"discard", "udp", 7},
	})
	if err == nil {
		t.Fatal("nothing found")
	}
	want := `service daytime/tcp port 13: name must be echo, discard or chargen
service echo/sctp port 8: proto must be tcp or udp
service echo/udp port 0: port must be 1 to 65535
service discard/tcp port 7: another service has this port`
	if err.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", err, want)
	}
	if err := a.SetServices([]Service{{"daytime", "tcp", 13}}); err == nil {
		t.Error("SetServices takes it")
	}
	// A port that is taken: the others run.
	c := listenUDP(t, a, SocketOptions{Local: at(netip.Addr{}, 9)})
	if err := a.SetServices([]Service{{"discard", "udp", 9}, {"echo", "udp", 7}}); !errors.Is(err, ErrAddrInUse) {
		t.Errorf("%v", err)
	}
	c.Close()
	setServices(t, a, []Service{{"discard", "udp", 9}, {"echo", "udp", 7}})
}

func TestServiceConnectionsAreBounded(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	setServices(t, b, []Service{{"echo", "tcp", 7}})
	for range maxServiceConns {
		c := dialTCP(t, a, at(addrB, 7))
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	over, err := a.DialTCP(testContext(t), at(addrB, 7), SocketOptions{})
	if err == nil {
		_ = over.SetDeadline(soon())
		_, err = over.Read(make([]byte, 1))
		over.Abort()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	if s := b.Stats(); s.ServiceRefused != 1 || s.ServiceConnections != maxServiceConns {
		t.Errorf("refused %d of %d", s.ServiceRefused, s.ServiceConnections)
	}
}

func TestServiceClosesIdleConnections(t *testing.T) {
	// The idle time is the only thing on the manual clock that is long enough to matter.
	m := clock.NewManual()
	a, b := newPair(t, m)
	setServices(t, b, []Service{{"echo", "tcp", 7}})
	c := dialTCP(t, a, at(addrB, 7))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); ended <- err }()
	for {
		m.Advance(serviceIdle)
		select {
		case err := <-ended:
			if err == nil || errors.Is(err, net.ErrClosed) {
				t.Errorf("%v", err)
			}
			if n := b.Stats().ServiceIdle; n != 1 {
				t.Errorf("%d idle connections closed", n)
			}
			return
		case <-time.After(10 * time.Millisecond): // netstack's goroutines need real time
		}
	}
}
