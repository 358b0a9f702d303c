package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

// lab is a resolver among scripted servers. One bubble of synctest holds it: time passes by itself.
type lab struct {
	t     testing.TB
	known module.Resolvers
	// answer returns the messages that a server sends back for a query over udp or tcp.
	answer func(server, proto string, q []byte) [][]byte
	refuse error // of dialing

	mu    sync.Mutex
	asked []string // server, protocol and question
	ids   []uint16
	ports []uint16
}

func newLab(t testing.TB, servers ...string) *lab {
	l := &lab{t: t}
	for _, s := range servers {
		l.known.Servers = append(l.known.Servers, netip.MustParseAddr(s))
	}
	return l
}

func (l *lab) resolver() *Resolver {
	return New(Options{
		Known: func() module.Resolvers { return l.known },
		DialUDP: func(server netip.AddrPort, port uint16) (net.Conn, error) {
			l.mu.Lock()
			l.ports = append(l.ports, port)
			l.mu.Unlock()
			return l.dial(server, "udp")
		},
		DialTCP: func(_ context.Context, server netip.AddrPort) (net.Conn, error) { return l.dial(server, "tcp") },
		Clock:   clock.NewReal(),
	})
}

func (l *lab) dial(server netip.AddrPort, proto string) (net.Conn, error) {
	if l.refuse != nil {
		return nil, &net.OpError{Op: "dial", Net: proto, Err: l.refuse}
	}
	if server.Port() != 53 {
		l.t.Errorf("port %d", server.Port())
	}
	ours, theirs := net.Pipe()
	go l.serve(server.Addr().String(), proto, theirs)
	return ours, nil
}

func (l *lab) serve(server, proto string, c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		return
	}
	q := buf[:n]
	if proto == "tcp" {
		if int(binary.BigEndian.Uint16(q)) != n-2 {
			l.t.Errorf("length %x of %d", q[:2], n-2)
		}
		q = q[2:]
	}
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil {
		l.t.Error(err)
		return
	}
	text := server + " " + proto + " " + m.Questions[0].Name.String()
	if len(m.Additionals) == 0 {
		text += " plain"
	}
	l.mu.Lock()
	l.asked, l.ids = append(l.asked, text), append(l.ids, m.ID)
	l.mu.Unlock()
	for _, b := range l.answer(server, proto, q) {
		if proto == "tcp" {
			b = append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, c) // until the resolver has had enough
}

// name returns the name that a query asks for.
func name(t testing.TB, q []byte) string {
	var m dnsmessage.Message
	if err := m.Unpack(q); err != nil {
		t.Fatal(err)
	}
	return m.Questions[0].Name.String()
}

