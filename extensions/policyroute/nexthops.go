package policyroute

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"leveret/appliance/clock"
	"leveret/appliance/module"
	"leveret/extensions/policyroute/nexthop"
	"leveret/extensions/policyroute/routeapi"
)

// The parameters of resilient groups, as in the kernel.
const (
	defaultIdleTimer = 120 * time.Second
	maxBuckets       = 65535
	maxTimer         = math.MaxInt32 / 1000 // seconds
)

// parseObject reads a nexthop object; an error is an *errSelector. link finds a link's index by name, 0 if
// there is none.
func parseObject(s *routeapi.ObjectSpec, link func(string) int) (o nexthop.Object, err error) {
	bad := func(key, format string, args ...any) (nexthop.Object, error) {
		return o, &errSelector{key, fmt.Sprintf(format, args...)}
	}
	o = nexthop.Object{ID: s.ID, Blackhole: s.Blackhole, Protocol: s.Protocol}
	if o.Protocol == "" {
		o.Protocol = "unspec"
	}
	hop := s.Via.IsValid() || s.Dev != ""
	switch {
	case len(s.Group) > 0 && (hop || s.Blackhole):
		return bad("group", "a group has neither via, dev nor blackhole: its members have")
	case s.Blackhole && hop:
		return bad("blackhole", "a blackhole has neither via nor dev")
	case len(s.Group) == 0 && (s.Type != "" || s.Buckets != nil || s.IdleTimer != nil || s.UnbalancedTimer != nil):
		return bad("type", "only a group has a type and its parameters")
	case len(s.Group) > 0:
		return parseGroup(o, s, bad)
	case s.Blackhole:
		return o, nil
	case s.Dev == "":
		return bad("dev", "Device attribute required for non-blackhole and non-fdb nexthops.")
	}
	if o.Hop.Link = link(s.Dev); o.Hop.Link == 0 {
		return bad("dev", "argument %q is wrong: Device does not exist", s.Dev)
	}
	if a := s.Via; a.IsValid() && (a.IsMulticast() || a.IsUnspecified() || !a.Is6() || a.Is4In6() || a.Zone() != "") {
		return bad("via", "Invalid gateway address.")
	}
	o.Hop.Addr = s.Via
	return o, nil
}

// parseGroup reads what a group has.
func parseGroup(o nexthop.Object, s *routeapi.ObjectSpec, bad func(key, format string, args ...any) (nexthop.Object, error)) (nexthop.Object, error) {
	for _, g := range s.Group {
		if g.Weight < 0 || g.Weight > maxWeight {
			return bad("group", "argument \"%d\" is wrong: \"weight\" is 1 to %d", g.Weight, maxWeight)
		}
		o.Group = append(o.Group, nexthop.Member{ID: g.ID, Weight: uint16(max(g.Weight, 1))})
	}
	switch s.Type {
	case "", "mpath":
		if s.Buckets != nil || s.IdleTimer != nil || s.UnbalancedTimer != nil {
			return bad("type", "buckets, idle_timer and unbalanced_timer are of type resilient")
		}
		return o, nil
	case "resilient":
	default:
		return bad("type", "argument %q is wrong: \"type\" value is invalid", s.Type)
	}
	o.Resilient, o.Args.IdleTimer = true, defaultIdleTimer
	switch {
	case s.Buckets == nil:
		return bad("buckets", "Number of buckets not specified for nexthop group insertion.")
	case *s.Buckets == 0:
		return bad("buckets", "Number of buckets needs to be non-0.")
	case *s.Buckets < 0 || *s.Buckets > maxBuckets:
		return bad("buckets", "%d is outside 1..%d", *s.Buckets, maxBuckets)
	}
	o.Args.Buckets = *s.Buckets
	for _, x := range []struct {
		key  string
		from *int
		to   *time.Duration
	}{{"idle_timer", s.IdleTimer, &o.Args.IdleTimer}, {"unbalanced_timer", s.UnbalancedTimer, &o.Args.UnbalancedTimer}} {
		if x.from == nil {
			continue
		}
		if *x.from < 0 || *x.from > maxTimer {
			return bad(x.key, "%d is outside 0..%d seconds", *x.from, maxTimer)
		}
		*x.to = time.Duration(*x.from) * time.Second
	}
	return o, nil
}

