package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
	"leveret/extensions/ndp/ndpapi"
)

// addrSelect is what `addr show` and `addr flush` select by.
type addrSelect struct {
	ndpapi.AddrFilter
	tentative, deprecated, dadfailed, permanent, dynamic bool
}

func (f *addrSelect) words() words {
	w := f.flushWords()
	w.flags = map[string]func(){
		"tentative": on(&f.tentative), "deprecated": on(&f.deprecated), "dadfailed": on(&f.dadfailed),
		"permanent": on(&f.permanent), "dynamic": on(&f.dynamic),
	}
	return w
}

func (f *addrSelect) flushWords() words {
	return words{
		values: map[string]func(string) error{
			"dev": text(&f.Dev), "to": prefix(&f.To), "scope": oneOf(&f.Scope, "scope", "global", "site", "link", "host"),
		},
		bare: text(&f.Dev),
	}
}

// hides reports whether a does not have a state asked for.
func (f *addrSelect) hides(a ndpapi.Addr) bool {
	return f.tentative && !a.Tentative || f.deprecated && !a.Deprecated || f.dadfailed && !a.DADFailed ||
		f.dynamic && !a.Dynamic || f.permanent && a.Dynamic
}

// addrChange is one address to add or delete.
type addrChange struct{ ndpapi.AddrRequest }

func (r *addrChange) words() words {
	w := r.delWords()
	w.values["valid_lft"] = lifetime(&r.ValidLft, "valid_lft")
	w.values["preferred_lft"] = lifetime(&r.PreferredLft, "preferred_lft")
	w.flags = map[string]func(){"anycast": on(&r.Anycast), "home": on(&r.Home), "nodad": on(&r.NoDAD)}
	return w
}

func (r *addrChange) delWords() words {
	address := func(v string) error {
		p, err := parsePrefix(v)
		if err != nil {
			return err
		}
		r.Address = p.String()
		return nil
	}
	return words{values: map[string]func(string) error{"dev": text(&r.Dev), "local": address}, bare: address}
}

// lifetime stores seconds or "forever".
func lifetime(p **uint32, what string) func(string) error {
	return func(v string) error {
		if v == "forever" {
			*p = new(uint32)
			**p = ndpapi.Forever
			return nil
		}
		return optional(p, what, 0, ndpapi.Forever)(v)
	}
}

func (c *cli) addrCommand() *cobra.Command {
	show, change := new(addrSelect).words(), new(addrChange).words()
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.addrEdit(ctx, op, args) }
	}
	return c.object(&cobra.Command{
		Use:     "addr",
		Aliases: []string{"address"},
		Short:   "Addresses of this node",
		Example: `  leveret addr
  leveret addr add 2001:db8:1::1/64 dev lan0
  leveret -j addr show dev lan0 tentative`,
	}, show,
		c.verb("add ADDR/LEN dev LINK [anycast|home] [nodad] [valid_lft SECONDS|forever] [preferred_lft SECONDS|forever]", "Add an address",
			`  leveret addr add 2001:db8:1::1/64 dev lan0
  leveret addr add 2001:db8:1::/64 dev lan0 anycast
  leveret addr add 2001:db8:1::2/64 dev lan0 valid_lft 3600 preferred_lft 1800`, change, edit("add")),
		c.verb("change ADDR/LEN dev LINK ...", "Change the lifetimes or flags of an address",
			`  leveret addr change 2001:db8:1::2/64 dev lan0 preferred_lft 0`, change, edit("change"), "chg"),
		c.verb("replace ADDR/LEN dev LINK ...", "Add an address or change it",
			`  leveret addr replace 2001:db8:1::2/64 dev lan0 nodad`, change, edit("replace")),
		c.verb("del ADDR/LEN dev LINK", "Delete an address",
			`  leveret addr del 2001:db8:1::1/64 dev lan0`, new(addrChange).delWords(), edit("del"), "delete"),
		c.verb("show [[dev] LINK] [to PREFIX] [scope SCOPE] [tentative|deprecated|dadfailed|permanent|dynamic]", "List addresses",
			`  leveret addr show lan0
  leveret addr show scope global deprecated
  leveret -j addr | jq -r '.[].addr_info[].local'`, show, c.addrShow, "list", "lst"),
		c.verb("flush [dev LINK] [to PREFIX] [scope SCOPE]", "Delete all addresses selected",
			`  leveret addr flush dev lan0 scope global`, new(addrSelect).flushWords(), c.addrFlush),
	)
}

func (c *cli) addrEdit(ctx context.Context, op string, args []string) error {
	r := addrChange{ndpapi.AddrRequest{Op: op}}
	w := r.words()
	if op == "del" {
		w = r.delWords()
	}
	if err := w.parse(args); err != nil {
		return err
	}
	switch {
	case r.Dev == "":
		return usagef(`Not enough information: "dev" argument is required.`)
	case r.Address == "":
		return usagef("Not enough information: an address is required.")
	case r.ValidLft != nil && r.PreferredLft != nil && *r.PreferredLft > *r.ValidLft:
		return usagef("preferred_lft is greater than valid_lft")
	}
	return c.client().Post(ctx, "/v1/addr", r.AddrRequest, nil)
}

