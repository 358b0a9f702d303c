package netstack

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/packet"
	"leveret/appliance/wire"
)

func addrAt(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr() }

// asks lets the routes of a answer with link 2 and its address what takes accepts, and with link 1
// everything else, as rules would. It returns what has been asked.
func asks(a *node, takes func(module.RouteQuery) bool) func() []module.RouteQuery {
	var all []module.RouteQuery
	a.route = func(q module.RouteQuery) module.RouteResult {
		a.mu.Lock()
		defer a.mu.Unlock()
		all = append(all, q)
		res := module.RouteResult{Route: &packet.Route{}, Out: 1, Src: addrA}
		if takes(q) {
			res = module.RouteResult{Route: &packet.Route{MTU: 1400}, Out: 2, Src: addrA2}
		}
		return res
	}
	return func() []module.RouteQuery {
		a.mu.Lock()
		defer a.mu.Unlock()
		return append([]module.RouteQuery(nil), all...)
	}
}

// TestSourceFollowsRulesOnProtocolAndPorts: whatever sends says what it knows of protocol, ports and
// traffic class whenever it asks for a route, so that source, MTU and the way of the packets agree.
func TestSourceFollowsRulesOnProtocolAndPorts(t *testing.T) {
	udp := func(to uint16, o SocketOptions) func(*testing.T, *node) {
		return func(t *testing.T, a *node) {
			c, err := a.ListenUDP(o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.WriteMsg([]byte("x"), at(addrB, to), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	trace := func(proto TraceProto) func(*testing.T, *node) {
		return func(t *testing.T, a *node) {
			o := TracerouteOptions{Dst: addrB, MaxHops: 1, Probes: 1, Timeout: time.Second, Proto: proto}
			if err := a.Traceroute(testContext(t), o, func(HopEvent) {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	raw := func(proto uint8, b []byte) func(*testing.T, *node) {
		return func(t *testing.T, a *node) {
			c, err := a.ListenRaw(proto, SocketOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.WriteMsg(b, addrB, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name string
		// want is what every question has in common, ports 0 = any.
		want module.RouteQuery
		do   func(*testing.T, *node)
	}{
		{"TCP", module.RouteQuery{Proto: wire.TCP, DPort: 443, DSField: 0x20}, func(t *testing.T, a *node) {
			client, _ := connectPair(t, a, a.peer, at(addrB, 443), SocketOptions{TrafficClass: 0x20})
			if got := addrAt(client.LocalAddr()); got != addrA2 {
				t.Errorf("local address %s", got)
			}
		}},
		{"TCP from a port", module.RouteQuery{Proto: wire.TCP, SPort: 7000, DPort: 443}, func(t *testing.T, a *node) {
			connectPair(t, a, a.peer, at(addrB, 443), SocketOptions{Local: at(netip.Addr{}, 7000)})
		}},
		{"UDP from a port", module.RouteQuery{Proto: wire.UDP, SPort: 7000, DPort: 53}, udp(53, SocketOptions{Local: at(netip.Addr{}, 7000), DontFragment: true})},
		{"UDP with a traffic class", module.RouteQuery{Proto: wire.UDP, DPort: 53, DSField: 0xb8}, udp(53, SocketOptions{TrafficClass: 0xb8})},
		{"UDP with a traffic class for one datagram", module.RouteQuery{Proto: wire.UDP, DPort: 53, DSField: 0xb8}, func(t *testing.T, a *node) {
			c, err := a.ListenUDP(SocketOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.WriteMsg([]byte("x"), at(addrB, 53), &Info{TrafficClass: 0xb8}); err != nil {
				t.Fatal(err)
			}
		}},
		{"UDP dialed from a port", module.RouteQuery{Proto: wire.UDP, SPort: 7000, DPort: 53}, func(t *testing.T, a *node) {
			c, err := a.DialUDP(at(addrB, 53), SocketOptions{Local: at(netip.Addr{}, 7000)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.PathMTU(); got != 1400 {
				t.Errorf("path MTU %d", got)
			}
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}},
		{"ping", module.RouteQuery{Proto: wire.ICMPv6, DSField: 0x08}, func(t *testing.T, a *node) {
			o := PingOptions{Dst: addrB, Count: 1, Interval: time.Second, Timeout: time.Second, TrafficClass: 0x08}
			err := a.Ping(testContext(t), o, func(e PingEvent) {
				if e.Kind == PingStarted && e.Source != addrA2 {
					t.Errorf("source %s", e.Source)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"traceroute", module.RouteQuery{Proto: wire.UDP, DPort: tracePort}, trace(TraceUDP)},
		{"traceroute by ICMPv6", module.RouteQuery{Proto: wire.ICMPv6}, trace(TraceICMP)},
		{"raw", module.RouteQuery{Proto: 89}, raw(89, []byte("12345678"))},
		{"raw with ports", module.RouteQuery{Proto: wire.SCTP, SPort: 0x1234, DPort: 0x5678}, raw(wire.SCTP, []byte{0x12, 0x34, 0x56, 0x78})},
		{"raw, too short for ports", module.RouteQuery{Proto: wire.SCTP}, raw(wire.SCTP, []byte{0x12, 0x34})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, _ := newPair(t, clock.NewReal())
			w := tc.want
			questions := asks(a, func(q module.RouteQuery) bool {
				return q.Proto == w.Proto && q.DSField == w.DSField && q.DPort == w.DPort && (w.SPort == 0 || q.SPort == w.SPort)
			})
			a.setKeep()
			tc.do(t, a)
			if len(questions()) == 0 || len(a.kept()) == 0 {
				t.Fatalf("%d questions, %d packets", len(questions()), len(a.kept()))
			}
			for _, q := range questions() {
				if q.Proto != w.Proto || q.DSField != w.DSField || q.DPort != w.DPort || w.SPort != 0 && q.SPort != w.SPort {
					t.Errorf("asked %+v", q)
				}
			}
			for _, p := range a.kept() {
				if got := addrOf(src(p.Bytes())); got != addrA2 {
					t.Errorf("a packet from %s", got)
				}
			}
		})
	}
}

// TestDialedUDPKnowsItsPort: the port that is chosen for a socket counts when its source is.
func TestDialedUDPKnowsItsPort(t *testing.T) {
	a, _ := newPair(t, clock.NewReal())
	asks(a, func(q module.RouteQuery) bool { return q.SPort >= ephemeralFirst })
	c, err := a.DialUDP(at(addrB, 53), SocketOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.LocalAddrPort(); got.Addr() != addrA2 || got.Port() < ephemeralFirst {
		t.Errorf("bound to %s", got)
	}
	a.route = func(module.RouteQuery) module.RouteResult { return module.RouteResult{} }
	if _, err := a.DialUDP(at(addrB, 53), SocketOptions{Local: at(netip.Addr{}, 7000)}); err == nil {
		t.Fatal("dialed without a route")
	}
	a.route = nil
	d, err := a.DialUDP(at(addrB, 53), SocketOptions{Local: at(netip.Addr{}, 7000)})
	if err != nil {
		t.Fatalf("the port of a socket that failed is not free: %v", err)
	}
	d.Close()
}

// TestProgressIsOfTheConnectionsRoute: the next hop that TCP proves is the one that its own segments take.
func TestProgressIsOfTheConnectionsRoute(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	client, server := connectPair(t, a, b, at(addrB, 443), SocketOptions{Local: at(netip.Addr{}, 7000), Mark: 7, TrafficClass: 0x20})
	transfer(t, client, server, 1000)
	a.mu.Lock()
	defer a.mu.Unlock()
	want := module.RouteQuery{Dst: addrB, Src: addrA, Mark: 7, DSField: 0x20, Proto: wire.TCP, SPort: 7000, DPort: 443}
	if len(a.proved) == 0 || a.proved[0] != want {
		t.Errorf("proved %+v, want %+v", a.proved, want)
	}
}

// TestConcurrentDialsKeepTheirSources: netstack asks for the source of a connection without saying
// whose it is.
func TestConcurrentDialsKeepTheirSources(t *testing.T) {
	a, b := newPair(t, clock.NewReal())
	asks(a, func(q module.RouteQuery) bool { return q.DPort == 443 })
	ports := map[uint16]netip.Addr{443: addrA2, 80: addrA}
	for port := range ports {
		l, err := b.ListenTCP(SocketOptions{Local: at(netip.Addr{}, port)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	const each = 50
	done := make(chan error, 2*each)
	for range each {
		for port, want := range ports {
			go func() {
				c, err := a.DialTCP(testContext(t), at(addrB, port), SocketOptions{})
				if err == nil {
					if got := addrAt(c.LocalAddr()); got != want {
						t.Errorf("to port %d from %s, want %s", port, got, want)
					}
					c.Abort()
				}
				done <- err
			}()
		}
	}
	for range 2 * each {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
