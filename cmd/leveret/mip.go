package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"leveret/extensions/mip6/mipapi"
)

// mipSelect is what bindings are selected by.
type mipSelect struct{ hoa, local netip.Addr }

func (f *mipSelect) words() words {
	return words{
		values: map[string]func(string) error{"hoa": addr(&f.hoa), "local": addr(&f.local)},
		bare:   addr(&f.hoa),
	}
}

// mipFilter reads the words of a command.
func mipFilter(args []string) (out mipapi.Filter, err error) {
	var f mipSelect
	if err := f.words().parse(args); err != nil {
		return out, err
	}
	if f.hoa.IsValid() {
		out.HoA = f.hoa.String()
	}
	if f.local.IsValid() {
		out.Local = f.local.String()
	}
	return out, nil
}

// mipCommand has the words of UMIP.
func (c *cli) mipCommand() *cobra.Command {
	w := new(mipSelect).words()
	return c.object(&cobra.Command{
		Use:   "mip OBJECT [VERB] ...",
		Short: "Mobile IPv6: bindings of mobile nodes",
		Example: `  leveret mip bc
  leveret mip nonce
  leveret mip stat`,
		RunE: c.usage,
	}, words{},
		c.verbs(&cobra.Command{
			Use:   "bc",
			Short: "The binding cache: which mobile nodes are where",
			Long: `A mobile node that has shown that it is reached by its home address and its care-of address has a binding
here: packets between the two take the way by the care-of address. Of a binding that has ended the sequence
number is remembered for a while, so that nobody can repeat what he has recorded.`,
			Example: `  leveret mip bc
  leveret mip bc flush 2001:db8:100::abcd`,
		}, w,
			c.verb("show [hoa] [ADDR] [local ADDR]", "List bindings", `  leveret mip bc show 2001:db8:100::abcd
  leveret -j mip bc | jq -r '.[].coa'`, w, c.bindingShow, "list", "lst"),
			c.verb("flush [hoa] [ADDR] [local ADDR]", "End bindings, all or those selected", `  leveret mip bc flush
  leveret mip bc flush local 2001:db8:1::1`, w, c.bindingFlush),
		),
		c.verb("nonce", "Indexes of the nonces that tokens are made with, the newest first", `  leveret mip nonce`, words{}, c.nonceShow),
		c.verb("stat", "What was received, sent and refused", `  leveret mip stat
  leveret -j mip stat | jq .counters.received_bu`, words{}, c.mipStat),
	)
}

func (c *cli) bindingShow(ctx context.Context, args []string) error {
	f, err := mipFilter(args)
	if err != nil {
		return err
	}
	var list []mipapi.Binding
	if err := c.client().Get(ctx, "/v1/mip/bc", f, &list); err != nil {
		return err
	}
	return each(c, list, func(b mipapi.Binding) error { return c.printRecord(bindingText(b)...) })
}

func (c *cli) bindingFlush(ctx context.Context, args []string) error {
	f, err := mipFilter(args)
	if err != nil {
		return err
	}
	var done mipapi.Flushed
	if err := c.client().Post(ctx, "/v1/mip/bc/flush", f, &done); err != nil {
		return err
	}
	return c.printFlushed(done.Flushed)
}

// bindingText renders a binding as mip6d does.
func bindingText(b mipapi.Binding) []string {
	return []string{
		line("hoa", b.HoA.String(), pair("status", b.Status)),
		line(" coa", b.CoA.String(), pair("flags", strings.Join(b.Flags, ","))),
		line(" local", b.Local.String()),
		line(" lifetime", fmt.Sprintf("%d / %d", b.Expires, b.Lifetime), pair("seq", b.Sequence), pair("nonces", fmt.Sprintf("%d,%d", b.HomeIndex, b.CoAIndex)),
			pair("packets", b.Packets)),
	}
}

// mipEventText renders an event of topic "mip".
func mipEventText(e mipapi.Event) []string {
	if e.Event != "refused" {
		lines := bindingText(e.Binding)
		lines[0] = e.Event + " " + lines[0]
		return lines
	}
	status := "silently"
	if e.Code != 0 {
		status = fmt.Sprintf("status %d", e.Code)
	}
	return []string{line("refused hoa", e.HoA.String(), pair("coa", e.CoA), pair("local", e.Local), pair("seq", e.Sequence), status, e.Reason, "("+e.Section+")")}
}

func (c *cli) nonceShow(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var list []mipapi.Nonce
	if err := c.client().Get(ctx, "/v1/mip/nonce", nil, &list); err != nil {
		return err
	}
	return each(c, list, func(n mipapi.Nonce) error { return c.printRecord(line(pair("index", n.Index), pair("age", n.Age))) })
}

func (c *cli) mipStat(ctx context.Context, args []string) error {
	if err := noWords(args); err != nil {
		return err
	}
	var s mipapi.Stat
	if err := c.client().Get(ctx, "/v1/mip/stat", nil, &s); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(s)
	}
	lines := []string{fmt.Sprintf("%-56s\t%d", "bindings", s.Bindings), fmt.Sprintf("%-56s\t%d", "ended", s.Ended), fmt.Sprintf("%-56s\t%d", "evicted", s.Evicted)}
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		lines = append(lines, fmt.Sprintf("%-56s\t%d", name, s.Counters[name]))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(c.out, l); err != nil {
			return err
		}
	}
	return nil
}