func (c *cli) addrFlush(ctx context.Context, args []string) error {
	var f addrSelect
	if err := f.flushWords().parse(args); err != nil {
		return err
	}
	if f.AddrFilter == (ndpapi.AddrFilter{}) {
		return usagef("Flush requires arguments.")
	}
	var done ndpapi.Flushed
	if err := c.client().Post(ctx, "/v1/addr/flush", f.AddrFilter, &done); err != nil {
		return err
	}
	return c.printFlushed(done.Flushed)
}

// printFlushed tells how much was flushed, with -s as iproute2 does.
func (c *cli) printFlushed(n int) error {
	if c.json {
		return c.printJSON(ndpapi.Flushed{Flushed: n})
	}
	if c.stats == 0 {
		return nil
	}
	_, err := fmt.Fprintf(c.out, "*** Flush is complete: %d deleted ***\n", n)
	return err
}

// addrLink is one link in the output of `addr show`: what iproute2 shows of the link and its
// addresses.
type addrLink struct {
	IfIndex   int           `json:"ifindex"`
	IfName    string        `json:"ifname"`
	Flags     []string      `json:"flags"`
	MTU       int           `json:"mtu"`
	OperState string        `json:"operstate"`
	LinkType  string        `json:"link_type,omitempty"` // -d
	Address   string        `json:"address,omitempty"`   // -d
	AddrInfo  []ndpapi.Addr `json:"addr_info"`
	Stats64   *api.Stats64  `json:"stats64,omitempty"` // -s
}

func (c *cli) addrShow(ctx context.Context, args []string) error {
	var f addrSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	var addrs []ndpapi.Link
	if err := c.client().Get(ctx, "/v1/addr", f.AddrFilter, &addrs); err != nil {
		return err
	}
	var links []api.Link
	if err := c.client().Get(ctx, "/v1/link", nil, &links); err != nil {
		return err
	}
	var out []addrLink
	for _, a := range addrs {
		a.AddrInfo = slices.DeleteFunc(a.AddrInfo, f.hides)
		if len(a.AddrInfo) == 0 {
			continue
		}
		out = append(out, c.joinLink(a, links))
	}
	return each(c, out, c.printAddrs)
}

// joinLink adds to a link's addresses what is shown of the link itself. A link that has gone
// since the addresses were read has nothing more to show.
func (c *cli) joinLink(a ndpapi.Link, links []api.Link) addrLink {
	out := addrLink{IfIndex: a.IfIndex, IfName: a.IfName, AddrInfo: a.AddrInfo, Flags: []string{}}
	i := slices.IndexFunc(links, func(l api.Link) bool { return l.IfIndex == a.IfIndex })
	if i < 0 {
		return out
	}
	l := links[i]
	c.stripLink(&l)
	out.Flags, out.MTU, out.OperState, out.Stats64 = l.Flags, l.MTU, l.OperState, l.Stats64
	if c.details {
		out.LinkType, out.Address = l.LinkType, l.Address
	}
	return out
}

func (c *cli) printAddrs(l addrLink) error {
	if c.oneline {
		for _, a := range l.AddrInfo {
			if err := c.printRecord(addrOneline(l.IfIndex, l.IfName, a)...); err != nil {
				return err
			}
		}
		return nil
	}
	lines := []string{fmt.Sprintf("%d: %s: <%s> mtu %d state %s", l.IfIndex, l.IfName, strings.Join(l.Flags, ","), l.MTU, l.OperState)}
	if l.LinkType != "" {
		lines = append(lines, "    "+line("link/"+l.LinkType, l.Address))
	}
	for _, a := range l.AddrInfo {
		lines = append(lines, "    "+addrText1(a), addrText2(a))
	}
	if s := l.Stats64; s != nil {
		lines = append(lines, statsText("RX", s.RX)...)
		lines = append(lines, statsText("TX", s.TX)...)
	}
	return c.printRecord(lines...)
}

// addrOneline is an address with its link, the layout of -o and of monitor.
func addrOneline(index int, name string, a ndpapi.Addr) []string {
	return []string{fmt.Sprintf("%d: %s    %s", index, name, addrText1(a)), addrText2(a)}
}

// addrText1 is an address's first line; iproute2 ends it with a space.
func addrText1(a ndpapi.Addr) string {
	return line(a.Family, netip.PrefixFrom(a.Local, a.PrefixLen).String(), "scope "+a.Scope, pair("proto", a.Protocol),
		when(a.Anycast, "anycast"), when(a.Temporary, "temporary"), when(a.NoDAD, "nodad"), when(a.Optimistic, "optimistic"),
		when(a.DADFailed, "dadfailed"), when(a.Home, "home"), when(a.Deprecated, "deprecated"), when(a.Tentative, "tentative"),
		when(a.Dynamic, "dynamic"), when(a.MngTmpAddr, "mngtmpaddr"), when(a.NoPrefixRoute, "noprefixroute")) + " "
}

func addrText2(a ndpapi.Addr) string {
	return "       valid_lft " + lifetimeText(a.ValidLifeTime) + " preferred_lft " + lifetimeText(a.PreferredLifeTime)
}

func lifetimeText(seconds uint32) string {
	if seconds == ndpapi.Forever {
		return "forever"
	}
	return strconv.FormatUint(uint64(seconds), 10) + "sec"
}
