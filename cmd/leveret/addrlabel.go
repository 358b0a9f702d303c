package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"leveret/extensions/policyroute/routeapi"
)

func (c *cli) addrlabelCommand() *cobra.Command {
	parse := func(r *routeapi.LabelRequest) words {
		return words{values: map[string]func(string) error{
			"prefix": text(&r.Prefix), "label": optional(&r.Label, "label", 0, 65535), "precedence": optional(&r.Precedence, "precedence", 0, 65535),
		}}
	}
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error {
			r := routeapi.LabelRequest{Op: op}
			if err := parse(&r).parse(args); err != nil {
				return err
			}
			switch {
			case r.Prefix == "":
				return usagef(`Not enough information: "prefix" argument is required.`)
			case r.Label == nil && op != "del":
				return usagef(`Not enough information: "label" argument is required.`)
			}
			return c.client().Post(ctx, "/v1/addrlabel", r, nil)
		}
	}
	w := parse(new(routeapi.LabelRequest))
	const row = " prefix PREFIX label N [precedence N]"
	return c.object(&cobra.Command{
		Use:   "addrlabel",
		Short: "The policy table of address selection (RFC 6724 2.1)",
		Long: `A source address whose label is that of the destination is preferred (RFC 6724 5, rule 6). Of several
destinations those with the higher precedence come first (6, rule 6).`,
		Example: `  leveret addrlabel
  leveret addrlabel add prefix fd12:3456:789a::/48 label 14 precedence 45`,
	}, words{},
		c.verb("list", "List the rows, the longest prefix first", `  leveret addrlabel list
  leveret -j addrlabel`, words{}, c.addrlabelShow, "show", "lst"),
		c.verb("add"+row, "Add a row", `  leveret addrlabel add prefix 2001:db8::/32 label 99`, w, edit("add")),
		c.verb("replace"+row, "Add a row or change it", `  leveret addrlabel replace prefix ::ffff:0:0/96 label 4 precedence 100`, w, edit("replace")),
		c.verb("del prefix PREFIX", "Delete a row", `  leveret addrlabel del prefix 2001:db8::/32`, w, edit("del"), "delete"),
		c.verb("flush", "Put the rows of RFC 6724 back", `  leveret addrlabel flush`, words{}, func(ctx context.Context, args []string) error {
			if err := noWords(args); err != nil {
				return err
			}
			return c.client().Post(ctx, "/v1/addrlabel", routeapi.LabelRequest{Op: "flush"}, nil)
		}),
	)
}

func (c *cli) addrlabelShow(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var out []routeapi.Label
	if err := c.client().Get(ctx, "/v1/addrlabel", nil, &out); err != nil {
		return err
	}
	return each(c, out, func(l routeapi.Label) error {
		return c.printRecord(fmt.Sprintf("prefix %s/%d label %d precedence %d", l.Address, l.PrefixLen, l.Label, l.Precedence))
	})
}
