package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
	"leveret/extensions/policyroute/routeapi"
)

// cacheTable is the word for the destination cache, which is not a table: it takes no other
// selector.
const cacheTable = "cache"

// The words of routes.
var (
	routeTypes = []string{"unicast", "local", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw"}
	routePrefs = []string{"low", "medium", "high"}
)

// routeSelect is what `route show` and `route flush` select by.
type routeSelect struct{ routeapi.Filter }

func (f *routeSelect) words() words {
	return words{
		values: map[string]func(string) error{
			"table": text(&f.Table), "dev": text(&f.Dev), "oif": text(&f.Dev), "proto": text(&f.Proto), "protocol": text(&f.Proto),
			"type": oneOf(&f.Type, "route type", routeTypes...), "root": prefix(&f.Root), "match": prefix(&f.Match),
			"exact": prefix(&f.Exact), "to": prefix(&f.Exact), "via": addrText(&f.Via), "metric": numberText(&f.Metric, "metric", math.MaxUint32),
			"nhid": numberText(&f.NHID, "nhid", math.MaxUint32),
		},
		flags: map[string]func(){cacheTable: func() { f.Table = cacheTable }},
		bare:  f.bare,
	}
}

// bare takes a prefix, selecting that alone, or the prefix of everything: no selection.
func (f *routeSelect) bare(v string) error {
	if v == "all" || v == "any" {
		return nil
	}
	return prefix(&f.Exact)(v)
}

// routeChange is one route to add or delete.
type routeChange struct{ routeapi.Request }

func (r *routeChange) words() words {
	return words{
		values: map[string]func(string) error{
			"via": addr(&r.Via), "dev": text(&r.Dev), "oif": text(&r.Dev), "metric": number(&r.Metric, "metric", 0, math.MaxUint32),
			"table": text(&r.Table), "proto": text(&r.Proto), "protocol": text(&r.Proto), "mtu": number(&r.MTU, "mtu", 1280, math.MaxInt32),
			"advmss": number(&r.AdvMSS, "advmss", 40, 65535),
			"src":    addr(&r.Src), "from": rulePrefix(&r.From), "pref": oneOf(&r.Pref, `"pref" value`, routePrefs...), "expires": optional(&r.Expires, "expires", 0, math.MaxInt32),
			"nhid": number(&r.NHID, "nhid", 1, math.MaxUint32), "to": r.dst,
		},
		bare: r.dst,
	}
}

func (r *routeChange) dst(v string) error {
	if v == routeapi.Default {
		r.Dst = v
		return nil
	}
	return prefix(&r.Dst)(v)
}

// parse takes the type, which stands before the prefix, then the rest.
func (r *routeChange) parse(args []string) error {
	if len(args) > 0 && oneOf(&r.Type, "", routeTypes...)(args[0]) == nil {
		args = args[1:]
	}
	for i := slices.Index(args, "nexthop"); i >= 0; i = slices.Index(args, "nexthop") { // each with words of its own
		hop, rest := args[i+1:], []string(nil)
		if next := slices.Index(hop, "nexthop"); next >= 0 {
			hop, rest = hop[:next], hop[next:]
		}
		h := routeapi.NextHop{Flags: []string{}}
		w := words{values: map[string]func(string) error{
			"via": addr(&h.Gateway), "dev": text(&h.Dev), "oif": text(&h.Dev), "weight": number(&h.Weight, "weight", 1, 256),
		}}
		if err := w.parse(hop); err != nil {
			return err
		}
		r.NextHops = append(r.NextHops, h)
		args = append(slices.Clone(args[:i]), rest...)
	}
	if err := r.words().parse(args); err != nil {
		return err
	}
	if r.Dst == "" {
		return usagef("Not enough information: a prefix is required.")
	}
	return nil
}

// check refuses selectors that the cache does not have.
func (f *routeSelect) check() error {
	if f.Table == cacheTable && f.Filter != (routeapi.Filter{Table: cacheTable}) {
		return usagef("cache takes no other selector.")
	}
	return nil
}

// routeQuery is what `route get` asks.
type routeQuery struct{ routeapi.Get }

func (q *routeQuery) words() words {
	return words{
		values: map[string]func(string) error{
			"to": addrText(&q.Dst), "from": addrText(&q.From), "iif": text(&q.IIF), "oif": text(&q.OIF), "dev": text(&q.OIF),
			"mark": numberText(&q.Mark, "mark", math.MaxUint32), "dsfield": numberText(&q.DSField, "dsfield", 255), "tos": numberText(&q.DSField, "dsfield", 255), "ipproto": ipProto(&q.IPProto),
			"sport": numberText(&q.SPort, "sport", 65535), "dport": numberText(&q.DPort, "dport", 65535),
		},
		bare: addrText(&q.Dst),
	}
}

// ipProto stores a protocol's number, given by name or number.
func ipProto(p *string) func(string) error {
	return func(v string) error {
		if v == "icmpv6" {
			v = "ipv6-icmp"
		}
		if n, ok := routeapi.Protocols[v]; ok {
			*p = strconv.Itoa(int(n))
			return nil
		}
		return numberText(p, "ipproto", 255)(v)
	}
}

func (c *cli) routeCommand() *cobra.Command {
	show, change, get := new(routeSelect).words(), new(routeChange).words(), new(routeQuery).words()
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.routeEdit(ctx, op, args) }
	}
	const spec = " [TYPE] PREFIX [from PREFIX] [via ADDR] [dev LINK] [metric N] [table T] [proto P] [src ADDR] [mtu N] [advmss N] [pref low|medium|high] [expires SECONDS] [nhid ID] [nexthop via ADDR [dev LINK] [weight N]]..."
	return c.object(&cobra.Command{
		Use:   "route",
		Short: "Routes and what becomes of a packet",
		Example: `  leveret route
  leveret route add default via fe80::1 dev wan0
  leveret route get 2001:db8::1 from 2001:db8:1::1 iif lan0`,
	}, show,
		c.verb("show [[root|match|exact] PREFIX] [table T|all] [dev LINK] [via ADDR] [proto P] [type TYPE] [metric N] [nhid ID]", "List routes",
			`  leveret route show table all
  leveret route show match 2001:db8::1
  leveret route show cache
  leveret -j route | jq -r '.[] | select(.dst=="default") | .gateway'`, show, c.routeShow, "list", "lst"),
		c.verb("get ADDR [from ADDR] [iif LINK] [oif LINK] [mark N] [dsfield N] [ipproto P] [sport N] [dport N]", "Show the route one packet would take",
			`  leveret route get 2001:db8::1
  leveret route get 2001:db8::1 from 2001:db8:1::2 iif lan0 mark 1
  leveret -d route get 2001:db8::1
  leveret route get 2001:db8::1 ipproto tcp dport 443`, get, c.routeGet),
		c.verb("add"+spec, "Add a route",
			`  leveret route add 2001:db8:2::/48 via fe80::1 dev wan0
  leveret route add blackhole 2001:db8:bad::/48
  leveret route add default via fe80::1 dev wan0 metric 512 mtu 1400 advmss 1340
  leveret route add default nexthop via fe80::1 dev wan0 weight 2 nexthop via fe80::2 dev wan1`, change, edit("add")),
		c.verb("replace"+spec, "Add a route or replace it", `  leveret route replace default via fe80::2 dev wan0`, change, edit("replace")),
		c.verb("del"+spec, "Delete a route", `  leveret route del 2001:db8:2::/48
  leveret route del default via fe80::2 dev wan0`, change, edit("del"), "delete"),
		c.verb("append"+spec, "Add another next hop for the same prefix", `  leveret route append default via fe80::2 dev wan0`, change, edit("append")),
		c.verb("flush {cache | SELECTOR...}", "Delete all routes selected, as by show, or empty the cache",
			`  leveret route flush cache
  leveret route flush proto static dev wan0
  leveret route flush table 100`, show, c.routeFlush),
	)
}

