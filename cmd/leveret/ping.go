package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leveret/appliance/control"
	"leveret/appliance/control/api"
)

// exitNoReply is ping's and traceroute's code when nobody answered.
const exitNoReply = 1

// pingOptions are the options as they are typed.
type pingOptions struct {
	api.PingRequest
	from string // -I
	pmtu string // -M
}

func (c *cli) pingCommand() *cobra.Command {
	var o pingOptions
	cmd := c.appliance("ping DESTINATION", "Send echo requests from inside the appliance",
		`Send ICMPv6 echo requests from inside the appliance, through its whole packet path, and show what
comes back, as ping(8) does. Exit 0 if there was a reply, 1 if there was none, 2 if they could not
be sent.

A name is resolved by the appliance, which asks the resolvers that it has learned from routers (RFC 8106)
through its own links; of several addresses the first in the order of RFC 6724 is used.`,
		`  leveret ping -c 3 2001:db8::1
  leveret ping host.example
  leveret ping -I lan0 fe80::1
  leveret ping -M do -s 1452 -c 1 2001:db8::1
  leveret -j ping -c 1 2001:db8::1 | jq 'select(.event=="reply").time'`,
		func(ctx context.Context, args []string) error { return c.ping(ctx, o, args) })
	fs := cmd.Flags()
	c.connectionFlags(fs)
	fs.IntVarP(&o.Count, "count", "c", 0, "requests to send; 0 = until interrupted")
	fs.IntVarP(&o.Size, "size", "s", 56, "octets of data")
	fs.Float64VarP(&o.Interval, "interval", "i", 1, "seconds between requests")
	fs.Float64VarP(&o.Timeout, "wait", "W", 10, "seconds to wait for a reply")
	fs.StringVarP(&o.from, "interface", "I", "", "source address, or link to leave by")
	fs.IntVarP(&o.HopLimit, "ttl", "t", 0, "hop limit")
	fs.StringVarP(&o.pmtu, "pmtudisc", "M", "want", "do = never fragment; want = fragment to the path MTU")
	return cmd
}

// complete checks the options and puts them into the request.
func (o *pingOptions) complete(args []string) error {
	var err error
	if o.Dst, o.Name, err = destination(args); err != nil {
		return err
	}
	switch o.pmtu {
	case "do":
		o.DontFragment = true
	case "want":
	default:
		return usagef("invalid -M argument: %q", o.pmtu)
	}
	switch {
	case o.Count < 0:
		return usagef("invalid argument: '%d': a count is not negative", o.Count)
	case o.Size < 0 || o.Size > 65527:
		return usagef("invalid argument: '%d': out of range: 0 <= size <= 65527", o.Size)
	case !(o.Interval >= 0.002 && o.Interval <= 86400):
		return usagef("invalid argument: '%g': out of range: 0.002 <= interval <= 86400", o.Interval)
	case o.HopLimit < 0 || o.HopLimit > 255:
		return usagef("invalid argument: '%d': out of range: 0 <= hop limit <= 255", o.HopLimit)
	}
	if err := checkWait(o.Timeout); err != nil {
		return err
	}
	o.Source, o.Dev = sourceOrLink(o.from)
	return nil
}

// destination returns the one address on a probe's command line, which may have a zone, or the name there,
// which the appliance resolves.
func destination(args []string) (dst netip.Addr, name string, err error) {
	if len(args) != 1 {
		return dst, "", usagef("one destination is required: an address or a name.")
	}
	dst, err = netip.ParseAddr(args[0])
	switch {
	case err == nil && dst.Is6():
		return dst, "", nil
	case err == nil || args[0] == "" || strings.ContainsAny(args[0], ":%/ "):
		return dst, "", usagef("inet6 address is expected rather than %q.", args[0])
	}
	return netip.Addr{}, args[0], nil
}

// probe asks the appliance for a probe. What it says about a name begins with the program, as ping(8)'s and
// traceroute(8)'s users know it.
func (c *cli) probe(ctx context.Context, program, name string, request any) (io.ReadCloser, error) {
	r, err := c.client().Stream(ctx, "/v1/"+program, nil, request)
	var refused *control.StatusError
	if name != "" && errors.As(err, &refused) {
		return nil, &probeError{program, refused}
	}
	return r, err
}

// probeError is a refusal that is shown as the program of that name shows it.
type probeError struct {
	program string
	*control.StatusError
}

func (e *probeError) Unwrap() error { return e.StatusError }

func checkWait(seconds float64) error {
	if !(seconds > 0 && seconds <= 3600) {
		return usagef("invalid argument: '%g': out of range: 0 < wait <= 3600", seconds)
	}
	return nil
}

// sourceOrLink tells which of the two -I means.
func sourceOrLink(v string) (netip.Addr, string) {
	if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
		return a, ""
	}
	return netip.Addr{}, v
}

func (c *cli) ping(ctx context.Context, o pingOptions, args []string) error {
	if err := o.complete(args); err != nil {
		return err
	}
	r, err := c.probe(ctx, "ping", o.Name, o.PingRequest)
	if err != nil {
		return err
	}
	defer r.Close()
	s := pingStats{began: time.Now()}
	err = control.Lines(ctx, r, func(ev api.PingEvent) error {
		s.count(ev)
		if c.json {
			return c.printJSON(ev)
		}
		return c.printPing(&o, ev)
	})
	if err != nil {
		return err
	}
	s.Time = time.Since(s.began).Milliseconds()
	if err := c.printPingStats(&o, &s); err != nil {
		return err
	}
	switch {
	case s.Received > 0:
		return nil
	case s.Transmitted == 0 && s.Errors > 0:
		return exitError(exitRefused)
	}
	return exitError(exitNoReply)
}

