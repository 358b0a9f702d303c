package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leveret/appliance/control/api"
)

// linkSelect is what `link show` selects by.
type linkSelect struct {
	api.LinkFilter
	up   bool
	kind string
}

func (f *linkSelect) words() words {
	return words{
		values: map[string]func(string) error{"dev": text(&f.Dev), "type": kindOf(&f.kind)},
		flags:  map[string]func(){"up": on(&f.up)},
		bare:   text(&f.Dev),
	}
}

// kindOf reads the configuration's word for a kind, or iproute2's.
func kindOf(into *string) func(string) error {
	return func(s string) error {
		if *into = s; s == "ipsec" {
			*into = "xfrm"
		}
		return nil
	}
}

// linkChange is what `link set` changes.
type linkChange struct {
	api.LinkRequest
	dup error
}

func (r *linkChange) words() words {
	state := func(up bool) func() {
		return func() {
			if r.Up != nil && *r.Up != up {
				r.dup = usagef("both up and down are given")
			}
			r.Up = &up
		}
	}
	return words{
		values: map[string]func(string) error{"dev": text(&r.Dev), "mtu": optional(&r.MTU, "mtu", 0, 1<<31-1)},
		flags:  map[string]func(){"up": state(true), "down": state(false)},
		bare:   text(&r.Dev),
	}
}

func (c *cli) linkCommand() *cobra.Command {
	show := new(linkSelect).words()
	return c.object(&cobra.Command{
		Use:   "link",
		Short: "Links: state, MTU, counters",
		Example: `  leveret link
  leveret -s link show lan0
  leveret link set lan0 mtu 1400`,
	}, show,
		c.verb("set [dev] LINK [up|down] [mtu N]", "Change a link's state or MTU",
			`  leveret link set lan0 down
  leveret link set dev lan0 mtu 1400 up`, new(linkChange).words(), c.linkSet),
		c.verb("show [[dev] LINK] [up] [type KIND]", "List links",
			`  leveret link show up
  leveret -j -s link show dev lan0 | jq '.[0].stats64'
  leveret -d link show type tap`, show, c.linkShow, "list", "lst"),
	)
}

func (c *cli) linkSet(ctx context.Context, args []string) error {
	var r linkChange
	if err := r.words().parse(args); err != nil {
		return err
	}
	switch {
	case r.dup != nil:
		return r.dup
	case r.Dev == "":
		return usagef(`Not enough information: "dev" argument is required.`)
	case r.MTU == nil && r.Up == nil:
		return usagef("Nothing to set: give up, down or mtu.")
	}
	return c.client().Post(ctx, "/v1/link", r.LinkRequest, nil)
}

func (c *cli) linkShow(ctx context.Context, args []string) error {
	var f linkSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	var links []api.Link
	if err := c.client().Get(ctx, "/v1/link", f.LinkFilter, &links); err != nil {
		return err
	}
	links = slices.DeleteFunc(links, func(l api.Link) bool {
		return f.up && !slices.Contains(l.Flags, "UP") || f.kind != "" && (l.LinkInfo == nil || l.LinkInfo.Kind != f.kind)
	})
	for i := range links {
		c.stripLink(&links[i])
	}
	return each(c, links, c.printLink)
}

// stripLink takes away what was not asked for.
func (c *cli) stripLink(l *api.Link) {
	if c.stats == 0 {
		l.Stats64 = nil
	}
	if !c.details {
		l.LinkInfo = nil
	}
}

func (c *cli) printLink(l api.Link) error {
	return c.printRecord(linkText(l)...)
}

// linkText renders a link in iproute2's layout; what it has of -s and -d comes with it.
func linkText(l api.Link) []string {
	lines := []string{
		fmt.Sprintf("%s%d: %s: <%s> mtu %d mtu6 %d state %s", when(l.Deleted, "Deleted "), l.IfIndex, l.IfName, strings.Join(l.Flags, ","), l.MTU, l.MTU6, l.OperState),
		"    " + line("link/"+l.LinkType, l.Address, pair("brd", l.Broadcast)),
	}
	if i := l.LinkInfo; i != nil {
		lines = append(lines, "    "+line(i.Kind, pair("if_id", i.IfID), pair("host_device", i.HostDevice), "forwarding "+onOff(i.Forwarding),
			when(i.Queues > 0, "numrxqueues "+strconv.Itoa(i.Queues)), when(i.Checksum, "checksum"), when(i.TSO, "tso"), when(i.USO, "uso")))
	}
	if s := l.Stats64; s != nil {
		lines = append(lines, statsText("RX", s.RX)...)
		lines = append(lines, statsText("TX", s.TX)...)
	}
	return lines
}

// statsText renders one direction's counters as a head line and the numbers under it.
func statsText(name string, d api.Direction) []string {
	head, nums := "    "+name+": ", "        "
	type column struct {
		name  string
		value uint64
	}
	columns := []column{{"bytes", d.Bytes}, {"packets", d.Packets}, {"errors", d.Errors}, {"dropped", d.Dropped}}
	if name == "TX" {
		columns = append(columns, column{"carrier", d.CarrierErrors}, column{"collsns", d.Collisions})
	}
	for i, col := range columns {
		n := strconv.FormatUint(col.value, 10)
		width := max(len(col.name), len(n))
		if i == 0 {
			width = max(width, 6)
		} else {
			head, nums = head+" ", nums+" "
		}
		head += fmt.Sprintf("%*s", width, col.name)
		nums += fmt.Sprintf("%*s", width, n)
	}
	return []string{head, nums}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
