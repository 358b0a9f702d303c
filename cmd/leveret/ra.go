package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"leveret/extensions/ndp/ndpapi"
)

// raSelect is what the ra commands select by: also the body of solicit and flush.
type raSelect struct{ ndpapi.RARequest }

func (r *raSelect) words() words {
	return words{values: map[string]func(string) error{"dev": text(&r.Dev)}, bare: text(&r.Dev)}
}

func (c *cli) raCommand() *cobra.Command {
	w := new(raSelect).words()
	return c.object(&cobra.Command{
		Use:   "ra",
		Short: "Router Advertisements: what is sent, and what was learned from others",
		Example: `  leveret ra
  leveret ra show dev wan0
  leveret -j ra | jq -r '.[].learned.routers[]? | select(.used) | .addr'`,
	}, w,
		c.verb("show [[dev] LINK]", "Show what a link advertises, the routers it knows, and why each is used or is not",
			`  leveret ra show lan0`, w, c.raShow, "list", "lst"),
		c.verb("solicit [[dev] LINK]", "Ask the routers of a link, or of all links that accept advertisements, to advertise now",
			`  leveret ra solicit wan0`, w, func(ctx context.Context, args []string) error { return c.raDo(ctx, "solicit", args) }),
		c.verb("flush [[dev] LINK]", "Forget what routers have taught, addresses and all, and ask them again",
			`  leveret ra flush wan0`, w, func(ctx context.Context, args []string) error { return c.raDo(ctx, "flush", args) }),
	)
}

func (c *cli) raDo(ctx context.Context, what string, args []string) error {
	var r raSelect
	if err := r.words().parse(args); err != nil {
		return err
	}
	var done ndpapi.RAResult
	if err := c.client().Post(ctx, "/v1/ra/"+what, r.RARequest, &done); err != nil {
		return err
	}
	switch {
	case c.json:
		return c.printJSON(done)
	case done.Links == 0:
		return &refusedError{"no link accepts router advertisements: see links[].host.accept_ra"}
	}
	return nil
}

func (c *cli) raShow(ctx context.Context, args []string) error {
	var r raSelect
	if err := r.words().parse(args); err != nil {
		return err
	}
	var list []ndpapi.RA
	if err := c.client().Get(ctx, "/v1/ra", r.RARequest, &list); err != nil {
		return err
	}
	return each(c, list, func(ra ndpapi.RA) error { return c.printRecord(raText(ra)...) })
}

// raText renders a link: what it sends, then what it has learned, one thing a line.
func raText(ra ndpapi.RA) []string {
	lines := []string{fmt.Sprintf("%d: %s:", ra.IfIndex, ra.IfName)}
	if ra.Sent != nil {
		lines = append(lines, sentText(ra.Sent)...)
	}
	if ra.Learned != nil {
		lines = append(lines, learnedText(ra.Learned)...)
	}
	return lines
}

func sentText(s *ndpapi.SentRA) []string {
	head := line("    sends lifetime", lifetimeText(s.RouterLifetime), pair("preference", s.Preference), pair("hoplimit", s.CurHopLimit),
		when(s.Managed, "managed"), when(s.Other, "other"), when(s.HomeAgent, "home_agent"),
		pair("reachable", milliseconds(s.ReachableTime)), pair("retrans", milliseconds(s.RetransTimer)))
	if s.NextIn != nil {
		head += " next in " + milliseconds(*s.NextIn)
	}
	lines := []string{head}
	add := func(format string, args ...any) { lines = append(lines, "        "+fmt.Sprintf(format, args...)) }
	if s.SourceLLAddr != "" {
		add("lladdr %s", s.SourceLLAddr)
	}
	if s.MTU != 0 {
		add("mtu %d", s.MTU)
	}
	for _, p := range s.Prefixes {
		add("%s", line("prefix", p.Prefix.String(), when(p.OnLink, "onlink"), when(p.Autonomous, "autonomous"), addressOf(p.RouterAddr),
			"valid_lft", lifetimeText(p.ValidLft), "preferred_lft", lifetimeText(p.PreferredLft)))
	}
	for _, r := range s.Routes {
		add("route %s preference %s lifetime %s", r.Prefix, r.Preference, lifetimeText(r.Lifetime))
	}
	lines = append(lines, resolverText(s.RDNSS, s.DNSSL, s.PREF64, s.CaptivePortal)...)
	if s.AdvInterval != 0 {
		add("adv_interval %s", milliseconds(s.AdvInterval))
	}
	if h := s.HomeAgentInfo; h != nil {
		add("%s", line("home_agent preference", strconv.Itoa(int(h.Preference)), "lifetime", lifetimeText(h.Lifetime), when(h.MobileRouter, "mobile_router")))
	}
	return lines
}