func (c *cli) printPing(o *pingOptions, ev api.PingEvent) error {
	var err error
	switch ev.Event {
	case api.PingStart:
		from := ""
		if o.from != "" {
			from = fmt.Sprintf("from %s %s: ", ev.Source, o.Dev)
		}
		to := fmt.Sprintf("%s(%s)", o.Dst, o.Dst)
		if o.Name != "" {
			to = fmt.Sprintf("%s (%s)", o.Name, ev.Dst)
		}
		_, err = fmt.Fprintf(c.out, "PING %s %s%d data bytes\n", to, from, o.Size)
	case api.PingReply:
		text := fmt.Sprintf("%d bytes from %s: icmp_seq=%d ttl=%d", ev.Bytes, ev.From, ev.Seq, ev.HopLimit)
		if o.Size >= 16 { // as ping(8), which keeps the time in the data
			text += fmt.Sprintf(" time=%s ms", pingTime(ev.Time))
		}
		_, err = fmt.Fprintln(c.out, text+when(ev.Dup, " (DUP!)"))
	case api.PingError:
		switch {
		case ev.From.IsValid():
			_, err = fmt.Fprintf(c.out, "From %s icmp_seq=%d %s\n", ev.From, ev.Seq, icmpErrorText(ev))
		case ev.Arg != 0:
			_, err = fmt.Fprintf(c.out, "ping: local error: message too long, mtu: %d\n", ev.Arg)
		default:
			_, err = fmt.Fprintf(c.out, "ping: sendmsg: %s\n", ev.Error)
		}
	}
	return err
}

// pingTime has ping(8)'s precision: three digits, or all of the integer part.
func pingTime(ms float64) string {
	switch {
	case ms >= 99.95:
		return fmt.Sprintf("%.0f", ms)
	case ms >= 9.995:
		return fmt.Sprintf("%.1f", ms)
	case ms >= 0.9995:
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.3f", ms)
}

// icmpErrorText renders an ICMPv6 error (RFC 4443 3) in ping(8)'s words.
func icmpErrorText(ev api.PingEvent) string {
	name := func(names ...string) string {
		if int(ev.Code) < len(names) {
			return names[ev.Code]
		}
		return fmt.Sprintf("Unknown code %d", ev.Code)
	}
	switch ev.Type {
	case 1:
		return "Destination unreachable: " + name("No route", "Administratively prohibited", "Beyond scope of source address",
			"Address unreachable", "Port unreachable", "Source address failed ingress/egress policy", "Reject route to destination")
	case 2:
		return fmt.Sprintf("Packet too big: mtu=%d", ev.Arg)
	case 3:
		return "Time exceeded: " + name("Hop limit", "Defragmentation failure")
	case 4:
		return fmt.Sprintf("Parameter problem: %s at %d", name("Wrong header field", "Unknown header", "Unknown option", "Incomplete header chain"), ev.Arg)
	}
	return fmt.Sprintf("Unknown type %d code %d", ev.Type, ev.Code)
}

// pingStats sums up a ping; with -j it is the last line.
type pingStats struct {
	Event       string  `json:"event"` // "end"
	Transmitted int     `json:"transmitted"`
	Received    int     `json:"received"`
	Duplicates  int     `json:"duplicates"`
	Errors      int     `json:"errors"`
	Time        int64   `json:"time"` // milliseconds in all
	Min         float64 `json:"min"`  // round trips in milliseconds
	Avg         float64 `json:"avg"`
	Max         float64 `json:"max"`
	MDev        float64 `json:"mdev"`

	began     time.Time
	timed     int // replies in sum
	sum, sum2 float64
}

func (s *pingStats) count(ev api.PingEvent) {
	switch ev.Event {
	case api.PingSent:
		s.Transmitted++
	case api.PingError:
		s.Errors++
	case api.PingReply:
		if ev.Dup {
			s.Duplicates++
		} else {
			s.Received++
		}
		s.timed++
		s.sum += ev.Time
		s.sum2 += ev.Time * ev.Time
		if s.timed == 1 || ev.Time < s.Min {
			s.Min = ev.Time
		}
		s.Max = max(s.Max, ev.Time)
		s.Avg = s.sum / float64(s.timed)
		s.MDev = math.Sqrt(max(0, s.sum2/float64(s.timed)-s.Avg*s.Avg))
	}
}

func (c *cli) printPingStats(o *pingOptions, s *pingStats) error {
	if c.json {
		s.Event = "end"
		return c.printJSON(s)
	}
	text := fmt.Sprintf("%d packets transmitted, %d received", s.Transmitted, s.Received)
	if s.Duplicates > 0 {
		text += fmt.Sprintf(", +%d duplicates", s.Duplicates)
	}
	if s.Errors > 0 {
		text += fmt.Sprintf(", +%d errors", s.Errors)
	}
	if s.Transmitted > 0 {
		text += fmt.Sprintf(", %.6g%% packet loss", float64(s.Transmitted-s.Received)*100/float64(s.Transmitted))
	}
	_, err := fmt.Fprintf(c.out, "\n--- %s ping statistics ---\n%s, time %dms\n", cmp.Or(o.Name, o.Dst.String()), text, s.Time)
	if err == nil && s.timed > 0 && o.Size >= 16 {
		_, err = fmt.Fprintf(c.out, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", s.Min, s.Avg, s.Max, s.MDev)
	}
	return err
}
