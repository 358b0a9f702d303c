// Package resolver finds the IPv6 addresses of names, as a stub resolver (RFC 1123 6.1.3.1): it asks the
// servers that routers announce (RFC 8106), from inside the appliance, for AAAA records only.
//
// Servers and the search list are used as resolv.conf(5) says: the servers in order, twice, until one
// answers; a name with a dot as it is first, one without through the search list first.
//
// An answer is believed when it comes from the address and port that were asked, to the port that asked, with
// the question and its identifier; both numbers are random (RFC 5452 9). A truncated one is fetched over TCP
// (RFC 7766). Nothing is cached and nothing validated: that is the servers' work.
package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"leveret/appliance/clock"
	"leveret/appliance/module"
)

// The bounds, resolv.conf(5)'s but for the timeout.
const (
	maxServers = 3
	maxDomains = 6
	tries      = 2 // of each server
	timeout    = 2 * time.Second
	// patience is for all names of a search list together.
	patience = 20 * time.Second
)

const (
	serverPort = 53
	// Ports to send from are the dynamic ones (RFC 6335 6), as those of other sockets, but picked by who keeps
	// his secret: what a socket gets by itself can be guessed by who has seen others.
	firstPort = 49152
	portCount = 65536 - firstPort
)

// What is wrong, in the words of gai_strerror(3), which users of ping know.
var (
	ErrUnknown   = errors.New("Name or service not known")
	ErrNoAddress = errors.New("No address associated with hostname")
	ErrTemporary = errors.New("Temporary failure in name resolution")
)

// Options are what a resolver is made of.
type Options struct {
	// Known returns the servers and the search list as they are now.
	Known func() module.Resolvers
	// DialUDP and DialTCP open a connection to a server. port is where to send from.
	DialUDP func(server netip.AddrPort, port uint16) (net.Conn, error)
	DialTCP func(ctx context.Context, server netip.AddrPort) (net.Conn, error)
	Clock   clock.Clock
	Seed    [32]byte // of identifiers and ports: secret
}

// Resolver resolves names. Its methods may be called by any goroutine.
type Resolver struct {
	o    Options
	mu   sync.Mutex
	rand *rand.Rand
}

// New returns a resolver.
func New(o Options) *Resolver {
	return &Resolver{o: o, rand: rand.New(rand.NewChaCha8(o.Seed))}
}

// random returns a number in [0, n) that nobody can foresee.
func (r *Resolver) random(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rand.IntN(n)
}

// Lookup returns the addresses of a name, one at least and 32 at most, in the server's order, without zones.
// The errors begin with the name and wrap ErrUnknown, ErrNoAddress, ErrTemporary or ctx's.
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	known := r.o.Known()
	names := candidates(name, known.Domains)
	switch {
	case strings.ContainsFunc(name, func(c rune) bool { return c >= 0x80 }):
		return nil, fmt.Errorf("%s: %w: write other letters than ASCII in their xn-- form", name, ErrUnknown)
	case names == nil:
		return nil, fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	if len(known.Servers) == 0 {
		return nil, fmt.Errorf("%s: %w: no resolver is known: no router announces one (RDNSS) on a link that learns (host.accept_ra); give an address instead", name, ErrTemporary)
	}
	servers := known.Servers[:min(len(known.Servers), maxServers)]
	end := r.o.Clock.Now().Add(patience)
	result := ErrUnknown
	for _, n := range names {
		addrs, err := r.resolve(ctx, n, servers, end)
		switch {
		case err == nil:
			return addrs, nil
		case errors.Is(err, ErrNoAddress):
			result = err
		case !errors.Is(err, ErrUnknown):
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil, fmt.Errorf("%s: %w", name, result)
}

// candidates returns the names that a name may stand for, in the order in which they are tried; none if it
// is no host name.
func candidates(name string, domains []string) (out []dnsmessage.Name) {
	add := func(s string) {
		if !hostname(s) {
			return
		}
		if n, err := dnsmessage.NewName(s + "."); err == nil {
			out = append(out, n)
		}
	}
	bare, absolute := strings.CutSuffix(name, ".")
	if !hostname(bare) {
		return nil
	}
	dotted := strings.Contains(bare, ".")
	if absolute || dotted {
		add(bare)
	}
	if absolute {
		return out
	}
	for _, d := range domains[:min(len(domains), maxDomains)] {
		add(bare + "." + strings.TrimSuffix(d, "."))
	}
	if !dotted {
		add(bare)
	}
	return out
}

// hostname reports whether s, without a dot at its end, is one (RFC 1123 2.1); underscores are let through,
// since they are in use.
func hostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// resolve asks the servers for one name until one answers.
func (r *Resolver) resolve(ctx context.Context, name dnsmessage.Name, servers []netip.Addr, end clock.Instant) ([]netip.Addr, error) {
	var last error
	for range tries {
		for _, s := range servers {
			if r.o.Clock.Now() >= end {
				break
			}
			rep, err := r.ask(ctx, netip.AddrPortFrom(s, serverPort), name)
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil:
				last = fmt.Errorf("%s: %w", s, err)
			case rep.rcode == dnsmessage.RCodeNameError:
				return nil, ErrUnknown
			case rep.rcode != dnsmessage.RCodeSuccess:
				last = fmt.Errorf("%s: %s", s, rcodeText(rep.rcode))
			case rep.lame:
				last = fmt.Errorf("%s: it does not ask others", s)
			case len(rep.addrs) == 0:
				return nil, ErrNoAddress
			default:
				return rep.addrs, nil
			}
		}
	}
	if last == nil {
		last = errors.New("no time left")
	}
	return nil, fmt.Errorf("%w: %w", ErrTemporary, last)
}

// rcodeText returns the name of a response code (RFC 1035 4.1.1).
func rcodeText(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeFormatError:
		return "format error"
	case dnsmessage.RCodeServerFailure:
		return "server failure"
	case dnsmessage.RCodeNotImplemented:
		return "not implemented"
	case dnsmessage.RCodeRefused:
		return "refused"
	}
	return fmt.Sprintf("response code %d", c)
}

