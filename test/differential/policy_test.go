// Package differential asks Linux and Leveret the same questions and wants the same answers. What may
// differ is listed with its reason in docs/differences.md.
package differential

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"leveret/extensions/policyroute"
	"leveret/extensions/policyroute/routeapi"
)

// links are the names of the links, on both sides.
var links = []string{"lan0", "lan1", "wan0", "wan1"}

// world is what does not change from one configuration to the next: the addresses.
type world struct {
	number int
	addrs  map[string][]netip.Prefix
}

// policy is one configuration.
type policy struct {
	rules  []ruleCase
	routes []routeCase
}

// ruleCase is a rule for us and, in numbers, for the kernel.
type ruleCase struct {
	spec         routeapi.RuleSpec
	from, to     netip.Prefix
	mark, mask   uint32
	dsField      uint8
	proto        uint8
	sport, dport [2]uint16
	table        uint32
}

type routeCase struct {
	cfg      policyroute.RouteConfig
	to, from netip.Prefix
	table    uint32
}

// question is one "route get".
type question struct {
	dst, src     netip.Addr
	in, out      string
	mark         uint32
	dsField      uint8
	proto        uint8
	sport, dport uint16
}

// answer is what both say.
type answer struct {
	refused string // the error; the rest is empty then
	typ     string
	dev     string
	gateway netip.Addr
	table   uint32
	metric  uint32
	source  netip.Addr // prefsrc: what a socket without a source would send from
	from    netip.Addr // the source asked for, or chosen by a rule on the source
}

// pool makes addresses and prefixes out of few values, so that they meet.
type pool struct{ *rand.Rand }

func (p pool) addr() netip.Addr {
	a := netip.MustParseAddr("2001:db8::").As16()
	a[5], a[7], a[15] = byte(p.IntN(3)), byte(p.IntN(4)), byte(1+p.IntN(4))
	return netip.AddrFrom16(a)
}

func (p pool) prefix() netip.Prefix {
	bits := []int{0, 16, 32, 47, 48, 56, 63, 64, 64, 65, 127, 128}[p.IntN(12)]
	return netip.PrefixFrom(p.addr(), bits).Masked()
}

// source is a prefix of sources, never all of them.
func (p pool) source() netip.Prefix {
	bits := []int{32, 48, 64, 64, 128}[p.IntN(5)]
	return netip.PrefixFrom(p.addr(), bits).Masked()
}

func (p pool) chance(percent int) bool { return p.IntN(100) < percent }

func pick[T any](p pool, list []T) T { return list[p.IntN(len(list))] }

func (p pool) world(n int) *world {
	w := &world{number: n, addrs: map[string][]netip.Prefix{}}
	seen := map[netip.Prefix]bool{}
	for i, l := range links {
		w.addrs[l] = []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("fe80::%x/64", 0x100+i))}
		for range p.IntN(3) {
			a := netip.PrefixFrom(p.addr(), 64)
			if !seen[a.Masked()] { // no prefix on two links: docs/differences.md
				seen[a.Masked()] = true
				w.addrs[l] = append(w.addrs[l], a)
			}
		}
	}
	return w
}

// own returns an address of the node, or of nobody.
func (p pool) own(w *world) netip.Addr {
	if as := w.addrs[pick(p, links)]; len(as) > 1 {
		return as[1+p.IntN(len(as)-1)].Addr()
	}
	return p.addr()
}

var tables = []uint32{100, 101, 102, 254}

func (p pool) policy(w *world) *policy {
	c := &policy{}
	type id struct {
		table    uint32
		to, from netip.Prefix
		metric   uint32
	}
	seen := map[id]bool{}
	bySource := map[id]bool{} // of a table and prefix: docs/differences.md
	for _, as := range w.addrs {
		for _, a := range as {
			bySource[id{table: 254, to: a.Masked()}] = false
		}
	}
	for range 2 + p.IntN(12) {
		r := routeCase{to: p.prefix(), table: pick(p, tables)}
		metric := pick(p, []uint32{10, 500, 1024, 2000})
		r.cfg = policyroute.RouteConfig{To: r.to.String(), Table: strconv.Itoa(int(r.table)), Metric: &metric}
		if p.chance(15) {
			r.from = p.source()
			r.cfg.From = r.from.String()
		}
		switch {
		case p.chance(30):
			r.cfg.Type = pick(p, []string{"blackhole", "unreachable", "prohibit", "throw", "throw"})
		case p.chance(60):
			r.cfg.Via = netip.MustParseAddr(fmt.Sprintf("fe80::%x", 1+p.IntN(4)))
			fallthrough
		default:
			r.cfg.Dev = pick(p, links)
			if p.chance(15) {
				if a := p.own(w); w.has(a) {
					r.cfg.Src = a
				}
			}
		}
		of := id{table: r.table, to: r.to}
		if was, known := bySource[of]; known && was != r.from.IsValid() {
			continue
		}
		if k := (id{r.table, r.to, r.from, metric}); !seen[k] {
			seen[k], bySource[of] = true, r.from.IsValid()
			c.routes = append(c.routes, r)
		}
	}
	prios := map[uint32]bool{}
	for range p.IntN(9) {
		r := p.rule()
		if prio := *r.spec.Priority; !prios[prio] {
			prios[prio] = true
			c.rules = append(c.rules, r)
		}
	}
	return c
}

