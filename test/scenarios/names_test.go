package scenarios

import (
	"encoding/binary"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"

	"leveret/appliance/control"
	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/test/simnet"
)

// namesLan is a host whose router announces two resolvers, the first of which never answers.
type namesLan struct {
	t     *testing.T
	net   *simnet.Net
	node  *simnet.Node
	peer  *simnet.Peer
	zone  map[string][]string // addresses by name
	asked []string            // server and name
}

const resolver1, resolver2 = "fe80::53", "2001:db8:53::53"

func newNamesLan(t *testing.T) *namesLan {
	l := &namesLan{t: t, net: simnet.New(t, 1), zone: map[string][]string{}}
	s := l.net.Segment("lan")
	l.node = l.net.Node("h", `version: 1
routing: {forwarding: false}
links: [{name: lan0, kind: pipe, link_local: "fe80::3", dad: {transmits: 0}}]
`, modules, map[string]*simnet.Segment{"lan0": s})
	l.peer = s.Peer("router")
	l.peer.OnFrame = l.frame
	l.net.Advance(5 * time.Second)
	return l
}

// announce sends the advertisement that the host lives by.
func (l *namesLan) announce(life time.Duration) {
	ra := ndwire.RA{
		Src: netip.MustParseAddr("fe80::1"), Dst: wire.AllNodes, RouterLifetime: time.Hour, SourceLLA: &l.peer.MAC,
		RDNSS: []ndwire.RDNSS{{Servers: []netip.Addr{netip.MustParseAddr(resolver1), netip.MustParseAddr(resolver2)}, Lifetime: life}},
		DNSSL: []ndwire.DNSSL{{Domains: []string{"corp.example"}, Lifetime: life}},
		Prefixes: []ndwire.PrefixInfo{
			{Prefix: netip.MustParsePrefix("2001:db8:1::/64"), OnLink: true, Autonomous: true, Valid: time.Hour, Preferred: time.Hour},
		},
	}
	l.peer.Send([6]byte{0x33, 0x33, 0, 0, 0, 1}, ndwire.AppendRA(nil, ra))
	l.net.Advance(5 * time.Second)
}

// frame answers for everybody: neighbor solicitations, questions to the second resolver, echo requests.
func (l *namesLan) frame(f simnet.Frame) {
	b := f.Data[14:]
	if m, err := ndwire.Parse(b, wire.IPv6HeaderLen, false); err == nil {
		if m.Type == wire.TypeNeighborSolicitation && !m.Src.IsUnspecified() {
			l.send(ndwire.AppendNA(nil, ndwire.NA{Src: m.Target, Dst: m.Src, Target: m.Target, Solicited: true, Override: true, TargetLLA: &l.peer.MAC, Router: m.Target == netip.MustParseAddr("fe80::1")}))
		}
		return
	}
	h, err := wire.ParseIPv6(b)
	if err != nil {
		l.t.Error(err)
		return
	}
	r := wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: h.NextHeader(), HopLimit: 64, Src: h.Dst(), Dst: h.Src()})
	switch b := b[40:]; {
	case h.NextHeader() == wire.ICMPv6 && b[0] == wire.TypeEchoRequest:
		r = append(r, b...)
		r[40] = wire.TypeEchoReply
		binary.BigEndian.PutUint16(r[4:], uint16(len(b)))
		wire.UpdateICMPv6Checksum(r, 40)
	case h.NextHeader() == wire.UDP && binary.BigEndian.Uint16(b[2:]) == 53:
		a := l.lookup(h.Dst().String(), b[8:])
		if a == nil {
			return
		}
		r = append(append(r, b[2], b[3], b[0], b[1], 0, 0, 0, 0), a...)
		binary.BigEndian.PutUint16(r[4:], uint16(8+len(a)))
		binary.BigEndian.PutUint16(r[44:], uint16(8+len(a)))
		src, dst := h.Dst().As16(), h.Src().As16()
		binary.BigEndian.PutUint16(r[46:], wire.Checksum(&src, &dst, wire.UDP, r[40:]))
	default:
		return
	}
	l.send(r)
}

