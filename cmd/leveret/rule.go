package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leveret/extensions/policyroute/routeapi"
)

// ruleTypes are the actions that have a word of their own.
var ruleTypes = []string{"lookup", "goto", "nop", "blackhole", "unreachable", "prohibit"}

// ruleWords is a rule in iproute2's words.
type ruleWords struct{ routeapi.RuleSpec }

func (r *ruleWords) words() words {
	priority := optional(&r.Priority, "preference", 0, math.MaxUint32)
	iif, sup := text(&r.IIF), optional(&r.Suppress, "suppress_prefixlength", 0, 128)
	return words{
		values: map[string]func(string) error{
			"from": rulePrefix(&r.From), "to": rulePrefix(&r.To), "iif": iif, "dev": iif, "oif": text(&r.OIF), "fwmark": text(&r.FwMark),
			"dsfield": text(&r.DSField), "tos": text(&r.DSField), "ipproto": text(&r.IPProto), "sport": text(&r.SPort), "dport": text(&r.DPort),
			"priority": priority, "pref": priority, "preference": priority, "order": priority, "lookup": text(&r.Lookup), "table": text(&r.Lookup),
			"goto": number(&r.Goto, "goto", 0, math.MaxUint32), "suppress_prefixlength": sup, "sup_pl": sup,
			"protocol": text(&r.Protocol), "proto": text(&r.Protocol), "type": oneOf(&r.Action, "Failed to parse rule type:", ruleTypes...),
		},
		flags: map[string]func(){"not": on(&r.Not)},
		bare:  oneOf(&r.Action, "Failed to parse rule type:", ruleTypes...),
	}
}

// rulePrefix stores a prefix as it is written, or "all".
func rulePrefix(p *string) func(string) error {
	return func(v string) error {
		pr, err := parsePrefix(v)
		if err != nil {
			return err
		}
		if *p = pr.Masked().String(); pr.Bits() == 0 {
			*p = "all"
		}
		return nil
	}
}

// query is what rule show selects by.
func (r *ruleWords) query() (map[string]string, error) {
	if r.Not || r.Action != "" || r.Goto != 0 || r.Suppress != nil {
		return nil, usagef("rules are selected by priority, from, to, iif, oif, fwmark, dsfield, ipproto, sport, dport, lookup and protocol.")
	}
	q := map[string]string{
		"from": r.From, "to": r.To, "iif": r.IIF, "oif": r.OIF, "fwmark": r.FwMark, "dsfield": r.DSField, "ipproto": r.IPProto,
		"sport": r.SPort, "dport": r.DPort, "lookup": r.Lookup, "protocol": r.Protocol,
	}
	if r.Priority != nil {
		q["priority"] = strconv.FormatUint(uint64(*r.Priority), 10)
	}
	for k, v := range q {
		if v == "" {
			delete(q, k)
		}
	}
	return q, nil
}

func (c *cli) ruleCommand() *cobra.Command {
	w := new(ruleWords).words()
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error {
			r := ruleWords{}
			if err := r.words().parse(args); err != nil {
				return err
			}
			return c.client().Post(ctx, "/v1/rule", routeapi.RuleRequest{Op: op, RuleSpec: r.RuleSpec}, nil)
		}
	}
	const selector = " [not] [from PREFIX] [to PREFIX] [iif LINK|lo] [oif LINK] [fwmark MARK[/MASK]] [dsfield N] [ipproto P] [sport N[-N]] [dport N[-N]] [priority N]"
	const action = " [lookup TABLE [suppress_prefixlength N] | goto N | nop | blackhole | unreachable | prohibit]"
	return c.object(&cobra.Command{
		Use:   "rule",
		Short: "Rules: which table a packet's route is looked up in",
		Long: `Rules are asked in the order of their priority, the lowest number first. The first rule that a packet
conforms to says which table its route is looked up in; the route counts if it conforms to the rule too,
else the next rule is asked. "leveret -d route get" shows each step.`,
		Example: `  leveret rule
  leveret rule add from 2001:db8:100:1::/64 lookup 100
  leveret -d route get 2001:db8::1`,
	}, w,
		c.verb("show"+selector+" [lookup TABLE]", "List rules in the order in which they are asked", `  leveret rule show
  leveret rule show lookup 100
  leveret -j rule | jq -r '.[].priority'`, w, c.ruleShow, "list", "lst"),
		c.verb("add"+selector+action, "Add a rule", `  leveret rule add from 2001:db8:100:1::/64 lookup 100 priority 100
  leveret rule add iif lan0 ipproto tcp dport 443 fwmark 0x1/0xff lookup main
  leveret rule add to 2001:db8:bad::/48 prohibit`, w, edit("add")),
		c.verb("del"+selector+action, "Delete the first rule that is as given", `  leveret rule del priority 100
  leveret rule del from 2001:db8:100:1::/64 lookup 100`, w, edit("del"), "delete"),
		c.verb("flush [SELECTOR]", "Delete all rules but that of table local, or those selected as by show", `  leveret rule flush lookup 100`, w, c.ruleFlush),
	)
}

