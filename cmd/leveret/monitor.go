package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leveret/appliance/control"
	"leveret/appliance/control/api"
	"leveret/extensions/mip6/mipapi"
	"leveret/extensions/ndp/ndpapi"
	"leveret/extensions/policyroute/routeapi"
	"leveret/extensions/xfrm/xfrmapi"
)

// monitorTopics are the objects whose events there are. "ndp", with one for each packet, is not among
// "all".
var monitorTopics = []string{"link", "addr", "maddr", "neigh", "route", "rule", "nexthop", "tunnel", "xfrm", "mip", "ndp"}

func (c *cli) monitorCommand() *cobra.Command {
	cmd := c.verb("monitor [all | OBJECT...] [label]", "Watch changes as they happen",
		`  leveret monitor
  leveret -t monitor neigh route
  leveret monitor ndp
  leveret -s monitor xfrm
  leveret -j monitor addr | jq -r '.addr_info[].local'`,
		words{flags: map[string]func(){"all": nil, "label": nil, "link": nil, "addr": nil, "maddr": nil, "neigh": nil, "route": nil, "rule": nil, "nexthop": nil, "tunnel": nil, "xfrm": nil, "mip": nil, "ndp": nil}}, c.monitor)
	cmd.GroupID = groupObjects
	cmd.Long = `Watch changes as they happen, until interrupted: all of them, or those of the objects named.
"ndp" is every message of Neighbor Discovery received or sent, and not among "all".
"xfrm" is IPsec: states and policies that come, change and go, limits they reach, and packets that want a
state. "mip" is Mobile IPv6: bindings that come, change and end, and Binding Updates that are refused, with
the reason and where that is written. The text is iproute2's; with several objects each event begins with its own. With -j every event
is one JSON object on a line: the keys of the object's "show", with "topic" and "timestamp", and
"deleted" for what is gone. When the reader is too slow, {"topic":"overrun","overrun":N} stands in
the place of N events.`
	c.outputFlags(cmd.Flags())
	return cmd
}

func (c *cli) monitor(ctx context.Context, args []string) error {
	label := len(args) == 0
	var topics []string
	for _, word := range args {
		switch topic := monitorTopic(word); {
		case word == "label", word == "all":
			label = true
		case topic == "":
			return usagef(`Argument %q is unknown, try "leveret monitor help".`, word)
		default:
			topics = append(topics, topic)
		}
	}
	label = label || len(topics) > 1
	if slices.Contains(args, "all") {
		topics = nil
	}
	// The stream's JSON lines must not wait for more output to fill a buffer: c.out has none.
	r, err := c.client().Stream(ctx, "/v1/events", api.EventFilter{Topics: strings.Join(topics, ",")}, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	return control.Lines(ctx, r, func(ev api.Event) error {
		if c.json {
			return c.printEventJSON(ev)
		}
		return c.printEvent(ev, label)
	})
}

// monitorTopic resolves an object's name or prefix; "" if there is none.
func monitorTopic(word string) string {
	if word == "" || word == "all" || word == "label" {
		return ""
	}
	for alias, topic := range map[string]string{"address": "addr", "maddress": "maddr", "neighbor": "neigh", "neighbour": "neigh"} {
		if word == alias {
			return topic
		}
	}
	for _, t := range monitorTopics {
		if strings.HasPrefix(t, word) {
			return t
		}
	}
	return ""
}

// printEventJSON writes the event's own object with its topic and time in front.
func (c *cli) printEventJSON(ev api.Event) error {
	head, err := json.Marshal(struct {
		Topic string    `json:"topic"`
		Time  time.Time `json:"timestamp"`
	}{ev.Topic, ev.Time})
	if err != nil {
		return err
	}
	body := strings.TrimSpace(string(ev.Event))
	if len(body) < 2 || body[0] != '{' {
		return fmt.Errorf("event %s is not an object: %s", ev.Topic, body)
	}
	sep := ","
	if body == "{}" {
		sep = ""
	}
	_, err = fmt.Fprintf(c.out, "%s%s%s\n", head[:len(head)-1], sep, body[1:])
	return err
}

func (c *cli) printEvent(ev api.Event, label bool) error {
	lines, err := c.eventText(ev)
	if err != nil {
		return err
	}
	if c.timestamp {
		t := ev.Time.Local()
		stamp := fmt.Sprintf("Timestamp: %s %06d usec", t.Format("Mon Jan _2 15:04:05 2006"), t.Nanosecond()/1000)
		if err := c.printRecord(stamp); err != nil {
			return err
		}
	}
	if label {
		lines[0] = "[" + strings.ToUpper(ev.Topic) + "]" + lines[0]
	}
	return c.printRecord(lines...)
}

// eventText renders an event as its object's `show` does; at least one line.
func (c *cli) eventText(ev api.Event) ([]string, error) {
	switch ev.Topic {
	case "neigh":
		return textOf(ev, func(n ndpapi.Neigh) []string { return []string{neighText(n)} })
	case "route":
		return textOf(ev, func(r routeapi.Route) []string { return routeText(c.stripRoute(r, routeapi.Filter{})) })
	case "rule":
		return textOf(ev, func(r routeapi.Rule) []string { return []string{ruleText(c.stripRule(r))} })
	case "nexthop":
		return textOf(ev, func(o routeapi.Object) []string { return []string{objectText(c.stripObject(o))} })
	case "link":
		return textOf(ev, func(l api.Link) []string {
			c.stripLink(&l)
			return linkText(l)
		})
	case "addr":
		return textOf(ev, func(l ndpapi.Link) []string {
			var lines []string
			for _, a := range l.AddrInfo {
				lines = append(lines, addrOneline(l.IfIndex, l.IfName, a)...)
			}
			if len(lines) > 0 && l.Deleted {
				lines[0] = "Deleted " + lines[0]
			}
			return lines
		})
	case "tunnel":
		return textOf(ev, tunnelText)
	case "ndp":
		return textOf(ev, func(m ndpapi.NDMessage) []string { return []string{messageText(m)} })
	case "maddr":
		return textOf(ev, func(l ndpapi.Groups) []string {
			var lines []string
			for _, g := range l.MAddr {
				lines = append(lines, when(l.Deleted, "Deleted ")+fmt.Sprintf("%d: %s    %s", l.IfIndex, l.IfName, groupText(g)))
			}
			return lines
		})
	case mipapi.Topic:
		return textOf(ev, mipEventText)
	case xfrmapi.Topic:
		return textOf(ev, c.xfrmEventText)
	case api.TopicOverrun:
		return textOf(ev, func(o api.Overrun) []string {
			return []string{fmt.Sprintf("*** %d events lost: too slow ***", o.Overrun)}
		})
	}
	return []string{string(ev.Event)}, nil // a topic with no layout of its own
}

// textOf decodes an event and renders it.
func textOf[T any](ev api.Event, f func(T) []string) ([]string, error) {
	var v T
	if err := json.Unmarshal(ev.Event, &v); err != nil {
		return nil, fmt.Errorf("event %s: %w", ev.Topic, err)
	}
	if lines := f(v); len(lines) > 0 {
		return lines, nil
	}
	return []string{string(ev.Event)}, nil
}
