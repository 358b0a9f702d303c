package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
)

// root builds the tree of commands. Their order is iproute2's where it has the object: it decides
// what a prefix means.
func (c *cli) root() *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "leveret [OPTIONS] OBJECT [VERB] ...",
		Short: "An isolated virtual IPv6 router",
		Long: `Leveret is an isolated virtual IPv6 router in one process. "leveret run" is the router;
every other command asks a running one. Words, options, output and JSON keys are those of
iproute2 ("ip -6"), and so are abbreviations: "leveret r s" shows the routes.`,
		Example: `  leveret run                          # on the built-in default configuration
  leveret addr
  leveret -j route get 2001:db8::1 | jq -r '.[0].dev'
  leveret -s link show lan0
  leveret monitor neigh route`,
		Args:              cobra.ArbitraryArgs,
		TraverseChildren:  true,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		RunE:              c.usage,
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetFlagErrorFunc(flagError)
	c.outputFlags(root.Flags())
	root.AddGroup(&cobra.Group{ID: groupObjects, Title: "Objects, as in ip(8):"}, &cobra.Group{ID: groupAppliance, Title: "The appliance:"})
	root.AddCommand(c.addrCommand(), c.maddrCommand(), c.routeCommand(), c.ruleCommand(), c.addrlabelCommand(), c.neighCommand(), c.nexthopCommand(), c.raCommand(), c.linkCommand(), c.tunnelCommand(), c.xfrmCommand(), c.mipCommand(), c.monitorCommand())
	root.AddCommand(c.runCommand(), c.configCommand(), c.statusCommand(), c.healthCommand(), c.resetCommand(),
		c.pingCommand(), c.tracerouteCommand(), c.captureCommand(), c.statsCommand(), c.versionCommand())
	root.SetHelpCommandGroupID(groupAppliance)
	root.SetCompletionCommandGroupID(groupAppliance)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// usage is what a command does that wants another word.
func (c *cli) usage(cmd *cobra.Command, _ []string) error {
	cmd.SetOut(c.err)
	if err := cmd.Usage(); err != nil {
		return err
	}
	return exitError(exitUsage)
}

// object makes the command of one of iproute2's objects. Its verbs are looked up in the order
// given. show is the verb that may be left out: the words given may then follow the object.
func (c *cli) object(cmd *cobra.Command, show words, verbs ...*cobra.Command) *cobra.Command {
	cmd.GroupID = groupObjects
	return c.verbs(cmd, show, verbs...)
}

// verbs is object for a command below an object.
func (c *cli) verbs(cmd *cobra.Command, show words, verbs ...*cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{showWords: strings.Join(show.keywords(), " ")}
	cmd.Args = cobra.ArbitraryArgs
	c.outputFlags(cmd.Flags())
	for _, v := range verbs {
		if !v.HasSubCommands() { // else verbs has given it some
			c.outputFlags(v.Flags())
		}
		cmd.AddCommand(v)
	}
	return cmd
}

// verbFunc is what a verb does with its words.
type verbFunc func(ctx context.Context, args []string) error

// verb makes one verb. w is for completion only: f parses its words itself.
func (c *cli) verb(use, short, example string, w words, f verbFunc, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use:                   use,
		Aliases:               aliases,
		Short:                 short,
		Example:               example,
		Args:                  cobra.ArbitraryArgs,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] == "help" {
				return cmd.Help()
			}
			return f(cmd.Context(), args)
		},
		ValidArgsFunction: c.complete(w),
	}
}

// complete offers keywords, and the names of links behind those that want one.
func (c *cli) complete(w words) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if n := len(args); n > 0 {
			switch last := args[n-1]; {
			case last == "dev" || last == "iif" || last == "oif":
				return c.linkNames(cmd.Context()), cobra.ShellCompDirectiveNoFileComp
			case w.values[last] != nil:
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
		}
		return w.keywords(), cobra.ShellCompDirectiveNoFileComp
	}
}

// linkNames asks the appliance; without one there is nothing to offer.
func (c *cli) linkNames(ctx context.Context) []string {
	var links []api.Link
	if c.client().Get(ctx, "/v1/link", nil, &links) != nil {
		return nil
	}
	var names []string
	for _, l := range links {
		names = append(names, l.IfName)
	}
	return names
}

// appliance makes a command of the appliance's own.
func (c *cli) appliance(use, short, long, example string, f verbFunc) *cobra.Command {
	cmd := c.verb(use, short, example, words{}, f)
	cmd.Long = long
	cmd.GroupID = groupAppliance
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// noWords refuses words where there are none to give.
func noWords(args []string) error {
	if len(args) > 0 {
		return usagef("%q is a garbage.", args[0])
	}
	return nil
}
