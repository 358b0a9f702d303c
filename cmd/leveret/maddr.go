package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"leveret/extensions/ndp/ndpapi"
)

// maddrFilter is the query of GET /v1/maddr.
type maddrFilter struct {
	Dev string `json:"dev,omitempty"`
}

func (f *maddrFilter) words() words {
	return words{values: map[string]func(string) error{"dev": text(&f.Dev)}, bare: text(&f.Dev)}
}

type maddrChange struct{ ndpapi.MAddrRequest }

func (r *maddrChange) words() words {
	return words{values: map[string]func(string) error{"dev": text(&r.Dev), "address": addr(&r.Address)}, bare: addr(&r.Address)}
}

func (c *cli) maddrCommand() *cobra.Command {
	show, change := new(maddrFilter).words(), new(maddrChange).words()
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.maddrEdit(ctx, op, args) }
	}
	return c.object(&cobra.Command{
		Use:     "maddr",
		Aliases: []string{"maddress"},
		Short:   "Multicast groups joined",
		Example: `  leveret maddr show dev lan0
  leveret maddr add ff05::1:3 dev lan0`,
	}, show,
		c.verb("add GROUP dev LINK", "Join a group", `  leveret maddr add ff05::1:3 dev lan0`, change, edit("add")),
		c.verb("del GROUP dev LINK", "Leave a group", `  leveret maddr del ff05::1:3 dev lan0`, change, edit("del"), "delete"),
		c.verb("show [[dev] LINK]", "List groups", `  leveret maddr show lan0`, show, c.maddrShow, "list", "lst"),
	)
}

func (c *cli) maddrEdit(ctx context.Context, op string, args []string) error {
	r := maddrChange{ndpapi.MAddrRequest{Op: op}}
	if err := r.words().parse(args); err != nil {
		return err
	}
	switch {
	case r.Address == netip.Addr{}:
		return usagef("Not enough information: a group is required.")
	case !r.Address.IsMulticast():
		return usagef("%q is not a multicast address.", r.Address)
	case r.Dev == "":
		return usagef(`Not enough information: "dev" argument is required.`)
	}
	return c.client().Post(ctx, "/v1/maddr", r.MAddrRequest, nil)
}

func (c *cli) maddrShow(ctx context.Context, args []string) error {
	var f maddrFilter
	if err := f.words().parse(args); err != nil {
		return err
	}
	var groups []ndpapi.Groups
	if err := c.client().Get(ctx, "/v1/maddr", f, &groups); err != nil {
		return err
	}
	return each(c, groups, c.printGroups)
}

// printGroups has the link on a line of its own, before each group with -o.
func (c *cli) printGroups(l ndpapi.Groups) error {
	head := fmt.Sprintf("%d:\t%s", l.IfIndex, l.IfName)
	var lines []string
	for _, g := range l.MAddr {
		lines = append(lines, "\t"+groupText(g))
	}
	if !c.oneline {
		return c.printRecord(append([]string{head}, lines...)...)
	}
	for _, l := range lines {
		if err := c.printRecord(head, l); err != nil {
			return err
		}
	}
	return nil
}

func groupText(g ndpapi.Group) string {
	return line(g.Family, g.Address.String(), when(g.Users > 1, fmt.Sprintf("users %d", g.Users)))
}