func (c *cli) routeEdit(ctx context.Context, op string, args []string) error {
	r := routeChange{routeapi.Request{Op: op}}
	if err := r.parse(args); err != nil {
		return err
	}
	return c.client().Post(ctx, "/v1/route", r.Request, nil)
}

func (c *cli) routeFlush(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usagef(`"leveret route flush" requires arguments.`)
	}
	var f routeSelect
	if err := cmp.Or(f.words().parse(args), f.check()); err != nil {
		return err
	}
	if f.Table == cacheTable {
		return c.cacheFlush(ctx)
	}
	var done routeapi.Flushed
	if err := c.client().Post(ctx, "/v1/route/flush", f.Filter, &done); err != nil {
		return err
	}
	return c.printFlushed(done.Flushed)
}

// cacheParts are the parts of the destination cache: path MTUs, redirects, and flows that keep to a next hop.
var cacheParts = []string{"/v1/route/cache", "/v1/route/redirect", "/v1/route/pinned"}

func (c *cli) cacheFlush(ctx context.Context) error {
	n := 0
	for _, path := range cacheParts {
		var done api.Flushed
		if err := c.client().Post(ctx, path+"/flush", nil, &done); err != nil {
			return err
		}
		n += done.Flushed
	}
	return c.printFlushed(n)
}

