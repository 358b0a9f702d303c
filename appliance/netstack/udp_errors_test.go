package netstack

import (
	"errors"
	"net/netip"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

func TestUDPDontFragmentKnowsThePathMTU(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	a.wire.drop = func(*packet.Packet) bool { return true }
	a.pmtu.Store(1400)
	c := dialUDP(t, a, at(addrB, 9), SocketOptions{DontFragment: true})
	if c.PathMTU() != 1400 {
		t.Errorf("path MTU %d", c.PathMTU())
	}
	if n := listenUDP(t, a, SocketOptions{}).PathMTU(); n != 0 {
		t.Errorf("path MTU %d to nowhere", n)
	}
	if _, err := c.Write(make([]byte, 1400-48)); err != nil {
		t.Errorf("exactly the path MTU: %v", err)
	}
	_, err := c.Write(make([]byte, 1400-47))
	var mtu *MTUError
	if !errors.As(err, &mtu) || mtu.MTU != 1400 || !errors.Is(err, ErrMessageTooLong) {
		t.Errorf("one octet too many: %v", err)
	}
}

func TestUDPDontFragmentKnowsTheLink(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	a.wire.drop = func(*packet.Packet) bool { return true }
	c := dialUDP(t, a, at(addrB, 9), SocketOptions{})
	if c.PathMTU() != 1500 {
		t.Errorf("path MTU %d without a learned one, want the link's (RFC 3542 11.4)", c.PathMTU())
	}
	var mtu *MTUError
	if _, err := c.WriteMsg(make([]byte, 1453), netip.AddrPort{}, &Info{DontFragment: true}); !errors.As(err, &mtu) || mtu.MTU != 1500 {
		t.Errorf("%v", err)
	}
	if _, err := c.Write(make([]byte, 1453)); err != nil { // the path fragments it
		t.Error(err)
	}
	a.route = func(q module.RouteQuery) module.RouteResult {
		return module.RouteResult{Route: &packet.Route{Type: packet.RouteLocal}, Src: addrA}
	}
	if _, err := c.WriteMsg(make([]byte, 9000), netip.AddrPort{}, &Info{DontFragment: true}); err != nil {
		t.Errorf("to ourselves nothing is too long: %v", err)
	}
}

// errorFor sends a datagram from c and answers it with an ICMPv6 error of the test's own.
func errorFor(t *testing.T, a *node, c *UDPConn, e module.ICMPError) {
	t.Helper()
	a.setKeep()
	n := len(a.kept())
	if _, err := c.WriteMsg([]byte("probe"), at(addrB, 9), nil); err != nil {
		t.Fatal(err)
	}
	a.Deliver(icmpError(a.kept()[n].Bytes(), router, e, 1))
}

func TestUDPErrorsReachSockets(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	b.wire.drop = func(*packet.Packet) bool { return true }
	for _, tc := range []struct {
		e    module.ICMPError
		want error
		hard bool
	}{
		{module.ICMPError{Type: 1, Code: wire.CodeNoRoute}, ErrNetUnreachable, false},
		{module.ICMPError{Type: 1, Code: wire.CodeAdminProhibited}, ErrPermission, true},
		{module.ICMPError{Type: 1, Code: wire.CodeBeyondScope}, ErrHostUnreachable, false},
		{module.ICMPError{Type: 1, Code: wire.CodeAddressUnreachable}, ErrHostUnreachable, false},
		{module.ICMPError{Type: 1, Code: wire.CodePortUnreachable}, ErrConnectionRefused, true},
		{module.ICMPError{Type: 1, Code: wire.CodePolicyFailed}, ErrPermission, true},
		{module.ICMPError{Type: 1, Code: wire.CodeRejectRoute}, ErrPermission, true},
		{module.ICMPError{Type: 2, Arg: 1300}, ErrMessageTooLong, false},
		{module.ICMPError{Type: 3, Code: 0}, ErrHostUnreachable, false},
		{module.ICMPError{Type: 3, Code: 1}, ErrHostUnreachable, false},
		{module.ICMPError{Type: 4, Code: 1, Arg: 40}, ErrProtocol, true},
	} {
		// A dialed socket fails by hard errors, once, and only by those.
		dialed := dialUDP(t, a, at(addrB, 9), SocketOptions{})
		errorFor(t, a, dialed, tc.e)
		_, err := dialed.Write(nil)
		if tc.hard != errors.Is(err, tc.want) || !tc.hard && err != nil {
			t.Errorf("type %d code %d: a dialed socket gets %v", tc.e.Type, tc.e.Code, err)
		}
		if _, err := dialed.Write(nil); err != nil {
			t.Errorf("type %d code %d: again %v", tc.e.Type, tc.e.Code, err)
		}
		// A socket that asks sees every one, with the sender and what was sent.
		asks := listenUDP(t, a, SocketOptions{ReportErrors: true})
		errorFor(t, a, asks, tc.e)
		buf := make([]byte, 100)
		n, from, err := asks.ReadMsg(buf, nil)
		var ie *ICMPError
		if !errors.As(err, &ie) || ie.From != router || ie.Type != tc.e.Type || ie.Code != tc.e.Code || ie.Arg != tc.e.Arg || ie.Dst != at(addrB, 9) {
			t.Errorf("type %d code %d: %+v, %v", tc.e.Type, tc.e.Code, ie, err)
		}
		if string(buf[:n]) != "probe" || from != at(addrB, 9) {
			t.Errorf("type %d code %d: quoted %q to %s", tc.e.Type, tc.e.Code, buf[:n], from)
		}
	}
	// Nobody's datagram: nobody is told.
	before := a.Stats().ErrorsIgnored
	c := listenUDP(t, a, SocketOptions{})
	errorFor(t, a, c, module.ICMPError{Type: 1})
	p := a.kept()[len(a.kept())-1].Clone()
	p.Bytes()[41] ^= 0xff // another source port
	a.Deliver(icmpError(p.Bytes(), router, module.ICMPError{Type: 1}, 1))
	if got := a.Stats().ErrorsIgnored; got != before+1 {
		t.Errorf("%d errors ignored", got-before)
	}
}

func TestUDPErrorAboutPacketWithExtensionHeaders(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	b.wire.drop = func(*packet.Packet) bool { return true }
	a.setKeep()
	c := listenUDP(t, a, SocketOptions{ReportErrors: true})
	ext := append([]byte{0, 31, 1, 252}, make([]byte, 252)...)
	if _, err := c.WriteMsg(nil, at(addrB, 9), &Info{ExtHeaders: []ExtHeader{{wire.DestOpts, ext}}}); err != nil {
		t.Fatal(err)
	}
	a.Deliver(icmpError(a.kept()[0].Bytes(), router, module.ICMPError{Type: 3}, 1))
	_, _, err := c.ReadMsg(make([]byte, 10), nil)
	var ie *ICMPError
	if !errors.As(err, &ie) || ie.Type != 3 {
		t.Errorf("%v", err)
	}
}

func TestUDPPathMTUIsReported(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	b.wire.drop = func(*packet.Packet) bool { return true }
	c := listenUDP(t, a, SocketOptions{ReportPathMTU: true})
	errorFor(t, a, c, module.ICMPError{Type: 2, Arg: 1300})
	var info Info
	n, from, err := c.ReadMsg(make([]byte, 10), &info)
	if err != nil || n != 0 || info.PathMTU != 1300 || from != at(addrB, 9) {
		t.Errorf("n %d from %s info %+v: %v", n, from, info, err)
	}
	errorFor(t, a, c, module.ICMPError{Type: 2, Arg: 500})
	if s := a.Stats(); s.PacketTooBigIgnored != 1 {
		t.Errorf("%d Packet Too Big below 1280 ignored, want 1", s.PacketTooBigIgnored)
	}
}

func TestUDPPortUnreachable(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	c := dialUDP(t, a, at(addrB, 99), SocketOptions{})
	if _, err := c.Write([]byte("anybody?")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, ErrConnectionRefused) {
		t.Errorf("%v", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) != 1 || b.errors[0] != (module.ICMPError{Type: wire.TypeDestinationUnreachable, Code: wire.CodePortUnreachable}) {
		t.Errorf("b answered %+v", b.errors)
	}
	if n := b.Stats().UDPNoPort; n != 1 {
		t.Errorf("counted %d", n)
	}
}
