package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"leveret/extensions/xfrm/xfrmapi"
)

// xfrmCommand has objects of its own below it, each with its verbs.
func (c *cli) xfrmCommand() *cobra.Command {
	return c.object(&cobra.Command{
		Use:   "xfrm OBJECT [VERB] ...",
		Short: "IPsec: security associations, policies and counters",
		Example: `  leveret xfrm state
  leveret -s xfrm state list proto esp
  leveret xfrm policy
  leveret xfrm stat`,
		RunE: c.usage,
	}, words{},
		c.xfrmStateCommand(),
		c.xfrmPolicyCommand(),
		c.verb("stat", "What IPsec has dropped, under the names of /proc/net/xfrm_stat", `  leveret xfrm stat
  leveret -j xfrm stat | jq .XfrmInNoStates`, words{}, c.xfrmStat),
	)
}

func (c *cli) xfrmStat(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var s xfrmapi.Stat
	if err := c.client().Get(ctx, "/v1/xfrm/stat", nil, &s); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(s)
	}
	for _, n := range s {
		if _, err := fmt.Fprintf(c.out, "%-24s\t%d\n", n.Name, n.Value); err != nil {
			return err
		}
	}
	return nil
}

// xfrmEventText renders an event as "ip xfrm monitor" does.
func (c *cli) xfrmEventText(e xfrmapi.Event) []string {
	if s := e.State; s != nil {
		localTimes(&s.Current.Added, s.Current.FirstUsed, s.Current.LastUsed)
	}
	if e.Policy != nil {
		localTimes(&e.Policy.Current.Added, e.Policy.Current.FirstUsed)
	}
	lines := strings.Split(strings.TrimSuffix(e.Text(c.stats > 0), "\n"), "\n")
	if c.oneline {
		lines = append(lines, "") // each line ends with the sign, in iproute2
	}
	return lines
}