// TestLookup: which servers are asked for which names, in which order, and what comes of it.
func TestLookup(t *testing.T) {
	const s1, s2 = "2001:db8::53", "fe80::53%lan0"
	const ok = dnsmessage.RCodeSuccess
	good := func(t testing.TB, q []byte) [][]byte {
		return [][]byte{answer(t, q, ok, aaaa(name(t, q), "2001:db8::1"))}
	}
	for _, c := range []struct {
		name    string
		host    string
		domains []string
		answer  func(t testing.TB, server, proto string, q []byte) [][]byte
		want    string
		asked   []string
		after   time.Duration
	}{
		{
			name: "the first server answers", host: "host.example", want: "2001:db8::1", asked: []string{s1 + " udp host.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte { return good(t, q) },
		},
		{
			name: "the first server is silent", host: "host.example", want: "2001:db8::1", after: 2 * time.Second,
			asked: []string{s1 + " udp host.example.", s2 + " udp host.example."},
			answer: func(t testing.TB, server, _ string, q []byte) [][]byte {
				if server == s1 {
					return nil
				}
				return good(t, q)
			},
		},
		{
			name: "all are silent, twice", host: "host.example", after: 8 * time.Second,
			want:   "host.example: Temporary failure in name resolution: fe80::53%lan0: no answer",
			asked:  []string{s1 + " udp host.example.", s2 + " udp host.example.", s1 + " udp host.example.", s2 + " udp host.example."},
			answer: func(testing.TB, string, string, []byte) [][]byte { return nil },
		},
		{
			name: "failures are no answers", host: "host.example", want: "2001:db8::1",
			asked: []string{s1 + " udp host.example.", s2 + " udp host.example."},
			answer: func(t testing.TB, server, _ string, q []byte) [][]byte {
				if server == s1 {
					return [][]byte{answer(t, q, dnsmessage.RCodeServerFailure)}
				}
				return good(t, q)
			},
		},
		{
			name: "all refuse", host: "host.example", want: "host.example: Temporary failure in name resolution: fe80::53%lan0: refused",
			asked: []string{s1 + " udp host.example.", s2 + " udp host.example.", s1 + " udp host.example.", s2 + " udp host.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				return [][]byte{answer(t, q, dnsmessage.RCodeRefused)}
			},
		},
		{
			name: "no such name", host: "host.example", want: "host.example: Name or service not known", asked: []string{s1 + " udp host.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				return [][]byte{answer(t, q, dnsmessage.RCodeNameError)}
			},
		},
		{
			name: "no address", host: "host.example", want: "host.example: No address associated with hostname", asked: []string{s1 + " udp host.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte { return [][]byte{answer(t, q, ok)} },
		},
		{
			name: "others answer first", host: "host.example", want: "2001:db8::1", asked: []string{s1 + " udp host.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				late := slices.Clone(q)
				late[1]++
				forged, err := query(binary.BigEndian.Uint16(q), dnsmessage.MustNewName("other.example."), false)
				if err != nil {
					t.Fatal(err)
				}
				return [][]byte{
					{1, 2, 3}, answer(t, late, ok, aaaa("host.example.", "2001:db8::bad")), answer(t, forged, ok, aaaa("other.example.", "2001:db8::bad")), good(t, q)[0],
				}
			},
		},
		{
			name: "truncated: over TCP", host: "host.example", want: "2001:db8::1", asked: []string{s1 + " udp host.example.", s1 + " tcp host.example."},
			answer: func(t testing.TB, _, proto string, q []byte) [][]byte {
				b := good(t, q)
				if proto == "udp" {
					b[0][2] |= 2
				}
				return b
			},
		},
		{
			name: "without EDNS0", host: "host.example", want: "2001:db8::1", asked: []string{s1 + " udp host.example.", s1 + " udp host.example. plain"},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				if q[11] == 1 { // an OPT record
					return [][]byte{answer(t, q, dnsmessage.RCodeFormatError)}
				}
				return good(t, q)
			},
		},
		{
			name: "an alias", host: "www.example", want: "2001:db8::7", asked: []string{s1 + " udp www.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				return [][]byte{answer(t, q, ok, alias("www.example.", "host.example."), aaaa("host.example.", "2001:db8::7"))}
			},
		},
		{
			name: "the search list first", host: "host", domains: []string{"a.example", "-b.example", "c.example"}, want: "2001:db8::1",
			asked: []string{s1 + " udp host.a.example.", s1 + " udp host.-b.example.", s1 + " udp host.c.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				if name(t, q) == "host.c.example." {
					return good(t, q)
				}
				return [][]byte{answer(t, q, dnsmessage.RCodeNameError)}
			},
		},
		{
			name: "the search list last", host: "host.sub", domains: []string{"a.example"}, want: "host.sub: No address associated with hostname",
			asked: []string{s1 + " udp host.sub.", s1 + " udp host.sub.a.example."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte {
				if name(t, q) == "host.sub." {
					return [][]byte{answer(t, q, ok)}
				}
				return [][]byte{answer(t, q, dnsmessage.RCodeNameError)}
			},
		},
		{
			name: "no search list", host: "host.", domains: []string{"a.example"}, want: "2001:db8::1", asked: []string{s1 + " udp host."},
			answer: func(t testing.TB, _, _ string, q []byte) [][]byte { return good(t, q) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, s1, s2)
				l.known.Domains = c.domains
				l.answer = func(server, proto string, q []byte) [][]byte { return c.answer(t, server, proto, q) }
				began := time.Now()
				got := result(l.resolver().Lookup(t.Context(), c.host))
				took := time.Since(began)
				if synctest.Wait(); got != c.want || !slices.Equal(l.asked, c.asked) || took != c.after {
					t.Errorf("%s after %s, want %s\nasked %q\nwant  %q", got, took, c.want, l.asked, c.asked)
				}
			})
		})
	}
}