func (c *cli) routeShow(ctx context.Context, args []string) error {
	var f routeSelect
	if err := cmp.Or(f.words().parse(args), f.check()); err != nil {
		return err
	}
	if f.Table == cacheTable {
		return c.cacheShow(ctx)
	}
	var rs []routeapi.Route
	if err := c.client().Get(ctx, "/v1/route", f.Filter, &rs); err != nil {
		return err
	}
	out := make([]shownRoute, 0, len(rs))
	for _, r := range rs {
		out = append(out, c.stripRoute(r, f.Filter))
	}
	return each(c, out, c.printRoute)
}

// cacheShow lists the destination cache as iproute2 lists route exceptions.
func (c *cli) cacheShow(ctx context.Context) error {
	var entries []api.CachedRoute
	for _, path := range cacheParts {
		var part []api.CachedRoute
		if err := c.client().Get(ctx, path, nil, &part); err != nil {
			return err
		}
		entries = append(entries, part...)
	}
	return each(c, entries, func(e api.CachedRoute) error {
		text := line(e.Dst.String(), pair("from", text0(e.From)), pair("via", text0(e.Gateway)), pair("dev", e.Dev), fmt.Sprintf("metric %d", e.Metric))
		for _, f := range e.Flags {
			text = line(text, f)
		}
		if e.Expires != nil {
			text = line(text, fmt.Sprintf("expires %dsec", *e.Expires))
		}
		for _, m := range e.Metrics {
			text = line(text, fmt.Sprintf("mtu %d", m.MTU))
		}
		return c.printRecord(text)
	})
}

func (c *cli) routeGet(ctx context.Context, args []string) error {
	var q routeQuery
	if err := q.words().parse(args); err != nil {
		return err
	}
	if q.Dst == "" {
		return usagef("need at least a destination address")
	}
	if c.details {
		q.Explain = "true"
	}
	var r routeapi.Route
	if err := c.client().Get(ctx, "/v1/route/get", q.Get, &r); err != nil {
		return err
	}
	return each(c, []shownRoute{c.stripRoute(r, routeapi.Filter{})}, func(r shownRoute) error {
		return c.printRecord(append(routeText(r), explainText(r.Explain)...)...)
	})
}

