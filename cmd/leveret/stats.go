package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
)

func (c *cli) statsCommand() *cobra.Command {
	cmd := c.appliance("stats [drops]", "Every counter, or the packets dropped by reason",
		`Show every counter; with "drops", how many packets were dropped on which link for which reason,
the most frequent first, with the RFC section the drop rests on. All are 64 bits wide and never
go back.`,
		`  leveret stats
  leveret stats drops
  leveret -j stats drops | jq 'map(.packets) | add'`, c.statsShow)
	cmd.ValidArgs = []string{"drops"}
	c.connectionFlags(cmd.Flags())
	return cmd
}

func (c *cli) statsShow(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "drops" {
		if err := noWords(args[1:]); err != nil {
			return err
		}
		return c.statsDrops(ctx)
	}
	if err := noWords(args); err != nil {
		return err
	}
	var s api.Stats
	if err := c.client().Get(ctx, "/v1/stats", nil, &s); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(s)
	}
	for _, group := range slices.Sorted(maps.Keys(s)) {
		for _, name := range slices.Sorted(maps.Keys(s[group])) {
			if _, err := fmt.Fprintf(c.out, "%-44s %d\n", group+"."+name, s[group][name]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cli) statsDrops(ctx context.Context) error {
	var drops []api.Drop
	if err := c.client().Get(ctx, "/v1/stats/drops", nil, &drops); err != nil {
		return err
	}
	slices.SortStableFunc(drops, func(a, b api.Drop) int {
		return cmp.Or(cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Link, b.Link))
	})
	return each(c, drops, func(d api.Drop) error {
		return c.printRecord(fmt.Sprintf("%12d %s", d.Packets, line(d.Reason, pair("dev", d.Link), when(d.Ref != "", "("+d.Ref+")"))))
	})
}