// ask asks one server: by UDP, by TCP if that was too short, and without EDNS0 if it does not know that
// (RFC 6891 6.2.2, 7).
func (r *Resolver) ask(ctx context.Context, server netip.AddrPort, name dnsmessage.Name) (rep reply, err error) {
	for _, edns := range []bool{true, false} {
		id := uint16(r.random(1 << 16))
		q, err := query(id, name, edns)
		if err != nil {
			return rep, err
		}
		rep, err = r.exchange(ctx, func(context.Context) (net.Conn, error) {
			return r.o.DialUDP(server, uint16(firstPort+r.random(portCount)))
		}, func(c net.Conn) (reply, error) {
			return overUDP(c, q, id, name)
		})
		if err == nil && rep.truncated {
			rep, err = r.exchange(ctx, func(ctx context.Context) (net.Conn, error) { return r.o.DialTCP(ctx, server) }, func(c net.Conn) (reply, error) {
				return overTCP(c, q, id, name)
			})
		}
		if err != nil || rep.rcode != dnsmessage.RCodeFormatError && rep.rcode != dnsmessage.RCodeNotImplemented {
			return rep, err
		}
	}
	return rep, nil
}

// errSilent: the time is over.
var errSilent = errors.New("no answer")

// exchange gives one question its time, on the appliance's clock.
func (r *Resolver) exchange(ctx context.Context, dial func(context.Context) (net.Conn, error), ask func(net.Conn) (reply, error)) (rep reply, err error) {
	timed, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := r.o.Clock.AfterFunc(timeout, cancel)
	defer timer.Stop()
	c, err := dial(timed)
	if err == nil {
		defer c.Close()
		defer context.AfterFunc(timed, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
		rep, err = ask(c)
	}
	var op *net.OpError
	switch {
	case err != nil && timed.Err() != nil:
		err = errSilent
	case errors.As(err, &op):
		err = op.Err
	}
	return rep, err
}

func overUDP(c net.Conn, q []byte, id uint16, name dnsmessage.Name) (reply, error) {
	if _, err := c.Write(q); err != nil {
		return reply{}, err
	}
	buf := make([]byte, maxUDP)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return reply{}, err
		}
		if rep, err := parse(buf[:n], id, name); !errors.Is(err, errOther) {
			return rep, err
		}
	}
}

// overTCP puts the length before each message (RFC 1035 4.2.2).
func overTCP(c net.Conn, q []byte, id uint16, name dnsmessage.Name) (reply, error) {
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return reply{}, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return reply{}, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, msg); err != nil {
		return reply{}, err
	}
	rep, err := parse(msg, id, name)
	if err == nil && rep.truncated {
		err = errMalformed
	}
	return rep, err
}