// prepareObjects reads routing.nexthops. Groups may come before their members.
func prepareObjects(next *module.Config) (*nexthop.Objects, error) {
	s := next.Sections["routing.nexthops"]
	list, err := items[routeapi.ObjectSpec](s)
	errs := []error{err}
	all := nexthop.NewObjects()
	link := func(name string) int {
		for _, l := range next.Links {
			if l.Name == name {
				return l.Index
			}
		}
		return 0
	}
	for _, groups := range []bool{false, true} {
		for i := range list {
			if len(list[i].Group) > 0 != groups {
				continue
			}
			at := fmt.Sprintf("[%d]", i)
			list[i].Protocol = "static"
			o, err := parseObject(&list[i], link)
			var sel *errSelector
			switch {
			case errors.As(err, &sel):
				errs = append(errs, s.Fault(at+"."+sel.key, sel.msg, ""))
				continue
			case o.ID == 0:
				errs = append(errs, s.Fault(at+".id", "a nexthop of the configuration needs one: routes name it by nhid", ""))
				continue
			}
			if err := all.Add(o); errors.Is(err, nexthop.ErrObjectExists) {
				errs = append(errs, s.Fault(at+".id", fmt.Sprintf("nexthop %d is above", o.ID), ""))
			} else if err != nil {
				errs = append(errs, s.Fault(at+".group", strings.TrimPrefix(err.Error(), "Error: "), ""))
			}
		}
	}
	return all, errors.Join(errs...)
}

// commitObjects makes the nexthop objects those of the configuration.
func (m *Module) commitObjects(now clock.Instant, next *nexthop.Objects) {
	old := m.objects
	m.objects = next
	for _, o := range old.All() {
		if next.Get(o.ID) == nil {
			m.objectEvent(o, true)
		}
	}
	for _, o := range next.All() {
		if was := old.Get(o.ID); was == nil || !was.Equal(o) {
			m.objectEvent(o, false)
		}
	}
	m.objectsChanged(now)
}

// changeObject answers nexthop add, replace and del.
func (m *Module) changeObject(now clock.Instant, req module.Request) (any, error) {
	var b routeapi.ObjectRequest
	if err := req.Decode(&b); err != nil {
		return nil, err
	}
	if b.Op == "del" {
		if err := m.deleteObject(b.ID); err != nil {
			return nil, module.Refuse(err.Error())
		}
		m.objectsChanged(now)
		return struct{}{}, nil
	}
	o, err := parseObject(&b.ObjectSpec, m.linkIndex)
	if err != nil {
		return nil, module.Refuse("Error: " + err.Error())
	}
	if o.Hop.Addr.IsValid() {
		if _, err := m.checkHop(o.Hop.Addr, o.Hop.Link); err != nil {
			return nil, err
		}
	}
	if o.ID == 0 && b.Op == "add" {
		o.ID = m.objects.Free()
	}
	switch {
	case o.ID == 0:
		err = module.Refuse("Error: a nexthop needs an id.")
	case b.Op == "add":
		err = refuse(m.objects.Add(o))
	case b.Op == "replace":
		err = refuse(m.objects.Replace(o))
	default:
		err = module.Refuse("unknown operation \"" + b.Op + "\"")
	}
	if err != nil {
		return nil, err
	}
	m.objectsChanged(now)
	m.objectEvent(m.objects.Get(o.ID), false)
	return struct{}{}, nil
}

// objectFilter is a routeapi.ObjectFilter, understood.
func (m *Module) objectFilter(f routeapi.ObjectFilter) (takes func(*nexthop.Object) bool, err error) {
	id, link := uint64(0), 0
	if f.ID != "" {
		if id, err = strconv.ParseUint(f.ID, 0, 32); err != nil {
			return nil, module.Refuse("Error: argument \"" + f.ID + "\" is wrong: invalid id value")
		}
	}
	if f.Dev != "" {
		if link = m.linkIndex(f.Dev); link == 0 {
			return nil, noDevice(f.Dev)
		}
	}
	return func(o *nexthop.Object) bool {
		return (f.ID == "" || o.ID == uint32(id)) && (f.Dev == "" || o.Hop.Link == link) && (f.Proto == "" || o.Protocol == f.Proto) &&
			(f.Groups != "true" || len(o.Group) > 0)
	}, nil
}

