package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"leveret/extensions/xfrm/proto"
	"leveret/extensions/xfrm/sad"
	"leveret/extensions/xfrm/spd"
	"leveret/extensions/xfrm/xfrmapi"
)

const (
	policySelector = "[src PREFIX] [dst PREFIX] [dev LINK] [proto PROTO [sport PORT] [dport PORT] [type N] [code N] [key KEY]]"
	policyID       = " {" + policySelector + " | index INDEX} dir {in | out | fwd} [ptype {main | sub}] [mark MARK [mask MASK]]"
	policyFilter   = " " + policySelector + " [dir DIR] [ptype PTYPE] [action {allow | block}] [priority N] [index INDEX] [flag FLAG...]"
	policyOptions  = " dir {in | out | fwd} " + policySelector + ` [ptype {main | sub}] [action {allow | block}]
      [priority N] [index INDEX] [flag {localok | icmp}...] [mark MARK [mask MASK]]
      [limit {time-soft | time-hard | time-use-soft | time-use-hard} SECONDS]...
      [tmpl [src ADDR] [dst ADDR] proto {esp | ah} [spi SPI] [mode {transport | tunnel | beet}] [reqid N] [level {required | use}]]...`
)

func (c *cli) xfrmPolicyCommand() *cobra.Command {
	w := wordsOf("src dst dev proto sport dport type code key dir ptype action priority index flag mark mask limit tmpl spi mode reqid level")
	put := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.policyPut(ctx, op, args) }
	}
	// A word may begin with "-": of a number that is too low it is said that it is wrong.
	change := func(cmd *cobra.Command) *cobra.Command {
		cmd.Flags().SetInterspersed(false)
		return cmd
	}
	return c.verbs(&cobra.Command{
		Use:   "policy",
		Short: "Security policies: which packets are protected, let pass or dropped",
		Long: `Policies say what becomes of packets: "dir out" of those that leave, "dir in" of those delivered here, "dir fwd"
of those in transit. Of the policies whose selector a packet conforms to the one with the lowest
priority number decides, of the same number the one that was there first. It blocks, or lets pass, or
with templates wants the packet to go through a security association for each ("leveret xfrm state").
Packets without a policy go as "getdefault" says. The policies that let Neighbor Discovery pass are
policies like any other.`,
		Example: `  leveret xfrm policy
  leveret xfrm policy add dir out dst 2001:db8:2::/48 priority 10 tmpl src 2001:db8:f::1 dst 2001:db8:f::2 proto esp mode tunnel reqid 1
  leveret -s xfrm policy list dir out`,
	}, words{},
		change(c.verb("add"+policyOptions, "Add a policy",
			`  leveret xfrm policy add dir out dst 2001:db8:2::/48 priority 10 tmpl src 2001:db8:f::1 dst 2001:db8:f::2 proto esp mode tunnel reqid 1
  leveret xfrm policy add dir in proto tcp dport 22 action block
  leveret xfrm policy add dir out src 2001:db8::1 dst 2001:db8::2 tmpl proto esp tmpl proto ah level use`, w, put("add"))),
		change(c.verb("update"+policyOptions, "Add a policy, or replace the one for the same packets",
			`  leveret xfrm policy update dir in proto tcp dport 22 action allow`, w, put("update"))),
		c.verb("delete"+policyID, "Delete a policy", `  leveret xfrm policy delete dir in proto tcp dport 22
  leveret xfrm policy delete dir out index 9`, w, c.policyDelete),
		c.verb("deleteall"+policyFilter, "Delete all policies, or those selected", `  leveret xfrm policy deleteall dir fwd
  leveret xfrm policy deleteall dst 2001:db8:2::/48`, w, c.policyDeleteAll, "delall"),
		c.verb("list"+policyFilter, "List policies, the newest first; with -s their numbers, limits and times", `  leveret xfrm policy
  leveret -s xfrm policy list dir out proto tcp
  leveret -j xfrm policy | jq -r '.[] | select(.action == "block") | .dst'`, w, c.policyList, "show", "lst"),
		c.verb("get"+policyID, "Show one policy", `  leveret xfrm policy get dir out dst 2001:db8:2::/48
  leveret -s xfrm policy get dir out index 9`, w, c.policyGet),
		c.verb("flush [ptype {main | sub}]", "Delete all policies of a type, main if none is named", `  leveret xfrm policy flush
  leveret xfrm policy flush ptype sub`, wordsOf("ptype"), c.policyFlush),
		c.verb("count", "Count policies", `  leveret xfrm policy count`, words{}, c.policyCount),
		c.verb("setdefault {in | fwd | out} {accept | block} ...", "Say what becomes of packets that no policy is for",
			`  leveret xfrm policy setdefault in block fwd block`, wordsOf("in fwd out"), c.policySetDefault),
		c.verb("getdefault", "Show what becomes of packets that no policy is for", `  leveret xfrm policy getdefault`, words{}, c.policyGetDefault),
	)
}