func learnedText(l *ndpapi.LearnedRA) []string {
	lines := []string{line("    accepts advertisements, solicitations", strconv.Itoa(l.Solicitations), when(l.Soliciting, "and more to come"),
		when(l.Refused != 0, fmt.Sprintf("refused %d", l.Refused)))}
	add := func(format string, args ...any) { lines = append(lines, "        "+fmt.Sprintf(format, args...)) }
	for _, r := range l.Routers {
		used := "not used"
		if r.Used {
			used = "used"
		}
		add("router %s %s: %s", line(r.Addr.String(), pair("lladdr", r.LLAddr), r.State, "preference", r.Preference, "lifetime", lifetimeText(r.Lifetime)), used, r.Why)
	}
	for _, r := range l.Routes {
		used := "not used"
		if r.Used {
			used = "used"
		}
		add("route %s via %s preference %s lifetime %s %s: %s", r.Prefix, r.Router, r.Preference, lifetimeText(r.Lifetime), used, r.Why)
	}
	for _, p := range l.Prefixes {
		add("prefix %s onlink valid_lft %s", p.Prefix, lifetimeText(p.ValidLft))
	}
	lines = append(lines, resolverText(l.RDNSS, l.DNSSL, l.PREF64, l.CaptivePortal)...)
	if params := line(when(l.MTU != 0, fmt.Sprintf("mtu %d", l.MTU)), when(l.CurHopLimit != 0, fmt.Sprintf("hoplimit %d", l.CurHopLimit)),
		when(l.ReachableTime != 0, "reachable "+milliseconds(l.ReachableTime)), when(l.RetransTimer != 0, "retrans "+milliseconds(l.RetransTimer))); params != "" {
		add("%s", params)
	}
	return lines
}

// resolverText renders what goes for both directions.
func resolverText(servers []ndpapi.RADNS, domains []ndpapi.RADomain, pref64 []ndpapi.RAPREF64, portal string) (lines []string) {
	add := func(parts ...string) { lines = append(lines, "        "+line(parts...)) }
	for _, s := range servers {
		add("rdnss", s.Server.String(), "lifetime", lifetimeText(s.Lifetime), from(s.Router))
	}
	for _, d := range domains {
		add("dnssl", d.Domain, "lifetime", lifetimeText(d.Lifetime), from(d.Router))
	}
	for _, p := range pref64 {
		add("pref64", p.Prefix.String(), "lifetime", lifetimeText(p.Lifetime), from(p.Router))
	}
	if portal != "" {
		add("captive_portal", portal)
	}
	return lines
}

func from(router netip.Addr) string { return addressed("from", router) }

func addressOf(a netip.Addr) string { return addressed("address", a) }

func addressed(key string, a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return key + " " + a.String()
}

func milliseconds(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// messageText renders an event of `leveret monitor ndp`.
func messageText(m ndpapi.NDMessage) string {
	s := line(m.Dev, m.Dir, strings.ToUpper(m.Type), m.Src.String(), ">", m.Dst.String(), addressed("target", m.Target), addressed("destination", m.Destination),
		pair("lladdr", m.LLAddr), pair("flags", m.Flags))
	if len(m.Notes) > 0 {
		s += ": " + strings.Join(m.Notes, "; ")
	}
	return s
}