func (m *Module) showObjects(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("id", "dev", "proto", "groups"); err != nil {
		return nil, err
	}
	takes, err := m.objectFilter(routeapi.ObjectFilter{ID: req.Query["id"], Dev: req.Query["dev"], Proto: req.Query["proto"], Groups: req.Query["groups"]})
	if err != nil {
		return nil, err
	}
	out := []routeapi.Object{}
	for _, o := range m.objects.All() {
		if takes(o) {
			out = append(out, m.renderObject(now, o))
		}
	}
	if len(out) == 0 && req.Query["id"] != "" {
		return nil, module.Refuse(nexthop.ErrNoObject.Error())
	}
	return out, nil
}

func (m *Module) flushObjects(now clock.Instant, req module.Request) (any, error) {
	var f routeapi.ObjectFilter
	if err := req.Decode(&f); err != nil {
		return nil, err
	}
	takes, err := m.objectFilter(f)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, o := range m.objects.All() {
		if takes(o) && m.deleteObject(o.ID) == nil { // else it went with its members
			n++
		}
	}
	m.objectsChanged(now)
	return routeapi.Flushed{Flushed: n}, nil
}

// showBuckets answers nexthop bucket.
func (m *Module) showBuckets(now clock.Instant, req module.Request) (any, error) {
	if err := req.Selectors("id", "index", "nhid", "dev"); err != nil {
		return nil, err
	}
	var want [3]uint32
	for i, key := range []string{"id", "index", "nhid"} {
		n, err := number[uint32](req, key, 32)
		if err != nil {
			return nil, err
		}
		want[i] = n
	}
	q, link := req.Query, 0
	if q["dev"] != "" {
		if link = m.linkIndex(q["dev"]); link == 0 {
			return nil, noDevice(q["dev"])
		}
	}
	out := []routeapi.Bucket{}
	for _, o := range m.objects.All() {
		if !o.Resilient || q["id"] != "" && o.ID != want[0] {
			continue
		}
		g := m.resilient[o.ID].buckets
		for i := range o.Args.Buckets {
			member, idle := g.Bucket(i, now)
			x := m.objects.Get(member)
			if q["index"] != "" && i != int(want[1]) || q["nhid"] != "" && member != want[2] || link != 0 && (x == nil || x.Hop.Link != link) {
				continue
			}
			out = append(out, routeapi.Bucket{ID: o.ID, Bucket: routeapi.BucketState{Index: i, IdleTime: secondsOf(idle), NHID: member}, Flags: []string{}})
		}
	}
	if len(out) == 0 && q["id"] != "" {
		return nil, module.Refuse(nexthop.ErrNoObject.Error())
	}
	return out, nil
}

// secondsOf writes a time in seconds, to the hundredth.
func secondsOf(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }

func (m *Module) objectEvent(o *nexthop.Object, deleted bool) {
	if !m.host.Watched("nexthop") {
		return
	}
	e := m.renderObject(m.host.Clock().Now(), o)
	e.Deleted = deleted
	m.host.Publish("nexthop", e)
}

// renderObject writes an object in iproute2's keys.
func (m *Module) renderObject(now clock.Instant, o *nexthop.Object) routeapi.Object {
	out := routeapi.Object{
		ID: o.ID, Gateway: o.Hop.Addr, Dev: m.linkName(o.Hop.Link), Scope: "global", Blackhole: routeapi.Flag(o.Blackhole), Protocol: o.Protocol, Flags: []string{},
	}
	if out.Dev != "" {
		out.Scope = "link"
		if !m.usable(o.Hop.Link) {
			out.Flags = append(out.Flags, "linkdown")
		}
	}
	for _, g := range o.Group {
		x := routeapi.Member{ID: g.ID}
		if g.Weight > 1 {
			x.Weight = int(g.Weight)
		}
		out.Group = append(out.Group, x)
	}
	if o.Resilient {
		out.Type = "resilient"
		out.Args = &routeapi.GroupArgs{Buckets: o.Args.Buckets, IdleTimer: secondsOf(o.Args.IdleTimer), UnbalancedTimer: secondsOf(o.Args.UnbalancedTimer)}
		if r := m.resilient[o.ID]; r != nil {
			out.Args.UnbalancedTime = secondsOf(r.buckets.Unbalanced(now))
		}
	}
	return out
}