func result(addrs []netip.Addr, err error) string {
	if err != nil {
		return err.Error()
	}
	return strings.Trim(fmt.Sprint(addrs), "[]")
}

// TestLookupAsksNobody: what is no name, and when no resolver is known.
func TestLookupAsksNobody(t *testing.T) {
	for _, host := range []string{"", ".", "..", "a..b", ".a", "a b", "a/b", "a%lan0", "a:b", "a\x00b", strings.Repeat("x", 64), strings.Repeat("x.", 127) + "xx"} {
		l := newLab(t, "2001:db8::53")
		if _, err := l.resolver().Lookup(t.Context(), host); !errors.Is(err, ErrUnknown) || len(l.ports) != 0 {
			t.Errorf("%q: %v, asked %d times", host, err, len(l.ports))
		}
	}
	l := newLab(t, "2001:db8::53")
	if _, err := l.resolver().Lookup(t.Context(), "bücher.example"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "xn--") {
		t.Error(err)
	}
	if _, err := newLab(t).resolver().Lookup(t.Context(), "host.example"); !errors.Is(err, ErrTemporary) || !strings.Contains(err.Error(), "no resolver is known") {
		t.Error(err)
	}
	l.refuse = errors.New("Network is unreachable")
	if got, want := result(l.resolver().Lookup(t.Context(), "host.example")), "host.example: Temporary failure in name resolution: 2001:db8::53: Network is unreachable"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestLookupIsBounded: of many servers three are asked, of many domains six, and all has an end.
func TestLookupIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4")
		for i := range 16 {
			l.known.Domains = append(l.known.Domains, fmt.Sprintf("d%d.example", i))
		}
		// Two silent ones, and then one that does not know the name: the slowest that there is.
		l.answer = func(server, _ string, q []byte) [][]byte {
			if server != "2001:db8::3" {
				return nil
			}
			return [][]byte{answer(t, q, dnsmessage.RCodeNameError)}
		}
		began := time.Now()
		_, err := l.resolver().Lookup(t.Context(), "host")
		if took := time.Since(began); !errors.Is(err, ErrTemporary) || took != patience {
			t.Errorf("%v after %s", err, took)
		}
		synctest.Wait()
		for _, a := range l.asked {
			if strings.HasPrefix(a, "2001:db8::4") || strings.Contains(a, "host.d6.") {
				t.Errorf("asked %s", a)
			}
		}
	})
}

// TestLookupEnds when its caller does, while a server is silent.
func TestLookupEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "2001:db8::53")
		l.answer = func(string, string, []byte) [][]byte { return nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := l.resolver().Lookup(ctx, "host.example"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		synctest.Wait()
	})
}

// TestNumbersAreRandom: identifiers and ports are another each time (RFC 5452 9.2).
func TestNumbersAreRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, "2001:db8::53")
		l.answer = func(_, _ string, q []byte) [][]byte { return [][]byte{answer(t, q, dnsmessage.RCodeNameError)} }
		r := l.resolver()
		for range 64 {
			_, _ = r.Lookup(t.Context(), "host.example")
		}
		synctest.Wait()
		ids, ports := map[uint16]bool{}, map[uint16]bool{}
		for i := range l.ids {
			ids[l.ids[i]], ports[l.ports[i]] = true, true
			if l.ports[i] < firstPort {
				t.Errorf("port %d", l.ports[i])
			}
		}
		if len(l.ids) != 64 || len(ids) < 60 || len(ports) < 60 {
			t.Errorf("of %d questions %d identifiers and %d ports", len(l.ids), len(ids), len(ports))
		}
	})
}
