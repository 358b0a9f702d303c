package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
)

// exitNotReady is `health`'s code for an appliance that answers but is not ready.
const exitNotReady = 1

func (c *cli) healthCommand() *cobra.Command {
	cmd := c.appliance("health", "Exit 0 if the appliance is ready",
		`Tell whether the appliance is ready: its links are up and its addresses have passed duplicate
address detection. Exit 0 ready, 1 not ready (with what is waited for), 69 not reachable.`,
		`  leveret health
  until leveret health; do sleep 1; done`, c.health)
	c.connectionFlags(cmd.Flags())
	return cmd
}

func (c *cli) health(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var h api.Health
	if err := c.client().Get(ctx, "/v1/health", nil, &h); err != nil {
		return err
	}
	if c.json {
		if err := c.printJSON(h); err != nil {
			return err
		}
	} else {
		for _, l := range healthText(h) {
			fmt.Fprintln(c.out, l)
		}
	}
	if !h.Ready {
		return exitError(exitNotReady)
	}
	return nil
}

func healthText(h api.Health) []string {
	if h.Ready {
		return []string{"ready"}
	}
	lines := []string{"not ready"}
	for _, w := range h.Waiting {
		lines = append(lines, "  waiting for "+w)
	}
	return lines
}

func (c *cli) statusCommand() *cobra.Command {
	cmd := c.appliance("status", "The appliance on one screen", "", "  leveret status\n  leveret -j status | jq .packets", c.status)
	c.connectionFlags(cmd.Flags())
	return cmd
}

func (c *cli) status(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var s api.Status
	if err := c.client().Get(ctx, "/v1/status", nil, &s); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(s)
	}
	_, err := fmt.Fprint(c.out, statusText(s))
	return err
}

func statusText(s api.Status) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("%s: leveret %s, pid %d, up %s\n", s.Hostname, s.Version, s.PID, time.Duration(s.Uptime)*time.Second)
	p("%s\n", strings.Join(healthText(s.Health), "\n"))
	p("configuration: %s, generation %d, applied %s\n", s.Config.Source, s.Config.Generation, s.Config.Applied.Local().Format(time.DateTime))
	p("\n%-16s %-5s %6s %14s %14s %10s %10s\n", "link", "state", "mtu6", "rx packets", "tx packets", "rx drop", "tx drop")
	for _, l := range s.Links {
		var st api.Stats64
		if l.Stats64 != nil {
			st = *l.Stats64
		}
		p("%-16s %-5s %6d %14d %14d %10d %10d\n", l.IfName, l.OperState, l.MTU6, st.RX.Packets, st.TX.Packets, st.RX.Dropped, st.TX.Dropped)
	}
	p("\npackets: received %d, forwarded %d, delivered %d, originated %d, dropped %d\n",
		s.Packets.Received, s.Packets.Forwarded, s.Packets.Delivered, s.Packets.Originated, s.Packets.Dropped)
	var tables []string
	for _, name := range slices.Sorted(maps.Keys(s.Tables)) {
		tables = append(tables, fmt.Sprintf("%s %d", name, s.Tables[name]))
	}
	if len(tables) > 0 {
		p("tables: %s\n", strings.Join(tables, ", "))
	}
	return b.String()
}

func (c *cli) resetCommand() *cobra.Command {
	var async bool
	cmd := c.appliance("reset", "Back to the start configuration, without leaving the process",
		`Empty every cache and table and go through duplicate address detection again, as after a start
but without closing the links. Returns when the appliance is ready again.`,
		`  leveret reset
  leveret reset --async`, func(ctx context.Context, args []string) error {
			if err := noWords(args); err != nil {
				return err
			}
			return c.client().Post(ctx, "/v1/reset", api.ResetRequest{Async: async}, nil)
		})
	cmd.Annotations = map[string]string{fullWord: "yes"}
	cmd.Flags().BoolVar(&async, "async", false, "return at once")
	c.connectionFlags(cmd.Flags())
	return cmd
}
