package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"leveret/extensions/policyroute/routeapi"
)

// objectWords is a nexthop object to add, replace or delete.
type objectWords struct{ routeapi.ObjectSpec }

func (o *objectWords) words() words {
	return words{
		values: map[string]func(string) error{
			"id": number(&o.ID, "id", 1, math.MaxUint32), "via": addr(&o.Via), "dev": text(&o.Dev), "group": o.group,
			"type": oneOf(&o.Type, `"type" value`, "mpath", "resilient"), "buckets": optional(&o.Buckets, "buckets", 0, math.MaxUint16),
			"idle_timer": optional(&o.IdleTimer, "idle_timer", 0, math.MaxInt32), "unbalanced_timer": optional(&o.UnbalancedTimer, "unbalanced_timer", 0, math.MaxInt32),
			"proto": text(&o.Protocol), "protocol": text(&o.Protocol),
		},
		flags: map[string]func(){"blackhole": on(&o.Blackhole)},
	}
}

// group reads ID[,WEIGHT]/ID[,WEIGHT]/...
func (o *objectWords) group(v string) error {
	for one := range strings.SplitSeq(v, "/") {
		id, weight, weighs := strings.Cut(one, ",")
		var m routeapi.Member
		if err := number(&m.ID, "id", 1, math.MaxUint32)(id); err != nil {
			return err
		}
		if weighs {
			if n, err := strconv.Atoi(weight); err != nil || n < 1 || n > 256 {
				return usagef("argument %q is wrong: \"weight\" is invalid", weight)
			} else if n > 1 {
				m.Weight = n
			}
		}
		o.Group = append(o.Group, m)
	}
	return nil
}

// objectSelect is what `nexthop show` and `nexthop flush` select by.
type objectSelect struct{ routeapi.ObjectFilter }

func (f *objectSelect) words() words {
	return words{
		values: map[string]func(string) error{
			"id": numberText(&f.ID, "id", math.MaxUint32), "dev": text(&f.Dev), "proto": text(&f.Proto), "protocol": text(&f.Proto),
		},
		flags: map[string]func(){"groups": func() { f.Groups = "true" }},
	}
}

// bucketSelect is what `nexthop bucket` selects by.
type bucketSelect struct{ routeapi.BucketFilter }

func (f *bucketSelect) words() words {
	return words{
		values: map[string]func(string) error{
			"id": numberText(&f.ID, "id", math.MaxUint32), "index": numberText(&f.Index, "index", math.MaxUint16),
			"nhid": numberText(&f.NHID, "nhid", math.MaxUint32), "dev": text(&f.Dev),
		},
		flags: map[string]func(){"list": func() {}, "show": func() {}, "get": func() {}},
	}
}

func (c *cli) nexthopCommand() *cobra.Command {
	change, show, bucket := new(objectWords).words(), new(objectSelect).words(), new(bucketSelect).words()
	edit := func(op string) verbFunc {
		return func(ctx context.Context, args []string) error { return c.objectEdit(ctx, op, args) }
	}
	const spec = " id ID {[via ADDR] dev LINK | blackhole | group ID[,WEIGHT]/... [type mpath | type resilient buckets N [idle_timer S] [unbalanced_timer S]]} [proto P]"
	return c.object(&cobra.Command{
		Use:   "nexthop",
		Short: "Next hops, and groups of them, that routes name",
		Long: `A route that names a next hop by its number ("route add ... nhid ID") goes where that leads: one change of the
next hop is a change of all such routes. A group shares flows out to its members by weight. In a resilient
group flows keep their way when members come and go, but for those whose member has gone.`,
		Example: `  leveret nexthop add id 1 via fe80::1 dev wan0
  leveret nexthop add id 10 group 1,2/2
  leveret route add default nhid 10`,
	}, show,
		c.verb("show [id ID] [dev LINK] [groups] [proto P]", "List next hops", `  leveret nexthop show
  leveret nexthop show groups
  leveret -j nexthop | jq '.[].id'`, show, c.objectShow, "list", "lst"),
		c.verb("get id ID", "Show one next hop", `  leveret nexthop get id 10`, show, c.objectShow),
		c.verb("add"+spec, "Add a next hop or a group", `  leveret nexthop add id 1 via fe80::1 dev wan0
  leveret nexthop add id 2 via fe80::2 dev wan1
  leveret nexthop add id 3 blackhole
  leveret nexthop add id 10 group 1,3/2
  leveret nexthop add id 11 group 1/2 type resilient buckets 512 idle_timer 60`, change, edit("add")),
		c.verb("replace"+spec, "Add a next hop or change it, for all routes that name it", `  leveret nexthop replace id 1 via fe80::9 dev wan0`, change, edit("replace")),
		c.verb("del id ID", "Delete a next hop, out of groups too, and the routes that name it", `  leveret nexthop del id 10`, change, edit("del"), "delete"),
		c.verb("flush [SELECTOR...]", "Delete all next hops, or those selected as by show", `  leveret nexthop flush groups`, show, c.objectFlush),
		c.verb("bucket [list | get] [id ID] [index N] [nhid ID] [dev LINK]", "List the buckets of resilient groups", `  leveret nexthop bucket list id 11
  leveret nexthop bucket get id 11 index 3`, bucket, c.bucketShow),
	)
}