// explainText writes how an answer came about: one line for each rule that was asked.
func explainText(x *routeapi.Explain) (lines []string) {
	if x == nil {
		return nil
	}
	if x.FwMark != "" {
		lines = append(lines, "\tfwmark "+x.FwMark+" by routing.marks")
	}
	for _, s := range x.Rules {
		what := "used: " + s.Route
		switch {
		case !s.Conforms:
			what = "does not conform: " + s.Why
		case s.Route == "" && s.Used:
			what = "used"
		case s.Refused != "":
			what = line(s.Route, "not used:", s.Refused)
		case !s.Used:
			what = "goes on"
		}
		lines = append(lines, "\trule "+strings.ReplaceAll(ruleText(s.Rule), "\t", " ")+" -> "+what)
	}
	because := func(used bool, why string) string {
		switch {
		case used:
			return "-> used"
		case why == "":
			return "-> shares"
		}
		return "-> not used: " + why
	}
	for _, r := range x.Routes {
		lines = append(lines, "\t"+line("route", pair("via", text0(r.Gateway)), pair("dev", r.Dev), fmt.Sprintf("metric %d pref %s weight %d", r.Metric, r.Pref, r.Weight), nhid(r.NHID), because(r.Used, r.Why)))
	}
	if f := x.Flow; f != nil {
		lines = append(lines, "\t"+line("flow", f.Hash, fmt.Sprintf("src %s dst %s ipproto %d sport %d dport %d bucket %#x", f.Src, f.Dst, f.Proto, f.SPort, f.DPort, f.Bucket), when(f.Pinned, "pinned")))
	}
	if by := x.RedirectedBy; by.IsValid() {
		lines = append(lines, "\t"+line("redirect by", by.String(), because(true, "")))
	}
	for _, s := range x.Sources {
		lines = append(lines, "\t"+line("source", s.Addr.String(), "dev", s.Dev, because(s.Chosen, s.Why)))
	}
	return lines
}

// shownRoute is a route without what iproute2 leaves out.
type shownRoute struct {
	routeapi.Route
	Metric *uint32 `json:"metric,omitempty"` // in the place of Route's: left out when selected by
}

// stripRoute takes away what iproute2 shows with -d only and what was selected by.
func (c *cli) stripRoute(r routeapi.Route, f routeapi.Filter) shownRoute {
	if !c.details {
		r.Scope = ""
		if r.Type == "unicast" {
			r.Type = ""
		}
		if r.Protocol == "boot" {
			r.Protocol = ""
		}
	}
	if f.Table != "" && f.Table != "all" && f.Table != "cache" || r.Table == "main" && !c.details {
		r.Table = ""
	}
	if f.Dev != "" {
		r.Dev = ""
	}
	if f.Proto != "" {
		r.Protocol = ""
	}
	if f.Via != "" {
		r.Gateway = netip.Addr{}
	}
	if r.Flags == nil {
		r.Flags = []string{}
	}
	s := shownRoute{Route: r}
	if f.Metric == "" {
		s.Metric = &r.Metric
	}
	return s
}

func (c *cli) printRoute(r shownRoute) error { return c.printRecord(routeText(r)...) }

// routeText renders a route in iproute2's layout: one line, and one more for each of several
// next hops.
func routeText(r shownRoute) []string {
	head := line(when(r.Deleted, "Deleted"), r.Type, r.Dst, pair("from", r.From), nhid(r.NHID), pair("via", text0(r.Gateway)), pair("dev", r.Dev),
		pair("table", r.Table), pair("proto", r.Protocol), pair("scope", r.Scope), pair("src", text0(r.PrefSrc)))
	if r.Metric != nil {
		head = line(head, "metric "+strconv.FormatUint(uint64(*r.Metric), 10))
	}
	for _, f := range r.Flags {
		head = line(head, f)
	}
	if r.Expires != nil {
		head = line(head, fmt.Sprintf("expires %dsec", *r.Expires))
	}
	for _, m := range r.Metrics {
		head = line(head, when(m.MTU > 0, "mtu "+strconv.Itoa(m.MTU)), when(m.AdvMSS > 0, "advmss "+strconv.Itoa(m.AdvMSS)))
	}
	lines := []string{line(head, pair("iif", r.IIF), pair("pref", r.Pref))}
	for _, nh := range r.NextHops {
		l := line("nexthop", pair("via", text0(nh.Gateway)), pair("dev", nh.Dev), "weight "+strconv.Itoa(nh.Weight))
		for _, f := range nh.Flags {
			l = line(l, f)
		}
		lines = append(lines, "\t"+l+" ")
	}
	return lines
}

// nhid names a nexthop object; empty if there is none.
func nhid(id uint32) string {
	if id == 0 {
		return ""
	}
	return "nhid " + strconv.FormatUint(uint64(id), 10)
}

// text0 is an address's text, empty for the zero Addr.
func text0(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
