package differential

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/appliance/module/moduletest"
	"leveret/extensions/policyroute"
	"leveret/extensions/policyroute/routeapi"
)

// leveret is our module, asked by the handler of "leveret route get".
type leveret struct {
	*moduletest.Host
	t   *testing.T
	m   *policyroute.Module
	get module.Handler
}

// Handle implements [module.Host].
func (l *leveret) Handle(method, path string, h module.Handler) {
	if method == "GET" && path == "/v1/route/get" {
		l.get = h
	}
}

// Watched implements [module.Host].
func (l *leveret) Watched(string) bool { return false }

// Publish implements [module.Host].
func (l *leveret) Publish(string, any) {}

func newLeveret(t *testing.T, w *world) *leveret {
	t.Helper()
	l := &leveret{Host: moduletest.NewHost(), t: t, m: policyroute.New()}
	var addrs []*module.Addr
	for i, name := range links {
		l.LinkList = append(l.LinkList, &module.Link{Index: i + 1, Name: name, MTU: 1500, Up: true, Carrier: true})
		for _, a := range slices.Backward(w.addrs[name]) { // of equally good sources Linux takes the newest, we the first
			addrs = append(addrs, &module.Addr{Addr: a.Addr(), PrefixLen: a.Bits(), Link: i + 1, ValidUntil: clock.Never, PreferredUntil: clock.Never})
		}
	}
	l.AddrSnap = module.NewAddrs(addrs, nil)
	if err := l.m.Init(l); err != nil {
		t.Fatal(err)
	}
	l.configure(&policy{})
	l.m.Start(0)
	l.m.LinksChanged(0, l.Links())
	l.m.AddrsChanged(0, l.AddrSnap)
	return l
}

func (l *leveret) configure(c *policy) {
	cfg := &module.Config{}
	for i, name := range links {
		cfg.Links = append(cfg.Links, module.LinkConfig{Name: name, Index: i + 1})
	}
	var rules moduletest.Section[[]routeapi.RuleSpec]
	for _, r := range c.rules {
		rules.Value = append(rules.Value, r.spec)
	}
	var routes moduletest.Section[[]policyroute.RouteConfig]
	for _, r := range c.routes {
		routes.Value = append(routes.Value, r.cfg)
	}
	cfg.Sections = map[string]module.Section{"routing.rules": rules, "routing.routes": routes}
	commit, err := l.m.Prepare(cfg)
	// A goto to a rule that is not there is a fault of the configuration for us, a rule that does
	// nothing for Linux: taken out, the rest is the same.
	for err != nil && strings.Contains(err.Error(), "no rule has priority") {
		for i, r := range rules.Value {
			if r.Goto != 0 && strings.Contains(err.Error(), fmt.Sprintf("[%d].goto", i)) {
				rules.Value[i].Goto, rules.Value[i].Action = 0, "nop"
			}
		}
		cfg.Sections["routing.rules"] = rules
		commit, err = l.m.Prepare(cfg)
	}
	if err != nil {
		l.t.Fatalf("%v\n%s", err, c.text(nil))
	}
	commit(0)
}

func (l *leveret) ask(q *question) answer {
	query := map[string]string{"dst": q.dst.String()}
	if q.src.IsValid() {
		query["from"] = q.src.String()
	}
	for k, v := range map[string]string{"iif": q.in, "oif": q.out} {
		if v != "" {
			query[k] = v
		}
	}
	for k, v := range map[string]uint32{
		"mark": q.mark, "dsfield": uint32(q.dsField), "ipproto": uint32(q.proto), "sport": uint32(q.sport), "dport": uint32(q.dport),
	} {
		if v != 0 {
			query[k] = fmt.Sprint(v)
		}
	}
	v, err := l.get(0, module.Request{Query: query})
	var refused *module.Refused
	if errors.As(err, &refused) {
		return answer{refused: refused.Msg}
	}
	r, ok := v.(routeapi.Route)
	if err != nil || !ok {
		l.t.Fatalf("%v %T", err, v)
	}
	a := answer{typ: r.Type, dev: r.Dev, gateway: r.Gateway, metric: r.Metric, source: r.PrefSrc}
	if f, err := netip.ParseAddr(r.From); err == nil && !f.IsUnspecified() {
		a.from = f
	}
	switch r.Table {
	case "main":
		a.table = 254
	case "local":
		a.table = 255
	default:
		n, err := strconv.ParseUint(r.Table, 10, 32)
		if err != nil {
			l.t.Fatal(err)
		}
		a.table = uint32(n)
	}
	return a
}

// kind sorts answers, to see that the questions are of all kinds.
func (a *answer) kind() string {
	switch {
	case a.refused != "":
		return strings.ToUpper(a.refused[:1]) + a.refused[1:]
	case a.table == 254:
		return "main"
	case a.table == 255:
		return "local"
	}
	return fmt.Sprint(a.table)
}

// verdict is what comes of comparing two answers.
type verdict int

const (
	equal  verdict = iota
	listed         // they differ as docs/differences.md says
	different
)

// compare holds Linux's answer and ours against each other.
func (l *leveret) compare(w *world, c *policy, q *question, want, got answer) verdict {
	switch {
	case q.out != "" && w.has(q.dst): // an address of the node, asked for over another link than its own
		return listed
	case want.refused != "" || got.refused != "":
		if strings.EqualFold(want.refused, got.refused) {
			return equal
		}
	case want.table == 255: // an address of the node: the way there is Linux's own affair
		if got.table == 255 && want.typ == got.typ {
			return equal
		}
	default:
		if q.src.IsValid() || want.from.IsValid() { // the source is settled: Linux shows another one beside it
			want.source, got.source = netip.Addr{}, netip.Addr{}
		}
		if want == got {
			return equal
		}
	}
	if q.src.IsValid() || got.from.IsValid() || !slices.ContainsFunc(c.rules, func(r ruleCase) bool { return r.from.IsValid() }) {
		return different
	}
	// Linux keeps the source that a rule chose, though the route did not conform: its answer is ours to
	// somebody who has that source.
	bare := func(a answer) answer { a.source, a.from = netip.Addr{}, netip.Addr{}; return a }
	if bare(want) == bare(got) {
		return listed
	}
	for _, as := range w.addrs {
		for _, a := range as {
			again := *q
			again.src = a.Addr()
			if other := l.ask(&again); bare(want) == bare(other) || want.refused != "" && strings.EqualFold(want.refused, other.refused) {
				return listed
			}
		}
	}
	return different
}

func (a answer) String() string {
	if a.refused != "" {
		return a.refused
	}
	return fmt.Sprintf("%s via %s dev %s table %d metric %d src %s from %s", a.typ, a.gateway, a.dev, a.table, a.metric, a.source, a.from)
}

func (q *question) String() string {
	return fmt.Sprintf("%s from %s iif %q oif %q mark %d dsfield %#x ipproto %d sport %d dport %d", q.dst, q.src, q.in, q.out, q.mark, q.dsField, q.proto, q.sport, q.dport)
}

// text writes a configuration for a report.
func (c *policy) text(w *world) string {
	var b strings.Builder
	if w != nil {
		fmt.Fprintln(&b, "addresses", w.addrs)
	}
	for _, r := range c.rules {
		j, _ := json.Marshal(r.spec)
		fmt.Fprintf(&b, "rule %s\n", j)
	}
	for _, r := range c.routes {
		x := r.cfg
		fmt.Fprintf(&b, "route %s %s from %s via %s dev %s table %s metric %d src %s\n", x.Type, x.To, x.From, x.Via, x.Dev, x.Table, *x.Metric, x.Src)
	}
	return b.String()
}