func (l *namesLan) send(b []byte) { l.peer.Send(l.node.Links().Name("lan0").MAC, b) }

// lookup is the name server.
func (l *namesLan) lookup(server string, q []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil || len(m.Questions) != 1 || m.Questions[0].Type != dnsmessage.TypeAAAA {
		l.t.Errorf("asked %x: %v", q, err)
		return nil
	}
	name := m.Questions[0].Name
	l.asked = append(l.asked, server+" "+name.String())
	if server == resolver1 {
		return nil
	}
	list, ok := l.zone[name.String()]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range list {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(a).As16()},
		})
	}
	out, err := m.Pack()
	if err != nil {
		l.t.Error(err)
	}
	return out
}

// ask runs one request of the API while time passes, and returns the answer.
func (l *namesLan) ask(path, body string) (status int, answer string) {
	l.t.Helper()
	s := control.NewServer(zap.NewNop())
	l.node.RegisterAPI(s)
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeHTTP(w, httptest.NewRequestWithContext(l.t.Context(), "POST", path, strings.NewReader(body)))
	}()
	for range 10_000 {
		select {
		case <-done:
			return w.Code, w.Body.String()
		default:
			l.net.Advance(5 * time.Millisecond)
			time.Sleep(time.Millisecond) // the request is on a goroutine of its own
		}
	}
	l.t.Fatalf("%s %s does not end", path, body)
	return 0, ""
}

// TestNames: ping and traceroute find the addresses of a name by the resolvers that routers announce, and
// take the one that RFC 6724 6 puts first.
func TestNames(t *testing.T) {
	l := newNamesLan(t)
	ping := func(name string) (int, string) {
		return l.ask("/v1/ping", fmt.Sprintf(`{"name":%q,"count":1,"size":56,"interval":1,"timeout":1}`, name))
	}
	l.zone["host.corp.example."] = []string{"fd00::1", "2001:db8:8000::1", "2001:db8:7::1"}
	l.zone["empty.example."] = nil
	if code, got := ping("host"); code != 409 || !strings.Contains(got, "host: Temporary failure in name resolution: no resolver is known") {
		t.Errorf("without resolvers: %d %s", code, got)
	}
	l.announce(time.Hour)

	code, got := ping("host")
	if code != 200 || !strings.Contains(got, `{"event":"start","dst":"2001:db8:7::1","source":"2001:db8:1:`) ||
		!strings.Contains(got, `{"event":"reply","seq":1,"from":"2001:db8:7::1","bytes":64,"ttl":64`) {
		t.Errorf("%d %s", code, got)
	}
	if want := []string{resolver1 + " host.corp.example.", resolver2 + " host.corp.example."}; !slices.Equal(l.asked, want) {
		t.Errorf("asked %q, want %q", l.asked, want)
	}
	code, got = l.ask("/v1/traceroute", `{"name":"host","first_hop":1,"max_hops":1,"probes":1,"timeout":1,"size":80}`)
	if code != 200 || !strings.HasPrefix(got, `{"dst":"2001:db8:7::1"}`+"\n"+`{"hop":1,"probe":1`) {
		t.Errorf("%d %s", code, got)
	}
	for name, want := range map[string]string{
		"nobody.example": "nobody.example: Name or service not known",
		"empty.example":  "empty.example: No address associated with hostname",
	} {
		if code, got := ping(name); code != 409 || !strings.Contains(got, want) {
			t.Errorf("%d %s, want %s", code, got, want)
		}
	}
	for _, body := range []string{`{"size":56,"interval":1,"timeout":1}`, `{"dst":"2001:db8::1","name":"host","size":56,"interval":1,"timeout":1}`} {
		if code, got := l.ask("/v1/ping", body); code != 400 || !strings.Contains(got, "one of dst and name is wanted") {
			t.Errorf("%s: %d %s", body, code, got)
		}
	}

	l.announce(0)
	if code, got := ping("host"); code != 409 || !strings.Contains(got, "no resolver is known") {
		t.Errorf("after their lifetime: %d %s", code, got)
	}
}