func (c *cli) objectEdit(ctx context.Context, op string, args []string) error {
	var o objectWords
	if err := o.words().parse(args); err != nil {
		return err
	}
	if op == "del" && o.ID == 0 {
		return usagef(`Not enough information: "id" argument is required.`)
	}
	return c.client().Post(ctx, "/v1/nexthop", routeapi.ObjectRequest{Op: op, ObjectSpec: o.ObjectSpec}, nil)
}

func (c *cli) objectShow(ctx context.Context, args []string) error {
	var f objectSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	var out []routeapi.Object
	if err := c.client().Get(ctx, "/v1/nexthop", f.ObjectFilter, &out); err != nil {
		return err
	}
	for i := range out {
		out[i] = c.stripObject(out[i])
	}
	return each(c, out, func(o routeapi.Object) error { return c.printRecord(objectText(o)) })
}

func (c *cli) objectFlush(ctx context.Context, args []string) error {
	var f objectSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	var done routeapi.Flushed
	if err := c.client().Post(ctx, "/v1/nexthop/flush", f.ObjectFilter, &done); err != nil {
		return err
	}
	return c.printFlushed(done.Flushed)
}

func (c *cli) bucketShow(ctx context.Context, args []string) error {
	var f bucketSelect
	if err := f.words().parse(args); err != nil {
		return err
	}
	var out []routeapi.Bucket
	if err := c.client().Get(ctx, "/v1/nexthop/bucket", f.BucketFilter, &out); err != nil {
		return err
	}
	return each(c, out, func(b routeapi.Bucket) error {
		return c.printRecord(fmt.Sprintf("id %d index %d idle_time %g nhid %d ", b.ID, b.Bucket.Index, b.Bucket.IdleTime, b.Bucket.NHID))
	})
}

// stripObject takes away what iproute2 shows with -d only.
func (c *cli) stripObject(o routeapi.Object) routeapi.Object {
	if c.details {
		return o
	}
	if o.Scope == "global" {
		o.Scope = ""
	}
	if o.Protocol == "unspec" {
		o.Protocol = ""
	}
	return o
}

// objectText renders a nexthop object in iproute2's layout.
func objectText(o routeapi.Object) string {
	var group []string
	for _, m := range o.Group {
		one := strconv.FormatUint(uint64(m.ID), 10)
		if m.Weight > 1 {
			one += "," + strconv.Itoa(m.Weight)
		}
		group = append(group, one)
	}
	text := line(when(o.Deleted, "Deleted"), fmt.Sprintf("id %d", o.ID), pair("group", strings.Join(group, "/")), pair("type", o.Type))
	if a := o.Args; a != nil {
		text = line(text, fmt.Sprintf("buckets %d idle_timer %g unbalanced_timer %g unbalanced_time %g", a.Buckets, a.IdleTimer, a.UnbalancedTimer, a.UnbalancedTime))
	}
	text = line(text, pair("via", text0(o.Gateway)), pair("dev", o.Dev), pair("scope", o.Scope), when(bool(o.Blackhole), "blackhole"), pair("proto", o.Protocol))
	return line(append([]string{text}, o.Flags...)...) + " "
}