func (w *world) has(a netip.Addr) bool {
	for _, as := range w.addrs {
		for _, x := range as {
			if x.Addr() == a {
				return true
			}
		}
	}
	return false
}

func (p pool) rule() (r ruleCase) {
	prio := uint32(1 + p.IntN(20)*10)
	if p.chance(5) {
		prio += 40000 // behind the rule of table main
	}
	r.spec.Priority = &prio
	for _, x := range []struct {
		percent int
		set     func()
	}{
		{15, func() { r.spec.Not = true }},
		{45, func() { r.from = p.source(); r.spec.From = r.from.String() }},
		{25, func() { r.to = netip.PrefixFrom(p.addr(), 48+16*p.IntN(2)).Masked(); r.spec.To = r.to.String() }},
		{15, func() { r.spec.IIF = pick(p, append([]string{"lo"}, links...)) }},
		{10, func() { r.spec.OIF = pick(p, links) }},
		{20, func() {
			r.mark, r.mask = p.Uint32N(4), 1+p.Uint32N(3)
			r.spec.FwMark = fmt.Sprintf("%#x/%#x", r.mark, r.mask)
		}},
		{10, func() { r.dsField = pick(p, []uint8{0x20, 0x44}); r.spec.DSField = fmt.Sprint(r.dsField) }},
		{10, func() { r.proto = pick(p, []uint8{6, 17}); r.spec.IPProto = fmt.Sprint(r.proto) }},
		{8, func() { r.sport = [2]uint16{1000, 1001}; r.spec.SPort = "1000-1001" }},
		{8, func() { r.dport = [2]uint16{80, 80}; r.spec.DPort = "80" }},
	} {
		if p.chance(x.percent) {
			x.set()
		}
	}
	switch {
	case p.chance(75):
		r.table = pick(p, append([]uint32{103}, tables...)) // 103 has no routes
		r.spec.Lookup = strconv.Itoa(int(r.table))
		if p.chance(25) {
			n := pick(p, []int{0, 32, 48, 64})
			r.spec.Suppress = &n
		}
	case p.chance(40):
		r.spec.Goto = prio + 1 + uint32(p.IntN(5)*10)
		if p.chance(20) {
			r.spec.Goto++ // there is no such rule
		}
		for r.spec.Goto > 32766 && r.spec.Goto < 40000 {
			r.spec.Goto += 10000
		}
	default:
		r.spec.Action = pick(p, []string{"nop", "blackhole", "unreachable", "prohibit"})
	}
	return r
}

func (p pool) question(w *world) (q question) {
	q.dst = p.addr()
	switch {
	case p.chance(35): // of this node, source to be chosen
		if p.chance(20) {
			q.out = pick(p, links)
		}
	case p.chance(40): // of this node
		q.src = p.own(w)
	default: // in transit
		q.src, q.in = p.addr(), pick(p, links)
	}
	if p.chance(30) {
		q.mark = p.Uint32N(4)
	}
	if p.chance(15) {
		q.dsField = pick(p, []uint8{0x20, 0x44})
	}
	if p.chance(25) {
		q.proto = pick(p, []uint8{6, 17})
		q.sport, q.dport = uint16(999+p.IntN(4)), uint16(79+p.IntN(3))
	}
	return q
}

// TestAnswersAreLinuxes: random rules, tables and routes, and questions to both.
func TestAnswersAreLinuxes(t *testing.T) {
	const worlds, policies, questions = 20, 500, 12
	seed := uint64(20261124)
	if s := os.Getenv("LVT_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	kinds := map[string]int{}
	asked, known, bad := 0, 0, 0
	for n := range worlds {
		p := pool{rand.New(rand.NewPCG(seed, uint64(n)))}
		w := p.world(n)
		k, l := newKernel(t, w), newLeveret(t, w)
		old := &policy{}
		for i := range policies {
			c := p.policy(w)
			k.configure(old, c)
			l.configure(c)
			old = c
			for range questions {
				q := p.question(w)
				want, got := k.ask(&q), l.ask(&q)
				asked++
				kinds[want.kind()]++
				switch l.compare(w, c, &q, want, got) {
				case equal:
					continue
				case listed:
					known++
					continue
				}
				if bad++; bad <= 5 {
					t.Errorf("seed %d, world %d, configuration %d: %s\nLinux   %s\nLeveret %s\n%s", seed, n, i, &q, want, got, c.text(w))
				}
			}
		}
	}
	t.Logf("%d configurations, %d questions, %d differ as listed, %d otherwise; Linux answered %v", worlds*policies, asked, known, bad, kinds)
	if known > asked/50 {
		t.Error("more than 2 % differ as listed: they are to be few")
	}
	for _, kind := range []string{"main", "100", "local", "Network is unreachable", "No route to host", "Permission denied", "Invalid argument"} {
		if kinds[kind] < 10 {
			t.Errorf("only %d answers were %q: the questions are too much alike", kinds[kind], kind)
		}
	}
}