// devName keeps the one link that a selector names: only the appliance knows which there are.
type devName string

func (d *devName) number(name string) (int, bool) {
	*d = devName(name)
	return 1, !strings.ContainsAny(name, " \t\n")
}

func (d *devName) name(int) string { return string(*d) }

func (c *cli) policyPut(ctx context.Context, op string, args []string) error {
	var dev devName
	r, err := spd.Parse(op, args, dev.number)
	if err != nil {
		return syntax(err)
	}
	return c.client().Post(ctx, "/v1/xfrm/policy", xfrmapi.PolicyRequest{Op: op, Spec: spd.View{Link: dev.name}.Spec(&r.Policy)}, nil)
}

// policyNamed reads the words that name a policy.
func policyNamed(verb string, args []string) (xfrmapi.PolicyID, error) {
	var dev devName
	r, err := spd.Parse(verb, args, dev.number)
	if err != nil {
		return xfrmapi.PolicyID{}, syntax(err)
	}
	return xfrmapi.NewPolicyID(r, dev.name), nil
}

func policySelected(args []string) (xfrmapi.PolicyFilter, error) {
	var dev devName
	f, err := spd.ParseFilter(args, dev.number)
	if err != nil {
		return xfrmapi.PolicyFilter{}, syntax(err)
	}
	return xfrmapi.NewPolicyFilter(f, dev.name), nil
}

func (c *cli) policyDelete(ctx context.Context, args []string) error {
	id, err := policyNamed("delete", args)
	if err != nil {
		return err
	}
	return c.client().Post(ctx, "/v1/xfrm/policy/delete", id, nil)
}

func (c *cli) policyDeleteAll(ctx context.Context, args []string) error {
	f, err := policySelected(args)
	if err != nil {
		return err
	}
	var done xfrmapi.Flushed
	if err := c.client().Post(ctx, "/v1/xfrm/policy/deleteall", f, &done); err != nil {
		return err
	}
	return c.printGone(done, deletedAll(done.Flushed))
}

func (c *cli) policyList(ctx context.Context, args []string) error {
	f, err := policySelected(args)
	if err != nil {
		return err
	}
	var out []spd.Listed
	if err := c.client().Get(ctx, "/v1/xfrm/policy", f, &out); err != nil {
		return err
	}
	return c.printPolicies(out)
}

func (c *cli) printPolicies(list []spd.Listed) error {
	for i := range list {
		l := &list[i]
		if c.json && c.stats == 0 { // as in text
			l.Lifetime, l.Current = proto.Lifetime{}, spd.Current{}
		}
		localTimes(&l.Current.Added, l.Current.FirstUsed)
	}
	return each(c, list, func(l spd.Listed) error { return c.printText(l.Text(c.stats > 0)) })
}

// printText prints a record that ends with a newline; with -o its lines become one.
func (c *cli) printText(record string) error {
	if c.oneline {
		record = sad.OneLine(record)
	}
	_, err := fmt.Fprint(c.out, record)
	return err
}

func (c *cli) policyGet(ctx context.Context, args []string) error {
	id, err := policyNamed("get", args)
	if err != nil {
		return err
	}
	var out spd.Listed
	if err := c.client().Get(ctx, "/v1/xfrm/policy/get", id, &out); err != nil {
		return err
	}
	return c.printPolicies([]spd.Listed{out})
}

func (c *cli) policyFlush(ctx context.Context, args []string) error {
	sub, err := spd.ParseFlush(args)
	if err != nil {
		return syntax(err)
	}
	var done xfrmapi.Flushed
	if err := c.client().Post(ctx, "/v1/xfrm/policy/flush", xfrmapi.PolicyFlush{Type: spd.TypeName(sub)}, &done); err != nil {
		return err
	}
	return c.printGone(done, "Flush policy\n")
}

func (c *cli) policyCount(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var n spd.Counts
	if err := c.client().Get(ctx, "/v1/xfrm/policy/count", nil, &n); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(n)
	}
	return c.printText(n.Text(c.stats > 0) + "\n")
}

func (c *cli) policySetDefault(ctx context.Context, args []string) error {
	actions, err := spd.ParseDefaults(args)
	if err != nil {
		return syntax(err)
	}
	return c.client().Post(ctx, "/v1/xfrm/policy/default", xfrmapi.NewPolicyDefault(actions), nil)
}

func (c *cli) policyGetDefault(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var d xfrmapi.PolicyDefault
	if err := c.client().Get(ctx, "/v1/xfrm/policy/default", nil, &d); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(d)
	}
	return c.printText(d.Text())
}