func (c *cli) ruleShow(ctx context.Context, args []string) error {
	var r ruleWords
	if err := r.words().parse(args); err != nil {
		return err
	}
	q, err := r.query()
	if err != nil {
		return err
	}
	var out []routeapi.Rule
	if err := c.client().Get(ctx, "/v1/rule", q, &out); err != nil {
		return err
	}
	for i := range out {
		out[i] = c.stripRule(out[i])
	}
	return each(c, out, func(r routeapi.Rule) error { return c.printRecord(ruleText(r)) })
}

func (c *cli) ruleFlush(ctx context.Context, args []string) error {
	var r ruleWords
	if err := r.words().parse(args); err != nil {
		return err
	}
	var done routeapi.Flushed
	if err := c.client().Post(ctx, "/v1/rule/flush", r.RuleSpec, &done); err != nil {
		return err
	}
	return c.printFlushed(done.Flushed)
}

// stripRule takes away what iproute2 shows with -d only.
func (c *cli) stripRule(r routeapi.Rule) routeapi.Rule {
	if !c.details && slices.Contains([]string{"kernel", "unspec"}, r.Protocol) {
		r.Protocol = ""
	}
	return r
}

// ruleText renders a rule in iproute2's layout.
func ruleText(r routeapi.Rule) string {
	length := func(n *int) string {
		if n == nil {
			return ""
		}
		return "/" + strconv.Itoa(*n)
	}
	ports := func(key string, one, low, high uint16) string {
		switch {
		case one != 0:
			return pair(key, one)
		case high != 0:
			return fmt.Sprintf("%s %d-%d", key, low, high)
		}
		return ""
	}
	mark := r.FwMark
	if r.FwMask != "" {
		mark += "/" + r.FwMask
	}
	parts := []string{
		when(bool(r.Not), "not"), "from " + r.Src + length(r.SrcLen), pair("to", r.Dst+length(r.DstLen)), pair("tos", r.TOS), pair("fwmark", mark),
		pair("iif", r.IIF), when(bool(r.IIFDetached), "[detached]"), pair("oif", r.OIF), when(bool(r.OIFDetached), "[detached]"),
		pair("ipproto", r.IPProto), ports("sport", r.SPort, r.SPortStart, r.SPortEnd), ports("dport", r.DPort, r.DPortStart, r.DPortEnd),
		pair("lookup", r.Table),
	}
	if r.SuppressLen != nil {
		parts = append(parts, fmt.Sprintf("suppress_prefixlength %d", *r.SuppressLen))
	}
	if r.Goto != 0 {
		parts = append(parts, fmt.Sprintf("goto %d", r.Goto), when(bool(r.Unresolved), "[unresolved]"))
	}
	parts = append(parts, when(bool(r.Nop), "nop"), r.Action, pair("proto", r.Protocol))
	head := strconv.FormatUint(uint64(r.Priority), 10) + ":\t"
	return when(r.Deleted, "Deleted ") + head + strings.TrimSpace(line(parts...))
}
