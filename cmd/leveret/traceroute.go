package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"leveret/appliance/control"
	"leveret/appliance/control/api"
)

func (c *cli) tracerouteCommand() *cobra.Command {
	var r api.TraceRequest
	var from string
	cmd := c.appliance("traceroute DESTINATION", "Show the routers on the way, from inside the appliance",
		`Send UDP datagrams with growing hop limits from inside the appliance and show who answers, as
traceroute(8) does. Exit 0 if the destination answered, 1 if it did not, 2 if nothing could be sent.
A name is resolved by the appliance; see 'leveret ping --help'.`,
		`  leveret traceroute 2001:db8::1
  leveret traceroute host.example
  leveret traceroute -m 5 -c 1 -W 1 2001:db8::1`,
		func(ctx context.Context, args []string) error { return c.traceroute(ctx, r, from, args) })
	fs := cmd.Flags()
	c.connectionFlags(fs)
	fs.IntVarP(&r.FirstHop, "first", "f", 1, "hop limit to begin with")
	fs.IntVarP(&r.MaxHops, "max-hops", "m", 30, "largest hop limit")
	fs.IntVarP(&r.Probes, "count", "c", 3, "probes for each hop")
	fs.Float64VarP(&r.Timeout, "wait", "W", 5, "seconds to wait for each answer")
	fs.IntVarP(&r.Size, "size", "s", 80, "octets of each packet")
	fs.StringVarP(&from, "interface", "I", "", "source address, or link to leave by")
	return cmd
}

func (c *cli) traceroute(ctx context.Context, r api.TraceRequest, from string, args []string) error {
	var err error
	if r.Dst, r.Name, err = destination(args); err != nil {
		return err
	}
	switch {
	case r.FirstHop < 1 || r.FirstHop > r.MaxHops || r.MaxHops > 255:
		return usagef("first hop %d and max hops %d: want 1 <= first <= max <= 255", r.FirstHop, r.MaxHops)
	case r.Probes < 1 || r.Probes > 10:
		return usagef("invalid argument: '%d': out of range: 1 <= count <= 10", r.Probes)
	case r.Size < 48 || r.Size > 65535:
		return usagef("invalid argument: '%d': out of range: 48 <= size <= 65535", r.Size)
	}
	if err := checkWait(r.Timeout); err != nil {
		return err
	}
	r.Source, r.Dev = sourceOrLink(from)
	s, err := c.probe(ctx, "traceroute", r.Name, r)
	if err != nil {
		return err
	}
	defer s.Close()
	p := tracePrinter{c: c, r: &r}
	if !c.json && r.Name == "" {
		if err := p.head(r.Dst); err != nil {
			return err
		}
	}
	if err := control.Lines(ctx, s, p.print); err != nil {
		return err
	}
	if p.column > 0 {
		fmt.Fprintln(c.out)
	}
	switch {
	case p.failed:
		return exitError(exitRefused)
	case !p.reached:
		return exitError(exitNoReply)
	}
	return nil
}

// tracePrinter prints each probe as it is answered; a line for each hop.
type tracePrinter struct {
	c               *cli
	r               *api.TraceRequest
	column          int // probes printed on the line
	from            netip.Addr
	reached, failed bool
}

// head prints the first line, once it is known where the probes go.
func (p *tracePrinter) head(dst netip.Addr) error {
	_, err := fmt.Fprintf(p.c.out, "traceroute to %s (%s), %d hops max, %d byte packets\n", cmp.Or(p.r.Name, dst.String()), dst, p.r.MaxHops, p.r.Size)
	return err
}

func (p *tracePrinter) print(ev api.TraceEvent) error {
	p.reached = p.reached || ev.Reached
	if p.c.json {
		p.failed = p.failed || ev.Error != ""
		return p.c.printJSON(ev)
	}
	if ev.Dst.IsValid() {
		return p.head(ev.Dst)
	}
	if ev.Error != "" {
		p.failed = true
		_, err := fmt.Fprintf(p.c.out, "%s", when(p.column > 0, "\n")+"send: "+ev.Error+"\n")
		p.column = 0
		return err
	}
	text := ""
	if p.column == 0 {
		text, p.from = fmt.Sprintf("%2d ", ev.Hop), netip.Addr{}
	}
	if !ev.From.IsValid() {
		text += " *"
	} else {
		if ev.From != p.from {
			text += " " + ev.From.String()
			p.from = ev.From
		}
		text += fmt.Sprintf("  %.3f ms%s", ev.Time, traceMark(ev))
	}
	if p.column++; p.column == p.r.Probes {
		text += "\n"
		p.column = 0
	}
	_, err := fmt.Fprint(p.c.out, text)
	return err
}

// traceMark is traceroute(8)'s mark for an error other than the expected ones.
func traceMark(ev api.TraceEvent) string {
	switch {
	case ev.Reached || ev.Type == 3 && ev.Code == 0:
		return ""
	case ev.Type == 1 && ev.Code < 4:
		return [...]string{" !N", " !X", " !S", " !H"}[ev.Code]
	}
	return fmt.Sprintf(" !<%d-%d>", ev.Type, ev.Code)
}
