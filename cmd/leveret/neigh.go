package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"leveret/extensions/ndp/ndpapi"
)

// nudStates are the words for neighbor states.
var nudStates = []string{"incomplete", "reachable", "stale", "delay", "probe", "failed", "noarp", "permanent", "unreachable"}

// neighSelect is what `neigh show` and `neigh flush` select by.
type neighSelect struct {
	ndpapi.NeighFilter
	proxy bool
	all   bool // flush: "all"
}

func (f *neighSelect) words() words {
	return words{
		values: map[string]func(string) error{
			"dev": text(&f.Dev), "to": prefix(&f.To), "nud": oneOf(&f.NUD, "nud state", append(nudStates, "all")...),
		},
		flags: map[string]func(){"proxy": on(&f.proxy)},
		bare: func(v string) error {
			if v == "all" {
				f.all = true
				return nil
			}
			return prefix(&f.To)(v)
		},
	}
}

type neighChange struct {
	ndpapi.NeighRequest
	proxy bool
}

func (r *neighChange) words() words {
	w := r.delWords()
	w.values["lladdr"] = lladdr(&r.LLAddr)
	w.values["nud"] = oneOf(&r.NUD, "nud state", nudStates...)
	w.flags["router"] = on(&r.Router)
	return w
}

func (r *neighChange) delWords() words {
	w := words{values: map[string]func(string) error{"to": addr(&r.Dst), "dev": text(&r.Dev)}, bare: addr(&r.Dst)}
	w.values["proxy"] = func(v string) error { // as iproute2: it goes in front of the address
		r.proxy = true
		return addr(&r.Dst)(v)
	}
	w.flags = map[string]func(){}
	return w
}

func (c *cli) neighCommand() *cobra.Command {
	show, change, one := new(neighSelect).words(), new(neighChange).words(), new(neighChange).delWords()
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.neighEdit(ctx, op, args) }
	}
	return c.object(&cobra.Command{
		Use:     "neigh",
		Aliases: []string{"neighbor", "neighbour"},
		Short:   "Neighbors: their link-layer addresses and reachability",
		Example: `  leveret neigh
  leveret neigh show dev lan0 nud stale
  leveret neigh add 2001:db8:1::99 lladdr 02:00:5e:00:53:99 dev lan0`,
	}, show,
		c.verb("add {ADDR lladdr LLADDR [nud STATE] | proxy ADDR} dev LINK [router]", "Add a neighbor, permanent unless nud says otherwise, or an address to answer for",
			`  leveret neigh add 2001:db8:1::99 lladdr 02:00:5e:00:53:99 dev lan0
  leveret neigh add fe80::1 lladdr 02:00:5e:00:53:01 dev wan0 nud stale router
  leveret neigh add proxy 2001:db8:1::aa dev lan0`, change, edit("add")),
		c.verb("change ADDR dev LINK ...", "Change a neighbor", `  leveret neigh change fe80::1 dev wan0 nud permanent`, change, edit("change"), "chg"),
		c.verb("replace ADDR lladdr LLADDR dev LINK ...", "Add a neighbor or change it",
			`  leveret neigh replace fe80::1 lladdr 02:00:5e:00:53:02 dev wan0`, change, edit("replace")),
		c.verb("del {ADDR | proxy ADDR} dev LINK", "Delete a neighbor, or an address answered for", `  leveret neigh del 2001:db8:1::99 dev lan0`, one, edit("del"), "delete"),
		c.verb("get ADDR dev LINK", "Show one neighbor", `  leveret neigh get fe80::1 dev wan0`, one, c.neighGet),
		c.verb("show [proxy] [[to] PREFIX] [dev LINK] [nud STATE|all]", "List neighbors, or the addresses answered for",
			`  leveret neigh show 2001:db8:1::/64
  leveret neigh show proxy
  leveret -s neigh show dev lan0
  leveret -j neigh | jq -r '.[] | select(.state[0]=="REACHABLE") | .dst'`, show, c.neighShow, "list", "lst"),
		c.verb("flush {all | [[to] PREFIX] [dev LINK] [nud STATE]}", "Delete all neighbors selected that are not permanent",
			`  leveret neigh flush dev lan0`, show, c.neighFlush),
	)
}

