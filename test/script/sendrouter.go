package script

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"leveret/appliance/wire"
	"leveret/extensions/ndp/ndwire"
	"leveret/test/simnet"
)

// words are the arguments of a command, taken one after the other. The first fault counts.
type words struct {
	left []string
	err  error
}

func (w *words) more() bool { return w.err == nil && len(w.left) > 0 }

func (w *words) next() string {
	if len(w.left) == 0 {
		if w.err == nil {
			w.err = fmt.Errorf("a word is missing")
		}
		return ""
	}
	s := w.left[0]
	w.left = w.left[1:]
	return s
}

func take[T any](w *words, parse func(string) (T, error)) T {
	v, err := parse(w.next())
	if err != nil && w.err == nil {
		w.err = err
	}
	return v
}

func (w *words) addr() netip.Addr     { return take(w, netip.ParseAddr) }
func (w *words) prefix() netip.Prefix { return take(w, netip.ParsePrefix) }
func (w *words) number() int          { return take(w, strconv.Atoi) }

// life reads a lifetime: a duration, or infinity.
func (w *words) life() time.Duration {
	return take(w, func(s string) (time.Duration, error) {
		if s == "infinity" {
			return ndwire.Infinite, nil
		}
		return time.ParseDuration(s)
	})
}

func (w *words) preference() (p ndwire.Preference) {
	if err := p.UnmarshalText([]byte(w.next())); err != nil && w.err == nil {
		w.err = err
	}
	return p
}

// sendRA sends "ra [from ADDR] [lifetime D] [pref P] [hoplimit N] [mtu N] [reachable D] [retrans D]
// [prefix P VALID PREFERRED [LAR]] [route P PREF LIFETIME] [dns ADDR LIFETIME] [search NAME LIFETIME]
// [nat64 P LIFETIME] [managed] [other] [nolla]".
func (r *runner) sendRA(p *simnet.Peer, args []string) error {
	w := &words{left: args}
	ra := ndwire.RA{Src: netip.MustParseAddr("fe80::99"), Dst: wire.AllNodes, SourceLLA: &p.MAC}
	for w.more() {
		switch k := w.next(); k {
		case "from":
			ra.Src = w.addr()
		case "lifetime":
			ra.RouterLifetime = w.life()
		case "pref":
			ra.Preference = w.preference()
		case "hoplimit":
			ra.CurHopLimit = uint8(w.number())
		case "mtu":
			ra.MTU = uint32(w.number())
		case "reachable":
			ra.ReachableTime = w.life()
		case "retrans":
			ra.RetransTimer = w.life()
		case "prefix":
			x := ndwire.PrefixInfo{Prefix: w.prefix(), Valid: w.life(), Preferred: w.life(), OnLink: true, Autonomous: true}
			if len(w.left) > 0 && strings.Trim(w.left[0], "LA") == "" {
				flags := w.next()
				x.OnLink, x.Autonomous = strings.Contains(flags, "L"), strings.Contains(flags, "A")
			}
			ra.Prefixes = append(ra.Prefixes, x)
		case "route":
			ra.Routes = append(ra.Routes, ndwire.RouteInfo{Prefix: w.prefix(), Preference: w.preference(), Lifetime: w.life()})
		case "dns":
			ra.RDNSS = append(ra.RDNSS, ndwire.RDNSS{Servers: []netip.Addr{w.addr()}, Lifetime: w.life()})
		case "search":
			ra.DNSSL = append(ra.DNSSL, ndwire.DNSSL{Domains: []string{w.next()}, Lifetime: w.life()})
		case "nat64":
			ra.PREF64 = append(ra.PREF64, ndwire.PREF64{Prefix: w.prefix(), Lifetime: w.life()})
		case "managed":
			ra.Managed = true
		case "other":
			ra.Other = true
		case "nolla":
			ra.SourceLLA = nil
		default:
			return fmt.Errorf("unknown word %q", k)
		}
	}
	if w.err != nil {
		return w.err
	}
	p.Send([6]byte{0x33, 0x33, 0, 0, 0, 1}, ndwire.AppendRA(nil, ra))
	return nil
}

// sendRS sends "rs from ADDR [nolla]".
func (r *runner) sendRS(p *simnet.Peer, args []string) error {
	w := &words{left: args}
	rs := ndwire.RS{Src: netip.MustParseAddr("fe80::99"), Dst: wire.AllRouters, SourceLLA: &p.MAC}
	for w.more() {
		switch k := w.next(); k {
		case "from":
			rs.Src = w.addr()
		case "nolla":
			rs.SourceLLA = nil
		default:
			return fmt.Errorf("unknown word %q", k)
		}
	}
	if rs.Src.IsUnspecified() {
		rs.SourceLLA = nil
	}
	p.Send([6]byte{0x33, 0x33, 0, 0, 0, 2}, ndwire.AppendRS(nil, rs))
	return w.err
}

// sendRedirect sends "redirect DESTINATION TARGET from ROUTER to HOST [about SOURCE] [lla]"; about is the source of
// the packet that was redirected.
func (r *runner) sendRedirect(p *simnet.Peer, args []string) error {
	w := &words{left: args}
	m := ndwire.Redirect{Destination: w.addr(), Target: w.addr(), Src: netip.MustParseAddr("fe80::99")}
	for w.more() {
		switch k := w.next(); k {
		case "from":
			m.Src = w.addr()
		case "to":
			m.Dst = w.addr()
		case "about":
			m.Packet = wire.AppendIPv6(nil, wire.IPv6Fields{NextHeader: wire.NoNext, HopLimit: 63, Src: w.addr(), Dst: m.Destination})
		case "lla":
			m.TargetLLA = &p.MAC
		default:
			return fmt.Errorf("unknown word %q", k)
		}
	}
	if w.err != nil {
		return w.err
	}
	p.Send(r.macOf(m.Dst), ndwire.AppendRedirect(nil, m))
	return nil
}

// describeRA writes what an advertisement says.
func describeRA(m ndwire.RA) string {
	var s strings.Builder
	life := func(d time.Duration) string {
		if d == ndwire.Infinite {
			return "infinity"
		}
		return d.String()
	}
	fmt.Fprintf(&s, ", lifetime %s %s, hop limit %d, M=%d O=%d, reachable %s, retrans %s",
		life(m.RouterLifetime), m.Preference, m.CurHopLimit, bit(m.Managed), bit(m.Other), m.ReachableTime, m.RetransTimer)
	if m.SourceLLA != nil {
		s.WriteString(", lladdr")
	}
	if m.MTU != 0 {
		fmt.Fprintf(&s, ", mtu %d", m.MTU)
	}
	for _, p := range m.Prefixes {
		fmt.Fprintf(&s, ", prefix %s L=%d A=%d %s/%s", p.Prefix, bit(p.OnLink), bit(p.Autonomous), life(p.Valid), life(p.Preferred))
	}
	for _, x := range m.Routes {
		fmt.Fprintf(&s, ", route %s %s %s", x.Prefix, x.Preference, life(x.Lifetime))
	}
	for _, x := range m.RDNSS {
		fmt.Fprintf(&s, ", dns %s %s", x.Servers, life(x.Lifetime))
	}
	for _, x := range m.DNSSL {
		fmt.Fprintf(&s, ", search %s %s", x.Domains, life(x.Lifetime))
	}
	for _, x := range m.PREF64 {
		fmt.Fprintf(&s, ", nat64 %s %s", x.Prefix, life(x.Lifetime))
	}
	return s.String()
}
