package netstack

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

func listenRaw(t testing.TB, n *node, proto uint8, o SocketOptions) *RawConn {
	t.Helper()
	c, err := n.ListenRaw(proto, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(soon())
	return c
}

func TestRawICMP(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	c := listenRaw(t, a, wire.ICMPv6, SocketOptions{})
	c.SetICMPFilter(wire.TypeEchoReply)
	errs := listenRaw(t, a, wire.ICMPv6, SocketOptions{})
	errs.SetICMPFilter(1, 2, 3, 4)
	// The checksum is ours to fill in (RFC 3542 3.1).
	req := []byte{wire.TypeEchoRequest, 0, 0xff, 0xff, 1, 2, 3, 4, 'x'}
	if _, err := c.WriteMsg(req, addrB, &Info{HopLimit: 9}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	var info Info
	n, from, err := c.ReadMsg(b, &info)
	if err != nil || from != addrB || n != 9 || b[0] != wire.TypeEchoReply || !bytes.Equal(b[4:n], req[4:]) {
		t.Errorf("%x from %s: %v", b[:n], from, err)
	}
	if info.Local != addrA || info.Link != 1 || info.HopLimit != 64 {
		t.Errorf("%+v", info)
	}
	a.wire.hops.Store(1)
	if _, err := c.WriteMsg(req, addrB, &Info{HopLimit: 1}); err != nil {
		t.Fatal(err)
	}
	n, from, err = errs.ReadMsg(b, nil)
	if err != nil || from != router || b[0] != wire.TypeTimeExceeded || b[8+40] != wire.TypeEchoRequest {
		t.Errorf("%x from %s: %v", b[:n], from, err)
	}
	c.SetReadDeadline(time.Now())
	if n, _, err := c.ReadMsg(b, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("passed the filter: %x, %v", b[:n], err)
	}
	if _, err := c.WriteMsg([]byte{1, 2, 3}, addrB, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no room for a checksum: %v", err)
	}
	if err := c.SetChecksum(2); !errors.Is(err, ErrInvalid) {
		t.Errorf("IPV6_CHECKSUM on ICMPv6: %v", err)
	}
}

func TestRawChecksum(t *testing.T) {
	const ospf = 89
	a, b := newPair(t, clock.NewReal())
	tx, rx := listenRaw(t, a, ospf, SocketOptions{}), listenRaw(t, b, ospf, SocketOptions{})
	for _, bad := range []int{-2, 1, 3, 65535} {
		if err := tx.SetChecksum(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("offset %d: %v", bad, err)
		}
	}
	if err := rx.SetChecksum(12); err != nil {
		t.Fatal(err)
	}
	msg := make([]byte, 16)
	if _, err := tx.WriteMsg(msg, addrB, nil); err != nil { // without: dropped over there
		t.Fatal(err)
	}
	if err := tx.SetChecksum(12); err != nil {
		t.Fatal(err)
	}
	msg[0] = 1
	if _, err := tx.WriteMsg(msg, addrB, nil); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 20)
	n, _, err := rx.ReadMsg(buf, nil)
	if err != nil || n != 16 || buf[0] != 1 || buf[12]|buf[13] == 0 {
		t.Errorf("%x %v", buf[:n], err)
	}
	if s := b.Stats(); s.ChecksumErrors != 1 {
		t.Errorf("%d checksum errors", s.ChecksumErrors)
	}
	if _, err := tx.WriteMsg(msg[:13], addrB, nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("no room for the checksum: %v", err)
	}
}

func TestRawProtocol(t *testing.T) {
	const ospf = 89
	a, b := newPair(t, clock.NewReal())
	group := netip.MustParseAddr("ff02::5")
	rx := listenRaw(t, b, ospf, SocketOptions{Link: 2})
	if err := rx.JoinGroup(2, group); err != nil {
		t.Fatal(err)
	}
	tx := listenRaw(t, a, ospf, SocketOptions{ReportErrors: true})
	for _, zone := range []string{"lan0", "lan1"} {
		if _, err := tx.WriteMsg([]byte(zone), group.WithZone(zone), nil); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 10)
	n, from, err := rx.ReadMsg(buf, nil)
	if err != nil || string(buf[:n]) != "lan1" || from != llA.WithZone("lan1") {
		t.Errorf("%q from %s: %v", buf[:n], from, err)
	}
	a.setKeep()
	if _, err := tx.WriteMsg([]byte("four"), addrB, nil); err != nil {
		t.Fatal(err)
	}
	a.Deliver(icmpError(a.kept()[0].Bytes(), addrB, module.ICMPError{Type: 4, Code: 1, Arg: 6}, 1))
	_, _, err = tx.ReadMsg(buf, nil)
	var ie *ICMPError
	if !errors.As(err, &ie) || ie.Type != 4 || ie.From != addrB {
		t.Errorf("%v", err)
	}
	if s := b.Stats(); s.RawIn != 1 {
		t.Errorf("b counted %d", s.RawIn)
	}
	for _, proto := range []uint8{wire.HopByHop, wire.Routing, wire.Fragment, wire.DestOpts, wire.NoNext} {
		if _, err := a.ListenRaw(proto, SocketOptions{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("protocol %d: %v", proto, err)
		}
	}
}

func TestRawSeesTransportOnlyIfRight(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	c := listenRaw(t, a, wire.UDP, SocketOptions{Local: at(addrA, 0)})
	a.Deliver(udpPacket(t, func(u []byte) { u[8]++ }))
	a.Deliver(udpPacket(t, func([]byte) {}))
	buf := make([]byte, 100)
	n, _, err := c.ReadMsg(buf, nil)
	if err != nil || n != 12 || buf[8] != 1 {
		t.Errorf("%x, %v", buf[:n], err)
	}
}

func FuzzDeliver(f *testing.F) {
	good := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 12, NextHeader: wire.UDP, HopLimit: 64, Src: addrB, Dst: addrA})
	f.Add(append(good, 0, 9, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4))
	f.Add(icmpError(append(good, make([]byte, 12)...), router, module.ICMPError{Type: 2, Arg: 1280}, 1).Bytes())
	syn := wire.AppendIPv6(nil, wire.IPv6Fields{PayloadLength: 20, NextHeader: wire.TCP, HopLimit: 64, Src: addrB, Dst: addrA})
	f.Add(append(syn, 0, 9, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0))
	f.Add(answer(packet.New(append(good, make([]byte, 12)...)), addrB, asSent).Bytes())
	a, _ := newPair(f, clock.NewManual())
	a.opts.Output = func(*packet.Packet) {}
	a.opts.SendError = func(*packet.Packet, module.ICMPError) {}
	l, err := a.ListenTCP(SocketOptions{Local: at(netip.Addr{}, 80)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	listenUDP(f, a, SocketOptions{Local: at(netip.Addr{}, 9), ReportExtHeaders: true, ReportErrors: true, ReportPathMTU: true})
	listenRaw(f, a, wire.ICMPv6, SocketOptions{ReportExtHeaders: true})
	if _, err := a.StartPing(PingOptions{Dst: addrB, Interval: time.Hour, Timeout: time.Hour}, func(PingEvent) {}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 40 || b[0]>>4 != 6 || len(b) > 4000 {
			return // the path has dropped it
		}
		var c wire.Chain
		c.Walk(b)
		p := packet.NewBuffer(len(b))
		copy(p.Extend(len(b)), b)
		p.In, p.Proto, p.TransOff, p.ProtoField = 1, c.Proto, c.Off, c.ProtoField
		p.GSO.Csum = packet.CsumVerified
		a.Deliver(p)
	})
}