func (c *cli) neighEdit(ctx context.Context, op string, args []string) error {
	r := neighChange{NeighRequest: ndpapi.NeighRequest{Op: op}}
	w := r.words()
	if op == "del" {
		w = r.delWords()
	}
	if err := w.parse(args); err != nil {
		return err
	}
	if err := r.complete(); err != nil {
		return err
	}
	if r.proxy {
		if r.LLAddr != "" || r.NUD != "" {
			return usagef("a proxy entry has neither lladdr nor nud.")
		}
		return c.client().Post(ctx, "/v1/neigh/proxy", ndpapi.ProxyRequest{Op: op, Dst: r.Dst, Dev: r.Dev, Router: r.Router}, nil)
	}
	return c.client().Post(ctx, "/v1/neigh", r.NeighRequest, nil)
}

// complete reports what every command about one neighbor must have.
func (r *neighChange) complete() error {
	if r.Dst == (netip.Addr{}) || r.Dev == "" {
		return usagef("Device and destination are required arguments.")
	}
	return nil
}

func (c *cli) neighGet(ctx context.Context, args []string) error {
	var r neighChange
	if err := r.delWords().parse(args); err != nil {
		return err
	}
	if err := r.complete(); err != nil {
		return err
	}
	return c.neighList(ctx, ndpapi.NeighFilter{To: r.Dst.String(), Dev: r.Dev, NUD: "all"}, true)
}

func (c *cli) neighShow(ctx context.Context, args []string) error {
	var f neighSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	if f.proxy {
		f.Proxy = "1"
	}
	return c.neighList(ctx, f.NeighFilter, false)
}

func (c *cli) neighList(ctx context.Context, f ndpapi.NeighFilter, must bool) error {
	var ns []ndpapi.Neigh
	if err := c.client().Get(ctx, "/v1/neigh", f, &ns); err != nil {
		return err
	}
	if must && len(ns) == 0 {
		return &refusedError{"No such file or directory"}
	}
	if f.NUD == "" { // iproute2 shows entries without a protocol only when asked
		ns = slices.DeleteFunc(ns, func(n ndpapi.Neigh) bool { return slices.Equal(n.State, []string{"NOARP"}) })
	}
	for i := range ns {
		if c.stats == 0 {
			ns[i].Used, ns[i].Confirmed, ns[i].Updated, ns[i].Probes = nil, nil, nil, nil
		}
		if f.Dev != "" {
			ns[i].Dev = ""
		}
	}
	return each(c, ns, func(n ndpapi.Neigh) error { return c.printRecord(neighText(n)) })
}

// neighText renders a neighbor in iproute2's layout, with the space at its end.
func neighText(n ndpapi.Neigh) string {
	s := when(n.Deleted, "Deleted ") + line(n.Dst.String(), pair("dev", n.Dev), pair("lladdr", n.LLAddr), when(bool(n.Router), "router"), when(bool(n.Proxy), "proxy"))
	if n.Used != nil && n.Confirmed != nil && n.Updated != nil {
		s += fmt.Sprintf(" used %d/%d/%d", *n.Used, *n.Confirmed, *n.Updated)
	}
	if n.Probes != nil {
		s += fmt.Sprintf(" probes %d", *n.Probes)
	}
	return line(s, strings.Join(n.State, ",")) + " "
}

func (c *cli) neighFlush(ctx context.Context, args []string) error {
	var f neighSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	if f.proxy {
		return usagef("proxy entries are deleted one by one: neigh del proxy ADDR dev LINK.")
	}
	if !f.all && f.NeighFilter == (ndpapi.NeighFilter{}) {
		return usagef("Flush requires arguments.")
	}
	var done ndpapi.Flushed
	if err := c.client().Post(ctx, "/v1/neigh/flush", f.NeighFilter, &done); err != nil {
		return err
	}
	return c.printFlushed(done.Flushed)
}
